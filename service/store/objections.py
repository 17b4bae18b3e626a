"""SQL of objections: made once for an event, listed, answered. Whoever answers locks the account first, then the objection's row."""

from datetime import datetime
from typing import Final, Literal

from msgspec import Struct

from service.domain.objections import Objection
from service.store.connection import Connection

_COLUMNS: Final = (
    "o.bucket, o.account, o.event, o.program, o.text, o.status, o.made_at, o.answer, o.answered_by, o.answered_at, o.adjustment"
)

# Of two at the same moment one is stored; the other finds it.
INSERT: Final = """
INSERT INTO fraud_objection (bucket, account, event, program, text, status, made_at) VALUES ($1, $2, $3, $4, $5, 'open', $6)
ON CONFLICT (bucket, event) DO NOTHING RETURNING true
"""


async def insert(connection: Connection, o: Objection) -> bool:
    """A new one that waits for its answer; False: there is one for this event already."""
    return await connection.fetchval(INSERT, o.bucket, o.account, o.event, o.program, o.text, o.made_at) is not None


OF_EVENT: Final = f"SELECT {_COLUMNS} FROM fraud_objection o WHERE o.bucket = $1 AND o.event = $2"
FIND: Final = f"SELECT {_COLUMNS} FROM fraud_objection o WHERE o.program = $1 AND o.event = $2"
LOCK: Final = f"{FIND} FOR UPDATE"


async def of_event(connection: Connection, *, bucket: int, event: int) -> Objection | None:
    """The objection to an event."""
    row = await connection.fetchrow(OF_EVENT, bucket, event)
    return None if row is None else Objection(**row)


async def find(connection: Connection, *, program: int, event: int) -> Objection | None:
    """A program's objection, as it was a moment ago."""
    row = await connection.fetchrow(FIND, program, event)
    return None if row is None else Objection(**row)


async def lock(connection: Connection, *, program: int, event: int) -> Objection | None:
    """The same under lock: nobody else answers until the commit."""
    row = await connection.fetchrow(LOCK, program, event)
    return None if row is None else Objection(**row)


ANSWER: Final = """
UPDATE fraud_objection SET status = $3, answer = $4, answered_by = $5, answered_at = now(), adjustment = $6 WHERE bucket = $1 AND event = $2
"""


async def answer(connection: Connection, o: Objection, status: str, *, answer: str, by: int, adjustment: int | None) -> None:
    """What came of one that is locked."""
    await connection.execute(ANSWER, o.bucket, o.event, status, answer, by, adjustment)


LAPSED: Final = """
SELECT EXISTS (
    SELECT FROM adjustment WHERE bucket = $1 AND account = $2 AND number = $3 AND status IN ('rejected', 'withdrawn', 'expired')
)
"""


async def lapsed(connection: Connection, o: Objection) -> bool:
    """Whether the adjustment that was to give the points back ended without giving any."""
    if o.adjustment is None:
        return False
    found: bool = await connection.fetchval(LAPSED, o.bucket, o.account, o.adjustment)
    return found


NOW: Final = "SELECT now()"


async def now(connection: Connection) -> datetime:
    """The transaction's time."""
    found: datetime = await connection.fetchval(NOW)
    return found


class Shown(Struct, frozen=True, kw_only=True):
    """An objection as operators see it. `place`: where it stands in the list; `consumer`: the platform's name (None: erased)."""

    place: int
    event: int
    text: str | None
    status: Literal["open", "upheld", "refused"]
    made_at: datetime
    answer: str | None
    answered_by: int | None
    answered_at: datetime | None
    adjustment: int | None
    platform: str
    id: str
    consumer: str | None
    fraud_case: int
    state: Literal["held", "settled", "approved", "rejected", "released", "voided"]
    points: int
    deadline: datetime | None


_PLACE: Final = "(CASE WHEN o.status = 'open' THEN o.event ELSE 9223372036854775807 - o.event END)"
_SHOWN: Final = f"""
SELECT {_PLACE} AS place, o.event, o.text, o.status, o.made_at, o.answer, o.answered_by, o.answered_at, o.adjustment, p.code AS platform,
       e.id, c.fraud_case, c.state, c.points, c.deadline,
       (SELECT r.reference FROM consumer_reference r
        WHERE r.bucket = o.bucket AND r.account = o.account AND r.platform = e.platform ORDER BY r.created_at, r.reference LIMIT 1) AS consumer
FROM fraud_objection o
JOIN fraud_case_event c ON c.bucket = o.bucket AND c.event = o.event
JOIN event e ON e.bucket = o.bucket AND e.account = o.account AND e.number = o.event
JOIN platform p ON p.id = e.platform
"""
SHOW: Final = f"{_SHOWN} WHERE o.program = $1 AND o.event = $2"
PAGE: Final = f"{_SHOWN} WHERE o.program = $1 AND {_PLACE} > $2 ORDER BY {_PLACE} LIMIT $3"


async def show(connection: Connection, *, program: int, event: int) -> Shown | None:
    """A program's objection."""
    row = await connection.fetchrow(SHOW, program, event)
    return None if row is None else Shown(**row)


async def page(connection: Connection, *, program: int, after: int, limit: int) -> list[Shown]:
    """At most `limit` of a program's objections behind this place: open ones first, the oldest event first; then the others."""
    return [Shown(**row) for row in await connection.fetch(PAGE, program, after, limit)]

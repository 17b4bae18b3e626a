"""SQL of events as platforms and consumers read them."""

from datetime import datetime

from asyncpg import Record
from msgspec import Struct

from service.domain.keys import bucket_of
from service.store.connection import Connection
from service.store.reviews import REVIEW_COLUMNS, REVIEW_JOINS, StoredReview, review_of_row

# The status now: on hold while a due row is left (held, where a person or the checks at the door say so); voided when all was taken back
# (rejected, where a review did); else what it was from the start.
_STATUS = """
CASE WHEN e.points < 0 THEN 'settled'
     WHEN w.points IS NULL THEN 'ignored'
     WHEN w.points = w.reversed THEN CASE WHEN g.state = 2 THEN 'rejected' ELSE 'voided' END
     WHEN EXISTS (SELECT FROM due d WHERE d.bucket = e.bucket AND d.account = e.account AND d.event = e.number)
     THEN CASE WHEN g.state = 1 OR g.hint > 0 THEN 'held' ELSE 'pending' END
     ELSE 'settled' END
"""
_CURRENT = f"""
SELECT e.bucket, e.account, e.number, e.id, e.type, e.occurred_at, e.received_at, e.points, e.facts, e.answer, e.outcome, e.platform,
       {_STATUS} AS status, w.kept, {REVIEW_COLUMNS}
FROM event e
LEFT JOIN LATERAL (
    SELECT sum(a.points)::bigint AS points, sum(a.reversed)::bigint AS reversed, array_agg(a.points - a.reversed ORDER BY a.n) AS kept
    FROM award a WHERE a.bucket = e.bucket AND a.account = e.account AND a.event = e.number
) w ON true
LEFT JOIN screening g ON g.bucket = e.bucket AND g.event = e.number
{REVIEW_JOINS}
"""


class StoredEvent(Struct, frozen=True, kw_only=True):
    """An event with its status now. `kept`: points left of each of its awards, in order (None: it has none).

    `review`: what became of it where fraud checks held it.
    """

    account: int
    number: int
    id: str
    type: str
    occurred_at: datetime
    received_at: datetime
    points: int
    facts: str
    answer: str
    """What came of it, as decided (JSON of EventAnswer)."""
    status: str
    kept: list[int] | None
    review: StoredReview | None = None


FIND = _CURRENT + "WHERE e.platform = $1 AND e.number = (SELECT number FROM registry WHERE program = $2 AND kind = 1 AND key = $3)"
FIND_PARKED = """
SELECT p.number, p.id, p.type, p.occurred_at, p.received_at, p.facts, p.answer, p.ignored_at
FROM parked p WHERE p.program = $2 AND p.platform = $1
  AND p.number = (SELECT number FROM registry WHERE program = $2 AND kind = 1 AND key = $3)
"""


async def find(connection: Connection, *, platform: int, program: int, key: str) -> StoredEvent | None:
    """A platform's event by its registry key, or None."""
    row = await connection.fetchrow(FIND, platform, program, key)
    if row is not None:
        return _event(row)
    row = await connection.fetchrow(FIND_PARKED, platform, program, key)
    return None if row is None else _parked(row)


PAGE = (
    _CURRENT
    + "WHERE e.platform = $1 AND e.number < $2 AND ($3::bigint IS NULL OR (e.bucket = $4::smallint AND e.account = $3)) ORDER BY e.number DESC LIMIT $5"
)


async def page(connection: Connection, *, platform: int, before: int, account: int | None, limit: int) -> list[StoredEvent]:
    """A platform's events, newest first, of one account or of all."""
    bucket = None if account is None else bucket_of(account)
    return [_event(r) for r in await connection.fetch(PAGE, platform, before, account, bucket, limit)]


PARKED_PAGE = """
SELECT number, id, type, occurred_at, received_at, facts, answer, ignored_at FROM parked
WHERE program = $1 AND platform = $2 AND number < $3 ORDER BY number DESC LIMIT $4
"""


async def parked_page(connection: Connection, *, program: int, platform: int, before: int, limit: int) -> list[StoredEvent]:
    """A platform's facts that wait for their order, newest first."""
    return [_parked(r) for r in await connection.fetch(PARKED_PAGE, program, platform, before, limit)]


ACTIVITY = _CURRENT + "WHERE e.bucket = $1 AND e.account = $2 AND e.number < $3 ORDER BY e.number DESC LIMIT $4"


async def activity(connection: Connection, account: int, *, before: int, limit: int) -> list[StoredEvent]:
    """An account's events, newest first, whatever platform reported them."""
    return [_event(r) for r in await connection.fetch(ACTIVITY, bucket_of(account), account, before, limit)]


OF_ACCOUNT = _CURRENT + "WHERE e.bucket = $1 AND e.account = $2 AND e.platform = $3 AND e.number < $4 ORDER BY e.number DESC LIMIT $5"


async def of_account(connection: Connection, account: int, *, platform: int, before: int, limit: int) -> list[StoredEvent]:
    """An account's events that one platform reported, newest first."""
    return [_event(r) for r in await connection.fetch(OF_ACCOUNT, bucket_of(account), account, platform, before, limit)]


def _event(row: Record) -> StoredEvent:
    return StoredEvent(
        account=row["account"], number=row["number"], id=row["id"], type=row["type"], occurred_at=row["occurred_at"],
        received_at=row["received_at"], points=row["points"], facts=row["facts"], answer=row["outcome"] or row["answer"],
        status=row["status"], kept=row["kept"], review=review_of_row(row),
    )  # fmt: skip


def _parked(row: Record) -> StoredEvent:
    return StoredEvent(
        account=0, number=row["number"], id=row["id"], type=row["type"], occurred_at=row["occurred_at"], received_at=row["received_at"],
        points=0, facts=row["facts"], answer=row["answer"], status="parked" if row["ignored_at"] is None else "ignored", kept=None,
    )  # fmt: skip

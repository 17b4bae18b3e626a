"""SQL of adjustments. Whoever carries one out locks its account first, then its row; whoever only closes it locks the row."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from asyncpg import Record
from msgspec import Struct

from schemas.adjustments import AdjustmentStatus
from service.domain.adjustments import Adjustment
from service.store.connection import Connection

_COLUMNS: Final = """a.bucket, a.account, a.number, a.program, a.platform, a.points, a.reason, a.note, a.own_last_day, a.expires_on, a.may_owe,
       a.alone, a.status, a.proposed_by, a.proposed_at, a.open_until, a.decided_by, a.decided_at, a.decision_note, a.transfer"""

INSERT: Final = """
INSERT INTO adjustment (
    bucket, account, number, program, platform, points, reason, note, own_last_day, expires_on, may_owe, alone, status, proposed_by,
    proposed_at, open_until, decided_at, transfer
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
"""


async def insert(connection: Connection, a: Adjustment) -> None:
    """A new one: pending, or done by one operator alone."""
    await connection.execute(
        INSERT, a.bucket, a.account, a.number, a.program, a.platform, a.points, a.reason, a.note, a.own_last_day, a.expires_on, a.may_owe,
        a.alone, a.status, a.proposed_by, a.proposed_at, a.open_until, a.decided_at, a.transfer,
    )  # fmt: skip


FIND: Final = f"SELECT {_COLUMNS} FROM adjustment a WHERE a.program = $1 AND a.number = $2"
LOCK: Final = f"{FIND} FOR UPDATE"


async def find(connection: Connection, *, program: int, number: int) -> Adjustment | None:
    """A program's adjustment, as it was a moment ago."""
    row = await connection.fetchrow(FIND, program, number)
    return None if row is None else Adjustment(**row)


async def lock(connection: Connection, *, program: int, number: int) -> Adjustment | None:
    """The same under lock: nobody else decides until the commit."""
    row = await connection.fetchrow(LOCK, program, number)
    return None if row is None else Adjustment(**row)


DECIDE: Final = """
UPDATE adjustment SET status = $4, decided_by = $5, decided_at = now(), decision_note = $6, transfer = $7
WHERE bucket = $1 AND account = $2 AND number = $3
"""


async def decide(
    connection: Connection, a: Adjustment, status: AdjustmentStatus, *, by: int | None, note: str | None, transfer: int | None
) -> None:
    """End a pending one that is locked."""
    await connection.execute(DECIDE, a.bucket, a.account, a.number, status, by, note, transfer)


OVERDUE: Final = f"""
SELECT {_COLUMNS} FROM adjustment a WHERE a.status = 'pending' AND a.open_until <= now()
ORDER BY a.open_until LIMIT $1 FOR UPDATE SKIP LOCKED
"""


async def lock_overdue(connection: Connection, limit: int) -> list[Adjustment]:
    """Pending ones that nobody decided in time, under lock; those that somebody is deciding are left out."""
    return [Adjustment(**row) for row in await connection.fetch(OVERDUE, limit)]


class Shown(Struct, frozen=True, kw_only=True):
    """An adjustment with its platform's code and name for the consumer (None: erased)."""

    adjustment: Adjustment
    platform: str
    consumer: str | None


_SHOWN: Final = f"""
SELECT {_COLUMNS}, p.code AS platform_code,
       (SELECT r.reference FROM consumer_reference r
        WHERE r.bucket = a.bucket AND r.account = a.account AND r.platform = a.platform ORDER BY r.created_at, r.reference LIMIT 1) AS consumer
FROM adjustment a JOIN platform p ON p.id = a.platform
"""
SHOW: Final = f"{_SHOWN} WHERE a.program = $1 AND a.number = $2"
PAGE: Final = f"""{_SHOWN}
WHERE a.program = $1 AND a.number < $2 AND ($3::text IS NULL OR a.status = $3) AND ($4::text IS NULL OR p.code = $4)
  AND ($5::text IS NULL OR (a.bucket, a.account, a.platform) IN (
      SELECT r.bucket, r.account, r.platform FROM consumer_reference r JOIN platform o ON o.id = r.platform
      WHERE o.program = $1 AND r.reference = $5
  ))
ORDER BY a.number DESC LIMIT $6
"""


async def show(connection: Connection, *, program: int, number: int) -> Shown | None:
    """A program's adjustment."""
    row = await connection.fetchrow(SHOW, program, number)
    return None if row is None else _shown(row)


async def page(
    connection: Connection, *, program: int, before: int, status: str | None, platform: str | None, consumer: str | None, limit: int
) -> list[Shown]:
    """At most `limit` of a program's adjustments with numbers below `before`, newest first."""
    return [_shown(row) for row in await connection.fetch(PAGE, program, before, status, platform, consumer, limit)]


def _shown(row: Record) -> Shown:
    values = dict(row)
    platform, consumer = values.pop("platform_code"), values.pop("consumer")
    return Shown(adjustment=Adjustment(**values), platform=platform, consumer=consumer)


NOW: Final = "SELECT now()"


async def now(connection: Connection) -> datetime:
    """The transaction's time."""
    found: datetime = await connection.fetchval(NOW)
    return found


# Erasing ------------------------------------------------------------------------------------------------

# What a platform erases goes from what came through it, and through platforms that know the person no more.
_THROUGH: Final = """({0}.platform = $3 OR NOT EXISTS (
    SELECT FROM consumer_reference r WHERE r.bucket = $1 AND r.account = $2 AND r.platform = {0}.platform))"""

FORGET_NOTES: Final = f"""
UPDATE adjustment a SET reason = NULL, note = NULL, decision_note = NULL
WHERE (a.bucket, a.account, a.number) IN (
    SELECT b.bucket, b.account, b.number FROM adjustment b
    WHERE b.bucket = $1 AND b.account = $2 AND (b.reason IS NOT NULL OR b.note IS NOT NULL OR b.decision_note IS NOT NULL)
      AND {_THROUGH.format("b")}
    LIMIT $4
)
RETURNING 1
"""
# Its transfers, where its points are kept if it is linked; and the other side of what it gave and was given.
FORGET_REASONS: Final = f"""
WITH own AS MATERIALIZED (
    SELECT a.bucket, a.id AS account FROM account a WHERE a.bucket = $1 AND a.id = $2
    UNION ALL
    SELECT h.bucket, h.id FROM account a JOIN account h ON h.bucket = (a.home & 1023)::smallint AND h.id = a.home
    WHERE a.bucket = $1 AND a.id = $2
), named AS (
    SELECT t.bucket, t.account, t.number FROM own JOIN transfer t USING (bucket, account)
    WHERE t.reason IS NOT NULL AND {_THROUGH.format("t")}
    UNION
    SELECT t.bucket, t.account, t.number FROM own JOIN consumer_transfer g USING (bucket, account)
    JOIN transfer t ON t.bucket = g.to_bucket AND t.account = g.to_account AND t.number = g.number
    WHERE t.reason IS NOT NULL AND {_THROUGH.format("g")}
    UNION
    SELECT t.bucket, t.account, t.number FROM own JOIN consumer_transfer g ON g.to_bucket = own.bucket AND g.to_account = own.account
    JOIN transfer t ON t.bucket = g.bucket AND t.account = g.account AND t.number = g.number
    WHERE t.reason IS NOT NULL AND {_THROUGH.format("g")}
    LIMIT $4
)
UPDATE transfer t SET reason = NULL FROM named n WHERE t.bucket = n.bucket AND t.account = n.account AND t.number = n.number
RETURNING 1
"""


async def forget(connection: Connection, *, bucket: int, account: int, platform: int, limit: int) -> bool:
    """Forget what people wrote about an account's points when they moved: at most `limit` rows of each kind; whether there may be more."""
    gone: Sequence[int] = [
        len(await connection.fetch(statement, bucket, account, platform, limit)) for statement in (FORGET_NOTES, FORGET_REASONS)
    ]
    return any(gone)

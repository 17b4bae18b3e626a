"""SQL of warnings: once for each consumer and day, that points end then. They change no balance, so that nobody is locked."""

from datetime import date, datetime
from typing import Final

from asyncpg import Record
from msgspec import Struct

from service.domain.keys import bucket_of
from service.store.connection import Connection
from service.store.lots import LAST_DAY

BUCKETS: Final = 1_024

PROGRAMS: Final = """
SELECT g.id FROM program g LEFT JOIN expiry_watch w ON w.program = g.id
WHERE w.program IS NULL OR (w.day, w.bucket) < ((now() AT TIME ZONE g.time_zone)::date, 1024::smallint)
ORDER BY g.id
"""


async def programs(connection: Connection) -> list[int]:
    """Programs that have not been looked through on their local day."""
    return [r["id"] for r in await connection.fetch(PROGRAMS)]


class Watch(Struct, frozen=True, kw_only=True):
    """How far the look through a program has come on its local day."""

    now: datetime
    today: date
    day: date
    """The local day that was looked at last."""
    bucket: int
    """All buckets below have been."""


# Looked for first: a mere ON CONFLICT waits for whoever is just changing it.
START: Final = """
INSERT INTO expiry_watch (program, day, bucket)
SELECT $1, '-infinity', 1024 WHERE NOT EXISTS (SELECT FROM expiry_watch WHERE program = $1) ON CONFLICT DO NOTHING
"""
TAKE: Final = """
SELECT now() AS now, (now() AT TIME ZONE g.time_zone)::date AS today, w.day, w.bucket
FROM expiry_watch w JOIN program g ON g.id = w.program WHERE w.program = $1 FOR UPDATE OF w SKIP LOCKED
"""


async def start(connection: Connection, program: int) -> None:
    """Begin to remember how far a program has been looked through. In a transaction of its own."""
    await connection.execute(START, program)


async def take(connection: Connection, program: int) -> Watch | None:
    """How far a program has been looked through, under lock; None: another worker is at it."""
    row = await connection.fetchrow(TAKE, program)
    return None if row is None else Watch(**row)


WARN: Final = f"""
INSERT INTO expiry_warning (bucket, account, expires_on, program, points, at)
SELECT l.bucket, l.account, l.last_day, $2, sum(l.free), $5
FROM (
    SELECT l.bucket, l.account, {LAST_DAY} AS last_day, l.remaining - l.reserved AS free FROM lot l
    WHERE l.bucket = $1 AND l.program = $2 AND l.expires_on <= $4 AND l.remaining > l.reserved
) l
WHERE l.last_day BETWEEN $3 AND $4
  AND NOT EXISTS (SELECT FROM expiry_warning w WHERE w.bucket = l.bucket AND w.account = l.account AND w.expires_on = l.last_day)
GROUP BY 1, 2, 3 ORDER BY 2, 3 LIMIT $6
ON CONFLICT DO NOTHING
"""


async def warn(connection: Connection, *, program: int, bucket: int, from_: date, to: date, at: datetime, limit: int) -> int:
    """Warn the consumers of a bucket who have free points that end in these days and were not warned; returns how many rows it wrote."""
    done = await connection.execute(WARN, bucket, program, from_, to, at, limit)
    return int(done.split()[-1])


SET: Final = "UPDATE expiry_watch SET day = $2, bucket = $3 WHERE program = $1"


async def set_through(connection: Connection, program: int, day: date, bucket: int) -> None:
    """The buckets below this one have been looked through on that day."""
    await connection.execute(SET, program, day, bucket)


OF_ACCOUNT: Final = """
SELECT number, at, expires_on, points FROM expiry_warning WHERE bucket = $1 AND account = $2 AND number < $3 ORDER BY number DESC LIMIT $4
"""


async def of_account(connection: Connection, account: int, *, before: int, limit: int) -> list[Record]:
    """An account's warnings, newest first: number, at, expires_on, points."""
    return await connection.fetch(OF_ACCOUNT, bucket_of(account), account, before, limit)

"""SQL of retention: what is older than it may be kept, a few rows at a time."""

from datetime import datetime

from asyncpg import Record

from service.store.connection import Connection

START = "INSERT INTO retention (kind) VALUES ($1) ON CONFLICT DO NOTHING"
TAKE = "SELECT received_at, number FROM retention WHERE kind = $1 FOR UPDATE SKIP LOCKED"
OLD_EVENTS = """
SELECT e.account, e.number, e.received_at, e.facts,
       EXISTS (SELECT FROM legal_hold h WHERE h.bucket = e.bucket AND h.account = e.account AND h.lifted_at IS NULL) AS held
FROM event e
WHERE e.received_at >= $1 AND (e.received_at, e.number) > ($1, $2) AND e.received_at < now() - make_interval(days => $3)
ORDER BY e.received_at, e.number LIMIT $4
"""
SET = "UPDATE retention SET received_at = $2, number = $3 WHERE kind = $1"


async def take(connection: Connection, kind: str) -> tuple[datetime, int] | None:
    """How far retention has come with the events, under lock; None: another worker is at it."""
    await connection.execute(START, kind)
    row = await connection.fetchrow(TAKE, kind)
    return None if row is None else (row["received_at"], row["number"])


async def old_events(connection: Connection, after: tuple[datetime, int], days: int, limit: int) -> list[Record]:
    """Events older than that, oldest first: account, number, received_at, facts, held (a legal hold keeps them)."""
    return await connection.fetch(OLD_EVENTS, *after, days, limit)


async def set_through(connection: Connection, kind: str, through: tuple[datetime, int]) -> None:
    """Events up to this one are done."""
    await connection.execute(SET, kind, *through)


# What a hold has kept is looked at once more when it has been lifted.
LIFTED = (
    "SELECT id, bucket, account FROM legal_hold WHERE lifted_at IS NOT NULL AND NOT caught_up ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED"
)
OLD_EVENTS_OF = """
SELECT account, number, facts FROM event
WHERE bucket = $1 AND account = $2 AND number > $3 AND received_at < now() - make_interval(days => $4) ORDER BY number LIMIT $5
"""
CAUGHT_UP = "UPDATE legal_hold SET caught_up = true WHERE id = $1 AND bucket = $2 AND account = $3"


async def lifted_holds(connection: Connection, limit: int) -> list[Record]:
    """Holds (id, bucket, account) whose accounts have to catch up, under lock."""
    return await connection.fetch(LIFTED, limit)


async def old_events_of(connection: Connection, hold: Record, after: int, days: int, limit: int) -> list[Record]:
    """The account's events older than that, after this number: account, number, facts."""
    return await connection.fetch(OLD_EVENTS_OF, hold["bucket"], hold["account"], after, days, limit)


async def set_caught_up(connection: Connection, hold: Record) -> None:
    """Its account has caught up."""
    await connection.execute(CAUGHT_UP, hold["id"], hold["bucket"], hold["account"])


OLD_PARKED = """
SELECT program, platform, order_id, number, facts FROM parked
WHERE scrubbed_at IS NULL AND (($1 > 0 AND received_at < now() - make_interval(days => $1))
                            OR ($2 > 0 AND ignored_at < now() - make_interval(days => $2)))
ORDER BY received_at LIMIT $3 FOR UPDATE SKIP LOCKED
"""


async def old_parked(connection: Connection, *, received_days: int, ignored_days: int, limit: int) -> list[Record]:
    """Parked facts that came, or were ignored, so long ago (0: never), under lock."""
    return await connection.fetch(OLD_PARKED, received_days, ignored_days, limit)


END_EXPORTS = """
UPDATE privacy_request SET bucket = NULL, account = NULL
WHERE kind = 'export' AND state = 'done' AND account IS NOT NULL AND done_at < now() - make_interval(days => $1)
"""
DELETE_REQUESTS = "DELETE FROM privacy_request WHERE state IN ('done', 'cancelled') AND done_at < now() - make_interval(days => $1)"
DELETE_HOLDS = "DELETE FROM legal_hold WHERE caught_up AND lifted_at < now() - make_interval(days => $1)"


async def end_exports(connection: Connection, days: int) -> None:
    """Exports that were asked for so long ago can be fetched no more."""
    await connection.execute(END_EXPORTS, days)


async def delete_records(connection: Connection, days: int) -> None:
    """Requests that are done and holds that were lifted so long ago."""
    await connection.execute(DELETE_REQUESTS, days)
    await connection.execute(DELETE_HOLDS, days)

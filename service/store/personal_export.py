"""SQL of an export: what a platform has reported about an account, page by page of its events, newest first."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from asyncpg import Record

from service.domain.keys import bucket_of
from service.store.connection import Connection
from service.store.vault import hash_sql

MAX_PARKED: Final = 500

OWNER = """
SELECT a.pending, a.available, a.reserved, a.debt, a.version, a.created_at, now() AS as_of,
       (SELECT h.placed_at FROM legal_hold h WHERE h.bucket = a.bucket AND h.account = a.id AND h.lifted_at IS NULL) AS held_since
FROM account a WHERE a.bucket = $1 AND a.id = $2
"""
NAMES = "SELECT reference, created_at FROM consumer_reference WHERE bucket = $1 AND account = $2 AND platform = $3 ORDER BY reference"
CAMPAIGNS = """
SELECT c.code, min(a.day) AS first, max(a.day) AS last, count(*) AS awards, sum(a.points)::bigint AS points, sum(a.reversed)::bigint AS reversed
FROM award a JOIN campaign c ON c.id = a.campaign
WHERE a.bucket = $1 AND a.account = $2 AND a.platform = $3 GROUP BY c.code ORDER BY c.code
"""
PARKED = f"""
SELECT p.id, p.type, p.occurred_at, p.received_at, p.facts FROM consumer_reference r
JOIN parked p ON p.platform = r.platform AND p.consumer_hash = {hash_sql("r.platform", "r.reference")}
WHERE r.bucket = $1 AND r.account = $2 AND r.platform = $3 ORDER BY p.number LIMIT {MAX_PARKED}
"""
AWARDS = """
SELECT a.event, c.code, a.version, a.line, a.points, a.reversed, a.day, a.due_at, a.expires_on, a.impact
FROM award a JOIN campaign c ON c.id = a.campaign
WHERE a.bucket = $1 AND a.account = $2 AND a.event = ANY($3::bigint[]) ORDER BY a.event, a.n
"""
# By the event that caused them: from $4 to below $5.
ENTRIES = """
SELECT e.seq, e.at, e.kind, e.book, e.amount, c.code, v.id FROM entry e
LEFT JOIN campaign c ON c.id = e.campaign
LEFT JOIN event v ON v.bucket = e.bucket AND v.account = e.account AND v.number = e.event
WHERE e.bucket = $1 AND e.account = $2 AND e.platform = $3 AND e.event >= $4 AND e.event < $5 ORDER BY e.seq
"""
LOTS = """
SELECT l.amount, l.remaining, l.expires_on, c.code, v.id FROM lot l
LEFT JOIN campaign c ON c.id = l.campaign
LEFT JOIN event v ON v.bucket = l.bucket AND v.account = l.account AND v.number = l.event
WHERE l.bucket = $1 AND l.account = $2 AND l.platform = $3 AND l.event >= $4 AND l.event < $5 ORDER BY l.event, l.n
"""


async def owner(connection: Connection, account: int) -> Record | None:
    """The account's balance, age and hold, and the transaction's time."""
    return await connection.fetchrow(OWNER, bucket_of(account), account)


async def names(connection: Connection, account: int, platform: int) -> list[tuple[str, datetime]]:
    """The platform's names for it, each with since when."""
    return [(r["reference"], r["created_at"]) for r in await connection.fetch(NAMES, bucket_of(account), account, platform)]


async def campaigns(connection: Connection, account: int, platform: int) -> list[Record]:
    """Campaigns that awarded it: code, first, last, awards, points, reversed."""
    return await connection.fetch(CAMPAIGNS, bucket_of(account), account, platform)


async def parked(connection: Connection, account: int, platform: int) -> list[Record]:
    """Facts that named it and wait for their order: id, type, occurred_at, received_at, facts."""
    return await connection.fetch(PARKED, bucket_of(account), account, platform)


async def awards(connection: Connection, account: int, events: Sequence[int]) -> list[Record]:
    """Awards of these events: event, code, version, line, points, reversed, day, due_at, expires_on, impact (JSON)."""
    return await connection.fetch(AWARDS, bucket_of(account), account, events)


async def entries(connection: Connection, account: int, platform: int, low: int, below: int) -> list[Record]:
    """Entries that these events caused: seq, at, kind, book, amount, code, id of the event."""
    return await connection.fetch(ENTRIES, bucket_of(account), account, platform, low, below)


async def lots(connection: Connection, account: int, platform: int, low: int, below: int) -> list[Record]:
    """Lots of these events: amount, remaining, expires_on, code, id of the event."""
    return await connection.fetch(LOTS, bucket_of(account), account, platform, low, below)

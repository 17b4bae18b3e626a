"""SQL of what was: balances at a moment, and the lines of an account's book.

Every change of an account has a version; what it did to `pending` stands in its events, the rest in its entries. A change is dated by
the beginning of its transaction, and where two overlapped the second may carry the earlier time. So a moment's state is the longest run of
versions, from the first on, none of which is dated later: a state that the account really had.
"""

from datetime import datetime
from typing import Final

from asyncpg import Record
from msgspec import Struct

from schemas.events import Balance
from service.domain.keys import bucket_of
from service.store.connection import Connection

# A fact that waited for its order counts from the order on, not from its own receipt.
EVENT_AT: Final = """
CASE WHEN e.outcome IS NULL THEN e.received_at ELSE greatest(e.received_at, (
    SELECT min(o.received_at) FROM event o
    WHERE o.bucket = e.bucket AND o.platform = e.platform AND o.order_id = e.order_id AND o.account = e.account AND o.type = 'order.paid'
)) END
"""
# What settled or was taken back after it had settled left `pending`.
PENDING_BOOK: Final = "book = 4 AND kind IN (1, 2)"

_UNTIL: Final = f"""
change AS MATERIALIZED (
    SELECT e.version, {EVENT_AT} AS at, e.points AS pending, 0::bigint AS available, 0::bigint AS reserved, 0::bigint AS debt
    FROM event e WHERE ((e.bucket = $1 AND e.account = $2 AND e.home IS NULL) OR e.home = $2) AND e.version > 0
    UNION ALL
    SELECT version, at, pending, 0, 0, 0 FROM transfer WHERE bucket = $1 AND account = $2
    UNION ALL
    SELECT version, at, CASE WHEN {PENDING_BOOK} THEN amount ELSE 0 END, CASE book WHEN 1 THEN amount ELSE 0 END,
           CASE book WHEN 2 THEN amount ELSE 0 END, CASE book WHEN 3 THEN -amount ELSE 0 END
    FROM entry WHERE bucket = $1 AND account = $2
), until AS MATERIALIZED (
    SELECT coalesce(min(version) FILTER (WHERE at > coalesce($3, now())), 9223372036854775807) AS version FROM change
)"""

BALANCE_AT: Final = f"""
WITH {_UNTIL}
SELECT coalesce(sum(c.pending), 0)::bigint AS pending, coalesce(sum(c.available), 0)::bigint AS available,
       coalesce(sum(c.reserved), 0)::bigint AS reserved, coalesce(sum(c.debt), 0)::bigint AS debt, coalesce(max(c.version), 0) AS version
FROM change c, until u WHERE c.version < u.version
"""
NOW: Final = "SELECT now()"


async def now(connection: Connection) -> datetime:
    """PostgreSQL's clock."""
    found: datetime = await connection.fetchval(NOW)
    return found


async def balance_at(connection: Connection, account: int, at: datetime) -> Balance:
    """What the balance was; zeros with version 0 before its first change."""
    row = await connection.fetchrow(BALANCE_AT, bucket_of(account), account, at)
    assert row is not None, "an aggregate has one row"
    return Balance(pending=row["pending"], available=row["available"], reserved=row["reserved"], debt=row["debt"], version=row["version"])


ENTRIES: Final = f"""
WITH {_UNTIL}, line AS (
    SELECT e.*, coalesce(sum(e.amount) FILTER (WHERE e.book = 1) OVER w, 0)::bigint AS available,
           coalesce(sum(e.amount) FILTER (WHERE e.book = 2) OVER w, 0)::bigint AS reserved,
           coalesce(-sum(e.amount) FILTER (WHERE e.book = 3) OVER w, 0)::bigint AS debt
    FROM entry e, until u WHERE e.bucket = $1 AND e.account = $2 AND e.version < u.version
    WINDOW w AS (ORDER BY e.seq)
)
SELECT l.seq, l.at, l.kind, l.book, l.amount, l.available, l.reserved, l.debt, l.version, coalesce(e.id, o.id) AS event, c.code AS campaign
FROM (SELECT * FROM line WHERE seq > $4 ORDER BY seq LIMIT $5) l
LEFT JOIN event e ON e.bucket = l.bucket AND e.account = l.account AND e.number = l.event
LEFT JOIN opening o ON o.bucket = l.bucket AND o.account = l.account AND o.number = l.event
LEFT JOIN campaign c ON c.id = l.campaign
ORDER BY l.seq
"""


class Line(Struct, frozen=True, kw_only=True):
    """One line of an account's book, and the account's books after it. `event`: the id that its platform gave to what caused it."""

    seq: int
    at: datetime
    kind: int
    book: int
    amount: int
    available: int
    reserved: int
    debt: int
    version: int
    event: str | None
    campaign: str | None


async def entries(connection: Connection, account: int, *, at: datetime | None, after: int, limit: int) -> list[Line]:
    """At most `limit` lines with sequence numbers above `after`, as the book stood at a moment (None: now), in their order."""
    rows: list[Record] = await connection.fetch(ENTRIES, bucket_of(account), account, at, after, limit)
    return [Line(**row) for row in rows]

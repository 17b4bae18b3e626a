"""SQL of balances as readers see them, and of accounts that a sweep or a rebuild pushes to Redis."""

from collections.abc import Sequence
from datetime import date, datetime

from asyncpg import Record
from msgspec import Struct

from schemas.events import Balance
from service.domain.keys import bucket_of
from service.store.connection import Connection
from service.store.lots import LAST_DAY

# Of a linked account it is the balance of the one that has its points; what is on hold there may belong to facts of any of them.
DETAILS = f"""
SELECT a.id, m.version AS asked_version,
       a.pending, a.available, a.reserved, a.debt, a.version, n.due_at, n.points, l.points AS expiring_points, l.days AS expiring_on
FROM account m JOIN account a ON a.bucket = (coalesce(m.home, m.id) & 1023)::smallint AND a.id = coalesce(m.home, m.id)
LEFT JOIN LATERAL (
    SELECT d.due_at, sum(x.points - x.reversed)::bigint AS points
    FROM (SELECT a.bucket, a.id UNION ALL SELECT o.bucket, o.id FROM account o WHERE o.home = a.id) AS f (bucket, account)
    JOIN due d ON d.bucket = f.bucket AND d.account = f.account
    JOIN award x ON x.bucket = d.bucket AND x.account = d.account AND x.event = d.event AND x.due_at = d.due_at
    GROUP BY d.due_at HAVING sum(x.points - x.reversed) > 0
    ORDER BY d.due_at LIMIT 1
) n ON true
CROSS JOIN LATERAL (
    SELECT array_agg(points ORDER BY day) AS points, array_agg(day ORDER BY day) AS days FROM (
        SELECT d.day, sum(l.free)::bigint AS points FROM (
            SELECT bucket, account, program, expires_on, idle_months, sum(remaining - reserved) AS free FROM lot
            WHERE lot.bucket = a.bucket AND lot.account = a.id AND remaining > 0 AND remaining > reserved AND expires_on IS NOT NULL
            GROUP BY 1, 2, 3, 4, 5
        ) l CROSS JOIN LATERAL (SELECT {LAST_DAY} AS day) d
        GROUP BY d.day ORDER BY d.day LIMIT 12
    ) e
) l
WHERE m.bucket = $1 AND m.id = $2
  AND ($3::int IS NULL OR EXISTS (SELECT FROM consumer_reference r WHERE r.bucket = m.bucket AND r.account = m.id AND r.platform = $3))
"""


class Details(Struct, frozen=True, kw_only=True):
    """A balance with what becomes available next, and the next twelve days on which points expire."""

    account: int
    """That has the points: the one that was asked for, or the one that it is linked to."""
    asked_version: int
    balance: Balance
    next_points: int
    next_at: datetime | None
    expiring: list[tuple[int, date]]


async def details(connection: Connection, account: int, platform: int | None) -> Details | None:
    """A balance as PostgreSQL knows it; None if there is none, or the platform (if given) knows nobody of this account any more."""
    row = await connection.fetchrow(DETAILS, bucket_of(account), account, platform)
    if row is None:
        return None
    return Details(
        account=row["id"],
        asked_version=row["asked_version"],
        balance=Balance(
            pending=row["pending"], available=row["available"], reserved=row["reserved"], debt=row["debt"], version=row["version"]
        ),
        next_points=row["points"] or 0,
        next_at=row["due_at"],
        expiring=list(zip(row["expiring_points"] or (), row["expiring_on"] or (), strict=True)),
    )


FIND_ACCOUNT = "SELECT account FROM consumer_reference WHERE platform = $1 AND reference = $2"


async def find_account(connection: Connection, platform: int, reference: str) -> int | None:
    """The account of a platform's reference."""
    account: int | None = await connection.fetchval(FIND_ACCOUNT, platform, reference)
    return account


_BALANCE = "a.id, a.pending, a.available, a.reserved, a.debt, a.version, a.home"


class Changed(Struct, frozen=True, kw_only=True):
    """Accounts as Redis is to know them."""

    balances: list[tuple[int, Balance]]
    pointers: list[tuple[int, int, int]]
    """Linked accounts: (account, its version, the one that has its points)."""

    def __len__(self) -> int:
        return len(self.balances) + len(self.pointers)


# What happened to a linked account changed its home.
CHANGED_SINCE = f"""
WITH changed AS (
    SELECT bucket, account FROM event WHERE received_at >= $1
    UNION
    SELECT bucket, account FROM entry WHERE at >= $1
    UNION
    SELECT bucket, account FROM transfer WHERE at >= $1
)
SELECT {_BALANCE} FROM changed c JOIN account a ON a.bucket = c.bucket AND a.id = c.account
UNION
SELECT {_BALANCE} FROM changed c JOIN account m ON m.bucket = c.bucket AND m.id = c.account
JOIN account a ON a.bucket = (m.home & 1023)::smallint AND a.id = m.home
WHERE m.home IS NOT NULL
"""

WRITING_SINCE = """
SELECT now(), least(now(), (SELECT min(xact_start) FROM pg_stat_activity
                            WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()))
"""


async def changed_since(connection: Connection, since: datetime) -> Changed:
    """Balances of accounts that something happened to since then."""
    return _changed(await connection.fetch(CHANGED_SINCE, since))


async def writing_since(connection: Connection) -> tuple[datetime, datetime]:
    """PostgreSQL's clock, and when the oldest transaction began that has written and may still commit (as far as our role may see)."""
    row = await connection.fetchrow(WRITING_SINCE)
    assert row is not None, "a SELECT without FROM has one row"
    return row[0], row[1]


PAGE = "SELECT id FROM account WHERE (bucket, id) > ($1::smallint, $2::bigint) ORDER BY bucket, id LIMIT $3"
OF_ACCOUNTS = f"""
SELECT {_BALANCE} FROM unnest($1::smallint[], $2::bigint[]) AS w (bucket, id) JOIN account a USING (bucket, id)
"""
COUNT = "SELECT count(*) FROM account"


async def page(connection: Connection, after: tuple[int, int], limit: int) -> list[int]:
    """Accounts in the order of (bucket, id), after that one."""
    return [r["id"] for r in await connection.fetch(PAGE, *after, limit)]


async def as_redis_knows(connection: Connection, accounts: Sequence[int]) -> Changed:
    """These accounts as Redis is to know them."""
    return _changed(await connection.fetch(OF_ACCOUNTS, [bucket_of(a) for a in accounts], accounts))


async def count(connection: Connection) -> int:
    """How many accounts there are."""
    number: int = await connection.fetchval(COUNT)
    return number


BALANCES = """
SELECT m.id, a.pending, a.available, a.reserved, a.debt, a.version
FROM unnest($1::smallint[], $2::bigint[]) AS w (bucket, id) JOIN account m USING (bucket, id)
JOIN account a ON a.bucket = (coalesce(m.home, m.id) & 1023)::smallint AND a.id = coalesce(m.home, m.id)
"""


KNOWN_ACCOUNTS = """
SELECT DISTINCT r.account FROM unnest($2::smallint[], $3::bigint[]) AS w (bucket, account) JOIN consumer_reference r USING (bucket, account)
WHERE r.platform = $1
"""


async def known_accounts(connection: Connection, platform: int, accounts: Sequence[int]) -> set[int]:
    """Those of the accounts that the platform has a name for."""
    rows = await connection.fetch(KNOWN_ACCOUNTS, platform, [bucket_of(a) for a in accounts], accounts)
    return {r["account"] for r in rows}


async def balances(connection: Connection, accounts: Sequence[int]) -> list[tuple[int, Balance]]:
    """Balances of these accounts; of a linked one that of the account that has its points."""
    return [_pair(r) for r in await connection.fetch(BALANCES, [bucket_of(a) for a in accounts], accounts)]


def _changed(rows: Sequence[Record]) -> Changed:
    return Changed(
        balances=[_pair(r) for r in rows if r["home"] is None],
        pointers=[(r["id"], r["version"], r["home"]) for r in rows if r["home"] is not None],
    )


def _pair(row: Record) -> tuple[int, Balance]:
    balance = Balance(
        pending=row["pending"], available=row["available"], reserved=row["reserved"], debt=row["debt"], version=row["version"]
    )
    return row["id"], balance

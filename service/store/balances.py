"""SQL of balances as readers see them, and of accounts that a sweep or a rebuild pushes to Redis."""

from collections.abc import Sequence
from datetime import date, datetime

from asyncpg import Record
from msgspec import Struct

from schemas.events import Balance
from service.domain.keys import bucket_of
from service.store.connection import Connection
from service.store.lots import LAST_DAY

DETAILS = f"""
SELECT a.pending, a.available, a.reserved, a.debt, a.version, n.due_at, n.points, l.points AS expiring_points, l.days AS expiring_on
FROM account a
LEFT JOIN LATERAL (
    SELECT d.due_at, sum(x.points - x.reversed)::bigint AS points
    FROM due d JOIN award x ON x.bucket = d.bucket AND x.account = d.account AND x.event = d.event AND x.due_at = d.due_at
    WHERE d.bucket = a.bucket AND d.account = a.id
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
WHERE a.bucket = $1 AND a.id = $2
  AND ($3::int IS NULL OR EXISTS (SELECT FROM consumer_reference r WHERE r.bucket = a.bucket AND r.account = a.id AND r.platform = $3))
"""


class Details(Struct, frozen=True, kw_only=True):
    """A balance with what becomes available next, and the next twelve days on which points expire."""

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


_BALANCE = "a.id, a.pending, a.available, a.reserved, a.debt, a.version"

CHANGED_SINCE = f"""
SELECT {_BALANCE} FROM (
    SELECT bucket, account FROM event WHERE received_at >= $1
    UNION
    SELECT bucket, account FROM entry WHERE at >= $1
) c JOIN account a ON a.bucket = c.bucket AND a.id = c.account
"""

WRITING_SINCE = """
SELECT now(), least(now(), (SELECT min(xact_start) FROM pg_stat_activity
                            WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()))
"""


async def changed_since(connection: Connection, since: datetime) -> list[tuple[int, Balance]]:
    """Balances of accounts that were credited or settled since then."""
    return [_pair(r) for r in await connection.fetch(CHANGED_SINCE, since)]


async def writing_since(connection: Connection) -> tuple[datetime, datetime]:
    """PostgreSQL's clock, and when the oldest transaction began that has written and may still commit (as far as our role may see)."""
    row = await connection.fetchrow(WRITING_SINCE)
    assert row is not None, "a SELECT without FROM has one row"
    return row[0], row[1]


PAGE = f"SELECT {_BALANCE} FROM account a WHERE (a.bucket, a.id) > ($1::smallint, $2::bigint) ORDER BY a.bucket, a.id LIMIT $3"
COUNT = "SELECT count(*) FROM account"


async def page(connection: Connection, after: tuple[int, int], limit: int) -> list[tuple[int, Balance]]:
    """Balances in the order of (bucket, id), after that one."""
    return [_pair(r) for r in await connection.fetch(PAGE, *after, limit)]


async def count(connection: Connection) -> int:
    """How many accounts there are."""
    number: int = await connection.fetchval(COUNT)
    return number


BALANCES = f"""
SELECT {_BALANCE} FROM unnest($1::smallint[], $2::bigint[]) AS w (bucket, id) JOIN account a USING (bucket, id)
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
    """Balances of these accounts."""
    return [_pair(r) for r in await connection.fetch(BALANCES, [bucket_of(a) for a in accounts], accounts)]


def _pair(row: Record) -> tuple[int, Balance]:
    balance = Balance(
        pending=row["pending"], available=row["available"], reserved=row["reserved"], debt=row["debt"], version=row["version"]
    )
    return row["id"], balance

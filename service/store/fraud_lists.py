"""SQL of the allow and block lists. What is listed is a keyed hash, or an account's number in digits; nothing raw is stored."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

from asyncpg import Record
from msgspec import Struct

from service.domain.fraud.lists import ACCOUNT, Entry, ListName, Lists
from service.store.connection import Connection

EntryStatus = Literal["active", "expired", "removed"]

_COUNTS: Final = "removed_at IS NULL AND (until IS NULL OR until > now())"

# What every process remembers ------------------------------------------------------------------------------

VERSION: Final = "SELECT fraud_version FROM deployment"
RAISE_VERSION: Final = "UPDATE deployment SET fraud_version = fraud_version + 1 RETURNING now()"
ACTIVE: Final = f"SELECT list, kind, value, until FROM fraud_list WHERE program = $1 AND {_COUNTS}"


async def version(connection: Connection) -> int:
    """The number of changes to lists so far."""
    found: int = await connection.fetchval(VERSION)
    return found


async def raise_version(connection: Connection) -> datetime:
    """Make every process read the lists again with its next batch; the transaction's time. Who changes a list waits for others who do."""
    now: datetime = await connection.fetchval(RAISE_VERSION)
    return now


async def active(connection: Connection, program: int) -> Lists:
    """The entries of a program that count now."""
    return Lists([Entry(**row) for row in await connection.fetch(ACTIVE, program)])


# Changes ---------------------------------------------------------------------------------------------------


class Listed(Struct, frozen=True, kw_only=True):
    """An entry as it is shown. `platform` and `consumer` are those of an account that somebody still knows."""

    number: int
    list: ListName
    kind: str
    value: str
    reason: str
    until: datetime | None
    added_by: int | None
    added_at: datetime
    removed_at: datetime | None
    status: EntryStatus
    platform: str | None
    consumer: str | None


COUNT: Final = f"SELECT count(*) FROM fraud_list WHERE program = $1 AND {_COUNTS}"
# What has ended makes room: there is one entry per thing that was not taken off.
END: Final = """
UPDATE fraud_list SET removed_at = now() WHERE program = $1 AND kind = $2 AND value = $3 AND removed_at IS NULL AND until <= now()
"""
INSERT: Final = """
INSERT INTO fraud_list (number, program, list, kind, value, reason, until, added_by)
VALUES (nextval('number'), $1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (program, kind, value) WHERE removed_at IS NULL DO NOTHING
RETURNING number
"""
FIND: Final = "SELECT number FROM fraud_list WHERE program = $1 AND kind = $2 AND value = $3 AND removed_at IS NULL"
REMOVE: Final = """
UPDATE fraud_list SET removed_at = now() WHERE program = $1 AND number = $2 AND removed_at IS NULL RETURNING list, kind, value, until
"""


async def count(connection: Connection, program: int) -> int:
    """How many entries of a program count."""
    found: int = await connection.fetchval(COUNT, program)
    return found


async def insert(
    connection: Connection, entry: Entry, *, program: int, reason: str, added_by: int
) -> int | None:  # fmt: skip
    """The number of a new entry; None where there is one of the same thing that has not ended."""
    await connection.execute(END, program, entry.kind, entry.value)
    number: int | None = await connection.fetchval(INSERT, program, entry.list, entry.kind, entry.value, reason, entry.until, added_by)
    return number


async def find(connection: Connection, program: int, *, kind: str, value: str) -> int | None:
    """The number of the entry of a thing that was not taken off."""
    found: int | None = await connection.fetchval(FIND, program, kind, value)
    return found


async def remove(connection: Connection, program: int, number: int) -> Entry | None:
    """Take an entry off; what it said. None where there is none, or where it was taken off before."""
    row = await connection.fetchrow(REMOVE, program, number)
    return None if row is None else Entry(**row)


# Reading ---------------------------------------------------------------------------------------------------

_SHOWN: Final = f"""
SELECT l.number, l.list, l.kind, l.value, l.reason, l.until, l.added_by, l.added_at, l.removed_at,
       CASE WHEN l.until <= coalesce(l.removed_at, now()) THEN 'expired' WHEN l.removed_at IS NULL THEN 'active' ELSE 'removed' END AS status,
       r.platform, r.reference AS consumer
FROM fraud_list l LEFT JOIN LATERAL (
    SELECT p.code AS platform, c.reference FROM (SELECT CASE WHEN l.kind = '{ACCOUNT}' THEN l.value::bigint END AS id) a
    JOIN consumer_reference c ON c.bucket = (a.id & 1023)::smallint AND c.account = a.id JOIN platform p ON p.id = c.platform
    ORDER BY c.created_at, c.reference LIMIT 1
) r ON true
"""
SHOW: Final = f"{_SHOWN} WHERE l.program = $1 AND l.number = $2"
PAGE: Final = f"""
SELECT * FROM ({_SHOWN} WHERE l.program = $1 AND l.number < $2 AND ($3::text IS NULL OR l.list = $3) AND ($4::text IS NULL OR l.kind = $4)) s
WHERE $5::text IS NULL OR s.status = $5
ORDER BY s.number DESC LIMIT $6
"""


async def show(connection: Connection, program: int, number: int) -> Listed | None:
    """An entry of a program, whether it counts or not."""
    row = await connection.fetchrow(SHOW, program, number)
    return None if row is None else _listed(row)


async def page(
    connection: Connection, program: int, *, before: int, list_: str | None, kind: str | None, status: str | None, limit: int
) -> Sequence[Listed]:
    """At most `limit` of a program's entries with numbers below `before`, newest first."""
    return [_listed(row) for row in await connection.fetch(PAGE, program, before, list_, kind, status, limit)]


def _listed(row: Record) -> Listed:
    return Listed(**row)


# Persons ---------------------------------------------------------------------------------------------------

# While somebody else knows the account by a name, it is still about them.
FORGET: Final = f"""
DELETE FROM fraud_list l
WHERE l.kind = '{ACCOUNT}' AND l.value = ($2::bigint)::text
  AND NOT EXISTS (SELECT FROM consumer_reference r WHERE r.bucket = $1 AND r.account = $2)
"""
OF_ACCOUNT: Final = f"""
SELECT l.list, l.added_at AS since, l.until, l.removed_at AS removed FROM fraud_list l
WHERE l.kind = '{ACCOUNT}' AND l.value = ($1::bigint)::text ORDER BY l.number LIMIT 500
"""


async def forget(connection: Connection, *, bucket: int, account: int) -> None:
    """Forget what was listed about an account that nobody knows any more."""
    await connection.execute(FORGET, bucket, account)


async def of_account(connection: Connection, account: int) -> list[Record]:
    """What was ever listed about an account: list, since, until, removed; oldest first."""
    return await connection.fetch(OF_ACCOUNT, account)

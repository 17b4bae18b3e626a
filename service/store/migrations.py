"""The record of applied migrations, and the lock that lets one process apply them at a time."""

from datetime import datetime

from msgspec import Struct

from service.store.connection import Connection

LOCK_TIMEOUT = "4s"
"""How long a migration waits for a table lock: longer would queue every credit behind it."""

STATEMENT_TIMEOUT = "60s"
"""How long one migration file may run; a longer change belongs into a batched flow."""

# Any constant will do; it only must not meet another advisory lock of this database.
ADVISORY_LOCK = 0x67726E7074730001


class Applied(Struct, frozen=True, kw_only=True):
    """One applied migration: its file name, the SHA-256 of its text in hex, and when."""

    name: str
    sha256: str
    applied_at: datetime


LOCK = "SELECT pg_advisory_lock($1)"
UNLOCK = "SELECT pg_advisory_unlock($1)"


async def lock(connection: Connection, *, timeout_s: float) -> None:
    """Wait until no other process applies migrations; held until `unlock` or the connection ends. Raises TimeoutError."""
    await connection.execute(LOCK, ADVISORY_LOCK, timeout=timeout_s)


async def unlock(connection: Connection) -> None:
    """Let the next process in."""
    await connection.execute(UNLOCK, ADVISORY_LOCK)


CREATE = """
CREATE TABLE IF NOT EXISTS schema_migration (
    name       text COLLATE "C" PRIMARY KEY,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


async def create_record(connection: Connection) -> None:
    """Create the table of applied migrations unless it exists."""
    await connection.execute(CREATE)


EXISTS = "SELECT to_regclass('schema_migration') IS NOT NULL"
APPLIED = "SELECT name, sha256, applied_at FROM schema_migration ORDER BY name"


async def applied(connection: Connection) -> list[Applied]:
    """What has been applied, by name; empty for a database that was never migrated."""
    if not await connection.fetchval(EXISTS):
        return []
    return [Applied(name=row["name"], sha256=row["sha256"], applied_at=row["applied_at"]) for row in await connection.fetch(APPLIED)]


BOUNDS = "SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', $2, true)"
RECORD = "INSERT INTO schema_migration (name, sha256) VALUES ($1, $2)"


async def apply(connection: Connection, *, name: str, sha256: str, sql: str) -> None:
    """Run one file and record it; call inside a transaction. Errors are PostgreSQL's own."""
    await connection.execute(BOUNDS, LOCK_TIMEOUT, STATEMENT_TIMEOUT)
    await connection.execute(sql)
    await connection.execute(RECORD, name, sha256)

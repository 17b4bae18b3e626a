"""SQL that asks how the deployment as a whole is doing."""

from datetime import datetime

from msgspec import Struct

from service.store.connection import Connection

WORKER_NAME = "greenpoints worker"
"""What the connections of workers are called: PostgreSQL's own list of connections says whether one is there."""

VITALS = """
SELECT (SELECT coalesce(array_agg(name), '{}') FROM schema_migration) AS migrations,
       (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1) AS worker_connections,
       (SELECT min(d.due_at) FROM generate_series(0, 1023) b
        CROSS JOIN LATERAL (
            SELECT due_at FROM due WHERE due.bucket = b::smallint
              AND NOT EXISTS (SELECT FROM screening s WHERE s.bucket = due.bucket AND s.event = due.event AND s.state = 1)
            ORDER BY due_at LIMIT 1) d) AS next_due,
       now() AS now
"""


class Vitals(Struct, frozen=True, kw_only=True):
    """Names of the applied migrations, whether a worker is connected, and how long the oldest event past its time has been so."""

    migrations: frozenset[str]
    has_worker: bool
    overdue_s: float
    at: datetime


async def vitals(connection: Connection) -> Vitals:
    """Ask; one statement that looks a row up per bucket. Raises UndefinedTableError before the first migration."""
    row = await connection.fetchrow(VITALS, WORKER_NAME)
    assert row is not None
    overdue_s = 0.0 if row["next_due"] is None else max((row["now"] - row["next_due"]).total_seconds(), 0.0)
    return Vitals(
        migrations=frozenset(row["migrations"]), has_worker=row["worker_connections"] > 0, overdue_s=overdue_s, at=row["now"]
    )  # fmt: skip


# Held by a connection of its own: a check takes longer than any transaction should.
TRY_CHECK = "SELECT pg_try_advisory_lock($1)"
CHECK_LOCK = 0x67726E7074730002
"""Any constant will do that is not another lock's of this database."""


async def try_check(connection: Connection) -> bool:
    """Whether nobody else checks the invariants now; nobody will until this connection ends."""
    return bool(await connection.fetchval(TRY_CHECK, CHECK_LOCK))

"""The deployment's one row."""

from datetime import datetime

from msgspec import Struct

from service.store.connection import Connection

READ = "SELECT epoch, hash_key, vault_version, now() AS now FROM deployment"

# Whatever was lost has raised none of these numbers so far: the epoch is the number of a second since 2020, of which the first instants are
# waited for, so that no two histories begin in one, though the row is the same before each; the versions are milliseconds.
BEGIN_HISTORY = """
WITH next_second AS MATERIALIZED (SELECT pg_sleep(1.001 - extract(epoch FROM clock_timestamp())::numeric % 1)),
now_ms AS MATERIALIZED (
    SELECT (extract(epoch FROM clock_timestamp() - timestamptz '2020-01-01 00:00:00+00') * 1000)::bigint AS ms FROM next_second
)
UPDATE deployment d SET
    epoch             = greatest(d.epoch + 1, (t.ms / 1000)::integer),
    catalogue_version = greatest(d.catalogue_version + 1, t.ms),
    registry_version  = greatest(d.registry_version + 1, t.ms),
    callers_version   = greatest(d.callers_version + 1, t.ms),
    fraud_version     = greatest(d.fraud_version + 1, t.ms),
    vault_version     = greatest(d.vault_version + 1, t.ms)
FROM now_ms t
RETURNING d.epoch
"""


class Deployment(Struct, frozen=True, kw_only=True):
    """PostgreSQL's time, the epoch of Redis keys, the key of attribute hashes, and the number of erasures."""

    now: datetime
    epoch: int
    hash_key: bytes
    vault_version: int


async def read(connection: Connection) -> Deployment:
    """Read it. Raises UndefinedTableError before the first migration."""
    row = await connection.fetchrow(READ)
    assert row is not None
    return Deployment(now=row["now"], epoch=row["epoch"], hash_key=row["hash_key"], vault_version=row["vault_version"])


async def begin_history(connection: Connection) -> int:
    """Let nobody go by what was known of a history that is gone: keys of Redis by the epoch, which is returned; what processes remember.

    After a restore or a fail-over that lost commits. Each call begins another one, within a second.
    """
    epoch: int = await connection.fetchval(BEGIN_HISTORY)
    return epoch

"""The deployment's one row."""

from datetime import datetime

from msgspec import Struct

from service.store.connection import Connection

READ = "SELECT epoch, hash_key, vault_version, now() AS now FROM deployment"

# Seconds since 2020: whatever was lost since has raised none of them that far, and nobody has seen the numbers that come now.
BEGIN_HISTORY = """
UPDATE deployment d SET
    epoch             = greatest(d.epoch + 1, t.s::integer),
    catalogue_version = greatest(d.catalogue_version + 1, t.s),
    registry_version  = greatest(d.registry_version + 1, t.s),
    callers_version   = greatest(d.callers_version + 1, t.s),
    vault_version     = greatest(d.vault_version + 1, t.s)
FROM (SELECT extract(epoch FROM clock_timestamp() - timestamptz '2020-01-01 00:00:00+00')::bigint AS s) t
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

    After a restore or a fail-over that lost commits. Each call begins another one.
    """
    epoch: int = await connection.fetchval(BEGIN_HISTORY)
    return epoch

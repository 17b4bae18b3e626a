"""The deployment's one row."""

from datetime import datetime

from msgspec import Struct

from service.store.connection import Connection

READ = "SELECT epoch, hash_key, vault_version, now() AS now FROM deployment"


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

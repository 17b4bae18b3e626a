"""Mend: push balances again that changed lately, so that Redis converges after a lost push, a crash or a FLUSHALL."""

from datetime import datetime, timedelta

from service.projection import Projection
from service.store import balances as store
from service.store.connection import Pool

OVERLAP = timedelta(seconds=10)
"""A transaction is stamped when it begins and seen when it commits: look back by more than one can last."""
PUSH_WAIT_S = 1.0


class Mender:
    """Remembers how far it has come; it moves on only when Redis took everything."""

    def __init__(self, pool: Pool, projection: Projection, *, ttl_s: int) -> None:
        self._pool = pool
        self._projection = projection
        self._reach = timedelta(seconds=ttl_s * 1.2) + OVERLAP  # older values have expired by themselves
        self._through: datetime | None = None

    async def sweep(self) -> int:
        """Push what has changed since the last sweep; returns how many accounts. The fence makes a repeat harmless."""
        async with self._pool.acquire() as connection:
            now = await store.database_now(connection)
            since = self._through - OVERLAP if self._through is not None else now - self._reach
            changed = await store.changed_since(connection, since)
        if await self._projection.push(changed, wait_s=PUSH_WAIT_S):
            self._through = now
        return len(changed)

"""Mend: push balances again that changed lately, so that Redis converges after a lost push, a crash or a FLUSHALL."""

import secrets
from datetime import datetime, timedelta

from service import failpoints
from service.projection import Projection
from service.store import balances as store
from service.store.connection import Pool
from service.telemetry import metrics, tallies

WARY = timedelta(seconds=10)
"""After Redis has forgotten everything, a writer that was paused may plant an old balance: for so long, look back as far."""
MARGIN = timedelta(seconds=0.2)
"""A transaction is stamped when it begins, and can be told from a reader only when it has written: that happens within so long."""
PUSH_WAIT_S = 1.0


class Mender:
    """Remembers how far it has come; it moves on only when Redis took everything."""

    def __init__(self, pool: Pool, projection: Projection, *, ttl_s: int) -> None:
        self._pool = pool
        self._projection = projection
        self._reach = timedelta(seconds=ttl_s * 1.2) + WARY  # older values have expired by themselves
        self._name = secrets.token_hex(4)
        self._through: datetime | None = None
        self._wary_until: datetime | None = None

    async def sweep(self) -> int:
        """Push what has changed since the last sweep; returns how many accounts. The fence makes a repeat harmless."""
        forgotten = await self._projection.has_forgotten(self._name)
        async with self._pool.acquire() as connection:
            now, writing_since = await store.writing_since(connection)
            if forgotten and self._through is not None:
                self._wary_until = now + WARY
            changed = await store.changed_since(connection, self._since(now))
        failpoints.at("mend.read")
        pushed = await self._projection.push(changed.balances, wait_s=PUSH_WAIT_S)
        if pushed and await self._projection.point(changed.pointers, wait_s=PUSH_WAIT_S):
            failpoints.at("mend.pushed")
            self._through = min(now - MARGIN, writing_since)
            tallies.count(metrics.MEND_ACCOUNTS).add(len(changed))
        tallies.count(metrics.MEND_SWEEPS).add()
        return len(changed)

    def _since(self, now: datetime) -> datetime:
        if self._through is None:
            return now - self._reach
        wary = self._wary_until is not None and now < self._wary_until
        return min(self._through, now - WARY) if wary else self._through

"""Seal: chain blocks of entries, so that nothing that was written can change without somebody noticing (docs/ledger.md)."""

from datetime import datetime, timedelta
from typing import Final

from service import failpoints
from service.store import seals as store
from service.store.balances import writing_since
from service.store.connection import Connection, Pool, plan_by_index
from service.store.seals import Sealed
from service.telemetry import metrics, tallies

MARGIN: Final = timedelta(seconds=5)
"""A transaction is stamped when it begins, and can be told from a reader only when it has written: that happens within so long. One that
takes longer is met when its account changes again, or when its bucket's turn comes."""
INSTANT: Final = timedelta(microseconds=1)
MAX_STEPS: Final = 100
"""Transactions of one sweep: at most so many blocks."""
BUCKETS: Final = 1_024
BUCKETS_A_SWEEP: Final = 16
"""Looked at whatever is dated when, so that all of them have been after 64 sweeps."""


async def seal(pool: Pool, *, margin: timedelta = MARGIN, buckets: int = BUCKETS_A_SWEEP) -> Sealed:
    """Seal what is not sealed yet, block by block, each in a transaction of its own; returns what was sealed.

    Safe to repeat, to run side by side and to kill anywhere: a block is whole or absent. Takes no lock that a credit waits for.
    """
    blocks = entries = 0
    async with pool.acquire() as connection:
        await plan_by_index(connection)
        for step in (_seal_dated, _seal_buckets):
            for _ in range(MAX_STEPS):
                sealed = await step(connection, margin, buckets)
                failpoints.at("seal.committed")
                if sealed is None:
                    break
                blocks += sealed.blocks
                entries += sealed.entries
    tallies.count(metrics.SEALED_ENTRIES).add(entries)
    return Sealed(blocks=blocks, entries=entries)


async def _seal_dated(connection: Connection, margin: timedelta, _: int) -> Sealed | None:
    """One block of what was written since; None: all is sealed until now, or somebody else is at it."""
    async with connection.transaction():
        if not await store.try_sealing(connection):
            return None
        since, _bucket = await store.progress(connection)
        horizon = await _horizon(connection, margin)
        if horizon <= since:
            return None
        end = await store.window_end(connection, since, horizon)
        sealed = await store.seal_dated(connection, since, end)
        failpoints.at("seal.dated")
        if sealed.entries:
            return sealed
        await store.set_through(connection, end if end == horizon else end + INSTANT)  # at the horizon somebody may still be writing
        failpoints.at("seal.through")
    metrics.SEALED_TIME.set(end.timestamp())
    return None if end == horizon else sealed


async def _horizon(connection: Connection, margin: timedelta) -> datetime:
    """What is dated earlier has committed, or never will."""
    now, oldest = await writing_since(connection)
    return min(now - margin, oldest)


async def _seal_buckets(connection: Connection, _: timedelta, buckets: int) -> Sealed | None:
    """One block of the accounts of the next buckets; None: nothing is left of them, and the turn is the next ones'."""
    async with connection.transaction():
        if not await store.try_sealing(connection):
            return None
        _through, bucket = await store.progress(connection)
        sealed = await store.seal_buckets(connection, range(bucket, min(bucket + buckets, BUCKETS)))
        failpoints.at("seal.buckets")
        if sealed.entries:
            return sealed
        await store.set_bucket(connection, (bucket + buckets) % BUCKETS if bucket + buckets < BUCKETS else 0)
        failpoints.at("seal.turned")
    return None

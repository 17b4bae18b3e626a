"""Release: reservations that were neither captured nor cancelled give their points back at their end."""

import random
from collections.abc import Awaitable, Sequence
from itertools import groupby
from typing import Final, Protocol

from schemas.events import Balance
from service import failpoints
from service.projection import Projection
from service.store import leases, purses
from service.store import releases as store
from service.store.connection import Connection, Pool, plan_by_index
from service.store.leases import Lease, LeaseLost
from service.store.releases import Due
from service.telemetry import metrics, tallies

PUSH_WAIT_S: Final = 1.0
BATCH: Final = 200
"""Reservations of one transaction."""
MAX_BATCHES: Final = 500
"""Transactions under one lease."""


class Release(Protocol):
    """What ends reservations of one program."""

    def __call__(
        self, connection: Connection, due: Sequence[Due], *, program: int, stripe: int
    ) -> Awaitable[Sequence[tuple[int, Balance]]]:
        """Release them in the caller's transaction, their accounts are locked; returns the balances that changed."""
        ...


async def release_due(pool: Pool, projection: Projection, release: Release, *, stripe: int, buckets: int) -> int:
    """Release what is due; returns how many reservations ended.

    Safe to repeat and to run side by side: under its account's lock a reservation is looked at again. Killed at any moment it leaves a
    whole batch released or not begun.
    """
    done = 0
    async with pool.acquire() as connection:
        await plan_by_index(connection)
        waiting = await store.buckets_with_due(connection)
        groups = [(part * buckets, list(group)) for part, group in groupby(waiting, key=lambda bucket: bucket // buckets)]
        random.shuffle(groups)  # so that several workers meet less often
        for first_bucket, group in groups:
            done += await _release_group(connection, projection, release, first_bucket, group, stripe)
    return done


async def _release_group(
    connection: Connection, projection: Projection, release: Release, first_bucket: int, group: Sequence[int], stripe: int
) -> int:
    lease = await leases.take(connection, "release", first_bucket)
    failpoints.at("release.leased")
    if lease is None:
        return 0
    done = 0
    try:
        for _ in range(MAX_BATCHES):
            released = await release_batch(connection, projection, release, lease, group, stripe=stripe)
            done += released
            if not released:
                break
        await leases.give_back(connection, lease)
    except LeaseLost:
        tallies.count(metrics.LEASES_LOST).add()
    except purses.Moved:
        await leases.give_back(connection, lease)  # accounts were linked meanwhile: the next sweep finds them where they are
    return done


async def release_batch(
    connection: Connection, projection: Projection, release: Release, lease: Lease, group: Sequence[int], *, stripe: int
) -> int:
    """One transaction; returns its reservations, 0: nothing is left. Raises LeaseLost, Moved: nothing has changed."""
    balances: list[tuple[int, Balance]] = []
    async with connection.transaction():
        found = await store.find(connection, group, BATCH)
        if not found:
            return 0
        await purses.lock(connection, [account for _, account, _ in found])
        await leases.still_mine(connection, lease)
        failpoints.at("release.held")
        due = await store.still_due(connection, found)
        for program, some in groupby(due, key=lambda one: one.program):
            balances += await release(connection, list(some), program=program, stripe=stripe)
            failpoints.at("release.released")
    failpoints.at("release.committed")
    await projection.push(balances, wait_s=PUSH_WAIT_S)
    failpoints.at("release.pushed")
    return len(due)

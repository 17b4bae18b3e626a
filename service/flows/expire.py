"""Expire: points whose last local day is over become breakage; one transaction for some lots of a few buckets at a time."""

import random
from collections.abc import Sequence
from itertools import groupby
from typing import Final
from zoneinfo import ZoneInfo

from service import failpoints
from service.domain.hours import start_of_hour
from service.projection import Projection
from service.store import expiry as store
from service.store import leases
from service.store.connection import Connection, Pool, plan_by_index
from service.store.expiry import Expired
from service.store.leases import Lease, LeaseLost
from service.telemetry import metrics, tallies

PUSH_WAIT_S: Final = 1.0
MAX_BATCHES: Final = 500
"""Transactions under one lease; then it is given back, and others have a turn."""


async def expire_due(pool: Pool, projection: Projection, *, stripe: int, buckets: int, batch_lots: int) -> int:
    """Expire what is due; returns the number of lots that went or were moved on.

    Safe to repeat and to run side by side: under its account's lock a lot is looked at again, and what is gone is not there twice.
    Killed at any moment it leaves a whole batch done or not begun.
    """
    done = 0
    async with pool.acquire() as connection:
        await plan_by_index(connection)
        due = await store.due(connection)
        groups = [(part * buckets, list(pairs)) for part, pairs in groupby(due, key=lambda pair: pair[0] // buckets)]
        random.shuffle(groups)  # so that several workers meet less often
        for first_bucket, parts in groups:
            done += await _expire_group(connection, projection, first_bucket, parts, stripe, batch_lots)
    return done


async def _expire_group(
    connection: Connection, projection: Projection, first_bucket: int, parts: Sequence[tuple[int, int]], stripe: int, batch_lots: int
) -> int:
    """Expire what is due in some (bucket, program), under a lease."""
    lease = await leases.take(connection, "expire", first_bucket)
    failpoints.at("expire.leased")
    if lease is None:
        return 0
    done = 0
    try:
        for _ in range(MAX_BATCHES):
            lots = await expire_batch(connection, projection, lease, parts, stripe=stripe, limit=batch_lots)
            done += lots
            if not lots:
                break
        await leases.give_back(connection, lease)
    except LeaseLost:
        tallies.count(metrics.LEASES_LOST).add()
    return done


async def expire_batch(
    connection: Connection, projection: Projection, lease: Lease, parts: Sequence[tuple[int, int]], *, stripe: int, limit: int
) -> int:
    """One transaction; returns its lots, 0: nothing is left. Raises LeaseLost: nothing has changed."""
    async with connection.transaction():
        now, zones = await store.days(connection, sorted({program for _, program in parts}))
        today = {program: now.astimezone(ZoneInfo(zone)).date() for program, zone in zones.items()}
        accounts = await store.lock(connection, parts, today, limit)
        if not accounts:
            return 0
        failpoints.at("expire.locked")
        await leases.still_mine(connection, lease)
        failpoints.at("expire.held")
        hours = {program: start_of_hour(now, ZoneInfo(zone)) for program, zone in zones.items()}
        expired = await store.expire(connection, accounts, now, stripe, today=today, hours=hours, limit=limit)
        failpoints.at("expire.expired")
    failpoints.at("expire.committed")
    await _tell(projection, expired)
    failpoints.at("expire.pushed")
    return expired.lots


async def _tell(projection: Projection, expired: Expired) -> None:
    tallies.count(metrics.EXPIRED_LOTS).add(expired.lots)
    tallies.count(metrics.EXPIRED_POINTS).add(expired.points)
    await projection.push(expired.balances, wait_s=PUSH_WAIT_S)

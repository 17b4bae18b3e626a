"""Settle: what is due becomes entries, lots and available points; one transaction for a few buckets at a time."""

import random
import time
from zoneinfo import ZoneInfo

from service import failpoints
from service.domain.hours import start_of_hour
from service.projection import Projection
from service.store import settlement as store
from service.store.connection import Connection, Pool, plan_by_index
from service.store.settlement import Settled
from service.telemetry import metrics, tallies, traces

PUSH_WAIT_S = 1.0


async def settle_due(pool: Pool, projection: Projection, *, stripe: int, buckets: int, batch_events: int, screened: bool = False) -> int:
    """Settle until nothing is due; returns the number of due rows that went.

    `screened`: only what has its verdict. What is held never settles.

    Safe to repeat and to run side by side: a due row is deleted once, under its account's lock. Killed at any moment it
    leaves a whole batch settled or not begun.
    """
    done = 0
    async with pool.acquire() as connection:
        await plan_by_index(connection)
        waiting = await store.buckets_with_due(connection, screened=screened)
        if not waiting:
            return 0
        groups = [waiting[i : i + buckets] for i in range(0, len(waiting), buckets)]
        random.shuffle(groups)  # so that several workers meet less often
        for group in groups:
            while settled := await _settle_batch(connection, projection, group, stripe, batch_events, screened=screened):
                done += settled
                if settled < batch_events:
                    break
    return done


async def _settle_batch(
    connection: Connection, projection: Projection, group: list[int], stripe: int, batch_events: int, *, screened: bool
) -> int:
    begun = time.perf_counter()
    with traces.span("settle batch") as span:
        settled = await _settle(connection, group, stripe, batch_events, screened=screened)
        if settled is None:
            return 0
        failpoints.at("settle.committed")
        _count(settled, time.perf_counter() - begun)
        span.set("greenpoints.batch.events", settled.due_rows)
        span.set("greenpoints.batch.points", settled.points)
        span.set(traces.EVENT_NUMBERS, settled.events[: traces.MAX_NUMBERS])
        await projection.push(settled.balances, wait_s=PUSH_WAIT_S)
        failpoints.at("settle.pushed")
    return settled.due_rows


async def _settle(connection: Connection, group: list[int], stripe: int, batch_events: int, *, screened: bool) -> Settled | None:
    """One transaction; None when nothing is due or another worker is at it."""
    async with connection.transaction():
        mine, now = await store.try_group(connection, group[0])
        if not mine:
            return None
        accounts = await store.lock_due_accounts(connection, group, now, batch_events, screened=screened)
        if not accounts:
            return None
        failpoints.at("settle.locked")
        zones = await store.program_zones(connection)
        hours = {program: start_of_hour(now, ZoneInfo(zone)) for program, zone in zones.items()}
        settled = await store.settle(connection, accounts, now, stripe, hours, screened=screened)
        failpoints.at("settle.settled")
        return settled


def _count(settled: Settled, took_s: float) -> None:
    tallies.count(metrics.SETTLED_EVENTS).add(settled.due_rows)
    tallies.count(metrics.SETTLED_POINTS).add(settled.points)
    tallies.spread(metrics.SETTLEMENT_SECONDS).add(took_s)
    lag = tallies.spread(metrics.SETTLEMENT_LAG)
    for late_s in settled.late_s:
        lag.add(late_s + took_s)  # they are late by PostgreSQL's clock when the transaction begins

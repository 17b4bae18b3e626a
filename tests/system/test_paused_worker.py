"""A worker that stops in the middle of a transaction, with accounts locked: credits go on, and what it had begun is done by another."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from service.projection import Projection
from service.settings import Settings
from service.store.vitals import WORKER_NAME
from tests.flows.test_expire import Life
from tests.flows.test_locks import blocked
from tests.servers import Program
from tests.spending import end_of
from tests.worlds import World, order_paid

IDLE_S = 2
PATIENCE_S = 40.0


async def until(world: World, sql: str, *values: Any) -> None:
    end = time.monotonic() + PATIENCE_S
    while not (await world.rows(sql, *values))[0]["yes"]:
        assert time.monotonic() < end, sql
        await asyncio.sleep(0.02)


WORKER = "SELECT count(*) > 0 AS yes FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1 AND "


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_worker_that_stops_with_accounts_locked(world: World, settings: Settings, tmp_path: Path, how: signal.Signals) -> None:
    async with Redis.from_url(settings.balance_redis_url) as redis:
        life = Life(world, Projection(redis, epoch=1, ttl_s=600, wait_ms=1_000))
        await world.campaign(code="camp")
        await life.earn(quantity=3)
        await end_of(world, "c", 1)
        worker = Program("workers", settings, tmp_path / "worker.log", IDLE_TRANSACTION_TIMEOUT_S=str(IDLE_S))
        async with world.pool.acquire() as held:
            # It locks the account, looks at its lease and waits for the lot: that is where it stops.
            transaction = held.transaction()
            await transaction.start()
            await held.execute("SELECT FROM lot FOR UPDATE")
            await worker.start()
            try:
                await until(world, WORKER + "wait_event_type = 'Lock'", WORKER_NAME)
                assert worker._process is not None
                os.kill(worker._process.pid, how)
                await transaction.rollback()
                if how == signal.SIGSTOP:
                    await until(world, WORKER + "state = 'idle in transaction'", WORKER_NAME)
                    begun = time.monotonic()
                    crediting = await blocked(world, world.credit(order_paid("c")))
                    assert not crediting.done(), "the account is locked"
                    await asyncio.wait_for(crediting, IDLE_S + 10)
                    assert time.monotonic() - begun < IDLE_S + 2
                else:
                    await asyncio.wait_for(world.credit(order_paid("c")), PATIENCE_S)
                assert (await life.balance())[0] >= 30, "nothing of what it had begun is there"
                assert await life.expire() == 0, "it still has the lease, as far as others know"
                await world.rows("UPDATE lease SET until = clock_timestamp()")
                assert await life.expire() == 1
                if how == signal.SIGSTOP:
                    os.kill(worker._process.pid, signal.SIGCONT)
                    await world.credit(order_paid("d"))
                    await until(world, "SELECT count(*) = 0 AS yes FROM due")
                await life.settle()
                assert await life.expire() == 0
                await life.sound()
            finally:
                if worker._process is not None:
                    os.kill(worker._process.pid, signal.SIGCONT)
                worker.end()

"""A worker: timers that find what is due by themselves, and an arq worker that only hears the doorbell.

The timers do not need Redis. When the queue is gone, arq's worker is started again and again with backoff, and holds
still end, at most one sweep interval late.
"""

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from arq.connections import ArqRedis
from arq.worker import Worker, func
from redis.asyncio import ConnectionPool

from service.doorbell import QUEUE, SETTLE, dumps, loads
from service.flows.mend import Mender
from service.logs import configure_logging
from service.projection import REDIS_UNREACHABLE
from service.runtime import Resources, open_resources
from service.settings import Settings
from service.store.connection import UNREACHABLE
from service.store.vitals import WORKER_NAME
from service.telemetry import metrics, tallies, traces
from workers.checking import keep_checking
from workers.judging import Judge
from workers.showing import keep_showing
from workers.sweeps import (
    check_changed,
    end_empty_fraud_events,
    expire,
    expire_adjustments,
    finish_fraud_cases,
    forget_old_deliveries,
    ignore_parked,
    keep_privacy,
    look,
    release,
    retain,
    seal_entries,
    settle,
    warn,
    watch_fraud_checks,
)

JOB_TIMEOUT_S = 300
MAX_JOBS = 4
BACKOFF_S = (0.5, 1, 2, 5)
GC_THRESHOLDS = (50_000, 20, 100)
"""What a judge remembers is millions of objects that stay: looking through them for cycles stops everything else for seconds."""
JUDGE_INTERVAL_S = 0.2
"""What waits for its verdict cannot settle; a look costs one statement."""
MEND_INTERVAL_S = 0.5
"""Often, so that each time there is little: thousands of balances at once would hold requests up."""
NICENESS = 5
"""Requests come first where cores are short; what a worker does may come a moment later."""
EXPIRY_INTERVAL_S = 30.0
WARNING_INTERVAL_S = 60.0
PARKED_INTERVAL_S = 60.0
FORGET_INTERVAL_S = 60.0
PRIVACY_INTERVAL_S = 1.0
RETENTION_INTERVAL_S = 60.0
LOOK_INTERVAL_S = 5.0
ADJUSTMENTS_INTERVAL_S = 60.0
FRAUD_WATCH_INTERVAL_S = 60.0
FRAUD_CASES_INTERVAL_S = 5.0
EMPTY_FRAUD_EVENTS_INTERVAL_S = 60.0

log = structlog.get_logger("greenpoints.worker")


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set; what is in progress is finished or, at worst, rolled back and found again."""
    configure_logging(settings.log_format)
    traces.start("worker")
    metrics.tell_process("worker")
    os.nice(NICENESS)
    gc.set_threshold(*GC_THRESHOLDS)
    async with open_resources(settings, name=WORKER_NAME, idle_transaction_s=settings.idle_transaction_timeout_s) as resources:
        rung, came = asyncio.Event(), asyncio.Event()
        mender = Mender(resources.pool, resources.projection, ttl_s=settings.balance_ttl_s)
        tasks = [
            asyncio.create_task(resources.keep_in_sync()),
            asyncio.create_task(_every("judge", JUDGE_INTERVAL_S, Judge(resources, rung), rung=came)),
            asyncio.create_task(_every("settle", settings.sweep_interval_s, lambda: settle(resources), rung=rung)),
            asyncio.create_task(_every("release", settings.sweep_interval_s, lambda: release(resources))),
            asyncio.create_task(_every("mend", MEND_INTERVAL_S, mender.sweep)),
            asyncio.create_task(_every("expire", EXPIRY_INTERVAL_S, lambda: expire(resources))),
            asyncio.create_task(_every("warn", WARNING_INTERVAL_S, lambda: warn(resources))),
            asyncio.create_task(_every("ignore_parked", PARKED_INTERVAL_S, lambda: ignore_parked(resources))),
            asyncio.create_task(_every("deliveries", FORGET_INTERVAL_S, lambda: forget_old_deliveries(resources))),
            asyncio.create_task(_every("privacy", PRIVACY_INTERVAL_S, lambda: keep_privacy(resources))),
            asyncio.create_task(_every("retention", RETENTION_INTERVAL_S, lambda: retain(resources))),
            asyncio.create_task(_every("adjustments", ADJUSTMENTS_INTERVAL_S, lambda: expire_adjustments(resources))),
            asyncio.create_task(_every("fraud_cases", FRAUD_CASES_INTERVAL_S, lambda: finish_fraud_cases(resources))),
            asyncio.create_task(_every("empty_fraud_events", EMPTY_FRAUD_EVENTS_INTERVAL_S, lambda: end_empty_fraud_events(resources))),
            asyncio.create_task(_every("seal", settings.seal_interval_s, lambda: seal_entries(resources))),
            asyncio.create_task(_every("check_recent", settings.check_recent_interval_s, lambda: check_changed(resources))),
            asyncio.create_task(_every("look", LOOK_INTERVAL_S, lambda: look(resources))),
            asyncio.create_task(_every("fraud_watch", FRAUD_WATCH_INTERVAL_S, lambda: watch_fraud_checks(resources))),
            asyncio.create_task(keep_checking(resources)),
            asyncio.create_task(metrics.keep_flushing()),
            asyncio.create_task(keep_showing(settings.worker_metrics_port)),
            asyncio.create_task(_listen(resources, (came, rung))),
        ]
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        tallies.flush()
        traces.stop()


async def _every(name: str, interval_s: float, work: Callable[[], Awaitable[object]], rung: asyncio.Event | None = None) -> None:
    """Work now and then, and at once when somebody rings; a failure is logged and tried again."""
    while True:
        try:
            await work()
        except UNREACHABLE as error:
            tallies.count(metrics.SWEEP_FAILURES, name).add()
            log.warning("PostgreSQL does not answer; trying again", sweep=name, error=type(error).__name__)
        except Exception:
            tallies.count(metrics.SWEEP_FAILURES, name).add()
            log.exception("a sweep failed; trying again", sweep=name)
        if rung is None:
            await asyncio.sleep(interval_s)
            continue
        try:
            async with asyncio.timeout(interval_s):
                await rung.wait()
        except TimeoutError:
            continue
        finally:
            rung.clear()


async def _listen(resources: Resources, wake: Sequence[asyncio.Event]) -> None:
    """Run arq's worker; it dies with its Redis, so it is started again."""

    async def on_ring(ctx: dict[Any, Any], *args: Any, **kwargs: Any) -> None:  # noqa: ARG001 - arq's signature
        for event in wake:
            event.set()

    attempt = 0
    while True:
        pool = ConnectionPool.from_url(resources.settings.queue_redis_url, socket_connect_timeout=1.0)
        redis = ArqRedis(pool, job_serializer=dumps, job_deserializer=loads, default_queue_name=QUEUE)
        worker = Worker(
            functions=[func(on_ring, name=SETTLE, keep_result=0)], queue_name=QUEUE, redis_pool=redis, handle_signals=False,
            job_serializer=dumps, job_deserializer=loads, max_jobs=MAX_JOBS, job_timeout=JOB_TIMEOUT_S, keep_result=0, poll_delay=0.2,
        )  # fmt: skip
        try:
            await worker.async_run()
        except REDIS_UNREACHABLE as error:
            tallies.count(metrics.QUEUE_REDIS_FAILURES).add()
            log.warning("queue Redis does not answer; going by the timers", error=type(error).__name__)
        finally:
            await _close(worker)
        await asyncio.sleep(BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)])
        attempt += 1


async def _close(worker: Worker) -> None:
    try:
        await worker.close()
    except REDIS_UNREACHABLE:
        return  # it is gone anyway

"""The doorbell: tells workers by arq that something may be due. It carries no truth; without it a timer finds the work."""

import asyncio
import time
from typing import Any

import msgspec
import structlog
from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool

from service.projection import REDIS_UNREACHABLE
from service.telemetry import metrics, tallies

QUEUE = "greenpoints"
SETTLE = "settle"
COALESCE_S = 0.1
"""Rings of that time count as one."""
WAIT_S = 0.5
PAUSE_S = 5.0
"""After a failure nobody rings for that long."""

log = structlog.get_logger("greenpoints.doorbell")


class Doorbell:
    """Rings at most once in a tenth of a second, in the background; nobody waits for it."""

    def __init__(self, url: str) -> None:
        pool = ConnectionPool.from_url(url, socket_timeout=WAIT_S, socket_connect_timeout=WAIT_S, max_connections=4)
        self._redis = ArqRedis(pool, job_serializer=dumps, job_deserializer=loads, default_queue_name=QUEUE)
        self._task: asyncio.Task[None] | None = None
        self._quiet_until = 0.0

    def ring(self) -> None:
        """Something may be due."""
        if (self._task is None or self._task.done()) and time.monotonic() >= self._quiet_until:
            self._task = asyncio.create_task(self._ring())

    async def _ring(self) -> None:
        await asyncio.sleep(COALESCE_S)
        try:
            async with asyncio.timeout(WAIT_S):
                # One job of that name waits at a time; workers keep no result, so the next ring is not swallowed.
                await self._redis.enqueue_job(SETTLE, _job_id=SETTLE)
        except REDIS_UNREACHABLE as error:
            self._quiet_until = time.monotonic() + PAUSE_S
            tallies.count(metrics.QUEUE_REDIS_FAILURES).add()
            log.warning("queue Redis does not answer; workers go by their timers", error=type(error).__name__)

    async def answers(self, wait_s: float) -> bool:
        """Whether the queue Redis answers within so long."""
        try:
            async with asyncio.timeout(wait_s):
                await self._redis.ping()
        except REDIS_UNREACHABLE:
            return False
        return True

    async def close(self) -> None:
        """Give the connections back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._redis.aclose(close_connection_pool=True)


def dumps(job: dict[str, Any]) -> bytes:
    """A job as msgpack: data only, so that whoever can write to the queue cannot make a worker run code, as pickle would."""
    return msgspec.msgpack.encode(job)


def loads(data: bytes) -> dict[str, Any]:
    """The job again."""
    job: dict[str, Any] = msgspec.msgpack.decode(data)
    return job

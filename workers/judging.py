"""The judge of a worker: verdicts for what waits, or, where nobody is to judge, a way through for it."""

import asyncio

from redis.asyncio import Redis

from service.flows.judge import Judges, drain
from service.fraud_memory import Memory
from service.runtime import Resources

REDIS_WAIT_S = 5.0
"""A snapshot is megabytes; nobody waits for it."""


class Judge:
    """Called now and then, and whenever something was credited."""

    def __init__(self, resources: Resources, settle: asyncio.Event) -> None:
        """`settle` is set when something may settle that could not before."""
        self._resources = resources
        self._settle = settle
        self._judges: Judges | None = None

    async def __call__(self) -> None:
        """Judge what waits."""
        resources = self._resources
        mode = resources.settings.fraud_mode
        if mode == "off":
            await drain(resources.pool)
            return
        if self._judges is None:
            if not resources.is_synced:
                return  # the key of the hashes is not known yet
            redis = Redis.from_url(resources.settings.balance_redis_url, socket_timeout=REDIS_WAIT_S, socket_connect_timeout=REDIS_WAIT_S)
            memory = Memory(redis, epoch=resources.projection.epoch)
            self._judges = Judges(resources.pool, resources.knowledge, memory, mode=mode, hash_key=resources.hash_key)
        if await self._judges.judge_waiting():
            self._settle.set()

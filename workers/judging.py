"""The judge of a worker: verdicts for what waits, or, where nobody is to judge, a way through for it."""

import asyncio

from service.flows.judge import Judging, drain
from service.runtime import Resources


class Judge:
    """Called now and then, and whenever something was credited."""

    def __init__(self, resources: Resources, settle: asyncio.Event) -> None:
        """`settle` is set when something may settle that could not before."""
        self._resources = resources
        self._settle = settle
        self._judging: Judging | None = None

    async def __call__(self) -> None:
        """Judge what waits."""
        resources = self._resources
        mode = resources.settings.fraud_mode
        if mode == "off":
            await drain(resources.pool)
            return
        if self._judging is None:
            if not resources.is_synced:
                return  # the key of the hashes is not known yet
            self._judging = Judging(resources.pool, resources.knowledge, mode=mode, hash_key=resources.hash_key)
        if await self._judging.judge_waiting():
            self._settle.set()

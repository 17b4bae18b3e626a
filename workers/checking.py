"""The regular check of the invariants: one worker at a time, beside the sweeps, on connections of its own."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import structlog

from service.flows import check as check_flow
from service.flows import checked as store
from service.flows.check_recent import tell_of_everything
from service.flows.checked import Checked
from service.runtime import Resources, open_for_checking
from service.store import deployment
from service.store.connection import UNREACHABLE
from service.store.vitals import WORKER_NAME, try_check

FIRST_AFTER = (0.05, 0.25)
"""The first check of a worker comes after such a part of the interval: not at the start, when there is most to do, and not all at once."""
LOOK_EVERY_S = 30.0
"""How often a worker looks whether somebody has checked: its metrics show that, too."""

log = structlog.get_logger("greenpoints.check")


async def keep_checking(resources: Resources, attempt: Callable[[Resources], Awaitable[Checked | None]] | None = None) -> None:
    """Check whenever the last check, by whichever worker or command, is older than the interval; for ever."""
    interval_s = resources.settings.check_interval_s
    look_s = min(LOOK_EVERY_S, interval_s / 4) if interval_s else LOOK_EVERY_S
    next_s = time.monotonic() + interval_s * random.uniform(*FIRST_AFTER)  # noqa: S311 - jitter
    while True:
        try:
            known = await store.last(resources.projection)
            if known is not None:
                store.show(known)
                age_s = (resources.clock.now() - known.at).total_seconds()
                next_s = max(next_s, time.monotonic() + interval_s - age_s)  # somebody else's check counts
            if interval_s and time.monotonic() >= next_s:
                await (attempt or check_once)(resources)
                next_s = time.monotonic() + interval_s
        except UNREACHABLE as error:
            log.warning("the invariants cannot be checked now; trying again", error=type(error).__name__)
        except Exception:
            log.exception("the check of the invariants failed; trying again")
            next_s = time.monotonic() + interval_s
        await asyncio.sleep(look_s)


async def check_once(resources: Resources) -> Checked | None:
    """Check every invariant, log what is broken, and remember it; None when another process is at it. Safe to repeat."""
    async with open_for_checking(resources.settings, connections=check_flow.CONNECTIONS + 2, name=WORKER_NAME) as (pool, projection):
        async with pool.acquire() as guard:  # giving it back to the pool gives the lock back, as its end does
            if not await try_check(guard):
                return None
            report = await check_flow.check(pool, projection)
            now = (await deployment.read(guard)).now
            await tell_of_everything(guard, report)
        found = store.summary(report, at=now)
        if found.broken:
            log.error("invariants are broken: run `greenpoints check`", rules=found.broken, took_s=found.took_s)
        else:
            log.info("every invariant holds", took_s=found.took_s)
        store.show(found)
        await store.remember(projection, found)
        return found

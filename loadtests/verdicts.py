"""How fast one judge gives verdicts: simulated traffic is credited by the API, waits, and is judged in this process."""

import asyncio
import gc
import os
import signal
import time
from datetime import datetime, timedelta, timezone
from typing import Final

import asyncpg
import httpx
from msgspec import Struct
from rich.console import Console
from rich.progress import Progress

from loadtests.fraud.live import founding, sending
from loadtests.traffic.simulation import Traffic
from service.cli.servers import environment
from service.flows.judge import Judges
from service.fraud_memory import Memory
from service.local.temporary import TemporarySystem
from service.runtime import Resources, open_resources
from service.settings import load_settings
from workers.run import GC_THRESHOLDS

EVENTS: Final = 50_000
DAYS: Final = 28
FIRST: Final = 1_000
"""Events that are judged beforehand, so that the judge remembers whatever came before."""
BODIES: Final = 2_000
READY_S: Final = 60.0
"""How long a judge that was paused in the middle may stand in the way."""


class Judged(Struct, frozen=True, kw_only=True):
    """How many events got a verdict, in how many seconds: by the clock, and of this process's own time on a core."""

    events: int
    wall_s: float
    process_s: float


async def judge_backlog(system: TemporarySystem, console: Console, *, events: int = EVENTS) -> Judged:
    """Make a backlog of about so many events and judge it. The workers are stopped. Raises SystemExit when nothing moves."""
    settings = load_settings(environment(system.environ))
    gc.set_threshold(*GC_THRESHOLDS)  # as a worker does
    world = Traffic(
        events=events + FIRST, days=DAYS, seed=1_000, start=(datetime.now(timezone(timedelta(hours=8))) - timedelta(DAYS)).date()
    )
    traffic = list(world)
    stations = [station for of_region in world.places.stations.values() for station in of_region]
    platforms = [platform.code for platform in world.population.platforms]
    operator = {"authorization": f"Bearer {system.up.operator.token}"}
    with httpx.Client(base_url=system.up.api, headers=operator, timeout=120) as client:
        keys = await asyncio.to_thread(founding.found, client, platforms, stations, founding.goods_of(traffic))
    for pid in system.up.pids.worker:
        os.kill(pid, signal.SIGSTOP)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("crediting what is to be judged", total=len(traffic))
        await sending.send(system.up.api, keys, traffic[:FIRST], window=BODIES, progress=progress, task=task)
        async with open_resources(settings) as resources:
            await resources.sync()
            memory = Memory(resources.projection.redis, epoch=resources.projection.epoch)
            judging = Judges(resources.pool, resources.knowledge, memory, mode="enforce", hash_key=resources.hash_key)
            await _until_none_waits(resources, judging)
            await sending.send(system.up.api, keys, traffic[FIRST:], window=BODIES, progress=progress, task=task)
            wall, process = time.perf_counter(), time.process_time()
            done = 0
            while more := await judging.judge_waiting():
                done += more
            return Judged(events=done, wall_s=time.perf_counter() - wall, process_s=time.process_time() - process)


async def _until_none_waits(resources: Resources, judging: Judges) -> None:
    """Judge what is there, whoever has left it; a lease that somebody holds runs out."""
    end = time.monotonic() + READY_S
    connection = await asyncpg.connect(resources.settings.database_url)
    try:
        while await connection.fetchval("SELECT EXISTS (SELECT FROM screening WHERE state = 0)"):
            if await judging.judge_waiting():
                end = time.monotonic() + READY_S
            elif time.monotonic() > end:
                raise SystemExit("bench: events wait for a verdict, and somebody holds the judge's lease")
            else:
                await asyncio.sleep(0.2)
    finally:
        await connection.close()

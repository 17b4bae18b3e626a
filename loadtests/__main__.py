"""`make bench`: start a system of its own, measure both sides of every ratio in the same run, print them, remove everything.

What each line means is in docs/benchmarks.md. Exit code 0: every bar was met, 1: one was not, 2: wrong usage.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import uvloop
from rich.console import Console
from rich.table import Table

from loadtests import expiring, verdicts
from loadtests.generator import Result, closed, open_loop, request
from loadtests.world import World
from service.cli.servers import environment
from service.flows.expire import expire_due
from service.flows.settle import settle_due
from service.local.ports import choose_port
from service.local.temporary import COMMAND_LINE, TemporarySystem, temporary_system
from service.runtime import open_resources
from service.settings import load_settings

CHECKOUT = Path(__file__).parents[1]
START_TIMEOUT_S = 20.0
NAIVE_WRITERS = 8
BULK = 500
LARGE_BULK = 5_000
LARGE_BODIES = 12
BEFORE_BODIES_S = 0.2
PARTS = ("credits", "balances", "latency", "redemptions", "settlement", "expiry", "assets", "verdicts")
CREDITS_BESIDE = 200
"""Single credits a second while lots expire."""
ASSETS = 1_000_000
GRAI = "04012345555554"
HOT, HOT_TIMEOUT_S = 500, 10.0
MOST_CREDITS, MOST_ECHOES = 15_000, 30_000
"""A second; a faster server ends a measurement early, and the rate is as good."""

console = Console(highlight=False)


class Bar:
    """One measured ratio or value and what it must reach."""

    def __init__(self, name: str, left: str, right: str, value: float, bar: str, *, met: bool) -> None:
        self.name, self.left, self.right, self.value, self.bar, self.met = name, left, right, value, bar, met


def shown(name: str, left: str, right: str, value: float, bar: str, *, met: bool) -> Bar:
    """Say what was measured."""
    console.print(f"{'ok ' if met else 'LOW'} {name}: {left} against {right} → {value:.2f} (bar {bar})")
    return Bar(name, left, right, value, bar, met=met)


@contextlib.contextmanager
def process(*words: str, **environ: str) -> Iterator[None]:
    """A server beside the system, ended by its handle."""
    with subprocess.Popen([sys.executable, "-m", *words], cwd=CHECKOUT, env=os.environ | environ) as running:
        try:
            yield
        finally:
            running.terminate()


async def until_listening(port: int) -> None:
    """Wait until somebody accepts connections there."""
    end = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


async def alternate(sides: dict[str, Callable[[], Awaitable[Result]]], rounds: int) -> dict[str, float]:
    """Run the sides in turn, and again; the median rate of each."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            result = await side()
            _only_successes(name, result)
            rates[name].append(result.rate)
    return {name: statistics.median(values) for name, values in rates.items()}


def _only_successes(name: str, result: Result) -> None:
    bad = {status: count for status, count in result.statuses.items() if status not in (200, 201)}
    if bad:
        raise SystemExit(f"bench: {name} was answered {bad}: a rate of errors means nothing")


class Bench:
    """The measurements, on one running system."""

    def __init__(self, system: TemporarySystem, world: World, *, seconds: float, rounds: int) -> None:
        self.system, self.world, self.seconds, self.rounds = system, world, seconds, rounds
        self.port = int(system.up.api.rsplit(":", 1)[1])
        self.baseline_port = choose_port()
        self.naive_port = choose_port()
        self.key = world.key
        self.bars: list[Bar] = []
        self.single_rate = 0.0

    def single(self, port: int, connections: int) -> Callable[[], Awaitable[Result]]:
        """Single credits, each with an id of its own."""
        return lambda: closed(port, self._events("/v1/events", MOST_CREDITS), connections=connections, seconds=self.seconds)

    def echo(self, connections: int) -> Callable[[], Awaitable[Result]]:
        """The same bodies to the bare echo route."""
        return lambda: closed(self.baseline_port, self._events("/echo", MOST_ECHOES), connections=connections, seconds=self.seconds)

    def _events(self, path: str, most: float) -> list[bytes]:
        """Made beforehand, as many as may be answered: making them in between would take the servers' time."""
        return [request("POST", path, token=self.key, body=self.world.event()) for _ in range(int(most * self.seconds))]

    def _bodies(self, size: int, count: int) -> list[bytes]:
        """Bodies of that many events, made beforehand, too."""
        return [request("POST", "/v1/events/batch", token=self.key, body=self.world.batch(size)) for _ in range(count)]

    async def credits(self) -> None:
        """Single credits against echo and against one transaction per request; bulk against single."""
        for connections in (256, 64):
            rates = await alternate({"echo": self.echo(connections), "single": self.single(self.port, connections)}, self.rounds)
            ratio = rates["single"] / rates["echo"]
            self.single_rate = self.single_rate or rates["single"]
            self._bar(
                f"single credits, {connections} connections", f"{rates['single']:,.0f}/s", f"echo {rates['echo']:,.0f}/s", ratio,
                "≥ 0.5" if connections == 256 else "shown", met=ratio >= 0.5 or connections != 256,
            )  # fmt: skip
        rates = await alternate({"naive": self.single(self.naive_port, 64), "grouped": self.single(self.port, 256)}, self.rounds)
        ratio = rates["grouped"] / rates["naive"]
        self._bar(
            "group commit",
            f"{rates['grouped']:,.0f}/s",
            f"one transaction per request {rates['naive']:,.0f}/s",
            ratio,
            "≥ 4",
            met=ratio >= 4,
        )

        async def bulk() -> Result:
            bodies = self._bodies(BULK, int(MOST_CREDITS / BULK * self.seconds))
            return await closed(self.port, bodies, connections=4, seconds=self.seconds)

        rates = await alternate({"single": self.single(self.port, 256), "bulk": bulk}, self.rounds)
        ratio = rates["bulk"] * BULK / rates["single"]
        self._bar(
            f"bodies of {BULK}",
            f"{rates['bulk'] * BULK:,.0f} events/s",
            f"single {rates['single']:,.0f}/s",
            ratio,
            "≥ 2.5",
            met=ratio >= 2.5,
        )

    async def redemptions(self) -> None:
        """Points spent at once by distinct consumers against single credits; then all by one and the same."""
        self.world.fund(100_000)

        def spending(consumer: int | None, most: int) -> list[bytes]:
            made = [self.world.redemption(consumer) for _ in range(most)]
            return [request("POST", "/v1/redemptions", token=self.key, body=body, key=key) for key, body in made]

        async def spend() -> Result:
            return await closed(self.port, spending(None, int(MOST_CREDITS * self.seconds)), connections=256, seconds=self.seconds)

        rates = await alternate({"single": self.single(self.port, 256), "redemptions": spend}, self.rounds)
        ratio = rates["redemptions"] / rates["single"]
        self._bar(
            "redemptions of distinct consumers", f"{rates['redemptions']:,.0f}/s", f"single {rates['single']:,.0f}/s", ratio, "≥ 0.5",
            met=ratio >= 0.5,
        )  # fmt: skip
        hot = await closed(self.port, spending(7, HOT), connections=HOT, seconds=HOT_TIMEOUT_S)
        _only_successes("redemptions of one consumer", hot)
        done = len(hot.latencies_s)
        self._bar(
            f"{HOT} redemptions of one consumer at once", f"{done} done", f"slowest {hot.percentile_ms(1.0):,.0f} ms", done, f"= {HOT}",
            met=done == HOT,
        )  # fmt: skip

    async def balances(self) -> None:
        """The balance by JWT against a bare route that answers JSON."""
        token = self.world.consumer_token(self.system)
        mine = request("GET", "/v1/me/balance", token=token)
        bare = request("GET", "/json", token=token)
        rates = await alternate(
            {
                "bare": lambda: closed(self.baseline_port, iter(lambda: bare, None), connections=64, seconds=self.seconds),
                "balance": lambda: closed(self.port, iter(lambda: mine, None), connections=64, seconds=self.seconds),
            },
            self.rounds,
        )
        ratio = rates["balance"] / rates["bare"]
        self._bar("balance by JWT", f"{rates['balance']:,.0f}/s", f"bare JSON {rates['bare']:,.0f}/s", ratio, "≥ 0.5", met=ratio >= 0.5)

    async def latency(self) -> None:
        """Single credits at half their rate, alone and while bodies of 5,000 arrive one after the other."""
        if not self.single_rate:
            self.single_rate = (await self.single(self.port, 256)()).rate
        rate = self.single_rate / 2
        found: dict[bool, list[Result]] = {False: [], True: []}
        for _ in range(self.rounds):
            for busy, results in found.items():
                requests = self._events("/v1/events", rate * 2)
                bodies = self._bodies(LARGE_BULK, LARGE_BODIES if busy else 0)
                bulk = asyncio.create_task(self._beside(bodies)) if busy else None
                results.append(await open_loop(self.port, requests, rate=rate, seconds=self.seconds * 2))
                _only_successes("half load", results[-1])
                if bulk is not None:
                    _only_successes("bodies beside half load", await bulk)
        for busy, results in found.items():
            p50, p99 = (statistics.median(result.percentile_ms(share) for result in results) for share in (0.5, 0.99))
            name = "p99 at half load" + (f" while bodies of {LARGE_BULK:,} arrive" if busy else "")
            self._bar(name, f"p99 {p99:.1f} ms, p50 {p50:.1f} ms", f"offered {rate:,.0f}/s", p99, "≤ 50 ms", met=p99 <= 50)

    async def _beside(self, bodies: list[bytes]) -> Result:
        """Send them one after the other, once the single credits are on their way."""
        await asyncio.sleep(BEFORE_BODIES_S)
        return await closed(self.port, bodies, connections=1, seconds=self.seconds * 2 - BEFORE_BODIES_S)

    async def settlement(self) -> None:
        """Settle what the other measurements have credited, with the worker's own flow in one process."""
        settings = load_settings(environment(self.system.environ))
        async with open_resources(settings) as resources:
            waiting = await _make_due(settings.database_url)
            start = time.perf_counter()
            done = 0
            while done < waiting:
                done += await settle_due(
                    resources.pool,
                    resources.projection,
                    stripe=1,
                    buckets=settings.settle_buckets,
                    batch_events=settings.settle_batch_events,
                )
            rate = waiting / (time.perf_counter() - start)
        self._bar("settlement", f"{rate:,.0f} events/s", f"{waiting:,} events", rate, "≥ 10,000", met=rate >= 10_000)

    async def expiry(self) -> None:
        """Expire a million lots, with the worker's own flow in one process, while single credits to the same consumers go on."""
        settings = load_settings(environment(self.system.environ))
        connection = await asyncpg.connect(settings.database_url)
        try:
            lots = await expiring.give(connection, campaign="bench-purchase")
        finally:
            await connection.close()
        async with open_resources(settings) as resources:
            start = time.perf_counter()
            work = asyncio.create_task(
                expire_due(
                    resources.pool, resources.projection, stripe=1, buckets=settings.settle_buckets, batch_lots=settings.expiry_batch_lots
                )
            )
            beside: list[Result] = []
            while not work.done():
                requests = self._events("/v1/events", CREDITS_BESIDE)
                beside.append(await open_loop(self.port, requests, rate=CREDITS_BESIDE, seconds=self.seconds))
            done = await work
            took_s = time.perf_counter() - start
        if done != lots:
            raise SystemExit(f"bench: {done:,} of {lots:,} lots expired")
        self._bar("expiry", f"{took_s:,.0f} s", f"{lots:,} lots, {lots / took_s:,.0f}/s", took_s, "≤ 120 s", met=took_s <= 120)
        longest = max(result.percentile_ms(1) for result in beside)
        p99 = statistics.median(result.percentile_ms(0.99) for result in beside)
        refused = sum(count for result in beside for status, count in result.statuses.items() if status != 201)
        self._bar(
            "longest credit while lots expire", f"{longest:.0f} ms, p99 {p99:.0f} ms, {refused} refused", f"offered {CREDITS_BESIDE}/s",
            longest, "≤ 1,000 ms", met=longest <= 1_000 and not refused,
        )  # fmt: skip

    async def assets(self) -> None:
        """Register reusable packaging from a file, by the command that operators use."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "assets.csv"
            with file.open("w", encoding="ascii") as opened:
                opened.write("asset,class,max_trips\n")
                opened.writelines(f"{GRAI}{n},circular_box,20\n" for n in range(ASSETS))
            start = time.perf_counter()
            done = await asyncio.to_thread(
                subprocess.run, [*COMMAND_LINE, "import", "assets", str(file), "--json"],
                env=dict(self.system.environ), capture_output=True, text=True, check=False,
            )  # fmt: skip
            took_s = time.perf_counter() - start
        if done.returncode or json.loads(done.stdout)["created"] != ASSETS:
            raise SystemExit(f"bench: the import ended with {done.returncode}: {done.stdout}{done.stderr}")
        self._bar("import of assets", f"{ASSETS / took_s:,.0f} rows/s", f"{ASSETS:,} rows", took_s, "≤ 120 s", met=took_s <= 120)

    def _bar(self, name: str, left: str, right: str, value: float, bar: str, *, met: bool) -> None:
        self.bars.append(shown(name, left, right, value, bar, met=met))


async def _make_due(database_url: str) -> int:
    """End the hold of everything at once; the number of events that are due."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute(
                "UPDATE award SET due_at = now() - interval '1 second' WHERE (bucket, event) IN (SELECT bucket, event FROM due)"
            )
            await connection.execute("UPDATE due SET due_at = now() - interval '1 second'")
        count: int = await connection.fetchval("SELECT count(*) FROM due")
    finally:
        await connection.close()
    return count


async def measure(system: TemporarySystem, arguments: argparse.Namespace) -> list[Bar]:
    """All measurements."""
    if arguments.only == ["verdicts"]:  # it has a world of its own
        return await _verdicts(system)
    with World.made(system) as world:
        bench = Bench(system, world, seconds=arguments.seconds, rounds=arguments.rounds)
        naive = environment(system.environ) | {
            "GREENPOINTS_PORT": str(bench.naive_port), "GREENPOINTS_BATCH_EVENTS": "1", "GREENPOINTS_BATCH_WAIT_MS": "0",
            "GREENPOINTS_SINGLE_WRITERS": str(NAIVE_WRITERS), "GREENPOINTS_DATABASE_POOL": str(NAIVE_WRITERS + 6),
        }  # fmt: skip
        with process("loadtests.baseline", str(bench.baseline_port)), process("service.api", **naive):
            await until_listening(bench.baseline_port)
            await until_listening(bench.naive_port)
            for name in arguments.only or ("credits", "balances", "latency", "redemptions"):
                if name not in ("settlement", "expiry", "assets", "verdicts"):
                    await getattr(bench, name)()
        if not arguments.only or "settlement" in arguments.only:
            world.stop_worker()
            await bench.settlement()
        if not arguments.only or "expiry" in arguments.only:
            world.stop_worker()
            await bench.expiry()
        if not arguments.only or "assets" in arguments.only:
            await bench.assets()
        if not arguments.only or "verdicts" in arguments.only:
            bench.bars += await _verdicts(system)
        return bench.bars


async def _verdicts(system: TemporarySystem) -> list[Bar]:
    """Give verdicts on simulated traffic with one judge, in one process. Ends all campaigns."""
    judged = await verdicts.judge_backlog(system, console)
    by_clock, of_core = judged.events / judged.wall_s, judged.events / judged.process_s
    return [
        shown(
            "verdicts", f"{of_core:,.0f} events/s of the judge's core", f"{by_clock:,.0f} events/s by the clock, {judged.events:,} events",
            of_core, "≥ 5,000", met=of_core >= 5_000,
        )
    ]  # fmt: skip


def main() -> int:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(prog="greenpoints bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one side of one round (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; sides alternate, medians count (default %(default)s)")
    parser.add_argument("--only", action="append", choices=PARTS, help="only this part")
    parser.add_argument("--consumer-limit", type=int, default=0, help="requests a minute that a consumer may make (default: no limit)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON on stdout, too")
    arguments = parser.parse_args()
    with temporary_system(console, LIMIT_CONSUMER_PER_MIN=str(arguments.consumer_limit)) as system:
        bars = uvloop.run(measure(system, arguments))
    table = Table("measurement", "measured", "against", "value", "bar", "", title="greenpoints bench")
    for bar in bars:
        table.add_row(bar.name, bar.left, bar.right, f"{bar.value:.2f}", bar.bar, "met" if bar.met else "NOT MET")
    console.print(table)
    if arguments.json:
        results: list[dict[str, Any]] = [vars(bar) for bar in bars]
        print(json.dumps(results))
    return 0 if all(bar.met for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())

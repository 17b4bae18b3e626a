"""`python -m loadtests.fraud.live`: simulated traffic through the API of a system of its own, judged by its workers. docs/fraud-live.md.

Exit code 0: every bar was met, 1: one was not, 2: wrong usage. Nothing is left afterwards.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from loadtests.fraud.__main__ import TUNING_SEEDS
from loadtests.fraud.evaluate import run
from loadtests.fraud.live import comparing, founding, reading, scoring, sending
from loadtests.fraud.report import BARS, figures, show
from loadtests.traffic.format import Label, Sent
from loadtests.traffic.simulation import Traffic
from service.cli.servers import environment
from service.domain.fraud.model import Model
from service.local.temporary import TemporarySystem, temporary_system
from service.settings import load_settings

MAX_DAYS: Final = 29
"""Stations report what happened within 30 days: an older return is refused."""
_CHINA: Final = timezone(timedelta(hours=8))
_COLUMNS: Final = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code."""
    wanted = _parser().parse_args(arguments)
    console = Console(stderr=True, highlight=False)
    if (
        wanted.seed in TUNING_SEEDS
        or not 1 <= wanted.days <= MAX_DAYS
        or min(wanted.events, wanted.window) < 1
        or not 0 <= wanted.fraud < 1
    ):
        console.print(f"seeds are 1000 and above, days 1 to {MAX_DAYS}, events and window above 0, fraud from 0 to below 1")
        return 2
    start = (datetime.now(_CHINA) - timedelta(days=wanted.days)).date()
    world = Traffic(events=wanted.events, days=wanted.days, seed=wanted.seed, fraud=wanted.fraud, start=start)
    with console.status("simulating"):
        traffic = list(world)
    with temporary_system(console, FRAUD_MODE=wanted.mode) as system:
        result = asyncio.run(_live(system, world, traffic, wanted, console))
    if wanted.out is not None:
        wanted.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if result["met"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtests.fraud.live", description=__doc__)
    parser.add_argument("--events", type=int, default=20_000, help="about how many")
    parser.add_argument("--seed", type=int, default=1_000, help="1000 and above: not tuned on")
    parser.add_argument("--days", type=int, default=28, help="that end today; the API takes returns at stations of 30 days")
    parser.add_argument("--fraud", type=float, default=0.01, help="share of fraudulent points")
    parser.add_argument("--mode", choices=("enforce", "shadow"), default="enforce")
    parser.add_argument("--compare", action="store_true", help="judge the same traffic in this process, too, and say what is different")
    parser.add_argument(
        "--window", type=int, default=sending.WINDOW, help="events under way at a time: how far platforms overtake one another"
    )
    parser.add_argument("--out", type=Path, help="figures as JSON")
    return parser


async def _live(
    system: TemporarySystem, world: Traffic, traffic: Sequence[tuple[Sent, Label]], wanted: argparse.Namespace, console: Console
) -> dict[str, Any]:
    database_url = load_settings(environment(system.environ)).database_url
    with console.status("registering goods, stations and boxes"):
        keys = await asyncio.to_thread(_found, system, world, traffic)
    with Progress(*_COLUMNS, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("sent", total=len(traffic))
        answers = await sending.send(system.up.api, keys, traffic, window=wanted.window, progress=progress, task=task)
        await sending.until_judged(database_url, progress, progress.add_task("judged", total=None))
    with console.status("reading what became of them"):
        now, told = await reading.statuses(system.up.api, keys), await reading.verdicts(database_url)
        failed = await reading.failed_checks(database_url)
    live = scoring.score(traffic, answers, now, told, enforced=wanted.mode == "enforce")
    found = scoring.live_figures(live)
    _show(Console(highlight=False), f"seed {wanted.seed}, live, {wanted.mode}", found, live)
    met = all(found[name] >= bar if least else found[name] <= bar for name, (bar, least) in BARS.items() if name in found)
    if failed:
        console.print("checks that failed:", failed)
    result: dict[str, Any] = {"live": found, "failed_checks": failed, "refused": msgspec.to_builtins(live.refused)}
    result["met"] = met and not live.contradictions and not live.without_verdict
    if wanted.compare:
        result["pure"] = figures(run(traffic, Model()))
        show(Console(highlight=False), f"seed {wanted.seed}, in one process, by nominal points", result["pure"])
        differences = comparing.compare(traffic, told)
        result["differences"] = msgspec.to_builtins(differences)
        comparing.show(Console(highlight=False), differences)
    return result


def _found(system: TemporarySystem, world: Traffic, traffic: Sequence[tuple[Sent, Label]]) -> dict[str, str]:
    operator = {"authorization": f"Bearer {system.up.operator.token}"}
    stations = [station for of_region in world.places.stations.values() for station in of_region]
    platforms = [platform.code for platform in world.population.platforms]
    with httpx.Client(base_url=system.up.api, headers=operator, timeout=120) as client:
        return founding.found(client, platforms, stations, founding.goods_of(traffic))


def _show(console: Console, title: str, found: dict[str, Any], live: scoring.Live) -> None:
    show(console, title, found)
    table = Table("refused", "honest events", "points", "fraudulent events", "points", title="earned nothing, by what the API said")
    for why, n in sorted(live.refused.items(), key=lambda item: -item[1].fraud_points - item[1].honest_points):
        table.add_row(why, f"{n.honest:,}", f"{n.honest_points:,}", f"{n.fraud:,}", f"{n.fraud_points:,}")
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())

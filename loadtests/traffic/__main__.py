"""`python -m loadtests.traffic --out DIR`: write a simulated period as events.ndjson and labels.ndjson. See docs/fraud-traffic.md."""

import argparse
import gc
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from loadtests.traffic.patterns import PATTERNS
from loadtests.traffic.simulation import Traffic

_REPORT_EVERY = 2_000
"""Lines between two updates of the bar."""


def main() -> int:
    """Exit code 0: both files are complete; 2: wrong usage."""
    options = _options()
    try:
        traffic = Traffic(
            events=options.events, days=options.days, seed=options.seed, fraud=options.fraud, patterns=options.patterns,
            without=options.without,
        )  # fmt: skip
    except ValueError as error:
        print(f"traffic: {error}", file=sys.stderr)
        return 2
    # A third of the time would go into looking for cycles; what a line needs has none.
    gc.disable()
    options.out.mkdir(parents=True, exist_ok=True)
    write(traffic, options.out, about=options.events)
    return 0


def write(traffic: Traffic, folder: Path, *, about: int) -> int:
    """Write events.ndjson and labels.ndjson into `folder`, in place of those there; how many lines each has. `about`: the bar's end."""
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    encode, lines, honest, fraudulent = msgspec.json.Encoder().encode, 0, 0, 0
    with (
        (folder / "events.ndjson").open("wb", buffering=2**20) as events,
        (folder / "labels.ndjson").open("wb", buffering=2**20) as labels,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("events", total=about)
        for sent, label in traffic:
            events.write(encode(sent) + b"\n")
            labels.write(encode(label) + b"\n")
            lines += 1
            if label.points > 0:
                honest, fraudulent = (honest + label.points, fraudulent) if label.pattern is None else (honest, fraudulent + label.points)
            if lines % _REPORT_EVERY == 0:
                progress.update(task, completed=lines, total=max(about, lines))
        progress.update(task, completed=lines, total=lines)
    share = fraudulent / max(1, honest + fraudulent)
    print(f"{lines:,} events, {honest + fraudulent:,} points, {share:.2%} of them fraudulent: {folder}")
    return lines


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.traffic", description="Simulated traffic of several platforms, with labels.")
    parser.add_argument("--out", type=Path, required=True, help="folder for events.ndjson and labels.ndjson")
    parser.add_argument("--events", type=int, default=1_000_000, help="about how many")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1, help="below 1000: to tune on; from 1000 on: to evaluate on")
    parser.add_argument("--fraud", type=float, default=0.01, help="share of fraudulent points in all that are earned")
    parser.add_argument("--patterns", type=_names, default=None, help=f"only these, of: {', '.join(PATTERNS)}")
    parser.add_argument("--without", type=_names, default=(), help="all but these")
    return parser.parse_args()


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


if __name__ == "__main__":
    sys.exit(main())

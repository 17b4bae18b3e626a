"""`python -m loadtests.fraud.growth`: what an event costs, and what the state takes, as history grows. Exit code 0: done, 2: wrong usage.

Judges the events of a made crowd (crowd.py), saves the state every few thousand of them as the worker does, and prints a row at each mark:
microseconds of a core for an event over the last 50,000 of them, judged and saved apart, and the memory. 5,000,000 events take long,
a quarter of an hour at 150 µs each with their making; `--snapshot` goes on where the last run with the same file ended.
"""

import argparse
import gc
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from rich.console import Console

from loadtests.fraud.crowd import Crowd
from service.domain.fraud.journal import Record
from service.domain.fraud.judging import Judging
from service.domain.fraud.model import Judge, Model
from service.domain.fraud.state import State
from workers.run import GC_THRESHOLDS

MARKS: Final = (100_000, 500_000, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000)
LAST: Final = 50_000
"""Events over which the pace at a mark is taken."""
SAVE_EVERY: Final = 5_000
"""Events: a second's at full pace. A quieter program saves fewer at a time, which costs the same for each."""
KEY: Final = b"growth"


class Saved(Struct):
    """A run to go on with: events so far, and the records of the state."""

    events: int
    records: list[tuple[bytes, bytes]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code."""
    wanted = _parser().parse_args(arguments)
    console = Console(highlight=False)
    if wanted.events < LAST or wanted.month < LAST:
        console.print(f"--events and --month are at least {LAST:,}")
        return 2
    gc.set_threshold(*GC_THRESHOLDS)  # as a worker does
    crowd, before = Crowd(wanted.month), _memory()
    start, state = _found(wanted.snapshot, console)
    judging, sizes = Judging(Judge(Model()), state, hash_key=KEY), dict[bytes, int]()
    _note(sizes, state.changed(everything=True))
    console.print(
        f"{'events':>9} {'µs judged':>10} {'µs saved':>9} {'keys':>10} {'MB':>7} {'bytes an event of 30 days':>26} {'MB snapshot':>12}"
    )
    marks = [mark for mark in {*MARKS, wanted.events} if start + LAST <= mark <= wanted.events]
    for mark in sorted(marks):
        _run(judging, crowd, start, mark - LAST, sizes)
        judged, saved = _run(judging, crowd, mark - LAST, mark, sizes)
        start, memory = mark, _memory() - before
        console.print(
            f"{mark:>9,} {judged / LAST * 1e6:>10.1f} {saved / LAST * 1e6:>9.1f} {state.windows.keys():>10,} {memory / 1e6:>7,.0f}"
            f" {memory / min(mark, wanted.month):>26,.0f} {sum(sizes.values()) / 1e6:>12,.0f}"
        )
    if wanted.snapshot is not None:
        records = [(key, value) for key, value in state.changed(everything=True) if value is not None]
        wanted.snapshot.write_bytes(msgspec.msgpack.encode(Saved(events=start, records=records)))
    return 0


def _run(judging: Judging, crowd: Crowd, start: int, end: int, sizes: dict[bytes, int]) -> tuple[float, float]:
    """Seconds of a core for judging the events from `start` to `end`, and for saving what that changed."""
    judged = saved = 0.0
    for first in range(start, end, SAVE_EVERY):
        made = list(crowd.events(first, min(end, first + SAVE_EVERY)))
        began = time.process_time()
        for event, facts in made:
            judging.judge_event(event, facts)
        then = time.process_time()
        records = judging.state.changed()
        judged, saved = judged + then - began, saved + time.process_time() - then
        _note(sizes, records)
    return judged, saved


def _note(sizes: dict[bytes, int], records: list[Record]) -> None:
    for key, value in records:
        if value is None:
            sizes.pop(key, None)
        else:
            sizes[key] = len(key) + len(value)


def _found(snapshot: Path | None, console: Console) -> tuple[int, State]:
    if snapshot is None or not snapshot.exists():
        return 0, State(tracked=True)
    began = time.process_time()
    saved = msgspec.msgpack.decode(snapshot.read_bytes(), type=Saved)
    state = State.restored(saved.records)
    console.print(f"went on after {saved.events:,} events: {time.process_time() - began:.1f} s to read their state")
    return saved.events, state


def _memory() -> int:
    """Bytes that are resident now (Linux), or were at most (elsewhere)."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtests.fraud.growth", description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=MARKS[-1], help="up to how many")
    parser.add_argument("--month", type=int, default=1_000_000, help="how many of them are a month's")
    parser.add_argument("--snapshot", type=Path, default=None, help="file to go on from, if it is there, and to write at the end")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Where the judge of a running system saw something else than the evaluation in one process does on the same traffic."""

from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from loadtests.fraud.live.reading import Key, Told
from loadtests.fraud.stream import observations
from loadtests.traffic.format import Label, Sent
from service.domain.fraud.model import Judge, Model
from service.domain.fraud.pipeline import Pipeline
from service.domain.fraud.signals import SIGNALS


class Differences(Struct):
    """Counts over the events that both have judged."""

    both: int = 0
    only_live: int = 0
    only_pure: int = 0
    points: int = 0
    """Other points."""
    strengths: int = 0
    """Any signal of another strength."""
    outcomes: int = 0
    held_live: int = 0
    held_pure: int = 0
    signals: Counter[str] = Counter()
    """Signal → events in which it has another strength."""
    examples: dict[str, list[str]] = {}
    """Signal → some of those events, with the strengths in quarters: pure→live."""


def compare(traffic: Iterable[tuple[Sent, Label]], told: Mapping[Key, Told], *, examples: int = 3) -> Differences:
    """Judge the traffic with the shipped model as loadtests.fraud does, and count what is different."""
    differences, pipeline = Differences(signals=Counter()), Pipeline(Judge(Model()))
    for o, label in observations(traffic):
        judged, live = pipeline.judge(o), told.get((label.platform, label.event))
        if not judged.strengths or live is None or live.outcome == 0:
            differences.only_pure += bool(judged.strengths)
            differences.only_live += not judged.strengths and live is not None and live.outcome != 0
            continue
        differences.both += 1
        differences.points += live.points != o.points
        held = judged.verdict.outcome != "pass", live.outcome in {2, 3, 4}
        differences.held_pure += held[0]
        differences.held_live += held[1]
        differences.outcomes += held[0] != held[1]
        other = False
        for signal, strength in zip(SIGNALS, judged.strengths, strict=True):
            quarters = round(4 * strength), live.strengths.get(signal.name, 0)
            if quarters[0] != quarters[1]:
                other = True
                differences.signals[signal.name] += 1
                shown = differences.examples.setdefault(signal.name, [])
                if len(shown) < examples:
                    shown.append(f"{label.platform}/{label.event} {o.type} {quarters[0]}→{quarters[1]}")
        differences.strengths += other
    return differences


def show(console: Console, d: Differences) -> None:
    """Print the counts, and the signals with an example of each."""
    console.print(
        f"judged by both: {d.both:,}, of them with other points {d.points:,}, with a signal of another strength {d.strengths:,}, with "
        f"another outcome {d.outcomes:,} (held {d.held_live:,} here, {d.held_pure:,} in one process); judged only here "
        f"{d.only_live:,}, only in one process {d.only_pure:,}"
    )
    table = Table("signal", "other strength", "for example, in quarters: one process→here", title="signals of another strength")
    for name, n in d.signals.most_common():
        table.add_row(name, f"{n:,}", d.examples[name][0])
    console.print(table)

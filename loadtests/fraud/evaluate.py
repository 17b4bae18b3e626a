"""One run over labelled traffic: what was held, what was lost, when rings were found."""

import time
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from loadtests.fraud.stream import observations
from loadtests.traffic.format import Label, Sent
from service.domain.fraud.model import Judge, Model, Verdict
from service.domain.fraud.pipeline import Pipeline
from service.domain.fraud.tuning import Row

PACE_EVERY: Final = 50_000
"""Events between two readings of the pace: shows whether an event costs more as history grows."""


class RingRun(Struct):
    """One attempt: points it tried to earn, those credited, those credited until its first hold."""

    pattern: str
    started: float
    tried: int = 0
    credited: int = 0
    before_found: int = 0
    found: float | None = None
    accounts: dict[str, int | None] = {}
    """Account → points credited to the ring when it was first held; None: not held."""


class Run(Struct):
    """Sums of a run. Only events that earn are judged. Histograms are by score in basis points: events and points."""

    events: int = 0
    honest_events: int = 0
    honest_points: int = 0
    honest_held: int = 0
    honest_points_held: int = 0
    fraud_events: int = 0
    fraud_points: int = 0
    fraud_held: int = 0
    fraud_points_held: int = 0
    by_score: dict[int, list[int]] = {}
    """Score → honest points, fraudulent points."""
    rings: dict[str, RingRun] = {}
    fired_on_honest: dict[int, int] = {}
    """Signal → honest events held with it among the reasons."""
    seconds: float = 0
    """Of a core in the checks, without making and decoding traffic."""
    paces: list[tuple[int, float]] = []
    """Events so far, and events a second over the last PACE_EVERY."""


def run(traffic: Iterable[tuple[Sent, Label]], model: Model, *, rows: list[tuple[str | None, Row]] | None = None) -> Run:
    """Judge traffic in order of arrival. `rows` takes what may be tuned on, each with its pattern."""
    result, pipeline = Run(), Pipeline(Judge(model))
    clock, since = time.process_time, 0.0
    for o, label in observations(traffic):
        began = clock()
        judged = pipeline.judge(o)
        result.seconds += clock() - began
        result.events += 1
        if result.events % PACE_EVERY == 0:
            result.paces.append((result.events, PACE_EVERY / (result.seconds - since)))
            since = result.seconds
        if label.points <= 0:
            continue
        count(result, judged.verdict, label, at=o.at + o.delay_s)
        if rows is not None:
            rows.append((label.pattern, Row(strengths=judged.strengths, fraud=label.pattern is not None, points=label.points)))
    return result


def count(result: Run, verdict: Verdict, label: Label, *, at: float) -> None:
    """Add a judged event to the sums. `at`: when it arrived, seconds since 1970; its value are the label's points."""
    held, points = verdict.outcome != "pass", label.points
    sums = result.by_score.setdefault(verdict.score_bp, [0, 0])
    sums[label.pattern is not None] += points
    if label.pattern is None:
        result.honest_events += 1
        result.honest_points += points
        if held:
            result.honest_held += 1
            result.honest_points_held += points
            for signal, _ in verdict.fired[:3]:
                result.fired_on_honest[signal] = result.fired_on_honest.get(signal, 0) + 1
        return
    result.fraud_events += 1
    result.fraud_points += points
    if held:
        result.fraud_held += 1
        result.fraud_points_held += points
    _follow(result, label, held=held, at=at)


def _follow(result: Run, label: Label, *, held: bool, at: float) -> None:
    ring = result.rings.setdefault(label.ring or f"{label.pattern}?", RingRun(pattern=label.pattern or "", started=at))
    ring.tried += label.points
    who = f"{label.platform}/{label.consumer}"
    ring.accounts.setdefault(who, None)
    if not held:
        ring.credited += label.points
        if ring.found is None:
            ring.before_found += label.points
        return
    if ring.found is None:
        ring.found = at
    if ring.accounts[who] is None:
        ring.accounts[who] = ring.credited


def before_half(ring: RingRun) -> int:
    """Points credited to a ring until half of its accounts had been held once; all that it was credited, if that never came."""
    when = sorted(value for value in ring.accounts.values() if value is not None)
    need = (len(ring.accounts) + 1) // 2
    return when[need - 1] if len(when) >= need else ring.credited


def pr_auc(result: Run) -> float:
    """Area under precision over recall, both by points: Σ precision × increase of recall, from the highest score down."""
    area = caught = wrong = 0.0
    for score in sorted(result.by_score, reverse=True):
        honest, fraud = result.by_score[score]
        caught, wrong = caught + fraud, wrong + honest
        if fraud:
            area += caught / (caught + wrong) * fraud / max(1, result.fraud_points)
    return area


def at_precision(result: Run, precision: float) -> float:
    """The best recall (by points) that any threshold reaches at this precision: what the score could do, were its threshold perfect."""
    best = caught = wrong = 0.0
    for score in sorted(result.by_score, reverse=True):
        honest, fraud = result.by_score[score]
        caught, wrong = caught + fraud, wrong + honest
        if caught >= precision * (caught + wrong):
            best = caught / max(1, result.fraud_points)
    return best

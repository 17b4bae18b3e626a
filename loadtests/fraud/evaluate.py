"""One run over labelled traffic: what was held on arrival, before it settled, or named too late; what was lost; when rings were found."""

import time
from collections import deque
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from loadtests.fraud.stream import observations
from loadtests.traffic.format import Label, Sent
from service.domain.fraud.history import Again
from service.domain.fraud.model import Judge, Model
from service.domain.fraud.pipeline import Judged, Pipeline
from service.domain.fraud.records import PAST_S, SUMMED
from service.domain.fraud.tuning import Row
from service.domain.fraud.windows import DAY

PACE_EVERY: Final = 50_000
"""Events between two readings of the pace: shows whether an event costs more as history grows."""


class Holds(Struct, frozen=True, kw_only=True):
    """Days from an event's arrival until it settles, as usual campaigns have it: P14D for purchases, a day for the rest."""

    order: float = 14
    other: float = 1


class RingRun(Struct):
    """One attempt: its events and when its accounts were first held. Points that are held before they settle were not credited."""

    pattern: str
    started: float
    events: dict[int, tuple[float, int]] = {}
    """Event that was not held in time → when it arrived, points."""
    tried: int = 0
    accounts: dict[str, float | None] = {}
    """Account → when one of its events was first held; None: never."""

    @property
    def found(self) -> float | None:
        """When it was first held."""
        return min((at for at in self.accounts.values() if at is not None), default=None)

    @property
    def half_found(self) -> float | None:
        """When half of its accounts had been held once."""
        when = sorted(at for at in self.accounts.values() if at is not None)
        need = (len(self.accounts) + 1) // 2
        return when[need - 1] if len(when) >= need else None

    def credited(self, until: float | None = None) -> int:
        """Points of events that arrived until then (None: ever) and were not held before they settled."""
        return sum(points for at, points in self.events.values() if until is None or at <= until)


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
    """Held before they settled, on arrival or later: the main figure."""
    fraud_points_arrival: int = 0
    honest_points_arrival: int = 0
    fraud_points_late: int = 0
    """Named only after they had settled: for a case to claw back."""
    honest_points_late: int = 0
    by_score: dict[int, list[int]] = {}
    """Highest score before it settled → honest points, fraudulent points."""
    rings: dict[str, RingRun] = {}
    fired_on_honest: dict[int, int] = {}
    """Signal → honest events held with it among the reasons."""
    seconds: float = 0
    """Of a core in the checks, without making and decoding traffic."""
    paces: list[tuple[int, float]] = []
    """Events so far, and events a second over the last PACE_EVERY."""


class _Fate(Struct):
    """An event that earns, until it can no longer be judged again."""

    label: Label
    kind: int
    at: float
    """When it arrived."""
    settles: float
    strengths: tuple[float, ...]
    score: int
    held: bool


def run(
    traffic: Iterable[tuple[Sent, Label]], model: Model, *, rows: list[tuple[str | None, Row]] | None = None, world: int = 0,
    holds: Holds | None = None,
) -> Run:  # fmt: skip
    """Judge traffic in order of arrival. `rows` takes what may be tuned on, each with its pattern: as judged last before it settled.

    With `rows` every second look is looked at, not only those that hold.
    """
    fates = _Fates(Run(), model, holds or Holds(), rows, world)
    result, pipeline = fates.result, Pipeline(Judge(model), report_all=rows is not None)
    clock, since = time.process_time, 0.0
    for o, label in observations(traffic):
        began = clock()
        judged = pipeline.judge(o)
        result.seconds += clock() - began
        result.events += 1
        if result.events % PACE_EVERY == 0:
            result.paces.append((result.events, PACE_EVERY / (result.seconds - since)))
            since = result.seconds
        if label.points > 0:
            fates.arrived(o.number, judged, label, now=o.at + o.delay_s)
        for again in judged.again:
            fates.again(again, now=o.at + o.delay_s)
    fates.finish()
    return result


class _Fates:
    """What becomes of each event."""

    def __init__(self, result: Run, model: Model, holds: Holds, rows: list[tuple[str | None, Row]] | None, world: int) -> None:
        self._world = world
        self.result, self._hold_bp, self._holds, self._rows = result, model.hold_bp, holds, rows
        self._open: dict[int, _Fate] = {}
        self._queue: deque[tuple[float, int]] = deque()

    def arrived(self, number: int, judged: Judged, label: Label, *, now: float) -> None:
        kind = judged.kind
        settles = now + DAY * (self._holds.order if kind % SUMMED == 0 else self._holds.other)
        held = judged.verdict.score_bp >= self._hold_bp
        fate = _Fate(label, kind, now, settles, judged.strengths if self._rows is not None else (), judged.verdict.score_bp, held)
        ring = self._ring(label, now)
        if ring is not None:
            ring.tried += label.points
            ring.events[number] = (now, label.points)
            ring.accounts.setdefault(_who(label))
        if held:
            self._hold(number, fate, judged.verdict.fired, now)
            if ring is None:
                self.result.honest_points_arrival += label.points
            else:
                self.result.fraud_points_arrival += label.points
        self._open[number] = fate
        self._queue.append((now, number))
        while self._queue and self._queue[0][0] < now - PAST_S - DAY:
            self._close(self._open.pop(self._queue.popleft()[1]))

    def again(self, again: Again, *, now: float) -> None:
        fate = self._open.get(again.number)
        if fate is None:
            return
        label, score = fate.label, again.verdict.score_bp
        held = not fate.held and score >= self._hold_bp
        if now <= fate.settles:
            fate.score, fate.strengths = max(fate.score, score), again.strengths
            if held:
                self._hold(again.number, fate, again.verdict.fired, now)
        elif held:
            fate.held = True
            if label.pattern is None:
                self.result.honest_points_late += label.points
            else:
                self.result.fraud_points_late += label.points

    def finish(self) -> None:
        for fate in self._open.values():
            self._close(fate)

    def _hold(self, number: int, fate: _Fate, fired: tuple[tuple[int, float], ...], now: float) -> None:
        result, label = self.result, fate.label
        fate.held = True
        if label.pattern is None:
            result.honest_held += 1
            result.honest_points_held += label.points
            for signal, _ in fired[:3]:
                result.fired_on_honest[signal] = result.fired_on_honest.get(signal, 0) + 1
            return
        result.fraud_held += 1
        result.fraud_points_held += label.points
        ring = self._ring(label, fate.at)
        if ring is not None:
            del ring.events[number]
            if ring.accounts[_who(label)] is None:
                ring.accounts[_who(label)] = now

    def _close(self, fate: _Fate) -> None:
        result, label = self.result, fate.label
        fraud, points = label.pattern is not None, label.points
        result.by_score.setdefault(fate.score, [0, 0])[fraud] += points
        if fraud:
            result.fraud_events += 1
            result.fraud_points += points
        else:
            result.honest_events += 1
            result.honest_points += points
        if self._rows is not None:
            self._rows.append((label.pattern, Row(strengths=fate.strengths, kind=fate.kind, fraud=fraud, points=points, world=self._world)))

    def _ring(self, label: Label, at: float) -> RingRun | None:
        """The ring of a label, from its first event on."""
        if label.pattern is None:
            return None
        name = label.ring or f"{label.pattern}?"
        ring = self.result.rings.get(name)
        if ring is None:
            ring = self.result.rings[name] = RingRun(pattern=label.pattern, started=at)
        return ring


def _who(label: Label) -> str:
    return f"{label.platform}/{label.consumer}"


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

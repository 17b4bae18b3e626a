"""Score and decision: a transparent sum of what signals say, as log-odds."""

from collections.abc import Mapping, Sequence
from itertools import compress
from math import exp
from typing import Final, Literal

from msgspec import Struct, field

from service.domain.fraud.features import Features
from service.domain.fraud.records import KINDS
from service.domain.fraud.shipped import HOLD_BP, INTERCEPT, KIND_PRIORS, SHAPES, WEIGHTS
from service.domain.fraud.signals import SIGNALS, Group, Signal, explain

Outcome = Literal["pass", "hold", "reject"]
BASIS: Final = 10_000
GROUPS: Final[tuple[Group, ...]] = ("effort", "linkage", "economics", "evidence", "place-and-time", "history")
HISTORY: Final = GROUPS.index("history")
_GROUP_OF: Final = tuple(GROUPS.index(signal.group) for signal in SIGNALS)
_ALL: Final = range(len(SIGNALS))
CAPS: Final[Mapping[str, float]] = {
    "effort": 6, "linkage": 6, "economics": 6, "evidence": 12, "place-and-time": 4.5, "history": 8,
}  # fmt: skip
"""Only evidence may convict alone: a serial that was used twice is proof. History least of all: what is held
must be odd itself."""
LEVELS: Final = 4
"""Strengths above 0: quarters."""
EVEN: Final = (0.25, 0.5, 0.75, 1.0)
"""The shape of a signal that nobody has measured: each quarter adds as much."""
MAX_REASONS: Final = 8
_LEAST_REASON: Final = 0.2
"""Log-odds: what adds less changed nothing."""


class Model(Struct, frozen=True, kw_only=True):
    """A version of weights and thresholds of one program. Logarithms of odds are natural."""

    version: int = 0
    intercept: float = INTERCEPT
    """Log-odds of fraud of an order where no signal fires."""
    weights: Mapping[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    """By signal, at full strength, for the kind of event for which that says most; one that is missing has its hand-made weight. Negative
    ones count as 0."""
    shapes: Mapping[str, Mapping[str, tuple[float, float, float, float]]] = field(default_factory=lambda: dict(SHAPES))
    """By signal and kind of event: which share of the weight each quarter of strength has, never less than the one before; EVEN where
    none is given. What is odd for an order may be usual for a return."""
    caps: Mapping[str, float] = field(default_factory=lambda: dict(CAPS))
    """Most log-odds of a group: one kind of evidence alone does not convict, unless it is proof."""
    kinds: Mapping[str, float] = field(default_factory=lambda: dict(KIND_PRIORS))
    """Log-odds beside the intercept for an `order`, a `return`, an `activity`, a `large order` (records.KINDS)."""
    off: frozenset[str] = frozenset()
    """Signals that are switched off."""
    hold_bp: int = HOLD_BP
    """Probability in basis points from which an event is held."""
    reject_bp: int = 10_001
    """… rejected; above 10,000: never without a person."""


class Reason(Struct, frozen=True, kw_only=True, gc=False):
    """What a signal added. `bp` is its share of all log-odds that were added."""

    signal: str
    strength: float
    bp: int
    says: str
    softly: str


class Verdict(Struct, frozen=True, kw_only=True, gc=False):
    """`score_bp`: probability of fraud; `own`: what the event raised by itself (nats), without the intercept and without history."""

    outcome: Outcome
    score_bp: int
    own: float
    model: int
    fired: tuple[tuple[int, float], ...] = ()
    """Signals that added something, by index of SIGNALS, and how much (log-odds before caps), the most first."""


PASS: Final = Verdict(outcome="pass", score_bp=0, own=0.0, model=0)


class Judge:
    """A model, ready to decide."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.weights = tuple(weight_of(model, signal) for signal in SIGNALS)
        self.added = tuple(
            tuple(_added(model, signal, weight, kind) for signal, weight in zip(SIGNALS, self.weights, strict=True)) for kind in KINDS
        )
        """By index of KINDS, by index of SIGNALS: log-odds at each quarter of strength, from none on."""
        self._priors = tuple(model.intercept + model.kinds.get(kind, 0.0) for kind in KINDS)
        self._caps = tuple(model.caps.get(group, 0.0) for group in GROUPS)

    def log_odds(self, strengths: Sequence[float], *, kind: int = 0) -> tuple[float, float]:
        """Of an event with these strengths, and the part that it raised by itself: without the priors and without history."""
        sums, added_by = [0.0] * len(GROUPS), self.added[kind]
        for i in compress(_ALL, strengths):
            sums[_GROUP_OF[i]] += added_by[i][int(LEVELS * strengths[i])]
        capped = [min(cap, total) for cap, total in zip(self._caps, sums, strict=True)]
        added = sum(capped)
        return self._priors[kind] + added, added - capped[HISTORY]

    def decide(self, strengths: Sequence[float], *, kind: int = 0) -> Verdict:
        """The verdict on an event of a kind (index of KINDS) with these strengths (in the order of SIGNALS). Monotone in each of them."""
        total, own = self.log_odds(strengths, kind=kind)
        model, score = self.model, basis_points(total)
        outcome: Outcome = "reject" if score >= model.reject_bp else "hold" if score >= model.hold_bp else "pass"
        fired: tuple[tuple[int, float], ...] = ()
        if outcome != "pass":
            by = [(i, self.added[kind][i][int(LEVELS * s)]) for i, s in enumerate(strengths) if s]
            added = [(i, nats) for i, nats in by if nats >= _LEAST_REASON]
            fired = tuple(sorted(added, key=lambda item: -item[1])[:MAX_REASONS])
        return Verdict(outcome=outcome, score_bp=score, own=own, model=model.version, fired=fired)


def decide(model: Model, strengths: Sequence[float], *, kind: int = 0) -> Verdict:
    """The verdict of a model; for many events make one Judge."""
    return Judge(model).decide(strengths, kind=kind)


def reasons(verdict: Verdict, strengths: Sequence[float], features: Features) -> list[Reason]:
    """The reasons of a verdict that is no pass, the heaviest first, with their sentences."""
    total = sum(added for _, added in verdict.fired) or 1.0
    return [
        Reason(
            signal=SIGNALS[i].name, strength=strengths[i], bp=round(BASIS * added / total), says=explain(features, SIGNALS[i]),
            softly=SIGNALS[i].softly,
        )
        for i, added in verdict.fired
    ]  # fmt: skip


def weight_of(model: Model, signal: Signal) -> float:
    """What the model gives this signal at full strength."""
    return 0.0 if signal.name in model.off else max(0.0, model.weights.get(signal.name, signal.weight))


def _added(model: Model, signal: Signal, weight: float, kind: str) -> tuple[float, ...]:
    shape = model.shapes.get(signal.name, {}).get(kind, EVEN)
    return (0.0, *(weight * share for share in shape))


def basis_points(log_odds: float) -> int:
    """The probability of these log-odds, 0 to 10,000."""
    return round(BASIS / (1 + exp(-log_odds))) if log_odds > -40 else 0

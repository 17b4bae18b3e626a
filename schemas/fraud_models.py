"""Versions of a program's fraud model, its signals one by one, and how scores are spread (docs/fraud-models.md).

Scores, thresholds and shares of reasons are in basis points (1/10,000) of probability; weights, caps and the intercept are natural
logarithms of odds.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, UnsetType

from schemas.adjustments import Reason
from schemas.base import Body
from schemas.bounds import MAX_FRAUD_LOG_ODDS, MAX_FRAUD_SIGNALS, MAX_NAME_CHARS

SignalName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
LogOdds = Annotated[float, Meta(ge=-MAX_FRAUD_LOG_ODDS, le=MAX_FRAUD_LOG_ODDS)]
Weight = Annotated[float, Meta(ge=0, le=MAX_FRAUD_LOG_ODDS)]
Threshold = Annotated[int, Meta(ge=1, le=10_001)]
Weights = Annotated[dict[SignalName, Weight], Meta(max_length=MAX_FRAUD_SIGNALS)]
Kinds = Annotated[dict[Literal["order", "return", "activity"], LogOdds], Meta(max_length=3)]
ModelState = Literal["draft", "shadow", "running", "retired"]


class FraudModelBody(Body, frozen=True, kw_only=True):
    """A draft: what is given lies over the version `base` (the running one, if left out); what is left out is as there.

    `weights`, `caps` and `kinds` go by name, `off` is the whole list. A threshold of 10,001 is never reached.
    """

    base: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    intercept: LogOdds | UnsetType = UNSET
    weights: Weights = {}
    caps: Weights = {}
    kinds: Kinds = {}
    off: Annotated[list[SignalName], Meta(max_length=MAX_FRAUD_SIGNALS)] | UnsetType = UNSET
    hold_bp: Threshold | UnsetType = UNSET
    reject_bp: Threshold | UnsetType = UNSET
    note: Reason | None = None


class FraudModelAnswer(Body, frozen=True, kw_only=True):
    """A version of the model; version 0 is the shipped one, which runs where no other does, and which nobody made."""

    version: int
    state: ModelState
    intercept: float
    weights: Mapping[str, float]
    """Of every signal, at full strength, also of those that are off, for the kind of event for which it says most."""
    shapes: Mapping[str, Mapping[str, list[float]]]
    """By signal and kind of event: the share of the weight at each of the four quarters of its strength."""
    caps: Mapping[str, float]
    kinds: Mapping[str, float]
    """Beside the intercept, by kind of event."""
    off: list[str]
    hold_bp: int
    reject_bp: int
    note: str | None = None
    created_by: str | None = None
    """`operator:7`, or `command`."""
    created_at: datetime | None = None
    changed_at: datetime | None = None


class FraudModelDetails(FraudModelAnswer, frozen=True, kw_only=True):
    """The same with what tuning said about it, if it was tuned."""

    report: Raw | None = None


class ActivationBody(Body, frozen=True, kw_only=True, rename={"as_": "as"}):
    """What a version is to be from now on."""

    as_: Literal["running", "shadow", "retired"]


class SignalSwitch(Body, frozen=True, kw_only=True):
    """A signal counts, or does not; why stands as the note of the version that this makes."""

    on: bool
    reason: Reason


class SignalAnswer(Body, frozen=True, kw_only=True):
    """A signal, and what the running model makes of it."""

    name: str
    group: str
    weight: float
    """Log-odds at full strength, also of one that is off."""
    on: bool
    says: str
    """What a reviewer reads, with … for its numbers."""
    softly: str
    """What the person reads."""
    model: int
    """The running version."""


# Monitors ------------------------------------------------------------------------------------------------


class ScoreBin(Body, frozen=True, kw_only=True):
    """Events whose score is at least this, and below the next one."""

    from_bp: int
    events: int


class SignalDay(Body, frozen=True, kw_only=True):
    """How often a signal was at least half as strong as it can be, and how often it was among the reasons of a hold.

    Rates are shares of all events that were judged that day.
    """

    name: str
    fired: int
    held: int
    fired_rate: float
    hold_rate: float


class ModelDay(Body, frozen=True, kw_only=True):
    """What one version said on one local day of the program; of one that ran beside, what it would have said."""

    day: date
    model: int
    judged: int
    """Events that were judged: those that earn."""
    held: int
    """… held or rejected, also where nothing was enforced."""
    hold_rate: float
    points: int
    held_points: int
    outcomes: Mapping[str, int]
    scores: list[ScoreBin]
    signals: list[SignalDay]


class Stability(Body, frozen=True, kw_only=True):
    """How far a version's scores of the last 24 hours are from those of the 28 days before: the population stability index (PSI)."""

    model: int
    psi: float | None
    """Null: too few events on one side."""
    events: int
    events_before: int
    drifted: bool


class ReviewDay(Body, frozen=True, kw_only=True):
    """Cases that people decided on a local day."""

    day: date
    decided: int


class FraudMonitor(Body, frozen=True, kw_only=True, rename={"from_": "from"}):
    """The checks over time, by local days of the program; `to` is not included."""

    from_: date
    to: date
    days: list[ModelDay]
    stability: list[Stability]
    reviews_a_day: int
    reviews: list[ReviewDay]

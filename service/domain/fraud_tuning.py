"""What tuning learns from, and how a model does on what it was not tuned on. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from zlib import crc32

from msgspec import Struct

from service.domain.fraud.model import LEVELS, Judge, Model
from service.domain.fraud.signals import SIGNALS
from service.domain.fraud.tuning import Row

HELD_OUT: Final = 5
"""One event of so many is kept from tuning, to measure on."""
FOLDS: Final = 4
"""Parts of what is tuned on."""
_PLACE: Final = {signal.name: i for i, signal in enumerate(SIGNALS)}


class Seen(Struct, frozen=True, kw_only=True, gc=False):
    """A judged event: quarters of strength by signal, what it was, what it would have earned. It stands for `weight` events like it."""

    event: int
    quarters: Mapping[str, int]
    fraud: bool
    points: int
    kind: int = 0
    """Of the event: index of records.KINDS."""
    weight: int = 1


class Measured(Struct, frozen=True, kw_only=True):
    """How a model does. Shares of 1; recall and precision by points and by events; `held` counts events."""

    recall: float
    precision: float
    recall_events: float
    precision_events: float
    honest_held: float
    held: int
    fraud_points: int
    honest_events: int


def strengths_of(quarters: Mapping[str, int]) -> tuple[float, ...]:
    """Strengths in the order of SIGNALS. Names that no signal has any more are left out; strengths are 0 to 1."""
    strengths = [0.0] * len(SIGNALS)
    for name, quarter in quarters.items():
        if (place := _PLACE.get(name)) is not None:
            strengths[place] = min(max(quarter, 0), LEVELS) / LEVELS
    return tuple(strengths)


def is_held_out(event: int) -> bool:
    """Whether an event is kept from tuning: always the same fifth, whoever tunes and whenever."""
    return _hash(event) % HELD_OUT == 0


def _hash(event: int) -> int:
    return crc32(event.to_bytes(8, "big", signed=True))


def rows_of(seen: Iterable[Seen]) -> list[Row]:
    """Rows for tuning, one for each combination of strengths, kind of event and label in each of FOLDS parts.

    The threshold is chosen by what fits to the other parts say of each.
    """
    sums: dict[tuple[tuple[float, ...], int, bool, int], tuple[int, int]] = {}
    for each in seen:
        key = strengths_of(each.quarters), each.kind, each.fraud, _hash(each.event) // HELD_OUT % FOLDS
        events, points = sums.get(key, (0, 0))
        sums[key] = events + each.weight, points + each.weight * max(0, each.points)
    return [Row(strengths=s, kind=k, fraud=fraud, world=w, events=e, points=p) for (s, k, fraud, w), (e, p) in sums.items()]


def measured(model: Model, rows: Sequence[Row]) -> Measured:
    """How a model does on rows: what it holds or rejects. With nothing to find recall is 0, with nothing held precision is 1."""
    judge = Judge(model)
    fraud, honest = _sum(rows, fraud=True), _sum(rows, fraud=False)
    held = [row for row in rows if judge.decide(row.strengths, kind=row.kind).outcome != "pass"]
    caught, wrong = _sum(held, fraud=True), _sum(held, fraud=False)
    return Measured(
        recall=_share(caught[1], fraud[1], 0.0), precision=_share(caught[1], caught[1] + wrong[1], 1.0),
        recall_events=_share(caught[0], fraud[0], 0.0), precision_events=_share(caught[0], caught[0] + wrong[0], 1.0),
        honest_held=_share(wrong[0], honest[0], 0.0), held=caught[0] + wrong[0], fraud_points=fraud[1], honest_events=honest[0],
    )  # fmt: skip


def _sum(rows: Iterable[Row], *, fraud: bool) -> tuple[int, int]:
    """Events and points of one label."""
    of = [row for row in rows if row.fraud == fraud]
    return sum(row.events for row in of), sum(row.points for row in of)


def _share(part: int, whole: int, nothing: float) -> float:
    return part / whole if whole else nothing


class TuningReport(Struct, frozen=True, kw_only=True):
    """What tuning found, as it is printed and kept with the draft."""

    base: int
    """The version that was tuned, and that the new one is compared with."""
    draft: int | None
    """The version that it was saved as."""
    since: str | None
    frauds: int
    """Labels used: frauds, honest events."""
    honest: int
    background: int
    """Events that passed, settled and that nobody labelled; each stands for `background_weight` of them, taken for honest."""
    background_weight: int
    held_out: int
    """Events (labels and background) that the figures are of: they were not tuned on."""
    before: Measured
    after: Measured
    hold_bp: tuple[int, int]
    """Threshold before and after."""
    intercept: tuple[float, float]
    weights: Mapping[str, tuple[float, float]]
    """By signal: before, after."""
    loss: tuple[float, float]
    """Nats an event on what it was tuned on, before and after."""

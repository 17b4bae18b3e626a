"""Fitting a model to labelled decisions: non-negative logistic regression, drawn towards the weights that were given by hand.

What a signal cannot be told from the labels keeps its weight, so that patterns nobody has labelled yet still add up. Rows with the same
strengths are one row, and plain Python is fast enough: there are some ten thousand of them in a million events.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, groupby, pairwise
from math import exp, log, sqrt
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from service.domain.fraud.model import BASIS, GROUPS, LEVELS, Judge, Model, basis_points
from service.domain.fraud.records import KINDS
from service.domain.fraud.signals import NAMES, SIGNALS

ROUNDS: Final = 100
PRECISION: Final = 0.965
"""Asked for on worlds that a fit has not seen: the bar is 0.95, and other traffic is never quite the same."""
HONEST_HELD: Final = 0.002
"""Likewise: the bar is 0.003 of honest events."""
PULL: Final = 3.0
"""Strength of the draw towards the given weights: as if so many points stood for each unit of squared difference, per step of a signal."""
KIND_PULL: Final = 2.0
"""… of each kind of event towards the intercept."""
MAX_WEIGHT: Final = 8.0
"""Nats of one signal: that of proof. What labels say beyond it, they say about their own few rings."""


_GROUP_OF: Final = tuple(GROUPS.index(signal.group) for signal in SIGNALS)


class Row(Struct, frozen=True, kw_only=True, gc=False):
    """Decisions with the same strengths and the same label. `points` is what they would have earned."""

    strengths: tuple[float, ...]
    fraud: bool
    kind: int = 0
    """Of the events: index of records.KINDS."""
    events: int = 1
    points: int = 0
    world: int = 0
    """Where they were labelled: a program, a month, a simulated world. The threshold is chosen on worlds that a fit has not seen."""


class Report(Struct, frozen=True, kw_only=True):
    """How a model does on the rows it was tuned on. Shares; recall and precision by points; `loss` in nats an event, before and after."""

    rows: int
    loss_before: float
    loss: float
    hold_bp: int
    recall: float
    precision: float
    honest_held: float
    weights: Mapping[str, tuple[float, float]]
    """By signal, at full strength, the mean over kinds of events: before, after."""


def tune(
    rows: Iterable[Row], *, start: Model, share: float | None = None, pull: float = PULL, rounds: int = ROUNDS,
) -> tuple[Model, Report]:  # fmt: skip
    """The next version of `start`, fitted to labelled decisions. Raises ValueError without both frauds and honest events.

    `share`: of fraud in all points where the model is to be used. Labels mostly have more; they are weighed down to it (the prior
    correction for rare events of King and Zeng, 2001). Rows of several worlds are fitted without each of them once, and the threshold is
    chosen by what the fits say about the worlds that they have not seen.
    """
    grouped = _grouped(rows)
    if {row.fraud for row in grouped} != {True, False}:
        raise ValueError("tuning needs frauds and honest events")
    scale = _scale(grouped, share)
    fitted = _fit(grouped, start, scale=scale, pull=pull, rounds=rounds)
    scored = _unseen(grouped, start, scale=scale, pull=pull, rounds=rounds) or _scored(fitted, grouped)
    model = replace(fitted, hold_bp=_threshold(scored, scale=scale, precision=PRECISION, honest_held=HONEST_HELD))
    recall, precision, held = _at(scored, model.hold_bp, scale)
    before, after = Judge(start), Judge(model)
    return model, Report(
        rows=len(grouped), loss_before=_loss(grouped, before), loss=_loss(grouped, after), hold_bp=model.hold_bp,
        recall=recall, precision=precision, honest_held=held,
        weights={name: (_mean(before, i), _mean(after, i)) for i, name in enumerate(NAMES)},
    )  # fmt: skip


def _mean(judge: Judge, signal: int) -> float:
    return sum(of_kind[signal][-1] for of_kind in judge.added) / len(judge.added)


def with_threshold(model: Model, rows: Sequence[Row], *, precision: float = PRECISION, honest_held: float = HONEST_HELD) -> Model:
    """The model with the lowest threshold for holds that keeps precision (by points) and the share of honest events held."""
    return replace(model, hold_bp=_threshold(_scored(model, rows), scale=1.0, precision=precision, honest_held=honest_held))


def _threshold(scored: Sequence[tuple[int, Row]], *, scale: float, precision: float, honest_held: float) -> int:
    best = BASIS
    honest = max(1, sum(row.events for _, row in scored if not row.fraud))
    caught = wrong = wrong_events = 0.0
    for threshold, group in groupby(sorted(scored, key=lambda item: -item[0]), key=lambda item: item[0]):
        for _, row in group:
            if row.fraud:
                caught += row.points * scale
            else:
                wrong, wrong_events = wrong + row.points, wrong_events + row.events
        if wrong_events > honest_held * honest:
            break
        if caught and caught >= precision * (caught + wrong):
            best = threshold
    return max(1, best)


def _unseen(rows: Sequence[Row], start: Model, *, scale: float, pull: float, rounds: int) -> list[tuple[int, Row]]:
    """Each world's rows with their scores by a model that was fitted to the others; empty if there is one world only."""
    worlds = sorted({row.world for row in rows})
    scored: list[tuple[int, Row]] = []
    for world in worlds if len(worlds) > 1 else ():
        others = [row for row in rows if row.world != world]
        if {row.fraud for row in others} == {True, False}:
            model = _fit(others, start, scale=scale, pull=pull, rounds=rounds)
            scored += _scored(model, [row for row in rows if row.world == world])
    return scored


def _scale(rows: Sequence[Row], share: float | None) -> float:
    """What a fraud counts, so that frauds have their share of all points."""
    fraud, honest = (sum(row.points for row in rows if row.fraud is which) for which in (True, False))
    return 1.0 if share is None or not fraud else share / (1 - share) * honest / fraud


def _grouped(rows: Iterable[Row]) -> list[Row]:
    sums: dict[tuple[tuple[float, ...], int, bool, int], tuple[int, int]] = {}
    for row in rows:
        key = row.strengths, row.kind, row.fraud, row.world
        events, points = sums.get(key, (0, 0))
        sums[key] = events + row.events, points + row.points
    return [Row(strengths=s, kind=k, fraud=fraud, world=w, events=e, points=p) for (s, k, fraud, w), (e, p) in sums.items()]


def _fit(rows: Sequence[Row], start: Model, *, scale: float, pull: float, rounds: int) -> Model:
    """For each kind of event a prior, and what each quarter of strength adds there, which is never negative. A capped group does not learn.

    Projected steps, each parameter by its own curvature, with Nesterov's momentum: it starts again from rest whenever it went uphill
    (O'Donoghue and Candès, 2015).
    """
    caps = [start.caps.get(group, 0.0) for group in GROUPS]
    curves = Judge(replace(start, off=frozenset())).added
    data = _data(rows, scale, off=frozenset(i for i, signal in enumerate(SIGNALS) if signal.name in start.off))
    given = [[after - before for curve in of_kind for before, after in pairwise(curve)] for of_kind in curves]
    for steps, prior in zip(given, (start.intercept + start.kinds.get(kind, 0.0) for kind in KINDS), strict=True):
        steps.append(prior)
    fitted = [list(steps) for steps in given]
    ahead, pace = [list(steps) for steps in given], [1.0] * len(KINDS)
    for _ in range(rounds):
        mean = sum(steps[-1] for steps in fitted) / len(fitted)
        for kind, of_kind in enumerate(data):
            slopes, bends = _slopes(of_kind, ahead[kind], caps)
            moved = _moved(ahead[kind], given[kind], slopes, bends, pull=pull, mean=mean)
            uphill = sum((y - x) * (x - old) for y, x, old in zip(ahead[kind], moved, fitted[kind], strict=True)) > 0
            was, pace[kind] = pace[kind], 1.0 if uphill else (1 + sqrt(1 + 4 * pace[kind] ** 2)) / 2
            share = 0.0 if uphill else (was - 1) / pace[kind]
            ahead[kind] = [x + share * (x - old) for x, old in zip(moved, fitted[kind], strict=True)]
            fitted[kind] = moved
    return _as_model(start, fitted)


def _slopes(
    data: Iterable[tuple[list[tuple[int, int]], float, float]], steps: Sequence[float], caps: Sequence[float],
) -> tuple[list[float], list[float]]:  # fmt: skip
    """First derivative of the loss by each step of each signal and, last, by the prior, and a bound of the second; without any pull."""
    added = [(0.0, *accumulate(steps[at : at + LEVELS])) for at in range(0, LEVELS * len(SIGNALS), LEVELS)]
    slopes, bends = [0.0] * len(steps), [0.0] * len(steps)
    for fired, fraud, many in data:
        sums = [0.0] * len(GROUPS)
        for i, level in fired:
            sums[_GROUP_OF[i]] += added[i][level]
        p = _logistic(steps[-1] + sum(map(min, caps, sums)))
        error, bend = many * (p - fraud), many * p * (1 - p) * (1 + sum(level for _, level in fired))
        slopes[-1] += error
        bends[-1] += bend
        for i, level in fired:
            if sums[_GROUP_OF[i]] < caps[_GROUP_OF[i]]:
                # Of a strength, all steps up to it.
                for at in range(LEVELS * i, LEVELS * i + level):
                    slopes[at] += error
                    bends[at] += bend
    return slopes, bends


def _moved(
    steps: Sequence[float], given: Sequence[float], slopes: Sequence[float], bends: Sequence[float], *, pull: float, mean: float
) -> list[float]:  # fmt: skip
    """One step down; what a signal adds stays between 0 and MAX_WEIGHT, or what it had."""
    moved = [
        max(0.0, x - _bounded((slope + pull * (x - g)) / (bend + pull))) if bend else x
        for x, g, slope, bend in zip(steps, given, slopes, bends, strict=True)
    ]
    for at in range(0, LEVELS * len(SIGNALS), LEVELS):
        total, most = sum(moved[at : at + LEVELS]), max(MAX_WEIGHT, sum(given[at : at + LEVELS]))
        if total > most:
            moved[at : at + LEVELS] = [x * most / total for x in moved[at : at + LEVELS]]
    moved[-1] = steps[-1] - _bounded((slopes[-1] + KIND_PULL * (steps[-1] - mean)) / (bends[-1] + KIND_PULL))
    return moved


def _as_model(start: Model, fitted: Sequence[Sequence[float]]) -> Model:
    weights, shapes = dict(start.weights), dict(start.shapes)
    for i, signal in enumerate(SIGNALS):
        if signal.name in start.off:
            continue
        curves = [list(accumulate(steps[LEVELS * i : LEVELS * (i + 1)])) for steps in fitted]
        weights[signal.name] = round(weight := max(curve[-1] for curve in curves), 3)
        if weight > 0:
            shares = [[round(at / weight, 4) for at in curve] for curve in curves]
            shapes[signal.name] = {kind: (curve[0], curve[1], curve[2], curve[3]) for kind, curve in zip(KINDS, shares, strict=True)}
    priors = [steps[-1] for steps in fitted]
    kinds = {kind: round(prior - priors[0], 3) for kind, prior in zip(KINDS, priors, strict=True)}
    return replace(start, version=start.version + 1, intercept=round(priors[0], 3), kinds=kinds, weights=weights, shapes=shapes)


def _data(rows: Sequence[Row], scale: float, *, off: frozenset[int]) -> list[list[tuple[list[tuple[int, int]], float, float]]]:
    """By kind, a row each: what fired with its level, label, how much it counts. Half of that is its events, half its points."""
    mean = sum(row.points for row in rows) / max(1, sum(row.events for row in rows)) or 1.0
    sums: dict[tuple[tuple[float, ...], int, bool], float] = {}
    for row in rows:
        key = row.strengths, row.kind, row.fraud
        sums[key] = sums.get(key, 0.0) + (row.events + row.points / mean) / 2 * (scale if row.fraud else 1.0)
    data: list[list[tuple[list[tuple[int, int]], float, float]]] = [[] for _ in KINDS]
    for (strengths, kind, fraud), many in sums.items():
        data[kind].append(([(i, int(LEVELS * s)) for i, s in enumerate(strengths) if s and i not in off], float(fraud), many))
    return data


def _bounded(step: float) -> float:
    return max(-1.0, min(1.0, step))


def _scored(model: Model, rows: Sequence[Row]) -> list[tuple[int, Row]]:
    judge = Judge(model)
    return [(basis_points(judge.log_odds(row.strengths, kind=row.kind)[0]), row) for row in rows]


def _at(scored: Sequence[tuple[int, Row]], threshold: int, scale: float) -> tuple[float, float, float]:
    """Recall and precision by points, and the share of honest events held, at a threshold in basis points."""
    fraud = sum(row.points for _, row in scored if row.fraud)
    honest = sum(row.events for _, row in scored if not row.fraud)
    held = [row for score, row in scored if score >= threshold]
    caught = sum(row.points for row in held if row.fraud)
    wrong = sum(row.points for row in held if not row.fraud)
    right = caught * scale
    return (
        caught / max(1, fraud),
        right / (right + wrong) if held else 1.0,
        sum(row.events for row in held if not row.fraud) / max(1, honest),
    )


def _loss(rows: Sequence[Row], judge: Judge) -> float:
    total = 0.0
    for row in rows:
        odds = judge.log_odds(row.strengths, kind=row.kind)[0]
        total += row.events * _softplus(-odds if row.fraud else odds)
    return total / sum(row.events for row in rows)


def _logistic(odds: float) -> float:
    return 1 / (1 + exp(-max(-40.0, min(40.0, odds))))


def _softplus(x: float) -> float:
    return max(x, 0.0) + log(1 + exp(-abs(x)))

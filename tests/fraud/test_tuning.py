"""Tuning: finds the weights that made the labels, keeps what it cannot judge, and holds its threshold to the bars."""

import random
from math import exp

import pytest
from msgspec import structs

from service.domain.fraud.model import Judge, Model
from service.domain.fraud.records import KINDS
from service.domain.fraud.signals import NAMES
from service.domain.fraud.tuning import MAX_WEIGHT, Row, tune, with_threshold

CAPS = dict.fromkeys(["effort", "linkage", "economics", "evidence", "place-and-time", "history"], 100.0)
TRUE = {"burst": 3.0, "gain": 1.0, "reused": 6.0, "odd_mass": 0.0}


def strengths(**fired: float) -> tuple[float, ...]:
    return tuple(fired.get(name, 0.0) for name in NAMES)


def labelled(n: int) -> list[Row]:
    """Decisions drawn from the model TRUE with an intercept of −3."""
    rng = random.Random(1)
    rows = []
    for _ in range(n):
        fired = {name: rng.choice((0.0, 0.0, 0.5, 1.0)) for name in TRUE}
        odds = -3 + sum(TRUE[name] * strength for name, strength in fired.items())
        rows.append(Row(strengths=strengths(**fired), fraud=rng.random() < 1 / (1 + exp(-odds)), points=10))
    return rows


def test_recovers_the_model_that_made_the_labels() -> None:
    start = Model(caps=CAPS)
    model, report = tune(labelled(20_000), start=start, pull=0.1)
    orders = Judge(model).added[KINDS.index("order")]
    for name, weight in TRUE.items():
        assert orders[NAMES.index(name)][2] == pytest.approx(weight / 2, abs=0.4), name
        assert orders[NAMES.index(name)][4] == pytest.approx(weight, abs=0.4), name
    assert model.intercept == pytest.approx(-3, abs=0.3)
    assert report.loss < report.loss_before
    assert model.version == start.version + 1


def test_signals_without_labels_keep_their_weights() -> None:
    model, _ = tune(labelled(2_000), start=Model(caps=CAPS, weights={}))
    given = Judge(Model(weights={}))
    for kind, of_kind in enumerate(Judge(model).added):
        for i, name in enumerate(NAMES):
            if name not in TRUE or kind != KINDS.index("order"):
                assert of_kind[i] == pytest.approx(given.added[kind][i], abs=0.001), name


def test_a_signal_says_as_much_at_each_strength_as_labels_tell_and_never_less_for_more() -> None:
    """Of returns a little of it is the rule, and only a lot is odd; of orders nothing was labelled."""
    rows = [
        *(Row(strengths=strengths(surplus=s), kind=1, fraud=False, events=1_000, points=1_000) for s in (0.0, 0.25, 0.5)),
        Row(strengths=strengths(surplus=0.75), kind=1, fraud=True, events=500, points=500),
        Row(strengths=strengths(surplus=0.75), kind=1, fraud=False, events=500, points=500),
        Row(strengths=strengths(surplus=1.0), kind=1, fraud=False, events=500, points=500),
        Row(strengths=strengths(surplus=1.0), kind=1, fraud=True, events=500, points=500),
    ]
    start = Model(caps=CAPS, weights={}, shapes={}, intercept=-4.0, kinds={})
    model, _ = tune(rows, start=start, pull=1.0)
    added = Judge(model).added[1][NAMES.index("surplus")]
    assert list(added) == sorted(added)
    odds = [Judge(model).log_odds(strengths(surplus=s), kind=1)[0] for s in (0.5, 0.75)]
    assert odds[0] < -4, "of a thousand hardly any was fraud"
    assert odds[1] == pytest.approx(0, abs=0.5), "every other one was"
    orders = Judge(model).added[0][NAMES.index("surplus")]
    assert orders == pytest.approx(Judge(start).added[0][NAMES.index("surplus")], abs=0.001)


def test_what_is_switched_off_stays_off() -> None:
    model, _ = tune(labelled(2_000), start=Model(caps=CAPS, off=frozenset({"burst"})))
    assert Judge(model).weights[NAMES.index("burst")] == 0


def test_the_threshold_is_the_lowest_that_keeps_precision() -> None:
    rows = [
        Row(strengths=strengths(reused=1), fraud=True, points=100),
        Row(strengths=strengths(crowded_device=0.5, gain=0.5), fraud=True, points=100),
        Row(strengths=strengths(gain=0.5), fraud=False, events=1_000, points=10_000),
        Row(strengths=strengths(gain=0.5), fraud=True, points=100),
    ]
    model = with_threshold(Model(), rows)
    held = [Judge(model).decide(row.strengths).outcome for row in rows]
    assert held == ["hold", "hold", "pass", "pass"]


def test_the_threshold_keeps_the_share_of_honest_events_held() -> None:
    rows = [
        Row(strengths=strengths(reused=1), fraud=True, points=1_000_000),
        Row(strengths=strengths(burst=1), fraud=True, points=1_000_000),
        Row(strengths=strengths(burst=1), fraud=False, events=3, points=3),
        Row(strengths=strengths(), fraud=False, events=997, points=997),
    ]
    assert Judge(with_threshold(Model(), rows)).decide(strengths(burst=1)).outcome == "pass"
    assert Judge(with_threshold(Model(), rows, honest_held=0.01)).decide(strengths(burst=1)).outcome == "hold"


def test_needs_both_labels() -> None:
    with pytest.raises(ValueError, match="frauds and honest"):
        tune([Row(strengths=strengths(), fraud=False)], start=Model())


def test_a_fit_is_measured_on_worlds_that_it_has_not_seen() -> None:
    """What only one world shows is found there by nobody who has not been there."""
    rows = [
        *(Row(strengths=strengths(), fraud=False, events=500, points=5_000, world=world) for world in (0, 1)),
        *(Row(strengths=strengths(reused=1), fraud=True, events=50, points=5_000, world=world) for world in (0, 1)),
        Row(strengths=strengths(burst=1), fraud=True, events=50, points=5_000, world=0),
    ]
    start = Model(caps=CAPS, weights={"burst": 0.0})
    model, report = tune(rows, start=start, rounds=60)
    assert report.recall == pytest.approx(2 / 3)
    together, seen = tune([structs.replace(row, world=0) for row in rows], start=start, rounds=60)
    assert seen.recall == 1.0
    assert together.weights == model.weights


def test_frauds_are_weighed_down_to_their_share() -> None:
    """Labels of which half are frauds, for traffic of which one in a hundred is: the prior falls, and so does precision."""
    rows = labelled(4_000)
    as_labelled, as_used = (tune(rows, start=Model(caps=CAPS), share=share) for share in (None, 0.01))
    assert as_used[0].intercept < as_labelled[0].intercept - 1
    assert as_used[1].recall < as_labelled[1].recall


def test_each_kind_of_event_finds_its_prior() -> None:
    rows = [Row(strengths=strengths(), kind=kind, fraud=fraud, events=events, points=events) for kind, fraud, events in (
        (0, False, 990), (0, True, 10), (1, False, 900), (1, True, 100), (2, False, 990), (2, True, 10),
    )]  # fmt: skip
    model, _ = tune(rows, start=Model(kinds={}))
    assert model.kinds["return"] == pytest.approx(2.4, abs=0.5)
    assert model.kinds["activity"] == pytest.approx(0.0, abs=0.2)


def test_no_weight_exceeds_that_of_proof() -> None:
    rows = [
        Row(strengths=strengths(burst=1), fraud=True, events=100_000, points=100_000),
        Row(strengths=strengths(), fraud=False, events=100_000, points=100_000),
    ]
    model, _ = tune(rows, start=Model(caps=CAPS), pull=1e-6, rounds=300)
    assert model.weights["burst"] == MAX_WEIGHT

"""The whole way on some thousand simulated events, and the figures of a run."""

from collections.abc import Iterable
from functools import cache

import pytest

from loadtests.fraud.evaluate import Holds, RingRun, Run, at_precision, pr_auc, run
from loadtests.fraud.report import figures
from loadtests.fraud.stream import observations
from loadtests.traffic.format import Label, Sent
from loadtests.traffic.simulation import Traffic
from service.domain.fraud.model import Judge, Model
from service.domain.fraud.pipeline import Pipeline
from service.domain.fraud.tuning import Row, tune

PATTERNS = ("double_claim", "clockwork")
"""Those that give themselves away most: what the pipeline misses of them, it lost on the way."""


@cache
def simulated(seed: int) -> list[tuple[Sent, Label]]:
    return list(Traffic(events=8_000, days=15, seed=seed, fraud=0.03, patterns=PATTERNS))


def test_a_tuned_model_finds_plain_fraud_in_another_world_and_leaves_the_honest_alone() -> None:
    rows: list[tuple[str | None, Row]] = []
    run(simulated(1), Model(), rows=rows)
    model, _ = tune([row for _, row in rows], start=Model(), rounds=60)
    found = figures(run(simulated(2), model))
    assert found["recall_by_value"] >= 0.5
    assert found["honest_events_held"] <= 0.02
    assert found["rings_found"] == found["rings"] > 0


def test_a_switched_off_check_finds_nothing() -> None:
    result = run(simulated(1), Model(off=frozenset(), hold_bp=10_001))
    assert result.fraud_held == result.honest_held == 0
    assert result.fraud_points == sum(label.points for _, label in _once(simulated(1)) if label.pattern and label.points > 0)


def _once(traffic: Iterable[tuple[Sent, Label]]) -> list[tuple[Sent, Label]]:
    return list({(label.platform, label.event): (sent, label) for sent, label in reversed(list(traffic))}.values())


def test_a_repeat_is_no_second_event() -> None:
    traffic = simulated(1)
    twice = [pair for pair in traffic for _ in range(2)]
    assert [o.number // 2 for o, _ in observations(twice)] == [o.number for o, _ in observations(traffic)]


def test_verdicts_do_not_depend_on_what_comes_later() -> None:
    traffic = simulated(1)
    verdicts = []
    for part in (traffic[:2_000], traffic[:3_000]):
        pipeline = Pipeline(Judge(Model()))
        verdicts.append([pipeline.judge(o).verdict.score_bp for o, _ in observations(part)])
    assert verdicts[1][: len(verdicts[0])] == verdicts[0]


def test_precision_over_recall() -> None:
    result = Run(fraud_points=100, by_score={9_000: [0, 50], 8_000: [10, 0], 7_000: [0, 50]})
    assert pr_auc(result) == pytest.approx(0.5 + 0.5 * 100 / 110)
    assert at_precision(result, 0.95) == 0.5
    assert at_precision(result, 0.9) == 1.0


def test_half_of_a_ring_is_found_when_half_of_its_accounts_are() -> None:
    lost = {1: (0.0, 5), 2: (3.0, 10), 3: (9.0, 20)}
    ring = RingRun(pattern="p", started=0, tried=100, events=lost, accounts={"a": 4.0, "b": None, "c": 8.0, "d": None})
    assert (ring.found, ring.half_found) == (4.0, 8.0)
    assert (ring.credited(ring.found), ring.credited(ring.half_found), ring.credited()) == (15, 15, 35)
    ring.accounts["e"] = None
    assert ring.half_found is None


def test_a_second_look_finds_more_while_points_are_pending_and_names_the_rest() -> None:
    model = Model(hold_bp=5_000)
    long, short = (figures(run(simulated(1), model, holds=Holds(order=days, other=days))) for days in (14, 0))
    assert long["recall_by_value"] > long["recall_on_arrival"] == short["recall_on_arrival"] == short["recall_by_value"]
    assert long["recall_with_clawback"] == short["recall_with_clawback"] >= long["recall_by_value"]
    assert short["recall_with_clawback"] > short["recall_by_value"]

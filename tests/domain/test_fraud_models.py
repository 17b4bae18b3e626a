"""Versions of fraud models, monitors and tuning, without a database."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.fraud_models import FraudModelBody
from schemas.problems import FieldError
from service.domain.errors import InvalidRequest, InvalidState
from service.domain.fraud.model import CAPS, Judge, Model
from service.domain.fraud.signals import SIGNALS
from service.domain.fraud.tuning import Row
from service.domain.fraud_labels import LabelRow, label_lines
from service.domain.fraud_models import SHIPPED, complete, drafted, needs_step, signals_of, switched
from service.domain.fraud_monitor import BINS, bin_of, stability_index
from service.domain.fraud_policy import duration_text, hold_for_of
from service.domain.fraud_tuning import FOLDS, Seen, is_held_out, measured, rows_of, strengths_of

WEIGHTS = {signal.name: signal.weight for signal in SIGNALS}


def body(**fields: Any) -> FraudModelBody:
    return msgspec.convert(fields, FraudModelBody)


# Drafts


def test_a_draft_lies_over_its_base() -> None:
    base = Model(version=3, intercept=-6, weights={"burst": 1.0}, off=frozenset({"odd_hour"}), hold_bp=4_000)
    made = drafted(body(weights={"refunds": 4}, caps={"effort": 5}, kinds={"return": -1}, reject_bp=9_900), base)
    assert made.kinds == dict(base.kinds) | {"return": -1.0}
    assert (made.weights["burst"], made.weights["refunds"], made.weights["gain"]) == (1.0, 4.0, WEIGHTS["gain"])
    assert (made.caps["effort"], made.caps["economics"]) == (5.0, CAPS["economics"])
    assert (made.intercept, made.hold_bp, made.reject_bp, made.off) == (-6, 4_000, 9_900, {"odd_hour"})
    assert drafted(body(off=[]), base).off == set()


def test_everything_that_is_wrong_with_a_draft_is_told() -> None:
    with pytest.raises(InvalidRequest) as caught:
        drafted(body(weights={"no/signal": 1}, caps={"luck": 1}, off=["burst", "none"], hold_bp=9_000, reject_bp=8_999), SHIPPED)
    assert [error.pointer for error in caught.value.errors] == ["/weights/no~1signal", "/caps/luck", "/off/1", "/reject_bp"]


@pytest.mark.parametrize(
    "fields", [{"hold_bp": 0}, {"hold_bp": 10_002}, {"weights": {"burst": -0.1}}, {"weights": {"burst": 101}}, {"intercept": -101}]
)
def test_numbers_out_of_bounds_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        body(**fields)


def test_neither_infinite_nor_no_numbers_pass() -> None:
    for text in (b'{"weights": {"burst": NaN}}', b'{"weights": {"burst": 1e999}}', b'{"intercept": -1e999}'):
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(text, type=FraudModelBody)


def test_a_complete_model_says_the_same_as_before_and_names_everything() -> None:
    model = Model(weights={"burst": -1.0, "gone": 3.0}, off=frozenset({"gone", "gain"}))
    done = complete(model)
    assert Judge(done).weights == Judge(model).weights
    assert done.weights.keys() == {signal.name for signal in SIGNALS}
    assert (done.weights["burst"], done.off) == (0.0, {"gain"})
    assert complete(done) == done


def test_a_switch_is_that_alone() -> None:
    off = switched(SHIPPED, "burst", on=False)
    assert off.off == {"burst"}
    assert switched(off, "burst", on=False) is off
    assert switched(off, "burst", on=True) == SHIPPED
    shown = {signal.name: signal for signal in signals_of(off)}
    assert (shown["burst"].on, shown["burst"].weight, shown["gain"].on) == (False, SHIPPED.weights.get("burst", WEIGHTS["burst"]), True)
    assert "…" in shown["burst"].says, "in place of a number"
    assert not any("{" in signal.says for signal in shown.values())


@pytest.mark.parametrize(
    ("version", "state", "step", "needed"),
    [
        (1, "draft", "running", True), (1, "draft", "shadow", True), (1, "draft", "retired", True), (1, "shadow", "running", True),
        (1, "shadow", "retired", True), (1, "retired", "running", True), (1, "retired", "shadow", True), (1, "running", "running", False),
        (1, "shadow", "shadow", False), (1, "retired", "retired", False), (0, "retired", "running", True), (0, "running", "running", False),
    ],
)  # fmt: skip
def test_steps(version: int, state: Any, step: Any, *, needed: bool) -> None:
    assert needs_step(version, state, step) is needed


@pytest.mark.parametrize(
    ("version", "state", "step"), [(1, "running", "shadow"), (1, "running", "retired"), (0, "retired", "shadow"), (0, "running", "retired")]
)
def test_steps_that_would_leave_nothing_running(version: int, state: Any, step: Any) -> None:
    with pytest.raises(InvalidState):
        needs_step(version, state, step)


# Policy


@pytest.mark.parametrize(
    ("text", "shown"), [("P7D", "P7D"), ("P1W", "P7D"), ("PT90M", "PT1H30M"), ("PT36H", "P1DT12H"), ("PT60S", "PT1M"), ("P90D", "P90D")]
)
def test_spans_are_written_as_they_are_read(text: str, shown: str) -> None:
    assert duration_text(hold_for_of(text)) == shown
    assert hold_for_of(shown) == hold_for_of(text)


@pytest.mark.parametrize("text", ["P1M", "PT59S", "P91D", "P90DT1S", "7 days", "", "PT0S"])
def test_spans_out_of_bounds(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        hold_for_of(text)
    assert caught.value.errors[0].pointer == "/hold_for"


# Monitors

spreads = st.lists(st.integers(0, 10**6), min_size=len(BINS), max_size=len(BINS)).map(lambda counts: dict(zip(BINS, counts, strict=True)))


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=50)
@given(spreads, spreads)
def test_the_index_is_symmetric_and_never_negative(one: dict[int, int], other: dict[int, int]) -> None:
    assert stability_index(one, other) == pytest.approx(stability_index(other, one))
    assert stability_index(one, other) >= 0
    assert stability_index(one, one) == 0


def test_the_index_by_hand() -> None:
    """Half of 10,000 events moved from the first bin to the third: 0.5 ln 0.5 + 0.5 ln 5,000 within what smoothing does."""
    before, now = {0: 9_999, 30: 1}, {0: 5_000, 30: 5_000}
    assert stability_index(before, now) == pytest.approx(0.5 * 0.693 + 0.5 * 8.11, rel=0.05)
    assert stability_index({0: 990, 5_000: 10}, {0: 9_900, 5_000: 100}) < 0.01, "ten times the events are no drift"


@pytest.mark.parametrize(("score", "begin"), [(0, 0), (9, 0), (10, 10), (4_999, 3_000), (5_000, 5_000), (10_000, 9_000)])
def test_bins(score: int, begin: int) -> None:
    assert bin_of(score) == begin


# Tuning


def test_strengths_by_name() -> None:
    of = strengths_of({"burst": 2, "gone": 4, "odd_hour": 9})
    assert {signal.name: s for signal, s in zip(SIGNALS, of, strict=True) if s} == {"burst": 0.5, "odd_hour": 1.0}


def test_a_fifth_is_held_out_always_the_same() -> None:
    kept = [n for n in range(10_000) if is_held_out(n)]
    assert 1_800 < len(kept) < 2_200
    assert kept == [n for n in range(10_000) if is_held_out(n)]


def test_rows_are_events_like_each_other_by_their_weight() -> None:
    seen = [
        Seen(event=1, quarters={"burst": 4}, fraud=True, points=50), Seen(event=2, quarters={"burst": 4}, fraud=True, points=70),
        Seen(event=3, quarters={}, fraud=False, points=10, kind=1, weight=100), Seen(event=4, quarters={}, fraud=False, points=-5, kind=1, weight=100),
    ]  # fmt: skip
    sums: Counter[tuple[Any, ...]] = Counter()
    for row in rows_of(seen):
        sums[row.strengths, row.kind, row.fraud, "events"] += row.events
        sums[row.strengths, row.kind, row.fraud, "points"] += row.points
    burst, none = strengths_of({"burst": 4}), strengths_of({})
    assert sums == {
        (burst, 0, True, "events"): 2, (burst, 0, True, "points"): 120, (none, 1, False, "events"): 200, (none, 1, False, "points"): 1_000,
    }  # fmt: skip
    assert len({row.world for row in rows_of(Seen(event=n, quarters={}, fraud=False, points=1) for n in range(100))}) == FOLDS


def test_how_a_model_does() -> None:
    sure, none = strengths_of({"reused": 4}), strengths_of({})
    rows = [
        Row(strengths=sure, fraud=True, events=3, points=300), Row(strengths=none, fraud=True, events=1, points=100),
        Row(strengths=sure, fraud=False, events=1, points=100), Row(strengths=none, fraud=False, events=99, points=990),
    ]  # fmt: skip
    model = Model(intercept=-7, weights={"reused": 9.0}, caps={"evidence": 10.0}, hold_bp=5_000)
    found = measured(model, rows)
    assert (found.recall, found.precision, found.recall_events, found.precision_events) == (0.75, 0.75, 0.75, 0.75)
    assert (found.honest_held, found.held, found.fraud_points, found.honest_events) == (0.01, 4, 400, 100)
    assert (measured(model, []).recall, measured(model, []).precision) == (0, 1)


# Labels


def test_lines_of_labels() -> None:
    lines = [
        '{"platform": "shop", "event": "1", "fraud": true, "more": 1}', "", '{"platform": "shop", "event": "2", "pattern": null}',
        '{"platform": "shop", "event": "3", "pattern": "burst"}', '{"platform": "shop", "event": "4"}', '{"platform": "shop"}', "[" * 3_000,
        '{"platform": "shop", "event": "\udcff", "fraud": true}',
    ]  # fmt: skip
    found = list(label_lines(lines))
    assert [row.is_fraud for row in found if isinstance(row, LabelRow)] == [True, False, True]
    assert [isinstance(row, FieldError) for row in found] == [False, False, False, True, True, True, True]

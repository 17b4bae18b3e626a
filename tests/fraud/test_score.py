"""The score: monotone, with a cap for each group, in the model's own words."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from service.domain.fraud.features import Features
from service.domain.fraud.model import BASIS, CAPS, Judge, Model, basis_points, decide, reasons
from service.domain.fraud.records import KINDS
from service.domain.fraud.signals import NAMES, SIGNALS, explain

QUARTERS = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
STRENGTHS = st.tuples(*[QUARTERS] * len(SIGNALS))
NOTHING = (0.0,) * len(SIGNALS)


def strengths(**fired: float) -> tuple[float, ...]:
    return tuple(fired.get(name, 0.0) for name in NAMES)


def test_the_model_in_a_file_is_the_shipped_one() -> None:
    file = Path(__file__).parents[2] / "loadtests" / "fraud" / "model.json"
    assert structs.replace(msgspec.json.decode(file.read_bytes(), type=Model), version=0) == Model()


@given(STRENGTHS, st.integers(0, len(SIGNALS) - 1))
def test_more_of_a_signal_never_scores_less(given_: tuple[float, ...], which: int) -> None:
    more = tuple(1.0 if i == which else s for i, s in enumerate(given_))
    assert decide(Model(), more).score_bp >= decide(Model(), given_).score_bp


@pytest.mark.parametrize("group", [group for group in CAPS if group not in {"evidence", "history"}])
def test_one_kind_of_evidence_alone_does_not_convict(group: str) -> None:
    all_of_it = tuple(1.0 if signal.group == group else 0.0 for signal in SIGNALS)
    assert decide(Model(), all_of_it).outcome == "pass"


def test_proof_convicts_alone() -> None:
    assert decide(Model(), strengths(reused=1.0), kind=KINDS.index("activity")).outcome == "hold"


def test_a_signal_that_is_off_adds_nothing() -> None:
    fired = strengths(reused=1.0)
    assert decide(Model(off=frozenset({"reused"})), fired) == decide(Model(), NOTHING)


def test_a_negative_weight_counts_as_none() -> None:
    assert Judge(Model(weights={"burst": -3.0})).log_odds(strengths(burst=1.0)) == Judge(Model()).log_odds(NOTHING)


def test_what_was_inherited_is_no_part_of_its_own_score() -> None:
    inherited = decide(Model(), strengths(suspect_ring=1.0, suspect_company=1.0))
    assert inherited.score_bp > decide(Model(), NOTHING).score_bp
    assert inherited.own == 0.0
    alone = decide(Model(), strengths(burst=1.0)).own
    assert decide(Model(), strengths(suspect_ring=1.0, burst=1.0)).own == pytest.approx(alone)
    assert alone > 0


def test_history_alone_does_not_convict() -> None:
    """An ordinary event of an account that was taken over stays its owner's."""
    all_of_it = tuple(1.0 if signal.group == "history" else 0.0 for signal in SIGNALS)
    assert decide(Model(), all_of_it).outcome == "pass"


def test_a_kind_of_event_has_its_own_prior() -> None:
    model = Model(kinds={"activity": 2.0})
    assert decide(model, NOTHING, kind=KINDS.index("activity")).score_bp > decide(model, NOTHING, kind=KINDS.index("order")).score_bp


def test_reject_needs_its_threshold() -> None:
    fired = strengths(reused=1.0)
    score = decide(Model(), fired).score_bp
    assert [decide(Model(hold_bp=score, reject_bp=bp), fired).outcome for bp in (score + 1, score)] == ["hold", "reject"]


def test_reasons_come_heaviest_first_and_say_their_numbers() -> None:
    fired = strengths(reused=1.0, burst=0.5)
    found = reasons(decide(Model(hold_bp=1), fired), fired, Features(reused=3, hour_events=17))
    assert [(reason.signal, reason.says) for reason in found] == [
        ("reused", "The same serial or receipt was used by 3 accounts or platforms."),
        ("burst", "17 events of this consumer within an hour."),
    ]
    assert abs(sum(reason.bp for reason in found) - BASIS) <= 1


def test_every_sentence_can_be_filled_in_and_the_soft_one_has_no_numbers() -> None:
    for signal in SIGNALS:
        assert "{" not in explain(Features(), signal)
        assert not any(c.isdigit() for c in signal.softly)


def test_a_kind_of_event_has_its_own_shape_of_a_signal() -> None:
    model = Model(weights={"burst": 4.0}, shapes={"burst": {"return": (0.0, 0.0, 0.5, 1.0)}})
    judge = Judge(model)
    added = [
        [judge.log_odds(strengths(burst=s), kind=KINDS.index(kind))[1] for s in (0.25, 0.5, 0.75, 1.0)] for kind in ("return", "order")
    ]
    assert added == [[0.0, 0.0, 2.0, 4.0], [1.0, 2.0, 3.0, 4.0]]


def test_extreme_log_odds_stay_within_bounds() -> None:
    assert (basis_points(-1000), basis_points(1000), basis_points(0)) == (0, BASIS, BASIS // 2)

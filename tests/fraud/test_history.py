"""History: what adds up over an account and a ring, the second look, and the decisions of people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.fraud.features import Features
from service.domain.fraud.history import inherit
from service.domain.fraud.model import Judge, Model
from service.domain.fraud.observation import Observation, Returned
from service.domain.fraud.pipeline import Judged, Pipeline
from service.domain.fraud.records import DOUBT, FADE_S, MAX_PAST, PAST_S, Past, Sums, new_record
from service.domain.fraud.rings import MAX_SUSPECTS, Ring
from service.domain.fraud.windows import DAY, HOUR
from tests.fraud.making import T0, observation

ODDS = st.floats(0, 4)
MODEL = Model(
    weights={"foreign_parcels": 4.8, "suspect_ring": 6.0},
    shapes={},
    off=frozenset({"young", "surplus_units"}),
    intercept=-6.0,
    kinds={},
    hold_bp=5_000,
)
"""An odd event raises 2.4 nats by itself and is held from 6 on: only together with what the account or its ring did."""


def odd(account: int, at: int, number: int, **more: str) -> list[Observation]:
    """Parcels that came back from somebody else already: an event that raises suspicion by itself, and the one before that makes it so."""
    waybills = (f"w{number}", f"v{number}")
    returns = {"type": "packaging.returned", "activity": "", "shape": f"r:{number}", "waybills": waybills}
    others = observation(account=10_000 + number, at=at - 1, number=-number, points=0, **returns)
    return [others, observation(account=account, at=at, number=number, entities=dict(more), returns=(Returned(class_="bag"),), **returns)]


def honest(account: int, at: int, number: int, **more: str) -> list[Observation]:
    return [observation(account=account, at=at, number=number, entities=dict(more))]


def through(pipeline: Pipeline, *observations: list[Observation]) -> list[Judged]:
    """What became of the last of each."""
    return [[pipeline.judge(o) for o in some][-1] for some in observations]


def pipeline() -> Pipeline:
    return Pipeline(Judge(MODEL))


def again(judged: list[Judged]) -> list[int]:
    return [each.number for one in judged for each in one.again]


def test_one_odd_event_is_held_by_nobody_and_many_are() -> None:
    found = through(pipeline(), *(odd(1, T0 + i * DAY, i + 1) for i in range(6)))
    assert found[0].verdict.outcome == found[1].verdict.outcome == "pass"
    assert found[0].verdict.own == pytest.approx(2.4)
    assert found[5].verdict.outcome == "hold"


def test_what_passed_is_held_when_the_account_turns_out_odd() -> None:
    found = through(pipeline(), *(odd(1, T0 + i * DAY, i + 1) for i in range(6)))
    assert {1, 2} <= set(again(found))
    assert len(again(found)) == len(set(again(found)))
    first = next(each for one in found for each in one.again if each.number == 1)
    assert (first.account_id, first.verdict.outcome) == (1, "hold")
    assert Judge(MODEL).decide(first.strengths, kind=1).score_bp == first.verdict.score_bp


def test_ordinary_events_of_an_odd_account_are_left_alone() -> None:
    """They may be those of its owner."""
    found = through(
        pipeline(), *(honest(1, T0 + i * HOUR, 100 + i) for i in range(4)), *(odd(1, T0 + (i + 1) * DAY, i + 1) for i in range(12)),
        honest(1, T0 + 20 * DAY, 200),
    )  # fmt: skip
    assert found[-2].verdict.outcome == "hold"
    assert found[-1].verdict.outcome == "pass"
    assert all(number < 100 for number in again(found))


def test_few_odd_events_of_many_stay_a_few_of_many() -> None:
    ordinary = [honest(1, T0 + i * HOUR * 7, 100 + i) for i in range(40)]
    found = through(pipeline(), *ordinary[:20], odd(1, T0 + 6 * DAY, 1), *ordinary[21:], odd(1, T0 + 12 * DAY, 2))
    assert {one.verdict.outcome for one in found} == {"pass"}
    assert again(found) == []


def test_a_ring_that_turns_out_odd_is_looked_through() -> None:
    """One odd event an account: only the phone that they share tells."""
    found = through(pipeline(), *(odd(account, T0 + account * HOUR, account, device="phone") for account in range(1, 9)))
    assert found[-1].verdict.outcome == "hold"
    assert 1 in again(found)
    alone = through(pipeline(), *(odd(account, T0 + account * HOUR, account, device=f"phone{account}") for account in range(1, 9)))
    assert {one.verdict.outcome for one in alone} == {"pass"}


def test_suspicion_does_not_feed_itself() -> None:
    """What an event raises by itself is the same, whatever went before."""
    found = through(pipeline(), *(odd(1, T0 + i * DAY, i + 1) for i in range(20)))
    assert {round(one.verdict.own, 6) for one in found} == {2.4}


def test_people_who_approve_are_believed() -> None:
    one = pipeline()
    found = through(one, *(odd(1, T0 + i * DAY, i + 1, device="phone") for i in range(6)), odd(2, T0 + 6 * DAY, 50, device="phone"))
    assert found[-2].verdict.outcome == "hold"
    one.clear([1, 2, 77])
    later = through(one, odd(1, T0 + 7 * DAY, 60, device="phone"), odd(2, T0 + 7 * DAY, 61, device="phone"))
    assert {each.verdict.outcome for each in later} == {"pass"}
    assert again(later) == []
    once = [_state(one, account) for account in (1, 2)]
    two = pipeline()
    through(two, *(odd(1, T0 + i * DAY, i + 1, device="phone") for i in range(6)), odd(2, T0 + 6 * DAY, 50, device="phone"))
    two.clear([1, 2])
    two.clear([2, 1])
    through(two, odd(1, T0 + 7 * DAY, 60, device="phone"), odd(2, T0 + 7 * DAY, 61, device="phone"))
    assert [_state(two, account) for account in (1, 2)] == once


def _state(one: Pipeline, account: int) -> list[tuple[float, float]]:
    found = through(one, odd(account, T0 + 8 * DAY, 900 + account, device="phone"))[0].features
    assert found is not None
    return [(found.account_odds, found.ring_odds)]


def test_people_who_reject_are_believed_and_the_ring_with_them() -> None:
    def crew(one: Pipeline) -> list[Judged]:
        return through(one, *(odd(account, T0 + account * HOUR, account, device="phone") for account in (1, 2)))

    before, after = pipeline(), pipeline()
    assert {each.verdict.outcome for each in (*crew(before), *crew(after))} == {"pass"}
    assert {each.number for each in after.convict([1])} == {1, 2}
    assert after.convict([1]) == ()
    scores = [through(one, odd(3, T0 + DAY, 9, device="phone"))[0].verdict.score_bp for one in (before, after)]
    assert scores[1] > scores[0]
    after.clear([1])
    found = through(after, odd(4, T0 + DAY, 10, device="phone"))[0].features
    assert found is not None
    assert found.convicted == 0


def test_memory_and_work_have_a_bound() -> None:
    record = new_record()
    for i in range(100):
        record.remember(Past(i, T0 + i, 0, 1.0, 0, ()))
    assert [past.number for past in record.past] == list(range(100 - MAX_PAST, 100))
    record.remember(Past(100, T0 + 2 * PAST_S, 0, 1.0, 0, ()))
    assert len(record.past) == MAX_PAST
    ring = Ring(1)
    for account in range(200):
        ring.suspect(account)
    assert len(ring.suspects) == MAX_SUSPECTS


def test_sums_fade_with_what_happened_not_with_the_clock() -> None:
    sums = Sums()
    sums.add(T0, 4.0)
    sums.add(T0 + FADE_S, 0.0)
    assert (sums.events, sums.odds) == (1.5, 2.0)
    sums.add(T0, 4.0)
    assert (sums.at, sums.events, sums.odds) == (T0 + FADE_S, 2.0, 4.0)


@given(st.lists(st.tuples(st.integers(0, 60 * DAY), ODDS), min_size=1, max_size=20), st.randoms())
def test_order_of_arrival_does_not_matter(events: list[tuple[int, float]], random: object) -> None:
    shuffled = list(events)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = []
    for some in (events, shuffled):
        sums = Sums(T0)
        for at, odds in some:
            sums.add(T0 + at, odds)
        found.append((sums.at, sums.events, sums.odds))
    assert found[0] == pytest.approx(found[1])


@given(st.lists(ODDS, min_size=1, max_size=10), ODDS)
def test_the_more_the_others_raised_the_more_is_inherited(others: list[float], more: float) -> None:
    means = []
    for extra in (0.0, more):
        record = new_record()
        for odds in others:
            record.kinds[0].add(T0, min(4.0, odds + extra))
        f = Features()
        inherit(f, record, 0, Ring(1))
        means.append(f.account_odds)
        assert f.account_odds <= max(others) + extra
    assert means[1] >= means[0]


def test_what_an_event_added_itself_is_left_out() -> None:
    record = new_record()
    for at, odds in ((T0, 3.0), (T0, 1.0)):
        record.kinds[2].add(at, odds)
    f = Features()
    inherit(f, record, 2, Ring(1), but=Past(1, T0, 2, 3.0, 0, ()))
    assert f.account_odds == pytest.approx(1.0 / (1 + DOUBT))

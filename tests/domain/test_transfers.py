"""Adjustments and transfers in memory: over any number of accounts the book balances, and no point is lost or made between two."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.points_policy import PointsPolicy, TransferPolicy
from service.domain import adjustments, transfers
from service.domain.adjustments import Adjustment
from service.domain.errors import GreenpointsError, InsufficientPoints, InvalidRequest, InvalidState
from service.domain.ledger import Book, Kind, Lot
from service.domain.posting import Account
from service.domain.purse import Purse

ZONE = ZoneInfo("Asia/Shanghai")
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TODAY = NOW.astimezone(ZONE).date()
UNTIL = TODAY + timedelta(days=14)


def purse_of(number: int, *lots: tuple[int, date | None]) -> Purse:
    made = [Lot(number * 1_000 + n, 0, points, day, campaign=n % 3, platform=3 + number) for n, (points, day) in enumerate(lots, 1)]
    account = Account(id=number, program=1, available=sum(points for points, _ in lots))
    return Purse(account, made, today=TODAY, restored_until=UNTIL)


def adjustment(points: int, **changes: Any) -> Adjustment:
    values: dict[str, Any] = {
        "bucket": 1, "account": 1, "number": 1, "program": 1, "platform": 3, "points": points, "reason": "r", "note": None, "own_last_day": False,
        "expires_on": None, "may_owe": False, "alone": False, "status": "pending", "proposed_by": 1, "proposed_at": NOW,
        "open_until": NOW + adjustments.OPEN_FOR,
    } | changes  # fmt: skip
    return Adjustment(**values)


def carry_out(purse: Purse, of: Adjustment, number: int, policy: PointsPolicy = PointsPolicy()) -> None:  # noqa: B008 - frozen
    adjustments.carry_out(purse, of, number, policy=policy, now=NOW, zone=ZONE)


def move(sender: Purse, receiver: Purse, number: int, points: int) -> None:
    parts = transfers.take(sender, number, points, platform=3, message=None)
    transfers.give(receiver, number, parts, platform=3, message=None)


def assert_sound(purses: list[Purse]) -> None:
    between: dict[int, int] = defaultdict(int)
    for purse in purses:
        by_transfer: dict[int, int] = defaultdict(int)
        books: dict[int, int] = defaultdict(int)
        for e in purse.entries:
            by_transfer[e.transfer] += e.amount
            books[e.book] += e.amount
            if e.book == Book.TRANSFER:
                between[e.transfer] += e.amount
        assert not any(by_transfer.values())
        account = purse.account
        assert account.available == sum(lot.free for lot in purse.lots.values()) >= 0
        assert account.debt >= 0
        assert sum(t.points for t in purse.transfers) == books[Book.AVAILABLE] + books[Book.DEBT]
        assert [e.seq for e in purse.entries] == list(range(1, len(purse.entries) + 1))
    assert not any(between.values())


DAYS = st.one_of(st.none(), st.integers(-2, 5).map(lambda d: TODAY + timedelta(days=d)))
LOTS = st.lists(st.tuples(st.integers(1, 50), DAYS), max_size=5)
WHO = st.integers(0, 2)
STEPS = st.lists(st.tuples(st.sampled_from(["give", "take", "owe", "move"]), WHO, WHO, st.integers(1, 60)), max_size=25)


@given(st.tuples(LOTS, LOTS, LOTS), STEPS)
def test_whatever_is_adjusted_and_given_the_book_balances_over_all(
    lots: tuple[list[tuple[int, date | None]], ...], steps: list[tuple[str, int, int, int]]
) -> None:
    purses = [purse_of(number, *of) for number, of in enumerate(lots, 1)]
    model = [sum(points for points, _ in of) for of in lots]
    for number, (step, who, to, points) in enumerate(steps, 10_000):
        purse = purses[who]
        try:
            if step == "give":
                carry_out(purse, adjustment(points), number)
                model[who] += points
            elif step == "move":
                if who == to:
                    continue
                move(purse, purses[to], number, points)
                model[who], model[to] = model[who] - points, model[to] + points
            else:
                carry_out(purse, adjustment(-points, may_owe=step == "owe"), number)
                model[who] -= points
        except InsufficientPoints:
            assert points > purse.spendable
            assert step != "owe"
        assert_sound(purses)
        assert [p.account.available - p.account.debt for p in purses] == model


@given(LOTS, st.integers(1, 300))
def test_moved_points_keep_what_their_lots_are(lots: list[tuple[int, date | None]], points: int) -> None:
    sender, receiver = purse_of(1, *lots), purse_of(2)
    taken = dict[tuple[object, ...], int]()
    try:
        parts = transfers.take(sender, 9, points, platform=3, message=None)
    except InsufficientPoints:
        return
    for lot, part in parts:
        key = (lot.expires_on, lot.campaign, lot.platform)
        taken[key] = taken.get(key, 0) + part
    transfers.give(receiver, 9, parts, platform=3, message=None)
    assert {(new.expires_on, new.campaign, new.platform): new.amount for new in receiver.new_lots} == taken
    assert [(new.event, new.n, new.origin) for new in receiver.new_lots] == [(9, n, Kind.TRANSFER) for n in range(len(taken))]
    assert all(day is None or day >= TODAY for day, *_ in taken)


@pytest.mark.parametrize(
    ("policy", "points", "given_before", "error"),
    [
        (TransferPolicy(), 1, 0, InvalidState),
        (TransferPolicy(enabled=True, per_transfer=5, per_day=9), 6, 0, InvalidRequest),
        (TransferPolicy(enabled=True, per_transfer=5, per_day=9), 5, 5, InvalidState),
        (TransferPolicy(enabled=True, per_transfer=5, per_day=9), 5, 4, None),
        (TransferPolicy(enabled=True, per_transfer=0, per_day=9), 1, 0, InvalidRequest),
        (TransferPolicy(enabled=True, per_transfer=9, per_day=0), 1, 0, InvalidState),
    ],
)
def test_the_limits(policy: TransferPolicy, points: int, given_before: int, error: type[GreenpointsError] | None) -> None:
    def judge() -> None:
        transfers.check_points(policy, points)
        transfers.check_day(policy, points, given=given_before)

    if error is None:
        judge()
    else:
        with pytest.raises(error):
            judge()


LATE = NOW + adjustments.OPEN_FOR


@pytest.mark.parametrize(
    ("of", "step", "operator", "now", "outcome"),
    [
        ({}, "approve", 2, NOW, True),
        ({}, "reject", 2, NOW, True),
        ({}, "withdraw", 1, NOW, True),
        ({}, "approve", 1, NOW, "another operator"),
        ({}, "reject", 1, NOW, "another operator"),
        ({}, "withdraw", 2, NOW, "who proposed"),
        ({}, "approve", 2, LATE, "could be decided until"),
        ({}, "approve", 2, LATE - timedelta(microseconds=1), True),
        ({"status": "done", "decided_by": 2}, "approve", 2, LATE, False),
        ({"status": "done", "decided_by": 2}, "approve", 3, NOW, "is done"),
        ({"status": "done", "decided_by": 2}, "reject", 2, NOW, "is done"),
        ({"status": "done", "alone": True}, "withdraw", 1, NOW, "is done"),
        ({"status": "rejected", "decided_by": 2}, "reject", 2, NOW, False),
        ({"status": "withdrawn", "decided_by": 1}, "withdraw", 1, NOW, False),
        ({"status": "expired"}, "approve", 2, NOW, "is expired"),
    ],
)
def test_who_may_decide_what_and_when(of: dict[str, Any], step: Any, operator: int, now: datetime, outcome: Any) -> None:
    made = adjustment(5_000, **of)
    if isinstance(outcome, bool):
        assert adjustments.needs_deciding(made, step, operator=operator, now=now) is outcome
        return
    with pytest.raises(InvalidState, match=outcome):
        adjustments.needs_deciding(made, step, operator=operator, now=now)

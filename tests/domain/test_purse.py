"""Purses: what reserving, spending and giving back do to lots, and that the book always balances."""

from collections import defaultdict
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import InsufficientPoints
from service.domain.ledger import Book, Kind, Lot
from service.domain.posting import Account
from service.domain.purse import NewLot, Part, Purse

TODAY = date(2026, 11, 22)
UNTIL = TODAY + timedelta(days=14)


def purse_of(*lots: tuple[int, date | None], debt: int = 0) -> Purse:
    made = [Lot(n, 0, points, day, campaign=7, platform=3) for n, (points, day) in enumerate(lots, 1)]
    account = Account(id=1, program=1, available=sum(points for points, _ in lots), debt=debt)
    return Purse(account, made, today=TODAY, restored_until=UNTIL)


def left(purse: Purse) -> list[tuple[int, int]]:
    return [(lot.remaining, lot.reserved) for lot in purse.lots.values()]


def assert_sound(purse: Purse) -> None:
    by_transfer: dict[int, int] = defaultdict(int)
    books: dict[int, int] = defaultdict(int)
    for e in purse.entries:
        by_transfer[e.transfer] += e.amount
        books[e.book] += e.amount
    assert not any(by_transfer.values())
    account = purse.account
    assert account.available == sum(lot.free for lot in purse.lots.values()) >= 0
    assert account.reserved == sum(lot.reserved for lot in purse.lots.values()) >= 0
    assert all(0 <= lot.reserved <= lot.remaining for lot in purse.lots.values())
    assert not (account.available and account.debt)
    assert sum(t.points for t in purse.transfers) == books[Book.AVAILABLE] + books[Book.DEBT]
    assert [e.seq for e in purse.entries] == list(range(1, len(purse.entries) + 1))


def test_what_expires_first_is_spent_first() -> None:
    purse = purse_of((10, None), (10, TODAY + timedelta(days=9)), (10, TODAY))
    spent = purse.spend(purse.begin(Kind.CAPTURE, 100, platform=3, redemption=100), 15, Book.REDEEMED)
    assert [(lot.event, part) for lot, part in spent] == [(3, 10), (2, 5)]
    assert purse.spent[7, 3].redeemed == 15
    assert_sound(purse)


def test_what_is_past_its_last_day_cannot_be_spent() -> None:
    purse = purse_of((10, TODAY - timedelta(days=1)), (5, TODAY))
    with pytest.raises(InsufficientPoints, match="5 can be spent"):
        purse.reserve(purse.begin(Kind.RESERVE, 100, platform=3), 6)
    assert purse.entries == []
    assert left(purse) == [(10, 0), (5, 0)]


def test_a_partial_capture_gives_the_rest_back_to_its_lots() -> None:
    purse = purse_of((10, TODAY), (10, None))
    held = purse.reserve(purse.begin(Kind.RESERVE, 100, platform=3, redemption=100), 15)
    assert left(purse) == [(10, 10), (10, 5)]
    purse.capture(purse.begin(Kind.CAPTURE, 101, platform=3, redemption=100), held, 12, Book.REDEEMED)
    assert left(purse) == [(0, 0), (8, 0)]
    assert purse.account.balance() == Account(id=1, program=1, available=8, version=2).balance()
    assert_sound(purse)


def test_a_refund_restores_what_was_spent_and_what_expired_meanwhile_lives_on_for_a_while() -> None:
    purse = purse_of((10, TODAY), (10, None))
    spent = purse.spend(purse.begin(Kind.CAPTURE, 100, platform=3, redemption=100), 15, Book.REDEEMED)
    purse.today = TODAY + timedelta(days=1)
    purse.restored_until = UNTIL
    back = purse.refund(purse.begin(Kind.REFUND, 101, platform=3, redemption=100), spent, 12, Book.REDEEMED)
    assert [(lot.event, part) for lot, part in back] == [(2, 5), (1, 7)]
    assert left(purse) == [(7, 0), (10, 0)]
    assert purse.lots[1, 0].expires_on == UNTIL
    assert purse.spent[7, 3].redeemed == 3
    assert purse.uses == {(1, 0, 100): 10, (2, 0, 100): 5, (1, 0, 101): -7, (2, 0, 101): -5}
    assert_sound(purse)


def test_what_is_left_of_a_lot_after_its_day_does_not_live_on_with_what_comes_back() -> None:
    purse = purse_of((10, TODAY), (5, None))
    held = purse.reserve(purse.begin(Kind.RESERVE, 100, platform=3, redemption=100), 4)
    purse.today = TODAY + timedelta(days=1)
    purse.release(purse.begin(Kind.RELEASE, 101, platform=3, redemption=100), held)
    assert [(lot.event, part) for lot, part in purse.stale] == [(1, 6)]
    purse.expire(purse.begin(Kind.EXPIRE, 102, platform=0))
    assert left(purse) == [(4, 0), (5, 0)]
    assert (purse.lots[1, 0].expires_on, purse.spent[7, 3].expired, purse.stale) == (UNTIL, 6, [])
    assert_sound(purse)


def test_more_than_was_spent_is_never_given_back() -> None:
    purse = purse_of((10, None))
    spent = purse.spend(purse.begin(Kind.CAPTURE, 100, platform=3), 5, Book.REDEEMED)
    with pytest.raises(ValueError, match="missing"):
        purse.refund(purse.begin(Kind.REFUND, 101, platform=3), spent, 6, Book.REDEEMED)


def test_points_that_come_back_repay_debt_first() -> None:
    purse = purse_of((10, None))
    held = purse.reserve(purse.begin(Kind.RESERVE, 100, platform=3), 10)
    purse.account.debt = 4  # a clawback that found nothing else
    purse.release(purse.begin(Kind.RELEASE, 101, platform=3), held)
    assert (purse.account.available, purse.account.reserved, purse.account.debt) == (6, 0, 0)
    assert left(purse) == [(6, 0)]
    assert_sound(purse)


def test_a_new_lot_repays_debt_and_keeps_its_size() -> None:
    purse = purse_of(debt=30)
    new = NewLot(event=100, n=0, platform=3, campaign=0, origin=Kind.ADJUST, amount=50, remaining=50, expires_on=None)
    purse.give(purse.begin(Kind.ADJUST, 100, platform=0), [new], Book.ADJUSTMENT)
    assert (purse.account.available, purse.account.debt, left(purse)) == (20, 0, [(20, 0)])
    assert purse.uses == {(100, 0, 100): 30}
    assert_sound(purse)


DAYS = st.one_of(st.none(), st.integers(-2, 5).map(lambda d: TODAY + timedelta(days=d)))
STEPS = st.lists(
    st.tuples(st.sampled_from(["reserve", "capture", "release", "spend", "refund", "take", "give"]), st.integers(1, 40)), max_size=25
)


@given(st.lists(st.tuples(st.integers(1, 50), DAYS), max_size=6), STEPS)
def test_whatever_is_done_the_book_balances(lots: list[tuple[int, date | None]], steps: list[tuple[str, int]]) -> None:
    purse = purse_of(*lots)
    held: list[list[Part]] = []
    spent: list[list[Part]] = []
    for number, (step, points) in enumerate(steps, 1_000):
        try:
            if step == "reserve":
                held.append(purse.reserve(purse.begin(Kind.RESERVE, number, platform=3), points))
            elif step == "capture" and held:
                parts = held.pop(points % len(held))
                most = min(points, sum(part for _, part in parts))
                spent.append(purse.capture(purse.begin(Kind.CAPTURE, number, platform=3), parts, most, Book.REDEEMED))
            elif step == "release" and held:
                purse.release(purse.begin(Kind.RELEASE, number, platform=3), held.pop(points % len(held)))
            elif step == "spend":
                spent.append(purse.spend(purse.begin(Kind.CAPTURE, number, platform=3), points, Book.CAUSE))
            elif step == "refund" and spent:
                parts = spent.pop(points % len(spent))
                most = min(points, sum(part for _, part in parts))
                purse.refund(purse.begin(Kind.REFUND, number, platform=3), parts, most, Book.CAUSE)
            elif step == "take":
                purse.take(purse.begin(Kind.ADJUST, number, platform=0), points, Book.ADJUSTMENT)
            elif step == "give":
                new = NewLot(
                    event=number, n=0, platform=3, campaign=0, origin=Kind.ADJUST, amount=points, remaining=points, expires_on=None
                )
                purse.give(purse.begin(Kind.ADJUST, number, platform=0), [new], Book.ADJUSTMENT)
        except InsufficientPoints:
            assert points > purse.spendable
        assert_sound(purse)

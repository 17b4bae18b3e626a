"""The door and the lists by themselves: what is a burst, what wins, what is forgotten."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.domain.fraud.door import Bursts, Door, Hint
from service.domain.fraud.lists import Entry, Lists

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENTITIES = {"device": "h:d", "payment": "h:p", "note": "free"}


def entry(list_: Any, kind: str, value: str, until: datetime | None = None) -> Entry:
    return Entry(list=list_, kind=kind, value=value, until=until)


# Lists


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([], None), ([("block", "device", "h:d")], "block"), ([("allow", "payment", "h:p")], "allow"), ([("block", "account", "7")], "block"),
        ([("allow", "account", "7"), ("block", "device", "h:d")], "block"), ([("block", "account", "7"), ("allow", "device", "h:d")], "block"),
        ([("block", "payment", "h:d")], None), ([("block", "device", "h:x"), ("block", "account", "8")], None),
    ],
)  # fmt: skip
def test_what_lists_say(entries: list[tuple[str, str, str]], said: str | None) -> None:
    assert Lists(entry(*e) for e in entries).says(7, ENTITIES) == said


def test_what_has_ended_says_nothing() -> None:
    lists = Lists([entry("block", "device", "h:d", until=NOW), entry("allow", "account", "7", until=NOW + timedelta(seconds=1))])
    assert lists.says(7, ENTITIES, now=NOW - timedelta(seconds=1)) == "block"
    assert lists.says(7, ENTITIES, now=NOW) == "allow"
    assert lists.says(7, ENTITIES, now=NOW + timedelta(seconds=1)) is None


def test_only_what_can_be_listed_is_looked_at() -> None:
    assert Lists([entry("block", "note", "free"), entry("block", "region", "h:r")]).says(7, {"note": "free", "region": "h:r"}) is None


# Bursts


def test_one_more_than_the_bound_within_an_hour_is_a_burst() -> None:
    bursts = Bursts(3)
    assert [bursts.add("k", at) for at in (0, 1_000, 2_000, 3_599, 3_600, 10_000)] == [False, False, False, True, True, False]
    assert [bursts.add("other", at) for at in (0, 0, 0, 0)] == [False, False, False, True]


def test_nothing_is_a_burst_where_nobody_counts() -> None:
    bursts = Bursts(0)
    assert not any(bursts.add("k", 0) for _ in range(1_000))


@pytest.mark.parametrize("seed", range(20))
def test_a_burst_is_one_in_whatever_order_it_comes(seed: int) -> None:
    """Compared with counting all windows over everything that came, where nothing was too much to remember."""
    chance = random.Random(seed)
    bursts, came = Bursts(4), []
    for _ in range(9):  # twice the bound and one: so many are remembered
        at = float(chance.randrange(0, 12_000, 300))
        came.append(at)
        windows = [[t for t in came if start <= t < start + 3_600] for start in came]
        assert bursts.add("k", at) == any(len(window) > 4 and at in window for window in windows), came


def test_a_burst_that_never_ends_stays_one_backwards_too() -> None:
    for step in (10, -10):
        bursts = Bursts(3)
        found = [bursts.add("k", 1_000_000 + step * n) for n in range(500)]
        assert found == [False] * 3 + [True] * 497


def test_what_is_remembered_is_bounded_and_the_latest() -> None:
    bursts = Bursts(1, max_keys=2)
    for key in ("a", "b"):
        bursts.add(key, 0)
    assert bursts.add("a", 0)
    bursts.add("c", 0)  # in place of b, which was met longest ago
    assert bursts.add("a", 0)
    assert not bursts.add("b", 0)
    small = Bursts(10, max_times=5)
    for n in range(5):
        small.add("a", n)
    small.add("b", 0)  # a sixth time: all of a goes
    assert not any(small.add("a", n) for n in range(5))


def test_what_is_taken_back_never_came() -> None:
    bursts = Bursts(1)
    for at in (0.0, 5.0):
        bursts.add("k", at)
        bursts.take_back("k", at)
    bursts.take_back("nobody", 0.0)
    assert not bursts.add("k", 1.0)
    assert bursts.add("k", 2.0)


# Visits


def look(
    door: Door, *, account: int = 7, purse: int = 7, at: datetime = NOW, device: str | None = None, lists: Lists | None = None
) -> Hint:
    entities = {} if device is None else {"device": device}
    with door.visit() as visit:
        visit.lists = {} if lists is None else {1: lists}
        return visit.look(program=1, account=account, purse=purse, entities=entities, occurred_at=at, now=NOW)


def test_a_visit_that_fails_has_counted_nothing() -> None:
    door = Door("enforce", consumer_events=1)

    def fail() -> None:
        with door.visit() as visit:
            visit.look(program=1, account=7, purse=7, entities={}, occurred_at=NOW, now=NOW)
            raise RuntimeError

    for _ in range(3):
        with pytest.raises(RuntimeError):
            fail()
    assert look(door) == Hint.NOTHING
    assert look(door) == Hint.BURST


def test_a_device_is_counted_over_all_its_consumers_in_its_program() -> None:
    door = Door("enforce", device_events=2)
    assert [look(door, account=n, purse=n, device="h:d") for n in range(3)] == [Hint.NOTHING, Hint.NOTHING, Hint.BURST]
    with door.visit() as visit:
        hint = visit.look(program=2, account=9, purse=9, entities={"device": "h:d"}, occurred_at=NOW, now=NOW)
    assert hint == Hint.NOTHING


def test_a_linked_person_is_one() -> None:
    door = Door("enforce", consumer_events=1)
    assert [look(door, account=n, purse=7) for n in (7, 8)] == [Hint.NOTHING, Hint.BURST]
    blocked = Lists([entry("block", "account", "7")])
    assert look(Door("enforce"), account=8, purse=7, lists=blocked) == Hint.LISTED
    both = Lists([entry("allow", "account", "8"), entry("block", "account", "7")])
    assert look(Door("enforce"), account=8, purse=7, lists=both) == Hint.LISTED


def test_what_is_allowed_is_no_burst_and_counts_for_none() -> None:
    door = Door("enforce", consumer_events=1)
    allowed = Lists([entry("allow", "device", "h:till")])
    assert {look(door, device="h:till", lists=allowed) for _ in range(5)} == {Hint.NOTHING}
    assert look(door, lists=allowed) == Hint.NOTHING


def test_shadow_tells_and_holds_nothing() -> None:
    lists = Lists([entry("block", "account", "7")])
    for mode, hint, found in (
        ("enforce", Hint.LISTED, ["block_list"]),
        ("shadow", Hint.NOTHING, ["block_list"]),
        ("off", Hint.NOTHING, []),
    ):
        with Door(mode).visit() as visit:  # type: ignore[arg-type]
            visit.lists = {1: lists}
            assert visit.look(program=1, account=7, purse=7, entities={}, occurred_at=NOW, now=NOW) == hint
        assert visit.found == found

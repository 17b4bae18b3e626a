"""Windows: by when it happened, late events in their own time, never more than a bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.fraud.panes import MAX_MEMBERS
from service.domain.fraud.windows import DAY, HOUR, NOTHING, MemoryWindows, Touch

T0 = 1_736_121_600  # a midnight, UTC
ONE = (1.0, 10.0, *NOTHING[2:])


def touch(at: int, *, key: str = "k", window: int = DAY, member: int | None = None) -> Touch:
    return Touch("slot", key, window, T0 + at, ONE, member)


def test_a_touch_counts_itself() -> None:
    (count,) = MemoryWindows().add([touch(0)])
    assert (count.events, count.points, count.last_at) == (1, 10, 0)


def test_keys_and_windows_are_kept_apart() -> None:
    counts = MemoryWindows().add([touch(0), touch(0, key="other"), touch(0, window=HOUR)])
    assert [count.events for count in counts] == [1, 1, 1]


@pytest.mark.parametrize(
    ("later", "left"), [(0, 1.0), (DAY // 2, 1.0), (DAY, 1.0), (DAY + DAY // 4, 0.75), (2 * DAY - 1, 0.0), (2 * DAY, 0.0)]
)
def test_the_bucket_before_counts_by_the_share_of_it_that_the_window_covers(later: int, left: float) -> None:
    counts = MemoryWindows().add([touch(0), touch(later)])
    assert counts[-1].events - 1 == pytest.approx(left, abs=1e-4)


def test_a_late_event_counts_in_its_own_time() -> None:
    windows = MemoryWindows()
    windows.add([touch(0), touch(DAY), touch(DAY + 1)])
    (late,) = windows.add([touch(100)])
    assert late.events == 2
    (now,) = windows.add([touch(2 * DAY - 1)])
    assert now.events == pytest.approx(3, abs=1e-4)


def test_the_newest_three_buckets_are_kept_whatever_the_order() -> None:
    windows = MemoryWindows()
    windows.add([touch(day * DAY) for day in (9, 3, 7, 1, 8, 2, 30, 4)])
    assert [windows.add([touch(day * DAY)])[0].events for day in (30, 9, 8, 7)] == [2, 2 + 1, 2, 1]


def test_members_are_distinct_and_leave_after_their_window() -> None:
    windows = MemoryWindows()
    counts = windows.add([touch(0, member=1), touch(1, member=1), touch(2, member=2), touch(DAY + 1, member=3)])
    assert [count.members for count in counts] == [1, 1, 2, 2]


def test_members_are_counted_to_a_bound_and_make_room_for_new_ones() -> None:
    windows = MemoryWindows()
    counts = windows.add([touch(0, member=i) for i in range(3 * MAX_MEMBERS)])
    assert counts[MAX_MEMBERS - 1].members == counts[-1].members == MAX_MEMBERS
    (later,) = windows.add([touch(2 * DAY, member=-1)])
    assert later.members == 1


def test_keys_that_nobody_touches_are_forgotten() -> None:
    windows = MemoryWindows()
    for day in range(100):
        windows.add([touch(day * DAY, key=f"k{day}"), touch(day * DAY, key="always")])
    assert windows.keys() <= 6
    (count,) = windows.add([touch(99 * DAY, key="always")])
    assert count.first_at == T0


class Plain:
    """One key, by the rules of the docstring of windows.py and nothing else: what the compact forms have to come to."""

    def __init__(self, window: int) -> None:
        self.window, self.first, self.last = window, 0, 0
        self.buckets: dict[int, float] = {}
        self.seen: dict[int, int] = {}
        self.several = False

    def add(self, at: int, points: float, member: int, *, read: bool) -> tuple[float, int, int, int]:
        number, since, last = at // self.window, at - self.window, self.last
        kept = sorted({*self.buckets, number})[-3:]
        self.buckets = {n: self.buckets.get(n, 0) for n in kept} | (
            {number: self.buckets.get(number, 0) + points} if number in kept else {}
        )
        here = self.buckets.get(number, points)
        before = self.buckets.get(number - 1, 0)
        self.seen[member] = max(at, self.seen.get(member, 0))
        self.several = self.several or len(self.seen) > 1
        if self.several and read:  # reading forgets who has left
            self.seen = {who: when for who, when in self.seen.items() if when > since}
        self.first, self.last = min(at, self.first or at), max(at, last)
        return here + before * (1 - at % self.window / self.window), len(self.seen), last, self.first


@given(
    st.lists(st.tuples(st.integers(1, 9 * HOUR), st.sampled_from([0.5, 1, 20]), st.integers(1, 4), st.booleans()), max_size=30),
    st.sampled_from([HOUR, 2 * HOUR]),
)
def test_compact_or_not_a_key_holds_what_was_added(touches: list[tuple[int, float, int, bool]], window: int) -> None:
    windows, plain = MemoryWindows(), Plain(window)
    for at, points, member, read in touches:
        touched = [Touch("slot", "k", window, at, (1.0, points, *NOTHING[2:]), member)]
        expected = plain.add(at, points, member, read=read)
        if not read:
            windows.note(touched)
            continue
        (count,) = windows.add(touched)
        assert (pytest.approx(count.points), count.members, count.last_at, count.first_at) == expected

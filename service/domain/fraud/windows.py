"""Sliding windows: what was added under a key lately, by when it happened. A protocol, and one in memory.

A key has buckets as long as its window. What is read is the bucket of the event's own time and the share of the bucket before it that the
window still covers, as if it were spread evenly: two reads, whatever the history; wrong by at most what the older bucket is uneven (the
sliding window counter of rate limiters). Late events count in the bucket of their own time. Members (distinct accounts, stations …) are
exact up to MAX_MEMBERS and stay there.
"""

from collections.abc import Sequence
from operator import add
from typing import Final, Protocol

from msgspec import Struct

HOUR: Final = 3_600
DAY: Final = 86_400
WEEK: Final = 7 * DAY
MONTH: Final = 30 * DAY
QUARTER: Final = 90 * DAY
LIFE: Final = 3_650 * DAY
"""Of a box: shipments and returns of one are compared, and must not fade apart. There are as many keys as boxes."""
MAX_MEMBERS: Final = 64
"""More tell no more: what 64 share belongs to nobody."""
MAX_BUCKETS: Final = 3
"""The newest bucket, the one before, and one for late events."""

FIELDS: Final = ("events", "points", "young", "suspect", "reversed", "money", "shipped", "returned", "free")
NOTHING: Final = (0.0,) * len(FIELDS)
Sums = tuple[float, ...]
"""In the order of FIELDS: events; points earned; points of young accounts; Σ of suspicion (nats, own); points taken back;
money in major units; units of packaging that were shipped, and that came back; points of what costs nothing (activities)."""


class Touch(Struct, frozen=True, gc=False):
    """What an event adds under one key. `slot` says what it is to the event, and names the count that comes back."""

    slot: str
    key: str
    window: int
    """Seconds."""
    at: int
    adds: Sums = NOTHING
    member: str | int | None = None


class Count(Struct, gc=False):
    """What a window holds after a touch, the touch included. Sums are as in FIELDS."""

    events: float = 0
    points: float = 0
    young: float = 0
    suspect: float = 0
    reversed: float = 0
    money: float = 0
    shipped: float = 0
    returned: float = 0
    free: float = 0
    members: int = 0
    last_at: int = 0
    """When the touch before this one happened, seconds since 1970; 0: there was none."""
    first_at: int = 0
    """When the first touch that is remembered happened."""


EMPTY: Final = Count()


class Windows(Protocol):
    """State of all keys of one program."""

    def add(self, touches: Sequence[Touch]) -> list[Count]:
        """Carry the touches out in order; what each key then holds, in the same order. A repeat counts twice: callers sort repeats out."""


class _Tally:
    """One key: its newest buckets, its members with when each was last there."""

    __slots__ = ("buckets", "first_at", "last_at", "members")

    def __init__(self) -> None:
        self.buckets: dict[int, Sums] = {}
        self.members: dict[str | int, int] | None = None
        self.last_at = self.first_at = 0


class MemoryWindows:
    """In memory. Keys that nobody touched for as long as their window, twice, are forgotten; no step looks at all keys."""

    def __init__(self) -> None:
        self._now: dict[int, dict[str, _Tally]] = {}
        self._before: dict[int, dict[str, _Tally]] = {}
        self._turned: dict[int, int] = {}

    def add(self, touches: Sequence[Touch]) -> list[Count]:
        """As Windows.add."""
        return [self._add(touch) for touch in touches]

    def keys(self) -> int:
        """How many keys are remembered."""
        return sum(len(keys) for generation in (self._now, self._before) for keys in generation.values())

    def _add(self, touch: Touch) -> Count:
        window, at = touch.window, touch.at
        tally = self._find(touch.key, window, at)
        number, offset = divmod(at, window)
        buckets = tally.buckets
        here = buckets.get(number)
        if here is not None:
            here = buckets[number] = tuple(map(add, here, touch.adds))
        elif len(buckets) < MAX_BUCKETS or number > min(buckets):
            here = buckets[number] = touch.adds
            if len(buckets) > MAX_BUCKETS:
                del buckets[min(buckets)]
        else:
            here = touch.adds  # too late to be kept: everything around it has been forgotten
        last_at, tally.last_at = tally.last_at, max(at, tally.last_at)
        first_at = tally.first_at = min(at, tally.first_at or at)
        members = 0 if touch.member is None else _join(tally, touch.member, at, window)
        older = buckets.get(number - 1)
        if older is None:
            return _count(here, members, last_at, first_at)
        kept = 1 - offset / window
        return _count([new + kept * old for new, old in zip(here, older, strict=True)], members, last_at, first_at)

    def _find(self, key: str, window: int, at: int) -> _Tally:
        now = self._now.get(window)
        if now is None:
            now = self._now[window] = {}
            self._before[window], self._turned[window] = {}, at
        tally = now.get(key)
        if tally is not None:
            return tally
        if at - self._turned[window] >= 2 * window:
            self._before[window], self._turned[window] = now, at
            now = self._now[window] = {}
        tally = self._before[window].pop(key, None) or _Tally()
        now[key] = tally
        return tally


def _count(sums: Sequence[float], members: int, last_at: int, first_at: int) -> Count:
    events, points, young, suspect, reversed_, money, shipped, returned, free = sums
    return Count(events, points, young, suspect, reversed_, money, shipped, returned, free, members, last_at, first_at)


def _join(tally: _Tally, member: str | int, at: int, window: int) -> int:
    """Note a member; how many there were in the window."""
    members = tally.members
    if members is None:
        members = tally.members = {}
    if len(members) < MAX_MEMBERS or member in members:
        members[member] = max(at, members.get(member, 0))
    else:
        _evict(members, at - window)
        if len(members) < MAX_MEMBERS:
            members[member] = at
    if len(members) == 1:
        return 1
    since = at - window
    return len(members) if len(members) == MAX_MEMBERS else sum(seen > since for seen in members.values())


def _evict(members: dict[str | int, int], since: int) -> None:
    for gone in [member for member, seen in members.items() if seen <= since]:
        del members[gone]

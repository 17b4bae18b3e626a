"""Sliding windows: what was added under a key lately, by when it happened. A protocol, and one in memory.

A key has buckets as long as its window. What is read is the bucket of the event's own time and the share of the bucket before it that the
window still covers, as if it were spread evenly: two reads, whatever the history; wrong by at most what the older bucket is uneven (the
sliding window counter of rate limiters). Late events count in the bucket of their own time. Members (distinct accounts, stations …) are
exact up to MAX_MEMBERS and stay there.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from msgspec import Struct

from service.domain.fraud.panes import MAX_MEMBERS as MAX_MEMBERS  # noqa: PLC0414 - part of this interface
from service.domain.fraud.panes import Member, Once, Pane
from service.domain.fraud.panes import Sums as Sums  # noqa: PLC0414 - likewise

HOUR: Final = 3_600
DAY: Final = 86_400
WEEK: Final = 7 * DAY
MONTH: Final = 30 * DAY
QUARTER: Final = 90 * DAY
LIFE: Final = 3_650 * DAY
"""Of a box: shipments and returns of one are compared, and must not fade apart. There are as many keys as boxes."""

FIELDS: Final = ("events", "points", "young", "suspect", "reversed", "money", "shipped", "returned", "free")
NOTHING: Final[Sums] = (0,) * len(FIELDS)
"""Adds nothing. The sums are: events; points earned; points of young accounts; Σ of suspicion (nats, own); points taken back;
money in major units; units of packaging that were shipped, and that came back; points of what costs nothing (activities)."""


class Touch(Struct, frozen=True, gc=False):
    """What an event adds under one key. `slot` says what it is to the event, and names the count that comes back."""

    slot: str
    key: str
    window: int
    """Seconds."""
    at: int
    adds: Sums = NOTHING
    member: Member | None = None


class Count(Struct, frozen=True, gc=False):
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
_count_of: Final[Callable[..., Count]] = Count
"""By position: nine sums, members, last_at, first_at."""


class Windows(Protocol):
    """State of all keys of one program. A repeat counts twice: callers sort repeats out."""

    def add(self, touches: Sequence[Touch]) -> list[Count]:
        """Carry the touches out in order; what each key then holds, in the same order."""

    def note(self, touches: Iterable[Touch]) -> None:
        """Carry the touches out in order, where nobody asks what the keys hold."""


class MemoryWindows:
    """In memory: a pane for each window length. `tracked`: changes are noted for a journal, which has to ask for them now and then."""

    def __init__(self, *, tracked: bool = False) -> None:
        self.panes: dict[int, Pane] = {}
        self._tracked = tracked
        self._once: Once = (0, NOTHING, None)
        self._first: Count | None = None

    def add(self, touches: Sequence[Touch]) -> list[Count]:
        """As Windows.add."""
        counts: list[Count] = []
        self._carry_out(touches, counts)
        return counts

    def note(self, touches: Iterable[Touch]) -> None:
        """As Windows.note."""
        self._carry_out(touches, None)

    def keys(self) -> int:
        """How many keys are remembered."""
        return sum(len(pane) for pane in self.panes.values())

    def open(self, window: int, *, turned: int, generation: int = 1) -> Pane:
        """An empty pane in the place of what there was for this length (seconds). `turned`: see Pane."""
        pane = self.panes[window] = Pane(window, turned=turned, generation=generation, tracked=self._tracked)
        return pane

    def _carry_out(self, touches: Iterable[Touch], counts: list[Count] | None) -> None:  # noqa: C901, PLR0912 - calls would take more than its steps
        """One loop over local names, because it runs a dozen times an event. `counts` takes the answers."""
        adds, pairs = NOTHING, list[tuple[int, float]]()
        window = when = number = since = 0
        for touch in touches:
            key, at, member = touch.key, touch.at, touch.member
            if touch.window != window or at != when:  # neighbours mostly have the same
                window, when = touch.window, at
                found = self.panes.get(window)
                pane = self.open(window, turned=at) if found is None else found
                number, since = at // window, at - window
            tally = pane.now.get(key)
            if tally is None:
                tally = pane.recall(key, at)
                if tally is None:
                    self._begin(pane, touch, counts)
                    continue
            elif isinstance(tally, tuple):
                tally = pane.promote(key, tally)
            last_at = tally.last_at
            here = tally.here if number == tally.number else tally.bucket(number) or [0] * len(FIELDS)  # too late: for itself alone
            if touch.adds is not adds:
                adds = touch.adds
                pairs = [(i, value) for i, value in enumerate(adds) if value]
            for i, value in pairs:
                here[i] += value
            if member is not None and member != tally.only:
                tally.join(member, at, window)
            if at > last_at:
                tally.last_at = at
            elif at < tally.first_at:
                tally.first_at = at
            if tally.chunk:
                pane.changed(tally)
            if counts is not None:
                members = 0 if member is None else 1 if tally.members is None else tally.present(since)
                older = tally.older if tally.older_number == number - 1 else tally.before(number) if number < tally.number else None
                if older is None:
                    counts.append(_count_of(*here, members, last_at, tally.first_at))
                else:
                    counts.append(_count(here, older, 1 - at % window / window, members, last_at, tally.first_at))

    def _begin(self, pane: Pane, touch: Touch, counts: list[Count] | None) -> None:
        """A key's first touch. Those of one event share what is kept, and the answer."""
        at, adds, member = once = self._once
        if adds is not touch.adds or at != touch.at or member != touch.member:
            once = self._once = (touch.at, touch.adds, touch.member)
            self._first = None
        pane.remember(touch.key, once)
        if counts is not None:
            first = self._first = self._first or _count_of(*touch.adds, 0 if touch.member is None else 1, 0, touch.at)
            counts.append(first)


def _count(here: Sequence[float], older: Sequence[float], kept: float, members: int, last_at: int, first_at: int) -> Count:
    """`kept`: the share of the older bucket that the window still covers."""
    # By name, and leaving zeros alone, in a third of the time of a loop.
    events, points, young, suspect, reversed_, money, shipped, returned, free = here
    old_events, old_points, old_young, old_suspect, old_reversed, old_money, old_shipped, old_returned, old_free = older
    return Count(
        events + kept * old_events,
        points + kept * old_points if old_points else points,
        young + kept * old_young if old_young else young,
        suspect + kept * old_suspect if old_suspect else suspect,
        reversed_ + kept * old_reversed if old_reversed else reversed_,
        money + kept * old_money if old_money else money,
        shipped + kept * old_shipped if old_shipped else shipped,
        returned + kept * old_returned if old_returned else returned,
        free + kept * old_free if old_free else free,
        members, last_at, first_at,
    )  # fmt: skip

"""The door: what is looked at while an event is being credited, in memory alone, so that the crudest never looks like earned.

It holds what a block list names and what comes in bursts that no person makes. What is held here is judged like everything else; the
door only says so sooner. It counts by `occurred_at`, so that a replayed month behaves like live traffic, and in this process alone.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import IntEnum
from typing import Any, Final, Literal

from service.domain.fraud.lists import NOTHING, Lists

Mode = Literal["enforce", "shadow", "off"]
Found = Literal["block_list", "consumer_burst", "device_burst"]
HOUR_S: Final = 3_600.0
MAX_KEYS: Final = 100_000
"""Consumers, or devices, that are remembered: the latest."""
MAX_TIMES: Final = 1_000_000
"""Times that are remembered of all of them: 8 MB."""


class Hint(IntEnum):
    """Why an event is held at the door; column `hint` of table `screening`."""

    NOTHING = 0
    LISTED = 1
    BURST = 2


_HINTS: Final[dict[Found, Hint]] = {"block_list": Hint.LISTED, "consumer_burst": Hint.BURST, "device_burst": Hint.BURST}


class Bursts:
    """How many events there were of each key within an hour, as far as is remembered: bounded, the least recently met is forgotten."""

    def __init__(self, most: int, *, max_keys: int = MAX_KEYS, max_times: int = MAX_TIMES) -> None:
        """`most` events within an hour are no burst; 0: nothing is counted, and nothing is one."""
        self.most = most
        self._max_keys = max_keys
        self._max_times = max_times
        self._times: OrderedDict[Hashable, array[float]] = OrderedDict()
        self._total = 0

    def add(self, key: Hashable, at_s: float) -> bool:
        """Count an event; whether it is one of more than `most` within less than an hour, whatever order they come in."""
        if not self.most:
            return False
        times = self._times.get(key)
        if times is None:
            self._times[key] = array("d", (at_s,))
            self._total += 1
            self._forget()
            return False
        self._times.move_to_end(key)
        place = bisect_right(times, at_s)
        times.insert(place, at_s)
        if len(times) > 2 * self.most + 1:  # no more can matter on either side of it: the farthest goes
            last = len(times) - 1
            if place > last // 2:
                del times[0]
                place -= 1
            else:
                del times[last]
        else:
            self._total += 1
            self._forget()
        first, last = max(0, place - self.most), min(place, len(times) - 1 - self.most)
        return any(times[i + self.most] - times[i] < HOUR_S for i in range(first, last + 1))

    def take_back(self, key: Hashable, at_s: float) -> None:
        """An event that was counted has not happened after all."""
        times = self._times.get(key)
        if times is None:
            return
        place = bisect_left(times, at_s)
        if place < len(times) and times[place] == at_s:
            del times[place]
            self._total -= 1
            if not times:
                del self._times[key]

    def _forget(self) -> None:
        while len(self._times) > self._max_keys or self._total > self._max_times:
            _, times = self._times.popitem(last=False)
            self._total -= len(times)


class Door:
    """What a process remembers for the checks at the door. Mode `shadow`: it is counted, and nothing is held; `off`: nobody looks."""

    def __init__(self, mode: Mode = "off", *, consumer_events: int = 0, device_events: int = 0) -> None:
        """`consumer_events`, `device_events`: so many within an hour are no burst; 0: not looked at."""
        self.mode = mode
        self.consumers = Bursts(consumer_events)
        self.devices = Bursts(device_events)

    @contextmanager
    def visit(self) -> Iterator["Visit"]:
        """One transaction at the door: what it counted is taken back when it fails."""
        visit = Visit(self)
        try:
            yield visit
        except BaseException:
            visit.take_back()
            raise


class Visit:
    """What one transaction asks at the door. `lists`: by program, as they are for it."""

    def __init__(self, door: Door) -> None:
        self.mode = door.mode
        self.lists: Mapping[int, Lists] = {}
        self.found: list[Found] = []
        """What was found of its events, held or only told."""
        self._door = door
        self._counted: list[tuple[Bursts, Hashable, float]] = []

    def look(
        self, *, program: int, account: int, purse: int, entities: Mapping[str, Any], occurred_at: datetime, now: datetime
    ) -> Hint:  # fmt: skip
        """Whether to hold an event that earns. `purse`: the account that has this one's points (itself, unless it is linked).

        `entities`: its attributes as stored; `now`: the transaction's time. What a list allows is no burst, and counts for none.
        """
        if self.mode == "off":
            return Hint.NOTHING
        found = self._find(program, account, purse, entities, occurred_at, now)
        if found is None:
            return Hint.NOTHING
        self.found.append(found)
        return _HINTS[found] if self.mode == "enforce" else Hint.NOTHING

    def _find(
        self, program: int, account: int, purse: int, entities: Mapping[str, Any], occurred_at: datetime, now: datetime
    ) -> Found | None:  # fmt: skip
        lists = self.lists.get(program, NOTHING)
        said = lists.says(account, entities, now=now)
        if purse != account and said != "block":
            said = lists.says(purse, {}, now=now) or said
        if said == "block":
            return "block_list"
        if said == "allow":
            return None
        at_s = occurred_at.timestamp()
        # Both are counted, whatever the first says.
        by_consumer = self._count(self._door.consumers, purse, at_s)
        device = entities.get("device")
        by_device = device is not None and self._count(self._door.devices, (program, device), at_s)
        return "consumer_burst" if by_consumer else "device_burst" if by_device else None

    def _count(self, bursts: Bursts, key: Hashable, at_s: float) -> bool:
        if not bursts.most:
            return False
        self._counted.append((bursts, key, at_s))
        return bursts.add(key, at_s)

    def take_back(self) -> None:
        """Nothing of it has happened: it failed, or was only tried out."""
        for bursts, key, at_s in self._counted:
            bursts.take_back(key, at_s)
        self._counted.clear()
        self.found.clear()

"""Reusable assets: which return ends which trip. Facts in any order of arrival give the same trips.

A trip begins with a shipment and is over when the next one begins. A return belongs to the trip in whose time it happened; of several
returns in one trip the first that counted stays, the others wait, because their trip may not be known yet. Each trip is ended once.
"""

from collections.abc import Callable
from datetime import datetime
from itertools import zip_longest

import msgspec
from msgspec import Struct

from service.domain.asset_states import State

SAID = frozenset({"inspected", "retired", "lost"})
"""States that an operator says; shipments and returns that happened later go on from there."""

AssetKey = tuple[int, str]
"""program, canonical asset (`service.domain.identifiers`)."""


class Back(Struct, kw_only=True, gc=False):
    """A returned item of an asset: that of an event which counts, or one that waits."""

    event: int
    item: int
    at: datetime
    platform: int
    account: int | None
    """The consumer that it counts for; None: nobody is named, so it will be the one that it was shipped to."""


class Trip(Struct, kw_only=True, gc=False):
    """A shipment, and the return that ended it. Changed in place."""

    event: int
    shipped_at: datetime
    platform: int
    order: str
    account: int
    """That it was shipped to."""
    void: bool = False
    back: Back | None = None
    awarded: tuple[int, int] | None = None
    """The event and item that carry its awards."""
    deposit: tuple[str, str] | None = None
    """Amount and currency, paid out for this return."""
    changed: bool = False
    new: bool = False


class Asset(Struct, kw_only=True, gc=False):
    """An asset under its lock, with all its trips and those of its waiting returns that may count now."""

    program: int
    key: str
    class_: str
    state: State
    state_at: datetime | None
    max_trips: int | None
    trips: list[Trip]
    waiting: list[Back]
    was: tuple[State, datetime | None] = ("registered", None)

    def __post_init__(self) -> None:
        self.was = (self.state, self.state_at)

    def legs(self) -> list[Trip]:
        """The trips that count, by time: not declared wrong, and one per order however often its shipment was reported."""
        first: dict[tuple[int, str], Trip] = {}
        for trip in sorted((t for t in self.trips if not t.void), key=_by_time):
            first.setdefault((trip.platform, trip.order), trip)
        return list(first.values())

    def trip_at(self, at: datetime) -> Trip | None:
        """The trip that was under way then, ended or not."""
        return next((trip for trip in reversed(self.legs()) if trip.shipped_at <= at), None)

    def number_of(self, trip: Trip) -> int:
        """Which trip it is, from 1."""
        return self.legs().index(trip) + 1

    def worn_out(self, trip: Trip) -> bool:
        """Whether it is beyond the trips that may earn."""
        return self.max_trips is not None and self.number_of(trip) > self.max_trips

    def restate(self) -> None:
        """Follow the newest of what is known: where trips stand, and what operators said."""
        legs = self.legs()
        last = legs[-1] if legs else None
        moved: tuple[State, datetime | None] = ("registered", None)
        if last is not None:
            moved = ("shipped", last.shipped_at) if last.back is None else ("returned", last.back.at)
        if self.state in SAID and (
            self.state == "retired" or moved[1] is None or (self.state_at is not None and moved[1] <= self.state_at)
        ):
            return
        self.state, self.state_at = moved


class Rematch(Struct, kw_only=True, gc=False):
    """What became of returns when an asset's trips changed."""

    ended: list[Trip]
    """Trips that a waiting return ends now."""
    undone: list[tuple[Back, tuple[int, int] | None]]
    """Returns as they ended a trip, with the event and item that carried their awards: they wait again, and may end another."""


def rematch(asset: Asset, *, may_end: Callable[[Back, Trip], bool], may_move: Callable[[Back, Trip], bool]) -> Rematch:
    """Give every return to the trip in whose time it happened. `may_end`: whether the program lets this return count for this trip.

    Returns that count stay where they can, move with their awards where their trip turned out to be another (`may_move`: and theirs is
    the same consumer), and go before those that wait.
    """
    legs = asset.legs()
    counting = [(trip, trip.back, trip.awarded, trip.deposit) for trip in asset.trips if trip.back is not None]
    home: dict[int, tuple[Back, tuple[int, int] | None, tuple[str, str] | None]] = {}
    for was, back, awarded, deposit in sorted(counting, key=lambda c: c[1].event):
        at = next((trip for trip in reversed(legs) if trip.shipped_at <= back.at), None)
        if at is not None and (was is at or (id(at) not in home and may_move(back, at))):  # whoever ended this very trip stays
            home[id(at)] = (back, awarded, deposit)
    kept = {id(back) for back, _, _ in home.values()}
    undone = [(back, awarded) for _, back, awarded, _ in counting if id(back) not in kept]
    asset.waiting += [msgspec.structs.replace(back) for back, _ in undone]
    for trip in asset.trips:
        ends = home.get(id(trip), (None, None, None))
        if trip.back is not ends[0]:
            (trip.back, trip.awarded, trip.deposit), trip.changed = ends, True
    ended = []
    for trip, later in zip_longest(legs, legs[1:]):
        if trip.back is not None:
            continue
        for back in sorted(asset.waiting, key=lambda b: (b.at, b.event, b.item)):
            if trip.shipped_at <= back.at and (later is None or back.at < later.shipped_at) and may_end(back, trip):
                asset.waiting.remove(back)
                trip.back, trip.changed = back, True
                ended.append(trip)
                break
    return Rematch(ended=ended, undone=undone)


def _by_time(trip: Trip) -> tuple[datetime, int]:
    return trip.shipped_at, trip.event

"""Fraud as groups that try to earn: how rings are made, what they can do, and when the next one starts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from random import Random
from typing import TYPE_CHECKING, ClassVar

from loadtests.traffic.actions import Actions, Item, Order
from loadtests.traffic.catalogue import CATEGORIES, Product
from loadtests.traffic.clock import DAY, HOUR
from loadtests.traffic.living import MODULES, coupon, single_use
from loadtests.traffic.people import BRANDS, HOURS, Consumer, Platform
from loadtests.traffic.reporting import Truth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loadtests.traffic.places import Region, Station
    from loadtests.traffic.simulation import Traffic

_POINTS_AN_EVENT = 40
"""Of honest traffic, roughly; only how much a ring of a small world may try for follows from it."""
_MAX_STEPS = 3_000


class Pattern(ABC):
    """A kind of fraud. Its docstring says what it tries to earn and how."""

    name: ClassVar[str]
    scale: ClassVar[float] = 1.0
    """How much more than others a ring of this kind tries to earn: orders earn hundreds, returns tens."""

    @abstractmethod
    def plan(self, ring: Ring) -> None:
        """Report all that a ring of this kind will do, until it no longer wants more."""


class Ring:
    """One attempt of one group. Times are seconds since the period's start; `care` from 0 to 1 is how well it hides."""

    def __init__(self, world: Traffic, actions: Actions, truth: Truth, *, start: float, ambition: int, rng: Random) -> None:
        self.world, self.do, self.truth, self.start, self.rng = world, actions, truth, start, rng
        self.care = rng.betavariate(1.1, 1.1)
        self.ambition = ambition
        """Points that it tries to earn."""
        self.span = DAY * (rng.uniform(0.1, 2) + self.care * rng.uniform(2, 20))
        """How long it works, if nobody stops it."""
        self.platform: Platform = world.population.platform(rng)
        self.home: Region = world.places.region(rng)
        self._steps = 0

    def wants(self) -> bool:
        """Whether it goes on; call it once for each step. It gives up after some thousands."""
        self._steps += 1
        return self.truth.tried < self.ambition and self._steps <= _MAX_STEPS

    def size(self, low: int, high: int) -> int:
        """A number of accounts or things, more for a greater ambition."""
        return max(low, min(high, round(self.ambition / self.rng.uniform(40, 250))))

    def moment(self) -> float:
        """A time to act at: the careful keep people's hours."""
        rng = self.rng
        t = self.start + rng.random() * self.span
        if rng.random() < self.care:
            kept = t // DAY * DAY + (rng.choices(range(24), cum_weights=HOURS[0])[0] + rng.random()) * HOUR
            return kept if kept > self.start else t
        return t

    def account(self, *, platform: Platform | None = None, home: Region | None = None) -> Consumer:
        """A new account with entities of its own; that of a careful ring now and then behaves honestly, too."""
        one = self.world.population.account(self.rng, platform or self.platform, home or self.home)
        one.mobile = self.rng.uniform(0, 0.6)
        if self.rng.random() < self.care * 0.5:
            for _ in range(self.rng.randint(1, 4)):
                self.world.later(self.start + self.rng.random() * self.span * 1.5, self.world.life.session, one)
        return one

    def crew(self, size: int, *, share: Sequence[str] = (), platform: Platform | None = None) -> list[Consumer]:
        """New accounts that have the named entities (device, address, payment, ip) in common. Of the others the careless have few."""
        people = [self.account(platform=platform) for _ in range(size)]
        for name in ("device", "address", "payment", "ip"):
            few = 1 if name in share else max(1, min(size, round(size * (0.15 + 1.2 * self.care))))
            for n, one in enumerate(people):
                setattr(one, name, getattr(people[n % few], name))
        for one in people:
            one.moved()
        return people

    def members(self, low: int, high: int, *, share: Sequence[str] = (), mixed: float = 0.3) -> list[Consumer]:
        """A crew, or with the probability `mixed` accounts of people who were honest so far, and go on to be so beside."""
        if self.rng.random() < mixed:
            return [self.rng.choice(self.world.consumers) for _ in range(self.size(1, max(2, high // 2)))]
        return self.crew(self.size(low, high), share=share)

    def stolen(self, size: int) -> list[Consumer]:
        """Accounts of honest people in other hands: the same references, but another phone in another place. Their owners go on."""
        people = []
        thief = self.account()
        for _ in range(size):
            one = copy(self.rng.choice(self.world.consumers))
            one.device, one.ip, one.home, one.nat = thief.device, thief.ip, thief.home, thief.nat
            one.station, one.vpn, one.office = thief.station, False, None
            if self.rng.random() < self.care:
                one.device, one.ip = f"{self.rng.getrandbits(64):016x}", self.home.ip(self.rng)
            one.moved()
            people.append(one)
        return people

    def place(self, one: Consumer) -> tuple[str, str]:
        """Where somebody acts from: ip and region."""
        return (one.nat if self.rng.random() < one.mobile else one.ip), one.home.code

    def station(self, region: Region | None = None) -> Station:
        """A station near by."""
        return self.rng.choice(self.world.places.stations[(region or self.home).code])

    def product(self, *, green: bool, low: int = 0, high: int = 10**9, platform: Platform | None = None) -> Product:
        """Something on a shelf with a price in fen between the two, or the nearest of many tries."""
        rng, shelves = self.rng, (platform or self.platform).shelves
        tried = [shelves.pick(rng, rng.choice(list(CATEGORIES)), 1.0 if green else 0.0) for _ in range(30)]
        return min(tried, key=lambda product: (product.green != green, max(low - product.fen, product.fen - high, 0), rng.random()))

    def order(
        self, t: float, one: Consumer, basket: Sequence[tuple[Product, int]], *, choice: str | None = None, ships: bool = True,
        place: tuple[str, str] | None = None,
    ) -> Order:  # fmt: skip
        """Buy something; a day or so later it ships, in what was chosen if that needs no box of its own.

        The careful put other things into some of their baskets, which earn nothing, and have a coupon now and then.
        """
        rng = self.rng
        beside = rng.choice((1, 1, 2, 3)) if rng.random() < self.care * 0.6 else 0
        basket = [*basket, *((self.product(green=False, high=6_000, platform=one.platform), 1) for _ in range(beside))]
        percent = coupon(rng)
        order = self.do.pay(rng, t, one, basket, place=place or self.place(one), choice=choice, percent=percent, truth=self.truth)
        if ships:
            used = "ship_in_own_container" if choice == "ship_in_own_container" else single_use(rng)
            self.do.fulfil(rng, t + rng.lognormvariate(0, 0.5) * DAY, order, class_=used, waybill=self.waybill(one))
        return order

    def waybill(self, one: Consumer) -> str:
        """The number of a new parcel to somebody."""
        return f"SF{one.platform.number()}"

    def act(self, t: float, one: Consumer, activity: str, *, place: tuple[str, str] | None = None, **evidence: str) -> None:
        """Complete an activity; evidence that is not given is made up as honest people's looks."""
        number, rng = one.platform.number(), self.rng
        if activity == "learning" and one.learnt >= MODULES:
            activity = "e_receipt"
        match activity:
            case "learning":
                one.learnt += 1
                usual = {"module": f"green-{one.learnt:02}", "version": "1.0"}
            case "e_receipt":
                usual = {"merchant": f"m-{rng.randrange(12)}", "receipt": f"R{number}"}
            case "refill":
                usual = {"terminal": f"t-{one.station.code}-{rng.randrange(3)}", "receipt": f"F{number}"}
            case _:
                brand = rng.choice(BRANDS)
                usual = {"serial": f"{brand[:2].upper()}{number.upper()}", "brand": brand}
        self.do.do(rng, t, one, activity, place=place or self.place(one), truth=self.truth, **usual | evidence)

    def bring(
        self, t: float, one: Consumer, items: Sequence[Item], *, station: Station | None = None, heavier: float = 1.0,
        attendant: str | None = None, place: tuple[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Bring packaging to a station (None: the account's) at exactly this time, open or not."""
        self.do.bring(
            self.rng, t, one, items, station=station or one.station, place=place or self.place(one), heavier=heavier,
            attendant=attendant, truth=self.truth,
        )  # fmt: skip


class Rings:
    """Starts rings whenever fraud has tried for less than its share of what the honest have earned."""

    def __init__(self, world: Traffic, actions: Actions, patterns: Sequence[type[Pattern]], *, share: float) -> None:
        self._world, self._actions, self._patterns = world, actions, patterns
        self._share = share / (1 - share)
        self._rng = Random(f"rings:{world.parameters.seed}")
        self._tried = dict.fromkeys((pattern.name for pattern in patterns), 0)
        self._started = 0

    def start(self, *, after: float, honest_points: int, events: int) -> None:
        """Start as many as are due. `events` is how many lines the whole world is about to have."""
        if not self._patterns or not self._share:
            return
        most = max(120.0, self._share * events * _POINTS_AN_EVENT / len(self._patterns) / 2)
        for _ in range(len(self._patterns)):  # in an hour
            if sum(self._tried.values()) >= self._share * honest_points:
                return
            self._one(after, most)

    def _one(self, after: float, most: float) -> None:
        rng = self._rng
        pattern = min(self._patterns, key=lambda each: (self._tried[each.name], rng.random()))
        self._started += 1
        truth = Truth(pattern.name, f"{pattern.name}-{self._started}")
        own = Random(f"ring:{self._world.parameters.seed}:{self._started}")
        ambition = round(min(most, rng.lognormvariate(7, 0.8) * pattern.scale))
        ring = Ring(self._world, self._actions, truth, start=after + rng.random() * HOUR, ambition=ambition, rng=own)
        pattern().plan(ring)
        # A ring whose attempt fell outside of the period was one, too: without this it would be tried for ever.
        self._tried[pattern.name] += max(truth.tried, 1)

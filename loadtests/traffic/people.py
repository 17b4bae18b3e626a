"""Who takes part: consumers with habits, in families, dormitories, offices and alone, and the platforms that report them."""

from itertools import accumulate
from random import Random
from typing import Final

from loadtests.traffic.catalogue import CATEGORIES, Shelves
from loadtests.traffic.clock import DAY, HOUR
from loadtests.traffic.parameters import Parameters
from loadtests.traffic.places import Places, Region, Station

_WEIGHTS: Final = (
    # Weights of the 24 hours. Online shopping peaks at noon and after 20 o'clock; the profiles are assumptions.
    (1, 0, 0, 0, 0, 0, 1, 3, 5, 7, 8, 8, 9, 8, 7, 7, 7, 7, 8, 10, 14, 15, 12, 5),
    (2, 1, 0, 0, 0, 0, 2, 6, 9, 6, 4, 5, 11, 8, 3, 3, 3, 4, 7, 8, 9, 8, 5, 3),
    (0, 0, 0, 0, 1, 4, 9, 12, 12, 10, 9, 7, 4, 4, 6, 7, 6, 5, 4, 3, 2, 1, 0, 0),
    (10, 9, 8, 6, 4, 2, 1, 1, 1, 1, 2, 3, 4, 4, 4, 4, 4, 4, 5, 6, 8, 9, 10, 11),
)
"""Evening people, commuters, early risers, and those who work at night: not every nightly order is a robot's."""
HOURS: Final = [list(accumulate(weights)) for weights in _WEIGHTS]
"""Cumulated: the place of a number below the last of them is an hour."""
BRANDS: Final = ("haoda", "meili", "qingyun", "lanxing")
_TASTES: Final = list(CATEGORIES)


class Platform:
    """A sender of events, with its own manners."""

    __slots__ = ("_ids", "_salt", "ahead_s", "code", "every_s", "fulfils", "names_consumer", "sends", "shelves", "ships_free_fen", "utc")

    def __init__(self, rng: Random, number: int, parameters: Parameters) -> None:
        self.code = f"shop-{number + 1}"
        self.sends = frozenset(k for k in ("device", "address", "payment", "ip", "region") if number == 0 or rng.random() < 0.8)
        self.every_s = rng.choice((0, 0, 0, 300, HOUR))
        """It collects its events for so long; 0: it sends them as they happen."""
        self.ahead_s = rng.choice((0, 0, 0, rng.randint(-240, 200)))
        """How wrong its clock is."""
        self.names_consumer = rng.random() < 0.6
        """Whether it names the consumer in fulfilments, cancellations and refunds."""
        self.utc = rng.random() < 0.4
        self.fulfils = rng.choice((1.0, 1.0, 0.97, 0.9))
        """Share of orders whose shipment it reports."""
        self.shelves = Shelves(rng, parameters, platform=number, gtins=rng.random() < 0.5)
        self.ships_free_fen = rng.choice((5_900, 8_800, 9_900, 19_900))
        self._ids, self._salt = 0, rng.getrandbits(39) * 2 + 1

    def number(self) -> str:
        """A new number for whatever it numbers. Permuted, so that nothing can be read from it."""
        self._ids += 1
        return f"{self._ids * self._salt % 2**40:010x}"


class Consumer:
    """An account at one platform and the habits of the person behind it."""

    __slots__ = (
        "_static", "address", "away", "bag", "building", "device", "green", "habits", "home", "hours", "ip", "items", "learnt", "mobile",
        "nat", "office", "payment", "platform", "rate", "ref", "refunds", "returns", "station", "taste", "thrift", "trip_planned", "vpn",
    )  # fmt: skip

    def __init__(self, rng: Random, platform: Platform, home: Region, station: Station) -> None:
        self.platform, self.home, self.station = platform, home, station
        self.ref = f"u{platform.number()}"
        self.habits: tuple[str, ...] = ()
        """Names of what is particular about it, as docs/fraud-traffic.md has them."""
        self.rate = 0.0
        """Sessions a day."""
        self.hours = rng.choices(HOURS, (50, 25, 15, 10))[0]
        self.taste = rng.sample(_TASTES, rng.randint(2, 6))
        self.green, self.refunds, self.returns, self.mobile = 0.3, 1.0, 0.2, 0.3
        self.thrift = rng.uniform(-0.8, 0.8)
        """How often it compares two things, to take the cheaper one; negative: the dearer one."""
        self.items = 1
        """Quantity of a line."""
        self.device, self.address, self.payment = (f"{rng.getrandbits(64):016x}" for _ in range(3))
        self.ip, self.nat = home.ip(rng), rng.choice(home.nat)
        self.office: tuple[str, str] | None = None
        """ip and address where it is on weekdays from 9 to 18."""
        self.vpn = False
        self.away: tuple[float, float, Region] | None = None
        self.bag: list[tuple[str | None, str, int, str]] = []
        """Packaging at home: asset, class, units, waybill."""
        self.building: list[Consumer] = []
        self.trip_planned = False
        self.learnt = 0
        self._static = ""

    def attributes(self, ip: str, region: str) -> str:
        """The attributes of what it does in its app, as members of a JSON object, as far as its platform sends them."""
        sends = self.platform.sends
        if not self._static:
            own = (("device", self.device), ("address", self.address), ("payment", self.payment))
            self._static = "".join(f'"{key}":"{value}",' for key, value in own if key in sends) + '"channel":"app"'
        text = self._static
        if "ip" in sends:
            text += f',"ip":"{ip}"'
        if "region" in sends:
            text += f',"region":"{region}"'
        return text

    def moved(self) -> None:
        """Say that its device, address or payment has changed."""
        self._static = ""

    def place(self, rng: Random, t: float, places: Places, *, weekday: int) -> tuple[str, str]:
        """From which ip and region it uses its app at `t`."""
        if self.vpn and rng.random() < 0.5:
            ip, region = rng.choice(places.vpn)
            return ip, region.code
        away = self.away
        if away is not None and away[0] <= t < away[1]:
            return rng.choice(away[2].nat), away[2].code
        if self.office is not None and weekday < 5 and 9 * HOUR <= t % DAY < 18 * HOUR:
            return self.office[0], self.home.code
        if rng.random() < self.mobile:
            return self.nat, self.home.code
        return self.ip, self.home.code


class Population:
    """Makes people, a household at a time. Growth makes more of them with the same habits."""

    def __init__(self, rng: Random, parameters: Parameters, places: Places) -> None:
        self._rng, self._parameters, self._places = rng, parameters, places
        self.platforms = [Platform(rng, n, parameters) for n in range(parameters.platforms)]
        self._shares = [1 / (n + 1) for n in range(parameters.platforms)]
        self._mu = -(parameters.tail**2) / 2
        self._offices: list[tuple[Region, str, str]] = []
        self._dormitories: list[tuple[Region, str, str]] = []
        self._shops = [f"{rng.getrandbits(64):016x}" for _ in range(max(1, parameters.consumers // 2_000))]
        self._building: list[Consumer] = []
        for _ in range(max(1, round(parameters.consumers * parameters.office / 40))):
            region = places.region(rng)
            self._offices.append((region, region.ip(rng), f"{rng.getrandbits(64):016x}"))
        for _ in range(max(1, round(parameters.consumers * parameters.dormitory / 60))):
            region = places.region(rng)
            self._dormitories.append((region, region.ip(rng), f"{rng.getrandbits(64):016x}"))

    def account(self, rng: Random, platform: Platform, home: Region) -> Consumer:
        """A consumer without anything particular, that does nothing by itself."""
        return Consumer(rng, platform, home, rng.choice(self._places.stations[home.code]))

    def platform(self, rng: Random) -> Platform:
        """One of them, by size."""
        return rng.choices(self.platforms, self._shares)[0]

    def household(self) -> list[Consumer]:
        """People who live together, each with at least one account."""
        rng, p = self._rng, self._parameters
        kind = rng.random()
        if kind < p.dormitory:
            region, ip, address = rng.choice(self._dormitories)
            person = self._person(region)
            person.ip, person.address, person.habits = ip, address, (*person.habits, "dormitory")
            people = [person]
        elif kind < p.dormitory + p.family:
            people = self._family()
        else:
            people = [self._person(self._places.region(rng))]
        for person in list(people):
            if rng.random() < p.two_platforms:
                people.append(self._twin(person))
        return people

    def _family(self) -> list[Consumer]:
        rng = self._rng
        home = self._places.region(rng)
        first = self._person(home)
        people = [first, *(self._person(home) for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4, 5))))]
        one_phone, one_card = rng.random() < 0.3, rng.random() < 0.5
        for person in people:
            person.ip, person.address = first.ip, first.address
            person.habits = (*person.habits, "family")
            if one_phone or rng.random() < 0.15:
                person.device = first.device
            if one_card or rng.random() < 0.2:
                person.payment = first.payment
        return people

    def _twin(self, person: Consumer) -> Consumer:
        """The same person's account at another platform."""
        twin = self._person(person.home, self.platform(self._rng))
        for name in ("device", "address", "payment", "ip", "nat", "office", "hours", "station"):
            setattr(twin, name, getattr(person, name))
        twin.habits = (*person.habits, "two_platforms")
        return twin

    def _person(self, home: Region, platform: Platform | None = None) -> Consumer:
        rng, p = self._rng, self._parameters
        one = self.account(rng, platform or self.platform(rng), home)
        one.rate = p.sessions_a_day * rng.lognormvariate(self._mu, p.tail)
        one.green, one.mobile = p.green * rng.uniform(0.3, 1.7), p.mobile * rng.uniform(0.3, 1.7)
        one.returns = min(0.95, p.returner * rng.expovariate(1))
        habits = []
        if rng.random() < p.office:
            office = rng.choice(self._offices)
            one.home, one.office = office[0], office[1:]
            one.station, one.ip = rng.choice(self._places.stations[one.home.code]), one.home.ip(rng)
            if rng.random() < 0.4:
                one.address = office[2]
            habits.append("office")
        if rng.random() < p.parcel_shop:
            one.address = rng.choice(self._shops)
            habits.append("parcel_shop")
        if rng.random() < p.vpn:
            one.vpn = True
            habits.append("vpn")
        if rng.random() < p.traveller:
            start = rng.uniform(0, p.days) * DAY
            one.away = (start, start + rng.uniform(1, 9) * DAY, self._places.region(rng))
            habits.append("traveller")
        if rng.random() < p.serial_refunder:
            one.refunds = rng.uniform(4, 9)
            habits.append("serial_refunder")
        if rng.random() < p.bulk:
            one.items, one.rate = rng.randint(5, 30), one.rate * 1.5
            habits.append("bulk")
        self._moves_in(one, habits)
        one.habits = tuple(habits)
        return one

    def _moves_in(self, one: Consumer, habits: list[str]) -> None:
        """Neighbours are those who came one after the other; a volunteer among them takes everybody's packaging along."""
        rng = self._rng
        if len(self._building) >= 30 or rng.random() < 0.04:
            self._building = []
        self._building.append(one)
        one.building = self._building
        if rng.random() < self._parameters.volunteer:
            one.returns = 0.95
            habits.append("volunteer")

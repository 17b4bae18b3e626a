"""Frauds with packaging that comes back to stations, or is said to."""

from typing import ClassVar, Final

from loadtests.traffic.actions import Item
from loadtests.traffic.clock import DAY, HOUR
from loadtests.traffic.places import Station
from loadtests.traffic.rings import Pattern, Ring

SINGLE_USE: Final = ("plastic_mailer", "reused_carton", "recycled_content_carton", "original_product_pack")


def armful(ring: Ring, most: int) -> list[Item]:
    """Some packaging of one to three classes, at most `most` units of each."""
    return [(None, class_, ring.rng.randint(1, most), None) for class_ in ring.rng.sample(SINGLE_USE, ring.rng.randint(1, 3))]


def _station(ring: Ring, *, weighs: bool = False, attended: bool = False) -> Station:
    """One of the world's that has what is needed, near by if there is one."""
    near = ring.world.places.stations[ring.home.code]
    every = [station for stations in ring.world.places.stations.values() for station in stations]
    fit = [[each for each in group if (each.weighs or not weighs) and (each.attendants or not attended)] for group in (near, every)]
    return ring.rng.choice(fit[0] or fit[1] or every)


class ExcessReturns(Pattern):
    """Packaging from bins and from shops' back doors is brought back as one's own: far more than was ever shipped to these accounts."""

    name: ClassVar[str] = "excess_returns"

    def plan(self, ring: Ring) -> None:
        """A few collectors at a few stations; the careful bring a little more often instead of much at once."""
        people = ring.members(1, 8)
        most = round(4 + 16 * (1 - ring.care))
        while ring.wants():
            one = ring.rng.choice(people)
            ring.bring(one.station.opening(ring.moment()), one, armful(ring, most))


class StationMass(Pattern):
    """Units that are typed in and hardly there: the scale shows a tenth of what so many must weigh, or the same number every time."""

    name: ClassVar[str] = "station_mass"

    def plan(self, ring: Ring) -> None:
        """At stations with a scale. The careful put some water in: then it weighs too much."""
        rng = ring.rng
        station = _station(ring, weighs=True)
        heavier = rng.uniform(1.6, 4) if ring.care > 0.6 else rng.uniform(0.03, 0.4)
        people = ring.members(1, 8)
        while ring.wants():
            t = station.opening(ring.moment())
            ring.bring(t, rng.choice(people), armful(ring, 6), station=station, heavier=heavier * rng.uniform(0.9, 1.1))


class StationHours(Pattern):
    """Somebody with the station's key reports returns while it is closed."""

    name: ClassVar[str] = "station_hours"

    def plan(self, ring: Ring) -> None:
        """By night; the careful only in the first hours after closing."""
        rng = ring.rng
        station = _station(ring, attended=True)
        closed_s = station.opens + DAY - station.closes
        people = ring.members(1, 8, mixed=0.2)
        while ring.wants():
            wait = rng.random() * min(closed_s, closed_s * (1 - ring.care) + HOUR)
            ring.bring(ring.moment() // DAY * DAY + station.closes + wait, rng.choice(people), armful(ring, 4), station=station)


class FarStations(Pattern):
    """One account in the hands of collectors in several cities: it returns at stations a day's journey apart, within minutes."""

    name: ClassVar[str] = "far_stations"

    def plan(self, ring: Ring) -> None:
        """In pairs; the careful leave some hours between them, still fewer than the way takes."""
        rng = ring.rng
        people = ring.members(1, 6)
        cities = ring.world.places.far_apart(rng)
        while ring.wants():
            one, t = rng.choice(people), ring.moment()
            for city in cities:
                station = ring.station(city)
                t = station.opening(t)
                ring.bring(t, one, armful(ring, 4), station=station, place=(rng.choice(city.nat), city.code))
                t += rng.uniform(120, 1_800 + 5_400 * ring.care)


class ColludingAttendant(Pattern):
    """An attendant books packaging that nobody brought for friends, between real customers and in his own shifts."""

    name: ClassVar[str] = "colluding_attendant"

    def plan(self, ring: Ring) -> None:
        """Always the same attendant; the friends' phones are elsewhere. Masses are typed in and fit."""
        rng = ring.rng
        station = _station(ring, attended=True)
        attendant = rng.choice(station.attendants) if station.attendants else None
        friends = ring.members(2, 15, mixed=0.5)
        while ring.wants():
            t = station.opening(ring.moment())
            ring.bring(t, rng.choice(friends), armful(ring, 5), station=station, attendant=attendant)


class WaybillHarvest(Pattern):
    """Labels from a parcel shop's bin: parcels that were shipped to others come back for the collector's accounts, waybill and all."""

    name: ClassVar[str] = "waybill_harvest"

    def plan(self, ring: Ring) -> None:
        """The parcels are real and recent, only not theirs."""
        rng = ring.rng
        people = ring.members(1, 10)
        parcels = list(ring.world.life.parcels)
        rng.shuffle(parcels)
        while parcels and ring.wants():
            items: list[Item] = []
            for _ in range(min(len(parcels), rng.randint(1, 8))):
                waybill, class_ = parcels.pop()
                items.append((None, class_, 1, waybill))
            one = rng.choice(people)
            ring.bring(one.station.opening(ring.moment()), one, items)


PATTERNS: Final = (ExcessReturns, StationMass, StationHours, FarStations, ColludingAttendant, WaybillHarvest)

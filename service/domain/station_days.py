"""What a batch knows of collection stations: whether returns at them count, and how much their days still take."""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal

from schemas.events import PackagingReturned, Return
from service.domain import stations
from service.domain.claims import Claim
from service.domain.posting import Fact
from service.domain.stations import Refused, Station, Token, Used

StationDay = tuple[int, int, date]
"""program, station, the station's own day."""
_FULL = Refused(stations.STATION_LIMIT, "The station takes no more today.")


class StationDays:
    """Until a program registers stations, the names that events give are labels, and nothing is judged by them."""

    def __init__(self, registered: Mapping[tuple[int, str], Station] | None = None, programs: frozenset[int] = frozenset()) -> None:
        """`registered`: those that events of the batch name, by program and code; `programs`: those that have any."""
        self.registered = registered or {}
        self.programs = programs
        self.used: dict[StationDay, Used] = {}
        self.added: dict[StationDay, Used] = {}

    def keys(self, fact: Fact, event: PackagingReturned) -> set[StationDay]:
        """The days that a return may count on."""
        found = (self.registered.get((fact.program, item.station or "")) for item in event.returns)
        return {(fact.program, station.id, station.day_of(event.occurred_at)) for station in found if station is not None}

    def judge(self, fact: Fact, item: Return, class_: str | None, *, now: datetime) -> Token | Refused | None:
        """Whether an item counts at the station that it names, as `stations.judge` says. `now`: when its event came in."""
        if fact.program not in self.programs:
            return None
        station = self.registered.get((fact.program, item.station or ""))
        verdict = stations.judge(item, station, platform=fact.platform, class_=class_, occurred_at=fact.event.occurred_at, now=now)
        return self.still(fact, item, verdict)

    def still(self, fact: Fact, item: Return, verdict: Token | Refused | None) -> Token | Refused | None:
        """A verdict, after what other items have taken of the station's day since it was given."""
        station = self.registered.get((fact.program, item.station or ""))
        if station is None or isinstance(verdict, Refused):
            return verdict
        used, more = self.used.get((fact.program, station.id, station.day_of(fact.event.occurred_at)), Used()), units_of(item)
        return verdict if stations.allowed(station, used, units=more.units, mass_g=more.mass_g) else _FULL

    def count(self, fact: Fact, item: Return, *, back: bool = False) -> None:
        """An item counted, or was declared wrong after all."""
        station = self.registered.get((fact.program, item.station or ""))
        if station is None:
            return
        key = (fact.program, station.id, station.day_of(fact.event.occurred_at))
        more, sign = units_of(item), Decimal(-1 if back else 1)
        for days in (self.used, self.added):
            before = days.get(key, Used())
            days[key] = Used(units=before.units + sign * more.units, mass_g=before.mass_g + sign * more.mass_g)


def units_of(item: Return) -> Used:
    """What an item is to its station: an asset is one unit, whatever quantity is said; a mass that nobody knows is 0."""
    return Used(units=Decimal(1 if item.asset is not None else item.quantity), mass_g=Decimal(item.mass_g or 0))


def proof_claims(item: Return) -> tuple[Claim, ...]:
    """What a proof claims if it is one, before anybody has checked it."""
    claim = None if item.proof is None or item.station is None else stations.claimed_by(item.proof)
    return () if claim is None else (claim,)

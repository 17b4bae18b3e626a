"""Frauds with what counts once: waybills, serials, receipts."""

from typing import ClassVar, Final

from loadtests.traffic.clock import DAY, HOUR
from loadtests.traffic.people import BRANDS, Consumer
from loadtests.traffic.rings import Pattern, Ring


class DoubleClaim(Pattern):
    """The same waybill, serial or receipt on two platforms, before or after they hear of each other.

    A careful ring's first claim is rightful and labelled honest: only the second is the fraud. The others bought what they claim.
    """

    name: ClassVar[str] = "double_claim"

    def plan(self, ring: Ring) -> None:
        """One kind of evidence a ring; accounts at both platforms that share a phone, or share nothing."""
        rng, platforms = ring.rng, ring.world.population.platforms
        other = rng.choice([platform for platform in platforms if platform is not ring.platform])
        kind = rng.choice(("waybill", "trade_in", "e_receipt"))
        size = ring.size(1, 10)
        here, there = ring.crew(size), ring.crew(size, platform=other)
        if ring.care < 0.7:
            for one, two in zip(here, there, strict=True):
                two.device, two.payment, two.ip = one.device, one.payment, one.ip
                two.moved()
        while ring.wants():
            n = rng.randrange(size)
            first = ring.moment()
            later = first + rng.uniform(0.05, 4 + 60 * ring.care) * HOUR
            number = ring.platform.number()
            for t, one in ((first, here[n]), (later, there[n])):
                rightful = ring.care > 0.6 and one is here[n]
                self._claim(ring, t, one, kind, number, rightful=rightful)

    def _claim(self, ring: Ring, t: float, one: Consumer, kind: str, number: str, *, rightful: bool) -> None:
        truth, place = None if rightful else ring.truth, ring.place(one)
        if kind == "waybill":
            station = one.station
            items = [(None, "recycled_content_carton", 1 + int(number[-1], 16) % 4, f"SF{number}")]
            ring.do.bring(ring.rng, station.opening(t), one, items, station=station, place=place, truth=truth)
        elif kind == "trade_in":
            brand = BRANDS[int(number[-1], 16) % len(BRANDS)]
            ring.do.do(ring.rng, t, one, kind, place=place, truth=truth, serial=f"{brand[:2].upper()}{number.upper()}", brand=brand)
        else:
            merchant = f"m-{int(number[-1], 16) % 12}"
            ring.do.do(ring.rng, t, one, kind, place=place, truth=truth, merchant=merchant, receipt=f"R{number}")


class FoundReceipts(Pattern):
    """Receipts that other customers left at a till, claimed in the evening, a day's harvest in one go."""

    name: ClassVar[str] = "found_receipts"

    def plan(self, ring: Ring) -> None:
        """One or two merchants; the careful spread a harvest over accounts and hours."""
        rng = ring.rng
        people = ring.members(1, 8, mixed=0.5)
        merchants = [f"m-{rng.randrange(12)}" for _ in range(rng.choice((1, 1, 2)))]
        while ring.wants():
            t, one = ring.moment(), rng.choice(people)
            for _ in range(rng.randint(3, 15)):
                if rng.random() < ring.care * 0.6:
                    one = rng.choice(people)
                ring.act(t, one, "e_receipt", merchant=rng.choice(merchants))
                t += rng.expovariate(1 / (20 + 3_000 * ring.care))


class SerialVariants(Pattern):
    """Trade-ins of devices that never were: a true serial, and then its neighbours."""

    name: ClassVar[str] = "serial_variants"
    scale: ClassVar[float] = 1.5

    def plan(self, ring: Ring) -> None:
        """Counted up in the last digits, or one digit changed at random."""
        rng = ring.rng
        people = ring.members(1, 10)
        brand = rng.choice(BRANDS)
        base, number = f"{brand[:2].upper()}{ring.platform.number().upper()}"[:-4], rng.randrange(16**4)
        counts = rng.random() < 0.5
        while ring.wants():
            number = (number + rng.randint(1, 3)) % 16**4 if counts else number ^ (1 << rng.randrange(16))
            t = ring.moment() if ring.care > 0.3 else ring.start + rng.random() * DAY
            ring.act(t, rng.choice(people), "trade_in", serial=f"{base}{number:04X}", brand=brand)


PATTERNS: Final = (DoubleClaim, FoundReceipts, SerialVariants)

"""Frauds with packaging that comes back, or is said to."""

from typing import ClassVar, Final

from loadtests.traffic.actions import Item
from loadtests.traffic.rings import Pattern, Ring

SINGLE_USE: Final = ("plastic_mailer", "reused_carton", "recycled_content_carton", "original_product_pack")


class ExcessReturns(Pattern):
    """Packaging from bins and from shops' back doors is brought back as one's own: far more than was ever shipped to these accounts."""

    name: ClassVar[str] = "excess_returns"

    def plan(self, ring: Ring) -> None:
        """A few collectors at a few stations; the careful bring a little more often instead of much at once."""
        rng = ring.rng
        people = ring.taken_over(ring.size(1, 3)) if rng.random() < 0.3 else ring.crew(ring.size(1, 8))
        most = round(4 + 16 * (1 - ring.care))
        while ring.wants():
            one = rng.choice(people)
            items: list[Item] = [(None, class_, rng.randint(2, most), None) for class_ in rng.sample(SINGLE_USE, rng.randint(1, 3))]
            station = one.station
            ring.do.bring(rng, station.opening(ring.moment()), one, items, station=station, place=ring.place(one), truth=ring.truth)


PATTERNS: Final = (ExcessReturns,)

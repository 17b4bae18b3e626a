"""Frauds with orders: points for purchases that nobody wanted, or that were undone."""

from typing import ClassVar, Final

from loadtests.traffic.clock import DAY
from loadtests.traffic.rings import Pattern, Ring


class RefundCycling(Pattern):
    """Buy what earns much, spend the points elsewhere, and have the goods refunded weeks later: the money is back."""

    name: ClassVar[str] = "refund_cycling"

    def plan(self, ring: Ring) -> None:
        """Nearly everything is refunded, after a time that looks like waiting for the points to settle."""
        rng = ring.rng
        people = ring.taken_over(2) if rng.random() < 0.25 else ring.crew(ring.size(1, 8))
        waits = rng.uniform(6, 16) * DAY
        while ring.wants():
            one = rng.choice(people)
            product = ring.product(green=True, low=8_000, high=60_000, platform=one.platform)
            t = ring.moment()
            order = ring.order(t, one, [(product, 1)])
            if rng.random() < 0.97 - 0.2 * ring.care:
                ring.do.refund(rng, t + waits * rng.uniform(0.8, 1.2), order)


PATTERNS: Final = (RefundCycling,)

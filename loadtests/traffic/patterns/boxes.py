"""Frauds with the codes of reusable boxes, each of which earns once for each trip."""

from typing import ClassVar, Final

from loadtests.traffic.actions import Item
from loadtests.traffic.clock import DAY, HOUR
from loadtests.traffic.rings import Pattern, Ring


class ReturnedBeforeShipped(Pattern):
    """Boxes are scanned as returned while they still stand in the warehouse, by somebody who works there."""

    name: ClassVar[str] = "returned_before_shipped"

    def plan(self, ring: Ring) -> None:
        """The return comes first, the shipment hours or days later; that often stays out."""
        rng, boxes = ring.rng, ring.world.boxes[ring.platform.code]
        people = ring.crew(ring.size(1, 10))
        while ring.wants():
            one, t = rng.choice(people), ring.moment()
            codes = [boxes.new() for _ in range(rng.randint(1, 4))]
            order = ring.order(t, one, [(ring.product(green=False, high=3_000), 1)], ships=False)
            back = one.station.opening(t + rng.uniform(0.2, 6) * HOUR)
            ring.bring(back, one, [(code, "circular_box", 1, None) for code in codes])
            if rng.random() < 0.3 + 0.6 * ring.care:
                shipped = back + rng.uniform(1, 60) * HOUR
                ring.do.fulfil(rng, shipped, order, class_="circular_box", waybill=ring.waybill(one), assets=codes)


class EndlessBox(Pattern):
    """A box or two that go round between a shop and its friends: shipped, returned, shipped, each trip shorter than a van needs."""

    name: ClassVar[str] = "endless_box"

    def plan(self, ring: Ring) -> None:
        """Orders of nearly nothing, one after the other; the careful have more boxes and a day for each trip."""
        rng, boxes = ring.rng, ring.world.boxes[ring.platform.code]
        people = ring.crew(ring.size(1, 6))
        codes = [boxes.new() for _ in range(1 + round(ring.care * 6))]
        clocks = [ring.start + rng.random() * DAY for _ in codes]
        product = ring.product(green=False, high=500)
        while ring.wants():
            n, one = rng.randrange(len(codes)), rng.choice(people)
            t = clocks[n]
            order = ring.order(t, one, [(product, 1)], choice="circular_box", ships=False)
            t += rng.uniform(0.1, 1 + 8 * ring.care) * HOUR
            ring.do.fulfil(rng, t, order, class_="circular_box", waybill=ring.waybill(one), assets=[codes[n]])
            t = one.station.opening(t + rng.uniform(0.1, 1 + 20 * ring.care) * HOUR)
            ring.bring(t, one, [(codes[n], "circular_box", 1, None)])
            clocks[n] = t + rng.uniform(0.1, 2 + 20 * ring.care) * HOUR


class SequentialCodes(Pattern):
    """Codes that nobody scanned: typed in one after the other, from the number on a box that somebody saw once."""

    name: ClassVar[str] = "sequential_codes"

    def plan(self, ring: Ring) -> None:
        """Counted up by one; the careful leave gaps and mix their accounts."""
        rng, code = ring.rng, ring.world.boxes[ring.platform.code].new()
        people = ring.members(1, 6)
        # The last characters of a code are its number, in hexadecimal.
        stem, number = code[:-6], int(code[-6:], 16)
        times = sorted(ring.moment() for _ in range(round(ring.ambition / 30) + 3))
        for t in times:
            if not ring.wants():
                break
            one = rng.choice(people)
            items: list[Item] = []
            for _ in range(rng.randint(1, 6)):
                number = (number + 1 + int(rng.expovariate(1) * 5 * ring.care)) % 16**6
                items.append((f"{stem}{number:06x}", "circular_box", 1, None))
            ring.bring(one.station.opening(t), one, items)


PATTERNS: Final = (ReturnedBeforeShipped, EndlessBox, SequentialCodes)

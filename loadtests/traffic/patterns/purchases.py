"""Frauds with orders: points for purchases that nobody wanted, or that were undone."""

from typing import ClassVar, Final

from loadtests.traffic.catalogue import CATEGORIES, Product, new_certificate, usual_price
from loadtests.traffic.clock import DAY, HOUR
from loadtests.traffic.living import single_use
from loadtests.traffic.reckoning import MAX_ORDER
from loadtests.traffic.rings import Pattern, Ring

_CAP_FEN: Final = MAX_ORDER * 100
"""What an order's certified lines must cost to earn all that an order can."""


class RefundCycling(Pattern):
    """Buy what earns much, spend the points elsewhere, and have the goods refunded weeks later: the money is back."""

    name: ClassVar[str] = "refund_cycling"
    scale: ClassVar[float] = 3.0

    def plan(self, ring: Ring) -> None:
        """Nearly everything is refunded, after a time that looks like waiting for the points to settle."""
        rng = ring.rng
        people = ring.members(1, 8)
        waits = rng.uniform(6, 16) * DAY
        while ring.wants():
            one = rng.choice(people)
            product = ring.product(green=True, low=8_000, high=60_000, platform=one.platform)
            t = ring.moment()
            order = ring.order(t, one, [(product, 1)])
            if rng.random() < 0.97 - 0.2 * ring.care:
                ring.do.refund(rng, t + waits * rng.uniform(0.8, 1.2), order)


class SelfDealing(Pattern):
    """A merchant buys its own certified goods through people it knows: the money goes round, the points are left over."""

    name: ClassVar[str] = "self_dealing"
    scale: ClassVar[float] = 3.0

    def plan(self, ring: Ring) -> None:
        """A shop with few goods; the careful let the public buy there, too, and their people buy elsewhere now and then."""
        rng, shelves = ring.rng, ring.platform.shelves
        merchant, category, certificate = f"m-{rng.randint(12, 400)}", rng.choice(list(CATEGORIES)), new_certificate(ring.rng)
        prices = [rng.randint(6_000, 52_000) // 100 * 100 for _ in range(rng.randint(1, 5))]
        goods = [shelves.product(rng, merchant, category, certificate=certificate, fen=fen) for fen in prices]
        if ring.care > 0.4:
            for product in goods:
                shelves.add(product)
        people = ring.crew(ring.size(3, 15), share=(rng.choice(("address", "payment", "ip", "device")),))
        while ring.wants():
            one, t = rng.choice(people), ring.moment()
            ring.order(t, one, [(rng.choice(goods), rng.choice((1, 1, 2)))], ships=rng.random() < 0.5 + 0.5 * ring.care)


class ThresholdHugging(Pattern):
    """Order after order that earns exactly what an order can, not a fen more; a shop that is in it takes the goods back unrecorded."""

    name: ClassVar[str] = "threshold_hugging"
    scale: ClassVar[float] = 4.0

    def plan(self, ring: Ring) -> None:
        """As many of one thing as reach the cap; the careful stay somewhere below it and take two things."""
        rng = ring.rng
        people = ring.members(1, 6)
        while ring.wants():
            one = rng.choice(people)
            goal = _CAP_FEN - round(rng.random() * 4_000 * ring.care)
            product = ring.product(green=True, low=2_000, high=12_000, platform=one.platform)
            basket = [(product, max(1, -(-goal // product.fen)))]
            if rng.random() < ring.care:
                other = ring.product(green=True, low=2_000, high=12_000, platform=one.platform)
                basket = [(product, max(1, goal // 2 // product.fen)), (other, max(1, goal // 2 // other.fen))]
            ring.order(ring.moment(), one, basket)


class OrderSplitting(Pattern):
    """One purchase far above an order's cap, paid as many orders below it, by one account or by several of one wallet."""

    name: ClassVar[str] = "order_splitting"
    scale: ClassVar[float] = 4.0

    def plan(self, ring: Ring) -> None:
        """The parts follow each other in minutes; the careful leave hours between them and use more accounts."""
        rng = ring.rng
        people = ring.members(1, 4, share=("address", "payment"), mixed=0.5)
        while ring.wants():
            t, wanted = ring.moment(), rng.randint(120_000, 500_000)
            product = ring.product(green=True, low=3_000, high=40_000)
            each = max(1, _CAP_FEN // product.fen)
            one = rng.choice(people)
            while wanted > 0 and ring.wants():
                if rng.random() < ring.care:
                    one = rng.choice(people)
                part = max(1, each - rng.choice((0, 0, 1)))
                ring.order(t, one, [(product, part)], ships=rng.random() < 0.9)
                wanted -= part * product.fen
                t += rng.expovariate(1 / (120 + 4 * HOUR * ring.care))


class CertificateMisuse(Pattern):
    """A certificate, copied or bought, that suddenly stands behind whatever a shop sells, at prices that are none of these goods'."""

    name: ClassVar[str] = "certificate_misuse"
    scale: ClassVar[float] = 3.0

    def plan(self, ring: Ring) -> None:
        """Many SKUs of several categories; buyers that are the shop's own. Careful: a category or two and prices nearer to usual."""
        rng = ring.rng
        merchant, certificate = f"m-{rng.randint(12, 400)}", new_certificate(rng)
        categories = rng.sample(list(CATEGORIES), rng.randint(2, 4) if ring.care > 0.6 else rng.randint(4, 10))
        goods: list[Product] = []
        for _ in range(rng.randint(8, 30)):
            category = rng.choice(categories)
            odd = rng.choice((0.15, 0.3, 4, 8)) if rng.random() > ring.care else rng.uniform(0.5, 2)
            fen = max(500, min(200_000, round(usual_price(rng, category, odd))))
            goods.append(ring.platform.shelves.product(rng, merchant, category, certificate=certificate, fen=fen))
        people = ring.crew(ring.size(2, 20))
        while ring.wants():
            basket = [(product, 1) for product in rng.sample(goods, rng.randint(1, 3))]
            ring.order(ring.moment(), rng.choice(people), basket, ships=rng.random() < 0.7)


class ChoiceFarming(Pattern):
    """The cheapest thing there is, again and again, each time in the packaging that earns most: points worth more than the goods."""

    name: ClassVar[str] = "choice_farming"

    def plan(self, ring: Ring) -> None:
        """What is shipped is in a plain bag, or nothing is."""
        rng = ring.rng
        people = ring.members(1, 12)
        product = ring.product(green=False, high=400)
        choice = rng.choice(("circular_box", "circular_box", "ship_in_own_container"))
        while ring.wants():
            one = rng.choice(people)
            if one.platform is not ring.platform:
                product = ring.product(green=False, high=400, platform=one.platform)
            order = ring.do.pay(rng, t := ring.moment(), one, [(product, 1)], place=ring.place(one), choice=choice, truth=ring.truth)
            if rng.random() < 0.6:
                shipped = t + rng.lognormvariate(0, 0.5) * DAY
                ring.do.fulfil(rng, shipped, order, class_=single_use(rng), waybill=ring.waybill(one))


PATTERNS: Final = (RefundCycling, SelfDealing, ThresholdHugging, OrderSplitting, CertificateMisuse, ChoiceFarming)

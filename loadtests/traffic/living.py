"""What honest people do: order, wait, send back, bring packaging back, learn, repair, refill."""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from random import Random

from loadtests.traffic.actions import Actions, Boxes, Item, Order
from loadtests.traffic.catalogue import FASHION, Product
from loadtests.traffic.clock import DAY, HOUR, Clock
from loadtests.traffic.parameters import Parameters
from loadtests.traffic.people import BRANDS, Consumer
from loadtests.traffic.places import Places

_SINGLE_USE = ("plastic_mailer", "corrugated_plastic_fill", "foam_box", "reused_carton", "recycled_content_carton", "original_product_pack")
_USUAL = (50, 5, 6, 12, 17, 10)
MODULES = 12
"""Learning modules that there are; each earns once."""
_MAX_ITEMS = 25
_DECLARED_WRONG = 0.003
_REMEMBERED = 1_000
_STAR_SHARE = 0.25
"""Of a campaign day's orders that are for the one thing that is advertised."""


def single_use(rng: Random) -> str:
    """The class of a parcel for which nobody chose anything."""
    return rng.choices(_SINGLE_USE, _USUAL)[0]


def coupon(rng: Random) -> int:
    """What percentage of the prices is paid on a usual day."""
    return rng.choice((90, 95)) if rng.random() < 0.06 else 100


class Life:
    """The honest. `later(t, act, *arguments)` has something done at a time to come."""

    def __init__(
        self, rng: Random, parameters: Parameters, places: Places, actions: Actions, clock: Clock, boxes: dict[str, Boxes],
        later: Callable[..., None],
    ) -> None:  # fmt: skip
        self._rng, self._parameters, self._places, self._do = rng, parameters, places, actions
        self._clock, self._boxes, self._later = clock, boxes, later
        self.parcels: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED)
        """Waybill and class of the last parcels in single-use packaging that arrived: what lies in bins."""
        self._stars: dict[str, Product] = {}
        """What each platform advertises on the campaign day."""

    def session(self, t: float, consumer: Consumer) -> None:
        """A consumer uses a platform once."""
        rng = self._rng
        place = consumer.place(rng, t, self._places, weekday=self._clock.weekday(int(t // DAY)))
        if rng.random() < self._parameters.activity:
            self._activity(t, consumer, place)
        else:
            self._order(t, consumer, place)

    # Orders ------------------------------------------------------------------------------------------------

    def _order(self, t: float, consumer: Consumer, place: tuple[str, str]) -> None:
        rng, p = self._rng, self._parameters
        campaign = int(t // DAY) == p.campaign_day
        choice = None
        drawn = rng.random()
        if drawn < p.reuse:
            choice = "circular_box"
        elif drawn < p.reuse + 0.1:
            choice = "ship_in_own_container"
        basket = self._advertised(consumer) if campaign and rng.random() < _STAR_SHARE else self._basket(consumer)
        percent = 80 if campaign and rng.random() < 0.7 else coupon(rng)
        order = self._do.pay(rng, t, consumer, basket, place=place, choice=choice, percent=percent)
        if rng.random() < p.cancel:
            self._later(t + rng.expovariate(1 / HOUR), self._cancel, order)
            return
        ships = t + rng.lognormvariate(0, 0.6) * DAY * (2 if campaign else 1)
        self._later(ships, self._ship, order)
        risk = p.refund * consumer.refunds * (2 if any(product.category in FASHION for product, _ in basket) else 0.8)
        if rng.random() < min(risk, 0.6):
            lines = None if len(basket) == 1 or rng.random() < 0.5 else 1
            self._later(ships + rng.uniform(2, 14) * DAY, self._refund, order, lines)

    def _basket(self, consumer: Consumer) -> list[tuple[Product, int]]:
        rng, platform, taste = self._rng, consumer.platform, consumer.taste
        basket = []
        more = True
        while more:
            category = taste[int(len(taste) * rng.random() ** 1.5)]
            product = platform.shelves.pick(rng, category, consumer.green)
            few = 1 if product.fen > 20_000 or rng.random() < 0.8 else rng.randint(2, 4)
            basket.append((product, few if consumer.items == 1 else max(1, int(consumer.items * rng.uniform(0.3, 1.3)))))
            more = rng.random() < 0.35 and len(basket) < 12
        # Something cheap is added where that makes the parcel ship free: many honest totals lie just above a round price.
        missing = platform.ships_free_fen - sum(product.fen * quantity for product, quantity in basket)
        if 0 < missing < 2_500 and rng.random() < 0.5:
            product = platform.shelves.pick(rng, "stationery", consumer.green)
            basket.append((product, min(20, -(-missing // product.fen))))
        return basket

    def _advertised(self, consumer: Consumer) -> list[tuple[Product, int]]:
        """One product that hundreds buy within hours, many of them new: honest, and as alike as any farm."""
        platform = consumer.platform
        star = self._stars.get(platform.code)
        if star is None:
            star = self._stars[platform.code] = platform.shelves.pick(self._rng, self._rng.choice(("paper", "soap", "food")), 1.0)
        return [(star, 1)]

    def _cancel(self, t: float, order: Order) -> None:
        self._do.cancel(self._rng, t, order)

    def _refund(self, t: float, order: Order, lines: int | None) -> None:
        self._do.refund(self._rng, t, order, lines=lines)

    def _ship(self, t: float, order: Order) -> None:
        rng, consumer = self._rng, order.consumer
        waybill = f"SF{consumer.platform.number()}"
        assets: list[str] = []
        parcels = 1
        if order.choice == "circular_box" and rng.random() < 0.97:
            pieces = rng.choice((1, 1, 1, 1, 2)) if consumer.items == 1 else rng.randint(1, 5)
            class_, assets = "circular_box", [self._boxes[consumer.platform.code].take(rng) for _ in range(pieces)]
        elif order.choice == "ship_in_own_container":
            class_ = order.choice
        else:
            class_ = single_use(rng)
            parcels = 1 if consumer.items == 1 else rng.randint(1, 6)
        late = rng.uniform(1, 20) * HOUR if rng.random() < 0.02 else 0.0  # a warehouse that reports at night
        # Not every platform reports every shipment: some honest returns are of what was never said to be shipped.
        if rng.random() < consumer.platform.fulfils:
            self._do.fulfil(rng, t, order, class_=class_, waybill=waybill, assets=assets, parcels=parcels, late_s=late)
        if class_ != "ship_in_own_container":
            arrives = t + rng.uniform(0.7, 3) * DAY
            self._later(
                arrives, self._unpack, consumer, [(box, class_, 1, waybill) for box in assets] or [(None, class_, parcels, waybill)]
            )

    # Packaging ---------------------------------------------------------------------------------------------

    def _unpack(self, t: float, consumer: Consumer, parcels: list[tuple[str | None, str, int, str]]) -> None:
        rng = self._rng
        boxed = parcels[0][0] is not None
        if not boxed:
            self.parcels.append((parcels[0][3], parcels[0][1]))
        if "volunteer" in consumer.habits or boxed or consumer.returns > 0.05:
            consumer.bag += parcels
        elif rng.random() < 0.3 and len(consumer.bag) < 5:
            consumer.bag += parcels  # kept for whoever collects in the house
        if not consumer.trip_planned and rng.random() < (0.9 if boxed else consumer.returns):
            consumer.trip_planned = True
            self._later(t + rng.expovariate(1 / 4) * DAY, self.trip, consumer)

    def trip(self, t: float, consumer: Consumer) -> None:
        """Everything in the bag goes to the station, a volunteer's with that of the house."""
        rng = self._rng
        consumer.trip_planned = False
        taken: list[tuple[str | None, str, int, str]] = []
        for one in consumer.building if "volunteer" in consumer.habits else (consumer,):
            taken += one.bag[: _MAX_ITEMS - len(taken)]
            one.bag = one.bag[_MAX_ITEMS:] if one is consumer else []
        if "volunteer" in consumer.habits:
            consumer.trip_planned = True
            self._later(t + rng.uniform(4, 9) * DAY, self.trip, consumer)
        if not taken:
            return
        items = _as_reported(taken, waybills=rng.random() < 0.5)
        away = consumer.away
        here = away[2] if away is not None and away[0] <= t < away[1] else consumer.home
        station = consumer.station if here is consumer.home and rng.random() < 0.85 else rng.choice(self._places.stations[here.code])
        if rng.random() < 0.1 and len(items) <= 3:
            event = self._do.bring(rng, t, consumer, items, station=None, place=(consumer.ip, here.code))
        else:
            t = station.opening(t)
            late = rng.uniform(0.5, 14) * HOUR if station.offline else 0.0
            event = self._do.bring(rng, t, consumer, items, station=station, place=(consumer.nat, here.code), late_s=late)
        for asset, _, _, _ in items:
            if asset is not None:
                self._later(t + rng.uniform(1, 4) * DAY, self._wash, consumer, asset)
        if rng.random() < _DECLARED_WRONG and len(items) == 1:
            asset, _, units, _ = items[0]
            self._do.declare_wrong(rng, t + rng.uniform(15, 30) * HOUR, consumer, event, min(100, 5 * units if asset is None else 15))

    def _wash(self, _: float, consumer: Consumer, box: str) -> None:
        self._boxes[consumer.platform.code].back(box)

    # Activities --------------------------------------------------------------------------------------------

    def _activity(self, t: float, consumer: Consumer, place: tuple[str, str]) -> None:
        rng, do, number = self._rng, self._do.do, consumer.platform.number()
        drawn = rng.random()
        if drawn < 0.15 and consumer.learnt < MODULES:
            consumer.learnt += 1
            do(rng, t, consumer, "learning", place=place, module=f"green-{consumer.learnt:02}", version="1.0")
        elif drawn < 0.6:
            do(rng, t, consumer, "e_receipt", place=place, merchant=f"m-{rng.randrange(12)}", receipt=f"R{number}")
        elif drawn < 0.85:
            do(rng, t, consumer, "refill", place=place, terminal=f"t-{consumer.station.code}-{rng.randrange(3)}", receipt=f"F{number}")
        elif drawn < 0.93:
            do(rng, t, consumer, "repair", place=place, merchant=f"m-{rng.randrange(12)}", document=f"D{number}")
        else:
            brand = rng.choice(BRANDS)
            do(rng, t, consumer, "trade_in", place=place, serial=f"{brand[:2].upper()}{number.upper()}", brand=brand)

    def lesson(self, t: float, pupils: list[Consumer], ip: str) -> None:
        """A class learns the same module in the same hour, from one ip: new accounts among them, with identical first steps."""
        rng = self._rng
        module = f"green-{rng.randint(1, MODULES):02}"
        for pupil in pupils:
            moment = t + rng.uniform(0, 2_400)
            self._do.do(rng, moment, pupil, "learning", place=(ip, pupil.home.code), module=module, version="1.0")
            pupil.habits = (*pupil.habits, "school_class")


def _as_reported(taken: Iterable[tuple[str | None, str, int, str]], *, waybills: bool) -> list[Item]:
    """Piece by piece where waybills are scanned; else boxes by their codes, and of the rest how many of each class."""
    if waybills:
        return list(taken)
    units: Counter[str] = Counter()
    items: list[Item] = []
    for asset, class_, quantity, _ in taken:
        if asset is None:
            units[class_] += quantity
        else:
            items.append((asset, class_, 1, None))
    return items + [(None, class_, quantity, None) for class_, quantity in units.items()]

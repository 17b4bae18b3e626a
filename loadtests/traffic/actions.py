"""What people and shops do, as events: one vocabulary for the honest and for rings, so that its form gives nobody away.

All methods take the random source of who acts, the time in seconds since the start, and the truth about a fraudulent act.
"""

from collections.abc import Iterable, Sequence
from random import Random

from loadtests.traffic import reckoning
from loadtests.traffic.catalogue import Product, gtin_of, money
from loadtests.traffic.people import Consumer, Platform
from loadtests.traffic.places import Station
from loadtests.traffic.reporting import Reporter, Truth

Item = tuple[str | None, str, int, str | None]
"""Packaging that comes back: its asset, else class and units; its waybill, if that is said."""


class Order:
    """What an order's later events need to know. Money in fen."""

    __slots__ = ("choice", "consumer", "green", "id", "lines", "points", "truth")

    def __init__(self, id_: str, consumer: Consumer, choice: str | None, truth: Truth | None) -> None:
        self.id, self.consumer, self.choice, self.truth = id_, consumer, choice, truth
        self.lines: list[tuple[int, int, int]] = []
        """Number, certified amount and quantity of the lines that were not given back."""
        self.green = self.points = 0


class Actions:
    """Reports what somebody does."""

    def __init__(self, reporter: Reporter) -> None:
        self._report = reporter.report

    def pay(
        self, rng: Random, t: float, consumer: Consumer, basket: Iterable[tuple[Product, int]], *, place: tuple[str, str],
        choice: str | None = None, percent: int = 100, truth: Truth | None = None,
    ) -> Order:  # fmt: skip
        """An order is paid. `basket` has products and quantities, `place` is ip and region, `percent` what is left after a discount."""
        order = Order(f"o{consumer.platform.number()}", consumer, choice, truth)
        total, texts = 0, []
        for number, (product, quantity) in enumerate(basket, 1):
            fen = product.fen * quantity
            amount = ""
            if percent != 100:
                fen = fen * percent // 100
                amount = f'"amount":"{money(fen)}",'
            texts.append(f'{{"id":"{number}","quantity":"{quantity}",{amount}{product.line}}}')
            order.lines.append((number, fen if product.green else 0, quantity))
            total += fen
        order.green = sum(fen for _, fen, _ in order.lines)
        order.points = reckoning.purchase(order.green) + (reckoning.CHOICES.get(choice, 0) if choice else 0)
        packaging = f',"packaging":{{"class":"{choice}"}}' if choice else ""
        body = f'"order":{{"id":"{order.id}","currency":"CNY","total":"{money(total)}"}},"lines":[{",".join(texts)}]{packaging}'
        self._report(rng, t, consumer, "order.paid", body, order.points, attributes=consumer.attributes(*place), truth=truth)
        return order

    def fulfil(
        self, rng: Random, t: float, order: Order, *, class_: str, waybill: str, assets: Sequence[str] = (), parcels: int = 1,
        late_s: float = 0.0,
    ) -> str:  # fmt: skip
        """An order is shipped; the event's id."""
        platform = order.consumer.platform
        boxes = ",".join(f'"{asset}"' for asset in assets)
        parcel = f'"class":"{class_}","parcels":{parcels},"waybill":"{waybill}"' + (f',"assets":[{boxes}]' if boxes else "")
        body = f'"order":{{"id":"{order.id}"}},"packaging":{{{parcel}}}'
        return self._report(
            rng, t, order.consumer, "order.fulfilled", body, 0, named=platform.names_consumer, late_s=late_s, truth=order.truth
        )

    def cancel(self, rng: Random, t: float, order: Order) -> None:
        """All of an order is cancelled."""
        points, order.points, order.lines = -order.points, 0, []
        named = order.consumer.platform.names_consumer
        self._report(rng, t, order.consumer, "order.cancelled", f'"order":{{"id":"{order.id}"}}', points, named=named, truth=order.truth)

    def refund(self, rng: Random, t: float, order: Order, *, lines: int | None = None) -> None:
        """The first `lines` lines that are left are refunded; None: all of the order, stated by its lines."""
        if not order.lines:
            return
        gone = order.lines if lines is None else order.lines[:lines]
        order.lines = order.lines[len(gone) :]
        left = reckoning.purchase(sum(fen for _, fen, _ in order.lines))
        if order.lines and order.choice:
            left += reckoning.CHOICES.get(order.choice, 0)
        points, order.points = left - order.points, left
        texts = ",".join(f'{{"id":"{number}","quantity":"{quantity}"}}' for number, _, quantity in gone)
        body = f'"order":{{"id":"{order.id}"}},"refund":{{"id":"r{order.consumer.platform.number()}","lines":[{texts}]}}'
        named = order.consumer.platform.names_consumer
        self._report(rng, t, order.consumer, "order.refunded", body, points, named=named, truth=order.truth)

    def bring(
        self, rng: Random, t: float, consumer: Consumer, items: Sequence[Item], *, station: Station | None, place: tuple[str, str],
        late_s: float = 0.0, heavier: float = 1.0, attendant: str | None = None, truth: Truth | None = None,
    ) -> str:  # fmt: skip
        """Packaging comes back, at a station or (None) to a courier; the event's id. `heavier` is by how much the scale is deceived."""
        texts, assets, units = [], 0, 0
        for asset, class_, quantity, waybill in items:
            text = f'"class":"{class_}","quantity":"{quantity}"'
            if asset is not None:
                text += f',"asset":"{asset}"'
                assets += 1
            else:
                units += quantity
                if waybill is not None:
                    text += f',"waybill":"{waybill}"'
            if station is not None:
                text += f',"station":"{station.code}"'
                if station.weighs:
                    text += f',"mass_g":"{max(1, round(station.mass(rng, class_, quantity) * heavier))}"'
            texts.append(f"{{{text}}}")
        attributes = consumer.attributes(*place)
        if station is not None and station.attendants:
            attributes += f',"attendant":"{attendant or rng.choice(station.attendants)}"'
        body = f'"returns":[{",".join(texts)}]'
        points = reckoning.returned(assets, units)
        return self._report(rng, t, consumer, "packaging.returned", body, points, attributes=attributes, late_s=late_s, truth=truth)

    def do(
        self,
        rng: Random,
        t: float,
        consumer: Consumer,
        activity: str,
        *,
        place: tuple[str, str],
        truth: Truth | None = None,
        **evidence: str,
    ) -> str:
        """An activity is completed; the event's id. `evidence` has plain texts."""
        facts = ",".join(f'"{key}":"{value}"' for key, value in evidence.items())
        body = f'"activity":"{activity}","evidence":{{{facts}}}'
        points = reckoning.activity(activity)
        return self._report(rng, t, consumer, "activity.completed", body, points, attributes=consumer.attributes(*place), truth=truth)

    def declare_wrong(self, rng: Random, t: float, consumer: Consumer, event: str, points: int) -> None:
        """A return or activity of `points` never was."""
        body = f'"error":{{"event":"{event}","reason":"did_not_occur"}}'
        self._report(rng, t, consumer, "event.error_declared", body, -points, named=False)


class Boxes:
    """The reusable boxes of one platform, those that are in its warehouse first in, first out."""

    def __init__(self, rng: Random, platform: Platform) -> None:
        self._platform, self._gs1 = platform, rng.random() < 0.6
        self._here: list[str] = []
        self._prefix = "0" + gtin_of(rng.randrange(10**9))

    def new(self) -> str:
        """The code of a box that was never used: a GRAI, or the platform's own."""
        number = self._platform.number()
        return f"{self._prefix}{number}" if self._gs1 else f"BOX-{number}"

    def take(self, rng: Random) -> str:
        """A box to ship in, often one that was on a trip before."""
        if len(self._here) < 5:
            return self.new()
        # From anywhere but the end, as from a pile: what came last lies below.
        place = rng.randrange(len(self._here) // 2 + 1)
        box, self._here[place] = self._here[place], self._here[-1]
        self._here.pop()
        return box

    def back(self, box: str) -> None:
        """It is there again."""
        self._here.append(box)

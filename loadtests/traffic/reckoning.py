"""Nominal points: what an event would earn if nothing were checked (docs/fraud-traffic.md). All money is in fen, 1/100 CNY."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

from schemas.events import (
    ActivityCompleted,
    Event,
    EventErrorDeclared,
    Line,
    OrderCancelled,
    OrderPaid,
    OrderRefunded,
    PackagingReturned,
)

GREEN: Final = "G-"
"""How the SKU of a certified product begins; its certificate follows, up to the next hyphen."""
MAX_ORDER: Final = 500
MAX_RETURN: Final = 100
CHOICES: Final[Mapping[str, int]] = {"ship_in_own_container": 20, "circular_box": 30}
ASSET: Final = 15
UNIT: Final = 5
TRADE_IN: Final = 50
OTHER: Final = 10


def purchase(green_fen: int) -> int:
    """Points for the certified lines of an order, together."""
    return min(green_fen // 100, MAX_ORDER)


def returned(assets: int, units: int) -> int:
    """Points for an event that brings back so many assets and units of single-use packaging."""
    return min(assets * ASSET + units * UNIT, MAX_RETURN)


def activity(name: str) -> int:
    """Points for an activity."""
    return TRADE_IN if name == "trade_in" else OTHER


def certificate_of(sku: str) -> str | None:
    """The certificate behind a SKU of simulated traffic; None: it is not certified."""
    return sku.split("-", 2)[1] if sku.startswith(GREEN) else None


class Reckoner:
    """Recomputes points from decoded events, in order of arrival: independent of how the simulator came to its labels.

    Holds what every order and every event earned, so that it is for tests and small runs.
    """

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()
        self._orders: dict[tuple[str, str], _Order] = {}
        self._earned: dict[tuple[str, str], int] = {}

    def points(self, platform: str, event: Event) -> int:
        """The signed points of one event; 0 for a repeat and for what is about an unknown order or event."""
        key = (platform, event.id)
        if key in self._seen:
            return 0
        self._seen.add(key)
        self._earned[key] = points = self._points(platform, event)
        return points

    def _points(self, platform: str, event: Event) -> int:
        match event:
            case OrderPaid():
                order = self._orders[platform, event.order.id] = _Order(event)
                return order.points()
            case OrderCancelled() | OrderRefunded():
                found = self._orders.get((platform, event.order.id))
                return 0 if found is None else found.take_back(event)
            case PackagingReturned():
                assets = sum(item.asset is not None for item in event.returns)
                return returned(assets, sum(int(item.quantity) for item in event.returns if item.asset is None))
            case ActivityCompleted():
                return activity(event.activity)
            case EventErrorDeclared():
                return -self._earned.get((platform, event.error.event), 0)
        return 0


class _Order:
    def __init__(self, event: OrderPaid) -> None:
        self._left = {line.id: (Decimal(line.quantity), _fen(line), line) for line in event.lines}
        packaging = event.packaging
        self._choice = 0 if packaging is None or packaging.class_ is None else CHOICES.get(packaging.class_, 0)

    def points(self) -> int:
        return green_points(line for _, _, line in self._left.values()) + self._choice

    def take_back(self, event: OrderCancelled | OrderRefunded) -> int:
        before = self.points()
        if isinstance(event, OrderCancelled) or not event.refund.lines:
            self._left = {}
        else:
            for line in event.refund.lines:
                self._left.pop(line.id, None)
        if not self._left:
            self._choice = 0
        return self.points() - before


def green_points(lines: Iterable[Line]) -> int:
    """Points for an order's lines."""
    return purchase(sum(_fen(line) for line in lines if line.sku is not None and line.sku.startswith(GREEN)))


def _fen(line: Line) -> int:
    amount = Decimal(line.quantity) * Decimal(line.unit_price or 0) if line.amount is None else Decimal(line.amount)
    return int(amount * 100)

"""Events by the million, cheap to make: a crowd whose habits are those of the simulated traffic on average, without its frauds.

The event with a number is always the same, so that a run can go on where another one ended. Of 28 events 11 are orders paid, 10 shipped,
1 refunded; 4 are activities, 2 bring packaging back: the shares of docs/fraud-traffic.md. An account does 24 a month there.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas.events import (
    ActivityCompleted,
    Event,
    Line,
    Order,
    OrderFulfilled,
    OrderPaid,
    OrderRefunded,
    Packaging,
    PackagingReturned,
    Refund,
    Return,
)
from service.domain.fraud.judging import Facts
from service.domain.fraud.windows import MONTH

PAID, SHIPPED, ACTIVITY, RETURNED, CYCLE = 11, 21, 25, 27, 28
"""Ends of the kinds of event within a cycle; what is left over is a refund."""
SHIPPED_AFTER: Final = 2_000
REFUNDED_AFTER: Final = 10_000
"""Cycles between an order and what comes after it: some hours, some days of a million events a month."""
EVENTS_AN_ACCOUNT: Final = 24
MERCHANTS, PRODUCTS, STATIONS = 60, 4_000, 80
OWN_CONTAINER: Final = "ship_in_own_container"
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_MASK: Final = 2**64 - 1


def _chooses(n: int) -> bool:
    """Whether the order with this number is to be shipped in its own container: every other one."""
    return bool(mixed(n, 2) & 256)


def mixed(number: int, salt: int) -> int:
    """64 bits that look random: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    x = (number * 0x9E3779B97F4A7C15 + salt * 0xD1B54A32D192ED03) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


class Crowd:
    """A program of so many events a month. Accounts live in pairs that share payment, address and ip, and leave after some months."""

    def __init__(self, month: int) -> None:
        self._month = month
        self._accounts = max(1, month // EVENTS_AN_ACCOUNT)

    def events(self, start: int, end: int) -> Iterator[tuple[Event, Facts]]:
        """The events with these numbers, as the worker is given them."""
        return (self._event(number) for number in range(start, end))

    def _event(self, n: int) -> tuple[Event, Facts]:
        slot, at = n % CYCLE, _START + timedelta(seconds=n * MONTH / self._month)
        if slot < PAID:
            return self._paid(n, at)
        if slot < SHIPPED:
            return self._about(n, max(0, n - SHIPPED_AFTER * CYCLE) // CYCLE * CYCLE + slot - PAID, at)
        if slot >= RETURNED:
            return self._about(n, max(0, n - REFUNDED_AFTER * CYCLE) // CYCLE * CYCLE, at)
        account, chance = self._account(n), mixed(n, 1)
        attributes = self._attributes(account, at)
        if slot < ACTIVITY:
            activity = ("learning", "e_receipt", "trade_in")[chance % 3]
            serial = {} if activity == "learning" else {"serial": f"SN{chance:016x}"}
            event: Event = ActivityCompleted(id=f"{n}:done", occurred_at=at, attributes=attributes, activity=activity, evidence=serial)
            return event, self._facts(n, account, at, 50 if activity == "trade_in" else 10)
        station = f"st-{chance % STATIONS:04}"
        item = Return(class_="carton", quantity=1 + chance % 5, mass_g=str(200 + chance % 600), waybill=f"SF{chance:012x}", station=station)
        event = PackagingReturned(
            id=f"{n}:back", occurred_at=at, attributes=attributes | {"attendant": f"h:{chance % 300:032x}"}, returns=[item]
        )
        return event, self._facts(n, account, at, 5 + 5 * (chance % 5))

    def _paid(self, n: int, at: datetime) -> tuple[Event, Facts]:
        account, chance = self._account(n), mixed(n, 2)
        lines, certificates, total = [], {}, 0
        for i in range(1 + chance % 3):
            product = mixed(n, 3 + i) % PRODUCTS
            price = 500 + mixed(product, 1) % 20_000
            total += price
            lines.append(Line(
                id=str(i), sku=f"SKU-{product:06}", quantity="1", unit_price=f"{price // 100}.{price % 100:02}", category=f"c{product % 9}",
                merchant=f"m-{product % MERCHANTS}",
            ))  # fmt: skip
            if product % 2:
                certificates[str(i)] = f"C{product // 10:08}"
        order = Order(id=f"{n}", currency="CNY", total=f"{total // 100}.{total % 100:02}")
        packaging = Packaging(class_=OWN_CONTAINER) if _chooses(n) else None
        points = total // 100 * len(certificates) // len(lines) + 20 * (packaging is not None)
        event = OrderPaid(
            id=f"{n}:paid", occurred_at=at, attributes=self._attributes(account, at), order=order, lines=lines, packaging=packaging
        )
        return event, self._facts(n, account, at, points, certificates)

    def _about(self, n: int, order: int, at: datetime) -> tuple[Event, Facts]:
        account, id_ = self._account(order), Order(id=f"{order}")
        if n % CYCLE >= RETURNED:
            return OrderRefunded(id=f"{n}:refund", occurred_at=at, order=id_, refund=Refund(id="1")), self._facts(n, account, at, -40)
        # As it was chosen: what is shipped otherwise is suspicious.
        shipped = Packaging(class_=OWN_CONTAINER if _chooses(order) else "carton", waybill=f"SF{mixed(n, 6):012x}")
        return OrderFulfilled(id=f"{n}:sent", occurred_at=at, order=id_, packaging=shipped), self._facts(n, account, at, 0)

    def _account(self, n: int) -> int:
        """Ids rise with time: each month a fifth of all is new, and as many do not come any more."""
        return mixed(n, 7) % self._accounts + n * self._accounts // (5 * self._month)

    def _attributes(self, account: int, at: datetime) -> dict[str, object]:
        home = account // 2
        address = f"h:{mixed(home, 8):032x}"
        return {
            "device": f"h:{mixed(account, 9):032x}", "payment": f"h:{mixed(home, 10):032x}", "address": address,
            "ip": f"h:{mixed(home, 11 + at.day // 16):032x}", "region": f"h:{home % 40:032x}", "channel": "app",
        }  # fmt: skip

    def _facts(self, n: int, account: int, at: datetime, points: int, certificates: dict[str, str] | None = None) -> Facts:
        return Facts(
            number=n, platform="shop-1", account_id=account, opened_at=at, points=points, received_at=at + timedelta(seconds=2),
            certificates=certificates or {}, most=500,
        )  # fmt: skip

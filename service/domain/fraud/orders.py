"""Orders as they were paid, for what comes after: a refund, a cancellation or a shipment names the order and nothing else."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from service.domain.fraud.observation import OrderBefore
from service.domain.fraud.windows import MONTH

PERIODS: Final = 5
"""Of 30 days each, the newest among them: an order is remembered for 120 days at least. Shops take things back for 14 to 100 days."""
_Packed = tuple[int, str, str, dict[str, str]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode
_entries = msgspec.msgpack.Decoder(list[tuple[str, bytes]]).decode


class Orders:
    """Orders by platform and id, packed: a third of the memory. A Part of a journal. They are forgotten by the period, never one by one."""

    def __init__(self, *, tracked: bool = False) -> None:
        self._periods: dict[int, dict[str, bytes]] = {}
        """By `at` // 30 days."""
        self._changes: list[str] | None = [] if tracked else None

    def __len__(self) -> int:
        return sum(len(orders) for orders in self._periods.values())

    def __iter__(self) -> Iterator[str]:
        return (key for orders in self._periods.values() for key in orders)

    def get(self, platform: str, order: str) -> OrderBefore | None:
        """The order as it was paid; None: unknown, or forgotten."""
        packed = self._find(_key(platform, order))
        if packed is None:
            return None
        at, merchant, packaging, entities = _decode(packed)
        return OrderBefore(at=at, merchant=merchant, packaging=packaging, entities=entities)

    def put(self, platform: str, order: str, paid: OrderBefore) -> None:
        """Remember an order, in place of what was known of it."""
        key = _key(platform, order)
        if self._keep(key, _encode((paid.at, paid.merchant, paid.packaging, paid.entities))) and self._changes is not None:
            self._changes.append(key)

    def take(self) -> list[str]:
        """As Part.take."""
        taken, self._changes = self._changes or [], []
        return taken

    def pack(self, keys: Iterable[str], chunk: int) -> tuple[list[str], list[Any]]:  # noqa: ARG002 - no order changes
        """As Part.pack."""
        entries = [(key, packed) for key in keys if (packed := self._find(key)) is not None]
        return [key for key, _ in entries], entries

    def newest(self, key: str, chunk: int) -> bool:  # noqa: ARG002 - likewise
        """As Part.newest. Orders hardly ever change, so that every chunk that has one may have the newest copy."""
        return self._find(key) is not None

    def load(self, body: bytes, chunk: int) -> list[str]:  # noqa: ARG002 - likewise
        """As Part.load."""
        return [key for key, packed in _entries(body) if self._keep(key, packed)]

    def _find(self, key: str) -> bytes | None:
        for orders in self._periods.values():
            if (found := orders.get(key)) is not None:
                return found
        return None

    def _keep(self, key: str, packed: bytes) -> bool:
        """False: the order is too old to be kept."""
        period = _decode(packed)[0] // MONTH
        orders = self._periods.get(period)
        if orders is None:
            newest = max((*self._periods, period))
            if period <= newest - PERIODS:
                return False
            for gone in [number for number in self._periods if number <= newest - PERIODS]:
                del self._periods[gone]
            orders = self._periods[period] = {}
        orders[key] = packed
        return True


def _key(platform: str, order: str) -> str:
    return f"{platform}/{order}"

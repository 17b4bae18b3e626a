"""The book: what an entry is about, and how a reversal of settled points is taken from lots."""

from collections.abc import Iterable
from datetime import date
from enum import IntEnum


class Kind(IntEnum):
    """What a transfer does."""

    SETTLE = 1
    CLAWBACK = 2
    OPENING = 3
    """Taken over from another system."""


class Book(IntEnum):
    """Which side of the book an entry is on. A consumer's points are AVAILABLE + RESERVED + DEBT (debt is negative)."""

    AVAILABLE = 1
    RESERVED = 2
    DEBT = 3
    ISSUANCE = 4
    OPENING = 5
    """The other side of points that were taken over: earned elsewhere, owed here."""


class Lot:
    """An open parcel of points, as far as a batch needs it; `used` is what this batch takes from it."""

    __slots__ = ("event", "expires_on", "n", "remaining", "used")

    def __init__(self, event: int, n: int, remaining: int, expires_on: date | None) -> None:
        self.event = event
        self.n = n
        self.remaining = remaining
        self.expires_on = expires_on
        self.used = 0


def claw_back(lots: Iterable[Lot], points: int, *, event: int, n: int) -> tuple[list[tuple[Lot, int]], int]:
    """Take settled points back: from the lot of that award first, then from the others by expiry.

    Returns what to take from which lot (the lots are changed), and what is missing: it becomes debt.
    """
    order = sorted(lots, key=lambda lot: ((lot.event, lot.n) != (event, n), lot.expires_on or date.max, lot.event, lot.n))
    taken: list[tuple[Lot, int]] = []
    for lot in order:
        part = min(points, lot.remaining)
        if part:
            lot.remaining -= part
            lot.used += part
            points -= part
            taken.append((lot, part))
    return taken, points

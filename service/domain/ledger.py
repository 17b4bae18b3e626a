"""The book: what an entry is about, lots, and how a reversal of settled points is taken from them."""

from collections.abc import Iterable
from datetime import date
from enum import IntEnum


class Kind(IntEnum):
    """What a transfer does."""

    SETTLE = 1
    CLAWBACK = 2
    OPENING = 3
    """Taken over from another system."""
    RESERVE = 4
    CAPTURE = 5
    """Points are spent: those that were reserved, or at once."""
    RELEASE = 6
    """A reservation ends without being spent."""
    REFUND = 7
    """Spent points come back."""
    EXPIRE = 8
    ADJUST = 9
    TRANSFER = 10
    """Between two consumers; each of them has a transfer of this kind, with the same number."""
    LINK = 11
    """Points move between accounts of one person that are linked, or split again."""


class Book(IntEnum):
    """Which side of the book an entry is on. A consumer's points are AVAILABLE + RESERVED + DEBT (debt is negative)."""

    AVAILABLE = 1
    RESERVED = 2
    DEBT = 3
    ISSUANCE = 4
    OPENING = 5
    """The other side of points that were taken over: earned elsewhere, owed here."""
    REDEEMED = 6
    """Spent on goods, or on a reward of the catalogue."""
    CAUSE = 7
    """Given to a public-welfare cause."""
    BREAKAGE = 8
    """Expired."""
    WRITE_OFF = 9
    """Debt that the program's policy does not ask for."""
    ADJUSTMENT = 10
    TRANSFER = 11
    """The other side of points that went to, or came from, another consumer: over both it sums to zero."""
    LINK = 12
    """The same for linked accounts."""


class Lot:
    """A parcel of points under its account's lock; changed in place.

    `remaining` is what has not been used, `reserved` the part of it that open reservations hold; `used` is what this batch takes from it.
    """

    __slots__ = ("campaign", "event", "expires_on", "idle_months", "n", "platform", "remaining", "reserved", "used")

    def __init__(
        self, event: int, n: int, remaining: int, expires_on: date | None, *,
        reserved: int = 0, campaign: int = 0, platform: int = 0, idle_months: int | None = None,
    ) -> None:  # fmt: skip
        self.event = event
        self.n = n
        self.remaining = remaining
        self.reserved = reserved
        self.expires_on = expires_on
        self.campaign = campaign
        self.platform = platform
        self.idle_months = idle_months
        self.used = 0

    @property
    def free(self) -> int:
        """What can be spent, expire or be clawed back."""
        return self.remaining - self.reserved

    @property
    def key(self) -> tuple[int, int]:
        """Its event and position: unique over all accounts, but for lots that were moved between linked ones."""
        return self.event, self.n

    @property
    def turn(self) -> tuple[date, int, int]:
        """First out is what expires first, then what came first."""
        return self.expires_on or date.max, self.event, self.n


def claw_back(lots: Iterable[Lot], points: int, *, event: int, n: int) -> tuple[list[tuple[Lot, int]], int]:
    """Take settled points back: from the lot of that award first, then from the others by expiry; never what is reserved.

    Returns what to take from which lot (the lots are changed), and what is missing: it becomes debt.
    """
    order = sorted(lots, key=lambda lot: (lot.key != (event, n), lot.turn))
    taken: list[tuple[Lot, int]] = []
    for lot in order:
        part = min(points, lot.free)
        if part:
            lot.remaining -= part
            lot.used += part
            points -= part
            taken.append((lot, part))
    return taken, points

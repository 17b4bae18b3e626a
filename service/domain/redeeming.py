"""Redemptions: their states, and what each step does to a purse and its lots."""

import secrets
from datetime import datetime, timedelta
from typing import Final, Literal

from msgspec import Struct

from schemas.redemptions import RedemptionStatus
from service.domain.errors import InvalidRequest, InvalidState
from service.domain.ledger import Book, Kind, Lot
from service.domain.purse import Part, Purse

Step = Literal["capture", "cancel", "refund", "expire"]

STATES: Final[dict[tuple[RedemptionStatus, Step], RedemptionStatus]] = {
    ("reserved", "capture"): "captured",
    ("reserved", "cancel"): "cancelled",
    ("reserved", "expire"): "expired",
    ("captured", "refund"): "captured",
}
"""(status, step) → status; what is not here is refused."""
ID_BYTES: Final = 16
MIN_TTL: Final = timedelta(seconds=1)
MAX_TTL: Final = timedelta(days=31)


def new_id() -> str:
    """A public id that says nothing and cannot be guessed."""
    return f"rdm_{secrets.token_hex(ID_BYTES)}"


class Held(Struct, gc=False):
    """What a redemption has of one lot."""

    reserved: int = 0
    spent: int = 0


class Redemption(Struct, kw_only=True, gc=False):
    """One redemption under its account's lock; changed in place. Columns of table `redemption`, and its lots."""

    number: int
    account: int
    platform: int
    id: str
    status: RedemptionStatus
    points: int
    captured: int = 0
    refunded: int = 0
    reference: str | None = None
    reward: int | None = None
    cause: int | None = None
    reward_code: str | None = None
    cause_code: str | None = None
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    lots: dict[tuple[int, int], Held] = {}
    is_new: bool = False

    @property
    def book(self) -> Book:
        """Where its points go."""
        return Book.REDEEMED if self.cause is None else Book.CAUSE

    def reserve(self, purse: Purse, *, reason: str) -> None:
        """Hold its points. Raises InsufficientPoints, nothing changed."""
        purse.require(self.points)
        transfer = purse.begin(Kind.RESERVE, self.number, platform=self.platform, redemption=self.number, reason=reason)
        for lot, part in purse.reserve(transfer, self.points):
            self._held(lot).reserved += part

    def spend(self, purse: Purse, now: datetime, *, reason: str) -> None:
        """Spend its points at once. Raises InsufficientPoints, nothing changed."""
        purse.require(self.points)
        transfer = purse.begin(Kind.CAPTURE, self.number, platform=self.platform, redemption=self.number, reason=reason)
        for lot, part in purse.spend(transfer, self.points, self.book):
            self._held(lot).spent += part
        self.status, self.captured, self.ended_at = "captured", self.points, now

    def capture(self, purse: Purse, number: int, points: int | None, now: datetime, *, reason: str) -> None:
        """Spend what it holds, or part of it. Raises InvalidState, InvalidRequest."""
        self.check("capture", now)
        status = self._next("capture")
        points = self.points if points is None else points
        if points > self.points:
            raise InvalidRequest.at("/points", f"only {self.points} points are reserved")
        self._whole(points, self.points)
        transfer = purse.begin(Kind.CAPTURE, number, platform=self.platform, redemption=self.number, reason=reason)
        for lot, part in purse.capture(transfer, self._parts(purse, reserved=True), points, self.book):
            self._held(lot).spent += part
        self._let_go()
        self.status, self.captured, self.ended_at = status, points, now

    def release(self, purse: Purse, number: int, step: Literal["cancel", "expire"], now: datetime, *, reason: str) -> None:
        """Let go what it holds. Raises InvalidState."""
        status = self._next(step)
        transfer = purse.begin(Kind.RELEASE, number, platform=self.platform, redemption=self.number, reason=reason)
        purse.release(transfer, self._parts(purse, reserved=True))
        self._let_go()
        self.status, self.ended_at = status, now

    def refund(self, purse: Purse, number: int, points: int | None, *, reason: str) -> int:
        """Give back what was spent, or part of it; returns how much. Raises InvalidState, InvalidRequest."""
        self._next("refund")
        left = self.captured - self.refunded
        if not left:
            raise InvalidState("All of its points have been given back.")
        points = left if points is None else points
        if points > left:
            raise InvalidRequest.at("/points", f"only {left} of its points have not been given back")
        self._whole(points, left)
        transfer = purse.begin(Kind.REFUND, number, platform=self.platform, redemption=self.number, reason=reason)
        for lot, part in purse.refund(transfer, self._parts(purse, reserved=False), points, self.book):
            self._held(lot).spent -= part
        self.refunded += points
        return points

    def check(self, step: Step, now: datetime) -> None:
        """Raises InvalidState when the step is not allowed now; nothing changes."""
        self._next(step)
        if step == "capture" and now >= self.expires_at:
            raise InvalidState("The reservation has ended; its points are free again.")

    def _whole(self, points: int, all_of_it: int) -> None:
        if self.reward is not None and points != all_of_it:
            raise InvalidRequest.at("/points", "a reward is paid and given back as a whole")

    def _next(self, step: Step) -> RedemptionStatus:
        found = STATES.get((self.status, step))
        if found is None:
            raise InvalidState(f"It is {self.status}: it cannot be {_PAST[step]}.")
        return found

    def _held(self, lot: Lot) -> Held:
        return self.lots.setdefault(lot.key, Held())

    def _parts(self, purse: Purse, *, reserved: bool) -> list[Part]:
        parts = ((key, held.reserved if reserved else held.spent) for key, held in self.lots.items())
        return [(purse.lots[key], points) for key, points in parts if points]

    def _let_go(self) -> None:
        for held in self.lots.values():
            held.reserved = 0


_PAST: Final[dict[Step, str]] = {"capture": "captured", "cancel": "cancelled", "refund": "refunded", "expire": "released"}

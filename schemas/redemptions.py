"""Spending points (CONTRACT §3.6)."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from schemas.base import Body, Code, DurationText, Key
from schemas.bounds import MAX_POINTS
from schemas.events import Balance

SomePoints = Annotated[int, Meta(gt=0, le=MAX_POINTS)]
RedemptionStatus = Literal["reserved", "captured", "cancelled", "expired"]


class OwnRedemptionBody(Body, frozen=True, kw_only=True):
    """Points to spend: reserved for `ttl`, or spent at once with `capture`.

    A reward of the catalogue has a price: `points` may be left out then. `reference` is the caller's own name for it.
    """

    points: SomePoints | UnsetType = UNSET
    reference: Key | None = None
    reward: Code | None = None
    cause: Code | None = None
    capture: bool = False
    ttl: DurationText = "PT15M"


class RedemptionBody(OwnRedemptionBody, frozen=True, kw_only=True):
    """The same for one of a platform's consumers."""

    consumer: Key


class CaptureBody(Body, frozen=True, kw_only=True):
    """How many of the reserved points are spent, all if it is left out; the rest is free again at once."""

    points: SomePoints | UnsetType = UNSET


class RefundBody(Body, frozen=True, kw_only=True):
    """How many of the spent points come back, all that are left if it is left out."""

    points: SomePoints | UnsetType = UNSET


class CancelBody(Body, frozen=True, kw_only=True):
    """Nothing is to be said."""


class RedemptionAnswer(Body, frozen=True, kw_only=True):
    """A redemption after what was just done, and its consumer's balance.

    `points` were asked for, `captured` of them spent, `refunded` of those given back. `voucher`: the code of a reward that has one, once
    the points are spent.
    """

    id: str
    status: RedemptionStatus
    points: int
    captured: int
    refunded: int
    reference: str | None
    reward: str | None
    cause: str | None
    created_at: datetime
    expires_at: datetime
    balance: Balance
    voucher: str | UnsetType = UNSET


class RedemptionItem(Body, frozen=True, kw_only=True):
    """A redemption in a list."""

    id: str
    status: RedemptionStatus
    points: int
    captured: int
    refunded: int
    reference: str | None
    reward: str | None
    cause: str | None
    created_at: datetime
    expires_at: datetime

"""Rewards of the catalogue and their voucher codes (CONTRACT §3.7)."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from schemas.base import PRINTABLE, Body, Code, Instant
from schemas.bounds import MAX_CAMPAIGN_PLATFORMS, MAX_POINTS, MAX_REASON_CHARS, MAX_REWARD_STOCK, MAX_VOUCHER_CHARS
from schemas.problems import FieldError
from schemas.registries import PrintableText

Description = Annotated[str, Meta(max_length=MAX_REASON_CHARS, pattern=PRINTABLE.replace("+$", "*$"))]
Price = Annotated[int, Meta(ge=1, le=MAX_POINTS)]
Stock = Annotated[int, Meta(ge=0, le=MAX_REWARD_STOCK)]
PerConsumer = Annotated[int, Meta(ge=1, le=MAX_REWARD_STOCK)]
PlatformCodes = Annotated[list[Code], Meta(min_length=1, max_length=MAX_CAMPAIGN_PLATFORMS)]
VoucherCode = Annotated[str, Meta(min_length=1, max_length=MAX_VOUCHER_CHARS, pattern=PRINTABLE)]
"""What a consumer shows or types in to get the reward; blanks around it do not belong to it."""


class RewardBody(Body, frozen=True, kw_only=True):
    """A reward that points buy.

    `points` is its price, `stock` how often it can be redeemed in all, `per_consumer` how often by one consumer; null: without end. It is
    offered from `valid_from` until just before `valid_until`, on these `platforms` or on all. `vouchers`: each redemption gets a code.
    """

    code: Code
    name: PrintableText
    description: Description = ""
    points: Price
    stock: Stock | None = None
    per_consumer: PerConsumer | None = None
    valid_from: Instant | None = None
    valid_until: Instant | None = None
    platforms: PlatformCodes | None = None
    vouchers: bool = False


class RewardPatch(Body, frozen=True, kw_only=True):
    """What to change of a reward; absent fields stay, null lifts. It counts for what is reserved from then on."""

    name: PrintableText | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    points: Price | UnsetType = UNSET
    stock: Stock | UnsetType | None = UNSET
    per_consumer: PerConsumer | UnsetType | None = UNSET
    valid_from: Instant | UnsetType | None = UNSET
    valid_until: Instant | UnsetType | None = UNSET
    platforms: PlatformCodes | UnsetType | None = UNSET
    active: bool | UnsetType = UNSET


class RewardItem(Body, frozen=True, kw_only=True):
    """A reward in a list. `in_stock`: there is one left, and a code where it needs one.

    Platforms see what they can offer now, without the last four fields, which are operators'.
    """

    code: str
    name: str
    description: str
    points: int
    per_consumer: int | None
    valid_from: datetime | None
    valid_until: datetime | None
    vouchers: bool
    in_stock: bool
    platforms: list[str] | UnsetType | None = UNSET
    stock: int | UnsetType | None = UNSET
    active: bool | UnsetType = UNSET
    created_at: datetime | UnsetType = UNSET


class RewardAnswer(RewardItem, frozen=True, kw_only=True):
    """A reward with its counts.

    `left` is what remains of the stock (null: without end), `reserved` and `given_out` count redemptions, without those that were
    cancelled, released or refunded. `codes_left` can be given out; `codes_void` were, and are not any more: null where it has no codes.
    """

    left: int | None
    reserved: int
    given_out: int
    codes_left: int | None
    codes_void: int | None


class MyReward(Body, frozen=True, kw_only=True):
    """A reward as a consumer sees it. `remaining`: how often this consumer can still have it (null: without end).

    `available`: it could be redeemed now: in stock, not above the limit, and affordable.
    """

    code: str
    name: str
    description: str
    points: int
    valid_from: datetime | None
    valid_until: datetime | None
    vouchers: bool
    in_stock: bool
    remaining: int | None
    affordable: bool
    available: bool


class VoucherResult(Body, frozen=True, kw_only=True):
    """What became of one row (numbered from 0; a CSV file's heading does not count). The code itself is never shown.

    `duplicate`: the reward has this code already, or it stood in a row before.
    """

    row: int
    status: Literal["created", "duplicate", "rejected"]
    errors: list[FieldError] = []


class VouchersAnswer(Body, frozen=True, kw_only=True):
    """What became of each row; one that is not taken stops no other."""

    created: int
    duplicate: int
    rejected: int
    results: list[VoucherResult]


class VoidVoucher(Body, frozen=True, kw_only=True):
    """A code that was given out for a redemption that was refunded: whoever made it should not take it any more."""

    code: str
    redemption: str | None
    voided_at: datetime

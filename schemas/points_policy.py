"""How points of a program live and die."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from schemas.base import Body, DurationText
from schemas.bounds import MAX_POINTS

Bound = Annotated[int, Meta(ge=0, le=MAX_POINTS)]


class Never(Body, frozen=True, kw_only=True, tag_field="kind", tag="never"):
    """Points do not expire."""


class Rolling(Body, frozen=True, kw_only=True, tag_field="kind", tag="rolling"):
    """Points can be spent for `after`, counted from the moment when they become available."""

    after: DurationText


class Fixed(Body, frozen=True, kw_only=True, tag_field="kind", tag="fixed"):
    """Points can be spent until the next `on` that is at least `after` away."""

    on: Annotated[str, Meta(pattern=r"\A(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])\Z", description="A day of the year, such as 12-31.")]
    after: DurationText = "P0D"


class Activity(Body, frozen=True, kw_only=True, tag_field="kind", tag="activity"):
    """Points live as long as their consumer is active: they end after so many months in which nothing was earned or spent."""

    months: Annotated[int, Meta(ge=1, le=120)]


Expiry = Never | Rolling | Fixed | Activity


class TransferPolicy(Body, frozen=True, kw_only=True):
    """Whether consumers may give points to each other, and how many."""

    enabled: bool = False
    per_transfer: Bound = 1_000
    per_day: Bound = 5_000


class PointsPolicy(Body, frozen=True, kw_only=True):
    """A program's policy; a campaign's own `expires_after` comes before `expiry`.

    `negative_balance`: what becomes of points that are taken back and were spent before. `debt`: later credits repay them;
    `cap_at_zero`: the program bears what is missing; `refuse`: if anything is missing nothing is taken, the program bears all of it.
    """

    expiry: Expiry = Never()
    warn_before_days: Annotated[int, Meta(ge=1, le=365)] | None = 30
    restored_for: DurationText = "P14D"
    """How long points that come back after their last day can still be spent."""
    negative_balance: Literal["debt", "cap_at_zero", "refuse"] = "debt"
    transfers: TransferPolicy = TransferPolicy()
    adjustment_alone: Bound = 1_000
    """An adjustment of more points than this needs a second operator."""


class PointsPolicyPatch(Body, frozen=True, kw_only=True):
    """What is to change; the rest stays."""

    expiry: Expiry | UnsetType = UNSET
    warn_before_days: Annotated[int, Meta(ge=1, le=365)] | UnsetType | None = UNSET
    restored_for: DurationText | UnsetType = UNSET
    negative_balance: Literal["debt", "cap_at_zero", "refuse"] | UnsetType = UNSET
    transfers: TransferPolicy | UnsetType = UNSET
    adjustment_alone: Bound | UnsetType = UNSET


class PointsPolicyVersion(PointsPolicy, frozen=True, kw_only=True):
    """A version: it counts for what is received from `effective_from` on. Version 0, the defaults, has always counted."""

    version: int = 0
    effective_from: datetime | None = None


class PointsPolicyAnswer(PointsPolicyVersion, frozen=True, kw_only=True):
    """The version in force, and the one that was saved and is not in force yet."""

    next: PointsPolicyVersion | None = None


class PointsPolicyRecord(PointsPolicyVersion, frozen=True, kw_only=True):
    """A version, and who saved it when."""

    created_by: str
    created_at: datetime

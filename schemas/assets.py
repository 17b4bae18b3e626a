"""Reusable packaging by number, and the program's policy about what is given back (CONTRACT §3.7)."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType, field

from schemas.base import PRINTABLE, Body, Code, Instant, Key
from schemas.bounds import MAX_ASSET_TRIPS, MAX_REASON_CHARS, MAX_RETURN_WINDOW_DAYS

AssetState = Literal["registered", "shipped", "returned", "inspected", "retired", "lost"]


class AssetBody(Body, frozen=True, kw_only=True):
    """A piece of reusable packaging. Trips beyond `max_trips` earn nothing; without it there is no limit."""

    asset: Key
    class_: Code = field(name="class")
    max_trips: Annotated[int, Meta(ge=1, le=MAX_ASSET_TRIPS)] | None = None


class OpenTrip(Body, frozen=True, kw_only=True):
    """The shipment that has not come back."""

    order: str
    platform: str
    shipped_at: datetime


class Trip(Body, frozen=True, kw_only=True):
    """One shipment and its return. `void`: the shipment was declared wrong."""

    order: str
    platform: str
    shipped_at: datetime
    returned_at: datetime | None
    void: bool


class AssetItem(Body, frozen=True, kw_only=True):
    """A registered asset. `asset` is its canonical text; `trips` counts those that were not declared wrong."""

    asset: str
    class_: str = field(name="class")
    state: AssetState
    state_at: datetime | None
    """When that happened, as it was reported; null: registered."""
    max_trips: int | None
    trips: int


class AssetAnswer(AssetItem, frozen=True, kw_only=True):
    """A registered asset with its trips, newest first, at most 100."""

    open_trip: OpenTrip | None
    history: list[Trip]


class AssetStep(Body, frozen=True, kw_only=True):
    """When it happened (now, if it is left out), and why."""

    at: Instant | None = None
    reason: Annotated[str, Meta(min_length=1, max_length=MAX_REASON_CHARS, pattern=PRINTABLE)] | None = None


class PackagingPolicy(Body, frozen=True, kw_only=True):
    """What the program decides about packaging that is given back.

    `return_earner`: whose points a reusable asset earns, whoever's that brings it (`returner`) or the consumer's that it was shipped to
    (`recipient`). `return_window_days`: how long single-use packaging can be given back after it was shipped; null: returns are not
    compared with shipments.
    """

    return_earner: Literal["returner", "recipient"]
    return_window_days: int | None


class PackagingPolicyPatch(Body, frozen=True, kw_only=True):
    """What is to change; at least one of them."""

    return_earner: Literal["returner", "recipient"] | UnsetType = UNSET
    return_window_days: Annotated[int, Meta(ge=1, le=MAX_RETURN_WINDOW_DAYS)] | UnsetType | None = UNSET

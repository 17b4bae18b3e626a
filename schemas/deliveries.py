"""The log of inbound deliveries, and their replay, as operators and platforms see them."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, field

from schemas.base import Body, Code, Instant, Key
from schemas.bounds import MAX_CURSOR_CHARS, MAX_PAGE_ITEMS

Verdict = Literal["verified", "bad_signature", "stale", "unread"]
"""What the sender proved. `stale`: a genuine signature would be too old or too new; `unread`: the body was too large or compressed."""

Outcome = Literal["credited", "duplicate", "ignored", "noted", "untranslatable", "failed", "overloaded", "unavailable", "refused"]
"""What came of it. `noted`: a privacy request, which workers carry out, or which tag is on which asset; `untranslatable` (perhaps only
some of its events) and `failed` were answered 200 and are kept;
after `overloaded` and `unavailable` (503) the sender delivers again; `refused` proved nothing."""


class DeliveryEvent(Body, frozen=True, kw_only=True):
    """One event that a delivery reported. `refused`: codes of what earned nothing in it."""

    id: str
    status: str
    points: int
    refused: list[str] = []


class DeliveryAnswer(Body, frozen=True, kw_only=True):
    """One delivery, or (`deliveries` above 1) forged ones of a minute that were only counted.

    `topic` and `delivery_id` are the sender's words. `duration_ms`: from its arrival to our answer. `replayable`: its body is still kept.
    """

    id: str
    received_at: datetime
    hook: str
    platform: str
    connector: str | None
    topic: str | None
    delivery_id: str | None
    size_bytes: int
    verdict: Verdict
    outcome: Outcome
    detail: str
    events: list[DeliveryEvent]
    duration_ms: float | None
    request_id: str | None
    deliveries: int
    replayable: bool
    attempts: int
    replayed_at: datetime | None


class ReplayRange(Body, frozen=True, kw_only=True):
    """Which deliveries to replay: received from `from` on and before `to`, whose body is still kept, oldest first.

    Without `outcome` those that are untranslatable or failed. `cursor` is `next_cursor` of the answer before.
    """

    from_: Instant = field(name="from")
    to: Instant
    hook: Key | None = None
    platform: Code | None = None
    outcome: Outcome | None = None
    dry_run: bool = False
    cursor: Annotated[str, Meta(max_length=MAX_CURSOR_CHARS)] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE_ITEMS)] = 50


class ReplayResult(Body, frozen=True, kw_only=True):
    """What came of one delivery this time (of a dry run: would come)."""

    id: str
    outcome: Outcome
    detail: str
    events: list[DeliveryEvent]


class ReplayAnswer(Body, frozen=True, kw_only=True):
    """What came of some deliveries. `failed` counts those that gave no events for whatever reason; null `next_cursor`: that was all."""

    dry_run: bool
    credited: int
    duplicates: int
    ignored: int
    failed: int
    items: list[ReplayResult]
    next_cursor: str | None

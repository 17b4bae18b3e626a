"""Allow and block lists of the fraud checks (docs/fraud-lists.md)."""

from datetime import datetime
from typing import Any, Literal

from msgspec import UNSET, UnsetType, field

from schemas.adjustments import Reason
from schemas.base import Body, Code, Instant, Key

ListName = Literal["allow", "block"]
ListedKind = Literal["consumer", "device", "payment", "address", "ip"]
EntryStatus = Literal["active", "expired", "removed"]


class ListEntryBody(Body, frozen=True, kw_only=True):
    """What to list, why, and until when (null: until it is taken off).

    A consumer is named by `platform` and `consumer`, anything else by `value`: as events carry it in their attributes (it is hashed at
    once and stored nowhere), or the hash that a stored event shows, `h:` and 32 hexadecimal digits. `reason` is for operators.
    """

    list_: ListName = field(name="list")
    kind: ListedKind
    platform: Code | None = None
    consumer: Key | None = None
    value: Any | UnsetType = UNSET
    reason: Reason
    until: Instant | None = None


class ListEntryAnswer(Body, frozen=True, kw_only=True):
    """An entry. `value` is the keyed hash (null: a consumer), `account` the consumer's number (null: anything else).

    `platform` and `consumer` are null for operators who may not read persons' names.
    """

    id: str
    list_: ListName = field(name="list")
    kind: ListedKind
    platform: str | None
    consumer: str | None
    account: str | None
    value: str | None
    reason: str
    until: datetime | None
    status: EntryStatus
    added_by: str | None
    added_at: datetime
    removed_at: datetime | None

"""What is held about a person and what is done about it: exports, requests, holds, policy (docs/privacy.md)."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from schemas.base import PRINTABLE, Body
from schemas.bounds import MAX_REASON_CHARS
from schemas.events import Balance
from schemas.impact import ImpactRecord


class HoldBody(Body, frozen=True, kw_only=True):
    """Why data must be kept. Name the case, not the person: it is shown to administrators only, and goes with the person."""

    reason: Annotated[str, Meta(min_length=1, max_length=MAX_REASON_CHARS, pattern=PRINTABLE)]


class HoldAnswer(Body, frozen=True, kw_only=True):
    """A legal hold on a consumer's data."""

    reason: str
    placed_by: str
    placed_at: datetime


class PolicyBody(Body, frozen=True, kw_only=True):
    """What comes of later events of an erased reference: somebody new earns, or they are refused."""

    erased_reference: Literal["new_account", "refuse"]


class PrivacyRequestAnswer(Body, frozen=True, kw_only=True):
    """What a platform asked for, and how far it has come.

    `consumers`: persons erased or, of an export, found; `orders`: orders scrubbed by themselves, whoever's they are. `export` is the
    path of everything that is held, while there is something to fetch.
    """

    id: str
    platform: str
    kind: Literal["erase", "export", "erase_all"]
    state: Literal["pending", "running", "on_hold", "done", "cancelled"]
    received_at: datetime
    not_before: datetime
    deadline: datetime
    done_at: datetime | None
    consumers: int
    orders: int
    export: str | None


class ExportedAward(Body, frozen=True, kw_only=True):
    """What a campaign granted for an event; `reversed` of its points were taken back."""

    campaign: str
    version: int
    line: str | None
    points: int
    reversed: int
    day: date
    due_at: datetime
    expires_on: date | None
    impact: ImpactRecord | None


class ExportedEvent(Body, frozen=True, kw_only=True):
    """One event: `facts` as they are kept, `answer` as it was given; `status` and `awards` as they are now."""

    id: str
    type: str
    occurred_at: datetime
    received_at: datetime
    status: str
    points: int
    facts: Any
    answer: Any
    awards: list[ExportedAward]


class ExportedEntry(Body, frozen=True, kw_only=True):
    """One line of the ledger; `event` caused it."""

    seq: int
    at: datetime
    kind: str
    book: str
    amount: int
    campaign: str | None
    event: str | None


class ExportedLot(Body, frozen=True, kw_only=True):
    """A parcel of points with its last day."""

    event: str | None
    campaign: str | None
    amount: int
    remaining: int
    expires_on: date | None


class ExportedCampaign(Body, frozen=True, kw_only=True):
    """A campaign that awarded the person something."""

    campaign: str
    first: date
    last: date
    awards: int
    points: int
    reversed: int


class ExportedParked(Body, frozen=True, kw_only=True):
    """An event that waits for its order."""

    id: str
    type: str
    occurred_at: datetime
    received_at: datetime
    facts: Any


class Export(Body, frozen=True, kw_only=True):
    """Everything that is held about a platform's consumer. `balance` is the whole account's, the rest is what this platform reported.

    The newest 500 events come first, each page with its awards, ledger entries and lots; `next_cursor` asks for older ones.
    """

    platform: str
    references: list[str]
    known_since: datetime
    as_of: datetime
    balance: Balance
    legal_hold_since: datetime | None
    campaigns: list[ExportedCampaign]
    parked: list[ExportedParked]
    events: list[ExportedEvent]
    entries: list[ExportedEntry]
    lots: list[ExportedLot]
    next_cursor: str | None

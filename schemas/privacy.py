"""What is held about a person and what is done about it: exports, requests, holds, policy (docs/privacy.md)."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from schemas.base import PRINTABLE, Body
from schemas.bounds import MAX_REASON_CHARS
from schemas.events import Balance
from schemas.impact import ImpactRecord
from schemas.redemptions import RedemptionItem
from schemas.reviews import ObjectionAnswer, Review


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
    """What a campaign granted for an event, or its line or returned item; `reversed` of its points were taken back."""

    campaign: str
    version: int
    line: str | None
    item: int | None
    points: int
    reversed: int
    day: date
    due_at: datetime
    expires_on: date | None
    impact: ImpactRecord | None


class ExportedShipment(Body, frozen=True, kw_only=True):
    """A reusable asset that an event shipped to the person; `declared_wrong`: it was not, as was said later."""

    asset: str
    declared_wrong: bool


class ExportedReturn(Body, frozen=True, kw_only=True):
    """A reusable asset whose trip item `item` (from 0) of an event ended, with the deposit that is due for it."""

    item: int
    asset: str
    deposit: str | None
    currency: str | None


class ExportedGivenBack(Body, frozen=True, kw_only=True):
    """Single-use packaging that item `item` of an event counts as given back."""

    item: int
    class_: str = field(name="class")
    units: str


class ExportedClaim(Body, frozen=True, kw_only=True):
    """What earns once in the program and item `item` of an event holds (a waybill, a serial number, a receipt); the text is not kept."""

    item: int
    kind: str


class ExportedSent(Body, frozen=True, kw_only=True):
    """Single-use packaging of a class that was sent on a day, and what of it is back."""

    class_: str = field(name="class")
    day: date
    units: str
    returned: str


class ExportedVerdict(Body, frozen=True, kw_only=True):
    """What the fraud checks said of an event and did. `unchecked`: it could not be judged, and was held for a person to look at."""

    outcome: Literal["held", "rejected", "unchecked"]
    at: datetime


class ExportedObjection(ObjectionAnswer, frozen=True, kw_only=True):
    """What the person said against it; `text` is forgotten some time after the answer."""

    text: str | None


class ExportedReview(Review, frozen=True, kw_only=True):
    """The review of an event, with the objection as it was made."""

    objection: ExportedObjection | None


class ExportedEvent(Body, frozen=True, kw_only=True):
    """One event: `facts` as they are kept, `answer` as it was given; `status` and all that follows as they are now.

    The answer to a return of an asset is shown without its balance: it is that of whoever brought it, and may be another person's.
    `waits`: items that count once their shipment is reported. `verdicts`: those of the fraud checks that did not let it pass.
    """

    id: str
    type: str
    occurred_at: datetime
    received_at: datetime
    status: str
    points: int
    facts: Any
    answer: Any
    awards: list[ExportedAward]
    shipped: list[ExportedShipment]
    returned: list[ExportedReturn]
    given_back: list[ExportedGivenBack]
    waits: list[int]
    claims: list[ExportedClaim]
    verdicts: list[ExportedVerdict]
    review: ExportedReview | None


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
    reserved: int
    expires_on: date | None


class ExportedRedemption(RedemptionItem, frozen=True, kw_only=True):
    """Points spent through this platform, or reserved; `ended_at`: when they were captured, cancelled or released."""

    ended_at: datetime | None


class ExportedTransfer(Body, frozen=True, kw_only=True):
    """What no event caused: spending, what came back, expiry, adjustments, points from and to others, links; in words.

    `points` is the signed change of what the person can spend, `pending` of what is on hold. `redemption` is the one that it is about.
    """

    at: datetime
    kind: str
    points: int
    pending: int
    reason: str | None
    redemption: str | None


class ExportedLink(Body, frozen=True, kw_only=True):
    """A time in which the person's points were, or are, in one purse with those of another reference."""

    since: datetime
    until: datetime | None


class ExportedListing(Body, frozen=True, kw_only=True):
    """A time in which what the person earned was, or is, always held for review (`block`) or always let through (`allow`)."""

    list_: Literal["allow", "block"] = field(name="list")
    since: datetime
    until: datetime | None
    removed: datetime | None


class ExportedCampaign(Body, frozen=True, kw_only=True):
    """A campaign that awarded the person something."""

    campaign: str
    first: date
    last: date
    awards: int
    points: int
    reversed: int


class ExportedParked(Body, frozen=True, kw_only=True):
    """An event that waits for its order; of a return `waits`, the items that wait for their shipment. Declared wrong, it never counts."""

    id: str
    type: str
    occurred_at: datetime
    received_at: datetime
    facts: Any
    waits: list[int]
    declared_wrong: bool


class Export(Body, frozen=True, kw_only=True):
    """Everything that is held about a platform's consumer. `balance` is the whole account's, the rest is what this platform reported.

    The newest 500 events come first, each page with its awards and packaging, and with the ledger entries, lots, redemptions and transfers
    of its time; `next_cursor` asks for older ones. Where the points are in one purse with another reference's, those of the purse that
    came through this platform.
    `packaging_sent` is counted for the account: it is empty where the account is shared with another platform.
    """

    platform: str
    references: list[str]
    known_since: datetime
    as_of: datetime
    balance: Balance
    legal_hold_since: datetime | None
    campaigns: list[ExportedCampaign]
    parked: list[ExportedParked]
    packaging_sent: list[ExportedSent]
    events: list[ExportedEvent]
    entries: list[ExportedEntry]
    lots: list[ExportedLot]
    redemptions: list[ExportedRedemption]
    transfers: list[ExportedTransfer]
    links: list[ExportedLink]
    fraud_lists: list[ExportedListing]
    next_cursor: str | None

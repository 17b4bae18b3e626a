"""Points that operators give or take by hand, and points that consumers give each other (docs/adjustments.md)."""

from datetime import date, datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from schemas.base import PRINTABLE, Body, Code, Key, Text
from schemas.bounds import MAX_POINTS, MAX_REASON_CHARS
from schemas.events import Balance

Reason = Annotated[str, Meta(min_length=1, max_length=MAX_REASON_CHARS, pattern=PRINTABLE)]

AdjustmentStatus = Literal["pending", "done", "rejected", "withdrawn", "expired"]


class AdjustmentBody(Body, frozen=True, kw_only=True):
    """Points to give (positive) or to take (negative), and why.

    The consumer may read `reason`; `note` is for operators. Without `expires_on` the program's policy says how long given points live;
    null: for ever. `debt`: what becomes of points that are to be taken and are not there.
    """

    platform: Code
    consumer: Key
    points: Annotated[int, Meta(ge=-MAX_POINTS, le=MAX_POINTS)]
    reason: Reason
    note: Reason | None = None
    expires_on: date | UnsetType | None = UNSET
    debt: Literal["refuse", "allow"] = "refuse"


class DecisionBody(Body, frozen=True, kw_only=True):
    """What an operator says to a decision."""

    note: Reason | None = None


class AdjustmentAnswer(Body, frozen=True, kw_only=True):
    """An adjustment. `consumer`, `reason` and the notes are null once the person was erased.

    `balance` is the consumer's after it, in the answer to the request that carried it out.
    """

    id: str
    status: AdjustmentStatus
    platform: str
    consumer: str | None
    points: int
    reason: str | None
    note: str | None
    expires_on: date | UnsetType | None = UNSET
    """The last day that was said; null: never; absent: as the program's policy says."""
    debt: Literal["refuse", "allow"]
    proposed_by: str
    proposed_at: datetime
    open_until: datetime | None
    """Until when another operator can decide; null: nobody has to."""
    decided_by: str | None
    decided_at: datetime | None
    decision_note: str | None
    balance: Balance | None = None


class TransferBody(Body, frozen=True, kw_only=True):
    """Points for another consumer of the same platform; they keep their last day. The receiver may read `message`."""

    to: Key
    points: Annotated[int, Meta(gt=0, le=MAX_POINTS)]
    message: Text | None = None


class TransferAnswer(Body, frozen=True, kw_only=True):
    """Points that were given; `balance` is the giver's."""

    id: str
    points: int
    to: str
    balance: Balance

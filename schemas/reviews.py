"""What a person is told about an event that the fraud checks held, and what the person says to it (docs/fraud-persons.md)."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from schemas.base import Body
from schemas.bounds import MAX_OBJECTION_CHARS

# Printable, and lines: as PRINTABLE, but for line feeds and carriage returns.
LINES = r"^[^\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+$(?!\n)"
Statement = Annotated[str, Meta(min_length=1, max_length=MAX_OBJECTION_CHARS, pattern=LINES)]

ReviewState = Literal["held", "rejected", "released", "approved"]
ObjectionState = Literal["open", "upheld", "refused"]


class ObjectionAnswer(Body, frozen=True, kw_only=True):
    """An objection, as whoever made it sees it. `upheld`: the person was right."""

    state: ObjectionState
    made_at: datetime
    answered_at: datetime | None
    answer: str | None


class Review(Body, frozen=True, kw_only=True):
    """What became of an event that the fraud checks held.

    `since` when it is in this state; `until`: a held one is decided by then. `released`: nobody had decided by then, and it counts.
    """

    state: ReviewState
    since: datetime
    until: datetime | None
    reasons: list[str]
    objection: ObjectionAnswer | None


class ObjectionBody(Body, frozen=True, kw_only=True):
    """What a person says."""

    text: Statement


class DecisionOnObjection(Body, frozen=True, kw_only=True):
    """What an operator says to an objection; the person reads `answer`."""

    state: Literal["upheld", "refused"]
    answer: Statement


class ObjectionItem(ObjectionAnswer, frozen=True, kw_only=True):
    """An objection, as operators see it.

    `text` and `consumer` are null for who may not read personal data, and once the person was erased. `event_state` and `until` are
    those of the event in its case. `adjustment` gave the points back, or waits for a second operator.
    """

    id: str
    platform: str
    event: str
    consumer: str | None
    text: str | None
    case: str
    event_state: Literal["held", "settled", "approved", "rejected", "released", "voided"]
    points: int
    until: datetime | None
    answered_by: str | None
    adjustment: str | None

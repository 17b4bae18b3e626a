"""Fraud cases: the suspicious events of a ring, and what operators decide about them (docs/fraud-cases.md)."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from schemas.adjustments import Reason
from schemas.base import Body
from schemas.bounds import MAX_DECIDED_EVENTS, MAX_NUMBER_DIGITS

CaseStatus = Literal["open", "proposed", "closed"]
CaseEventState = Literal["held", "settled", "approved", "rejected", "released", "voided"]
CaseDecision = Literal["approve", "reject"]
CaseOrder = Literal["expected_loss", "newest"]
DecisionStatus = Literal["pending", "done", "refused", "withdrawn", "lapsed"]
LinkKind = Literal["device", "payment", "address", "ip"]
Found = Literal["arrival", "door", "look_back", "unchecked"]

Number = Annotated[str, Meta(max_length=MAX_NUMBER_DIGITS, pattern=r"^[0-9]+$(?!\n)")]
"""The id of an event in a case."""


class FraudDecisionBody(Body, frozen=True, kw_only=True):
    """A decision about all undecided events of a case, or about those named by their ids in the case. `note` is for operators."""

    decision: CaseDecision
    note: Reason | None = None
    events: Annotated[list[Number], Meta(min_length=1, max_length=MAX_DECIDED_EVENTS)] | None = None


class CaseReason(Body, frozen=True, kw_only=True):
    """One thing that spoke against an event. `share`: its part of what did, from 0 to 1."""

    signal: str
    sentence: str
    share: float


class CaseEvent(Body, frozen=True, kw_only=True):
    """An event of a case. `event` is how its platform calls it; `score`: probability in basis points.

    `decision` is what operators decided; it may still be being carried out: then `state` is what it was. `deadline` and `at_deadline`:
    when a held one is released or rejected by itself.
    """

    id: str
    account: str
    platform: str | None
    event: str | None
    type: str | None
    occurred_at: datetime | None
    received_at: datetime | None
    points: int
    score: int
    state: CaseEventState
    found: Found
    reasons: list[CaseReason]
    held_at: datetime
    deadline: datetime | None
    at_deadline: Literal["release", "reject"] | None
    decision: CaseDecision | None
    decided_at: datetime | None


class CaseReference(Body, frozen=True, kw_only=True):
    """What a platform calls a consumer."""

    platform: str
    consumer: str


class CaseAccount(Body, frozen=True, kw_only=True):
    """An account of the ring. `references`: null for an operator who may not read personal names."""

    id: str
    events: int
    points: int
    score: int
    references: list[CaseReference] | None


class CaseLink(Body, frozen=True, kw_only=True):
    """Two accounts and what events of both have in common."""

    between: tuple[str, str]
    shared: list[LinkKind]


class CaseMoment(Body, frozen=True, kw_only=True):
    """Something that happened, with the event or the operator that it is about."""

    at: datetime
    what: Literal[
        "occurred", "opened", "held", "proposed", "approved", "rejected", "refused", "withdrawn", "lapsed", "released", "voided", "closed"
    ]
    event: str | None = None
    account: str | None = None
    points: int | None = None
    by: str | None = None


class CaseDecisionAnswer(Body, frozen=True, kw_only=True):
    """A decision; `pending` ones wait for another operator."""

    id: str
    decision: CaseDecision
    status: DecisionStatus
    events: int
    points: int
    alone: bool
    note: str | None
    proposed_by: str
    proposed_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    decided_note: str | None


class CaseSummary(Body, frozen=True, kw_only=True):
    """A case in a list. `expected_loss`: Σ points × probability of its undecided events. `score`: the highest of its events.

    `within_budget`: among those that today's reviewers get to. `deadline`: the next one of an undecided event. `objection_count`: persons
    who wait for an answer. `merged_into`: the case that its events went to, because both rings are one.
    """

    id: str
    status: CaseStatus
    root: str
    score: int
    account_count: int
    event_count: int
    points: int
    undecided_count: int
    undecided_points: int
    expected_loss: int
    within_budget: bool
    deadline: datetime | None
    opened_at: datetime
    updated_at: datetime
    closed_at: datetime | None
    objection_count: int = 0
    merged_into: str | None = None


class CaseAnswer(CaseSummary, frozen=True, kw_only=True):
    """A case with its evidence. `complete`: false where there is more than is shown; the undecided events come first."""

    complete: bool
    ring: list[CaseAccount]
    events: list[CaseEvent]
    links: list[CaseLink]
    timeline: list[CaseMoment]
    decisions: list[CaseDecisionAnswer]

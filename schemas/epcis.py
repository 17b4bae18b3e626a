"""The parts of an EPCIS 2.0 event that are read (GS1 EPCIS 2.0 §7, JSON binding; its JSON Schema is in gs1/EPCIS, folder JSON-Schema)."""

from typing import Annotated

from msgspec import Meta, Struct, field

from schemas.base import Instant

MAX_TERM_CHARS = 512

Term = Annotated[str, Meta(min_length=1, max_length=MAX_TERM_CHARS)]
"""A word of a vocabulary or a URI."""


class BizTransaction(Struct, frozen=True, kw_only=True, rename="camel"):
    """A business document that the event is about."""

    biz_transaction: Term
    type: Term | None = None


class Place(Struct, frozen=True, kw_only=True):
    """A read point or a business location."""

    id: Term


class ErrorDeclaration(Struct, frozen=True, kw_only=True):
    """The event is wrong. `declaration_time` is when that was said."""

    declaration_time: Instant = field(name="declarationTime")
    reason: Term | None = None
    corrective_event_ids: list[Term] = field(name="correctiveEventIDs", default_factory=list)


class EpcisEvent(Struct, frozen=True, kw_only=True):
    """An ObjectEvent or an AssociationEvent. Of other types only `type` is read."""

    type: Term
    event_time: Instant = field(name="eventTime")
    event_id: Annotated[str, Meta(min_length=1)] | None = field(name="eventID", default=None)
    action: Term | None = None
    biz_step: Term | None = field(name="bizStep", default=None)
    disposition: Term | None = None
    epcs: list[str] = field(name="epcList", default_factory=list)
    parent: str | None = field(name="parentID", default=None)
    children: list[str] = field(name="childEPCs", default_factory=list)
    transactions: list[BizTransaction] = field(name="bizTransactionList", default_factory=list)
    read_point: Place | None = field(name="readPoint", default=None)
    biz_location: Place | None = field(name="bizLocation", default=None)
    error: ErrorDeclaration | None = field(name="errorDeclaration", default=None)

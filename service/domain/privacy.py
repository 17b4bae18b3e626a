"""What of a fact may be forgotten: everything free; what refunds, duplicates and the ledger need stays."""

from typing import Any, Literal

import msgspec

from schemas.events import ActivityCompleted, OrderFulfilled, OrderPaid, PackagingReturned, StoredEvent
from service.domain.intake import HASHED_ATTRIBUTES

ErasedReference = Literal["new_account", "refuse"]
"""What comes of later events of a reference that was erased: it is somebody new, or they are refused."""

RequestKind = Literal["erase", "export", "erase_all"]
RequestState = Literal["pending", "running", "on_hold", "done", "cancelled"]

_decode = msgspec.json.Decoder(StoredEvent).decode
_encode = msgspec.json.Encoder().encode


def scrub(event: StoredEvent, *, free: bool = True, hashed: bool = True) -> StoredEvent:
    """The event without what identifies or describes a person; the same one when there is nothing of the kind.

    `free` goes: attributes, evidence, waybills, stations and proofs. `hashed` goes: the keyed hashes of device, address, payment,
    ip, region and attendant. Ids, times, lines, quantities, money, packaging classes and assets stay.
    """
    changes: dict[str, Any] = {}
    if event.attributes:
        kept = {name: value for name, value in event.attributes.items() if not (hashed if name in HASHED_ATTRIBUTES else free)}
        if len(kept) < len(event.attributes):
            changes["attributes"] = kept
    if free:
        changes |= _without_texts(event)
    return msgspec.structs.replace(event, **changes) if changes else event


def _without_texts(event: StoredEvent) -> dict[str, Any]:
    if type(event) is ActivityCompleted:
        return {"evidence": {}} if event.evidence else {}
    if type(event) is PackagingReturned:
        if any(item.waybill or item.station or item.proof for item in event.returns):
            return {"returns": [msgspec.structs.replace(item, waybill=None, station=None, proof=None) for item in event.returns]}
        return {}
    if (type(event) is OrderPaid or type(event) is OrderFulfilled) and event.packaging is not None and event.packaging.waybill:
        return {"packaging": msgspec.structs.replace(event.packaging, waybill=None)}
    return {}


def scrubbed(facts: str, *, free: bool = True, hashed: bool = True) -> str:
    """The same for a stored event (JSON); equal to what it was when there is nothing to forget."""
    event = _decode(facts)
    less = scrub(event, free=free, hashed=hashed)
    return facts if less is event else _encode(less).decode()

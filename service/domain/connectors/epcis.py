"""EPCIS 2.0: boxes that were shipped and came back, what was wrong, and which tag is on which box.

Sources: GS1 EPCIS 2.0 and CBV 2.0 (gs1/EPCIS: JSON-Schema, JSON, REST Bindings/openapi.yaml). What becomes what:

- `ObjectEvent`, `shipping` (not of what is `returned`): `order.fulfilled` of the order among its business transactions, with its assets;
- `ObjectEvent`, `collecting`, or `receiving` or `accepting` of what is `returned`: a `packaging.returned` for each asset, so that one that
  has to wait holds up no other;
- either with an `errorDeclaration`: `event.error_declared` for each event that it made, or would have made;
- `AssociationEvent`: which tag is on which asset. Assets are GRAIs with a serial number, and GIAIs.

Ids follow from `eventID`, else from the event's hash (epcis_hash); the same event in another textual form has the same one.

Signatures: EPCIS leaves the kind to the two sides and names the header `GS1-Signature` and HMAC with SHA-256 over what is sent, which is
what its repositories do: base64 or hex of HMAC-SHA256 with the secret's characters as the key. It signs no time; a copy that is delivered
again changes nothing, its ids are known. Standard Webhooks, which sign the time, are taken as well.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal
from urllib.parse import unquote

from msgspec import Struct

from schemas.bounds import MAX_EPCIS_EPCS, MAX_EPCIS_EVENTS, MAX_KEY_CHARS, MAX_LINES, MAX_PARCEL_ASSETS
from schemas.connectors import HookSettings
from schemas.epcis import EpcisEvent, ErrorDeclaration
from schemas.events import Declaration, Event, EventErrorDeclared, Order, OrderFulfilled, Packaging, PackagingReturned, Return
from service.domain.connectors import standard
from service.domain.connectors.base import Association, BadSignature, Headers, Hook, Translated, Untranslatable, header, printable
from service.domain.connectors.epcis_document import PlainEvent, read_document, short
from service.domain.connectors.epcis_hash import NotHashable, event_hash
from service.domain.connectors.epcis_uris import asset_in, digital_link
from service.domain.identifiers import canonical_asset

ORDER_TYPES: Final = ("po", "desadv", "inv", "")
"""Types of business transaction that name the order, unless the hook's settings choose one; "" is one without a type."""

_RETURNING = frozenset({"receiving", "accepting"})
_UUID = re.compile(r"(urn:uuid:)?([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.IGNORECASE)
_NI = re.compile(r"(ni:///[a-z0-9-]+;[0-9a-f]+)\?ver=CBV([0-9.]+)", re.IGNORECASE)
_AUTHORITY = re.compile(r"urn:[a-z0-9][a-z0-9-]*:|https?://[^/?#]*", re.IGNORECASE)
_BT = re.compile(r"urn:epcglobal:cbv:bt:[^:]*:(.+)", re.IGNORECASE)


def verify(hook: Hook, headers: Headers, body: bytes, now: datetime) -> None:
    """Raise BadSignature unless one of the hook's secrets signed these bytes, as `GS1-Signature` or by Standard Webhooks."""
    given = header(headers, "gs1-signature")
    if given is None or "webhook-signature" in headers:
        standard.verify(hook, headers, body, now)
        return
    for secret in filter(None, hook.secrets):
        digest = hmac.digest(secret.encode(), body, hashlib.sha256)
        forms = (base64.b64encode(digest), digest.hex().encode())
        if any([hmac.compare_digest(each, given.encode()) for each in forms]):  # noqa: C419 - both are compared, always
            return
    raise BadSignature("no secret of the hook signed this body")


def translate(hook: Hook, headers: Headers, body: bytes) -> Translated:
    """What the events of a document report. Raises Untranslatable when none of them can be read."""
    document = read_document(body)
    if sum(_epcs(plain) for plain in document.events) > MAX_EPCIS_EPCS:
        raise Untranslatable(f"it has more than {MAX_EPCIS_EPCS} EPCs: send it in parts")
    events: dict[str, Event] = {}
    associations: list[Association] = []
    ignored: dict[str, None] = {}
    unread: list[str] = []
    for number, plain in enumerate(document.events, start=1):
        try:
            if isinstance(plain, Untranslatable):
                raise plain
            said = _said(plain, hook.settings)
        except Untranslatable as error:
            unread.append(f"event {number}: {error.detail}")
            continue
        if isinstance(said, str):
            ignored[said] = None
            continue
        events |= {event.id: event for event in said.events}
        associations += said.associations
    if len(events) + len(associations) > MAX_EPCIS_EVENTS:
        raise Untranslatable(f"it makes more than {MAX_EPCIS_EVENTS} events: send it in parts")
    if unread and not events and not associations:
        raise Untranslatable("; ".join(unread))
    return Translated(
        topic=printable(document.kind, max_chars=MAX_KEY_CHARS) or "unprintable", delivery_id=header(headers, "webhook-id"),
        separate=True, tagged=True, events=list(events.values()), ignored=None if events else "; ".join(ignored) or "it has no events",
        associations=tuple(associations), unread=tuple(unread),
    )  # fmt: skip


def _epcs(plain: PlainEvent | Untranslatable) -> int:
    return 0 if isinstance(plain, Untranslatable) else sum(len(plain.fields.get(name, ())) for name in ("epcList", "childEPCs"))


# Events -----------------------------------------------------------------------------------------------


class _Said(Struct, frozen=True, kw_only=True):
    """What one EPCIS event reports."""

    events: tuple[Event, ...] = ()
    associations: tuple[Association, ...] = ()


def _said(plain: PlainEvent, settings: HookSettings) -> _Said | str:
    """What an event reports, or why nothing of it counts. Raises Untranslatable."""
    if plain.fields.get("type") not in ("ObjectEvent", "AssociationEvent"):
        return "only ObjectEvent and AssociationEvent are read"
    event = plain.read()
    if event.type == "AssociationEvent":
        return _association(event, plain)
    made = _made(event, plain, settings)
    if isinstance(made, str) or event.error is None:
        return made if isinstance(made, str) else _Said(events=made)
    return _Said(events=tuple(_declared_wrong(each, event.error, plain.prefixes) for each in made))


def _made(event: EpcisEvent, plain: PlainEvent, settings: HookSettings) -> tuple[Event, ...] | str:
    """The events that an ObjectEvent stands for, whether or not it is declared wrong."""
    kind = _kind(event, plain)
    if kind is None:
        return "only shipping, collecting, and receiving or accepting of what is returned are read of ObjectEvents"
    assets = _assets(event.epcs)
    if not assets:
        return "no reusable packaging is in it: a GRAI with a serial number, or a GIAI"
    key = _key(event, plain)
    if kind == "return":
        station = _station(event, settings)
        return tuple(
            PackagingReturned(
                id=_bounded(key if len(assets) == 1 else f"{key}#{asset}"), occurred_at=event.event_time,
                returns=[Return(asset=asset, station=station)],
            )
            for asset in assets
        )  # fmt: skip
    if len(assets) > MAX_PARCEL_ASSETS:
        raise Untranslatable(f"it ships more than {MAX_PARCEL_ASSETS} assets")
    if not event.transactions:
        return "it ships nothing of an order: no business transaction is named"
    order = Order(id=_order(event, plain, settings))
    return (OrderFulfilled(id=_bounded(key), occurred_at=event.event_time, order=order, packaging=Packaging(assets=assets)),)


def _kind(event: EpcisEvent, plain: PlainEvent) -> Literal["shipment", "return"] | None:
    step, disposition = short(event.biz_step, plain.prefixes), short(event.disposition, plain.prefixes)
    if event.action not in ("OBSERVE", "ADD"):
        return None
    if step == "shipping" and disposition != "returned":
        return "shipment"
    if (step == "collecting" and disposition in ("", "returned")) or (step in _RETURNING and disposition == "returned"):
        return "return"
    return None


def _assets(epcs: list[str]) -> list[str]:
    """Reusable packaging in a list of EPCs by its canonical names, each once, in one order whatever the list's is."""
    return sorted({asset for asset in map(_asset, epcs) if asset})


def _asset(epc: str) -> str | None:
    """The canonical name of one piece of reusable packaging; None for other goods, classes of assets, wrong check digits."""
    name = asset_in(epc.strip())
    try:
        return None if name is None else canonical_asset(name)
    except ValueError:
        return None


def _station(event: EpcisEvent, settings: HookSettings) -> str | None:
    """The station that the read point is, else the business location, by the hook's settings."""
    stations = {_place(rule.location): rule.station for rule in settings.stations}
    places = [place.id for place in (event.read_point, event.biz_location) if place is not None]
    return next((stations[_place(place)] for place in places if _place(place) in stations), None)


def _place(text: str) -> str:
    return digital_link(text.strip()) or text.strip()


def _order(event: EpcisEvent, plain: PlainEvent, settings: HookSettings) -> str:
    """The order that is shipped. Raises Untranslatable when none or more than one is named."""
    wanted = ORDER_TYPES if settings.order_transaction_type is None else (settings.order_transaction_type,)
    by_type: dict[str, set[str]] = {}
    for transaction in event.transactions:
        by_type.setdefault(short(transaction.type, plain.prefixes), set()).add(_last_part(transaction.biz_transaction))
    named = next((by_type[kind] for kind in wanted if kind in by_type), None)
    if named is None:
        raise Untranslatable(f"none of its business transactions has the type {', '.join(filter(None, wanted))}")
    if len(named) > 1:
        raise Untranslatable("it ships more than one order: report each with its own packaging")
    order = printable(named.pop(), max_chars=MAX_KEY_CHARS)
    if order is None:
        raise Untranslatable(f"the order's id must be printable, at most {MAX_KEY_CHARS} characters")
    return order


def _last_part(transaction: str) -> str:
    """The sender's own id in the URI of a business transaction (CBV 2.0 §8.5), or the text as it is."""
    text = transaction.strip()
    text = digital_link(text) or text
    if urn := _BT.fullmatch(text):
        return unquote(urn[1])
    if text.lower().startswith("urn:"):
        return unquote(text.rpartition(":")[2])
    if "://" in text:
        return unquote(text.partition("?")[0].partition("#")[0].rstrip("/").rpartition("/")[2])
    return text


def _declared_wrong(wrong: Event, error: ErrorDeclaration, prefixes: Mapping[str, str]) -> Event:
    """That one of our events is wrong. A reason of the sender's own, or none, is incorrect data."""
    if len(error.corrective_event_ids) > MAX_LINES:
        raise Untranslatable(f"it has more than {MAX_LINES} corrective events")
    reason: Literal["did_not_occur", "incorrect_data"] = (
        "did_not_occur" if short(error.reason, prefixes) == "did_not_occur" else "incorrect_data"
    )
    corrected_by = dict.fromkeys(_bounded(_canonical_id(text)) for text in error.corrective_event_ids)
    return EventErrorDeclared(
        id=_bounded(f"{wrong.id}:error"), occurred_at=error.declaration_time,
        error=Declaration(event=wrong.id, reason=reason, corrected_by=[each for each in corrected_by if each != wrong.id]),
    )  # fmt: skip


# Associations -----------------------------------------------------------------------------------------


def _association(event: EpcisEvent, plain: PlainEvent) -> _Said | str:
    """Which tags were put on an asset, or taken off. Raises Untranslatable."""
    asset = _asset(event.parent or "")
    if asset is None:
        return "it associates nothing with reusable packaging: parentID is no GRAI with a serial number and no GIAI"
    if event.action not in ("ADD", "DELETE"):
        return "an AssociationEvent counts with the action ADD or DELETE"
    joined = event.action == "ADD"
    tags: list[str | None] = [tag for tag in _assets(event.children) if tag != asset]
    if not tags and not joined and "childEPCs" not in plain.fields and "childQuantityList" not in plain.fields:
        tags = [None]
    if not tags:
        return "none of its children is a GRAI with a serial number or a GIAI"
    key, void = _bounded(_key(event, plain)), event.error is not None
    return _Said(associations=tuple(
        Association(event=key, asset=asset, tag=tag, at=event.event_time, joined=joined, void=void) for tag in tags
    ))  # fmt: skip


# Ids --------------------------------------------------------------------------------------------------


def _key(event: EpcisEvent, plain: PlainEvent) -> str:
    """The event's id, or its hash. Raises Untranslatable when it has none and its hash is not computed here."""
    if event.event_id is not None and event.event_id.strip():
        return _canonical_id(event.event_id)
    try:
        return event_hash(plain.fields | {"eventTime": event.event_time}, plain.prefixes)
    except NotHashable as error:
        raise Untranslatable(str(error)) from None


def _canonical_id(text: str) -> str:
    """An event's id in one textual form (RFC 3986 §6.2.2, RFC 8141 §3): case counts where it may; a UUID may lack its URN."""
    text = text.strip()
    if uuid := _UUID.fullmatch(text):
        return "urn:uuid:" + uuid[2].lower()
    if ni := _NI.fullmatch(text):
        return f"{ni[1].lower()}?ver=CBV{ni[2]}"
    if authority := _AUTHORITY.match(text):
        return authority[0].lower() + text[authority.end() :]
    return text


def _bounded(key: str) -> str:
    """An id of ours: the text as it is, or its hash (RFC 6920, in base64url: no event's own hash is written so) when it is too long."""
    if len(key) <= MAX_KEY_CHARS:
        return key
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
    return "ni:///sha-256;" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

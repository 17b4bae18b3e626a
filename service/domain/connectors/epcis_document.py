"""From the bytes of an EPCIS delivery to plain events: a document, the answer to a query, one event, or a list of events. Pure.

JSON-LD is read as far as GS1's own context and prefixes go: `@type` and `@id`, `isA` of early drafts, names with a prefix or in full,
`{"@value": …}`, a single value in place of a list. No context is fetched: what a body names on the web decides nothing here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from schemas.bounds import MAX_EPCIS_EVENTS
from schemas.epcis import EpcisEvent
from service.domain.connectors.base import Untranslatable, decode
from service.domain.connectors.epcis_hash import CURIES

_ANY: "msgspec.json.Decoder[Any]" = msgspec.json.Decoder()
_EPCIS = CURIES["epcis"]
_ALIASES = {"@type": "type", "isA": "type", "@id": "id"}
_LISTS = frozenset({"epcList", "childEPCs", "correctiveEventIDs"})
_OBJECT_LISTS = frozenset({"bizTransactionList", "sourceList", "destinationList", "quantityList", "childQuantityList"})
_TEXTS = frozenset({
    "type", "eventTime", "eventTimeZoneOffset", "eventID", "action", "bizStep", "disposition", "parentID", "bizTransaction",
    "source", "destination", "epcClass", "uom", "declarationTime", "reason", "id",
})  # fmt: skip
_OBJECTS = frozenset({"readPoint", "bizLocation", "errorDeclaration"})
MAX_PREFIXES: Final = 100
MAX_PREFIX_CHARS: Final = 256


class PlainEvent(Struct, frozen=True):
    """One event as it came, its names without JSON-LD, and the prefixes that hold for it."""

    fields: dict[str, Any]
    prefixes: dict[str, str]

    def read(self) -> EpcisEvent:
        """Its typed form. Raises Untranslatable."""
        try:
            return msgspec.convert(self.fields, EpcisEvent)
        except msgspec.ValidationError as error:
            raise Untranslatable(str(error)) from None


class EpcisDocument(Struct, frozen=True):
    """What came: its kind, and its events; in place of one that cannot be read, why."""

    kind: str
    events: Sequence[PlainEvent | Untranslatable]


def read_document(body: bytes) -> EpcisDocument:
    """Raises Untranslatable for what holds no events, or more than a delivery may."""
    value = decode(body, _ANY)
    if isinstance(value, list):
        return EpcisDocument("list", _events(value, {}))
    if not isinstance(value, dict):
        raise Untranslatable("the body is no EPCIS document and no event")
    prefixes = _prefixes(value, {})
    document = _renamed(value, prefixes)
    kind = short(document.get("type"), prefixes)
    if "epcisBody" not in document:
        return EpcisDocument(kind, _events([value], {}))
    found = _renamed(document["epcisBody"], prefixes)
    for name in ("queryResults", "resultsBody"):
        found = _renamed(found[name], prefixes) if name in found else found
    listed = found.get("eventList", found.get("event"))
    if listed is None:
        raise Untranslatable("epcisBody has no eventList")
    return EpcisDocument(kind, _events(listed if isinstance(listed, list) else [listed], prefixes))


def short(word: object, prefixes: Mapping[str, str]) -> str:
    """A word of GS1's vocabularies without prefix, URI or URN: `shipping` of `cbv:BizStep-shipping`; another text as it is."""
    if not isinstance(word, str):
        return ""
    text = _expanded(word.strip(), prefixes)
    if text.startswith(_EPCIS):
        return text.removeprefix(_EPCIS)
    if text.startswith(CURIES["cbv"]):
        return text.removeprefix(CURIES["cbv"]).partition("-")[2]
    if text.lower().startswith("urn:epcglobal:cbv:"):
        return text.split(":", 4)[-1]
    return text


def _events(values: list[Any], prefixes: dict[str, str]) -> list[PlainEvent | Untranslatable]:
    if len(values) > MAX_EPCIS_EVENTS:
        raise Untranslatable(f"it has more than {MAX_EPCIS_EVENTS} events: send it in parts")
    return [_event(value, prefixes) for value in values]


def _event(value: object, prefixes: dict[str, str]) -> PlainEvent | Untranslatable:
    if not isinstance(value, dict):
        return Untranslatable("it is no object")
    try:
        prefixes = _prefixes(value, prefixes)
    except Untranslatable as error:
        return error
    fields = _plain(value, prefixes)
    fields["type"] = short(fields.get("type"), prefixes)
    return PlainEvent({name: item for name, item in fields.items() if item is not None}, prefixes)


def _plain(value: dict[str, Any], prefixes: dict[str, str]) -> dict[str, Any]:
    """Fields of the standard in the shape that JSON has them in; the sender's own as they are."""
    fields = _renamed(value, prefixes)
    for name in fields.keys() & _TEXTS:
        fields[name] = _text(fields[name])
    for name in fields.keys() & _LISTS:
        fields[name] = [_text(item) for item in _many(fields[name])]
    for name in fields.keys() & _OBJECT_LISTS:
        fields[name] = [_plain(item, prefixes) if isinstance(item, dict) else item for item in _many(fields[name])]
    for name in fields.keys() & _OBJECTS:
        item = _one(fields[name])
        fields[name] = _plain(item, prefixes) if isinstance(item, dict) else item
    return fields


def _renamed(value: object, prefixes: Mapping[str, str]) -> dict[str, Any]:
    """An object by the short names of the standard; raises Untranslatable for anything else."""
    if not isinstance(value, dict):
        raise Untranslatable("where EPCIS has an object, something else stands")
    return {_name(name, prefixes): item for name, item in value.items()}


def _name(name: str, prefixes: Mapping[str, str]) -> str:
    if name in _ALIASES:
        return _ALIASES[name]
    full = _expanded(name, prefixes) if ":" in name else name
    return full.removeprefix(_EPCIS) if full.startswith(_EPCIS) else name


def _expanded(text: str, prefixes: Mapping[str, str]) -> str:
    prefix, colon, local = text.partition(":")
    base = prefixes.get(prefix, CURIES.get(prefix)) if colon else None
    return text if base is None else base + local


def _text(value: object) -> object:
    """The text of a JSON-LD value or reference."""
    value = _one(value)
    if isinstance(value, dict):
        return value.get("@value", value.get("@id", value.get("id", value)))
    return value


def _many(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _one(value: object) -> object:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _prefixes(value: Mapping[str, Any], outer: dict[str, str]) -> dict[str, str]:
    """The prefixes of an inline context, with those of the object around it."""
    context = value.get("@context")
    parts = context if isinstance(context, list) else [context]
    found = {name: base for part in parts if isinstance(part, dict) for name, base in part.items() if isinstance(base, str)}
    if not found:
        return outer
    if len(found) > MAX_PREFIXES or any(len(base) > MAX_PREFIX_CHARS for base in found.values()):
        raise Untranslatable(f"the context declares more than {MAX_PREFIXES} prefixes, or one of more than {MAX_PREFIX_CHARS} characters")
    return outer | found

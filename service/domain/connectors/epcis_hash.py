"""The id of an EPCIS event that has none: its hash, `ni:///sha-256;<hex>?ver=CBV2.0`. Pure.

Algorithm: GS1 Core Business Vocabulary 2.0 §8.9, as its reference implementation (RalphTro/epcis-event-hash-generator 1.9.3, MIT) computes
it: there a list of business transactions, sources and destinations stands after the fields of fixed order. That package calls itself
unfit for production, fetches the JSON-LD contexts that a body names over the network and needs a web framework; its results are the
vectors of our tests. `errorDeclaration`, `recordTime` and `eventID` take no part, so a declaration has the hash of what it declares wrong.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from service.domain.connectors.epcis_uris import digital_link

MAX_VALUES: Final = 20_000
"""Names and values in an event that is hashed; prefixes make each longer than it came."""
MAX_DEPTH: Final = 16
"""Levels of a sender's own fields."""

CURIES: Final = {
    "cbv": "https://ref.gs1.org/cbv/", "epcis": "https://ref.gs1.org/epcis/", "gs1": "https://gs1.org/voc/",
    "cbvmda": "urn:epcglobal:cbv:mda:",
}  # fmt: skip
"""Prefixes that GS1's own JSON-LD context declares."""

_URNS = {
    "urn:epcglobal:cbv:bizstep:": "https://ref.gs1.org/cbv/BizStep-", "urn:epcglobal:cbv:disp:": "https://ref.gs1.org/cbv/Disp-",
    "urn:epcglobal:cbv:btt:": "https://ref.gs1.org/cbv/BTT-", "urn:epcglobal:cbv:sdt:": "https://ref.gs1.org/cbv/SDT-",
    "urn:epcglobal:cbv:er:": "https://ref.gs1.org/cbv/ER-",
}  # fmt: skip
_BARE = re.compile(r"[a-z][a-z_]*")
_NO_PART = frozenset({"type", "eventID", "recordTime", "errorDeclaration", "comment", "rdfs:comment", "@context"})
_QUANTITIES = ("quantityList", "childQuantityList", "inputQuantityList", "outputQuantityList")
_MAX_EXACT_DIGITS = 15


class NotHashable(Exception):
    """An event with something whose part in the hash is not computed here; the text says what, for its sender."""


def event_hash(event: Mapping[str, Any], prefixes: Mapping[str, str]) -> str:
    """The event's hash as a URI (RFC 6920). `prefixes`: those that the document's own context declares. Raises NotHashable."""
    return f"ni:///sha-256;{hashlib.sha256(prehash(event, prefixes).encode('utf-8', 'replace')).hexdigest()}?ver=CBV2.0"


def prehash(event: Mapping[str, Any], prefixes: Mapping[str, str]) -> str:
    """What is hashed: the fields in canonical order as `name=value`, nothing between them. Raises NotHashable."""
    if event.get("sensorElementList"):
        raise NotHashable("an event with sensor data needs an eventID")
    write = _Writer({**CURIES, **prefixes})
    text = "eventType=" + str(event.get("type", ""))
    if "eventTime" in event:
        text += "eventTime=" + _in_utc(event["eventTime"])
    done = {*_NO_PART, "eventTime", "sensorElementList"}
    for name, pieces in write.ordered(event):
        text += "".join(pieces)
        done.add(name)
    return text + "".join(sorted(write.rest(event, done)))


class _Writer:
    """Pieces of the text to hash. Prefixes stand before a colon in names and values."""

    def __init__(self, prefixes: Mapping[str, str]) -> None:
        self._prefixes = prefixes
        self._left = MAX_VALUES

    def ordered(self, event: Mapping[str, Any]) -> Iterable[tuple[str, list[str]]]:
        """The fields of fixed order, each with its pieces."""
        for name in ("eventTimeZoneOffset", "certificationInfo", "parentID"):
            yield name, self._each(name, event.get(name))
        for name in ("epcList", "inputEPCList", "childEPCs"):
            yield name, self._listed(name, self._each("epc", event.get(name)))
        for name in _QUANTITIES[:3]:
            yield name, self._listed(name, self._quantities(event.get(name)))
        yield "outputEPCList", self._listed("outputEPCList", self._each("epc", event.get("outputEPCList")))
        yield "outputQuantityList", self._listed("outputQuantityList", self._quantities(event.get("outputQuantityList")))
        for name in ("action", "transformationID"):
            yield name, self._each(name, event.get(name))
        yield "bizStep", self._each("bizStep", event.get("bizStep"), "BizStep-")
        yield "disposition", self._each("disposition", event.get("disposition"), "Disp-")
        kept = _dict(event.get("persistentDisposition"))
        marks = [piece for name in ("set", "unset") for piece in self._each(name, kept.get(name), "Disp-")]
        yield "persistentDisposition", self._listed("persistentDisposition", marks)
        for name in ("readPoint", "bizLocation"):
            place = _dict(event.get(name))
            more = [piece for key, value in place.items() if key != "id" for piece in self._free(key, value, 1)]
            yield name, self._listed(name, [*self._each("id", place.get("id")), *sorted(more)])

    def rest(self, event: Mapping[str, Any], done: set[str]) -> Iterable[str]:
        """All other fields: lists of what has a type, `ilmd`, the sender's own."""
        typed = {
            "bizTransactionList": ("bizTransaction", "BTT-"),
            "sourceList": ("source", "SDT-"),
            "destinationList": ("destination", "SDT-"),
        }
        for name, value in event.items():
            if name in typed:
                field, words = typed[name]
                yield "".join(self._listed(name, sorted(self._typed(field, words, _dict(item)) for item in _many(value))))
            elif name not in done:
                yield from self._free(name, value, 1)

    def _typed(self, field: str, words: str, item: Mapping[str, Any]) -> str:
        return "".join([*self._each("type", item.get("type"), words), *self._each(field, item.get(field))])

    def _quantities(self, value: object) -> list[str]:
        fields = ("epcClass", "quantity", "uom")
        return sorted(
            "quantityElement" + "".join(piece for name in fields for piece in self._each(name, _dict(item).get(name)))
            for item in _many(value)
        )

    def _listed(self, name: str, pieces: list[str]) -> list[str]:
        return [name, *pieces] if "".join(pieces) else []

    def _each(self, name: str, value: object, words: str | None = None) -> list[str]:
        texts = (self._value(item, words) for item in _many(value))
        return sorted(f"{name}={text}" for text in texts if text)

    def _free(self, name: str, value: object, depth: int) -> list[str]:
        """A field of the sender's own, nested or not, by the full name of its namespace."""
        if depth > MAX_DEPTH:
            raise NotHashable(f"an event whose own fields are nested deeper than {MAX_DEPTH} levels needs an eventID")
        if name in _NO_PART - {"type"}:
            return []
        full, pieces = self._name(name), []
        for item in _many(value):
            if isinstance(item, Mapping):
                inner = sorted(piece for key, child in item.items() for piece in self._free(key, child, depth + 1))
                pieces.append(full + "".join(inner))
            else:
                text = self._value(item)
                pieces.append(f"{full}={text}" if text else full)
        return pieces

    def _name(self, name: str) -> str:
        prefix, colon, local = name.partition(":")
        return self._counted(f"{{{self._prefixes[prefix]}}}{local}" if colon and prefix in self._prefixes else name)

    def _counted(self, text: str) -> str:
        self._left -= 1
        if self._left < 0:
            raise NotHashable("an event as large as this needs an eventID")
        return text

    def _value(self, value: object, words: str | None = None) -> str:
        """A value in its canonical form: full web vocabulary, numbers without trailing zeros, GS1 keys as canonical Digital Links."""
        if value is None or isinstance(value, Mapping | list):
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        text = str(value).strip()
        prefix, colon, local = text.partition(":")
        if colon and prefix in self._prefixes:
            text = self._prefixes[prefix] + local
        if words is not None and _BARE.fullmatch(text):
            text = CURIES["cbv"] + words + text
        for urn, web in _URNS.items():
            text = text.replace(urn, web)
        return self._counted(digital_link(text) or _number(text))


def _number(text: str) -> str:
    """A number without sign, leading and trailing zeros that say nothing; every other text as it is."""
    digits = sum(letter.isdigit() for letter in text)
    if not 0 < digits <= _MAX_EXACT_DIGITS or not text.isascii():
        return text
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() and abs(number) < 10**_MAX_EXACT_DIGITS else str(number)


def _in_utc(value: object) -> str:
    """A time in UTC with three decimals, the third rounded half up."""
    if not isinstance(value, datetime):
        raise NotHashable("eventTime is not a time")
    try:
        rounded = value.astimezone(UTC) + timedelta(microseconds=500)
    except OverflowError:
        raise NotHashable("eventTime is beyond all calendars") from None
    return rounded.strftime("%Y-%m-%dT%H:%M:%S.") + f"{rounded.microsecond // 1000:03d}Z"


def _many(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

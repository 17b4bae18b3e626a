"""From bytes to a fact that may be credited: decode, check, minimise, hash."""

import hashlib
import hmac
from datetime import datetime
from typing import Any

import msgspec

from schemas.events import Event
from service.domain.errors import InvalidRequest, MalformedJson, Unavailable
from service.domain.pointers import field_error
from service.domain.posting import Fact
from service.domain.validate import check_event, check_texts
from service.domain.vocabulary import Vocabulary

_events = msgspec.json.Decoder(Event)
_any = msgspec.json.Decoder()
_encode_in_order = msgspec.json.Encoder(order="deterministic").encode
_encode = msgspec.json.Encoder().encode

HASHED_ATTRIBUTES = ("device", "address", "payment", "ip", "region", "attendant")
"""Kept only as keyed hashes: they link events for the fraud checks, and say nothing by themselves."""


class Sender(msgspec.Struct, frozen=True, kw_only=True):
    """On whose behalf events come in."""

    program: int
    platform: int
    platform_code: str
    own: Vocabulary = Vocabulary()
    """What its program's events may name beside the reference lists, as far as this process knows."""


def read_fact(body: bytes | msgspec.Raw, sender: Sender, *, now: datetime, hash_key: bytes) -> Fact:
    """One event from its JSON. Raises MalformedJson or InvalidRequest (Undeclared among them); `now` is PostgreSQL's clock."""
    value = decode_json(body)
    try:
        event = _events.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    if not _is_plain(bytes(body)):
        check_texts(event)
    return _fact(event, sender, now=now, hash_key=hash_key, request_hash=hash_of(value))


def fact_of(event: Event, sender: Sender, *, now: datetime, hash_key: bytes, newer_wins: bool = False) -> Fact:
    """An event that we have translated, as a fact. Raises InvalidRequest (Undeclared among them). The event itself is hashed."""
    check_texts(event)
    request_hash = hash_of(msgspec.to_builtins(event))
    return _fact(event, sender, now=now, hash_key=hash_key, request_hash=request_hash, newer_wins=newer_wins)


def _is_plain(body: bytes) -> bool:
    """Whether no text in it can have an unprintable character: JSON has those below U+0020 only escaped."""
    return body.isascii() and b"\\" not in body and b"\x7f" not in body


def _fact(event: Event, sender: Sender, *, now: datetime, hash_key: bytes, request_hash: bytes, newer_wins: bool = False) -> Fact:
    check_event(event, now, sender.own)
    kept = minimised(event, hash_key)
    return Fact(
        program=sender.program, platform=sender.platform, platform_code=sender.platform_code, event=event,
        facts=_encode(kept), kept=kept.attributes, request_hash=request_hash, newer_wins=newer_wins,
    )  # fmt: skip


def decode_json(body: bytes | msgspec.Raw) -> Any:  # noqa: ANN401 - any JSON value
    """The JSON value of a body. Raises MalformedJson."""
    try:
        return _any.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None


def hash_of(value: object) -> bytes:
    """A hash of a JSON value, the same whatever the order of its keys and its spacing (16 bytes of BLAKE2b)."""
    return hashlib.blake2b(_encode_in_order(value), digest_size=16).digest()


def minimised(event: Event, hash_key: bytes) -> Event:
    """The event as it may be stored.

    Without the consumer's reference: only the vault (`consumer_reference`) knows that, so that it can be forgotten there.
    Attributes that identify a device, an address, a payment, an ip, a region or who took a return are hashed.
    """
    named = [name for name in HASHED_ATTRIBUTES if name in event.attributes]
    if not named:
        return msgspec.structs.replace(event, consumer=None)
    hashed = {name: keyed_hash(event.attributes[name], hash_key) for name in named}
    return msgspec.structs.replace(event, consumer=None, attributes=event.attributes | hashed)


def keyed_hash(value: object, key: bytes) -> str:
    """HMAC-SHA256 of a JSON value, cut to 128 bits, in hex.

    Raises Unavailable while the key is not known: without one it could be guessed.
    """
    if not key:
        raise Unavailable("The service has just started and cannot take this yet; send it again.")
    return "h:" + hmac.new(key, _encode_in_order(value), hashlib.sha256).hexdigest()[:32]


def malformed(error: Exception) -> MalformedJson:
    """The refusal for a body that is no JSON."""
    if isinstance(error, RecursionError):
        return MalformedJson("The body is nested too deeply.")
    if isinstance(error, UnicodeDecodeError):
        return MalformedJson("The body is not UTF-8.")
    return MalformedJson(f"The body is not valid JSON: {error}.")


def invalid(error: msgspec.ValidationError) -> InvalidRequest:
    """The refusal for a value of the wrong shape, with its pointer."""
    where = field_error(error)
    return InvalidRequest(f"{where.detail} (at {where.pointer or 'the whole body'})", [where])

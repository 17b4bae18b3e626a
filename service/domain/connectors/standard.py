"""Standard Webhooks v1 in, our own event inside: `{"type", "timestamp", "data": <event of CONTRACT §3.3>}`.

Format: standard-webhooks/standard-webhooks, spec/standard-webhooks.md: `webhook-signature` holds space-separated
`v1,<base64 of HMAC-SHA256>` over `{webhook-id}.{webhook-timestamp}.{raw body}`. The `standardwebhooks` package signs
the same way (the tests use it as the counterpart), but its `verify` reads the wall clock, decodes the body as text
before it knows the sender, and fails with other errors than its own on odd headers; hence the few lines here.
"""

import base64
import binascii
import hashlib
import hmac
from datetime import datetime
from typing import get_args

import msgspec
from msgspec import Raw, Struct

from schemas.events import Event
from service.domain.connectors.base import (
    BadSignature,
    Headers,
    Hook,
    StaleSignature,
    Translated,
    Untranslatable,
    decode,
    header,
    printable,
)

TOLERANCE_S = 300
MAX_SIGNATURES = 16
MIN_SECRET_BYTES = 16
"""The specification asks for 24; senders with unpadded secrets of a byte less exist. An empty key would verify anybody."""

_PREFIX = "whsec_"
_MAX_TIMESTAMP_DIGITS = 11
_MAX_SIGNATURES_CHARS = 4_096
_TYPES: frozenset[str] = frozenset(kind.TYPE for kind in get_args(Event))


def verify(hook: Hook, headers: Headers, body: bytes, now: datetime) -> None:
    """Raise BadSignature unless a v1 signature by one of the secrets fits and the timestamp is within 5 minutes of `now`."""
    message_id, timestamp = header(headers, "webhook-id"), header(headers, "webhook-timestamp")
    signatures = header(headers, "webhook-signature", max_chars=_MAX_SIGNATURES_CHARS)
    if message_id is None or timestamp is None or signatures is None:
        raise BadSignature("webhook-id, webhook-timestamp and webhook-signature are required")
    _check_timestamp(timestamp, now)
    signed = f"{message_id}.{timestamp}.".encode() + body
    given = signatures.encode().split()[:MAX_SIGNATURES]
    for key in filter(None, map(secret_key, hook.secrets)):
        expected = b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
        if any([hmac.compare_digest(expected, signature) for signature in given]):  # noqa: C419 - all are compared, always
            return
    raise BadSignature("no signature fits the body")


def translate(hook: Hook, headers: Headers, body: bytes) -> Translated:  # noqa: ARG001 - every connector takes the same
    """The event in `data`; other types than ours are ignored. Raises Untranslatable."""
    envelope = decode(body, _ENVELOPE)
    delivery_id = header(headers, "webhook-id")
    if envelope.type not in _TYPES:
        ignored = "the type is none of " + ", ".join(sorted(_TYPES))
        topic = printable(envelope.type, max_chars=128) or "unprintable"
        return Translated(topic=topic, delivery_id=delivery_id, events=[], ignored=ignored)
    if decode(envelope.data, _TYPED).type != envelope.type:
        raise Untranslatable("type and data.type differ")
    return Translated(topic=envelope.type, delivery_id=delivery_id, events=[decode(envelope.data, _EVENT)])


def secret_key(secret: str) -> bytes | None:
    """The key behind a secret: base64, with or without `whsec_` and padding. None when it is not a usable secret."""
    text = secret.strip().removeprefix(_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) >= MIN_SECRET_BYTES else None


def _check_timestamp(timestamp: str, now: datetime) -> None:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _MAX_TIMESTAMP_DIGITS):
        raise BadSignature("webhook-timestamp must be whole seconds since 1970")
    ahead_s = int(timestamp) - now.timestamp()
    if ahead_s < -TOLERANCE_S:
        raise StaleSignature("webhook-timestamp is more than 5 minutes old")
    if ahead_s > TOLERANCE_S:
        raise StaleSignature("webhook-timestamp is more than 5 minutes in the future")


class _Envelope(Struct, frozen=True, kw_only=True):
    """The body; its own `timestamp` is not read: the signed one is in the header, the fact's is in the event."""

    type: str
    data: Raw


class _Typed(Struct, frozen=True, kw_only=True):
    """An event's type, read before the event so that no error quotes an unknown one."""

    type: str


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_TYPED = msgspec.json.Decoder(_Typed)
_EVENT: "msgspec.json.Decoder[Event]" = msgspec.json.Decoder(Event)

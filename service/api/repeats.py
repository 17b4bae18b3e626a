"""The Idempotency-Key header: one key, one request, carried out once."""

import hmac
from typing import Annotated, Any, Final

import msgspec
from litestar import Request
from litestar.params import HeaderParameter

from schemas.base import Body, Key
from service.domain.errors import IdempotencyKeyMissing, InvalidRequest
from service.runtime import Resources

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key", description="The caller's own name for this request: a repeat is answered as at first. Required."
    ),
]
"""Declared for the documentation; `idempotency_key_of` reads the header."""
REPLAYED: Final = {"Idempotency-Replayed": "true"}
_encode = msgspec.json.Encoder(order="deterministic").encode


def idempotency_key_of(request: Request[Any, Any, Any]) -> str:
    """The key, bare or in quotes. Raises IdempotencyKeyMissing, InvalidRequest (more than one, too long, not printable)."""
    lines = request.headers.getall("idempotency-key", [])
    if len(lines) > 1:
        raise InvalidRequest("Send one Idempotency-Key.")
    key = lines[0].strip() if lines else ""
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not key:
        raise IdempotencyKeyMissing("Send an Idempotency-Key: a name of your own for this request, the same one when you repeat it.")
    try:
        return msgspec.convert(key, Key)
    except msgspec.ValidationError:
        raise InvalidRequest("The Idempotency-Key is printable and has at most 128 characters.") from None


def request_hash(request: Request[Any, Any, Any], body: Body) -> bytes:
    """A keyed hash of what is asked for: the route's path, and the body's value, however it was written."""
    resources: Resources = request.app.state.resources
    return hmac.digest(resources.hash_key, f"{request.method} {request.url.path}\n".encode() + _encode(body), "sha256")

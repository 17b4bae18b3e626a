"""The Idempotency-Key header: one key, one request, carried out once."""

import hmac
from typing import Annotated, Any, Final

import msgspec
from litestar.params import HeaderParameter

from schemas.base import Body
from service.api.exchange import AnyRequest
from service.domain import idempotency
from service.domain.errors import InvalidRequest
from service.runtime import Resources

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name=idempotency.HEADER, description="The caller's own name for this request: a repeat is answered as at first. Required."
    ),
]
"""Declared for the documentation; `idempotency_key_of` reads the header."""
REPLAYED: Final = {"Idempotency-Replayed": "true"}
_NAME: Final = idempotency.HEADER.lower().encode()
_encode = msgspec.json.Encoder(order="deterministic").encode


def idempotency_key_of(request: AnyRequest) -> str:
    """The key, bare or in quotes. Raises IdempotencyKeyMissing, InvalidRequest (more than one, too long, not printable)."""
    lines = [value for name, value in request.scope["headers"] if name == _NAME]
    if len(lines) > 1:
        raise InvalidRequest(f"Send one {idempotency.HEADER}.")
    return idempotency.read_key(lines[0].decode("latin-1") if lines else None)


def request_hash(request: AnyRequest, body: Body) -> bytes:
    """A keyed hash of what is asked for: the route's path, and the body's value, however it was written."""
    resources: Resources = request.app.state.resources
    scope: Any = request.scope
    return hmac.digest(resources.hash_key, f"{scope['method']} {scope['path']}\n".encode() + _encode(body), "sha256")

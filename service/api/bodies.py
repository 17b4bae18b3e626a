"""Request bodies: bounded before they are parsed, decoded strictly, errors with a JSON pointer."""

from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from litestar import Request

from schemas.bounds import MAX_BODY_BYTES, MAX_QUERY_FIELDS
from service.api.exchange import AnyRequest
from service.api.visits import headers_of
from service.domain.errors import InvalidRequest, PayloadTooLarge, Unavailable, UnsupportedMediaType
from service.domain.intake import invalid, malformed

T = TypeVar("T")
MAX_LENGTH_DIGITS = 19
"""Of Content-Length; Python reads no number of more than 4,300."""


def raw_headers(request: AnyRequest) -> dict[bytes, bytes]:
    """The headers by lower-case name, as they came; of a repeated one the last. Cheaper than Litestar's, for the busiest routes."""
    return headers_of(request.scope)


def authorization_of(headers: dict[bytes, bytes]) -> str | None:
    """The Authorization header."""
    raw = headers.get(b"authorization")
    return None if raw is None else raw.decode("latin-1")


async def read_body(request: AnyRequest, max_bytes: int) -> bytes:
    """The raw body, at most `max_bytes`.

    Raises PayloadTooLarge without reading on, UnsupportedMediaType for a compressed one, Unavailable when the sender went away.
    """
    headers = raw_headers(request)
    declared = headers.get(b"content-length")
    if declared is not None and (not declared.isdigit() or len(declared) > MAX_LENGTH_DIGITS or int(declared) > max_bytes):
        raise PayloadTooLarge(f"The body may have at most {max_bytes} bytes.")
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise UnsupportedMediaType("Send the body without Content-Encoding.")
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] != "http.request":
            raise Unavailable("The connection ended before the body did.")
        chunks.append(message["body"])
        size += len(message["body"])
        more = message["more_body"]
        if size > max_bytes:
            raise PayloadTooLarge(f"The body may have at most {max_bytes} bytes.")
    return b"".join(chunks)


async def decode_body(request: Request[Any, Any, Any], type_: type[T], max_bytes: int = MAX_BODY_BYTES) -> T:
    """The body as `type_`. Raises MalformedJson, InvalidRequest, PayloadTooLarge, UnsupportedMediaType."""
    require_json(raw_headers(request).get(b"content-type"))
    return decode(await read_body(request, max_bytes), type_)


def require_json(content_type: bytes | None) -> None:
    """Raises UnsupportedMediaType unless the body is declared as JSON (or not declared at all)."""
    if content_type is None or content_type == b"application/json":
        return
    essence = content_type.decode("latin-1").split(";", 1)[0].strip().lower()
    if essence != "application/json" and not essence.endswith("+json"):
        raise UnsupportedMediaType(f"Send application/json, not {essence[:64]!r}.")


def decode(body: bytes, type_: type[T]) -> T:
    """Decode JSON bytes. Raises MalformedJson or InvalidRequest."""
    try:
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise malformed(error) from None


def read_query(request: AnyRequest, type_: type[T]) -> T | None:
    """The query string as a Struct, unknown names ignored; None without one. Raises InvalidRequest.

    For the busiest routes, which mostly have none; documentation finds the Struct in the route's `opt`.
    """
    query = request.scope["query_string"]
    if not query:
        return None
    try:
        return msgspec.convert(dict(parse_qsl(query.decode("latin-1"), max_num_fields=MAX_QUERY_FIELDS)), type_, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except ValueError:
        raise InvalidRequest("The query string cannot be read.") from None

"""Request bodies: bounded before they are parsed, decoded strictly, errors with a JSON pointer."""

from typing import Any, TypeVar

import msgspec
from litestar import Request
from litestar.exceptions import HTTPException

from service.domain.errors import PayloadTooLarge, UnsupportedMediaType
from service.domain.intake import invalid, malformed

T = TypeVar("T")


async def read_body(request: Request[Any, Any, Any], max_bytes: int) -> bytes:
    """The raw body, at most `max_bytes`. Raises PayloadTooLarge without reading on, UnsupportedMediaType for a compressed one."""
    declared = request.headers.get("content-length")
    if declared is not None and (not declared.isdigit() or int(declared) > max_bytes):
        raise PayloadTooLarge(f"The body may have at most {max_bytes} bytes.")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMediaType("Send the body without Content-Encoding.")
    if declared is not None:
        try:
            return await request.body()
        except HTTPException as error:
            if error.status_code == 413:
                raise PayloadTooLarge(f"The body may have at most {max_bytes} bytes.") from None
            raise
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise PayloadTooLarge(f"The body may have at most {max_bytes} bytes.")
        chunks.append(chunk)
    return b"".join(chunks)


async def decode_body(request: Request[Any, Any, Any], type_: type[T], max_bytes: int = 262_144) -> T:
    """The body as `type_`. Raises MalformedJson, InvalidRequest, PayloadTooLarge, UnsupportedMediaType."""
    require_json(request.headers.get("content-type"))
    return decode(await read_body(request, max_bytes), type_)


def require_json(content_type: str | None) -> None:
    """Raises UnsupportedMediaType unless the body is declared as JSON (or not declared at all)."""
    essence = (content_type or "application/json").split(";", 1)[0].strip().lower()
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

"""Paths whose last segments carry percent-encoded references (`:` and `/` included)."""

from urllib.parse import unquote

import msgspec
from litestar import Litestar
from litestar.types import Receive, Scope, Send

from schemas.base import Key
from service.domain.errors import NotFound


class Application(Litestar):
    """Litestar, but routed by the path as it was sent: an encoded `/` inside a reference does not split it.

    Handlers get path parameters still encoded and decode them with `reference`.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        """Route a request."""
        raw = scope.get("raw_path")  # absent for the lifespan
        if raw and b"%" in raw:
            scope["path"] = raw.split(b"?", 1)[0].decode("latin-1")
        await super().__call__(scope, receive, send)


def reference(encoded: str) -> str:
    """A path parameter as it was meant. Raises NotFound for what can be nobody's reference."""
    text = unquote(encoded, errors="replace")
    try:
        return msgspec.convert(text, Key)
    except msgspec.ValidationError:
        raise NotFound("There is nothing with this reference.") from None

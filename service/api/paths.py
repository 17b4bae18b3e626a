"""Paths whose last segments carry percent-encoded references (`:` and `/` included)."""

from urllib.parse import unquote

import msgspec

from schemas.base import Key
from service.domain.errors import NotFound


def reference(encoded: str) -> str:
    """A path parameter as it was meant. Raises NotFound for what can be nobody's reference."""
    text = unquote(encoded, errors="replace")
    try:
        return msgspec.convert(text, Key)
    except msgspec.ValidationError:
        raise NotFound("There is nothing with this reference.") from None

"""JSON pointers (RFC 6901) from the paths in msgspec's messages."""

import re

from msgspec import ValidationError

from schemas.problems import FieldError

_QUOTED = re.compile(r"^(Invalid (?:enum )?value) .*$", re.DOTALL)
"""The only messages of msgspec's that quote what was sent: a word that is none of the known ones, and might be anything."""
_PATH_PART = re.compile(r"\.([^.\[\]]+)|\[([^\]]*)\]")


def pointer_of(path: str) -> str:
    """`$.lines[0].gtin` → `/lines/0/gtin`."""
    return "".join("/" + (name or index).replace("~", "~0").replace("/", "~1") for name, index in _PATH_PART.findall(path))


def field_error(error: ValidationError, prefix: str = "") -> FieldError:
    """The message "… - at `$.lines[0].gtin`" of msgspec as a pointer and what is wrong there."""
    reason, _, path = str(error).partition(" - at `")
    return FieldError(pointer=prefix + pointer_of(path.rstrip("`")), detail=unquoted(reason))


def unquoted(message: str) -> str:
    """A message of msgspec's without the value that it may quote."""
    return _QUOTED.sub(r"\1", message)

"""Conditional changes: the If-Match header (RFC 9110 §13.1.1)."""

from typing import Annotated, Any

from litestar import Request
from litestar.params import HeaderParameter

IfMatch = Annotated[
    str | None,
    HeaderParameter(name="If-Match", description="Change only what still has one of these ETags; else 412, and nothing is changed."),
]
"""Declared for the documentation; `if_match_of` reads the header, which may come on several lines."""


def if_match_of(request: Request[Any, Any, Any]) -> str | None:
    """The header's value, several lines joined as RFC 9110 §5.3 says; None without one."""
    lines = request.headers.getall("if-match", [])
    return ", ".join(lines) if lines else None

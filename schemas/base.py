"""Bases and field types that several schemas share."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from schemas.bounds import MAX_CODE_CHARS, MAX_DECIMAL_CHARS, MAX_DURATION_CHARS, MAX_KEY_CHARS, MAX_POINTS, MAX_TEXT_CHARS

# Printable: no control characters, no line or paragraph separators, no lone surrogates.
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+$(?!\n)"

Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY_CHARS, pattern=PRINTABLE)]
"""An identifier that a sender chose: printable, 1 to 128 characters."""

Code = Annotated[str, Meta(min_length=1, max_length=MAX_CODE_CHARS, pattern=r"^[a-z0-9][a-z0-9._-]*$(?!\n)")]
"""A short name that an operator chose: lower case, digits, `.`, `_`, `-`."""

Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARS, pattern=PRINTABLE.replace("+$", "*$"))]
"""A short free text, perhaps empty."""

MoneyText = Annotated[str, Meta(max_length=MAX_DECIMAL_CHARS, pattern=r"^-?[0-9]{1,15}(\.[0-9]{1,6})?$(?!\n)")]
"""An amount in major units as a decimal string, `"128.00"`; never a JSON number."""

Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}$(?!\n)")]
"""An ISO 4217 code."""

Points = Annotated[int, Meta(ge=0, le=MAX_POINTS)]
"""Whole points; the bound keeps every sum inside int64."""

Instant = Annotated[datetime, Meta(tz=True)]
"""RFC 3339 with an offset; a naive time is refused."""

DurationText = Annotated[str, Meta(max_length=MAX_DURATION_CHARS)]
"""An ISO 8601 duration such as `P14D`, `PT0S`, `P12M`."""


class Body(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A request or answer body: immutable, keyword-only, unknown fields ignored."""

"""GTINs: every way of writing one becomes the same 14 digits."""

from functools import lru_cache

import biip
from biip import ParseError
from biip.gs1_messages import GS1Message
from biip.gtin import Gtin

_MAX_CHARS = 512


@lru_cache(maxsize=65_536)
def normalise_gtin(text: str) -> str:
    """The 14 digits of a GTIN-8, -12, -13 or -14, of a GS1 element string with AI 01, or of a GS1 Digital Link.

    Spaces and hyphens between digits are dropped. Raises ValueError, its text for the sender, when the length or the
    check digit is wrong (GS1 General Specifications §7.9).
    """
    compact = text.strip()
    if len(compact) > _MAX_CHARS or not compact.isascii() or not compact.isprintable():
        raise ValueError("is not a GTIN: 8, 12, 13 or 14 digits")
    digits = compact.replace("-", "").replace(" ", "")
    if digits.isdigit() and len(digits) <= 14:
        return _of_digits(digits)
    found = _of_carrier(compact)
    if found is None:
        raise ValueError("is not a GTIN: 8, 12, 13 or 14 digits, a GS1 element string with AI 01 or a GS1 Digital Link")
    return found


def _of_digits(digits: str) -> str:
    try:
        return Gtin.parse(digits).as_gtin_14()
    except ParseError:
        if len(digits) not in (8, 12, 13, 14):
            raise ValueError(f"is not a GTIN: it has {len(digits)} digits instead of 8, 12, 13 or 14") from None
        raise ValueError(f"is not a GTIN: the check digit of {digits} is wrong") from None


def _of_carrier(text: str) -> str | None:
    """The GTIN inside a GS1 element string, plain or readable `(01)…`, or a Digital Link URI."""
    try:
        if text.startswith("("):
            element = GS1Message.parse_hri(text).element_strings.get(ai="01")
            gtin = element.gtin if element else None
        elif text[:1].isdigit() or text.startswith(("https://", "http://")):
            gtin = biip.parse(text).gtin
        else:
            return None
    except (ParseError, ValueError):  # ValueError: a URI that is none
        return None
    return gtin.as_gtin_14() if gtin else None

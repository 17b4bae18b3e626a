r"""Identifiers of packaging, parcels, devices and documents: every way of writing one becomes the same text.

A canonical text is itself one of the ways, and stays as it is. All functions take at most MAX_CHARS characters and raise nothing but
ValueError, its text for the sender. Spaces, dashes of any kind, letter case and invisible characters tell no two identifiers apart,
except inside the serial of a GS1 key: GS1's set of 82 characters has the hyphen and both cases.

Sources: GS1 General Specifications (AIs 00, 8003, 8004; check digit §7.9), GS1 EPC Tag Data Standard (§7: EPC URIs to element
strings), GS1 Digital Link URI Syntax, ISO/IEC 15424 (symbology identifiers, such as `]C1`).
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from biip import ParseError
from biip.checksums import gs1_standard_check_digit
from biip.gs1_digital_link_uris import GS1DigitalLinkURI
from biip.gs1_element_strings import GS1ElementString
from biip.gs1_messages import GS1Message

MAX_CHARS: Final = 128
_CACHED: Final = 16_384
_MAX_ROUNDS: Final = 4

_CSET_82 = r'[!"%-?A-Z_a-z]'
_GRAI = re.compile(rf"(0[0-9]{{13}})({_CSET_82}{{1,16}})")
_GIAI = re.compile(rf"{_CSET_82}{{1,30}}")
_PADDED = re.compile(r"0[0-9]{13}")
_UNPADDED = re.compile(rf"[1-9][0-9]{{12}}{_CSET_82}{{1,16}}")
_BARE_GRAI = re.compile(rf"8003(0[0-9]{{13}}{_CSET_82}{{1,16}})")
_BARE_SSCC = re.compile(r"00([0-9]{18})")
_SSCC = re.compile(r"[0-9]{18}")

_NAMED = re.compile(r"(grai|giai):(.*)", re.IGNORECASE)
_BRACKETS = re.compile(r"\([0-9]{2,4}\)")
_BRACKETED = re.compile(r"(?:\([0-9]{2,4}\)[^(]+)+")
_UNPADDED_HRI = re.compile(r"\(8003\)(?=[1-9])")
_EPC = re.compile(r"urn:epc:(?:id:([a-z]+):|tag:([a-z]+)-[0-9]{2,3}:[0-7]\.)(.+)", re.IGNORECASE)
_ASSET_LINK = re.compile(r"/800[34]/")
_FNC1 = "\x1d"
_GS1_SYMBOLOGIES = ("]C1", "]e0", "]d2", "]Q3", "]J1")
_OTHER_SYMBOLOGY = re.compile(r"\][A-Za-z][0-9A-Za-z]")

_SPACES = re.compile(r"[^\S\x1c-\x1f]+")  # Python takes FNC1, U+001D, for a space
_DASHES = re.compile("[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")
_INVISIBLE = re.compile(  # letters and marks that show nothing; what Unicode calls format characters
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\U000e0000-\U000e0fff]"
)
_SEPARATORS = re.compile(r"[-./\\]")


@lru_cache(maxsize=_CACHED)
def canonical_asset(text: str) -> str:
    """The text that names a piece of reusable packaging, however it was written:

    - a GRAI: its 14 digits and serial, `04012345555554987`;
    - a GIAI: `giai:` and the key, `giai:4012345ABC`, since a bare one looks like any operator's own code;
    - any other text is an operator's own code: in small letters without spaces and hyphens, `box00017`.

    GRAIs and GIAIs are read from the plain form (a GRAI's also without its leading 0, where the check digit is right), `(8003)…`,
    `(8004)…`, element strings after FNC1 or a symbology identifier, EPC URIs and Digital Links. Raises ValueError: a wrong check
    digit, a GRAI without a serial, a GS1 form that names something else or cannot be read, control characters.
    """
    if _is_plain(text) and text[0].isalpha():
        return text.lower()
    plain = _GRAI.fullmatch(text)
    if plain is not None and _checks(plain[1]):
        return text
    compact = _compact(text)
    found = _asset_of_gs1(compact)
    if found is None:
        own = _settled(compact, lambda code: _fold(code).replace("-", ""))
        found = own if own == text else canonical_asset(own)  # without its hyphens it may be a plain GS1 form
    return found


@lru_cache(maxsize=_CACHED)
def canonical_waybill(text: str) -> str:
    """The text that names a parcel: the 18 digits of an SSCC, or a carrier's number in capitals without spaces and hyphens.

    SSCCs are read from the plain form, `(00)…`, element strings, EPC URIs and Digital Links. A carrier's number may have 18 digits,
    too, so that a wrong check digit raises ValueError in the other forms only; so do control characters.
    """
    if _is_plain(text) and not text.isdigit():
        return text.upper()
    compact = _compact(text)
    found = _sscc_of_gs1(compact)
    if found is None:
        number = _settled(compact, lambda code: _fold(code).replace("-", "").upper())
        found = number if number == text else canonical_waybill(number)
    return found


@lru_cache(maxsize=_CACHED)
def canonical_serial(text: str) -> str:
    """A device's serial number or IMEI, in small letters without spaces, hyphens, dots and slashes. Raises ValueError: nothing is left."""
    return text.lower() if _is_plain(text) else _settled(_compact(text), lambda code: _unscanned(_SEPARATORS.sub("", _fold(code))))


@lru_cache(maxsize=_CACHED)
def canonical_document(text: str) -> str:
    """The number of a receipt or other document, in small letters (NFKC) without spaces, hyphens, dots and slashes.

    Raises ValueError: nothing is left.
    """
    return text.lower() if _is_plain(text) else _settled(_compact(text), lambda code: _unscanned(_SEPARATORS.sub("", _fold(code))))


# GS1 -----------------------------------------------------------------------------------------------------


def _asset_of_gs1(text: str) -> str | None:
    """The canonical text of a GRAI or GIAI; None: the text has no form of GS1. Raises ValueError."""
    if named := _NAMED.fullmatch(text):
        return _grai(named[2]) if named[1].lower() == "grai" else _giai(named[2])
    if text[:8].lower() == "urn:epc:":
        return _asset_of_epc(text)
    elements = _elements(text)
    if elements is not None:
        if "8003" in elements:
            return _grai(elements["8003"])
        if "8004" in elements:
            return _giai(elements["8004"])
        raise ValueError("names no asset: of GS1's identifiers, GRAI (8003) and GIAI (8004) do")
    return _plain_grai(text) or _plain_grai(text.replace("-", ""))


def _plain_grai(text: str) -> str | None:
    if _PADDED.match(text):
        return _grai(text)
    bare = _BARE_GRAI.fullmatch(text)
    if bare is not None and _checks(bare[1][:14]):
        return bare[1]
    return f"0{text}" if _UNPADDED.fullmatch(text) and _checks(text[:13]) else None


def _asset_of_epc(text: str) -> str:
    """EPC Tag Data Standard §7: the key's digits around the dot are those before its check digit."""
    scheme, parts = _epc(text)
    if scheme == "grai" and len(parts) >= 3:
        prefix, kind, serial = parts[0], parts[1], ".".join(parts[2:])
        if len(prefix + kind) == 12 and _ascii_digits(prefix + kind):
            return _grai(f"0{prefix}{kind}{gs1_standard_check_digit(prefix + kind)}{unquote(serial)}")
    if scheme == "giai" and len(parts) >= 2 and _ascii_digits(parts[0]):
        return _giai(parts[0] + unquote(".".join(parts[1:])))
    raise ValueError("is not an EPC URI of a GRAI (urn:epc:id:grai:4012345.55555.4987) or a GIAI (urn:epc:id:giai:4012345.ABC)")


def _sscc_of_gs1(text: str) -> str | None:
    if text[:8].lower() == "urn:epc:":
        scheme, parts = _epc(text)
        if scheme != "sscc" or len(parts) != 2 or len("".join(parts)) != 17 or not _ascii_digits("".join(parts)) or not parts[1]:
            raise ValueError("is not the EPC URI of an SSCC (urn:epc:id:sscc:0614141.1234567890)")
        digits = parts[1][0] + parts[0] + parts[1][1:]
        return f"{digits}{gs1_standard_check_digit(digits)}"
    elements = _elements(text)
    if elements is not None and "00" in elements:
        return _sscc(elements["00"])
    bare = _BARE_SSCC.fullmatch(text)
    return bare[1] if bare is not None and _checks(bare[1]) else None


def _epc(text: str) -> tuple[str, list[str]]:
    """Scheme and dotted parts of an EPC URI, pure identity or tag (whose filter value names nothing)."""
    found = _EPC.fullmatch(text)
    return ("", []) if found is None else ((found[1] or found[2]).lower(), found[3].split("."))


def _elements(text: str) -> dict[str, str] | None:
    """What a carrier of GS1 application identifiers holds; None: the text is none. Raises ValueError."""
    found: Sequence[GS1ElementString]
    link = text[:8].lower().startswith(("https://", "http://"))
    try:
        if text.startswith((_FNC1, *_GS1_SYMBOLOGIES)):
            message = text[3:] if text[0] == "]" else text
            found = GS1Message.parse(message.strip(_FNC1)).element_strings
        elif _BRACKETS.match(text):
            found = GS1Message.parse_hri(_readable(text)).element_strings
        elif link:
            found = GS1DigitalLinkURI.parse(text).element_strings[:1]  # the key; what qualifies it follows
        else:
            return None
    except (ParseError, ValueError):  # ValueError: a URI that is none
        if link and not _ASSET_LINK.search(text):
            return None  # somebody's own
        raise ValueError("cannot be read as GS1 element strings, (8003) and its value, nor as a Digital Link") from None
    return {element.ai.ai: element.value for element in found}


def _readable(text: str) -> str:
    """The text if it is nothing but bracketed identifiers with values, for the parser skips what it does not know.

    A GRAI gets its leading 0, which that insists on. Raises ValueError.
    """
    if not _BRACKETED.fullmatch(text):
        raise ValueError("is not a readable GS1 element string")
    return _UNPADDED_HRI.sub("(8003)0", text)


def _grai(value: str) -> str:
    padded = value if value.startswith("0") else f"0{value}"
    found = _GRAI.fullmatch(padded)
    if found is None:
        if _PADDED.fullmatch(padded):
            raise ValueError("is a GRAI without a serial, which names a kind of asset and no single one")
        raise ValueError("is not a GRAI: 0, 13 digits with the check digit, and a serial of 1 to 16 characters of GS1's set")
    if not _checks(found[1]):
        raise ValueError(f"is not a GRAI: the check digit of {found[1]} is wrong")
    return padded


def _giai(value: str) -> str:
    if not _GIAI.fullmatch(value):
        raise ValueError("is not a GIAI: 1 to 30 characters of GS1's set")
    return f"giai:{value}"


def _sscc(value: str) -> str:
    if not _SSCC.fullmatch(value) or not _checks(value):
        raise ValueError("is not an SSCC: 18 digits, the last of them the check digit")
    return value


def _checks(digits: str) -> bool:
    return gs1_standard_check_digit(digits[:-1]) == int(digits[-1])


def _ascii_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


# Texts ---------------------------------------------------------------------------------------------------


def _is_plain(text: str) -> bool:
    """Whether it has ASCII letters and digits alone, as most have: all that is left to do is their case, in a tenth of the time."""
    return text.isascii() and text.isalnum() and len(text) <= MAX_CHARS


def _compact(text: str) -> str:
    """Without spaces, invisible characters and the identifier of a symbology that is not GS1's; dashes are hyphens. Raises ValueError."""
    if len(text) > MAX_CHARS:
        raise ValueError(f"is longer than {MAX_CHARS} characters")
    compact = _unscanned(_shown(text))
    if not compact.replace(_FNC1, "").isprintable():
        raise ValueError("has control characters")
    return compact


def _unscanned(text: str) -> str:
    """Without identifiers of symbologies before it, however many: what is left must not begin with another one."""
    while (found := _OTHER_SYMBOLOGY.sub(_kept_symbology, text, count=1)) != text:
        text = found
    return text


def _kept_symbology(found: re.Match[str]) -> str:
    return found[0] if found.start() or found[0] in _GS1_SYMBOLOGIES else ""


def _shown(text: str) -> str:
    return _DASHES.sub("-", _INVISIBLE.sub("", _SPACES.sub("", unicodedata.normalize("NFKC", text))))


def _fold(text: str) -> str:
    return _shown(text.casefold())


def _settled(text: str, step: Callable[[str], str]) -> str:
    """What `step` makes of the text once it makes nothing else of it. Raises ValueError."""
    for _ in range(_MAX_ROUNDS):
        found = step(text)
        if found == text:
            break
        text = found
    else:
        raise ValueError("has characters that cannot be compared")
    if not text:
        raise ValueError("is empty")
    if len(text) > MAX_CHARS or not text.isprintable():
        raise ValueError(f"has control characters or is longer than {MAX_CHARS} characters")
    return text

"""GS1 keys in URIs: an EPC URN and a GS1 Digital Link of any domain become the same canonical Digital Link. Pure.

Sources: GS1 EPC Tag Data Standard 2.0 §6 (EPC URIs), GS1 Digital Link URI Syntax 1.2 §4.11 (canonical form). Constrained as the event
hash of CBV 2.0 §8.9 needs it: no query, no consumer product variant, and of lot and serial number only the finer one.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

from biip.checksums import gs1_standard_check_digit

CANONICAL: Final = "https://id.gs1.org/"
MAX_URI_CHARS: Final = 512

_EPC = re.compile(r"urn:epc:(id|class|idpat):([a-z]+):(.+)", re.IGNORECASE | re.DOTALL)
_WEB = re.compile(r"https?://[^/?#\s]+/([^?#]*)", re.IGNORECASE)
_SAFE = "-._';="
_NAMES = {
    "gtin": "01", "itip": "8006", "cpid": "8010", "gln": "414", "party": "417", "gsrnp": "8017", "gsrn": "8018", "gcn": "255", "sscc": "00",
    "gdti": "253", "ginc": "401", "gsin": "402", "grai": "8003", "giai": "8004", "cpv": "22", "lot": "10", "ser": "21",
}  # fmt: skip
_QUALIFIERS = {"01": ("21", "235", "10"), "8006": ("21", "10"), "414": ("254",), "8010": ("8011",)}
"""Of these the first that is there is kept."""
_DIGITS = {"00": 18, "01": 14, "8006": 14, "414": 13, "417": 13, "8017": 18, "8018": 18, "255": 13, "253": 13, "402": 17, "8003": 14}
"""How many digits a key begins with, the last of them a check digit."""
_MORE = {"8006": 4, "255": 12, "253": 17, "8003": 16}
"""How many characters may follow those."""
_FREE = {"401": 30, "8004": 30, "8010": 30}
"""Keys without a check digit, and their longest."""


@lru_cache(maxsize=4_096)
def digital_link(uri: str) -> str | None:
    """The canonical Digital Link of the GS1 key in an EPC URN or a Digital Link; None for what names none, or with a wrong check digit."""
    if len(uri) > MAX_URI_CHARS:
        return None
    if urn := _EPC.fullmatch(uri):
        path = _of_epc(f"{urn[1]}:{urn[2]}".lower(), urn[3])
    elif web := _WEB.match(uri):
        path = _of_path(web[1])
    else:
        return None
    return None if path is None else CANONICAL + path


def asset_in(uri: str) -> str | None:
    """The plain name of one piece of reusable packaging: a GRAI's 14 digits and serial number, or `giai:` and the key; else None."""
    link = digital_link(uri)
    if link is None:
        return None
    ai, _, key = link.removeprefix(CANONICAL).partition("/")
    if ai == "8004":
        return "giai:" + unquote(key)
    return unquote(key) if ai == "8003" and len(key) > _DIGITS["8003"] else None


# EPC URNs ---------------------------------------------------------------------------------------------


def _of_epc(scheme: str, text: str) -> str | None:
    make = _SCHEMES.get(scheme)
    if make is None:
        return None
    prefix, _, rest = text.partition(".")
    if not (prefix.isascii() and prefix.isdigit() and 6 <= len(prefix) <= 12):
        return None
    return make(prefix, rest)


def _gtin(prefix: str, item: str) -> str | None:
    """The indicator stands before the company prefix."""
    return _checked(item[:1] + prefix + item[1:], 14)


def _checked(digits: str, length: int) -> str | None:
    if len(digits) != length - 1 or not (digits.isascii() and digits.isdigit()):
        return None
    return digits + str(gs1_standard_check_digit(digits))


def _item(qualifier: str) -> Callable[[str, str], str | None]:
    """A GTIN, and its serial number or lot."""

    def make(prefix: str, rest: str) -> str | None:
        item, _, serial = rest.partition(".")
        gtin = _gtin(prefix, item)
        if gtin is None or not serial:
            return None
        return f"01/{gtin}" if serial == "*" else f"01/{gtin}/{qualifier}/{_text(serial)}"

    return make


def _numbered(ai: str, lead: str = "") -> Callable[[str, str], str | None]:
    """Digits with a check digit, then a serial number that belongs to the key."""

    def make(prefix: str, rest: str) -> str | None:
        reference, _, serial = rest.partition(".")
        key = _checked(lead + prefix + reference, _DIGITS[ai])
        return None if key is None or len(unquote(serial)) > _MORE[ai] else f"{ai}/{key}{'' if serial == '*' else _text(serial)}"

    return make


def _plain(ai: str) -> Callable[[str, str], str | None]:
    """Digits with a check digit and nothing else."""

    def make(prefix: str, rest: str) -> str | None:
        key = _checked(prefix + rest.removesuffix("."), _DIGITS[ai])
        return None if key is None else f"{ai}/{key}"

    return make


def _free(ai: str) -> Callable[[str, str], str | None]:
    """A company prefix and a free text behind it."""
    return lambda prefix, rest: f"{ai}/{prefix}{_text(rest)}" if rest and len(prefix + unquote(rest)) <= _FREE[ai] else None


def _sscc(prefix: str, rest: str) -> str | None:
    key = _checked(rest[:1] + prefix + rest[1:], 18)
    return None if key is None else f"00/{key}"


def _sgln(prefix: str, rest: str) -> str | None:
    location, _, extension = rest.partition(".")
    key = _checked(prefix + location, 13)
    if key is None or not extension:
        return None
    return f"414/{key}" if extension == "0" else f"414/{key}/254/{_text(extension)}"


def _itip(prefix: str, rest: str) -> str | None:
    item, piece, total, serial = (*rest.split(".", 3), "", "", "")[:4]
    gtin = _gtin(prefix, item)
    if gtin is None or not (len(piece) == len(total) == 2 and serial):
        return None
    return f"8006/{gtin}{piece}{total}" + ("" if serial == "*" else f"/21/{_text(serial)}")


def _cpi(prefix: str, rest: str) -> str | None:
    part, _, serial = rest.rpartition(".")
    if not part or not (serial == "*" or serial.isdigit()):
        return None
    return f"8010/{prefix}{_text(part)}" + ("" if serial == "*" else f"/8011/{serial}")


_INSTANCES: dict[str, Callable[[str, str], str | None]] = {
    "sgtin": _item("21"), "upui": _item("235"), "sscc": _sscc, "sgln": _sgln, "grai": _numbered("8003", "0"), "gdti": _numbered("253"),
    "sgcn": _numbered("255"), "giai": _free("8004"), "ginc": _free("401"), "pgln": _plain("417"), "gsrn": _plain("8018"),
    "gsrnp": _plain("8017"), "gsin": _plain("402"), "itip": _itip, "cpi": _cpi,
}  # fmt: skip
_SCHEMES: Final[dict[str, Callable[[str, str], str | None]]] = {
    **{f"id:{name}": make for name, make in _INSTANCES.items()},
    **{f"idpat:{name}": _INSTANCES[name] for name in ("sgtin", "upui", "grai", "gdti", "sgcn", "itip", "cpi")},
    "class:lgtin": _item("10"),
}


# Digital Links ----------------------------------------------------------------------------------------


def _of_path(path: str) -> str | None:
    segments = path.strip("/").split("/")
    at = next((i for i, name in enumerate(segments[:-1]) if _ai(name) in _DIGITS or _ai(name) in _FREE), None)
    if at is None:
        return None
    ai, key = _ai(segments[at]), unquote(segments[at + 1])
    if ai == "01" and len(key) in (8, 12, 13):
        key = key.zfill(14)
    if not _is_sound(ai, key):
        return None
    rest = segments[at + 2 :]
    qualifiers = {_ai(name): value for name, value in zip(rest[::2], rest[1::2], strict=False)}
    kept = next((f"/{name}/{_text(qualifiers[name])}" for name in _QUALIFIERS.get(ai, ()) if qualifiers.get(name)), "")
    return f"{ai}/{_text(key)}{kept}"


def _ai(name: str) -> str:
    return _NAMES.get(name, name)


def _is_sound(ai: str, key: str) -> bool:
    if ai in _FREE:
        return 0 < len(key) <= _FREE[ai]
    length = _DIGITS[ai]
    digits = key[:length]
    return len(key) <= length + _MORE.get(ai, 0) and _checked(digits[:-1], length) == digits


def _text(part: str) -> str:
    """Percent-encoded in the one way that canonical Digital Links have."""
    return quote(unquote(part), safe=_SAFE)

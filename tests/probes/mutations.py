"""Damage for JSON: sound documents with fields dropped, replaced, doubled and nested, and bytes that are no JSON at all."""

import copy
import json
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st

_DEEP, _HUGE, _TWICE = "@deep@", "@huge@", "@twice@"

ODD: tuple[Any, ...] = (
    None, True, False, "", " ", "x" * 300, "\x00", "\u2028", "\ud800", "é" * 129, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30, 0.5,
    -0.0, 1e308, float("nan"), float("inf"), [], {}, [[]], {"": None}, "NaN", "1e5", "-1", "1.0000001", "٣", "9" * 40, "0" * 14,
    "2026-13-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "2026-01-01", "P14D", "P99999999999Y", "PT-1S",
    _DEEP, _HUGE, _TWICE,
)  # fmt: skip
"""Values that have broken readers: of the wrong type, out of range, unprintable, and marks for what `json` cannot write."""


def _places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Keys and indices of everything inside."""
    found = []
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        found += [(*above, key), *_places(child, (*above, key))]
    return found


def _damaged(draw: st.DrawFn, document: Any) -> Any:
    """The same with one place dropped, replaced, doubled or wrapped."""
    changed = copy.deepcopy(document)
    places = _places(changed)
    if not places:
        return draw(st.sampled_from(ODD))
    *above, key = draw(st.sampled_from(places))
    inner = changed
    for step in above:
        inner = inner[step]
    match draw(st.sampled_from(("drop", "replace", "replace", "double", "wrap", "swap"))):
        case "drop":
            del inner[key]
        case "replace":
            inner[key] = draw(st.sampled_from(ODD) | st.text(max_size=20) | st.integers() | st.floats())
        case "double" if isinstance(inner, list):
            inner.append(copy.deepcopy(inner[key]))
        case "double":
            inner[f"{key} "] = copy.deepcopy(inner[key])
        case "wrap":
            inner[key] = draw(st.sampled_from(([inner[key]], {"value": inner[key]})))
        case "swap":
            inner[key] = copy.deepcopy(changed)
    return changed


@st.composite
def documents(draw: st.DrawFn, sound: Sequence[Any]) -> Any:
    """One of the sound documents, damaged in none to four places."""
    document = draw(st.sampled_from(sound))
    for _ in range(draw(st.integers(0, 4))):
        document = _damaged(draw, document)
    return document


def encoded(document: Any, *, ascii_only: bool = True) -> bytes:
    """Its bytes, the marks replaced by what they stand for; lone surrogates stay escaped."""
    text = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    text = text.replace(f'"{_DEEP}"'.encode(), b"[" * 20_000 + b"]" * 20_000)
    text = text.replace(f'"{_HUGE}"'.encode(), b"9" * 5_000)
    return text.replace(f'"{_TWICE}"'.encode(), b'{"id":1,"id":"2","id":null}')


@st.composite
def bodies(draw: st.DrawFn, sound: Sequence[Any]) -> bytes:
    """Bytes of a damaged document, themselves damaged now and then."""
    body = encoded(draw(documents(sound)), ascii_only=draw(st.booleans()))
    at = draw(st.integers(0, len(body)))
    match draw(st.sampled_from(("",) * 6 + ("cut", "flip", "insert", "bom", "utf16", "tail", "noise"))):
        case "cut":
            return body[:at]
        case "flip" if at < len(body):
            return body[:at] + bytes([body[at] ^ (1 << draw(st.integers(0, 7)))]) + body[at + 1 :]
        case "insert":
            return body[:at] + draw(st.sampled_from((b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\x00", b"//", b",", b'"'))) + body[at:]
        case "bom":
            return b"\xef\xbb\xbf" + body
        case "utf16":
            return body.decode("utf-8", "replace").encode("utf-16")
        case "tail":
            return body + body
        case "noise":
            return draw(st.binary(max_size=200))
    return body

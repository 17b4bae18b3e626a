"""Certification schemes: reference facts, and what they say about a certificate's number.

The facts are in data/certification_schemes.json, each with its sources and how far it was verified. A program may use schemes
of its own: a code that is not in the list is accepted, with a warning.
"""

import re
from importlib.resources import files
from typing import Any, Final

import msgspec
from msgspec import Struct


class Number(Struct, frozen=True, kw_only=True):
    """How a scheme writes its numbers and what such a number names."""

    format: str | None
    pattern: str | None
    pattern_enforced: bool
    """Only where the format was verified and the number names a certificate or product."""
    examples: list[str]
    names: str
    names_product: bool
    """False: the number names a company, a control body or a standard, and says nothing about a product by itself."""


class Registry(Struct, frozen=True, kw_only=True):
    """Where the scheme publishes its certificates."""

    url: str | None
    access: str | None


class Scheme(Struct, frozen=True, kw_only=True):
    """One certification scheme."""

    code: str
    name: str
    name_local: str | None
    jurisdiction: str
    issuer: str
    label_kind: str
    number: Number
    validity_months: int | None
    validity_basis: str | None
    registry: Registry | None
    recognises: list[Any]
    verification: str
    notes: str | None
    sources: list[str]


class _File(Struct, frozen=True, kw_only=True):
    about: str
    as_of: str
    schemes: list[Scheme]


_FILE = msgspec.json.decode(files("service.domain").joinpath("data/certification_schemes.json").read_bytes(), type=_File)

SCHEMES: Final[dict[str, Scheme]] = {scheme.code: scheme for scheme in _FILE.schemes}


def check_number(scheme: str, number: str) -> list[str]:
    """Warnings about a certificate's number. Raises ValueError, its text for the sender, when it cannot be one of this scheme."""
    known = SCHEMES.get(scheme)
    if known is None:
        return [f"The scheme {scheme!r} is not in the reference list: its numbers are not checked."]
    warnings = []
    pattern = known.number.pattern
    if pattern is not None and not re.fullmatch(pattern, number):
        like = f"such as {' or '.join(known.number.examples)}" if known.number.examples else f"like {pattern}"
        if known.number.pattern_enforced:
            raise ValueError(f"is not a number of {known.name}: those are {like}")
        warnings.append(f"Numbers of {known.name} are usually {like}; this was not verified.")
    if not known.number.names_product:
        warnings.append(f"Such a number names a {known.number.names}: only the GTINs listed here make products certified.")
    return warnings

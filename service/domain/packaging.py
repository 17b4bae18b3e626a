"""Packaging classes: what each does for the waste hierarchy, and what proves it. The reference list, and a program's own beside it.

The facts are in data/packaging_classes.json, worded for this project, each class with its sources and how far they were verified.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Final

import msgspec
from msgspec import Struct

from schemas.packaging_classes import Evidence, Group


class PackagingClass(Struct, frozen=True, kw_only=True):
    """A kind of packaging, or of doing without it. `rank` is its step of the waste hierarchy, 1 the best; None: of a program's own."""

    code: str
    group: Group
    name_en: str
    name_zh: str | None = None
    description: str = ""
    needs_asset: bool
    """Whether its pieces are told apart: it counts only with a registered asset."""
    evidence: tuple[Evidence, ...] = ()
    """What proves it, all of it."""
    evidence_from: tuple[str, ...] = ()
    """Who can give that."""
    contains_plastic: bool | None = None
    """None: it depends on the piece."""
    reportable: bool | None = None
    """Whether it counts as disposable plastic in the report on its use (Order No. 1 of 2023). None: it depends on the piece."""
    baseline: str | None = None
    """The class that it takes the place of."""
    caveat: str = ""
    """What must not be claimed for it."""
    rank: int | None = None
    verification: str = ""
    """How far the facts were verified: primary, secondary."""
    sources: tuple[str, ...] = ()
    active: bool = True
    """A program's own class that was retired is in no new event."""


class _File(Struct, frozen=True, kw_only=True):
    about: str
    as_of: str
    classes: list[PackagingClass]


_FILE: Final = msgspec.json.decode(files("service.domain").joinpath("data/packaging_classes.json").read_bytes(), type=_File)

REFERENCE: Final[Mapping[str, PackagingClass]] = {each.code: each for each in _FILE.classes}
"""By code."""
CLASS_CODES: Final[frozenset[str]] = frozenset(REFERENCE)


def class_of(code: str, own: Mapping[str, PackagingClass] | None = None) -> PackagingClass | None:
    """The class with this code: of the reference list, else of a program's own. None: there is none."""
    return REFERENCE.get(code) or (None if own is None else own.get(code))


def needs_asset(code: str, own: Mapping[str, PackagingClass] | None = None) -> bool:
    """Whether packaging of this class counts only as a registered asset; False for a class that nobody knows."""
    found = class_of(code, own)
    return found is not None and found.needs_asset

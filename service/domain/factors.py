"""Impact factors: the reference list, a program's own versions beside it, and which one counts when.

The facts are in data/impact_factors.json, each with its source and how far it was verified; only what was verified at its source
(primary) or in another that is named (secondary) is in it. A factor is never changed there: a correction gets another id.
"""

from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import files
from typing import Final

import msgspec
from msgspec import Struct

from schemas.impact import AppliesTo, FactorBody, FactorVersion, Range
from schemas.problems import FieldError
from service.domain.errors import InvalidRequest


class ReferenceRange(Struct, frozen=True, kw_only=True):
    """Kilograms of CO2e per unit, decimal texts; negative: a credit."""

    low: str | None
    central: str | None
    high: str | None


class ReferenceFactor(Struct, frozen=True, kw_only=True):
    """A factor of the list. `unit` is what it counts: mostly `kg` of material."""

    id: str
    what: str
    unit: str
    co2e_kg: ReferenceRange
    plastic_g: str | None
    method: str
    baseline: str
    region: str | None
    vintage: int | None
    usable_for: list[str]
    source: str
    verification: str
    notes: str


class _File(Struct, frozen=True, kw_only=True):
    about: str
    as_of: str
    licence: str
    factors: list[ReferenceFactor]


_FILE = msgspec.json.decode(files("service.domain").joinpath("data/impact_factors.json").read_bytes(), type=_File)

REFERENCE: Final[dict[str, ReferenceFactor]] = {factor.id: factor for factor in _FILE.factors}

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
MASSES: Final = "mass."
"""What ids of masses begin with: they are grams, and no program's version stands in for them."""


class Factor(Struct, frozen=True, kw_only=True):
    """One version of a factor as awards are reckoned by it. CO2e in kilograms, plastic in grams per unit; version 0 is the list's."""

    id: str
    version: int
    effective_from: datetime | None
    unit: str
    low: Decimal | None
    central: Decimal | None
    high: Decimal | None
    plastic_g: Decimal | None
    method: str
    region: str | None
    vintage: int | None
    source: str
    avoids: bool
    """Its method allows to say that less was made: without it no award records CO2e."""
    applies_to: frozenset[tuple[str, str]] = frozenset()
    """(action, packaging class)"""


class OwnFactors(Struct, frozen=True, kw_only=True):
    """A program's own factors and corrections: each with all versions, newest first."""

    versions: dict[str, tuple[Factor, ...]] = {}

    def at(self, id_: str, occurred_at: datetime) -> Factor | None:
        """The newest own version in force when something occurred."""
        return next((f for f in self.versions.get(id_, ()) if f.effective_from is None or f.effective_from <= occurred_at), None)

    def applying(self, action: str, class_: str, occurred_at: datetime) -> Factor | None:
        """The own factor for this action and class in force then; of several the one that came into force last."""
        found: Factor | None = None
        for id_ in self.versions:
            factor = self.at(id_, occurred_at)
            if factor is not None and (action, class_) in factor.applies_to and (found is None or _later(factor, found)):
                found = factor
        return found


def _later(factor: Factor, other: Factor) -> bool:
    a, b = factor.effective_from, other.effective_from
    return a is not None and (b is None or (a, factor.id) > (b, other.id))


def factor_of(own: OwnFactors, id_: str, occurred_at: datetime) -> Factor:
    """The program's own version in force then, else the reference factor. Raises KeyError for an id that nobody has."""
    return own.at(id_, occurred_at) or COMPILED[id_]


def compile_reference(factor: ReferenceFactor) -> Factor:
    """A factor of the list: version 0, in force from the beginning."""
    return Factor(
        id=factor.id, version=0, effective_from=None, unit=factor.unit, low=_decimal(factor.co2e_kg.low),
        central=_decimal(factor.co2e_kg.central), high=_decimal(factor.co2e_kg.high), plastic_g=_decimal(factor.plastic_g),
        method=factor.method, region=factor.region, vintage=factor.vintage, source=factor.source, avoids="avoidance" in factor.usable_for,
    )  # fmt: skip


def compile_own(version: int, effective_from: datetime, body_json: str) -> Factor:
    """A stored version of a program's factor. `body_json` (schemas.impact.FactorBody) was checked when it was saved."""
    body = msgspec.json.decode(body_json, type=FactorBody)
    co2e = body.co2e_kg or Range()
    return Factor(
        id=body.id, version=version, effective_from=effective_from, unit=body.unit, low=_decimal(co2e.low), central=_decimal(co2e.central),
        high=_decimal(co2e.high), plastic_g=_decimal(body.plastic_g), method=body.method, region=body.region, vintage=body.vintage,
        source=body.source, avoids="avoidance" in body.usable_for, applies_to=frozenset((a.action, a.class_) for a in body.applies_to),
    )  # fmt: skip


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


COMPILED: Final[dict[str, Factor]] = {id_: compile_reference(factor) for id_, factor in REFERENCE.items()}


def check_factor(body: FactorBody, others: dict[str, FactorBody]) -> None:
    """Refuse what contradicts itself. `others`: the newest versions of the program's other factors.

    Raises InvalidRequest with all errors.
    """
    errors = [*_number_errors(body), *_use_errors(body, others)]
    if body.effective_from is not None and not EARLIEST <= body.effective_from < LATEST:
        errors.append(FieldError(pointer="/effective_from", detail="must be between 1970 and 2200"))
    if body.id.startswith(MASSES):
        errors.append(FieldError(pointer="/id", detail="names masses, which no factor corrects: bring one that applies to the class"))
    elif body.id in REFERENCE and REFERENCE[body.id].unit != body.unit:
        errors.append(FieldError(pointer="/unit", detail=f"of the reference factor {body.id} is {REFERENCE[body.id].unit}"))
    if errors:
        raise InvalidRequest.of(errors)


def _number_errors(body: FactorBody) -> list[FieldError]:
    errors = []
    co2e = body.co2e_kg or Range()
    known = [Decimal(value) for value in (co2e.low, co2e.central, co2e.high) if value is not None]
    if known != sorted(known):
        errors.append(FieldError(pointer="/co2e_kg", detail="must not fall from low to central to high"))
    if not known and body.plastic_g is None:
        errors.append(FieldError(pointer="", detail="needs co2e_kg or plastic_g"))
    if "mass_only" in body.usable_for and (known or len(body.usable_for) > 1):
        errors.append(FieldError(pointer="/usable_for", detail="mass_only stands alone and without CO2e"))
    return errors


def _use_errors(body: FactorBody, others: dict[str, FactorBody]) -> list[FieldError]:
    errors = []
    taken = {(use.action, use.class_): id_ for id_, other in others.items() for use in other.applies_to}
    seen: set[AppliesTo] = set()
    for i, use in enumerate(body.applies_to):
        pointer = f"/applies_to/{i}"
        if use in seen:
            errors.append(FieldError(pointer=pointer, detail="is there twice"))
        seen.add(use)
        if (id_ := taken.get((use.action, use.class_))) is not None:
            errors.append(FieldError(pointer=pointer, detail=f"is what {id_} applies to: an award records one factor"))
        if use.action == "packaging" and body.unit != "parcel":
            errors.append(FieldError(pointer=pointer, detail="packaging is counted in parcels: the unit must be parcel"))
        if use.action == "return" and body.unit == "parcel":
            errors.append(FieldError(pointer=pointer, detail="returns are counted in items or kg"))
    return errors


def reference_version(factor: ReferenceFactor) -> FactorVersion:
    """A factor of the list as an answer shows it."""
    return FactorVersion(
        version=0, what=factor.what, unit=factor.unit, co2e_kg=msgspec.structs.asdict(factor.co2e_kg), plastic_g=factor.plastic_g,
        method=factor.method, region=factor.region, vintage=factor.vintage, usable_for=factor.usable_for, source=factor.source,
        verification=factor.verification,
    )  # fmt: skip

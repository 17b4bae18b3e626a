"""Impact factors, what awards record by them, and the report of it (CONTRACT §3.7).

CO2e and masses of factors are decimal texts; what is recorded is whole grams.
"""

from datetime import date, datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from schemas.base import PRINTABLE, Body, Code, Instant
from schemas.bounds import MAX_DECIMAL_CHARS, MAX_FACTOR_USES, MAX_SOURCE_CHARS, MAX_TEXT_CHARS

Unit = Literal["parcel", "item", "kg"]
"""What a factor of a program counts: parcels of an order, returned items, or kilograms."""

Use = Literal["avoidance", "display", "mass_only", "conditional", "report", "context"]
"""What a method allows: only `avoidance` says that less was made, and only such a factor gives CO2e to an award."""

Origin = Literal["reference", "program"]

PrintableText = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_CHARS, pattern=PRINTABLE)]
Amount = Annotated[str, Meta(max_length=MAX_DECIMAL_CHARS, pattern=r"^[0-9]{1,6}(\.[0-9]{1,6})?$(?!\n)")]
"""Kilograms or grams per unit: a decimal string, never a float, never negative."""


class Range(Struct, frozen=True, kw_only=True, gc=False):
    """Kilograms of CO2e per unit. `central` null: no single number may be shown."""

    low: Amount | None = None
    central: Amount | None = None
    high: Amount | None = None


class AppliesTo(Struct, frozen=True, kw_only=True, gc=False):
    """What a factor is recorded for: how an order is packed, or returned packaging, of this class."""

    action: Literal["packaging", "return"]
    class_: Code = field(name="class")


class FactorBody(Body, frozen=True, kw_only=True):
    """A version of an impact factor of a program's own, or its correction of a reference factor for this program.

    It counts for what occurs from `effective_from` on (null: from now on). `plastic_g` is grams of plastic per unit.
    """

    id: Code
    what: PrintableText
    unit: Unit
    co2e_kg: Range | None = None
    plastic_g: Amount | None = None
    method: PrintableText
    region: PrintableText
    vintage: Annotated[int, Meta(ge=1900, le=2200)]
    usable_for: Annotated[list[Use], Meta(min_length=1, max_length=6)]
    source: Annotated[str, Meta(min_length=1, max_length=MAX_SOURCE_CHARS, pattern=PRINTABLE)]
    verification: Literal["primary", "secondary", "derived", "estimate"]
    applies_to: Annotated[list[AppliesTo], Meta(max_length=MAX_FACTOR_USES)] = []
    effective_from: Instant | None = None


class FactorVersion(Body, frozen=True, kw_only=True):
    """One version of a factor; the one that is shipped has the number 0 and counts from the beginning (`effective_from` null)."""

    version: int
    effective_from: datetime | None = None
    what: str
    unit: str
    co2e_kg: dict[str, str | None] | None
    """low, central, high; those of the reference list may be negative (a credit)."""
    plastic_g: str | None
    method: str
    region: str | None
    vintage: int | None
    usable_for: list[str]
    source: str
    verification: str
    applies_to: list[AppliesTo] = []
    created_at: datetime | None = None
    created_by: str | None = None


class FactorAnswer(Body, frozen=True, kw_only=True):
    """A factor with its newest version; `origin` says whether it is in the reference list."""

    id: str
    origin: Origin
    newest: FactorVersion


class FactorHistory(FactorAnswer, frozen=True, kw_only=True):
    """A factor with all its versions, newest first."""

    versions: list[FactorVersion]


class Grams(Body, frozen=True, kw_only=True, gc=False):
    """Grams of CO2e; null: the source gives no such number."""

    low: int | None
    central: int | None
    high: int | None


class ImpactRecord(Body, frozen=True, kw_only=True, gc=False):
    """What one award records, pinned: a later version of the factor changes nothing here. Grams are rounded down."""

    factor: str
    version: int
    vintage: int | None
    region: str | None
    method: str
    source: str
    co2e_g: Grams | None
    """Null: the method does not allow CO2e for this, as with everything that is collected for recycling."""
    plastic_g: int
    mass_g: int | UnsetType = UNSET
    """Of the material that was avoided or collected."""
    masses: str | UnsetType = UNSET
    """The factor that the mass per unit was taken from."""
    bounds: list[str] | UnsetType = UNSET
    """The factors of `low` and `high`, where `factor` publishes no range."""


class ImpactGroup(Body, frozen=True, kw_only=True):
    """What awards recorded by one version of one factor by one method. Groups are never added up: their methods differ."""

    factor: str
    version: int
    vintage: int | None
    method: str
    region: str | None
    source: str
    awards: int
    awards_without_central: int
    mass_g: int
    plastic_g: int
    co2e_g: Grams
    """Sums of what is known; null: none of the awards has such a number."""


class ImpactReport(Body, frozen=True, kw_only=True):
    """Recorded impact of what occurred in the local days from `from` up to (without) `to`, without awards that were taken back in full."""

    from_: date = field(name="from")
    to: date
    campaign: str | None
    platform: str | None
    groups: list[ImpactGroup]

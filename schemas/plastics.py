"""Disposable plastic that platforms use and collect, and the half-yearly report of it (CONTRACT §3.7)."""

from datetime import date, datetime
from typing import Annotated, Literal

from msgspec import Meta, field

from schemas.base import Body, Code, Key, Text
from schemas.bounds import MAX_DECIMAL_CHARS, MAX_QUANTITY
from schemas.registries import ImportResult

PlasticKind = Literal["used", "collected"]

MassGrams = (
    Annotated[str, Meta(max_length=MAX_DECIMAL_CHARS, pattern=r"^-?[0-9]{1,12}(\.[0-9]{1,3})?$(?!\n)")]
    | Annotated[int, Meta(ge=-MAX_QUANTITY, le=MAX_QUANTITY)]
)
"""Grams to the milligram: a decimal string or a JSON integer, never a float."""

MassKilograms = (
    Annotated[str, Meta(max_length=MAX_DECIMAL_CHARS, pattern=r"^-?[0-9]{1,9}(\.[0-9]{1,6})?$(?!\n)")]
    | Annotated[int, Meta(ge=-(MAX_QUANTITY // 1_000), le=MAX_QUANTITY // 1_000)]
)
"""Kilograms to the milligram: a decimal string or a JSON integer, never a float."""

PeriodText = Annotated[str, Meta(pattern=r"^([0-9]{4}H[12]|[0-9]{4}-[0-9]{2}-[0-9]{2}/[0-9]{4}-[0-9]{2}-[0-9]{2})$(?!\n)")]
"""A half-year (`2026H1`), or the first and the last day of a part of one (`2026-01-01/2026-03-31`; both count)."""


class PlasticBody(Body, frozen=True, kw_only=True):
    """What a platform used or collected of one class in one period; exactly one of `mass_g` and `mass_kg`.

    `id` is the platform's own: the same values again change nothing, other values correct the row. `corrects` names a row of a period that
    is closed; only then the mass may be negative: it is taken back.
    """

    id: Key
    period: PeriodText
    class_: Code = field(name="class")
    kind: PlasticKind
    mass_g: MassGrams | None = None
    mass_kg: MassKilograms | None = None
    units: Annotated[int, Meta(ge=0, le=MAX_QUANTITY)] | None = None
    merchant: Key | None = None
    note: Text | None = None
    corrects: Key | None = None


class PlasticResult(ImportResult, frozen=True, kw_only=True):
    """What became of one row; `updated`: it was corrected. `invalid_state`: its period is closed."""

    code: Literal["invalid_request", "invalid_state"] | None = None


class PlasticsAnswer(Body, frozen=True, kw_only=True):
    """What became of each row; a rejected row changes nothing and stops no other."""

    created: int
    updated: int
    unchanged: int
    rejected: int
    results: list[PlasticResult]


class PlasticEntry(Body, frozen=True, kw_only=True):
    """One entry of the ledger. `reversal`: it takes back what the row said in this revision."""

    platform: str
    id: str
    revision: int
    reversal: bool
    period: str
    from_: date = field(name="from")
    to: date
    class_: str = field(name="class")
    kind: PlasticKind
    mass_g: str
    units: int | None
    merchant: str | None
    note: str | None
    corrects: str | None
    at: datetime


class PeriodHashes(Body, frozen=True, kw_only=True):
    """SHA-256 of the report's bytes, in hexadecimal, by format."""

    json: str
    csv: str


class ClosedPeriod(Body, frozen=True, kw_only=True):
    """A closed period; `sha256` is of the report on the whole program."""

    period: str
    status: Literal["closed"] = "closed"
    closed_at: datetime
    sha256: PeriodHashes


class PlasticLine(Body, frozen=True, kw_only=True):
    """Reported masses of one class and merchant (null: none was named), in grams. `difference_g`: used less collected."""

    class_: str = field(name="class")
    merchant: str | None
    used_g: str
    collected_g: str
    difference_g: str


class PlasticTotals(Body, frozen=True, kw_only=True):
    """Grams. `avoided_g`: what the awards of the period's days record, without those that were taken back; it is in no other number."""

    used_g: str
    collected_g: str
    avoided_g: str
    difference_g: str


class PlatformPlastics(PlasticTotals, frozen=True, kw_only=True):
    """One platform; its lines sum to its totals."""

    platform: str
    lines: list[PlasticLine]


class PlasticsReport(Body, frozen=True, kw_only=True):
    """A half-year in the program's time zone. Platforms see themselves only, in `totals`, too."""

    period: str
    from_: date = field(name="from")
    to: date
    time_zone: str
    status: Literal["open", "closed"]
    closed_at: datetime | None
    platforms: list[PlatformPlastics]
    totals: PlasticTotals

"""The plastics ledger: what a row means, which entries it makes, and the half-yearly report.

Half-yearly reports on disposable plastic, used and recovered: Order No. 1 of 2023 of MOFCOM and NDRC.
"""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Final, Literal

import msgspec
from msgspec import Struct

from schemas.bounds import MAX_PLASTIC_LINES
from schemas.plastics import PlasticBody, PlasticKind, PlasticLine, PlasticsReport, PlasticTotals, PlatformPlastics
from service.domain.errors import InvalidRequest, InvalidState
from service.domain.packaging import REFERENCE, PackagingClass

FIRST_YEAR: Final = 2000
GRAMS_PER_KG: Final = 1_000
CSV_COLUMNS: Final = ("period", "level", "platform", "class", "merchant", "used_g", "collected_g", "avoided_g", "difference_g")

_HALF = re.compile(r"([0-9]{4})H([12])", re.ASCII)
_RANGE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})/([0-9]{4}-[0-9]{2}-[0-9]{2})", re.ASCII)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


# Periods -------------------------------------------------------------------------------------------------


class Period(Struct, frozen=True):
    """Days of one half-year, `last` included."""

    half: str
    first: date
    last: date


def half_year(text: str) -> Period:
    """`2026H1`. Raises ValueError."""
    match = _HALF.fullmatch(text)
    if match is None or int(match[1]) < FIRST_YEAR:
        raise ValueError(text)
    year = int(match[1])
    first, last = ((1, 1), (6, 30)) if match[2] == "1" else ((7, 1), (12, 31))
    return Period(text, date(year, *first), date(year, *last))


def half_of(day: date) -> Period:
    """The half-year of a day. Raises ValueError."""
    return half_year(f"{day.year:04d}H{(day.month + 5) // 6}")


def period_of(text: str) -> Period:
    """A half-year, or `first/last` within one. Raises ValueError with what is wrong."""
    match = _RANGE.fullmatch(text)
    try:
        if match is None:
            return half_year(text)
        first, last = date.fromisoformat(match[1]), date.fromisoformat(match[2])
        whole = half_of(first)
    except ValueError:
        raise ValueError(f"must be a half-year from {FIRST_YEAR} on, such as 2026H1, or days such as 2026-01-01/2026-03-31") from None
    if not first <= last <= whole.last:
        raise ValueError("must begin and end within one half-year, and end no earlier than it begins")
    return Period(whole.half, first, last)


# Entries -------------------------------------------------------------------------------------------------


class Content(Struct, frozen=True, kw_only=True):
    """What a row says, however it was written. Mass and units are signed."""

    period: Period
    class_: str
    kind: PlasticKind
    mass_g: Decimal
    units: int | None
    merchant: str | None
    note: str | None
    corrects: str | None


class Entry(Struct, frozen=True, kw_only=True):
    """An entry of the ledger: what a row says in a revision, or (`reversal`) the same with the other sign."""

    row: str
    revision: int
    content: Content
    reversal: bool = False

    def reversed(self) -> "Entry":
        """What takes it back."""
        units = None if self.content.units is None else -self.content.units
        taken_back = msgspec.structs.replace(self.content, mass_g=-self.content.mass_g, units=units)
        return msgspec.structs.replace(self, content=taken_back, reversal=True)


def reportable_classes(own: Mapping[str, PackagingClass]) -> frozenset[str]:
    """Codes of the classes that are reported as disposable plastic: of the reference list, and of a program's own."""
    return frozenset(code for code, found in {**own, **REFERENCE}.items() if found.reportable)


_OF_REFERENCE: Final = reportable_classes({})


def content_of(body: PlasticBody, reportable: Container[str] = _OF_REFERENCE) -> Content:
    """What a row says; `reportable`: classes that are reported as disposable plastic.

    Raises InvalidRequest: no such days, not exactly one mass, a class that is not reported, a mass that may not be negative.
    """
    try:
        period = period_of(body.period)
    except ValueError as error:
        raise InvalidRequest.at("/period", str(error)) from None
    if body.class_ not in reportable:
        raise InvalidRequest.at("/class", "is not reported as disposable plastic")
    if body.mass_g is not None and body.mass_kg is None:
        pointer, mass_g = "/mass_g", Decimal(body.mass_g)
    elif body.mass_kg is not None and body.mass_g is None:
        pointer, mass_g = "/mass_kg", Decimal(body.mass_kg) * GRAMS_PER_KG
    else:
        raise InvalidRequest.at("/mass_g", "exactly one of mass_g and mass_kg is needed")
    if mass_g < 0 and body.corrects is None:
        raise InvalidRequest.at(pointer, "may be negative only where corrects names the row that it is taken back from")
    units = -body.units if body.units is not None and mass_g < 0 else body.units
    return Content(
        period=period, class_=body.class_, kind=body.kind, mass_g=mass_g, units=units, merchant=body.merchant, note=body.note,
        corrects=body.corrects,
    )  # fmt: skip


class Book:
    """A platform's rows as they stand, and the entries that more rows make.

    `current`: the newest entry of each row that is named, and of each that corrects a named one. `lines`: by half-year the classes and
    merchants that have entries. `closed`: half-years.
    """

    def __init__(
        self, current: Iterable[Entry], *, lines: Iterable[tuple[str, str, str | None]], closed: Iterable[str], today: date
    ) -> None:
        self.entries: list[Entry] = []
        """What is to be written."""
        self._current = {entry.row: entry for entry in current}
        self._correcting: dict[str, set[str]] = defaultdict(set)
        for entry in self._current.values():
            self._correcting[entry.content.corrects or ""].add(entry.row)
        self._lines: dict[str, set[tuple[str, str | None]]] = defaultdict(set)
        for half, class_, merchant in lines:
            self._lines[half].add((class_, merchant))
        self._closed = frozenset(closed)
        self._today = today

    def take(self, row: str, content: Content) -> Literal["created", "updated", "unchanged"]:
        """Enter what a row says. Raises InvalidState (a closed period), InvalidRequest; then nothing is entered."""
        before = self._current.get(row)
        if before is not None and before.content == content:
            return "unchanged"
        for half in (content.period.half, content.period.half if before is None else before.content.period.half):
            if half in self._closed:
                detail = f"{half} is closed: send a row of an open period that says what it corrects"
                raise InvalidState(detail, InvalidRequest.at("/period", detail).errors)
        if content.period.first > self._today:
            raise InvalidRequest.at("/period", "has not begun")
        if content.corrects is not None:
            self._check_correction(row, content, content.corrects)
        lines, line = self._lines[content.period.half], (content.class_, content.merchant)
        if line not in lines and len(lines) >= MAX_PLASTIC_LINES:
            raise InvalidRequest.at("/merchant", f"would be more than {MAX_PLASTIC_LINES:,} classes and merchants in {content.period.half}")
        lines.add(line)
        entry = Entry(row=row, revision=1 if before is None else before.revision + 1, content=content)
        self.entries += [entry] if before is None else [before.reversed(), entry]
        self._current[row] = entry
        if before is not None:
            self._correcting[before.content.corrects or ""].discard(row)
        self._correcting[content.corrects or ""].add(row)
        return "created" if before is None else "updated"

    def _check_correction(self, row: str, content: Content, corrects: str) -> None:
        corrected = self._current.get(corrects)
        if corrected is None:
            raise InvalidRequest.at("/corrects", "is no row of this platform")
        if corrected.content.period.half not in self._closed:
            raise InvalidRequest.at("/corrects", "is a row of an open period: send it again under its own id")
        if content.mass_g >= 0:
            return
        if any(getattr(corrected.content, name) != getattr(content, name) for name in ("class_", "kind", "merchant")):
            raise InvalidRequest.at("/corrects", "has another class, kind or merchant: this cannot be taken back from it")
        others = (self._current[other].content.mass_g for other in self._correcting[corrects] if other != row)
        left = corrected.content.mass_g + sum(mass_g for mass_g in others if mass_g < 0)
        if left + content.mass_g < 0:
            raise InvalidRequest.at("/corrects", f"has {grams(left)} g left: more cannot be taken back")


# The report ----------------------------------------------------------------------------------------------


class Sum(Struct, frozen=True, kw_only=True):
    """All entries of one platform, class and merchant, in grams."""

    platform: str
    class_: str
    merchant: str | None
    used_g: Decimal
    collected_g: Decimal


def make_report(
    sums: Sequence[Sum], avoided_g: Mapping[str, Decimal], *, period: Period, time_zone: str, closed_at: datetime | None
) -> PlasticsReport:
    """The report on a half-year. Platforms by code, lines by class and merchant (none first); lines that come to nothing are left out."""
    by_platform: dict[str, list[Sum]] = {code: [] for code in sorted({s.platform for s in sums} | avoided_g.keys())}
    for s in sums:
        by_platform[s.platform].append(s)
    return PlasticsReport(
        period=period.half, from_=period.first, to=period.last, time_zone=time_zone, status="open" if closed_at is None else "closed",
        closed_at=closed_at, platforms=[_platform(code, of, avoided_g.get(code, Decimal())) for code, of in by_platform.items()],
        totals=_totals(sums, sum(avoided_g.values(), Decimal())),
    )  # fmt: skip


def _platform(code: str, sums: list[Sum], avoided_g: Decimal) -> PlatformPlastics:
    lines = [
        PlasticLine(
            class_=s.class_, merchant=s.merchant, used_g=grams(s.used_g), collected_g=grams(s.collected_g),
            difference_g=grams(s.used_g - s.collected_g),
        )
        for s in sorted(sums, key=lambda s: (s.class_, s.merchant or ""))
        if s.used_g or s.collected_g
    ]  # fmt: skip
    totals = _totals(sums, avoided_g)
    return PlatformPlastics(
        platform=code, lines=lines, used_g=totals.used_g, collected_g=totals.collected_g, avoided_g=totals.avoided_g,
        difference_g=totals.difference_g,
    )  # fmt: skip


def _totals(sums: Iterable[Sum], avoided_g: Decimal) -> PlasticTotals:
    used_g = collected_g = Decimal()
    for s in sums:
        used_g, collected_g = used_g + s.used_g, collected_g + s.collected_g
    return PlasticTotals(
        used_g=grams(used_g), collected_g=grams(collected_g), avoided_g=grams(avoided_g), difference_g=grams(used_g - collected_g)
    )


def grams(mass: Decimal) -> str:
    """A mass without needless zeros: `12.5`, `1000`, `0`."""
    text = f"{mass:f}" if mass else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text


def as_json(report: PlasticsReport) -> bytes:
    """Bytes that follow from the values alone."""
    return msgspec.json.encode(report)


def as_csv(report: PlasticsReport) -> bytes:
    """A row for each line, each platform and the whole, told apart by `level`: `line`, `platform`, `total`.

    What a spreadsheet would take for a formula gets an apostrophe in front (OWASP, CSV injection).
    """
    out = io.StringIO(newline="")
    write = csv.writer(out).writerow
    write(CSV_COLUMNS)
    for p in report.platforms:
        for line in p.lines:
            where = ("line", p.platform, line.class_, _harmless(line.merchant or ""))
            write((report.period, *where, line.used_g, line.collected_g, "", line.difference_g))
        write((report.period, "platform", p.platform, "", "", p.used_g, p.collected_g, p.avoided_g, p.difference_g))
    t = report.totals
    write((report.period, "total", "", "", "", t.used_g, t.collected_g, t.avoided_g, t.difference_g))
    return out.getvalue().encode()


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text

"""SQL of the plastics ledger. Entries, periods and reports are only ever added; PostgreSQL refuses anything else."""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Final, Literal

from asyncpg import Record
from msgspec import Struct

from schemas.plastics import PlasticEntry
from service.domain.plastics import Content, Entry, Period, Sum, grams
from service.store.connection import Connection

Format = Literal["json", "csv"]
WHOLE_PROGRAM: Final = 0
"""In place of a platform."""

# Entries -------------------------------------------------------------------------------------------------

CURRENT: Final = """
SELECT DISTINCT ON (row_id) row_id, revision, half, first_day, last_day, class, kind, mass_g, units, merchant, note, corrects
  FROM plastic_entry
 WHERE platform = $1 AND NOT reversal
   AND row_id IN (SELECT unnest($2::text[]) UNION SELECT row_id FROM plastic_entry WHERE platform = $1 AND corrects = ANY($2::text[]))
 ORDER BY row_id, revision DESC
"""


async def current_entries(conn: Connection, *, platform: int, rows: Sequence[str]) -> list[Entry]:
    """The newest entry of each of a platform's rows that is named, and of each that has ever corrected a named one."""
    return [
        Entry(
            row=r["row_id"],
            revision=r["revision"],
            content=Content(
                period=Period(r["half"], r["first_day"], r["last_day"]), class_=r["class"], kind=r["kind"], mass_g=r["mass_g"],
                units=r["units"], merchant=r["merchant"], note=r["note"], corrects=r["corrects"],
            ),
        )
        for r in await conn.fetch(CURRENT, platform, rows)
    ]  # fmt: skip


LINES: Final = "SELECT DISTINCT half, class, merchant FROM plastic_entry WHERE program = $1 AND half = ANY($2::text[]) AND platform = $3"


async def lines(conn: Connection, *, program: int, platform: int, halves: Sequence[str]) -> list[tuple[str, str, str | None]]:
    """Half-year, class and merchant of a platform's entries, each once."""
    return [(r["half"], r["class"], r["merchant"]) for r in await conn.fetch(LINES, program, halves, platform)]


INSERT: Final = """
INSERT INTO plastic_entry (
    program, platform, row_id, revision, reversal, half, first_day, last_day, class, kind, mass_g, units, merchant, note, corrects, actor
)
SELECT $1, $2, w.row_id, w.revision, w.reversal, w.half, w.first_day, w.last_day, w.class, w.kind, w.mass_g, w.units, w.merchant, w.note,
       w.corrects, $3
FROM unnest(
    $4::text[], $5::integer[], $6::boolean[], $7::text[], $8::date[], $9::date[], $10::text[], $11::text[], $12::numeric[], $13::bigint[],
    $14::text[], $15::text[], $16::text[]
) WITH ORDINALITY AS w (
    row_id, revision, reversal, half, first_day, last_day, class, kind, mass_g, units, merchant, note, corrects, n
)
ORDER BY w.n
"""


async def insert_entries(conn: Connection, entries: Sequence[Entry], *, program: int, platform: int, actor: str) -> None:
    """Add entries in this order."""
    contents = [entry.content for entry in entries]
    await conn.execute(
        INSERT, program, platform, actor, [e.row for e in entries], [e.revision for e in entries], [e.reversal for e in entries],
        [c.period.half for c in contents], [c.period.first for c in contents], [c.period.last for c in contents],
        [c.class_ for c in contents], [c.kind for c in contents], [c.mass_g for c in contents], [c.units for c in contents],
        [c.merchant for c in contents], [c.note for c in contents], [c.corrects for c in contents],
    )  # fmt: skip


class NumberedEntry(Struct, frozen=True, kw_only=True):
    """An entry and its place in the ledger."""

    number: int
    entry: PlasticEntry


PAGE: Final = """
SELECT e.number, p.code AS platform, e.row_id, e.revision, e.reversal, e.half, e.first_day, e.last_day, e.class, e.kind, e.mass_g, e.units,
       e.merchant, e.note, e.corrects, e.at
  FROM plastic_entry e JOIN platform p ON p.id = e.platform
 WHERE e.program = $1 AND e.number > $2 AND ($3::text IS NULL OR p.code = $3) AND ($4::text IS NULL OR e.half = $4)
   AND ($5::text IS NULL OR e.row_id = $5)
 ORDER BY e.number
 LIMIT $6
"""


async def page(
    conn: Connection, *, program: int, after: int, platform: str | None, half: str | None, row: str | None, limit: int
) -> list[NumberedEntry]:
    """At most `limit` entries of a program with numbers above `after`, in the order in which they were made."""
    return [
        NumberedEntry(
            number=r["number"],
            entry=PlasticEntry(
                platform=r["platform"], id=r["row_id"], revision=r["revision"], reversal=r["reversal"], period=r["half"],
                from_=r["first_day"], to=r["last_day"], class_=r["class"], kind=r["kind"], mass_g=grams(r["mass_g"]), units=r["units"],
                merchant=r["merchant"], note=r["note"], corrects=r["corrects"], at=r["at"],
            ),
        )
        for r in await conn.fetch(PAGE, program, after, platform, half, row, limit)
    ]  # fmt: skip


# The report ----------------------------------------------------------------------------------------------

SUMS: Final = """
SELECT p.code AS platform, e.class, e.merchant, coalesce(sum(e.mass_g) FILTER (WHERE e.kind = 'used'), 0) AS used_g,
       coalesce(sum(e.mass_g) FILTER (WHERE e.kind = 'collected'), 0) AS collected_g
  FROM plastic_entry e JOIN platform p ON p.id = e.platform
 WHERE e.program = $1 AND e.half = $2 AND ($3::integer IS NULL OR e.platform = $3)
 GROUP BY p.code, e.class, e.merchant
"""


async def sums(conn: Connection, *, program: int, half: str, platform: int | None) -> list[Sum]:
    """What the entries of a half-year come to, of one platform or (None) of all, in no particular order."""
    return [
        Sum(platform=r["platform"], class_=r["class"], merchant=r["merchant"], used_g=r["used_g"], collected_g=r["collected_g"])
        for r in await conn.fetch(SUMS, program, half, platform)
    ]


# What was collected for recycling is recorded in grams, too, but was not avoided. A part of the points makes no part of a parcel: an award
# counts in full until all of it is taken back.
AVOIDED: Final = """
SELECT p.code AS platform, sum(a.plastic_g) AS avoided_g
  FROM award a JOIN platform p ON p.id = a.platform
 WHERE a.program = $1 AND a.impact IS NOT NULL AND a.day BETWEEN $2 AND $3 AND a.reversed < a.points
   AND NOT starts_with(a.impact::json ->> 'factor', 'mass.collected') AND ($4::integer IS NULL OR a.platform = $4)
 GROUP BY p.code
"""


async def avoided(conn: Connection, *, program: int, first: date, last: date, platform: int | None) -> dict[str, Decimal]:
    """Grams of plastic that awards of these days record as avoided, without those that were taken back, by the platform's code."""
    return {r["platform"]: r["avoided_g"] for r in await conn.fetch(AVOIDED, program, first, last, platform)}


# Periods -------------------------------------------------------------------------------------------------

CLOSED: Final = "SELECT half, closed_at FROM plastic_period WHERE program = $1 AND half = ANY($2::text[])"


async def closed(conn: Connection, *, program: int, halves: Sequence[str]) -> dict[str, datetime]:
    """Those of these half-years that are closed, and since when."""
    return {r["half"]: r["closed_at"] for r in await conn.fetch(CLOSED, program, halves)}


HAS_ENTRIES: Final = "SELECT EXISTS (SELECT 1 FROM plastic_entry WHERE program = $1 AND half = $2)"


async def has_entries(conn: Connection, *, program: int, half: str) -> bool:
    """Whether anything was reported of a half-year."""
    return bool(await conn.fetchval(HAS_ENTRIES, program, half))


CLOSE: Final = "INSERT INTO plastic_period (program, half, closed_by) VALUES ($1, $2, $3) RETURNING closed_at"


async def close(conn: Connection, *, program: int, half: str, actor: str) -> datetime:
    """Close a half-year that is open."""
    closed_at: datetime = await conn.fetchval(CLOSE, program, half, actor)
    return closed_at


PLATFORMS: Final = "SELECT id, code FROM platform WHERE program = $1 ORDER BY id"


async def platforms(conn: Connection, *, program: int) -> dict[int, str]:
    """Codes of a program's platforms by their ids."""
    return {r["id"]: r["code"] for r in await conn.fetch(PLATFORMS, program)}


FREEZE: Final = """
INSERT INTO plastic_report (program, half, platform, format, body, sha256)
SELECT $1, $2, w.platform, w.format, w.body, sha256(w.body) FROM unnest($3::integer[], $4::text[], $5::bytea[]) AS w (platform, format, body)
"""


async def freeze(conn: Connection, reports: Sequence[tuple[int, Format, bytes]], *, program: int, half: str) -> None:
    """Keep the bytes of a closed half-year's reports: (platform, format, bytes)."""
    await conn.execute(FREEZE, program, half, [r[0] for r in reports], [r[1] for r in reports], [r[2] for r in reports])


FROZEN: Final = "SELECT body FROM plastic_report WHERE program = $1 AND half = $2 AND platform = $3 AND format = $4"


async def frozen(conn: Connection, *, program: int, half: str, platform: int, format_: Format) -> bytes | None:
    """The bytes of a closed half-year's report; None: it is open, or the platform came later."""
    found: bytes | None = await conn.fetchval(FROZEN, program, half, platform, format_)
    return found


HASHES: Final = "SELECT format, encode(sha256, 'hex') AS sha256 FROM plastic_report WHERE program = $1 AND half = $2 AND platform = $3"


async def hashes(conn: Connection, *, program: int, half: str) -> dict[str, str]:
    """SHA-256 of the reports on the whole program, in hexadecimal, by format."""
    found: list[Record] = await conn.fetch(HASHES, program, half, WHOLE_PROGRAM)
    return {r["format"]: r["sha256"] for r in found}

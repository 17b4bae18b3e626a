"""Impact factors of programs, and sums of what awards recorded by factors."""

from datetime import date, datetime
from typing import Final

from msgspec import Struct

from service.store.connection import Connection


class FactorRow(Struct, frozen=True, kw_only=True):
    """One version of a program's factor; `body` is JSON of schemas.impact.FactorBody."""

    id: str
    version: int
    effective_from: datetime
    created_at: datetime
    created_by: str
    body: str


INSERT: Final = """
INSERT INTO impact_factor (program, id, version, effective_from, body, created_by)
VALUES ($1, $2, $3, coalesce($4, clock_timestamp()), $5, $6)
"""
NEWEST: Final = """
SELECT DISTINCT ON (id) id, version, effective_from, created_at, created_by, body FROM impact_factor WHERE program = $1 ORDER BY id, version DESC
"""
VERSIONS: Final = """
SELECT id, version, effective_from, created_at, created_by, body FROM impact_factor WHERE program = $1 AND id = $2 ORDER BY version DESC
"""
COUNT: Final = "SELECT count(*) FROM impact_factor WHERE program = $1"

# `day` and the partial index award_impact find the awards; only they are looked at, whatever else was awarded.
GROUPS: Final = """
SELECT r.factor, r.version, r.vintage, r.method, r.region, r.source, count(*) AS awards,
       count(*) FILTER (WHERE r.co2e_g ->> 'central' IS NULL) AS awards_without_central,
       coalesce(sum(r.mass_g), 0)::numeric AS mass_g, sum(r.plastic_g)::numeric AS plastic_g,
       sum((r.co2e_g ->> 'low')::bigint) AS low, sum((r.co2e_g ->> 'central')::bigint) AS central, sum((r.co2e_g ->> 'high')::bigint) AS high
  FROM award w
 CROSS JOIN LATERAL json_to_record(w.impact::json)
       AS r (factor text, version integer, vintage integer, method text, region text, source text, co2e_g json, plastic_g bigint, mass_g bigint)
 WHERE w.program = $1 AND w.impact IS NOT NULL AND w.day >= $2 AND w.day < $3 AND w.reversed < w.points
   AND ($4::integer IS NULL OR w.campaign = $4) AND ($5::integer IS NULL OR w.platform = $5)
 GROUP BY 1, 2, 3, 4, 5, 6
 ORDER BY r.factor, r.version, r.method
"""


async def insert(
    conn: Connection, *, program: int, id_: str, version: int, effective_from: datetime | None, body: str, created_by: str
) -> None:
    """A version; `effective_from` None: from now on (not from the transaction's start: it waited for a lock)."""
    await conn.execute(INSERT, program, id_, version, effective_from, body, created_by)


async def newest(conn: Connection, program: int) -> dict[str, FactorRow]:
    """The newest version of each of the program's own factors, by id."""
    return {row["id"]: FactorRow(**row) for row in await conn.fetch(NEWEST, program)}


async def versions(conn: Connection, *, program: int, id_: str) -> list[FactorRow]:
    """All versions of one of the program's own factors, newest first."""
    return [FactorRow(**row) for row in await conn.fetch(VERSIONS, program, id_)]


async def count(conn: Connection, program: int) -> int:
    """How many versions of factors the program has."""
    found: int = await conn.fetchval(COUNT, program)
    return found


class Group(Struct, frozen=True, kw_only=True):
    """Sums of the awards of one factor, version and method; CO2e None where no award has such a number."""

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
    low: int | None
    central: int | None
    high: int | None


_SUMS: Final = ("mass_g", "plastic_g", "low", "central", "high")


async def groups(conn: Connection, *, program: int, from_: date, to: date, campaign: int | None, platform: int | None) -> list[Group]:
    """What awards of things that occurred in the local days [from_, to) recorded; those that were taken back in full are left out."""
    rows = await conn.fetch(GROUPS, program, from_, to, campaign, platform)
    return [Group(**(dict(row) | {name: None if row[name] is None else int(row[name]) for name in _SUMS})) for row in rows]

"""SQL of points policies."""

from datetime import datetime
from typing import Final

from msgspec import Struct

from service.domain.points_policy import PointsPolicies, PolicyVersion, compile_policy
from service.store.connection import Connection

VERSIONS: Final = "SELECT program, version, effective_from, body FROM points_policy ORDER BY program, version"
OF_PROGRAM: Final = "SELECT version, effective_from, body FROM points_policy WHERE program = $1 ORDER BY version"


async def by_program(connection: Connection) -> dict[int, PointsPolicies]:
    """All versions of every program that has any."""
    found: dict[int, list[PolicyVersion]] = {}
    for row in await connection.fetch(VERSIONS):
        found.setdefault(row["program"], []).append(compile_policy(row["version"], row["effective_from"], row["body"]))
    return {program: PointsPolicies(tuple(versions)) for program, versions in found.items()}


async def of_program(connection: Connection, program: int) -> PointsPolicies:
    """All versions of one program."""
    rows = await connection.fetch(OF_PROGRAM, program)
    return PointsPolicies(tuple(compile_policy(row["version"], row["effective_from"], row["body"]) for row in rows))


class Saved(Struct, frozen=True, kw_only=True):
    """A version as it was saved; `body` is JSON of schemas.points_policy.PointsPolicy."""

    version: int
    effective_from: datetime
    body: str
    created_by: str
    created_at: datetime


PAGE: Final = """
SELECT version, effective_from, body, created_by, created_at FROM points_policy
WHERE program = $1 AND version < $2 ORDER BY version DESC LIMIT $3
"""


async def page(connection: Connection, program: int, *, before: int, limit: int) -> list[Saved]:
    """A program's versions, newest first."""
    return [Saved(**row) for row in await connection.fetch(PAGE, program, before, limit)]


# The clock of this moment, not of the transaction's beginning: it may have waited for the catalogue lock longer than EFFECT_AFTER_S.
INSERT: Final = """
INSERT INTO points_policy (program, version, effective_from, body, created_by)
VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3), $4, $5) RETURNING effective_from
"""


async def insert(connection: Connection, program: int, *, version: int, after_s: float, body: str, created_by: str) -> datetime:
    """A new version; returns when it begins to count. The caller holds the catalogue lock and raises the catalogue's version."""
    effective_from: datetime = await connection.fetchval(INSERT, program, version, after_s, body, created_by)
    return effective_from


NOW: Final = "SELECT clock_timestamp()"


async def now(connection: Connection) -> datetime:
    """PostgreSQL's time at this moment."""
    found: datetime = await connection.fetchval(NOW)
    return found

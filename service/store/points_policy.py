"""SQL of points policies."""

from typing import Final

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

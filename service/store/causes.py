"""SQL of public-welfare causes and of what was given to them."""

from datetime import datetime
from typing import Final

from msgspec import Struct

from service.store.connection import Connection


class CauseRow(Struct, frozen=True, kw_only=True):
    """A cause and what was given to it, less what was refunded."""

    id: int
    code: str
    name: str
    description: str
    url: str | None
    active: bool
    created_at: datetime
    points: int
    donations: int


_SHOWN: Final = """
SELECT c.id, c.code, c.name, c.description, c.url, c.active, c.created_at, t.points, t.donations
FROM cause c
CROSS JOIN LATERAL (
    SELECT coalesce(sum(s.points), 0)::bigint AS points, coalesce(sum(s.donations), 0)::bigint AS donations
    FROM cause_total s WHERE s.cause = c.id
) t
"""
GET: Final = f"{_SHOWN} WHERE c.program = $1 AND c.code = $2"
PAGE: Final = f"{_SHOWN} WHERE c.program = $1 AND c.code > $2 AND (c.active OR NOT $3) ORDER BY c.code LIMIT $4"
FIND: Final = "SELECT id, active FROM cause WHERE program = $1 AND code = $2"
FOR_CHANGE: Final = "SELECT FROM cause WHERE program = $1 AND code = $2 FOR NO KEY UPDATE"
INSERT: Final = """
INSERT INTO cause (program, code, name, description, url, active) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (program, code) DO NOTHING
RETURNING id
"""
UPDATE: Final = "UPDATE cause SET name = $3, description = $4, url = $5, active = $6 WHERE program = $1 AND code = $2"
STRIPES: Final = 64
"""Rows of one cause, at most: writers are numbered at random, and far more of them come and go."""
COUNT: Final = """
INSERT INTO cause_total AS t (cause, stripe, points, donations) VALUES ($1, $2, $3, $4)
ON CONFLICT (cause, stripe) DO UPDATE SET points = t.points + excluded.points, donations = t.donations + excluded.donations
"""


async def get(conn: Connection, *, program: int, code: str) -> CauseRow | None:
    """One cause of the program."""
    row = await conn.fetchrow(GET, program, code)
    return None if row is None else CauseRow(**row)


async def page(conn: Connection, *, program: int, after: str, only_active: bool, limit: int) -> list[CauseRow]:
    """At most `limit` causes with codes above `after`."""
    return [CauseRow(**row) for row in await conn.fetch(PAGE, program, after, only_active, limit)]


async def find(conn: Connection, *, program: int, code: str) -> tuple[int, bool] | None:
    """A cause's number, and whether it takes points."""
    row = await conn.fetchrow(FIND, program, code)
    return None if row is None else (row["id"], row["active"])


async def for_change(conn: Connection, *, program: int, code: str) -> bool:
    """Lock a cause until the transaction ends; False: there is none. Read it in a later statement."""
    return await conn.fetchrow(FOR_CHANGE, program, code) is not None


async def insert(
    conn: Connection, *, program: int, code: str, name: str, description: str, url: str | None, active: bool
) -> bool:  # fmt: skip
    """A new cause; False: the code is taken."""
    return await conn.fetchval(INSERT, program, code, name, description, url, active) is not None


async def update(conn: Connection, *, program: int, code: str, name: str, description: str, url: str | None, active: bool) -> None:
    """Change a cause that is locked."""
    await conn.execute(UPDATE, program, code, name, description, url, active)


async def count(conn: Connection, *, cause: int, points: int, donations: int, stripe: int) -> None:
    """Add to what was given to a cause; negative: take off."""
    await conn.execute(COUNT, cause, stripe % STRIPES, points, donations)

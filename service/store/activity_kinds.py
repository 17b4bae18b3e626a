"""A program's own kinds of activities."""

from typing import Final

import msgspec
from asyncpg import Record

from schemas.activities import ActivityKindBody, ClaimRule
from service.domain.activities import ActivityKind, own_kind
from service.store.connection import Connection

GET: Final = "SELECT code, name, schema, claim, active FROM activity_kind WHERE program = $1 AND code = $2"
OF_PROGRAM: Final = "SELECT code, name, schema, claim, active FROM activity_kind WHERE program = $1"
ALL: Final = "SELECT program, code, name, schema, claim, active FROM activity_kind"
COUNT: Final = "SELECT count(*) FROM activity_kind WHERE program = $1"
INSERT: Final = "INSERT INTO activity_kind (program, code, name, schema, claim) VALUES ($1, $2, $3, $4, $5)"
UPDATE: Final = "UPDATE activity_kind SET name = $3, schema = $4, active = $5 WHERE program = $1 AND code = $2"


async def get(conn: Connection, *, program: int, code: str) -> ActivityKind | None:
    """One kind of the program's own, retired or not."""
    row = await conn.fetchrow(GET, program, code)
    return None if row is None else _kind(row)


async def of_program(conn: Connection, program: int) -> dict[str, ActivityKind]:
    """All of the program's own, by code."""
    return {row["code"]: _kind(row) for row in await conn.fetch(OF_PROGRAM, program)}


async def by_program(conn: Connection) -> dict[int, dict[str, ActivityKind]]:
    """Those of every program that has any."""
    found: dict[int, dict[str, ActivityKind]] = {}
    for row in await conn.fetch(ALL):
        found.setdefault(row["program"], {})[row["code"]] = _kind(row)
    return found


async def count(conn: Connection, program: int) -> int:
    """How many kinds of its own the program has."""
    found: int = await conn.fetchval(COUNT, program)
    return found


async def insert(conn: Connection, body: ActivityKindBody, *, program: int) -> None:
    """A new kind. The caller holds the catalogue lock and knows that the code is free."""
    claim = None if body.claim is None else _text(body.claim)
    await conn.execute(INSERT, program, body.code, body.name, _text(body.schema), claim)


async def update(conn: Connection, changed: ActivityKindBody, *, program: int, active: bool) -> None:
    """What of a kind can change."""
    await conn.execute(UPDATE, program, changed.code, changed.name, _text(changed.schema), active)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _kind(row: Record) -> ActivityKind:
    claim = None if row["claim"] is None else msgspec.json.decode(row["claim"], type=ClaimRule)
    body = ActivityKindBody(code=row["code"], name=row["name"], schema=msgspec.json.decode(row["schema"]), claim=claim)
    return own_kind(body, active=row["active"])

"""A program's own packaging classes."""

from typing import Final

import msgspec
from asyncpg import Record

from schemas.packaging_classes import PackagingClassBody
from service.domain.packaging import PackagingClass
from service.store.connection import Connection

_COLUMNS: Final = (
    "code, class_group, name_en, name_zh, description, needs_asset, evidence, contains_plastic, reportable, baseline, caveat, active"
)
GET: Final = f"SELECT {_COLUMNS} FROM packaging_class WHERE program = $1 AND code = $2"
OF_PROGRAM: Final = f"SELECT {_COLUMNS} FROM packaging_class WHERE program = $1"
ALL: Final = f"SELECT program, {_COLUMNS} FROM packaging_class"
COUNT: Final = "SELECT count(*) FROM packaging_class WHERE program = $1"
INSERT: Final = f"""
INSERT INTO packaging_class (program, {_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""
UPDATE: Final = """
UPDATE packaging_class
   SET name_en = $3, name_zh = $4, description = $5, evidence = $6, contains_plastic = $7, reportable = $8, baseline = $9, caveat = $10,
       active = $11
 WHERE program = $1 AND code = $2
"""


async def get(conn: Connection, *, program: int, code: str) -> PackagingClass | None:
    """One class of the program's own, retired or not."""
    row = await conn.fetchrow(GET, program, code)
    return None if row is None else _class(row)


async def of_program(conn: Connection, program: int) -> dict[str, PackagingClass]:
    """All of the program's own, by code."""
    return {row["code"]: _class(row) for row in await conn.fetch(OF_PROGRAM, program)}


async def by_program(conn: Connection) -> dict[int, dict[str, PackagingClass]]:
    """Those of every program that has any."""
    found: dict[int, dict[str, PackagingClass]] = {}
    for row in await conn.fetch(ALL):
        found.setdefault(row["program"], {})[row["code"]] = _class(row)
    return found


async def count(conn: Connection, program: int) -> int:
    """How many classes of its own the program has."""
    found: int = await conn.fetchval(COUNT, program)
    return found


async def insert(conn: Connection, body: PackagingClassBody, *, program: int) -> None:
    """A new class. The caller holds the catalogue lock and knows that the code is free."""
    await conn.execute(
        INSERT, program, body.code, body.group, body.name_en, body.name_zh, body.description, body.needs_asset, body.evidence,
        body.contains_plastic, body.reportable, body.baseline, body.caveat, True,  # noqa: FBT003 - a column
    )  # fmt: skip


async def update(conn: Connection, changed: PackagingClass, *, program: int) -> None:
    """What of a class can change."""
    await conn.execute(
        UPDATE, program, changed.code, changed.name_en, changed.name_zh, changed.description, list(changed.evidence),
        changed.contains_plastic, changed.reportable, changed.baseline, changed.caveat, changed.active,
    )  # fmt: skip


def _class(row: Record) -> PackagingClass:
    columns = {name: value for name, value in row.items() if name not in ("program", "class_group")}
    return msgspec.convert(columns | {"group": row["class_group"]}, PackagingClass)

"""SQL of versions of fraud models."""

from datetime import datetime
from typing import Final

import msgspec
from asyncpg import Record
from msgspec import Struct
from msgspec.structs import replace

from schemas.fraud_models import ModelState
from service.domain.fraud.model import Model
from service.domain.fraud_models import SHIPPED
from service.store.connection import Connection

_decode = msgspec.json.Decoder(Model).decode


class Active(Struct, frozen=True, kw_only=True):
    """The model that decides, and the one that is asked beside it."""

    running: Model = SHIPPED
    shadow: Model | None = None


ACTIVE: Final = "SELECT version, state, body FROM fraud_model WHERE program = $1 AND state IN ('running', 'shadow')"


async def active(connection: Connection, program: int) -> Active:
    """The models of a program that count now: two rows of an index; without a running version the shipped one."""
    found = {row["state"]: _model(row["version"], row["body"]) for row in await connection.fetch(ACTIVE, program)}
    return Active(running=found.get("running", SHIPPED), shadow=found.get("shadow"))


class Saved(Struct, frozen=True, kw_only=True):
    """A version as it is stored; `report` is JSON of what tuning said. The shipped one was made by nobody, never."""

    model: Model
    state: ModelState
    note: str | None = None
    report: str | None = None
    created_by: int | None = None
    """An operator; None: a command."""
    created_at: datetime | None = None
    changed_at: datetime | None = None


_COLUMNS = "version, body, state, note, report, created_by, created_at, changed_at"
PAGE: Final = f"SELECT {_COLUMNS} FROM fraud_model WHERE program = $1 AND version < $2 ORDER BY version DESC LIMIT $3"
FIND: Final = f"SELECT {_COLUMNS} FROM fraud_model WHERE program = $1 AND version = $2"


async def page(connection: Connection, program: int, *, before: int, limit: int) -> list[Saved]:
    """A program's versions, newest first."""
    return [_saved(row) for row in await connection.fetch(PAGE, program, before, limit)]


async def find(connection: Connection, program: int, version: int) -> Saved | None:
    """One version; None: there is no such version."""
    row = await connection.fetchrow(FIND, program, version)
    return None if row is None else _saved(row)


LAST: Final = "SELECT coalesce(max(version), 0) FROM fraud_model WHERE program = $1"
INSERT: Final = """
INSERT INTO fraud_model (program, version, body, state, note, report, created_by) VALUES ($1, $2, $3, 'draft', $4, $5, $6)
"""


async def last(connection: Connection, program: int) -> int:
    """The newest version; 0: there is none."""
    return int(await connection.fetchval(LAST, program))


async def insert(
    connection: Connection, program: int, model: Model, *, note: str | None, report: str | None, created_by: int | None
) -> None:
    """Save a draft under the model's version. The caller holds `locks.lock_fraud_settings`, so that versions follow each other."""
    await connection.execute(INSERT, program, model.version, msgspec.json.encode(model).decode(), note, report, created_by)


# Two statements: a unique index looks at each row as it is written, and one version leaves a state before another comes into it.
RETIRE: Final = """
UPDATE fraud_model SET state = 'retired', changed_at = now() WHERE program = $1 AND state = $2 AND version <> $3
"""
SET_STATE: Final = "UPDATE fraud_model SET state = $3, changed_at = now() WHERE program = $1 AND version = $2"


async def set_state(connection: Connection, program: int, version: int, state: ModelState) -> None:
    """Give a version a state; what was running or shadow before is retired. Version 0 has no row: that it runs means that none does."""
    if state in ("running", "shadow"):
        await connection.execute(RETIRE, program, state, version)
    await connection.execute(SET_STATE, program, version, state)


def _model(version: int, body: str) -> Model:
    return replace(_decode(body), version=version)


def _saved(row: Record) -> Saved:
    return Saved(
        model=_model(row["version"], row["body"]), state=row["state"], note=row["note"], report=row["report"],
        created_by=row["created_by"], created_at=row["created_at"], changed_at=row["changed_at"],
    )  # fmt: skip

"""Bring a database to the schema of `migrations/`: forward only, one file at a time, each in its own transaction."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import asyncpg
from msgspec import Struct

from service.store import migrations as store
from service.store.connection import Connection

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
"""The files that belong to this code."""

FILE_NAME = re.compile(r"^(?P<number>[0-9]{4})_[a-z0-9_]+\.sql$")

TURN_TIMEOUT_S = 300.0
"""How long to wait for another process that is migrating."""


class MigrationRefused(Exception):
    """The files and the database do not fit; the message is one line that names the file and says what to do."""


class Migration(Struct, frozen=True, kw_only=True):
    """One file of migrations/, as read."""

    name: str
    sha256: str
    sql: str


def read_migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """The files of `folder` in order.

    Raises MigrationRefused for a file that is misnamed or numbered twice, and for an empty or missing folder.
    """
    found = [
        Migration(name=path.name, sha256=hashlib.sha256(content).hexdigest(), sql=content.decode())
        for path in sorted(folder.glob("*.sql"))
        for content in [path.read_bytes()]
    ]
    if not found:
        raise MigrationRefused(f"{folder} holds no migrations: run from a complete checkout")
    numbers: dict[str, str] = {}
    for migration in found:
        match = FILE_NAME.match(migration.name)
        if match is None:
            raise MigrationRefused(f"migrations/{migration.name} is not named NNNN_what_it_does.sql: rename it")
        twin = numbers.setdefault(match["number"], migration.name)
        if twin != migration.name:
            raise MigrationRefused(f"migrations/{migration.name} has the same number as {twin}: give it the next free number")
    return found


def pending(files: Sequence[Migration], applied: Sequence[store.Applied]) -> list[Migration]:
    """What is still to be applied, in order. Pure.

    Raises MigrationRefused when an applied file was changed or is missing, or when a new one would come before an applied one.
    """
    known = {migration.name: migration for migration in files}
    for done in applied:
        file = known.get(done.name)
        if file is None:
            raise MigrationRefused(f"migrations/{done.name} was applied to this database but is missing here: run newer code")
        if file.sha256 != done.sha256:
            raise MigrationRefused(
                f"migrations/{done.name} was changed after it had been applied (SHA-256 {file.sha256[:12]}, recorded {done.sha256[:12]}): "
                "restore the file and write a new migration"
            )
    recorded = {done.name for done in applied}
    newest = max(recorded, default="")
    todo = [migration for migration in files if migration.name not in recorded]
    for migration in todo:
        if migration.name < newest:
            raise MigrationRefused(f"migrations/{migration.name} is out of order, {newest} is applied already: give it the next number")
    return todo


async def migrate(connection: Connection, folder: Path = MIGRATIONS) -> list[str]:
    """Apply what is missing and return the names applied now; safe to repeat and to run from several processes at once.

    Each file runs in its own transaction; what was applied before a failing file stays applied. Raises MigrationRefused, also when a file
    fails or cannot get a lock within 4 s.
    """
    files = read_migrations(folder)
    try:
        await store.lock(connection, timeout_s=TURN_TIMEOUT_S)
    except TimeoutError:
        raise MigrationRefused(f"another process has been migrating this database for {TURN_TIMEOUT_S:.0f} s: try again later") from None
    try:
        await store.create_record(connection)
        done = []
        for migration in pending(files, await store.applied(connection)):
            await _apply(connection, migration)
            done.append(migration.name)
        return done
    finally:
        if not connection.is_closed():
            await store.unlock(connection)


async def missing_migrations(connection: Connection, folder: Path = MIGRATIONS) -> list[str]:
    """The names still to be applied; changes nothing. Raises MigrationRefused as `migrate` does."""
    return [migration.name for migration in pending(read_migrations(folder), await store.applied(connection))]


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await store.apply(connection, name=migration.name, sha256=migration.sha256, sql=migration.sql)
    except asyncpg.LockNotAvailableError as error:
        raise MigrationRefused(
            f"migrations/{migration.name} could not lock a table within {store.LOCK_TIMEOUT}: "
            "nothing of it was applied, try again when it is quieter"
        ) from error
    except asyncpg.PostgresError as error:
        raise MigrationRefused(f"migrations/{migration.name} failed and was rolled back: {error}") from error

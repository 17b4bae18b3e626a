"""Migrations: forward only, checksummed, one process at a time."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from service.flows.migrate import MIGRATIONS, MigrationRefused, migrate, missing_migrations, read_migrations
from service.store import migrations as store
from service.store.connection import Connection


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE first (id int)")
    (tmp_path / "0002_second.sql").write_text("CREATE TABLE second (id int); CREATE TABLE third (id int)")
    return tmp_path


@pytest.fixture
async def empty(empty_database: str) -> AsyncIterator[Connection]:
    opened = await asyncpg.connect(empty_database)
    yield opened
    await opened.close()


async def test_ours_apply_once_and_are_recorded(empty: Connection) -> None:
    names = [migration.name for migration in read_migrations(MIGRATIONS)]
    assert await missing_migrations(empty) == names
    assert await empty.fetchval("SELECT to_regclass('schema_migration')") is None, "a check changes nothing"
    assert await migrate(empty) == names
    assert await migrate(empty) == []
    assert await missing_migrations(empty) == []
    assert [applied.name for applied in await store.applied(empty)] == names


async def test_a_later_file_is_applied_alone(empty: Connection, folder: Path) -> None:
    await migrate(empty, folder)
    (folder / "0003_more.sql").write_text("CREATE TABLE more (id int)")
    assert await migrate(empty, folder) == ["0003_more.sql"]


async def test_a_changed_file_is_refused(empty: Connection, folder: Path) -> None:
    await migrate(empty, folder)
    (folder / "0001_first.sql").write_text("CREATE TABLE first (id bigint)")
    for verb in (migrate, missing_migrations):
        with pytest.raises(MigrationRefused, match=r"^migrations/0001_first.sql was changed .* write a new migration$"):
            await verb(empty, folder)


async def test_a_missing_file_is_refused(empty: Connection, folder: Path) -> None:
    await migrate(empty, folder)
    (folder / "0002_second.sql").unlink()
    with pytest.raises(MigrationRefused, match=r"^migrations/0002_second.sql was applied .* but is missing here"):
        await migrate(empty, folder)


async def test_a_file_out_of_order_is_refused(empty: Connection, folder: Path) -> None:
    (folder / "0001_first.sql").rename(folder / "0003_third.sql")
    await migrate(empty, folder)
    (folder / "0001_late.sql").write_text("SELECT 1")
    with pytest.raises(MigrationRefused, match=r"^migrations/0001_late.sql is out of order, 0003_third.sql"):
        await migrate(empty, folder)


@pytest.mark.parametrize(("name", "reason"), [("0002_other.sql", "same number"), ("second.sql", "not named"), ("3_x.sql", "not named")])
async def test_a_misnamed_file_is_refused(folder: Path, name: str, reason: str) -> None:
    (folder / name).write_text("SELECT 1")
    with pytest.raises(MigrationRefused, match=reason):
        read_migrations(folder)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MigrationRefused, match="holds no migrations"):
        read_migrations(tmp_path)


async def test_a_failing_file_leaves_nothing_of_itself_and_all_before_it(empty: Connection, folder: Path) -> None:
    (folder / "0002_second.sql").write_text("CREATE TABLE second (id int); SELECT 1 / 0")
    with pytest.raises(MigrationRefused, match=r"^migrations/0002_second.sql failed and was rolled back: division by zero$"):
        await migrate(empty, folder)
    assert [applied.name for applied in await store.applied(empty)] == ["0001_first.sql"]
    assert await empty.fetchval("SELECT to_regclass('second')") is None
    (folder / "0002_second.sql").write_text("CREATE TABLE second (id int)")
    assert await migrate(empty, folder) == ["0002_second.sql"], "and the lock was given back"


async def test_a_file_that_cannot_lock_a_table_gives_up(
    empty: Connection, empty_database: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LOCK_TIMEOUT", "50ms")
    await migrate(empty, folder)
    (folder / "0003_alter.sql").write_text("ALTER TABLE first ADD COLUMN more int")
    other = await asyncpg.connect(empty_database)
    async with other.transaction():
        await other.execute("LOCK TABLE first IN ACCESS SHARE MODE")
        with pytest.raises(MigrationRefused, match="could not lock a table within 50ms"):
            await migrate(empty, folder)
    await other.close()
    assert await migrate(empty, folder) == ["0003_alter.sql"]


async def test_many_processes_at_once_apply_each_file_once(empty_database: str) -> None:
    async def one() -> list[str]:
        own = await asyncpg.connect(empty_database)
        try:
            return await migrate(own)
        finally:
            await own.close()

    results = await asyncio.gather(*(one() for _ in range(5)))
    assert sorted(name for names in results for name in names) == [migration.name for migration in read_migrations(MIGRATIONS)]

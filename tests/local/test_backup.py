"""`greenpoints backup` and `restore`: one moment, all or nothing, and nobody goes by what is gone. The runbook is walked by test_runbook.py."""

import asyncio
import hashlib
import itertools
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from schemas.backups import Manifest
from service.api.app import create_app
from service.cli import run
from service.flows import erase
from service.flows.administer import Change
from service.flows.migrate import MIGRATIONS, MigrationRefused, migrate
from service.flows.settle import settle_due
from service.local import restore as restores
from service.local.backup import UnusableBackup, back_up, write_erasures
from service.local.identity import LocalError
from service.local.pg_tools import choose_tools, connection_environment
from service.runtime import open_for_checking
from service.sealing import fingerprints
from service.settings import Settings
from service.store.deployment import begin_history
from tests import books
from tests.load import Shoppers, clean
from tests.sealer import MASTER_KEY
from tests.worlds import World, order_paid

KEYS = fingerprints(MASTER_KEY)


def untold(_done: int, _of: int) -> None:
    pass


@pytest.fixture(autouse=True)
def own_servers(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No command reaches the system of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GREENPOINTS_DATA_DIR", raising=False)
    for name in ("database_url", "balance_redis_url", "queue_redis_url", "master_key"):
        monkeypatch.setenv(f"GREENPOINTS_{name.upper()}", getattr(settings, name))


class Place:
    """A world on the test's own database, whose connections can be closed and opened again."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder / "backup-1"
        self.name = settings.database_url.rpartition("/")[2]
        self.world: World

    async def open(self) -> World:
        pool = await asyncpg.create_pool(self.settings.database_url, min_size=0, max_size=4)
        if hasattr(self, "world"):
            self.world.pool = pool
        else:
            self.world = World(pool)
        return self.world

    async def close(self) -> None:
        await self.world.pool.close()

    async def back_up(self, folder: Path | None = None, *, told: Callable[[int, int], None] = untold) -> Manifest:
        return await back_up(
            folder or self.folder, url=self.settings.database_url, master_keys=KEYS, told=told
        )  # fmt: skip

    async def plan(self, **changes: Any) -> restores.Plan:
        options = {"url": self.settings.database_url, "replace": self.name, "erasures": None, "master_keys": KEYS} | changes
        return await restores.plan(self.folder, other_key=False, verifying=untold, **options)

    async def restore(self, **changes: Any) -> restores.Loaded:
        """With every connection closed before, and open again afterwards."""
        await self.close()
        try:
            chosen = await self.plan(**changes)
            return await restores.load(chosen, url=changes.get("url", self.settings.database_url), loading=untold)
        finally:
            await self.open()

    async def state(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table."""
        tables = [row["name"] for row in await self.world.rows("SELECT relname AS name FROM pg_stat_user_tables ORDER BY 1")]
        return {
            table: sorted([tuple(row.values()) for row in await self.world.rows(f'SELECT * FROM "{table}"')], key=repr) for table in tables
        }

    async def erase(self, reference: str) -> None:
        sender = self.world.platforms["shop"]
        async with self.world.pool.acquire() as conn:
            await erase.erase(
                conn, program=sender.program, platform=sender.platform, code="shop", reference=reference, change=Change(actor="platform:shop")
            )  # fmt: skip


@pytest.fixture
async def place(settings: Settings, tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(settings, tmp_path)
    await (await made.open()).found()
    await made.world.campaign()
    yield made
    await made.close()


async def names(world: World) -> list[str]:
    return [row["reference"] for row in await world.rows("SELECT reference FROM consumer_reference ORDER BY 1")]


# One moment ---------------------------------------------------------------------------------------------


async def test_a_backup_under_load_is_one_moment(place: Place, empty_database: str) -> None:
    app = create_app(place.settings)
    async with app.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        shoppers = Shoppers(place.world, client)
        async with shoppers.shopping() as journal:
            while len(journal.answers) < 50:
                await asyncio.sleep(0.02)
            before = set(journal.answers)
            manifest = await place.back_up()
            at_its_end = len(journal.answers)
            while len(journal.answers) < at_its_end + 20:
                await asyncio.sleep(0.02)
    late = await place.world.rows("SELECT count(*) AS n FROM event WHERE received_at < $1", manifest.complete_until)
    await place.restore(url=empty_database, replace=None)
    there = Place(place.settings, place.folder)
    there.world = World(await asyncpg.create_pool(empty_database, min_size=0, max_size=4))
    stored = {row["id"] for row in await there.world.rows("SELECT id FROM event")}
    assert before <= stored < set(journal.answers)
    assert len(stored) == manifest.rows["event"]
    assert (await there.world.rows("SELECT count(*) AS n FROM event WHERE received_at < $1", manifest.complete_until)) == late
    async with there.world.pool.acquire() as conn:
        assert await books.faults(conn) == {}
    chosen = Settings(database_url=empty_database, balance_redis_url=place.settings.balance_redis_url, queue_redis_url="redis://")
    async with open_for_checking(chosen, connections=3, name="test") as (pool, projection):
        await clean(World(pool), projection)
    await there.close()


async def test_what_redis_and_processes_remember_is_of_another_history(place: Place) -> None:
    async def ask(*reports: dict[str, Any]) -> dict[str, int]:
        """A fresh process reports events, and then reads balances, from Redis where that has them."""
        app, auth = create_app(place.settings), {"Authorization": f"Bearer {place.world.keys['shop']}"}
        async with (
            app.lifespan(),
            httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test", headers=auth) as client,
        ):
            for event in reports:
                assert (await client.post("/v1/events", json=event)).status_code == 201
            answers = {name: await client.get(f"/v1/consumers/{name}/balance") for name in ("c", "newcomer")}
            return {name: answer.json()["pending"] for name, answer in answers.items() if answer.status_code == 200}

    kept, lost, newcomer = order_paid("c", quantity=1), order_paid("c", quantity=2), order_paid("newcomer", quantity=3)
    before = await ask(kept)
    await place.back_up()
    after = await ask(lost, newcomer)
    assert (before, after) == ({"c": 10}, {"c": 30, "newcomer": 30})
    await place.world.credit(newcomer)  # a process that works all the time, and remembers the newcomer's account

    epochs = [(await place.restore()).epoch]
    assert await ask() == before
    await place.world.credit(newcomer)
    await place.world.credit(lost)
    rows = await place.world.rows("SELECT r.reference, a.pending FROM consumer_reference r JOIN account a ON a.id = r.account")
    assert {row["reference"]: row["pending"] for row in rows} == after
    # Again from the same backup: what began with the first restore is another history, too.
    epochs.append((await place.restore()).epoch)
    assert await ask() == before
    assert await ask(lost, newcomer) == after
    assert epochs[1] > epochs[0] > 200_000_000
    await clean_books(place)
    audit = await place.world.rows("SELECT actor, after FROM audit WHERE action = 'database.restore'")
    assert [(row["actor"], json.loads(row["after"])["epoch"]) for row in audit] == [("command", epochs[1])]


# All or nothing -----------------------------------------------------------------------------------------

KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from service.local import restore
async def main(folder, url, name):
    def told(done, of): pass
    def die(done, of): os.kill(os.getpid(), signal.SIGKILL)
    plan = await restore.plan(
        Path(folder), url=url, replace=name, erasures=None, master_keys=[], other_key=False, verifying=told)
    await restore.load(plan, url=url, loading=die)
asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_restore_that_is_killed_has_not_happened(place: Place) -> None:
    await place.world.credit(order_paid("c"))
    await place.back_up()
    await place.world.credit(order_paid("later"))
    before = await place.state()
    await place.close()
    words = [sys.executable, "-c", KILLED, str(place.folder), place.settings.database_url, place.name]
    killed = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, timeout=30, check=False)
    assert killed.returncode == -9, killed.stderr
    await place.open()
    while await place.world.rows(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'greenpoints restore'"
    ):
        await asyncio.sleep(0.05)
    assert await place.state() == before
    await place.restore()
    assert await names(place.world) == ["c"]


async def test_a_restore_that_lacks_rows_has_not_happened(place: Place) -> None:
    await place.world.credit(order_paid("c"))
    manifest = await place.back_up()
    before = await place.state()
    more = manifest.rows | {"event": 2}
    (place.folder / "manifest.json").write_text(json.dumps(json.loads((place.folder / "manifest.json").read_text()) | {"rows": more}))
    with pytest.raises(LocalError, match="refused the restore: table event has 1 rows, the manifest says 2; nothing was changed"):
        await place.restore()
    assert await place.state() == before


async def test_a_restore_whose_file_ends_early_has_not_happened(place: Place) -> None:
    await place.world.credit(order_paid("c"))
    await place.back_up()
    before = await place.state()
    dump, manifest = place.folder / "database.dump", place.folder / "manifest.json"
    dump.write_bytes(dump.read_bytes()[:-2_000])
    told = {"bytes": dump.stat().st_size, "sha256": hashlib.sha256(dump.read_bytes()).hexdigest()}
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | told))
    with pytest.raises(LocalError, match=r"pg_restore could not read .*; nothing was changed"):
        await place.restore()
    assert await place.state() == before


async def test_who_connects_at_the_last_moment_is_noticed(place: Place) -> None:
    await place.back_up()
    before = await place.state()
    await place.close()
    chosen = await place.plan()
    await place.open()
    assert await place.state() == before  # connected again
    with pytest.raises(LocalError, match="somebody has connected to the database meanwhile"):
        await restores.load(chosen, url=place.settings.database_url, loading=untold)
    assert await place.state() == before


async def test_nobody_migrates_a_database_that_is_being_restored(place: Place, empty_database: str) -> None:
    await place.back_up()
    await place.close()
    chosen = await place.plan(url=empty_database, replace=None)
    seen: list[str] = []

    def migrate_meanwhile(done: int, _of: int) -> None:
        if not seen:
            words = [sys.executable, "-c", LOCKED, empty_database]
            seen.append(subprocess.run(words, capture_output=True, text=True, timeout=30, check=True).stdout.strip())

    await restores.load(chosen, url=empty_database, loading=migrate_meanwhile)
    assert seen == ["False"]
    await place.open()


LOCKED = """
import asyncio, asyncpg, sys
from service.store.migrations import ADVISORY_LOCK
async def main(url):
    connection = await asyncpg.connect(url)
    print(await connection.fetchval("SELECT pg_try_advisory_lock($1)", ADVISORY_LOCK))
asyncio.run(main(sys.argv[1]))
"""


# What is refused ----------------------------------------------------------------------------------------


def damage(folder: Path, how: str) -> None:
    dump, manifest = folder / "database.dump", folder / "manifest.json"
    content = dump.read_bytes()
    if how == "cut":
        dump.write_bytes(content[:-1])
    elif how == "changed":
        dump.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "gone":
        dump.unlink()
    elif how == "no manifest":
        manifest.unlink()
    elif how == "half a manifest":
        manifest.write_bytes(manifest.read_bytes()[:100])
    else:
        changes: dict[str, Any] = {
            "a later form": {"format": 2},
            "a migration that is not here": {"migrations": [{"name": "9999_later.sql", "sha256": "00"}]},
            "another master key": {"master_keys": ["00"]},
            "a newer server": {"server_version": 990_000},
            "newer programs": {"tool_version": 99},
            "another schema": {"schema": "elsewhere"},
        }[how]
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("cut", "it is not whole"), ("changed", "is not what was backed up"), ("gone", "cannot be read"), ("no manifest", "is not a backup"),
        ("half a manifest", "is damaged"), ("a later form", "this one does not read"), ("a migration that is not here", "run newer code"),
        ("another master key", "--other-master-key"), ("a newer server", "the same version or a later one"),
        ("newer programs", "of PostgreSQL 99 or later are needed"), ("another schema", "'elsewhere'"),
    ],
    ids=lambda value: value if " " not in value or len(value) < 30 else "",
)  # fmt: skip
async def test_what_does_not_fit_is_refused_before_anything_is_touched(place: Place, how: str, words: str) -> None:
    await place.world.credit(order_paid("c"))
    await place.back_up()
    before = await place.state()
    damage(place.folder, how)
    with pytest.raises((LocalError, MigrationRefused)) as refused:
        await place.restore()
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert await place.state() == before


async def test_a_database_that_holds_something_or_is_in_use_is_refused(place: Place) -> None:
    await place.back_up()
    before = await place.state()
    with pytest.raises(LocalError, match=f"the database {place.name} is in use by .*: stop the API"):
        await place.plan()
    with pytest.raises(LocalError, match=f"is not empty: restore into an empty one, or say --replace {place.name}"):
        await place.restore(replace=None)
    with pytest.raises(LocalError, match=f"--replace must name the database that is thrown away, which is {place.name}"):
        await place.restore(replace="another")
    assert await place.state() == before


async def test_a_schema_that_is_older_is_brought_up_to_date(place: Place, empty_database: str, tmp_path: Path) -> None:
    older = tmp_path / "migrations"
    files = sorted(MIGRATIONS.glob("*.sql"))
    older.mkdir()
    for path in files[:-1]:
        shutil.copy(path, older)
    connection = await asyncpg.connect(empty_database)
    await migrate(connection, older)
    await connection.close()
    await back_up(place.folder, url=empty_database, master_keys=[], told=untold)
    assert (await place.restore()).migrated == [files[-1].name]
    await clean_books(place)


async def clean_books(place: Place) -> None:
    async with place.world.pool.acquire() as conn:
        assert await books.faults(conn) == {}


# The files ----------------------------------------------------------------------------------------------


async def test_a_backup_is_its_owners_and_holds_no_key(place: Place) -> None:
    await place.world.credit(order_paid("c"))
    partial = place.folder.with_name("backup-1.partial")
    partial.mkdir()
    (partial / "database.dump").write_text("of a run that was killed")
    await place.back_up()
    assert stat.S_IMODE(place.folder.stat().st_mode) == 0o700
    files = {path.name: path.read_bytes() for path in place.folder.iterdir()}
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.folder.iterdir()} == {0o600}
    assert (sorted(files), partial.exists()) == (["database.dump", "manifest.json"], False)
    tools = choose_tools(at_least=18)
    words = [tools.path("pg_restore"), "--file=-", str(place.folder / "database.dump")]
    script = await asyncio.to_thread(subprocess.run, words, capture_output=True, check=True)
    for secret in (MASTER_KEY, *place.world.keys.values()):
        assert secret.encode() not in script.stdout + files["manifest.json"]
    with pytest.raises(LocalError, match="is there already; nothing is overwritten"):
        await place.back_up()
    other = place.folder.with_name("other.partial")
    other.mkdir()
    (other / "mine").touch()
    with pytest.raises(LocalError, match="cannot be made"):
        await place.back_up(place.folder.with_name("other"))
    assert (other / "mine").exists()


async def test_a_backup_that_was_overtaken_by_a_migration_is_none(place: Place) -> None:
    told: list[int] = []

    def overtake(done: int, _of: int) -> None:
        if not told:
            subprocess.run([sys.executable, "-c", OVERTAKE, place.settings.database_url], check=True, timeout=30)
        told.append(done)

    with pytest.raises(LocalError, match="was migrated meanwhile"):
        await place.back_up(told=overtake)
    assert list(place.folder.parent.glob("backup*")) == []


OVERTAKE = """
import asyncio, asyncpg, sys
async def main(url):
    connection = await asyncpg.connect(url)
    await connection.execute("INSERT INTO schema_migration (name, sha256) VALUES ('9999_later.sql', '00')")
asyncio.run(main(sys.argv[1]))
"""


# Who was erased since -----------------------------------------------------------------------------------


async def test_who_was_erased_since_is_erased_again(place: Place, empty_database: str, tmp_path: Path) -> None:
    world = place.world
    shop = world.platforms["shop"].platform
    for name in ("ada", "bob", "carl"):
        await world.credit(order_paid(name, attributes={"note": f"for {name}"}))
    # A second name of Ada's account on the same platform, which is not erased.
    await world.rows(
        "INSERT INTO consumer_reference (bucket, account, platform, reference) "
        "SELECT bucket, account, platform, 'ada-2' FROM consumer_reference WHERE reference = 'ada'"
    )
    await place.erase("carl")
    await world.credit(order_paid("carl"))  # somebody new, whom nobody has erased
    await place.back_up()
    await world.rows("UPDATE program SET erased_reference = 'refuse'")
    await place.erase("ada")
    await place.erase("bob")
    listed = tmp_path / "erasures.json"
    await write_erasures(listed, url=place.settings.database_url)
    assert stat.S_IMODE(listed.stat().st_mode) == 0o600
    assert not any(name in listed.read_text() for name in ("ada", "bob", "carl"))

    async def forgotten() -> None:
        async with open_for_checking(place.settings, connections=2, name="test") as (_, projection):
            await erase.finish_erasures(place.world.pool, projection)
        assert await names(place.world) == ["ada-2", "carl"]
        facts = "".join(row["facts"] for row in await place.world.rows("SELECT facts FROM event"))
        assert "for bob" not in facts
        assert "for ada" not in facts
        assert len(await place.world.rows("SELECT FROM erased_reference WHERE platform = $1", shop)) == 2
        assert await place.world.rows("SELECT FROM erasure WHERE state = 'running'") == []
        await clean_books(place)

    assert (await place.restore()).erased_again == 2  # as the database that is replaced knows it
    await forgotten()
    assert (await place.restore(replace=place.name)).erased_again == 2  # as that one knows it in turn
    await forgotten()
    await place.close()
    chosen = await place.plan(url=empty_database, replace=None, erasures=listed)
    assert (await restores.load(chosen, url=empty_database, loading=untold)).erased_again == 2  # as the list knows it
    place.world.pool = await asyncpg.create_pool(empty_database, min_size=0, max_size=4)
    await forgotten()


async def test_a_list_of_another_deployment_is_refused(place: Place, tmp_path: Path) -> None:
    await place.back_up()
    listed = tmp_path / "erasures.json"
    await write_erasures(listed, url=place.settings.database_url)
    listed.write_text(json.dumps(json.loads(listed.read_text()) | {"deployment": "00"}))
    with pytest.raises(UnusableBackup, match="is of another deployment"):
        await place.restore(erasures=listed)
    listed.write_text("[]")
    with pytest.raises(UnusableBackup, match="is not a list of erasures"):
        await place.restore(erasures=listed)


# The commands -------------------------------------------------------------------------------------------


def test_the_commands_tell_what_they_did(settings: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["platform", "create", "shop", "--create-program", "leaves"]) == 0
    assert run(["erasures", "erasures.json"]) == 0
    capsys.readouterr()
    assert run(["backup", "first", "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert (manifest["rows"]["platform"], manifest["master_keys"]) == (1, KEYS)
    assert run(["backup", "first"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "greenpoints: first is there already; nothing is overwritten"
    name = settings.database_url.rpartition("/")[2]
    assert run(["restore", "first"]) == 1
    assert f"say --replace {name} to throw away" in capsys.readouterr().err
    assert run(["restore", "first", "--replace", name, "--erasures", "erasures.json", "--json"]) == 0
    restored = json.loads(capsys.readouterr().out)
    assert (restored["ok"], restored["broken"], restored["backup"]) == (True, {}, manifest["id"])
    assert run(["restore", "first", "--replace", name]) == 0
    out = capsys.readouterr().out
    assert "every invariant holds" in out
    assert out.splitlines()[-1] == f"platforms report again what they have reported since {manifest_time(manifest)}"
    assert run(["restore", "missing"]) == 2


def manifest_time(manifest: dict[str, Any]) -> str:
    return str(manifest["complete_until"]).replace("Z", "+00:00")


async def test_what_came_due_since_the_snapshot_is_no_fault(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    await place.world.credit(order_paid("c"))
    for table in ("due", "award"):
        await place.world.rows(f"UPDATE {table} SET due_at = due_at - interval '1 day'")
    await place.back_up()
    await place.close()
    assert await asyncio.to_thread(run, ["restore", str(place.folder), "--replace", place.name, "--json"]) == 0
    restored = json.loads(capsys.readouterr().out)
    assert (restored["ok"], restored["overdue"], restored["broken"]) == (True, 1, {})
    await place.open()
    async with open_for_checking(place.settings, connections=2, name="test") as (pool, projection):
        assert await settle_due(pool, projection, stripe=0, buckets=64, batch_events=100) == 1
    assert await asyncio.to_thread(run, ["check"]) == 0


async def audited(settings: Settings) -> list[Any]:
    connection = await asyncpg.connect(settings.database_url)
    try:
        return [(row["actor"], row["action"], json.loads(row["after"])) for row in await connection.fetch("SELECT * FROM audit")]
    finally:
        await connection.close()


def test_an_epoch_can_be_raised_by_itself(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rebuild", "--raise-epoch"]) == 0
    first = int(capsys.readouterr().out.splitlines()[0].removeprefix("epoch "))
    assert asyncio.run(audited(settings)) == [("command", "deployment.raise_epoch", {"epoch": first})]
    assert run(["rebuild", "--raise-epoch"]) == 0
    assert int(capsys.readouterr().out.splitlines()[0].removeprefix("epoch ")) > first > 200_000_000


async def test_no_two_histories_begin_in_one_second(connection: asyncpg.Connection) -> None:
    async def begin() -> list[int]:
        """Epoch and versions of a history that begins with the row as a backup brings it each time."""
        transaction = connection.transaction()
        await transaction.start()
        epoch = await begin_history(connection)
        versions = await connection.fetchrow("SELECT catalogue_version, registry_version, callers_version, vault_version FROM deployment")
        await transaction.rollback()
        return [epoch, *versions]

    begun = [await begin() for _ in range(3)]
    assert all(later > earlier for column in zip(*begun, strict=True) for earlier, later in itertools.pairwise(column)), begun


def test_no_database_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("GREENPOINTS_DATABASE_URL")
    assert run(["backup", "first"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("greenpoints: there is no PostgreSQL in .greenpoints: ")
    assert list(Path().iterdir()) == []


# PostgreSQL's programs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p%40%3A@h:5433/d", {"PGUSER": "u", "PGPASSWORD": "p@:", "PGHOST": "h", "PGPORT": "5433", "PGDATABASE": "d"}),
        ("postgres://u@[::1]/d?sslmode=require", {"PGUSER": "u", "PGHOST": "::1", "PGDATABASE": "d", "PGSSLMODE": "require"}),
        ("postgresql://u@a:1,b:2/d", {"PGUSER": "u", "PGHOST": "a,b", "PGPORT": "1,2", "PGDATABASE": "d"}),
        ("postgresql:///d?host=%2Fsocket&search_path=a%20b", {"PGHOST": "/socket", "PGDATABASE": "d", "PGOPTIONS": "-c search_path=a\\ b"}),
    ],
)
def test_an_address_is_told_by_the_environment(url: str, expected: dict[str, str]) -> None:
    found = connection_environment(url, name="n")
    assert {name: value for name, value in found.items() if name.startswith("PG")} == expected | {
        "PGAPPNAME": "n",
        "PGCONNECT_TIMEOUT": "10",
    }


def test_programs_that_are_too_old_are_not_chosen() -> None:
    with pytest.raises(LocalError, match="of PostgreSQL 99 or later are needed: put them on the PATH; here is only version"):
        choose_tools(at_least=99)

"""docs/restore.md, walked: a real system, a disaster, the commands of the page, and in the end everything is as before.

A block under `<!-- walk: NAME -->` is taken from the page and run, or set, as it stands there.
"""

import asyncio
import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from service.flows.migrate import migrate
from service.local import postgres
from service.local.command import Command
from service.local.identity import own, server_user
from service.local.pg_tools import connection_environment
from service.local.ports import choose_port
from service.settings import Settings
from tests.local.test_up import Up
from tests.servers import running
from tests.worlds import World, order_paid

PAGE = Path(__file__).resolve().parents[2] / "docs" / "restore.md"
ROOT = PAGE.parents[1]
BLOCK = re.compile(r"^ *<!-- walk: (?P<name>[\w ]+) -->\n *```\w+\n(?P<code>.*?)^ *```$", re.DOTALL | re.MULTILINE)
WALK = {found["name"]: textwrap.dedent(found["code"]) for found in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))}
BASH = shutil.which("bash")
CONSUMERS = [f"cust-{n}" for n in range(5)]
RUN_S = 50.0


class Site:
    """A checkout with an `up` on its usual data directory, and a platform that keeps a journal of what it reported."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        folder.joinpath(".venv").mkdir()
        folder.joinpath(".venv/bin").symlink_to(Path(sys.executable).parent)
        self.up = Up(folder)
        self.up.data_dir = folder / ".greenpoints"
        self.up.extra = {
            "GREENPOINTS_BALANCE_REDIS_URL": settings.balance_redis_url, "GREENPOINTS_QUEUE_REDIS_URL": settings.queue_redis_url,
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        self.journal: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        self.numbers = itertools.count(1)

    def run(self, name: str) -> str:
        """Run a block of the page; what it printed."""
        assert BASH is not None
        environ = {key: value for key, value in self.up.environment().items() if key != "GREENPOINTS_DATA_DIR"}
        done = subprocess.run(
            [BASH, "-euc", WALK[name]], cwd=self.folder, env=environ, capture_output=True, text=True, timeout=RUN_S, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        up = self.up.file()
        return httpx.request(
            method, f"{up['api']}{path}", headers={"Authorization": f"Bearer {up['platforms'][0]['api_key']}"}, timeout=10, **more
        )  # fmt: skip

    def report(self, event: dict[str, Any]) -> bool:
        """Report an event; whether it was there already, with the answer that it got first. One that was lost earns what it did then."""
        answer = self.call("POST", "/v1/events", json=event)
        assert answer.status_code in (200, 201), answer.text
        self.journal[event["id"]] = event
        first = self.answers.setdefault(event["id"], answer.json())
        replayed = answer.headers.get("Idempotency-Replayed") == "true"
        assert answer.json() == first if replayed else answer.json()["points"] == first["points"]
        return replayed

    def shop(self) -> None:
        """One order, of one of the consumers."""
        number = next(self.numbers)
        self.report(bought(CONSUMERS[number % len(CONSUMERS)], f"order-{number}"))

    @contextlib.contextmanager
    def shopping(self) -> Iterator[None]:
        """Orders, without a pause, until the end."""
        over, faults = threading.Event(), []

        def shop() -> None:
            try:
                while not over.is_set():
                    self.shop()
            except Exception as error:  # noqa: BLE001 - told in the test's own thread
                faults.append(error)

        thread = threading.Thread(target=shop)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            assert faults == []

    def points(self) -> dict[str, int]:
        """What the API says that each consumer has, settled or not."""
        answers = {name: self.call("GET", f"/v1/consumers/{name}/balance") for name in CONSUMERS}
        return {name: a.json()["pending"] + a.json()["available"] for name, a in answers.items() if a.status_code == 200}

    def stored(self) -> set[str]:
        """The ids of the events in the ledger."""

        async def ask() -> set[str]:
            connection = await asyncpg.connect(self.up.file()["database_url"])
            try:
                return {row["id"] for row in await connection.fetch("SELECT id FROM event")}
            finally:
                await connection.close()

        return asyncio.run(ask())

    def earned(self, ids: set[str]) -> dict[str, int]:
        """What the answers for these events add up to."""
        sums: dict[str, int] = {}
        for id_ in ids:
            consumer = self.journal[id_]["consumer"]
            sums[consumer] = sums.get(consumer, 0) + self.answers[id_]["points"]
        return sums


def bought(consumer: str, order: str) -> dict[str, Any]:
    return {
        "id": f"{order}:paid", "type": "order.paid", "occurred_at": datetime.now(UTC).isoformat(timespec="seconds"), "consumer": consumer,
        "order": {"id": order, "currency": "CNY", "total": "39.00"},
        "lines": [{"id": "1", "sku": "DEMO-TISSUE", "quantity": "1", "unit_price": "39.00"}],
        "packaging": {"class": "ship_in_own_container", "parcels": 1},
    }  # fmt: skip


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="greenpoints-runbook-") as folder:
        made = Site(Path(folder), settings)
        yield made
        if made.up.process is not None and made.up.process.poll() is None:
            made.up.signal(signal.SIGTERM)


def test_the_page_is_walked() -> None:
    assert set(WALK) == {"backup", "restore", "archive", "recover", "after a recovery"}


@pytest.mark.skipif(BASH is None, reason="needs bash")
@pytest.mark.timeout(300)
def test_after_a_disaster_everything_is_as_before(site: Site) -> None:
    site.up.start()
    for _ in range(20):
        site.shop()
    with site.shopping():
        assert "keep the master key elsewhere" in site.run("backup")
    safe = len(site.journal)
    for _ in range(15):
        site.shop()
    assert site.call("DELETE", f"/v1/consumers/{CONSUMERS[0]}").status_code == 204
    shutil.move(site.folder / "backup-1", site.folder / "elsewhere")
    assert "1 erasures" in site.run("backup")  # the hourly list; its backup is not the one that is left
    shutil.rmtree(site.folder / "backup-1")
    shutil.move(site.folder / "elsewhere", site.folder / "backup-1")
    before = site.points()
    assert set(before) == set(CONSUMERS[1:])
    refused = site.up.cli("restore", str(site.folder / "backup-1"), "--replace", "greenpoints")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "another `greenpoints up` is using" in refused.stderr

    # The disk of the database is gone; Valkey is not, and knows the newest balances.
    pids = site.up.file()["pids"]
    site.up.signal(signal.SIGKILL)
    wait_until_gone(pids["postgres"])
    shutil.rmtree(site.up.data_dir / "postgres")

    out = site.run("restore")
    assert "erased 1 references again" in out
    site.up.start()
    stored = site.stored()
    assert 20 <= len(stored) < safe + 15 == len(site.journal)
    assert set(list(site.journal)[:20]) <= stored, "what was acknowledged before the backup began is in it"
    then = site.points()
    assert then == {name: points for name, points in site.earned(stored).items() if name != CONSUMERS[0]}
    assert all(then[name] < before[name] for name in then)

    again = [event for event in site.journal.values() if event["consumer"] != CONSUMERS[0]]
    assert {event["id"] for event in again if site.report(event)} == {event["id"] for event in again} & stored
    assert site.points() == before
    checked = site.up.cli("check")
    assert checked.returncode == 0, checked.stdout
    assert site.up.signal(signal.SIGTERM) == 0
    while_it_is_stopped = site.up.cli("backup", str(site.folder / "stopped"))
    assert while_it_is_stopped.returncode == 0, while_it_is_stopped.stderr


def wait_until_gone(pid: int) -> None:
    """A server that lost its parent shuts down by itself."""
    with contextlib.suppress(ProcessLookupError):
        for _ in range(1_000):
            os.kill(pid, 0)
            threading.Event().wait(0.02)
        raise AssertionError("PostgreSQL outlived its parent")


# Recovery to a point in time ---------------------------------------------------------------------------


def settings_of(block: str, folder: Path) -> dict[str, str]:
    """A block of PostgreSQL's settings, with the archive where this test has it."""
    pairs = (line.partition(" = ") for line in WALK[block].replace("/archive/", f"{folder}/archive/").splitlines())
    return {name: value.removeprefix("'").removesuffix("'") for name, _, value in pairs}


def serving(cluster: Path, port: int, settings: dict[str, str]) -> Command:
    """How to start a server with more settings."""
    command = postgres.command(cluster, port=port, user=server_user())
    return Command(argv=[*command.argv, *(word for name, value in settings.items() for word in ("-c", f"{name}={value}"))], env=command.env)


@pytest.mark.skipif(BASH is None, reason="needs bash")
@pytest.mark.timeout(300)
async def test_after_a_recovery_to_a_point_in_time_nobody_goes_by_what_is_lost(settings: Settings, scratch: Path) -> None:
    folder, user, port = scratch / "recovery", server_user(), choose_port()
    for made in (folder, folder / "archive"):
        made.mkdir()
        own(made, user)
    cluster, base = folder / "cluster", folder / "base"
    postgres.initialise(cluster, password="made-up", user=user)
    url = postgres.url(password="made-up", port=port)
    archived = settings_of("archive", folder)
    assert archived["archive_mode"] == "on"

    with running(serving(cluster, port, archived), folder / "before.log"):
        await postgres.wait_until_ready(postgres.url(password="made-up", port=port, database="postgres"), timeout_s=30)
        await postgres.create_database(password="made-up", port=port)
        connection = await asyncpg.connect(url)
        await migrate(connection)
        base_backup = [str(postgres.binaries() / "pg_basebackup"), f"--pgdata={base}", "--checkpoint=fast"]
        await asyncio.to_thread(subprocess.run, base_backup, env=connection_environment(url, name="test"), check=True, timeout=60)
        pool = await asyncpg.create_pool(url, min_size=0, max_size=2)
        world = await World(pool).found()
        await world.campaign()
        paid = order_paid("c")
        await world.credit(paid)
        moment = str(await connection.fetchval("SELECT clock_timestamp()"))
        epoch = await connection.fetchval("SELECT epoch FROM deployment")
        await world.credit(order_paid("c", quantity=2))
        await world.credit(order_paid("lost"))
        last = await connection.fetchval("SELECT pg_walfile_name(pg_switch_wal())")
        while not await connection.fetchval("SELECT coalesce(last_archived_wal >= $1, false) FROM pg_stat_archiver", last):
            await asyncio.sleep(0.05)
        await pool.close()
        await connection.close()

    (base / "recovery.signal").touch()
    for path in (base, *base.rglob("*")):
        own(path, user)
    wanted = settings_of("recover", folder) | {"recovery_target_time": moment}
    with running(serving(base, port, archived | wanted), folder / "after.log"):
        await postgres.wait_until_ready(postgres.url(password="made-up", port=port, database="postgres"), timeout_s=30)
        connection = await asyncpg.connect(url)
        while await connection.fetchval("SELECT pg_is_in_recovery()"):
            await asyncio.sleep(0.05)
        assert [tuple(row) for row in await connection.fetch("SELECT id FROM event")] == [(paid["id"],)]
        assert BASH is not None
        folder.joinpath(".venv").mkdir()
        folder.joinpath(".venv/bin").symlink_to(Path(sys.executable).parent)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("GREENPOINTS_")} | {"PYTHONPATH": str(ROOT)}
        environ |= {"GREENPOINTS_DATABASE_URL": url, "GREENPOINTS_BALANCE_REDIS_URL": settings.balance_redis_url}
        environ |= {"GREENPOINTS_QUEUE_REDIS_URL": settings.queue_redis_url}
        words = [BASH, "-euc", WALK["after a recovery"]]
        done = await asyncio.to_thread(
            subprocess.run, words, cwd=folder, env=environ, capture_output=True, text=True, timeout=RUN_S, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "every invariant holds" in done.stdout
        assert await connection.fetchval("SELECT epoch FROM deployment") > epoch
        # A process that worked all the time remembers an account that is gone.
        world.pool = await asyncpg.create_pool(url, min_size=0, max_size=2)
        await world.credit(order_paid("lost"))
        assert await connection.fetchval("SELECT count(*) FROM consumer_reference r JOIN account a ON a.id = r.account") == 2
        await world.pool.close()
        await connection.close()

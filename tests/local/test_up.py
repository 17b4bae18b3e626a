"""`greenpoints up` as a newcomer and as a crash see it: the real command, in a data directory that other users cannot even enter."""

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from service.local.ports import choose_port
from service.local.processes import started_ticks
from service.settings import Settings

CURL = shutil.which("curl")
UP = [sys.executable, "-m", "service.cli", "up"]
START_S = 50.0
STOP_S = 30.0


class Up:
    """One data directory and the `up` that runs on it, if any."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.port = choose_port()
        self.output = folder / "output.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.extra: dict[str, str] = {}

    def start(self) -> None:
        """Start it and wait until it says that it is up; what a killed run has left lying there does not count."""
        left = self.told_at()
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(self.command(), stdout=output, stderr=subprocess.STDOUT, env=self.environment())
        self.wait("up.json", lambda: self.told_at() not in (None, left), START_S)

    def told_at(self) -> int | None:
        with contextlib.suppress(FileNotFoundError):
            return (self.data_dir / "up.json").stat().st_mtime_ns
        return None

    def command(self, *, port: int | None = None) -> list[str]:
        return [*UP, "--data-dir", str(self.data_dir), "--port", str(port or self.port), "--api-processes", "2", "--workers", "1"]

    def environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("GREENPOINTS_")}
        return own | {"GREENPOINTS_DATA_DIR": str(self.data_dir)} | self.extra

    def file(self) -> dict[str, Any]:
        return json.loads((self.data_dir / "up.json").read_bytes())

    def fixed(self) -> dict[str, Any]:
        return {name: value for name, value in self.file().items() if name != "pids"}

    def pids(self) -> list[int]:
        pids = self.file()["pids"]
        return [*pids["api"], *pids["worker"], pids["postgres"], pids["valkey"]]

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=5).status_code == 200
        return False

    def wait(self, what: str, until: Callable[[], bool], timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while not until():
            assert self.process is not None
            assert self.process.poll() is None, f"up has ended:\n{self.output.read_text()}"
            assert time.monotonic() < end, f"not within {timeout_s} s: {what}\n{self.output.read_text()}"
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "service.cli", *words], env=self.environment(), capture_output=True, text=True, timeout=30, check=False
        )


@pytest.fixture(scope="module")
def system() -> Iterator[Up]:
    with tempfile.TemporaryDirectory(prefix="greenpoints-up-") as folder:
        up = Up(Path(folder))
        up.start()
        yield up
        if up.process is not None and up.process.poll() is None:
            up.signal(signal.SIGTERM)


@pytest.fixture
def running(system: Up) -> Up:
    """The system, ready, whatever a test before has done to it."""
    if system.process is None or system.process.poll() is not None:
        system.start()
    system.wait("ready", system.is_ready, START_S)
    return system


def test_one_port_shows_the_metrics_of_all_processes(running: Up) -> None:
    def shown() -> str:
        return httpx.get(f"http://127.0.0.1:{running.port}/metrics", timeout=10).text

    running.wait("the worker", lambda: 'greenpoints_processes{part="worker"} 1.0' in shown(), START_S)
    running.wait("both API processes", lambda: 'greenpoints_processes{part="api"} 2.0' in shown(), START_S)
    assert stat.S_IMODE((running.data_dir / "run" / "metrics").stat().st_mode) == 0o700


def test_the_first_start_tells_addresses_and_keys_to_its_owner_only(running: Up) -> None:
    up = running.file()
    assert up["api"] == f"http://127.0.0.1:{running.port}"
    assert up["dashboard"] == f"{up['api']}/dashboard"
    assert up["operator"]["token"].startswith("gpo_")
    assert [platform["code"] for platform in up["platforms"]] == ["demo-shop", "demo-market"]
    assert all(set(platform["hooks"]) >= {"standard", "shopify", "woocommerce"} for platform in up["platforms"])
    assert len(up["pids"]["api"]) == 2
    assert len(set(running.pids())) == 5
    for name in ("up.json", "credentials.json", "servers.json"):
        assert stat.S_IMODE((running.data_dir / name).stat().st_mode) == 0o600
    assert not list(running.data_dir.glob("*.secret"))


@pytest.mark.skipif(CURL is None, reason="needs curl")
def test_the_curl_command_that_up_prints_credits_points(running: Up) -> None:
    lines = running.output.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if "first credit:" in line)
    made = subprocess.run(
        ["/bin/sh", "-c", "\n".join(lines[first + 1 : first + 3])], capture_output=True, text=True, timeout=30, check=True
    )
    answer = json.loads(made.stdout)
    assert (answer["status"], answer["points"]) == ("pending", 98)


def test_the_way_to_the_data_directory_keeps_its_permissions(running: Up) -> None:
    assert stat.S_IMODE(running.data_dir.parent.stat().st_mode) == 0o700


def test_other_commands_find_the_running_system(running: Up) -> None:
    token = running.cli("token", "--platform", "demo-shop", "--consumer", "cust-42")
    assert token.returncode == 0, token.stderr
    assert token.stdout.count(".") == 2
    assert running.cli("migrate", "--check").returncode == 0
    assert running.cli("migrate").stdout == "nothing to apply\n"
    listed = running.cli("platform", "list", "--json")
    assert [platform["code"] for platform in json.loads(listed.stdout)] == ["demo-shop", "demo-market"]
    refused = running.cli("token", "--platform", "nobody", "--consumer", "cust-42")
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("kind", ["api", "worker", "valkey", "postgres"])
def test_a_killed_part_comes_back(running: Up, kind: str) -> None:
    before = running.file()
    killed = before["pids"][kind]
    for pid in killed if isinstance(killed, list) else [killed]:
        os.kill(pid, signal.SIGKILL)

    def is_back() -> bool:
        now = running.file()["pids"]
        old = killed if isinstance(killed, list) else [killed]
        new = now[kind] if isinstance(now[kind], list) else [now[kind]]
        return len(new) == len(old) and not set(new) & set(old)

    running.wait(f"{kind} is back in up.json", is_back, 20)
    running.wait("ready", running.is_ready, 20)
    assert running.fixed() == {name: value for name, value in before.items() if name != "pids"}
    untouched = [name for name in before["pids"] if name != kind]
    assert {name: running.file()["pids"][name] for name in untouched} == {name: before["pids"][name] for name in untouched}


def test_a_second_up_on_the_same_data_directory_is_refused(running: Up) -> None:
    second = subprocess.run(running.command(port=choose_port()), capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert second.stderr.startswith("greenpoints: another `greenpoints up` is using")
    assert second.stderr.count("\n") == 1
    assert running.is_ready()


def test_a_taken_port_is_refused(running: Up, tmp_path: Path) -> None:
    command = [*UP, "--data-dir", str(tmp_path / "other"), "--port", str(running.port)]
    second = subprocess.run(command, env=running.environment(), capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert second.stderr == f"greenpoints: port {running.port} on 127.0.0.1 is taken: choose another with --port\n"


def test_up_again_after_a_kill_goes_on_with_the_same_data(running: Up) -> None:
    before, pids = running.fixed(), running.pids()
    running.signal(signal.SIGKILL)
    running.start()
    running.wait("ready", running.is_ready, START_S)
    assert running.fixed() == before
    assert not set(running.pids()) & set(pids)
    assert [pid for pid in pids if started_ticks(pid) is not None] == [], "nothing of the killed run is left"


async def test_up_seals_what_an_older_release_left_plain(running: Up) -> None:
    hook = running.file()["platforms"][0]["hooks"]["shopify"]

    async def stored(statement: str = "SELECT secrets[1] FROM hook WHERE id = $1", *values: str) -> str:
        connection = await asyncpg.connect(running.file()["database_url"])
        try:
            return str(await connection.fetchval(statement, hook["id"], *values))
        finally:
            await connection.close()

    assert (await stored()).startswith("v1:")
    assert await stored("UPDATE hook SET secrets = ARRAY[$2] WHERE id = $1 RETURNING secrets[1]", hook["secret"]) == hook["secret"]
    running.signal(signal.SIGTERM)
    running.start()
    assert (await stored()).startswith("v1:")
    assert "sealed 1 secrets with the newest master key" in running.output.read_text()
    status = running.cli("keys", "status", "--json")
    assert status.returncode == 0, status.stderr
    assert all(column["plain"] == column["older"] == 0 for column in json.loads(status.stdout))


def test_the_addresses_alone_are_enough_for_a_command_that_opens_secrets(running: Up) -> None:
    servers = {f"GREENPOINTS_{name.upper()}": running.file()[name] for name in ("database_url", "balance_redis_url", "queue_redis_url")}
    own = {name: value for name, value in os.environ.items() if not name.startswith("GREENPOINTS_")}
    words = [sys.executable, "-P", "-m", "service.cli", "token", "--platform", "demo-shop", "--consumer", "c"]
    made = subprocess.run(words, env=own | servers, cwd=running.data_dir.parent, capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == 0, made.stderr
    assert made.stdout.count(".") == 2


def test_a_stop_is_clean_and_complete(running: Up) -> None:
    pids = running.pids()
    assert running.signal(signal.SIGTERM) == 0
    assert [pid for pid in pids if started_ticks(pid) is not None] == []
    assert not (running.data_dir / "up.json").exists()
    log = (running.data_dir / "logs" / "postgres.log").read_text()
    assert log.rstrip().endswith("database system is shut down")


async def test_servers_of_ones_own_are_used_and_not_stopped(settings: Settings, tmp_path: Path) -> None:
    up = Up(tmp_path)
    urls = ("database_url", "balance_redis_url", "queue_redis_url")
    up.extra = {f"GREENPOINTS_{name.upper()}": getattr(settings, name) for name in urls}
    up.start()
    up.wait("ready", up.is_ready, START_S)
    told = up.file()
    assert {name: told[name] for name in urls} == {name: getattr(settings, name) for name in urls}
    assert (told["pids"]["postgres"], told["pids"]["valkey"]) == (None, None)
    assert up.signal(signal.SIGINT) == 0
    assert not (up.data_dir / "postgres").exists()
    connection = await asyncpg.connect(settings.database_url)
    assert await connection.fetchval("SELECT count(*) FROM operator") == 1
    await connection.close()

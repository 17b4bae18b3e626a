"""Real servers for every test: one PostgreSQL and one Valkey per test process, a fresh database for each test that asks for one."""

import asyncio
import itertools
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import pytest
import uvloop
from redis.asyncio import Redis

from service.flows.migrate import migrate
from service.local import postgres, valkey
from service.local.identity import server_user
from service.local.ports import choose_port
from service.settings import Settings, load_settings
from tests.sealer import MASTER_KEY
from tests.servers import running

if TYPE_CHECKING:
    from litestar import Litestar

    from service.runtime import Resources

PASSWORD = secrets.token_hex(8)
TEMPLATE = "greenpoints_template"
READY_TIMEOUT_S = 30.0


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A directory for servers' data, outside of pytest's own, which would keep it."""
    folder = Path(tempfile.mkdtemp(prefix="greenpoints-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_port(scratch: Path) -> Iterator[int]:
    """A PostgreSQL that forgets on a power cut (fsync off), with the migrated template database."""
    user, port, cluster = server_user(), choose_port(), scratch / "postgres"
    postgres.initialise(cluster, password=PASSWORD, user=user, durable=False)
    with running(postgres.command(cluster, port=port, user=user, durable=False), scratch / "postgres.log") as process:
        _do(_make_template(port))
        yield port
        process.send_signal(2)  # fast shutdown: do not wait for forgotten connections


def _do(work: Coroutine[Any, Any, None]) -> None:
    """Run asynchronous set-up from a synchronous fixture, beside whatever loop this thread has: so tests of both kinds can ask for it."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


async def _make_template(port: int) -> None:
    await postgres.wait_until_ready(_dsn(port, "postgres"), timeout_s=READY_TIMEOUT_S)
    await _on_server(port, f"CREATE DATABASE {TEMPLATE}")
    connection = await asyncpg.connect(_dsn(port, TEMPLATE))
    try:
        await migrate(connection)
    finally:
        await connection.close()


def _dsn(port: int, database: str) -> str:
    return postgres.url(password=PASSWORD, port=port, database=database)


async def _on_server(port: int, statement: str) -> None:
    connection = await asyncpg.connect(_dsn(port, "postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


_numbers = itertools.count(1)


@pytest.fixture
def empty_database(postgres_port: int) -> Iterator[str]:
    """The DSN of a database without any table, dropped afterwards."""
    name = f"test_{next(_numbers)}"
    _do(_on_server(postgres_port, f"CREATE DATABASE {name} STRATEGY file_copy"))
    yield _dsn(postgres_port, name)
    _do(_on_server(postgres_port, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def database(postgres_port: int) -> Iterator[str]:
    """The DSN of a migrated database of this test's own, dropped afterwards."""
    name = f"test_{next(_numbers)}"
    # Copying files takes a third of the time that writing them through the WAL takes, where nothing is synced anyway.
    _do(_on_server(postgres_port, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy"))
    yield _dsn(postgres_port, name)
    _do(_on_server(postgres_port, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def connection(database: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """One connection to `database`."""
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def valkey_port(scratch: Path) -> Iterator[int]:
    port = choose_port()
    with running(valkey.command(port=port, password=PASSWORD, user=server_user()), scratch / "valkey.log"):
        _do(valkey.wait_until_ready(valkey.url(password=PASSWORD, port=port, db=valkey.BALANCES_DB), timeout_s=READY_TIMEOUT_S))
        yield port


@pytest.fixture
def redis_url(valkey_port: int) -> str:
    """The URL of an empty balance database; the queue's is emptied with it."""
    url = valkey.url(password=PASSWORD, port=valkey_port, db=valkey.BALANCES_DB)
    _do(_flush(url))
    return url


async def _flush(url: str) -> None:
    async with Redis.from_url(url) as client:
        await client.flushall()


@pytest.fixture
def queue_redis_url(redis_url: str, valkey_port: int) -> str:
    """The URL of an empty queue database."""
    return valkey.url(password=PASSWORD, port=valkey_port, db=valkey.QUEUE_DB)


@pytest.fixture
def settings(database: str, redis_url: str, queue_redis_url: str) -> Settings:
    """Settings of a process on this test's own database and an empty Valkey; everything else by default."""
    return load_settings(
        {
            "GREENPOINTS_DATABASE_URL": database,
            "GREENPOINTS_BALANCE_REDIS_URL": redis_url,
            "GREENPOINTS_QUEUE_REDIS_URL": queue_redis_url,
            "GREENPOINTS_MASTER_KEY": MASTER_KEY,
        }
    )


@pytest.fixture
async def resources(settings: Settings) -> AsyncIterator["Resources"]:
    """What a process opens, on this test's own database; closed afterwards."""
    from service.runtime import open_resources  # noqa: PLC0415 - pure tests do not wait for it

    async with open_resources(settings) as opened:
        yield opened


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator["Litestar"]:
    """The real application on this test's own database, started and stopped with everything that runs beside its requests."""
    from service.api.app import create_app  # noqa: PLC0415 - pure tests do not wait for it

    made = create_app(settings)
    async with made.lifespan():
        yield made


@pytest.fixture
async def client(app: "Litestar") -> AsyncIterator[httpx.AsyncClient]:
    """A client that calls the real application inside this process; no caller's proof is set."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as opened:
        yield opened

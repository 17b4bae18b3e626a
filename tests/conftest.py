"""Real servers for every test: one PostgreSQL and one Valkey per test process, a fresh database for each test that asks for one."""

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import msgspec
import pytest
import uvloop
from anyio.from_thread import BlockingPortal, start_blocking_portal
from redis.asyncio import Redis

from service.flows.migrate import migrate
from service.local import postgres, valkey
from service.local.identity import server_user
from service.local.ports import choose_port
from service.settings import Settings, load_settings
from tests.beginnings import Begin, Beginning, make_with_app, make_with_pool
from tests.sealer import MASTER_KEY
from tests.servers import running, started

if TYPE_CHECKING:
    from litestar import Litestar

    from service.runtime import Resources

PASSWORD = secrets.token_hex(8)
TEMPLATE = "greenpoints_template"
DATABASE, EMPTY_DATABASE = "greenpoints_test", "greenpoints_empty"
"""One after the other under the same name: what is made for a database's address can be kept from test to test."""
READY_TIMEOUT_S = 30.0
MEMORY = Path("/dev/shm")  # noqa: S108 - only directories with names that nobody can guess are made in it
MEMORY_BYTES = 4 * 2**30
"""What the servers of two test processes write at most, several times over."""


def pytest_configure() -> None:
    """Temporary files in memory where there is room: a database of a test is hundreds of small files, copied and deleted again.

    The variable is read by pytest itself and by every process that a test starts. One that the caller has set counts.
    """
    if "TMPDIR" not in os.environ and _has_room(MEMORY):
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # asked anew
    # A test starts many processes of ours; each would compile all of our modules for itself.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # The server has no TLS: preparing for it and asking is a third of what a connection costs us, and a test opens a dozen.
    os.environ.setdefault("PGSSLMODE", "disable")


def _has_room(folder: Path) -> bool:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return not disk.f_flag & (os.ST_NOEXEC | os.ST_RDONLY) and disk.f_bavail * disk.f_frsize >= MEMORY_BYTES


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def beside() -> Iterator[BlockingPortal]:
    """A loop in a thread of its own, for the set-up of tests of both kinds, beside whatever loop they have themselves."""
    with start_blocking_portal("asyncio") as portal:
        yield portal


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A directory for servers' data, outside of pytest's own, which would keep it."""
    folder = Path(tempfile.mkdtemp(prefix="greenpoints-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_port(scratch: Path, beside: BlockingPortal) -> Iterator[int]:
    """A PostgreSQL that forgets on a power cut (fsync off), with the migrated template database."""
    user, port, cluster = server_user(), choose_port(), scratch / "postgres"
    postgres.initialise(cluster, password=PASSWORD, user=user, durable=False)
    with running(postgres.command(cluster, port=port, user=user, durable=False), scratch / "postgres.log") as process:
        beside.call(_make_template, port)
        yield port
        process.send_signal(2)  # fast shutdown: do not wait for forgotten connections


async def _make_template(port: int) -> None:
    await postgres.wait_until_ready(_dsn(port, "postgres"), timeout_s=READY_TIMEOUT_S)
    server = await asyncpg.connect(_dsn(port, "postgres"))
    # The password is random, so that it need not be slow to guess: 4,096 rounds of hashing are another third of a connection.
    await server.execute(f"SET scram_iterations = 1; ALTER ROLE {postgres.ROLE} PASSWORD '{PASSWORD}'")
    await server.execute(f"CREATE DATABASE {TEMPLATE}")
    await server.close()
    connection = await asyncpg.connect(_dsn(port, TEMPLATE))
    try:
        await migrate(connection)
    finally:
        await connection.close()


def _dsn(port: int, database: str) -> str:
    return postgres.url(password=PASSWORD, port=port, database=database)


@pytest.fixture(scope="session")
def on_server(postgres_port: int, beside: BlockingPortal) -> Iterator[Callable[[str], None]]:
    """Runs a statement outside of any test's database."""
    connection = beside.call(asyncpg.connect, _dsn(postgres_port, "postgres"))

    def execute(statement: str) -> None:
        beside.call(connection.execute, statement)

    yield execute
    beside.call(connection.close)


@contextlib.contextmanager
def _database(name: str, on_server: Callable[[str], None], source: str = "") -> Iterator[None]:
    on_server(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # of a test that broke off
    # Copying files takes a fifth of the time that writing them through the WAL takes, where nothing is synced anyway.
    on_server(f"CREATE DATABASE {name} {source} STRATEGY file_copy")
    yield
    on_server(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_database(postgres_port: int, on_server: Callable[[str], None]) -> Iterator[str]:
    """The DSN of a database without any table, dropped afterwards."""
    with _database(EMPTY_DATABASE, on_server):
        yield _dsn(postgres_port, EMPTY_DATABASE)


@pytest.fixture
def database(request: pytest.FixtureRequest, postgres_port: int, on_server: Callable[[str], None]) -> Iterator[str]:
    """The DSN of a migrated database of this test's own, dropped afterwards; a copy of its `beginning`, if it has one."""
    source = request.getfixturevalue("beginning").database if "beginning" in request.fixturenames else TEMPLATE
    with _database(DATABASE, on_server, f"TEMPLATE {source}"):
        yield _dsn(postgres_port, DATABASE)


@pytest.fixture(scope="session")
def begin(
    postgres_port: int, on_server: Callable[[str], None], valkey_port: int, flush: Callable[[], None], beside: BlockingPortal
) -> Begin:
    """Makes beginnings, each once; for fixtures with the name `beginning`, which a test file or folder has one of.

    Takes a function of a pool or, `in_app`, of an application and a client, and for that one changes of its settings.
    """
    known: dict[Callable[..., Any], Beginning[Any]] = {}

    def made(make: Callable[..., Any], *, in_app: bool = False, **changes: Any) -> Beginning[Any]:
        if make not in known:
            database = f"greenpoints_beginning_{len(known)}"
            on_server(f"CREATE DATABASE {database} TEMPLATE {TEMPLATE} STRATEGY file_copy")
            dsn = _dsn(postgres_port, database)
            if in_app:
                settings = msgspec.structs.replace(_settings(dsn, valkey_port), **changes)
                known[make] = beside.call(partial(make_with_app, make, database=database, settings=settings))
                flush()
            else:
                known[make] = beside.call(partial(make_with_pool, make, database=database, dsn=dsn))
        return known[make]

    return made  # type: ignore[return-value]


@pytest.fixture
async def connection(database: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """One connection to `database`."""
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def valkey_port(scratch: Path, beside: BlockingPortal) -> Iterator[int]:
    port = choose_port()
    with running(valkey.command(port=port, password=PASSWORD, user=server_user()), scratch / "valkey.log"):
        beside.call(_wait_for_valkey, port)
        yield port


async def _wait_for_valkey(port: int) -> None:
    await valkey.wait_until_ready(valkey.url(password=PASSWORD, port=port, db=valkey.BALANCES_DB), timeout_s=READY_TIMEOUT_S)


@pytest.fixture(scope="session")
def flush(valkey_port: int, beside: BlockingPortal) -> Iterator[Callable[[], None]]:
    """Empties every database of the Valkey."""
    client: Redis = Redis.from_url(valkey.url(password=PASSWORD, port=valkey_port, db=valkey.BALANCES_DB))
    yield lambda: beside.call(client.flushall)
    beside.call(client.aclose)


@pytest.fixture
def redis_url(valkey_port: int, flush: Callable[[], None]) -> str:
    """The URL of an empty balance database; the queue's is emptied with it."""
    flush()
    return valkey.url(password=PASSWORD, port=valkey_port, db=valkey.BALANCES_DB)


@pytest.fixture
def queue_redis_url(redis_url: str, valkey_port: int) -> str:
    """The URL of an empty queue database."""
    return valkey.url(password=PASSWORD, port=valkey_port, db=valkey.QUEUE_DB)


@pytest.fixture
def settings(database: str, redis_url: str, valkey_port: int) -> Settings:
    """Settings of a process on this test's own database and an empty Valkey; everything else by default."""
    return _settings(database, valkey_port)


def _settings(database: str, valkey_port: int) -> Settings:
    return load_settings(
        {
            "GREENPOINTS_DATABASE_URL": database,
            "GREENPOINTS_BALANCE_REDIS_URL": valkey.url(password=PASSWORD, port=valkey_port, db=valkey.BALANCES_DB),
            "GREENPOINTS_QUEUE_REDIS_URL": valkey.url(password=PASSWORD, port=valkey_port, db=valkey.QUEUE_DB),
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
    async with started(settings) as made:
        yield made


@pytest.fixture
async def client(app: "Litestar") -> AsyncIterator[httpx.AsyncClient]:
    """A client that calls the real application inside this process; no caller's proof is set."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as opened:
        yield opened

"""`greenpoints up`: the whole system on one machine, until it is told to stop."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import asyncpg
from msgspec import Struct

from schemas.callers import OperatorCredentials, PlatformCredentials
from service.flows.master_key import reseal
from service.flows.migrate import migrate
from service.local import logs, postgres
from service.local.console import Reporter
from service.local.credentials import Credentials, first_credentials
from service.local.data_dir import DataDir, embedded_servers, master_key, open_data_dir, write_private
from service.local.embedded import choose_urls, end_leftovers, remember_parts, start_postgres, start_valkey
from service.local.identity import LocalError
from service.local.parts import Part
from service.local.ports import is_free
from service.local.programs import program_parts, wait_until_answering
from service.local.supervisor import StopRequest, Supervisor
from service.settings import PREFIX, load_settings, sealer_of
from service.telemetry import sharing

FOREIGN_SERVER_READY_S = 30.0
API_READY_S = 60.0


class UpOptions(Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    data_dir: Path
    host: str
    port: int
    api_processes: int
    workers: int
    demo: bool


class Pids(Struct, frozen=True, kw_only=True):
    """The processes that run now; a server that is not ours is null."""

    api: list[int]
    worker: list[int]
    postgres: int | None
    valkey: int | None


class UpFile(Struct, frozen=True, kw_only=True):
    """up.json (CONTRACT §2)."""

    api: str
    dashboard: str
    database_url: str
    balance_redis_url: str
    queue_redis_url: str
    operator: OperatorCredentials
    platforms: list[PlatformCredentials]
    pids: Pids


async def up(options: UpOptions, environ: Mapping[str, str] | None = None) -> None:
    """Start everything, keep it running until SIGINT or SIGTERM, then stop it in order.

    Raises LocalError, SettingsError or MigrationRefused when it cannot start; whatever had been started is stopped by then.
    """
    asked = StopRequest()
    asked.listen()
    with open_data_dir(options.data_dir) as data_dir:
        await _System(options, data_dir, dict(os.environ if environ is None else environ)).run(asked)


class _System:
    """One run on an open data directory."""

    def __init__(self, options: UpOptions, data_dir: DataDir, environ: dict[str, str]) -> None:
        self._options = options
        self._data_dir = data_dir
        self._servers = embedded_servers(data_dir)
        self._urls = choose_urls(environ, self._servers)
        self._environ = {
            **environ,
            **self._urls.as_environment(),
            f"{PREFIX}MASTER_KEY": master_key(data_dir, environ),
            f"{PREFIX}HOST": options.host,
            f"{PREFIX}PORT": str(options.port),
            f"{PREFIX}STOP_DELAY_S": environ.get(f"{PREFIX}STOP_DELAY_S", "0"),  # nobody stands in front of us
            sharing.VARIABLE: str(data_dir.metrics),
        }
        self._reporter = Reporter()
        self._supervisor = Supervisor(say=self._reporter.say, changed=self._parts_changed)
        self._ready_with: Credentials | None = None

    async def run(self, asked: StopRequest) -> None:
        """Until the stop that somebody asks for, or until the start fails."""
        self._prepare()
        life = asyncio.create_task(self._live())
        stop = asyncio.create_task(asked.stop.wait())
        try:
            await asyncio.wait([life, stop], return_when=asyncio.FIRST_COMPLETED)
            if life.done():
                await life
        finally:
            for task in (life, stop):
                task.cancel()
            await asyncio.gather(life, stop, return_exceptions=True)
            with self._reporter.step("stopping"):
                await self._supervisor.stop(asked.hurry)
            self._data_dir.up.unlink(missing_ok=True)
            self._data_dir.parts.unlink(missing_ok=True)
        self._reporter.say(f"stopped; the data stays in {self._data_dir.root}")

    def _prepare(self) -> None:
        """End what a crash left behind. Raises LocalError, SettingsError when there is no use in starting."""
        load_settings(self._environ)
        self._data_dir.up.unlink(missing_ok=True)
        sharing.empty(self._data_dir.metrics)
        end_leftovers(self._data_dir, self._reporter.say)
        if not is_free(self._options.host, self._options.port):
            raise LocalError(f"port {self._options.port} on {self._options.host} is taken: choose another with --port")

    async def _live(self) -> None:
        """Start part after part, each when what it needs is ready, then follow the logs for ever."""
        options, say = self._options, self._reporter
        if self._urls.postgres_embedded:
            with say.step("PostgreSQL"):
                await start_postgres(self._supervisor, self._data_dir, self._servers)
        if self._urls.valkey_embedded:
            with say.step("Valkey"):
                await start_valkey(self._supervisor, self._data_dir, self._servers)
        with say.step("migrations and credentials"):
            credentials = await self._prepare_database()
        with say.step(f"API and workers ({options.api_processes} + {options.workers})"):
            api = await self._supervisor.start(*program_parts("api", options.api_processes, self._environ, self._data_dir.logs))
            workers = await self._supervisor.start(*program_parts("worker", options.workers, self._environ, self._data_dir.logs))
            ready = wait_until_answering(_reachable(options.host), options.port, "/readyz", timeout_s=API_READY_S)
            await self._supervisor.until_ready(ready, [*api, *workers])
        self._ready_with = credentials
        self._parts_changed(self._supervisor.parts)
        self._announce(credentials)
        ours = [part.spec.log for part in (*api, *workers) if part.spec.log is not None]
        await logs.follow([*ours, *self._server_logs()], say.say, watched=lambda log: log in ours)

    async def _prepare_database(self) -> Credentials:
        await postgres.wait_until_ready(self._urls.database_url, timeout_s=FOREIGN_SERVER_READY_S)
        connection = await asyncpg.connect(self._urls.database_url)
        try:
            await migrate(connection)
            sealer = sealer_of(load_settings(self._environ))
            credentials = await first_credentials(connection, self._data_dir, demo=self._options.demo, sealer=sealer)
            # What an older release left plain; and, while a master key is being rotated, what is under the older one.
            one_key = "," not in self._environ[f"{PREFIX}MASTER_KEY"]
            resealed = await reseal(connection, sealer, only_plain=one_key)
            if resealed.sealed:
                self._reporter.say(f"sealed {resealed.sealed} secrets with the newest master key")
            if resealed.unopenable:
                self._reporter.say(f"{resealed.unopenable} secrets cannot be opened with the master keys that are set")
            return credentials
        finally:
            await connection.close()

    def _server_logs(self) -> list[Path]:
        return [part.spec.log for part in self._supervisor.parts if part.spec.kind in ("postgres", "valkey") and part.spec.log is not None]

    def _parts_changed(self, parts: list[Part]) -> None:
        """After each start of a part: remember its process for the next run, and tell the world once everything is there."""
        try:
            remember_parts(self._data_dir, parts)
            if self._ready_with is not None:
                write_private(self._data_dir.up, self._up_file(self._ready_with, parts))
        except OSError as error:  # a full disk must not stop the supervision
            self._reporter.say(f"{error.filename} cannot be written: {error.strerror}; the pids in up.json are out of date")

    def _up_file(self, credentials: Credentials, parts: list[Part]) -> UpFile:
        def pids(kind: str) -> list[int]:
            return [part.pid for part in parts if part.spec.kind == kind and part.pid is not None]

        api = _api_url(self._options)
        return UpFile(
            api=api,
            dashboard=f"{api}/dashboard",
            database_url=self._urls.database_url,
            balance_redis_url=self._urls.balance_redis_url,
            queue_redis_url=self._urls.queue_redis_url,
            operator=credentials.operator,
            platforms=credentials.platforms,
            pids=Pids(
                api=pids("api"),
                worker=pids("worker"),
                postgres=next(iter(pids("postgres")), None),
                valkey=next(iter(pids("valkey")), None),
            ),
        )

    def _announce(self, credentials: Credentials) -> None:
        api = _api_url(self._options)
        say = self._reporter.say
        self._reporter.heading("greenpoints is up")
        say(f"  API        {api}    docs {api}/docs")
        say(f"  operator   {credentials.operator.email}")
        say(f"  secrets    {self._data_dir.up}    (keys, passwords, addresses, pids)")
        if credentials.platforms:
            say("  first credit:")
            for line in first_credit(api, credentials.platforms[0]):
                say(f"    {line}")
        say("  Ctrl-C stops it; the data stays")


def first_credit(api: str, platform: PlatformCredentials) -> list[str]:
    """A curl command, in lines, that credits points from the demo's running campaigns."""
    order = "demo-'$(date +%s)'"
    event = (
        f'{{"id": "{order}:paid", "type": "order.paid", "occurred_at": "\'$(date -u +%FT%TZ)\'", "consumer": "cust-42", '
        f'"order": {{"id": "{order}", "currency": "CNY", "total": "78.00"}}, '
        '"lines": [{"id": "1", "sku": "DEMO-TISSUE", "quantity": "2", "unit_price": "39.00"}], '
        '"packaging": {"class": "ship_in_own_container", "parcels": 1}}'
    )
    return [
        f"curl {api}/v1/events -H 'Authorization: Bearer {platform.api_key}' \\",
        f"  -H 'Content-Type: application/json' -d '{event}'",
    ]


def _api_url(options: UpOptions) -> str:
    host = _reachable(options.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{options.port}"


def _reachable(host: str) -> str:
    """An address on which we reach ourselves when we listen on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on

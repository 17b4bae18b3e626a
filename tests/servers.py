"""Servers and processes for tests: each is started by the test that needs it and ended by its handle."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from service.local.command import Command
from service.local.ports import choose_port
from service.local.programs import wait_until_answering
from service.logs import configure_logging
from service.settings import Settings

if TYPE_CHECKING:
    from litestar import Litestar

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0


@contextlib.contextmanager
def running(command: Command, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server in the foreground, ended by its process handle."""
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command.argv, env=dict(command.env), cwd="/", stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT
        ) as process,
    ):
        assert process.stdin is not None
        process.stdin.write(command.stdin)
        process.stdin.close()
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


class Program:
    """One process of ours, `service.api` or `workers`: started, killed and started again as a supervisor would."""

    def __init__(self, module: str, settings: Settings, log: Path, **more: str) -> None:
        """`more`: settings by their name in capitals, without the prefix."""
        self.port = choose_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._module = module
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        own = {name: value for name, value in os.environ.items() if not name.startswith("GREENPOINTS_")}
        urls = {
            "DATABASE_URL": settings.database_url,
            "BALANCE_REDIS_URL": settings.balance_redis_url,
            "QUEUE_REDIS_URL": settings.queue_redis_url,
            "MASTER_KEY": settings.master_key,
            "STOP_DELAY_S": "0",
            "FRAUD_MODE": "shadow",  # tests of other things send what no shop would
        } | more
        self._environ = own | {f"GREENPOINTS_{name}": value for name, value in urls.items()} | {"GREENPOINTS_PORT": str(self.port)}

    async def start(self) -> None:
        """Start it; an API is awaited until it takes credits."""
        with self._log.open("ab") as out:
            argv = [sys.executable, "-P", "-m", self._module]
            self._process = subprocess.Popen(argv, env=self._environ, stdout=out, stderr=subprocess.STDOUT)  # noqa: ASYNC220 - a fork of milliseconds
        if self._module == "service.api":
            await wait_until_answering("127.0.0.1", self.port, "/readyz", timeout_s=READY_TIMEOUT_S)

    def kill(self) -> None:
        """SIGKILL it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)

    def end(self) -> None:
        """Let it end by itself, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()


@contextlib.asynccontextmanager
async def programs(
    settings: Settings, folder: Path, *, apis: int = 2, workers: int = 0
) -> AsyncIterator[tuple[list[Program], list[Program]]]:
    """API processes, each on a port of its own, and workers; ended afterwards by their handles."""
    made = [Program("service.api", settings, folder / f"api-{n}.log") for n in range(apis)]
    made += [Program("workers", settings, folder / f"worker-{n}.log") for n in range(workers)]
    try:
        await asyncio.gather(*(program.start() for program in made))
        yield made[:apis], made[apis:]
    finally:
        for program in made:
            program.end()


_stopped: dict[Settings, "Litestar"] = {}
"""Applications that were started and stopped in order; reading the signatures of all handlers anew takes long."""


@contextlib.asynccontextmanager
async def started(settings: Settings) -> AsyncIterator["Litestar"]:
    """The real application inside this process, with everything that runs beside its requests. Two at once are two applications."""
    from service.api.app import create_app  # noqa: PLC0415 - pure tests do not wait for it

    configure_logging(settings.log_format)  # as making one does: tests between may have set it up otherwise
    app = _stopped.pop(settings, None) or create_app(settings)
    async with app.lifespan():
        yield app
    _stopped[settings] = app


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple["Litestar", httpx.AsyncClient]]:
    """The real application inside this process, and a client that calls it."""
    async with (
        started(settings) as app,
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client,
    ):
        yield app, client

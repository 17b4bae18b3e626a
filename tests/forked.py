"""Processes of ours that start at once: forked from a server that has imported everything, and real ones otherwise.

For tests that need many of them one after the other (tests/system/test_failpoints.py); `tests.servers.Program` starts them as people do.
"""

import asyncio
import importlib
import multiprocessing
import os
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from service.local.ports import choose_port
from service.local.programs import wait_until_answering
from service.settings import Settings

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["service.api.__main__", "workers.__main__"])
READY_TIMEOUT_S = 30.0
END_TIMEOUT_S = 15.0


def _run(module: str, environ: dict[str, str], log: str) -> None:
    os.environ.clear()
    os.environ.update(environ)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(out, descriptor)
    sys.exit(importlib.import_module(f"{module}.__main__").main())


class Forked:
    """One process, `service.api` or `workers`."""

    def __init__(self, module: str, settings: Settings, log: Path, **more: str) -> None:
        """`more`: settings by their name in capitals, without the prefix."""
        self.port = choose_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._module = module
        own = {name: value for name, value in os.environ.items() if not name.startswith("GREENPOINTS_")}
        given = {
            "DATABASE_URL": settings.database_url,
            "BALANCE_REDIS_URL": settings.balance_redis_url,
            "QUEUE_REDIS_URL": settings.queue_redis_url,
            "MASTER_KEY": settings.master_key,
            "STOP_DELAY_S": "0",
            "FRAUD_MODE": "shadow",  # tests of other things send what no shop would
            "PORT": str(self.port),
        } | more
        environ = own | {f"GREENPOINTS_{name}": value for name, value in given.items()}
        self._process: ForkServerProcess = _CONTEXT.Process(target=_run, args=(module, environ, str(log)), daemon=True)

    async def start(self) -> None:
        """Start it; an API is awaited until it takes credits."""
        await asyncio.to_thread(self._process.start)
        if self._module == "service.api":
            await wait_until_answering("127.0.0.1", self.port, "/readyz", timeout_s=READY_TIMEOUT_S)

    async def ended(self) -> int:
        """Its exit code, once it has ended by itself."""
        end = time.monotonic() + END_TIMEOUT_S
        while (code := self._process.exitcode) is None:
            assert time.monotonic() < end, f"{self._module} goes on"
            await asyncio.sleep(0.01)
        return code

    def end(self) -> None:
        """End it, if it still runs."""
        if self._process.pid is not None and self._process.exitcode is None:
            self._process.kill()
            self._process.join(END_TIMEOUT_S)

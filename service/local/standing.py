"""Servers of a command that must also work while `greenpoints up` does not: those that are named, or the embedded ones, started for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from service.local.data_dir import DataDir, embedded_servers, is_used, open_data_dir
from service.local.embedded import choose_urls, end_leftovers, remember_parts, start_postgres, start_valkey
from service.local.identity import LocalError
from service.local.supervisor import Supervisor
from service.settings import PREFIX

URLS = ("DATABASE_URL", "BALANCE_REDIS_URL", "QUEUE_REDIS_URL")

Say = Callable[[str], None]


@contextlib.asynccontextmanager
async def standing_servers(
    data_dir: Path, environ: Mapping[str, str], *, needs: Sequence[str] = URLS, create: bool, say: Say
) -> AsyncIterator[dict[str, str]]:
    """The environment with the addresses of servers that run until the end.

    Those of `needs` that it does not name are the embedded ones of the data directory, which are started here: while this lasts no
    `greenpoints up` runs on it. `create`: PostgreSQL may be made anew where nothing is left of it.

    Raises LocalError: an `up` is using the data directory, or nothing is there that could be started.
    """
    kept = DataDir(root=data_dir)
    named = bool(environ.get(f"{PREFIX}DATABASE_URL"))
    if all(environ.get(PREFIX + name) for name in needs) or (named and not kept.root.is_dir()):
        yield dict(environ)
        return
    if not create and not named and not (kept.cluster / "PG_VERSION").is_file():
        raise LocalError(
            f"there is no PostgreSQL in {kept.root}: name the data directory of `greenpoints up` with --data-dir, "
            f"or your server with {PREFIX}DATABASE_URL"
        )
    with open_data_dir(data_dir) as held:
        end_leftovers(held, say)
        servers = embedded_servers(held)
        urls = choose_urls(environ, servers)
        with contextlib.suppress(OSError):
            held.up.unlink(missing_ok=True)  # of a run that was killed
        supervisor = Supervisor(say=say, changed=lambda parts: remember_parts(held, parts))
        try:
            if urls.postgres_embedded:
                await start_postgres(supervisor, held, servers)
            if urls.valkey_embedded and set(needs) != {"DATABASE_URL"}:
                await start_valkey(supervisor, held, servers)
            yield {**environ, **urls.as_environment()}
        finally:
            await asyncio.shield(supervisor.stop(asyncio.Event()))
            held.parts.unlink(missing_ok=True)


def running_servers(data_dir: Path) -> dict[str, str]:
    """The addresses of the `greenpoints up` that is using the data directory; empty when none does, or it has not told yet."""
    if not is_used(data_dir):
        return {}
    try:
        content = msgspec.json.decode((data_dir / "up.json").read_bytes(), type=dict[str, object])
    except (OSError, msgspec.DecodeError):
        return {}
    return {PREFIX + name: str(content[name.lower()]) for name in URLS if name.lower() in content}

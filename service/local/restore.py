"""Restores: everything is verified before anything is touched; then all of the data comes in one transaction, or nothing has happened."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import asyncpg
from msgspec import Struct

from schemas.backups import Erasures, Manifest
from service.flows import migrate
from service.local.backup import CHUNK_BYTES, CONNECT_TIMEOUT_S, DUMP, Progress, UnusableBackup, end, read_erasures, read_manifest, verify
from service.local.identity import LocalError
from service.local.pg_tools import Tools, choose_tools, connection_environment
from service.store import backups as store
from service.store.migrations import Applied

NAME: Final = "greenpoints restore"
# Every pg_restore since 17 says so, and servers before 17 do not know it.
UNKNOWN_BEFORE_17: Final = b"SET transaction_timeout = 0;\n"


class Plan(Struct, frozen=True, kw_only=True):
    """A restore that nothing stands in the way of."""

    folder: Path
    manifest: Manifest
    tools: Tools
    replace: bool
    keep_erasures: bool
    """Whether those whom the database that is replaced had erased are erased again."""
    erasures: Erasures | None
    """The same from a file."""


class Loaded(Struct, frozen=True, kw_only=True):
    """The data is there: the epoch it has begun, persons erased again, migrations applied."""

    epoch: int
    erased_again: int
    migrated: list[str]


async def plan(
    folder: Path, *, url: str, replace: str | None, erasures: Path | None, master_keys: list[str], other_key: bool, verifying: Progress
) -> Plan:
    """Look at the backup and at the database; changes nothing. `replace`: the database's name, confirmed; `master_keys`: fingerprints.

    Raises UnusableBackup, LocalError (the database is in use, not empty, too old, the key is another), MigrationRefused.
    """
    manifest = read_manifest(folder)
    migrate.pending(
        migrate.read_migrations(), [Applied(name=m.name, sha256=m.sha256, applied_at=manifest.snapshot_at) for m in manifest.migrations]
    )
    if manifest.master_keys and master_keys and not set(manifest.master_keys) & set(master_keys) and not other_key:
        raise LocalError(
            "the master key that is set is none of those of the backup: set GREENPOINTS_MASTER_KEY to that one, "
            "or say --other-master-key; hooks and development keys then need new secrets"
        )
    listed = None if erasures is None else read_erasures(erasures, deployment=manifest.deployment)
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S, server_settings={"application_name": NAME})
    try:
        target = await store.target(connection)
    finally:
        await connection.close()
    _fits(target, manifest, replace)
    verify(folder, manifest, verifying)
    return Plan(
        folder=folder, manifest=manifest, tools=choose_tools(at_least=max(target.server_version // 10_000, manifest.tool_version)),
        replace=replace is not None, keep_erasures=target.has_erasures and target.deployment == manifest.deployment, erasures=listed,
    )  # fmt: skip


def _fits(target: store.Target, manifest: Manifest, replace: str | None) -> None:
    """Raises LocalError when the database cannot take the backup."""
    if target.others:
        others = ", ".join(f"{name} ({number})" for name, number in target.others)
        raise LocalError(f"the database {target.database} is in use by {others}: stop the API, the workers and whatever else is connected")
    if target.server_version // 10_000 < manifest.server_version // 10_000:
        raise LocalError(
            f"the backup is of PostgreSQL {manifest.server_version // 10_000}, this server is {target.server_version // 10_000}: "
            "restore into the same version or a later one"
        )
    if target.schema != manifest.schema:
        raise LocalError(f"the backup's tables are in the schema {manifest.schema!r}, this database would look in {target.schema!r}")
    if replace is not None and replace != target.database:
        raise LocalError(f"--replace must name the database that is thrown away, which is {target.database}; nothing was changed")
    if target.objects and replace is None:
        raise LocalError(
            f"the database {target.database} is not empty: restore into an empty one, "
            f"or say --replace {target.database} to throw away what it holds"
        )


async def load(chosen: Plan, *, url: str, loading: Progress) -> Loaded:
    """Bring the data in one transaction, then the schema to this release. `loading` is called with rows, about.

    Interrupted before the transaction commits, by whatever, it has changed nothing. Afterwards what is left to do is what `migrate` and
    the workers do anyway. Raises LocalError.
    """
    await _pipe(chosen, url, loading)
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S, server_settings={"application_name": NAME})
    try:
        epoch, erased_again = await store.restored(connection)
        migrated = await migrate.migrate(connection)
        await store.analyse(connection)
    finally:
        await connection.close()
    return Loaded(epoch=epoch, erased_again=erased_again, migrated=migrated)


async def _pipe(chosen: Plan, url: str, loading: Progress) -> None:
    """pg_restore writes the script, psql runs it between our own first and last words; without the last one nothing is committed."""
    manifest, tools = chosen.manifest, chosen.tools
    words = [
        tools.path("pg_restore"),
        "--file=-",
        f"--schema={manifest.schema}",
        "--no-owner",
        "--no-privileges",
        str(chosen.folder / DUMP),
    ]
    psql = [tools.path("psql"), "--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--output=/dev/null", "--file=-"]
    opening = store.opening(
        schema=manifest.schema, replace=chosen.replace, keep_erasures=chosen.keep_erasures, erasures=chosen.erasures
    )  # fmt: skip
    environ = connection_environment(url, name=NAME)
    plain = {name: value for name, value in environ.items() if not name.startswith("PG")}
    async with _running(words, plain, reads=False) as source, _running(psql, environ, reads=True) as sink:
        try:
            await _write(sink, opening.encode())
            await _copy(source, sink, max(sum(manifest.rows.values()), 1), loading)
            if await source.wait() != 0:
                raise UnusableBackup(f"pg_restore could not read {chosen.folder / DUMP}: {await last_words(source)}; nothing was changed")
            await _write(sink, store.closing(manifest).encode())
        except (BrokenPipeError, ConnectionResetError):
            pass  # psql has ended, and says why
        assert sink.stdin is not None
        sink.stdin.close()
        said = await last_words(sink)
        if await sink.wait() != 0:
            raise LocalError(f"PostgreSQL refused the restore: {said}; nothing was changed")


async def _copy(source: asyncio.subprocess.Process, sink: asyncio.subprocess.Process, rows: int, loading: Progress) -> None:
    """All that the one writes to the other; lines stand for rows, the few that are none do not matter."""
    assert source.stdout is not None
    done, first = 0, True
    while chunk := await source.stdout.read(CHUNK_BYTES):
        done += chunk.count(b"\n")
        await _write(sink, chunk.replace(UNKNOWN_BEFORE_17, b"") if first else chunk)
        first = False
        loading(min(done, rows), rows)


async def _write(sink: asyncio.subprocess.Process, content: bytes) -> None:
    assert sink.stdin is not None
    sink.stdin.write(content)
    await sink.stdin.drain()


@contextlib.asynccontextmanager
async def _running(words: list[str], environ: dict[str, str], *, reads: bool) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *words, env=environ, stdin=asyncio.subprocess.PIPE if reads else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL if reads else asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=CHUNK_BYTES,
    )  # fmt: skip
    try:
        yield process
    finally:
        await end(process)


async def last_words(process: asyncio.subprocess.Process) -> str:
    """What a program said first about why it failed: the first line with an error, without where in the script it stands."""
    assert process.stderr is not None
    lines = [line.strip() for line in (await process.stderr.read()).decode(errors="replace").splitlines() if line.strip()]
    errors = [line.partition("ERROR:")[2] or line.partition("error:")[2] for line in lines]
    return next((error.strip() for error in errors if error), lines[-1] if lines else "it did not say why")

"""Backups: a directory with what pg_dump writes of one snapshot, and a manifest that says what it is. The system works on meanwhile."""

import asyncio
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final, TypeAlias

import asyncpg
import msgspec

from schemas.backups import FORMAT, Erasures, Manifest
from service.local.identity import LocalError
from service.local.pg_tools import Tools, choose_tools, connection_environment
from service.local.private import open_private, sync_folder_of
from service.store import backups as store
from service.store.connection import Connection

DUMP: Final = "database.dump"
MANIFEST: Final = "manifest.json"
NAME: Final = "greenpoints backup"
CHUNK_BYTES: Final = 2**20
MAX_MANIFEST_BYTES: Final = 2**20
CONNECT_TIMEOUT_S: Final = 10.0

Progress: TypeAlias = Callable[[int, int], None]
"""Called with what is done, and all of it."""


class UnusableBackup(LocalError):
    """The backup is damaged, incomplete or not one of ours."""


async def back_up(folder: Path, *, url: str, master_keys: Sequence[str], told: Progress) -> Manifest:
    """Write a backup of the database to a new directory; it gets its name when it is whole. `master_keys`: their fingerprints.

    `told` is called with rows. Reads one snapshot, changes nothing. Raises LocalError: the directory is there
    already, the disk is full, no pg_dump fits, somebody migrated meanwhile.
    """
    partial = _make_folder(folder)
    try:
        manifest = await _back_up(partial, url, master_keys, told)
        with open_private(partial / MANIFEST) as file:
            file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        sync_folder_of(partial / MANIFEST)
        partial.rename(folder)
        sync_folder_of(folder)
    except OSError as error:
        if error.filename is None:
            raise  # of a connection
        raise LocalError(f"{error.filename} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


async def _back_up(partial: Path, url: str, master_keys: Sequence[str], told: Progress) -> Manifest:
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S, server_settings={"application_name": NAME})
    try:
        tools = choose_tools(at_least=connection.get_server_version().major)
        manifest = await _write(partial, connection, tools, url, master_keys, told)
        if await store.migrations(connection) != manifest.migrations:
            raise LocalError("the database was migrated meanwhile: back it up again")
        return manifest
    finally:
        await connection.close()


def _make_folder(folder: Path) -> Path:
    """An empty directory beside it, for the time until it is whole; what a run that was killed has left there goes. Raises LocalError."""
    if folder.exists():
        raise LocalError(f"{folder} is there already; nothing is overwritten")
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        if partial.is_dir() and {path.name for path in partial.iterdir()} <= {DUMP, MANIFEST}:
            shutil.rmtree(partial)
        partial.mkdir(mode=0o700)
    except OSError as error:
        raise LocalError(f"{partial} cannot be made: {error.strerror}") from None
    return partial


async def _write(partial: Path, connection: Connection, tools: Tools, url: str, master_keys: Sequence[str], told: Progress) -> Manifest:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        snapshot = await store.snapshot(connection)
        migrations = await store.migrations(connection)
        tables = await store.tables(connection)
        rows = {table: await store.count(connection, table) for table in tables}
        size, sha256 = await _dump(partial / DUMP, tools, url, snapshot, rows, told)
    return Manifest(
        format=FORMAT, id=secrets.token_hex(8), made_by=version("greenpoints"), deployment=snapshot.deployment,
        master_keys=list(master_keys), snapshot_at=snapshot.at, complete_until=snapshot.complete_until, epoch=snapshot.epoch,
        server_version=snapshot.server_version, tool_version=tools.major,
        schema=snapshot.schema, migrations=migrations, bytes=size, sha256=sha256, rows=rows,
    )  # fmt: skip


async def _dump(path: Path, tools: Tools, url: str, snapshot: store.Snapshot, rows: dict[str, int], told: Progress) -> tuple[int, str]:
    """Run pg_dump on the snapshot; bytes and SHA-256 of what it wrote."""
    words = [tools.path("pg_dump"), "--format=custom", "--compress=1", f"--snapshot={snapshot.name}", f"--schema={quoted(snapshot.schema)}"]
    words += ["--no-owner", "--no-privileges", "--verbose", "--no-password"]
    with open_private(path) as file:
        digest, size = hashlib.sha256(), 0
        process = await asyncio.create_subprocess_exec(
            *words, env=connection_environment(url, name=NAME), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, limit=CHUNK_BYTES,
        )  # fmt: skip
        said = asyncio.create_task(_follow(process, rows, told))
        try:
            assert process.stdout is not None
            while chunk := await process.stdout.read(CHUNK_BYTES):
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
            code, words_of_it = await process.wait(), await said
        finally:
            await end(process)
            said.cancel()
        if code != 0:
            raise LocalError(f"pg_dump could not read the database: {words_of_it}")
        file.flush()
        os.fsync(file.fileno())
    return size, digest.hexdigest()


async def _follow(process: asyncio.subprocess.Process, rows: dict[str, int], told: Progress) -> str:
    """Tell the rows of the tables that are done, as pg_dump tells which it begins; its last line in the end."""
    total, done, current, last = max(sum(rows.values()), 1), 0, 0, ""
    assert process.stderr is not None
    async for line in process.stderr:
        last = line.decode(errors="replace").strip() or last
        if "dumping contents of table" in last:
            done += current
            current = rows.get(last.rstrip('"').rpartition(".")[2].strip('"'), 0)
            told(done, total)
    told(total, total)
    return last.removeprefix("pg_dump: ").removeprefix("error: ")


async def end(process: asyncio.subprocess.Process) -> None:
    """Leave nothing running."""
    if process.returncode is None:
        process.kill()
        await process.wait()


def quoted(name: str) -> str:
    """A name as a pattern of pg_dump that fits nothing else."""
    return '"' + name.replace('"', '""') + '"'


# Reading ------------------------------------------------------------------------------------------------


def read_manifest(folder: Path) -> Manifest:
    """What a backup says it is. Raises UnusableBackup."""
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            manifest = msgspec.json.decode(file.read(MAX_MANIFEST_BYTES), type=Manifest)
    except FileNotFoundError:
        raise UnusableBackup(f"{folder} is not a backup: it has no {MANIFEST}") from None
    except OSError as error:
        raise UnusableBackup(f"{path} cannot be read: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise UnusableBackup(f"{path} is damaged: {error}") from None
    if manifest.format != FORMAT:
        raise UnusableBackup(
            f"{folder} was made by release {manifest.made_by} in a form that this one does not read: use that one or a later one"
        )
    return manifest


def verify(folder: Path, manifest: Manifest, told: Progress) -> None:
    """Read the whole file and compare it with the manifest. Raises UnusableBackup."""
    path = folder / DUMP
    digest, size = hashlib.sha256(), 0
    try:
        if path.stat().st_size != manifest.bytes:
            raise UnusableBackup(f"{path} has {path.stat().st_size:,} bytes, the manifest says {manifest.bytes:,}: it is not whole")
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                told(size, manifest.bytes)
    except OSError as error:
        raise UnusableBackup(f"{path} cannot be read: {error.strerror}") from None
    if digest.hexdigest() != manifest.sha256:
        raise UnusableBackup(
            f"{path} is not what was backed up (SHA-256 {digest.hexdigest()[:12]}, the manifest says {manifest.sha256[:12]})"
        )


# Who was erased -----------------------------------------------------------------------------------------


async def write_erasures(path: Path, *, url: str) -> Erasures:
    """Write the list of who was erased so far; a list that is there is replaced by the new one. Raises LocalError."""
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S, server_settings={"application_name": NAME})
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            found = await store.erasures(connection, format_=FORMAT)
    finally:
        await connection.close()
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        with open_private(fresh) as file:
            file.write(msgspec.json.encode(found) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        sync_folder_of(path)
    except OSError as error:
        raise LocalError(f"{path} cannot be written: {error.strerror}") from None
    return found


def read_erasures(path: Path, *, deployment: str) -> Erasures:
    """The list that `write_erasures` wrote. Raises UnusableBackup: damaged, or of another deployment."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Erasures)
    except OSError as error:
        raise UnusableBackup(f"{path} cannot be read: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise UnusableBackup(f"{path} is not a list of erasures: {error}") from None
    if found.format != FORMAT:
        raise UnusableBackup(f"{path} is in a form that this release does not read")
    if found.deployment != deployment:
        raise UnusableBackup(f"{path} is of another deployment than the backup")
    return found

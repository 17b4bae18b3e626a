"""`greenpoints backup`, `restore` and `erasures`."""

import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import click
import msgspec

from schemas.backups import Manifest, Restored
from schemas.checks import Report
from service.cli import progress
from service.cli.check import checked_report, show
from service.cli.servers import DATA_DIR_VARIABLE, DEFAULT_DATA_DIR, run
from service.flows import erase
from service.flows import rebuild as rebuild_flow
from service.local.backup import back_up, write_erasures
from service.local.data_dir import MASTER_KEY_FILE
from service.local.restore import Loaded, load, plan
from service.local.standing import running_servers, standing_servers
from service.runtime import open_for_checking
from service.sealing import fingerprints
from service.settings import PREFIX, Settings, load_settings

DATABASE = f"{PREFIX}DATABASE_URL"
MASTER_KEY = f"{PREFIX}MASTER_KEY"
DEADLINES = "deadlines"
"""The invariant that time alone breaks while no worker runs."""

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DATA_DIR,
    envvar=DATA_DIR_VARIABLE,
    show_default=True,
    help="Of `greenpoints up`, where GREENPOINTS_DATABASE_URL does not name a server.",
)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="The manifest as JSON.")
def backup(*, directory: Path, data_dir: Path, as_json: bool) -> None:
    """Write a backup of the database to a new DIRECTORY, while the system works or is stopped.

    It is one consistent snapshot: what was acknowledged before `complete_until` is in it. pg_dump writes `database.dump`, which
    pg_restore can read, too; `manifest.json` says what it is, with counts and a checksum. A directory without `.partial` in its name
    is whole; a run that was interrupted leaves nothing else behind.

    A backup holds PERSONAL DATA and sealed secrets: only its owner can read the files, keep it so. The master key is not in it: keep
    <data-dir>/master.key, or what GREENPOINTS_MASTER_KEY is, somewhere else, and <data-dir>/credentials.json if `up` runs it.
    docs/restore.md is the way back.
    """
    manifest = run(_backup(directory, data_dir))
    if not manifest.master_keys:
        _warn("no master key is known here, so the manifest cannot tell which one the sealed secrets need")
    if as_json:
        _print_json(manifest)
        return
    rows = sum(manifest.rows.values())
    print(f"{directory}: {rows:,} rows of {len(manifest.rows)} tables, {manifest.bytes:,} bytes")
    print(f"complete until {manifest.complete_until.isoformat()}; keep the master key elsewhere")


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@data_dir_option
@click.option("--replace", default=None, metavar="DATABASE", help="Throw away what the database of this name holds.")
@click.option(
    "--erasures", "erasures_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=None, metavar="FILE",
    help="Erase again who is on this list of `greenpoints erasures`.",
)  # fmt: skip
@click.option("--other-master-key", is_flag=True, help="Go on although the master key that is set is none of the backup's.")
@click.option("--json", "as_json", is_flag=True, help="What was done as JSON.")
def restore(
    *, directory: Path, data_dir: Path, replace: str | None, erasures_file: Path | None, other_master_key: bool, as_json: bool
) -> int:
    """Bring the database back to the backup in DIRECTORY; exit code 1 when an invariant does not hold afterwards.

    Deadlines that passed since the snapshot do not count for that: workers see to them once they start.

    Stop the API, the workers and `greenpoints up` first: whoever is connected is named, and nothing happens. The backup is read and
    compared with its manifest before anything is touched. The database must be empty, or be named with --replace. The data comes in one
    transaction: interrupted before its end, nothing has happened, and the command may simply be run again.

    What came after the snapshot is lost: platforms report again what they have reported since `complete_until`; what is in the backup
    already counts once. Who was erased since is erased again, as far as the database that is replaced, or --erasures, tells.

    Then the epoch is raised, so that nothing that Redis holds is read again, missing migrations are applied, Redis is filled, and every
    invariant is checked. docs/restore.md has all of it.
    """
    restored, report = run(_restore(directory, data_dir, replace, erasures_file, other_master_key))
    if as_json:
        _print_json(restored)
    else:
        print(f"restored {restored.rows:,} rows, the state of {restored.snapshot_at.isoformat()}; epoch {restored.epoch}")
        for name in restored.migrated:
            print(f"applied {name}")
        if restored.erased_again:
            print(f"erased {restored.erased_again:,} references again")
        print(f"wrote {restored.balances:,} balances")
        show(report)
        if restored.overdue:
            print(f"{restored.overdue:,} deadlines passed since the snapshot: workers see to them once they start, then check again")
        print(f"platforms report again what they have reported since {restored.complete_until.isoformat()}")
    return 0 if restored.ok else 1


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@data_dir_option
def erasures(*, file: Path, data_dir: Path) -> None:
    """Write the list of who was erased so far to FILE, for `greenpoints restore --erasures`.

    A backup brings back who was erased after it. Write this list every hour, to a place that outlives the database; a restore then erases
    them again. It names nobody: account numbers and keyed hashes. A list that is there is replaced, whole.
    """

    async def write() -> tuple[int, int]:
        async with _database(data_dir) as environ:
            found = await write_erasures(file, url=environ[DATABASE])
        return len(found.erased), len(found.refused)

    erased, refused = run(write())
    print(f"{file}: {erased:,} erasures, {refused:,} refused references")


# Steps -------------------------------------------------------------------------------------------------


async def _backup(directory: Path, data_dir: Path) -> Manifest:
    async with _database(data_dir) as environ:
        keys = fingerprints(_master_key(environ, data_dir))
        with progress.told("rows") as told:
            return await back_up(directory, url=environ[DATABASE], master_keys=keys, told=told)


async def _restore(
    directory: Path, data_dir: Path, replace: str | None, erasures_file: Path | None, other_master_key: bool
) -> tuple[Restored, Report]:
    began = time.monotonic()
    async with standing_servers(data_dir, os.environ, create=True, say=_warn) as environ:
        settings = load_settings(environ)
        keys = fingerprints(_master_key(os.environ, data_dir))
        if not keys:
            _warn("no master key is set: what the backup has sealed cannot be compared with it")
        with progress.told("bytes verified") as verifying:
            chosen = await plan(
                directory, url=settings.database_url, replace=replace, erasures=erasures_file, master_keys=keys, other_key=other_master_key,
                verifying=verifying,
            )  # fmt: skip
        with progress.told("rows") as loading:
            loaded = await load(chosen, url=settings.database_url, loading=loading)
        balances = await _refill(settings)
        report = await checked_report(settings, quiet=False)
    return _restored(chosen.manifest, loaded, balances, report, time.monotonic() - began), report


async def _refill(settings: Settings) -> int:
    """Scrub what erasures have left, and write every balance to Redis; their number."""
    async with open_for_checking(settings, connections=2, name="greenpoints restore") as (pool, projection):
        await erase.finish_erasures(pool, projection)
        with progress.told("balances") as told:
            return await rebuild_flow.rebuild(pool, projection, progress=told)


def _restored(manifest: Manifest, loaded: Loaded, balances: int, report: Report, took_s: float) -> Restored:
    found = {i.name: i.found for i in report.invariants if not i.ok}
    overdue = found.pop(DEADLINES, 0)
    return Restored(
        backup=manifest.id, snapshot_at=manifest.snapshot_at, complete_until=manifest.complete_until, epoch=loaded.epoch,
        rows=sum(manifest.rows.values()), migrated=loaded.migrated, erased_again=loaded.erased_again, balances=balances, overdue=overdue,
        ok=not found, broken=found, took_s=took_s,
    )  # fmt: skip


# Where -------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _database(data_dir: Path) -> AsyncIterator[Mapping[str, str]]:
    """The environment with the address of the database: the one that is named, that of the running `up`, or the embedded one, started."""
    environ = {**running_servers(data_dir), **os.environ}
    async with standing_servers(data_dir, environ, needs=("DATABASE_URL",), create=False, say=_warn) as found:
        yield found


def _master_key(environ: Mapping[str, str], data_dir: Path) -> str:
    """The keys that are set, or the one that `up` keeps; empty when none is known."""
    if given := environ.get(MASTER_KEY):
        return given
    if os.environ.get(DATABASE):
        return ""
    try:
        return (data_dir / MASTER_KEY_FILE).read_text().strip()
    except OSError:
        return ""


def _warn(line: str) -> None:
    print(line, file=sys.stderr)


def _print_json(value: msgspec.Struct) -> None:
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())

"""`greenpoints export ledger|lots|balances|events`: files for audits, for analysis, and for leaving."""

import contextlib
import csv
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, Any, Final, Literal, Protocol, Self, cast

import click
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from service.cli.servers import connection, run
from service.flows import administer, export
from service.flows.export import Exported, Page, Sink, Tell
from service.local.identity import LocalError
from service.store.exports import COLUMNS, WHATS, Selection, Snapshot, Type, What

SCHEMA_VERSION: Final = 1
"""Of the columns; raised when one changes its meaning or goes."""
ROW_GROUP_ROWS: Final = 50_000
"""Rows of a Parquet row group: what is in memory while one is gathered."""
PLAIN_EVERY_ROWS: Final = 250_000
READ_BYTES: Final = 2**20

Format = Literal["parquet", "csv", "ndjson"]


class Written(Struct, frozen=True, kw_only=True):
    """One file of an export."""

    what: str
    file: str
    rows: int
    sums: dict[str, int]
    bytes: int
    sha256: str
    columns: dict[str, str]


class Manifest(Struct, frozen=True, kw_only=True):
    """What an export is: enough to see later that its files are whole and what they are of."""

    schema_version: int
    snapshot_at: datetime
    as_of: datetime | None
    epoch: int
    program: str | None
    platform: str | None
    references: bool
    format: str
    files: list[Written]


class Moment(click.ParamType[datetime]):
    """An RFC 3339 time with an offset."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time. Fails for one without an offset."""
        if isinstance(value, datetime):
            return value
        try:
            found = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a time such as 2026-01-01T00:00:00Z.", param, ctx)
        if found.tzinfo is None:
            self.fail(f"{value!r} needs an offset, such as Z or +08:00.", param, ctx)
        return found


@click.command("export")
@click.argument("whats", nargs=-1, required=True, type=click.Choice(WHATS))
@click.option("--format", "format_", required=True, type=click.Choice(["parquet", "csv", "ndjson"]))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new file, or a directory that exists.")
@click.option("--program", "program_code", default=None, metavar="CODE", help="One program only.")
@click.option(
    "--platform", "platform_code", default=None, metavar="CODE", help="One platform only: what it issued; consumers that it knows."
)
@click.option("--as-of", type=Moment(), default=None, metavar="TIME", help="As it was at this time (now, if it is left out).")
@click.option("--open", "open_lots", is_flag=True, help="Of lots, only those with something left: what another system can import.")
@click.option("--with-references", is_flag=True, help="With the platforms' names for consumers and the facts of events: personal data.")
def export_(
    *, whats: tuple[What, ...], format_: Format, out: Path, program_code: str | None, platform_code: str | None, as_of: datetime | None,
    open_lots: bool, with_references: bool,
) -> None:  # fmt: skip
    """Write the ledger, lots, balances or events to files, all from one snapshot; safe while the system works.

    A manifest beside them has counts, sums and checksums. An existing file is never overwritten.
    """
    paths = _paths(whats, format_, out)
    if with_references:
        print("PERSONAL DATA: these files name consumers. Keep them safe, and delete them when they have served.", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(_File(path, what, format_)) for what, path in paths.items()]
        snapshot, done = run(_export(list(zip(paths, files, strict=True)), program_code, platform_code, as_of, open_lots, with_references))
    written = [_written(exported, path, temporary=file.path) for exported, file, path in zip(done, files, paths.values(), strict=True)]
    manifest = Manifest(
        schema_version=SCHEMA_VERSION, snapshot_at=snapshot.at, as_of=as_of, epoch=snapshot.epoch, program=program_code,
        platform=platform_code, references=with_references, format=format_, files=written,
    )  # fmt: skip
    for file, path in zip(files, paths.values(), strict=True):
        file.path.rename(path)
    manifest_path = _manifest_path(out)
    with _private(manifest_path) as opened:
        opened.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    for one in written:
        print(f"{one.what}: {one.rows} rows, {', '.join(f'sum of {name} {total}' for name, total in one.sums.items())}")


def _paths(whats: Sequence[What], format_: Format, out: Path) -> dict[What, Path]:
    """The file of each. Raises click's errors for several into one file, or one that is there."""
    if out.is_dir():
        paths: dict[What, Path] = {what: out / f"{what}.{format_}" for what in dict.fromkeys(whats)}
    elif len(set(whats)) > 1:
        raise click.BadParameter(f"{out} must be a directory that exists, for several files.", param_hint="--out")
    else:
        paths = {whats[0]: out}
    if not out.parent.is_dir():
        raise click.BadParameter(f"{out.parent} is no directory.", param_hint="--out")
    for path in (*paths.values(), _manifest_path(out)):
        if path.exists():
            raise click.BadParameter(f"{path} is there already; nothing is overwritten.", param_hint="--out")
    return paths


def _manifest_path(out: Path) -> Path:
    return out / "manifest.json" if out.is_dir() else out.with_name(f"{out.name}.manifest.json")


async def _export(
    files: Sequence[tuple[What, "_File"]], program_code: str | None, platform_code: str | None, as_of: datetime | None, open_lots: bool,
    references: bool,
) -> tuple[Snapshot, list[Exported]]:  # fmt: skip
    async with connection() as conn:
        program = None if program_code is None else (await administer.choose_program(conn, program_code)).id
        platform = None if platform_code is None else (await administer.find_platform(conn, program=program, code=platform_code)).id
        selection = Selection(program=program, platform=platform, as_of=as_of, references=references, open_lots=open_lots)
        with _told() as tell:
            return await export.export(conn, files, selection, tell=tell)


@contextlib.contextmanager
def _told() -> Iterator[Tell]:
    """A bar on a terminal, a plain line now and then otherwise."""
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("export", total=None)
            yield lambda what, rows, about: bar.update(task, completed=rows, total=max(about, rows) if about else None, description=what)
        return

    def tell(what: What, rows: int, about: int) -> None:
        if rows % PLAIN_EVERY_ROWS == 0:
            print(f"{what}: {rows:,}{f' of about {about:,}' if about else ''} rows", file=sys.stderr)

    yield tell


# Files ---------------------------------------------------------------------------------------------------


def _private(path: Path) -> IO[bytes]:
    """A file that only its owner reads; what an export that was killed left there goes. Raises LocalError."""
    try:
        path.unlink(missing_ok=True)
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except OSError as error:
        raise LocalError(f"{path} cannot be written: {error.strerror}") from None


def _written(exported: Exported, path: Path, *, temporary: Path) -> Written:
    digest = hashlib.sha256()
    with temporary.open("rb") as opened:
        while chunk := opened.read(READ_BYTES):
            digest.update(chunk)
    return Written(
        what=exported.what, file=path.name, rows=exported.rows, sums=exported.sums, bytes=temporary.stat().st_size,
        sha256=digest.hexdigest(), columns=dict(COLUMNS[exported.what]),
    )  # fmt: skip


class _Writer(Sink, Protocol):
    def close(self) -> None: ...


class _File:
    """A file in the making, `NAME.partial` until the export is whole; removed when it fails."""

    def __init__(self, path: Path, what: What, format_: Format) -> None:
        self.path = path.with_name(f"{path.name}.partial")
        self._opened = _private(self.path)
        columns = COLUMNS[what]
        self._writer: _Writer
        if format_ == "parquet":
            self._writer = _Parquet(self._opened, columns)
        elif format_ == "csv":
            self._writer = _Csv(self._opened, columns)
        else:
            self._writer = _Ndjson(self._opened, columns)

    def write(self, page: Page) -> None:
        """Append rows. Raises LocalError when the disk is full or gone."""
        try:
            self._writer.write(page)
        except OSError as error:
            raise LocalError(f"{self.path} cannot be written: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._writer.close()
            self._opened.flush()
            os.fsync(self._opened.fileno())
            self._opened.close()
        finally:
            if kind is not None:
                self.path.unlink(missing_ok=True)


def _plain(value: object) -> object:
    """Times in UTC, as RFC 3339."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value


class _Csv:
    def __init__(self, opened: IO[bytes], columns: Mapping[str, Type]) -> None:
        self._opened = opened
        self._encoded = csv.writer(cast("Any", self))
        self._text: list[str] = []
        self._encoded.writerow(columns)

    def write(self, page: Page | str) -> None:
        """Rows; or, called by the csv module, text."""
        if isinstance(page, str):
            self._text.append(page)
            return
        self._encoded.writerows([["" if cell is None else _plain(cell) for cell in row] for row in page])
        self._drain()

    def _drain(self) -> None:
        self._opened.write("".join(self._text).encode())
        self._text.clear()

    def close(self) -> None:
        self._drain()


class _Ndjson:
    def __init__(self, opened: IO[bytes], columns: Mapping[str, Type]) -> None:
        self._opened = opened
        self._columns = list(columns)
        self._encoder = msgspec.json.Encoder()

    def write(self, page: Page) -> None:
        rows = [{name: _plain(value) for name, value in zip(self._columns, row, strict=True)} for row in page]
        self._opened.write(self._encoder.encode_lines(rows))

    def close(self) -> None:
        pass


class _Parquet:
    """Row groups of ROW_GROUP_ROWS rows; integers as int64, times in UTC to the microsecond."""

    def __init__(self, opened: IO[bytes], columns: Mapping[str, Type]) -> None:
        import pyarrow as pa  # noqa: PLC0415 - large, and no other command needs it
        import pyarrow.parquet as pq  # noqa: PLC0415

        types = {"integer": pa.int64(), "text": pa.string(), "time": pa.timestamp("us", tz="UTC"), "date": pa.date32()}
        self._pa = pa
        self._schema = pa.schema([(name, types[type_]) for name, type_ in columns.items()])
        self._writer = pq.ParquetWriter(opened, self._schema, compression="zstd")
        self._rows: Page = []

    def write(self, page: Page) -> None:
        self._rows += page
        if len(self._rows) >= ROW_GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            arrays = [
                self._pa.array(values, type=field.type) for values, field in zip(zip(*self._rows, strict=True), self._schema, strict=True)
            ]
            self._writer.write_table(self._pa.Table.from_arrays(arrays, schema=self._schema))
            self._rows = []

    def close(self) -> None:
        self._flush()
        self._writer.close()

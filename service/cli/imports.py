"""`greenpoints import certificates|products|plastics FILE`; balances are in `service.cli.openings`, assets in `service.cli.assets`."""

import csv
import io
import sys
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import click
import msgspec
from rich.progress import track

from schemas.bounds import MAX_IMPORT_ROWS
from schemas.registries import ImportAnswer
from service.cli.servers import connection, run
from service.domain import imports
from service.domain.imports import Format
from service.flows import administer, plastics, registries
from service.flows.administer import BY_COMMAND
from service.store.connection import Connection

T = TypeVar("T")

FORMATS: dict[str, Format] = {".json": "json", ".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv"}
MAX_FILE_BYTES = 256 * 2**20
SHOWN_ROWS = 20

FILE = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
PROGRAM = click.option("--program", "program_code", default=None, metavar="CODE", help="Their program; needed when there are several.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Counts and every row that was not taken, as JSON.")


@click.group("import")
def import_() -> None:
    """Certificates, products, reusable packaging, plastics and opening balances in bulk, from .json (an array), .ndjson or .csv.

    A row that is wrong stops no other and makes the exit code 1. Safe to repeat.
    """


@import_.command("certificates")
@FILE
@PROGRAM
@AS_JSON
def import_certificates(*, file: Path, program_code: str | None, as_json: bool) -> int:
    """CSV columns: scheme, number, holder, valid_from, valid_until, gtins (separated by spaces)."""

    async def take(conn: Connection, body: bytes, program: int) -> ImportAnswer:
        return await registries.import_certificates(conn, imports.certificate_rows(body, _format(file)), program=program)

    return report(run(_import(file, program_code, take)), as_json=as_json)


@import_.command("products")
@FILE
@PROGRAM
@AS_JSON
def import_products(*, file: Path, program_code: str | None, as_json: bool) -> int:
    """CSV columns: gtin, name, category, platform, sku; the row is repeated for more SKUs."""

    async def take(conn: Connection, body: bytes, program: int) -> ImportAnswer:
        return await registries.import_products(conn, imports.product_rows(body, _format(file)), program=program)

    return report(run(_import(file, program_code, take)), as_json=as_json)


@import_.command("plastics")
@FILE
@click.option("--platform", "platform_code", required=True, metavar="CODE", help="Whose plastic this is.")
@PROGRAM
@AS_JSON
def import_plastics(*, file: Path, platform_code: str, program_code: str | None, as_json: bool) -> int:
    """CSV columns: id, period, class, kind, mass_g or mass_kg, units, merchant, note, corrects."""

    async def take(conn: Connection, body: bytes, program: int) -> ImportAnswer:
        owner = await administer.find_platform(conn, program=program, code=platform_code)
        taken = await plastics.report(conn, imports.plastic_rows(body, _format(file)), platform=owner, change=BY_COMMAND)
        return ImportAnswer(
            created=taken.created, updated=taken.updated, unchanged=taken.unchanged, rejected=taken.rejected, results=[*taken.results]
        )

    return report(run(_import(file, program_code, take)), as_json=as_json)


async def _import(file: Path, program_code: str | None, take: Callable[[Connection, bytes, int], Awaitable[ImportAnswer]]) -> ImportAnswer:
    """Hand the file over in bodies of at most MAX_IMPORT_ROWS rows, and add up the answers; rows are numbered through the whole file."""
    bodies = list(_bodies(file))
    answers: list[ImportAnswer] = []
    async with connection() as conn:
        program = (await administer.choose_program(conn, program_code)).id
        for body in track(bodies, file.name, disable=not sys.stderr.isatty()):
            answers.append(await take(conn, body, program))  # noqa: PERF401 - one after the other is the point
    results = [
        msgspec.structs.replace(result, row=result.row + number * MAX_IMPORT_ROWS)
        for number, answer in enumerate(answers)
        for result in answer.results
    ]
    return ImportAnswer(
        created=sum(answer.created for answer in answers),
        updated=sum(answer.updated for answer in answers),
        unchanged=sum(answer.unchanged for answer in answers),
        rejected=sum(answer.rejected for answer in answers),
        results=results,
    )


def _format(file: Path) -> Format:
    found = FORMATS.get(file.suffix.lower())
    if found is None:
        raise click.BadParameter(f"{file.name} must end in {', '.join(FORMATS)}.", param_hint="FILE")
    return found


def _bodies(file: Path) -> Iterator[bytes]:
    """The file in bodies of at most MAX_IMPORT_ROWS rows. One that cannot be cut is handed over whole: who reads it tells its errors."""
    format_ = _format(file)
    if file.stat().st_size > MAX_FILE_BYTES:
        raise click.BadParameter(f"{file.name} is larger than {MAX_FILE_BYTES // 2**20} MiB: split it.", param_hint="FILE")
    content = file.read_bytes()
    if format_ == "csv":
        yield from _csv_bodies(content)
    elif format_ == "ndjson":
        for rows in _pieces(line for line in content.splitlines() if line.strip()):
            yield b"\n".join(rows)
    else:
        try:
            array = msgspec.json.decode(content, type=list[msgspec.Raw])
        except (msgspec.DecodeError, RecursionError):
            yield content
            return
        for raws in _pieces(bytes(raw) for raw in array):
            yield b"[" + b",".join(raws) + b"]"


def _csv_bodies(content: bytes) -> Iterator[bytes]:
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error):
        yield content
        return
    for piece in _pieces(row for row in rows[1:] if row):
        text = io.StringIO(newline="")
        csv.writer(text).writerows([rows[0], *piece])
        yield text.getvalue().encode()


def _pieces(rows: Iterator[T]) -> Iterator[list[T]]:
    while piece := list(islice(rows, MAX_IMPORT_ROWS)):
        yield piece


def report(answer: ImportAnswer, *, as_json: bool) -> int:
    """Counts and what was not taken. Exit code 1 when a row was rejected."""
    rejected = [result for result in answer.results if result.status == "rejected"]
    if as_json:
        told = msgspec.structs.replace(answer, results=[result for result in answer.results if result.errors or result.warnings])
        print(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
    else:
        print(f"created {answer.created}, updated {answer.updated}, unchanged {answer.unchanged}, rejected {answer.rejected}")
        for result in rejected[:SHOWN_ROWS]:
            for error in result.errors:
                print(f"row {result.row}: {error.pointer}: {error.detail}", file=sys.stderr)
        if len(rejected) > SHOWN_ROWS:
            print(f"… and {len(rejected) - SHOWN_ROWS} rows more; --json lists them all", file=sys.stderr)
    return 1 if rejected else 0

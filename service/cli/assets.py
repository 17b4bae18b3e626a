"""`greenpoints import assets FILE`."""

import hashlib
import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

import click

from schemas.assets import AssetBody
from schemas.problems import FieldError
from schemas.registries import ImportAnswer
from service.cli.imports import AS_JSON, FILE, PROGRAM, report
from service.cli.progress import told
from service.cli.servers import connection, run
from service.domain import imports
from service.domain.openings import bounded_lines
from service.flows import administer, assets

FORMATS: dict[str, Literal["ndjson", "csv"]] = {".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv"}
MAX_LISTED = 10_000
"""Rejected rows that are kept to be told; more are counted."""
READ_BYTES = 2**20


@click.command("assets")
@FILE
@PROGRAM
@AS_JSON
def import_assets(*, file: Path, program_code: str | None, as_json: bool) -> int:
    """Reusable packaging, one a row, from .ndjson or .csv of any size, in one transaction: all the good rows of it, or none.

    CSV columns: asset (a GRAI, a GIAI or a code of your own), class, max_trips (may be left out).
    """
    if file.suffix.lower() not in FORMATS:
        raise click.BadParameter(f"{file.name} must end in {', '.join(FORMATS)}.", param_hint="FILE")
    begun = time.monotonic()
    answer = run(_import(file, program_code))
    code = report(answer, as_json=as_json)
    rows, took_s = answer.created + answer.unchanged + answer.rejected, time.monotonic() - begun
    print(f"{rows:,} rows in {took_s:.1f} s, {rows / max(took_s, 0.001):,.0f} rows/s", file=sys.stderr)
    return code


async def _import(file: Path, program_code: str | None) -> ImportAnswer:
    """What is in memory does not grow with the file, which is read twice: for its hash and length, and for its rows."""
    async with connection() as conn:
        program = (await administer.choose_program(conn, program_code)).id
        with (
            file.open("rb") as raw,
            io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="") as opened,
            told("assets") as tell,
        ):
            sha256, lines = _measured(raw)
            count = max(lines - (file.suffix.lower() == ".csv"), 1)  # without the heading; blank lines make it a little less
            rows = _rows(file, opened)
            return await assets.import_assets(
                conn, rows, program=program, sha256=sha256, max_rejected=MAX_LISTED, tell=lambda done: tell(min(done, count), count)
            )


def _rows(file: Path, opened: IO[str]) -> Iterator[AssetBody | FieldError]:
    return imports.asset_lines(bounded_lines(opened), FORMATS[file.suffix.lower()])


def _measured(raw: IO[bytes]) -> tuple[str, int]:
    """The SHA-256 of a file in hexadecimal digits and how many lines it has; it is at its start again."""
    digest, lines = hashlib.sha256(), 0
    while piece := raw.read(READ_BYTES):
        digest.update(piece)
        lines += piece.count(b"\n")
    raw.seek(0)
    return digest.hexdigest(), lines

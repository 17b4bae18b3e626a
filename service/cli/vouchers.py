"""`greenpoints import vouchers FILE --reward CODE`."""

import sys
import time
from pathlib import Path

import click
import msgspec

from schemas.rewards import VouchersAnswer
from service.cli.assets import FORMATS, MAX_LISTED, READ_BYTES
from service.cli.imports import AS_JSON, FILE, PROGRAM, SHOWN_ROWS
from service.cli.progress import told
from service.cli.servers import connection, run, sealer
from service.domain import imports
from service.domain.openings import bounded_lines
from service.flows import administer, vouchers


@click.command("vouchers")
@FILE
@click.option("--reward", "reward_code", required=True, metavar="CODE", help="Whose codes these are.")
@PROGRAM
@AS_JSON
def import_vouchers(*, file: Path, reward_code: str, program_code: str | None, as_json: bool) -> int:
    """Voucher codes of a reward, one a row, from .ndjson (texts) or .csv (column: code) of any size, in one transaction.

    Codes that the reward has already are left as they are, so that a file can be loaded again. No output repeats a code.
    """
    if file.suffix.lower() not in FORMATS:
        raise click.BadParameter(f"{file.name} must end in {', '.join(FORMATS)}.", param_hint="FILE")
    begun = time.monotonic()
    answer = run(_import(file, reward_code, program_code))
    code = _report(answer, as_json=as_json)
    rows, took_s = answer.created + answer.duplicate + answer.rejected, time.monotonic() - begun
    print(f"{rows:,} rows in {took_s:.1f} s, {rows / max(took_s, 0.001):,.0f} rows/s", file=sys.stderr)
    return code


async def _import(file: Path, reward_code: str, program_code: str | None) -> VouchersAnswer:
    """What is in memory does not grow with the file, which is read twice: for its length and for its rows."""
    with file.open("rb") as raw:
        lines = sum(piece.count(b"\n") for piece in iter(lambda: raw.read(READ_BYTES), b""))
    count = max(lines - (file.suffix.lower() == ".csv"), 1)
    async with connection() as conn:
        program = (await administer.choose_program(conn, program_code)).id
        with (
            file.open("r", encoding="utf-8-sig", errors="surrogateescape", newline="") as opened,
            told("vouchers") as tell,
        ):
            rows = imports.voucher_lines(bounded_lines(opened), FORMATS[file.suffix.lower()])
            return await vouchers.load(
                conn, rows, sealer=await sealer(), program=program, code=reward_code, max_told=MAX_LISTED,
                tell=lambda done: tell(min(done, count), count),
            )  # fmt: skip


def _report(answer: VouchersAnswer, *, as_json: bool) -> int:
    """Counts and what was not taken. Exit code 1 when a row was rejected; a duplicate is none."""
    if as_json:
        shown = msgspec.structs.replace(answer, results=[result for result in answer.results if result.status != "created"])
        print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
    else:
        print(f"created {answer.created}, duplicate {answer.duplicate}, rejected {answer.rejected}")
        rejected = [result for result in answer.results if result.status == "rejected"]
        for result in rejected[:SHOWN_ROWS]:
            for error in result.errors:
                print(f"row {result.row}: {error.pointer}: {error.detail}", file=sys.stderr)
        if len(rejected) > SHOWN_ROWS:
            print(f"… and {len(rejected) - SHOWN_ROWS} rows more; --json lists them", file=sys.stderr)
    return 1 if answer.rejected else 0

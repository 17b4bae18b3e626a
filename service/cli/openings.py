"""`greenpoints import balances FILE --platform CODE`."""

import contextlib
import io
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO

import click
import msgspec
from redis.asyncio import Redis
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from schemas.openings import OpeningResult, OpeningsAnswer
from service.cli.imports import AS_JSON, FILE, SHOWN_ROWS
from service.cli.servers import CONNECT_TIMEOUT_S, connection, run, settings
from service.domain import openings as rules
from service.flows import administer, openings
from service.flows.administer import BY_COMMAND
from service.logs import configure_logging
from service.projection import Projection
from service.store import deployment

SUFFIXES = (".csv", ".ndjson", ".jsonl")
LINES_APART = 20
"""Plain progress lines of an import, at most."""
MAX_LISTED = 10_000
"""Refused rows that are kept to be told; more are counted."""
REDIS_WAIT_S = 1.0

Tell = Callable[[int, int], None]
"""Called with the bytes read and the rows done."""


@click.command("balances")
@FILE
@click.option("--platform", "platform_code", required=True, metavar="CODE", help="Whose consumers these are.")
@click.option(
    "--dry-run", is_flag=True, help="Judge every row and write nothing; an id that is there twice is seen within 1,000 rows only."
)
@AS_JSON
def import_balances(*, file: Path, platform_code: str, dry_run: bool, as_json: bool) -> int:
    """Points taken over from another system, a lot a row, from .ndjson or .csv of any size.

    CSV columns: id, consumer, points, expires_on (empty: never), earned_at (may be left out). An id counts once, for ever: when an import
    was stopped, run it again.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise click.BadParameter(f"{file.name} must end in {', '.join(SUFFIXES)}.", param_hint="FILE")
    begun = time.monotonic()
    answer, rows = run(_import(file, platform_code, dry_run=dry_run))
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    else:
        _show(answer, dry_run=dry_run)
        took_s = time.monotonic() - begun
        print(f"{rows:,} rows in {took_s:.1f} s, {rows / max(took_s, 0.001):,.0f} rows/s", file=sys.stderr)
    return 1 if answer.rejected else 0


async def _import(file: Path, platform_code: str, *, dry_run: bool) -> tuple[OpeningsAnswer, int]:
    """Take the file over, BATCH_ROWS rows a transaction; what is in memory does not grow with the file."""
    chosen = settings()
    configure_logging(chosen.log_format)  # to standard error: the answer may be JSON
    counts: Counter[str] = Counter()
    refused: list[OpeningResult] = []
    redis: Redis = Redis.from_url(chosen.balance_redis_url, socket_timeout=REDIS_WAIT_S, socket_connect_timeout=CONNECT_TIMEOUT_S)
    try:
        async with connection() as conn:
            platform = await administer.find_platform(conn, program=None, code=platform_code)
            epoch = (await deployment.read(conn)).epoch
            projection = Projection(redis, epoch=epoch, ttl_s=chosen.balance_ttl_s, wait_ms=REDIS_WAIT_S * 1_000)
            with (
                file.open("rb") as raw,
                io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="") as opened,
                _told(file) as tell,
            ):
                rows = _rows(file, opened)
                while batch := list(islice(rows, openings.BATCH_ROWS)):
                    taken = await openings.take_over(conn, batch, platform=platform, change=BY_COMMAND, dry_run=dry_run)
                    await projection.push(taken.balances)
                    counts.update(result.status for result in taken.results)
                    counts.update(rows=len(batch), points=taken.points)
                    refused += [r for r in taken.results if r.status == "rejected"][: MAX_LISTED - len(refused)]
                    tell(raw.tell(), counts["rows"])
    finally:
        await redis.aclose()
    answer = OpeningsAnswer(
        created=counts["created"], duplicates=counts["duplicate"], rejected=counts["rejected"], points=counts["points"], results=refused
    )
    return answer, counts["rows"]


def _rows(file: Path, opened: IO[str]) -> Iterator[rules.OpeningRow]:
    lines = rules.bounded_lines(opened)
    return rules.rows_of_csv(lines) if file.suffix.lower() == ".csv" else rules.rows_of_ndjson(lines)


@contextlib.contextmanager
def _told(file: Path) -> Iterator[Tell]:
    """A bar on a terminal, a plain line now and then otherwise."""
    size = max(file.stat().st_size, 1)
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(file.name, total=size)
            yield lambda read, rows: bar.update(task, completed=read, description=f"{file.name}: {rows:,} rows")
        return
    told = 0

    def tell(read: int, rows: int) -> None:
        nonlocal told
        if (part := read * LINES_APART // size) > told:
            told = part
            print(f"{rows:,} rows, {100 * read // size} % of {file.name}", file=sys.stderr)

    yield tell


def _show(answer: OpeningsAnswer, *, dry_run: bool) -> None:
    verb = "would create" if dry_run else "created"
    print(f"{verb} {answer.created} ({answer.points} points), duplicates {answer.duplicates}, rejected {answer.rejected}")
    for result in answer.results[:SHOWN_ROWS]:
        for error in result.errors:
            print(f"row {result.row}: {error.pointer}: {error.detail}", file=sys.stderr)
    if answer.rejected > SHOWN_ROWS:
        print(f"… and {answer.rejected - SHOWN_ROWS} rows more; --json lists the first {MAX_LISTED:,}", file=sys.stderr)

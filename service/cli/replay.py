"""`greenpoints replay`."""

import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from typing import get_args

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from schemas.deliveries import Outcome, ReplayAnswer, ReplayResult
from service.api.lanes import Lanes
from service.cli.servers import run, settings_with_key
from service.domain.deliveries import KEPT_OUTCOMES
from service.domain.errors import GreenpointsError
from service.flows import administer
from service.flows.deliveries import Replayer, counted
from service.runtime import Resources, open_resources
from service.store import deliveries as store

PAGE = 50
SHOWN = 20
DONE: tuple[Outcome, ...] = ("credited", "duplicate", "ignored")


class Moment(click.ParamType["datetime"]):
    """RFC 3339 with an offset."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time. Fails as wrong usage."""
        at = None
        with contextlib.suppress(ValueError):
            at = datetime.fromisoformat(str(value))
        if at is not None and at.tzinfo is not None:
            return at
        return self.fail(f"{value!r} is not a time with an offset such as 2026-11-22T09:00:00+08:00", param, ctx)


@click.command()
@click.argument("deliveries", nargs=-1, type=click.IntRange(1, 2**63 - 1), metavar="[DELIVERY_ID]...")
@click.option("--from", "from_", type=Moment(), default=None, metavar="TIME", help="Those received then or later, oldest first; with --to.")
@click.option("--to", type=Moment(), default=None, metavar="TIME", help="Those received before.")
@click.option("--hook", default=None, metavar="ID", help="Of a range: of this hook only.")
@click.option("--platform", default=None, metavar="CODE", help="Of a range: of this platform only.")
@click.option("--outcome", type=click.Choice(get_args(Outcome)), default=None, help="Of a range.  [default: untranslatable and failed]")
@click.option("--program", "program_code", default=None, metavar="CODE", help="Their program; needed when there are several.")
@click.option("--dry-run", is_flag=True, help="Tell what would come of them; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Counts and every delivery as JSON.")
def replay(
    *, deliveries: tuple[int, ...], from_: datetime | None, to: datetime | None, hook: str | None, platform: str | None,
    outcome: Outcome | None, program_code: str | None, dry_run: bool, as_json: bool,
) -> int:  # fmt: skip
    """Credit webhooks again that verified and failed, one by one or of a time, after what was wrong has been mended.

    `GET /v1/deliveries` lists them. Safe to repeat and while the system works: nothing counts twice. Exit code 1 when one still fails.
    """
    selection = None
    if from_ is not None and to is not None and not deliveries:
        if from_ >= to:
            raise click.UsageError("--to must be after --from.")
        outcomes = KEPT_OUTCOMES if outcome is None else (outcome,)
        selection = store.Selection(from_=from_, to=to, hook=hook, platform=platform, outcomes=outcomes)
    elif not deliveries or any(given is not None for given in (from_, to, hook, platform, outcome)):
        raise click.UsageError("Name either deliveries, or a range with --from and --to.")
    return _report(run(_replay(deliveries, selection, program_code, dry_run=dry_run)), as_json=as_json)


async def _replay(ids: tuple[int, ...], selection: store.Selection | None, program_code: str | None, *, dry_run: bool) -> ReplayAnswer:
    results: list[ReplayResult] = []
    async with _replayer() as (resources, replayer):
        async with resources.pool.acquire() as conn:
            program = (await administer.choose_program(conn, program_code)).id
            total = len(ids) if selection is None else await store.count(conn, selection, program=program)
        with _told(total) as told:
            for id_ in ids:
                try:
                    results.append(await replayer.one(id_, program=program, change=administer.BY_COMMAND, dry_run=dry_run))
                except GreenpointsError as error:
                    results.append(ReplayResult(id=str(id_), outcome="unavailable", detail=error.detail, events=[]))
                told(len(results))
            after: int | None = 0
            while selection is not None and after is not None:
                some, after = await replayer.page(
                    selection, program=program, change=administer.BY_COMMAND, after=after, limit=PAGE, dry_run=dry_run
                )  # fmt: skip
                results += some
                told(len(results))
    return counted(results, dry_run=dry_run)


@contextlib.asynccontextmanager
async def _replayer() -> AsyncIterator[tuple[Resources, Replayer]]:
    """Credits by a lane of this process's own, as the API does."""
    async with open_resources(await settings_with_key()) as resources:
        lanes = Lanes(resources)
        lanes.start()
        try:
            yield (
                resources,
                Replayer(
                    resources.pool,
                    resources.sealer,
                    submit=lanes.bulk.submit,
                    now=resources.clock.now,
                    hash_key=lambda: resources.hash_key,
                    grace=timedelta(hours=resources.settings.shop_redact_grace_h),
                ),
            )
        finally:
            await lanes.stop()


@contextlib.contextmanager
def _told(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, a plain line a page otherwise."""
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("replay", total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    yield lambda done: print(f"{done:,} of {total:,} deliveries", file=sys.stderr) if done % PAGE == 0 and done else None


def _report(answer: ReplayAnswer, *, as_json: bool) -> int:
    """Counts, and what still fails. Exit code 1 when something does."""
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    else:
        would = "would be " if answer.dry_run else ""
        print(f"{would}credited {answer.credited}, duplicates {answer.duplicates}, ignored {answer.ignored}, failed {answer.failed}")
        failed = [result for result in answer.items if result.outcome not in DONE]
        for result in failed[:SHOWN]:
            print(f"{result.id}: {result.outcome}: {result.detail}", file=sys.stderr)
        if len(failed) > SHOWN:
            print(f"… and {len(failed) - SHOWN} more; --json lists them all", file=sys.stderr)
    return 1 if answer.failed else 0

"""`greenpoints check` and `greenpoints rebuild`."""

import sys
from contextlib import AbstractAsyncContextManager

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from schemas.checks import Invariant, Report
from service.cli import progress
from service.cli.servers import connection, run, settings
from service.flows import administer, checked
from service.flows import check as check_flow
from service.flows import rebuild as rebuild_flow
from service.projection import Projection
from service.runtime import open_for_checking
from service.settings import Settings
from service.store import deployment
from service.store.connection import Pool


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The whole report as JSON.")
def check(*, as_json: bool) -> int:
    """Verify every invariant of the ledger, and Redis against PostgreSQL; exit code 1 when one is broken.

    Reads one snapshot and changes nothing: safe while the system works. What is broken is named with the first rows that break it.
    """
    report = run(checked_report(settings(), quiet=as_json))
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        show(report)
    return 0 if report.ok else 1


@click.command()
@click.option("--raise-epoch", is_flag=True, help="First let nothing that Redis holds be read again: after a fail-over or a recovery.")
def rebuild(*, raise_epoch: bool) -> None:
    """Write every balance in Redis again from PostgreSQL.

    Safe while the system works, and to repeat: a balance that is missing for a moment is read from PostgreSQL. With --raise-epoch whatever
    Redis and the processes remember is forgotten within seconds: say it when PostgreSQL may have lost commits, as after a recovery to a
    point in time. `greenpoints restore` does it by itself.
    """
    print(f"wrote {run(_rebuild(raise_epoch=raise_epoch)):,} balances")


async def checked_report(chosen: Settings, *, quiet: bool) -> Report:
    """Check everything, with a bar on a terminal unless `quiet`; workers show the result in their metrics."""
    async with _servers(chosen) as (pool, projection):
        if quiet or not sys.stderr.isatty():
            report = await check_flow.check(pool, projection)
        else:
            with progress.bar() as bar:
                task = bar.add_task("check", total=None)
                report = await check_flow.check(
                    pool, projection, progress=lambda done, of, name: bar.update(task, completed=done, total=of, description=name)
                )
        async with pool.acquire() as connection:
            now = (await deployment.read(connection)).now
        await checked.remember(projection, checked.summary(report, at=now))  # workers show it in their metrics
        return report


async def _rebuild(*, raise_epoch: bool) -> int:
    if raise_epoch:
        async with connection() as conn:
            print(f"epoch {await administer.raise_epoch(conn)}")
    async with _servers(settings()) as (pool, projection):
        with progress.told("balances") as told:
            return await rebuild_flow.rebuild(pool, projection, progress=told)


def _servers(chosen: Settings) -> AbstractAsyncContextManager[tuple[Pool, Projection]]:
    return open_for_checking(chosen, connections=check_flow.CONNECTIONS + 1, name="greenpoints command")


# What people read ------------------------------------------------------------------------------------------


def show(report: Report) -> None:
    """Every invariant in a line, what is broken with its first rows, and the verdict; on standard output."""
    broken = [i for i in report.invariants if not i.ok]
    if sys.stdout.isatty():
        _show_table(report)
    else:
        for invariant in report.invariants:
            print(f"{'ok' if invariant.ok else 'BROKEN':<7}{invariant.number:>2} {invariant.name}: {invariant.sentence}")
    for invariant in broken:
        print(f"{invariant.number} {invariant.name} is broken by {_rows(invariant)}:")
        for words in invariant.broken:
            print(f"  {words}")
    counted = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in report.checked.items())
    verdict = f"broken: {', '.join(i.name for i in broken)}" if broken else "every invariant holds"
    print(f"{verdict} ({counted}; {report.took_s:.1f} s)")


def _show_table(report: Report) -> None:
    table = Table("", "", "invariant", "must be true", "s", box=None, pad_edge=False)
    for i in report.invariants:
        mark = "[green]✓[/]" if i.ok else "[red]✗[/]"
        table.add_row(mark, str(i.number), i.name, escape(i.sentence), f"{i.took_s:.1f}")
    Console().print(table)


def _rows(invariant: Invariant) -> str:
    shown = len(invariant.broken)
    if invariant.found == 1:
        return "1 row"
    return f"{invariant.found:,} rows" if invariant.found <= shown else f"{invariant.found:,} rows, the first of them"

"""`greenpoints up`, `serve` and `worker`."""

import asyncio
import os
import sys
from pathlib import Path

import click

from service.cli.servers import DATA_DIR_VARIABLE, DEFAULT_DATA_DIR, environment
from service.local.identity import LocalError
from service.local.programs import MODULES, run_programs
from service.local.up import UpOptions
from service.local.up import up as run_up
from service.settings import PREFIX, load_settings
from service.telemetry import sharing

CHECKOUT = Path(__file__).resolve().parents[2]
PROCESSES = click.IntRange(1, 64)


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, readable=False, path_type=Path),
    default=DEFAULT_DATA_DIR,
    envvar=DATA_DIR_VARIABLE,
    show_default=True,
    help="Where everything is kept: data, keys, logs, up.json.",
)
@click.option("--host", default="127.0.0.1", envvar="GREENPOINTS_HOST", show_default=True, help="Address that the API listens on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, envvar="GREENPOINTS_PORT", show_default=True, help="Port of the API.")
@click.option("--api-processes", type=PROCESSES, default=1, show_default=True, help="API processes; they share the port.")
@click.option("--workers", type=PROCESSES, default=1, show_default=True, help="Worker processes.")
@click.option("--demo/--no-demo", default=True, show_default=True, help="Fill an empty data directory with a demo program.")
def up(*, data_dir: Path, host: str, port: int, api_processes: int, workers: int, demo: bool) -> None:
    """Run the whole system on this machine until Ctrl-C.

    PostgreSQL and Valkey come from the installed wheels, unless GREENPOINTS_DATABASE_URL, GREENPOINTS_BALANCE_REDIS_URL or
    GREENPOINTS_QUEUE_REDIS_URL name servers of yours. A part that dies is started again. A second run on the same data directory goes on
    with the same data, keys and addresses; <data-dir>/up.json tells them (and the pids) to scripts.
    """
    options = UpOptions(data_dir=data_dir, host=host, port=port, api_processes=api_processes, workers=workers, demo=demo)
    asyncio.run(run_up(options))


@click.command()
@click.option("--host", default=None, help="Address to listen on.  [default: GREENPOINTS_HOST, or 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65535), default=None, help="Port to listen on.  [default: GREENPOINTS_PORT, or 8000]")
@click.option("--processes", type=PROCESSES, default=1, show_default=True, help="Serving processes; they share the port.")
def serve(*, host: str | None, port: int | None, processes: int) -> None:
    """Run the API alone, for real deployments. Run `greenpoints migrate` before a new release."""
    if host is not None:
        os.environ["GREENPOINTS_HOST"] = host
    if port is not None:
        os.environ["GREENPOINTS_PORT"] = str(port)
    _run("api", processes)


@click.command()
@click.option("--processes", type=PROCESSES, default=1, show_default=True, help="Worker processes.")
def worker(*, processes: int) -> None:
    """Run the background work alone, for real deployments: settling, mending, sweeping."""
    _run("worker", processes)


def _run(kind: str, processes: int) -> None:
    """One process takes our place; several are watched over. Raises SettingsError before anything is started."""
    environ = environment()
    load_settings(environ)
    environ.setdefault(sharing.VARIABLE, str(sharing.usual_folder(environ[f"{PREFIX}DATABASE_URL"])))
    if processes == 1:
        os.execve(sys.executable, [sys.executable, "-P", "-m", MODULES[kind]], environ)  # noqa: S606 - no shell is meant
    asyncio.run(run_programs(kind, processes, environ))


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(*, arguments: tuple[str, ...]) -> None:
    """Run the benchmarks of loadtests/ on a system of their own.

    Both sides of every ratio are measured in the same run and printed. Arguments are passed on: `greenpoints bench -- --help` lists them.
    """
    if not (CHECKOUT / "loadtests").is_dir():
        raise LocalError("the benchmarks are in loadtests/ of the checkout: run `make bench` there")
    os.chdir(CHECKOUT)
    os.execv(sys.executable, [sys.executable, "-m", "loadtests", *arguments])  # noqa: S606 - no shell is meant

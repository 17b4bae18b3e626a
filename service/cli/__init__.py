"""The console script `greenpoints`: exit code 0 done, 1 a check failed or the work could not be done, 2 wrong usage.

An error is one line on standard error that says what to do; a traceback is a defect.
"""

import sys

import asyncpg
import click
from redis.exceptions import RedisError

from service.cli import (
    assets,
    backups,
    callers,
    check,
    database,
    demo,
    exports,
    fraud,
    imports,
    keys,
    openings,
    replay,
    running,
    seals,
    vouchers,
)
from service.domain.errors import GreenpointsError
from service.flows.migrate import MigrationRefused
from service.local.identity import LocalError
from service.sealing import Unsealable
from service.settings import SettingsError
from service.store.connection import UNREACHABLE

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="greenpoints", message="%(version)s")
def cli() -> None:
    """Points for green consumption.

    `greenpoints up` runs the whole system on this machine. The other commands work on the servers that GREENPOINTS_DATABASE_URL,
    GREENPOINTS_BALANCE_REDIS_URL and GREENPOINTS_QUEUE_REDIS_URL name, or, where those are not set, on the system that `up` is running on
    the data directory GREENPOINTS_DATA_DIR (.greenpoints if that is not set either).
    """


for command in (
    running.up,
    demo.demo,
    running.serve,
    running.worker,
    running.bench,
    database.migrate,
    callers.token,
    callers.program,
    callers.platform,
    callers.operator,
    keys.keys,
    check.check,
    check.rebuild,
    backups.backup,
    backups.restore,
    backups.erasures,
    seals.seals,
    imports.import_,
    replay.replay,
    exports.export_,
    fraud.fraud,
):
    cli.add_command(command)
imports.import_.add_command(openings.import_balances)
imports.import_.add_command(assets.import_assets)
imports.import_.add_command(vouchers.import_vouchers)


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; nothing is raised for what a person can mend."""
    try:
        return int(cli.main(arguments, prog_name="greenpoints", standalone_mode=False) or 0)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else "greenpoints"
        return _fail(f"{error.format_message()} See `{where} --help`.", code=2)
    except click.Abort:
        return _fail("interrupted")
    except tuple(kind for kind, _, _ in EXPLAINED) as error:
        code, text = next((code, text) for kind, code, text in EXPLAINED if isinstance(error, kind))
        return _fail(text.format(" ".join(str(error).split()) or type(error).__name__), code=code)


def _fail(message: str, *, code: int = 1) -> int:
    print(f"greenpoints: {message}", file=sys.stderr)
    return code


EXPLAINED: tuple[tuple[type[Exception], int, str], ...] = (
    (SettingsError, 2, "{}"),
    (LocalError, 1, "{}"),
    (MigrationRefused, 1, "{}"),
    (GreenpointsError, 1, "{}"),
    (Unsealable, 1, "{}: add it to GREENPOINTS_MASTER_KEY, after the newest"),
    (asyncpg.InvalidCatalogNameError, 1, "PostgreSQL: {}: create it, or correct GREENPOINTS_DATABASE_URL"),
    (asyncpg.InvalidAuthorizationSpecificationError, 1, "PostgreSQL: {}: correct user and password in GREENPOINTS_DATABASE_URL"),
    (asyncpg.UndefinedTableError, 1, "PostgreSQL: {}: run `greenpoints migrate`"),
    (RedisError, 1, "Redis cannot be used ({}): is it running, are GREENPOINTS_BALANCE_REDIS_URL and GREENPOINTS_QUEUE_REDIS_URL right?"),
    (PermissionError, 1, "{}"),
    (FileNotFoundError, 1, "{}"),
    *((kind, 1, "PostgreSQL cannot be used ({}): is it running, is GREENPOINTS_DATABASE_URL right?") for kind in UNREACHABLE),
)
"""What a person can mend: the kind of error, the exit code, and the line that says what to do. The first that fits counts."""

"""`greenpoints seals …`: seal the ledger now, verify its seals, print what was hashed."""

import re
import sys
from datetime import timedelta

import asyncpg
import click
import msgspec

from schemas.proof import SealsReport
from service.cli.servers import CONNECT_TIMEOUT_S, connection, run, settings
from service.flows import administer, proof
from service.flows import seal as seal_flow
from service.store.connection import Connection
from service.store.seals import Sealed

PROGRAM = click.option("--program", "program_code", default=None, metavar="CODE", help="Whose; not needed where there is one program.")


class Head(click.ParamType["str"]):
    """A hash as `/v1/reports/seals` shows it."""

    name = "head"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """In small letters. Fails as wrong usage."""
        if not re.fullmatch(r"[0-9a-f]{64}", text := str(value).lower()):
            self.fail(f"{value!r} is not a head: 64 hexadecimal digits", param, ctx)
        return text


@click.group()
def seals() -> None:
    """The seals of the ledger: hashes of blocks of entries, each with the head of the block before."""


@seals.command("verify")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@click.option("--from", "first", type=click.IntRange(min=1), default=1, show_default=True, metavar="BLOCK", help="Trust the blocks before.")
@click.option("--program", "program_code", default=None, metavar="CODE", help="One program only.")
@click.option("--head", type=Head(), default=None, metavar="HEX", help="A head that was kept elsewhere: the chain must still have it.")
def verify(*, as_json: bool, first: int, program_code: str | None, head: str | None) -> int:
    """Hash every sealed entry again and compare; exit code 1 when something was changed since.

    Reads one snapshot and changes nothing: safe while the system works. `greenpoints check` does the same among other things.
    """

    async def work() -> SealsReport:
        async with connection() as conn:
            program = None if program_code is None and head is None else (await administer.choose_program(conn, program_code)).id
            return await proof.verify(conn, program=program, first=first, head=head)

    report = run(work())
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        return 0 if report.ok else 1
    for words in report.broken:
        print(f"BROKEN {words}")
    verdict = "every seal holds" if report.ok else f"{report.found:,} findings"
    print(f"{verdict} ({report.blocks:,} blocks, {report.entries:,} entries; {report.took_s:.1f} s)")
    return 0 if report.ok else 1


@seals.command("now")
def seal_now() -> None:
    """Seal what is not sealed yet; workers do that by themselves. Safe while the system works, and to repeat."""

    async def work() -> Sealed:
        async with asyncpg.create_pool(settings().database_url, min_size=0, max_size=1, timeout=CONNECT_TIMEOUT_S) as pool:
            return await seal_flow.seal(pool, margin=timedelta(0))

    sealed = run(work())
    print(f"sealed {sealed.entries:,} entries in {sealed.blocks:,} blocks")


@seals.command("lines")
@click.argument("block", type=click.IntRange(min=1))
@click.option("--account", type=int, default=None, help="The entries of this account in the block, not the block's parts.")
@PROGRAM
def print_lines(*, block: int, account: int | None, program_code: str | None) -> None:
    """Print what a block's `content` is the SHA-256 of: a line per account with the hash of its entries.

    With --account print what that hash is the SHA-256 of: a line per entry.
    """

    async def work() -> None:
        async with connection() as conn:
            program = (await administer.choose_program(conn, program_code)).id
            await _print(conn, program, block, account)

    run(work())


async def _print(conn: Connection, program: int, block: int, account: int | None) -> None:
    async for line in proof.lines(conn, program=program, block=block, account=account):
        sys.stdout.write(line)

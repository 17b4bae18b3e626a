"""`greenpoints keys …`: the master key that seals secrets at rest."""

import sys

import click
import msgspec

from service.cli import progress
from service.cli.servers import connection, run, sealer
from service.flows import administer
from service.flows import master_key as flow
from service.sealing import new_master_key

"""Plain progress lines, at most."""


@click.group()
def keys() -> None:
    """The master key that seals hook secrets and development signing keys in the database."""


@keys.command("new-master")
def new_master() -> None:
    """Print a new master key. Nothing is changed."""
    print(new_master_key())


@keys.command("status")
@click.option("--json", "as_json", is_flag=True, help="A JSON array instead of lines.")
def status(*, as_json: bool) -> int:
    """Say how many values are under the newest master key, under an older one, plain, or cannot be opened (exit code 1)."""

    async def read() -> list[flow.ColumnStatus]:
        async with connection() as conn:
            return await flow.status(conn, await sealer())

    found = run(read())
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        for column in found:
            print(
                f"{column.column}: {column.newest:,} under the newest key, {column.older:,} under an older one, {column.plain:,} plain, "
                f"{column.unopenable:,} that no key opens"
            )
    return 1 if any(column.unopenable for column in found) else 0


@keys.command("rotate-master")
def rotate_master() -> int:
    """Seal with the newest master key whatever is plain or under an older one.

    Set GREENPOINTS_MASTER_KEY to the new key and the old one everywhere first. Safe while the system works, and
    to break off and repeat. Exit code 1 when something cannot be opened with any key that is set; it stays as it is.
    """

    async def rotate() -> flow.Resealed:
        async with connection() as conn:
            with progress.told("rows") as told:
                return await administer.rotate_master_key(conn, sealer=await sealer(), progress=told)

    done = run(rotate())
    print(f"sealed {done.sealed:,} values with the newest master key")
    if done.unopenable:
        print(
            f"{done.unopenable:,} values cannot be opened: add the key that sealed them to GREENPOINTS_MASTER_KEY, after the newest, "
            "or replace them",
            file=sys.stderr,
        )
    return 1 if done.unopenable else 0

"""`greenpoints token`, `program …`, `platform …` and `operator …`."""

import re
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, get_args

import click
import msgspec

from schemas.callers import OperatorCredentials, PasswordResetAnswer, PlatformCredentials, RoleName
from service.cli.servers import connection, run, sealer
from service.flows import administer, operators
from service.store import operators as store
from service.store.callers import Platform, Program
from service.store.operators import ListedOperator

UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Duration(click.ParamType["timedelta"]):
    """`90s`, `15m`, `1h`, `1d`."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """The duration. Fails as wrong usage."""
        match = re.fullmatch(r"([0-9]{1,9})([smhd])", str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration such as 90s, 15m, 1h or 1d", param, ctx)
        return timedelta(seconds=int(match[1]) * UNITS_S[match[2]])


@click.command()
@click.option("--platform", "platform_code", required=True, metavar="CODE", help="The platform that signs.")
@click.option("--consumer", required=True, metavar="REF", help="The platform's name for the consumer, who need not exist yet.")
@click.option("--scope", default="balance:read", show_default=True, help='One value, space-separated: "balance:read redeem".')
@click.option("--ttl", type=Duration(), default="1h", show_default=True, help="How long it is valid, at most 1d.")
def token(*, platform_code: str, consumer: str, scope: str, ttl: timedelta) -> None:
    """Print a consumer's token, signed with the platform's development key.

    For trying things out; a platform in production signs with a key of its own, whose public half it registers.
    """

    async def make() -> str:
        async with connection() as conn:
            return await administer.consumer_token(
                conn, sealer=await sealer(), platform=platform_code, consumer=consumer, scope=scope, ttl=ttl
            )

    print(run(make()))


@click.group()
def program() -> None:
    """Points schemes."""


@program.command("create")
@click.argument("code")
@click.option("--name", default=None, help="What people call it.  [default: the code]")
@click.option("--currency", required=True, help="What its points are called.")
@click.option("--time-zone", default="UTC", show_default=True, help="Days and years of caps follow it.")
@click.option("--sandbox", is_flag=True, help="For trying things out: its platforms get gpk_test_ keys. It cannot be changed later.")
def create_program(*, code: str, name: str | None, currency: str, time_zone: str, sandbox: bool) -> None:
    """Make a program and print it as JSON."""

    async def make() -> Program:
        async with connection() as conn:
            return await administer.create_program(
                conn, code=code, name=name or code, currency=currency, time_zone=time_zone, sandbox=sandbox
            )

    _print_json(make())


@click.group()
def platform() -> None:
    """E-commerce platforms and their API keys."""


@platform.command("create")
@click.argument("code")
@click.option("--name", default=None, help="What people call it.  [default: the code]")
@click.option("--program", "program_code", default=None, metavar="CODE", help="Its program; needed when there are several.")
@click.option("--create-program", "currency", default=None, metavar="CURRENCY", help="Make the program, whose points have this name.")
@click.option("--time-zone", default="UTC", show_default=True, help="Of the program that is made; days and years of caps follow it.")
def create_platform(*, code: str, name: str | None, program_code: str | None, currency: str | None, time_zone: str) -> None:
    """Make a platform and print its API key and hooks as JSON: the only time that they are shown."""

    async def make() -> PlatformCredentials:
        async with connection() as conn, conn.transaction():
            if currency is not None:
                made = program_code or code
                program = await administer.create_program(conn, code=made, name=made, currency=currency, time_zone=time_zone)
            else:
                program = await administer.choose_program(conn, program_code)
            return await administer.create_platform(conn, sealer=await sealer(), program=program.id, code=code, name=name or code)

    _print_json(make())


@platform.command("rotate-key")
@click.argument("code")
@click.option("--keep-old", type=Duration(), default="0s", show_default=True, help="How long the older keys go on.")
def rotate_key(*, code: str, keep_old: timedelta) -> None:
    """Print a new API key; every older key of the platform ends within 5 s, or goes on for as long as you say."""

    async def make() -> str:
        async with connection() as conn:
            return await administer.rotate_key(conn, platform=code, keep_old=keep_old)

    print(run(make()))


@platform.command("list")
@click.option("--program", "program_code", default=None, metavar="CODE", help="Its program; needed when there are several.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array instead of lines.")
def list_platforms(*, program_code: str | None, as_json: bool) -> None:
    """List the platforms of a program."""

    async def read() -> list[Platform]:
        async with connection() as conn:
            program = await administer.choose_program(conn, program_code)
            found: list[Platform] = []
            while page := await administer.list_platforms(conn, program=program.id, after=found[-1].id if found else 0):
                found += page
            return found

    if as_json:
        _print_json(read())
        return
    for found in run(read()):
        print(f"{found.code}\t{found.name}\t{'active' if found.active else 'closed'}")


@click.group()
def operator() -> None:
    """People who run campaigns and look after accounts."""


@operator.command("create")
@click.argument("email")
@click.option("--role", type=click.Choice(get_args(RoleName)), default="viewer", show_default=True, help="What the operator may do.")
@click.option("--program", "program_code", default=None, metavar="CODE", help="The only program that the operator sees.  [default: all]")
def create_operator(*, email: str, role: RoleName, program_code: str | None) -> None:
    """Make an operator and print password and token as JSON: the only time that they are shown."""

    async def make() -> OperatorCredentials:
        async with connection() as conn:
            program = None if program_code is None else (await administer.choose_program(conn, program_code)).id
            return await administer.create_operator(conn, email=email, role=role, program=program)

    _print_json(make())


@operator.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON array instead of lines.")
def list_operators(*, as_json: bool) -> None:
    """List the operators of all programs."""

    async def read() -> list[ListedOperator]:
        async with connection() as conn:
            found: list[ListedOperator] = []
            while page := await store.all_operators(conn, after=found[-1].email if found else "", limit=200):
                found += page
            return found

    if as_json:
        _print_json(read())
        return
    for found in run(read()):
        print(f"{found.email}\t{found.role}\t{found.program or 'all programs'}\t{'active' if found.active else 'inactive'}")


@operator.command("deactivate")
@click.argument("email")
def deactivate_operator(*, email: str) -> None:
    """Make an operator inactive: all sessions and tokens end at once. Safe to repeat."""

    async def change() -> None:
        async with connection() as conn:
            await operators.deactivate(conn, email)

    run(change())


@operator.command("reset-password")
@click.argument("email")
def reset_password(*, email: str) -> None:
    """Print a new password of an operator as JSON, the only time that it is shown; all sessions of the operator end."""

    async def change() -> PasswordResetAnswer:
        async with connection() as conn:
            return await operators.reset_password(conn, email, program=None)

    _print_json(change())


def _print_json(work: Coroutine[Any, Any, Any]) -> None:
    print(msgspec.json.format(msgspec.json.encode(run(work)), indent=2).decode())

"""`greenpoints demo`."""

import click
from rich.console import Console

from service.local.demo.story import Story
from service.local.temporary import temporary_system


@click.command()
def demo() -> int:
    """Tell a finite story on a temporary system: orders, webhooks, a forgery, refunds, and what is left of them.

    Takes about half a minute. Everything runs on free ports in a temporary directory that is removed at the end, also after Ctrl-C; no
    other system is touched. Exit code 1 when an answer or the check at the end is not what it should be.
    """
    console = Console(highlight=False)
    with temporary_system(console, FRAUD_MODE="shadow") as system:  # half a minute of it looks like no shop's day
        code = Story(system, console).tell()
    console.print("\nThe temporary system is gone. `make run` starts one that stays.")
    return code

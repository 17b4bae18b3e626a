"""Progress of long work: a bar on a terminal, a plain line now and then otherwise; to stderr."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

LINES_APART = 10
"""Plain lines of one piece of work, at most."""


def bar() -> Progress:
    """A bar for each task that is added."""
    columns = (TextColumn("{task.description:>17}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


@contextlib.contextmanager
def told(things: str) -> Iterator[Callable[[int, int], None]]:
    """A function to call with how many of `things` are done, of how many."""
    if sys.stderr.isatty():
        with bar() as shown:
            task = shown.add_task(things, total=None)
            yield lambda done, of: shown.update(task, completed=done, total=of)
        return
    parts = 0

    def tell(done: int, of: int) -> None:
        nonlocal parts
        if (part := done * LINES_APART // of) > parts:
            parts = part
            print(f"{done:,} of {of:,} {things}", file=sys.stderr)

    yield tell

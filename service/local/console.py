"""What `greenpoints up` tells the person in front of it: a spinner on a terminal, plain lines otherwise."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape


class Reporter:
    """Lines on standard output; never more than one at a time."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """One line as it is."""
        self._console.print(line, markup=False)

    def heading(self, line: str) -> None:
        """One line that stands out on a terminal."""
        self._console.print(f"[bold green]{escape(line)}[/]")

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Something that takes a moment: announced, and on a terminal ticked off when it is done."""
        if self._console.is_terminal:
            with self._console.status(escape(what)):
                yield
            self._console.print(f"[green]✓[/] {escape(what)}")
        else:
            self.say(f"{what} …")
            yield

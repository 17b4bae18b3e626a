"""What a guard is, for the tables."""

from msgspec import Struct


class Change(Struct, frozen=True):
    """What is taken out of a file: `original` stands in it exactly once."""

    file: str
    original: str
    mutated: str


class Guard(Struct, frozen=True, kw_only=True):
    """A guard taken out one way, and the tests of which at least one goes red."""

    name: str
    row: str
    """The first cell of its row in docs/guards.md; a row may have several entries, each taken out by itself."""
    changes: tuple[Change, ...]
    tests: tuple[str, ...]
    """Files or test ids, as pytest takes them."""

"""A program of ours, ready to be started."""

from collections.abc import Mapping, Sequence

from msgspec import Struct


class Command(Struct, frozen=True, kw_only=True):
    """How to start a program in the foreground: its words, its whole environment, what it reads on its standard input."""

    argv: Sequence[str]
    env: Mapping[str, str]
    stdin: bytes = b""

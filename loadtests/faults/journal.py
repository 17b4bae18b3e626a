"""The callers' journal: a line before each request and one after it, on disk before anything follows from them.

What was acknowledged binds the system; what was refused must have had no effect; of what is unknown (no answer, 5xx) anything may be true,
once. The journal in memory is what these lines say; the file is what would be left of it, had we been killed.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

Outcome = Literal["ok", "failed", "unknown"]


class Event(Struct, kw_only=True):
    """An event that was reported, and what came of it."""

    id: str
    consumer: str
    outcome: Outcome = "unknown"
    points: int = 0
    """As acknowledged."""
    attempts: int = 0


class Redemption(Struct, kw_only=True):
    """Points spent under one idempotency key; `captured` and `refunded` as acknowledged."""

    key: str
    consumer: str
    points: int
    id: str | None = None
    outcome: Outcome = "unknown"
    status: str = ""
    captured: int = 0
    refunded: int = 0
    steps: dict[str, Outcome] = {}
    """capture, cancel, refund → what came of it."""


class Move(Struct, kw_only=True):
    """Points that one consumer gave another, or an operator gave (no giver) or took (no taker)."""

    key: str
    giver: str | None
    taker: str | None
    points: int
    id: str | None = None
    outcome: Outcome = "unknown"


class Journal:
    """Appends lines; `write` returns when the line is on disk. Lines of the same moment share one fsync."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: dict[str, Event] = {}
        self.redemptions: dict[str, Redemption] = {}
        self.moves: dict[str, Move] = {}
        self.requests = 0
        self.resolved = 0
        """Outcomes that were unknown until a repeat told."""
        self.broken: list[str] = []
        """What a caller saw that must never be: another answer to a repeat, a balance older than asked for."""
        self._file = path.open("ab")
        self._flush: asyncio.Task[None] | None = None
        self._written = self._synced = 0
        """Lines."""

    async def write(self, what: str, **fields: Any) -> None:
        """Put a line on disk."""
        self._file.write(json.dumps({"what": what} | fields).encode() + b"\n")
        self._written += 1
        mine = self._written
        while self._synced < mine:
            if self._flush is None or self._flush.done():
                self._flush = asyncio.create_task(self._sync())
            await asyncio.shield(self._flush)  # it may have begun before our line was there: then once more

    async def _sync(self) -> None:
        upto = self._written
        self._file.flush()
        await asyncio.to_thread(os.fsync, self._file.fileno())
        self._synced = upto

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def count(self, outcome: Outcome) -> int:
        """Events, steps of redemptions, and moves with this outcome."""
        steps = [step for redemption in self.redemptions.values() for step in redemption.steps.values()]
        return sum(
            each.outcome == outcome for each in (*self.events.values(), *self.redemptions.values(), *self.moves.values())
        ) + steps.count(outcome)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """What the file holds."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]

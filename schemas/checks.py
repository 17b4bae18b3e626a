"""What `greenpoints check` found, as people read it and as `--json` prints it."""

from datetime import datetime

from schemas.base import Body


class Invariant(Body, frozen=True, kw_only=True):
    """One sentence that must be true of the whole system, and what breaks it."""

    number: int
    """As in DESIGN §6."""
    name: str
    sentence: str
    ok: bool
    found: int
    """How many rows break it."""
    broken: list[str]
    """The first of them, in words."""
    took_s: float
    """Of its own statements; those of several invariants run side by side."""


class Report(Body, frozen=True, kw_only=True):
    """All invariants, judged by one snapshot of PostgreSQL (number 8: by what Redis holds now)."""

    ok: bool
    as_of: datetime
    took_s: float
    checked: dict[str, int]
    """How many accounts, events, awards, entries and lots there were, orders recomputed and balances compared with Redis."""
    invariants: list[Invariant]

"""Seals of the ledger and alerts, as operators read them."""

from datetime import datetime

from schemas.base import Body


class Seal(Body, frozen=True, kw_only=True):
    """One sealed block; hashes are SHA-256 in hexadecimal digits (docs/ledger.md says of what)."""

    block: int
    """From 1 on, without a gap."""
    entries: int
    accounts: int
    sealed_at: datetime
    """Whole seconds, in UTC."""
    previous: str
    """The head of the block before; zeros for the first."""
    content: str
    """Of what the block holds."""
    head: str
    """Of all of the above. Whoever keeps it can tell later whether anything up to here was changed."""


class SealsAnswer(Body, frozen=True, kw_only=True):
    """The newest block of the program, and a page of its blocks, newest first."""

    head: Seal | None
    items: list[Seal]
    next_cursor: str | None


class Alert(Body, frozen=True, kw_only=True):
    """Something that is broken, or was."""

    id: str
    kind: str
    """The name of the invariant, as `greenpoints check` has it."""
    subject: str
    """`account 17`, or `ledger` for what the check of everything found."""
    words: str
    """What was found first."""
    at: datetime
    resolved_at: datetime | None
    """When a later look found that it holds again."""


class SealsReport(Body, frozen=True, kw_only=True):
    """What `greenpoints seals verify` found."""

    ok: bool
    blocks: int
    """Of the chains that were verified, those before `--from` included."""
    entries: int
    found: int
    broken: list[str]
    """The first findings in words; the first broken block comes first."""
    took_s: float

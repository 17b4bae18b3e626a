"""Traffic as files: what platforms report, in order of arrival, and what is true of it. See docs/fraud-traffic.md."""

from datetime import datetime

from msgspec import Raw, Struct


class Sent(Struct, frozen=True, kw_only=True):
    """A line of events.ndjson: one event as a platform reports it, at the time it arrives."""

    at: datetime
    platform: str
    event: Raw


class Label(Struct, frozen=True, kw_only=True):
    """A line of labels.ndjson: the truth about one event, in the same order."""

    platform: str
    event: str
    consumer: str
    points: int
    """What it would earn if nothing were checked, by the reckoning of docs/fraud-traffic.md; 0 for what earns nothing."""
    pattern: str | None = None
    """The name of the fraud that it is part of; None: honest."""
    ring: str | None = None
    """Which instance of that fraud: one ring is one attempt by one group."""

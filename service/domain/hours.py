"""Hours of a program's time zone, as roll-ups count them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo


def start_of_hour(at: datetime, zone: ZoneInfo) -> datetime:
    """The start, in UTC, of the local hour that `at` is in; zones with half-hour offsets have hours of their own."""
    return at.astimezone(zone).replace(minute=0, second=0, microsecond=0).astimezone(UTC)

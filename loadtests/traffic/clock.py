"""Seconds since the first midnight of a simulated period, and the texts and datetimes that they stand for."""

from datetime import UTC, datetime, timedelta, timezone
from math import floor
from typing import Final

HOUR: Final = 3_600
DAY: Final = 86_400
_LOCAL: Final = timezone(timedelta(hours=8))  # all of China has one
_CLOCK: Final = [f"{s // HOUR:02}:{s // 60 % 60:02}:{s % 60:02}" for s in range(DAY)]


class Clock:
    """Turns seconds since `start`, a local midnight, into what is written. Times may lie before it."""

    def __init__(self, start: datetime) -> None:
        self.start = start.replace(tzinfo=_LOCAL)
        self._epoch = self.start.timestamp()
        self._days: dict[int, str] = {}

    def text(self, t: float, *, utc: bool) -> str:
        """RFC 3339 with whole seconds, as UTC or local time."""
        if utc:
            t -= 8 * HOUR
        day, second = divmod(floor(t), DAY)
        text = self._days.get(day)
        if text is None:
            text = self._days[day] = (self.start + timedelta(days=day)).strftime("%Y-%m-%dT")
        return text + _CLOCK[second] + ("Z" if utc else "+08:00")

    def instant(self, t: float) -> datetime:
        """As a datetime in UTC, to the millisecond."""
        return datetime.fromtimestamp(round(self._epoch + t, 3), UTC)

    def weekday(self, day: int) -> int:
        """0 is Monday."""
        return (self.start + timedelta(days=day)).weekday()

"""What a program's fraud policy may say."""

from datetime import timedelta
from typing import Final

from service.domain.campaigns import parse_duration
from service.domain.errors import InvalidRequest

SHORTEST: Final = timedelta(minutes=1)
LONGEST: Final = timedelta(days=90)
_DAY_S: Final = 86_400


def hold_for_of(text: str) -> timedelta:
    """How long somebody has to decide. Raises InvalidRequest: no duration, with months, out of bounds."""
    try:
        found = parse_duration(text)
    except ValueError as error:
        raise InvalidRequest.at("/hold_for", str(error)) from None
    if found.months:
        raise InvalidRequest.at("/hold_for", "must be in weeks, days, hours, minutes or seconds: months differ in length")
    if not SHORTEST <= (held := timedelta(days=found.days, seconds=found.seconds)) <= LONGEST:
        raise InvalidRequest.at("/hold_for", "must be between one minute and 90 days")
    return held


def duration_text(span: timedelta) -> str:
    """A span of whole seconds as ISO 8601: `P7D`, `PT90M` as `PT1H30M`, `P1DT12H`."""
    days, rest = divmod(int(span.total_seconds()), _DAY_S)
    hours, rest = divmod(rest, 3_600)
    minutes, seconds = divmod(rest, 60)
    time = "".join(f"{n}{unit}" for n, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if n)
    return f"P{f'{days}D' if days or not time else ''}{f'T{time}' if time else ''}"

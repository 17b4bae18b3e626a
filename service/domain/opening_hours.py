"""When a collection station is open, by the clock on its wall.

Times are wall-clock times of its zone. When clocks are set back, an hour that comes twice counts both times; one that is skipped when they
are set forward does not occur. Hours over midnight belong to the day on which they begin, also where that is an exception.
"""

from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from schemas.problems import FieldError
from schemas.stations import OpeningHours

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
END_OF_DAY: Final = "24:00"


def is_open(hours: OpeningHours | None, at: datetime, zone: ZoneInfo) -> bool:
    """Whether it is open at this moment; from is included, until is not. No hours: always."""
    if hours is None:
        return True
    local = at.astimezone(zone)
    time, today = f"{local:%H:%M}", local.date()
    if any(opens <= time and (time < closes or closes < opens) for opens, closes in _openings(hours, today)):
        return True
    return any(closes < opens and time < closes for opens, closes in _openings(hours, today - timedelta(days=1)))


def check_hours(hours: OpeningHours, at: str) -> list[FieldError]:
    """What is wrong with them, with pointers below `at`."""
    errors = []
    days = {day: getattr(hours, day) for day in DAYS} | {f"exceptions/{day}": openings for day, openings in hours.exceptions.items()}
    for name, openings in days.items():
        for i, (opens, closes) in enumerate(openings):
            if opens == END_OF_DAY:
                errors.append(FieldError(pointer=f"{at}/{name}/{i}/0", detail="is the end of the day: open at 00:00 of the next one"))
            elif opens == closes:
                detail = "is when it opens, too; open all day is 00:00 to 24:00"
                errors.append(FieldError(pointer=f"{at}/{name}/{i}/1", detail=detail))
    for day in hours.exceptions:
        try:
            date.fromisoformat(day)
        except ValueError:
            errors.append(FieldError(pointer=f"{at}/exceptions/{day}", detail="is not a date"))
    return errors


def _openings(hours: OpeningHours, day: date) -> list[tuple[str, str]]:
    exception = hours.exceptions.get(day.isoformat())
    own: list[tuple[str, str]] = getattr(hours, DAYS[day.weekday()])
    return own if exception is None else exception

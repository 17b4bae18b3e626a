"""When a station is open: over midnight, on exceptions, when clocks change."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.stations import OpeningHours
from service.domain.opening_hours import DAYS, check_hours, is_open

SHANGHAI, BERLIN = ZoneInfo("Asia/Shanghai"), ZoneInfo("Europe/Berlin")
EVERY_DAY = [("08:00", "12:00"), ("14:00", "20:00")]
SHOP = OpeningHours(mon=EVERY_DAY, tue=EVERY_DAY, exceptions={"2026-03-03": [], "2026-03-08": [("10:00", "11:00")]})
NIGHT = OpeningHours(fri=[("22:00", "02:00")], sat=[("22:00", "24:00")], exceptions={"2026-03-13": []})


def open_at(hours: OpeningHours | None, local: str, zone: ZoneInfo = SHANGHAI) -> bool:
    """At a wall-clock time, asked in UTC as events say it."""
    return is_open(hours, datetime.fromisoformat(local).replace(tzinfo=zone).astimezone(UTC), zone)


@pytest.mark.parametrize(
    ("local", "open_"),
    [
        ("2026-03-02T07:59:59", False),  # a Monday
        ("2026-03-02T08:00:00", True),
        ("2026-03-02T11:59:59", True),
        ("2026-03-02T12:00:00", False),
        ("2026-03-02T14:00:00", True),
        ("2026-03-02T20:00:00", False),
        ("2026-03-04T10:00:00", False),  # a Wednesday has no hours
        ("2026-03-03T10:00:00", False),  # a Tuesday that is an exception
        ("2026-03-10T10:00:00", True),  # the next one is none
        ("2026-03-08T10:30:00", True),  # a Sunday that is open for once
        ("2026-03-08T11:00:00", False),
    ],
)
def test_a_day_has_its_hours_and_a_date_may_have_others(local: str, *, open_: bool) -> None:
    assert open_at(SHOP, local) is open_


@pytest.mark.parametrize(
    ("local", "open_"),
    [
        ("2026-03-06T21:59:59", False),  # a Friday
        ("2026-03-06T22:00:00", True),
        ("2026-03-07T01:59:59", True),  # Friday's night, on Saturday
        ("2026-03-07T02:00:00", False),
        ("2026-03-07T23:59:59", True),
        ("2026-03-08T00:00:00", False),  # Saturday's end at midnight
        ("2026-03-06T01:00:00", False),  # Thursday has no night
        ("2026-03-13T23:00:00", False),  # the Friday that is an exception ...
        ("2026-03-14T01:00:00", False),  # ... and its night
        ("2026-03-14T22:30:00", True),
    ],
)
def test_a_night_belongs_to_the_day_on_which_it_began(local: str, *, open_: bool) -> None:
    assert open_at(NIGHT, local) is open_


def test_the_zone_decides_what_day_it_is() -> None:
    at = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)  # Sunday there, Monday 07:30 in Shanghai, Monday 00:30 in Berlin
    early = OpeningHours(mon=[("07:00", "08:00")])
    assert is_open(early, at, SHANGHAI)
    assert not is_open(early, at, BERLIN)
    assert is_open(OpeningHours(sun=[("23:00", "24:00")]), at, ZoneInfo("UTC"))


def test_clocks_that_are_set_forward_skip_an_hour_and_back_repeat_one() -> None:
    early = OpeningHours(sun=[("02:00", "03:00")])
    forward = datetime(2026, 3, 29, 0, 0, tzinfo=UTC)  # 01:00 in Berlin; at 02:00 it becomes 03:00
    assert [is_open(early, forward + timedelta(minutes=m), BERLIN) for m in range(0, 180, 15)] == [False] * 12
    back = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)  # 02:00 in Berlin; at 03:00 it becomes 02:00 again
    assert [is_open(early, back + timedelta(minutes=m), BERLIN) for m in (-1, 0, 59, 60, 119, 120)] == [
        False,
        True,
        True,
        True,
        True,
        False,
    ]
    night = OpeningHours(sat=[("22:00", "02:30")])
    assert is_open(night, datetime(2026, 3, 29, 0, 59, tzinfo=UTC), BERLIN)  # 01:59, then it is 03:00
    assert not is_open(night, datetime(2026, 3, 29, 1, 0, tzinfo=UTC), BERLIN)


def test_without_hours_it_is_always_open_and_without_days_never() -> None:
    assert open_at(None, "2026-03-02T03:00:00")
    assert not open_at(OpeningHours(), "2026-03-02T12:00:00")
    always = OpeningHours(**{day: [("00:00", "24:00")] for day in DAYS})
    assert open_at(always, "2026-03-02T00:00:00")
    assert open_at(always, "2026-03-02T23:59:59")


TIMES = st.builds("{:02d}:{:02d}".format, st.integers(0, 23), st.integers(0, 59))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(opens=TIMES, closes=TIMES, minutes=st.integers(0, 7 * 24 * 60 - 1))
def test_in_a_zone_without_changes_it_is_what_counting_minutes_says(opens: str, closes: str, minutes: int) -> None:
    """A week from Monday; one span that begins on Wednesday."""
    hours = OpeningHours(wed=[(opens, closes)])
    start, end = (2 * 1_440 + int(text[:2]) * 60 + int(text[3:]) for text in (opens, closes))
    end += 1_440 if end < start else 0
    at = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(minutes=minutes)
    assert is_open(hours, at, ZoneInfo("UTC")) is (start <= minutes < end)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"mon": [["08:00", "08:00"]]}, "/opening_hours/mon/0/1"),
        ({"tue": [["08:00", "09:00"], ["24:00", "02:00"]]}, "/opening_hours/tue/1/0"),
        ({"exceptions": {"2026-02-30": []}}, "/opening_hours/exceptions/2026-02-30"),
        ({"exceptions": {"2026-02-28": [["10:00", "10:00"]]}}, "/opening_hours/exceptions/2026-02-28/0/1"),
    ],
)
def test_hours_that_mean_nothing_are_refused(body: dict[str, object], pointer: str) -> None:
    assert [error.pointer for error in check_hours(msgspec.convert(body, OpeningHours), "/opening_hours")] == [pointer]


@pytest.mark.parametrize(
    "body",
    [{"mon": [["8:00", "20:00"]]}, {"mon": [["08:00", "24:01"]]}, {"mon": [["08:00"]]}, {"monday": []}, {"mon": [["08:00\n", "09:00"]]}],
)
def test_what_is_no_time_of_day_is_no_hours(body: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(body, OpeningHours)

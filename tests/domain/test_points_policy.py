"""A program's points policy: last days, told by the calendar and in the program's time zone."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from schemas.points_policy import Activity, Fixed, Never, PointsPolicy, Rolling
from service.domain.campaigns import Duration
from service.domain.points_policy import PointsPolicies, PolicyVersion, last_day, next_on
from service.store.purses import Terms

BERLIN = ZoneInfo("Europe/Berlin")
# In Berlin it is the 1st of February already.
LATE = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expiry", "day"),
    [
        (Never(), None),
        (Rolling(after="P1M"), date(2026, 3, 1)),
        (Activity(months=1), date(2026, 3, 1)),
        (Fixed(on="03-31", after="P3M"), date(2027, 3, 31)),
        (Fixed(on="03-31", after="P1M"), date(2026, 3, 31)),
    ],
)
def test_the_last_day_is_a_local_day(expiry: Never | Rolling | Fixed | Activity, day: date | None) -> None:
    assert last_day(PointsPolicy(expiry=expiry), LATE, None, BERLIN) == day


def test_what_a_campaign_says_comes_first() -> None:
    assert last_day(PointsPolicy(expiry=Rolling(after="P1M")), LATE, Duration(months=0, days=2, seconds=0), BERLIN) == date(2026, 2, 3)


@pytest.mark.parametrize(
    ("day", "on", "next_"),
    [
        (date(2026, 3, 31), "03-31", date(2026, 3, 31)),
        (date(2026, 4, 1), "03-31", date(2027, 3, 31)),
        (date(2027, 12, 1), "02-29", date(2028, 2, 29)),
        (date(2026, 2, 1), "02-29", date(2026, 2, 28)),
    ],
)
def test_a_fixed_day_is_the_next_of_its_name(day: date, on: str, next_: date) -> None:
    assert next_on(day, on) == next_


@pytest.mark.parametrize(
    ("restored_for", "until"),
    [
        ("P14D", date(2026, 2, 15)),
        ("P1M", date(2026, 3, 1)),
        ("P1Y", date(2027, 2, 1)),
        ("PT0S", date(2026, 2, 1)),
        ("PT24H", date(2026, 2, 2)),
    ],
)
def test_what_comes_back_lives_by_the_calendar(restored_for: str, until: date) -> None:
    version = PolicyVersion(version=1, effective_from=LATE, body=PointsPolicy(restored_for=restored_for))
    terms = Terms(program=1, zone=BERLIN, now=LATE, policies=PointsPolicies([version]))
    assert terms.restored_until == until

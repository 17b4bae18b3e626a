"""A program's points policy: which version counts at a moment, and the last day of points that become available."""

from calendar import monthrange
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UNSET, Struct

from schemas.points_policy import Activity, Fixed, PointsPolicy, PointsPolicyPatch, Rolling
from schemas.problems import FieldError
from service.domain.campaigns import Duration, add_months, expires_on, parse_duration
from service.domain.errors import InvalidRequest

DEFAULT: Final = PointsPolicy()
MAX_LIFE_MONTHS: Final = 120
MAX_LIFE_DAYS: Final = 3_653
LEAP_YEAR: Final = 2024
_decode = msgspec.json.Decoder(PointsPolicy).decode


def changed(before: PointsPolicy, patch: PointsPolicyPatch) -> PointsPolicy:
    """The policy after a change. Raises InvalidRequest: nothing given, or with all its errors."""
    given = {name: value for name in patch.__struct_fields__ if (value := getattr(patch, name)) is not UNSET}
    if not given:
        raise InvalidRequest("Give at least one of " + ", ".join(patch.__struct_fields__) + ".")
    after = msgspec.structs.replace(before, **given)
    if errors := list(_errors(after)):
        raise InvalidRequest(f"{errors[0].detail} (at {errors[0].pointer})", errors)
    return after


def _errors(policy: PointsPolicy) -> Iterator[FieldError]:
    expiry = policy.expiry
    if isinstance(expiry, Rolling | Fixed):
        yield from _duration_errors(expiry.after, "/expiry/after", least=isinstance(expiry, Rolling))
    if isinstance(expiry, Fixed) and int(expiry.on[3:]) > monthrange(LEAP_YEAR, int(expiry.on[:2]))[1]:
        yield FieldError(pointer="/expiry/on", detail="is no day of any year")
    yield from _duration_errors(policy.restored_for, "/restored_for")


def _duration_errors(text: str, pointer: str, *, least: bool = False) -> Iterator[FieldError]:
    try:
        life = parse_duration(text)
    except ValueError as error:
        yield FieldError(pointer=pointer, detail=str(error))
        return
    if least and life == Duration():
        yield FieldError(pointer=pointer, detail="must be longer than nothing")
    elif life.months > MAX_LIFE_MONTHS or life.days + life.seconds // 86_400 > MAX_LIFE_DAYS:
        yield FieldError(pointer=pointer, detail=f"is longer than {MAX_LIFE_MONTHS // 12} years")


class PolicyVersion(Struct, frozen=True, kw_only=True):
    """One version: it counts for what is received from `effective_from` on."""

    version: int
    effective_from: datetime
    body: PointsPolicy


class PointsPolicies(Struct, frozen=True):
    """All versions of a program, oldest first; before the first the defaults count."""

    versions: Sequence[PolicyVersion] = ()

    def at(self, now: datetime) -> PointsPolicy:
        """The policy in force. It depends on the moment alone: a version begins some seconds after it was saved, when all know it."""
        found = self.version_at(now)
        return DEFAULT if found is None else found.body

    def version_at(self, now: datetime) -> PolicyVersion | None:
        """The version in force; None: the defaults, for nothing was saved before."""
        return next((version for version in reversed(self.versions) if version.effective_from <= now), None)


def compile_policy(version: int, effective_from: datetime, body: str) -> PolicyVersion:
    """A stored version."""
    return PolicyVersion(version=version, effective_from=effective_from, body=_decode(body))


def last_day(policy: PointsPolicy, available_at: datetime, own: Duration | None, zone: ZoneInfo) -> date | None:
    """The last local day on which points that become available then can be spent; None: they do not expire.

    `own` is the campaign's own duration, which comes first. Under a policy of activity it is the day for somebody who does nothing more.
    """
    if own is not None:
        return expires_on(available_at, own, zone)
    expiry = policy.expiry
    if isinstance(expiry, Rolling):
        return expires_on(available_at, parse_duration(expiry.after), zone)
    if isinstance(expiry, Activity):
        return add_months(available_at.astimezone(zone).date(), expiry.months)
    if isinstance(expiry, Fixed):
        return next_on(expires_on(available_at, parse_duration(expiry.after), zone), expiry.on)
    return None


def next_on(day: date, on: str) -> date:
    """The first day `MM-DD` that is not before `day`; February 29th is the 28th in other years."""
    month, of_month = int(on[:2]), int(on[3:])
    for year in (day.year, day.year + 1):
        first = date(year, month, 1)
        found = min(first + timedelta(days=of_month - 1), add_months(first, 1) - timedelta(days=1))
        if found >= day:
            return found
    raise AssertionError("the same day of the next year is later")

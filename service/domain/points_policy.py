"""A program's points policy: which version counts at a moment, and the last day of points that become available."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from schemas.points_policy import Activity, Fixed, PointsPolicy, Rolling
from service.domain.campaigns import Duration, add_months, expires_on, parse_duration

DEFAULT = PointsPolicy()
_decode = msgspec.json.Decoder(PointsPolicy).decode


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
        for version in reversed(self.versions):
            if version.effective_from <= now:
                return version.body
        return DEFAULT


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

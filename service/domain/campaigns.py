"""Campaigns: what is checked when one is saved, and its compiled form, which events are judged by."""

import calendar
import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from schemas.campaigns import Action, CampaignBody, CampaignStatus, Multiplier, PerAmount, PerKg, Tiered
from schemas.problems import FieldError
from service.domain.conditions import Condition, InvalidCondition, compile_condition, compile_segment
from service.domain.currencies import CURRENCIES
from service.domain.errors import InvalidRequest, InvalidState

MAX_HOLD_S: Final = 366 * 86_400
MAX_LIFE_MONTHS: Final = 1_200
MAX_LIFE_DAYS: Final = 36_525

# Durations -----------------------------------------------------------------------------------------------

_DURATION = re.compile(
    r"P(?=[0-9T])(?:([0-9]{1,6})Y)?(?:([0-9]{1,6})M)?(?:([0-9]{1,6})W)?(?:([0-9]{1,6})D)?"
    r"(?:T(?=[0-9])(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9})S)?)?"
)


class Duration(Struct, frozen=True, gc=False):
    """An ISO 8601 duration. Months (a year is twelve) and days (a week is seven) follow the calendar, seconds the clock."""

    months: int = 0
    days: int = 0
    seconds: int = 0


def parse_duration(text: str) -> Duration:
    """`P1Y6M`, `P14D`, `P2W`, `PT15M`, `PT0S`: whole, non-negative parts. Raises ValueError, its text for the sender."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError("is not an ISO 8601 duration such as P14D, P12M or PT15M")
    years, months, weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return Duration(months=12 * years + months, days=7 * weeks + days, seconds=3_600 * hours + 60 * minutes + seconds)


def add_months(day: date, months: int) -> date:
    """The same day of a later month, or that month's last: January 31st plus one month is February 28th or 29th."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return day.replace(year=year, month=month + 1, day=min(day.day, calendar.monthrange(year, month + 1)[1]))


def expires_on(available_at: datetime, after: Duration, zone: ZoneInfo) -> date:
    """The last local day on which points that become available then can be spent.

    It is the local day in which available_at + after falls, so that points live for at least the duration.
    """
    local = available_at.astimezone(zone).replace(tzinfo=None)
    day = add_months(local.date(), after.months)
    return (datetime.combine(day, local.time()) + timedelta(days=after.days, seconds=after.seconds)).date()


# The compiled form ---------------------------------------------------------------------------------------


class CompiledCampaign(Struct, frozen=True, kw_only=True, eq=False):
    """One version of a campaign, ready to judge events."""

    id: int
    code: str
    status: CampaignStatus
    """Of the campaign, the same in each of its versions."""
    version: int
    effective_from: datetime | None
    """The version counts for events that occurred from then on; None: from the beginning of time."""
    body: CampaignBody
    when: Condition | None
    segment: Condition | None
    platforms: frozenset[str] | None
    """Codes of the platforms that it runs on; None: all."""
    hold_s: int
    expires: Duration | None
    """How long its points live once they are available; None: for ever."""
    group: str | None
    """The group of `exclusive:<group>`; None for `add` and `best`."""
    caps: tuple[int | None, int | None, int | None, int | None] | None
    """The most points per order, and per consumer and day, year, whole life: by `service.domain.usage` span; None: no caps."""


class _Compiled(Struct, frozen=True, eq=False):
    """What a body alone decides."""

    body: CampaignBody
    when: Condition | None
    segment: Condition | None
    hold_s: int
    expires: Duration | None


def compile_campaign(id: int, status: CampaignStatus, version: int, effective_from: datetime | None, body_json: str) -> CompiledCampaign:  # noqa: A002 - the campaign's column
    """A stored version, decoded and compiled. `body_json` was checked when it was saved."""
    compiled = _compiled(body_json)
    body = compiled.body
    return CompiledCampaign(
        id=id,
        code=body.code,
        status=status,
        version=version,
        effective_from=effective_from,
        body=body,
        when=compiled.when,
        segment=compiled.segment,
        platforms=None if body.platforms is None else frozenset(body.platforms),
        hold_s=compiled.hold_s,
        expires=compiled.expires,
        group=body.stacking.removeprefix("exclusive:") if body.stacking.startswith("exclusive:") else None,
        caps=None if (c := body.caps) is None else (c.order, c.consumer_day, c.consumer_year, c.consumer_total),
    )


@lru_cache(maxsize=10_000)  # a catalogue is loaded again after every change; most of its versions never change
def _compiled(body_json: str) -> _Compiled:
    body = msgspec.json.decode(body_json, type=CampaignBody)
    return _Compiled(
        body=body,
        when=None if body.when is None else compile_condition(body.action, body.when),
        segment=None if body.segment is None else compile_segment(body.segment),
        hold_s=_hold_s(parse_duration(body.hold)),
        expires=None if body.expires_after is None else parse_duration(body.expires_after),
    )


def _hold_s(hold: Duration) -> int:
    return hold.days * 86_400 + hold.seconds


# States --------------------------------------------------------------------------------------------------

Step = Literal["activate", "pause", "end"]

TRANSITIONS: Final[dict[Step, tuple[frozenset[CampaignStatus], CampaignStatus]]] = {
    "activate": (frozenset({"draft", "paused"}), "running"),
    "pause": (frozenset({"running"}), "paused"),
    "end": (frozenset({"draft", "running", "paused"}), "ended"),
}
"""From which states each step leads where. Only a running campaign awards; an ended one never runs again."""


def after_step(status: CampaignStatus, step: Step) -> CampaignStatus:
    """The state after a step; taking a step again changes nothing. Raises InvalidState."""
    sources, target = TRANSITIONS[step]
    if status != target and status not in sources:
        raise InvalidState(f"A campaign that is {status} cannot {step}; it would have to be {' or '.join(sorted(sources))}.")
    return target


# Checks --------------------------------------------------------------------------------------------------


def check_campaign(body: CampaignBody) -> None:
    """Everything that can be wrong with a campaign by itself, at once. Raises InvalidRequest with a pointer for each error."""
    errors = [*_period_errors(body), *_platform_errors(body), *_award_errors(body), *_condition_errors(body)]
    if errors:
        more = f" ({len(errors)} errors)" if len(errors) > 1 else ""
        raise InvalidRequest(f"{errors[0].detail} (at {errors[0].pointer}){more}", errors)


def _error(pointer: str, detail: str) -> FieldError:
    return FieldError(pointer=pointer, detail=detail)


def _period_errors(body: CampaignBody) -> Iterator[FieldError]:
    if body.ends_at <= body.starts_at:
        yield _error("/ends_at", "must be after starts_at")
    try:
        hold = parse_duration(body.hold)
    except ValueError as error:
        yield _error("/hold", str(error))
    else:
        if hold.months:
            yield _error("/hold", "must be in weeks, days, hours, minutes or seconds: months differ in length")
        elif _hold_s(hold) > MAX_HOLD_S:
            yield _error("/hold", f"is longer than {MAX_HOLD_S // 86_400} days")
    if body.expires_after is not None:
        yield from _life_errors(body.expires_after)


def _life_errors(text: str) -> Iterator[FieldError]:
    try:
        life = parse_duration(text)
    except ValueError as error:
        yield _error("/expires_after", str(error))
        return
    if life == Duration():
        yield _error("/expires_after", "must be longer than nothing; leave it out for points that never expire")
    elif life.months > MAX_LIFE_MONTHS or life.days + life.seconds // 86_400 > MAX_LIFE_DAYS:
        yield _error("/expires_after", f"is longer than {MAX_LIFE_MONTHS // 12} years; leave it out for points that never expire")


def _platform_errors(body: CampaignBody) -> Iterator[FieldError]:
    if body.platforms is None:
        return
    if not body.platforms:
        yield _error("/platforms", "is empty: leave it out for all platforms")
    for i, code in enumerate(body.platforms):
        if code in body.platforms[:i]:
            yield _error(f"/platforms/{i}", "is there twice")


# What a rule measures, and the actions whose things have it.
_MEASURED: Final[dict[str, frozenset[Action]]] = {
    "amount": frozenset({"purchase"}),
    "mass": frozenset({"return", "activity"}),
    "quantity": frozenset({"purchase", "packaging", "return", "activity"}),
}


def _award_errors(body: CampaignBody) -> Iterator[FieldError]:
    rule = body.award
    match rule:
        case PerAmount():
            yield from _measure_errors("amount", body.action, "/award/kind")
            yield from _currency_errors(rule.currency)
            if Decimal(rule.per) <= 0:
                yield _error("/award/per", "must be above 0")
        case PerKg():
            yield from _measure_errors("mass", body.action, "/award/kind")
        case Tiered():
            yield from _measure_errors(rule.by, body.action, "/award/by")
            yield from _tier_errors(rule)
        case Multiplier():
            yield from _multiplier_errors(body.code, rule)


def _measure_errors(measure: str, action: Action, pointer: str) -> Iterator[FieldError]:
    if action not in _MEASURED[measure]:
        yield _error(pointer, f"counts {measure}, which the action {action!r} does not have: {', '.join(sorted(_MEASURED[measure]))} only")


def _currency_errors(currency: str) -> Iterator[FieldError]:
    if currency not in CURRENCIES:
        yield _error("/award/currency", "is not an active ISO 4217 currency")


def _tier_errors(rule: Tiered) -> Iterator[FieldError]:
    if rule.currency is not None:
        if rule.by != "amount":
            yield _error("/award/currency", "belongs to tiers by amount only")
        yield from _currency_errors(rule.currency)
    starts = [Decimal(tier.from_) for tier in rule.tiers]
    for i in range(1, len(starts)):
        if starts[i] <= starts[i - 1]:
            yield _error(f"/award/tiers/{i}/from", "must be above the tier before it")


def _multiplier_errors(code: str, rule: Multiplier) -> Iterator[FieldError]:
    if Decimal(rule.factor) <= 1:
        yield _error("/award/factor", "must be above 1")
    for i, other in enumerate(rule.of):
        if other == code:
            yield _error(f"/award/of/{i}", "is this campaign itself")
        elif other in rule.of[:i]:
            yield _error(f"/award/of/{i}", "is there twice")


def _condition_errors(body: CampaignBody) -> Iterator[FieldError]:
    try:
        if body.when is not None:
            compile_condition(body.action, body.when)
    except InvalidCondition as error:
        yield from error.errors
    try:
        if body.segment is not None:
            compile_segment(body.segment)
    except InvalidCondition as error:
        yield from error.errors

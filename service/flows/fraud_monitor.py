"""Monitors of the fraud checks: how scores and holds are spread over days, whether they drift, what reviewers get done."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import structlog

from schemas.bounds import MAX_MONITOR_DAYS
from schemas.fraud_models import FraudMonitor, ModelDay, ReviewDay, ScoreBin, SignalDay, Stability
from service.domain.errors import InvalidRequest
from service.domain.fraud_monitor import BINS, DRIFTED, LEAST_EVENTS, stability_index
from service.store import alerts, fraud_policy, registries
from service.store import fraud_hours as store
from service.store.connection import Connection, Pool
from service.store.fraud_hours import OUTCOMES, DayRow, Spread
from service.store.fraud_status import status
from service.telemetry import metrics

USUAL_DAYS: Final = 28
DRIFT: Final = "fraud_drift"
"""The kind of the alert."""
SUBJECT: Final = "fraud scores"
_JUDGED: Final = ("pass", "hold", "reject")

log = structlog.get_logger("greenpoints.fraud")


async def monitor(conn: Connection, *, program: int, from_: date | None, to: date | None) -> FraudMonitor:
    """The program's days from `from_` to `to` (not included); the last 28 with today, if left out. Raises InvalidRequest."""
    now, time_zone = await registries.clock(conn, program)
    from_, to = days_of(from_, to, today=now.astimezone(ZoneInfo(time_zone)).date())
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        rows = await store.by_day(conn, program, from_=from_, to=to, time_zone=time_zone)
        spreads = await store.spreads(conn, program)
        reviews = await store.reviews(conn, program, from_=from_, to=to, time_zone=time_zone)
        policy = await fraud_policy.policy(conn, program)
    by_day: defaultdict[tuple[date, int], list[DayRow]] = defaultdict(list)
    for row in rows:
        by_day[row.day, row.model].append(row)
    return FraudMonitor(
        from_=from_, to=to, days=[_day(day, model, of) for (day, model), of in sorted(by_day.items())],
        stability=[_stability(spread) for spread in spreads], reviews_a_day=policy.reviews_a_day,
        reviews=[ReviewDay(day=day, decided=decided) for day, decided in reviews],
    )  # fmt: skip


def days_of(from_: date | None, to: date | None, *, today: date) -> tuple[date, date]:
    """The local days of a monitor, the last not included. Raises InvalidRequest (`to` before `from`, more than MAX_MONITOR_DAYS)."""
    to = to or today + timedelta(days=1)
    from_ = from_ or date.fromordinal(max(1, to.toordinal() - USUAL_DAYS))
    if to < from_:
        raise InvalidRequest.at("/to", "must not be before from")
    if (to - from_).days > MAX_MONITOR_DAYS:
        raise InvalidRequest.at("/from", f"is more than {MAX_MONITOR_DAYS} days before to")
    return from_, to


async def watch(pool: Pool) -> list[Stability]:
    """Compare the scores of the last day with those before, open and resolve alerts, show the gauges; the versions that have drifted.

    Safe to repeat and to run side by side.
    """
    async with pool.acquire() as conn:
        spreads = await store.spreads(conn, None)
        drifted = [(spread.program, found) for spread in spreads if (found := _stability(spread)).drifted]
        await alerts.tell_of_programs(conn, DRIFT, SUBJECT, {program: _words(found) for program, found in drifted})
        now = await status(conn, None)
    metrics.ALERTS_OPEN.labels(DRIFT).set(len({program for program, _ in drifted}))
    metrics.FRAUD_WAITING.set(now.waiting)
    metrics.FRAUD_HELD.set(now.held)
    metrics.FRAUD_OPEN_CASES.set(now.open_cases)
    if drifted:
        log.warning("the scores of the fraud checks have drifted: GET /v1/fraud/monitor", programs=sorted({p for p, _ in drifted}))
    return [found for _, found in drifted]


def _words(found: Stability) -> str:
    return (
        f"The scores of version {found.model} have drifted: a stability index of {found.psi:.2f} (above {DRIFTED}) between the last "
        f"24 hours ({found.events:,} events) and the 28 days before ({found.events_before:,}). GET /v1/fraud/monitor shows where."
    )


def _stability(spread: Spread) -> Stability:
    events, before = sum(spread.now.values()), sum(spread.before.values())
    psi = stability_index(spread.before, spread.now) if min(events, before) >= LEAST_EVENTS else None
    return Stability(
        model=spread.model, psi=None if psi is None else round(psi, 4), events=events, events_before=before,
        drifted=psi is not None and psi > DRIFTED,
    )  # fmt: skip


def _day(day: date, model: int, rows: Sequence[DayRow]) -> ModelDay:
    """The counts of one version and day."""
    of = {(row.kind, row.name): row for row in rows}
    outcomes = {name: row.events for name in OUTCOMES if (row := of.get(("outcome", name))) is not None}
    judged = sum(outcomes.get(name, 0) for name in _JUDGED)
    held = outcomes.get("hold", 0) + outcomes.get("reject", 0)
    points = {name: row.points for (kind, name), row in of.items() if kind == "outcome"}
    scores = [ScoreBin(from_bp=b, events=row.events if (row := of.get(("score", str(b)))) is not None else 0) for b in BINS]
    names = sorted({name for kind, name in of if kind in ("signal", "held_by")})
    return ModelDay(
        day=day, model=model, judged=judged, held=held, hold_rate=_rate(held, judged), points=sum(points.get(name, 0) for name in _JUDGED),
        held_points=points.get("hold", 0) + points.get("reject", 0), outcomes=outcomes, scores=scores,
        signals=[_signal(name, of.get(("signal", name)), of.get(("held_by", name)), judged) for name in names],
    )  # fmt: skip


def _signal(name: str, fired: DayRow | None, held: DayRow | None, judged: int) -> SignalDay:
    times, holds = 0 if fired is None else fired.events, 0 if held is None else held.events
    return SignalDay(name=name, fired=times, held=holds, fired_rate=_rate(times, judged), hold_rate=_rate(holds, judged))


def _rate(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0

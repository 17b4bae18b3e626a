"""Monitors: what judges count by the hour, what a day shows, when scores have drifted."""

from collections.abc import AsyncIterator, Mapping
from datetime import date, timedelta
from typing import Any

import pytest
from msgspec import Struct

from service.flows import fraud_monitor
from service.flows.fraud_monitor import DRIFT, monitor, watch
from service.store import fraud_hours, fraud_labels, fraud_models, fraud_policy, fraud_status
from service.store.connection import Connection
from service.telemetry import metrics
from tests.worlds import World, order_paid

PASS, HOLD, REJECT, UNJUDGED = 1, 2, 3, 4


class Row(Struct, frozen=True, kw_only=True):
    """What a monitor reads of a verdict."""

    event: int = 1
    points: int = 10
    outcome: int = PASS
    model: int = 3
    score: int = 5
    shadow_model: int | None = None
    shadow_score: int | None = None
    shadow_outcome: int | None = None
    strengths: str | None = None


@pytest.fixture
async def conn(world: World) -> AsyncIterator[Connection]:
    async with world.pool.acquire() as connection:
        yield connection


async def hours(world: World) -> dict[tuple[int, str, str], tuple[int, int]]:
    rows = await world.rows("SELECT model, kind, name, events, points FROM fraud_hour")
    return {(r["model"], r["kind"], r["name"]): (r["events"], r["points"]) for r in rows}


async def spread(world: World, counts: Mapping[int, int], *, ago: str, model: int = 3, program: int | None = None) -> None:
    """Scores by bin, some time ago."""
    for bin_, events in counts.items():
        await world.rows(
            "INSERT INTO fraud_hour VALUES ($1, date_trunc('hour', now(), 'UTC') - $2::text::interval, $3, 'score', $4, $5, 0)",
            program or world.program, ago, model, str(bin_), events,
        )  # fmt: skip


async def alerts(world: World) -> list[dict[str, Any]]:
    return await world.rows("SELECT program, kind, subject, words, resolved_at IS NULL AS open FROM alert ORDER BY id")


# Counting


async def test_a_batch_is_counted_by_kind(world: World, conn: Connection) -> None:
    rows = [
        Row(event=1, outcome=0, points=-5), Row(event=2, score=9, strengths='{"burst":1,"gain":2}'),
        Row(event=3, outcome=HOLD, score=6_000, points=100, strengths='{"burst":4,"gain":3}'),
        Row(event=4, outcome=REJECT, score=9_990, points=50), Row(event=5, outcome=UNJUDGED, points=7, model=0, score=0),
    ]  # fmt: skip
    reasons = {3: '[{"signal":"burst","bp":9000},{"signal":"burst"}]', 5: '[{"signal":"unchecked"}]', 2: '[{"signal":"gain"}]'}
    await fraud_hours.add(conn, world.program, rows, reasons=reasons)
    await fraud_hours.add(conn, world.program, rows[1:2])
    assert await hours(world) == {
        (3, "outcome", "earns_nothing"): (1, 0), (3, "outcome", "pass"): (2, 20), (3, "outcome", "hold"): (1, 100),
        (3, "outcome", "reject"): (1, 50), (0, "outcome", "unjudged"): (1, 7), (3, "score", "0"): (2, 20), (3, "score", "5000"): (1, 100),
        (3, "score", "9000"): (1, 50), (3, "signal", "gain"): (3, 120), (3, "signal", "burst"): (1, 100), (3, "held_by", "burst"): (1, 100),
        (0, "held_by", "unchecked"): (1, 7),
    }  # fmt: skip


async def test_the_model_beside_is_counted_for_itself(world: World, conn: Connection) -> None:
    await fraud_hours.add(conn, world.program, [Row(shadow_model=4, shadow_score=5_500, shadow_outcome=HOLD, strengths='{"burst":4}')])
    assert await hours(world) == {
        (3, "outcome", "pass"): (1, 10), (3, "score", "0"): (1, 10), (3, "signal", "burst"): (1, 10), (4, "outcome", "hold"): (1, 10),
        (4, "score", "5000"): (1, 10),
    }  # fmt: skip


async def test_nothing_is_counted_of_nothing_and_of_what_is_rolled_back(world: World, conn: Connection) -> None:
    await fraud_hours.add(conn, world.program, [])
    transaction = conn.transaction()
    await transaction.start()
    await fraud_hours.add(conn, world.program, [Row()])
    await transaction.rollback()
    assert await hours(world) == {}


# Days


async def test_a_day_shows_what_was_said_of_it(world: World, conn: Connection) -> None:
    rows = [Row(event=n, score=9) for n in range(8)]
    rows += [Row(event=n, outcome=HOLD, score=6_000, points=100, strengths='{"burst":4}') for n in (8, 9)]
    await fraud_hours.add(conn, world.program, rows, reasons={8: '[{"signal":"burst"}]', 9: '[{"signal":"gain"}]'})
    shown = await monitor(conn, program=world.program, from_=None, to=None)
    (day,) = shown.days
    assert (day.model, day.judged, day.held, day.hold_rate, day.points, day.held_points) == (3, 10, 2, 0.2, 280, 200)
    assert day.outcomes == {"pass": 8, "hold": 2}
    assert {b.from_bp: b.events for b in day.scores if b.events} == {0: 8, 5_000: 2}
    assert len(day.scores) == 10
    assert [(s.name, s.fired, s.held, s.fired_rate, s.hold_rate) for s in day.signals] == [
        ("burst", 2, 1, 0.2, 0.1), ("gain", 0, 1, 0.0, 0.1),
    ]  # fmt: skip
    (stable,) = shown.stability
    assert (stable.model, stable.psi, stable.events, stable.events_before, stable.drifted) == (3, None, 10, 0, False)
    assert (shown.to - shown.from_).days == 28


async def test_days_are_local_ones_of_the_program(world: World, conn: Connection) -> None:
    """23:30 in Shanghai is 15:30 in UTC, half past midnight the next day 16:30."""
    for at in ("2026-03-01T15:00Z", "2026-03-01T16:00Z", "2026-03-02T16:00Z"):
        await world.rows("INSERT INTO fraud_hour VALUES ($1, $2::text::timestamptz, 3, 'outcome', 'pass', 1, 1)", world.program, at)
    shown = await monitor(conn, program=world.program, from_=date(2026, 3, 1), to=date(2026, 3, 3))
    assert [(day.day.isoformat(), day.judged) for day in shown.days] == [("2026-03-01", 1), ("2026-03-02", 1)]


async def test_reviews_are_cases_that_people_decided(world: World, conn: Connection) -> None:
    await world.rows(
        "INSERT INTO operator (email, password_hash, role, program) VALUES ('a@example.com', 'none', 'fraud', $1), ('b@example.com', 'none', 'fraud', $1)",
        world.program,
    )
    one, other = (row["id"] for row in await world.rows("SELECT id FROM operator ORDER BY id"))
    for case in (1, 2, 3):
        await world.rows("INSERT INTO fraud_case VALUES ($1, $2, 1, 'open', 1, now(), now())", case, world.program)
    for number, case, status, alone, by, at in (
        (1, 1, "done", True, None, "2026-03-01T12:00Z"), (2, 1, "done", True, None, "2026-03-01T13:00Z"),
        (3, 2, "done", False, other, "2026-03-01T13:00Z"), (4, 3, "refused", False, other, "2026-03-01T13:00Z"),
        (5, 3, "done", True, None, "2026-03-01T16:00Z"),
    ):  # fmt: skip
        await world.rows(
            "INSERT INTO fraud_decision VALUES ($1, $2, $3, 'reject', '{}', 1, NULL, $4, $5, $6, $8::text::timestamptz, $7, CASE WHEN $7::int IS NOT NULL THEN $8::text::timestamptz END)",
            number, world.program, case, alone, status, one, by, at,
        )  # fmt: skip
    shown = await monitor(conn, program=world.program, from_=date(2026, 3, 1), to=date(2026, 3, 3))
    assert [(day.day.isoformat(), day.decided) for day in shown.reviews] == [("2026-03-01", 2), ("2026-03-02", 1)]


async def test_another_programs_counts_are_not_shown(world: World, conn: Connection) -> None:
    await spread(world, {0: 5_000}, ago="1 hour", program=world.program + 1)
    shown = await monitor(conn, program=world.program, from_=None, to=None)
    assert (shown.days, shown.stability) == ([], [])


# Drift


async def test_an_alert_is_opened_once_when_scores_drift_and_resolved_when_they_do_not(world: World) -> None:
    await spread(world, {0: 9_000, 10: 1_000}, ago="3 days")
    await spread(world, {0: 1_800, 10: 200}, ago="1 hour")
    assert await watch(world.pool) == []
    assert await alerts(world) == []
    await spread(world, {300: 2_000}, ago="2 hours")
    (found,) = await watch(world.pool)
    assert (found.model, found.events, found.events_before, found.drifted) == (3, 4_000, 10_000, True)
    assert found.psi is not None
    assert found.psi > 0.25
    await watch(world.pool)
    (alert,) = await alerts(world)
    assert (alert["program"], alert["kind"], alert["subject"], alert["open"]) == (world.program, DRIFT, "fraud scores", True)
    assert "version 3" in alert["words"]
    assert gauge(metrics.ALERTS_OPEN.labels(DRIFT)) == 1
    await world.rows("DELETE FROM fraud_hour WHERE name = '300'")
    assert await watch(world.pool) == []
    assert [row["open"] for row in await alerts(world)] == [False]
    assert gauge(metrics.ALERTS_OPEN.labels(DRIFT)) == 0


@pytest.mark.parametrize(
    ("before", "now", "ago"),
    [({0: 999}, {9_000: 5_000}, "25 hours"), ({0: 5_000}, {9_000: 999}, "25 hours"), ({0: 5_000}, {9_000: 5_000}, "696 hours")],
    ids=["few before", "few now", "long ago"],
)
async def test_few_events_are_no_drift(world: World, before: Mapping[int, int], now: Mapping[int, int], ago: str) -> None:
    await spread(world, before, ago=ago)
    await spread(world, now, ago="23 hours")
    assert await watch(world.pool) == []


async def test_another_version_is_no_drift(world: World) -> None:
    await spread(world, {0: 5_000}, ago="2 days", model=1)
    await spread(world, {9_000: 5_000}, ago="1 hour", model=2)
    assert await watch(world.pool) == []


async def test_a_drift_of_one_program_is_not_anothers(world: World) -> None:
    for program in (world.program, world.program + 1):
        await spread(world, {0: 5_000}, ago="2 days", program=program)
    await spread(world, {0: 5_000}, ago="1 hour")
    await spread(world, {9_000: 5_000}, ago="1 hour", program=world.program + 1)
    assert len(await watch(world.pool)) == 1
    assert [row["program"] for row in await alerts(world)] == [world.program + 1]


async def test_other_alerts_stay(world: World) -> None:
    await world.rows("INSERT INTO alert (program, kind, subject, words) VALUES ($1, 'fraud_check', 'event 7', 'w')", world.program)
    await watch(world.pool)
    assert [row["open"] for row in await alerts(world)] == [True]


# Status


def gauge(metric: Any) -> float:
    return float(metric._value.get())


async def test_what_waits_and_what_is_held_is_shown(world: World) -> None:
    await world.campaign(hold="P14D")
    for n in range(3):
        await world.credit(order_paid(f"c-{n}"))
    await world.rows("UPDATE event SET received_at = received_at - interval '90 s'")
    await world.rows(
        "INSERT INTO fraud_case VALUES (1, $1, 1, 'open', 1, now(), now(), NULL), (2, $1, 1, 'closed', 1, now(), now(), now())",
        world.program,
    )
    await world.rows(
        """INSERT INTO fraud_case_event (bucket, account, event, program, fraud_case, points, score, reasons, found, state, held_at, deadline, at_deadline)
           SELECT bucket, account, event, program, 1, 20, 6000, '[]', 'arrival', 'held', now(), now() + interval '1 day', 'release'
           FROM screening ORDER BY event LIMIT 1"""
    )
    await world.rows("UPDATE screening SET state = 1 WHERE event = (SELECT min(event) FROM screening)")
    await watch(world.pool)
    assert [gauge(m) for m in (metrics.FRAUD_WAITING, metrics.FRAUD_HELD, metrics.FRAUD_OPEN_CASES)] == [2, 1, 1]
    async with world.pool.acquire() as conn:
        now = await fraud_status.status(conn, world.program)
        assert (now.waiting, now.held, now.held_points, now.open_cases, now.frauds, now.honest) == (2, 1, 20, 1, 0, 0)
        assert now.oldest_s is not None
        assert 90 <= now.oldest_s < 900
        assert now.next_deadline is not None
        other = await fraud_status.status(conn, world.program + 1)
        assert (other.waiting, other.oldest_s, other.held, other.open_cases) == (0, None, 0, 0)


async def test_every_statement_is_prepared_by_the_schema(conn: Connection) -> None:
    for module in (fraud_hours, fraud_status, fraud_labels, fraud_models, fraud_policy):
        for name, statement in vars(module).items():
            if name.isupper() and not name.startswith("_") and isinstance(statement, str):
                await conn.prepare(statement)


def test_usual_days() -> None:
    today = date(2026, 3, 31)
    assert fraud_monitor.days_of(None, None, today=today) == (today - timedelta(days=27), today + timedelta(days=1))

"""Warnings: once for each consumer and last day, so many days before, in words."""

from datetime import timedelta
from typing import Any

import pytest

from schemas.points_policy import Activity, PointsPolicyPatch
from service.flows.events import NEWEST, activity
from service.flows.knowledge import Knowledge
from service.flows.points_policy import change_policy
from service.flows.warn import warn_due
from service.store import warnings
from tests.flows.test_expire import Life, projection
from tests.spending import account_of, age, end_of, reserve
from tests.worlds import CHANGE, World, order_paid

__all__ = ["projection"]


@pytest.fixture
async def life(world: World, projection: Any) -> Life:
    await world.campaign(code="camp")
    return Life(world, projection)


async def policy(world: World, **changes: Any) -> None:
    async with world.pool.acquire() as conn:
        await change_policy(conn, PointsPolicyPatch(**changes), program=world.program, change=CHANGE)
    await world.rows("UPDATE points_policy SET effective_from = effective_from - interval '1 minute'")


async def next_day(world: World) -> None:
    await world.rows("UPDATE expiry_watch SET day = day - 1")


async def written(world: World) -> list[tuple[int, int]]:
    """(points, days from today) of the warnings."""
    rows = await world.rows(
        "SELECT points, expires_on - (now() AT TIME ZONE g.time_zone)::date AS days FROM expiry_warning w JOIN program g ON g.id = w.program ORDER BY number"
    )
    return [(r["points"], r["days"]) for r in rows]


async def test_once_for_each_day_and_so_many_days_before(life: Life) -> None:
    world = life.world
    for n in range(4):
        await life.earn()
        await end_of(world, "c", (-30, -31, -30, 0)[n], n=n)
    assert await warn_due(world.pool) == 2
    assert sorted(await written(world)) == [(10, 0), (20, 30)], "30 days unless the policy says otherwise"
    assert await warn_due(world.pool) == 0, "looked through for today"
    await next_day(world)
    assert await warn_due(world.pool) == 0, "nobody is told twice"
    await age(world, 1)
    await world.rows("UPDATE expiry_warning SET expires_on = expires_on - 1")
    await next_day(world)
    assert await warn_due(world.pool) == 1, "the next lot is 30 days away now"
    assert (10, 30) in await written(world)
    async with world.pool.acquire() as conn:
        items, position = await activity(conn, await account_of(world, "c"), before=NEWEST, limit=2)
        (today,) = await conn.fetch("SELECT (now() AT TIME ZONE time_zone)::date AS day FROM program WHERE id = $1", world.program)
        rest, _ = await activity(conn, await account_of(world, "c"), before=position or 0, limit=10)
    assert [(i.kind, i.points, i.status) for i in items] == [("points.expiring", 0, "announced")] * 2
    assert items[0].reason == f"10 points can be spent until {today['day'] + timedelta(days=30)}"
    assert [i.kind for i in rest] == ["points.expiring", *["order.paid"] * 4]


async def test_the_policy_says_how_long_before_or_not_at_all(life: Life) -> None:
    world = life.world
    await life.earn()
    await end_of(world, "c", -7)
    await policy(world, warn_before_days=6)
    assert await warn_due(world.pool) == 0
    await next_day(world)
    await policy(world, warn_before_days=None)
    assert await warn_due(world.pool) == 0
    await next_day(world)
    await policy(world, warn_before_days=7)
    assert await warn_due(world.pool) == 1


async def test_only_what_is_free_and_really_ends(life: Life) -> None:
    """Reserved points do not expire, and a consumer who is active need not fear."""
    world = life.world
    await life.earn()
    await end_of(world, "c", -3)
    await reserve(world, "c", 4)
    await life.earn("spent")
    await end_of(world, "spent", -3)
    await reserve(world, "spent", 10)
    await policy(world, expiry=Activity(months=6))
    await world.rows("UPDATE campaign_version SET body = replace(body, '\"P12M\"', 'null')")
    await world.send(order_paid("idle"), order_paid("active"), knowledge=Knowledge())
    await life.settle()
    await age(world, 170)
    await world.rows("UPDATE lot SET expires_on = expires_on + 170 WHERE idle_months IS NULL")
    await world.send(order_paid("active"), knowledge=Knowledge())
    await life.settle()
    assert await warn_due(world.pool) == 2
    rows = await world.rows(
        "SELECT r.reference, w.points FROM expiry_warning w JOIN consumer_reference r USING (bucket, account) ORDER BY 1"
    )
    assert [tuple(r.values()) for r in rows] == [("c", 6), ("idle", 10)]


async def test_a_look_that_was_cut_short_goes_on_and_is_bounded(life: Life) -> None:
    world = life.world
    for n in range(5):
        await life.earn()
        await end_of(world, "c", -n, n=n)
    assert await warn_due(world.pool, most=2) == 5
    await world.rows("DELETE FROM expiry_warning")
    (bucket,) = await world.rows("SELECT bucket FROM lot LIMIT 1")
    await world.rows("UPDATE expiry_watch SET bucket = $1", bucket["bucket"] + 1)
    assert await warn_due(world.pool) == 0, "it goes on after the buckets that are done"
    await world.rows("UPDATE expiry_watch SET bucket = $1", bucket["bucket"])
    assert await warn_due(world.pool) == 5


async def test_two_workers_do_not_look_at_one_program(life: Life) -> None:
    world = life.world
    await life.earn()
    await end_of(world, "c", -1)
    async with world.pool.acquire() as conn:
        await warnings.start(conn, world.program)
    async with world.pool.acquire() as conn, conn.transaction():
        assert await warnings.take(conn, world.program) is not None
        assert await warn_due(world.pool) == 0, "another one has it"
    assert await warn_due(world.pool) == 1

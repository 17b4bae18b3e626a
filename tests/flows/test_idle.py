"""Points of a policy of activity: they live on while their consumer earns or spends, and everybody who asks is told the same day."""

from collections.abc import AsyncIterator
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from redis.asyncio import Redis

from schemas.points_policy import Activity, PointsPolicyPatch
from service.domain.campaigns import add_months
from service.flows.knowledge import Knowledge
from service.flows.points_policy import change_policy
from service.projection import Projection
from service.store import balances
from tests.flows.test_expire import Life
from tests.spending import account_of, age, capture, reserve
from tests.worlds import CHANGE, World, cancelled, order_paid, refund

MONTHS = 6


@pytest.fixture
async def projection(redis_url: str) -> AsyncIterator[Projection]:
    async with Redis.from_url(redis_url, socket_timeout=5) as redis:
        yield Projection(redis, epoch=1, ttl_s=600, wait_ms=1_000)


@pytest.fixture
async def life(world: World, projection: Projection) -> Life:
    await world.campaign(code="camp", expires_after=None)
    async with world.pool.acquire() as conn:
        await change_policy(conn, PointsPolicyPatch(expiry=Activity(months=MONTHS)), program=world.program, change=CHANGE)
    await world.rows("UPDATE points_policy SET effective_from = effective_from - interval '1 minute'")
    return Life(world, projection)


async def earn(life: Life, consumer: str = "c", **more: Any) -> dict[str, Any]:
    paid = order_paid(consumer, **more)
    await life.world.send(paid, knowledge=Knowledge())
    await life.settle()
    return paid


async def local_day(world: World, at: datetime) -> date:
    (row,) = await world.rows("SELECT time_zone FROM program WHERE id = $1", world.program)
    return at.astimezone(ZoneInfo(row["time_zone"])).date()


async def lots(world: World) -> list[tuple[Any, ...]]:
    return [tuple(r.values()) for r in await world.rows("SELECT remaining, expires_on, idle_months FROM lot ORDER BY event, n")]


async def told(world: World, consumer: str = "c") -> list[tuple[int, date]]:
    async with world.pool.acquire() as conn:
        found = await balances.details(conn, await account_of(world, consumer), None)
    assert found is not None
    return found.expiring


async def test_who_does_nothing_loses_them(life: Life) -> None:
    await earn(life)
    ((_, last, months),) = await lots(life.world)
    assert months == MONTHS
    assert await told(life.world) == [(10, last)]
    await age(life.world, 180)
    assert await life.expire() == 0, "no six months are shorter than 181 days"
    await age(life.world, 10)
    assert await life.expire() == 1
    assert (await life.balance())[0] == 0
    await life.sound()


async def test_who_earns_keeps_them(life: Life) -> None:
    world = life.world
    await earn(life)
    await age(world, 150)
    await earn(life)
    ((_, first, _), (_, second, _)) = await lots(world)
    assert first < second
    assert await told(world) == [(20, second)], "the day that both live until"
    await age(world, 100)
    second = (await lots(world))[1][1]
    (row,) = await world.rows("SELECT max(received_at) AS at FROM event")
    assert await life.expire() == 1
    moved = add_months(await local_day(world, row["at"]), MONTHS)
    assert [lot[1] for lot in await lots(world)] == [moved, second], "moved on, not expired"
    assert await life.expire() == 0
    await age(world, 90)
    assert await life.expire() == 2
    assert (await life.balance())[0] == 0
    await life.sound()


async def test_who_spends_keeps_them_and_who_gives_back_does_not(life: Life) -> None:
    world = life.world
    paid = await earn(life, quantity=3)
    await age(world, 150)
    number = await reserve(world, "c", 5)
    (row,) = await world.rows("SELECT at FROM transfer")
    moved = add_months(await local_day(world, row["at"]), MONTHS)
    assert {day for _, day in await told(world)} == {moved}
    await age(world, 100)
    await capture(world, number, 5)
    (row,) = await world.rows("SELECT max(at) AS at FROM transfer")
    moved = add_months(await local_day(world, row["at"]), MONTHS)
    assert await told(world) == [(25, moved)]
    await age(world, 100)
    # Something is taken back: that is nothing that the consumer earned or spent.
    await world.send(refund(paid, "r", 1), knowledge=Knowledge())
    (row,) = await world.rows("SELECT max(at) AS at FROM transfer WHERE kind = 5")
    assert await told(world) == [(15, add_months(await local_day(world, row["at"]), MONTHS))]
    await life.sound()


async def test_a_linked_account_keeps_them_alive(life: Life) -> None:
    """What it earns is somebody else's event and the same person's activity."""
    world = life.world
    await earn(life, "c")
    await age(world, 150)
    await earn(life, "alias")
    await world.rows("UPDATE account SET home = $1 WHERE id = $2", await account_of(world, "c"), await account_of(world, "alias"))
    ((_, first, _), (_, second, _)) = await lots(world)
    assert await told(world) == [(10, second)]
    assert first < second


async def test_the_day_orders_what_is_spent_and_what_is_taken_back(life: Life) -> None:
    """A lot whose own day is first but which lives on comes after one that ends in between."""
    world = life.world
    await earn(life)
    await age(world, 150)
    await world.campaign(code="short", expires_after="P3M", when="line.sku == 'TP-01'")
    await world.rows("UPDATE campaign SET status = 'paused' WHERE code = 'camp'")
    await world.rows("UPDATE deployment SET catalogue_version = catalogue_version + 1")
    await earn(life)
    own = await earn(life, quantity=2)
    found = await lots(world)
    assert [months for _, _, months in found] == [MONTHS, None, None], "a campaign's own duration comes first"
    assert found[0][1] < found[1][1], "by its own day the idle one would be first"
    number = await reserve(world, "c", 15)
    await capture(world, number, 15)
    assert [remaining for remaining, _, _ in await lots(world)] == [10, 0, 15]
    await world.rows("UPDATE lot SET remaining = 0 WHERE remaining = 15")
    await world.rows("UPDATE lot SET remaining = 6 WHERE remaining = 0 AND event = (SELECT min(event) FROM lot WHERE idle_months IS NULL)")
    await world.send(cancelled(own), knowledge=Knowledge())
    assert [remaining for remaining, _, _ in await lots(world)][1] == 0, "a clawback takes what ends first, too"

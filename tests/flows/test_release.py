"""Reservations end by themselves: once, under the lock of their account, by the worker that has the lease."""

from collections.abc import Sequence
from typing import Any

import pytest

from schemas.events import Balance
from service.flows.release import release_batch, release_due
from service.store import leases
from service.store.leases import LeaseLost
from service.store.releases import Due
from tests.flows.test_expire import Life, projection
from tests.flows.test_locks import blocked
from tests.spending import capture, release, reserve
from tests.worlds import World

__all__ = ["projection"]


@pytest.fixture
async def life(world: World, projection: Any) -> Life:
    await world.campaign(code="camp")
    return Life(world, projection)


class Ending:
    """Ends reservations as the flow of redemptions does."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ended: list[int] = []

    async def __call__(self, connection: Any, due: Sequence[Due], *, program: int, stripe: int) -> Sequence[tuple[int, Balance]]:
        assert {one.program for one in due} == {program}
        assert stripe == 4
        for one in due:
            await release(connection, self.world, one.redemption, "expired")
            self.ended.append(one.redemption)
        return []


async def sweep(life: Life, ending: Ending) -> int:
    return await release_due(life.world.pool, life.projection, ending, stripe=4, buckets=1_024)


async def test_what_is_over_is_released_once(life: Life) -> None:
    await life.earn(quantity=5)
    await life.earn("other", quantity=5)
    over = [await reserve(life.world, "c", 10, ttl_s=-1), await reserve(life.world, "other", 7, ttl_s=-100)]
    await reserve(life.world, "c", 5)
    ending = Ending(life.world)
    assert await sweep(life, ending) == 2
    assert sorted(ending.ended) == sorted(over)
    assert await sweep(life, ending) == 0
    assert (await life.balance())[:2] == (45, 5)
    assert (await life.balance("other"))[:2] == (50, 0)
    await life.sound()


async def test_a_release_waits_for_a_capture_and_leaves_it_alone(life: Life) -> None:
    await life.earn(quantity=5)
    number = await reserve(life.world, "c", 10, ttl_s=-1)
    ending = Ending(life.world)
    async with life.world.pool.acquire() as conn, conn.transaction():
        from tests.spending import _end  # noqa: PLC0415

        await _end(conn, life.world, number, captured=10)
        releasing = await blocked(life.world, sweep(life, ending))
        assert not releasing.done(), "it waits"
    assert await releasing == 0
    assert ending.ended == []
    assert (await life.balance())[:2] == (40, 0)
    await life.sound()


async def test_a_worker_that_was_paused_releases_nothing_when_it_wakes(life: Life) -> None:
    world = life.world
    await life.earn(quantity=5)
    ending, late = Ending(world), Ending(world)
    async with world.pool.acquire() as a:
        mine = await leases.take(a, "release", 0)
        assert mine is not None
        first = await reserve(world, "c", 10, ttl_s=-1)
        assert await sweep(life, ending) == 0, "it is being done"
        await world.rows("UPDATE lease SET until = clock_timestamp()")
        assert await sweep(life, ending) == 1
        second = await reserve(world, "c", 10, ttl_s=-1)
        with pytest.raises(LeaseLost):
            await release_batch(a, life.projection, late, mine, list(range(1_024)), stripe=4)
    assert await sweep(life, ending) == 1
    assert (ending.ended, late.ended) == ([first, second], [])
    await life.sound()


async def test_what_was_captured_before_its_end_is_not_due(life: Life) -> None:
    await life.earn(quantity=5)
    number = await reserve(life.world, "c", 10)
    await capture(life.world, number, 10)
    assert await sweep(life, Ending(life.world)) == 0

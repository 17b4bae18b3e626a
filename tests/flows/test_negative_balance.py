"""Points that are taken back and were spent before: what becomes of them is the program's policy, and the books balance in each."""

import pytest

from schemas.points_policy import PointsPolicyPatch
from service.flows import points_policy
from service.flows.administer import Change
from service.flows.check import check
from service.flows.settle import settle_due
from service.projection import Projection
from tests.books import faults
from tests.spending import account_of, capture, reserve
from tests.worlds import World, order_paid, refund

SETTLED = {"stripe": 1, "buckets": 1024, "batch_events": 1000}


async def choose(world: World, policy: str) -> None:
    """From now on, for all that is received."""
    async with world.pool.acquire() as conn:
        patch = PointsPolicyPatch(negative_balance=policy)  # type: ignore[arg-type]
        await points_policy.change_policy(conn, patch, program=world.program, change=Change())
        await conn.execute("UPDATE points_policy SET effective_from = now() - interval '1 hour'")
        await conn.execute("UPDATE deployment SET catalogue_version = catalogue_version + 1")


@pytest.mark.parametrize(
    ("policy", "after", "said", "earned"),
    [("debt", (0, 30), [], 10), ("cap_at_zero", (0, 0), ["points_spent"], 40), ("refuse", (20, 0), ["points_spent"], 60)],
)
async def test_points_that_were_spent_before_they_are_taken_back(
    world: World, projection: Projection, policy: str, after: tuple[int, int], said: list[str], earned: int
) -> None:
    """50 of 70 are spent, then 50 are taken back: 30 are missing. Later 40 are earned."""
    await world.campaign()
    await choose(world, policy)
    paid = order_paid(quantity=7)
    await world.credit(paid)
    await settle_due(world.pool, projection, **SETTLED)
    await capture(world, await reserve(world, "c-1", 50), 50)
    answer = await world.credit(refund(paid, "r", 5))
    assert [r["code"] for r in answer["refused"]] == said
    assert answer["points"] == -50, "the order's target is what counts, whoever bears the difference"
    assert await balance(world) == after
    await world.credit(order_paid(quantity=4))
    await settle_due(world.pool, projection, **SETTLED)
    assert await balance(world) == (earned, 0)
    async with world.pool.acquire() as conn:
        assert await faults(conn) == {}
    assert [i.broken for i in (await check(world.pool, projection)).invariants if not i.ok] == []


async def balance(world: World) -> tuple[int, int]:
    (row,) = await world.rows("SELECT available, debt FROM account WHERE id = $1", await account_of(world, "c-1"))
    return row["available"], row["debt"]

"""Packaging in two transactions step by step: each lock is shown to be waited for, whatever the moment. See docs/guards.md."""

import pytest

from tests.flows.test_locks import Slow, blocked, other
from tests.flows.test_packaging import BOX, asset, fulfilled, paid, returned, sound
from tests.worlds import World


@pytest.fixture
async def green(world: World) -> World:
    await world.campaign(code="back", action="return", award={"kind": "per_unit", "points": 50})
    await asset(world)
    return world


@pytest.fixture
def slow(green: World) -> Slow:
    return Slow(green)


async def test_two_returns_of_one_box_follow_each_other(green: World, slow: Slow) -> None:
    await green.send(paid("o-1", "ann"), fulfilled("o-1", BOX))
    async with slow.credits(returned("bob", BOX)):
        second = await blocked(green, other(green, returned("eve", BOX)))
    assert (await second)["points"] == 0
    assert await green.rows("SELECT pending FROM account WHERE pending > 0") == [{"pending": 50}]
    await sound(green)


async def test_two_orders_of_one_waybill_follow_each_other(green: World, slow: Slow) -> None:
    await green.campaign(code="pack", action="packaging", award={"kind": "per_unit", "points": 5})
    for order, consumer in (("o-1", "bob"), ("o-2", "eve")):
        await green.send(paid(order, consumer))
    first, second = (fulfilled(order, class_="slim_tape", waybill="SF 100") for order in ("o-1", "o-2"))
    async with slow.credits(first):
        waiting = await blocked(green, other(green, second))
    answer = await waiting
    assert (answer["points"], [r["code"] for r in answer["refused"]]) == (0, ["already_awarded"])
    await sound(green)


async def test_two_returns_of_what_was_sent_to_one_consumer_follow_each_other(green: World, slow: Slow) -> None:
    await green.send(paid("o-1", "ann"), fulfilled("o-1", class_="paper_mailer", parcels=3))
    async with slow.credits(returned("ann", quantity="2", waybill="w-1")):
        second = await blocked(green, other(green, returned("ann", quantity="2", waybill="w-2")))
    answer = await second
    assert (answer["points"], [r["code"] for r in answer["refused"]]) == (50, ["more_than_shipped"])
    await sound(green)

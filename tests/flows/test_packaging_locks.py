"""Packaging in two transactions step by step: each lock is shown to be waited for, whatever the moment. See docs/guards.md."""

import pytest

from tests.flows.test_locks import Slow, blocked, other
from tests.flows.test_packaging import BOX, asset, fulfilled, kept, paid, returned, sound, wrong
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


@pytest.mark.parametrize("consumer", [None, "bob"])
async def test_two_boxes_of_one_return_are_picked_up_one_after_the_other(green: World, slow: Slow, consumer: str | None) -> None:
    """The return waits for both; each shipment locks its own box only."""
    await asset(green, "box2")
    await green.send(paid("o-1", "ann"), paid("o-2", "eve"), returned(consumer, BOX, "box2"))
    async with slow.credits(fulfilled("o-1", BOX)):
        second = await blocked(green, other(green, fulfilled("o-2", "box2")))
    await second
    assert sum((await kept(green)).values()) == 100
    assert [r["n"] for r in await green.rows("SELECT count(*) AS n FROM event WHERE type = 'packaging.returned'")] == [1]
    await sound(green)


async def test_what_is_picked_up_and_declared_wrong_at_once_counts_for_nothing(green: World, slow: Slow) -> None:
    back = returned("bob", BOX)
    await green.send(paid("o-1", "ann"), back)
    async with slow.credits(fulfilled("o-1", BOX)):
        declared = await blocked(green, other(green, wrong(back)))
    await declared
    assert await kept(green) == {}
    await sound(green)


async def test_what_was_just_declared_wrong_is_not_picked_up(green: World, slow: Slow) -> None:
    back = returned("bob", BOX)
    await green.send(paid("o-1", "ann"), back)
    async with slow.credits(wrong(back)):
        shipped = await blocked(green, other(green, fulfilled("o-1", BOX)))
    await shipped
    assert await kept(green) == {}
    await sound(green)


async def test_a_return_of_both_kinds_is_picked_up_once(green: World, slow: Slow) -> None:
    """A box, which its shipment locks, and single-use packaging, for which the consumer is locked."""
    await green.send(paid("o-1", "ann"), paid("o-2", "bob"))
    back = returned("bob", BOX)
    back["returns"].append({"class": "paper_mailer"})
    await green.send(back)
    async with slow.credits(fulfilled("o-2", class_="paper_mailer")):
        second = await blocked(green, other(green, fulfilled("o-1", BOX)))
    await second
    assert await kept(green) == {"shop:bob": 100}
    await sound(green)

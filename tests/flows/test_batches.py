"""What goes wrong only when several facts share a transaction; each of these was found by the state machine or by reading for it."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from service.domain.errors import IdReused, Internal
from service.domain.intake import read_fact
from service.domain.posting import Account, Fact
from service.flows import batcher
from service.flows.batcher import Lane
from service.flows.crediting import crediting
from service.logs import configure_logging
from service.telemetry import metrics, tallies
from tests.worlds import HASH_KEY, World, order_paid, refund

PACKAGING = {"class": "ship_in_own_container", "parcels": 1}


def fulfilled(paid: dict[str, Any], **more: Any) -> dict[str, Any]:
    order = paid["order"]["id"]
    return {
        "id": f"{order}:out",
        "type": "order.fulfilled",
        "occurred_at": paid["occurred_at"],
        "order": {"id": order},
        "packaging": PACKAGING,
    } | more


async def test_a_refused_repeat_opens_no_account(world: World) -> None:
    event = order_paid("known")
    await world.credit(event)
    other = order_paid("new-too")
    (refused, credited) = await world.send(event | {"consumer": "nobody"}, other)
    assert (type(refused.error), credited.error) == (IdReused, None)
    names = await world.rows("SELECT reference FROM consumer_reference ORDER BY 1")
    assert [row["reference"] for row in names] == ["known", "new-too"]
    assert (await world.rows("SELECT count(*) AS n FROM account"))[0]["n"] == 2
    assert (world.platforms["shop"].platform, "nobody") not in world.knowledge.references
    await world.campaign()
    assert (await world.credit(order_paid("nobody")))["points"] == 10


async def test_a_parked_fact_keeps_its_first_answer_in_the_batch_of_its_order(world: World) -> None:
    await world.campaign()
    paid = order_paid(quantity=5)
    early = refund(paid, "r", 1)
    parked = await world.credit(early)
    order, again, changed = await world.send(paid, early, early | {"occurred_at": "2026-01-01T00:00:00Z"})
    assert json.loads(order.answer)["balance"]["pending"] == 40
    assert again.replayed
    assert json.loads(again.answer) == parked
    assert isinstance(changed.error, IdReused)


async def test_a_fulfilment_in_the_batch_of_its_order_counts_in_the_buyers_caps(world: World) -> None:
    """It need not name the consumer; whoever it names, the order's own account is the one that is capped."""
    await world.campaign(action="packaging", award={"kind": "fixed", "points": 7}, caps={"consumer_total": 10})
    for stranger in ({}, {"consumer": "stranger"}, {}):
        paid = order_paid("buyer")
        await world.send(fulfilled(paid, **stranger), paid, order_paid("stranger"))
    (row,) = await world.rows("SELECT sum(points) AS points FROM award")
    assert row["points"] == 10
    (row,) = await world.rows("SELECT used FROM cap_usage")
    assert row["used"] == 10


async def test_a_second_report_of_an_order_changes_nothing_of_it(world: World) -> None:
    await world.campaign()
    paid = order_paid(quantity=4)
    await world.credit(paid)
    again = order_paid(quantity=400, order=paid["order"]["id"])
    assert (await world.credit(again | {"id": "again"}))["status"] == "ignored"
    assert (await world.credit(refund(paid, "r", 2)))["points"] == -20


async def test_a_fact_that_cannot_be_written_is_isolated(world: World) -> None:
    """Only the poisonous one fails, alone or in a bulk body; whoever committed with it goes through, and the lane goes on."""
    configure_logging("json")
    await world.campaign()

    async def publish(changed: Sequence[Account], due_now: bool) -> None:  # noqa: FBT001 - the lane's signature
        return

    lane = Lane(
        "test", pool=world.pool, work=crediting(world.knowledge), publish=publish, batch_events=10, queue_requests=100, batch_wait_s=0.01,
        answer_timeout_s=5, writers=1,
    )  # fmt: skip
    lane.start()
    try:
        poison = _fact(world, order_paid("poisoned"))
        poison = msgspec.structs.replace(poison, platform=2**40)
        futures = [lane.submit([fact]) for fact in (_fact(world, order_paid("before")), poison, _fact(world, order_paid("after")))]
        outcomes = [(await future)[0] for future in futures]
        assert [type(o.error) for o in outcomes] == [type(None), Internal, type(None)]
        bulk = await lane.submit([_fact(world, order_paid("first")), poison, _fact(world, order_paid("last"))])
        assert [type(o.error) for o in bulk] == [type(None), Internal, type(None)]
    finally:
        await lane.stop()
    tallies.flush()
    assert (await world.rows("SELECT sum(pending) AS points FROM account"))[0]["points"] == 40
    assert metrics.REGISTRY.get_sample_value("greenpoints_lane_isolated_total", {"lane": "test"}) == 2


def _fact(world: World, event: dict[str, Any]) -> Fact:
    return read_fact(json.dumps(event).encode(), world.platforms["shop"], now=datetime.now(UTC), hash_key=HASH_KEY)


async def test_few_wait_for_the_end_of_a_batch_many_do_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one writer waits for a lock, a few facts wait for it, but not for long; many begin a batch of their own at once."""
    await world.campaign()
    await world.credit(order_paid("held"))
    monkeypatch.setattr(batcher, "PATIENCE_S", 0.5)  # in the product too short for a test's clock
    lane = Lane(
        "test", pool=world.pool, work=crediting(world.knowledge), publish=_publish, batch_events=10, queue_requests=100, batch_wait_s=0,
        answer_timeout_s=5, writers=2, crowd=5,
    )  # fmt: skip
    lane.start()
    try:
        async with world.pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM account FOR UPDATE")
            stuck = lane.submit([_fact(world, order_paid("held"))])
            while not lane.committing:
                await asyncio.sleep(0)
            few = lane.submit([_fact(world, order_paid("few"))])
            await asyncio.sleep(0.05)
            assert (lane.committing, lane.waiting) == (1, 1), "it waits for the writer that is at work"
            assert (await few)[0].error is None, "but not for ever"
            many = [lane.submit([_fact(world, order_paid("many"))]) for _ in range(5)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert (lane.committing, lane.waiting) == (6, 0), "at once"
            await asyncio.gather(*many)
            assert not stuck.done()
        assert (await stuck)[0].error is None
    finally:
        await lane.stop()


async def test_a_lane_gives_way_to_a_busy_one(world: World) -> None:
    """One batch at a time with a rest after it while the other lane is busy; side by side once it is quiet."""
    await world.campaign()

    class Other:
        is_busy = True

    other: Any = Other()
    lane = Lane(
        "test", pool=world.pool, work=crediting(world.knowledge), publish=_publish, batch_events=1, queue_requests=100, batch_wait_s=0,
        answer_timeout_s=5, writers=2, gives_way_to=other,
    )  # fmt: skip
    lane.start()
    try:
        at_once = 0
        futures = [lane.submit([_fact(world, order_paid(f"c{n}"))]) for n in range(6)]
        while not all(future.done() for future in futures):
            at_once = max(at_once, lane.committing)
            await asyncio.sleep(0)
        assert at_once == 1
        other.is_busy = False
        await asyncio.sleep(0.2)  # the last rest
        futures = [lane.submit([_fact(world, order_paid(f"c{n}"))]) for n in range(20)]
        while not all(future.done() for future in futures):
            at_once = max(at_once, lane.committing)
            await asyncio.sleep(0)
        assert at_once == 2
    finally:
        await lane.stop()


async def _publish(changed: Any, due_now: bool) -> None:  # noqa: FBT001 - the lane's signature
    """Nothing to publish to."""

"""What goes wrong only when several facts share a transaction; each of these was found by the state machine or by reading for it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from service.domain.errors import IdReused, Internal
from service.domain.fold import Account, Fact
from service.domain.intake import read_fact
from service.flows.batcher import Lane
from service.logs import configure_logging
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
        "test", pool=world.pool, knowledge=world.knowledge, publish=publish, batch_events=10, queue_requests=100, batch_wait_s=0.01,
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
    assert (await world.rows("SELECT sum(pending) AS points FROM account"))[0]["points"] == 40
    assert lane.statistics.isolated == 2


def _fact(world: World, event: dict[str, Any]) -> Fact:
    return read_fact(json.dumps(event).encode(), world.platforms["shop"], now=datetime.now(UTC), hash_key=HASH_KEY)

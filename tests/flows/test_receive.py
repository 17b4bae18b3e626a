"""One transaction for many facts: credits, repeats, orders in any order, caps and budgets."""

import asyncio
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.domain.errors import IdReused
from service.domain.intake import read_fact
from service.flows.knowledge import Knowledge
from service.flows.receive import preview
from service.store import settlement
from tests.worlds import HASH_KEY, World, cancelled, order_paid, refund


async def settle(world: World) -> None:
    async with world.pool.acquire() as conn, conn.transaction():
        now = await conn.fetchval("SELECT now()")
        accounts = await settlement.lock_due_accounts(conn, list(range(1024)), now, 1_000)
        await settlement.settle(conn, accounts, now, 1, {world.program: now.replace(minute=0, second=0, microsecond=0)})


async def balance(world: World, consumer: str = "c-1") -> tuple[int, int, int]:
    """pending, available, debt"""
    (row,) = await world.rows(
        "SELECT pending, available, debt FROM account a JOIN consumer_reference r ON r.account = a.id AND r.bucket = a.bucket WHERE reference = $1",
        consumer,
    )
    return row["pending"], row["available"], row["debt"]


async def test_a_purchase_earns_and_says_why(world: World) -> None:
    code = await world.campaign()
    answer = await world.credit(order_paid(quantity=3))
    assert answer["status"] == "pending"
    assert answer["points"] == 30
    (award,) = answer["awards"]
    assert (award["campaign"], award["version"], award["action"], award["line"], award["points"]) == (code, 1, "purchase", "1", 30)
    assert award["certificate"]
    assert answer["refused"] == []
    assert answer["balance"] == {"pending": 30, "reserved": 0, "available": 0, "debt": 0, "version": 1}


async def test_a_repeat_gets_the_first_answer_and_a_changed_one_is_refused(world: World) -> None:
    await world.campaign()
    event = order_paid()
    first = await world.credit(event)
    (again,) = await world.send(dict(reversed(event.items())))
    assert again.replayed
    assert json.loads(again.answer) == first
    (changed,) = await world.send(event | {"consumer": "somebody-else"})
    assert isinstance(changed.error, IdReused)
    one, two, three = await world.send(other := order_paid(), other, other | {"occurred_at": "2026-01-01T00:00:00Z"})
    assert (one.replayed, two.replayed, type(three.error)) == (False, True, IdReused)
    assert await balance(world) == (20, 0, 0)


async def test_a_second_report_of_an_order_earns_nothing(world: World) -> None:
    await world.campaign()
    event = order_paid()
    await world.credit(event)
    second = await world.credit(event | {"id": "another-id"})
    assert (second["status"], second["points"], second["refused"][0]["code"]) == ("ignored", 0, "already_awarded")
    stolen = await world.credit(event | {"id": "a-third-id", "consumer": "thief"})
    assert (stolen["status"], stolen["points"]) == ("ignored", 0)


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("arrival", list(itertools.permutations(range(3))))
async def test_every_order_of_arrival_ends_the_same(world: World, arrival: tuple[int, ...], settled: bool) -> None:  # noqa: FBT001
    await world.campaign()
    paid = order_paid(quantity=5)
    facts = [paid, refund(paid, "r1", 1), refund(paid, "r2", 2)]
    for i in (*arrival, *arrival):
        await world.credit(facts[i])
        if settled:
            await settle(world)
    pending, available, debt = await balance(world)
    assert pending + available - debt == 20
    assert await world.rows("SELECT * FROM parked") == []


async def test_all_in_one_batch_and_backwards(world: World) -> None:
    await world.campaign()
    paid = order_paid(quantity=5)
    outcomes = await world.send(refund(paid, "r1", 1), paid, refund(paid, "r1", 1))
    assert [o.replayed for o in outcomes] == [False, False, True]
    assert await balance(world) == (40, 0, 0)


async def test_a_refund_after_settlement_takes_back_and_the_rest_is_debt(world: World) -> None:
    await world.campaign()
    paid = order_paid(quantity=5)
    await world.credit(paid)
    await settle(world)
    assert await balance(world) == (0, 50, 0)
    # The points are gone, as if they had been spent: spending comes later.
    await world.rows("UPDATE account SET available = 20")
    await world.rows("UPDATE lot SET remaining = 20")
    back = await world.credit(cancelled(paid))
    assert (back["status"], back["points"], back["awards"][0]["points"]) == ("settled", -50, -50)
    assert await balance(world) == (0, 0, 30)
    await world.credit(order_paid(quantity=4))
    await settle(world)
    assert await balance(world) == (0, 10, 0)
    (lot,) = await world.rows("SELECT amount, remaining FROM lot WHERE remaining > 0")
    assert lot == {"amount": 40, "remaining": 10}


async def test_caps_and_budgets_are_exact_under_concurrency(world: World) -> None:
    capped = await world.campaign(caps={"consumer_day": 35}, budget={"points": 200, "per_day": 150})

    async def credit(event: dict[str, Any], knowledge: Knowledge) -> int:
        (outcome,) = await world.send(event, knowledge=knowledge)
        return int(json.loads(outcome.answer)["points"])

    processes = [Knowledge(), Knowledge()]
    mine = await asyncio.gather(*(credit(order_paid("one"), processes[i % 2]) for i in range(8)))
    assert sum(mine) == 35
    others = await asyncio.gather(*(credit(order_paid(f"other-{i}"), processes[i % 2]) for i in range(20)))
    assert sum(mine) + sum(others) == 150
    (row,) = await world.rows("SELECT sum(points) AS points FROM award a JOIN campaign c ON c.id = a.campaign WHERE c.code = $1", capped)
    assert row["points"] == 150


async def test_writers_of_a_fresh_process_do_not_miss_what_was_counted(world: World) -> None:
    """The first batches of a process load the catalogue side by side; each must read the windows of the one it decides by."""
    await world.campaign(caps={"consumer_day": 1_000})
    refs = [f"c-{i}" for i in range(6)]
    await world.send(*(order_paid(ref, quantity=5) for ref in refs))
    for _ in range(5):
        fresh = Knowledge()
        await asyncio.gather(*(world.send(order_paid(ref), knowledge=fresh) for ref in refs))
    counted = await world.rows("SELECT used FROM cap_usage")
    assert [row["used"] for row in counted] == [100] * len(refs)


async def test_a_dry_run_decides_at_the_time_that_it_is_told(world: World) -> None:
    """The hold of what it would grant begins then."""
    await world.campaign(hold="P14D")
    fact = read_fact(json.dumps(order_paid("c")).encode(), world.platforms["shop"], now=datetime.now(UTC), hash_key=HASH_KEY)
    as_of = datetime(2027, 3, 1, 12, tzinfo=UTC)
    async with world.pool.acquire() as connection:
        answer = await preview(connection, fact, world.knowledge, as_of)
    assert (answer.status, answer.points, answer.available_at) == ("pending", 10, as_of + timedelta(days=14))

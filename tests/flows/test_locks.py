"""Two transactions step by step: each lock is shown to be waited for, and what would be wrong without it. See docs/guards.md."""

import asyncio
import json
from collections.abc import Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from service.domain.intake import read_fact
from service.flows import campaigns
from service.flows.knowledge import Knowledge
from service.flows.receive import receive
from service.store import credit as store
from service.store import settlement
from tests import books
from tests.worlds import CHANGE, HASH_KEY, World, cancelled, order_paid, refund


class Slow:
    """A transaction that has written and not yet committed."""

    def __init__(self, world: World) -> None:
        self._world = world

    @asynccontextmanager
    async def credits(self, *events: dict[str, Any]) -> Any:
        facts = [read_fact(json.dumps(e).encode(), self._world.platforms["shop"], now=datetime.now(UTC), hash_key=HASH_KEY) for e in events]
        async with self._world.pool.acquire() as connection, connection.transaction():
            await receive(connection, facts, Knowledge())
            yield


@pytest.fixture
def slow(world: World) -> Slow:
    return Slow(world)


async def blocked(world: World, work: Awaitable[Any], *, already: int = 0) -> "asyncio.Task[Any]":
    """Start it, and return once it waits for a lock of another transaction (or has ended: then nothing kept it). `already`: others wait."""
    task = asyncio.ensure_future(work)
    waiting = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    for _ in range(200):
        if task.done() or (await world.rows(waiting))[0]["n"] > already:
            break
        await asyncio.sleep(0.01)
    return task


async def settle(world: World) -> None:
    async with world.pool.acquire() as connection, connection.transaction():
        now = await connection.fetchval("SELECT clock_timestamp()")
        accounts = await settlement.lock_due_accounts(connection, list(range(1024)), now, 100)
        await settlement.settle(connection, accounts, now, 2, {world.program: now.replace(minute=0, second=0, microsecond=0)})


async def balances(world: World) -> list[tuple[int, int, int, int]]:
    return [tuple(r.values()) for r in await world.rows("SELECT pending, available, debt, version FROM account ORDER BY created_at, id")]


async def unharmed(world: World) -> None:
    async with world.pool.acquire() as connection:
        assert await books.faults(connection) == {}


async def other(world: World, event: dict[str, Any], knowledge: Knowledge | None = None) -> dict[str, Any]:
    """Credit through another process's knowledge."""
    (outcome,) = await world.send(event, knowledge=knowledge or Knowledge())
    assert outcome.error is None
    answer: dict[str, Any] = json.loads(outcome.answer)
    return answer


@pytest.mark.parametrize("process", ["fresh", "that knows all"])
async def test_two_credits_of_one_account(world: World, slow: Slow, process: str) -> None:
    """A process that knows the campaigns and the account reads in the statement that locks: what it waited for is not in its snapshot."""
    await world.campaign(caps={"consumer_day": 35})
    await world.credit(order_paid("c"))
    async with slow.credits(order_paid("c", quantity=2)):
        knowledge = Knowledge() if process == "fresh" else world.knowledge
        second = await blocked(world, other(world, order_paid("c", quantity=2), knowledge))
    answer = await second
    assert (answer["points"], answer["balance"]["pending"], answer["balance"]["version"]) == (5, 35, 3)
    assert await balances(world) == [(35, 0, 0, 3)]
    await unharmed(world)


async def test_a_settlement_waits_for_a_credit(world: World, slow: Slow) -> None:
    await world.campaign()
    paid = order_paid("c", quantity=5)
    await world.credit(paid)
    async with slow.credits(cancelled(paid)):
        settling = await blocked(world, settle(world))
    await settling
    assert await balances(world) == [(0, 0, 0, 2)]
    await unharmed(world)


async def test_a_credit_waits_for_a_settlement(world: World) -> None:
    await world.campaign()
    paid = order_paid("c", quantity=5)
    await world.credit(paid)
    async with world.pool.acquire() as connection, connection.transaction():
        now = await connection.fetchval("SELECT clock_timestamp()")
        accounts = await settlement.lock_due_accounts(connection, list(range(1024)), now, 100)
        await settlement.settle(connection, accounts, now, 2, {world.program: now.replace(minute=0, second=0, microsecond=0)})
        refunding = await blocked(world, other(world, refund(paid, "r", 2)))
    assert (await refunding)["points"] == -20
    assert await balances(world) == [(0, 30, 0, 3)]
    await unharmed(world)


async def test_a_fact_waits_for_its_order(world: World, slow: Slow) -> None:
    """Its order is just being paid: it must not be parked behind the back of who picks parked facts up."""
    await world.campaign()
    paid = order_paid("c", quantity=5)
    await world.credit(refund(paid, "r1", 1))
    async with slow.credits(paid):
        refunding = await blocked(world, other(world, refund(paid, "r2", 1)))
    assert (await refunding)["points"] == -10
    assert await world.rows("SELECT id FROM parked") == []
    assert [row[0] for row in await balances(world)] == [30]
    await unharmed(world)


async def test_an_order_waits_for_a_fact_that_parks(world: World, slow: Slow) -> None:
    await world.campaign()
    paid = order_paid("c", quantity=5)
    await world.credit(refund(paid, "r1", 1))
    async with slow.credits(refund(paid, "r2", 1)):
        paying = await blocked(world, other(world, paid))
    assert (await paying)["balance"]["pending"] == 30
    assert await world.rows("SELECT id FROM parked") == []
    await unharmed(world)


@pytest.mark.parametrize("used", [0, 960])
async def test_two_credits_of_one_budget(world: World, slow: Slow, used: int) -> None:
    """Near its end a budget is locked before it is read; far from it, it is guarded when it is written."""
    await world.campaign(budget={"points": 1_000}, award={"kind": "per_unit", "points": 1})
    if used:
        await world.credit(order_paid("zero", quantity=used))
    left = 1_000 - used
    async with slow.credits(order_paid("one", quantity=left * 7 // 10)):
        second = await blocked(world, other(world, order_paid("two", quantity=left * 8 // 10)))
        (waiting,) = await world.rows("SELECT query FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        assert (store.READ if used else store.WRITE).startswith(waiting["query"][:500])
    assert (await second)["points"] == left * 3 // 10
    (row,) = await world.rows("SELECT used FROM budget")
    (total,) = await world.rows("SELECT sum(points) AS points FROM award")
    assert (row["used"], total["points"]) == (1_000, 1_000)
    await unharmed(world)


async def test_the_first_sighting_of_one_id(world: World, slow: Slow) -> None:
    await world.campaign()
    event = order_paid("c")
    async with slow.credits(event):
        again = await blocked(world, world.send(event, knowledge=Knowledge()))
    (outcome,) = await again
    assert outcome.replayed
    assert await balances(world) == [(10, 0, 0, 1)]
    await unharmed(world)


async def test_the_first_sighting_of_one_consumer(world: World, slow: Slow) -> None:
    await world.campaign()
    async with slow.credits(order_paid("c")):
        second = await blocked(world, other(world, order_paid("c")))
    assert (await second)["balance"]["version"] == 2
    assert await balances(world) == [(20, 0, 0, 2)]
    await unharmed(world)


async def test_a_crowd_at_the_end_of_a_budget(world: World) -> None:
    """Who is cut holds the budget's row from the reading on, so that nobody is sent back again and again."""
    await world.campaign(budget={"points": 1_000}, award={"kind": "per_unit", "points": 1})
    await world.credit(order_paid("zero", quantity=950))
    answers = await asyncio.gather(*(other(world, order_paid(f"c-{n}", quantity=1 + n % 5)) for n in range(40)))
    assert sum(answer["points"] for answer in answers) == 50
    (row,) = await world.rows("SELECT used FROM budget")
    assert row["used"] == 1_000
    await unharmed(world)


async def test_a_new_cap_waits_for_credits_that_it_must_count(world: World, slow: Slow) -> None:
    code = await world.campaign()
    await world.credit(order_paid("c"))
    async with slow.credits(order_paid("c", quantity=2)):
        capping = await blocked(world, cap(world, code, 50))
    await capping
    assert (await other(world, order_paid("c", quantity=5)))["points"] == 20
    await unharmed(world)


async def test_a_credit_waits_for_a_new_cap(world: World) -> None:
    code = await world.campaign()
    await world.credit(order_paid("c"))
    async with world.pool.acquire() as connection, connection.transaction():
        await campaigns.patch(connection, code, {"caps": {"consumer_total": 25}}, program=world.program, change=CHANGE)
        crediting = await blocked(world, world.send(order_paid("c", quantity=5)))
    (outcome,) = await crediting
    assert json.loads(outcome.answer)["points"] == 15
    assert (await world.rows("SELECT used FROM cap_usage"))[0]["used"] == 25
    await unharmed(world)


async def cap(world: World, code: str, points: int) -> None:
    async with world.pool.acquire() as connection:
        await campaigns.patch(connection, code, {"caps": {"consumer_total": points}}, program=world.program, change=CHANGE)

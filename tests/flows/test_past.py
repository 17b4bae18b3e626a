"""What a balance was: for random histories, at every commit, exactly what it was then."""

import asyncio
import itertools
import json
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import asyncpg
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.events import Balance
from service.domain.openings import rows_of_ndjson
from service.flows import administer
from service.flows.administer import Change
from service.flows.knowledge import Knowledge
from service.flows.openings import take_over
from service.flows.past import entries
from service.store import balances, past, settlement
from tests.tampering import allow, tamper
from tests.worlds import World, cancelled, order_paid, refund

T = TypeVar("T")
CONSUMERS = ("c-1", "c-2")
TABLES = "event parked award due account consumer_reference registry cap_usage entry lot lot_use opening rollup campaign_consumer".split()


class Real:
    """A world that lives over many examples, on one event loop."""

    def __init__(self, dsn: str) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.dsn = dsn

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    async def open(self) -> None:
        pool = await asyncpg.create_pool(self.dsn, min_size=1, max_size=2)
        self.world = await World(pool).found()
        await self.world.campaign(award={"kind": "per_unit", "points": 10})
        await self.world.campaign(award={"kind": "per_unit", "points": 3}, hold="P14D")
        await self.world.campaign(action="packaging", award={"kind": "fixed", "points": 7})
        async with pool.acquire() as conn:
            await allow(conn)  # `forget` empties the book
            self.shop = await administer.find_platform(conn, program=self.world.program, code="shop")

    async def forget(self) -> None:
        await self.world.rows(f"WITH {', '.join(f't{i} AS (DELETE FROM {t})' for i, t in enumerate(TABLES))} SELECT")
        self.world.knowledge = Knowledge()

    def close(self) -> None:
        self.run(self.world.pool.close())
        self._runner.close()


@pytest.fixture
def real(database: str) -> Iterator[Real]:
    made = Real(database)
    made.run(made.open())
    yield made
    made.close()


# A step is what happens and to whom; orders are numbered, so that facts may come before their order, or never find one.
ORDERS = st.integers(1, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("paid"), ORDERS, st.integers(1, 4), st.booleans()),
        st.tuples(st.just("unearned"), ORDERS),
        st.tuples(st.just("refund"), ORDERS, st.integers(1, 3), st.sampled_from("abc")),
        st.tuples(st.just("cancelled"), ORDERS),
        st.tuples(st.just("fulfilled"), ORDERS),
        st.tuples(st.just("settle"), st.booleans()),
        st.tuples(st.just("import"), st.sampled_from(CONSUMERS), st.integers(1, 40), st.integers(1, 3)),
        st.tuples(st.just("together"), ORDERS, ORDERS),
    ),
    min_size=3, max_size=14,
)  # fmt: skip


def consumer_of(order: int) -> str:
    return CONSUMERS[order % 2]


async def do(real: Real, step: tuple[Any, ...], serial: int) -> None:
    world = real.world
    match step:
        case ("paid", order, quantity, packaged):
            more = {"packaging": {"class": "reused_carton"}} if packaged else {}
            await world.send(order_paid(consumer_of(order), quantity=quantity, order=f"o-{order}", **more))
        case ("unearned", order):
            unknown = order_paid(consumer_of(order), order=f"o-{order}")
            unknown["lines"][0] |= {"sku": "none", "gtin": "96385074"}
            await world.send(unknown | {"id": f"unearned-{order}"})
        case ("refund", order, quantity, name):
            await world.send(refund(order_paid(consumer_of(order), order=f"o-{order}"), name, quantity))
        case ("cancelled", order):
            await world.send(cancelled(order_paid(order=f"o-{order}")))
        case ("fulfilled", order):
            at = datetime.now(UTC).isoformat()
            fact = {"id": f"o-{order}:sent", "type": "order.fulfilled", "occurred_at": at, "order": {"id": f"o-{order}"}}
            await world.send(fact | {"packaging": {"class": "reused_carton"}})
        case ("together", one, other):
            paid = order_paid(consumer_of(one), order=f"o-{one}", quantity=2)
            await world.send(paid, cancelled(order_paid(order=f"o-{other}")), refund(paid, "t", 1))
        case ("import", consumer, points, count):
            rows = [{"id": f"{serial}-{n}", "consumer": consumer, "points": points, "expires_on": None} for n in range(count)]
            async with world.pool.acquire() as conn:
                await take_over(conn, list(rows_of_ndjson(map(json.dumps, rows))), platform=real.shop, change=Change())
        case ("settle", everything):
            await settle(real, everything=everything)


async def settle(real: Real, *, everything: bool) -> None:
    """As `service.flows.settle` does; `everything`: what is on hold for long, too, as if its time had come."""
    async with real.world.pool.acquire() as conn, conn.transaction():
        if everything:
            await conn.execute(
                "WITH a AS (UPDATE award SET due_at = now() WHERE due_at > now()) UPDATE due SET due_at = now() WHERE due_at > now()"
            )
        now = await conn.fetchval("SELECT now()")
        accounts = await settlement.lock_due_accounts(conn, list(range(1024)), now, 1_000)
        await settlement.settle(conn, accounts, now, 1, {real.world.program: now.replace(minute=0, second=0, microsecond=0)})


async def recorded(real: Real) -> tuple[datetime, dict[str, Balance]]:
    """A moment after the last commit, and every balance at it."""
    async with real.world.pool.acquire() as conn:
        (at,) = await conn.fetchrow("SELECT clock_timestamp()")
        found = {}
        for consumer in CONSUMERS:
            account = await balances.find_account(conn, real.shop.id, consumer)
            if account is not None:
                ((_, found[consumer]),) = await balances.balances(conn, [account])
    return at, found


async def was(real: Real, consumer: str, at: datetime) -> Balance:
    async with real.world.pool.acquire() as conn:
        account = await balances.find_account(conn, real.shop.id, consumer)
        assert account is not None
        return await past.balance_at(conn, account, at)


async def live_and_look_back(real: Real, steps: list[tuple[Any, ...]]) -> None:
    await real.forget()
    history = [await recorded(real)]
    for serial, step in enumerate(steps):
        await do(real, step, serial)
        history.append(await recorded(real))
    _, last = history[-1]
    for consumer, balance in last.items():
        for at, then in history:
            assert await was(real, consumer, at) == then.get(consumer, Balance()), (consumer, at)
        (now,) = (await real.world.rows("SELECT now()"))[0].values()
        assert await was(real, consumer, now) == balance
        async with real.world.pool.acquire() as conn:
            account = await balances.find_account(conn, real.shop.id, consumer)
            assert account is not None
            lines, more = await entries(conn, account, as_of=None, after=0, limit=10_000)
        assert more is None
        assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
        assert sum(line.amount for line in lines) == 0
        if lines:
            after = lines[-1].balance
            assert (after.available, after.reserved, after.debt) == (balance.available, balance.reserved, balance.debt)


@pytest.mark.timeout(180)
def test_a_past_balance_is_what_it_was_at_every_commit(anyio_backend: Any, real: Real) -> None:
    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(steps=STEPS)
    def look(steps: list[tuple[Any, ...]]) -> None:
        real.run(live_and_look_back(real, steps))

    look()


def test_a_history_with_everything_in_it(anyio_backend: Any, real: Real) -> None:
    """What chance may miss: facts that waited for an order that earned nothing, refunds on both sides of settlement, debt and its end."""
    steps: list[tuple[Any, ...]] = [
        ("fulfilled", 1), ("refund", 1, 1, "a"), ("unearned", 1), ("paid", 3, 4, True), ("refund", 3, 1, "a"), ("settle", False),
        ("refund", 3, 1, "b"), ("cancelled", 5), ("paid", 5, 2, True), ("settle", True), ("cancelled", 3), ("import", "c-2", 5, 3), ("paid", 2, 3, False),
        ("settle", False), ("import", "c-2", 9, 1), ("cancelled", 2), ("together", 4, 1),
    ]  # fmt: skip
    real.run(live_and_look_back(real, steps))
    (held,) = real.run(
        real.world.rows(
            "SELECT count(*) AS n FROM event WHERE outcome IS NOT NULL AND version > 0 AND received_at < (SELECT min(received_at) FROM event WHERE type = 'order.paid')"
        )
    )
    assert held["n"] > 0, "a change that is older than its own event's receipt is among them"


def test_a_change_that_began_earlier_and_came_later_does_not_split_what_was(anyio_backend: Any, real: Real) -> None:
    """Of two that overlap the second may carry the earlier time: a moment between them shows neither or both, never the second alone."""

    async def story() -> None:
        world, numbers = real.world, itertools.count()
        await world.rows("SELECT setval('number', 1)")
        for _ in range(3):
            await do(real, ("import", "c-1", 10, 1), next(numbers))
        (account,) = (await world.rows("SELECT id FROM account"))[0].values()
        # The third transaction began before the second.
        async with world.pool.acquire() as conn:
            await tamper(conn, "UPDATE entry SET at = at - interval '1 hour' WHERE version = 3")
        (at,) = (await world.rows("SELECT min(at) FROM entry WHERE version = 2"))[0].values()
        async with world.pool.acquire() as conn:
            assert (await past.balance_at(conn, account, at - timedelta(microseconds=1))).version == 1
            assert (await past.balance_at(conn, account, at)).available == 30
            lines, _ = await entries(conn, account, as_of=at - timedelta(microseconds=1), after=0, limit=100)
            assert [line.seq for line in lines] == [1, 2]

    real.run(story())

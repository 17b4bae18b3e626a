"""Redemptions on a real PostgreSQL: exact under concurrency, once per key, and the books balance after everything."""

import asyncio
import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from service.domain.errors import (
    GreenpointsError,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    InsufficientPoints,
    InvalidRequest,
    InvalidState,
    NotFound,
)
from service.flows.check import check
from service.flows.redeem import Ask, redeem, release_expired
from service.flows.release import release_due
from service.flows.settle import settle_due
from service.projection import Projection
from tests.books import faults
from tests.worlds import World, order_paid, refund


@pytest.fixture
async def purse(world: World, projection: Projection) -> "Shop":
    """A shop whose consumer c-1 has 100 points of two lots, the first of them expiring later."""
    shop = Shop(world, projection)
    await world.campaign()
    await shop.earn("c-1", 6)
    await shop.earn("c-1", 4)
    return shop


class Shop:
    def __init__(self, world: World, projection: Projection) -> None:
        self.world = world
        self.projection = projection
        self.platform = world.platforms["shop"].platform
        self._keys = 0

    async def earn(self, consumer: str, quantity: int) -> dict[str, Any]:
        paid = order_paid(consumer, quantity=quantity)
        await self.world.credit(paid)
        await self.settle()
        return paid

    async def settle(self) -> None:
        await settle_due(self.world.pool, self.projection, stripe=1, buckets=1024, batch_events=1000)

    def ask(self, step: Any = "create", **changes: Any) -> Ask:
        self._keys += 1
        body = {"program": self.world.program, "platform": self.platform, "step": step, "key": f"k-{self._keys}", "request_hash": b"h"}
        if step == "create":
            body |= {"consumer": "c-1", "points": 30, "ttl": timedelta(minutes=15)}
        return Ask(**(body | changes))

    async def do(self, *asks: Ask) -> list[Any]:
        """Carry out in one transaction: answers, or errors."""
        async with self.world.pool.acquire() as connection:
            outcomes = (await redeem(connection, asks, 1)).outcomes
        return [outcome.error or json.loads(outcome.answer) for outcome in outcomes]

    async def one(self, step: Any = "create", **changes: Any) -> Any:
        (answer,) = await self.do(self.ask(step, **changes))
        if isinstance(answer, GreenpointsError):
            raise answer
        return answer

    async def balance(self, consumer: str = "c-1") -> tuple[int, int, int]:
        (row,) = await self.world.rows(
            """SELECT available, reserved, debt FROM account a JOIN consumer_reference r ON r.account = a.id WHERE r.reference = $1""",
            consumer,
        )
        return row["available"], row["reserved"], row["debt"]


async def test_what_is_reserved_is_captured_in_part_and_given_back_in_part(purse: Shop) -> None:
    made = await purse.one(points=70, reference="order-9")
    assert (made["status"], made["points"], made["reference"]) == ("reserved", 70, "order-9")
    assert (made["balance"]["available"], made["balance"]["reserved"]) == (30, 70)
    captured = await purse.one("capture", redemption=made["id"], points=50)
    assert (captured["status"], captured["captured"], captured["balance"]["available"], captured["balance"]["reserved"]) == (
        "captured",
        50,
        50,
        0,
    )
    back = await purse.one("refund", redemption=made["id"], points=20)
    assert (back["refunded"], back["balance"]["available"]) == (20, 70)
    back = await purse.one("refund", redemption=made["id"])
    assert (back["refunded"], back["balance"]["available"]) == (50, 100)
    with pytest.raises(InvalidState, match="given back"):
        await purse.one("refund", redemption=made["id"])
    assert await purse.balance() == (100, 0, 0)
    assert [r["remaining"] for r in await purse.world.rows("SELECT remaining FROM lot ORDER BY event")] == [60, 40]


async def test_a_step_that_its_state_does_not_allow_changes_nothing(purse: Shop) -> None:
    made = await purse.one()
    with pytest.raises(InvalidState, match="reserved"):
        await purse.one("refund", redemption=made["id"])
    with pytest.raises(InvalidRequest, match="only 30"):
        await purse.one("capture", redemption=made["id"], points=31)
    await purse.one("cancel", redemption=made["id"])
    for step in ("capture", "cancel", "refund"):
        with pytest.raises(InvalidState, match="cancelled"):
            await purse.one(step, redemption=made["id"])
    assert await purse.balance() == (100, 0, 0)


async def test_a_repeat_gets_the_first_answer_and_another_request_is_refused(purse: Shop) -> None:
    ask = purse.ask(points=60)
    (first,) = await purse.do(ask)
    await purse.one("cancel", redemption=first["id"])
    (again,) = await purse.do(ask)
    assert again == first
    (other,) = await purse.do(purse.ask(key=ask.key, request_hash=b"another"))
    assert isinstance(other, IdempotencyKeyReused)
    (capture,) = await purse.do(purse.ask("capture", key=ask.key, redemption=first["id"], request_hash=b"c"))
    assert isinstance(capture, IdempotencyKeyReused)
    assert await purse.balance() == (100, 0, 0)


async def test_a_repeat_in_the_same_transaction_counts_once(purse: Shop) -> None:
    ask = purse.ask(points=60)
    other = purse.ask(key=ask.key, request_hash=b"another")
    first, again, reused = await purse.do(ask, ask, other)
    assert first == again
    assert isinstance(reused, IdempotencyKeyReused)
    assert await purse.balance() == (40, 60, 0)


async def test_what_was_refused_may_be_asked_again(purse: Shop) -> None:
    ask = purse.ask(points=101)
    (refused,) = await purse.do(ask)
    assert isinstance(refused, InsufficientPoints)
    await purse.earn("c-1", 1)
    (made,) = await purse.do(ask)
    assert made["points"] == 101


async def test_a_key_whose_first_request_is_still_running_is_refused(purse: Shop) -> None:
    ask = purse.ask()
    async with purse.world.pool.acquire() as connection, connection.transaction():
        await redeem(connection, [ask], 1)  # a savepoint: the transaction around it is not committed
        (other,) = await purse.do(ask)
        assert isinstance(other, IdempotencyKeyInUse)
    (again,) = await purse.do(ask)
    assert again["status"] == "reserved"
    assert await purse.balance() == (70, 30, 0)


async def test_nobody_spends_more_than_there_is(purse: Shop) -> None:
    answers = await asyncio.gather(*(purse.do(purse.ask(points=7, capture=bool(n % 2))) for n in range(40)))
    kinds = Counter(type(answer).__name__ for (answer,) in answers)
    assert kinds == {"dict": 14, "InsufficientPoints": 26}
    available, reserved, _ = await purse.balance()
    assert available + reserved + 7 * sum(isinstance(a, dict) and a["status"] == "captured" for (a,) in answers) == 100
    assert available == 2


async def test_the_same_request_at_the_same_moment_counts_once(purse: Shop) -> None:
    ask = purse.ask(points=10, capture=True)
    answers = [answer for (answer,) in await asyncio.gather(*(purse.do(ask) for _ in range(20)))]
    assert {a["id"] for a in answers if isinstance(a, dict)} == {next(a["id"] for a in answers if isinstance(a, dict))}
    assert all(isinstance(a, dict | IdempotencyKeyInUse) for a in answers)
    assert await purse.balance() == (90, 0, 0)


async def test_capture_and_cancel_at_the_same_moment_end_a_reservation_once(purse: Shop) -> None:
    for _ in range(10):
        made = await purse.one(points=10)
        steps = [purse.ask(step, redemption=made["id"]) for step in ("capture", "cancel", "capture", "cancel")]
        answers = [answer for (answer,) in await asyncio.gather(*(purse.do(step) for step in steps))]
        (done,) = [a for a in answers if isinstance(a, dict)]
        if done["status"] == "captured":
            await purse.one("refund", redemption=made["id"])
    assert await purse.balance() == (100, 0, 0)


async def test_refunds_at_the_same_moment_give_back_once(purse: Shop) -> None:
    made = await purse.one(points=90, capture=True)
    answers = await asyncio.gather(*(purse.do(purse.ask("refund", redemption=made["id"], points=40)) for _ in range(5)))
    assert Counter(type(a).__name__ for (a,) in answers) == {"dict": 2, "InvalidRequest": 3}
    assert await purse.balance() == (90, 0, 0)


async def test_somebody_elses_is_not_there(purse: Shop) -> None:
    made = await purse.one()
    market = purse.world.platforms["market"].platform
    for changes in ({"platform": market}, {"redemption": "rdm_" + "0" * 32}):
        with pytest.raises(NotFound):
            await purse.one("capture", **({"redemption": made["id"]} | changes))
    await purse.earn("c-2", 1)
    with pytest.raises(NotFound):
        await purse.one("cancel", redemption=made["id"], consumer="c-2", by_consumer=True)
    with pytest.raises(NotFound):
        await purse.one(consumer="nobody")
    with pytest.raises(InsufficientPoints):
        await purse.one(consumer="nobody", by_consumer=True)
    assert (await purse.one("cancel", redemption=made["id"], consumer="c-1", by_consumer=True))["status"] == "cancelled"


async def test_keys_of_consumers_and_platforms_do_not_meet(purse: Shop) -> None:
    await purse.earn("c-2", 9)
    asks = [purse.ask(key="same"), purse.ask(key="same", by_consumer=True), purse.ask(key="same", consumer="c-2", by_consumer=True)]
    answers = await purse.do(*asks)
    assert len({a["id"] for a in answers}) == 3


async def test_a_clawback_leaves_reservations_alone_and_what_is_released_repays_it(purse: Shop) -> None:
    paid = await purse.earn("c-2", 5)
    made = await purse.one(consumer="c-2", points=40)
    await purse.world.credit(refund(paid, "all", 5))
    assert await purse.balance("c-2") == (0, 40, 40)
    await purse.one("cancel", redemption=made["id"])
    assert await purse.balance("c-2") == (0, 0, 0)


async def test_a_reservation_ends_by_itself_once(purse: Shop) -> None:
    made = await purse.one(points=40, ttl=timedelta(seconds=-1))
    with pytest.raises(InvalidState, match="has ended"):
        await purse.one("capture", redemption=made["id"])
    pool, projection = purse.world.pool, purse.projection
    done = await asyncio.gather(*(release_due(pool, projection, release_expired, stripe=n, buckets=1024) for n in range(4)))
    assert sum(done) == 1
    assert await purse.balance() == (100, 0, 0)
    assert [r["status"] for r in await purse.world.rows("SELECT status FROM redemption")] == ["expired"]
    assert not await purse.world.rows("SELECT FROM reservation_due")


@pytest.fixture(autouse=True)
async def sound(world: World, projection: Projection) -> Any:
    """After every test the books balance, by their own sums and by the service's."""
    yield
    async with world.pool.acquire() as connection:
        assert await faults(connection) == {}
    report = await check(world.pool, projection)
    assert [i.broken for i in report.invariants if not i.ok] == []

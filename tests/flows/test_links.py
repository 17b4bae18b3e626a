"""Linked accounts: one purse, facts where they were, and the books balance through linking, earning, losing, spending and splitting."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from service.domain.errors import InsufficientPoints, InvalidRequest, InvalidState
from service.flows import links
from service.flows.administer import Change
from service.flows.balances import balance_of
from service.flows.check import check
from service.flows.expire import expire_due
from service.flows.knowledge import Knowledge
from service.flows.past import balance_at
from service.flows.redeem import Ask, redeem
from service.flows.settle import settle_due
from service.projection import Projection
from service.store.past import now as database_now
from tests.books import faults
from tests.worlds import World, order_paid, refund

CHANGE = Change()


class Persons:
    """`shop` knows somebody as a-1, `market` as b-1."""

    def __init__(self, world: World, projection: Projection) -> None:
        self.world = world
        self.projection = projection
        self._keys = itertools.count()

    async def earn(self, consumer: str, points: int, *, platform: str = "shop", **changes: Any) -> dict[str, Any]:
        paid = order_paid(consumer, quantity=points // 10, **changes)
        await self.world.credit(paid, platform)
        return paid

    async def settle(self) -> None:
        await settle_due(self.world.pool, self.projection, stripe=1, buckets=1024, batch_events=1000)

    async def expire(self) -> None:
        await expire_due(self.world.pool, self.projection, stripe=1, buckets=1024, batch_lots=1000)

    def _names(self, platform: str, reference: str) -> dict[str, Any]:
        sender = self.world.platforms[platform]
        return {"program": self.world.program, "platform": sender.platform, "code": platform, "reference": reference, "change": CHANGE}

    async def code(self, reference: str = "a-1", platform: str = "shop") -> str:
        async with self.world.pool.acquire() as conn:
            return (await links.make_code(conn, **self._names(platform, reference))).code

    async def link(self, reference: str = "b-1", platform: str = "market", *, code: str | None = None) -> links.Joined:
        code = code or await self.code()
        async with self.world.pool.acquire() as conn:
            joined = await links.link(conn, **self._names(platform, reference), link_code=code, stripe=1)
        await links.publish(self.projection, joined)
        return joined

    async def split(self, reference: str = "b-1", platform: str = "market") -> links.Joined:
        async with self.world.pool.acquire() as conn:
            joined = await links.split(conn, **self._names(platform, reference), stripe=1)
        await links.publish(self.projection, joined)
        return joined

    async def redeem(self, step: Any = "create", *, consumer: str | None = None, platform: str = "shop", **changes: Any) -> dict[str, Any]:
        ask = Ask(
            program=self.world.program, platform=self.world.platforms[platform].platform, step=step, key=f"k{next(self._keys)}",
            consumer=consumer, ttl=timedelta(minutes=5), **changes,
        )  # fmt: skip
        async with self.world.pool.acquire() as conn:
            received = await redeem(conn, [ask], 1)
        await self.projection.push([(account.id, account.balance()) for account in received.changed])
        (outcome,) = received.outcomes
        if outcome.error is not None:
            raise outcome.error
        answer: dict[str, Any] = json.loads(outcome.answer)
        return answer

    async def balance(self, consumer: str, platform: str = "shop") -> tuple[int, int, int]:
        """pending, available, debt: as a reader sees it."""
        b = await self.read(consumer, platform)
        return b["pending"], b["available"], b["debt"]

    async def read(self, consumer: str, platform: str = "shop") -> dict[str, Any]:
        """A balance as a reader sees it, twice: from PostgreSQL, and from what that left in Redis."""
        found = []
        for knowledge in (Knowledge(), Knowledge()):
            body = await balance_of(
                self.world.pool,
                knowledge,
                self.projection,
                platform=self.world.platforms[platform].platform,
                reference=consumer,
                min_version=0,
            )
            assert body is not None
            b: dict[str, Any] = json.loads(b"{" + body + b"}")
            found.append(b)
        assert found[0] == found[1]
        return found[0]


@pytest.fixture
async def persons(world: World, projection: Projection) -> AsyncIterator[Persons]:
    await world.campaign(caps={"order": None, "consumer_day": 400, "consumer_year": None, "consumer_total": None})
    found = Persons(world, projection)
    yield found
    async with world.pool.acquire() as connection:
        assert await faults(connection) == {}
    report = await check(world.pool, projection)
    assert [i.broken for i in report.invariants if not i.ok] == []


async def both(persons: Persons) -> list[tuple[int, int, int]]:
    return [await persons.balance("a-1"), await persons.balance("b-1", "market")]


async def test_both_platforms_see_one_balance(persons: Persons) -> None:
    await persons.earn("a-1", 30)
    await persons.earn("b-1", 50, platform="market")
    await persons.settle()
    await persons.earn("b-1", 20, platform="market")
    assert await both(persons) == [(0, 30, 0), (20, 50, 0)]
    joined = await persons.link()
    assert (joined.answer().linked, joined.answer().balance.available, joined.answer().balance.pending) == (True, 80, 20)
    assert await both(persons) == [(20, 80, 0)] * 2
    await persons.settle()
    await persons.earn("b-1", 10, platform="market")
    await persons.earn("a-1", 10)
    assert await both(persons) == [(20, 100, 0)] * 2
    await persons.settle()
    assert await both(persons) == [(0, 120, 0)] * 2


async def test_what_either_spends_is_gone_for_both(persons: Persons) -> None:
    await persons.earn("a-1", 30)
    await persons.earn("b-1", 50, platform="market")
    await persons.settle()
    await persons.link()
    made = await persons.redeem(consumer="b-1", platform="market", points=60, capture=True)
    assert await both(persons) == [(0, 20, 0)] * 2
    with pytest.raises(InsufficientPoints):
        await persons.redeem(consumer="a-1", points=21)
    await persons.redeem("refund", platform="market", redemption=made["id"])
    assert await both(persons) == [(0, 80, 0)] * 2


async def test_refunds_of_orders_before_and_after_the_link_come_out_of_the_one_purse(persons: Persons) -> None:
    before = await persons.earn("b-1", 50, platform="market")
    held = await persons.earn("b-1", 10, platform="market")
    await persons.earn("a-1", 30)
    await persons.settle()
    await persons.link()
    after = await persons.earn("b-1", 40, platform="market")
    await persons.world.credit(refund(held, "h", 1), "market")
    await persons.world.credit(refund(after, "x", 1), "market")
    await persons.settle()
    await persons.world.credit(refund(before, "r", 5), "market")
    assert await both(persons) == [(0, 60, 0)] * 2
    await persons.redeem(consumer="a-1", points=60, capture=True)
    await persons.world.credit(refund(after, "y", 3), "market")
    assert await both(persons) == [(0, 0, 30)] * 2


async def test_a_debt_comes_along_and_is_repaid(persons: Persons) -> None:
    paid = await persons.earn("b-1", 50, platform="market")
    await persons.settle()
    await persons.redeem(consumer="b-1", platform="market", points=50, capture=True)
    await persons.world.credit(refund(paid, "r", 5), "market")
    await persons.earn("a-1", 30)
    await persons.settle()
    await persons.link()
    assert await both(persons) == [(0, 0, 20)] * 2


async def test_a_wrong_link_is_undone(persons: Persons) -> None:
    """What came with b-1, and what their own facts earned since, goes back; what was spent stays spent."""
    await persons.earn("a-1", 30)
    await persons.earn("b-1", 50, platform="market")
    await persons.settle()
    await persons.link()
    await persons.earn("b-1", 40, platform="market")
    await persons.settle()
    await persons.earn("b-1", 20, platform="market")
    await persons.earn("a-1", 10)
    assert await both(persons) == [(30, 120, 0)] * 2
    answer = (await persons.split()).answer()
    assert (answer.linked, answer.balance.pending, answer.balance.available) == (False, 20, 90)
    assert await both(persons) == [(10, 30, 0), (20, 90, 0)]
    await persons.settle()
    assert await both(persons) == [(0, 40, 0), (0, 110, 0)]
    await persons.link()
    assert await both(persons) == [(0, 150, 0)] * 2
    await persons.redeem(consumer="a-1", points=145, capture=True)
    await persons.split()
    assert sum(available for _, available, _ in await both(persons)) == 5


async def test_what_was_spent_before_the_link_comes_back_into_the_one_purse(persons: Persons) -> None:
    await persons.earn("b-1", 50, platform="market")
    await persons.earn("a-1", 30)
    await persons.settle()
    made = await persons.redeem(consumer="b-1", platform="market", points=45, capture=True)
    await persons.link()
    assert await both(persons) == [(0, 35, 0)] * 2
    await persons.redeem("refund", platform="market", redemption=made["id"], points=40)
    assert await both(persons) == [(0, 75, 0)] * 2
    await persons.redeem("refund", platform="market", redemption=made["id"])
    assert await both(persons) == [(0, 80, 0)] * 2


@pytest.mark.parametrize("swept", [False, True])
async def test_what_comes_back_after_its_last_day_to_a_linked_consumer_lives_a_little_longer(persons: Persons, *, swept: bool) -> None:
    """Part of the lot moved with the link, and its day is over: the rest lives on where it goes, and goes on living when they are split."""
    await persons.earn("b-1", 50, platform="market")
    await persons.earn("a-1", 30)
    await persons.settle()
    made = await persons.redeem(consumer="b-1", platform="market", points=45, capture=True)
    await persons.link()
    await persons.world.rows("UPDATE lot SET expires_on = current_date - 10 WHERE amount = 50")
    if swept:
        await persons.expire()
    await persons.redeem("refund", platform="market", redemption=made["id"])
    await persons.expire()
    assert await both(persons) == [(0, 75 if swept else 80, 0)] * 2
    await persons.split()
    await persons.expire()
    assert await both(persons) == [(0, 30, 0), (0, 45 if swept else 50, 0)]


@pytest.mark.parametrize(("shop", "market"), [(1, 6), (6, 1), (3, 3)])
async def test_nobodys_balance_goes_back_to_an_older_version(persons: Persons, shop: int, market: int) -> None:
    """Whoever keeps the newest balance by its version sees what a link and a split did."""

    async def versions() -> tuple[int, int]:
        return (await persons.read("a-1"))["version"], (await persons.read("b-1", "market"))["version"]

    for consumer, platform, orders in (("a-1", "shop", shop), ("b-1", "market", market)):
        for _ in range(orders):
            await persons.earn(consumer, 10, platform=platform)
    seen = [await versions()]
    for change in (persons.link, persons.settle, persons.split, persons.link, persons.split):
        await change()
        seen.append(await versions())
    for mine in zip(*seen, strict=True):
        assert all(later > earlier for earlier, later in itertools.pairwise(mine)), seen


async def test_a_code_counts_once_and_only_in_its_program(persons: Persons) -> None:
    await persons.earn("a-1", 10)
    code = await persons.code()
    with pytest.raises(InvalidRequest, match="code"):
        await persons.link(code="0000-0000-0000")
    await persons.link(code=code.lower().replace("-", " "))
    with pytest.raises(InvalidRequest, match="code"):
        await persons.link("b-2", code=code)
    assert (await persons.link()).linked  # they are linked already


async def test_a_repeat_whose_first_answer_was_lost_is_answered_and_changes_nothing(persons: Persons) -> None:
    await persons.earn("a-1", 10)
    await persons.earn("b-1", 20, platform="market")
    await persons.settle()
    code = await persons.code()
    first = (await persons.link(code=code)).answer()
    assert (await persons.link(code=code)).answer() == first
    with pytest.raises(InvalidRequest, match="code"):
        await persons.link("b-2", code=code)
    first = (await persons.split()).answer()
    assert (await persons.split()).answer() == first
    with pytest.raises(InvalidRequest, match="code"):
        await persons.link(code=code)


async def test_reserved_points_are_not_linked_nor_split(persons: Persons) -> None:
    await persons.earn("a-1", 10)
    await persons.earn("b-1", 50, platform="market")
    await persons.settle()
    made = await persons.redeem(consumer="b-1", platform="market", points=5)
    with pytest.raises(InvalidState, match="reserved"):
        await persons.link()
    await persons.redeem("cancel", platform="market", redemption=made["id"])
    await persons.link()
    made = await persons.redeem(consumer="a-1", points=55)
    with pytest.raises(InvalidState, match="reserved"):
        await persons.split()
    await persons.redeem("cancel", redemption=made["id"])
    await persons.split()


async def test_caps_are_of_the_person(persons: Persons) -> None:
    await persons.earn("a-1", 250)
    await persons.earn("b-1", 250, platform="market")
    await persons.link()
    capped = await persons.world.credit(order_paid("b-1", quantity=5), "market")
    assert capped["points"] == 0
    await persons.split()
    assert (await persons.world.credit(order_paid("b-1", quantity=50), "market"))["points"] == 150


async def test_the_past_stays_as_it_was(persons: Persons) -> None:
    await persons.earn("a-1", 30)
    await persons.earn("b-1", 50, platform="market")
    rows = await persons.world.rows("SELECT r.reference, r.account FROM consumer_reference r ORDER BY 1")
    a, b = (row["account"] for row in rows)
    moments = []
    steps: list[Any] = [persons.link, lambda: persons.earn("b-1", 20, platform="market"), persons.settle, persons.split]
    for step in steps:
        async with persons.world.pool.acquire() as conn:
            moments.append(await database_now(conn))
        await step()
    seen = []
    async with persons.world.pool.acquire() as conn:
        moments.append(await database_now(conn))
        for moment in moments:
            found = [await balance_at(conn, account, "x", moment) for account in (a, b)]
            seen.append([(f.pending, f.available) for f in found])
    assert seen == [
        [(30, 0), (50, 0)],
        [(80, 0), (0, 0)],
        [(100, 0), (0, 0)],
        [(0, 100), (0, 0)],
        [(0, 30), (0, 70)],
    ]


async def test_credits_settlements_spending_links_and_splits_at_once(persons: Persons) -> None:
    """Whatever is decided while accounts are linked and split, nothing is lost and nothing doubled."""
    await persons.earn("a-1", 50)
    await persons.earn("b-1", 50, platform="market")

    async def earning(platform: str, consumer: str) -> None:
        for _ in range(12):
            await persons.world.send(order_paid(consumer), platform=platform, knowledge=Knowledge())

    async def settling() -> None:
        for _ in range(12):
            await persons.settle()

    async def linking() -> None:
        for _ in range(6):
            await persons.link()
            await asyncio.sleep(0.01)
            await persons.split()

    async def spending() -> None:
        for n in range(12):
            try:
                await persons.redeem(consumer="a-1" if n % 2 else "b-1", platform="shop" if n % 2 else "market", points=1, capture=True)
            except InsufficientPoints:
                continue

    await asyncio.gather(earning("shop", "a-1"), earning("market", "b-1"), settling(), linking(), spending())
    await persons.settle()
    (spent,) = await persons.world.rows("SELECT coalesce(sum(captured), 0)::bigint AS points FROM redemption")
    pair = await both(persons)
    assert sum(pending + available for pending, available, _ in pair) + spent["points"] == 50 + 50 + 24 * 10

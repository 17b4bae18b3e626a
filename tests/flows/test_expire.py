"""Points end with their last local day: what goes, what stays, who waits for whom, and workers that stop at the wrong moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import pytest
from redis.asyncio import Redis

from service.flows.check import check
from service.flows.events import NEWEST, activity
from service.flows.expire import expire_batch, expire_due
from service.flows.settle import settle_due
from service.flows.statistics import campaign_statistics
from service.projection import Projection, parse
from service.store import expiry, leases
from service.store.leases import LeaseLost
from tests import books
from tests.flows.test_locks import blocked, other
from tests.spending import account_of, age, capture, end_of, refund, release, reserve
from tests.worlds import World, cancelled, order_paid
from tests.worlds import refund as refunded


@pytest.fixture
async def projection(redis_url: str) -> AsyncIterator[Projection]:
    async with Redis.from_url(redis_url, socket_timeout=5) as redis:
        yield Projection(redis, epoch=1, ttl_s=600, wait_ms=1_000)


class Life:
    """Consumers who earn, and days that go by."""

    def __init__(self, world: World, projection: Projection) -> None:
        self.world = world
        self.projection = projection

    async def earn(self, consumer: str = "c", *, quantity: int = 1) -> dict[str, Any]:
        paid = order_paid(consumer, quantity=quantity)
        await self.world.credit(paid)
        await self.settle()
        return paid

    async def settle(self) -> None:
        await settle_due(self.world.pool, self.projection, stripe=1, buckets=64, batch_events=1_000)

    async def expire(self, *, buckets: int = 64, batch_lots: int = 2_000) -> int:
        return await expire_due(self.world.pool, self.projection, stripe=2, buckets=buckets, batch_lots=batch_lots)

    async def balance(self, consumer: str = "c") -> tuple[int, int, int, int]:
        (row,) = await self.world.rows(
            "SELECT available, reserved, debt, version FROM account WHERE id = $1", await account_of(self.world, consumer)
        )
        return row["available"], row["reserved"], row["debt"], row["version"]

    async def sound(self) -> None:
        """Nothing is wrong with the book, counted in two ways."""
        report = await check(self.world.pool, self.projection)
        assert {i.name: i.broken for i in report.invariants if not i.ok and i.name != "redis"} == {}
        async with self.world.pool.acquire() as connection:
            assert await books.faults(connection) == {}

    @asynccontextmanager
    async def expiring(self) -> AsyncIterator[None]:
        """A transaction that has expired something and not yet committed."""
        async with self.world.pool.acquire() as connection, connection.transaction():
            now, zones = await expiry.days(connection, [self.world.program])
            today = {self.world.program: date(2999, 1, 1)}
            parts = [(bucket, self.world.program) for bucket in range(1024)]
            accounts = await expiry.lock(connection, parts, today, 100)
            await expiry.expire(connection, accounts, now, 2, today=today, hours={self.world.program: now}, limit=100)
            assert zones
            yield


@pytest.fixture
async def life(world: World, projection: Projection) -> Life:
    await world.campaign(code="camp")
    return Life(world, projection)


async def test_what_is_over_becomes_breakage(life: Life) -> None:
    world = life.world
    await life.earn(quantity=3)
    await life.earn(quantity=5)
    await life.earn("other", quantity=7)
    await end_of(world, "c", 1, n=0)
    await end_of(world, "c", 0, n=1)
    await end_of(world, "other", 40)
    assert await life.expire() == 2
    assert await life.balance() == (50, 0, 0, 5)
    assert await life.balance("other") == (0, 0, 0, 3)
    account = await account_of(world, "c")
    entries = await world.rows(
        "SELECT kind, book, amount, campaign, event = transfer AS own FROM entry WHERE account = $1 AND kind = 8", account
    )
    assert [tuple(e.values()) for e in entries] == [(8, 1, -30, 0, True), (8, 8, 30, 0, True)]
    held = await life.projection.redis.get(life.projection.key(account))
    assert parse(held).version == 5, "pushed after the commit"
    async with world.pool.acquire() as conn:
        items, _ = await activity(conn, account, before=NEWEST, limit=10)
        statistics = await campaign_statistics(conn, "camp", program=world.program, from_=None, to=None, granularity="day")
    (lot,) = await world.rows("SELECT expires_on FROM lot WHERE account = $1 AND remaining = 0", account)
    assert (items[0].kind, items[0].points, items[0].status) == ("points.expired", -30, "settled")
    assert items[0].reason == f"Points expired: they could be spent until {lot['expires_on']}"
    assert (statistics.totals.points_expired, statistics.totals.points_redeemed) == (100, 0)
    assert statistics.series[0]["points_expired"] == 100
    assert statistics.by_platform[0]["points_expired"] == 100
    assert await life.expire() == 0, "once"
    await life.sound()


async def test_several_days_go_in_one_transfer(life: Life) -> None:
    for n in range(3):
        await life.earn()
        await end_of(life.world, "c", 5 - n, n=n)
    assert await life.expire() == 3
    (transfer,) = await life.world.rows("SELECT points, reason FROM transfer")
    first, last = (await life.world.rows("SELECT min(expires_on) AS a, max(expires_on) AS b FROM lot"))[0].values()
    assert transfer == {"points": -30, "reason": f"Points expired: they could be spent until {first}, the last of them until {last}"}
    await life.sound()


async def test_the_day_is_the_programs_own(life: Life) -> None:
    """In Kiribati it is always a day later than in American Samoa."""
    await life.earn()
    zone = "UPDATE program SET time_zone = $2 WHERE id = $1"
    await life.world.rows(zone, life.world.program, "Pacific/Pago_Pago")
    await end_of(life.world, "c", 0)
    assert await life.expire() == 0, "its last day is not over"
    async with life.world.pool.acquire() as conn:
        mine = await leases.take(conn, "expire", 0)
        assert mine is not None
        parts = [(bucket, life.world.program) for bucket in range(1024)]
        assert await expire_batch(conn, life.projection, mine, parts, stripe=1, limit=10) == 0, "nor for a transaction that looks anew"
        await leases.give_back(conn, mine)
    await life.world.rows(zone, life.world.program, "Pacific/Kiritimati")
    assert await life.expire() == 1
    await life.world.rows(zone, life.world.program, "Pacific/Pago_Pago")
    await life.sound()


async def test_what_is_reserved_stays_until_it_comes_back(life: Life) -> None:
    world = life.world
    await life.earn(quantity=4)
    number = await reserve(world, "c", 15)
    await end_of(world, "c", 1)
    assert await life.expire() == 1
    assert await life.balance() == (0, 15, 0, 4)
    await life.sound()
    async with world.pool.acquire() as conn, conn.transaction():
        await release(conn, world, number)
    assert await life.balance() == (15, 0, 0, 5)
    assert await life.expire() == 0, "the policy gives it two weeks more"
    await age(world, 15)
    assert await life.expire() == 1
    assert await life.balance() == (0, 0, 0, 6)
    await life.sound()


async def test_what_was_spent_and_comes_back_late_ends_with_its_grace(life: Life) -> None:
    world = life.world
    await life.earn(quantity=4)
    number = await reserve(world, "c", 30)
    await capture(world, number, 25)
    await end_of(world, "c", 1)
    assert await life.expire() == 1
    assert (await life.balance())[0] == 0
    await refund(world, number, 20)
    assert (await life.balance())[0] == 20
    assert await life.expire() == 0
    await age(world, 14)
    assert await life.expire() == 0, "its last day is not over"
    await age(world, 1)
    assert await life.expire() == 1
    assert (await life.balance())[0] == 0
    (sums,) = await world.rows("SELECT sum(points_redeemed)::int AS redeemed, sum(points_expired)::int AS expired FROM rollup")
    assert sums == {"redeemed": 5, "expired": 35}
    await life.sound()


async def test_points_of_no_campaign_expire_without_statistics(life: Life) -> None:
    await life.earn()
    await end_of(life.world, "c", 1)
    await life.world.rows("UPDATE lot SET campaign = 0, origin = 9")
    assert await life.expire() == 1
    assert (await life.world.rows("SELECT coalesce(sum(points_expired), 0)::int AS points FROM rollup"))[0]["points"] == 0


# Bounds, and several workers


async def test_a_transaction_is_bounded_whatever_one_consumer_has(life: Life) -> None:
    await life.world.send(*(order_paid("c") for _ in range(7)), *(order_paid("d") for _ in range(4)))
    await life.settle()
    for consumer in "cd":
        await end_of(life.world, consumer, 1)
    assert await life.expire(batch_lots=3, buckets=1_024) == 11
    transfers = await life.world.rows("SELECT number, -sum(points)::int AS points FROM transfer GROUP BY number")
    uses = await life.world.rows("SELECT transfer, count(*) AS lots FROM lot_use GROUP BY 1")
    assert sum(t["points"] for t in transfers) == 110
    assert max(u["lots"] for u in uses) <= 3
    await life.sound()


async def test_many_workers_at_once_expire_everything_once(life: Life) -> None:
    await life.world.send(*(order_paid(f"c-{n % 40}") for n in range(200)))
    await life.settle()
    await life.world.rows("UPDATE lot SET expires_on = '2020-01-01'")
    done = await asyncio.gather(*(life.expire(buckets=32, batch_lots=5) for _ in range(4)))
    assert sum(done) + await life.expire() == 200
    (sums,) = await life.world.rows("SELECT sum(available)::int AS available FROM account")
    assert sums["available"] == 0
    await life.sound()


async def test_expiry_waits_for_a_refund(life: Life) -> None:
    """What a refund takes back is not there any more when it is decided what expires."""
    paid = await life.earn(quantity=5)
    await end_of(life.world, "c", 1)
    from tests.flows.test_locks import Slow  # noqa: PLC0415

    async with Slow(life.world).credits(cancelled(paid)):
        expiring = await blocked(life.world, life.expire())
        assert not expiring.done(), "it waits"
    assert await expiring == 0
    assert await life.balance() == (0, 0, 0, 3)
    await life.sound()


async def test_a_refund_waits_for_expiry(life: Life) -> None:
    paid = await life.earn(quantity=5)
    async with life.expiring():
        refunding = await blocked(life.world, other(life.world, refunded(paid, "r", 2)))
        assert not refunding.done(), "it waits"
    assert (await refunding)["balance"]["debt"] == 20
    assert (await life.balance())[:3] == (0, 0, 20)
    await life.sound()


async def test_a_reservation_waits_for_expiry(life: Life) -> None:
    await life.earn(quantity=5)
    async with life.expiring():
        reserving = await blocked(life.world, reserve(life.world, "c", 10))
        assert not reserving.done(), "it waits"
    with pytest.raises(Exception, match="0 can be spent"):
        await reserving
    await life.sound()


# Leases


async def test_a_worker_that_was_paused_changes_nothing_when_it_wakes(life: Life) -> None:
    """A takes the lease and stops between two transactions; it runs out, B takes it and works; A goes on."""
    world = life.world
    await life.earn()
    await end_of(world, "c", 1)
    parts = [(bucket, world.program) for bucket in range(1024)]
    async with world.pool.acquire() as a:
        mine = await leases.take(a, "expire", 0)
        assert mine is not None
        assert await expire_batch(a, life.projection, mine, parts, stripe=1, limit=10) == 1
        # Here it is paused. Nobody takes what is being done, until the lease has run out.
        await life.earn()
        await end_of(world, "c", 1)
        assert await life.expire(buckets=1_024) == 0
        await world.rows("UPDATE lease SET until = clock_timestamp()")
        assert await life.expire(buckets=1_024) == 1
        (row,) = await world.rows("SELECT token FROM lease")
        assert row["token"] == mine.token + 1
        await life.earn()
        await end_of(world, "c", 1)
        before = await life.balance()
        with pytest.raises(LeaseLost):
            await expire_batch(a, life.projection, mine, parts, stripe=1, limit=10)
        assert await life.balance() == before, "it changed nothing"
        await leases.give_back(a, mine)
    (row,) = await world.rows("SELECT token, until FROM lease")
    assert row["token"] == mine.token + 1
    assert await life.expire(buckets=1_024) == 1
    await life.sound()


async def test_a_lease_is_kept_until_the_transaction_ends(life: Life) -> None:
    """Whoever wants it goes on to something else at once, even if its time is over: its holder may be about to commit."""
    world = life.world
    async with world.pool.acquire() as a, world.pool.acquire() as b:
        mine = await leases.take(a, "expire", 64)
        assert mine is not None
        async with a.transaction():
            await leases.still_mine(a, mine, lease_s=0)
            assert await asyncio.wait_for(leases.take(b, "expire", 64), 5) is None
        other_work, theirs = await leases.take(b, "release", 64), await leases.take(b, "expire", 64)
        assert other_work is not None
        assert theirs is not None
        assert (theirs.token, other_work.token) == (mine.token + 1, 1)
        async with a.transaction():
            with pytest.raises(LeaseLost):
                await leases.still_mine(a, mine)
        await leases.give_back(b, theirs)
        again = await leases.take(a, "expire", 64)
        assert again is not None
        assert again.token == theirs.token + 1, "given back it is free at once, under a new token"
        assert await leases.take(b, "expire", 64) is None


async def test_a_group_that_another_worker_has_is_left_alone(life: Life) -> None:
    await life.earn()
    await end_of(life.world, "c", 1)
    async with life.world.pool.acquire() as a:
        mine = await leases.take(a, "expire", 0)
        assert mine is not None
        assert await life.expire(buckets=1_024) == 0
        await leases.give_back(a, mine)
    assert await life.expire(buckets=1_024) == 1

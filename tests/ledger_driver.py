"""The real flows on a real database, for tests that hold whole lives of points against something simple; time passes when they say so.

Every day in the database moves back by as many days as pass: PostgreSQL's clock is the only one that counts, and nobody waits for it.
"""

import asyncio
import itertools
import json
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import asyncpg
import msgspec
import uvloop
from redis.asyncio import Redis

from schemas.adjustments import AdjustmentBody, TransferBody
from schemas.causes import CauseBody
from schemas.rewards import RewardBody
from service.domain.errors import GreenpointsError
from service.flows import adjustments, causes, links, reward_catalogue, transfers
from service.flows.administer import Change
from service.flows.check import check
from service.flows.erase import erase, finish_erasures
from service.flows.expire import expire_due
from service.flows.knowledge import Knowledge
from service.flows.redeem import Ask, redeem, release_expired
from service.flows.release import release_due
from service.flows.settle import settle_due
from service.projection import Projection
from tests import books
from tests.adjusting import operator, set_policy
from tests.ledger_model import Campaign, Name, Policy, Reward
from tests.sealer import SEALER
from tests.tampering import allow
from tests.worlds import World, order_paid

NAMES: list[Name] = [("shop", "a"), ("shop", "b"), ("shop", "c"), ("market", "a"), ("market", "d")]
CAMPAIGNS = {"now": Campaign(0, 20), "short": Campaign(0, 5), "held": Campaign(4, 8), "policy": Campaign(0, None)}
REWARDS = {"cup": Reward(7, stock=2, per_consumer=1), "bag": Reward(3, stock=9, per_consumer=2)}
FACT_TABLES = [
    "event", "parked", "award", "due", "account", "consumer_reference", "registry", "cap_usage", "entry", "lot", "lot_use", "rollup",
    "campaign_consumer", "claim", "packaging_sent", "packaging_back", "transfer", "redemption", "redemption_lot", "reservation_due",
    "idempotent_request", "points_policy", "adjustment", "consumer_transfer", "account_link", "link_code", "reward_use", "cause_total",
    "erasure",
]  # fmt: skip
PASS_TIME = """
WITH due AS (UPDATE due SET due_at = due_at - $1::interval),
award AS (UPDATE award SET due_at = due_at - $1::interval, expires_on = (expires_on - $1::interval)::date),
event AS (UPDATE event SET received_at = received_at - $1::interval),
lot AS (UPDATE lot SET expires_on = (expires_on - $1::interval)::date),
transfer AS (UPDATE transfer SET at = at - $1::interval),
redemption AS (UPDATE redemption SET created_at = created_at - $1::interval, expires_at = expires_at - $1::interval, ended_at = ended_at - $1::interval),
reservation AS (UPDATE reservation_due SET due_at = due_at - $1::interval),
adjustment AS (UPDATE adjustment SET proposed_at = proposed_at - $1::interval, open_until = open_until - $1::interval,
               decided_at = decided_at - $1::interval, expires_on = (expires_on - $1::interval)::date),
given AS (UPDATE consumer_transfer SET day = (day - $1::interval)::date, at = at - $1::interval)
UPDATE points_policy SET effective_from = effective_from - $1::interval
"""
STATE = {
    "accounts": "SELECT id, pending, available, reserved, debt, home FROM account",
    "names": "SELECT p.code, r.reference, r.account FROM consumer_reference r JOIN platform p ON p.id = r.platform",
    "lots": "SELECT account, remaining, reserved, expires_on - $1 AS day FROM lot WHERE remaining > 0 ORDER BY expires_on, event, n",
    "redemptions": "SELECT id, status, points, captured, refunded FROM redemption",
    "causes": "SELECT coalesce(sum(points), 0)::bigint AS points FROM cause_total",
    "books": "SELECT book, sum(amount)::bigint AS amount FROM entry WHERE book IN (6, 7, 8, 9, 10) GROUP BY book",
}
BOOKS = {6: ("redeemed", 1), 7: ("cause", 1), 8: ("expired", 1), 9: ("written_off", -1), 10: ("adjusted", -1)}
T = TypeVar("T")


class Real:
    """The real flows on a real database, one event loop for all examples. A flow that refuses answers with its problem's code."""

    def __init__(self, dsn: str, redis_url: str) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._dsn, self._redis_url = dsn, redis_url
        self._examples = 0
        self._keys = itertools.count(1)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def open(self, *, connections: int = 5) -> None:
        async def found() -> None:
            pool = await asyncpg.create_pool(self._dsn, min_size=1, max_size=connections)
            async with pool.acquire() as conn:
                await allow(conn)  # `forget` empties the book
            self.world = await World(pool).found()
            self.redis = Redis.from_url(self._redis_url, socket_timeout=5)
            self.projection = Projection(self.redis, epoch=1, ttl_s=600, wait_ms=1_000)
            for code, terms in CAMPAIGNS.items():
                life = None if terms.life is None else f"P{terms.life}D"
                await self.world.campaign(
                    code=code, when=f'line.category == "{code}"', award={"kind": "per_unit", "points": 1}, hold=f"P{terms.hold}D",
                    expires_after=life,
                )  # fmt: skip
            async with pool.acquire() as conn:
                for code, reward in REWARDS.items():
                    body = RewardBody(code=code, name=code, points=reward.points, stock=reward.stock, per_consumer=reward.per_consumer)
                    await reward_catalogue.create_reward(conn, body, sealer=SEALER, program=self.world.program)
                await causes.create_cause(conn, CauseBody(code="trees", name="Trees"), program=self.world.program)
                # A zone in which no midnight comes soon: days pass when a rule says so, and only then.
                hours = (2 - datetime.now(UTC).hour + 9) % 24 - 9
                await conn.execute("UPDATE program SET time_zone = $1", f"Etc/GMT{-hours:+d}")
            self.operators = [await operator(self.world) for _ in range(2)]

        self.run(found())

    def close(self) -> None:
        async def end() -> None:
            await self.redis.aclose()
            await self.world.pool.close()

        self.run(end())
        self._runner.close()

    async def forget(self) -> None:
        """Begin again, with the campaigns, rewards and causes only."""
        await self.world.rows(
            f"WITH {', '.join(f't{i} AS (DELETE FROM {t})' for i, t in enumerate(FACT_TABLES))} UPDATE reward SET taken = 0"
        )
        await self.redis.flushdb()
        self.world.knowledge = Knowledge()
        self.today = (await self.world.rows("SELECT (now() AT TIME ZONE time_zone)::date AS day FROM program"))[0]["day"]

    def key(self) -> str:
        return f"k-{next(self._keys)}"

    async def policy(self, policy: Policy) -> None:
        expiry = {"kind": "never"} if policy.life is None else {"kind": "rolling", "after": f"P{policy.life}D"}
        many = {"enabled": True, "per_transfer": 10_000, "per_day": 10_000_000}
        await set_policy(
            self.world, expiry=expiry, negative_balance=policy.negative_balance, restored_for=f"P{policy.restored_for}D", transfers=many,
            adjustment_alone=policy.alone,
        )  # fmt: skip
        await self.world.rows("UPDATE deployment SET catalogue_version = catalogue_version + 1")

    async def send(self, platform: str, fact: dict[str, Any]) -> dict[str, Any]:
        return await self.world.credit(fact, platform)

    async def redeem(self, *asks: Ask) -> list[Any]:
        """In one transaction: answers, or codes of problems."""
        async with self.world.pool.acquire() as conn:
            received = await redeem(conn, asks, 1, sealer=SEALER)
        await self.projection.push([(account.id, account.balance()) for account in received.changed])
        return [o.error.code if o.error is not None else json.loads(o.answer) for o in received.outcomes]

    def ask(self, platform: str, step: Any, **changes: Any) -> Ask:
        body = {k: v for k, v in changes.items() if k != "ttl"} | {"ttl": timedelta(days=changes.get("ttl", 0))}
        return Ask(
            program=self.world.program, platform=self.world.platforms[platform].platform, step=step, key=self.key(), request_hash=b"h",
            **body,
        )  # fmt: skip

    async def adjust(self, name: Name, key: str, body: dict[str, Any]) -> Any:
        wanted = msgspec.convert({"platform": name[0], "consumer": name[1], "reason": "sorry"} | body, AdjustmentBody)

        async def propose(conn: Any) -> Any:
            made = await adjustments.propose(
                conn, wanted, program=self.world.program, operator=self.operators[0], key=key, request_hash=msgspec.json.encode(wanted),
                change=Change(),
            )  # fmt: skip
            await self.projection.push(made.balances)
            return made.answer

        return await self._tried(propose)

    async def decide(self, number: str, step: Any) -> Any:
        async def deciding(conn: Any) -> Any:
            made = await adjustments.decide(
                conn, int(number), step, note=None, program=self.world.program, operator=self.operators[1], change=Change()
            )
            await self.projection.push(made.balances)
            return made.answer

        return await self._tried(deciding)

    async def transfer(self, sender: Name, key: str, body: dict[str, Any], *, by_platform: bool) -> Any:
        wanted = msgspec.convert(body, TransferBody)

        async def give(conn: Any) -> Any:
            made = await transfers.transfer(
                conn, wanted, program=self.world.program, platform=self.world.platforms[sender[0]].platform, sender=sender[1],
                by_platform=by_platform, key=key, request_hash=msgspec.json.encode(wanted),
            )  # fmt: skip
            await self.projection.push(made.balances)
            return made.answer

        return await self._tried(give)

    def _named(self, name: Name) -> dict[str, Any]:
        platform = self.world.platforms[name[0]].platform
        return {"program": self.world.program, "platform": platform, "code": name[0], "reference": name[1], "change": Change()}

    async def link(self, theirs: Name, mine: Name) -> Any:
        async def join(conn: Any) -> Any:
            code = (await links.make_code(conn, **self._named(theirs))).code
            await links.publish(self.projection, await links.link(conn, **self._named(mine), link_code=code, stripe=1))

        return await self._tried(join)

    async def split(self, name: Name) -> Any:
        async def part(conn: Any) -> Any:
            await links.publish(self.projection, await links.split(conn, **self._named(name), stripe=1))

        return await self._tried(part)

    async def erase(self, name: Name) -> Any:
        async def forget(conn: Any) -> Any:
            await erase(conn, **self._named(name))

        refused = await self._tried(forget)
        await finish_erasures(self.world.pool, self.projection)
        return refused

    async def _tried(self, work: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        async with self.world.pool.acquire() as conn:
            try:
                return await work(conn)
            except GreenpointsError as error:
                return error.code

    async def settle(self) -> None:
        await settle_due(self.world.pool, self.projection, stripe=1, buckets=1024, batch_events=1_000)

    async def release_ended(self) -> None:
        await release_due(self.world.pool, self.projection, release_expired, stripe=1, buckets=1024)
        await adjustments.expire(self.world.pool)

    async def expire(self) -> None:
        await expire_due(self.world.pool, self.projection, stripe=1, buckets=1024, batch_lots=1_000)

    async def pass_time(self, days: int) -> None:
        await self.world.rows(PASS_TIME, timedelta(days=days))

    async def state(self, today: int) -> dict[str, list[Any]]:
        """`today`: the model's, which the days of lots are told in."""
        async with self.world.pool.acquire() as conn:
            begin = self.today - timedelta(days=today)
            return {name: await conn.fetch(sql, *([begin] if "$1" in sql else [])) for name, sql in STATE.items()}

    async def faults(self) -> dict[str, Any]:
        async with self.world.pool.acquire() as connection:
            return await books.faults(connection)

    async def checked(self) -> list[Any]:
        """What the service's own check finds."""
        return [i.broken for i in (await check(self.world.pool, self.projection)).invariants if not i.ok]


def paid_with(campaign: str, consumer: str, units: int) -> dict[str, Any]:
    """An order that this campaign grants a point per unit for."""
    paid = order_paid(consumer, quantity=units, price="1.00")
    paid["lines"][0] = {"id": "1", "quantity": str(units), "unit_price": "1.00", "sku": campaign, "category": campaign}
    return paid

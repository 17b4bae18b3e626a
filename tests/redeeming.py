"""Redemptions of rewards as their flow makes them: account, reward, row, in one transaction; for tests of what it calls."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import msgspec

from schemas.rewards import RewardAnswer, RewardBody, RewardPatch, VouchersAnswer
from service.domain.keys import bucket_of
from service.flows import reward_catalogue, vouchers
from service.flows.rewards import Booked, book, deliver, give_back
from service.store import check_rewards, purses
from service.store.connection import Connection
from tests.sealer import SEALER
from tests.worlds import World, order_paid

INSERT = """
INSERT INTO redemption (bucket, account, number, program, platform, id, status, points, reward, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, 'r-' || $3::bigint, 'reserved', $6, $7, now(), now() + interval '15 minutes')
"""
END = """
UPDATE redemption SET status = $4, captured = CASE WHEN $4 = 'captured' THEN points ELSE 0 END, refunded = $5, ended_at = now()
WHERE bucket = $1 AND account = $2 AND number = $3
"""

SOLD_OUT = "The reward is sold out."
STATEMENTS = {name: value for name, value in vars(check_rewards).items() if name.isupper()}
"""What `check` asks about rewards."""


async def sound(world: World) -> None:
    """`check` finds nothing wrong with rewards."""
    assert {name for name, statement in STATEMENTS.items() if await world.rows(statement)} == set()


class Catalogue:
    """Rewards of a world's program and their redemptions, which move no points."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def reward(self, code: str = "cup", codes: Sequence[str] = (), **more: Any) -> RewardAnswer:
        body = {"code": code, "name": "A cup", "points": 100, "vouchers": bool(codes)} | more
        async with self.world.pool.acquire() as conn:
            made = await reward_catalogue.create_reward(
                conn, msgspec.convert(body, RewardBody), sealer=SEALER, program=self.world.program
            )  # fmt: skip
            if codes:
                await vouchers.load(conn, codes, sealer=SEALER, program=self.world.program, code=code)
        return made

    async def change(self, code: str = "cup", **changes: Any) -> RewardAnswer:
        async with self.world.pool.acquire() as conn:
            patch = msgspec.convert(changes, RewardPatch)
            return await reward_catalogue.change_reward(conn, code, patch, program=self.world.program)

    async def load(self, codes: Sequence[str], code: str = "cup") -> VouchersAnswer:
        async with self.world.pool.acquire() as conn:
            return await vouchers.load(conn, codes, sealer=SEALER, program=self.world.program, code=code)

    async def read(self, code: str = "cup") -> RewardAnswer:
        async with self.world.pool.acquire() as conn:
            return await reward_catalogue.read_reward(conn, code, program=self.world.program)

    async def account(self, consumer: str = "c-1") -> int:
        """The account of a consumer, who buys something first."""
        await self.world.credit(order_paid(consumer))
        (row,) = await self.world.rows("SELECT account FROM consumer_reference WHERE reference = $1", consumer)
        return int(row["account"])

    async def accounts(self, count: int) -> list[int]:
        await self.world.send(*(order_paid(f"buyer-{n}") for n in range(count)))
        rows = await self.world.rows("SELECT account FROM consumer_reference WHERE reference LIKE 'buyer-%' ORDER BY account")
        return [row["account"] for row in rows]

    @asynccontextmanager
    async def reserving(self, account: int, code: str = "cup", **more: Any) -> AsyncIterator[tuple[Connection, int, Booked]]:
        """A transaction in which a reward has just been booked: the connection, the redemption's number, and what was booked."""
        async with self.world.pool.acquire() as conn, conn.transaction():
            yield conn, *await self._reserve(conn, account, code, **more)

    async def _reserve(
        self, conn: Connection, account: int, code: str, *, platform: str = "shop", points: int | None = None, at: datetime | None = None
    ) -> tuple[int, Booked]:
        locked = (await purses.lock(conn, [account]))[account].id
        (number,) = await purses.numbers(conn, 1)
        sender = self.world.platforms[platform]
        booked = await book(
            conn, program=self.world.program, platform=sender.platform, code=code, account=locked, redemption=number, points=points,
            now=at or await conn.fetchval("SELECT now()"),
        )  # fmt: skip
        await conn.execute(
            INSERT, bucket_of(locked), locked, number, self.world.program, sender.platform, booked.points, booked.reward
        )  # fmt: skip
        return number, booked

    async def reserve(self, account: int, code: str = "cup", **more: Any) -> int:
        async with self.reserving(account, code, **more) as (_, number, _):
            return number

    async def capture(self, account: int, number: int) -> str | None:
        async with self.world.pool.acquire() as conn, conn.transaction():
            await purses.lock(conn, [account])
            await conn.execute(END, bucket_of(account), account, number, "captured", 0)
            return await deliver(conn, sealer=SEALER, program=self.world.program, account=account, redemption=number)

    async def buy(self, account: int, code: str = "cup") -> str | None:
        """Reserve and capture in one transaction."""
        async with self.reserving(account, code) as (conn, number, _):
            await conn.execute(END, bucket_of(account), account, number, "captured", 0)
            return await deliver(conn, sealer=SEALER, program=self.world.program, account=account, redemption=number)

    async def cancel(self, account: int, number: int) -> None:
        await self._end(account, number, captured=False)

    async def refund(self, account: int, number: int) -> None:
        await self._end(account, number, captured=True)

    async def _end(self, account: int, number: int, *, captured: bool) -> None:
        async with self.world.pool.acquire() as conn, conn.transaction():
            await purses.lock(conn, [account])
            await conn.execute(END, bucket_of(account), account, number, "captured" if captured else "cancelled", 100 * captured)
            await give_back(conn, program=self.world.program, account=account, redemption=number, captured=captured)


WAITING = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def waiting(world: World, *, at_least: int = 1) -> None:
    """Until so many statements of this database wait for a lock."""
    async with asyncio.timeout(10):
        while (await world.rows(WAITING))[0]["n"] < at_least:
            await asyncio.sleep(0.01)

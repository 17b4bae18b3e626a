"""Everything that moves points, side by side, while accounts are linked and split and time passes: nothing is lost, nothing doubled."""

import asyncio
from typing import Any

from tests.ledger_driver import NAMES, Real, paid_with
from tests.ledger_model import Name, Policy
from tests.worlds import refund

ROUNDS = 3
TIMES = 6

CONSERVED = """
SELECT (SELECT sum(pending + available + reserved - debt) FROM account)::bigint AS there,
       (SELECT sum(points - reversed) FROM award)::bigint AS earned,
       (SELECT coalesce(sum(points), 0) FROM adjustment WHERE status = 'done')::bigint AS adjusted,
       (SELECT sum(captured - refunded) FROM redemption)::bigint AS spent,
       (SELECT coalesce(sum(amount), 0) FROM entry WHERE book = 8)::bigint AS expired
"""


class Crowd:
    """What each of them does, again and again; refusals are part of it."""

    def __init__(self, real: Real) -> None:
        self.real = real

    async def run(self) -> None:
        await self.real.policy(Policy(restored_for=3))
        for platform, reference in NAMES:
            await self.real.send(platform, paid_with("now", reference, 200))
        await self.real.settle()
        for _ in range(ROUNDS):
            async with asyncio.TaskGroup() as together:
                for n, name in enumerate(NAMES):
                    together.create_task(self.earn(*name))
                    together.create_task(self.spend_at_once(*name) if n % 2 else self.reserve(*name))
                for work in (self.give("a", "b"), self.give("b", "a"), self.join(), self.adjust(), self.sweep()):
                    together.create_task(work)
            await self.real.pass_time(7)
            await self.sweep()

    async def earn(self, platform: str, reference: str) -> None:
        for n in range(TIMES):
            paid = paid_with("short" if n % 2 else "held", reference, 30)
            await self.real.send(platform, paid)
            await self.real.send(platform, refund(paid, "r", 4))

    async def reserve(self, platform: str, reference: str) -> None:
        for n in range(TIMES):
            made = await self._create(platform, reference, at_once=False)
            if made is not None:
                step, points = [("capture", 5), ("cancel", None), ("capture", None)][n % 3]
                await self._twice(platform, step, made, points)

    async def spend_at_once(self, platform: str, reference: str) -> None:
        for _ in range(TIMES):
            made = await self._create(platform, reference, at_once=True)
            if made is not None:
                await self._twice(platform, "refund", made, 5)  # of 9: once is all that can come back

    async def _create(self, platform: str, reference: str, *, at_once: bool) -> str | None:
        create = self.real.ask(platform, "create", consumer=reference, points=9, capture=at_once, ttl=2)
        (made,), (again,) = [await self.real.redeem(create) for _ in range(2)]
        assert made == again or isinstance(made, str), "a repeat counts once"
        return None if isinstance(made, str) else str(made["id"])

    async def _twice(self, platform: str, step: str, redemption: str, points: int | None) -> None:
        """Side by side, with different keys: one of them is carried out."""
        asks = [self.real.ask(platform, step, redemption=redemption, points=points) for _ in range(2)]
        both = await asyncio.gather(*(self.real.redeem(ask) for ask in asks))
        assert sorted(isinstance(answer, str) for (answer,) in both) == [False, True]

    async def give(self, sender: str, to: str) -> None:
        for _ in range(TIMES):
            await self.real.transfer(("shop", sender), self.real.key(), {"to": to, "points": 7}, by_platform=True)

    async def join(self) -> None:
        one: Name = ("shop", "a")
        other: Name = ("market", "a")
        for _ in range(TIMES):
            await self.real.link(one, other)
            await self.real.split(other)

    async def adjust(self) -> None:
        for n in range(TIMES):
            body: dict[str, Any] = {"points": 15} if n % 2 else {"points": -90, "debt": "allow"}
            made = await self.real.adjust(("shop", "b"), self.real.key(), body)
            if not isinstance(made, str) and made.status == "pending":
                await asyncio.gather(*(self.real.decide(made.id, "approve") for _ in range(2)))

    async def sweep(self) -> None:
        for _ in range(TIMES):
            await asyncio.gather(self.real.settle(), self.real.release_ended(), self.real.expire())


def test_all_at_once_nothing_is_lost_or_doubled(anyio_backend: Any, database: str, redis_url: str) -> None:
    real = Real(database, redis_url)
    real.open(connections=12)
    try:
        real.run(real.forget())
        real.run(Crowd(real).run())
        (sums,) = real.run(real.world.rows(CONSERVED))
        assert sums["there"] == sums["earned"] + sums["adjusted"] - sums["spent"] - sums["expired"]
        assert all(sums.values()), "each of them happened"
        assert real.run(real.faults()) == {}
        assert real.run(real.checked()) == []
    finally:
        real.close()

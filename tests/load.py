"""Shoppers: they report orders and refunds as a platform does, repeat what was not answered, and keep a journal of what was."""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx

from service.flows.check import check
from service.projection import Projection
from tests.worlds import World, order_paid, refund

GIVE_UP_S = 20.0
PAUSE_S = 0.02
CONSUMERS = 8

_runs = itertools.count(1)


class Journal:
    """What was reported and what came of it: `answers` by event id, `troubles` by what went wrong on the way."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        self.troubles: dict[str, int] = {}
        self.slowest_s = 0.0

    def trouble(self, what: str) -> None:
        self.troubles[what] = self.troubles.get(what, 0) + 1


class Shoppers:
    """`urls`: API processes, called in turn. `client` may be one that calls the application inside this process."""

    def __init__(self, world: World, client: httpx.AsyncClient, urls: Sequence[str] = ("",)) -> None:
        self.journal = Journal()
        self._world = world
        self._client = client
        self._urls = itertools.cycle(urls)
        self._run = next(_runs)
        self._numbers = itertools.count(1)
        self._stopping = False

    @contextlib.asynccontextmanager
    async def shopping(self, shoppers: int = 8) -> AsyncIterator[Journal]:
        """Shop in the background; at the end everything that was begun has been answered."""
        tasks = [asyncio.create_task(self._shop()) for _ in range(shoppers)]
        try:
            yield self.journal
        finally:
            self._stopping = True
            await asyncio.gather(*tasks)

    async def _shop(self) -> None:
        while not self._stopping:
            number = next(self._numbers)
            paid = order_paid(f"shopper-{number % CONSUMERS}", quantity=random.randint(1, 5), order=f"run-{self._run}-{number}")
            await self.report(paid)
            if number % 4 == 0:
                await self.report(refund(paid, "r", 1))

    async def report(self, event: dict[str, Any]) -> dict[str, Any]:
        """Report until it is answered, by whichever process; the answer."""
        self.journal.events[event["id"]] = event
        end = time.monotonic() + GIVE_UP_S
        while True:
            response = await self.post(event)
            if response is not None and response.status_code in (200, 201):
                answer: dict[str, Any] = response.json()
                known = self.journal.answers.setdefault(event["id"], answer)
                assert known == answer, "two answers for one event"
                return answer
            assert time.monotonic() < end, f"nobody answers: {self.journal.troubles}"
            await asyncio.sleep(PAUSE_S)

    async def post(self, event: dict[str, Any]) -> httpx.Response | None:
        """Report once; None when the process was gone. Anything but success or 503 is a fault."""
        begun = time.monotonic()
        try:
            response = await self._client.post(
                f"{next(self._urls)}/v1/events", json=event, headers={"Authorization": f"Bearer {self._world.keys['shop']}"}, timeout=5
            )
        except httpx.TransportError as error:
            self.journal.trouble(type(error).__name__)
            return None
        self.journal.slowest_s = max(self.journal.slowest_s, time.monotonic() - begun)
        if response.status_code == 503:
            assert response.headers["Retry-After"]
            self.journal.trouble("503")
        else:
            assert response.status_code in (200, 201), response.text
        return response

    async def verify(self) -> None:
        """Everything acknowledged is in the ledger once, with the answered points, and a repeat gets the same answer."""
        rows = await self._world.rows("SELECT id, points FROM event WHERE order_id LIKE $1", f"run-{self._run}-%")
        assert sorted(row["id"] for row in rows) == sorted(self.journal.events), "each event once, and no other"
        assert {row["id"]: row["points"] for row in rows} == {id_: answer["points"] for id_, answer in self.journal.answers.items()}
        for id_ in random.sample(sorted(self.journal.events), min(40, len(self.journal.events))):
            response = await self.post(self.journal.events[id_])
            assert response is not None
            assert (response.status_code, response.headers["Idempotency-Replayed"]) == (200, "true")
            assert response.json() == self.journal.answers[id_]


async def settled(world: World, *, timeout_s: float = 20.0) -> None:
    """Return once nothing is on hold any more."""
    end = time.monotonic() + timeout_s
    while (await world.rows("SELECT count(*) AS n FROM due"))[0]["n"]:
        assert time.monotonic() < end, "not settled in time"
        await asyncio.sleep(0.1)


async def clean(world: World, projection: Projection, *, timeout_s: float = 12.0) -> None:
    """Return once every invariant holds, Redis included: it may be behind for as long as a sweep takes."""
    end = time.monotonic() + timeout_s
    while broken := [i for i in (await check(world.pool, projection)).invariants if not i.ok]:
        assert time.monotonic() < end, broken
        await asyncio.sleep(0.2)

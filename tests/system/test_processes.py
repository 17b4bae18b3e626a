"""Two serving processes on one database behave as one: campaigns, first sightings, caps and budgets."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from secrets import token_bytes
from typing import Any

import httpx
import pytest

from service.domain import secrets
from service.flows import campaigns
from service.settings import Settings
from service.store import callers
from tests.servers import Program, programs
from tests.worlds import CHANGE, World, order_paid, refund


class Twins:
    """Both processes, called in turn or at once."""

    def __init__(self, world: World, client: httpx.AsyncClient, apis: list[Program]) -> None:
        self.world = world
        self._client = client
        self._apis = apis

    async def credit(self, process: int, event: dict[str, Any], *, platform: str = "shop") -> httpx.Response:
        url = f"{self._apis[process % 2].url}/v1/events"
        return await self._client.post(url, json=event, headers={"Authorization": f"Bearer {self.world.keys[platform]}"}, timeout=10)

    async def at_once(self, *events: dict[str, Any]) -> list[httpx.Response]:
        return await asyncio.gather(*(self.credit(n, event) for n, event in enumerate(events)))

    async def operate(self, process: int, path: str) -> None:
        response = await self._client.post(
            f"{self._apis[process].url}{path}", headers={"Authorization": f"Bearer {await self._operator()}"}
        )
        assert response.status_code == 200, response.text

    async def _operator(self) -> str:
        token = secrets.operator_token(token_bytes(secrets.RANDOM_BYTES))
        async with self.world.pool.acquire() as conn:
            email = f"{token[-8:].lower()}@example.com"
            made = await callers.insert_operator(conn, program=self.world.program, email=email, password_hash="none", role="campaigns")
            assert made is not None
            await callers.insert_operator_token(conn, token_hash=secrets.token_hash(token), operator=made.id, expires_at=None)
        return token


@pytest.fixture
async def twins(world: World, settings: Settings, tmp_path: Path) -> AsyncIterator[Twins]:
    async with programs(settings, tmp_path, apis=2) as (apis, _), httpx.AsyncClient() as client:
        yield Twins(world, client, apis)


async def test_a_campaign_changes_on_both_processes_at_once(twins: Twins) -> None:
    code = await twins.world.campaign()
    async with twins.world.pool.acquire() as conn:
        await campaigns.step(conn, code, "pause", program=twins.world.program, change=CHANGE)

    async def points(process: int) -> int:
        return int((await twins.credit(process, order_paid())).json()["points"])

    assert [await points(0), await points(1)] == [0, 0]
    for here in (0, 1, 0):
        await twins.operate(here, f"/v1/campaigns/{code}/activate")
        assert [await points(1 - here), await points(here)] == [10, 10], "the very next credit"
        await twins.operate(here, f"/v1/campaigns/{code}/pause")
        assert [await points(1 - here), await points(here)] == [0, 0]


async def test_first_sightings_at_the_same_moment(twins: Twins) -> None:
    world = twins.world
    await world.campaign()

    # The same event.
    for _ in range(5):
        event = order_paid("same-event")
        responses = await twins.at_once(*[event] * 8)
        assert sorted(r.status_code for r in responses) == [200] * 7 + [201]
        assert len({r.content for r in responses}) == 1, "everybody gets the one answer"

    # The same id with other content: one of them counts, whichever.
    event = order_paid("one-id")
    responses = await twins.at_once(*(event | {"consumer": f"rival-{n % 2}"} for n in range(8)))
    assert Counter(r.status_code for r in responses) == {201: 1, 200: 3, 409: 4}
    assert len(await world.rows("SELECT 1 FROM consumer_reference WHERE reference LIKE 'rival-%'")) == 1, "a refused one opens no account"

    # The same consumer, never seen before.
    responses = await twins.at_once(*(order_paid("new-consumer") for _ in range(16)))
    assert [r.status_code for r in responses] == [201] * 16
    assert sorted(r.json()["balance"]["version"] for r in responses) == list(range(1, 17)), "each change has its version"
    (row,) = await world.rows(
        "SELECT a.pending FROM account a JOIN consumer_reference r ON r.account = a.id WHERE reference = 'new-consumer'"
    )
    assert row["pending"] == 160

    # The same order under different event ids, for two consumers.
    for order in range(4):
        paid = order_paid(order=f"twice-{order}")
        responses = await twins.at_once(*(paid | {"id": f"{order}-{n}", "consumer": f"buyer-{n}"} for n in range(8)))
        assert sorted(r.json()["points"] for r in responses) == [0] * 7 + [10]
        assert Counter(r.json()["status"] for r in responses) == {"ignored": 7, "pending": 1}

    # An order, its refund, and the same refund under another id, in a race.
    for order in range(6):
        paid = order_paid(f"racer-{order}", quantity=5, order=f"race-{order}")
        back = refund(paid, "r", 2)
        responses = await twins.at_once(back, paid, back | {"id": f"{back['id']}-again"}, refund(paid, "r2", 1))
        assert [r.status_code for r in responses] == [201] * 4
        (row,) = await world.rows(
            "SELECT pending FROM account a JOIN consumer_reference r ON r.account = a.id WHERE reference = $1", f"racer-{order}"
        )
        assert row["pending"] == 20
    assert await world.rows("SELECT * FROM parked") == []


async def test_caps_and_budgets_are_exact_over_both_processes(twins: Twins) -> None:
    world = twins.world
    capped = await world.campaign(caps={"consumer_day": 35})
    budgeted = await world.campaign(when="true", award={"kind": "fixed", "points": 7}, budget={"points": 200, "per_day": 150})
    mine = await twins.at_once(*(order_paid("one") for _ in range(12)))
    others = await twins.at_once(*(order_paid(f"other-{n % 5}") for n in range(30)))
    awards = [award for r in (*mine, *others) for award in r.json()["awards"]]
    assert sum(a["points"] for r in mine for a in r.json()["awards"] if a["campaign"] == capped) == 35
    assert sum(a["points"] for a in awards if a["campaign"] == budgeted) == 150
    reasons = Counter((refused["campaign"], refused["code"]) for r in (*mine, *others) for refused in r.json()["refused"])
    assert set(reasons) == {(capped, "cap_reached"), (budgeted, "budget_exhausted")}
    rows = await world.rows("SELECT used FROM budget ORDER BY used")
    assert [row["used"] for row in rows] == [150, 150]

    # What is given back can be awarded again, once.
    paid = order_paid("one", quantity=3)
    full = await twins.credit(0, paid)
    assert full.json()["points"] == 0
    first = next(r.json() for r in others if sum(a["points"] for a in r.json()["awards"] if a["campaign"] == budgeted) == 7)
    back = {"id": "back", "type": "order.cancelled", "occurred_at": paid["occurred_at"], "order": {"id": first["id"].removesuffix(":paid")}}
    assert (await twins.credit(1, back)).json()["points"] <= -7
    again = await twins.at_once(*(order_paid(f"late-{n}") for n in range(6)))
    assert sum(a["points"] for r in again for a in r.json()["awards"] if a["campaign"] == budgeted) == 7

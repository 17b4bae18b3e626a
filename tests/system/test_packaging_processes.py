"""Packaging earns once, whatever process and platform it is reported to, and at the same moment."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from service.flows.check import check
from service.projection import Projection
from service.settings import Settings
from tests import books
from tests.servers import Program, programs
from tests.worlds import World, order_paid

BOX = "04012345555554987"
START = datetime.now(UTC) - timedelta(days=20)
PLATFORMS = ("shop", "market")
AT_ONCE = 40
"""Requests under way from here; more would wait for a connection."""


class Crowd:
    """API processes, called in turn."""

    def __init__(self, world: World, client: httpx.AsyncClient, apis: list[Program]) -> None:
        self.world = world
        self._client = client
        self._apis = apis

    async def report(self, process: int, platform: str, event: dict[str, Any]) -> dict[str, Any]:
        url = f"{self._apis[process % len(self._apis)].url}/v1/events"
        headers = {"Authorization": f"Bearer {self.world.keys[platform]}"}
        response = await self._client.post(url, json=event, headers=headers, timeout=30)
        assert response.status_code in {200, 201}, response.text  # 200: declared wrong before it came
        answer: dict[str, Any] = response.json()
        return answer

    async def at_once(self, reports: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
        return await asyncio.gather(*(self.report(n, platform, event) for n, (platform, event) in enumerate(reports)))

    async def sound(self, redis_url: str) -> None:
        async with self.world.pool.acquire() as connection:
            assert await books.faults(connection) == {}
        async with Redis.from_url(redis_url, socket_timeout=5) as redis:
            report = await check(self.world.pool, Projection(redis, epoch=1, ttl_s=600, wait_ms=1_000))
        # Without a worker nothing settles; the rest is for a quiet Redis.
        assert {i.name: i.broken for i in report.invariants if not i.ok and i.name not in {"deadlines", "redis"}} == {}


@pytest.fixture
async def crowd(world: World, settings: Settings, tmp_path: Path) -> AsyncIterator[Crowd]:
    await world.campaign(code="back", action="return", award={"kind": "per_unit", "points": 50})
    await world.campaign(code="pack", action="packaging", award={"kind": "per_unit", "points": 5})
    await world.campaign(code="act", action="activity", award={"kind": "fixed", "points": 9})
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with programs(settings, tmp_path, apis=3) as (apis, _), httpx.AsyncClient(limits=limits) as client:
        yield Crowd(world, client, apis)


def at(days: float) -> str:
    return (START + timedelta(days=days)).isoformat()


def sent(order: str, name: str, days: float, **packaging: Any) -> dict[str, Any]:
    return {"id": f"{order}:{name}", "type": "order.fulfilled", "occurred_at": at(days), "order": {"id": order}, "packaging": packaging}


def back(name: str, consumer: str, days: float, **item: Any) -> dict[str, Any]:
    return {"id": name, "type": "packaging.returned", "occurred_at": at(days), "consumer": consumer, "returns": [item]}


async def register(world: World, *keys: str) -> None:
    sql = "INSERT INTO asset (program, key, class) SELECT $1, unnest($2::text[]), 'circular_box'"
    await world.rows(sql, world.program, list(keys))


async def test_one_of_many_at_the_same_moment_earns(crowd: Crowd, redis_url: str) -> None:
    world = crowd.world
    await register(world, BOX)
    await crowd.report(0, "shop", order_paid("ann", order="o-1", occurred_at=at(0)))
    await crowd.report(1, "shop", sent("o-1", "sent", 1, **{"class": "circular_box"}, assets=[BOX]))

    # A hundred consumers with the same box.
    spellings = [BOX, f"(8003){BOX}", "urn:epc:id:grai:4012345.55555.987"]
    crowded = [(PLATFORMS[n % 2], back(f"b-{n}", f"c-{n}", 2, asset=spellings[n % 3])) for n in range(100)]
    answers = await crowd.at_once(crowded)
    assert Counter(a["points"] for a in answers) == {0: 99, 50: 1}
    assert Counter(a["status"] for a in answers) == {"parked": 99, "pending": 1}

    # The same device, traded in by forty.
    devices = ["IMEI 49-015420", "imei49015420", "I.M.E.I/49 015420"]
    trades = [
        (PLATFORMS[n % 2], {"id": f"t-{n}", "type": "activity.completed", "occurred_at": at(2), "consumer": f"c-{n}", "activity": "trade_in",
                            "evidence": {"serial": devices[n % 3]}})
        for n in range(40)
    ]  # fmt: skip
    assert Counter(a["points"] for a in await crowd.at_once(trades)) == {0: 39, 9: 1}

    # The same waybill, for the orders of thirty.
    orders = [(PLATFORMS[n % 2], order_paid(f"c-{n}", order=f"w-{n}", occurred_at=at(0))) for n in range(30)]
    await crowd.at_once(orders)
    waybills = ["SF 100-7", "sf1007", "S-F-1007"]
    parcels = [(PLATFORMS[n % 2], sent(f"w-{n}", "sent", 1, **{"class": "slim_tape"}, waybill=waybills[n % 3])) for n in range(30)]
    assert Counter(a["points"] for a in await crowd.at_once(parcels)) == {0: 29, 5: 1}

    # Three units sent to one consumer, given back twenty times.
    await crowd.report(0, "shop", order_paid("eve", order="s-1", occurred_at=at(0)))
    await crowd.report(1, "shop", sent("s-1", "sent", 1, **{"class": "paper_mailer"}, parcels=3))
    given = [("shop", back(f"g-{n}", "eve", 2, **{"class": "paper_mailer"})) for n in range(20)]
    assert Counter(a["points"] for a in await crowd.at_once(given)) == {0: 17, 50: 3}
    await crowd.sound(redis_url)


async def test_a_storm_over_ten_boxes_leaves_sound_books(crowd: Crowd, redis_url: str) -> None:
    world, chance = crowd.world, random.Random(20260301)
    boxes = [f"box{n}" for n in range(10)]
    await register(world, *boxes)
    reports: list[tuple[str, dict[str, Any]]] = []
    for n in range(60):
        platform = PLATFORMS[n % 2]
        order, days = f"s-{n}", chance.uniform(1, 9)
        event = sent(order, "sent", days, assets=chance.sample(boxes, chance.randint(1, 3)), waybill=f"SF-{n % 40}")
        reports += [(platform, order_paid(f"c-{n % 12}", order=order, occurred_at=at(0))), (platform, event)]
        if chance.random() < 0.3:
            reports.append((platform, wrong(event)))
    for n in range(140):
        event = back(f"r-{n}", f"c-{chance.randrange(12)}", chance.uniform(1, 10), asset=chance.choice(boxes))
        event["returns"] = [{"asset": box} for box in chance.sample(boxes, chance.randint(1, 2))]
        if chance.random() < 0.2:
            del event["consumer"]
        platform = PLATFORMS[n % 2]
        reports.append((platform, event))
        if chance.random() < 0.2:
            reports.append((platform, wrong(event)))
    chance.shuffle(reports)
    await crowd.at_once(reports)
    earned = await world.rows(
        """
        SELECT t.asset, t.shipped_event FROM trip t JOIN award a ON a.account = t.returned_account AND a.event = t.awarded_event
        AND a.item = t.awarded_item AND a.reversed < a.points GROUP BY 1, 2 HAVING count(*) > 1
        """
    )
    assert earned == []
    (counted,) = await world.rows(
        """
        SELECT (SELECT count(*) FROM trip WHERE awarded_event IS NOT NULL) AS trips,
               (SELECT count(*) FROM award a JOIN campaign c ON c.id = a.campaign WHERE c.action = 'return' AND reversed < points) AS awards
        """
    )
    assert counted["trips"] == counted["awards"] > 10
    await crowd.sound(redis_url)


def wrong(event: dict[str, Any]) -> dict[str, Any]:
    error = {"event": event["id"], "reason": "did_not_occur"}
    return {"id": f"{event['id']}:wrong", "type": "event.error_declared", "occurred_at": at(12), "error": error}

"""PostgreSQL stops, hangs and comes back: 503 within a second, nothing acknowledged lost, no restart of ours needed."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from litestar import Litestar
from redis.asyncio import Redis

from service.flows.migrate import migrate
from service.local import postgres
from service.local.identity import server_user
from service.local.ports import choose_port
from service.projection import Projection
from service.settings import Settings, load_settings
from tests.conftest import MASTER_KEY, PASSWORD, READY_TIMEOUT_S
from tests.load import Shoppers, clean
from tests.servers import programs, running, serving
from tests.worlds import World, order_paid

BOUND_S = 1.5
"""A second (CONTRACT §3.3), and what a busy test machine adds."""


class Server:
    """A PostgreSQL of this test's own, durable, that may be stopped, frozen and started again."""

    def __init__(self, folder: Path) -> None:
        self.port, user, cluster = choose_port(), server_user(), folder / "cluster"
        postgres.initialise(cluster, password=PASSWORD, user=user, durable=False)
        self._cluster = cluster
        self._log = folder / "postgres.log"
        self._command = postgres.command(cluster, port=self.port, user=user, durable=True)
        self._running: Any = None
        self._frozen: list[int] = []
        self.process: subprocess.Popen[bytes]

    def url(self, database: str = "postgres") -> str:
        return postgres.url(password=PASSWORD, port=self.port, database=database)

    async def start(self) -> None:
        self._running = running(self._command, self._log)
        self.process = self._running.__enter__()
        await postgres.wait_until_ready(self.url(), timeout_s=READY_TIMEOUT_S)

    def stop_immediately(self) -> None:
        """As `pg_ctl stop -m immediate`: no checkpoint, no good-bye; the next start recovers from the WAL."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(10)
        self._close()

    def freeze(self) -> None:
        """SIGSTOP the server with all its backends: connections stay open, nobody answers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        self._frozen = [self.process.pid, *map(int, children)]
        for pid in self._frozen:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._frozen:
            os.kill(pid, signal.SIGCONT)
        self._frozen = []

    def end(self) -> None:
        self.thaw()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(10)
        self._close()

    def _close(self) -> None:
        if self._running is not None:
            self._running.__exit__(None, None, None)
            self._running = None


@pytest.fixture
async def server(scratch: Path) -> AsyncIterator[Server]:
    folder = scratch / f"own-{choose_port()}"
    folder.mkdir(mode=0o711)
    made = Server(folder)
    await made.start()
    connection = await asyncpg.connect(made.url())
    await migrate(connection)
    await connection.close()
    yield made
    made.end()


@pytest.fixture
async def world(server: Server) -> AsyncIterator[World]:
    """Found in the server of this test; its own connections are made anew when they are lost."""
    pool = await asyncpg.create_pool(server.url(), min_size=0, max_size=2)
    yield await World(pool).found()
    await pool.close()


@pytest.fixture
def settings(server: Server, redis_url: str, queue_redis_url: str) -> Settings:
    urls = {"DATABASE_URL": server.url(), "BALANCE_REDIS_URL": redis_url, "QUEUE_REDIS_URL": queue_redis_url}
    return load_settings({f"GREENPOINTS_{name}": url for name, url in urls.items()} | {"GREENPOINTS_MASTER_KEY": MASTER_KEY})


class Caller:
    """Calls the application and measures."""

    def __init__(self, app: Litestar, client: httpx.AsyncClient, world: World) -> None:
        self.app = app
        self._client = client
        self._headers = {"Authorization": f"Bearer {world.keys['shop']}"}

    async def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self._client.request(method, path, json=body, headers=self._headers)

    async def refused(self, method: str, path: str, body: Any = None) -> None:
        """503 with Retry-After, and not late."""
        begun = time.monotonic()
        response = await self.call(method, path, body)
        took_s = time.monotonic() - begun
        assert response.status_code == 503, (method, path, response.text)
        assert response.json()["code"] == "unavailable"
        assert int(response.headers["Retry-After"]) >= 1
        assert took_s < BOUND_S, (method, path, took_s)

    async def recovered(self, consumer: str) -> None:
        """Credits and reads work again soon, without help."""
        end = time.monotonic() + 10
        while (response := await self.call("POST", "/v1/events", order_paid(consumer))).status_code == 503:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        assert response.status_code == 201
        assert (await self.call("GET", f"/v1/consumers/{consumer}/balance")).status_code == 200

    def waiting(self) -> int:
        lanes = self.app.state.lanes
        return int(lanes.single.waiting + lanes.bulk.waiting)


async def test_an_immediate_stop_under_load(world: World, settings: Settings, server: Server, redis_url: str, tmp_path: Path) -> None:
    await world.campaign(caps={"consumer_day": 10_000}, budget={"points": 10**9}, hold="P14D")
    async with serving(settings) as (app, client), programs(settings, tmp_path, apis=0, workers=1):
        caller = Caller(app, client, world)
        await caller.recovered("known")
        shoppers = Shoppers(world, client)
        async with shoppers.shopping(4) as journal:
            await asyncio.sleep(0.5)
            server.stop_immediately()
            await caller.refused("POST", "/v1/events", order_paid("new"))
            await caller.refused("POST", "/v1/events/batch", [order_paid("new"), order_paid("known")])
            await caller.refused("GET", "/v1/consumers/nobody-has-met/balance")
            await caller.refused("GET", "/v1/consumers/known/activity")
            assert (await caller.call("GET", "/readyz")).status_code == 503
            assert (await caller.call("GET", "/healthz")).status_code == 200
            assert (await caller.call("GET", "/v1/consumers/known/balance")).status_code == 200, "Redis knows it"
            await asyncio.gather(*(caller.refused("POST", "/v1/events", order_paid("crowd")) for _ in range(200)))
            assert caller.waiting() == 0, "nobody is kept waiting for a server that is not there"
            await server.start()
            await caller.recovered("after")
            await asyncio.sleep(0.3)
        assert len(journal.answers) > 20
        assert journal.troubles["503"] > 0
        await shoppers.verify()
        async with Redis.from_url(redis_url) as redis:
            await clean(world, Projection(redis, epoch=1, ttl_s=600, wait_ms=2_000))


async def test_a_server_that_hangs(world: World, settings: Settings, server: Server, redis_url: str) -> None:
    await world.campaign(hold="P14D")
    settings = msgspec.structs.replace(settings, queue_events=300)
    async with serving(settings) as (app, client):
        caller = Caller(app, client, world)
        await caller.recovered("known")
        events = [order_paid("hanging", order=f"h-{n}") for n in range(3)]
        server.freeze()
        try:
            await caller.refused("POST", "/v1/events", events[0])
            await asyncio.gather(
                caller.refused("POST", "/v1/events", events[1]),
                caller.refused("POST", "/v1/events", events[2]),
                caller.refused("GET", "/v1/consumers/nobody-has-met/balance"),
                caller.refused("GET", "/v1/consumers/known/activity"),
                caller.refused("GET", "/v1/events/whatever"),
            )
            answers = await asyncio.gather(*(caller.call("POST", "/v1/events", order_paid("crowd")) for _ in range(600)))
            assert {a.status_code for a in answers} == {503}
            assert {a.json()["code"] for a in answers} == {"unavailable", "overloaded"}, "the queue has an end"
            assert caller.waiting() <= settings.queue_events
            assert (await caller.call("GET", "/v1/consumers/known/balance")).status_code == 200, "Redis knows it"
        finally:
            server.thaw()
        await caller.recovered("after")
        for event in events:
            response = await caller.call("POST", "/v1/events", event)
            assert response.status_code in (200, 201), "committed or not, the sender cannot tell: repeating is safe"
        (row,) = await world.rows("SELECT count(*) AS n, sum(points) AS points FROM event WHERE order_id LIKE 'h-%'")
        assert (row["n"], row["points"]) == (3, 30)
        async with Redis.from_url(redis_url) as redis:
            await clean(world, Projection(redis, epoch=1, ttl_s=600, wait_ms=2_000))

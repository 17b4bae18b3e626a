"""Redis comes, goes, hangs and forgets: credits and reads go on within a bounded wait, balances converge by themselves."""

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from redis.asyncio import Redis

from schemas.events import Balance
from service.flows import balances
from service.flows.knowledge import Knowledge
from service.flows.mend import MARGIN, Mender
from service.local import valkey
from service.local.identity import server_user
from service.local.ports import choose_port
from service.projection import Projection
from service.settings import Settings
from tests.conftest import PASSWORD, READY_TIMEOUT_S
from tests.load import Shoppers, clean, settled
from tests.servers import programs, running, serving
from tests.worlds import World, order_paid

BOUND_S = 1.0
"""Far above the 50 ms that an answer waits for Redis, far below what a caller would call hanging."""


class Server:
    """A Valkey of this test's own, that may be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.port = choose_port()
        self._log = folder / "valkey.log"
        self._command = valkey.command(port=self.port, password=PASSWORD, user=server_user())
        self._running: Any = None
        self.process: subprocess.Popen[bytes]

    def url(self, db: int) -> str:
        return valkey.url(password=PASSWORD, port=self.port, db=db)

    async def start(self) -> None:
        self._running = running(self._command, self._log)
        self.process = self._running.__enter__()
        await valkey.wait_until_ready(self.url(0), timeout_s=READY_TIMEOUT_S)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
        self._running.__exit__(None, None, None)

    async def again(self) -> None:
        """Killed, and back with nothing in it."""
        self.process.kill()
        self.process.wait(10)
        self.end()
        await self.start()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    made = Server(tmp_path)
    await made.start()
    yield made
    made.end()


@pytest.fixture
async def projection(redis_url: str) -> AsyncIterator[Projection]:
    async with Redis.from_url(redis_url) as redis:
        yield Projection(redis, epoch=1, ttl_s=600, wait_ms=2_000)


async def read(client: httpx.AsyncClient, world: World, consumer: str, *, version: int = 0) -> dict[str, Any]:
    response = await client.get(
        f"/v1/consumers/{consumer}/balance?min_version={version}", headers={"Authorization": f"Bearer {world.keys['shop']}"}
    )
    assert response.status_code == 200, response.text
    balance: dict[str, Any] = response.json()
    assert balance["version"] >= version
    return balance


async def test_flushall_under_load_converges(world: World, settings: Settings, tmp_path: Path) -> None:
    await world.campaign()
    async with (
        serving(settings) as (_, client),
        programs(settings, tmp_path, apis=0, workers=1),
        Redis.from_url(settings.balance_redis_url) as redis,
    ):
        shoppers = Shoppers(world, client)
        async with shoppers.shopping(4) as journal:
            for _n in range(12):
                await asyncio.sleep(0.1)
                await redis.flushall()
                for answer in list(journal.answers.values())[-3:]:
                    consumer = journal.events[answer["id"]]["consumer"]
                    await read(client, world, consumer, version=answer["balance"]["version"])
        assert len(journal.answers) > 50
        assert journal.troubles == {}
        await shoppers.verify()
        await settled(world)
        projection = Projection(redis, epoch=1, ttl_s=600, wait_ms=2_000)
        await clean(world, projection)
        assert await held(world, projection) == await known(world), "Redis holds every balance again, at the newest version"
        for row in await world.rows(
            "SELECT r.reference, a.* FROM account a JOIN consumer_reference r ON r.bucket = a.bucket AND r.account = a.id"
        ):
            shown = await read(client, world, row["reference"])
            assert {name: shown[name] for name in ("pending", "available", "debt", "version")} == {
                n: row[n] for n in ("pending", "available", "debt", "version")
            }


async def known(world: World) -> dict[int, int]:
    return {row["id"]: row["version"] for row in await world.rows("SELECT id, version FROM account WHERE version > 0")}


async def held(world: World, projection: Projection) -> dict[int, int]:
    found = {account: await projection.read(account) for account in await known(world)}
    return {account: value.version for account, value in found.items() if value is not None}


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_without_the_balance_redis_credits_and_reads_go_on(
    world: World, settings: Settings, server: Server, tmp_path: Path, how: str
) -> None:
    await world.campaign(hold="P14D")
    settings = msgspec.structs.replace(settings, balance_redis_url=server.url(0))
    async with serving(settings) as (_, client), programs(settings, tmp_path, apis=0, workers=1):
        shoppers = Shoppers(world, client)
        await shoppers.report(order_paid("early", order="run-0"))
        await read(client, world, "early")
        if how == "stopped":
            server.process.send_signal(signal.SIGSTOP)
        else:
            server.process.kill()
            server.process.wait(10)
        waits = []
        for n in range(12):
            begun = time.monotonic()
            answer = await shoppers.report(order_paid("early", order=f"run-{n + 1}"))
            shown = await read(client, world, "early")
            waits.append(time.monotonic() - begun)
            assert shown["version"] == answer["balance"]["version"], "the credit is shown at once, from PostgreSQL"
            assert shown["pending"] == 10 * (n + 2)
        assert max(waits) < BOUND_S, waits
        assert sorted(waits)[6] < BOUND_S / 4, "most do not wait for Redis at all"
        if how == "stopped":
            server.process.send_signal(signal.SIGCONT)
        else:
            await server.again()
        async with Redis.from_url(server.url(0)) as redis:
            projection = Projection(redis, epoch=1, ttl_s=600, wait_ms=2_000)
            end = time.monotonic() + 12
            while await held(world, projection) != await known(world):
                assert time.monotonic() < end, "the sweep of a worker catches up"
                await asyncio.sleep(0.1)
            await clean(world, projection)
        assert (await read(client, world, "early"))["pending"] == 130


async def test_without_the_queue_redis_holds_end_by_timers(world: World, settings: Settings, server: Server, tmp_path: Path) -> None:
    await world.campaign()
    settings = msgspec.structs.replace(settings, queue_redis_url=server.url(1))
    async with serving(settings) as (_, client), programs(settings, tmp_path, apis=0, workers=1):
        shoppers = Shoppers(world, client)
        await shoppers.report(order_paid("c", order="run-a"))
        await settled(world)
        server.process.kill()
        server.process.wait(10)
        begun = time.monotonic()
        for n in range(5):
            await shoppers.report(order_paid("c", order=f"run-b-{n}"))
        assert time.monotonic() - begun < BOUND_S, "nobody waits for the doorbell"
        await settled(world, timeout_s=10)
        assert (await read(client, world, "c", version=1))["available"] == 60
        await server.again()
        await shoppers.report(order_paid("c", order="run-c"))
        await settled(world, timeout_s=10)


async def test_an_old_value_never_replaces_a_newer_one(world: World, projection: Projection) -> None:
    """The fence itself: written twice, late and out of order, the newest stays."""
    newest = Balance(pending=30, version=3)
    for version in (2, 3, 1, 3, 2):
        assert await projection.push([(7, Balance(pending=10 * version, version=version))])
    value = await projection.read(7)
    assert value is not None
    assert msgspec.json.decode(b"{" + value.body + b"}", type=Balance) == newest
    assert await projection.fill(7, 2, b'"pending":20,"version":2')
    value = await projection.read(7)
    assert value is not None
    assert (value.version, value.detailed) == (3, False)


async def test_a_paused_writer_that_plants_an_old_balance_is_mended(world: World, projection: Projection) -> None:
    """It committed, was stopped before it pushed, slept through a FLUSHALL, and wakes up."""
    await world.campaign(hold="P14D")
    first = await world.credit(order_paid("c"))
    second = await world.credit(order_paid("c"))
    account = (await world.rows("SELECT id FROM account"))[0]["id"]
    body = await balances.balance_body(world.pool, projection, account, 0)
    assert msgspec.json.decode(b"{" + body + b"}")["version"] == 2
    await projection.redis.flushall()
    old = msgspec.convert(first["balance"], Balance)
    assert await projection.push([(account, old)])
    assert await projection.fill(account, 1, msgspec.json.encode(old)[1:-1]), "a paused reader does the same, with details"
    stale = await projection.read(account)
    assert stale is not None
    assert stale.version == 1, "nothing in Redis could know better"
    fresh = await balances.balance_body(world.pool, projection, account, second["balance"]["version"])
    assert msgspec.json.decode(b"{" + fresh + b"}")["pending"] == 20, "min_version never is behind"
    await projection.redis.flushall()
    assert await projection.fill(account, 1, msgspec.json.encode(old)[1:-1])
    assert await Mender(world.pool, projection, ttl_s=600).sweep() == 1
    body = await balances.balance_body(world.pool, projection, await account_of(world, projection), 0)
    assert msgspec.json.decode(b"{" + body + b"}")["pending"] == 20


async def test_a_sweep_looks_back_once_redis_has_forgotten_and_not_before(world: World, projection: Projection) -> None:
    await world.campaign(hold="P14D")
    await world.credit(order_paid("c"))
    mender = Mender(world.pool, projection, ttl_s=600)
    assert await mender.sweep() == 1
    await asyncio.sleep(MARGIN.total_seconds() + 0.1)
    await mender.sweep()
    assert await mender.sweep() == 0, "what was pushed is not pushed again"
    await projection.redis.flushall()
    account = (await world.rows("SELECT id FROM account"))[0]["id"]
    assert await projection.push([(account, Balance(version=0))]), "a writer that was paused"
    assert await mender.sweep() == 1
    assert await mender.sweep() == 1, "for a while: it may come later"
    value = await projection.read(account)
    assert value is not None
    assert value.version == 1


async def test_a_sweep_waits_for_a_transaction_that_began_before_it(world: World, projection: Projection) -> None:
    await world.campaign(hold="P14D")
    mender = Mender(world.pool, projection, ttl_s=600)
    async with world.pool.acquire() as slow, slow.transaction():
        await slow.execute("INSERT INTO account (bucket, id, program) VALUES (7, 7, 1)")
        await asyncio.sleep(MARGIN.total_seconds() + 0.1)
        await mender.sweep()
        await slow.execute(
            "INSERT INTO entry (bucket, account, seq, transfer, kind, book, amount, program, platform, campaign, event, award, n, version, at) "
            "VALUES (7, 7, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, now())"
        )
    assert await mender.sweep() == 1, "stamped before the first sweep, seen only after it"


async def account_of(world: World, projection: Projection) -> int:
    account = await balances.account_of(world.pool, Knowledge(), world.platforms["shop"].platform, "c")
    assert account is not None
    return account

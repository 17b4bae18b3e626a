"""`/readyz` says why not, by a stable code: with real servers that go away and come back."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from litestar import Litestar

from service.api import readiness
from service.flows import checked
from service.flows.checked import Checked
from service.flows.migrate import migrate
from service.local.ports import choose_port
from service.settings import Settings
from service.store.vitals import WORKER_NAME
from tests.servers import Program, programs, serving
from tests.system.test_postgres import Server as Postgres
from tests.system.test_redis import Server as Valkey
from tests.worlds import World, order_paid


@pytest.fixture
async def postgres(scratch: Path) -> AsyncIterator[Postgres]:
    folder = scratch / f"readiness-{choose_port()}"
    folder.mkdir(mode=0o711)
    made = Postgres(folder)
    await made.start()
    connection = await asyncpg.connect(made.url())
    await migrate(connection)
    await connection.close()
    yield made
    made.end()


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    made = Valkey(tmp_path)
    await made.start()
    yield made
    made.end()


async def ready(client: httpx.AsyncClient) -> tuple[int, dict[str, str], dict[str, Any]]:
    """The status, code → level of all that was found, and the whole answer."""
    response = await client.get("/readyz")
    answer = response.json()
    found = {each["code"]: each["level"] for each in answer["checks"]}
    for level, words in (("reason", answer["reasons"]), ("note", answer["notes"])):
        assert words == [each["detail"] for each in answer["checks"] if each["level"] == level]
    assert (response.status_code, answer["status"]) == ((503, "not ready") if answer["reasons"] else (200, "ready"))
    assert ("retry-after" in response.headers) == bool(answer["reasons"])
    return response.status_code, found, answer


async def until(client: httpx.AsyncClient, status: int) -> dict[str, str]:
    end = time.monotonic() + 15
    while True:
        answered, found, _ = await ready(client)
        if answered == status:
            return found
        assert time.monotonic() < end, found


async def test_all_is_well(client: httpx.AsyncClient) -> None:
    assert (await client.get("/readyz")).json() == {"status": "ready", "reasons": [], "notes": [], "checks": []}


async def test_postgresql_goes_hangs_and_comes_back(settings: Settings, postgres: Postgres) -> None:
    settings = msgspec.structs.replace(settings, database_url=postgres.url(), redis_wait_ms=2_000)  # a busy machine hesitates for 100 ms
    async with serving(settings) as (_, client):
        assert (await ready(client))[:2] == (200, {})
        postgres.stop_immediately()
        assert (await ready(client))[:2] == (503, {"postgresql_unreachable": "reason"})
        await postgres.start()
        assert await until(client, 200) == {}
        postgres.freeze()
        assert (await ready(client))[:2] == (503, {"postgresql_unreachable": "reason"})
        postgres.thaw()
        assert await until(client, 200) == {}


async def test_a_commit_that_hangs_makes_the_lane_stuck(app: Litestar, client: httpx.AsyncClient, world: World) -> None:
    await world.campaign()
    headers = {"Authorization": f"Bearer {world.keys['shop']}"}
    assert (await client.post("/v1/events", json=order_paid("c-1"), headers=headers)).status_code == 201
    async with world.pool.acquire() as blocker:
        async with blocker.transaction():
            await blocker.execute("SELECT FROM account FOR UPDATE")
            credit = asyncio.create_task(client.post("/v1/events", json=order_paid("c-1"), headers=headers))
            assert await until(client, 503) == {"single_lane_stuck": "reason"}
        assert (await credit).status_code == 503
    assert await until(client, 200) == {}


async def test_a_database_without_migrations(settings: Settings, empty_database: str) -> None:
    settings = msgspec.structs.replace(settings, database_url=empty_database)
    async with serving(settings) as (_, client):
        assert (await ready(client))[:2] == (503, {"migrations_missing": "reason"})
        connection = await asyncpg.connect(empty_database)
        try:
            await migrate(connection)
            assert await until(client, 200) == {}
            await connection.execute("DELETE FROM schema_migration WHERE name LIKE '0002%'")
            _, found, answer = await ready(client)
            assert found == {"migrations_missing": "reason"}
            assert "0002" in answer["reasons"][0]
        finally:
            await connection.close()


async def test_a_newer_database_is_a_note_since_a_release_migrates_first(client: httpx.AsyncClient, world: World) -> None:
    await world.rows("INSERT INTO schema_migration (name, sha256) VALUES ('9999_of_tomorrow.sql', '')")
    assert (await ready(client))[:2] == (200, {"migrations_newer": "note"})


async def test_the_hash_key_must_have_been_read(app: Litestar, client: httpx.AsyncClient, world: World) -> None:
    async with world.pool.acquire() as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE deployment")
        app.state.resources.hash_key = b""
        assert (await ready(client))[:2] == (503, {"not_synced": "reason"})
    assert (await ready(client))[:2] == (200, {}), "asking reads it"


async def test_a_lost_redis_is_a_note(settings: Settings, valkey: Valkey) -> None:
    settings = msgspec.structs.replace(settings, balance_redis_url=valkey.url(0), queue_redis_url=valkey.url(1))
    both = {"balance_redis_unreachable": "note", "queue_redis_unreachable": "note"}
    async with serving(settings) as (_, client):
        assert (await ready(client))[:2] == (200, {})
        valkey.process.send_signal(signal.SIGSTOP)
        assert (await ready(client))[:2] == (200, both)
        valkey.process.send_signal(signal.SIGCONT)
        end = time.monotonic() + 10
        while (await ready(client))[1] != {}:
            assert time.monotonic() < end
        valkey.process.kill()
        valkey.process.wait(10)
        assert (await ready(client))[:2] == (200, both)


async def test_a_missing_worker_is_a_note_until_one_is_connected(app: Litestar, client: httpx.AsyncClient, database: str) -> None:
    assert (await ready(client))[1] == {}, "it may still be on its way"
    app.state.readiness.worker_seen_at -= readiness.WORKER_PATIENCE_S
    assert (await ready(client))[:2] == (200, {"worker_missing": "note"})
    connection = await asyncpg.connect(database, server_settings={"application_name": WORKER_NAME})
    assert (await ready(client))[1] == {}
    await connection.close()


async def test_a_worker_is_recognised(settings: Settings, tmp_path: Path) -> None:
    async with serving(settings) as (app, client), programs(settings, tmp_path, apis=0, workers=1):
        end = time.monotonic() + 15
        app.state.readiness.worker_seen_at -= 1_000
        while "worker_missing" in (await ready(client))[1]:
            assert time.monotonic() < end


async def test_late_settling_is_a_note(app: Litestar, client: httpx.AsyncClient, world: World) -> None:
    await world.campaign()
    await world.credit(order_paid("c-1"))
    await world.rows("UPDATE due SET due_at = now() - interval '59 s'")
    assert (await ready(client))[1] == {}
    await world.rows("UPDATE due SET due_at = now() - interval '61 s'")
    _, found, answer = await ready(client)
    assert found == {"settlement_late": "note"}
    assert "61 s late" in answer["notes"][0]


async def test_broken_invariants_and_an_old_check_are_notes(app: Litestar, client: httpx.AsyncClient) -> None:
    resources = app.state.resources
    now = resources.clock.now()
    await checked.remember(resources.projection, Checked(at=now, took_s=0.1, broken={"lots": 2}))
    _, found, answer = await ready(client)
    assert (found, answer["notes"]) == ({"invariants_broken": "note"}, ["the last check found broken: lots"])
    interval_s = resources.settings.check_interval_s
    old = now - timedelta(seconds=readiness.CHECK_PATIENCE * interval_s + 5)
    await checked.remember(resources.projection, Checked(at=old, took_s=0.1, broken={}))
    assert (await ready(client))[1] == {}, "this process has not been there for long enough to say so"
    app.state.readiness.started_at -= readiness.CHECK_PATIENCE * interval_s
    assert (await ready(client))[1] == {"invariant_check_old": "note"}
    await checked.remember(resources.projection, Checked(at=now, took_s=0.1, broken={}))
    assert (await ready(client))[1] == {}


async def test_a_process_that_stops_is_not_ready_before_it_is_deaf(settings: Settings, world: World, tmp_path: Path) -> None:
    await world.campaign()
    headers = {"Authorization": f"Bearer {world.keys['shop']}"}
    program = Program("service.api", settings, tmp_path / "api.log")
    program._environ["GREENPOINTS_STOP_DELAY_S"] = "5"
    await program.start()
    try:
        async with httpx.AsyncClient(base_url=program.url) as client:
            assert (await ready(client))[:2] == (200, {})
            assert program._process is not None
            program._process.send_signal(signal.SIGTERM)
            assert (await until(client, 503)) == {"stopping": "reason"}
            assert (await client.post("/v1/events", json=order_paid("c-1"), headers=headers)).status_code == 201, "it still serves"
            program._process.send_signal(signal.SIGTERM)
            assert program._process.wait(4) == 0, "the second signal does not wait"
    finally:
        program.end()

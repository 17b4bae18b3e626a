"""Secrets at rest: sealed when written, opened in one place, and the master key rotated while hooks come in."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from structlog.testing import capture_logs

from service.api.app import create_app
from service.cli import run
from service.flows import administer, master_key
from service.sealing import MARK, Sealer, Unsealable, new_master_key
from service.settings import Settings
from service.store import sealed
from service.store.sealed import SEALED, SealedColumn
from tests.sealer import MASTER_KEY, SEALER

Connection = asyncpg.Connection


@asynccontextmanager
async def process(settings: Settings, *keys: str) -> AsyncIterator[httpx.AsyncClient]:
    """A serving process of its own with these master keys, newest first."""
    app = create_app(msgspec.structs.replace(settings, master_key=",".join(keys)))
    async with app.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        client.callers = app.state.callers  # type: ignore[attr-defined]
        yield client


class Shop:
    """A program with one platform, its standard hook, and deliveries signed for it."""

    def __init__(self, hook: str, secret: str, admin: str) -> None:
        self.hook, self.secret, self.admin = hook, secret, admin
        self.sent = 0

    async def deliver(self, client: httpx.AsyncClient, secret: str | None = None) -> int:
        self.sent += 1
        event = {
            "id": f"e-{self.sent}",
            "type": "activity.completed",
            "occurred_at": "2025-07-01T09:00:00Z",
            "consumer": "c",
            "activity": "refill",
        }
        body = json.dumps({"type": event["type"], "timestamp": event["occurred_at"], "data": event}).encode()
        key, now = base64.b64decode((secret or self.secret).removeprefix("whsec_")), str(int(time.time()))
        signature = base64.b64encode(hmac.digest(key, f"m.{now}.".encode() + body, hashlib.sha256)).decode()
        headers = {"webhook-id": "m", "webhook-timestamp": now, "webhook-signature": f"v1,{signature}"}
        return (await client.post(f"/v1/hooks/{self.hook}", content=body, headers=headers)).status_code

    async def patch(self, client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.admin}"}
        return await client.patch(f"/v1/platforms/shop/hooks/{self.hook}", json=changes, headers=headers)


@pytest.fixture
async def shop(connection: "Connection[asyncpg.Record]") -> Shop:
    program = await administer.create_program(connection, code="p", name="P", currency="leaf", time_zone="UTC")
    made = await administer.create_platform(connection, sealer=SEALER, program=program.id, code="shop", name="Shop")
    admin = await administer.create_operator(connection, email="a@example.com", role="admin", program=program.id)
    hook = made.hooks["standard"]
    return Shop(hook.id, hook.secret, admin.token)


def under(sealer: Sealer, states: list[master_key.ColumnStatus]) -> dict[str, int]:
    """All columns together."""
    return {name: sum(getattr(state, name) for state in states) for name in ("newest", "older", "plain", "unopenable")}


async def stored(conn: "Connection[asyncpg.Record]") -> list[str]:
    """Every secret, as PostgreSQL has it."""
    rows = await conn.fetch(
        "SELECT unnest(secrets) AS value FROM hook UNION ALL SELECT private_pem FROM signing_key WHERE private_pem IS NOT NULL"
    )
    return [row["value"] for row in rows]


# Written and read


async def test_whatever_writes_a_secret_seals_it(shop: Shop, settings: Settings, connection: "Connection[asyncpg.Record]") -> None:
    async with process(settings, MASTER_KEY) as client:
        headers = {"Authorization": f"Bearer {shop.admin}"}
        made = await client.post("/v1/platforms", json={"code": "second", "name": "Second"}, headers=headers)
        assert made.status_code == 201
        hook = await client.post("/v1/platforms/shop/hooks", json={"connector": "shopify"}, headers=headers)
        own = await client.post(
            "/v1/platforms/shop/hooks", json={"connector": "shopify", "secret": "a-secret-that-shopify-made"}, headers=headers
        )
        assert (await shop.patch(client, secrets=[shop.secret, "whsec_" + base64.b64encode(bytes(32)).decode()])).status_code == 200
        assert await shop.deliver(client) == 200
    shown = [hook.json()["secret"], own.json()["secret"], *(each["secret"] for each in made.json()["hooks"].values()), shop.secret]
    kept = await stored(connection)
    assert all(value.startswith(MARK) for value in kept)
    assert {SEALER.open(value) for value in kept} >= set(shown)
    assert "PRIVATE KEY" not in "".join(kept)
    token = await administer.consumer_token(connection, sealer=SEALER, platform="shop", consumer="c", ttl=timedelta(hours=1))
    assert token.count(".") == 2


async def test_every_sealed_column_is_gone_through_and_every_column_that_looks_secret_is_known(
    connection: "Connection[asyncpg.Record]",
) -> None:
    for column in SEALED:
        for first, unmarked, lock in ((a, b, c) for a in (True, False) for b in (True, False) for c in (True, False)):
            await connection.prepare(sealed.page_statement(column, first=first, unmarked=unmarked, lock=lock))
        await connection.prepare(sealed.write_statement(column))
    found = await connection.fetch(
        "SELECT table_name || '.' || column_name AS name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND column_name ~ 'secret|private|password|token|sealed'"
    )
    hashed = {"operator.password_hash"}
    no_secrets = {"lease.token", "seal.sealed_at"}  # a fencing number, a time
    assert {row["name"] for row in found} - hashed - no_secrets == {column.name for column in SEALED}


# Rotation


async def test_what_an_older_release_left_plain_works_and_is_sealed(
    shop: Shop, settings: Settings, connection: "Connection[asyncpg.Record]"
) -> None:
    await connection.execute("UPDATE hook SET secrets = ARRAY[$1]", shop.secret)
    pem = SEALER.open(await connection.fetchval("SELECT private_pem FROM signing_key"))
    await connection.execute("UPDATE signing_key SET private_pem = $1", pem)
    assert under(SEALER, await master_key.status(connection, SEALER)) == {"newest": 0, "older": 0, "plain": 4, "unopenable": 0}
    async with process(settings, MASTER_KEY) as client:
        assert await shop.deliver(client) == 200
        await administer.consumer_token(connection, sealer=SEALER, platform="shop", consumer="c", ttl=timedelta(hours=1))
        assert await master_key.reseal(connection, SEALER, only_plain=True) == master_key.Resealed(sealed=4, unopenable=0)
        client.callers.forget()  # type: ignore[attr-defined]
        assert await shop.deliver(client) == 200
    assert all(value.startswith(MARK) for value in await stored(connection))
    await administer.consumer_token(connection, sealer=SEALER, platform="shop", consumer="c", ttl=timedelta(hours=1))
    before = await stored(connection)
    assert (await master_key.reseal(connection, SEALER)).sealed == 0
    assert await stored(connection) == before


async def test_the_master_key_is_rotated_while_hooks_come_in(
    shop: Shop, settings: Settings, connection: "Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(master_key, "PAGE_ROWS", 1)
    old, new = MASTER_KEY, new_master_key()
    both = Sealer([new, old])
    done = asyncio.Event()
    statuses: list[int] = []

    async def traffic(client: httpx.AsyncClient) -> None:
        while not done.is_set() or len(statuses) < 20:
            client.callers.forget()  # type: ignore[attr-defined]  # read from PostgreSQL each time
            statuses.append(await shop.deliver(client))

    async with process(settings, new, old) as one, process(settings, new, old) as two:
        sending = [asyncio.create_task(traffic(client)) for client in (one, two)]
        assert await master_key.reseal(connection, both) == master_key.Resealed(sealed=4, unopenable=0)
        # What is written meanwhile is under the newest key, too.
        assert (await shop.patch(one, secrets=[shop.secret])).status_code == 200
        done.set()
        await asyncio.gather(*sending)
    assert set(statuses) == {200}
    assert under(both, await master_key.status(connection, both)) == {"newest": 4, "older": 0, "plain": 0, "unopenable": 0}
    async with process(settings, new) as only_new:
        assert await shop.deliver(only_new) == 200
    async with process(settings, old) as only_old:
        with capture_logs() as lines:
            assert await shop.deliver(only_old) == 503  # the sender tries again
        assert any("no master key opens" in line["event"] for line in lines)
        assert shop.secret not in json.dumps(lines)


async def test_a_rotation_that_was_broken_off_goes_on_where_it_was(
    shop: Shop, connection: "Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(master_key, "PAGE_ROWS", 1)
    both = Sealer([new_master_key(), MASTER_KEY])

    def stop_at(done: int, _of: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await master_key.reseal(connection, both, progress=stop_at)
    assert under(both, await master_key.status(connection, both)) == {"newest": 2, "older": 2, "plain": 0, "unopenable": 0}
    told: list[tuple[int, int]] = []
    assert (await master_key.reseal(connection, both, progress=lambda done, of: told.append((done, of)))).sealed == 2
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


async def test_what_cannot_be_opened_stays_as_it_is_and_stops_nothing(shop: Shop, connection: "Connection[asyncpg.Record]") -> None:
    foreign = Sealer([new_master_key()]).seal(shop.secret)
    await connection.execute("UPDATE hook SET secrets = ARRAY[$1] WHERE id = $2", foreign, shop.hook)
    both = Sealer([new_master_key(), MASTER_KEY])
    assert await master_key.reseal(connection, both) == master_key.Resealed(sealed=3, unopenable=1)
    assert await connection.fetchval("SELECT secrets[1] FROM hook WHERE id = $1", shop.hook) == foreign
    assert under(both, await master_key.status(connection, both)) == {"newest": 3, "older": 0, "plain": 0, "unopenable": 1}


async def test_a_hook_whose_secret_is_lost_gets_a_new_one(shop: Shop, settings: Settings) -> None:
    async with process(settings, new_master_key()) as client:
        assert await shop.deliver(client) == 503
        fresh = "whsec_" + base64.b64encode(bytes(range(32))).decode()
        assert (await shop.patch(client, secrets=[fresh])).status_code == 200
        await client.callers.refresh()  # type: ignore[attr-defined]
        assert await shop.deliver(client, fresh) == 200


async def test_a_row_that_somebody_changes_meanwhile_keeps_the_change(
    shop: Shop, connection: "Connection[asyncpg.Record]", database: str
) -> None:
    both = Sealer([new_master_key(), MASTER_KEY])
    other = await asyncpg.connect(database)
    try:
        change = other.transaction()
        await change.start()
        await other.execute("UPDATE hook SET secrets = ARRAY[$1] WHERE id = $2", SEALER.seal("changed-meanwhile"), shop.hook)
        rotation = asyncio.create_task(master_key.reseal(connection, both))
        async with asyncio.timeout(10):
            while not await other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
                await asyncio.sleep(0.01)
        await change.commit()
        await rotation
    finally:
        await other.close()
    assert both.open(await connection.fetchval("SELECT secrets[1] FROM hook WHERE id = $1", shop.hook)) == "changed-meanwhile"


@pytest.mark.parametrize(("kind", "type_"), [("text", "text"), ("texts", "text[]"), ("bytes", "bytea")])
async def test_a_column_of_each_kind_under_a_key_of_two_columns(
    kind: Any, type_: str, connection: "Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    await connection.execute(f"CREATE TABLE kept (bucket smallint, id bigint, body {type_}, PRIMARY KEY (bucket, id))")
    column = SealedColumn(table="kept", key=("bucket", "id"), column="body", kind=kind)
    monkeypatch.setattr(master_key, "SEALED", (column,))
    monkeypatch.setattr(master_key, "PAGE_ROWS", 2)

    def value(text: str) -> Any:
        return {"text": text, "texts": [text, text], "bytes": text.encode()}[kind]

    newest = Sealer([new_master_key(), MASTER_KEY])
    rows = [(b, i, value(f"{b}-{i}" if i % 2 else SEALER.seal(f"{b}-{i}"))) for b in range(3) for i in range(3)] + [(9, 9, None)]
    await connection.executemany("INSERT INTO kept VALUES ($1, $2, $3)", rows)
    each = 2 if kind == "texts" else 1
    assert (await master_key.reseal(connection, SEALER, only_plain=True)).sealed == 3 * each
    assert (await master_key.reseal(connection, newest)).sealed == 9 * each
    for row in await connection.fetch("SELECT * FROM kept WHERE body IS NOT NULL"):
        first = row["body"][0] if kind == "texts" else row["body"]
        text = first.decode() if isinstance(first, bytes) else first
        assert newest.is_current(text)
        assert newest.open(text) == f"{row['bucket']}-{row['id']}"
    assert await connection.fetchval("SELECT body IS NULL FROM kept WHERE id = 9")
    if kind == "bytes":
        await connection.execute("UPDATE kept SET body = '\\xff00fe'::bytea WHERE bucket = 0 AND id = 0")
        assert (await master_key.reseal(connection, newest, only_plain=True)).sealed == 1
        assert (
            newest.open_bytes((await connection.fetchval("SELECT body FROM kept WHERE bucket = 0 AND id = 0")).decode()) == b"\xff\x00\xfe"
        )


# Secrets of hooks


async def test_a_hook_s_secret_is_rotated_while_deliveries_come_in(shop: Shop, settings: Settings) -> None:
    old, new = shop.secret, "whsec_" + base64.b64encode(bytes(range(32))).decode()
    async with process(settings, MASTER_KEY) as one, process(settings, MASTER_KEY) as two:
        processes: list[Any] = [one, two]

        async def all_answer(secret: str) -> set[int]:
            return {await shop.deliver(client, secret) for client in processes}

        assert (await all_answer(old), await all_answer(new)) == ({200}, {401})
        assert (await shop.patch(one, secrets=[new, old])).status_code == 200
        for client in processes:
            await client.callers.refresh()  # what the background does every 2 s
        assert (await all_answer(old), await all_answer(new)) == ({200}, {200})
        done = asyncio.Event()
        statuses: list[int] = []

        async def traffic(client: httpx.AsyncClient) -> None:
            while not done.is_set() or len(statuses) < 10:
                statuses.append(await shop.deliver(client, new))

        sending = [asyncio.create_task(traffic(client)) for client in processes]
        assert (await shop.patch(two, secrets=[new])).status_code == 200
        for client in processes:
            await client.callers.refresh()
        done.set()
        await asyncio.gather(*sending)
        assert set(statuses) == {200}
        assert (await all_answer(old), await all_answer(new)) == ({401}, {200})


# The command line


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a command with these master keys, in a thread, because it has a loop of its own."""
    for name in ("database_url", "balance_redis_url", "queue_redis_url"):
        monkeypatch.setenv(f"GREENPOINTS_{name.upper()}", getattr(settings, name))

    async def call(*words: str, keys: tuple[str, ...] = (MASTER_KEY,)) -> int:
        monkeypatch.setenv("GREENPOINTS_MASTER_KEY", ",".join(keys))
        return await asyncio.to_thread(run, list(words))

    return call


async def test_the_master_key_is_rotated_by_three_commands(
    shop: Shop, command: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert await command("keys", "new-master") == 0
    new = capsys.readouterr().out.strip()
    keys = (new, MASTER_KEY)
    assert await command("keys", "status", keys=keys) == 0
    assert "hook.secrets: 0 under the newest key, 3 under an older one, 0 plain, 0 that no key opens\n" in capsys.readouterr().out
    assert await command("keys", "rotate-master", keys=keys) == 0
    out, err = capsys.readouterr()
    assert out == "sealed 4 values with the newest master key\n"
    assert "4 of 4 rows" in err
    assert await command("keys", "rotate-master", keys=keys) == 0
    assert capsys.readouterr().out == "sealed 0 values with the newest master key\n"
    assert await command("keys", "status", "--json", keys=(new,)) == 0
    assert json.loads(capsys.readouterr().out)[0] == {"column": "hook.secrets", "newest": 3, "older": 0, "plain": 0, "unopenable": 0}
    assert await command("token", "--platform", "shop", "--consumer", "c", keys=(new,)) == 0
    capsys.readouterr()
    for words, said in ((("keys", "status"), "3 that no key opens"), (("keys", "rotate-master"), "4 values cannot be opened")):
        assert await command(*words) == 1
        out, err = capsys.readouterr()
        assert said in out + err
    assert await command("token", "--platform", "shop", "--consumer", "c") == 1
    assert "GREENPOINTS_MASTER_KEY" in capsys.readouterr().err


async def test_only_the_wrong_key_is_a_clear_error(shop: Shop, connection: "Connection[asyncpg.Record]") -> None:
    with pytest.raises(Unsealable, match="no master key opens"):
        await administer.consumer_token(
            connection, sealer=Sealer([new_master_key()]), platform="shop", consumer="c", ttl=timedelta(hours=1)
        )

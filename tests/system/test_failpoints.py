"""A process ends at each failpoint; the next one goes on, the caller repeats, and everything has happened exactly once.

`SCENARIOS` names, for each way to reach failpoints, which ones it reaches. A name of service/failpoints.py that stands in none fails.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from secrets import token_bytes
from typing import Any

import httpx
import pytest
from msgspec import Struct
from redis.asyncio import Redis

from schemas.bounds import MAX_BALANCE
from service import failpoints
from service.domain import secrets
from service.flows import erase
from service.flows.administer import Change
from service.flows.settle import settle_due
from service.projection import Projection
from service.settings import Settings
from service.store import callers
from tests import books
from tests.forked import Forked
from tests.load import clean
from tests.worlds import World, now, order_paid, refund

BY_SHOP = Change(actor="platform:shop")
GIVE_UP_S = 20.0
WATCH_S = 0.02

AFTER_COMMIT = {"receive.committed", "receive.pushed", "declare.committed", "openings.committed", "erase.committed"}
"""Whoever repeats then is told what came of the first time."""

_numbers = itertools.count(1)


class Sent(Struct, frozen=True, kw_only=True):
    """A request, and the answers that a caller may get who repeats it after its first sender heard nothing."""

    path: str
    json: Any = None
    method: str = "POST"
    token: str
    statuses: Sequence[int] = (200, 201)


class Stage:
    """A small world on a real PostgreSQL and Valkey; processes come and go."""

    def __init__(self, world: World, settings: Settings, projection: Projection, client: httpx.AsyncClient, folder: Path) -> None:
        self.world, self.projection = world, projection
        self._settings, self._client, self._folder = settings, client, folder
        self.operator = ""

    async def open(self) -> None:
        await self.world.campaign(code="goods", hold="PT0S")
        await self.world.campaign(
            code="refills", action="activity", when="activity.name == 'refill'", award={"kind": "fixed", "points": 10}
        )
        await self.world.campaign(code="packed", action="packaging", award={"kind": "fixed", "points": 3})
        self.operator = secrets.operator_token(token_bytes(secrets.RANDOM_BYTES))
        async with self.world.pool.acquire() as conn:
            made = await callers.insert_operator(
                conn, program=self.world.program, email="o@example.com", password_hash="none", role="campaigns"
            )
            assert made is not None
            await callers.insert_operator_token(conn, token_hash=secrets.token_hash(self.operator), operator=made.id, expires_at=None)

    @contextlib.asynccontextmanager
    async def process(self, module: str, armed: str = "", **more: str) -> AsyncIterator[Forked]:
        arm = {"FAILPOINTS": armed, "ENVIRONMENT": "test"} if armed else {}
        process = Forked(module, self._settings, self._folder / f"{module}.log", **arm, **more)
        try:
            await process.start()
            yield process
        finally:
            process.end()

    async def ask(self, process: Forked, sent: Sent) -> httpx.Response:
        return await self._client.request(
            sent.method, f"{process.url}{sent.path}", json=sent.json, headers={"Authorization": f"Bearer {sent.token}"}, timeout=10
        )

    def event(self, event: dict[str, Any], *statuses: int) -> Sent:
        return Sent(path="/v1/events", json=event, token=self.world.keys["shop"], statuses=statuses or (200, 201))

    async def settle(self) -> None:
        await settle_due(self.world.pool, self.projection, stripe=1, buckets=1_024, batch_events=1_000)

    async def erase(self, consumer: str) -> None:
        sender = self.world.platforms["shop"]
        async with self.world.pool.acquire() as conn:
            await erase.erase(
                conn, program=sender.program, platform=sender.platform, code="shop", reference=consumer, change=BY_SHOP
            )  # fmt: skip

    async def sound(self) -> None:
        """The book adds up."""
        async with self.world.pool.acquire() as conn:
            assert await books.faults(conn) == {}


def somebody() -> str:
    return f"c-{next(_numbers)}"


# Requests: prepare, and what is sent -------------------------------------------------------------------


async def a_purchase(stage: Stage) -> Sent:
    return stage.event(order_paid(somebody(), quantity=2))


async def packaging(stage: Stage) -> Sent:
    waybill = f"SF-{next(_numbers)}"
    return stage.event(order_paid(somebody()) | {"packaging": {"class": "ship_in_own_container", "parcels": 1, "waybill": waybill}})


async def a_refund_after_settlement(stage: Stage) -> Sent:
    paid = order_paid(somebody(), quantity=3)
    await stage.world.credit(paid)
    await stage.settle()
    return stage.event(refund(paid, "r", 1))


async def a_refund_before_its_order(stage: Stage) -> Sent:
    return stage.event(refund(order_paid(somebody()), "r", 1))


async def an_order_that_is_waited_for(stage: Stage) -> Sent:
    paid = order_paid(somebody(), quantity=3)
    await stage.world.credit(refund(paid, "r", 1))
    return stage.event(paid)


async def a_late_fact_of_who_was_erased(stage: Stage) -> Sent:
    paid = order_paid(consumer := somebody(), quantity=3)
    await stage.world.credit(paid)
    await stage.erase(consumer)
    return stage.event(refund(paid, "r", 1))


def refill(consumer: str) -> dict[str, Any]:
    return {
        "id": f"refill-{next(_numbers)}", "type": "activity.completed", "occurred_at": now(), "consumer": consumer,
        "activity": "refill", "evidence": {},
    }  # fmt: skip


def declared(wrong: str, name: str = "") -> dict[str, Any]:
    error = {"event": wrong, "reason": "did_not_occur"}
    return {"id": name or f"{wrong}:wrong", "type": "event.error_declared", "occurred_at": now(), "error": error}


async def a_declaration(stage: Stage) -> Sent:
    done = refill(somebody())
    await stage.world.credit(done)
    return stage.event(declared(done["id"]))


async def a_declaration_of_what_has_not_come(stage: Stage) -> Sent:
    return stage.event(declared(f"never-{next(_numbers)}"))


async def a_declaration_under_a_used_id(stage: Stage) -> Sent:
    first = declared(f"never-{next(_numbers)}")
    await stage.world.credit(first)
    return stage.event(declared(f"never-{next(_numbers)}", first["id"]), 409)


async def balances_taken_over(stage: Stage) -> Sent:
    """One that is taken, and one that would be too much."""
    consumer = somebody()
    rows = [{"id": f"opening-{next(_numbers)}", "consumer": consumer, "points": points, "expires_on": None} for points in (70, MAX_BALANCE)]
    return Sent(path="/v1/consumers/import", json=rows, token=stage.world.keys["shop"])


async def an_erasure(stage: Stage) -> Sent:
    await stage.world.credit(order_paid(consumer := somebody()))
    return Sent(method="DELETE", path=f"/v1/consumers/{consumer}", token=stage.world.keys["shop"], statuses=(204, 404))


def campaign(code: str) -> dict[str, Any]:
    return {
        "code": code, "name": code, "action": "purchase", "starts_at": "2025-01-01T00:00:00Z", "ends_at": "2030-01-01T00:00:00Z",
        "award": {"kind": "fixed", "points": 1}, "hold": "P14D", "expires_after": "P12M",
    }  # fmt: skip


async def a_new_campaign(stage: Stage) -> Sent:
    return Sent(path="/v1/campaigns", json=campaign(f"camp-{next(_numbers)}"), token=stage.operator, statuses=(201,))


async def a_changed_campaign(stage: Stage) -> Sent:
    code = await stage.world.campaign()
    return Sent(method="PATCH", path=f"/v1/campaigns/{code}", json={"caps": {"consumer_day": 500}}, token=stage.operator, statuses=(200,))


async def a_paused_campaign(stage: Stage) -> Sent:
    code = await stage.world.campaign()
    return Sent(path=f"/v1/campaigns/{code}/pause", token=stage.operator, statuses=(200,))


REQUESTS: dict[Callable[[Stage], Awaitable[Sent]], str] = {
    a_purchase: "receive.referenced receive.registered receive.opened receive.known receive.locked receive.read receive.decided "
    "receive.stored receive.picked_up receive.written receive.committed receive.pushed",
    packaging: "receive.claimed",
    a_refund_after_settlement: "receive.reversed receive.posted receive.lots_used",
    a_refund_before_its_order: "receive.parked",
    a_late_fact_of_who_was_erased: "receive.scrubbed",
    a_declaration: "declare.registered declare.read declare.written declare.forgotten declare.committed",
    a_declaration_of_what_has_not_come: "declare.unapplied",
    a_declaration_under_a_used_id: "declare.unregistered",
    balances_taken_over: "openings.referenced openings.registered openings.unregistered openings.posted openings.written "
    "openings.committed",
    an_erasure: "erase.erased erase.written erase.committed",
    a_new_campaign: "campaigns.inserted campaigns.counted campaigns.recorded campaigns.written",
    a_changed_campaign: "campaigns.versioned",
    a_paused_campaign: "campaigns.stepped",
}  # fmt: skip
"""What a process of the API ends in."""


# Sweeps: prepare, and what is true once a worker has done it ---------------------------------------------


Done = Callable[[], Awaitable[bool]]


async def a_settlement(stage: Stage) -> Done:
    await stage.world.credit(order_paid(consumer := somebody(), quantity=2))

    async def done() -> bool:
        rows = await stage.world.rows(
            "SELECT a.available, a.pending, (SELECT count(*) FROM entry e WHERE e.account = a.id) AS entries "
            "FROM account a JOIN consumer_reference r ON r.account = a.id WHERE r.reference = $1", consumer,
        )  # fmt: skip
        assert rows[0]["entries"] in (0, 2), "it settles once"
        return rows == [{"available": 20, "pending": 0, "entries": 2}]

    return done


async def scrubbing(stage: Stage) -> Done:
    await stage.world.credit(order_paid(consumer := somebody(), attributes={"note": "for Ada"}))
    await stage.world.credit(refund(order_paid(consumer), "r", 1))
    await stage.settle()
    await stage.erase(consumer)

    async def done() -> bool:
        (row,) = await stage.world.rows(
            "SELECT (SELECT count(*) FROM erasure WHERE state <> 'done') AS running, (SELECT count(*) FROM event WHERE facts::text LIKE '%Ada%') AS seen"
        )
        return row == {"running": 0, "seen": 0}

    return done


async def old_deliveries(stage: Stage) -> Done:
    sender = stage.world.platforms["shop"]
    async with stage.world.pool.acquire() as conn:
        columns = {r["column_name"]: r for r in await conn.fetch(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'delivery' AND is_nullable = 'NO' "
            "AND column_default IS NULL AND is_identity = 'NO'"
        )}  # fmt: skip
        known = {"program": str(sender.program), "platform": str(sender.platform), "received_at": "now() - interval '1000 days'"}
        default = {"integer": "0", "smallint": "0", "bigint": "0", "text": "'x'", "bytea": "''::bytea", "boolean": "false", "ARRAY": "'{}'"}
        values = {name: known.get(name) or default.get(str(r["data_type"]), "now()") for name, r in columns.items()} | known
        await conn.execute(f"INSERT INTO delivery ({', '.join(values)}) VALUES ({', '.join(values.values())})")

    async def done() -> bool:
        return not await stage.world.rows("SELECT 1 FROM delivery WHERE received_at < now() - interval '900 days'")

    return done


async def old_events(stage: Stage) -> Done:
    await stage.world.credit(order_paid(consumer := somebody(), attributes={"note": f"for {somebody()}"}))
    await stage.settle()
    await stage.world.rows(
        "UPDATE event e SET received_at = now() - interval '1000 days' FROM consumer_reference r WHERE r.account = e.account AND r.reference = $1",
        consumer,
    )

    async def done() -> bool:
        return not await stage.world.rows(
            "SELECT 1 FROM event WHERE facts::text LIKE '%note%' AND received_at < now() - interval '900 days'"
        )

    return done


async def a_missed_push(stage: Stage) -> Done:
    await stage.world.credit(order_paid(consumer := somebody()))
    (row,) = await stage.world.rows("SELECT account FROM consumer_reference WHERE reference = $1", consumer)

    async def done() -> bool:
        return await stage.projection.read(row["account"]) is not None

    return done


SWEEPS: dict[Callable[[Stage], Awaitable[Done]], str] = {
    a_settlement: "settle.locked settle.settled settle.committed settle.pushed",
    scrubbing: "scrub.events scrub.noted scrub.parked scrub.forgotten scrub.finished",
    old_deliveries: "forget.bodies",
    old_events: "retention.taken retention.scrubbed retention.noted retention.committed retention.caught_up retention.parked retention.exports",
    a_missed_push: "mend.read mend.pushed",
}  # fmt: skip
"""What a worker ends in."""


def test_every_failpoint_is_reached_by_a_scenario() -> None:
    named = [name for names in (*REQUESTS.values(), *SWEEPS.values()) for name in names.split()]
    assert sorted(named) == sorted(failpoints.NAMES)


@pytest.fixture
async def stage(world: World, settings: Settings, tmp_path: Path) -> AsyncIterator[Stage]:
    async with httpx.AsyncClient() as client, Redis.from_url(settings.balance_redis_url) as redis:
        made = Stage(world, settings, Projection(redis, epoch=1, ttl_s=600, wait_ms=2_000), client, tmp_path)
        await made.open()
        yield made


@pytest.mark.slow
@pytest.mark.timeout(300)  # a process starts and ends for each name; some 20 s on a quiet machine
async def test_an_api_process_ends_in_the_middle(stage: Stage) -> None:
    async with stage.process("service.api") as other:
        for prepare, names in REQUESTS.items():
            for name in names.split():
                await ends_at(stage, name, await prepare(stage), other)
    await settled_and_clean(stage)


async def ends_at(stage: Stage, name: str, sent: Sent, other: Forked) -> None:
    """A process ends there, its caller hears nothing and repeats, another process answers."""
    async with stage.process("service.api", name) as victim:
        with pytest.raises(httpx.TransportError):
            await stage.ask(victim, sent)
        assert await victim.ended() == failpoints.EXIT_CODE, name
    first = await stage.ask(other, sent)
    assert first.status_code in sent.statuses, (name, first.text)
    if sent.path == "/v1/events" and first.status_code != 409:
        assert (first.status_code == 200) is (name in AFTER_COMMIT), name
        again = await stage.ask(other, sent)
        assert (again.status_code, again.content) == (200, first.content), name
        assert again.headers["Idempotency-Replayed"] == "true"
        rows = await stage.world.rows(
            "SELECT points FROM event WHERE id = $1 UNION ALL SELECT 0 FROM parked WHERE id = $1", sent.json["id"]
        )
        assert [row["points"] for row in rows] == [first.json()["points"]], name
    elif sent.path == "/v1/consumers/import":
        taken = "duplicate" if name in AFTER_COMMIT else "created"
        assert [result["status"] for result in first.json()["results"]] == [taken, "rejected"], name
        found = await stage.world.rows("SELECT points FROM opening WHERE id = $1", sent.json[0]["id"])
        assert [row["points"] for row in found] == [sent.json[0]["points"]], name
    elif sent.method == "DELETE":
        assert first.status_code == (404 if name in AFTER_COMMIT else 204), "erased, whole or not at all"
    await stage.sound()


async def settled_and_clean(stage: Stage) -> None:
    """A worker brings what is left to its end, and every invariant holds, Redis included."""
    async with stage.process("workers"):
        await clean(stage.world, stage.projection)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_worker_ends_in_the_middle(stage: Stage) -> None:
    for prepare, names in SWEEPS.items():
        for name in names.split():
            done = await prepare(stage)
            async with stage.process("workers", name) as victim:
                assert await victim.ended() == failpoints.EXIT_CODE, name
            await stage.sound()
            async with stage.process("workers"):
                end = time.monotonic() + GIVE_UP_S
                while not await done():
                    assert time.monotonic() < end, name
                    await asyncio.sleep(WATCH_S)
            await stage.sound()
    await settled_and_clean(stage)

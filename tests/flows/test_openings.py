"""Balances that come from another system: each row once, in the book like everything else, whatever is repeated, raced or stopped."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from schemas.bounds import MAX_BALANCE
from schemas.openings import OpeningBody
from service.domain.openings import OpeningRow, rows_of_ndjson
from service.flows import administer
from service.flows.administer import Change
from service.flows.check import check
from service.flows.erase import erase, finish_erasures
from service.flows.events import NEWEST, activity
from service.flows.openings import BATCH_ROWS, Taken, take_over
from service.flows.settle import settle_due
from service.projection import Projection
from service.store import balances
from service.store import openings as store
from tests import books
from tests.worlds import World, cancelled, order_paid, refund

TOMORROW = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
LATER = (datetime.now(UTC) + timedelta(days=200)).date().isoformat()
LONG_AGO = "2020-01-31"


@pytest.fixture
async def projection(redis_url: str) -> AsyncIterator[Projection]:
    async with Redis.from_url(redis_url, socket_timeout=5) as redis:
        yield Projection(redis, epoch=1, ttl_s=600, wait_ms=1_000)


def row(id_: str, consumer: str = "c-1", points: Any = 100, expires_on: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": id_, "consumer": consumer, "points": points, "expires_on": expires_on} | more


async def take(world: World, *rows: dict[str, Any], platform: str = "shop", dry_run: bool = False) -> Taken:
    given = list(rows_of_ndjson([json.dumps(r) for r in rows]))
    async with world.pool.acquire() as conn:
        owner = await administer.find_platform(conn, program=world.program, code=platform)
        return await take_over(conn, given, platform=owner, change=Change(), dry_run=dry_run)


def statuses(taken: Taken) -> list[str]:
    return [r.code or r.status for r in taken.results]


async def balance(world: World, consumer: str) -> dict[str, int]:
    found = await world.rows(
        "SELECT a.pending, a.available, a.debt, a.version, a.last_seq FROM account a "
        "JOIN consumer_reference r ON r.bucket = a.bucket AND r.account = a.id WHERE r.reference = $1",
        consumer,
    )
    return found[0]


async def settle(world: World, projection: Projection) -> None:
    await settle_due(world.pool, projection, stripe=1, buckets=64, batch_events=1_000)


async def clean(world: World, projection: Projection) -> None:
    report = await check(world.pool, projection)
    assert {i.name: i.broken for i in report.invariants if not i.ok} == {}
    async with world.pool.acquire() as conn:
        assert await books.faults(conn) == {}


async def test_a_row_becomes_a_lot_and_two_entries_once(world: World, projection: Projection) -> None:
    taken = await take(
        world, row("a", points=70, expires_on=LATER, earned_at="2024-05-01T10:00:00+08:00"), row("b", points=30), row("d", "c-2")
    )
    assert (statuses(taken), taken.points) == (["created"] * 3, 200)
    assert await balance(world, "c-1") == {"pending": 0, "available": 100, "debt": 0, "version": 1, "last_seq": 4}
    assert (
        dict(taken.balances)[(await world.rows("SELECT account FROM consumer_reference WHERE reference = 'c-1'"))[0]["account"]].available
        == 100
    )
    lots = await world.rows("SELECT amount, remaining, expires_on::text, campaign FROM lot ORDER BY amount")
    assert lots[0] == {"amount": 30, "remaining": 30, "expires_on": None, "campaign": 0}
    assert lots[1] == {"amount": 70, "remaining": 70, "expires_on": LATER, "campaign": 0}
    entries = await world.rows("SELECT book, sum(amount)::int AS amount FROM entry WHERE kind = 3 GROUP BY 1 ORDER BY 1")
    assert entries == [{"book": 1, "amount": 200}, {"book": 5, "amount": -200}]
    assert await world.rows("SELECT 1 FROM rollup UNION ALL SELECT 1 FROM cap_usage UNION ALL SELECT 1 FROM budget") == []
    again = await take(world, row("b", points=30), row("a", points=70, expires_on=LATER, earned_at="2024-05-01T02:00:00Z"))
    assert (statuses(again), again.points, again.balances) == (["duplicate"] * 2, 0, [])
    assert (await balance(world, "c-1"))["available"] == 100
    audited = await world.rows("SELECT actor, subject, after::text FROM audit WHERE action = 'balances.import'")
    assert [(a["actor"], a["subject"], json.loads(a["after"])) for a in audited] == [
        ("command", "platform:shop", {"rows": 3, "points": 200})
    ]
    await clean(world, projection)


async def test_another_content_under_a_known_id_is_refused(world: World, projection: Projection) -> None:
    await take(world, row("a", points=70, expires_on=LATER, earned_at="2024-05-01T10:00:00Z"))
    good = {"points": 70, "expires_on": LATER, "earned_at": "2024-05-01T10:00:00Z"}
    changed = [{"points": 71}, {"expires_on": None}, {"expires_on": TOMORROW}, {"earned_at": None}, {"earned_at": "2024-05-01T10:00:01Z"}]
    taken = await take(world, *(row("a", **(good | change)) for change in changed), row("a", "c-2", **good), row("a", **good))
    assert statuses(taken) == ["id_reused"] * 6 + ["duplicate"]
    assert taken.results[0].errors[0].pointer == "/id"
    assert await world.rows("SELECT 1 FROM consumer_reference WHERE reference = 'c-2'") == [], "a refusal opens no account"
    taken = await take(world, row("new"), row("new"), row("new", points=5))
    assert statuses(taken) == ["created", "duplicate", "id_reused"], "within one file, too"
    assert statuses(await take(world, row("a", **good), platform="market")) == ["created"], "ids are a platform's own"
    await clean(world, projection)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"points": 0}, "/points"), ({"points": -5}, "/points"), ({"points": 1.0}, "/points"), ({"points": "1e3"}, "/points"),
        ({"points": float("nan")}, ""), ({"points": 2**63}, "/points"), ({"points": 10**15 + 1}, "/points"), ({"points": True}, "/points"),
        ({"points": "10"}, "/points"), ({"points": None}, "/points"), ({"expires_on": LONG_AGO}, "/expires_on"),
        ({"expires_on": "2030-02-30"}, "/expires_on"), ({"expires_on": "soon"}, "/expires_on"), ({"consumer": ""}, "/consumer"),
        ({"consumer": "a\x00b"}, "/consumer"), ({"consumer": "c" * 129}, "/consumer"), ({"id": 7}, "/id"),
        ({"earned_at": "2024-05-01T10:00:00"}, "/earned_at"), ({"earned_at": "0001-01-01T00:00:00+14:00"}, "/earned_at"),
        ({"earned_at": "9999-12-31T23:59:59-14:00"}, "/earned_at"), ({"earned_at": "2100-01-01T00:00:00Z"}, "/earned_at"),
    ],
    ids=str,
)  # fmt: skip
async def test_a_bad_row_is_refused_and_stops_no_other(world: World, change: dict[str, Any], pointer: str) -> None:
    taken = await take(world, row("x"), row("bad", "c-bad") | change, row("y"))
    assert statuses(taken) == ["created", "invalid_request", "created"]
    assert [e.pointer for e in taken.results[1].errors] == [pointer]
    assert (await world.rows("SELECT count(*) AS n FROM opening"))[0]["n"] == 2
    assert (await world.rows("SELECT count(*) AS n FROM account"))[0]["n"] == 1


async def test_expires_on_must_be_said(world: World) -> None:
    taken = await take(world, {"id": "a", "consumer": "c-1", "points": 5, "expire_on": "2030-01-01"})
    assert statuses(taken) == ["invalid_request"]
    assert "expires_on" in taken.results[0].errors[0].detail


async def test_today_still_counts_and_a_repeat_stays_a_duplicate_when_its_day_has_passed(world: World) -> None:
    (today,) = await world.rows("SELECT (now() AT TIME ZONE 'Asia/Shanghai')::date::text AS day")
    assert statuses(await take(world, row("a", expires_on=today["day"]))) == ["created"]
    body = OpeningBody(id="old", consumer="c-1", points=5, expires_on=datetime(2020, 1, 31).date())  # noqa: DTZ001
    from service.domain.openings import content_hash  # noqa: PLC0415

    await world.rows(
        "INSERT INTO registry (program, kind, key, request_hash) VALUES ($1, 3, $2, $3)",
        world.program, f"{world.platforms['shop'].platform}:old", content_hash(body),
    )  # fmt: skip
    assert statuses(await take(world, row("old", points=5, expires_on=LONG_AGO))) == ["duplicate"]


async def test_a_balance_stays_within_its_bound(world: World, projection: Projection) -> None:
    taken = await take(
        world, row("a", points=MAX_BALANCE - 5), row("b", points=6), row("b", points=6), row("d", points=5), row("e", points=1)
    )
    assert statuses(taken) == ["created", "invalid_request", "invalid_request", "created", "invalid_request"]
    assert statuses(await take(world, row("b", points=6), row("f", "c-2", points=MAX_BALANCE))) == ["invalid_request", "created"]
    assert (await world.rows("SELECT count(*) AS n FROM registry WHERE kind = 3"))[0]["n"] == 3, "what is refused stays free"
    await clean(world, projection)


async def test_a_dry_run_answers_the_same_and_writes_nothing(world: World) -> None:
    await take(world, row("a", points=MAX_BALANCE - 50))
    rows = [
        row("a", points=MAX_BALANCE - 50),
        row("a"),
        row("b"),
        row("d", "c-9"),
        row("d", "c-9"),
        row("e", points=40),
        row("x", points=0),
    ]
    before = await world.rows("SELECT (SELECT count(*) FROM registry) AS r, (SELECT count(*) FROM account) AS a, last_value FROM number")
    dry = await take(world, *rows, dry_run=True)
    assert before == await world.rows(
        "SELECT (SELECT count(*) FROM registry) AS r, (SELECT count(*) FROM account) AS a, last_value FROM number"
    )
    wet = await take(world, *rows)
    assert (dry.results, dry.points) == (wet.results, wet.points)
    assert statuses(wet) == ["duplicate", "id_reused", "invalid_request", "created", "duplicate", "created", "invalid_request"]


async def test_debt_is_repaid_first_and_clawbacks_take_by_last_day(world: World, projection: Projection) -> None:
    await world.campaign(expires_after="P12M")
    paid, other = order_paid("c-1", quantity=5), order_paid("c-1", quantity=3)
    await take(world, row("soon", points=20, expires_on=TOMORROW))
    await world.send(paid, other)
    await settle(world, projection)
    # The lot of the refunded award first, then what expires first: the lot taken over.
    await world.rows("UPDATE lot SET remaining = 10 WHERE amount = 50")
    await world.rows("INSERT INTO lot_use SELECT bucket, account, event, n, 0, 40 FROM lot WHERE amount = 50")
    await world.rows("UPDATE account SET available = available - 40")
    await world.credit(cancelled(paid))
    left = {r["amount"]: r["remaining"] for r in await world.rows("SELECT amount, remaining FROM lot")}
    assert left == {20: 0, 50: 0, 30: 10}
    await world.credit(cancelled(other))
    assert await balance(world, "c-1") == {"pending": 0, "available": 0, "debt": 20, "version": 6, "last_seq": 11}
    taken = await take(world, row("p", points=15), row("q", points=15), row("r", points=1))
    assert statuses(taken) == ["created"] * 3
    assert await balance(world, "c-1") == {"pending": 0, "available": 11, "debt": 0, "version": 7, "last_seq": 18}
    uses = await world.rows(
        "SELECT l.amount, l.remaining FROM lot l JOIN opening o ON o.number = l.event WHERE o.id IN ('p', 'q', 'r') ORDER BY o.number"
    )
    assert [(u["amount"], u["remaining"]) for u in uses] == [(15, 0), (15, 10), (1, 1)]
    assert await world.rows("SELECT transfer FROM entry GROUP BY transfer HAVING sum(amount) <> 0") == []
    assert [u["n"] for u in await world.rows("SELECT count(DISTINCT version) AS n FROM entry WHERE kind = 3")] == [2]


async def test_activity_tells_it_in_words(world: World) -> None:
    await world.campaign()
    await world.credit(order_paid("c-1"))
    await take(world, row("a", points=7), row("b", points=8))
    await world.credit(order_paid("c-1"))
    async with world.pool.acquire() as conn:
        account = await balances.find_account(conn, world.platforms["shop"].platform, "c-1")
        assert account is not None
        found, position, before = [], None, NEWEST
        while True:
            items, position = await activity(conn, account, before=before, limit=1)
            found += items
            if position is None:
                break
            before = position
    assert [(i.kind, i.points) for i in found] == [("order.paid", 10), ("balance.imported", 8), ("balance.imported", 7), ("order.paid", 10)]
    assert "taken over" in found[1].reason


# Several at once -----------------------------------------------------------------------------------------


def file(rows: int, consumers: int) -> list[OpeningRow]:
    body = [json.dumps(row(f"r-{n}", f"c-{n % consumers}", 1 + n % 7, LATER if n % 3 else None)) for n in range(rows)]
    return list(rows_of_ndjson(body))


async def import_all(world: World, rows: list[OpeningRow], size: int) -> list[str]:
    found = []
    async with world.pool.acquire() as conn:
        owner = await administer.find_platform(conn, program=world.program, code="shop")
        for start in range(0, len(rows), size):
            found += (await take_over(conn, rows[start : start + size], platform=owner, change=Change())).results
    return [r.code or r.status for r in found]


async def test_the_same_file_imported_three_times_at_once_counts_once(world: World, projection: Projection) -> None:
    rows = file(1_500, 40)
    answers = await asyncio.gather(import_all(world, rows, 100), import_all(world, rows[::-1], 70), import_all(world, rows, 150))
    counts = [answer.count("created") for answer in answers]
    assert sum(counts) == 1_500
    assert all(set(answer) <= {"created", "duplicate"} for answer in answers)
    (sums,) = await world.rows("SELECT sum(available)::int AS points, count(*) AS accounts FROM account")
    assert (sums["points"], sums["accounts"]) == (sum(1 + n % 7 for n in range(1_500)), 40)
    await clean(world, projection)


async def test_an_import_during_credits_refunds_and_settlement_of_the_same_consumers(world: World, projection: Projection) -> None:
    await world.campaign()
    await world.campaign(hold="P14D")
    rows, going = file(1_200, 6), True

    async def shop(number: int) -> None:
        for n in range(40):
            paid = order_paid(f"c-{(n + number) % 6}", quantity=1 + n % 3)
            await world.credit(paid)
            if n % 3 == 0:
                await world.credit(refund(paid, "r", 1))

    async def settling() -> None:
        while going:
            await settle(world, projection)
            await asyncio.sleep(0.005)

    worker = asyncio.create_task(settling())
    answers, *_ = await asyncio.gather(import_all(world, rows, 60), shop(1), shop(2))
    going = False
    await worker
    await settle(world, projection)
    assert answers == ["created"] * 1_200
    (sums,) = await world.rows("SELECT (SELECT -sum(amount)::int FROM entry WHERE book = 5) AS points, (SELECT count(*) FROM opening) AS n")
    assert (sums["points"], sums["n"]) == (sum(1 + n % 7 for n in range(1_200)), 1_200)
    await clean(world, projection)


async def test_more_rows_than_a_transaction_takes_are_refused(world: World) -> None:
    with pytest.raises(ValueError, match=str(BATCH_ROWS + 1)):
        await import_all(world, file(BATCH_ROWS + 1, 1), BATCH_ROWS + 1)


async def test_an_id_that_another_import_takes_in_between_opens_no_account(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await take(world, row("a"))
    asked, known = [], store.known

    async def late(*given: Any, **more: Any) -> dict[str, bytes]:
        asked.append(given)
        return {} if len(asked) == 1 else await known(*given, **more)

    monkeypatch.setattr(store, "known", late)
    assert statuses(await take(world, row("a", "c-2"), row("a", "c-3"))) == ["id_reused"] * 2
    assert len(asked) == 2
    assert [r["reference"] for r in await world.rows("SELECT reference FROM consumer_reference")] == ["c-1"]
    assert (await world.rows("SELECT count(*) AS n FROM account"))[0]["n"] == 1


async def test_what_a_row_looked_like_is_forgotten_with_its_person(world: World, projection: Projection) -> None:
    await take(world, row("a"), row("b", "c-2"))
    sender = world.platforms["shop"]
    async with world.pool.acquire() as conn:
        await erase(conn, program=sender.program, platform=sender.platform, code="shop", reference="c-1", change=Change())
    assert await finish_erasures(world.pool, projection) == 1
    hashes = {r["key"]: r["request_hash"] for r in await world.rows("SELECT key, request_hash FROM registry WHERE kind = 3")}
    assert [hashes[f"{sender.platform}:{id_}"] is None for id_ in ("a", "b")] == [True, False]
    again = await take(world, row("a", "somebody-else"))
    assert (statuses(again), again.points) == (["duplicate"], 0)
    await clean(world, projection)

"""`check`: a world in which everything happened is clean, and each invariant finds the row that was tampered with."""

import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from loadtests.filler import fill as fill_past
from schemas.checks import Report
from schemas.events import Balance
from service.domain.openings import rows_of_ndjson
from service.flows import administer
from service.flows.administer import Change
from service.flows.check import RULES, check
from service.flows.expire import expire_due
from service.flows.openings import take_over
from service.flows.rebuild import rebuild
from service.flows.seal import seal
from service.flows.settle import settle_due
from service.projection import Projection
from service.store import balances
from service.store import check as statements
from tests.spending import capture, end_of, reserve
from tests.spending import refund as refund_spent
from tests.tampering import tamper
from tests.worlds import World, cancelled, order_paid, refund


@pytest.fixture
async def lived(world: World, projection: Projection) -> World:
    """A world in which everything happened that can happen."""
    await live(world, projection)
    return world


async def live(world: World, projection: Projection) -> None:
    """Credits, caps that cut, settlements, refunds before and after them, a repeat by a thief, facts that wait, a debt that is repaid."""
    caps = {"order": 90, "consumer_day": 120, "consumer_year": 1_000, "consumer_total": 5_000}
    await world.campaign(caps=caps, budget={"points": 9_000, "per_day": 900})
    await world.campaign(action="packaging", award={"kind": "fixed", "points": 7}, hold="P14D")
    await world.campaign(action="return", award={"kind": "fixed", "points": 3})
    await world.campaign(hold="P14D", award={"kind": "per_amount", "points": 1, "per": "10.00", "currency": "CNY"})
    settled = [order_paid("c-1", quantity=5), order_paid("c-2", quantity=4), order_paid("c-3", quantity=6)]
    early = order_paid("c-1", quantity=5, packaging={"class": "ship_in_own_container", "waybill": "SF-1"})
    await world.send(*settled, early, order_paid("c-4", quantity=20))
    await world.credit(refund(early, "r-early", 2))
    await world.credit(refund(order_paid("c-9"), "parked", 1))
    await world.credit(order_paid("thief") | {"order": early["order"]})
    returned = {"id": "back", "type": "packaging.returned", "occurred_at": early["occurred_at"], "consumer": "c-2"}
    await pack(world, returned)
    await settle(world, projection)
    # The points of c-3 are gone, as if they had been spent: its cancelled order leaves a debt, which the next one repays.
    await spend(world, "c-3", 50)
    await world.credit(refund(settled[0], "r-late", 1))
    await world.credit(refund(settled[1], "r-amount", amount="13.37"))
    await world.credit(cancelled(settled[2]))
    await world.credit(order_paid("c-3", quantity=3))
    late = order_paid("c-5", quantity=2, packaging={"class": "reused_carton", "parcels": 2})
    await world.credit(refund(late, "r-before", 1))
    await world.credit(late)
    await settle(world, projection)
    await world.credit(cancelled(early))
    await world.credit(order_paid("c-6", quantity=1))
    # A balance from elsewhere: for somebody with points, for somebody in debt, and for somebody new.
    await world.credit(refund(settled[1], "r-all", amount="66.63"))
    await take_over_some(world)
    await spend_some(world, projection)


async def spend_some(world: World, projection: Projection) -> None:
    """A reservation that is open, one that was spent in part and given back in part, and points whose day is over."""
    await world.send(order_paid("c-8", quantity=6), order_paid("c-9", quantity=4))
    await settle(world, projection)
    await reserve(world, "c-8", 25)
    spent = await reserve(world, "c-8", 9)
    await capture(world, spent, 7)
    await refund_spent(world, spent, 2)
    await end_of(world, "c-9", 3)
    assert await expire_due(world.pool, projection, stripe=3, buckets=64, batch_lots=100) == 1


async def pack(world: World, returned: dict[str, Any]) -> None:
    """A box on two trips, one of them declared wrong; single-use packaging that comes back; a return that waits."""
    await world.rows("INSERT INTO asset (program, key, class) VALUES ($1, 'box1', 'circular_box')", world.program)
    orders = [order_paid(f"c-{n}") for n in (2, 2, 5)]
    at = returned["occurred_at"]
    sent = [
        {"id": f"sent-{n}", "type": "order.fulfilled", "occurred_at": at, "order": order["order"], "packaging": packaging}
        for n, (order, packaging) in enumerate(
            zip(orders, ({"assets": ["box1"], "class": "circular_box"}, {"class": "plastic_mailer", "parcels": 2}, {"assets": ["box1"]}), strict=True)
        )
    ]  # fmt: skip
    await world.send(*orders, *sent[:2])
    await world.credit(returned | {"returns": [{"asset": "box1"}, {"class": "plastic_mailer", "waybill": "w-1"}]})
    await world.credit(returned | {"id": "waits", "consumer": "c-6", "returns": [{"asset": "box1"}]})
    await world.credit(sent[2])
    error = {"event": "sent-2", "reason": "did_not_occur"}
    await world.credit({"id": "wrong", "type": "event.error_declared", "occurred_at": at, "error": error})


async def take_over_some(world: World) -> None:
    rows = [{"id": f"old-{n}", "consumer": f"c-{n}", "points": 40 + n, "expires_on": f"{2_100 + n}-01-31"} for n in (1, 3, 3, 7)]
    rows.append({"id": "old-8", "consumer": "c-7", "points": 1, "expires_on": None})
    async with world.pool.acquire() as conn:
        shop = await administer.find_platform(conn, program=world.program, code="shop")
        await take_over(conn, list(rows_of_ndjson(map(json.dumps, rows))), platform=shop, change=Change())


async def settle(world: World, projection: Projection) -> None:
    await settle_due(world.pool, projection, stripe=1, buckets=64, batch_events=1_000)


async def spend(world: World, consumer: str, points: int) -> None:
    """A transfer from the consumer's available points to another book, as redemptions will post it."""
    await world.rows(
        """
        WITH a AS (
            UPDATE account a SET available = available - $2, version = version + 1, last_seq = last_seq + 2
            FROM consumer_reference r WHERE r.reference = $1 AND r.bucket = a.bucket AND r.account = a.id RETURNING a.*
        ), l AS (
            UPDATE lot l SET remaining = l.remaining - $2 FROM a
            WHERE l.bucket = a.bucket AND l.account = a.id AND l.remaining >= $2 RETURNING l.*
        ), t AS (SELECT nextval('number') AS number), u AS (
            INSERT INTO lot_use SELECT l.bucket, l.account, l.event, l.n, t.number, $2 FROM l, t
        ), r AS (
            INSERT INTO transfer SELECT a.bucket, a.id, t.number, 9, a.program, 0, -$2, NULL, 'Lost', a.version, now() FROM a, t
        )
        INSERT INTO entry SELECT l.bucket, l.account, a.last_seq - 1 + b.n, t.number, 9, b.book, b.amount, l.program, l.platform, l.campaign,
                                 0, 0, 0, a.version, now()
        FROM a, l, t, (VALUES (0, 1::smallint, -$2), (1, 9::smallint, $2)) AS b (n, book, amount)
        """,
        consumer, points,
    )  # fmt: skip


def broken(report: Report) -> dict[str, list[str]]:
    return {i.name: i.broken for i in report.invariants if not i.ok}


async def test_a_world_in_which_everything_happened_is_clean(lived: World, projection: Projection) -> None:
    report = await check(lived.pool, projection)
    assert broken(report) == {}
    assert report.ok
    assert [i.number for i in report.invariants] == list(range(1, 13))
    (held,) = await lived.rows("SELECT sum(debt) AS debt, count(*) AS accounts FROM account")
    assert report.checked["accounts"] == held["accounts"]
    assert report.checked["refunded_orders"] == 8


def one(sql: str, table: str, where: str = "true") -> str:
    """Change one row of a table."""
    return f"{sql} WHERE ctid = (SELECT min(ctid) FROM {table} WHERE {where})"


def change(table: str, what: str, where: str = "true") -> str:
    return one(f"UPDATE {table} SET {what}", table, where)


def delete(table: str, where: str = "true") -> str:
    return one(f"DELETE FROM {table}", table, where)


COPY_OF_A_TRIP = """
    INSERT INTO trip (program, asset, shipped_event, shipped_at, platform, order_id, bucket, account, returned_event, returned_item,
                      returned_at, returned_bucket, returned_account, returned_platform, awarded_event, awarded_item)
    SELECT program, 'box2', shipped_event, shipped_at, platform, order_id, bucket, account, returned_event, returned_item,
           returned_at, returned_bucket, returned_account, returned_platform, awarded_event, awarded_item
    FROM trip WHERE awarded_event IS NOT NULL
"""
COPY_OF_A_RETURN = """
    INSERT INTO parked (program, platform, order_id, number, id, type, occurred_at, received_at, facts, answer)
    SELECT program, platform, '', number, id, type, occurred_at, received_at, facts, answer
    FROM event WHERE type = 'packaging.returned' LIMIT 1
"""
TAMPERING = [
    # number 1
    (change("entry", "amount = amount + 1", "book = 4"), "double_entry settlements statistics seals"),
    (change("entry", "transfer = transfer + 1000000", "book = 4"), "double_entry seals"),
    (change("entry", "seq = seq + 1000000"), "double_entry seals"),
    (change("account", "last_seq = last_seq + 1"), "double_entry"),
    (delete("entry", "book = 9"), "double_entry seals"),
    (change("transfer", "points = points + 1"), "double_entry"),
    (change("transfer", "version = version + 1"), "double_entry"),
    (change("transfer", "kind = 9", "kind = 8"), "double_entry statistics"),
    (delete("transfer", "kind = 4"), "double_entry"),
    ("INSERT INTO transfer SELECT bucket, account, 1, 8, program, 0, 0, NULL, 'lost', version, at FROM transfer LIMIT 1", "double_entry"),
    # number 2
    (change("account", "available = available + 1"), "balances"),
    (change("account", "debt = debt + 1"), "balances"),
    (change("account", "reserved = reserved + 1"), "balances"),
    (change("account", "pending = pending + 1"), "balances"),
    (change("account", "version = version + 1"), "balances"),
    (change("event", "version = version + 1", "version > 0"), "balances"),
    (change("entry", "book = 2", "book = 1"), "balances lots seals"),
    (delete("account", "version > 0"), "double_entry balances"),
    # number 3
    (change("lot", "remaining = remaining - 1", "remaining > 0"), "lots"),
    (change("lot_use", "amount = amount + 1"), "lots"),
    (delete("lot_use"), "lots"),
    (change("entry", "book = 9", "book = 1"), "balances lots seals"),
    (change("lot", "reserved = reserved - 1", "reserved > 0"), "lots"),
    (change("redemption_lot", "reserved = reserved - 1", "reserved > 0"), "lots"),
    (delete("redemption_lot", "reserved > 0"), "lots"),
    (change("redemption_lot", "spent = spent + 1", "spent > 0"), "lots statistics"),
    (change("redemption", "captured = captured - 1", "captured > 0"), "lots"),
    (change("redemption", "refunded = refunded - 1", "refunded > 0"), "lots"),
    # number 4
    (change("lot", "amount = amount + 1, remaining = remaining + 1"), "lots settlements"),
    (change("entry", "n = n + 1", "kind = 1 AND book = 4"), "settlements seals"),
    (change("award", "certificate = 1000000", "certificate IS NOT NULL"), "settlements"),
    (change("award", "version = 1000000", "campaign = 2"), "settlements"),
    (change("event", "points = points + 1", "type = 'order.paid'"), "settlements"),
    (change("event", "points = points - 1", "type = 'order.refunded'"), "settlements"),
    ("INSERT INTO due SELECT bucket, now() + interval '1 day', account, event FROM award LIMIT 1", "settlements"),
    # number 4, of what was taken over
    (change("opening", "points = points + 1"), "settlements"),
    (change("opening", "id = id || 'x'"), "settlements"),
    (change("opening", "expires_on = expires_on + 1", "expires_on IS NOT NULL"), "settlements"),
    (change("opening", "expires_on = '2100-01-01'", "expires_on IS NULL"), "settlements"),
    (change("opening", "version = version + 1"), "settlements"),
    (delete("opening"), "settlements"),
    (delete("registry", "kind = 3"), "settlements"),
    (change("registry", "account = account + 1024", "kind = 3"), "settlements"),
    (change("registry", "key = key || 'x'", "kind = 3"), "settlements"),
    ("INSERT INTO registry (program, kind, key) VALUES (1, 3, 'lost')", "settlements"),
    (change("lot", "campaign = 1", "campaign = 0"), "settlements"),
    (change("lot", "expires_on = expires_on - 1", "campaign = 0 AND expires_on IS NOT NULL"), "settlements"),
    (change("lot", "amount = amount + 1, remaining = remaining + 1", "campaign = 0"), "lots settlements"),
    (change("lot", "campaign = 0", "campaign = 1"), "settlements"),
    (change("entry", "amount = amount - 1", "book = 5"), "double_entry settlements seals"),
    (change("entry", "book = 4", "book = 5"), "settlements seals"),
    (change("entry", "kind = 1", "kind = 3 AND book = 1"), "settlements seals"),
    (change("entry", "award = award + 1000000", "book = 5"), "settlements seals"),
    # number 5
    (change("cap_usage", "used = used + 1"), "caps_and_budgets"),
    (delete("cap_usage", "used > 0"), "caps_and_budgets"),
    (change("budget", "used = used + 1"), "caps_and_budgets"),
    (delete("budget", "used > 0"), "caps_and_budgets"),
    ("UPDATE campaign_version SET body = replace(body, '120', '12')", "caps_and_budgets"),
    ("UPDATE campaign_version SET body = replace(body, '\"order\":90', '\"order\":9')", "caps_and_budgets"),
    ("UPDATE campaign_version SET body = replace(body, '9000', '90')", "caps_and_budgets"),
    # number 6
    (change("event", 'facts = replace(facts, \'"quantity":"1"\', \'"quantity":"2"\')', "id LIKE '%r-late'"), "targets"),
    (change("event", "facts = replace(facts, '{', '[')", "id LIKE '%r-late'"), "targets"),
    (change("event", "type = 'packaging.reassigned'", "id LIKE '%r-late'"), "targets"),
    (change("award", "reversed = reversed + 1", "campaign = 1 AND points > reversed"), "settlements caps_and_budgets targets statistics"),
    (change("parked", "order_id = (SELECT max(order_id) FROM event WHERE version > 0 AND platform = parked.platform)"), "targets"),
    # number 7
    (delete("registry", "kind = 1"), "counted_once"),
    (delete("registry", "kind = 2 AND account IS NOT NULL"), "counted_once"),
    (change("registry", "key = key || 'x'", "kind = 1"), "counted_once"),
    (change("registry", "account = account + 1024", "kind = 2 AND account IS NOT NULL"), "counted_once"),
    (change("registry", "number = number + 1000000", "kind = 1"), "counted_once"),
    (delete("parked"), "counted_once"),
    ("INSERT INTO registry (program, kind, key) VALUES (1, 1, 'lost')", "counted_once"),
    (COPY_OF_A_RETURN, "counted_once"),
    # number 7, of packaging
    (
        "INSERT INTO claim SELECT program, kind, sha256(fingerprint), bucket, account, event + 1000000, item FROM claim LIMIT 1",
        "counted_once",
    ),
    (change("claim", "item = item + 1"), "counted_once"),
    (change("trip", "returned_at = shipped_at - interval '1 second'", "returned_at IS NOT NULL"), "counted_once"),
    (change("trip", "awarded_item = awarded_item + 7", "awarded_event IS NOT NULL"), "counted_once"),
    (change("trip", "awarded_event = NULL, awarded_item = NULL", "awarded_event IS NOT NULL"), "counted_once"),
    (COPY_OF_A_TRIP, "counted_once"),
    (change("packaging_sent", "returned = returned - 1", "returned > 0"), "counted_once"),
    (change("packaging_back", "units = units + 1"), "counted_once"),
    (delete("packaging_back"), "counted_once"),
    # number 9
    ("WITH a AS (UPDATE award SET due_at = due_at - interval '15 days') UPDATE due SET due_at = due_at - interval '15 days'", "deadlines"),
    (change("parked", "received_at = now() - interval '91 days'"), "deadlines"),
    (change("lot", "expires_on = expires_on - 1000", "remaining > reserved AND campaign = 1"), "deadlines"),
    (
        "WITH d AS (UPDATE reservation_due SET due_at = due_at - interval '1 day') UPDATE redemption SET expires_at = expires_at - interval '1 day'",
        "deadlines",
    ),
    (change("reservation_due", "due_at = due_at + interval '1 second'"), "deadlines"),
    (delete("reservation_due"), "deadlines"),
    # number 10
    (change("rollup", "points_redeemed = points_redeemed + 1"), "statistics"),
    (change("rollup", "points_expired = points_expired - 1"), "statistics"),
    (change("rollup", "co2e_g = co2e_g + 1"), "statistics"),
    (change("rollup", "plastic_g = plastic_g - 1"), "statistics"),
    (change("award", "impact = NULL", "impact IS NOT NULL"), "statistics"),
    (change("award", "plastic_g = 1", "impact IS NULL"), "statistics"),
    (change("rollup", "events = events + 1"), "statistics"),
    (change("rollup", "points_issued = points_issued + 1"), "statistics"),
    (change("rollup", "points_pending = points_pending + 1"), "statistics"),
    (change("rollup", "points_settled = points_settled + 1"), "statistics"),
    (change("rollup", "points_reversed = points_reversed + 1"), "statistics"),
    (delete("campaign_consumer"), "statistics"),
    ("INSERT INTO campaign_consumer SELECT bucket, campaign + 1000, hour, account, platform FROM campaign_consumer LIMIT 1", "statistics"),
    # number 11
    (change("seal", "entries = entries + 1"), "seals"),
    (delete("seal"), "seals"),
    (change("seal_part", "hash = sha256(hash)"), "seals"),
    (delete("seal_part"), "seals"),
]


TABLES = sorted(
    "account award budget campaign_consumer campaign_version cap_usage claim due entry event lot lot_use opening packaging_back packaging_sent "
    "parked redemption redemption_lot registry reservation_due rollup seal seal_part transfer trip".split()
)


async def execute(world: World, *sql: str) -> str:
    """In one transaction, and whatever triggers and foreign keys say."""
    async with world.pool.acquire() as conn:
        return await tamper(conn, *sql)


async def test_one_tampered_row_breaks_exactly_its_invariant(lived: World, projection: Projection) -> None:
    await seal(lived.pool, margin=timedelta(0))
    await execute(lived, "CREATE SCHEMA kept", *(f"CREATE TABLE kept.{table} AS TABLE {table}" for table in TABLES))
    await projection.redis.flushdb()  # this takes longer than Redis may be behind
    found = {}
    for sql, _ in TAMPERING:
        assert (await execute(lived, sql)).split()[-1] != "0", f"changed nothing: {sql}"
        found[sql] = broken(await check(lived.pool, projection))
        for table in TABLES:
            await execute(lived, f"DELETE FROM {table}", f"INSERT INTO {table} SELECT * FROM kept.{table}")
    wrong = {sql: (names, found[sql]) for sql, names in TAMPERING if " ".join(found[sql]) != names}
    assert wrong == {}
    assert (await check(lived.pool, projection)).ok
    assert {name for names in found.values() for name in names} == {rule.name for rule in RULES} - {
        "redis",
        "fraud_cases",
    }  # those of cases are in test_fraud_checks.py


async def test_every_statement_fits_the_migrated_schema(world: World) -> None:
    async with world.pool.acquire() as conn:
        for name, statement in vars(statements).items():
            if name.isupper() and not name.startswith("_") and "SELECT" in str(statement):
                await conn.prepare(statement)


# Redis


async def fill(world: World, projection: Projection) -> dict[int, Balance]:
    """Every balance in Redis, nothing changed lately."""
    await world.rows("UPDATE event SET received_at = received_at - interval '6 seconds'")
    await execute(world, "UPDATE entry SET at = at - interval '6 seconds'")
    async with world.pool.acquire() as conn:
        found = dict((await balances.as_redis_knows(conn, await balances.page(conn, (-1, -1), 100))).balances)
    assert await projection.push(found.items())
    return found


def value(balance: Balance, **changes: int) -> bytes:
    balance = msgspec.structs.replace(balance, **changes)
    return f"{balance.version:020d}-".encode() + msgspec.json.encode(balance)[1:-1]


async def test_redis_may_forget_but_not_be_wrong(lived: World, projection: Projection) -> None:
    stored = await fill(lived, projection)
    account, balance = next((a, b) for a, b in stored.items() if b.version > 1)
    key = projection.key(account)
    assert (await check(lived.pool, projection)).checked["redis_balances"] == len(stored)
    wrong = {
        "newer": value(balance, version=balance.version + 1),
        "older": value(balance, version=balance.version - 1),
        "different": value(balance, available=balance.available + 1),
        "unreadable": b"0",
    }
    for name, content in wrong.items():
        await projection.redis.set(key, content)
        found = broken(await check(lived.pool, projection))
        assert list(found) == ["redis"], name
        assert len(found["redis"]) == 1
        assert str(account) in found["redis"][0]
    await projection.redis.set(key, wrong["older"])
    await lived.rows("UPDATE event SET received_at = now() WHERE account = $1", account)
    assert (await check(lived.pool, projection)).ok, "an older balance is no fault while its account is in use"
    await projection.redis.flushdb()
    assert (await check(lived.pool, projection)).ok, "a missing balance is none either"


async def test_without_redis_nothing_is_known_about_it(lived: World) -> None:
    async with Redis.from_url("redis://127.0.0.1:1/0") as nobody:
        report = await check(lived.pool, Projection(nobody, epoch=1, ttl_s=600, wait_ms=100))
    found = broken(report)
    assert list(found) == ["redis"]
    assert found["redis"][0].startswith("not checked: ")


async def test_rebuild_writes_every_balance_again(lived: World, projection: Projection) -> None:
    stored = await fill(lived, projection)
    for account, balance in stored.items():
        await projection.redis.set(projection.key(account), value(balance, version=balance.version + 7))
    assert not (await check(lived.pool, projection)).ok
    told: list[tuple[int, int]] = []
    assert await rebuild(lived.pool, projection, progress=lambda done, of: told.append((done, of))) == len(stored)
    report = await check(lived.pool, projection)
    assert (report.ok, report.checked["redis_balances"]) == (True, len(stored))
    assert told == [(len(stored), len(stored))]
    async with Redis.from_url("redis://127.0.0.1:1/0") as nobody:
        with pytest.raises(RedisError):
            await rebuild(lived.pool, Projection(nobody, epoch=1, ttl_s=600, wait_ms=100))


# What check found while it was written


async def test_the_first_report_of_an_order_counts(world: World, projection: Projection) -> None:
    """A second order.paid with more units must not make a full refund of the first a partial one."""
    await world.campaign(hold="P14D")
    paid = order_paid(quantity=5)
    await world.credit(paid)
    second = await world.credit(order_paid(quantity=10, order=paid["order"]["id"], id="again"))
    assert second["status"] == "ignored"
    assert (await world.credit(refund(paid, "all", 5)))["points"] == -50
    assert broken(await check(world.pool, projection)) == {}


async def test_the_filler_of_the_load_tests_writes_what_the_flows_would(world: World, projection: Projection) -> None:
    async with world.pool.acquire() as conn:
        await fill_past(conn, events=2_100, consumers=300)
    report = await check(world.pool, projection)
    assert broken(report) == {}
    assert (report.checked["events"], report.checked["refunded_orders"]) == (2_100, 100)

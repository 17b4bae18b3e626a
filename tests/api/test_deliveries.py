"""The log of inbound deliveries: what each came to, who may read it, that it slows no delivery and can be flooded by nobody."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
import structlog
from litestar import Litestar

from service.domain.deliveries import Delivery, Refusals, kept_headers
from service.flows import delivery_log
from service.flows.delivery_log import DeliveryLog
from service.flows.forget import forget_deliveries
from tests.beginnings import Begin, Beginning
from tests.deliveries import Shop, refill, shopify_order
from tests.worlds import World

PERSON = "a-person"
OUTSIDE = b'{"type": "activity.completed", "data": {"type": "order.paid", "consumer": "a-person"}}'


async def open_shop(app: Litestar, client: httpx.AsyncClient) -> Shop:
    return await Shop(app, client, World(app.state.resources.pool)).found()


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Shop]:
    return begin(open_shop, in_app=True)


# What came of it


async def test_every_delivery_is_in_the_log_with_what_came_of_it(shop: Shop) -> None:
    await shop.deliver(refill("r-1"), "msg_1")
    await shop.deliver(refill("r-1"), "msg_1")
    await shop.deliver(refill("r-2") | {"activity": "repair"}, "msg_2")
    await shop.deliver({"type": "ping"}, "msg_3")
    await shop.deliver(OUTSIDE, "msg_4")
    rows = await shop.log()
    assert {row["verdict"] for row in rows} == {"verified"}
    by = {(row["delivery_id"], row["outcome"]): row for row in rows}
    assert set(by) == {
        ("msg_1", "credited"), ("msg_1", "duplicate"), ("msg_2", "ignored"), ("msg_3", "ignored"), ("msg_4", "untranslatable"),
    }  # fmt: skip
    first = by["msg_1", "credited"]
    assert first["events"] == [{"id": "r-1", "status": "pending", "points": 10, "refused": []}]
    assert (first["hook"], first["platform"], first["connector"]) == (shop.hooks["standard"].id, "shop", "standard")
    assert (first["topic"], first["deliveries"], first["replayable"]) == ("activity.completed", 1, False)
    assert first["size_bytes"] > 100
    assert first["duration_ms"] > 0
    assert by["msg_3", "ignored"]["detail"].startswith("the type is none of")
    assert by["msg_4", "untranslatable"]["detail"] == "type and data.type differ"
    assert by["msg_4", "untranslatable"]["replayable"] is True
    one = await shop.call("GET", f"/v1/deliveries/{first['id']}")
    assert one.json() == first


async def test_what_proves_nothing_is_in_the_log_with_why(shop: Shop) -> None:
    forged = await shop.deliver(refill("r-1"), "msg_1", secret="whsec_" + "A" * 32)
    old = await shop.deliver(refill("r-1"), "msg_2", at=time.time() - 3_600)
    packed = await shop.deliver(refill("r-1"), "msg_3", more={"content-encoding": "gzip"})
    large = await shop.deliver(b"x" * (2 * 2**20 + 1), "msg_4")
    assert [answer.status_code for answer in (forged, old, packed, large)] == [401, 401, 415, 413]
    found = {row["delivery_id"]: (row["verdict"], row["outcome"]) for row in await shop.log()}
    assert found == {
        "msg_1": ("bad_signature", "refused"), "msg_2": ("stale", "refused"),
        "msg_3": ("unread", "refused"), "msg_4": ("unread", "refused"),
    }  # fmt: skip
    assert {row["events"] == [] for row in await shop.log()} == {True}


async def test_a_row_names_the_request(shop: Shop) -> None:
    with structlog.contextvars.bound_contextvars(request_id="request-17"):
        await shop.deliver(refill("r-1"), more={"x-request-id": "request-17"})
    assert [each["request_id"] for each in await shop.log()] == ["request-17"]


async def test_a_refused_product_says_so_in_the_log(shop: Shop) -> None:
    await shop.shopify(shopify_order(1, line_items=[{"id": 1, "sku": "UNKNOWN", "quantity": 1, "price": "20.00"}]))
    (row,) = await shop.log()
    assert (row["topic"], row["delivery_id"], row["outcome"]) == ("orders/paid", "wh-1", "ignored")
    assert row["events"][0]["id"] == "shopify:1:paid"
    assert row["events"][0]["points"] == 0


async def test_no_row_names_a_person(shop: Shop) -> None:
    await shop.deliver(refill("r-1"), "msg_1")
    await shop.deliver(OUTSIDE, "msg_2")
    await shop.shopify(shopify_order(1, consumer=987_654_321))
    await shop.log()
    rows = await shop.world.rows("SELECT d::text AS text FROM delivery d")
    assert len(rows) == 3
    for row in rows:
        assert PERSON not in row["text"]
        assert "987654321" not in row["text"]


async def test_the_senders_words_are_cut_and_printable(shop: Shop) -> None:
    await shop.shopify(shopify_order(1), topic="orders/\x80paid" + "x" * 500)
    (row,) = await shop.log()
    assert row["topic"].startswith("orders/\ufffdpaid")
    assert len(row["topic"]) == 256


def test_proofs_and_addresses_are_not_kept() -> None:
    headers = {
        "x-shopify-topic": "orders/paid", "x-shopify-hmac-sha256": "x", "authorization": "Bearer x", "cookie": "x", "x-forwarded-for": "10.0.0.1",
        "webhook-signature": "x", "webhook-id": "msg_1", "x-real-ip": "10.0.0.1", "content-type": "application/json", "host": "x",
    }  # fmt: skip
    assert set(kept_headers(headers)) == {"x-shopify-topic", "webhook-id", "content-type"}
    assert len(kept_headers({f"x-{n}": "y" for n in range(500)})) == 64


# Who reads it


async def test_two_programs_never_see_each_others_deliveries(shop: Shop) -> None:
    await shop.deliver(OUTSIDE)
    (row,) = await shop.log()
    assert await shop.log("foreign") == []
    for method, path in (("GET", f"/v1/deliveries/{row['id']}"), ("POST", f"/v1/deliveries/{row['id']}/replay")):
        answer = await shop.call(method, path, "foreign")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    span = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
    assert (await shop.call("POST", "/v1/deliveries/replay", "foreign", json=span)).json()["items"] == []
    assert (await shop.log())[0]["attempts"] == 0
    (asked,) = (await shop.call("GET", "/v1/audit", "foreign", params={"action": "delivery.replay"})).json()["items"]
    assert asked["after"]["deliveries"] == []


async def test_a_platform_reads_its_own_deliveries_and_replays_none(shop: Shop) -> None:
    await shop.deliver(OUTSIDE)
    (row,) = await shop.log("shop")
    assert await shop.log("market") == []
    assert (await shop.call("GET", f"/v1/deliveries/{row['id']}", "shop")).status_code == 200
    assert (await shop.call("GET", f"/v1/deliveries/{row['id']}", "market")).status_code == 404
    assert (await shop.call("POST", f"/v1/deliveries/{row['id']}/replay", "shop")).status_code == 403
    keys = "/v1/platforms/shop/keys"
    shop.tokens["narrow"] = (await shop.call("POST", keys, json={"scopes": ["events:write"]})).json()["key"]
    shop.tokens["reader"] = (await shop.call("POST", keys, json={"scopes": ["deliveries:read"]})).json()["key"]
    assert (await shop.call("GET", "/v1/deliveries", "narrow")).status_code == 403
    assert len(await shop.log("reader")) == 1


async def test_a_viewer_reads_no_deliveries(shop: Shop) -> None:
    for method, path in (("GET", "/v1/deliveries"), ("GET", "/v1/deliveries/1"), ("POST", "/v1/deliveries/1/replay")):
        assert (await shop.call(method, path, "viewer")).status_code == 403
        assert (await shop.client.request(method, path)).status_code == 401


async def test_the_log_can_be_searched(shop: Shop) -> None:
    await shop.deliver(refill("r-1"), "msg_1")
    await shop.deliver(OUTSIDE, "msg_2")
    await shop.deliver(refill("r-2"), "msg_3", secret="whsec_" + "A" * 32)
    await shop.shopify(shopify_order(5))
    rows = await shop.log()
    assert len(rows) == 4
    later, sooner = (datetime.now(UTC) + timedelta(hours=1)).isoformat(), (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    searches: list[tuple[dict[str, Any], set[str]]] = [
        ({"hook": shop.hooks["shopify"].id}, {"wh-1"}),
        ({"platform": "shop"}, {"msg_1", "msg_2", "msg_3", "wh-1"}),
        ({"platform": "market"}, set()),
        ({"outcome": "untranslatable"}, {"msg_2"}),
        ({"verdict": "bad_signature"}, {"msg_3"}),
        ({"topic": "orders/paid"}, {"wh-1"}),
        ({"event": "r-1"}, {"msg_1"}),
        ({"event": "shopify:5:paid"}, {"wh-1"}),
        ({"from": sooner, "to": later}, {"msg_1", "msg_2", "msg_3", "wh-1"}),
        ({"from": later}, set()),
        ({"to": sooner}, set()),
        ({"verdict": "verified", "topic": "activity.completed"}, {"msg_1"}),
    ]
    for search, expected in searches:
        assert {row["delivery_id"] for row in await shop.log(**search)} == expected, search
    first = (await shop.call("GET", "/v1/deliveries", params={"limit": 3})).json()
    rest = (await shop.call("GET", "/v1/deliveries", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [row["id"] for row in first["items"] + rest["items"]] == [row["id"] for row in rows]
    assert rest["next_cursor"] is None
    for bad in ({"outcome": "lost"}, {"from": "2026-01-01T00:00:00"}, {"topic": "a\x00b"}, {"cursor": "x!"}, {"limit": 0}):
        assert (await shop.call("GET", "/v1/deliveries", params=bad)).status_code == 422, bad
    for odd in ("0", "x", "9" * 30, "%00", "-1"):
        assert (await shop.call("GET", f"/v1/deliveries/{odd}")).status_code == 404


# Writing


async def test_no_delivery_waits_for_its_row(shop: Shop) -> None:
    async with shop.world.pool.acquire() as conn:
        async with conn.transaction():
            await conn.execute("LOCK TABLE delivery")
            answers = await asyncio.gather(*(shop.deliver(refill(f"r-{n}"), f"msg_{n}") for n in range(20)))
            assert {answer.status_code for answer in answers} == {200}
        assert len(await shop.log(limit=200)) == 20


async def test_what_verified_and_failed_is_kept_before_it_is_answered(shop: Shop) -> None:
    answer = await shop.deliver(OUTSIDE)
    assert answer.json() == {"received": True, "events": []}
    (row,) = await shop.world.rows("SELECT sealed, body FROM delivery")
    assert row["body"] is None
    assert row["sealed"].startswith("v1:")
    assert OUTSIDE in shop.app.state.resources.sealer.open_bytes(row["sealed"])
    await shop.world.rows("ALTER TABLE delivery ADD CONSTRAINT full_disk CHECK (false) NOT VALID")
    assert (await shop.deliver(OUTSIDE, "msg_2")).status_code >= 500, "what could not be kept is not acknowledged"


async def test_a_defect_of_ours_keeps_the_delivery_and_the_other_events_count(shop: Shop) -> None:
    await shop.world.rows("ALTER TABLE event ADD CONSTRAINT defect CHECK (id <> 'shopify:9:paid') NOT VALID")
    answer = await shop.shopify(shopify_order(9))
    assert (answer.status_code, answer.json()["events"]) == (200, [])
    (row,) = await shop.log()
    assert (row["outcome"], row["replayable"]) == ("failed", True)
    await shop.world.rows("ALTER TABLE event DROP CONSTRAINT defect")
    replayed = (await shop.call("POST", f"/v1/deliveries/{row['id']}/replay")).json()
    assert (replayed["outcome"], replayed["events"][0]["points"]) == ("credited", 20)


async def test_what_only_others_stand_in_the_way_of_is_sent_again(shop: Shop) -> None:
    await shop.world.rows(
        "CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$"
    )
    await shop.world.rows("CREATE TRIGGER conflict BEFORE INSERT ON event FOR EACH ROW WHEN (new.id = 'r-1') EXECUTE FUNCTION conflict()")
    assert (await shop.deliver(refill("r-1"))).status_code == 503
    (row,) = await shop.log()
    assert (row["outcome"], row["replayable"]) == ("unavailable", False)
    event = await shop.call("POST", "/v1/events", "shop", json=refill("r-1"))
    assert (event.status_code, event.json()["code"]) == (503, "unavailable")
    await shop.world.rows("DROP TRIGGER conflict ON event")
    assert (await shop.deliver(refill("r-1"))).status_code == 200
    assert await shop.balance(PERSON) == 10


async def test_a_translator_that_breaks_loses_no_delivery(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("a defect")

    with monkeypatch.context() as patched:
        patched.setattr("service.flows.deliveries.translate", broken)
        assert (await shop.deliver(refill("r-1"))).status_code == 200
    (row,) = await shop.log()
    assert (row["outcome"], row["replayable"]) == ("failed", True)
    assert (await shop.call("POST", f"/v1/deliveries/{row['id']}/replay")).json()["outcome"] == "credited"
    assert await shop.balance(PERSON) == 10


async def test_forged_floods_are_counted_not_written(shop: Shop) -> None:
    for n in range(delivery_log.REFUSED_PER_MINUTE + 25):
        assert (await shop.deliver(refill("r-1"), f"msg_{n}", secret="whsec_" + "A" * 32)).status_code == 401
    await shop.deliver(refill("r-1"))
    await shop.app.state.deliveries.stop()
    rows = await shop.world.rows("SELECT outcome, deliveries FROM delivery")
    refused = [row["deliveries"] for row in rows if row["outcome"] == "refused"]
    assert sum(refused) == delivery_log.REFUSED_PER_MINUTE + 25
    assert len(refused) <= 2 * (delivery_log.REFUSED_PER_MINUTE + 1), "two minutes at most"
    assert [row["deliveries"] for row in rows if row["outcome"] == "credited"] == [1], "a genuine one is never only counted"


AT = datetime(2026, 11, 22, 9, 0, 30, tzinfo=UTC)


def row(at: datetime = AT, hook: str = "h", detail: str = "") -> Delivery:
    return Delivery(program=1, platform=1, hook=hook, connector="standard", received_at=at, outcome="refused", detail=detail)


def test_the_first_few_of_a_minute_are_written_and_the_rest_counted() -> None:
    refusals = Refusals(2)
    assert [len(refusals.add(row())) for _ in range(5)] == [1, 1, 0, 0, 0]
    assert len(refusals.add(row(hook="other"))) == 1, "each hook by itself"
    assert refusals.ended(AT) == []
    (counted,) = refusals.ended(AT + timedelta(minutes=1))
    assert counted.deliveries == 3
    assert [len(refusals.add(row())) for _ in range(3)] == [1, 1, 0]
    assert [each.deliveries for each in refusals.add(row(AT + timedelta(minutes=1)))] == [1, 1], (
        "the count of the minute before comes first"
    )
    assert refusals.ended(None) == []


async def test_a_full_log_drops_its_oldest_rows_and_goes_on_when_postgresql_is_back(shop: Shop) -> None:
    async with asyncpg.create_pool("postgresql://nobody@127.0.0.1:1/none", min_size=0, max_size=1) as nowhere:
        own = DeliveryLog(nowhere, lambda: AT, max_rows=3)
        for n in range(5):
            own.add(row(detail=str(n)))
        with pytest.raises(OSError, match="onnect"):
            await own.flush()
        own.add(row(detail="5"))
        assert own.statistics.dropped == 3
        own._pool = shop.world.pool
        await own.flush()
    assert [each["detail"] for each in await shop.world.rows("SELECT detail FROM delivery ORDER BY id")] == ["3", "4", "5"]
    assert own.statistics.written == 3


async def test_a_clean_stop_writes_what_has_gathered(shop: Shop) -> None:
    own = DeliveryLog(shop.world.pool, lambda: AT)
    own.start()
    own.add(row())
    await own.stop()
    assert await shop.world.rows("SELECT count(*)::int AS n FROM delivery") == [{"n": 1}]


async def test_a_row_as_an_older_release_writes_it_is_taken_shown_and_replayed(shop: Shop) -> None:
    body = b'{"type": "activity.completed", "data": {"id": "old-1", "type": "activity.completed", "occurred_at": "2026-01-01T00:00:00Z", "consumer": "a-person", "activity": "refill"}}'
    sender = shop.world.platforms["shop"]
    await shop.world.rows(
        "INSERT INTO delivery (program, platform, hook, topic, delivery_id, outcome, detail, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        sender.program, sender.platform, shop.hooks["standard"].id, None, "msg_old", "untranslatable", "as it was", body,
    )  # fmt: skip
    (shown,) = await shop.log()
    assert (shown["connector"], shown["size_bytes"], shown["replayable"], shown["verdict"]) == ("standard", len(body), True, "verified")
    assert (await shop.call("POST", f"/v1/deliveries/{shown['id']}/replay")).json()["outcome"] == "credited"
    assert await shop.balance(PERSON) == 10


# Forgetting


async def test_bodies_and_rows_are_forgotten_after_their_time_in_small_batches(shop: Shop) -> None:
    for n in range(7):
        await shop.deliver(OUTSIDE, f"msg_{n}")
    await shop.world.rows("UPDATE delivery SET received_at = now() - interval '31 days' WHERE delivery_id IN ('msg_0', 'msg_1', 'msg_2')")
    await shop.world.rows("UPDATE delivery SET received_at = now() - interval '91 days' WHERE delivery_id IN ('msg_3', 'msg_4')")
    await forget_deliveries(shop.world.pool, rows_after=timedelta(days=90), bodies_after=timedelta(days=30), batch_rows=2)
    left = {each["delivery_id"]: each["replayable"] for each in await shop.log()}
    assert left == {"msg_0": False, "msg_1": False, "msg_2": False, "msg_5": True, "msg_6": True}
    gone = next(each for each in await shop.log() if each["delivery_id"] == "msg_0")
    refused = await shop.call("POST", f"/v1/deliveries/{gone['id']}/replay")
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")
    assert (await shop.world.rows("SELECT count(*)::int AS n FROM audit WHERE action = 'delivery.replay'")) == [{"n": 0}]

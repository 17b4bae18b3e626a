"""A person's data over HTTP: erasing, exporting, holds, what Shopify asks for; and who may do what."""

import base64
import hashlib
import hmac
import itertools
import json
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from litestar import Litestar

from schemas.privacy import Export
from service.flows import administer, privacy_requests, retention
from service.flows.erase import finish_erasures
from service.settings import Settings
from tests import books
from tests.api.operators import _token
from tests.beginnings import Begin, Beginning
from tests.flows.test_packaging import asset, fulfilled, paid, returned, wrong
from tests.sealer import SEALER
from tests.servers import serving
from tests.worlds import World, now, order_paid, refund

TERMS = retention.Terms(attributes=0, fraud_attributes=0, parked=0, exports=0, requests=0)


class Shop:
    """The real application, its platforms, operators of its program, and a hook of Shopify's."""

    hook: str
    secret: str

    def __init__(self, app: Litestar, client: httpx.AsyncClient) -> None:
        self.app, self.client, self.resources = app, client, app.state.resources
        self.world = World(self.resources.pool)
        self.tokens: dict[str, str] = {}
        self._numbers = itertools.count(1)

    async def open(self) -> "Shop":
        await self.world.found()
        await self.world.campaign()
        async with self.world.pool.acquire() as conn:
            for role in ("admin", "fraud", "campaigns"):
                self.tokens[role] = await _token(conn, role, role, self.world.program)
            other = await administer.create_program(conn, code="other", name="Other", currency="leaf", time_zone="UTC")
            self.tokens["stranger"] = await _token(conn, "stranger", "admin", other.id)
            made = await administer.create_hook(conn, program=self.world.program, platform="shop", connector="shopify", sealer=SEALER)
            self.hook, self.secret = made.id, SEALER.open(made.secrets[0])
            for scope in ("consumers:read", "consumers:export", "consumers:erase"):
                key = await administer.create_key(conn, program=self.world.program, platform="shop", scopes=[scope])  # type: ignore[list-item]
                self.tokens[scope] = str(key.key)
        self.tokens |= self.world.keys
        return self

    async def call(self, method: str, path: str, json: Any = None, *, by: str = "shop") -> httpx.Response:
        return await self.client.request(method, path, json=json, headers={"Authorization": f"Bearer {self.tokens[by]}"})

    async def credit(self, event: dict[str, Any], *, by: str = "shop") -> dict[str, Any]:
        answer = await self.call("POST", "/v1/events", event, by=by)
        assert answer.status_code in (200, 201), answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def deliver(self, topic: str, body: Any, *, delivery: str | None = None) -> httpx.Response:
        content = json.dumps(body).encode()
        headers = {
            "X-Shopify-Topic": topic,
            "X-Shopify-Webhook-Id": delivery or f"delivery-{next(self._numbers)}",
            "X-Shopify-Hmac-Sha256": base64.b64encode(hmac.digest(self.secret.encode(), content, hashlib.sha256)).decode(),
        }
        return await self.client.post(f"/v1/hooks/{self.hook}", content=content, headers=headers)

    async def work(self) -> None:
        """What workers do every second, until nothing is left that can be done."""
        for _ in range(3):
            await privacy_requests.work(self.resources.pool)
            await finish_erasures(self.resources.pool, self.resources.projection)

    async def requests(self, *, by: str = "shop") -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await self.call("GET", "/v1/privacy-requests", by=by)).json()["items"]
        return items

    async def references(self) -> list[str]:
        return [row["reference"] for row in await self.world.rows("SELECT reference FROM consumer_reference ORDER BY 1")]

    async def unharmed(self) -> None:
        async with self.world.pool.acquire() as connection:
            assert await books.faults(connection) == {}


async def open_shop(app: Litestar, client: httpx.AsyncClient) -> Shop:
    return await Shop(app, client).open()


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Shop]:
    return begin(open_shop, in_app=True)


# Erasing ---------------------------------------------------------------------------------------------


async def test_a_platform_erases_its_consumer(shop: Shop) -> None:
    await shop.credit(order_paid("ada/1"))
    path = f"/v1/consumers/{quote('ada/1', safe='')}"
    assert (await shop.call("GET", f"{path}/balance")).json()["pending"] == 10
    erased = await shop.call("DELETE", path)
    assert (erased.status_code, erased.content) == (204, b"")
    assert (await shop.call("GET", f"{path}/balance")).status_code == 404
    assert (await shop.call("GET", f"{path}/activity")).status_code == 404
    assert (await shop.call("GET", f"{path}/export")).status_code == 404
    assert (await shop.call("DELETE", path)).status_code == 404, "it is forgotten that there was somebody"
    assert [key async for key in shop.resources.projection.redis.scan_iter("*balance*")] == []
    await shop.unharmed()


async def test_another_process_that_remembers_the_person_shows_nothing(shop: Shop, settings: Settings) -> None:
    async with serving(settings) as (_, other):
        headers = {"Authorization": f"Bearer {shop.tokens['shop']}"}
        await shop.credit(order_paid("ada"))
        await shop.call("GET", "/v1/consumers/ada/balance")
        assert (await other.get("/v1/consumers/ada/balance", headers=headers)).json()["pending"] == 10
        await shop.call("DELETE", "/v1/consumers/ada")
        assert (await other.get("/v1/consumers/ada/balance", headers=headers)).status_code == 404
        assert (await other.get("/v1/consumers/ada/activity", headers=headers)).status_code == 404
        answer = await other.post("/v1/events", json=order_paid("ada"), headers=headers)
        assert answer.json()["balance"]["version"] == 1, "somebody new"


async def test_the_operator_may_erase_too_and_it_is_written_down(shop: Shop) -> None:
    await shop.credit(order_paid("ada"))
    assert (await shop.call("DELETE", "/v1/consumers/ada", by="admin")).status_code == 422
    assert (await shop.call("DELETE", "/v1/consumers/ada?platform=market", by="admin")).status_code == 404
    assert (await shop.call("DELETE", "/v1/consumers/ada?platform=shop", by="stranger")).status_code == 404
    assert (await shop.call("DELETE", "/v1/consumers/ada?platform=shop", by="fraud")).status_code == 403
    assert await shop.references() == ["ada"]
    assert (await shop.call("DELETE", "/v1/consumers/ada?platform=shop", by="admin")).status_code == 204
    (row,) = await shop.world.rows("SELECT actor, subject, after::text AS after FROM audit WHERE action = 'consumer.erase'")
    assert row["actor"].startswith("operator:")
    assert row["subject"] == "platform:shop"
    assert "ada" not in row["after"]


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [("DELETE", "", "consumers:erase"), ("GET", "/export", "consumers:export")],
)
async def test_a_key_needs_the_scope(shop: Shop, method: str, path: str, scope: str) -> None:
    await shop.credit(order_paid("ada"))
    for other in {"consumers:read", "consumers:export", "consumers:erase"} - {scope}:
        assert (await shop.call(method, f"/v1/consumers/ada{path}", by=other)).status_code == 403
    assert (await shop.call(method, f"/v1/consumers/ada{path}", by="market")).status_code == 404
    assert (await shop.call(method, f"/v1/consumers/ada{path}", by=scope)).status_code in (200, 204)


async def test_refused_events_say_why_and_hooks_stay_quiet(shop: Shop) -> None:
    assert (await shop.call("PATCH", "/v1/privacy-policy", {"erased_reference": "refuse"}, by="campaigns")).status_code == 403
    assert (await shop.call("PATCH", "/v1/privacy-policy", {"erased_reference": "maybe"}, by="admin")).status_code == 422
    assert (await shop.call("PATCH", "/v1/privacy-policy", {"erased_reference": "refuse"}, by="admin")).status_code == 200
    assert (await shop.call("GET", "/v1/privacy-policy", by="campaigns")).json() == {"erased_reference": "refuse"}
    await shop.credit(order_paid("42"))
    await shop.call("DELETE", "/v1/consumers/42")
    for path in ("/v1/events", "/v1/events?dry_run=true"):
        refused = await shop.call("POST", path, order_paid("42"))
        assert (refused.status_code, refused.json()["code"]) == (422, "consumer_erased")
        assert refused.json()["errors"][0]["pointer"] == "/consumer"
    batch = (await shop.call("POST", "/v1/events/batch", [order_paid("42"), order_paid("43")])).json()
    assert (batch["accepted"], batch["rejected"], batch["results"][0]["code"]) == (1, 1, "consumer_erased")
    delivered = await shop.deliver("orders/paid", shopify_order(7001, customer=42))
    assert (delivered.status_code, delivered.json()) == (200, {"received": True, "events": []})
    assert await shop.references() == ["43"]


# Exporting -------------------------------------------------------------------------------------------


async def test_an_export_has_everything_that_is_held(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from service.flows import personal_export  # noqa: PLC0415 - its page is made small here

    paid = order_paid("ada", quantity=3, attributes={"note": "ring twice", "address": "Elm 1"})
    await shop.credit(paid)
    await shop.credit(refund(paid, "r", 1))
    await shop.credit(refund(order_paid("ada"), "early", 1) | {"attributes": {"note": "before its order"}})
    await shop.credit(order_paid("ada"), by="market")
    answer = await shop.call("GET", "/v1/consumers/ada/export")
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    msgspec.convert(document, Export, strict=False)
    assert (document["platform"], document["references"], document["balance"]["pending"]) == ("shop", ["ada"], 20)
    assert [(e["type"], e["points"], [a["points"] - a["reversed"] for a in e["awards"]]) for e in document["events"]] == [
        ("order.refunded", -10, []), ("order.paid", 30, [20]),
    ]  # fmt: skip
    assert document["events"][1]["facts"]["attributes"]["note"] == "ring twice"
    assert document["events"][1]["facts"]["attributes"]["address"].startswith("h:")
    assert [p["facts"]["attributes"]["note"] for p in document["parked"]] == ["before its order"]
    assert [(c["points"], c["reversed"]) for c in document["campaigns"]] == [(30, 10)]
    assert document["next_cursor"] is None
    monkeypatch.setattr(personal_export, "PAGE", 1)
    first = (await shop.call("GET", "/v1/consumers/ada/export")).json()
    second = (await shop.call("GET", f"/v1/consumers/ada/export?cursor={first['next_cursor']}")).json()
    assert first["events"] + second["events"] == document["events"]
    assert second["next_cursor"] is None
    assert len(await shop.world.rows("SELECT FROM audit WHERE action = 'consumer.export'")) == 3


async def test_an_export_has_ones_own_side_of_packaging_and_nobody_elses(shop: Shop) -> None:
    """Box 1 goes to ada, and bob brings it back; box 2 goes to bob on another platform, and ada brings it back."""
    await shop.world.campaign(code="back", action="return", award={"kind": "per_unit", "points": 5})
    for key in ("box1", "box2", "box3"):
        await asset(shop.world, key)
    deposit = {"amount": "2.00", "currency": "CNY"}
    wrongly = fulfilled("o-1", "box3", at=1)
    for event, by in (
        (paid("o-1", "ada"), "shop"), (fulfilled("o-1", "box1"), "shop"), (fulfilled("o-1", class_="paper_mailer"), "shop"), (wrongly, "shop"),
        (wrong(wrongly), "shop"), (fulfilled("o-1", "box1", at=6), "shop"), (paid("o-2", "bob"), "market"), (fulfilled("o-2", "box2"), "market"),
        (returned("ada", "BOX-2", "box3", deposit=deposit), "shop"), (returned("bob", "box1", deposit=deposit), "market"),
        (returned("ada", at=2, waybill="SF-77"), "shop"), (returned("ada", "box1", at=3), "shop"), (returned("ada", "box1", at=4), "market"),
    ):  # fmt: skip
        await shop.credit(event, by=by)
    declared = returned("ada", "box2", at=5)
    await shop.credit(declared)
    await shop.credit(wrong(declared))
    answer = await shop.call("GET", "/v1/consumers/ada/export")
    document = answer.json()
    msgspec.convert(document, Export, strict=False)
    told = [{name: e[name] for name in ("shipped", "returned", "given_back", "waits", "claims")} for e in reversed(document["events"])]
    of_nothing: dict[str, Any] = {"shipped": [], "returned": [], "given_back": [], "waits": [], "claims": []}
    shipped = [e["shipped"] for e in reversed(document["events"]) if e["shipped"]]
    assert shipped == [
        [{"asset": "box1", "declared_wrong": False}],
        [{"asset": "box3", "declared_wrong": True}],
        [{"asset": "box1", "declared_wrong": False}],
    ]
    assert told[-2:] == [
        of_nothing | {"returned": [{"item": 0, "asset": "box2", "deposit": "2.00", "currency": "CNY"}], "waits": [1]},
        of_nothing | {"given_back": [{"item": 0, "class": "paper_mailer", "units": "1"}], "claims": [{"item": 0, "kind": "returned"}]},
    ]
    assert [(a["item"], a["points"]) for e in document["events"] for a in e["awards"]] == [(0, 5), (0, 5), (None, 10)]
    assert [(p["facts"]["returns"][0]["asset"], p["waits"], p["declared_wrong"]) for p in document["parked"]] == [
        ("box1", [0], False), ("box2", [], True),
    ]  # fmt: skip
    assert [(s["class"], s["units"], s["returned"]) for s in document["packaging_sent"]] == [("paper_mailer", "1", "1")]
    assert "balance" not in next(e for e in document["events"] if e["returned"])["answer"]
    for foreign in ("bob", "o-2", "market"):
        assert foreign not in answer.text
    theirs = (await shop.call("GET", "/v1/consumers/bob/export", by="market")).json()
    assert [e["returned"][0]["asset"] for e in theirs["events"] if e["returned"]] == ["box1"]
    assert [e["shipped"] for e in theirs["events"] if e["shipped"]] == [[{"asset": "box2", "declared_wrong": False}]]
    account = (await shop.world.rows("SELECT account FROM consumer_reference WHERE reference = 'bob'"))[0]["account"]
    ada = (await shop.world.rows("SELECT account FROM consumer_reference WHERE reference = 'ada' ORDER BY platform"))[0]["account"]
    await shop.world.rows(
        "UPDATE consumer_reference SET bucket = ($1::bigint & 1023)::smallint, account = $1 WHERE account = $2", ada, account
    )
    shared = (await shop.call("GET", "/v1/consumers/ada/export")).json()
    assert shared["packaging_sent"] == [], "an account that platforms share: it may be what the other one sent"


async def test_under_the_recipients_policy_nobody_is_shown_the_balance_of_who_brought_it(shop: Shop) -> None:
    await shop.world.campaign(code="back", action="return", award={"kind": "per_unit", "points": 5})
    await asset(shop.world, "box1")
    await shop.call("PATCH", "/v1/packaging-policy", {"return_earner": "recipient"}, by="admin")
    for event in (paid("o-9", "bob", quantity=7), paid("o-1", "ada"), fulfilled("o-1", "box1")):
        await shop.credit(event)
    stored = await shop.credit(returned("bob", "box1") | {"attributes": {"note": "Bob rang"}})
    assert stored["balance"]["pending"] == 70
    text = (await shop.call("GET", "/v1/consumers/ada/export")).text
    assert json.loads(text)["events"][0]["returned"] == [{"item": 0, "asset": "box1", "deposit": None, "currency": None}]
    assert "70" not in json.dumps(json.loads(text)["events"][0]["answer"])
    assert "Bob" not in text


# Holds -----------------------------------------------------------------------------------------------


async def test_a_legal_hold_is_placed_seen_and_lifted_by_administrators(shop: Shop) -> None:
    await shop.credit(order_paid("ada"))
    path = "/v1/consumers/ada/legal-hold?platform=shop"
    for by in ("fraud", "shop"):
        assert (await shop.call("PUT", path, {"reason": "case 12"}, by=by)).status_code == 403
    assert (await shop.call("PUT", path, {"reason": "case 12"}, by="stranger")).status_code == 404
    assert (await shop.call("PUT", path, {"reason": ""}, by="admin")).status_code == 422
    assert (await shop.call("GET", path, by="admin")).status_code == 404
    for reason in ("case 12", "case 13"):
        placed = await shop.call("PUT", path, {"reason": reason}, by="admin")
        assert (placed.status_code, placed.json()["reason"]) == (200, reason)
    assert (await shop.call("GET", path, by="admin")).json()["reason"] == "case 13"
    refused = await shop.call("DELETE", "/v1/consumers/ada")
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")
    assert "legal hold" in refused.json()["detail"]
    assert (await shop.call("GET", "/v1/consumers/ada/export")).json()["legal_hold_since"] is not None
    assert (await shop.call("DELETE", path, by="admin")).status_code == 204
    assert (await shop.call("DELETE", path, by="admin")).status_code == 404
    assert (await shop.call("DELETE", "/v1/consumers/ada")).status_code == 204
    rows = await shop.world.rows("SELECT action, after::text AS after FROM audit WHERE action LIKE 'hold.%' ORDER BY id")
    assert [row["action"] for row in rows] == ["hold.place", "hold.change", "hold.lift"]
    assert not any("ada" in row["after"] or "case" in row["after"] for row in rows)


# Shopify ---------------------------------------------------------------------------------------------


def shopify_order(number: int, *, customer: int | None = 42, **changes: Any) -> dict[str, Any]:
    return {
        "id": number, "currency": "CNY", "financial_status": "paid", "taxes_included": True, "total_price": "40.00",
        "created_at": now(), "processed_at": now(), "customer": None if customer is None else {"id": customer, "email": "ada@example.com"},
        "line_items": [{"id": 1, "sku": "TP-01", "quantity": 2, "price": "20.00"}],
    } | changes  # fmt: skip


def redact(customer: Any = 42, orders: Any = ()) -> dict[str, Any]:
    """As shopify.dev shows it."""
    return {
        "shop_id": 954889, "shop_domain": "shop.myshopify.com", "orders_to_redact": list(orders),
        "customer": {"id": customer, "email": "ada@example.com", "phone": "555-625-1199"},
    }  # fmt: skip


async def test_shopify_asks_to_erase_a_customer(shop: Shop) -> None:
    await shop.deliver("orders/paid", shopify_order(1001))
    await shop.deliver("orders/paid", shopify_order(1002, customer=43))
    assert (await shop.deliver("customers/redact", redact(42, [1001]), delivery="d-1")).json() == {"received": True, "events": []}
    assert [(r["kind"], r["state"]) for r in await shop.requests()] == [("erase", "pending")]
    await shop.deliver("customers/redact", redact(42, [1001]), delivery="d-1")
    await shop.deliver("customers/redact", redact(42, [1001]), delivery="d-2")
    await shop.work()
    (request,) = await shop.requests()
    assert (request["state"], request["consumers"], request["orders"], request["export"]) == ("done", 1, 1, None)
    assert await shop.references() == ["43"]
    await shop.deliver("customers/redact", redact(42, [1001]), delivery="d-1")
    assert len(await shop.requests()) == 1, "a delivery that is repeated later is the same request"
    stored = " ".join(str(list(row.values())) for row in await shop.world.rows("SELECT * FROM privacy_request"))
    assert "example.com" not in stored
    assert "625" not in stored
    await shop.unharmed()


async def test_nobody_known_is_done_at_once(shop: Shop) -> None:
    await shop.deliver("customers/redact", redact(99))
    await shop.deliver("customers/redact", redact(None))
    await shop.deliver("customers/redact", {"shop_id": 1, "shop_domain": "s", "orders_to_redact": None})
    await shop.deliver("customers/data_request", redact(99) | {"data_request": {"id": 9999}, "orders_requested": [1]})
    requests = await shop.requests()
    assert [(r["kind"], r["state"], r["consumers"], r["export"]) for r in requests] == [("export", "done", 0, None)] + [
        ("erase", "done", 0, None)
    ] * 3


async def test_orders_to_redact_are_scrubbed_even_without_a_customer(shop: Shop) -> None:
    await shop.deliver("orders/paid", shopify_order(1001, source_name="Ada's phone"))
    await shop.credit(refund(order_paid(order="1002"), "early", 1) | {"attributes": {"note": "Ada"}})
    await shop.credit(refund(order_paid(order="1003"), "early", 1) | {"attributes": {"note": "Bob"}})
    await shop.deliver("customers/redact", redact(None, [1001, 1002]))
    await shop.work()
    (request,) = await shop.requests()
    assert (request["state"], request["consumers"], request["orders"]) == ("done", 0, 2)
    facts = [row["facts"] for row in await shop.world.rows("SELECT facts FROM event UNION ALL SELECT facts FROM parked")]
    assert ["Ada" in fact for fact in facts] == [False] * 3
    assert any("Bob" in fact for fact in facts)
    assert await shop.references() == ["42"]


async def test_shopify_asks_what_is_known_of_a_customer(shop: Shop) -> None:
    await shop.deliver("orders/paid", shopify_order(1001))
    await shop.deliver("customers/data_request", redact(42) | {"data_request": {"id": 9999}, "orders_requested": [1001]})
    await shop.work()
    (request,) = await shop.requests()
    assert (request["kind"], request["state"], request["consumers"]) == ("export", "done", 1)
    document = (await shop.call("GET", request["export"])).json()
    assert (document["references"], [e["id"] for e in document["events"]]) == (["42"], ["shopify:1001:paid"])
    for by, status in (("market", 404), ("stranger", 404), ("campaigns", 403), ("consumers:read", 403), ("fraud", 200)):
        assert (await shop.call("GET", request["export"], by=by)).status_code == status
        assert (await shop.call("GET", f"/v1/privacy-requests/{request['id']}", by=by)).status_code == status
    assert await shop.requests(by="market") == []
    await shop.call("DELETE", "/v1/consumers/42")
    assert (await shop.call("GET", request["export"])).status_code == 404


async def test_a_request_waits_for_a_hold_to_be_lifted(shop: Shop) -> None:
    await shop.deliver("orders/paid", shopify_order(1001))
    path = "/v1/consumers/42/legal-hold?platform=shop"
    await shop.call("PUT", path, {"reason": "case 12"}, by="admin")
    await shop.deliver("customers/redact", redact(42, [1001]))
    await shop.work()
    assert [r["state"] for r in await shop.requests()] == ["on_hold"]
    assert await shop.references() == ["42"]
    await shop.call("DELETE", path, by="admin")
    await shop.work()
    assert [(r["state"], r["consumers"]) for r in await shop.requests()] == [("done", 1)]
    assert await shop.references() == []


async def test_a_shop_is_erased_step_by_step_after_its_grace(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy_requests, "NAMES", 2)
    for n in range(5):
        await shop.credit(order_paid(f"c-{n}"))
    await shop.credit(order_paid("m"), by="market")
    await shop.call("PUT", "/v1/consumers/c-3/legal-hold?platform=shop", {"reason": "case 12"}, by="admin")
    await shop.deliver("shop/redact", {"shop_id": 954889, "shop_domain": "shop.myshopify.com"})
    await shop.work()
    (request,) = await shop.requests()
    assert (request["kind"], request["state"], request["consumers"]) == ("erase_all", "pending", 0)
    assert len(await shop.references()) == 6
    await shop.world.rows("UPDATE privacy_request SET not_before = now() RETURNING 1")
    await shop.work()
    assert await shop.references() == ["c-3", "m"]
    assert [(r["state"], r["consumers"]) for r in await shop.requests()] == [("on_hold", 4)]
    assert len(await shop.world.rows("SELECT FROM audit WHERE action = 'consumer.erase'")) == 2
    await shop.call("DELETE", "/v1/consumers/c-3/legal-hold?platform=shop", by="admin")
    await shop.work()
    assert await shop.references() == ["m"]
    assert [(r["state"], r["consumers"]) for r in await shop.requests()] == [("done", 5)]
    await shop.unharmed()


async def test_an_administrator_cancels_the_erasing_of_a_shop_in_time(shop: Shop) -> None:
    await shop.credit(order_paid("ada"))
    await shop.deliver("shop/redact", {"shop_id": 954889, "shop_domain": "shop.myshopify.com"})
    (request,) = await shop.requests()
    path = f"/v1/privacy-requests/{request['id']}/cancel"
    for by, status in (("shop", 403), ("fraud", 403), ("stranger", 404), ("admin", 200), ("admin", 409)):
        assert (await shop.call("POST", path, by=by)).status_code == status
    await shop.world.rows("UPDATE privacy_request SET not_before = now() RETURNING 1")
    await shop.work()
    assert await shop.references() == ["ada"]
    assert [r["state"] for r in await shop.requests()] == ["cancelled"]


async def test_a_compliance_delivery_must_be_signed(shop: Shop) -> None:
    await shop.credit(order_paid("42"))
    secret, shop.secret = shop.secret, "somebody else's"
    assert (await shop.deliver("customers/redact", redact(42))).status_code == 401
    shop.secret = secret
    assert (await shop.deliver("customers/redact", {"customer": {"id": "forty-two"}})).json()["events"] == []
    assert await shop.requests() == []
    assert len(await shop.world.rows("SELECT FROM delivery WHERE outcome = 'untranslatable'")) == 1, "what cannot be read is kept"


# Retention -------------------------------------------------------------------------------------------


async def retain(shop: Shop, **days: int) -> int:
    return await retention.sweep(shop.resources.pool, msgspec.structs.replace(TERMS, **days))


async def age(shop: Shop, days: int) -> None:
    for table in ("event", "parked"):
        await shop.world.rows(f"UPDATE {table} SET received_at = received_at - make_interval(days => $1) RETURNING 1", days)


async def kept(shop: Shop) -> list[list[str]]:
    rows = await shop.world.rows("SELECT facts FROM event ORDER BY number")
    return [sorted(json.loads(row["facts"]).get("attributes", {})) for row in rows]


async def test_of_packaging_what_is_old_is_forgotten_and_still_counts(shop: Shop) -> None:
    await shop.world.campaign(code="back", action="return", award={"kind": "per_unit", "points": 5})
    for key in ("box1", "box2"):
        await asset(shop.world, key)
    about = {"attributes": {"note": "Ada rang", "ip": "198.51.100.7"}}
    free = {"waybill": "SF-ADA", "proof": "Ada smiles", "station": "near Ada"}
    sent = fulfilled("o-1", "box1", waybill="SF-ADA") | about
    for event in (paid("o-1", "ada"), sent, returned("bob", "box1", **free) | about, returned("ada", "box2", **free) | about):
        await shop.credit(event)
    await shop.credit(wrong(sent) | about)
    await age(shop, 800)
    assert await retain(shop, attributes=730, fraud_attributes=400) > 0
    rows = await shop.world.rows("SELECT type, facts FROM event UNION ALL SELECT type, facts FROM parked")
    assert {row["type"] for row in rows} == {
        "order.paid", "order.fulfilled", "packaging.returned", "event.error_declared", "packaging.reassigned",
    }  # fmt: skip
    assert not any("ADA" in row["facts"].upper() or "h:" in row["facts"] for row in rows)
    await shop.credit(fulfilled("o-1", "box2"))
    assert (await shop.call("GET", "/v1/consumers/ada/balance")).json()["pending"] == 15, "the box that it waited for was really shipped"
    await shop.unharmed()


async def test_what_is_old_is_forgotten_kind_by_kind(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    attributes = {"note": "ring twice", "address": "Elm 1"}
    for n in range(5):
        await shop.credit(order_paid(f"c-{n}", attributes=attributes))
    await age(shop, 30)
    await shop.credit(order_paid("c", attributes=attributes))
    assert await retain(shop) == 0, "0: for ever"
    assert await retain(shop, attributes=31) == 0
    assert await retain(shop, attributes=29) == 5
    assert await kept(shop) == [["address"]] * 5 + [["address", "note"]]
    assert await retain(shop, attributes=29) == 0
    assert await retain(shop, attributes=29, fraud_attributes=29) == 5
    assert await kept(shop) == [[]] * 5 + [["address", "note"]]
    assert (await shop.call("GET", "/v1/consumers/c-1/balance")).json()["pending"] == 10
    await shop.unharmed()


async def test_retention_leaves_held_accounts_alone_until_the_hold_is_lifted(shop: Shop) -> None:
    for name in ("ada", "bob"):
        await shop.credit(order_paid(name, attributes={"note": name}))
    path = "/v1/consumers/ada/legal-hold?platform=shop"
    await shop.call("PUT", path, {"reason": "case 12"}, by="admin")
    await age(shop, 30)
    assert await retain(shop, attributes=10) == 1
    assert await kept(shop) == [["note"], []]
    await shop.call("DELETE", path, by="admin")
    assert await retain(shop, attributes=10) == 1
    assert await retain(shop, attributes=10) == 0
    assert await kept(shop) == [[], []]


async def test_ignored_facts_keep_nothing_free_and_still_count_when_their_order_comes(shop: Shop) -> None:
    paid = order_paid("ada", quantity=3)
    early = refund(paid, "r", 1) | {"attributes": {"note": "Ada"}}
    await shop.credit(early)
    await age(shop, 100)
    assert await retain(shop, parked=1) == 0, "it was not ignored yet"
    await shop.world.rows("UPDATE parked SET ignored_at = now() - interval '2 days' RETURNING 1")
    assert await retain(shop, parked=1) == 1
    assert await retain(shop, parked=1) == 0
    assert "Ada" not in (await shop.world.rows("SELECT facts FROM parked"))[0]["facts"]
    assert (await shop.credit(early))["status"] == "parked", "a repeat gets its first answer"
    assert (await shop.credit(paid))["balance"]["pending"] == 20


async def test_exports_and_requests_end(shop: Shop) -> None:
    await shop.deliver("orders/paid", shopify_order(1001))
    await shop.deliver("customers/data_request", redact(42))
    await shop.work()
    (request,) = await shop.requests()
    await shop.world.rows("UPDATE privacy_request SET done_at = now() - interval '5 days' RETURNING 1")
    await retain(shop, exports=6, requests=6)
    assert (await shop.call("GET", request["export"])).status_code == 200
    await retain(shop, exports=4, requests=6)
    assert (await shop.call("GET", request["export"])).status_code == 404
    assert [r["export"] for r in await shop.requests()] == [None]
    await retain(shop, exports=4, requests=4)
    assert await shop.requests() == []

"""Persons' data is planted in everything that comes in, through real processes; then it is looked for where it must not be."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from redis.asyncio import Redis

from service.flows import administer
from service.settings import Settings
from tests import deliveries, reviewing
from tests.adjusting import set_policy
from tests.api.operators import _token
from tests.flows.test_packaging import asset, fulfilled, paid, returned, wrong
from tests.sealer import SEALER
from tests.servers import Program, programs
from tests.worlds import World, now, order_paid, refund

REFERENCE, TWIN, SHOPPER = "ref-ada-lovelace", "ref-ada-twin", "77001122334455"
"""What platforms call them: by API, by Standard Webhooks, by Shopify."""
HASHED = {
    "device": "device-of-ada", "address": "12 St James Square", "payment": "4111-1111-1111-ada", "ip": "198.51.100.77", "region": "Ockham-Surrey",
    "attendant": "attendant-who-knows-ada",
}  # fmt: skip
PLAIN = {"email": "ada@analytical.example", "phone": "+44-20-7946-0999", "name": "Ada Byron King"}
FREE = {
    "note": "gate code 1815",
    "waybill": "WAY-ADA-1815",
    "station": "station near ada",
    "proof": "photo-of-ada",
    "serial": "bottle-of-ada",
    "receipt": "RECEIPT-ADA-1843",
    "document": "engine repair 1843",
}
PLACE, WEIGHED = "Ockham Park, Gate 7", "weighed by the gardener"
"""Of operators: where a station is; what a platform notes about its plastics, which nobody can remove (docs/plastics.md)."""
SAID = {
    "reason": "sorry that Ada's lamp broke",
    "note": "Ada shouted in 1852",
    "message": "to Ada from her twin",
    "objection": "Ada had a birthday in December",
    "answer": "Ada's cake was looked at",
}
"""What operators and consumers write when points move by hand, or are held."""
ORDERED = "cart-of-ada-1852"
"""A platform's own name for what a consumer spends."""
VOUCHER = "FILM-FOR-ADA-7Q2M"
"""A bearer value: whoever has it can use it."""
PERSONAL = [*SAID.values(), ORDERED, VOUCHER, REFERENCE, TWIN, SHOPPER, *HASHED.values(), *PLAIN.values(), *FREE.values(), PLACE, WEIGHED]
TOKENS: list[str] = []
"""What a consumer's app shows at a station: as good as a key."""

ANYWHERE = {("delivery", "body")}
"""Where anything may stand: a webhook that verified but could not be read is kept as it came (docs/privacy.md)."""
ALLOWED = {
    **{key: {("consumer_reference", "reference")} for key in [REFERENCE, TWIN, SHOPPER]},
    SAID["reason"]: {("adjustment", "reason"), ("transfer", "reason")},
    SAID["note"]: {("adjustment", "note")},
    SAID["message"]: {("transfer", "reason")},
    SAID["objection"]: {("fraud_objection", "text")},
    SAID["answer"]: {("fraud_objection", "answer")},
    ORDERED: {("redemption", "reference"), ("idempotent_request", "answer")},
    **{key: {("event", "facts"), ("parked", "facts")} for key in [*FREE.values(), *PLAIN.values()]},
}
"""While they are customers. What identifies by itself (HASHED) stands nowhere."""
KEPT = {PLACE: {("station", "location"), ("audit", "after")}, WEIGHED: {("plastic_entry", "note")}}
"""Before and after."""


class Run:
    """Two API processes and a worker, everything that they answered, and who calls."""

    def __init__(self, world: World, client: httpx.AsyncClient, apis: list[Program], logs: list[Path], settings: Settings) -> None:
        self.world, self.client, self.apis, self.logs, self.settings = world, client, apis, logs, settings
        self.answers: list[httpx.Response] = []
        self.tokens: dict[str, str] = {}
        self.hooks: dict[str, tuple[str, str]] = {}

    async def open(self) -> "Run":
        await self.world.campaign()
        await self.world.campaign(code="act", action="activity", award={"kind": "fixed", "points": 5})
        async with self.world.pool.acquire() as conn:
            self.tokens = {"admin": await _token(conn, "admin", "admin", self.world.program), "shop": self.world.keys["shop"]}
            for scope in ("balance:read redeem",):
                self.tokens["consumer"] = await administer.consumer_token(
                    conn, sealer=SEALER, platform="shop", consumer=REFERENCE, scope=scope, ttl=timedelta(hours=1)
                )
            self.tokens["market"] = self.world.keys["market"]
            TOKENS[:] = [self.tokens["consumer"]]
            for connector in ("standard", "shopify", "epcis"):
                made = await administer.create_hook(conn, sealer=SEALER, program=self.world.program, platform="shop", connector=connector)  # type: ignore[arg-type]
                self.hooks[connector] = (made.id, SEALER.open(made.secrets[0]))
            # A defect: who breaks this rule cannot be stored, and PostgreSQL quotes the row.
            await conn.execute("ALTER TABLE consumer_reference ADD CONSTRAINT poison CHECK (reference NOT LIKE '%poison')")
        return self

    async def call(
        self, method: str, path: str, body: Any = None, *, by: str | None = "shop", process: int = 0, **more: Any
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens.get(by, by)}"} if by else {}
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        headers |= {"Content-Type": "application/json"} | more.pop("headers", {})
        answer = await self.client.request(method, f"{self.apis[process].url}{path}", content=content, headers=headers, timeout=10)
        self.answers.append(answer)
        return answer

    async def shopify(self, topic: str, body: Any, *, signed: bool = True) -> httpx.Response:
        hook, secret = self.hooks["shopify"]
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        signature = base64.b64encode(hmac.digest(secret.encode() if signed else b"no", content, hashlib.sha256)).decode()
        headers = {
            "X-Shopify-Topic": topic,
            "X-Shopify-Webhook-Id": hashlib.sha256(content).hexdigest(),
            "X-Shopify-Hmac-Sha256": signature,
        }
        return await self.call("POST", f"/v1/hooks/{hook}", content, by=None, headers=headers)

    async def standard(self, event: Any, *, signed: bool = True) -> httpx.Response:
        hook, secret = self.hooks["standard"]
        content = json.dumps({"type": "order.paid", "timestamp": now(), "data": event}).encode()
        stamp = str(int(time.time()))
        key = base64.b64decode(secret.removeprefix("whsec_")) if signed else b"no"
        signature = base64.b64encode(hmac.digest(key, f"m.{stamp}.".encode() + content, hashlib.sha256)).decode()
        headers = {"webhook-id": "m", "webhook-timestamp": stamp, "webhook-signature": f"v1,{signature}"}
        return await self.call("POST", f"/v1/hooks/{hook}", content, by=None, headers=headers)

    async def epcis(self, *events: Any, delivery: str, signed: bool = True) -> httpx.Response:
        hook, secret = self.hooks["epcis"]
        content = json.dumps({"type": "EPCISDocument", "epcisBody": {"eventList": events}}).encode()
        headers = deliveries.signed(content, secret if signed else "whsec_bm8=", delivery)
        return await self.call("POST", f"/v1/hooks/{hook}", content, by=None, headers=headers)

    # Looking for them

    async def tables(self) -> dict[str, set[tuple[str, str]]]:
        """Where in PostgreSQL each of them stands: (table, column)."""
        found: dict[str, set[tuple[str, str]]] = {}
        for table in [row["relname"] for row in await self.world.rows("SELECT relname FROM pg_stat_user_tables")]:
            for row in await self.world.rows(f'SELECT * FROM "{table}"'):
                for column, value in row.items():
                    for word in planted(value):
                        found.setdefault(word, set()).add((table, column))
        return found

    async def elsewhere(self) -> dict[str, list[str]]:
        """Who stands in logs, metrics, Redis, refusals."""
        found = {}
        for log in self.logs:
            found[log.name] = planted(log.read_bytes())
        for n, url in enumerate((self.settings.balance_redis_url, self.settings.queue_redis_url)):
            async with Redis.from_url(url) as redis:
                async for key in redis.scan_iter():
                    found[f"redis {n} {key!r}"] = planted([key, await everything(redis, key)])
        for process, api in enumerate(self.apis):
            found[f"metrics {process}"] = planted((await self.client.get(f"{api.url}/metrics")).content)
        for answer in self.answers:
            partly = ("/batch", "/hooks/", "/stations/me/returns", "/plastics/reports")
            refused = answer.status_code >= 400 or any(part in answer.request.url.path for part in partly)
            if refused:
                found[f"{answer.request.method} {answer.request.url.path} {answer.text[:300]}"] = planted(
                    [answer.content, answer.headers.raw]
                )
        return {where: words for where, words in found.items() if words}


def planted(value: Any) -> list[str]:
    """Who stands in it, also in canonical form: without case, spaces and punctuation."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    bare = _bare(text)
    return [word for word in [*PERSONAL, *TOKENS] if word in text or quote(word, safe="") in text or _bare(word) in bare]


def _bare(text: str) -> str:
    return re.sub("[^a-z0-9]", "", text.lower())


async def everything(redis: "Redis[bytes]", key: bytes) -> Any:
    match await redis.type(key):
        case b"string":
            return await redis.get(key)
        case b"zset":
            return await redis.zrange(key, 0, -1)
        case b"hash":
            return await redis.hgetall(key)  # type: ignore[misc]
        case b"list":
            return await redis.lrange(key, 0, -1)  # type: ignore[misc]
        case b"set":
            return await redis.smembers(key)  # type: ignore[misc]
        case other:
            raise AssertionError(f"{key!r} is a {other!r}: look into it, too")


@pytest.fixture
async def run(world: World, settings: Settings, tmp_path: Path, scratch: Path) -> AsyncIterator[Run]:
    async with programs(settings, tmp_path, apis=2, workers=1) as (apis, _), httpx.AsyncClient() as client:
        logs = [*tmp_path.glob("*.log"), scratch / "postgres.log", scratch / "valkey.log"]
        assert len(logs) == 5
        yield await Run(world, client, apis, logs, settings).open()


def bought(consumer: str, **changes: Any) -> dict[str, Any]:
    attributes = PLAIN | HASHED | {"note": FREE["note"]}
    return order_paid(consumer, attributes=attributes, packaging={"class": "ship_in_own_container", "waybill": FREE["waybill"]}, **changes)


def shopify_order(number: int, **changes: Any) -> dict[str, Any]:
    person = {"id": int(SHOPPER), "email": PLAIN["email"], "phone": PLAIN["phone"], "first_name": PLAIN["name"]}
    return {
        "id": number, "currency": "CNY", "financial_status": "paid", "taxes_included": True, "total_price": "40.00", "processed_at": now(),
        "customer": person, "email": PLAIN["email"], "billing_address": {"address1": HASHED["address"], "name": PLAIN["name"]},
        "browser_ip": HASHED["ip"], "note": FREE["note"], "note_attributes": [{"name": "gift for", "value": PLAIN["name"]}],
        "line_items": [{"id": 1, "sku": "TP-01", "quantity": 2, "price": "20.00", "properties": [{"name": "engraving", "value": PLAIN["name"]}]}],
    } | changes  # fmt: skip


async def plant_packaging(run: Run) -> None:
    """Boxes and single-use packaging, stations, EPCIS, plastics: what comes in well formed, in disorder and badly formed."""
    for n in (1, 2, 3):
        await asset(run.world, f"box{n}")
    about = {"attributes": PLAIN | HASHED | {"note": FREE["note"]}}
    item = {name: FREE[name] for name in ("waybill", "station", "proof")} | {"deposit": {"amount": "2.00", "currency": "CNY"}}
    shipped = fulfilled("b-1", "box1", "box2", waybill=FREE["waybill"]) | about
    mailed = fulfilled("b-1", class_="paper_mailer", waybill=f"{FREE['waybill']}-2") | about
    back, again = returned(REFERENCE, "box1", **item) | about, returned(REFERENCE, "box1", at=3, **item) | about
    unnamed = returned(None, "box2", **item) | about
    single = returned(REFERENCE, **(item | {"deposit": None})) | about
    unknown = wrong({"id": "never-came"}) | about
    devices = {"trade_in": "serial", "e_receipt": "receipt", "repair": "document"}
    activities = [
        {
            "id": name,
            "type": "activity.completed",
            "occurred_at": now(),
            "consumer": REFERENCE,
            "activity": name,
            "evidence": {key: FREE[key]},
        }
        | about
        for name, key in devices.items()
    ]
    for event in (
        again, bought_box("b-1", REFERENCE), shipped, mailed, back, unnamed, single, wrong(again) | about, wrong(single) | about, unknown,
        *activities, *({**activity, "id": f"{activity['id']}-again"} for activity in activities), returned(REFERENCE, "box3", **item) | about,
    ):  # fmt: skip
        answer = await run.call("POST", "/v1/events", event)
        assert answer.status_code == 201, answer.text
    for event in (
        returned(REFERENCE, "box1", proof=PLAIN["name"] * 400), returned(REFERENCE, **{"class": PLAIN["email"]}), wrong({"id": "e" * 200}),
        returned(REFERENCE, "box1", deposit={"amount": PLAIN["phone"], "currency": PLAIN["name"]}), returned(None, **{"class": "paper_mailer"}),
        wrong(back) | {"error": {"event": back["id"], "reason": PLAIN["name"]}}, returned(REFERENCE, f"(8003)0401234555555{REFERENCE}"),
        activities[0] | {"id": "bad", "evidence": {"serial": PLAIN}}, activities[0] | {"id": "bad", "activity": PLAIN["name"]},
    ):  # fmt: skip
        assert (await run.call("POST", "/v1/events", event)).status_code == 422, event
    await plant_at_station(run)
    await plant_epcis(run)
    good = {"id": "w-1", "period": "2025H1", "class": "plastic_mailer", "kind": "used", "mass_g": "10", "note": WEIGHED}
    bad = [good | {"id": f"w-{n}"} | change for n, change in enumerate([
        {"period": PLAIN["phone"]}, {"class": PLAIN["name"]}, {"mass_g": PLAIN["email"]}, {"kind": REFERENCE}, {"note": f"{PLAIN['name']}\n"},
    ])]  # fmt: skip
    assert (await run.call("POST", "/v1/plastics/reports", [good, *bad])).json()["rejected"] == len(bad)
    csv = {"Content-Type": "text/csv"}
    rows = f"id,period,class,kind,mass_g,note\r\nw-9,2025H1,plastic_mailer,used,{PLAIN['name']},x\r\n{REFERENCE},{PLAIN['email']}\r\n"
    assert (await run.call("POST", "/v1/plastics/reports", rows.encode(), headers=csv)).json()["rejected"] == 2


def bought_box(order: str, consumer: str) -> dict[str, Any]:
    return paid(order, consumer, attributes=PLAIN | HASHED)


async def plant_at_station(run: Run) -> None:
    made = await run.call("POST", "/v1/stations", {"code": "corner", "name": "Corner", "platform": "shop", "location": PLACE}, by="admin")
    assert made.status_code == 201, made.text
    run.tokens["corner"] = made.json()["api_key"]
    row = {"id": "s-1", "occurred_at": now(), "class": "paper_mailer", "waybill": FREE["waybill"], "attendant": HASHED["attendant"]}
    good = [
        row | {"consumer": REFERENCE}, row | {"id": "s-2", "consumer_token": run.tokens["consumer"]}, row | {"id": "s-3", "asset": "box3", "waybill": None},
    ]  # fmt: skip
    bad = [
        row, row | {"consumer": f"{REFERENCE}\n"}, row | {"consumer_token": f"{run.tokens['consumer']}x"}, row | {"class": PLAIN["name"]},
        row | {"occurred_at": PLAIN["phone"], "consumer": REFERENCE}, row | {"consumer": REFERENCE, "platform": PLAIN["email"]},
        row | {"consumer": REFERENCE, "mass_g": PLAIN["name"]}, PLAIN, PLAIN["email"],
    ]  # fmt: skip
    for _ in range(2):
        answer = (await run.call("POST", "/v1/stations/me/returns", [*good, *bad], by="corner", process=1)).json()
        assert answer["rejected"] == len(bad), answer
    assert (await run.call("POST", "/v1/stations/me/tokens", {"count": PLAIN["name"]}, by="corner")).status_code == 422
    assert (await run.call("POST", "/v1/stations/me/returns", good, by=f"gps_{PLAIN['email']}")).status_code == 401


async def plant_epcis(run: Run) -> None:
    event = {
        "type": "ObjectEvent", "eventID": "urn:example:event:1", "eventTime": now(), "action": "OBSERVE", "bizStep": "shipping",
        "epcList": ["urn:epc:id:grai:4012345.55555.987"], "bizTransactionList": [{"type": "po", "bizTransaction": "7"}],
        "readPoint": {"id": f"urn:example:{quote(PLAIN['name'])}"}, "example:driver": PLAIN, "example:note": FREE["note"],
    }  # fmt: skip
    error = {"declarationTime": now(), "reason": "did_not_occur", "correctiveEventIDs": []}
    assert (await run.epcis(event, delivery="m-1")).json()["events"]
    assert (await run.epcis(event | {"errorDeclaration": error}, delivery="m-2")).json()["events"]
    assert (await run.epcis(event, delivery="m-3", signed=False)).status_code == 401
    for n, change in enumerate([{"eventTime": PLAIN["phone"]}, {"epcList": [PLAIN["email"]]}, {"bizTransactionList": PLAIN}]):
        assert (await run.epcis(event | {"eventID": f"urn:example:bad:{n}"} | change, delivery=f"bad-{n}")).json()["events"] == []


async def plant_points(run: Run) -> None:
    """Points that move by hand: given by an operator, then from one consumer to another and back."""
    await set_policy(run.world, transfers={"enabled": True})
    body = {"platform": "shop", "consumer": REFERENCE, "points": 50, "reason": SAID["reason"], "note": SAID["note"]}
    good: list[tuple[str, str, Any]] = [("admin", "/v1/adjustments", body)]
    for sender, to in ((REFERENCE, TWIN), (TWIN, REFERENCE)):
        good.append(("shop", f"/v1/consumers/{sender}/transfers", {"to": to, "points": 5, "message": SAID["message"]}))
    bad = [
        ("admin", "/v1/adjustments", body | change)
        for change in ({"consumer": PLAIN["email"]}, {"platform": REFERENCE}, {"points": PLAIN["phone"]}, {"reason": f"{PLAIN['name']}\n"})
    ]
    bad += [
        ("shop", f"/v1/consumers/{REFERENCE}/transfers", {"points": 5, "message": SAID["message"]} | change)
        for change in ({"to": PLAIN["email"]}, {"to": f"{PLAIN['name']}\n"}, {"to": TWIN, "points": PLAIN["phone"]})
    ]
    for n, (by, path, sent) in enumerate([*good, *bad]):
        for process in (0, 1):
            answer = await run.call("POST", path, sent, by=by, process=process, headers={"Idempotency-Key": f"key-{n}"})
            assert answer.status_code == (201 if n < len(good) else 422), answer.text


async def plant_objections(run: Run) -> None:
    """What the person says against two holds; one of them is answered."""
    for n in range(2):
        paid = bought(REFERENCE)
        assert (await run.call("POST", "/v1/events", paid)).status_code == 201
        await reviewing.hold(run.world, paid["id"])
        path, said = f"/v1/me/events/{quote(paid['id'], safe='')}/objection", {"text": SAID["objection"]}
        for bad in ({"text": f"{PLAIN['name']}\u0000"}, {"text": PLAIN}, {"text": PLAIN["email"] * 200}):
            assert (await run.call("POST", path, bad, by="consumer")).status_code == 422
        for process in (0, 1):
            assert (await run.call("POST", path, said, by="consumer", process=process)).status_code == 201
        assert (await run.call("POST", path, {"text": PLAIN["phone"]}, by="consumer")).status_code == 409
        assert (await run.call("POST", f"/v1/me/events/{quote(PLAIN['email'])}/objection", said, by="consumer")).status_code == 404
        event = (await reviewing.event_of(run.world, paid["id"]))["number"]
        if n == 0:
            answer = {"state": "refused", "answer": SAID["answer"]}
            assert (await run.call("POST", f"/v1/fraud/objections/{event}/answer", answer, by="admin")).status_code == 200


async def plant_spending(run: Run) -> None:
    """Points that are spent, by the platform and by the person; a code of a reward; two names of one person in one purse."""
    bought: list[tuple[str, str, Any]] = [
        ("shop", "/v1/redemptions", {"consumer": REFERENCE, "points": 2, "reference": ORDERED}),
        ("consumer", "/v1/me/redemptions", {"points": 2, "reference": ORDERED, "capture": True}),
        ("shop", "/v1/redemptions", {"consumer": TWIN, "points": 2, "reference": ORDERED, "capture": True}),
    ]
    for path, body in (("", {"code": "film", "name": "A film", "points": 3, "vouchers": True}), ("/film/vouchers", [VOUCHER])):
        assert (await run.call("POST", f"/v1/rewards{path}", body, by="admin")).status_code in (200, 201)
    bought.append(("shop", "/v1/redemptions", {"consumer": REFERENCE, "reward": "film", "reference": ORDERED, "capture": True}))
    made = []
    for n, (by, path, sent) in enumerate(bought):
        for process in (0, 1):
            answer = await run.call("POST", path, sent, by=by, process=process, headers={"Idempotency-Key": f"spend-{n}"})
            assert answer.status_code == 201, answer.text
        made.append(answer.json())
    assert made[-1]["voucher"] == VOUCHER
    path = f"/v1/redemptions/{made[0]['id']}/capture"
    assert (await run.call("POST", path, {"points": 1}, headers={"Idempotency-Key": "capture"})).status_code == 200
    for n, change in enumerate(
        ({"consumer": PLAIN["email"]}, {"points": PLAIN["phone"]}, {"reference": f"{PLAIN['name']}\n"}, {"reward": PLAIN["name"]},
         {"cause": PLAIN["name"]}, {"ttl": PLAIN["phone"]}, {"points": 10**9})
    ):  # fmt: skip
        answer = await run.call("POST", "/v1/redemptions", bought[0][2] | change, headers={"Idempotency-Key": f"bad-{n}"})
        assert answer.status_code in (404, 409, 422), answer.text
    assert (await run.call("POST", "/v1/events", order_paid(REFERENCE), by="market")).status_code == 201
    code = (await run.call("POST", f"/v1/consumers/{REFERENCE}/link-codes")).json()["code"]
    for wrong_code in (PLAIN["name"], SHOPPER, code[:-1]):
        assert (await run.call("POST", f"/v1/consumers/{REFERENCE}/link", {"code": wrong_code}, by="market")).status_code == 422
    answer = await run.call("POST", f"/v1/consumers/{REFERENCE}/link", {"code": code}, by="market")
    assert answer.status_code == 200, answer.text
    theirs = {"consumer": REFERENCE, "points": 1, "reference": ORDERED, "capture": True}
    assert (await run.call("POST", "/v1/redemptions", theirs, by="market", headers={"Idempotency-Key": "theirs"})).status_code == 201


async def plant(run: Run) -> None:
    """Everything that comes in, well and badly formed."""
    paid = bought(REFERENCE, quantity=3)
    assert (await run.call("POST", "/v1/events", paid)).status_code == 201
    assert (await run.call("POST", "/v1/events", paid, process=1)).status_code == 200
    assert (await run.call("POST", "/v1/events", paid | {"attributes": PLAIN})).status_code == 409
    assert (await run.call("POST", "/v1/events?dry_run=true", bought(REFERENCE))).status_code == 200
    await run.call("POST", "/v1/events", refund(paid, "r", 1) | {"attributes": PLAIN | HASHED})
    waiting = refund(order_paid(REFERENCE), "early", 1) | {"attributes": PLAIN | HASHED | {"note": FREE["note"]}}
    assert (await run.call("POST", "/v1/events", waiting)).json()["status"] == "parked"
    activity = {"type": "activity.completed", "occurred_at": now(), "consumer": REFERENCE, "activity": "refill"}
    assert (
        await run.call("POST", "/v1/events", activity | {"id": "act", "evidence": PLAIN | {"serial": FREE["serial"]}})
    ).status_code == 201
    item = {"class": "circular_box", "waybill": FREE["waybill"], "station": FREE["station"], "proof": FREE["proof"]}
    returned = {"id": "ret", "type": "packaging.returned", "occurred_at": now(), "consumer": REFERENCE, "returns": [item]}
    assert (await run.call("POST", "/v1/events", returned)).status_code == 201
    poison = bought(f"{REFERENCE}-poison")
    assert (await run.call("POST", "/v1/events", poison)).status_code == 500
    bad: list[Any] = [
        bought(REFERENCE) | {"type": PLAIN["email"]}, bought(REFERENCE) | {"occurred_at": PLAIN["phone"]}, bought(REFERENCE) | {"lines": PLAIN},
        bought(REFERENCE) | {"order": {"id": "o", "currency": PLAIN["name"], "total": PLAIN["email"]}}, {"consumer": REFERENCE} | PLAIN,
        bought(REFERENCE) | {"consumer": f"{REFERENCE}\n"}, bought(REFERENCE) | {"consumer": REFERENCE * 20}, [PLAIN], PLAIN["name"],
        bought(REFERENCE) | {"packaging": {"class": PLAIN["name"]}}, activity | {"id": "x", "evidence": {PLAIN["name"]: "y" * 9_000}},
        activity | {"id": "x", "activity": "refill", "evidence": PLAIN["email"]},
    ]  # fmt: skip
    for event in bad:
        assert (await run.call("POST", "/v1/events", event)).status_code == 422, event
    assert (
        await run.call("POST", "/v1/events", b'{"consumer": "' + REFERENCE.encode() + b'", ' + PLAIN["name"].encode())
    ).status_code == 400
    batch = (await run.call("POST", "/v1/events/batch", [*bad, poison, bought(REFERENCE)], process=1)).json()
    assert (batch["accepted"], batch["rejected"]) == (1, len(bad) + 1)
    ndjson = {"Content-Type": "application/x-ndjson"}
    lines = b"\n".join([json.dumps(bought(REFERENCE)).encode(), PLAIN["email"].encode(), b'{"consumer": "' + REFERENCE.encode()])
    assert (await run.call("POST", "/v1/events/batch", lines, headers=ndjson)).json()["rejected"] == 2

    for token in (f"gpk_live_{PLAIN['email']}", f"gpo_{REFERENCE}", f"{run.tokens['consumer']}x", PLAIN["phone"], f"e30.{REFERENCE}.x"):
        for path in ("/v1/events", "/v1/me/balance", "/v1/campaigns"):
            assert (await run.call("GET", path, by=token)).status_code in (401, 403)
    for process in (0, 1):
        assert (await run.call("GET", "/v1/me/balance", by="consumer", process=process)).status_code == 200
        assert (await run.call("GET", f"/v1/consumers/{REFERENCE}/balance", process=process)).status_code == 200
    for word in (PLAIN["email"], PLAIN["phone"], HASHED["address"], f"{REFERENCE}/nobody"):
        name = quote(word, safe="")
        for path in (f"/v1/consumers/{name}/balance", f"/v1/consumers/{name}/activity", f"/v1/consumers/{name}/export", f"/v1/events/{name}",
                     f"/v1/nothing/{name}", f"/v1/hooks/{name}", f"/v1/privacy-requests/{name}", f"/v1/platforms/{name}"):  # fmt: skip
            assert (await run.call("GET", path)).status_code in (403, 404, 405, 422)
        for query in ("cursor", "limit", "status"):
            assert (await run.call("GET", f"/v1/events?{query}={name}")).status_code == 422
        assert (await run.call("DELETE", f"/v1/consumers/{name}")).status_code == 404
        assert (await run.call("GET", f"/v1/events?consumer={name}")).json()["items"] == []
        assert (
            await run.call("PUT", f"/v1/consumers/{name}/legal-hold?platform=shop", {"reason": "case 1"}, by="admin")
        ).status_code == 404

    assert (await run.standard(bought(TWIN))).json()["events"]
    assert (await run.standard(bought(TWIN), signed=False)).status_code == 401
    assert (await run.standard(bought(TWIN) | {"packaging": {"class": PLAIN["name"]}})).json()["events"] == []
    assert (await run.shopify("orders/paid", shopify_order(1001))).json()["events"]
    assert (await run.shopify("orders/paid", shopify_order(1002), signed=False)).status_code == 401
    assert (await run.shopify("orders/paid", shopify_order(1003, currency=PLAIN["name"]))).json()["events"] == []
    assert (await run.shopify("orders/paid", json.dumps(shopify_order(1004)).encode()[:-5])).json()["events"] == []
    person = {"id": int(SHOPPER), "email": PLAIN["email"], "phone": PLAIN["phone"]}
    await run.shopify("customers/data_request", {"shop_id": 1, "customer": person, "data_request": {"id": 1}})
    await run.shopify("customers/redact", {"shop_id": 1, "customer": person | {"id": PLAIN["name"]}})

    await plant_packaging(run)
    await plant_points(run)
    await plant_objections(run)
    await plant_spending(run)

    path = f"/v1/consumers/{REFERENCE}"
    assert (await run.call("PUT", f"{path}/legal-hold?platform=shop", {"reason": "case 1"}, by="admin")).status_code == 200
    assert (await run.call("DELETE", path)).status_code == 409
    assert (await run.call("DELETE", f"{path}/legal-hold?platform=shop", by="admin")).status_code == 204
    assert (await run.call("GET", f"{path}/export")).status_code == 200


async def until_done(run: Run) -> None:
    end = time.monotonic() + 20
    open_ = """SELECT (SELECT count(*) FROM erasure WHERE state = 'running')
                    + (SELECT count(*) FROM privacy_request WHERE state NOT IN ('done', 'cancelled')) AS n"""
    while (await run.world.rows(open_))[0]["n"]:
        assert time.monotonic() < end, "the worker does not come to an end"
        await asyncio.sleep(0.1)


@pytest.mark.timeout(240)
async def test_nothing_personal_stands_where_it_need_not_and_who_was_erased_is_found_nowhere(run: Run) -> None:
    await plant(run)
    await until_done(run)
    stands = await run.tables()
    assert {
        word: left for word, places in stands.items() if (left := places - ANYWHERE - KEPT.get(word, set()) - ALLOWED.get(word, set()))
    } == {}
    assert all(stands.get(word, set()) - ANYWHERE for word in ALLOWED), "it is where it belongs"
    assert await run.elsewhere() == {}
    assert any("poison" in log.read_text(encoding="utf-8") for log in run.logs if "api" in log.name), "the defect was logged: what broke"

    for process, reference in enumerate((REFERENCE, TWIN)):
        assert (await run.call("DELETE", f"/v1/consumers/{reference}", process=process)).status_code == 204
    person = {"id": int(SHOPPER), "email": PLAIN["email"], "phone": PLAIN["phone"]}
    await run.shopify("customers/redact", {"shop_id": 1, "customer": person, "orders_to_redact": [1001]})
    await until_done(run)
    platforms = {name: sender.platform for name, sender in run.world.platforms.items()}
    left = await run.world.rows("SELECT DISTINCT platform FROM redemption WHERE reference IS NOT NULL")
    assert [row["platform"] for row in left] == [platforms["market"]], "what another platform knows is its own to erase"
    assert (await run.call("GET", f"/v1/consumers/{REFERENCE}/balance", by="market")).status_code == 200
    assert (await run.call("DELETE", f"/v1/consumers/{REFERENCE}", by="market")).status_code == 204
    await until_done(run)
    for process in (0, 1):
        assert (await run.call("GET", f"/v1/consumers/{REFERENCE}/balance", process=process)).status_code == 404
        assert (await run.call("GET", "/v1/me/balance", by="consumer", process=process)).json()["pending"] == 0
    stands = await run.tables()
    assert {word: left for word, places in stands.items() if (left := places - ANYWHERE - KEPT.get(word, set()))} == {}
    assert await run.elsewhere() == {}

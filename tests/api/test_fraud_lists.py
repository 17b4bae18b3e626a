"""Allow and block lists over HTTP: who may, what is refused how, and what it does to events by API, hook and in bulk."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from litestar import Litestar

from service.settings import Settings
from tests.api.operators import _token
from tests.beginnings import Begin, Beginning
from tests.deliveries import Shop, refill
from tests.servers import serving
from tests.worlds import World

DEVICE = {"list": "block", "kind": "device", "value": "tablet", "reason": "farmed"}
ADA = {"list": "block", "kind": "consumer", "platform": "shop", "consumer": "ada", "reason": "farmed"}


async def open_shop(app: Litestar, client: httpx.AsyncClient) -> Shop:
    """`ada` is known; operators of every role."""
    made = await Shop(app, client, World(app.state.resources.pool)).found()
    await credit(made, refill("first", "ada"))
    async with made.world.pool.acquire() as conn:
        for role in ("analyst", "fraud", "campaigns"):
            made.tokens[role] = await _token(conn, role, role, made.world.program)  # type: ignore[arg-type]
    return made


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Shop]:
    return begin(open_shop, in_app=True)


async def credit(shop: Shop, event: dict[str, Any], path: str = "/v1/events") -> Any:
    answer = await shop.call("POST", path, "shop", json=event)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


async def add(shop: Shop, body: dict[str, Any] = DEVICE, who: str = "fraud") -> Any:
    answer = await shop.call("POST", "/v1/fraud/lists", who, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def listed(shop: Shop, who: str = "fraud", **search: Any) -> list[Any]:
    answer = await shop.call("GET", "/v1/fraud/lists", who, params=search)
    assert answer.status_code == 200, answer.text
    items: list[Any] = answer.json()["items"]
    return items


def problem(answer: httpx.Response) -> tuple[int, str, list[str]]:
    body = answer.json()
    return answer.status_code, body["code"], [error["pointer"] for error in body.get("errors", [])]


def on(device: str, name: str, consumer: str = "ada") -> dict[str, Any]:
    return refill(name, consumer) | {"attributes": {"device": device}}


async def test_an_entry_is_made_shown_and_taken_off(shop: Shop) -> None:
    made = await add(shop, DEVICE | {"until": "2099-01-01T00:00:00+08:00"})
    assert made["value"].startswith("h:")
    assert "tablet" not in str(made)
    known = {"list": "block", "kind": "device", "reason": "farmed", "until": "2098-12-31T16:00:00Z", "status": "active"}
    assert made | known | {"platform": None, "consumer": None, "account": None, "removed_at": None} == made
    assert await listed(shop) == [made]
    path = f"/v1/fraud/lists/{made['id']}"
    for _ in range(2):
        assert (await shop.call("DELETE", path, "fraud")).status_code == 204
    (shown,) = await listed(shop)
    assert (shown["status"], shown["removed_at"] is None) == ("removed", False)
    assert await shop.world.rows("SELECT action FROM audit WHERE subject = $1 ORDER BY id", f"fraud_list:{made['id']}") == [
        {"action": "fraud_list.add"}, {"action": "fraud_list.remove"},
    ]  # fmt: skip
    assert (await add(shop))["id"] != made["id"]


async def test_a_consumer_is_named_only_to_who_may_read_names(shop: Shop) -> None:
    made = await add(shop, ADA)
    assert (made["platform"], made["consumer"], made["value"]) == ("shop", "ada", None)
    (seen,) = await listed(shop, "analyst")
    assert seen == made | {"platform": None, "consumer": None}
    (row,) = await shop.world.rows("SELECT kind, value FROM fraud_list")
    assert (row["kind"], row["value"]) == ("account", made["account"])
    (told,) = await shop.world.rows("SELECT after FROM audit WHERE action = 'fraud_list.add'")
    assert made["account"] in told["after"]
    assert "ada" not in told["after"]


async def test_entries_are_found_by_what_they_are(shop: Shop) -> None:
    await add(shop, ADA)
    await add(shop, DEVICE | {"list": "allow"})
    gone = await add(shop, DEVICE | {"kind": "ip"})
    await shop.call("DELETE", f"/v1/fraud/lists/{gone['id']}", "fraud")
    await add(shop, DEVICE | {"kind": "payment", "until": (datetime.now(UTC) + timedelta(days=1)).isoformat()})
    await shop.world.rows("UPDATE fraud_list SET until = now() WHERE kind = 'payment'")
    for search, kinds in (
        ({}, ["payment", "ip", "device", "consumer"]), ({"list": "allow"}, ["device"]), ({"kind": "consumer"}, ["consumer"]),
        ({"status": "active"}, ["device", "consumer"]), ({"status": "removed"}, ["ip"]), ({"status": "expired"}, ["payment"]),
        ({"list": "block", "status": "active"}, ["consumer"]), ({"kind": "address"}, []),
    ):  # fmt: skip
        assert [item["kind"] for item in await listed(shop, **search)] == kinds, search
    first = (await shop.call("GET", "/v1/fraud/lists", params={"limit": 3})).json()
    rest = (await shop.call("GET", "/v1/fraud/lists", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert ([item["kind"] for item in rest["items"]], rest["next_cursor"]) == (["consumer"], None)
    for wrong in ({"list": "grey"}, {"kind": "account"}, {"status": "lost"}, {"limit": 0}):
        assert (await shop.call("GET", "/v1/fraud/lists", params=wrong)).status_code == 422


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (DEVICE | {"list": "grey"}, "/list"), (DEVICE | {"kind": "account"}, "/kind"), (DEVICE | {"kind": "region"}, "/kind"),
        (DEVICE | {"reason": ""}, "/reason"), (DEVICE | {"reason": "a\nb"}, "/reason"), (DEVICE | {"value": None}, "/value"),
        (DEVICE | {"value": ""}, "/value"), (DEVICE | {"value": {}}, "/value"), (DEVICE | {"value": "x" * 9_000}, "/value"),
        (DEVICE | {"value": [[[[[[[[1]]]]]]]]}, "/value"), ({k: v for k, v in DEVICE.items() if k != "value"}, "/value"),
        (DEVICE | {"platform": "shop"}, "/platform"), (DEVICE | {"consumer": "ada"}, "/consumer"), (DEVICE | {"until": "soon"}, "/until"),
        (DEVICE | {"until": "2020-01-01T00:00:00Z"}, "/until"), (DEVICE | {"until": "2099-01-01T00:00:00"}, "/until"),
        (ADA | {"value": "ada"}, "/value"), (ADA | {"consumer": "nobody"}, "/consumer"), (ADA | {"platform": "elsewhere"}, "/platform"),
        (ADA | {"consumer": None}, "/consumer"), (ADA | {"platform": None}, "/platform"), (ADA | {"platform": "market"}, "/consumer"),
    ],
)  # fmt: skip
async def test_a_bad_entry_is_refused_where_it_is_bad(shop: Shop, body: dict[str, Any], pointer: str) -> None:
    status, code, pointers = problem(await shop.call("POST", "/v1/fraud/lists", "fraud", json=body))
    assert (status, code, pointers) == (422, "invalid_request", [pointer])
    assert await listed(shop) == []
    assert await shop.world.rows("SELECT FROM deployment WHERE fraud_version > 0") == []


async def test_one_entry_per_thing(shop: Shop) -> None:
    made = await add(shop)
    again = await shop.call("POST", "/v1/fraud/lists", "fraud", json=DEVICE | {"list": "allow"})
    assert problem(again) == (409, "invalid_state", [])
    assert made["id"] in again.json()["detail"]
    by_hash = await shop.call("POST", "/v1/fraud/lists", "fraud", json=DEVICE | {"value": made["value"]})
    assert problem(by_hash) == (409, "invalid_state", [])
    await add(shop, DEVICE | {"kind": "ip"})


async def test_who_may_and_whose_it_is(shop: Shop) -> None:
    made = await add(shop)
    path = f"/v1/fraud/lists/{made['id']}"
    for who in ("viewer", "campaigns", "analyst"):
        assert problem(await shop.call("POST", "/v1/fraud/lists", who, json=DEVICE)) == (403, "forbidden", [])
        assert problem(await shop.call("DELETE", path, who)) == (403, "forbidden", [])
    for who in ("viewer", "campaigns"):
        assert (await shop.call("GET", "/v1/fraud/lists", who)).status_code == 403
    assert (await shop.call("GET", "/v1/fraud/lists", "shop")).status_code == 403
    assert await listed(shop, "foreign") == []
    unknown = [await shop.call("DELETE", f"/v1/fraud/lists/{number}", "foreign") for number in (made["id"], "1", "x", "9" * 30)]
    assert {(answer.status_code, answer.json()["detail"]) for answer in unknown} == {(404, "There is no such entry.")}
    assert problem(await shop.call("POST", "/v1/fraud/lists", "foreign", json=ADA)) == (422, "invalid_request", ["/platform"])
    # Theirs is another entry of the same thing, and holds nothing of ours.
    assert (await shop.call("DELETE", path, "fraud")).status_code == 204
    assert (await add(shop, DEVICE, "foreign"))["value"] == made["value"]
    assert (await credit(shop, on("tablet", "r-1")))["status"] == "pending"


async def test_held_by_api_in_bulk_by_hook_and_tried_out(shop: Shop) -> None:
    assert (await credit(shop, on("tablet", "before")))["status"] == "pending"
    await add(shop)
    assert (await credit(shop, on("tablet", "tried"), "/v1/events?dry_run=true"))["status"] == "held"
    first = await credit(shop, on("tablet", "by-api"))
    assert first["status"] == "held"
    bulk = (await credit(shop, [on("tablet", "in-bulk"), refill("free", "ada")], "/v1/events/batch"))["results"]  # type: ignore[arg-type]
    assert [result["status"] for result in bulk] == ["held", "pending"]
    delivered = (await shop.deliver(on("tablet", "by-hook"))).json()
    assert delivered["events"] == [{"id": "by-hook", "status": "held", "points": 10}]
    for name in ("by-api", "in-bulk", "by-hook"):
        assert (await shop.call("GET", f"/v1/events/{name}", "shop")).json()["status"] == "held"
    again = on("tablet", "again")
    assert await credit(shop, again) == await credit(shop, again)
    held = (await shop.call("GET", "/v1/events", "shop", params={"status": "held"})).json()["items"]
    assert sorted(item["id"] for item in held) == ["again", "by-api", "by-hook", "in-bulk"]
    balance = (await shop.call("GET", "/v1/consumers/ada/balance", "shop")).json()
    assert (balance["pending"], balance["available"]) == (70, 0)


async def test_another_process_holds_it_too(shop: Shop, settings: Settings) -> None:
    async with serving(msgspec.structs.replace(settings, batch_wait_ms=0.5)) as (_, other):
        headers = {"Authorization": f"Bearer {shop.tokens['shop']}"}
        assert (await other.post("/v1/events", json=on("tablet", "a"), headers=headers)).json()["status"] == "pending"
        made = await add(shop)
        assert (await other.post("/v1/events", json=on("tablet", "b"), headers=headers)).json()["status"] == "held"
        assert (await shop.call("DELETE", f"/v1/fraud/lists/{made['id']}", "fraud")).status_code == 204
        assert (await other.post("/v1/events", json=on("tablet", "c"), headers=headers)).json()["status"] == "pending"


async def test_settings_say_what_a_burst_is_and_whether_it_is_held(shop: Shop, settings: Settings) -> None:
    headers = {"Authorization": f"Bearer {shop.tokens['shop']}"}
    for mode, answers in (("enforce", ["pending", "pending", "held"]), ("shadow", ["pending"] * 3), ("off", ["pending"] * 3)):
        changed = msgspec.structs.replace(settings, fraud_mode=mode, fraud_door_consumer_events=2, fraud_door_device_events=0)
        async with serving(changed) as (_, api):
            sent = [await api.post("/v1/events", json=refill(f"{mode}-{n}", mode), headers=headers) for n in range(3)]
            assert [answer.json()["status"] for answer in sent] == answers
            counted = f'greenpoints_fraud_door_total{{found="consumer_burst",mode="{mode}"}} 1.0'
            assert (counted in (await api.get("/metrics")).text) == (mode != "off")


async def test_a_person_s_export_says_when_they_were_listed(shop: Shop) -> None:
    await add(shop, ADA)
    await add(shop, DEVICE)
    exported = (await shop.call("GET", "/v1/consumers/ada/export", "shop")).json()
    assert [{"list": "block", "until": None, "removed": None} | e == e for e in exported["fraud_lists"]] == [True]
    assert "farmed" not in str(exported)

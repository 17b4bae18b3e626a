"""Replay of deliveries that verified and failed: after a fix each counts once, whatever is repeated."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from litestar import Litestar

from service.sealing import Sealer, new_master_key
from tests.beginnings import Begin, Beginning
from tests.deliveries import Shop, refill, shopify_order
from tests.worlds import World

ALWAYS = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
UNREADABLE = b'{"type": "activity.completed", "data": {"type": "order.paid"}}'


async def open_shop(app: Litestar, client: httpx.AsyncClient) -> Shop:
    """Its packaging attribute is mapped to a class that nobody knows: every order with it fails."""
    made = await Shop(app, client, World(app.state.resources.pool)).found()
    await made.world.rows(
        "UPDATE hook SET settings = $1 WHERE id = $2", _packaging("unheard_of"), made.hooks["shopify"].id
    )  # fmt: skip
    return made


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Shop]:
    return begin(open_shop, in_app=True)


def _packaging(class_: str) -> str:
    return json.dumps({"packaging": [{"from": "note_attribute", "name": "Packaging", "class": class_}]})


async def mend(shop: Shop) -> None:
    await shop.set_packaging("circular_box")


async def failed(shop: Shop, *orders: int) -> list[str]:
    """The ids of deliveries of these orders, which failed, in order."""
    for order in orders:
        assert (await shop.shopify(shopify_order(order), delivery=f"wh-{order}")).json()["events"] == []
    rows = await shop.log(outcome="untranslatable", limit=200)
    return [row["id"] for row in reversed(rows)][-len(orders) :]


async def state(shop: Shop) -> dict[str, Any]:
    """Every row of every table that a credit or a replay could touch."""
    tables = (
        "registry",
        "account",
        "consumer_reference",
        "event",
        "parked",
        "award",
        "due",
        "cap_usage",
        "budget",
        "entry",
        "lot",
        "rollup",
        "delivery",
        "audit",
    )
    return {table: [r["t"] for r in await shop.world.rows(f"SELECT t::text AS t FROM {table} t ORDER BY 1")] for table in tables}


async def test_a_failed_delivery_counts_after_the_fix_and_only_once(shop: Shop) -> None:
    (id_,) = await failed(shop, 1)
    path = f"/v1/deliveries/{id_}/replay"
    assert (await shop.call("POST", path)).json()["outcome"] == "untranslatable", "nothing is mended yet"
    assert await shop.balance("77") == 0
    await mend(shop)
    done = (await shop.call("POST", path)).json()
    assert (done["outcome"], [(e["id"], e["points"]) for e in done["events"]]) == ("credited", [("shopify:1:paid", 20)])
    for _ in range(3):
        assert (await shop.call("POST", path)).json()["outcome"] == "duplicate"
    again = await shop.shopify(shopify_order(1), delivery="wh-1")
    assert again.json()["events"] == [{"id": "shopify:1:paid", "status": "pending", "points": 20}]
    assert await shop.balance("77") == 20
    row = (await shop.call("GET", f"/v1/deliveries/{id_}")).json()
    assert (row["outcome"], row["attempts"], row["detail"]) == ("credited", 5, "")
    assert row["events"][0]["id"] == "shopify:1:paid"
    assert row["replayed_at"] is not None


async def test_replays_at_the_same_time_count_once(shop: Shop) -> None:
    (id_,) = await failed(shop, 1)
    await mend(shop)
    answers = await asyncio.gather(
        *(shop.call("POST", f"/v1/deliveries/{id_}/replay") for _ in range(4)),
        shop.call("POST", "/v1/deliveries/replay", json=ALWAYS), shop.shopify(shopify_order(1)),
    )  # fmt: skip
    assert {answer.status_code for answer in answers} == {200}
    assert await shop.balance("77") == 20
    assert await shop.world.rows("SELECT count(*)::int AS n FROM award") == [{"n": 1}]


async def test_the_signature_is_not_asked_for_again(shop: Shop) -> None:
    (id_,) = await failed(shop, 1)
    await mend(shop)
    await shop.world.rows("UPDATE hook SET secrets = ARRAY['another secret altogether'], active = false")
    assert (await shop.call("POST", f"/v1/deliveries/{id_}/replay")).json()["outcome"] == "credited"


async def test_an_older_state_that_is_replayed_changes_nothing_of_a_newer_one(shop: Shop) -> None:
    (id_,) = await failed(shop, 1)
    await mend(shop)
    await shop.shopify(shopify_order(1, line_items=[{"id": 1, "sku": "TP-01", "quantity": 3, "price": "20.00"}]))
    assert await shop.balance("77") == 30
    assert (await shop.call("POST", f"/v1/deliveries/{id_}/replay")).json()["outcome"] == "duplicate"
    assert await shop.balance("77") == 30


async def test_a_range_goes_page_by_page_and_a_bad_body_stops_no_other(shop: Shop) -> None:
    await failed(shop, 1, 2)
    await shop.deliver(UNREADABLE, "msg_bad")
    await failed(shop, 3, 4)
    await mend(shop)
    seen: list[dict[str, Any]] = []
    cursor, calls = None, 0
    while calls == 0 or cursor is not None:
        body = ALWAYS | {"limit": 2} | ({"cursor": cursor} if cursor else {})
        answer = (await shop.call("POST", "/v1/deliveries/replay", json=body)).json()
        cursor, calls = answer["next_cursor"], calls + 1
        assert len(answer["items"]) <= 2
        assert answer["credited"] + answer["failed"] == len(answer["items"])
        seen += answer["items"]
    assert calls == 3
    assert [item["outcome"] for item in seen] == ["credited", "credited", "untranslatable", "credited", "credited"]
    assert await shop.balance("77") == 80
    assert (await shop.call("POST", "/v1/deliveries/replay", json=ALWAYS)).json()["failed"] == 1, "what was credited is not taken again"


async def test_a_range_of_one_hook_platform_or_outcome(shop: Shop) -> None:
    await failed(shop, 1)
    await shop.deliver(UNREADABLE, "msg_bad")
    for narrow, ids in (
        ({"hook": shop.hooks["standard"].id}, 1), ({"platform": "shop"}, 2), ({"platform": "market"}, 0), ({"outcome": "failed"}, 0),
        ({"outcome": "untranslatable"}, 2), ({"to": "2020-01-02T00:00:00Z"}, 0), ({"from": "2099-01-02T00:00:00Z"}, 0),
    ):  # fmt: skip
        answer = await shop.call("POST", "/v1/deliveries/replay", json=ALWAYS | narrow | {"dry_run": True})
        assert len(answer.json()["items"]) == ids, narrow
    for bad, pointer in (({"to": "2019-01-01T00:00:00Z"}, "/to"), ({"from": "2026-01-01T00:00:00"}, "/from"), ({"limit": 201}, "/limit")):
        answer = await shop.call("POST", "/v1/deliveries/replay", json=ALWAYS | bad)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_a_dry_run_says_what_would_come_of_it_and_changes_nothing(shop: Shop) -> None:
    (id_,) = await failed(shop, 1)
    await mend(shop)
    before = await state(shop)
    told = (await shop.call("POST", f"/v1/deliveries/{id_}/replay", params={"dry_run": "true"})).json()
    all_ = (await shop.call("POST", "/v1/deliveries/replay", json=ALWAYS | {"dry_run": True})).json()
    assert await state(shop) == before
    assert (all_["dry_run"], all_["credited"], all_["items"]) == (True, 1, [told])
    done = (await shop.call("POST", f"/v1/deliveries/{id_}/replay")).json()
    assert done == told, "and that is what comes of it"
    assert (await shop.call("POST", f"/v1/deliveries/{id_}/replay", params={"dry_run": "true"})).json()["outcome"] == "duplicate"


async def test_only_those_who_may_replay_and_nothing_that_is_not_kept(shop: Shop) -> None:
    (id_,) = await failed(shop, 1)
    for method, path, body in (("POST", f"/v1/deliveries/{id_}/replay", None), ("POST", "/v1/deliveries/replay", ALWAYS)):
        assert (await shop.call(method, path, "viewer", json=body)).status_code == 403
        assert (await shop.call(method, path, "shop", json=body)).status_code == 403
    await shop.deliver(refill("r-1"))
    credited = (await shop.log(outcome="credited"))[0]["id"]
    assert (await shop.call("POST", f"/v1/deliveries/{credited}/replay")).status_code == 409
    assert (await shop.call("POST", "/v1/deliveries/999999/replay")).status_code == 404


async def test_what_another_master_key_sealed_fails_by_itself(shop: Shop) -> None:
    ids = await failed(shop, 1, 2)
    await mend(shop)
    other = Sealer([new_master_key()]).seal(b"x")
    await shop.world.rows("UPDATE delivery SET sealed = $1 WHERE id = $2", other, int(ids[0]))
    answer = (await shop.call("POST", "/v1/deliveries/replay", json=ALWAYS)).json()
    assert [item["outcome"] for item in answer["items"]] == ["failed", "credited"]
    assert "master key" in answer["items"][0]["detail"]


async def test_a_page_takes_its_turn_in_time(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = await failed(shop, 1, 2)
    await mend(shop)
    monkeypatch.setattr("service.flows.deliveries.MAX_REPLAY_S", -1.0)
    answer = (await shop.call("POST", "/v1/deliveries/replay", json=ALWAYS)).json()
    assert (answer["items"], answer["next_cursor"] is not None) == ([], True), "what is left is for the next page"
    assert len(ids) == 2

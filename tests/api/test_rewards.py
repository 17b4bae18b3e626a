"""Rewards, voucher codes and causes over HTTP: made, changed, loaded, shown to each as far as it is theirs, refused with pointers."""

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar

from service.flows import administer, causes
from service.flows.settle import settle_due
from tests.beginnings import Begin, Beginning
from tests.deliveries import Shop
from tests.redeeming import Catalogue
from tests.sealer import SEALER
from tests.worlds import World, order_paid

REWARD = {"code": "cup", "name": "A cup", "points": 100}


async def open_shop(app: Litestar, client: httpx.AsyncClient) -> Shop:
    return await Shop(app, client, World(app.state.resources.pool)).found()


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Shop]:
    return begin(open_shop, in_app=True)


async def send(shop: Shop, method: str, path: str, body: Any = None, *, by: str = "admin", status: int = 200) -> Any:
    answer = await shop.call(method, path, by, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def as_consumer(shop: Shop, consumer: str, *, platform: str = "shop", scope: str = "balance:read") -> None:
    """From now on `consumer` calls with a token of this platform."""
    async with shop.world.pool.acquire() as conn:
        shop.tokens[consumer] = await administer.consumer_token(
            conn, sealer=SEALER, platform=platform, consumer=consumer, scope=scope, ttl=timedelta(hours=1)
        )


# Operators --------------------------------------------------------------------------------------------------


async def test_a_reward_is_made_shown_and_changed(shop: Shop) -> None:
    made = await send(shop, "POST", "/v1/rewards", REWARD | {"stock": 5, "platforms": ["shop"]}, status=201)
    assert made | {"created_at": None} == {
        "code": "cup", "name": "A cup", "description": "", "points": 100, "per_consumer": None, "valid_from": None, "valid_until": None,
        "vouchers": False, "in_stock": True, "platforms": ["shop"], "stock": 5, "active": True, "created_at": None, "left": 5,
        "reserved": 0, "given_out": 0, "codes_left": None, "codes_void": None,
    }  # fmt: skip
    assert await send(shop, "GET", "/v1/rewards/cup", by="viewer") == made
    changed = await send(shop, "PATCH", "/v1/rewards/cup", {"points": 120, "stock": None, "platforms": None, "active": False})
    assert (changed["points"], changed["left"], changed["platforms"], changed["active"]) == (120, None, None, False)
    (row,) = (await send(shop, "GET", "/v1/audit?action=reward.change"))["items"]
    assert row["subject"] == "reward:cup"
    assert row["before"] == {"points": 100, "stock": 5, "platforms": ["shop"], "active": True}
    assert row["after"] == {"points": 120, "stock": None, "platforms": None, "active": False}
    assert await send(shop, "PATCH", "/v1/rewards/cup", {"points": 120}) == changed, "the same again is no change"
    assert len((await send(shop, "GET", "/v1/audit?action=reward.change"))["items"]) == 1
    await send(shop, "POST", "/v1/rewards", REWARD, status=409)
    await send(shop, "POST", "/v1/rewards", REWARD | {"code": "mug"}, by="viewer", status=403)


async def test_lists_go_on_where_they_ended(shop: Shop) -> None:
    for n in range(5):
        await send(shop, "POST", "/v1/rewards", REWARD | {"code": f"cup-{n}"}, status=201)
        await send(shop, "POST", "/v1/causes", {"code": f"cause-{n}", "name": "Trees"}, status=201)
    await as_consumer(shop, "ada")
    for path, by in (
        ("/v1/rewards", "viewer"), ("/v1/rewards", "shop"), ("/v1/me/rewards", "ada"),
        ("/v1/causes", "viewer"), ("/v1/causes", "shop"), ("/v1/me/causes", "ada"),
    ):  # fmt: skip
        seen, cursor = [], ""
        while cursor is not None:
            page = await send(shop, "GET", f"{path}?limit=2" + (f"&cursor={cursor}" if cursor else ""), by=by)
            seen += [item["code"] for item in page["items"]]
            cursor = page["next_cursor"]
        assert seen == sorted(set(seen)), path
        assert len(seen) == 5, path


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"points": 0}, "/points"),
    ({"points": -1}, "/points"),
    ({"points": 1.5}, "/points"),
    ({"points": True}, "/points"),
    ({"points": 10**15 + 1}, "/points"),
    ({"stock": -1}, "/stock"),
    ({"per_consumer": 0}, "/per_consumer"),
    ({"code": "Über"}, "/code"),
    ({"name": ""}, "/name"),
    ({"name": "a\u0000b"}, "/name"),
    ({"description": "a\nb"}, "/description"),
    ({"valid_from": "2026-01-01T00:00:00"}, "/valid_from"),
    ({"valid_until": "9999-12-31T23:59:59-12:00"}, "/valid_until"),
    ({"valid_from": "0001-01-01T00:00:00+12:00"}, "/valid_from"),
    ({"valid_from": "2026-01-02T00:00:00Z", "valid_until": "2026-01-02T08:00:00+08:00"}, "/valid_until"),
    ({"platforms": []}, "/platforms"),
    ({"platforms": ["shop", "nobody"]}, "/platforms/1"),
]


async def test_what_is_wrong_with_a_reward_is_told_and_changes_nothing(shop: Shop) -> None:
    for changes, pointer in WRONG:
        refused = await send(shop, "POST", "/v1/rewards", REWARD | changes, status=422)
        assert refused["errors"][0]["pointer"] == pointer, changes
    assert await shop.world.rows("SELECT FROM reward") == []
    before = await send(shop, "POST", "/v1/rewards", REWARD, status=201)
    for changes, pointer in WRONG:
        if "code" not in changes:
            assert (await send(shop, "PATCH", "/v1/rewards/cup", changes, status=422))["errors"][0]["pointer"] == pointer, changes
    assert await send(shop, "GET", "/v1/rewards/cup") == before


async def test_what_is_not_there_is_not_found(shop: Shop) -> None:
    for method, path, body in (
        ("GET", "rewards/{}", None), ("PATCH", "rewards/{}", {"points": 1}), ("POST", "rewards/{}/vouchers", ["A"]),
        ("GET", "rewards/{}/vouchers/void", None), ("GET", "causes/{}", None), ("PATCH", "causes/{}", {"active": False}),
    ):  # fmt: skip
        for code in ("nothing", "%00", "NUL%00", "%C3%A4", "a" * 500):
            answer = await shop.call(method, "/v1/" + path.format(code), "admin", json=body)
            assert answer.status_code == 404, answer.text


# Codes ------------------------------------------------------------------------------------------------------


async def load(shop: Shop, content: bytes, content_type: str, *, status: int = 200) -> Any:
    answer = await shop.client.post(
        "/v1/rewards/film/vouchers", content=content,
        headers={"Content-Type": content_type, "Authorization": f"Bearer {shop.tokens['admin']}"},
    )  # fmt: skip
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_codes_come_as_an_array_as_lines_or_as_a_table(shop: Shop) -> None:
    await send(shop, "POST", "/v1/rewards", REWARD | {"code": "film", "vouchers": True}, status=201)
    first = await load(shop, b'["A-1", "A-2", 7, null, {"code": "A-3"}, "A-1"]', "application/json")
    assert [row["status"] for row in first["results"]] == ["created", "created", "rejected", "rejected", "rejected", "duplicate"]
    assert (first["created"], first["duplicate"], first["rejected"]) == (2, 1, 3)
    lines = await load(shop, b'"B-1"\n\nB-2\n"A-1"\n', "application/x-ndjson")
    assert [row["status"] for row in lines["results"]] == ["created", "rejected", "duplicate"]
    table = await load(shop, b"\xef\xbb\xbfcode,note\nC-1,x\n , y\nB-1,\n", "text/csv")
    assert [row["status"] for row in table["results"]] == ["created", "rejected", "duplicate"]
    bare = await load(shop, b"D-1\nD-2\n", "text/csv")
    assert [row["status"] for row in bare["results"]] == ["rejected"], "without a heading there is no column code"
    answer = await send(shop, "GET", "/v1/rewards/film")
    assert (answer["codes_left"], answer["in_stock"]) == (4, True)
    shown = json.dumps([first, lines, table, bare, answer, await send(shop, "GET", "/v1/audit")])
    assert [code for code in ("A-1", "B-1", "B-2", "C-1", "D-1", "D-2") if f'"{code}' in shown] == []


async def test_what_is_no_list_of_codes_is_refused(shop: Shop) -> None:
    await send(shop, "POST", "/v1/rewards", REWARD | {"code": "film", "vouchers": True}, status=201)
    for content, content_type, status in (
        (b"{}", "application/json", 422), (b"[", "application/json", 400), (b"\xff", "text/csv", 422), (b"", "text/csv", 422),
        (b"[]", "text/plain", 415), (b"[" + b'"x",' * 5_000 + b'"x"]', "application/json", 422),
    ):  # fmt: skip
        await load(shop, content, content_type, status=status)
    assert await shop.world.rows("SELECT FROM voucher") == []


async def test_void_codes_are_listed_for_those_who_loaded_them(shop: Shop) -> None:
    catalogue = Catalogue(shop.world)
    await catalogue.reward("film", codes=["A", "B", "C"])
    account = await catalogue.account()
    for _ in range(3):
        number = await catalogue.reserve(account, "film")
        await catalogue.capture(account, number)
        await catalogue.refund(account, number)
    page = await send(shop, "GET", "/v1/rewards/film/vouchers/void?limit=2")
    assert [(item["code"], item["redemption"][:2]) for item in page["items"]] == [("A", "r-"), ("B", "r-")]
    rest = await send(shop, "GET", f"/v1/rewards/film/vouchers/void?cursor={page['next_cursor']}")
    assert [item["code"] for item in rest["items"]] == ["C"]
    await send(shop, "GET", "/v1/rewards/film/vouchers/void", by="viewer", status=403)
    await send(shop, "GET", "/v1/rewards/film/vouchers/void", by="foreign", status=404)


# Platforms and consumers --------------------------------------------------------------------------------------


async def test_platforms_and_consumers_see_what_is_on_offer_to_them(shop: Shop) -> None:
    for code, more in (
        ("all", {}), ("closed", {}), ("of-market", {"platforms": ["market"]}), ("of-shop", {"platforms": ["shop", "market"]}),
        ("over", {"valid_until": "2020-01-01T00:00:00Z"}), ("sold-out", {"stock": 0}), ("to-come", {"valid_from": "2099-01-01T00:00:00Z"}),
        ("no-codes", {"vouchers": True}),
    ):  # fmt: skip
        await send(shop, "POST", "/v1/rewards", REWARD | {"code": code} | more, status=201)
    await send(shop, "PATCH", "/v1/rewards/closed", {"active": False})
    await as_consumer(shop, "ada")
    offered = await send(shop, "GET", "/v1/rewards", by="shop")
    assert [(item["code"], item["in_stock"]) for item in offered["items"]] == [
        ("all", True), ("no-codes", False), ("of-shop", True), ("sold-out", False),
    ]  # fmt: skip
    assert all(not {"platforms", "stock", "active", "created_at"} & item.keys() for item in offered["items"]), "nothing of other platforms"
    mine = await send(shop, "GET", "/v1/me/rewards", by="ada")
    assert [item["code"] for item in mine["items"]] == [item["code"] for item in offered["items"]]
    assert not any(item["affordable"] or item["available"] for item in mine["items"]), "somebody new has no points"
    assert len((await send(shop, "GET", "/v1/rewards"))["items"]) == 8
    assert (await send(shop, "GET", "/v1/rewards", by="foreign"))["items"] == []


async def test_a_consumer_sees_what_its_points_and_the_limit_allow(shop: Shop) -> None:
    catalogue = Catalogue(shop.world)
    await catalogue.reward("cheap", points=10, per_consumer=2)
    await catalogue.reward("dear", points=11)
    await as_consumer(shop, "ada")
    account = await catalogue.account("ada")
    resources = shop.app.state.resources
    await settle_due(shop.world.pool, resources.projection, stripe=1, buckets=64, batch_events=100)
    assert await shop.world.rows("SELECT available FROM account WHERE id = $1", account) == [{"available": 10}]

    async def seen() -> list[tuple[Any, ...]]:
        items = (await send(shop, "GET", "/v1/me/rewards", by="ada"))["items"]
        return [(item["code"], item["affordable"], item["remaining"], item["available"]) for item in items]

    assert await seen() == [("cheap", True, 2, True), ("dear", False, None, False)]
    number = await catalogue.reserve(account, "cheap")
    await catalogue.buy(account, "cheap")
    assert (await seen())[0] == ("cheap", True, 0, False)
    await catalogue.cancel(account, number)
    assert (await seen())[0] == ("cheap", True, 1, True)
    await catalogue.change("cheap", per_consumer=1)
    assert (await seen())[0] == ("cheap", True, 0, False)


# Causes -----------------------------------------------------------------------------------------------------


async def test_a_cause_shows_what_was_given_less_what_was_refunded(shop: Shop) -> None:
    made = await send(shop, "POST", "/v1/causes", {"code": "trees", "name": "Trees", "url": "https://trees.example/"}, status=201)
    assert (made["points"], made["donations"], made["active"]) == (0, 0, True)
    async with shop.world.pool.acquire() as conn:
        number = await causes.cause_of(conn, program=shop.world.program, code="trees")
        for stripe, points, donations in ((1, 30, 1), (2, 50, 1), (1, 20, 1), (7, -30, -1), (7, -10, 0)):
            await causes.count(conn, cause=number, points=points, donations=donations, stripe=stripe)
    await as_consumer(shop, "ada")
    for path, by in (("/v1/causes", "admin"), ("/v1/causes", "shop"), ("/v1/me/causes", "ada")):
        (item,) = (await send(shop, "GET", path, by=by))["items"]
        assert (item["points"], item["donations"]) == (60, 2)
        assert ("active" in item) == (by == "admin")
    assert (await send(shop, "GET", "/v1/causes", by="foreign"))["items"] == []
    await send(shop, "POST", "/v1/causes", {"code": "trees", "name": "Trees"}, status=409)


async def test_a_cause_that_ended_takes_nothing_more_and_keeps_what_it_has(shop: Shop) -> None:
    await send(shop, "POST", "/v1/causes", {"code": "trees", "name": "Trees"}, status=201)
    changed = await send(shop, "PATCH", "/v1/causes/trees", {"active": False, "url": "https://t.example"})
    assert (changed["active"], changed["url"]) == (False, "https://t.example")
    assert (await send(shop, "GET", "/v1/causes", by="shop"))["items"] == []
    assert len((await send(shop, "GET", "/v1/causes"))["items"]) == 1
    async with shop.world.pool.acquire() as conn:
        for program, code, said in (
            (shop.world.program, "trees", "takes no more"), (shop.world.program, "nothing", "no such cause"),
            (shop.world.program + 1, "trees", "no such cause"), (shop.world.program, "\x00", "no such cause"),
        ):  # fmt: skip
            with pytest.raises(Exception, match=said):
                await causes.cause_of(conn, program=program, code=code)


async def test_the_address_of_a_cause_is_one_that_apps_may_show(shop: Shop) -> None:
    for url in ("http://a.example", "javascript:alert(1)", "https://", "https://a b", 'https://a"onclick="', "https://a\n", "//a", ""):
        refused = await send(shop, "POST", "/v1/causes", {"code": "trees", "name": "Trees", "url": url}, status=422)
        assert refused["errors"][0]["pointer"] == "/url", url


async def test_a_reference_of_one_platform_is_nobody_on_another(shop: Shop) -> None:
    await Catalogue(shop.world).reward("cup", points=1)
    await shop.world.credit(order_paid("ada"))
    await as_consumer(shop, "ada", platform="market")
    (item,) = (await send(shop, "GET", "/v1/me/rewards", by="ada"))["items"]
    assert item["affordable"] is False

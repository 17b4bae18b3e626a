"""Spending over HTTP: every row of the contract, what is refused how, keys, and that every process shows it at once."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar

from service.flows import administer
from service.settings import Settings
from tests.adjusting import give, unharmed
from tests.beginnings import Begin, Beginning
from tests.deliveries import Shop
from tests.sealer import SEALER
from tests.servers import started
from tests.worlds import World

_keys = itertools.count(1)


async def open_shop(app: Litestar, client: httpx.AsyncClient) -> Shop:
    """`ada` with 100 points and `bob` with 5, both of `shop`, `eve` of `market` with 5; tokens of the consumers, narrow keys."""
    made = await Shop(app, client, World(app.state.resources.pool)).found()
    await give(made.world, 100, "ada")
    await give(made.world, 5, "bob")
    await give(made.world, 5, "eve", platform="market")
    async with made.world.pool.acquire() as conn:
        for consumer, scope in itertools.product(("ada", "bob", "nobody"), ("balance:read", "redeem", "balance:read redeem")):
            made.tokens[f"{consumer} {scope}"] = await administer.consumer_token(
                conn, sealer=SEALER, platform="shop", consumer=consumer, scope=scope, ttl=timedelta(hours=1)
            )
        for scope in ("redemptions:write", "redemptions:read", "events:write"):
            made.tokens[scope] = (
                await administer.create_key(conn, program=made.world.program, platform="shop", scopes=(scope,))
            ).key  # fmt: skip
        other = await conn.fetchval("SELECT id FROM program WHERE code = 'other'")
        platform = await administer.create_platform(conn, sealer=SEALER, program=other, code="elsewhere", name="Elsewhere")
        made.tokens["elsewhere"] = platform.api_key
    return made


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Shop]:
    return begin(open_shop, in_app=True)


ME = "ada balance:read redeem"
BODY = {"consumer": "ada", "points": 30}


async def post(shop: Shop, path: str, body: Any = None, who: str = "shop", key: str | None = "", **more: Any) -> httpx.Response:
    """`key` "": a new one; None: none."""
    headers = ({} if key is None else {"Idempotency-Key": key or f"key-{next(_keys)}"}) | more.pop("headers", {})
    return await shop.call("POST", path, who, headers=headers, **({"json": body} if body is not None else {}), **more)


async def redeemed(shop: Shop, who: str = "shop", **changes: Any) -> Any:
    own = "redeem" in who and who != "redemptions:write"
    body = ({} if own else {"consumer": "ada"}) | {"points": 30} | changes
    answer = await post(shop, "/v1/me/redemptions" if own else "/v1/redemptions", body, who)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def balance(shop: Shop, consumer: str = "ada") -> tuple[int, int]:
    found = (await shop.call("GET", f"/v1/consumers/{consumer}/balance", "shop")).json()
    return found["available"], found["reserved"]


def problem(answer: httpx.Response) -> tuple[int, str, list[str]]:
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, body["code"], [error["pointer"] for error in body.get("errors", [])]


async def step(shop: Shop, redemption: Any, name: str, body: Any = None, who: str = "shop", **more: Any) -> httpx.Response:
    of = "/v1/redemptions" if who in {*shop.world.keys, "redemptions:write"} else "/v1/me/redemptions"
    return await post(shop, f"{of}/{redemption['id']}/{name}", body, who, **more)


# What there is


async def test_a_reservation_is_captured(shop: Shop) -> None:
    made = await redeemed(shop, reference="cart-7")
    assert (
        made | {"status": "reserved", "points": 30, "captured": 0, "refunded": 0, "reference": "cart-7", "reward": None, "cause": None}
        == made
    )
    ends, began = datetime.fromisoformat(made["expires_at"]), datetime.fromisoformat(made["created_at"])
    assert ends - began == timedelta(minutes=15)
    assert (made["balance"]["available"], made["balance"]["reserved"]) == (70, 30) == await balance(shop)
    assert "voucher" not in made
    answer = await step(shop, made, "capture")
    assert answer.status_code == 200
    assert answer.json() | {"status": "captured", "captured": 30} == answer.json()
    assert await balance(shop) == (70, 0)
    shown = await shop.call("GET", f"/v1/redemptions/{made['id']}", "shop")
    assert shown.json() == answer.json()
    await unharmed(shop.world)


async def test_part_is_captured_and_the_rest_is_free_at_once(shop: Shop) -> None:
    made = await redeemed(shop)
    answer = (await step(shop, made, "capture", {"points": 20})).json()
    assert (answer["status"], answer["points"], answer["captured"]) == ("captured", 30, 20)
    assert (answer["balance"]["available"], answer["balance"]["reserved"]) == (80, 0) == await balance(shop)
    await unharmed(shop.world)


async def test_a_reservation_is_cancelled(shop: Shop) -> None:
    made = await redeemed(shop)
    answer = await step(shop, made, "cancel")
    assert (answer.status_code, answer.json()["status"], answer.json()["captured"]) == (200, "cancelled", 0)
    assert await balance(shop) == (100, 0)
    for name in ("capture", "cancel", "refund"):
        assert problem(await step(shop, made, name)) == (409, "invalid_state", [])
    await unharmed(shop.world)


async def test_one_step_and_back_in_parts(shop: Shop) -> None:
    made = await redeemed(shop, capture=True)
    assert (made["status"], made["captured"]) == ("captured", 30)
    assert await balance(shop) == (70, 0)
    assert problem(await step(shop, made, "capture")) == (409, "invalid_state", [])
    assert problem(await step(shop, made, "cancel")) == (409, "invalid_state", [])
    assert problem(await step(shop, made, "refund", {"points": 31})) == (422, "invalid_request", ["/points"])
    part = (await step(shop, made, "refund", {"points": 10})).json()
    assert (part["status"], part["captured"], part["refunded"], part["balance"]["available"]) == ("captured", 30, 10, 80)
    rest = (await step(shop, made, "refund")).json()
    assert (rest["refunded"], rest["balance"]["available"]) == (30, 100)
    assert problem(await step(shop, made, "refund")) == (409, "invalid_state", [])
    assert await balance(shop) == (100, 0)
    await unharmed(shop.world)


async def test_more_than_there_is_changes_nothing(shop: Shop) -> None:
    for capture in (False, True):
        assert problem(await post(shop, "/v1/redemptions", BODY | {"points": 101, "capture": capture}, key="again")) == (
            409, "insufficient_points", [],
        )  # fmt: skip
    made = await redeemed(shop)
    assert problem(await step(shop, made, "capture", {"points": 31})) == (422, "invalid_request", ["/points"])
    assert await balance(shop) == (70, 30)
    # What was refused has left its key free.
    assert (await post(shop, "/v1/redemptions", BODY, key="again")).status_code == 201


# Keys


async def test_a_repeat_gets_the_first_answer_and_does_nothing(shop: Shop) -> None:
    first = await post(shop, "/v1/redemptions", BODY, key="order-7")
    assert "Idempotency-Replayed" not in first.headers
    # Quoted it is the same key; other spacing and order of members are the same request.
    content = json.dumps(dict(reversed(BODY.items())), indent=2)
    for key, sent in (("order-7", {"json": BODY}), ('"order-7"', {"content": content, "headers": {"Content-Type": "application/json"}})):
        again = await post(shop, "/v1/redemptions", key=key, **sent)
        assert (again.status_code, again.headers["Idempotency-Replayed"], again.json()) == (201, "true", first.json())
    captured = await step(shop, first.json(), "capture", key="capture-7")
    again = await step(shop, first.json(), "capture", key="capture-7")
    assert (again.status_code, again.headers["Idempotency-Replayed"], again.json()) == (200, "true", captured.json())
    # The first answer stays what it was.
    again = await post(shop, "/v1/redemptions", BODY, key="order-7")
    assert again.json() == first.json()
    assert await balance(shop) == (70, 0)


async def test_a_key_is_one_request_s(shop: Shop) -> None:
    made = (await post(shop, "/v1/redemptions", BODY, key="one")).json()
    for change in ({"points": 31}, {"consumer": "bob"}, {"capture": True}, {"reference": "x"}, {"ttl": "PT16M"}):
        assert problem(await post(shop, "/v1/redemptions", BODY | change, key="one")) == (422, "idempotency_key_reused", [])
    for name in ("capture", "cancel", "refund"):
        assert problem(await step(shop, made, name, key="one")) == (422, "idempotency_key_reused", [])
    assert await balance(shop) == (70, 30)


async def test_others_with_the_same_key_mean_something_else(shop: Shop) -> None:
    """Another platform's, each consumer's own: none meets another."""
    made = [
        await post(shop, "/v1/redemptions", {"consumer": "ada", "points": 5}, key="same"),
        await post(shop, "/v1/redemptions", {"consumer": "eve", "points": 5}, "market", key="same"),
        await post(shop, "/v1/me/redemptions", {"points": 5}, ME, key="same"),
        await post(shop, "/v1/me/redemptions", {"points": 5}, "bob redeem", key="same"),
    ]
    assert [(m.status_code, m.headers.get("Idempotency-Replayed")) for m in made] == [(201, None)] * 4
    assert len({m.json()["id"] for m in made}) == 4


async def test_a_request_needs_a_key_that_is_one(shop: Shop) -> None:
    made = await redeemed(shop)
    for path, body in (
        ("/v1/redemptions", BODY),
        *((f"/v1/redemptions/{made['id']}/{name}", None) for name in ("capture", "cancel", "refund")),
    ):
        for key in (None, " ", '""'):
            assert problem(await post(shop, path, body, key=key)) == (400, "idempotency_key_missing", []), (path, key)
        for key in ("k" * 129, "a\u00e9".encode("latin-1").decode("latin-1").encode("latin-1"), "a\tb"):
            answer = await shop.call("POST", path, "shop", json=body, headers={"Idempotency-Key": key})
            assert problem(answer) == (422, "invalid_request", []), (path, key)
        two = [("Authorization", f"Bearer {shop.tokens['shop']}"), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        assert problem(await shop.client.post(path, json=body or {}, headers=two)) == (422, "invalid_request", [])
    assert await balance(shop) == (70, 30)
    assert (await post(shop, "/v1/redemptions", BODY, key="k" * 128)).status_code == 201


# Bodies


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"points": 0}, "/points"), ({"points": -1}, "/points"), ({"points": 1.5}, "/points"), ({"points": 30.0}, "/points"),
        ({"points": 2**53 + 1}, "/points"), ({"points": 10**30}, "/points"), ({"points": "1e3"}, "/points"), ({"points": "30"}, "/points"),
        ({"points": True}, "/points"), ({"points": None}, "/points"), ({"points": [30]}, "/points"), ({"consumer": ""}, "/consumer"),
        ({"consumer": "x" * 129}, "/consumer"), ({"consumer": "a\nb"}, "/consumer"), ({"consumer": 7}, "/consumer"),
        ({"reference": ""}, "/reference"), ({"reference": "x" * 129}, "/reference"), ({"reference": "\u0000"}, "/reference"),
        ({"reward": "nothing"}, "/reward"), ({"reward": "NO CODE"}, "/reward"), ({"cause": "nothing"}, "/cause"),
        ({"cause": "\u0000"}, "/cause"), ({"reward": "nothing", "cause": "nothing"}, "/cause"), ({"capture": "yes"}, "/capture"),
        ({"capture": 1}, "/capture"), ({"ttl": "PT0S"}, "/ttl"), ({"ttl": "P32D"}, "/ttl"), ({"ttl": "P1M"}, "/ttl"), ({"ttl": "soon"}, "/ttl"),
        ({"ttl": "-PT5M"}, "/ttl"), ({"ttl": 900}, "/ttl"), ({"ttl": "PT99999999999999999999S"}, "/ttl"),
    ],
)  # fmt: skip
async def test_a_bad_request_is_refused_where_it_is_bad(shop: Shop, change: dict[str, Any], pointer: str) -> None:
    answer = await post(shop, "/v1/redemptions", BODY | change)
    assert problem(answer) == (422, "invalid_request", [pointer]), answer.text
    assert await balance(shop) == (100, 0)
    assert await shop.world.rows("SELECT * FROM redemption") == await shop.world.rows("SELECT * FROM idempotent_request") == []


@pytest.mark.parametrize(("missing", "pointer"), [("points", "/points"), ("consumer", "")])
async def test_what_is_missing_is_named(shop: Shop, missing: str, pointer: str) -> None:
    answer = await post(shop, "/v1/redemptions", {name: value for name, value in BODY.items() if name != missing})
    assert problem(answer)[:2] == (422, "invalid_request")
    assert missing in answer.text
    assert pointer in "".join(problem(answer)[2])


@pytest.mark.parametrize(
    ("content", "type_", "expected"),
    [
        (b"", "application/json", (400, "malformed_json")), (b"{", "application/json", (400, "malformed_json")),
        (b"\xff\xfe", "application/json", (400, "malformed_json")), (b"[]", "application/json", (422, "invalid_request")),
        (b"null", "application/json", (422, "invalid_request")), (b'"30"', "application/json", (422, "invalid_request")),
        (b'{"x": ' + b"[" * 8_000 + b"]" * 8_000 + b"}", "application/json", (400, "malformed_json")),
        (b'{"x": "' + b"a" * 16_384 + b'"}', "application/json", (413, "payload_too_large")),
        (b"points=30", "application/x-www-form-urlencoded", (415, "unsupported_media_type")),
        (b"{}", "text/plain", (415, "unsupported_media_type")), (b"<x/>", "application/xml", (415, "unsupported_media_type")),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
async def test_what_is_no_request_is_refused(shop: Shop, content: bytes, type_: str, expected: tuple[int, str]) -> None:
    made = await redeemed(shop)
    for path, who in (
        ("/v1/redemptions", "shop"), ("/v1/me/redemptions", ME), (f"/v1/redemptions/{made['id']}/capture", "shop"),
        (f"/v1/me/redemptions/{made['id']}/cancel", ME), (f"/v1/redemptions/{made['id']}/refund", "shop"),
    ):  # fmt: skip
        if not content and not path.endswith("redemptions"):
            continue  # those take no body, too
        answer = await post(shop, path, who=who, content=content, headers={"Content-Type": type_})
        assert problem(answer)[:2] == expected, (path, answer.text)
    assert await balance(shop) == (70, 30)


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/json"}])
async def test_steps_need_no_body(shop: Shop, headers: dict[str, str]) -> None:
    made, other = await redeemed(shop), await redeemed(shop)
    for name, what in (("capture", made), ("refund", made), ("cancel", other)):
        answer = await step(shop, what, name, content=b"", headers=headers)
        assert answer.status_code == 200, answer.text
    assert await balance(shop) == (100, 0)


@pytest.mark.parametrize("ttl", ["PT1S", "P31D"])
async def test_how_long_a_reservation_may_last(shop: Shop, ttl: str) -> None:
    made = await redeemed(shop, ttl=ttl)
    lasts = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert lasts == {"PT1S": timedelta(seconds=1), "P31D": timedelta(days=31)}[ttl]


# Whose it is, and who may


async def test_a_redemption_of_others_is_not_there(shop: Shop) -> None:
    made = await redeemed(shop)
    odd = ("x", "rdm_" + "0" * 32, made["id"].upper(), made["id"] + "0", "%F0%9F%8D%83")
    for who, id_ in [("market", made["id"]), ("elsewhere", made["id"]), *(("shop", one) for one in odd)]:
        seen = await shop.call("GET", f"/v1/redemptions/{id_}", who)
        assert (seen.status_code, seen.json()["detail"]) == (404, "There is no such redemption."), (who, id_, seen.text)
        for name in ("capture", "cancel", "refund"):
            answer = await post(shop, f"/v1/redemptions/{id_}/{name}", who=who)
            assert (answer.status_code, answer.json()["detail"]) == (404, "There is no such redemption."), (who, id_, answer.text)
    for name in ("capture", "cancel"):
        assert problem(await post(shop, f"/v1/me/redemptions/{made['id']}/{name}", who="bob redeem")) == (404, "not_found", [])
        assert problem(await post(shop, f"/v1/me/redemptions/{made['id']}/{name}", who="nobody redeem")) == (404, "not_found", [])
    for who in ("bob balance:read", "nobody balance:read"):
        assert (await shop.call("GET", f"/v1/me/redemptions/{made['id']}", who)).status_code == 404
    assert await balance(shop) == (70, 30)


@pytest.mark.parametrize(("who", "consumer"), [("market", "ada"), ("elsewhere", "ada"), ("shop", "nobody"), ("shop", "eve")])
async def test_somebody_whom_the_platform_does_not_know_is_not_there(shop: Shop, who: str, consumer: str) -> None:
    answer = await post(shop, "/v1/redemptions", BODY | {"consumer": consumer}, who)
    assert (answer.status_code, answer.json()["detail"]) == (404, "This consumer has no events yet.")
    assert await shop.world.rows("SELECT * FROM redemption") == []


async def test_who_may(shop: Shop) -> None:
    made = await redeemed(shop)
    one = f"/v1/redemptions/{made['id']}"
    mine = f"/v1/me/redemptions/{made['id']}"
    writes = [("/v1/redemptions", BODY), *((f"{one}/{name}", None) for name in ("capture", "cancel", "refund"))]
    own = [("/v1/me/redemptions", {"points": 1}), *((f"{mine}/{name}", None) for name in ("capture", "cancel"))]
    for path, body in writes:
        for who in ("redemptions:read", "events:write", "admin", "viewer", ME):
            assert problem(await post(shop, path, body, who)) == (403, "forbidden", []), (path, who)
    for path, body in own:
        for who in ("ada balance:read", "shop", "redemptions:write", "admin"):
            assert problem(await post(shop, path, body, who)) == (403, "forbidden", []), (path, who)
    for path in ("/v1/redemptions", one):
        for who in ("redemptions:write", "events:write", "admin", ME):
            assert (await shop.call("GET", path, who)).status_code == 403, (path, who)
        assert (await shop.call("GET", path, "redemptions:read")).status_code == 200
    for path in ("/v1/me/redemptions", mine):
        for who in ("ada redeem", "shop", "admin"):
            assert (await shop.call("GET", path, who)).status_code == 403, (path, who)
        assert (await shop.call("GET", path, "ada balance:read")).status_code == 200
    for path, body in [*writes, *own]:
        assert (await shop.client.post(path, json=body or {}, headers={"Idempotency-Key": "k"})).status_code == 401
    # A consumer gives nothing back to themselves.
    assert (await post(shop, f"{mine}/refund", who=ME)).status_code in (404, 405)
    assert await balance(shop) == (70, 30)
    assert (await post(shop, f"{one}/cancel", who="redemptions:write")).status_code == 200


async def test_consumers_spend_by_themselves(shop: Shop) -> None:
    made = await redeemed(shop, ME)
    assert (await shop.call("GET", f"/v1/me/redemptions/{made['id']}", ME)).json() == made
    part = await step(shop, made, "capture", {"points": 10}, ME)
    assert (part.status_code, part.json()["captured"], part.json()["balance"]["available"]) == (200, 10, 90)
    other = await redeemed(shop, ME)
    assert (await step(shop, other, "cancel", who=ME)).json()["status"] == "cancelled"
    # The platform sees them, and gives back.
    assert (await step(shop, made, "refund")).json()["balance"]["available"] == 100
    assert problem(await post(shop, "/v1/me/redemptions", {"points": 101}, ME)) == (409, "insufficient_points", [])
    assert problem(await post(shop, "/v1/me/redemptions", {"points": 1}, "nobody redeem")) == (409, "insufficient_points", [])
    assert await shop.world.rows("SELECT * FROM consumer_reference WHERE reference = 'nobody'") == []
    # Whose points they are says the token, whatever the body says.
    answer = await post(shop, "/v1/me/redemptions", {"points": 6, "consumer": "bob"}, ME)
    assert (answer.status_code, await balance(shop), await balance(shop, "bob")) == (201, (94, 6), (5, 0))
    await unharmed(shop.world)


# Lists


async def test_redemptions_are_listed_page_by_page(shop: Shop) -> None:
    made = [await redeemed(shop, points=points) for points in (1, 2, 3)]
    await step(shop, made[0], "capture")
    await step(shop, made[1], "cancel")
    of_bob = await redeemed(shop, consumer="bob", points=4)
    await post(shop, "/v1/redemptions", {"consumer": "eve", "points": 5}, "market")
    for search, expected in (
        ({}, [4, 3, 2, 1]), ({"consumer": "ada"}, [3, 2, 1]), ({"consumer": "bob"}, [4]), ({"status": "reserved"}, [4, 3]),
        ({"status": "captured", "consumer": "ada"}, [1]), ({"status": "cancelled"}, [2]), ({"status": "expired"}, []),
        ({"consumer": "nobody"}, []), ({"consumer": "eve"}, []),
    ):  # fmt: skip
        found = (await shop.call("GET", "/v1/redemptions", "shop", params=search)).json()
        assert ([item["points"] for item in found["items"]], found["next_cursor"]) == (expected, None), search
    pages, cursor = [], None
    while True:
        search = {"limit": 3} | ({} if cursor is None else {"cursor": cursor})
        page = (await shop.call("GET", "/v1/redemptions", "shop", params=search)).json()
        pages.append([item["points"] for item in page["items"]])
        if (cursor := page["next_cursor"]) is None:
            break
    assert pages == [[4, 3, 2], [1]]
    item = (await shop.call("GET", "/v1/redemptions", "shop", params={"consumer": "bob"})).json()["items"][0]
    assert item == {name: value for name, value in of_bob.items() if name != "balance"}
    mine = (await shop.call("GET", "/v1/me/redemptions", ME)).json()
    assert [item["points"] for item in mine["items"]] == [3, 2, 1]
    mine = (await shop.call("GET", "/v1/me/redemptions", ME, params={"status": "reserved", "limit": 1})).json()
    assert ([item["points"] for item in mine["items"]], mine["next_cursor"]) == ([3], None)
    assert (await shop.call("GET", "/v1/me/redemptions", "nobody balance:read")).json()["items"] == []
    for search in ({"status": "lost"}, {"limit": 0}, {"limit": 201}, {"cursor": "x"}, {"consumer": "x" * 129}):
        assert (await shop.call("GET", "/v1/redemptions", "shop", params=search)).status_code == 422, search


# Other processes


@pytest.fixture
async def elsewhere(app: Litestar, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A second process's application on the same database and Redis."""
    async with (
        started(settings) as second,
        httpx.AsyncClient(transport=httpx.ASGITransport(app=second), base_url="http://test") as opened,
    ):
        yield opened


async def test_every_process_shows_it_at_once(shop: Shop, elsewhere: httpx.AsyncClient) -> None:
    for n in range(5):
        made = await redeemed(shop, points=2, capture=bool(n % 2))
        version = made["balance"]["version"]
        for path, who in ((f"/v1/consumers/ada/balance?min_version={version}", "shop"), ("/v1/me/balance", ME)):
            seen = (await elsewhere.get(path, headers={"Authorization": f"Bearer {shop.tokens[who]}"})).json()
            assert seen["version"] == version
            assert (seen["available"], seen["reserved"]) == (made["balance"]["available"], made["balance"]["reserved"])
        one = await elsewhere.get(f"/v1/redemptions/{made['id']}", headers={"Authorization": f"Bearer {shop.tokens['shop']}"})
        assert one.json() == made
        again = {"Authorization": f"Bearer {shop.tokens['shop']}", "Idempotency-Key": f"done-{n}"}
        name = "refund" if n % 2 else "cancel"
        answers = [await client.post(f"/v1/redemptions/{made['id']}/{name}", headers=again) for client in (elsewhere, shop.client)]
        assert [a.headers.get("Idempotency-Replayed") for a in answers] == [None, "true"]
        assert answers[0].json() == answers[1].json()
    assert await balance(shop) == (100, 0)


async def test_fifty_at_once_spend_what_is_there_and_no_more(shop: Shop, elsewhere: httpx.AsyncClient) -> None:
    async def one(n: int) -> httpx.Response:
        client = (shop.client, elsewhere)[n % 2]
        headers = {"Authorization": f"Bearer {shop.tokens['shop']}", "Idempotency-Key": f"hot-{n}"}
        return await client.post("/v1/redemptions", json={"consumer": "ada", "points": 3, "capture": True}, headers=headers)

    answers = await asyncio.gather(*(one(n) for n in range(50)))
    assert Counter(a.status_code for a in answers) == {201: 33, 409: 17}
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {"insufficient_points"}
    versions = [a.json()["balance"]["version"] for a in answers if a.status_code == 201]
    assert len(set(versions)) == 33
    assert await balance(shop) == (1, 0)
    await unharmed(shop.world)


async def test_one_key_sent_twenty_times_at_once_is_carried_out_once(shop: Shop, elsewhere: httpx.AsyncClient) -> None:
    async def one(n: int) -> httpx.Response:
        headers = {"Authorization": f"Bearer {shop.tokens['shop']}", "Idempotency-Key": "the same"}
        return await (shop.client, elsewhere)[n % 2].post("/v1/redemptions", json=BODY, headers=headers)

    answers = await asyncio.gather(*(one(n) for n in range(20)))
    assert {a.status_code for a in answers} <= {201, 409}
    assert {a.json()["code"] for a in answers if a.status_code == 409} <= {"idempotency_key_in_use"}
    assert len({a.json()["id"] for a in answers if a.status_code == 201}) == 1
    assert len([a for a in answers if a.status_code == 201 and "Idempotency-Replayed" not in a.headers]) == 1
    assert await balance(shop) == (70, 30)


# Rewards and causes


async def reward(shop: Shop, *codes: str, **more: Any) -> None:
    body = {"code": "film", "name": "A film", "points": 40, "vouchers": bool(codes)} | more
    assert (await shop.call("POST", "/v1/rewards", json=body)).status_code == 201
    if codes:
        assert (await shop.call("POST", "/v1/rewards/film/vouchers", json=list(codes))).json()["created"] == len(codes)


async def kept(shop: Shop) -> str:
    rows = await shop.world.rows("SELECT i::text AS text FROM idempotent_request i")
    return "\n".join(row["text"] for row in rows)


async def test_the_code_of_a_reward_is_shown_when_it_is_paid_and_kept_nowhere(shop: Shop) -> None:
    await reward(shop, "CODE-1", "CODE-2")
    body = {"consumer": "ada", "reward": "film"}
    made = (await post(shop, "/v1/redemptions", body)).json()
    assert (made["status"], made["points"], made["reward"], "voucher" in made) == ("reserved", 40, "film", False)
    first = await step(shop, made, "capture", key="pay")
    assert first.json()["voucher"] in ("CODE-1", "CODE-2")
    again = await step(shop, made, "capture", key="pay")
    assert (again.headers["Idempotency-Replayed"], again.json()) == ("true", first.json())
    for path, who in ((f"/v1/redemptions/{made['id']}", "shop"), (f"/v1/me/redemptions/{made['id']}", "ada balance:read")):
        assert (await shop.call("GET", path, who)).json()["voucher"] == first.json()["voucher"]
    assert "CODE" not in (await shop.call("GET", "/v1/redemptions", "shop")).text
    assert "CODE-" not in await kept(shop)
    # In one step.
    direct = await post(shop, "/v1/redemptions", body | {"capture": True}, key="direct")
    assert {first.json()["voucher"], direct.json()["voucher"]} == {"CODE-1", "CODE-2"}
    assert (await post(shop, "/v1/redemptions", body | {"capture": True}, key="direct")).json() == direct.json()
    assert problem(await post(shop, "/v1/redemptions", body)) == (409, "invalid_state", [])
    assert await balance(shop) == (20, 0)
    await unharmed(shop.world)


async def test_a_code_that_was_given_back_is_void_and_shown_no_more(shop: Shop) -> None:
    await reward(shop, "CODE-1")
    made = (await post(shop, "/v1/redemptions", {"consumer": "ada", "reward": "film", "capture": True}, key="buy")).json()
    assert problem(await step(shop, made, "refund", {"points": 5})) == (422, "invalid_request", ["/points"])
    back = await step(shop, made, "refund")
    assert (back.status_code, "voucher" in back.json(), back.json()["balance"]["available"]) == (200, False, 100)
    void = (await shop.call("GET", "/v1/rewards/film/vouchers/void")).json()["items"]
    assert [(item["code"], item["redemption"]) for item in void] == [("CODE-1", made["id"])]
    again = await post(shop, "/v1/redemptions", {"consumer": "ada", "reward": "film", "capture": True}, key="buy")
    assert (again.status_code, "voucher" in again.json(), again.json()["id"]) == (201, False, made["id"])
    assert "voucher" not in (await shop.call("GET", f"/v1/redemptions/{made['id']}", "shop")).json()
    assert problem(await post(shop, "/v1/redemptions", {"consumer": "ada", "reward": "film"})) == (409, "invalid_state", [])


async def test_the_price_of_a_reward_is_its_own(shop: Shop) -> None:
    await reward(shop, stock=1)
    for points, expected in ((39, (422, "invalid_request", ["/points"])), (41, (422, "invalid_request", ["/points"]))):
        answer = await post(shop, "/v1/redemptions", {"consumer": "ada", "reward": "film", "points": points})
        assert problem(answer) == expected
    poor = await post(shop, "/v1/me/redemptions", {"reward": "film"}, "bob redeem")
    assert problem(poor) == (409, "insufficient_points", [])
    # Somebody without an account cannot pay either, whatever it costs.
    unknown = await post(shop, "/v1/me/redemptions", {"reward": "film"}, "nobody redeem")
    assert (problem(unknown), "None" in unknown.text) == ((409, "insufficient_points", []), False)
    made = await post(shop, "/v1/redemptions", {"consumer": "ada", "reward": "film", "points": 40})
    assert made.status_code == 201, "what was refused has not used the stock up"
    assert problem(await step(shop, made.json(), "capture", {"points": 39})) == (422, "invalid_request", ["/points"])
    assert (await step(shop, made.json(), "cancel")).status_code == 200
    assert (await post(shop, "/v1/redemptions", {"consumer": "ada", "reward": "film"})).status_code == 201


async def test_points_for_a_cause_are_counted_for_it(shop: Shop) -> None:
    assert (await shop.call("POST", "/v1/causes", json={"code": "trees", "name": "Trees"})).status_code == 201

    async def total() -> tuple[int, int]:
        found = (await shop.call("GET", "/v1/causes/trees")).json()
        return found["points"], found["donations"]

    held = (await post(shop, "/v1/redemptions", {"consumer": "ada", "cause": "trees", "points": 30})).json()
    assert (held["cause"], await total()) == ("trees", (0, 0))
    await step(shop, held, "capture", {"points": 20})
    given = (await post(shop, "/v1/me/redemptions", {"cause": "trees", "points": 7, "capture": True}, ME)).json()
    assert await total() == (27, 2)
    await step(shop, given, "refund", {"points": 3})
    assert await total() == (24, 2)
    await step(shop, given, "refund")
    assert await total() == (20, 1)
    assert (await shop.call("PATCH", "/v1/causes/trees", json={"active": False})).status_code == 200
    refused = await post(shop, "/v1/redemptions", {"consumer": "ada", "cause": "trees", "points": 1})
    assert refused.status_code in (409, 422)
    assert await balance(shop) == (80, 0)
    await unharmed(shop.world)


async def test_what_has_ended_cannot_be_captured(shop: Shop) -> None:
    made = await redeemed(shop)
    await shop.world.rows("UPDATE redemption SET expires_at = $1", datetime.now(UTC) - timedelta(seconds=1))
    answer = await step(shop, made, "capture")
    assert (problem(answer), "ended" in answer.json()["detail"]) == ((409, "invalid_state", []), True)

"""Adjustments and transfers over HTTP: who may, what is refused how, keys, and that every process shows them at once."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar

from service.domain import secrets
from service.flows import administer
from tests.adjusting import give, set_policy
from tests.api.operators import _token
from tests.beginnings import Begin, Beginning
from tests.deliveries import Shop
from tests.sealer import SEALER
from tests.worlds import World

BODY = {"platform": "shop", "consumer": "ada", "points": 5, "reason": "said sorry"}


async def open_shop(app: Litestar, client: httpx.AsyncClient) -> Shop:
    """`ada` with 100 points and `bob` with 1; the operators admin, fraud, second (of fraud) and viewer; tokens of the two consumers."""
    made = await Shop(app, client, World(app.state.resources.pool)).found()
    await give(made.world, 100, "ada")
    await give(made.world, 1, "bob")
    await set_policy(made.world, transfers={"enabled": True, "per_transfer": 50, "per_day": 60})
    async with made.world.pool.acquire() as conn:
        for name, role in (("fraud", "fraud"), ("second", "fraud"), ("campaigns", "campaigns")):
            made.tokens[name] = await _token(conn, name, role, made.world.program)
        for consumer in ("ada", "bob", "nobody"):
            for scope in ("balance:read", "redeem"):
                made.tokens[f"{consumer} {scope}"] = await administer.consumer_token(
                    conn, sealer=SEALER, platform="shop", consumer=consumer, scope=scope, ttl=timedelta(hours=1)
                )
    return made


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Shop]:
    return begin(open_shop, in_app=True)


_keys = iter(range(1_000))


async def post(shop: Shop, path: str, body: Any, who: str = "admin", key: str | None = "") -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key or f"key-{next(_keys)}"}
    return await shop.call("POST", path, who, json=body, headers=headers)


async def available(shop: Shop, consumer: str = "ada") -> int:
    answer = await shop.call("GET", f"/v1/consumers/{consumer}/balance", "shop")
    return int(answer.json()["available"])


def problem(answer: httpx.Response) -> tuple[int, str, list[str]]:
    body = answer.json()
    return answer.status_code, body["code"], [error["pointer"] for error in body.get("errors", [])]


# Adjustments


async def test_an_adjustment_shows_in_the_balance_at_once(shop: Shop) -> None:
    assert await available(shop) == 100
    answer = await post(shop, "/v1/adjustments", BODY | {"note": "ticket 7"}, "fraud")
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made | BODY | {"status": "done", "debt": "refuse", "note": "ticket 7", "open_until": None, "decided_by": None} == made
    assert (made["balance"]["available"], "expires_on" in made) == (105, False)
    assert await available(shop) == 105
    shown = (await shop.call("GET", f"/v1/adjustments/{made['id']}")).json()
    assert shown == made | {"balance": None}


async def test_above_the_limit_it_waits_for_another_operator(shop: Shop) -> None:
    made = (await post(shop, "/v1/adjustments", BODY | {"points": 1_001, "expires_on": None}, "fraud")).json()
    assert (made["status"], made["balance"], made["expires_on"]) == ("pending", None, None)
    path = f"/v1/adjustments/{made['id']}"
    assert problem(await shop.call("POST", f"{path}/approve", "fraud")) == (409, "invalid_state", [])
    assert problem(await shop.call("POST", f"{path}/withdraw", "second")) == (409, "invalid_state", [])
    assert await available(shop) == 100
    done = await shop.call("POST", f"{path}/approve", "second", json={"note": "seen"})
    assert done.status_code == 200, done.text
    assert (done.json()["status"], done.json()["decision_note"], done.json()["balance"]["available"]) == ("done", "seen", 1_101)
    assert await available(shop) == 1_101
    assert problem(await shop.call("POST", f"{path}/reject", "admin")) == (409, "invalid_state", [])


async def test_adjustments_are_found_by_what_they_are(shop: Shop) -> None:
    for points, consumer in ((5, "ada"), (-1, "bob"), (2_000, "bob"), (3_000, "ada")):
        assert (await post(shop, "/v1/adjustments", BODY | {"points": points, "consumer": consumer})).status_code == 201
    for search, expected in (
        ({}, [3_000, 2_000, -1, 5]), ({"status": "pending"}, [3_000, 2_000]), ({"consumer": "bob"}, [2_000, -1]),
        ({"consumer": "bob", "status": "done"}, [-1]), ({"platform": "shop", "consumer": "ada"}, [3_000, 5]), ({"platform": "market"}, []),
        ({"consumer": "nobody"}, []),
    ):  # fmt: skip
        found = (await shop.call("GET", "/v1/adjustments", params=search)).json()
        assert [item["points"] for item in found["items"]] == expected, search
    first = (await shop.call("GET", "/v1/adjustments", params={"limit": 3})).json()
    rest = (await shop.call("GET", "/v1/adjustments", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [item["points"] for item in rest["items"]] == [5]
    assert rest["next_cursor"] is None
    assert (await shop.call("GET", "/v1/adjustments", params={"status": "lost"})).status_code == 422
    assert (await shop.call("GET", "/v1/adjustments", "foreign")).json()["items"] == []


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"points": 0}, "/points"), ({"points": 1.5}, "/points"), ({"points": "5"}, "/points"), ({"points": True}, "/points"),
        ({"points": 10**15 + 1}, "/points"), ({"points": -(10**15) - 1}, "/points"), ({"points": None}, "/points"),
        ({"points": 10**400}, "/points"), ({"reason": ""}, "/reason"), ({"reason": "so\nrry"}, "/reason"), ({"reason": "\u0000"}, "/reason"),
        ({"reason": "\u009b2J"}, "/reason"), ({"reason": "a\u2028b"}, "/reason"), ({"reason": "x" * 501}, "/reason"), ({"note": ""}, "/note"),
        ({"note": "\u001b[31m"}, "/note"), ({"consumer": ""}, "/consumer"), ({"consumer": "x" * 129}, "/consumer"),
        ({"consumer": "nobody"}, "/consumer"), ({"platform": "market"}, "/consumer"), ({"platform": "elsewhere"}, "/platform"),
        ({"platform": "SHOP"}, "/platform"), ({"expires_on": "yesterday"}, "/expires_on"), ({"expires_on": "2020-01-01"}, "/expires_on"),
        ({"expires_on": "2026-02-30"}, "/expires_on"), ({"debt": "maybe"}, "/debt"), ({"debt": "allow"}, "/debt"),
    ],
)  # fmt: skip
async def test_a_bad_adjustment_is_refused_where_it_is_bad(shop: Shop, change: dict[str, Any], pointer: str) -> None:
    status, code, pointers = problem(await post(shop, "/v1/adjustments", BODY | change))
    assert (status, code) == (422, "invalid_request")
    assert [p for p in pointers if p] == ([pointer] if pointer else [])
    assert (await available(shop), (await shop.call("GET", "/v1/adjustments")).json()["items"]) == (100, [])


async def test_a_lone_surrogate_is_no_reason(shop: Shop) -> None:
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    content = b'{"platform": "shop", "consumer": "ada", "points": 5, "reason": "\\ud800"}'
    answer = await shop.call("POST", "/v1/adjustments", content=content, headers=headers)
    assert answer.status_code in (400, 422)


async def test_what_is_not_there_is_not_taken(shop: Shop) -> None:
    assert problem(await post(shop, "/v1/adjustments", BODY | {"points": -101})) == (409, "insufficient_points", [])
    answer = await post(shop, "/v1/adjustments", BODY | {"points": -101, "debt": "allow"})
    assert (answer.status_code, answer.json()["balance"]["debt"]) == (201, 1)


async def test_who_may_and_whose_it_is(shop: Shop) -> None:
    made = (await post(shop, "/v1/adjustments", BODY | {"points": 5_000})).json()
    path = f"/v1/adjustments/{made['id']}"
    for who in ("viewer", "campaigns", "shop", "ada redeem"):
        assert (await post(shop, "/v1/adjustments", BODY, who)).status_code == 403
        assert (await shop.call("GET", "/v1/adjustments", who)).status_code == 403
        assert (await shop.call("POST", f"{path}/approve", who)).status_code == 403
    # The admin of another program, and an operator of all programs who acts in the other one.
    for who, more in (("foreign", {}), ("root", {"headers": {"X-Greenpoints-Program": "other"}})):
        for step in ("approve", "reject", "withdraw"):
            assert problem(await shop.call("POST", f"{path}/{step}", who, **more)) == (404, "not_found", [])
        assert (await shop.call("GET", path, who, **more)).status_code == 404
    assert problem(await post(shop, "/v1/adjustments", BODY, "foreign")) == (422, "invalid_request", ["/platform"])
    for odd in ("0", "x", "1e3", "9" * 30, "٣", "-1"):
        assert (await shop.call("POST", f"/v1/adjustments/{odd}/approve")).status_code == 404
    assert (await shop.call("GET", path)).json()["status"] == "pending"


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 200), (b"{}", 200), (b"[]", 422), (b"{", 400), (b'{"note": "a\\nb"}', 422), (b" " * 5_000, 413)]
)
async def test_a_decision_needs_no_body_and_takes_no_bad_one(shop: Shop, body: bytes, status: int) -> None:
    made = (await post(shop, "/v1/adjustments", BODY | {"points": 5_000}, "fraud")).json()
    headers = {"Content-Type": "application/json"} if body else {}
    answer = await shop.call("POST", f"/v1/adjustments/{made['id']}/reject", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert (await shop.call("GET", f"/v1/adjustments/{made['id']}")).json()["status"] == ("rejected" if status == 200 else "pending")


# Keys


@pytest.mark.parametrize("path", ["/v1/adjustments", "/v1/me/transfers", "/v1/consumers/ada/transfers"])
async def test_a_request_without_a_good_key_is_refused(shop: Shop, path: str) -> None:
    who = {"/v1/adjustments": "admin", "/v1/me/transfers": "ada redeem"}.get(path, "shop")
    body = BODY if who == "admin" else {"to": "bob", "points": 5}
    for key in (None, " ", '""'):
        assert problem(await post(shop, path, body, who, key)) == (400, "idempotency_key_missing", [])
    for key in ("k" * 129, '"' + "k" * 129 + '"', "a\tb"):
        assert problem(await post(shop, path, body, who, key)) == (422, "invalid_request", [])
    assert await available(shop) == 100
    answer = await post(shop, path, body, who, "k" * 128)
    assert answer.status_code == 201, answer.text


async def test_a_repeat_gets_the_first_answer_however_it_is_written(shop: Shop) -> None:
    first = await post(shop, "/v1/adjustments", BODY, key="k-1")
    assert "Idempotency-Replayed" not in first.headers
    for key, body in (("k-1", BODY), ('"k-1"', BODY), ("k-1", dict(reversed(BODY.items()))), ("k-1", BODY | {"note": None, "unknown": 1})):
        again = await post(shop, "/v1/adjustments", body, key=key)
        assert (again.status_code, again.headers["Idempotency-Replayed"], again.json()) == (201, "true", first.json())
    for body in (BODY | {"points": 6}, BODY | {"reason": "x"}, BODY | {"consumer": "bob"}, BODY | {"expires_on": None}):
        assert problem(await post(shop, "/v1/adjustments", body, key="k-1")) == (422, "idempotency_key_reused", [])
    assert await available(shop) == 105
    given = await post(shop, "/v1/me/transfers", {"to": "bob", "points": 5}, "ada redeem", "k-1")
    again = await post(shop, "/v1/me/transfers", {"to": "bob", "points": 5}, "ada redeem", "k-1")
    assert (again.status_code, again.headers["Idempotency-Replayed"], again.json()) == (201, "true", given.json())
    assert await available(shop) == 100


# Transfers


async def test_a_consumer_gives_points_and_both_see_it_at_once(shop: Shop) -> None:
    assert (await available(shop), await available(shop, "bob")) == (100, 1)
    answer = await post(shop, "/v1/me/transfers", {"to": "bob", "points": 30, "message": "for you"}, "ada redeem")
    assert answer.status_code == 201, answer.text
    given = answer.json()
    assert (given["points"], given["to"], given["balance"]["available"]) == (30, "bob", 70)
    assert given["id"]
    assert (await available(shop), await available(shop, "bob")) == (70, 31)
    answer = await post(shop, "/v1/consumers/bob/transfers", {"to": "ada", "points": 31}, "shop")
    assert answer.status_code == 201, answer.text
    assert (await available(shop), await available(shop, "bob")) == (101, 0)
    assert problem(await post(shop, "/v1/consumers/nobody/transfers", {"to": "ada", "points": 1}, "shop")) == (404, "not_found", [])
    assert problem(await post(shop, "/v1/consumers/ada/transfers", {"to": "bob", "points": 1}, "market")) == (404, "not_found", [])


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"to": "bob", "points": 0}, 422, "/points"), ({"to": "bob", "points": -5}, 422, "/points"), ({"to": "bob", "points": 0.5}, 422, "/points"),
        ({"to": "bob", "points": 10**15 + 1}, 422, "/points"), ({"to": "bob", "points": 51}, 422, "/points"), ({"to": "bob"}, 422, ""),
        ({"to": "nobody", "points": 5}, 422, "/to"), ({"to": "ada", "points": 5}, 422, "/to"), ({"to": "", "points": 5}, 422, "/to"),
        ({"to": "bob", "points": 5, "message": "a\nb"}, 422, "/message"), ({"to": "bob", "points": 5, "message": "x" * 257}, 422, "/message"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/me/transfers", "/v1/consumers/ada/transfers"])
async def test_a_bad_transfer_is_refused_where_it_is_bad(shop: Shop, path: str, body: Any, status: int, pointer: str) -> None:
    answer = await post(shop, path, body, "ada redeem" if "/me/" in path else "shop")
    assert (answer.status_code, [p for p in problem(answer)[2] if p]) == (status, [pointer] if pointer else [])
    assert (await available(shop), await available(shop, "bob")) == (100, 1)


async def test_a_transfer_needs_points_the_scope_and_a_program_that_lets_them(shop: Shop) -> None:
    assert problem(await post(shop, "/v1/me/transfers", {"to": "ada", "points": 2}, "bob redeem")) == (409, "insufficient_points", [])
    assert problem(await post(shop, "/v1/me/transfers", {"to": "ada", "points": 2}, "nobody redeem")) == (409, "insufficient_points", [])
    assert (await post(shop, "/v1/me/transfers", {"to": "bob", "points": 2}, "ada balance:read")).status_code == 403
    async with shop.world.pool.acquire() as conn:
        limited = await administer.create_key(conn, program=shop.world.program, platform="shop", scopes=("events:write",))
    assert secrets.is_platform_proof(limited.key)
    shop.tokens["limited"] = limited.key
    assert (await post(shop, "/v1/consumers/ada/transfers", {"to": "bob", "points": 2}, "limited")).status_code == 403
    for points in (50, 10):
        assert (await post(shop, "/v1/me/transfers", {"to": "bob", "points": points}, "ada redeem")).status_code == 201
    assert problem(await post(shop, "/v1/me/transfers", {"to": "bob", "points": 1}, "ada redeem")) == (409, "invalid_state", [])
    await set_policy(shop.world)
    assert problem(await post(shop, "/v1/me/transfers", {"to": "bob", "points": 1}, "ada redeem")) == (409, "invalid_state", [])

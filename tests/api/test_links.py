"""Linking over HTTP: codes, who may, what both platforms see whatever Redis remembers, and that guessing leads nowhere."""

import itertools
import re
from datetime import timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar

from service.domain.links import ALPHABET, LENGTH, new_code
from service.flows import administer, links
from service.flows.administer import Change
from service.projection import Projection
from tests.adjusting import give, unharmed
from tests.beginnings import Begin, Beginning
from tests.deliveries import Shop
from tests.sealer import SEALER
from tests.worlds import World

UNKNOWN_CODE = {"pointer": "/code", "detail": "is unknown, was used before, or is too old"}


async def open_shop(app: Litestar, client: httpx.AsyncClient) -> Shop:
    """`shop` knows `ada` with 100 points, `market` knows `eve` with 5, each with a token; a platform of another program knows `ada`, too."""
    made = await Shop(app, client, World(app.state.resources.pool)).found()
    await give(made.world, 100, "ada")
    await give(made.world, 5, "eve", platform="market")
    async with made.world.pool.acquire() as conn:
        other = await conn.fetchval("SELECT id FROM program WHERE code = 'other'")
        made.tokens["elsewhere"] = (
            await administer.create_platform(conn, sealer=SEALER, program=other, code="elsewhere", name="Elsewhere")
        ).api_key
        for scope in ("consumers:link", "consumers:read"):
            made.tokens[scope] = (await administer.create_key(conn, program=made.world.program, platform="shop", scopes=(scope,))).key
        for platform, consumer in (("shop", "ada"), ("market", "eve")):
            made.tokens[consumer] = await administer.consumer_token(
                conn, sealer=SEALER, platform=platform, consumer=consumer, scope="balance:read redeem", ttl=timedelta(hours=1)
            )
    answer = await made.call(
        "POST", "/v1/consumers/import", "elsewhere", json=[{"id": "1", "consumer": "ada", "points": 7, "expires_on": None}]
    )
    assert answer.status_code == 200, answer.text
    return made


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Shop]:
    return begin(open_shop, in_app=True)


async def code_of(shop: Shop, consumer: str = "ada", who: str = "shop") -> str:
    answer = await shop.call("POST", f"/v1/consumers/{consumer}/link-codes", who)
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["code"])


async def link(shop: Shop, code: Any, consumer: str = "eve", who: str = "market") -> httpx.Response:
    return await shop.call("POST", f"/v1/consumers/{consumer}/link", who, json={"code": code})


async def seen(shop: Shop, consumer: str, who: str) -> tuple[int, int]:
    """Available points, the same for the platform and for the consumer's own token."""
    found = [
        (await shop.call("GET", f"/v1/consumers/{consumer}/balance", who)).json(), (await shop.call("GET", "/v1/me/balance", consumer)).json(),
    ]  # fmt: skip
    assert [(f["available"], f["version"]) for f in found] == [(found[0]["available"], found[0]["version"])] * 2
    return found[0]["available"], found[0]["version"]


async def test_a_code_links_and_both_see_one_balance(shop: Shop) -> None:
    made = await shop.call("POST", "/v1/consumers/ada/link-codes", "shop")
    assert made.status_code == 201
    assert re.fullmatch(r"[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}", made.json()["code"])
    assert await seen(shop, "ada", "shop") == (100, 1)
    assert (await seen(shop, "eve", "market"))[0] == 5
    # As somebody types it who reads it out: letter case, spaces, look-alikes.
    typed = made.json()["code"].lower().replace("-", " ").replace("0", "o").replace("1", "l")
    answer = await link(shop, typed)
    assert answer.status_code == 200, answer.text
    assert answer.json() | {"consumer": "eve", "linked": True} == answer.json()
    assert answer.json()["balance"]["available"] == 105
    assert await seen(shop, "ada", "shop") == await seen(shop, "eve", "market") == (105, answer.json()["balance"]["version"])
    # Either spends for both; what the other platform's redemptions are is its own.
    spent = await shop.call("POST", "/v1/me/redemptions", "eve", json={"points": 100, "capture": True}, headers={"Idempotency-Key": "k"})
    assert (spent.status_code, spent.json()["balance"]["available"]) == (201, 5)
    assert (await seen(shop, "ada", "shop"))[0] == (await seen(shop, "eve", "market"))[0] == 5
    one = spent.json()["id"]
    assert (await shop.call("GET", f"/v1/redemptions/{one}", "shop")).status_code == 404
    assert (await shop.call("GET", f"/v1/me/redemptions/{one}", "ada")).status_code == 404
    assert (await shop.call("GET", "/v1/me/redemptions", "ada")).json()["items"] == []
    assert len((await shop.call("GET", "/v1/me/redemptions", "eve")).json()["items"]) == 1
    await unharmed(shop.world)


async def test_a_link_is_undone_by_the_platform_or_an_administrator(shop: Shop) -> None:
    for path, who in (
        ("/v1/consumers/eve/link", "market"),
        ("/v1/consumers/eve/link?platform=market", "admin"),
        ("/v1/consumers/ada/link", "shop"),
    ):
        assert (await link(shop, await code_of(shop))).status_code == 200
        answer = await shop.call("DELETE", path, who)
        assert answer.status_code == 200, answer.text
        assert answer.json()["linked"] is False
        assert answer.json()["consumer"] == path.split("/")[3]
        assert (await seen(shop, "ada", "shop"))[0] == 100
        assert (await seen(shop, "eve", "market"))[0] == 5
        again = await shop.call("DELETE", path, who)
        assert (again.status_code, again.json()["linked"]) == (200, False), "a repeat is harmless"
    await unharmed(shop.world)


async def test_who_links_is_in_the_audit_and_nobody_s_name(shop: Shop) -> None:
    code = await code_of(shop)
    await link(shop, code)
    await shop.call("DELETE", "/v1/consumers/eve/link", "market")
    rows = await shop.world.rows("SELECT actor, action, subject, a::text AS text FROM audit a WHERE action LIKE 'consumer.%' ORDER BY id")
    assert [(row["actor"], row["action"], row["subject"]) for row in rows] == [
        ("platform:shop", "consumer.link_code", "platform:shop"), ("platform:market", "consumer.link", "platform:market"),
        ("platform:market", "consumer.split", "platform:market"),
    ]  # fmt: skip
    assert not [row for row in rows for word in (code, "ada", "eve") if word in row["text"]]
    assert not [row for row in await shop.world.rows("SELECT l::text AS text FROM link_code l") if code in row["text"]]


async def test_a_code_counts_once_in_its_program_while_it_lives(shop: Shop) -> None:
    first, second = await code_of(shop), await code_of(shop)
    for code, consumer, who in (
        (first, "eve", "market"),  # a later one took its place
        (second, "ada", "elsewhere"), (await code_of(shop, "ada", "elsewhere"), "eve", "market"),  # another program's
    ):  # fmt: skip
        answer = await link(shop, code, consumer, who)
        assert (answer.status_code, answer.json()["errors"]) == (422, [UNKNOWN_CODE])
    assert (await link(shop, second)).status_code == 200, "being refused elsewhere has not used it up"
    answer = await link(shop, second, "somebody-else")
    assert (answer.status_code, answer.json()["errors"]) == (422, [UNKNOWN_CODE])
    old = await code_of(shop)
    await shop.world.rows("UPDATE link_code SET expires_at = now() WHERE program = $1", shop.world.program)
    answer = await link(shop, old, "somebody-else")
    assert (answer.status_code, answer.json()["errors"]) == (422, [UNKNOWN_CODE])
    assert (await shop.call("GET", "/v1/consumers/ada/balance", "elsewhere")).json()["available"] == 7
    await unharmed(shop.world)


async def everything(shop: Shop) -> list[Any]:
    return [
        await shop.world.rows(f"SELECT count(*) AS n, sum(hashtextextended(t::text, 0)) AS hash FROM {table} t")
        for table in ("account", "consumer_reference", "account_link", "link_code", "transfer", "audit", "entry", "lot")
    ]


async def test_guessing_changes_nothing(shop: Shop) -> None:
    """Neighbours of a code that counts, and random ones; 60 random bits and ten minutes leave no hope of it."""
    code = await code_of(shop)
    before = await everything(shop)
    letters = code.replace("-", "")
    near = [letters[:n] + ALPHABET[(ALPHABET.index(letters[n]) + 1) % 32] + letters[n + 1 :] for n in range(LENGTH)]
    for guess in (*near, letters[:-1], letters + "0", *(new_code() for _ in range(100))):
        answer = await link(shop, guess)
        assert (answer.status_code, answer.json()["errors"]) == (422, [UNKNOWN_CODE])
    assert await everything(shop) == before
    assert len(ALPHABET) ** LENGTH == 2**60
    assert (await link(shop, code)).status_code == 200


@pytest.mark.parametrize("code", ["", "x" * 33, None, 7, ["x"], {"code": "x"}])
async def test_what_is_no_code_is_refused(shop: Shop, code: Any) -> None:
    before = await everything(shop)
    answer = await link(shop, code)
    assert (answer.status_code, [e["pointer"] for e in answer.json()["errors"]]) == (422, ["/code"])
    for odd in ("\u0000", "🍃" * 8, "' OR 1=1 --", "\u0131\u0130"):
        answer = await link(shop, odd)
        assert (answer.status_code, answer.json()["errors"]) == (422, [UNKNOWN_CODE]), odd
    assert await everything(shop) == before


async def test_who_may(shop: Shop) -> None:
    code = await code_of(shop)
    for method, path, body in (
        ("POST", "/v1/consumers/ada/link-codes", None), ("POST", "/v1/consumers/ada/link", {"code": code}), ("DELETE", "/v1/consumers/ada/link", None),
    ):  # fmt: skip
        for who in ("consumers:read", "ada", "viewer"):
            assert (await shop.call(method, path, who, json=body)).status_code == 403, (method, path, who)
        assert (await shop.client.request(method, path, json=body)).status_code == 401
    for path in ("/v1/consumers/eve/link-codes", "/v1/consumers/nobody/link-codes"):
        answer = await shop.call("POST", path, "shop")
        assert (answer.status_code, answer.json()["detail"]) == (404, "This consumer has no events yet.")
    for path, who, status in (
        ("/v1/consumers/eve/link", "shop", 404), ("/v1/consumers/nobody/link", "shop", 404), ("/v1/consumers/ada/link?platform=market", "shop", 404),
        ("/v1/consumers/ada/link", "admin", 422), ("/v1/consumers/ada/link?platform=elsewhere", "admin", 404),
        ("/v1/consumers/ada/link?platform=shop", "foreign", 404), ("/v1/consumers/ada/link?platform=shop", "admin", 200),
    ):  # fmt: skip
        assert (await shop.call("DELETE", path, who)).status_code == status, (path, who)
    assert (await shop.call("POST", "/v1/consumers/ada/link-codes", "consumers:link")).status_code == 201


async def test_a_name_of_another_platform_is_not_meant(shop: Shop) -> None:
    """Linking makes an account for a name that is new to the platform: nobody's of the same name elsewhere."""
    answer = await link(shop, await code_of(shop, "eve", "market"), "eve", "shop")
    assert (answer.status_code, answer.json()["balance"]["available"]) == (200, 5)
    assert (await shop.call("GET", "/v1/consumers/eve/balance", "shop")).json()["available"] == 5
    assert (await seen(shop, "ada", "shop"))[0] == 100
    rows = await shop.world.rows("SELECT count(DISTINCT account) AS n FROM consumer_reference WHERE reference = 'eve'")
    assert rows[0]["n"] == 2


async def test_reserved_points_wait(shop: Shop) -> None:
    held = await shop.call("POST", "/v1/redemptions", "market", json={"consumer": "eve", "points": 5}, headers={"Idempotency-Key": "k"})
    code = await code_of(shop)
    answer = await link(shop, code)
    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_state")
    path = f"/v1/redemptions/{held.json()['id']}/cancel"
    assert (await shop.call("POST", path, "market", headers={"Idempotency-Key": "c"})).status_code == 200
    assert (await link(shop, code)).status_code == 200, "being refused has not used the code up"


# Redis


@pytest.fixture
def projection(app: Litestar) -> Projection:
    made: Projection = app.state.resources.projection
    return made


async def done_unseen(shop: Shop, step: str) -> links.Joined:
    """Link or split as a process does that dies before it tells Redis."""
    sender = shop.world.platforms["market"]
    names: Any = {"program": shop.world.program, "platform": sender.platform, "code": "market", "reference": "eve", "change": Change()}
    if step == "link":
        names["link_code"] = await code_of(shop)
    async with shop.world.pool.acquire() as conn:
        return await getattr(links, step)(conn, stripe=1, **names)  # type: ignore[no-any-return]


@pytest.mark.parametrize("step", ["link", "split"])
async def test_what_was_seen_in_a_link_is_never_older_however_stale_redis_is(shop: Shop, step: str) -> None:
    if step == "split":
        assert (await link(shop, await code_of(shop))).status_code == 200
    for consumer, who in (("ada", "shop"), ("eve", "market")):
        await seen(shop, consumer, who)  # Redis has them
    joined = await done_unseen(shop, step)
    expected = {"link": (105, 105), "split": (100, 5)}[step]
    versions = {b.available: b.version for _, b in joined.balances}
    for (consumer, who), points in zip((("ada", "shop"), ("eve", "market")), expected, strict=True):
        for path, by in ((f"/v1/consumers/{consumer}/balance", who), ("/v1/me/balance", consumer)):
            found = (await shop.call("GET", f"{path}?min_version={versions[points]}", by)).json()
            assert found["available"] == points, (consumer, path)


async def test_without_redis_s_memory_both_read_the_same(shop: Shop, projection: Projection) -> None:
    assert (await link(shop, await code_of(shop))).status_code == 200
    accounts = [row["id"] for row in await shop.world.rows("SELECT id FROM account")]
    for forgotten in itertools.chain.from_iterable(itertools.combinations(accounts, n) for n in (1, 2, 3)):
        assert await projection.forget(list(forgotten))
        assert (await seen(shop, "ada", "shop"))[0] == (await seen(shop, "eve", "market"))[0] == 105


# What a person is told


async def test_the_export_tells_what_was_spent_and_linked_and_nothing_of_others(shop: Shop) -> None:
    async def export(consumer: str, who: str) -> Any:
        answer = await shop.call("GET", f"/v1/consumers/{consumer}/export", who)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def spend(who: str, consumer: str, **more: Any) -> str:
        body = {"consumer": consumer, "points": 2, "reference": f"of-{consumer}"} | more
        answer = await shop.call("POST", "/v1/redemptions", who, json=body, headers={"Idempotency-Key": f"{consumer} {more}"})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    before = await spend("market", "eve", capture=True)
    alone = await export("eve", "market")
    assert [r["id"] for r in alone["redemptions"]] == [before]
    assert alone["redemptions"][0] | {"status": "captured", "captured": 2, "reference": "of-eve"} == alone["redemptions"][0]
    assert [(t["kind"], t["points"], t["redemption"]) for t in alone["transfers"]] == [("capture", -2, before)]
    assert (alone["links"], alone["lots"][0]["remaining"], alone["balance"]["available"]) == ([], 3, 3)
    assert (await link(shop, await code_of(shop))).status_code == 200
    held, theirs = await spend("market", "eve"), await spend("shop", "ada", points=90)
    both = [await export("eve", "market"), await export("ada", "shop")]
    assert [sorted(r["id"] for r in e["redemptions"]) for e in both] == [sorted([before, held]), [theirs]]
    for exported, other in zip(both, ("of-ada", "of-eve"), strict=True):
        assert [(e["since"] is not None, e["until"]) for e in exported["links"]] == [(True, None)]
        assert (exported["balance"]["available"], exported["balance"]["reserved"]) == (11, 92)
        assert other not in str(exported)
        assert {t["kind"] for t in exported["transfers"]} >= {"reserve"}
    assert sum(lot["reserved"] for e in both for lot in e["lots"]) == 92
    for id_, who in ((held, "market"), (theirs, "shop")):
        assert (await shop.call("POST", f"/v1/redemptions/{id_}/cancel", who, headers={"Idempotency-Key": f"c {id_}"})).status_code == 200
    assert (await shop.call("DELETE", "/v1/consumers/eve/link", "market")).status_code == 200
    after = await export("eve", "market")
    assert sorted(r["id"] for r in after["redemptions"]) == sorted([before, held]), (
        "spent from the purse that was shared, through this platform"
    )
    assert [e["until"] is not None for e in after["links"]] == [True]
    # Who shared a purse by mistake with somebody whom the platform knows as well is told nothing of theirs.
    await give(shop.world, 50, "eva", platform="market")
    assert (await link(shop, await code_of(shop, "eva", "market"))).status_code == 200
    assert (await shop.call("DELETE", "/v1/consumers/eve/link", "market")).status_code == 200
    secret = await spend("market", "eva")
    assert secret not in str(await export("eve", "market"))
    assert secret in str(await export("eva", "market"))

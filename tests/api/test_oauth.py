"""OAuth 2 client credentials (RFC 6749 §4.4): access tokens that stand for a platform's key."""

import asyncio
import base64
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx
import pytest
from litestar import Litestar

from service.api.callers import Callers
from service.domain import secrets
from service.domain.errors import Unauthenticated
from service.domain.roles import SCOPES
from service.flows import administer, client_credentials
from tests.api.operators import Operators
from tests.sealer import SEALER

FORM = "application/x-www-form-urlencoded"


async def ask(operators: Operators, *, basic: tuple[str, str] | None = None, content_type: str = FORM, **form: str) -> httpx.Response:
    headers = {"Content-Type": content_type}
    if basic is not None:
        text = ":".join(quote_plus(part) for part in basic)
        headers["Authorization"] = "Basic " + base64.b64encode(text.encode()).decode()
    return await operators.client.post("/v1/oauth/token", content=urlencode({"grant_type": "client_credentials"} | form), headers=headers)


async def token(operators: Operators, key: str | None = None, **form: str) -> str:
    answer = await ask(operators, basic=("shop", key or operators.tokens["shop"]), **form)
    assert answer.status_code == 200, answer.text
    made: str = answer.json()["access_token"]
    return made


async def test_basic_and_post_both_prove_the_client(operators: Operators) -> None:
    key = operators.tokens["shop"]
    for answer in (await ask(operators, basic=("shop", key)), await ask(operators, client_id="shop", client_secret=key)):
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert secrets.is_access_token(body["access_token"])
        assert (body["token_type"], body["expires_in"], set(body["scope"].split())) == ("Bearer", 3_600, set(SCOPES))
        assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")
        headers = {"Authorization": f"Bearer {body['access_token']}"}
        assert (await operators.client.get("/v1/events", headers=headers)).status_code == 200
        event = {"id": "e-1", "type": "activity.completed", "occurred_at": "2025-07-01T09:00:00Z", "consumer": "c", "activity": "refill"}
        assert (await operators.client.post("/v1/events", json=event, headers=headers)).status_code in (200, 201)


async def test_an_access_token_is_stored_as_its_hash(operators: Operators) -> None:
    made = await token(operators)
    assert await operators.pool.fetchval("SELECT count(*) FROM access_token WHERE hash = $1", secrets.token_hash(made)) == 1


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"basic": ("shop", "gpk_live_" + "A" * 32)}, 401, "invalid_client"),
    ({"basic": ("foreign", "KEY")}, 401, "invalid_client"),
    ({"basic": ("", "KEY")}, 401, "invalid_client"),
    ({"basic": ("shop", "")}, 401, "invalid_client"),
    ({"basic": ("shop", "x\x00y")}, 401, "invalid_client"),
    ({}, 401, "invalid_client"),
    ({"client_id": "shop"}, 401, "invalid_client"),
    ({"client_id": "shop", "client_secret": "OPERATOR"}, 401, "invalid_client"),
    ({"basic": ("shop", "KEY"), "grant_type": "password"}, 400, "unsupported_grant_type"),
    ({"basic": ("shop", "KEY"), "grant_type": ""}, 400, "invalid_request"),
    ({"basic": ("shop", "KEY"), "client_secret": "KEY"}, 400, "invalid_request"),
    ({"basic": ("shop", "KEY"), "client_id": "foreign"}, 400, "invalid_request"),
    ({"basic": ("shop", "KEY"), "scope": "everything"}, 400, "invalid_scope"),
    ({"basic": ("shop", "KEY"), "scope": "events:read admin"}, 400, "invalid_scope"),
    ({"basic": ("shop", "KEY"), "content_type": "application/json"}, 400, "invalid_request"),
]


async def test_refusals_are_those_of_the_rfc(operators: Operators) -> None:
    words = {"KEY": operators.tokens["shop"], "OPERATOR": operators.tokens["viewer"]}
    for given, status, error in REFUSED:
        sent = {
            name: tuple(words.get(part, part) for part in value) if isinstance(value, tuple) else words.get(value, value)
            for name, value in given.items()
        }
        answer = await ask(operators, **sent)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["error"]) == (status, error), given
        assert ("basic" in answer.headers.get("www-authenticate", "").lower()) == (status == 401 and "basic" in given)
        assert answer.headers["cache-control"] == "no-store"
        assert operators.tokens["shop"] not in answer.text
    for content in (
        b"grant_type=client_credentials&grant_type=client_credentials",
        b"\xff\xfe",
        b"grant_type=%ff",
        b"&".join(b"a%d=1" % i for i in range(50)),
        b"",
    ):
        answer = await operators.client.post("/v1/oauth/token", content=content, headers={"Content-Type": FORM})
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request"), content
    assert (await operators.client.post("/v1/oauth/token", content=b"a" * 5_000, headers={"Content-Type": FORM})).status_code == 413
    for header in ("Basic !!!", "Basic", "Bearer abc", "Basic " + base64.b64encode(b"no-colon").decode()):
        headers = {"Content-Type": FORM, "Authorization": header}
        answer = await operators.client.post("/v1/oauth/token", content=b"grant_type=client_credentials", headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), header
    assert await operators.pool.fetchval("SELECT count(*) FROM access_token") == 0


async def test_a_token_may_do_no_more_than_was_asked_for_and_than_its_key(operators: Operators) -> None:
    async with operators.pool.acquire() as conn:
        made = await administer.create_key(conn, program=operators.program, platform="shop", scopes=("events:read", "consumers:read"))
    limited = str(made.key)
    narrow = await ask(operators, basic=("shop", limited), scope="events:read")
    assert narrow.json()["scope"] == "events:read"
    whole = await ask(operators, basic=("shop", limited))
    assert set(whole.json()["scope"].split()) == {"events:read", "consumers:read"}
    beyond = await ask(operators, basic=("shop", limited), scope="events:write")
    assert (beyond.status_code, beyond.json()["error"]) == (400, "invalid_scope")
    event = {"id": "e-1", "type": "activity.completed", "occurred_at": "2025-07-01T09:00:00Z", "consumer": "c", "activity": "refill"}
    for answer, reads_consumers in ((narrow, False), (whole, True)):
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert (await operators.client.get("/v1/events", headers=headers)).status_code == 200
        assert (await operators.client.post("/v1/events", json=event, headers=headers)).status_code == 403
        read = await operators.client.get("/v1/consumers/c/balance", headers=headers)
        assert read.status_code == (404 if reads_consumers else 403)


async def test_a_token_ends_when_its_key_is_revoked(operators: Operators) -> None:
    made = await token(operators)
    other_process = Callers(operators.pool, sealer=SEALER)
    await other_process.refresh()
    caller = await other_process.platform(f"Bearer {made}")
    assert (caller.code, caller.program) == ("shop", operators.program)
    assert other_process.platform_cached(f"Bearer {made}") is caller
    async with operators.pool.acquire() as conn:
        await administer.rotate_key(conn, platform="shop")
    await other_process.refresh()  # what the background does every 2 s
    with pytest.raises(Unauthenticated):
        await other_process.platform(f"Bearer {made}")
    assert (await ask(operators, basic=("shop", operators.tokens["shop"]))).status_code == 401
    async with asyncio.timeout(5):
        while (await operators.client.get("/v1/events", headers={"Authorization": f"Bearer {made}"})).status_code != 401:
            await asyncio.sleep(0.1)


async def test_a_token_ends_at_its_time_also_when_it_is_remembered(operators: Operators) -> None:
    made = await token(operators)
    clock = [0.0]
    callers = Callers(operators.pool, sealer=SEALER, clock=lambda: clock[-1])
    await callers.platform(f"Bearer {made}")
    ends = await operators.pool.fetchval("SELECT extract(epoch FROM expires_at)::float8 FROM access_token")
    clock.append(ends - 1)
    assert callers.platform_cached(f"Bearer {made}")
    clock.append(ends)
    assert callers.platform_cached(f"Bearer {made}") is None
    await operators.pool.execute("UPDATE access_token SET expires_at = now()")
    with pytest.raises(Unauthenticated):
        await callers.platform(f"Bearer {made}")


async def test_a_token_never_outlives_its_key(operators: Operators) -> None:
    await operators.pool.execute("UPDATE api_key SET expires_at = now() + interval '10 minutes' WHERE platform = $1", operators.platform)
    answer = await ask(operators, basic=("shop", operators.tokens["shop"]))
    assert 590 <= answer.json()["expires_in"] <= 600


async def test_the_use_of_a_token_is_a_use_of_its_key(operators: Operators, app: Litestar) -> None:
    headers = {"Authorization": f"Bearer {await token(operators)}"}
    assert (await operators.client.get("/v1/events", headers=headers)).status_code == 200
    await app.state.callers.write_used()
    assert await operators.pool.fetchval("SELECT last_used_at IS NOT NULL FROM api_key WHERE platform = $1", operators.platform)


async def test_a_key_has_a_bounded_number_of_tokens_and_expired_ones_make_room(
    operators: Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_credentials, "MAX_TOKENS", 2)
    for _ in range(2):
        await token(operators)
    answer = await ask(operators, basic=("shop", operators.tokens["shop"]))
    assert (answer.status_code, answer.json()["error"]) == (429, "temporarily_unavailable")
    assert answer.headers["retry-after"]
    await operators.pool.execute("UPDATE access_token SET expires_at = now()")
    await token(operators)
    assert await operators.pool.fetchval("SELECT count(*) FROM access_token") == 1


async def test_a_guess_costs_no_look_up_and_a_token_is_no_other_caller(operators: Operators) -> None:
    made = await token(operators)
    wrong = made[:-1] + ("A" if made[-1] != "A" else "B")
    for path, status in (("/v1/platforms", 403), ("/v1/me/balance", 403), ("/v1/events", 200)):
        assert (await operators.client.get(path, headers={"Authorization": f"Bearer {made}"})).status_code == status, path
        assert (await operators.client.get(path, headers={"Authorization": f"Bearer {wrong}"})).status_code == 401, path
    assert (await ask(operators, basic=("shop", made))).status_code == 401  # a token is no client secret


async def test_the_documentation_says_that_the_body_is_a_form(operators: Operators) -> None:
    paths = (await operators.client.get("/openapi.json")).json()["paths"]
    assert list(paths["/v1/oauth/token"]["post"]["requestBody"]["content"]) == [FORM]

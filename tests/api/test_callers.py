"""Who is calling: proofs, roles, tenants, revocation; and the administration that changes them."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import asyncpg
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import OKPAlgorithm
from litestar import Litestar, Request, get
from litestar.exceptions import HTTPException

from schemas.callers import OperatorCredentials, PlatformCredentials
from service.api import platforms
from service.api.application import Application
from service.api.callers import MAX_REMEMBERED, Callers, callers_of
from service.api.problems import on_defect, on_http_exception, on_refusal
from service.domain import secrets
from service.domain.errors import Forbidden, GreenpointsError, NotFound, Overloaded, Unauthenticated, Unavailable
from service.domain.roles import MAY, ROLES, Permission, Role
from service.flows import administer
from service.store import callers as store
from service.store.connection import Pool
from tests.beginnings import Begin, Beginning
from tests.sealer import SEALER

TTL = timedelta(hours=1)


class Resources:
    """What the handlers need of service.runtime.Resources."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self.pool = pool
        self.sealer = SEALER


class World:
    """Two programs, `a` with the platform a-shop and `b` with b-shop, and an admin of `a`."""

    pool: "asyncpg.Pool[asyncpg.Record]"
    callers: Callers
    http: httpx.AsyncClient
    a: store.Program
    b: store.Program
    a_shop: PlatformCredentials
    b_shop: PlatformCredentials
    a_admin: OperatorCredentials

    async def run(self, flow: Callable[..., Awaitable[Any]], **arguments: Any) -> Any:
        async with self.pool.acquire() as conn:
            return await flow(conn, **arguments)

    async def call(self, method: str, path: str, token: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} | more.pop("headers", {})
        return await self.http.request(method, path, headers=headers, **more)

    async def token(self, platform: str = "a-shop", consumer: str = "c-1", scope: str = "balance:read") -> str:
        made: str = await self.run(administer.consumer_token, sealer=SEALER, platform=platform, consumer=consumer, scope=scope, ttl=TTL)
        return made


@get("/probe/platform")
async def probe_platform(request: Request[Any, Any, Any]) -> dict[str, Any]:
    caller = await callers_of(request).platform(request.headers.get("authorization"))
    return {"code": caller.code, "program": caller.program}


@get("/probe/me")
async def probe_me(request: Request[Any, Any, Any]) -> dict[str, Any]:
    caller = await callers_of(request).consumer(request.headers.get("authorization"), "balance:read")
    return {"code": caller.code, "reference": caller.reference, "program": caller.program}


@get("/probe/operator")
async def probe_operator(request: Request[Any, Any, Any]) -> dict[str, Any]:
    caller = await callers_of(request).operator(request)
    return {"email": caller.email, "program": caller.program}


@cache
def application() -> Litestar:
    """The routes of administration and the probes; the state is each test's own."""
    return Application(
        route_handlers=[*platforms.routes, probe_platform, probe_me, probe_operator],
        exception_handlers={GreenpointsError: on_refusal, HTTPException: on_http_exception, Exception: on_defect},
        openapi_config=None,
    )


async def two_programs(pool: Pool) -> World:
    made = World()
    made.pool = pool
    made.a = await made.run(administer.create_program, code="a", name="A", currency="leaves", time_zone="Asia/Shanghai")
    made.b = await made.run(administer.create_program, code="b", name="B", currency="drops", time_zone="Europe/Berlin")
    made.a_shop = await made.run(administer.create_platform, sealer=SEALER, program=made.a.id, code="a-shop", name="A shop")
    made.b_shop = await made.run(administer.create_platform, sealer=SEALER, program=made.b.id, code="b-shop", name="B shop")
    made.a_admin = await made.run(administer.create_operator, email="a@example.com", role="admin", program=made.a.id)
    return made


@pytest.fixture
def beginning(begin: Begin) -> Beginning[World]:
    return begin(two_programs)


@pytest.fixture
async def world(beginning: Beginning[World], database: str) -> AsyncIterator[World]:
    async with asyncpg.create_pool(database, min_size=1, max_size=5) as pool:
        made = beginning.in_pool(pool)
        made.callers = Callers(pool, sealer=SEALER)
        await made.callers.refresh()
        app = application()
        app.state.callers, app.state.resources = made.callers, Resources(pool)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as made.http:
            yield made


def pem(private: Any) -> str:
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def consumer_jwt(private: Any, algorithm: str = "EdDSA", *, kid: str | None = None, **changes: Any) -> str:
    now = int(datetime.now(UTC).timestamp())
    claims = {"iss": "a-shop", "sub": "c-9", "aud": "greenpoints", "exp": now + 600, "scope": "balance:read"} | changes
    return jwt.encode(claims, private, algorithm=algorithm, headers={"kid": kid} if kid else None)


OWN = Ed25519PrivateKey.from_private_bytes(bytes([5]) * 32)


# Platforms


async def test_a_platform_key_says_which_platform(world: World) -> None:
    header = f"Bearer {world.a_shop.api_key}"
    assert world.callers.platform_cached(header) is None
    caller = await world.callers.platform(header)
    assert (caller.code, caller.program, caller.scopes) == ("a-shop", world.a.id, frozenset())
    assert world.callers.platform_cached(header) is caller
    caller.require("events:write")


NO_PROOFS = [
    None,
    "",
    "Bearer",
    "Bearer ",
    "Basic YTpi",
    "Bearer gpk_live_",
    "Bearer gpk_live_" + "A" * 32,
    "Bearer gpo_" + "A" * 32,
    "Bearer a.b.c",
    "Bearer ....",
    "Bearer é",
    "Bearer gpk_live_\x00" + "A" * 32,
    "Bearer " + "x" * 100_000,
    "gpk_live_" + "A" * 32,
]


async def test_no_proof_is_401_for_every_kind_of_caller(world: World) -> None:
    for header in NO_PROOFS:
        for ask in (world.callers.platform(header), world.callers.consumer(header, "balance:read")):
            with pytest.raises(Unauthenticated):
                await ask
        headers = {} if header is None else {"Authorization": header.encode("latin-1")}
        answer = await world.http.get("/probe/operator", headers=headers)
        assert answer.status_code == 401, header
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"].startswith("application/problem+json")


async def test_a_known_caller_of_another_kind_is_403(world: World) -> None:
    proofs = {"platform": world.a_shop.api_key, "operator": world.a_admin.token, "me": await world.token()}
    for route in proofs:
        for kind, token in proofs.items():
            answer = await world.call("GET", f"/probe/{route}", token)
            assert answer.status_code == (200 if route == kind else 403), (route, kind)


async def test_a_revoked_key_dies_in_every_process_and_a_new_one_works_at_once(world: World) -> None:
    other_process = Callers(world.pool, sealer=SEALER)
    await other_process.refresh()
    header = f"Bearer {world.a_shop.api_key}"
    await other_process.platform(header)
    made = await world.call("POST", "/v1/platforms/a-shop/keys", world.a_admin.token, json={})
    assert made.status_code == 201, made.text
    assert (await other_process.platform(f"Bearer {made.json()['key']}")).code == "a-shop"
    keys = (await world.call("GET", "/v1/platforms/a-shop/keys", world.a_admin.token)).json()["items"]
    assert all("key" not in key for key in keys)
    first = next(key for key in keys if key["hint"] == world.a_shop.api_key[-4:])
    revoked = await world.call("POST", f"/v1/platforms/a-shop/keys/{first['id']}/revoke", world.a_admin.token)
    assert revoked.status_code == 200
    assert revoked.json()["revoked_at"]
    for callers in (other_process, world.callers):
        await callers.refresh()  # what the background does every 2 s
        with pytest.raises(Unauthenticated):
            await callers.platform(header)
        assert callers.platform_cached(header) is None
    assert (await other_process.platform(f"Bearer {made.json()['key']}")).code == "a-shop"


async def test_an_answer_that_was_on_its_way_during_a_revocation_is_not_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    header = f"Bearer {world.a_shop.api_key}"
    read = store.platform_by_key

    async def and_then_it_is_revoked(conn: Any, key_hash: bytes) -> store.PlatformKey | None:
        found = await read(conn, key_hash)
        await world.run(administer.rotate_key, platform="a-shop")
        await world.callers.refresh()
        return found

    monkeypatch.setattr(store, "platform_by_key", and_then_it_is_revoked)
    await world.callers.platform(header)
    assert world.callers.platform_cached(header) is None


async def test_a_rotated_key_replaces_all_others(world: World) -> None:
    key = await world.run(administer.rotate_key, platform="a-shop")
    await world.callers.refresh()
    assert (await world.callers.platform(f"Bearer {key}")).code == "a-shop"
    with pytest.raises(Unauthenticated):
        await world.callers.platform(f"Bearer {world.a_shop.api_key}")


async def test_a_key_ends_at_its_time_also_when_it_is_remembered(world: World) -> None:
    at = datetime.now(UTC) + timedelta(minutes=5)
    made = await world.run(administer.create_key, program=world.a.id, platform="a-shop", expires_at=at)
    times = [at.timestamp() - 1]
    callers = Callers(world.pool, sealer=SEALER, clock=lambda: times[-1])
    await callers.platform(f"Bearer {made.key}")
    assert callers.platform_cached(f"Bearer {made.key}")
    times.append(at.timestamp())
    assert callers.platform_cached(f"Bearer {made.key}") is None
    past = {"expires_at": "2020-01-01T00:00:00Z"}
    answer = await world.call("POST", "/v1/platforms/a-shop/keys", world.a_admin.token, json=past)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/expires_at"


async def test_scopes_limit_a_key(world: World) -> None:
    made = await world.call("POST", "/v1/platforms/a-shop/keys", world.a_admin.token, json={"scopes": ["events:read"]})
    caller = await world.callers.platform(f"Bearer {made.json()['key']}")
    caller.require("events:read")
    with pytest.raises(Forbidden):
        caller.require("events:write")
    unknown = await world.call("POST", "/v1/platforms/a-shop/keys", world.a_admin.token, json={"scopes": ["everything"]})
    assert unknown.status_code == 422
    assert unknown.json()["errors"][0]["pointer"] == "/scopes/0"


async def test_unknown_keys_do_not_reach_the_database_again_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    read = store.platform_by_key

    async def counted(conn: Any, key_hash: bytes) -> store.PlatformKey | None:
        asked.append(key_hash)
        return await read(conn, key_hash)

    monkeypatch.setattr(store, "platform_by_key", counted)
    for _ in range(20):
        with pytest.raises(Unauthenticated):
            await world.callers.platform("Bearer gpk_live_" + "A" * 32)
    assert len(asked) == 1
    for i in range(50):
        with pytest.raises(Unauthenticated):
            await world.callers.platform(f"Bearer gpk_live_{i:032d}")
    assert len(world.callers._unknown._values) <= MAX_REMEMBERED


# Consumers


async def test_a_consumer_token_says_who(world: World) -> None:
    token = await world.token(consumer="cust-42", scope="balance:read redeem")
    caller = await world.callers.consumer(f"Bearer {token}", "redeem")
    assert (caller.code, caller.program, caller.reference) == ("a-shop", world.a.id, "cust-42")
    assert world.callers.consumer_cached(f"Bearer {token}") is caller


async def test_a_consumer_token_without_the_scope_is_403(world: World) -> None:
    token = await world.token()
    for _ in range(2):  # asked, then remembered
        with pytest.raises(Forbidden):
            await world.callers.consumer(f"Bearer {token}", "redeem")


async def test_a_remembered_consumer_token_ends_at_its_time(world: World) -> None:
    now = datetime.now(UTC).timestamp()
    times = [now]
    callers = Callers(world.pool, sealer=SEALER, clock=lambda: times[-1])
    token = await world.token()
    await callers.consumer(f"Bearer {token}", "balance:read")
    times.append(now + 3_700)
    assert callers.consumer_cached(f"Bearer {token}") is None
    with pytest.raises(Unauthenticated, match="expired"):
        await callers.consumer(f"Bearer {token}", "balance:read")


async def test_one_platform_cannot_sign_for_another(world: World) -> None:
    async with world.pool.acquire() as conn:
        row = await conn.fetchrow("SELECT s.private_pem FROM signing_key s JOIN platform p ON p.id = s.platform WHERE p.code = 'b-shop'")
    assert row is not None
    forged = consumer_jwt(SEALER.open(row["private_pem"]), kid=administer.DEVELOPMENT_KID, iss="a-shop")
    with pytest.raises(Unauthenticated):
        await world.callers.consumer(f"Bearer {forged}", "balance:read")


async def test_forged_tokens_are_401(world: World) -> None:
    token = await world.token()
    head, payload, signature = token.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    other = base64.urlsafe_b64encode(json.dumps({"iss": "a-shop", "sub": "x"}).encode()).decode().rstrip("=")
    for forged in (f"{none}.{payload}.", f"{head}.{payload}.AAAA", f"{head}.{other}.{signature}", consumer_jwt(OWN, iss="nobody")):
        assert (await world.call("GET", "/probe/me", forged)).status_code == 401


async def test_whatever_kid_and_issuer_say_they_are_only_looked_up(world: World) -> None:
    body = {"algorithm": "EdDSA", "kid": "own", "public_pem": pem(OWN)}
    assert (await world.call("POST", "/v1/platforms/a-shop/signing-keys", world.a_admin.token, json=body)).status_code == 201
    await world.callers.refresh()
    assert (await world.call("GET", "/probe/me", consumer_jwt(OWN, kid="own"))).status_code == 200
    odd = [
        "../../../dev/null",
        "' OR '1'='1",
        "own'; DROP TABLE signing_key; --",
        "http://127.0.0.1:1/keys",
        "k" * 128,
        "OWN",
        "own ",
        "%00",
    ]
    for text in odd:
        for token in (consumer_jwt(OWN, kid=text), consumer_jwt(OWN, kid="own", iss=text)):
            assert (await world.call("GET", "/probe/me", token)).status_code == 401, text
    for text in ("k" * 129, "a\x00b", "a\nb"):
        for token in (consumer_jwt(OWN, kid=text), consumer_jwt(OWN, kid="own", iss=text), consumer_jwt(OWN, kid="own", sub=text)):
            assert (await world.call("GET", "/probe/me", token)).status_code == 401, text
    assert (await world.call("GET", "/probe/me", consumer_jwt(OWN, kid="own"))).status_code == 200


@pytest.mark.parametrize(("algorithm", "private"), [("EdDSA", OWN), ("ES256", ec.derive_private_key(77, ec.SECP256R1()))])
async def test_a_platform_signs_with_its_own_key_until_that_is_revoked(world: World, algorithm: str, private: Any) -> None:
    body = {"algorithm": algorithm, "kid": "own", "public_pem": pem(private)}
    made = await world.call("POST", "/v1/platforms/a-shop/signing-keys", world.a_admin.token, json=body)
    assert made.status_code == 201, made.text
    assert "private" not in made.text.lower()
    await world.callers.refresh()
    token = consumer_jwt(private, algorithm, kid="own")
    assert (await world.call("GET", "/probe/me", token)).json()["reference"] == "c-9"
    # The only own key needs no kid; the development key is found by its kid alone.
    assert (await world.call("GET", "/probe/me", consumer_jwt(private, algorithm))).status_code == 200
    assert (await world.call("GET", "/probe/me", consumer_jwt(private, algorithm, kid="other"))).status_code == 401
    assert (await world.call("GET", "/probe/me", await world.token())).status_code == 200
    again = await world.call("POST", "/v1/platforms/a-shop/signing-keys", world.a_admin.token, json=body)
    assert again.status_code == 409
    second = body | {"kid": "second"}
    assert (await world.call("POST", "/v1/platforms/a-shop/signing-keys", world.a_admin.token, json=second)).status_code == 201
    await world.callers.refresh()
    assert (await world.call("GET", "/probe/me", consumer_jwt(private, algorithm))).status_code == 401
    path = f"/v1/platforms/a-shop/signing-keys/{made.json()['id']}/revoke"
    assert (await world.call("POST", path, world.a_admin.token)).status_code == 200
    await world.callers.refresh()
    assert (await world.call("GET", "/probe/me", token)).status_code == 401


async def test_a_platform_signs_with_the_keys_of_its_own_key_set(world: World) -> None:
    document = {"keys": [json.loads(OKPAlgorithm.to_jwk(OWN.public_key())) | {"kid": "rolled", "use": "sig"}]}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps(document).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks"
        added = await world.run(
            administer.add_signing_key, program=world.a.id, platform="a-shop", algorithm="EdDSA", jwks_url=url, allow_loopback=True
        )
        callers = Callers(world.pool, sealer=SEALER, allow_loopback_jwks=True)
        await callers.refresh()
        for kid in ("rolled", None):
            caller = await callers.consumer(f"Bearer {consumer_jwt(OWN, kid=kid)}", "balance:read")
            assert (caller.code, caller.reference) == ("a-shop", "c-9")
        for forged in (consumer_jwt(OWN, kid="unheard"), consumer_jwt(Ed25519PrivateKey.generate(), kid="rolled")):
            with pytest.raises(Unauthenticated):
                await callers.consumer(f"Bearer {forged}", "balance:read")
        with pytest.raises(Unavailable):  # this process may not ask the loopback interface: our trouble, not the consumer's
            await world.callers.consumer(f"Bearer {consumer_jwt(OWN, kid='rolled')}", "balance:read")
        await world.run(administer.revoke_signing_key, program=world.a.id, platform="a-shop", key=added.id)
        await callers.refresh()
        with pytest.raises(Unauthenticated):
            await callers.consumer(f"Bearer {consumer_jwt(OWN, kid='rolled')}", "balance:read")


UNUSABLE_SIGNING_KEYS: list[tuple[dict[str, str], str]] = [
    ({"algorithm": "EdDSA"}, ""),
    ({"algorithm": "EdDSA", "public_pem": pem(OWN), "jwks_url": "https://keys.example/jwks"}, ""),
    ({"algorithm": "RS256", "public_pem": pem(OWN)}, "/public_pem"),
    ({"algorithm": "HS256", "public_pem": pem(OWN)}, "/algorithm"),
    ({"algorithm": "none", "public_pem": pem(OWN)}, "/algorithm"),
    (
        {"algorithm": "EdDSA", "public_pem": OWN.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()},
        "/public_pem",
    ),
    ({"algorithm": "EdDSA", "jwks_url": "http://keys.example/jwks"}, "/jwks_url"),
    ({"algorithm": "EdDSA", "jwks_url": "http://127.0.0.1/jwks"}, "/jwks_url"),
    ({"algorithm": "EdDSA", "jwks_url": "https://keys.example/jwks", "kid": "k"}, "/kid"),
]


async def test_only_a_usable_signing_key_can_be_registered(world: World) -> None:
    for body, pointer in UNUSABLE_SIGNING_KEYS:
        answer = await world.call("POST", "/v1/platforms/a-shop/signing-keys", world.a_admin.token, json=body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["pointer"] == pointer


BAD_WORDS: list[dict[str, Any]] = [
    {"scope": "admin"},
    {"scope": ""},
    {"consumer": ""},
    {"consumer": "a\nb"},
    {"consumer": "c" * 129},
    {"ttl": timedelta(hours=25)},
    {"ttl": timedelta(0)},
    {"platform": "nobody"},
    {"platform": "a\x00b"},
]


async def test_no_token_is_made_from_bad_words(world: World) -> None:
    for changes in BAD_WORDS:
        good = {"platform": "a-shop", "consumer": "c", "scope": "balance:read", "ttl": TTL}
        with pytest.raises(GreenpointsError):
            await world.run(administer.consumer_token, sealer=SEALER, **(good | changes))


# Operators and programs


async def test_two_programs_never_see_each_other(world: World) -> None:
    for path in ("", "/keys", "/signing-keys", "/hooks"):
        foreign = await world.call("GET", f"/v1/platforms/b-shop{path}", world.a_admin.token)
        missing = await world.call("GET", f"/v1/platforms/nobody{path}", world.a_admin.token)
        assert foreign.status_code == missing.status_code == 404
        assert foreign.text.replace("b-shop", "nobody") == missing.text
    for path, body in (("/keys", {}), ("/hooks", {"connector": "standard"}), ("/keys/1/revoke", None), ("/signing-keys/1/revoke", None)):
        assert (await world.call("POST", f"/v1/platforms/b-shop{path}", world.a_admin.token, json=body)).status_code == 404
    hook = world.b_shop.hooks["standard"].id
    for platform in ("a-shop", "b-shop"):
        answer = await world.call("PATCH", f"/v1/platforms/{platform}/hooks/{hook}", world.a_admin.token, json={"active": False})
        assert answer.status_code == 404
    listed = (await world.call("GET", "/v1/platforms", world.a_admin.token)).json()["items"]
    assert [platform["code"] for platform in listed] == ["a-shop"]
    operators = (await world.call("GET", "/v1/operators", world.a_admin.token)).json()["items"]
    assert [operator["email"] for operator in operators] == ["a@example.com"]
    audit = (await world.call("GET", "/v1/audit", world.a_admin.token)).text
    assert "a-shop" in audit
    assert "b-shop" not in audit
    assert (await world.call("GET", "/v1/platforms", world.a_admin.token, headers={"X-Greenpoints-Program": "b"})).status_code == 404
    assert (await world.call("GET", "/v1/platforms", world.a_admin.token, headers={"X-Greenpoints-Program": "a"})).status_code == 200


async def test_an_operator_of_several_programs_chooses_by_header(world: World) -> None:
    root = await world.run(administer.create_operator, email="root@example.com", role="admin")
    assert (await world.call("GET", "/v1/platforms", root.token)).status_code == 422
    chosen = await world.call("GET", "/v1/platforms", root.token, headers={"X-Greenpoints-Program": "b"})
    assert [platform["code"] for platform in chosen.json()["items"]] == ["b-shop"]
    for odd in ("nobody", "B", "b\x01", "é"):
        headers = {"X-Greenpoints-Program": odd.encode("latin-1")}
        assert (await world.call("GET", "/v1/platforms", root.token, headers=headers)).status_code == 404


async def test_where_there_is_one_program_nobody_chooses(database: str) -> None:
    async with asyncpg.create_pool(database, min_size=1, max_size=2) as pool, pool.acquire() as conn:
        with pytest.raises(NotFound):
            await administer.choose_program(conn, None)
        made = await administer.create_program(conn, code="only", name="Only", currency="leaves", time_zone="UTC")
        assert (await administer.choose_program(conn, None)).id == made.id


async def test_roles_decide_what_an_operator_may_do(world: World) -> None:
    for role in ROLES:
        await _check_role(world, role)


async def _check_role(world: World, role: Role) -> None:
    operator = await world.run(administer.create_operator, email=f"{role}@example.com", role=role, program=world.a.id)
    requests: dict[Permission, tuple[str, str, Any]] = {
        "platforms:read": ("GET", "/v1/platforms", None),
        "platforms:write": ("POST", "/v1/platforms", {"code": f"new-{role}", "name": "New"}),
        "operators:read": ("GET", "/v1/operators", None),
        "operators:write": ("POST", "/v1/operators", {"email": f"n-{role}@example.com", "role": "viewer"}),
        "audit:read": ("GET", "/v1/audit", None),
    }
    for permission, (method, path, body) in requests.items():
        answer = await world.call(method, path, operator.token, json=body)
        allowed = role in MAY[permission]
        assert answer.status_code in ((200, 201) if allowed else (403,)), (permission, answer.text)


async def test_an_operator_of_a_program_cannot_make_one_of_all(world: World) -> None:
    body = {"email": "new@example.com", "role": "admin", "program": None}
    made = await world.call("POST", "/v1/operators", world.a_admin.token, json=body)
    assert made.status_code == 201
    assert (await world.call("GET", "/v1/platforms", made.json()["token"], headers={"X-Greenpoints-Program": "b"})).status_code == 404
    assert (await world.call("POST", "/v1/operators", world.a_admin.token, json=body)).status_code == 409


async def test_a_deactivated_operator_is_out_at_once(world: World) -> None:
    assert (await world.call("GET", "/v1/platforms", world.a_admin.token)).status_code == 200
    await world.pool.execute("UPDATE operator SET active = false WHERE email = 'a@example.com'")
    assert (await world.call("GET", "/v1/platforms", world.a_admin.token)).status_code == 401


def test_passwords_are_hashed_with_argon2id() -> None:
    hashed = secrets.hash_password("correct horse battery", salt=b"0123456789abcdef")
    assert hashed.startswith("$argon2id$")
    assert secrets.verify_password("correct horse battery", hashed=hashed)
    assert not secrets.verify_password("correct horse batterY", hashed=hashed)
    assert not secrets.verify_password("anything", hashed="$argon2id$damaged")


# Administration


async def test_a_change_and_its_audit_row_commit_together_or_not_at_all(world: World) -> None:
    body = {"code": "a-second", "name": "Second"}
    headers = {"X-Request-Id": "req-7"}
    assert (await world.call("POST", "/v1/platforms", world.a_admin.token, json=body, headers=headers)).status_code == 201
    row = (await world.call("GET", "/v1/audit", world.a_admin.token, params={"subject": "platform:a-second"})).json()["items"][0]
    assert (row["action"], row["after"], row["request_id"]) == ("platform.create", body, "req-7")
    assert row["actor"].startswith("operator:")
    await world.pool.execute("ALTER TABLE audit ADD CONSTRAINT full_disk CHECK (false) NOT VALID")
    for path, more in (("/v1/platforms", {"code": "a-third", "name": "Third"}), ("/v1/platforms/a-shop/keys", {})):
        refused = await world.call("POST", path, world.a_admin.token, json=more)
        assert refused.status_code == 500
        assert "full_disk" not in refused.text
    assert await world.pool.fetchval("SELECT count(*) FROM platform WHERE code = 'a-third'") == 0
    assert await world.pool.fetchval("SELECT count(*) FROM api_key k JOIN platform p ON p.id = k.platform WHERE p.code = 'a-shop'") == 1


async def test_no_secret_reaches_the_audit_or_a_list(world: World) -> None:
    await world.call("POST", "/v1/platforms/a-shop/keys", world.a_admin.token, json={})
    made = await world.call("POST", "/v1/platforms/a-shop/hooks", world.a_admin.token, json={"connector": "standard"})
    assert secrets.is_webhook_secret(made.json()["secret"])
    patch = {"secrets": ["whsec_" + base64.b64encode(bytes(range(32))).decode(), made.json()["secret"]]}
    changed = await world.call("PATCH", f"/v1/platforms/a-shop/hooks/{made.json()['id']}", world.a_admin.token, json=patch)
    assert changed.status_code == 200, changed.text
    shown = changed.text
    for path in (
        "/v1/audit",
        "/v1/platforms",
        "/v1/platforms/a-shop/keys",
        "/v1/platforms/a-shop/hooks",
        "/v1/platforms/a-shop/signing-keys",
    ):
        shown += (await world.call("GET", path, world.a_admin.token)).text
    hidden = [world.a_shop.api_key, world.a_admin.token, world.a_admin.password, *patch["secrets"]]
    hidden += [hook.secret for hook in world.a_shop.hooks.values()]
    assert not [secret for secret in hidden if secret in shown]
    assert "PRIVATE" not in shown


async def test_secrets_are_stored_as_hashes(world: World) -> None:
    kept = await world.pool.fetch("SELECT hash FROM api_key UNION ALL SELECT hash FROM operator_token")
    assert {secrets.token_hash(world.a_shop.api_key), secrets.token_hash(world.a_admin.token)} <= {row["hash"] for row in kept}
    assert (await world.pool.fetchval("SELECT password_hash FROM operator LIMIT 1")).startswith("$argon2id$")


async def test_hooks_are_found_changed_and_switched_off(world: World) -> None:
    made = world.a_shop.hooks["shopify"]
    hook = await world.callers.hook(made.id)
    assert (hook.connector, hook.secrets, hook.platform_code, hook.program) == ("shopify", [made.secret], "a-shop", world.a.id)
    settings = {"packaging": [{"from": "note_attribute", "name": "Packaging", "class": "circular_box"}]}
    path = f"/v1/platforms/a-shop/hooks/{made.id}"
    changed = await world.call("PATCH", path, world.a_admin.token, json={"settings": settings})
    assert changed.json()["settings"]["packaging"][0]["class"] == "circular_box"
    await world.callers.refresh()
    changed_hook = await world.callers.hook(made.id)
    assert changed_hook.secrets == [made.secret]
    assert "circular_box" in changed_hook.settings
    assert (await world.call("PATCH", path, world.a_admin.token, json={"active": False})).status_code == 200
    await world.callers.refresh()
    for hook_id in (made.id, "nobody", "a\x00b", "", "x" * 1_000):
        with pytest.raises(NotFound):
            await world.callers.hook(hook_id)


BAD_INPUT: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/platforms", {"code": "Has Space", "name": "x"}, "/code"),
    ("/v1/platforms", {"code": "ok", "name": ""}, "/name"),
    ("/v1/platforms", {"code": "ok", "name": "a\x00b"}, "/name"),
    ("/v1/platforms", {"name": "x"}, ""),
    ("/v1/platforms/a-shop/hooks", {"connector": "gopher"}, "/connector"),
    ("/v1/platforms/a-shop/hooks", {"connector": "standard", "secret": "not-a-whsec-secret"}, "/secret"),
    ("/v1/platforms/a-shop/hooks", {"connector": "shopify", "settings": {"unheard": 1}}, "/settings"),
    ("/v1/operators", {"email": "nobody", "role": "viewer"}, "/email"),
    ("/v1/operators", {"email": "x@example.com\n", "role": "viewer"}, "/email"),
    ("/v1/operators", {"email": "x@example.com", "role": "root"}, "/role"),
    ("/v1/operators", {"email": "x@example.com", "role": "viewer", "password": "short"}, "/password"),
]


async def test_bad_input_is_422_with_a_pointer(world: World) -> None:
    for path, body, pointer in BAD_INPUT:
        answer = await world.call("POST", path, world.a_admin.token, json=body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["pointer"] == pointer


async def test_odd_addresses_are_404(world: World) -> None:
    for path in ("/v1/platforms/a%00b", "/v1/platforms/%ff"):
        assert (await world.call("GET", path, world.a_admin.token)).status_code == 404
    for number in ("99999999999999999999", "0", "4294967296"):
        path = f"/v1/platforms/a-shop/keys/{number}/revoke"
        assert (await world.call("POST", path, world.a_admin.token)).status_code == 404


async def test_lists_go_on_at_their_cursor(world: World) -> None:
    for i in range(5):
        await world.run(administer.create_platform, sealer=SEALER, program=world.a.id, code=f"a-{i}", name=str(i))
    for path, key in (("/v1/platforms", "code"), ("/v1/audit", "id"), ("/v1/platforms/a-shop/hooks", "id")):
        whole = (await world.call("GET", path, world.a_admin.token, params={"limit": 200})).json()
        assert whole["next_cursor"] is None
        seen, cursor = [], None
        while True:
            params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
            page = (await world.call("GET", path, world.a_admin.token, params=params)).json()
            assert len(page["items"]) <= 2
            seen += [item[key] for item in page["items"]]
            if (cursor := page["next_cursor"]) is None:
                break
        assert seen == [item[key] for item in whole["items"]]
        assert len(set(seen)) == len(seen) >= 3
    for params in ({"cursor": "nonsense!"}, {"cursor": "W10"}, {"cursor": ""}, {"limit": 0}, {"limit": 201}, {"limit": "x"}):
        answer = await world.call("GET", "/v1/platforms", world.a_admin.token, params=params)
        assert answer.status_code == 422, (params, answer.text)


async def test_a_taken_code_is_409(world: World) -> None:
    body = {"code": "a-shop", "name": "Again"}
    assert (await world.call("POST", "/v1/platforms", world.a_admin.token, json=body)).status_code == 409


# Faults


async def test_without_postgresql_nobody_unknown_is_sent_away_and_nobody_known_is_forgotten(world: World) -> None:
    header, token = f"Bearer {world.a_shop.api_key}", f"Bearer {await world.token()}"
    await world.callers.platform(header)
    await world.callers.consumer(token, "balance:read")
    async with asyncpg.create_pool("postgresql://nobody@127.0.0.1:1/none", min_size=0, max_size=2) as nowhere:
        world.callers._pool = nowhere
        await world.callers.refresh()
        assert world.callers.platform_cached(header)
        assert await world.callers.consumer(token, "balance:read")
        for unknown in ("gpk_live_" + "A" * 32, consumer_jwt(OWN, iss="another")):
            for ask in (world.callers.platform(f"Bearer {unknown}"), world.callers.consumer(f"Bearer {unknown}", "balance:read")):
                with pytest.raises(Unavailable):
                    await ask


async def test_look_ups_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.callers.MAX_LOOKUPS", 0)
    with pytest.raises(Overloaded):
        await world.callers.platform(f"Bearer {world.a_shop.api_key}")


async def test_the_running_application_refuses_a_revoked_key_within_5_s(
    app: Litestar, client: httpx.AsyncClient, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    program = await administer.create_program(connection, code="a", name="A", currency="leaves", time_zone="UTC")
    platform = await administer.create_platform(connection, sealer=SEALER, program=program.id, code="a-shop", name="A shop")
    headers = {"Authorization": f"Bearer {platform.api_key}"}
    assert (await client.get("/v1/events", headers=headers)).status_code == 200
    await administer.rotate_key(connection, platform="a-shop")
    async with asyncio.timeout(5):
        while (await client.get("/v1/events", headers=headers)).status_code != 401:
            await asyncio.sleep(0.1)

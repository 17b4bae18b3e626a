"""The audit: every change of every route and command is in it, once, with who made it; nobody changes it; it names no secret, no person.

The routes come from the application, the commands from the command line: a new one without a recipe here fails.
"""

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from litestar import Litestar

from service.cli import cli
from service.flows import administer
from tests.api.test_campaigns import CAMPAIGN
from tests.deliveries import Shop, refill
from tests.worlds import World

PERSON = "a-person-of-flesh"
EMAIL = "somebody-new@example.com"
PASSWORD = "correct horse battery staple"
SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes, yes").decode()
UNREADABLE = b'{"type": "activity.completed", "data": {"type": "order.paid", "consumer": "a-person-of-flesh"}}'
PEM = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
CERTIFICATE = {"scheme": "eu-ecolabel", "holder": "Mill", "valid_from": "2025-01-01", "valid_until": "2029-12-31"}
PRODUCT = {"gtin": "4006381333931", "name": "Pencil", "category": "paper"}

NOT_BY_OPERATORS = {
    ("POST", "/v1/events"): "a platform reports; the ledger itself is the record",
    ("POST", "/v1/events/batch"): "a platform reports; the ledger itself is the record",
    ("POST", "/v1/hooks/{hook_id}"): "a shop delivers; the delivery log is the record",
}
CHANGE_NOTHING = {("POST", "/v1/campaigns/{code}/simulate")}


@pytest.fixture
async def shop(app: Litestar, client: httpx.AsyncClient) -> Shop:
    return await Shop(app, client, World(app.state.resources.pool)).found()


# Recipes: what must be there first, then path and body of a call that succeeds.

Recipe = Callable[[Shop], Awaitable[tuple[str, Any]]]
RECIPES: dict[tuple[str, str], Recipe] = {}


def recipe(method: str, path: str) -> Callable[[Recipe], Recipe]:
    def remember(made: Recipe) -> Recipe:
        RECIPES[method, path] = made
        return made

    return remember


def plain(method: str, path: str, at: str, body: Any) -> None:
    async def made(_: Shop) -> tuple[str, Any]:
        return at, body

    RECIPES[method, path] = made


async def made(shop: Shop, path: str, body: Any) -> Any:
    answer = await shop.call("POST", path, json=body)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


plain("POST", "/v1/campaigns", "/v1/campaigns", CAMPAIGN | {"code": "new"})
plain("PATCH", "/v1/campaigns/{code}", "/v1/campaigns/goods", {"name": "Better"})
plain("POST", "/v1/campaigns/{code}/pause", "/v1/campaigns/goods/pause", None)
plain("POST", "/v1/campaigns/{code}/end", "/v1/campaigns/refills/end", None)
plain("POST", "/v1/campaigns/{code}/simulate", "/v1/campaigns/refills/simulate?platform=shop", refill("x", PERSON))
plain("POST", "/v1/certificates", "/v1/certificates", CERTIFICATE | {"number": "IT/016/901"})
plain("POST", "/v1/certificates/import", "/v1/certificates/import", [CERTIFICATE | {"number": "IT/016/902"}])
plain("POST", "/v1/products", "/v1/products", PRODUCT)
plain("POST", "/v1/products/import", "/v1/products/import", [PRODUCT | {"name": "Another"}])
plain("POST", "/v1/platforms", "/v1/platforms", {"code": "third", "name": "Third"})
plain("POST", "/v1/platforms/{code}/keys", "/v1/platforms/shop/keys", {})
plain(
    "POST", "/v1/platforms/{code}/signing-keys", "/v1/platforms/shop/signing-keys", {"algorithm": "EdDSA", "public_pem": PEM, "kid": "own"}
)
plain("POST", "/v1/platforms/{code}/hooks", "/v1/platforms/shop/hooks", {"connector": "standard", "secret": SECRET})
plain("POST", "/v1/operators", "/v1/operators", {"email": EMAIL, "role": "viewer", "password": PASSWORD})
plain("POST", "/v1/deliveries/replay", "/v1/deliveries/replay", {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"})


@recipe("POST", "/v1/campaigns/{code}/activate")
async def _activate(shop: Shop) -> tuple[str, Any]:
    await made(shop, "/v1/campaigns", CAMPAIGN | {"code": "draft"})
    return "/v1/campaigns/draft/activate", None


NUMBERS = {"revoke": "IT/016/903", "suspend": "IT/016/904", "resume": "IT/016/905"}


def _certificate(step: str, body: Any, first: str | None = None) -> Recipe:
    async def prepared(shop: Shop) -> tuple[str, Any]:
        path = f"/v1/certificates/{(await made(shop, '/v1/certificates', CERTIFICATE | {'number': NUMBERS[step]}))['id']}"
        if first is not None:
            await made(shop, f"{path}/{first}", {"at": "2026-01-01T00:00:00Z", "reason": "why"})
        return f"{path}/{step}", body

    return prepared


for _step, _first in (("revoke", None), ("suspend", None), ("resume", "suspend")):
    _body = None if _step == "resume" else {"at": "2026-01-01T00:00:00Z", "reason": "why"}
    RECIPES["POST", f"/v1/certificates/{{certificate}}/{_step}"] = _certificate(_step, _body, _first)


@recipe("POST", "/v1/platforms/{code}/keys/{key}/revoke")
async def _revoke_key(shop: Shop) -> tuple[str, Any]:
    return f"/v1/platforms/shop/keys/{(await made(shop, '/v1/platforms/shop/keys', {}))['id']}/revoke", None


@recipe("POST", "/v1/platforms/{code}/signing-keys/{key}/revoke")
async def _revoke_signing_key(shop: Shop) -> tuple[str, Any]:
    (key, *_) = (await shop.call("GET", "/v1/platforms/market/signing-keys")).json()["items"]
    return f"/v1/platforms/market/signing-keys/{key['id']}/revoke", None


@recipe("PATCH", "/v1/platforms/{code}/hooks/{hook}")
async def _change_hook(shop: Shop) -> tuple[str, Any]:
    return f"/v1/platforms/shop/hooks/{shop.hooks['shopify'].id}", {"secrets": ["a-secret-of-the-shops-own"]}


@recipe("POST", "/v1/deliveries/{delivery}/replay")
async def _replay(shop: Shop) -> tuple[str, Any]:
    await shop.deliver(UNREADABLE)
    return f"/v1/deliveries/{(await shop.log())[0]['id']}/replay", None


def changing_routes(app: Litestar) -> set[tuple[str, str]]:
    """Every route that is not only read, without the types of its path's parameters."""
    return {
        (method, "/".join(part.split(":")[0] + "}" if part.startswith("{") else part for part in route.path.split("/")))
        for route in app.routes
        for method in getattr(route, "methods", ())
        if method not in ("GET", "HEAD", "OPTIONS")
    }


async def test_every_change_by_an_operator_is_in_the_audit_once(shop: Shop) -> None:
    routes = changing_routes(shop.app) - NOT_BY_OPERATORS.keys()
    assert routes == RECIPES.keys(), "a route that changes something needs a recipe here, or a reason in NOT_BY_OPERATORS"
    operator = await shop.world.rows("SELECT id FROM operator WHERE email = 'admin@example.com'")
    for n, route in enumerate(sorted(routes)):
        path, body = await RECIPES[route](shop)
        before = (await shop.world.rows("SELECT coalesce(max(id), 0) AS id FROM audit"))[0]["id"]
        answer = await shop.call(route[0], path, json=body, headers={"X-Request-Id": f"request-{n}"})
        assert answer.status_code in (200, 201), (route, answer.text)
        rows = await shop.world.rows("SELECT * FROM audit WHERE id > $1", before)
        if route in CHANGE_NOTHING:
            assert rows == [], route
            continue
        assert len(rows) == 1, (route, rows)
        row = rows[0]
        assert row["actor"] == f"operator:{operator[0]['id']}", route
        assert row["program"] == shop.world.program, route
        assert row["request_id"] == answer.headers.get("X-Request-Id", f"request-{n}"), route
        assert row["action"], route
        assert row["subject"], route
        assert row["after"] is not None, route


async def test_a_refused_change_is_not_in_the_audit(shop: Shop) -> None:
    before = await shop.world.rows("SELECT count(*) FROM audit")
    for path, body in (("/v1/campaigns", {}), ("/v1/platforms", {"code": "shop", "name": "Again"}), ("/v1/deliveries/1/replay", None)):
        assert (await shop.call("POST", path, json=body)).status_code >= 400
    assert await shop.world.rows("SELECT count(*) FROM audit") == before


async def test_the_audit_holds_no_secret_and_no_person(shop: Shop) -> None:
    hidden = {PERSON, EMAIL, PASSWORD, SECRET, "a-secret-of-the-shops-own"} | set(shop.tokens.values())
    hidden |= {hook.secret for hook in shop.hooks.values()}
    for route in sorted(RECIPES):
        path, body = await RECIPES[route](shop)
        answer = (await shop.call(route[0], path, json=body)).json()
        hidden |= {answer[name] for name in ("key", "api_key", "secret", "password", "token") if answer.get(name)}
        hidden |= {hook["secret"] for hook in (answer.get("hooks") or {}).values()} if isinstance(answer.get("hooks"), dict) else set()
    assert len(hidden) > 12
    text = "\n".join(row["text"] for row in await shop.world.rows("SELECT a::text AS text FROM audit a"))
    shown = (await shop.call("GET", "/v1/audit", params={"limit": 200})).text
    assert [secret for secret in hidden if json.dumps(secret)[1:-1] in text + shown or secret in text + shown] == []
    assert "PRIVATE" not in text


# Nobody changes it


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit", "TRUNCATE audit", "TRUNCATE audit CASCADE"]
)
async def test_not_even_the_owner_of_the_table_changes_the_audit(connection: "asyncpg.Connection[asyncpg.Record]", statement: str) -> None:
    await administer.create_program(connection, code="a", name="A", currency="x", time_zone="UTC")
    owner = "SELECT pg_get_userbyid(relowner) = current_user FROM pg_class WHERE oid = 'audit'::regclass"
    assert await connection.fetchval(owner) is True
    before = await connection.fetch("SELECT * FROM audit")
    assert before
    for role in ("origin", "replica"):
        await connection.execute(f"SET session_replication_role = {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await connection.execute(statement)
    assert await connection.fetch("SELECT * FROM audit") == before


# Who reads it, and how it is searched


async def test_the_audit_can_be_searched(shop: Shop) -> None:
    await shop.call("POST", "/v1/campaigns", json=CAMPAIGN | {"code": "new"}, headers={"X-Request-Id": "mine"})
    mine = (await shop.call("GET", "/v1/audit", params={"request_id": "mine"})).json()["items"]
    assert [(row["action"], row["subject"]) for row in mine] == [("campaign.create", "campaign:new")]
    at, actor = mine[0]["at"], mine[0]["actor"]
    everything = (await shop.call("GET", "/v1/audit", params={"limit": 200})).json()["items"]
    for search, expected in (
        ({"actor": actor}, mine),
        ({"actor": "operator:0"}, []),
        ({"action": "campaign.create", "actor": actor}, mine),
        ({"subject": "campaign:new"}, mine),
        ({"subject": "campaign:new", "action": "campaign.end"}, []),
        ({"from": at}, mine),
        ({"to": at}, everything[1:]),
        ({"from": "2100-01-01T00:00:00Z"}, []),
        ({"actor": "a\x00b"}, None),
    ):
        answer = await shop.call("GET", "/v1/audit", params={"limit": 200} | search)
        assert (answer.json()["items"] if answer.status_code == 200 else None) == expected, search
    assert (await shop.call("GET", "/v1/audit", params={"from": "2026-01-01T00:00:00"})).status_code == 422
    assert (await shop.call("GET", "/v1/audit", "viewer")).status_code == 403


async def test_what_belongs_to_no_program_is_seen_by_operators_of_all(shop: Shop) -> None:
    async with shop.world.pool.acquire() as conn:
        await administer.create_operator(conn, email="everywhere@example.com", role="viewer", program=None)
    search = {"action": "operator.create"}
    assert (await shop.call("GET", "/v1/audit", params=search)).json()["items"] == []
    seen = (await shop.call("GET", "/v1/audit", "root", params=search, headers={"X-Greenpoints-Program": "green"})).json()["items"]
    assert [row["actor"] for row in seen] == ["command"]
    foreign = (await shop.call("GET", "/v1/audit", "foreign", params={"limit": 200})).json()["items"]
    assert {row["subject"] for row in foreign} == {"program:other"}


# Commands

READING = {"check", "rebuild", "token", "platform list"}
"""Change nothing that PostgreSQL holds; a consumer's token is signed, not stored."""
RUNNING = {"up", "demo", "serve", "worker", "bench", "migrate"}
"""Start programs or bring the schema; what they change is no change of an operator's."""
RECORDED = {
    "platform create": "platform.create", "platform rotate-key": "key.rotate", "operator create": "operator.create",
    "import certificates": "certificate.import", "import products": "product.register", "replay": "delivery.replay",
}  # fmt: skip
"""Tested in tests/local/test_replay_command.py: command -> action."""


def commands(group: Any, path: tuple[str, ...] = ()) -> list[str]:
    found = getattr(group, "commands", None)
    return [" ".join(path)] if found is None else [leaf for name, command in found.items() for leaf in commands(command, (*path, name))]


def test_every_command_that_changes_something_has_a_test_of_its_audit() -> None:
    assert set(commands(cli)) == READING | RUNNING | RECORDED.keys()

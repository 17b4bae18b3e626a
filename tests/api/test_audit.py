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
from tests import reviewing
from tests.api.operators import _token
from tests.api.test_bounds import FACTOR
from tests.api.test_campaigns import CAMPAIGN
from tests.beginnings import Begin, Beginning
from tests.deliveries import Shop, refill
from tests.fraud_cases import hold
from tests.worlds import World, order_paid

PERSON = "a-person-of-flesh"
ERASED = "a-person-who-goes"
HELD = "a-person-in-court"
UNHELD = "a-person-out-of-court"
IMPORTED = "a-person-from-elsewhere"
MERCHANT = "a-merchant-of-flesh"
REASON = "the case of a divorce"
EMAIL = "somebody-new@example.com"
PASSWORD = "correct horse battery staple"
SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes, yes").decode()
VOUCHER = "BEARER-VALUE-1"
UNREADABLE = b'{"type": "activity.completed", "data": {"type": "order.paid", "consumer": "a-person-of-flesh"}}'
PEM = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
CERTIFICATE = {"scheme": "eu-ecolabel", "holder": "Mill", "valid_from": "2025-01-01", "valid_until": "2029-12-31"}
PRODUCT = {"gtin": "4006381333931", "name": "Pencil", "category": "paper"}

ASSET = {"class": "circular_box", "max_trips": 20}

NOT_BY_OPERATORS = {
    ("POST", "/v1/events"): "a platform reports; the ledger itself is the record",
    ("POST", "/v1/events/batch"): "a platform reports; the ledger itself is the record",
    ("POST", "/v1/hooks/{hook_id}"): "a shop delivers; the delivery log is the record",
    ("POST", "/v1/stations/me/tokens"): "a station asks; its tokens are kept nowhere, and the ledger records those that count",
    ("POST", "/v1/stations/me/returns"): "a station reports; the ledger itself is the record",
    ("POST", "/v1/oauth/token"): "a platform's machine signs in; what its token may do, its key may",
    ("POST", "/v1/me/events/{event_id}/objection"): "a consumer objects; the objection itself is the record",
    ("POST", "/v1/me/transfers"): "a consumer gives points away; the ledger itself is the record",
    ("POST", "/v1/consumers/{ref}/transfers"): "a platform does so for a consumer; the ledger itself is the record",
    ("POST", "/v1/redemptions"): "a platform spends for a consumer; the ledger itself is the record",
    ("POST", "/v1/redemptions/{redemption}/capture"): "the same",
    ("POST", "/v1/redemptions/{redemption}/cancel"): "the same",
    ("POST", "/v1/redemptions/{redemption}/refund"): "the same",
    ("POST", "/v1/me/redemptions"): "a consumer spends; the ledger itself is the record",
    ("POST", "/v1/me/redemptions/{redemption}/capture"): "the same",
    ("POST", "/v1/me/redemptions/{redemption}/cancel"): "the same",
}
SAY_NO_MORE = {
    ("POST", "/v1/operators/sign-in"),
    ("POST", "/v1/operators/sign-out"),
    ("POST", "/v1/operators/me/password"),
    ("POST", "/v1/operators/{operator}/password"),
}
"""Whose action says it all: what was there after is a secret."""
CHANGE_NOTHING = {("POST", "/v1/campaigns/{code}/simulate")}


async def open_shop(app: Litestar, client: httpx.AsyncClient) -> Shop:
    return await Shop(app, client, World(app.state.resources.pool)).found()


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Shop]:
    return begin(open_shop, in_app=True)


# Recipes: what must be there first, then path and body of a call that succeeds; the administrator's unless somebody else is named in BY.

Recipe = Callable[[Shop], Awaitable[tuple[str, Any]]]
BY = {("POST", f"/v1/operators/{path}"): "person" for path in ("sign-in", "sign-out", "me/password")}
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
plain("POST", "/v1/impact-factors", "/v1/impact-factors", FACTOR)
plain("POST", "/v1/platforms", "/v1/platforms", {"code": "third", "name": "Third"})
plain("POST", "/v1/platforms/{code}/keys", "/v1/platforms/shop/keys", {})
plain(
    "POST", "/v1/platforms/{code}/signing-keys", "/v1/platforms/shop/signing-keys", {"algorithm": "EdDSA", "public_pem": PEM, "kid": "own"}
)
plain("POST", "/v1/platforms/{code}/hooks", "/v1/platforms/shop/hooks", {"connector": "standard", "secret": SECRET})
plain("POST", "/v1/stations", "/v1/stations", {"code": "corner", "name": "Corner"})
plain("POST", "/v1/operators", "/v1/operators", {"email": EMAIL, "role": "viewer", "password": PASSWORD})
plain("POST", "/v1/deliveries/replay", "/v1/deliveries/replay", {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"})


plain("PATCH", "/v1/platforms/{code}", "/v1/platforms/shop", {"limits": {"credit": {"requests": 1_000, "per_s": 60}}})
plain("POST", "/v1/packaging/assets", "/v1/packaging/assets", ASSET | {"asset": "04012345555554987"})
plain("POST", "/v1/packaging/assets/import", "/v1/packaging/assets/import", [ASSET | {"asset": "box-2"}])
plain("PATCH", "/v1/packaging-policy", "/v1/packaging-policy", {"return_earner": "recipient"})
plain("PATCH", "/v1/points-policy", "/v1/points-policy", {"expiry": {"kind": "activity", "months": 18}})
plain("POST", "/v1/fraud/models", "/v1/fraud/models", {"weights": {"burst": 3}, "note": REASON})
plain(
    "PUT", "/v1/fraud/policy", "/v1/fraud/policy",
    {"hold_for": "P3D", "at_deadline": "reject", "alone_points": 0, "reviews_a_day": 9},
)  # fmt: skip
plain("POST", "/v1/fraud/signals/{signal}", "/v1/fraud/signals/odd_hour", {"on": False, "reason": REASON})
CLASS = {"code": "crate", "group": "reuse", "name_en": "Crate"}
KIND = {"code": "cup_day", "name": "A cup day", "schema": {"type": "object"}}
plain("POST", "/v1/packaging/classes", "/v1/packaging/classes", CLASS)
plain("POST", "/v1/activity-kinds", "/v1/activity-kinds", KIND)
REWARD = {"code": "cup", "name": "Cup", "points": 100, "stock": 5}
plain("POST", "/v1/rewards", "/v1/rewards", REWARD)
plain("POST", "/v1/causes", "/v1/causes", {"code": "trees", "name": "Trees"})
plain("PATCH", "/v1/privacy-policy", "/v1/privacy-policy", {"erased_reference": "refuse"})
plain(
    "POST", "/v1/consumers/import", "/v1/consumers/import?platform=shop",
    [{"id": "row-1", "consumer": IMPORTED, "points": 40, "expires_on": None}],
)  # fmt: skip


PLASTIC = {"class": "plastic_mailer", "kind": "used", "mass_g": "12.5", "merchant": MERCHANT}
plain("POST", "/v1/plastics/reports", "/v1/plastics/reports?platform=shop", [PLASTIC | {"id": "row-1", "period": "2025H2"}])


@recipe("POST", "/v1/plastics/periods/{period}/close")
async def _close_plastics(shop: Shop) -> tuple[str, Any]:
    await made(shop, "/v1/plastics/reports?platform=shop", [PLASTIC | {"id": "row-2", "period": "2025H1"}])
    return "/v1/plastics/periods/2025H1/close", None


@recipe("POST", "/v1/campaigns/{code}/activate")
async def _activate(shop: Shop) -> tuple[str, Any]:
    await made(shop, "/v1/campaigns", CAMPAIGN | {"code": "draft"})
    return "/v1/campaigns/draft/activate", None


@recipe("POST", "/v1/fraud/models/{version}/activate")
async def _activate_fraud_model(shop: Shop) -> tuple[str, Any]:
    return f"/v1/fraud/models/{(await made(shop, '/v1/fraud/models', {}))['version']}/activate", {"as": "shadow"}


@recipe("PATCH", "/v1/rewards/{code}")
async def _change_reward(shop: Shop) -> tuple[str, Any]:
    await made(shop, "/v1/rewards", REWARD | {"code": "old-cup"})
    return "/v1/rewards/old-cup", {"stock": None, "valid_until": "2030-01-01T00:00:00+08:00"}


@recipe("POST", "/v1/rewards/{code}/vouchers")
async def _load_vouchers(shop: Shop) -> tuple[str, Any]:
    await made(shop, "/v1/rewards", REWARD | {"code": "film", "vouchers": True})
    return "/v1/rewards/film/vouchers", [VOUCHER]


@recipe("PATCH", "/v1/causes/{code}")
async def _change_cause(shop: Shop) -> tuple[str, Any]:
    await made(shop, "/v1/causes", {"code": "old-trees", "name": "Trees"})
    return "/v1/causes/old-trees", {"active": False}


@recipe("PATCH", "/v1/packaging/classes/{code}")
async def _change_class(shop: Shop) -> tuple[str, Any]:
    await made(shop, "/v1/packaging/classes", CLASS | {"code": "old_crate"})
    return "/v1/packaging/classes/old_crate", {"active": False}


@recipe("PATCH", "/v1/activity-kinds/{code}")
async def _change_kind(shop: Shop) -> tuple[str, Any]:
    await made(shop, "/v1/activity-kinds", KIND | {"code": "old_day"})
    return "/v1/activity-kinds/old_day", {"schema": {"type": "object", "required": ["cup"]}}


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


def _asset(step: str) -> Recipe:
    async def prepared(shop: Shop) -> tuple[str, Any]:
        await made(shop, "/v1/packaging/assets", ASSET | {"asset": f"box-to-{step}"})
        return f"/v1/packaging/assets/box-to-{step}/{step}", {"reason": "seen"}

    return prepared


for _step in ("inspect", "retire", "lose"):
    RECIPES["POST", f"/v1/packaging/assets/{{asset}}/{_step}"] = _asset(_step)


@recipe("POST", "/v1/platforms/{code}/keys/{key}/revoke")
async def _revoke_key(shop: Shop) -> tuple[str, Any]:
    return f"/v1/platforms/shop/keys/{(await made(shop, '/v1/platforms/shop/keys', {}))['id']}/revoke", None


@recipe("POST", "/v1/platforms/{code}/keys/{key}/replace")
async def _replace_key(shop: Shop) -> tuple[str, Any]:
    return f"/v1/platforms/shop/keys/{(await made(shop, '/v1/platforms/shop/keys', {}))['id']}/replace", {"keep_old": "PT0S"}


STATIONS = {"": "one", "keys": "two", "revoke": "three", "replace": "four"}


def _of_station(what: str, body: Any) -> Recipe:
    async def prepared(shop: Shop) -> tuple[str, Any]:
        path = f"/v1/stations/{STATIONS[what]}"
        await made(shop, "/v1/stations", {"code": STATIONS[what], "name": "Corner"})
        if what in ("", "keys"):
            return f"{path}/{what}".rstrip("/"), body
        return f"{path}/keys/{(await made(shop, f'{path}/keys', {}))['id']}/{what}", body

    return prepared


RECIPES["PATCH", "/v1/stations/{code}"] = _of_station("", {"max_units": "500"})
RECIPES["POST", "/v1/stations/{code}/keys"] = _of_station("keys", {})
RECIPES["POST", "/v1/stations/{code}/keys/{key}/revoke"] = _of_station("revoke", None)
RECIPES["POST", "/v1/stations/{code}/keys/{key}/replace"] = _of_station("replace", {"keep_old": "PT0S"})


@recipe("POST", "/v1/platforms/{code}/signing-keys/{key}/revoke")
async def _revoke_signing_key(shop: Shop) -> tuple[str, Any]:
    (key, *_) = (await shop.call("GET", "/v1/platforms/market/signing-keys")).json()["items"]
    return f"/v1/platforms/market/signing-keys/{key['id']}/revoke", None


@recipe("PATCH", "/v1/platforms/{code}/hooks/{hook}")
async def _change_hook(shop: Shop) -> tuple[str, Any]:
    return f"/v1/platforms/shop/hooks/{shop.hooks['woocommerce'].id}", {"secrets": ["a-secret-of-the-shops-own"]}


@recipe("POST", "/v1/deliveries/{delivery}/replay")
async def _replay(shop: Shop) -> tuple[str, Any]:
    await shop.deliver(UNREADABLE)
    return f"/v1/deliveries/{(await shop.log())[0]['id']}/replay", None


async def person(shop: Shop) -> int:
    """The number of the operator `person`, whose password is PASSWORD."""
    found = await shop.world.rows("SELECT id FROM operator WHERE email = 'person@example.com'")
    if not found:
        async with shop.world.pool.acquire() as conn:
            made = await administer.create_operator(
                conn, email="person@example.com", role="viewer", program=shop.world.program, password=PASSWORD
            )
        shop.tokens["person"] = made.token
        found = await shop.world.rows("SELECT id FROM operator WHERE email = 'person@example.com'")
    return int(found[0]["id"])


@recipe("POST", "/v1/operators/sign-in")
async def _sign_in(shop: Shop) -> tuple[str, Any]:
    await person(shop)
    return "/v1/operators/sign-in", {"email": "person@example.com", "password": PASSWORD}


@recipe("POST", "/v1/operators/sign-out")
async def _sign_out(shop: Shop) -> tuple[str, Any]:
    shop.tokens["person"] = (await made(shop, *await _sign_in(shop)))["token"]
    return "/v1/operators/sign-out", None


@recipe("POST", "/v1/operators/me/password")
async def _password(shop: Shop) -> tuple[str, Any]:
    await person(shop)
    return "/v1/operators/me/password", {"current": PASSWORD, "new": PASSWORD}


@recipe("POST", "/v1/operators/{operator}/password")
async def _reset_password(shop: Shop) -> tuple[str, Any]:
    return f"/v1/operators/{await person(shop)}/password", {"password": PASSWORD}


@recipe("PATCH", "/v1/operators/{operator}")
async def _change_operator(shop: Shop) -> tuple[str, Any]:
    return f"/v1/operators/{await person(shop)}", {"role": "fraud"}


@recipe("POST", "/v1/operators/{operator}/tokens")
async def _operator_token(shop: Shop) -> tuple[str, Any]:
    return f"/v1/operators/{await person(shop)}/tokens", {"name": "machine"}


@recipe("POST", "/v1/operators/{operator}/tokens/{token}/revoke")
async def _revoke_operator_token(shop: Shop) -> tuple[str, Any]:
    path, body = await _operator_token(shop)
    return f"{path}/{(await made(shop, path, body))['id']}/revoke", None


ADJUSTED = "a-person-to-whom-we-owe"
ADJUSTMENT = {"platform": "shop", "consumer": ADJUSTED, "reason": REASON, "note": REASON}
BY["POST", "/v1/adjustments/{adjustment}/withdraw"] = "second"


async def _adjusted(shop: Shop) -> None:
    """Somebody to give points to."""
    if not await shop.balance(ADJUSTED):
        await _consumer(shop, ADJUSTED)


@recipe("POST", "/v1/adjustments")
async def _adjust(shop: Shop) -> tuple[str, Any]:
    await _adjusted(shop)
    return "/v1/adjustments", ADJUSTMENT | {"points": 5}


def _decision(step: str) -> Recipe:
    async def prepared(shop: Shop) -> tuple[str, Any]:
        await _adjusted(shop)
        async with shop.world.pool.acquire() as conn:
            if "second" not in shop.tokens:
                shop.tokens["second"] = await _token(conn, "second", "fraud", shop.world.program)
        headers = {"Idempotency-Key": step}
        proposed = await shop.call("POST", "/v1/adjustments", "second", json=ADJUSTMENT | {"points": 5_000}, headers=headers)
        assert proposed.status_code == 201, proposed.text
        return f"/v1/adjustments/{proposed.json()['id']}/{step}", {"note": REASON}

    return prepared


for _step in ("approve", "reject", "withdraw"):
    RECIPES["POST", f"/v1/adjustments/{{adjustment}}/{_step}"] = _decision(_step)


LISTED, DEVICE = "a-person-who-is-listed", "the-telephone-of-a-person"
LISTING = {"list": "block", "reason": REASON}


@recipe("POST", "/v1/fraud/lists")
async def _list(shop: Shop) -> tuple[str, Any]:
    await _consumer(shop, LISTED)
    return "/v1/fraud/lists", LISTING | {"kind": "consumer", "platform": "shop", "consumer": LISTED}


@recipe("DELETE", "/v1/fraud/lists/{entry}")
async def _take_off(shop: Shop) -> tuple[str, Any]:
    return f"/v1/fraud/lists/{(await made(shop, '/v1/fraud/lists', LISTING | {'kind': 'device', 'value': DEVICE}))['id']}", None


async def _fraud_case(shop: Shop, *, alone_points: int) -> int:
    """A case with an event of somebody's that is held."""
    await _consumer(shop, consumer := f"a-suspect-{alone_points}")
    await shop.world.rows(
        "INSERT INTO fraud_policy (program, alone_points) VALUES ($1, $2) ON CONFLICT (program) DO UPDATE SET alone_points = $2",
        shop.world.program, alone_points,
    )  # fmt: skip
    case = await hold(shop.world, f"refill-of-{consumer}")
    await shop.world.rows("UPDATE fraud_case_event SET points = 5")  # whatever its campaign has become
    return case


@recipe("POST", "/v1/fraud/cases/{case}/decision")
async def _decide_case(shop: Shop) -> tuple[str, Any]:
    return f"/v1/fraud/cases/{await _fraud_case(shop, alone_points=1_000)}/decision", {"decision": "reject", "note": REASON}


@recipe("POST", "/v1/fraud/cases/{case}/withdraw")
async def _withdraw_decision(shop: Shop) -> tuple[str, Any]:
    case = await _fraud_case(shop, alone_points=0)
    body = {"decision": "reject", "note": REASON}
    assert (await shop.call("POST", f"/v1/fraud/cases/{case}/decision", json=body)).status_code == 202
    await shop.world.rows("UPDATE fraud_policy SET alone_points = 1000 WHERE program = $1", shop.world.program)  # for the recipes after it
    return f"/v1/fraud/cases/{case}/withdraw", {"note": REASON}


OBJECTING = "a-person-who-objects"
BY["POST", "/v1/consumers/{ref}/events/{event_id}/objection"] = "shop"


async def _held(shop: Shop, name: str) -> str:
    """The path of an objection to an event that is held."""
    paid = order_paid(OBJECTING, order=name)
    await shop.world.credit(paid)
    await reviewing.hold(shop.world, paid["id"])
    return f"/v1/consumers/{OBJECTING}/events/{paid['id']}/objection"


@recipe("POST", "/v1/consumers/{ref}/events/{event_id}/objection")
async def _object(shop: Shop) -> tuple[str, Any]:
    return await _held(shop, "held-1"), {"text": REASON}


@recipe("POST", "/v1/fraud/objections/{objection}/answer")
async def _answer_objection(shop: Shop) -> tuple[str, Any]:
    assert (await shop.call("POST", await _held(shop, "held-2"), "shop", json={"text": REASON})).status_code == 201
    (row,) = await shop.world.rows("SELECT max(event) AS event FROM fraud_objection")
    return f"/v1/fraud/objections/{row['event']}/answer", {"state": "upheld", "answer": REASON}


async def _consumer(shop: Shop, consumer: str) -> str:
    """The path of a consumer who has points, for an administrator."""
    assert (await shop.call("POST", "/v1/events", "shop", json=refill(f"refill-of-{consumer}", consumer))).status_code == 201
    return f"/v1/consumers/{consumer}"


LINKED, OTHER, UNLINKED = "a-person-of-two-shops", "a-person-of-another-shop", "a-person-taken-for-another"
"""Platforms link; that an administrator separates is in this list, too."""
for _step in ("link-codes", "link"):
    BY["POST", f"/v1/consumers/{{ref}}/{_step}"] = "shop"


@recipe("POST", "/v1/consumers/{ref}/link-codes")
async def _make_link_code(shop: Shop) -> tuple[str, Any]:
    return f"{await _consumer(shop, LINKED)}/link-codes", None


@recipe("POST", "/v1/consumers/{ref}/link")
async def _link(shop: Shop) -> tuple[str, Any]:
    assert (await shop.call("POST", "/v1/events", "market", json=refill("refill-elsewhere", OTHER))).status_code == 201
    code = (await shop.call("POST", f"/v1/consumers/{OTHER}/link-codes", "market")).json()["code"]
    return f"{await _consumer(shop, UNLINKED)}/link", {"code": code}


@recipe("DELETE", "/v1/consumers/{ref}/link")
async def _split(shop: Shop) -> tuple[str, Any]:
    person, other = await _consumer(shop, "a-first-name"), await _consumer(shop, "a-second-name")
    code = (await shop.call("POST", f"{other}/link-codes", "shop")).json()["code"]
    assert (await shop.call("POST", f"{person}/link", "shop", json={"code": code})).status_code == 200
    return f"{person}/link?platform=shop", None


@recipe("DELETE", "/v1/consumers/{ref}")
async def _erase(shop: Shop) -> tuple[str, Any]:
    return f"{await _consumer(shop, ERASED)}?platform=shop", None


@recipe("PUT", "/v1/consumers/{ref}/legal-hold")
async def _hold(shop: Shop) -> tuple[str, Any]:
    return f"{await _consumer(shop, HELD)}/legal-hold?platform=shop", {"reason": REASON}


@recipe("DELETE", "/v1/consumers/{ref}/legal-hold")
async def _lift_hold(shop: Shop) -> tuple[str, Any]:
    path = f"{await _consumer(shop, UNHELD)}/legal-hold?platform=shop"
    assert (await shop.call("PUT", path, json={"reason": REASON})).status_code == 200
    return path, None


@recipe("POST", "/v1/privacy-requests/{request_id}/cancel")
async def _cancel_privacy_request(shop: Shop) -> tuple[str, Any]:
    assert (await shop.shopify({"shop_id": 1}, topic="shop/redact", delivery="redact")).status_code == 200
    (asked,) = (await shop.call("GET", "/v1/privacy-requests")).json()["items"]
    return f"/v1/privacy-requests/{asked['id']}/cancel", None


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
    for n, route in enumerate(sorted(routes)):
        path, body = await RECIPES[route](shop)
        before = (await shop.world.rows("SELECT coalesce(max(id), 0) AS id FROM audit"))[0]["id"]
        by = BY.get(route, "admin")
        answer = await shop.call(route[0], path, by, json=body, headers={"X-Request-Id": f"request-{n}", "Idempotency-Key": f"key-{n}"})
        assert answer.status_code in (200, 201, 204), (route, answer.text)
        rows = await shop.world.rows("SELECT * FROM audit WHERE id > $1", before)
        if route in CHANGE_NOTHING:
            assert rows == [], route
            continue
        assert len(rows) == 1, (route, rows)
        row = rows[0]
        operator = await shop.world.rows("SELECT id FROM operator WHERE email = $1", f"{by}@example.com")
        assert row["actor"] == (f"platform:{by}" if by in shop.world.keys else f"operator:{operator[0]['id']}"), route
        assert row["program"] == shop.world.program, route
        assert row["request_id"] == answer.headers.get("X-Request-Id", f"request-{n}"), route
        assert row["action"], route
        assert row["subject"], route
        assert (row["after"] is None) == (route in SAY_NO_MORE), route


async def test_a_refused_change_is_not_in_the_audit(shop: Shop) -> None:
    before = await shop.world.rows("SELECT count(*) FROM audit")
    for path, body in (("/v1/campaigns", {}), ("/v1/platforms", {"code": "shop", "name": "Again"}), ("/v1/deliveries/1/replay", None)):
        assert (await shop.call("POST", path, json=body)).status_code >= 400
    assert await shop.world.rows("SELECT count(*) FROM audit") == before


async def test_the_audit_holds_no_secret_and_no_person(shop: Shop) -> None:
    hidden = {
        PERSON,
        ERASED,
        HELD,
        UNHELD,
        IMPORTED,
        ADJUSTED,
        LISTED,
        DEVICE,
        OBJECTING,
        LINKED,
        OTHER,
        UNLINKED,
        MERCHANT,
        REASON,
        EMAIL,
        "person@example.com",
        PASSWORD,
        SECRET,
        VOUCHER,
        "a-secret-of-the-shops-own",
    }
    hidden |= {hook.secret for hook in shop.hooks.values()}
    for route in sorted(RECIPES):
        path, body = await RECIPES[route](shop)
        called = await shop.call(route[0], path, BY.get(route, "admin"), json=body, headers={"Idempotency-Key": path})
        assert called.status_code in (200, 201, 204), (route, called.text)
        answer = called.json() if called.content else {}
        hidden |= {answer[name] for name in ("key", "api_key", "secret", "password", "token") if answer.get(name)}
        hidden |= {answer["code"]} if route[1].endswith("/link-codes") else set()
        hidden |= {hook["secret"] for hook in (answer.get("hooks") or {}).values()} if isinstance(answer.get("hooks"), dict) else set()
    hidden |= set(shop.tokens.values())
    assert len(hidden) > 25
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

READING = {
    "check", "rebuild", "token", "platform list", "operator list", "keys new-master", "keys status", "export", "backup", "erasures",
    "seals lines", "seals verify", "fraud status", "fraud models", "fraud labels export",
}  # fmt: skip
"""Change nothing that PostgreSQL holds; a consumer's token is signed, not stored."""
RUNNING = {"up", "demo", "serve", "worker", "bench", "migrate", "seals now"}
"""Start programs, bring the schema, do at once what a worker does anyway; what they change is no change of an operator's."""
RECORDED = {
    "program create": "program.create", "platform create": "platform.create", "platform rotate-key": "key.rotate",
    "operator create": "operator.create", "operator reset-password": "operator.password_reset", "operator deactivate": "operator.change",
    "import balances": "balances.import", "keys rotate-master": "master_key.rotate",
    "import certificates": "certificate.import", "import products": "product.register", "import assets": "asset.import",
    "replay": "delivery.replay", "import plastics": "plastics.report", "restore": "database.restore",
    "import vouchers": "voucher.load", "fraud tune": "fraud_model.tune", "fraud labels import": "fraud_label.import",
}  # fmt: skip
"""Tested in tests/local/test_replay_command.py: command -> action."""


def commands(group: Any, path: tuple[str, ...] = ()) -> list[str]:
    found = getattr(group, "commands", None)
    return [" ".join(path)] if found is None else [leaf for name, command in found.items() for leaf in commands(command, (*path, name))]


def test_every_command_that_changes_something_has_a_test_of_its_audit() -> None:
    assert set(commands(cli)) == READING | RUNNING | RECORDED.keys()

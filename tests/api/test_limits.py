"""Rate limits over HTTP: who is limited by how much, what the answers say, and who is left alone."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from litestar import Litestar
from redis.asyncio import Redis
from standardwebhooks import Webhook

from service.api import limits as module
from service.flows import administer
from service.local.ports import choose_port
from service.settings import Settings, SettingsError, load_settings
from tests.api.operators import Operators, _token, make_operators
from tests.beginnings import Begin, Beginning
from tests.sealer import SEALER
from tests.servers import serving
from tests.worlds import order_paid

START = 1_800_000_000.0
"""The beginning of a minute."""
SIGN_IN = "/v1/operators/sign-in"


class Edge:
    """The application, its operators (an administrator of `p` among them) and the time that its limits go by."""

    def __init__(self, app: Litestar, client: httpx.AsyncClient, operators: Operators) -> None:
        self.app, self.client, self.operators = app, client, operators
        self.now = START
        app.state.limits._limiter._clock = lambda: self.now
        self.pool = operators.pool

    def from_address(self, address: str, **headers: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=self.app, client=(address, 1))  # type: ignore[arg-type]
        return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)

    async def call(self, method: str, path: str, role: str, **more: Any) -> httpx.Response:
        return await self.operators.call(method, path, role=role, **more)

    async def limit(self, **limits: Any) -> httpx.Response:
        """As the administrator does it, obeyed once the process has looked."""
        answer = await self.call("PATCH", "/v1/platforms/shop", "admin", json={"limits": limits})
        await self.app.state.callers.refresh()
        return answer

    async def consumer(self, reference: str, platform: str = "shop") -> str:
        async with self.pool.acquire() as conn:
            return await administer.consumer_token(conn, sealer=SEALER, platform=platform, consumer=reference, ttl=timedelta(hours=1))


async def make_callers(app: Litestar, client: httpx.AsyncClient) -> Operators:
    operators = await make_operators(app, client)
    async with operators.pool.acquire() as conn:
        operators.tokens["admin"] = await _token(conn, "admin", "admin", operators.program)
        other = await administer.create_platform(conn, sealer=SEALER, program=operators.program, code="market", name="Market")
        operators.tokens["market"] = other.api_key
    return operators


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Operators]:
    return begin(make_callers, in_app=True)


@pytest.fixture
async def edge(beginning: Beginning[Operators], app: Litestar, client: httpx.AsyncClient) -> Edge:
    return Edge(app, client, beginning.in_app(app, client))


@pytest.fixture
async def small(beginning: Beginning[Operators], settings: Settings) -> AsyncIterator[Edge]:
    """An edge whose settings are small."""
    few = msgspec.structs.replace(
        settings, limit_consumer_per_min=3, limit_operator_per_min=4, limit_sign_in_per_min=2, limit_anonymous_per_min=5,
        trusted_proxies="10.0.0.0/8",
    )  # fmt: skip
    async with serving(few) as (app, client):
        yield Edge(app, client, beginning.in_app(app, client))


async def statuses(call: Callable[[], Any], times: int) -> list[int]:
    return [(await call()).status_code for _ in range(times)]


# Platforms


async def test_out_of_the_box_no_limit_stops_a_platform(edge: Edge) -> None:
    answers = [await edge.call("GET", "/v1/events", "shop") for _ in range(300)]
    assert {a.status_code for a in answers} == {200}
    assert not any(name.startswith("ratelimit") for a in answers for name in a.headers)
    assert edge.app.state.limits._limiter._counts == {}
    assert (await edge.call("GET", "/v1/platforms/shop", "admin")).json()["limits"] == {
        "credit": None, "read": None, "write": None, "hooks": None,
    }  # fmt: skip


async def test_an_operator_limits_a_platform_and_lifts_it(edge: Edge) -> None:
    answer = await edge.limit(credit={"requests": 3, "per_s": 60}, read={"requests": 100, "per_s": 10})
    assert answer.json()["limits"] == {
        "credit": {"requests": 3, "per_s": 60}, "read": {"requests": 100, "per_s": 10}, "write": None, "hooks": None,
    }  # fmt: skip
    answers = [await edge.call("POST", "/v1/events", "shop", json=order_paid()) for _ in range(5)]
    assert [a.status_code for a in answers] == [201, 201, 201, 429, 429]
    assert [a.headers["ratelimit"] for a in answers] == [
        '"credit";r=2;t=60', '"credit";r=1;t=60', '"credit";r=0;t=60', '"credit";r=0;t=80', '"credit";r=0;t=80',
    ]  # fmt: skip
    assert {a.headers["ratelimit-policy"] for a in answers} == {'"credit";q=3;w=60'}
    refused = answers[-1]
    assert (refused.json()["code"], refused.headers["retry-after"], refused.headers["content-type"]) == (
        "rate_limited", "80", "application/problem+json",
    )  # fmt: skip
    assert (await edge.operators.fetch("SELECT count(*) FROM event")) == [(3,)], "a refused request has changed nothing"
    batch = await edge.call("POST", "/v1/events/batch", "shop", json=[order_paid()])
    assert batch.status_code == 429, "batches are of the same class"
    reading = await edge.call("GET", "/v1/events", "shop")
    assert (reading.status_code, reading.headers["ratelimit-policy"]) == (200, '"read";q=100;w=10'), "reading has its own limit"
    assert (await edge.call("POST", "/v1/events", "market", json=order_paid())).status_code == 201, "so have others"

    edge.now += 79.99
    assert (await edge.call("POST", "/v1/events", "shop", json=order_paid())).status_code == 429
    edge.now += 0.01
    assert await statuses(lambda: edge.call("POST", "/v1/events", "shop", json=order_paid()), 2) == [201, 429], "exactly then"

    lifted = await edge.limit(credit=None)
    assert lifted.json()["limits"]["credit"] is None
    assert lifted.json()["limits"]["read"] == {"requests": 100, "per_s": 10}, "what is not named stays"
    assert await statuses(lambda: edge.call("POST", "/v1/events", "shop", json=order_paid()), 5) == [201] * 5
    audited = await edge.operators.fetch("SELECT actor, before, after FROM audit WHERE action = 'platform.change' ORDER BY id")
    assert [(json.loads(before), json.loads(after)) for _, before, after in audited] == [
        ({"limits": {}}, {"limits": {"credit": {"requests": 3, "per_s": 60}, "read": {"requests": 100, "per_s": 10}}}),
        (
            {"limits": {"credit": {"requests": 3, "per_s": 60}, "read": {"requests": 100, "per_s": 10}}},
            {"limits": {"read": {"requests": 100, "per_s": 10}}},
        ),
    ]
    assert all(actor.startswith("operator:") for actor, _, _ in audited)


async def test_all_keys_of_a_platform_share_its_limit(edge: Edge) -> None:
    made = await edge.call("POST", "/v1/platforms/shop/keys", "admin", json={})
    edge.operators.tokens["second"] = made.json()["key"]
    await edge.limit(read={"requests": 3, "per_s": 60})
    assert await statuses(lambda: edge.call("GET", "/v1/events", "shop"), 2) == [200, 200]
    assert await statuses(lambda: edge.call("GET", "/v1/events", "second"), 2) == [200, 429]


async def test_only_administrators_of_the_program_set_limits(edge: Edge) -> None:
    body = {"limits": {"credit": {"requests": 1, "per_s": 1}}}
    for role, status in (("viewer", 403), ("campaigns", 403), ("shop", 403), ("foreign", 404)):
        assert (await edge.call("PATCH", "/v1/platforms/shop", role, json=body)).status_code == status
    assert (await edge.call("PATCH", "/v1/platforms/nobody", "admin", json=body)).status_code == 404
    assert await edge.operators.fetch("SELECT limits FROM platform WHERE limits <> '{}'") == []


@pytest.mark.parametrize(
    ("limits", "pointer"),
    [
        ({"credit": {"requests": 0, "per_s": 60}}, "/limits/credit/requests"),
        ({"credit": {"requests": 10**9 + 1, "per_s": 60}}, "/limits/credit/requests"),
        ({"credit": {"requests": 1, "per_s": 0}}, "/limits/credit/per_s"),
        ({"credit": {"requests": 1, "per_s": 86_401}}, "/limits/credit/per_s"),
        ({"credit": {"requests": 1}}, "/limits/credit"),
        ({"credits": {"requests": 1, "per_s": 1}}, "/limits"),
        ({"me": {"requests": 1, "per_s": 1}}, "/limits"),
    ],
)
async def test_a_limit_that_is_none_is_refused(edge: Edge, limits: Any, pointer: str) -> None:
    answer = await edge.limit(**limits)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_a_platform_behind_a_full_address_goes_on(small: Edge) -> None:
    async with small.from_address("203.0.113.7") as somebody:
        assert await statuses(lambda: somebody.get("/v1/events", headers={"Authorization": "Bearer nonsense"}), 7) == [401] * 5 + [429] * 2
        proof = {"Authorization": f"Bearer {small.operators.tokens['shop']}"}
        assert await statuses(lambda: somebody.get("/v1/events", headers=proof), 20) == [200] * 20
        mine = {"Authorization": f"Bearer {await small.consumer('c-1')}"}
        assert (await somebody.get("/v1/me/balance", headers=mine)).status_code == 200
        assert (await somebody.get("/v1/events/nothing", headers=proof)).status_code == 404, "his own 404 is no anonymous one"


# Consumers and operators


async def test_a_consumer_is_limited_whatever_token_he_shows(small: Edge) -> None:
    tokens = [await small.consumer("c-1") for _ in range(2)]
    tokens[1] = await small.consumer("c-1")
    answers = [await small.client.get("/v1/me/balance", headers={"Authorization": f"Bearer {tokens[n % 2]}"}) for n in range(5)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
    assert answers[0].headers["ratelimit-policy"] == '"me";q=3;w=60'
    assert answers[4].headers["retry-after"] == "80"
    other = await small.client.get("/v1/me/activity", headers={"Authorization": f"Bearer {await small.consumer('c-2')}"})
    assert (other.status_code, other.headers["ratelimit"]) == (200, '"me";r=2;t=60')
    namesake = await small.client.get("/v1/me/balance", headers={"Authorization": f"Bearer {await small.consumer('c-1', 'market')}"})
    assert namesake.status_code == 200, "another platform's consumer of this name is somebody else"


async def test_a_first_request_of_a_token_counts_too(small: Edge) -> None:
    async def fresh() -> httpx.Response:
        small.app.state.callers.forget()
        return await small.client.get("/v1/me/balance", headers={"Authorization": f"Bearer {await small.consumer('c-1')}"})

    assert await statuses(fresh, 4) == [200, 200, 200, 429]


async def test_an_operator_is_limited_reading_and_writing_each(small: Edge) -> None:
    assert await statuses(lambda: small.call("GET", "/v1/campaigns", "viewer"), 5) == [200] * 4 + [429]
    assert await statuses(lambda: small.call("POST", "/v1/products", "campaigns", json={}), 5) == [422] * 4 + [429]
    assert (await small.call("GET", "/v1/campaigns", "campaigns")).status_code == 200


def test_the_defaults_are_those_of_the_documents(settings: Settings) -> None:
    assert (
        settings.limit_consumer_per_min, settings.limit_operator_per_min, settings.limit_sign_in_per_min, settings.limit_anonymous_per_min,
    ) == (3_000, 6_000, 30, 600)  # fmt: skip


async def test_limits_of_0_are_none(beginning: Beginning[Operators], settings: Settings) -> None:
    off = msgspec.structs.replace(
        settings, limit_consumer_per_min=0, limit_operator_per_min=0, limit_sign_in_per_min=0, limit_anonymous_per_min=0
    )
    async with serving(off) as (app, client):
        edge = Edge(app, client, beginning.in_app(app, client))
        token = await edge.consumer("c-1")
        for _ in range(200):
            assert (await client.get("/v1/events")).status_code == 401
            assert (await client.post(SIGN_IN)).status_code in (400, 401, 404, 405, 415, 422)
        answer = await client.get("/v1/me/balance", headers={"Authorization": f"Bearer {token}"})
        assert "ratelimit" not in answer.headers
        assert edge.app.state.limits._limiter._counts == {}


# Addresses


async def test_signing_in_is_limited_by_address(small: Edge) -> None:
    async with small.from_address("203.0.113.7") as one, small.from_address("203.0.113.8") as other:
        for path in (SIGN_IN, "/v1/oauth/token"):
            assert 429 not in await statuses(lambda path=path: one.post(path, json={}), 1)  # type: ignore[misc]
        refused = await one.post(SIGN_IN, json={}, headers={"Authorization": f"Bearer {small.operators.tokens['admin']}"})
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (429, "rate_limited", "90")
        assert refused.headers["ratelimit-policy"] == '"sign_in";q=2;w=60'
        assert (await other.post(SIGN_IN, json={})).status_code != 429


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v1/events", {}, 401),
        ("POST", "/v1/events", {"Authorization": "Bearer gpk_live_unknown"}, 401),
        ("GET", "/v1/me/balance", {"Authorization": "Bearer a.b.c"}, 401),
        ("GET", "/v1/nothing", {"Authorization": "nonsense"}, 404),
        ("DELETE", "/v1/me/balance", {}, 405),
        ("POST", "/v1/hooks/unknown", {}, 404),
        ("GET", "/docs", {"Authorization": "nonsense"}, 200),
        ("GET", "/openapi.json", {}, 200),
    ],
)
async def test_who_proves_nothing_is_limited_by_address(small: Edge, method: str, path: str, headers: dict[str, str], status: int) -> None:
    async with small.from_address("203.0.113.7") as one, small.from_address("203.0.113.8") as other:
        assert await statuses(lambda: one.request(method, path, headers=headers), 5) == [status] * 5
        refused = await one.request(method, path, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert (refused.headers["ratelimit-policy"], refused.headers["retry-after"]) == ('"anonymous";q=5;w=60', "72")
        assert "request-id" in refused.headers
        assert (await other.request(method, path, headers=headers)).status_code == status
        small.now += 72
        assert await statuses(lambda: one.request(method, path, headers=headers), 2) == [status, 429]


async def test_a_crowded_address_without_proof_is_refused_before_it_is_read(small: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    async with small.from_address("203.0.113.7") as one:
        assert await statuses(lambda: one.get("/v1/events"), 6) == [401] * 5 + [429]
        monkeypatch.setattr(small.app.state, "callers", None)  # whoever asks it is answered 500
        assert (await one.get("/v1/events")).status_code == 429
        small.now += 600
        assert (await one.get("/docs")).status_code == 200


async def test_health_and_metrics_are_never_limited(small: Edge) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert await statuses(lambda path=path: small.client.get(path), 20) == [200] * 20  # type: ignore[misc]
    assert await statuses(lambda: small.client.get("/v1/events"), 6) == [401] * 5 + [429]
    assert await statuses(lambda: small.client.get("/healthz"), 20) == [200] * 20


async def test_a_spoofed_address_is_not_believed(small: Edge) -> None:
    async with small.from_address("203.0.113.7") as client:
        spoofed = [await client.get("/v1/events", headers={"X-Forwarded-For": f"198.51.100.{n}"}) for n in range(6)]
        assert [a.status_code for a in spoofed] == [401] * 5 + [429], "nobody trusts this peer"
    async with small.from_address("10.0.0.1") as proxy:
        honest = [await proxy.get("/v1/events", headers={"X-Forwarded-For": f"6.6.6.{n}, 198.51.100.7"}) for n in range(6)]
        assert [a.status_code for a in honest] == [401] * 5 + [429], "what stands left of the client's address is the client's own"
        assert (await proxy.get("/v1/events", headers={"X-Forwarded-For": "198.51.100.8"})).status_code == 401


async def test_addresses_beyond_their_limit_are_remembered_up_to_a_bound(small: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CROWDED", 3)
    for n in range(6):
        async with small.from_address(f"203.0.113.{n}") as client:
            assert await statuses(lambda client=client: client.get("/docs"), 6) == [200] * 5 + [429]  # type: ignore[misc]
    assert len(small.app.state.limits._crowded) == 3


async def test_trouble_of_ours_is_not_counted_against_the_address(small: Edge) -> None:
    await small.pool.execute("ALTER TABLE api_key RENAME TO gone")
    calls = await statuses(lambda: small.call("GET", "/v1/events", "shop", headers={}), 8)
    assert 429 not in calls
    assert all(status >= 500 for status in calls)


@pytest.mark.parametrize("text", ["nonsense", "10.0.0.1/8"])
def test_proxies_that_are_no_networks_are_refused_at_the_start(settings: Settings, text: str) -> None:
    environ = {
        f"GREENPOINTS_{name}".upper(): str(getattr(settings, name)) for name in ("database_url", "balance_redis_url", "queue_redis_url")
    }
    with pytest.raises(SettingsError, match="TRUSTED_PROXIES"):
        load_settings(environ | {"GREENPOINTS_TRUSTED_PROXIES": text})


# Hooks


async def test_a_hook_has_the_limit_of_its_platform_and_bad_signatures_count_for_the_address(small: Edge) -> None:
    made = (await small.call("POST", "/v1/platforms/shop/hooks", "admin", json={"connector": "standard"})).json()
    other = (await small.call("POST", "/v1/platforms/shop/hooks", "admin", json={"connector": "standard"})).json()
    await small.limit(hooks={"requests": 2, "per_s": 60})

    async def deliver(client: httpx.AsyncClient, hook: dict[str, Any], *, secret: str | None = None) -> httpx.Response:
        now = datetime.now(UTC)
        body = json.dumps({"type": "order.paid", "timestamp": now.isoformat(), "data": order_paid()})
        signature = Webhook(secret or hook["secret"]).sign("msg", now, body)
        headers = {"webhook-id": "msg", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
        return await client.post(f"/v1/hooks/{hook['id']}", content=body, headers=headers)

    async with small.from_address("203.0.113.7") as sender:
        forged = [await deliver(sender, made, secret=other["secret"]) for _ in range(7)]
        assert [a.status_code for a in forged] == [401] * 5 + [429] * 2
        answers = [await deliver(sender, made) for _ in range(3)]
        assert [a.status_code for a in answers] == [200, 200, 429], "forgeries used nothing of the hook's own limit"
        assert (answers[2].headers["ratelimit-policy"], answers[2].headers["retry-after"]) == ('"hooks";q=2;w=60', "90")
        assert (await deliver(sender, other)).status_code == 200, "each hook has its own"


# Redis


async def test_with_redis_gone_limits_go_on(beginning: Beginning[Operators], settings: Settings) -> None:
    nowhere = f"redis://127.0.0.1:{choose_port()}/0"
    async with serving(msgspec.structs.replace(settings, balance_redis_url=nowhere, limit_consumer_per_min=3)) as (app, client):
        edge = Edge(app, client, beginning.in_app(app, client))
        mine = {"Authorization": f"Bearer {await edge.consumer('c-1')}"}
        assert await statuses(lambda: client.get("/v1/me/balance", headers=mine), 5) == [200, 200, 200, 429, 429]
        await app.state.limits._limiter.exchange()
        assert app.state.limits._limiter.failures >= 1
        assert (await client.get("/v1/me/balance", headers=mine)).status_code == 429


async def test_two_applications_share_a_limit_and_redis_knows_nobody(small: Edge, settings: Settings, redis_url: str) -> None:
    async with serving(msgspec.structs.replace(settings, limit_consumer_per_min=3)) as (app, client):
        app.state.limits._limiter._clock = lambda: small.now
        mine = {"Authorization": f"Bearer {await small.consumer('very-private-name')}"}
        assert await statuses(lambda: small.client.get("/v1/me/balance", headers=mine), 3) == [200, 200, 200]
        assert (await client.get("/v1/me/balance", headers=mine)).status_code == 200, "it has not heard yet"
        async with asyncio.timeout(20):  # a busy machine may miss an exchange, which is then made up for
            while (await client.get("/v1/me/balance", headers=mine)).status_code != 429:
                await asyncio.gather(*(a.state.limits._limiter.exchange() for a in (small.app, app)))
    async with Redis.from_url(redis_url) as redis:
        keys = await redis.keys("gp:{limits}*")
        assert keys
        assert not any(b"very-private" in key for key in keys)

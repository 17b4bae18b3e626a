"""Bad input to the events' routes: a clear problem document with the right status and pointer, and nothing changed."""

import gzip
import json
from collections.abc import AsyncIterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from litestar import Litestar

from service.flows import administer
from tests.api.operators import _token
from tests.beginnings import Begin, Beginning
from tests.sealer import SEALER
from tests.worlds import World, order_paid, refund

JSON = {"Content-Type": "application/json"}
DEEP = 100_000
SINGLE_BYTES = 262_144
BULK_BYTES = 8 * 2**20


class Shop:
    """A platform that calls the real application."""

    def __init__(self, world: World, client: httpx.AsyncClient) -> None:
        self.world = world
        self.client = client
        self.proof = {"Authorization": f"Bearer {world.keys['shop']}"}

    async def send(
        self, content: Any, path: str = "/v1/events", *, method: str = "POST", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        body = content if isinstance(content, bytes) or hasattr(content, "__aiter__") else json.dumps(content).encode()
        return await self.client.request(method, path, content=body, headers=self.proof | JSON | (headers or {}))

    async def counts(self) -> dict[str, int]:
        """Rows of every table."""
        tables = [r["relname"] for r in await self.world.rows("SELECT relname FROM pg_stat_user_tables ORDER BY 1")]
        (row,) = await self.world.rows("SELECT " + ", ".join(f'(SELECT count(*) FROM "{t}") AS "{t}"' for t in tables))
        return row


async def open_shop(app: Litestar, client: httpx.AsyncClient) -> Shop:
    world = await World(app.state.resources.pool).found()
    await world.campaign()
    return Shop(world, client)


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Shop]:
    return begin(open_shop, in_app=True)


def problem(response: httpx.Response, status: int, code: str, pointer: str | None = None) -> str | None:
    """What is wrong with a problem document; None: nothing."""
    if response.status_code != status:
        return f"{response.status_code} instead of {status}: {response.text[:200]}"
    if response.headers["content-type"] != "application/problem+json":
        return f"content type {response.headers['content-type']}"
    body = response.json()
    if (body["code"], body["status"], body["type"]) != (code, status, f"/problems/{code}") or not body["title"] or not body["detail"]:
        return f"{body} instead of {code}"
    if pointer is not None and [e["pointer"] for e in body.get("errors", ())][:1] != [pointer]:
        return f"points at {[e['pointer'] for e in body.get('errors', ())]} instead of {pointer!r}"
    leaks = [word for word in ("Traceback", "SELECT", "INSERT", "asyncpg", "msgspec", 'File "') if word in response.text]
    return f"leaks {leaks}" if leaks else None


def changed(pointer: str, value: Any, base: dict[str, Any] | None = None) -> dict[str, Any]:
    """A valid event, but for one value; `...` leaves it out."""
    event: Any = deepcopy(base or order_paid())
    *path, last = pointer.strip("/").split("/")
    place = event
    for step in path:
        place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
    key: Any = int(last) if isinstance(place, list) else last
    if value is ...:
        del place[key]
    else:
        place[key] = value
    return event


def soon(**ahead: float) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat()


RETURNED = {
    "id": "back", "type": "packaging.returned", "occurred_at": "2026-01-01T00:00:00Z", "consumer": "c",
    "returns": [{"class": "circular_box", "quantity": "1", "mass_g": "10"}],
}  # fmt: skip
REFUNDED = refund(order_paid(), "r", 1)
NAMES = ["", "x" * 129, "a\u0000b", "a\nb", "a\n", "a\u2028b", "\x7f", "\x85", 5, 2**53 + 1, 1.5, None, True, ["a"], {"a": 1}]
MONEY = [
    128.0,
    128,
    1e300,
    "1e5",
    "-1.00",
    "NaN",
    "Infinity",
    "1.0000001",
    "１２",
    "1,000.00",
    " 1",
    "1\n",
    "",
    "0x10",
    "9" * 16,
    None,
    True,
]
QUANTITIES = [2.5, -1, "-1", "0", 0, True, "1e3", "NaN", "", " 1", "1\n", "２", "1.0000001", 10**13, 2**63, 2**64, None, [1]]
TIMES = [
    "2026-01-01T00:00:00", "2026-01-01", "2026-13-01T00:00:00Z", "yesterday", 1767225600, None, "1999-12-31T23:59:59Z", soon(hours=1),
    "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00Z\n",
]  # fmt: skip
NESTED: dict[str, Any] = {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}}}}

WRONG_VALUES: list[tuple[str, Any, dict[str, Any]]] = [
    *(("/id", name, order_paid()) for name in [*NAMES, ...]),
    *(("/consumer", name, order_paid()) for name in [n for n in NAMES if n is not None]),
    ("/consumer", ..., order_paid()),
    *(("/order/id", name, order_paid()) for name in [*NAMES, ...]),
    *(("/refund/id", name, REFUNDED) for name in [*NAMES, ...]),
    *(("/lines/0/id", name, order_paid()) for name in [*NAMES, ...]),
    *(("/order/total", money, order_paid()) for money in [*MONEY, ...]),
    *(("/lines/0/unit_price", money, order_paid()) for money in [m for m in MONEY if m is not None]),
    *(("/lines/0/amount", money, order_paid()) for money in [m for m in MONEY if m is not None]),
    *(("/refund/amount", money, REFUNDED) for money in [m for m in MONEY if m is not None]),
    *(("/lines/0/quantity", quantity, order_paid()) for quantity in QUANTITIES),
    *(("/returns/0/quantity", quantity, RETURNED) for quantity in QUANTITIES),
    *(("/returns/0/mass_g", mass, RETURNED) for mass in [1.5, -1, "-1", "1e3", "NaN", "", True, 2**64]),
    *(("/occurred_at", time, order_paid()) for time in [*TIMES, ...]),
    *(("/type", kind, order_paid()) for kind in ["order.stolen", "", 1, None, ...]),
    *(("/order/currency", currency, order_paid()) for currency in ["cny", "CNYX", "", 1, "CN\n", None, ...]),
    *(
        ("/lines/0/gtin", gtin, order_paid())
        for gtin in ["6901234567893", "abc", "", "69012345678921234", "６９０１２３４５６７８９２", 6901234567892]
    ),
    *(("/lines/0/sku", sku, order_paid()) for sku in ["x" * 257, "a\nb", 7]),
    ("/lines", {}, order_paid()),
    ("/lines", [{"id": str(n)} for n in range(501)], order_paid()),
    ("/lines/0", "line", order_paid()),
    ("/order", [], order_paid()),
    ("/order", ..., order_paid()),
    ("/attributes", NESTED, order_paid()),
    ("/attributes", {"a": "x" * 8_200}, order_paid()),
    ("/attributes", [], order_paid()),
    ("/packaging/class", "golden_box", changed("/packaging", {"class": "circular_box"})),
    ("/packaging/class", ..., changed("/packaging", {"class": "circular_box"})),
    ("/packaging/parcels", 0, changed("/packaging", {"class": "circular_box"})),
    ("/packaging/parcels", 1.5, changed("/packaging", {"class": "circular_box"})),
    ("/packaging/assets", ["a"] * 1_001, changed("/packaging", {"class": "circular_box"})),
    ("/refund", ..., REFUNDED),
    ("/refund", {"id": "r"}, REFUNDED),
    ("/refund/lines/0", {"id": "1"}, REFUNDED),
    ("/returns", [], RETURNED),
    ("/returns", ..., RETURNED),
    ("/returns/0/class", "golden_box", RETURNED),
    ("/returns/0/proof", "x" * 4_097, RETURNED),
]

NO_JSON: list[bytes] = [
    b"", b"{", b"not json", b'{"id": "a",}', b"{'id': 'a'}", b"\xff\xfe\x00", b'{"id": "\xff"}', b'{"id": "\\ud800"}', b'{"id": "\\udc00\\ud800"}',
    b'{"id": "a", "attributes": {"n": NaN}}', b'{"id": "a", "attributes": {"n": Infinity}}', b'{"attributes": {"n": 1e999}}',
    b'{"id": "a"} {"id": "b"}', b"[" * DEEP, b'{"a":' * 40_000, b'{"attributes": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    b'{"id": "a\nb"}', b'\xef\xbb\xbf{"id": "a"}', b'{"id": 01}',
]  # fmt: skip


async def test_every_wrong_value_is_pointed_at(shop: Shop) -> None:
    before = await shop.counts()
    faults = {}
    for n, (pointer, value, base) in enumerate(WRONG_VALUES):
        response = await shop.send(changed(pointer, value, base))
        fault = problem(response, 422, "invalid_request", pointer)
        if fault and value is ...:  # what is not there cannot be pointed at: its parent may be
            fault = problem(response, 422, "invalid_request", pointer.rpartition("/")[0])
        if fault:
            faults[f"{n}: {pointer} = {str(value)[:60]!r}"] = fault
    twice = order_paid()
    twice["lines"].append(twice["lines"][0])
    for body, pointer in ((twice, "/lines/1/id"), ([order_paid()], ""), ("text", ""), (7, ""), (None, ""), (True, "")):
        if fault := problem(await shop.send(body), 422, "invalid_request", pointer):
            faults[str(body)[:60]] = fault
    assert faults == {}
    assert await shop.counts() == before


async def test_what_is_no_json_is_refused(shop: Shop) -> None:
    before = await shop.counts()
    faults = {}
    for body in NO_JSON:
        for path in ("/v1/events", "/v1/events/batch"):
            if body.startswith(b"[" * 9) and path.endswith("batch"):
                continue  # told apart below: a list may hold anything
            if fault := problem(await shop.send(body, path), 400, "malformed_json"):
                faults[path, body[:60]] = fault
    assert faults == {}
    assert await shop.counts() == before


async def test_who_may_not_call(shop: Shop, app: Litestar) -> None:
    async with shop.world.pool.acquire() as conn:
        operator = await _token(conn, "somebody", "admin", shop.world.program)
        consumer = await administer.consumer_token(conn, sealer=SEALER, platform="shop", consumer="c", ttl=timedelta(hours=1))
    key = shop.world.keys["shop"]
    before = await shop.counts()
    wrong = [
        ("", 401), (key, 401), (f"Basic {key}", 401), ("Bearer ", 401), (f"Bearer {key}x", 401), (f"Bearer {key[:-1]}", 401), ("Bearer gpk_" + "a" * 40, 401),
        ("Bearer " + "g" * 100_000, 401), (f"Bearer {key} {key}", 401), ("Bearer gpk_\u00e9".encode("latin-1").decode("latin-1"), 401),
        (f"Bearer {operator}", 403), (f"Bearer {consumer}", 403), (f"Bearer {consumer[:-4]}AAAA", 401),
    ]  # fmt: skip
    faults = {}
    for value, status in wrong:
        for path in ("/v1/events", "/v1/events/batch"):
            headers = JSON | ({"Authorization": value} if value else {})
            response = await shop.client.post(
                path, content=json.dumps(order_paid()).encode(), headers=[(k.encode(), v.encode("latin-1")) for k, v in headers.items()]
            )
            fault = problem(response, status, "unauthenticated" if status == 401 else "forbidden")
            if fault or (status == 401 and not response.headers.get("www-authenticate")):
                faults[value[:40], path] = fault
    assert faults == {}
    assert await shop.counts() == before


async def test_size_type_and_address(shop: Shop) -> None:
    before = await shop.counts()

    async def stream(size: int) -> AsyncIterator[bytes]:
        for _ in range(0, size, 65_536):
            yield b" " * 65_536

    event = json.dumps(order_paid()).encode()
    checks: list[tuple[Any, int, str]] = [
        (shop.send(b" " * (SINGLE_BYTES + 1)), 413, "payload_too_large"),
        (shop.send(stream(SINGLE_BYTES * 2)), 413, "payload_too_large"),
        (shop.send(b" " * (BULK_BYTES + 1), "/v1/events/batch"), 413, "payload_too_large"),
        (shop.send(stream(BULK_BYTES + 65_536), "/v1/events/batch"), 413, "payload_too_large"),
        (shop.send(event, headers={"Content-Length": str(10**12)}), 413, "payload_too_large"),
        (shop.send(event, headers={"Content-Type": "text/plain"}), 415, "unsupported_media_type"),
        (shop.send(event, headers={"Content-Type": "application/xml"}), 415, "unsupported_media_type"),
        (shop.send(event, headers={"Content-Type": "application/x-www-form-urlencoded"}), 415, "unsupported_media_type"),
        (shop.send(b"[" + event + b"]", "/v1/events/batch", headers={"Content-Type": "text/csv"}), 415, "unsupported_media_type"),
        (shop.send(gzip.compress(event), headers={"Content-Encoding": "gzip"}), 415, "unsupported_media_type"),
        (shop.send(gzip.compress(event), "/v1/events/batch", headers={"Content-Encoding": "gzip"}), 415, "unsupported_media_type"),
        (shop.send(gzip.compress(event)), 400, "malformed_json"),
        (shop.send(event, method="PUT"), 405, "method_not_allowed"),
        (shop.send(event, method="DELETE"), 405, "method_not_allowed"),
        (shop.send(event, "/v1/consumers/c/balance"), 405, "method_not_allowed"),
        (shop.send(event, "/v1/nothing"), 404, "not_found"),
        (shop.send(event, "/v2/events"), 404, "not_found"),
        (shop.send(event, "/v1/events?dry_run=perhaps"), 422, "invalid_request"),
        (shop.send(event, "/v1/events?as_of=2026-01-01T00:00:00Z"), 422, "invalid_request"),
        (shop.send(event, "/v1/events?dry_run=true&as_of=2026-01-01T00:00:00"), 422, "invalid_request"),
        (shop.send(event, "/v1/events?dry_run=true&as_of=tomorrow"), 422, "invalid_request"),
        (shop.send(b"", "/v1/events?limit=0", method="GET"), 422, "invalid_request"),
        (shop.send(b"", "/v1/events?limit=201", method="GET"), 422, "invalid_request"),
        (shop.send(b"", "/v1/events?cursor=%00%ff", method="GET"), 422, "invalid_request"),
        (shop.send(b"", "/v1/events?status=perhaps", method="GET"), 422, "invalid_request"),
        (shop.send(b"", "/v1/consumers/c/balance?min_version=-1", method="GET"), 422, "invalid_request"),
        (shop.send(b"", "/v1/consumers/c/balance?min_version=99999999999999999999", method="GET"), 422, "invalid_request"),
        (shop.send({"not": "a list"}, "/v1/events/batch"), 422, "invalid_request"),
        (shop.send(7, "/v1/events/batch"), 422, "invalid_request"),
        (shop.send([1] * 5_001, "/v1/events/batch"), 422, "invalid_request"),
        (shop.send(b"1\n" * 5_001, "/v1/events/batch", headers={"Content-Type": "application/x-ndjson"}), 422, "invalid_request"),
        (shop.send(b"[" + event, "/v1/events/batch"), 400, "malformed_json"),
        (shop.send(b"[" + event + b",]", "/v1/events/batch"), 400, "malformed_json"),
    ]  # fmt: skip
    faults = {}
    for n, (request, status, code) in enumerate(checks):
        if fault := problem(await request, status, code):
            faults[n] = fault
    assert faults == {}
    assert await shop.counts() == before


async def test_bad_events_never_block_the_good_ones(shop: Shop) -> None:
    good, bad = order_paid("a"), order_paid("b") | {"occurred_at": "2026-01-01T00:00:00"}
    lines = [json.dumps(good), "{broken", json.dumps(bad), "[" * DEEP, '"text"', json.dumps(order_paid("c")), json.dumps(good)]
    answer = (await shop.send("\n".join(lines).encode(), "/v1/events/batch", headers={"Content-Type": "application/x-ndjson"})).json()
    assert (answer["accepted"], answer["duplicates"], answer["rejected"]) == (2, 1, 4)
    codes = [result.get("code", result["status"]) for result in answer["results"]]
    assert codes == ["pending", "malformed_json", "invalid_request", "malformed_json", "invalid_request", "pending", "pending"]
    assert answer["results"][2]["errors"][0]["pointer"] == "/occurred_at"
    again = (
        await shop.send([order_paid("d"), changed("/lines/0/quantity", 1.5), good | {"consumer": "x"}, good], "/v1/events/batch")
    ).json()
    assert (again["accepted"], again["duplicates"], again["rejected"]) == (1, 1, 2)
    assert [r.get("code") for r in again["results"]] == [None, "invalid_request", "id_reused", None]
    assert again["results"][1]["errors"][0]["pointer"] == "/lines/0/quantity"
    deep = b"[" + json.dumps(order_paid("e")).encode() + b"," + b"[" * DEEP + b"]" * DEEP + b"]"
    assert problem(await shop.send(deep, "/v1/events/batch"), 400, "malformed_json") is None
    empty = (await shop.send([], "/v1/events/batch")).json()
    assert empty == {"accepted": 0, "duplicates": 0, "rejected": 0, "results": []}
    assert (await shop.counts())["event"] == 3


async def test_a_changed_repeat_changes_nothing(shop: Shop) -> None:
    event = order_paid("c")
    first = await shop.send(event)
    assert first.status_code == 201
    before = await shop.counts()
    for other in (
        event | {"consumer": "thief"},
        changed("/order/total", "1.00", event),
        changed("/lines/0/quantity", 1, event),
        event | {"extra": 1},
    ):
        assert problem(await shop.send(other), 409, "id_reused") is None
    spaced = json.dumps(dict(reversed(event.items())), indent=3, ensure_ascii=True).encode()
    again = await shop.send(spaced)
    assert (again.status_code, again.headers["Idempotency-Replayed"], again.json()) == (200, "true", first.json())
    assert await shop.counts() == before


async def test_nobody_sees_or_takes_what_another_platform_has(shop: Shop) -> None:
    event = order_paid("c")
    await shop.send(event)
    market = {"Authorization": f"Bearer {shop.world.keys['market']}"}
    path = f"/v1/events/{quote(event['id'], safe='')}"
    assert (await shop.send(b"", path, method="GET")).json()["points"] == 10
    before = await shop.counts()
    assert problem(await shop.send(b"", path, method="GET", headers=market), 404, "not_found") is None
    assert problem(await shop.send(b"", "/v1/consumers/c/balance", method="GET", headers=market), 404, "not_found") is None
    assert problem(await shop.send(b"", "/v1/consumers/c/activity", method="GET", headers=market), 404, "not_found") is None
    assert (await shop.send(b"", "/v1/events?consumer=c", method="GET", headers=market)).json()["items"] == []
    assert await shop.counts() == before
    back = refund(event, "r", 1)
    parked = await shop.send(back, headers=market)
    assert parked.json()["status"] == "parked", "another platform's order of that number is another order"
    own = await shop.send(event | {"consumer": "other"}, headers=market)
    assert own.status_code == 201, "ids are each platform's own"
    assert (await shop.send(b"", "/v1/consumers/c/balance", method="GET")).json()["pending"] == 10


async def test_names_that_need_encoding(shop: Shop) -> None:
    for name in ("a/b:c", "100%", "%2F", "ü ß", "?q=1#x", "..", "../..", "a\\b", "😀", "+", "&", "e'; DROP TABLE event; --", "x" * 128):
        event = order_paid(name, order=name) | {"id": name}
        assert (await shop.send(event)).status_code == 201, name
        encoded = quote(name, safe="").replace(".", "%2E")
        found = await shop.send(b"", f"/v1/events/{encoded}", method="GET")
        assert (found.status_code, found.json().get("id")) == (200, name)
        balance = await shop.send(b"", f"/v1/consumers/{encoded}/balance", method="GET")
        assert (balance.status_code, balance.json().get("consumer")) == (200, name)
    for encoded in ("%00", "%ff", "%0a", "a%0a", "x" * 129, "%ED%A0%80"):
        assert problem(await shop.send(b"", f"/v1/events/{encoded}", method="GET"), 404, "not_found") is None
        assert problem(await shop.send(b"", f"/v1/consumers/{encoded}/balance", method="GET"), 404, "not_found") is None


async def test_odd_but_honest_input_is_taken(shop: Shop) -> None:
    event = order_paid("c")
    doubled = json.dumps(event)[:-1] + f', "id": {json.dumps(event["id"] + "-last")}}}'
    assert (await shop.send(doubled.encode())).json()["id"] == event["id"] + "-last", "of two equal keys the last one counts, everywhere"
    free = {
        "big": 2**70,
        "negative": -(2**63) - 1,
        "float": 1.5e300,
        "null": None,
        "text": "a\u0000b\n\u2028",
        "list": [[], {}],
        "device": {"id": 2**64},
    }
    assert (await shop.send(order_paid("c") | {"attributes": free})).status_code == 201
    for evidence in (
        {"mass_g": "²"},
        {"mass_g": "١٢"},
        {"mass_g": 2**70},
        {"mass_g": -5},
        {"mass_g": True},
        {"mass_g": "9" * 5_000},
        {"mass_g": 1.5},
        free,
    ):
        done = {
            "id": f"act-{len(str(evidence))}-{evidence!s:.20}",
            "type": "activity.completed",
            "activity": "refill",
            "evidence": evidence,
        }
        response = await shop.send(done | {"occurred_at": event["occurred_at"], "consumer": "c"})
        assert response.status_code == 201, (evidence, response.text)
    assert (await shop.send(event | {"occurred_at": soon(minutes=4), "id": "ahead"})).status_code == 201
    assert (await shop.send(changed("/lines/0/quantity", 3, order_paid("c")))).json()["points"] == 30


async def test_odd_values_do_not_break_conditions(shop: Shop) -> None:
    """A campaign looks at what a platform sends; what cannot be compared does not match."""
    await shop.world.campaign(action="activity", when="activity.evidence.n > 5", award={"kind": "fixed", "points": 3})
    await shop.world.campaign(action="activity", award={"kind": "per_kg", "points": 3})
    values: list[Any] = [2**70, -(2**70), 1.5, "text", None, [1], {"a": 1}, True, "\u0000", 7]
    answers = []
    for n, value in enumerate(values):
        done = {"id": f"n-{n}", "type": "activity.completed", "activity": "refill", "occurred_at": soon(), "consumer": "c"}
        response = await shop.send(done | {"evidence": {"n": value, "mass_g": ["²", "9" * 4_000, 2**70, "1500"][n % 4]}})
        assert response.status_code == 201, (value, response.text)
        answers.append(response.json())
    assert [a["points"] for a in answers if a["id"] in ("n-3", "n-7")] == [4, 4], "3 points a kilogram: 4.5 for 1.5 kg, rounded down"

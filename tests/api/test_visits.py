"""Request ids: on every answer, every log line of the request and every audit row."""

import asyncio
import re
from typing import Any

import httpx
import pytest
import structlog
from litestar import Litestar

from schemas.bounds import MAX_REQUEST_ID_CHARS
from service.api import hooks, problems
from tests.api.operators import Operators

MADE = re.compile(r"^[0-9a-f]{8}-[0-9a-f]+$")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/events", 401),
        ("GET", "/v1/me/balance", 401),
        ("GET", "/v1/events", 401),
        ("POST", "/v1/hooks/nobody", 404),
        ("GET", "/v1/nothing/here", 404),
        ("GET", "/v1/nothing%2Fhere", 404),
        ("DELETE", "/v1/events", 405),
        ("OPTIONS", "/v1/events", 204),
        ("HEAD", "/v1/me/balance", 405),
        ("GET", "/docs", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 200),
    ],
)
async def test_every_answer_has_the_id_that_was_sent_or_a_new_one(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    answer = await client.request(method, path, headers={"Request-Id": "mine-7"})
    assert (answer.status_code, answer.headers.get_list("request-id")) == (status, ["mine-7"])
    first, second = [(await client.request(method, path)).headers["request-id"] for _ in range(2)]
    assert MADE.match(first)
    assert MADE.match(second)
    assert first != second


async def test_a_body_too_large_is_told_with_the_id(operators: Operators) -> None:
    answer = await operators.call("POST", "/v1/events", role="shop", content=b"x" * 300_000, headers={"Request-Id": "large"})
    assert (answer.status_code, answer.headers["request-id"]) == (413, "large")


async def test_a_defect_is_answered_and_logged_with_the_id(
    client: httpx.AsyncClient, app: Litestar, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("defect")

    monkeypatch.setattr(app.state, "callers", None)
    monkeypatch.setattr(hooks, "callers_of", broken)
    seen: list[dict[str, Any]] = []

    class Log:
        def error(self, event: str, **more: Any) -> None:
            seen.append({"event": event, **structlog.contextvars.get_contextvars()} | {"exc": more["exc_info"]})

    monkeypatch.setattr(problems, "log", Log())
    for path in ("/v1/hooks/some", "/v1/events"):
        answer = await client.post(path, headers={"Request-Id": f"id of {path}"})
        assert (answer.status_code, answer.headers["request-id"]) == (500, f"id of {path}")
    assert [(line["event"], line["request_id"]) for line in seen] == [
        ("unhandled error", "id of /v1/hooks/some"),
        ("unhandled error", "id of /v1/events"),
    ]


async def test_requests_at_a_time_do_not_share_an_id(client: httpx.AsyncClient) -> None:
    async def ask(n: int) -> str:
        return (await client.get("/readyz", headers={"Request-Id": f"r{n}"})).headers["request-id"]

    assert await asyncio.gather(*(ask(n) for n in range(20))) == [f"r{n}" for n in range(20)]


@pytest.mark.parametrize("header", ["Request-Id", "X-Request-Id"])
async def test_an_id_may_be_printable_ascii_of_a_bounded_length(client: httpx.AsyncClient, header: str) -> None:
    for usable in ("a", "trace 1/2:e", "~" * MAX_REQUEST_ID_CHARS):
        assert (await client.get("/healthz", headers={header: usable})).headers["request-id"] == usable
    for unusable in (b"", b"x" * (MAX_REQUEST_ID_CHARS + 1), b"a\tb", b"\x7f", "é".encode()):
        assert MADE.match((await client.get("/healthz", headers=[(header.encode(), unusable)])).headers["request-id"])


async def test_the_audit_records_the_id_that_the_answer_showed(operators: Operators) -> None:
    body = {"gtin": "06901234567892", "name": "Paper", "category": "paper"}
    sent = await operators.call("POST", "/v1/products", body, headers={"X-Request-Id": "req-7"})
    made = await operators.call("POST", "/v1/products", body | {"name": "Better paper"})
    assert sent.headers["request-id"] == "req-7"
    recorded = [row[0] for row in await operators.fetch("SELECT request_id FROM audit WHERE request_id IS NOT NULL ORDER BY id")]
    assert recorded == ["req-7", made.headers["request-id"]]

"""What a full lane would refuse is refused before the body is read, the route found or the sender asked who he is."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from litestar import Litestar

from service.api import unread
from service.api.lanes import Lanes

LARGE = 8 * 2**20


class Socket:
    """A request whose body comes only when somebody reads it, and what was answered before that."""

    def __init__(self, path: str, *, method: str = "POST", headers: dict[str, str] | None = None, chunks: int = 3) -> None:
        sent = {"host": "x", "content-length": "300"} | (headers or {})
        self.scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http", "path": path,
            "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        }  # fmt: skip
        self.answered: list[Any] = []
        self.before_reading: list[Any] = []
        self.left = chunks
        self.reads = 0

    async def receive(self) -> Any:
        if not self.reads:
            self.before_reading = list(self.answered)
        self.reads += 1
        self.left -= 1
        return {"type": "http.request", "body": b"x" * 100, "more_body": self.left > 0}

    async def send(self, message: Any) -> None:
        self.answered.append(message)

    @property
    def status(self) -> int:
        return int(self.answered[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.answered[0]["headers"]}

    @property
    def body(self) -> Any:
        return json.loads(b"".join(message["body"] for message in self.answered[1:]))


async def ask(app: Litestar, path: str, **more: Any) -> Socket:
    made = Socket(path, **more)
    await app(made.scope, made.receive, made.send)  # type: ignore[arg-type]
    return made


def fill(app: Litestar, monkeypatch: pytest.MonkeyPatch, lane: str) -> Lanes:
    """No request more: neither single events nor bulk bodies."""
    lanes: Lanes = app.state.lanes
    if lane == "bodies":
        monkeypatch.setattr(lanes, "bodies", app.state.resources.settings.bulk_queue_bodies)
    else:
        monkeypatch.setattr(getattr(lanes, lane), "_queue_requests", 0)
    return lanes


@pytest.mark.parametrize(
    ("lane", "path", "refused"),
    [
        ("single", "/v1/events", True),
        ("single", "/v1/hooks/any", True),
        ("single", "/v1/events/batch", False),
        ("bulk", "/v1/events/batch", True),
        ("bulk", "/v1/events", False),
        ("bodies", "/v1/events/batch", True),
        ("bodies", "/v1/hooks/any", False),
    ],
)
async def test_a_full_lane_refuses_before_it_reads(
    app: Litestar, monkeypatch: pytest.MonkeyPatch, lane: str, path: str, *, refused: bool
) -> None:
    lanes = fill(app, monkeypatch, lane)
    counted = lanes.bulk if lane != "single" else lanes.single
    answer = await ask(app, path, headers={"request-id": "mine"})
    if not refused:
        assert answer.status in (401, 404)
        assert counted.tallies.overloaded._count == 0
        return
    assert (answer.status, answer.body["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["request-id"] == "mine"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.before_reading, "the answer is under way before the body is read"
    assert json.loads(answer.before_reading[1]["body"]) == answer.body
    assert answer.reads == 3, "then the body is read into nothing, so that the connection can be used again"
    assert counted.tallies.overloaded._count == 1


async def test_other_requests_are_answered_while_lanes_are_full(app: Litestar, client: httpx.AsyncClient, monkeypatch: Any) -> None:
    for lane in ("single", "bulk", "bodies"):
        fill(app, monkeypatch, lane)
    assert (await client.get("/v1/me/balance")).status_code == 401
    assert (await client.get("/v1/events")).status_code == 401
    assert (await client.post("/v1/products")).status_code == 401
    assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("headers", [{"expect": "100-continue"}, {"content-length": str(LARGE + 1)}, {"content-length": "many"}])
async def test_a_body_that_is_not_coming_or_too_large_is_left(app: Litestar, monkeypatch: Any, headers: dict[str, str]) -> None:
    fill(app, monkeypatch, "single")
    answer = await ask(app, "/v1/events", headers=headers)
    assert (answer.status, answer.reads) == (503, 0)


async def test_what_is_read_into_nothing_is_bounded(app: Litestar, monkeypatch: Any) -> None:
    fill(app, monkeypatch, "single")
    monkeypatch.setattr(unread, "MAX_DRAINED_BYTES", 1_000)
    answer = await ask(app, "/v1/events", chunks=1_000_000)
    assert (answer.status, answer.reads) == (503, 11)
    assert not answer.answered[-1]["more_body"]


async def test_a_slow_sender_is_not_waited_for_without_end(app: Litestar, monkeypatch: Any) -> None:
    fill(app, monkeypatch, "single")
    monkeypatch.setattr(unread, "DRAIN_S", 0.0)
    slow = Socket("/v1/events")

    async def never() -> Any:
        await asyncio.Event().wait()

    await app(slow.scope, never, slow.send)  # type: ignore[arg-type]
    assert (slow.status, slow.body["code"]) == (503, "overloaded")
    assert not unread._places.locked()

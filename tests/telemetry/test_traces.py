"""Traces: a credit and its settlement arrive as spans at a real receiver, without personal data; without an exporter nothing is loaded."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from service.flows import jwks
from service.flows.jwks import KeySetUnavailable
from service.local.ports import choose_port
from service.settings import Settings
from service.telemetry import traces
from tests.servers import Program, programs
from tests.worlds import World, order_paid

ROOT = Path(__file__).resolve().parents[2]
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Span:
    def __init__(self, span: Any, resource: dict[str, Any]) -> None:
        self.name = span.name
        self.trace, self.id, self.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.links = [link.span_id.hex() for link in span.links]
        self.attributes = {each.key: _value(each.value) for each in span.attributes}
        self.failed = span.status.code == 2
        self.message = span.status.message
        self.events = list(span.events)
        self.resource = resource

    @property
    def numbers(self) -> list[int]:
        return list(self.attributes.get(traces.EVENT_NUMBERS, []))


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)


class Receiver:
    """An OTLP/HTTP receiver on loopback, which keeps what it is sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                receiver.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(200, ExportTraceServiceResponse().SerializeToString())

            def do_GET(self) -> None:
                self._answer(200 if self.path == "/jwks" else 404, b'{"keys": []}')

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def spans(self, name: str) -> list[Span]:
        found = []
        for body in list(self.bodies):
            for of in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = {each.key: _value(each.value) for each in of.resource.attributes}
                found += [Span(span, resource) for scope in of.scope_spans for span in scope.spans if span.name == name]
        return found

    async def first(self, name: str) -> Span:
        end = time.monotonic() + 40
        while not (found := self.spans(name)):
            assert time.monotonic() < end, name
            await asyncio.sleep(0.05)
        return found[0]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


async def test_a_credit_and_its_settlement_arrive_as_spans(
    settings: Settings, world: World, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.campaign()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    event = order_paid("cust-very-private", order="order-very-private")
    headers = {"Authorization": f"Bearer {world.keys['shop']}", "traceparent": f"00-{TRACE}-{PARENT}-01"}
    async with programs(settings, tmp_path, apis=1, workers=1) as ((api,), _), httpx.AsyncClient(base_url=api.url) as client:
        assert (await client.post("/v1/events", json=event, headers=headers)).status_code == 201
        assert (await client.get("/v1/consumers/cust-very-private/balance?min_version=1", headers=headers)).status_code == 200
        request = await receiver.first("POST /v1/events")
        commit = await receiver.first("commit batch")
        read = await receiver.first("GET /v1/consumers/{ref}/balance")
        settled = await receiver.first("settle batch")
        pushed = await receiver.first("push balances")

    assert (request.trace, request.parent) == (TRACE, PARENT), "the caller's trace goes on"
    assert request.attributes == {"http.request.method": "POST", "http.route": "/v1/events", "http.response.status_code": 201}
    assert (request.resource["service.name"], request.resource["greenpoints.part"]) == ("greenpoints", "api")
    assert read.attributes["http.route"] == "/v1/consumers/{ref}/balance"
    assert commit.links == [request.id]
    assert (commit.attributes["greenpoints.lane"], commit.attributes["greenpoints.batch.events"]) == ("single", 1)
    (number,) = commit.numbers
    assert settled.numbers == [number], "found by the number of the event"
    assert (settled.attributes["greenpoints.batch.events"], settled.attributes["greenpoints.batch.points"]) == (1, 10)
    assert settled.resource["greenpoints.part"] == "worker"
    assert pushed.parent in {commit.id, settled.id}
    (row,) = await world.rows("SELECT number FROM event")
    assert row["number"] == number

    sent = b"".join(receiver.bodies)
    for private in ("very-private", world.keys["shop"], "gpk_", "6901234567892", "TP-01"):
        assert private.encode() not in sent, private


async def test_without_a_traceparent_a_trace_of_its_own_begins(
    settings: Settings, world: World, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.url}/v1/traces")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "points of ours")
    async with programs(settings, tmp_path, apis=1) as ((api,), _), httpx.AsyncClient(base_url=api.url) as client:
        headers = {"Authorization": f"Bearer {world.keys['shop']}", "traceparent": "no such thing"}
        assert (await client.post("/v1/events", json={"type": "?"}, headers=headers)).status_code == 422
        assert (await client.get("/private-path-of-nobody")).status_code == 404
        assert (await client.get("/metrics")).status_code == 200
    refused = await receiver.first("POST /v1/events")  # a process that stops sends what it has
    assert (refused.parent, refused.attributes["http.response.status_code"]) == ("", 422)
    assert refused.resource["service.name"] == "points of ours"
    assert (await receiver.first("GET unmatched")).attributes["http.response.status_code"] == 404
    assert b"private-path" not in b"".join(receiver.bodies)
    assert receiver.spans("GET /readyz") == receiver.spans("GET /metrics") == [], "machines ask for these every few seconds"


async def test_a_key_set_is_fetched_in_a_span(receiver: Receiver) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        traces.start("test")
        try:
            await jwks.fetch(f"{receiver.url}/jwks", allow_loopback=True)
            with pytest.raises(KeySetUnavailable):
                await jwks.fetch(f"{receiver.url}/secret-path", allow_loopback=True)
        finally:
            await asyncio.to_thread(traces.stop)
    good, bad = receiver.spans("fetch key set")
    assert good.attributes == {"server.address": "127.0.0.1"}
    assert bad.attributes == {"server.address": "127.0.0.1", "error.type": "KeySetUnavailable"}
    assert (good.failed, bad.failed, bad.message, bad.events) == (False, True, "", []), "an error's message may quote anything"
    assert b"secret-path" not in b"".join(receiver.bodies)
    assert not traces.on()


async def test_a_receiver_that_is_not_there_holds_nothing_up(
    settings: Settings, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{choose_port()}")
    await world.campaign()
    api = Program("service.api", settings, tmp_path / "api.log")
    await api.start()
    try:
        async with httpx.AsyncClient(base_url=api.url, headers={"Authorization": f"Bearer {world.keys['shop']}"}) as client:
            assert (await client.post("/v1/events", json=order_paid())).status_code == 201
        assert api._process is not None
        api._process.terminate()
        assert api._process.wait(10) == 0
    finally:
        api.end()


LOADED = """
import json, sys
from service.api.app import create_app
from service.settings import load_settings
from service.telemetry import traces
import workers.run
create_app(load_settings())
traces.start("worker")
with traces.span("x") as span, traces.inner_span("y"), traces.request_span("z", [(b"traceparent", b"?")]):
    span.set("a", 1)
assert traces.link() is None and not traces.on()
print(json.dumps(sorted(name for name in sys.modules if name.partition(".")[0] == "opentelemetry")))
"""


@pytest.mark.parametrize(
    "variables",
    [
        {}, {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, {"OTEL_TRACES_EXPORTER": "zipkin"},
    ],
)  # fmt: skip
def test_without_an_exporter_nothing_of_opentelemetry_is_loaded(variables: dict[str, str], settings: Settings) -> None:
    urls = {name: getattr(settings, name) for name in ("database_url", "balance_redis_url", "queue_redis_url", "master_key")}
    environ = {f"GREENPOINTS_{name.upper()}": value for name, value in urls.items()} | variables
    done = subprocess.run([sys.executable, "-c", LOADED], env=environ, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    constants = "opentelemetry.semconv"  # names of attributes, which Litestar looks at
    assert [name for name in json.loads(done.stdout) if not name.startswith(constants)] in ([], ["opentelemetry"])
    assert ("traces are off" in done.stderr) == (variables.get("OTEL_TRACES_EXPORTER") == "zipkin")


@pytest.mark.parametrize(
    ("variables", "exporter"),
    [
        ({}, None), ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None), ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"), ({"OTEL_TRACES_EXPORTER": " OTLP "}, "otlp"),
    ],
)  # fmt: skip
def test_the_standard_variables_choose_the_exporter(variables: dict[str, str], exporter: str | None) -> None:
    assert traces.wanted(variables) == exporter


@pytest.mark.parametrize(
    "variables", [{"OTEL_TRACES_EXPORTER": "jaeger"}, {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}]
)
def test_what_is_not_built_in_is_named(variables: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="may be"):
        traces.wanted(variables)

"""Metrics: what is counted, under names and labels that the documents list and no request can choose."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families
from standardwebhooks import Webhook

from service.flows import administer
from service.flows.mend import Mender
from service.flows.settle import settle_due
from service.runtime import Resources
from service.settings import Settings
from service.telemetry import metrics, sharing, tallies
from service.telemetry.tallies import Spread, SpreadTally
from tests.docs.test_reference import DOCS, rows
from tests.sealer import SEALER
from tests.servers import Program, programs
from tests.worlds import World, order_paid, refund

ROOT = DOCS.parent

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def now() -> Samples:
    """What this process has counted."""
    tallies.flush()
    return parsed(metrics.render().decode())


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((f"greenpoints_{name}", frozenset(labels.items())), 0.0)


def since(before: Samples) -> Callable[..., float]:
    """How much a metric has grown."""
    after = now()
    return lambda name, **labels: value(after, name, **labels) - value(before, name, **labels)


def bearer(world: World, platform: str = "shop") -> dict[str, str]:
    return {"Authorization": f"Bearer {world.keys[platform]}"}


# The documents ------------------------------------------------------------------------------------------


def families() -> dict[str, tuple[str, tuple[str, ...]]]:
    """name → type and labels of everything this process exposes."""
    found = {}
    for collector, names in metrics.REGISTRY._collector_to_names.items():
        suffix = "_total" if collector._type == "counter" else ""
        assert f"{collector._name}{suffix}" in names
        found[f"{collector._name}{suffix}"] = (collector._type, tuple(collector._labelnames))
    return found


def test_the_page_of_operations_has_every_metric() -> None:
    documented = {}
    for name, type_, labels, means, _ in rows("operations.md", "metric"):
        assert means
        documented[name.strip("`")] = (type_, tuple(label.strip("` ") for label in labels.split(",") if label.strip()))
    assert documented == families()


def test_names_follow_the_conventions() -> None:
    for name, (type_, _) in families().items():
        assert re.fullmatch(r"greenpoints(_[a-z]+)+", name)
        assert name.endswith("_total") == (type_ == "counter"), name
        assert not re.search(r"_(ms|millis|minutes|hours|bytes_total|s)$", name), "base units: seconds"


def test_alert_rules_name_metrics_and_labels_that_exist() -> None:
    text = (DOCS / "alerts.yaml").read_text(encoding="utf-8")
    known = families()
    expressions = re.findall(r"expr: (?:>-\n)?(.*?)\n\s+(?:for|labels):", text, re.DOTALL)
    assert len(expressions) == text.count("- alert:") > 10
    for expression in expressions:
        names = re.findall(r"greenpoints_[a-z_]+", expression)
        assert names
        for name in names:
            base = re.sub(r"_(bucket|count|sum)$", "", name)
            assert name in known or known[base][0] == "histogram", name
        labels = {label for name in names for label in known.get(name, known.get(re.sub(r"_(bucket|count|sum)$", "", name), ("", ())))[1]}
        used = set(re.findall(r"[{,]\s*([a-z]+)\s*=", expression))
        used |= {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
        assert used <= labels | {"le", "instance"}, expression


# What is counted ----------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.floats(0, 100), st.sampled_from([0.1, 1.0, 5.0])), max_size=50))
def test_a_tally_tells_a_histogram_what_single_observations_would(values: list[float]) -> None:
    bounds = (0.1, 1.0, 5.0)
    single = Histogram("x", "x", buckets=bounds, registry=(one := CollectorRegistry()))
    tally = SpreadTally(Spread("x", "x", buckets=bounds, registry=(many := CollectorRegistry())))
    for n, each in enumerate(values):
        single.observe(each)
        tally.add(each)
        if n % 7 == 0:
            tally.flush()
    tally.flush()
    tally.flush()
    for name, labels in [("x_sum", {}), ("x_count", {}), *(("x_bucket", {"le": le}) for le in ("0.1", "1.0", "5.0", "+Inf"))]:
        assert many.get_sample_value(name, labels) == pytest.approx(one.get_sample_value(name, labels))


async def test_events_batches_and_routes_are_counted(app: Litestar, client: httpx.AsyncClient, world: World) -> None:
    await world.campaign(hold="P14D")
    before = now()
    paid = order_paid("c-1")
    first = await client.post("/v1/events", json=paid, headers=bearer(world))
    assert first.status_code == 201
    assert (await client.post("/v1/events", json=paid, headers=bearer(world))).status_code == 200
    assert (await client.post("/v1/events", json=paid | {"consumer": "other"}, headers=bearer(world))).status_code == 409
    assert (await client.post("/v1/events", json=refund(order_paid("x"), "r", 1), headers=bearer(world))).json()["status"] == "parked"
    assert (await client.post("/v1/events", json={"type": "order.paid"}, headers=bearer(world))).status_code == 422
    bulk = await client.post("/v1/events/batch", json=[order_paid("c-2"), {"type": "?"}], headers=bearer(world))
    assert bulk.json()["rejected"] == 1
    assert (await client.get(f"/v1/events/{paid['id']}", headers=bearer(world))).status_code == 200
    grown = since(before)
    assert grown("events_total", type="order.paid", status="pending") == 2
    assert grown("events_total", type="order.paid", status="repeated") == 1
    assert grown("events_total", type="order.paid", status="id_reused") == 1
    assert grown("events_total", type="order.refunded", status="parked") == 1
    assert grown("events_total", type="unknown", status="refused") == 1
    assert grown("lane_batch_events_sum", lane="single") == 4
    assert grown("lane_batch_events_sum", lane="bulk") == 1
    assert grown("lane_batch_requests_count", lane="bulk") == 1
    assert grown("lane_commit_duration_seconds_count", lane="single") == grown("lane_batch_requests_count", lane="single") > 0
    of = {"method": "POST", "route": "/v1/events"}
    assert grown("http_request_duration_seconds_count", **of, status="2xx") == 3
    assert grown("http_request_duration_seconds_count", **of, status="4xx") == 2
    assert grown("http_request_duration_seconds_count", method="GET", route="/v1/events/{event_id}", status="2xx") == 1
    after = now()
    assert value(after, "lane_waiting_requests", lane="single") == value(after, "lane_oldest_waiting_seconds", lane="single") == 0
    assert value(after, "database_up") == 1
    assert value(after, "database_connections_limit") >= value(after, "database_connections", state="used") >= 0


async def test_no_label_is_the_callers_choice(app: Litestar, client: httpx.AsyncClient, world: World) -> None:
    marks = ["mark-in-path", "mark-in-id", "mark-consumer", "mark-query", "mark-token", "mark-hook", "MARKMETHOD", "mark.type"]
    await client.get("/nowhere/mark-in-path?x=mark-query")
    await client.get("/v1/events/mark-in-id", headers=bearer(world))
    await client.get("/v1/consumers/mark-consumer/balance?min_version=0&mark-query=1", headers=bearer(world))
    await client.get("/v1/consumers/x/balance", headers={"Authorization": "Bearer mark-token"})
    await client.post("/v1/hooks/mark-hook", content=b"{}")
    await client.request("MARKMETHOD", "/v1/events")
    await client.post("/v1/events", json=order_paid("mark-consumer") | {"type": "mark.type"}, headers=bearer(world))
    await client.post("/v1/events", json=order_paid("mark-consumer", order="mark-in-id"), headers=bearer(world))
    text = (await client.get("/metrics")).text
    assert 'route="unmatched"' in text
    assert 'route="/v1/consumers/{ref}/balance"' in text
    assert [mark for mark in marks if mark in text] == []


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("nothing", {}), ("api_key", {"Authorization": "Bearer gpk_live_unknown"}), ("operator_token", {"Authorization": "Bearer gpo_unknown"}),
        ("consumer_token", {"Authorization": "Bearer a.b.c"}), ("other", {"Authorization": "Basic YTpi"}),
    ],
)  # fmt: skip
async def test_refused_callers_are_counted_by_what_they_showed(client: httpx.AsyncClient, kind: str, headers: dict[str, str]) -> None:
    before = now()
    assert (await client.post("/v1/events", json=order_paid(), headers=headers)).status_code == 401
    assert (await client.get("/v1/me/activity", headers=headers)).status_code == 401
    assert since(before)("authentication_refusals_total", kind=kind, code="unauthenticated") == 2


async def test_callers_of_another_kind_are_counted_as_forbidden(client: httpx.AsyncClient, world: World) -> None:
    before = now()
    assert (await client.get("/v1/me/balance", headers=bearer(world))).status_code == 403
    assert since(before)("authentication_refusals_total", kind="api_key", code="forbidden") == 1


async def test_hook_deliveries_are_counted_by_what_came_of_them(client: httpx.AsyncClient, world: World) -> None:
    async with world.pool.acquire() as conn:
        made = await administer.create_platform(conn, sealer=SEALER, program=world.program, code="hooked", name="Hooked")
    hook = made.hooks["standard"]
    await world.campaign()
    before = now()

    async def deliver(body: Any, secret: str = hook.secret) -> int:
        text, at = json.dumps(body), datetime.now(UTC)
        signature = Webhook(secret).sign("msg_1", at, text)
        headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}
        return (await client.post(f"/v1/hooks/{hook.id}", content=text, headers=headers)).status_code

    delivery = {"type": "order.paid", "timestamp": "2026-11-22T00:00:00Z", "data": order_paid()}
    nothing = delivery | {"data": order_paid() | {"lines": []}}
    assert [await deliver(body) for body in (delivery, delivery, {"data": 1}, nothing)] == [200] * 4
    assert await deliver(delivery, secret="whsec_" + "A" * 32) == 401
    grown = since(before)
    outcomes = ("credited", "duplicate", "untranslatable", "bad_signature", "ignored", "failed")
    assert [grown("hook_deliveries_total", connector="standard", outcome=outcome) for outcome in outcomes] == [1, 1, 1, 1, 1, 0]
    assert grown("authentication_refusals_total", kind="signature", code="unauthenticated") == 1


async def test_settling_is_counted_with_its_lateness(world: World, resources: Resources) -> None:
    await world.campaign()
    for n in range(3):
        await world.credit(order_paid(f"c-{n}", quantity=2))
    await world.rows("UPDATE award SET due_at = due_at - interval '45 s'")
    await world.rows("UPDATE due SET due_at = due_at - interval '45 s'")
    before = now()
    assert await settle_due(resources.pool, resources.projection, stripe=1, buckets=1_024, batch_events=100) == 3
    grown = since(before)
    assert grown("settled_events_total") == 3
    assert grown("settled_points_total") == 60
    assert grown("settlement_lag_seconds_count") == 3
    assert 3 * 45 <= grown("settlement_lag_seconds_sum") < 3 * 60
    assert grown("settlement_lag_seconds_bucket", le="30.0") == 0
    assert grown("settlement_batch_duration_seconds_count") == 1
    mender = Mender(resources.pool, resources.projection, ttl_s=600)
    await mender.sweep()
    grown = since(before)
    assert (grown("mend_sweeps_total"), grown("mend_accounts_total")) == (1, 3)
    assert grown("balance_fence_misses_total") == 3, "they were there already"


# Several processes --------------------------------------------------------------------------------------


async def scrape(url: str) -> Samples:
    async with httpx.AsyncClient() as client:
        return parsed((await client.get(f"{url}/metrics")).text)


async def eventually(url: str, holds: Callable[[Samples], Any]) -> Samples:
    end = time.monotonic() + 40
    while not holds(samples := await scrape(url)):
        assert time.monotonic() < end, samples
        await asyncio.sleep(0.05)
    return samples


def events_of(samples: Samples) -> float:
    return value(samples, "events_total", type="order.paid", status="pending")


async def test_one_process_shows_all_of_the_machine(
    settings: Settings, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.campaign()
    folder = tmp_path / "shared"
    monkeypatch.setenv(sharing.VARIABLE, str(folder))
    async with (
        programs(settings, tmp_path, apis=2, workers=1) as ((one, other), (worker,)),
        httpx.AsyncClient(headers=bearer(world)) as client,
    ):
        for n in range(3):
            for program in (one, other):
                assert (await client.post(f"{program.url}/v1/events", json=order_paid(f"c-{n}"))).status_code == 201
        samples = await eventually(one.url, lambda s: value(s, "settled_events_total") == 6 and events_of(s) == 6)
        assert (value(samples, "processes", part="api"), value(samples, "processes", part="worker")) == (2, 1)
        assert value(samples, "database_up") == 1
        assert value(samples, "http_request_duration_seconds_count", method="POST", route="/v1/events", status="2xx") == 6
        await eventually(other.url, lambda s: events_of(s) == 6)

        files = set(folder.iterdir())
        other.kill()
        worker.kill()
        samples = await scrape(one.url)
        assert (value(samples, "processes", part="api"), value(samples, "processes", part="worker")) == (1, 0), "the dead are not counted"
        assert (events_of(samples), value(samples, "settled_events_total")) == (6, 6), "what they counted stays"

        await asyncio.gather(other.start(), worker.start())
        assert (await client.post(f"{other.url}/v1/events", json=order_paid("c-9"))).status_code == 201
        samples = await eventually(one.url, lambda s: events_of(s) == 7 and value(s, "settled_events_total") == 7)
        assert (value(samples, "processes", part="api"), value(samples, "processes", part="worker")) == (2, 1)
        assert set(folder.iterdir()) == files, "restarts leave nothing behind"


async def test_a_lone_worker_shows_its_metrics_on_loopback(settings: Settings, world: World, tmp_path: Path) -> None:
    await world.campaign()
    await world.credit(order_paid())
    worker = Program("workers", settings, tmp_path / "worker.log")
    worker._environ["GREENPOINTS_WORKER_METRICS_PORT"] = str(worker.port)
    await worker.start()
    try:
        end = time.monotonic() + 40
        while True:
            try:
                samples = await scrape(worker.url)
            except httpx.TransportError:
                samples = {}
            if value(samples, "settled_events_total") == 1:
                break
            assert time.monotonic() < end, samples
            await asyncio.sleep(0.05)
        assert value(samples, "processes", part="worker") == 1
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{worker.url}/")).status_code == 404
    finally:
        worker.end()


def test_numbers_are_taken_in_turn_and_come_free_with_their_holder(tmp_path: Path) -> None:
    assert [sharing.take_number(tmp_path) for _ in range(3)] == [0, 1, 2]
    for name in ("gauge_livesum_1.db", "counter_1.db", "gauge_livesum_2.db"):
        (tmp_path / name).write_bytes(b"")
    sharing.forget_the_dead(tmp_path)
    assert (tmp_path / "gauge_livesum_1.db").exists(), "its holder lives"
    sharing._held.pop(-2).close()
    sharing.forget_the_dead(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["counter_1.db", "gauge_livesum_2.db"]
    assert sharing.take_number(tmp_path) == 1
    for _ in range(3):
        sharing._held.pop().close()


def test_a_damaged_file_is_dropped_by_its_next_holder(tmp_path: Path) -> None:
    (tmp_path / "counter_0.db").write_bytes(b"\x40\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\x7f" + b"x" * 100)
    (tmp_path / "histogram_0.db").write_bytes(b"\x01")
    assert sharing.take_number(tmp_path) == 0
    assert list(tmp_path.glob("*.db")) == []
    sharing._held.pop().close()


def test_the_usual_folder_is_private_and_one_for_each_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = sharing.usual_folder("postgresql://a:secret@b/c")
    assert folder == sharing.usual_folder("postgresql://a:secret@b/c")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert "secret" not in folder.name
    assert folder != sharing.usual_folder("postgresql://a:secret@b/d")
    folder.rmdir()
    folder.symlink_to(tmp_path)
    assert sharing.usual_folder("postgresql://a:secret@b/c") != folder, "who put that there?"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make what belongs to somebody else")
def test_somebody_elses_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = sharing.usual_folder("postgresql://a/b")
    os.chown(folder, 65534, -1)
    assert sharing.usual_folder("postgresql://a/b") != folder


def test_a_directory_that_cannot_be_used_is_no_reason_not_to_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code = "from service.telemetry import metrics; metrics.tell_process('api'); print(metrics.render().decode())"
    environ = {sharing.VARIABLE: str(tmp_path / "file" / "folder")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30, check=True)
    assert 'greenpoints_processes{part="api"} 1.0' in done.stdout
    assert "metrics are not shared" in done.stdout + done.stderr

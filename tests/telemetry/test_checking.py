"""Workers check the invariants by themselves: one at a time, and what is broken is logged and shown by name and number only."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from service.flows import checked
from service.flows.check import RULES
from service.flows.checked import Checked
from service.flows.settle import settle_due
from service.runtime import Resources
from service.settings import Settings
from service.store.vitals import CHECK_LOCK
from service.telemetry import metrics, sharing
from tests.servers import programs
from tests.worlds import World, order_paid
from workers import checking
from workers.checking import check_once, keep_checking


def broken_rows(rule: str) -> float | None:
    return metrics.REGISTRY.get_sample_value("greenpoints_invariant_broken_rows", {"rule": rule})


@pytest.fixture(autouse=True)
def own_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger that no other test has bound to an output of its own."""
    monkeypatch.setattr(checking, "log", structlog.get_logger("greenpoints.check"))


@pytest.fixture
async def lived(world: World, resources: Resources) -> World:
    """A world with settled points."""
    await world.campaign()
    await world.send(order_paid("very-private-person"), order_paid("c-2"))
    await settle_due(resources.pool, resources.projection, stripe=1, buckets=1_024, batch_events=100)
    return world


async def test_a_clean_ledger_is_said_to_be_clean(lived: World, resources: Resources) -> None:
    with capture_logs() as logs:
        found = await check_once(resources)
    assert found is not None
    assert found.broken == {}
    assert [(log["event"], log["log_level"]) for log in logs] == [("every invariant holds", "info")]
    assert await checked.last(resources.projection) == found, "other processes can read it"
    assert metrics.REGISTRY.get_sample_value("greenpoints_invariant_check_timestamp_seconds") == found.at.timestamp()
    assert all(broken_rows(rule.name) == 0 for rule in RULES)


async def test_what_is_broken_is_told_by_name_and_number(lived: World, resources: Resources) -> None:
    await lived.rows("UPDATE lot SET remaining = remaining - 1")
    with capture_logs() as logs:
        found = await check_once(resources)
    assert found is not None
    assert found.broken["lots"] >= 2
    (log,) = logs
    assert (log["log_level"], log["rules"]) == ("error", found.broken)
    assert "very-private-person" not in str(logs)
    assert "account" not in str(logs)
    assert broken_rows("lots") == found.broken["lots"]
    await lived.rows("UPDATE lot SET remaining = remaining + 1")
    await check_once(resources)
    assert broken_rows("lots") == 0


async def test_two_never_check_at_once(lived: World, resources: Resources) -> None:
    async with lived.pool.acquire() as other:
        await other.execute("SELECT pg_advisory_lock($1)", CHECK_LOCK)
        assert await check_once(resources) is None
        assert await checked.last(resources.projection) is None
        await other.execute("SELECT pg_advisory_unlock($1)", CHECK_LOCK)
    assert await check_once(resources) is not None
    assert await check_once(resources) is not None, "the lock was given back"


async def test_a_check_goes_on_while_credits_are_slow_and_outlives_the_statement_timeout(lived: World, resources: Resources) -> None:
    """It has connections of its own: with none free in the pool it still works."""
    async with asyncio.timeout(20):
        held = [await resources.pool.acquire() for _ in range(resources.settings.database_pool)]
        try:
            assert await check_once(resources) is not None
        finally:
            for connection in held:
                await resources.pool.release(connection)


@pytest.mark.parametrize(("age", "checks"), [(timedelta(minutes=59), 0), (timedelta(minutes=61), 1)])
async def test_somebody_elses_check_counts(resources: Resources, age: timedelta, checks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shown in the metrics, and no reason to check again before its interval has passed."""
    monkeypatch.setattr(checking, "FIRST_AFTER", (0.0, 0.0))
    attempts = []

    async def attempt(of: Resources) -> None:
        attempts.append(of)

    found = Checked(at=resources.clock.now() - age, took_s=2.5, broken={"lots": 3})
    await checked.remember(resources.projection, found)
    task = asyncio.create_task(keep_checking(resources, attempt))
    end = time.monotonic() + 10
    while metrics.REGISTRY.get_sample_value("greenpoints_invariant_check_timestamp_seconds") != found.at.timestamp():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)
    task.cancel()  # it attempts, if at all, in the same step in which it sets the metric
    await asyncio.gather(task, return_exceptions=True)
    assert len(attempts) == checks
    assert broken_rows("lots") == 3


async def test_a_workers_check_shows_on_every_process(
    settings: Settings, lived: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sharing.VARIABLE, str(tmp_path / "shared"))
    async with programs(settings, tmp_path, apis=1, workers=1) as ((api,), (worker,)), httpx.AsyncClient(base_url=api.url) as client:
        worker.end()
        worker._environ |= {"GREENPOINTS_CHECK_INTERVAL_S": "0.2", "GREENPOINTS_LOG_FORMAT": "json"}
        await worker.start()
        await _until(client, r"greenpoints_invariant_check_timestamp_seconds [1-9]")
        assert (await client.get("/readyz")).json()["checks"] == []
        await lived.rows("UPDATE lot SET remaining = remaining - 1")
        await _until(client, r'greenpoints_invariant_broken_rows\{rule="lots"\} [1-9]')
        assert [each["code"] for each in (await client.get("/readyz")).json()["checks"]] == ["invariants_broken"]
    logged = [json.loads(line) for line in (tmp_path / "worker-0.log").read_text().splitlines() if line.startswith("{")]
    assert any("lots" in log.get("rules", {}) for log in logged)


async def test_a_worker_seals_and_checks_what_changed_by_itself(
    settings: Settings, lived: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sharing.VARIABLE, str(tmp_path / "shared"))
    await lived.rows("UPDATE lot SET remaining = remaining - 1 WHERE account = (SELECT min(account) FROM lot)")
    async with programs(settings, tmp_path, apis=1, workers=1) as ((api,), (worker,)), httpx.AsyncClient(base_url=api.url) as client:
        worker.end()
        worker._environ |= {
            "GREENPOINTS_SEAL_INTERVAL_S": "1",
            "GREENPOINTS_CHECK_RECENT_INTERVAL_S": "1",
            "GREENPOINTS_LOG_FORMAT": "json",
        }
        await worker.start()
        await _until(client, r'greenpoints_alerts_open\{rule="lots"\} 1')
        await _until(client, r"greenpoints_sealed_entries_total 4\.0")
        await lived.rows("UPDATE lot SET remaining = amount")
        await _until(client, r'greenpoints_alerts_open\{rule="lots"\} 0')
    (alert,) = await lived.rows("SELECT kind, resolved_at IS NOT NULL AS resolved FROM alert")
    assert alert == {"kind": "lots", "resolved": True}


async def test_the_check_of_everything_opens_alerts_that_name_nobody(lived: World, resources: Resources) -> None:
    await lived.rows("UPDATE lot SET remaining = remaining - 1")
    for _ in range(2):
        await check_once(resources)
    (alert,) = await lived.rows("SELECT program, kind, subject, words, resolved_at FROM alert WHERE kind = 'lots'")
    assert (alert["program"], alert["subject"], alert["resolved_at"]) == (None, "ledger", None)
    assert alert["words"].endswith("Broken by 4 rows: `greenpoints check` names them.")
    assert "account" not in alert["words"]
    await lived.rows("UPDATE lot SET remaining = amount")
    await check_once(resources)
    assert [a["open"] for a in await lived.rows("SELECT resolved_at IS NULL AS open FROM alert WHERE kind = 'lots'")] == [False]


async def _until(client: httpx.AsyncClient, pattern: str) -> None:
    end = time.monotonic() + 40
    while re.search(pattern, (await client.get("/metrics")).text) is None:
        assert time.monotonic() < end, pattern
        await asyncio.sleep(0.05)


async def test_the_command_tells_the_workers(lived: World, settings: Settings, resources: Resources) -> None:
    names = ("database_url", "balance_redis_url", "queue_redis_url", "master_key")
    environ = dict(os.environ) | {f"GREENPOINTS_{name.upper()}": getattr(settings, name) for name in names}
    await lived.rows("UPDATE lot SET remaining = remaining - 1")
    argv = [sys.executable, "-m", "service.cli", "check", "--json"]
    done = await asyncio.to_thread(subprocess.run, argv, env=environ, capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode == 1, done.stderr
    found = await checked.last(resources.projection)
    assert found is not None
    assert set(found.broken) == {rule["name"] for rule in json.loads(done.stdout)["invariants"] if not rule["ok"]}

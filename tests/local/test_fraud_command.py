"""`greenpoints fraud …` as a person or a script runs it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from service.cli import run
from service.settings import Settings
from tests.worlds import World, order_paid


@pytest.fixture(autouse=True)
def own_servers(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("database_url", "balance_redis_url", "queue_redis_url"):
        monkeypatch.setenv(f"GREENPOINTS_{name.upper()}", getattr(settings, name))


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    pool = await asyncpg.create_pool(database, min_size=1, max_size=2)
    yield await World(pool).found()
    await pool.close()


async def command(*words: object) -> int:
    """In a thread, for a command runs an event loop of its own."""
    return await asyncio.to_thread(run, ["fraud", *(str(word) for word in words)])


async def label(world: World, count: int) -> None:
    """As many of each kind."""
    await world.rows(
        """INSERT INTO fraud_label (program, event, fraud, points, score, strengths, source)
           SELECT $1, n, n % 2 = 0, 50, 100, CASE WHEN n % 2 = 0 THEN '{"clockwork":4}' ELSE '{}' END, 'decision' FROM generate_series(1, $2::int) n""",
        world.program, 2 * count,
    )  # fmt: skip


async def test_tuning_prints_a_table_and_writes_a_report(world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    await label(world, 60)
    assert await command("tune", "--program", "green", "--out", tmp_path / "report.json") == 0
    told = capfd.readouterr().out
    assert "labels       60 frauds, 60 honest" in told
    assert "saved" not in told
    rows = {line[:22].strip(): line[22:].split() for line in told.splitlines()}
    assert rows["recall by value"] == ["0.000", "1.000"]
    assert rows["precision by value"] == ["1.000", "1.000"]
    assert float(rows["clockwork"][1]) > float(rows["clockwork"][0])
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["frauds"], report["draft"], report["after"]["recall"]) == (60, None, 1.0)
    assert await world.rows("SELECT FROM fraud_model") == []

    assert await command("tune", "--save-draft", "--note", "the first", "--json") == 0
    assert json.loads(capfd.readouterr().out)["draft"] == 1
    assert await world.rows("SELECT version, state, note FROM fraud_model") == [{"version": 1, "state": "draft", "note": "the first"}]
    assert await command("models") == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["version", "state"], ["1", "draft"], ["0", "running"]]
    assert lines[1].endswith("the first")
    assert await command("models", "--json") == 0
    assert [row["version"] for row in json.loads(capfd.readouterr().out)] == [1, 0]


async def test_tuning_refuses_too_few_labels(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    await label(world, 49)
    assert await command("tune") == 1
    assert "There are 49 labelled frauds and 49 labelled honest events; tuning needs at least 50 of each" in capfd.readouterr().err
    assert await command("tune", "--force") == 0
    assert await command("tune", "--note", "for nothing") == 2


async def test_labels_are_imported_and_exported(world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    await world.campaign()
    paid = order_paid("c")
    await world.credit(paid)
    await world.rows(
        """INSERT INTO verdict (program, seq, bucket, account, event, points, outcome, enforced, model, score, own, judged_at)
           SELECT program, 1, bucket, account, number, 20, 2, true, 0, 777, 9, now() FROM event"""
    )
    file, out = tmp_path / "labels.ndjson", tmp_path / "out.ndjson"
    file.write_text(
        json.dumps({"platform": "shop", "event": paid["id"], "fraud": True}) + "\n" + '{"platform": "shop", "event": "x", "fraud": true}\n'
    )
    assert await command("labels", "import", file, "--program", "green") == 1
    told = capfd.readouterr()
    assert told.out == "created 1, updated 0, unchanged 0, rejected 1\n"
    assert "row 1: /event: was never reported by this platform" in told.err
    assert "2 of 2 labels" in told.err
    (audit,) = await world.rows("SELECT actor, subject, after::text FROM audit WHERE action = 'fraud_label.import'")
    assert (audit["actor"], audit["subject"]) == ("command", "fraud_labels")
    assert await command("labels", "export", "--out", out) == 0
    assert "1 labels" in capfd.readouterr().err
    (line,) = out.read_text().splitlines()
    assert json.loads(line)["event"] == paid["id"]
    assert await command("labels", "import", out) == 0
    assert capfd.readouterr().out == "created 0, updated 0, unchanged 1, rejected 0\n"


async def test_the_status_says_what_waits(world: World, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    await world.campaign()
    assert await command("status") == 0
    told = capfd.readouterr().out
    assert "mode      enforce" in told
    assert "model     version 0 (shipped)" in told
    assert "waiting   0 events\n" in told
    assert "deadline  P7D, then release" in told
    await world.credit(order_paid("c"))
    assert await command("status", "--json") == 0
    shown = json.loads(capfd.readouterr().out)
    assert (shown["mode"], shown["running"], shown["shadow"], shown["status"]["waiting"]) == ("enforce", 0, None, 1)
    await world.rows("UPDATE event SET received_at = received_at - interval '100 s'")
    assert await command("status") == 1
    assert "events wait for their verdict: is a worker running?" in capfd.readouterr().err
    monkeypatch.setenv("GREENPOINTS_FRAUD_MODE", "off")
    assert await command("status") == 0


async def test_help_says_what_to_do(capfd: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (("tune",), "Needs 50 labels of each kind"),
        (("labels", "import"), '"fraud": true'),
        (("status",), "Exit code 1"),
        ((), "tuning"),
    ):
        assert await command(*words, "--help") == 0
        assert said in " ".join(capfd.readouterr().out.split())

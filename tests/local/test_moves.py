"""`import balances` and `export` as a person or a script runs them: exit codes, files, what one deployment hands to another."""

import asyncio
import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow.parquet as pq
import pytest

from service.cli import exports, run
from service.flows import administer
from service.flows.check import check
from service.flows.settle import settle_due
from service.projection import Projection
from service.settings import Settings
from service.store import exports as statements
from tests.sealer import SEALER
from tests.worlds import World, cancelled, order_paid, refund

ENVIRONMENT = {"DATABASE_URL": "database_url", "BALANCE_REDIS_URL": "balance_redis_url", "QUEUE_REDIS_URL": "queue_redis_url"}
HEADING = "id,consumer,points,expires_on\n"


@pytest.fixture(autouse=True)
def own_servers(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("service.cli.openings.configure_logging", lambda _: None)  # it would keep this test's captured stderr
    for name, field in ENVIRONMENT.items():
        monkeypatch.setenv(f"GREENPOINTS_{name}", getattr(settings, field))


@pytest.fixture
async def world(database: str) -> Any:
    pool = await asyncpg.create_pool(database, min_size=1, max_size=4)
    yield await World(pool).found()
    await pool.close()


async def command(*words: str) -> int:
    """In a thread, for a command runs an event loop of its own."""
    return await asyncio.to_thread(run, [str(word) for word in words])


async def clean(world: World, settings: Settings) -> None:
    from redis.asyncio import Redis  # noqa: PLC0415

    async with Redis.from_url(settings.balance_redis_url) as redis:
        report = await check(world.pool, Projection(redis, epoch=1, ttl_s=600, wait_ms=2_000))
    assert {i.name: i.broken for i in report.invariants if not i.ok} == {}


async def live(world: World) -> None:
    await world.campaign()
    await world.campaign(hold="P14D")
    orders = [order_paid(f"c-{n % 7}", quantity=1 + n % 3) for n in range(30)]
    await world.send(*orders)
    await world.credit(refund(orders[0], "r", 1))
    await settle(world)
    await world.credit(cancelled(orders[1]))
    await world.credit(order_paid("c-market"), "market")


async def settle(world: World) -> None:
    from redis.asyncio import Redis  # noqa: PLC0415

    async with Redis.from_url("redis://127.0.0.1:1/0") as nobody:
        await settle_due(world.pool, Projection(nobody, epoch=1, ttl_s=600, wait_ms=10), stripe=1, buckets=64, batch_events=1_000)


# Importing -----------------------------------------------------------------------------------------------


async def test_a_file_is_imported_once_and_bad_rows_make_the_exit_code_1(
    world: World, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = tmp_path / "good.csv"
    good.write_text("\ufeff" + HEADING + "".join(f"l-{n},c-{n % 9},{n + 1},{'2099-12-31' if n % 2 else ''}\n" for n in range(2_500)))
    assert await command("import", "balances", str(good), "--platform", "shop", "--dry-run") == 0
    assert capsys.readouterr().out == "would create 2500 (3126250 points), duplicates 0, rejected 0\n"
    assert await world.rows("SELECT 1 FROM account") == []
    assert await command("import", "balances", str(good), "--platform", "shop") == 0
    out, err = capsys.readouterr()
    assert out == "created 2500 (3126250 points), duplicates 0, rejected 0\n"
    assert "2,500 rows, 100 % of good.csv" in err
    bad = tmp_path / "bad.ndjson"
    rows = [
        {"id": "l-0", "consumer": "c-0", "points": 1, "expires_on": None},
        {"id": "l-1", "consumer": "c-1", "points": 9, "expires_on": None},
    ]
    bad.write_bytes(b"\n".join([json.dumps(r).encode() for r in rows] + [b"{", b'"' + b"x" * 200_000, b"\xff\xfe"]) + b"\n")
    assert await command("import", "balances", str(bad), "--platform", "shop", "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["created"], answer["duplicates"], answer["rejected"]) == (0, 1, 7)
    assert [(r["row"], r["code"]) for r in answer["results"][:2]] == [(1, "id_reused"), (2, "invalid_request")]
    await clean(world, settings)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.txt", "", 2),
        ("a.json", "[]", 2),
        ("a.csv", "id,consumer,points\n", 1),
        ("a.csv", "", 1),
        ("a.csv", HEADING, 0),
        ("a.ndjson", "", 0),
    ],
)
async def test_files_that_are_no_lists_of_balances(world: World, tmp_path: Path, name: str, content: str, code: int) -> None:
    (tmp_path / name).write_text(content)
    assert await command("import", "balances", str(tmp_path / name), "--platform", "shop") == code
    assert await command("import", "balances", str(tmp_path / name), "--platform", "nobody") == (code if code == 2 else 1)


async def test_an_unclosed_quote_costs_the_rows_that_it_swallows_and_no_others(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "quote.csv"
    lines = [f"l-{n},c,1,\n" for n in range(30_000)]
    broken = [*lines[:10], 'l-10,"c,1,\n', *lines[11:]]
    file.write_text(HEADING + "".join(broken))
    assert await command("import", "balances", str(file), "--platform", "shop", "--json") == 1
    first = json.loads(capsys.readouterr().out)
    assert 10_000 < first["created"] < 29_999
    assert first["rejected"] >= 1
    file.write_text(HEADING + "".join(lines))
    assert await command("import", "balances", str(file), "--platform", "shop") == 0
    assert (await world.rows("SELECT sum(available)::int AS points FROM account"))[0]["points"] == 30_000


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_an_import_that_is_killed_goes_on_where_it_was(world: World, settings: Settings, tmp_path: Path) -> None:
    """SIGKILL at several moments, two imports of the file side by side, then once more: each row counts once."""
    rows = 20_000
    file = tmp_path / "large.csv"
    file.write_text(HEADING + "".join(f"l-{n},c-{n % 900},{n % 50 + 1},\n" for n in range(rows)))
    words = [sys.executable, "-m", "service.cli", "import", "balances", str(file), "--platform", "shop"]
    seen = [0]
    for enough in (1_000, 5_000, 9_000):
        with subprocess.Popen(  # noqa: ASYNC220
            words,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            end = time.monotonic() + 60
            while (await world.rows("SELECT count(*) AS n FROM opening"))[0]["n"] < enough:
                assert time.monotonic() < end
                assert process.poll() is None
                await asyncio.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
        seen.append((await world.rows("SELECT count(*) AS n FROM opening"))[0]["n"])
        assert seen[-1] % 1_000 == 0, "whole transactions"
    assert sorted(set(seen)) == seen, "each time some more"
    assert seen[-1] < rows, "none of them came to its end"
    both = [subprocess.Popen([*words, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)]  # noqa: ASYNC220
    outs = [json.loads((await asyncio.to_thread(process.communicate))[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(out["created"] for out in outs) == rows - (await world.rows("SELECT $1::int AS n", seen[-1]))[0]["n"]
    (sums,) = await world.rows("SELECT sum(available)::bigint AS points, (SELECT count(*) FROM lot) AS lots FROM account")
    assert (sums["points"], sums["lots"]) == (sum(n % 50 + 1 for n in range(rows)), rows)
    await clean(world, settings)


# Exporting -----------------------------------------------------------------------------------------------


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    if path.suffix == ".csv":
        with path.open(newline="") as opened:
            return list(csv.DictReader(opened))
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("format_", ["parquet", "csv", "ndjson"])
async def test_what_is_read_back_adds_up(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    await live(world)
    monkeypatch.setattr(exports, "ROW_GROUP_ROWS", 20)
    monkeypatch.setattr("service.flows.export.PAGE_ROWS", 7)
    (tmp_path / "out").mkdir()
    capsys.readouterr()
    assert await command("export", "ledger", "lots", "balances", "events", "--format", format_, "--out", str(tmp_path / "out")) == 0
    last = capsys.readouterr().out.splitlines()
    files = {what: read(tmp_path / "out" / f"{what}.{format_}") for what in statements.WHATS}
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (manifest["schema_version"], manifest["epoch"], manifest["references"]) == (1, 1, False)
    tables = {"ledger": "entry", "lots": "lot", "balances": "account", "events": "event"}
    for told, line in zip(manifest["files"], last, strict=True):
        rows = files[told["what"]]
        content = (tmp_path / "out" / told["file"]).read_bytes()
        assert (told["sha256"], told["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
        assert told["rows"] == len(rows) == (await world.rows(f"SELECT count(*) AS n FROM {tables[told['what']]}"))[0]["n"]
        assert told["sums"] == {name: sum(int(row[name]) for row in rows) for name in told["sums"]}
        assert line.startswith(f"{told['what']}: {len(rows)} rows, sum of ")
    assert last[0].endswith(" rows, sum of amount 0")
    (sums,) = await world.rows("SELECT sum(pending)::int AS pending, sum(available)::int AS available, sum(debt)::int AS debt FROM account")
    assert {name: manifest["files"][2]["sums"][name] for name in sums} == sums
    assert manifest["files"][1]["sums"]["points"] == sums["available"]
    assert manifest["files"][3]["sums"]["points"] == sums["pending"] + sums["available"] - sums["debt"]
    assert "c-1" not in (tmp_path / "out" / f"events.{format_}").read_bytes().decode("latin-1"), "no reference"
    assert {row["consumer"] or None for rows in (files["balances"], files["lots"], files["events"]) for row in rows} == {None}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o600}
    assert {row["book"] for row in files["ledger"]} >= {"available", "issuance"}
    if format_ == "parquet":
        assert pq.ParquetFile(tmp_path / "out/ledger.parquet").num_row_groups > 1
        schema = pq.read_schema(tmp_path / "out/ledger.parquet")
        assert (str(schema.field("amount").type), str(schema.field("at").type)) == ("int64", "timestamp[us, tz=UTC]")


async def test_what_one_deployment_exports_another_imports(
    world: World, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await live(world)
    await world.rows("UPDATE lot SET expires_on = expires_on + 7 WHERE event % 2 = 0")
    words = ["export", "lots", "--open", "--with-references", "--platform", "shop"]
    for format_ in ("csv", "ndjson"):
        assert await command(*words, "--format", format_, "--out", str(tmp_path / f"lots.{format_}")) == 0
    _, err = capsys.readouterr()
    assert "PERSONAL DATA" in err
    before = await held(world)
    async with world.pool.acquire() as conn:
        other = await administer.create_program(conn, code="new", name="New", currency="leaves", time_zone="UTC")
        await administer.create_platform(conn, sealer=SEALER, program=other.id, code="new-shop", name="New shop")
    assert await command("import", "balances", str(tmp_path / "lots.csv"), "--platform", "new-shop") == 0
    assert await command("import", "balances", str(tmp_path / "lots.ndjson"), "--platform", "new-shop", "--json") == 0
    answer = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert (answer["created"], answer["duplicates"]) == (0, len(read(tmp_path / "lots.ndjson")))
    assert await held(world, "new-shop") == before
    assert len(before) > 5
    await clean(world, settings)


async def held(world: World, platform: str = "shop") -> dict[tuple[str, str], int]:
    """Points by consumer and last day."""
    rows = await world.rows(
        "SELECT r.reference, l.expires_on::text AS day, sum(l.remaining)::int AS points FROM lot l "
        "JOIN consumer_reference r ON r.bucket = l.bucket AND r.account = l.account JOIN platform p ON p.id = r.platform AND p.id = l.platform "
        "WHERE p.code = $1 AND l.remaining > 0 GROUP BY 1, 2",
        platform,
    )
    return {(r["reference"], r["day"]): r["points"] for r in rows}


async def test_an_export_as_of_a_time_is_what_an_export_at_that_time_was(world: World, tmp_path: Path) -> None:
    whats = ["ledger", "lots", "balances", "events"]
    await live(world)
    file = tmp_path / "more.csv"
    file.write_text(HEADING + "l-1,c-1,50,\nl-2,c-new,7,2099-01-01\n")
    (tmp_path / "then").mkdir()
    assert await command("export", *whats, "--format", "ndjson", "--out", str(tmp_path / "then")) == 0
    at = json.loads((tmp_path / "then/manifest.json").read_text())["snapshot_at"]
    await world.rows("WITH a AS (UPDATE award SET due_at = now() WHERE due_at > now()) UPDATE due SET due_at = now() WHERE due_at > now()")
    assert await command("import", "balances", str(file), "--platform", "shop") == 0
    paid = order_paid("c-2", quantity=5)
    await world.send(paid, order_paid("c-later"))
    await settle(world)
    await world.credit(cancelled(paid))
    (tmp_path / "later").mkdir()
    assert await command("export", *whats, "--format", "ndjson", "--out", str(tmp_path / "later"), "--as-of", at) == 0
    for what in whats:
        then, later = (sorted((tmp_path / when / f"{what}.ndjson").read_text().splitlines()) for when in ("then", "later"))
        assert then == later, what
        assert then


async def test_only_what_was_asked_for(world: World, tmp_path: Path) -> None:
    await live(world)
    await settle(world)
    assert await command("export", "ledger", "--format", "csv", "--out", str(tmp_path / "m.csv"), "--platform", "market") == 0
    assert {row["platform"] for row in read(tmp_path / "m.csv")} == {"market"}
    assert (
        await command(
            "export", "balances", "--format", "csv", "--out", str(tmp_path / "b.csv"), "--platform", "market", "--with-references"
        )
        == 0
    )
    assert [row["consumer"] for row in read(tmp_path / "b.csv")] == ["c-market"]
    assert (
        await command("export", "events", "--format", "csv", "--out", str(tmp_path / "e.csv"), "--program", "green", "--with-references")
        == 0
    )
    assert {row["consumer"] for row in read(tmp_path / "e.csv")} >= {"c-1", "c-market"}
    assert json.loads(read(tmp_path / "e.csv")[0]["facts"])["type"]
    assert json.loads((tmp_path / "m.csv.manifest.json").read_text())["platform"] == "market"


@pytest.mark.parametrize(
    "words",
    [
        ["export"], ["export", "ledger"], ["export", "nonsense", "--format", "csv", "--out", "x"], ["export", "ledger", "lots", "--format", "csv", "--out", "x"],
        ["export", "ledger", "--format", "csv", "--out", "there.csv"], ["export", "ledger", "--format", "csv", "--out", "no/such/dir.csv"],
        ["export", "ledger", "--format", "csv", "--out", "x", "--as-of", "2026-01-01"], ["export", "ledger", "--format", "xml", "--out", "x"],
    ],
    ids=" ".join,
)  # fmt: skip
async def test_wrong_usage_writes_nothing(world: World, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "there.csv").write_text("kept")
    assert await command(*words) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]
    assert (tmp_path / "there.csv").read_text() == "kept"


async def test_what_fails_leaves_no_file(world: World, tmp_path: Path) -> None:
    future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert await command("export", "ledger", "--format", "parquet", "--out", str(tmp_path / "x"), "--as-of", future) == 1
    assert await command("export", "ledger", "--format", "csv", "--out", str(tmp_path / "x"), "--program", "nobody") == 1
    assert list(tmp_path.iterdir()) == []


async def test_every_statement_fits_the_migrated_schema(world: World) -> None:
    async with world.pool.acquire() as conn:
        for what, statement in statements.STATEMENTS.items():
            described = (await conn.prepare(statement)).get_attributes()
            assert [attribute.name for attribute in described] == list(statements.COLUMNS[what])

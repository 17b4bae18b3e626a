"""`import assets` as a person or a script runs it."""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.cli import assets, run
from service.settings import Settings
from tests.worlds import World


@pytest.fixture(autouse=True)
def own_servers(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("database_url", "balance_redis_url", "queue_redis_url"):
        monkeypatch.setenv(f"GREENPOINTS_{name.upper()}", getattr(settings, name))


@pytest.fixture
async def world(database: str) -> Any:
    pool = await asyncpg.create_pool(database, min_size=1, max_size=2)
    yield await World(pool).found()
    await pool.close()


async def command(*words: object) -> int:
    """In a thread, for a command runs an event loop of its own."""
    return await asyncio.to_thread(run, [str(word) for word in words])


def check_digit(body: int) -> int:
    digits = f"{body:012d}"
    return -sum(int(digit) * (1, 3)[i % 2] for i, digit in enumerate(digits)) % 10


async def test_a_table_larger_than_a_chunk_is_registered_with_one_audit_row(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.flows.assets.CHUNK_ROWS", 100)
    body = 401234555555
    grais = [f"0{body}{check_digit(body)}{n}" for n in range(250)]
    rows = [f"{grai},circular_box,20" for grai in grais]
    rows[120] = "04012345555553987,circular_box,20"
    rows[130] = rows[10]  # of the chunk before
    rows[240] = f"(8003){grais[10]},circular_bag,20"
    file = tmp_path / "boxes.csv"
    file.write_text("asset,class,max_trips\n" + "\n".join(rows) + "\n")
    assert await command("import", "assets", file) == 1
    told = capfd.readouterr()
    assert told.out == "created 247, updated 0, unchanged 1, rejected 2\n"
    assert "row 120: /asset: is not a GRAI" in told.err
    assert "row 240: /class: differs" in told.err
    assert "250 of 250 assets" in told.err
    assert (await world.rows("SELECT count(*) FROM asset WHERE program = $1 AND class = 'circular_box'", world.program))[0]["count"] == 247
    (audit,) = await world.rows("SELECT actor, after::text FROM audit WHERE action = 'asset.import'")
    assert audit["actor"] == "command"
    assert json.loads(audit["after"]) == {
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "rows": 250, "created": 247, "unchanged": 1, "rejected": 2,
    }  # fmt: skip
    assert await command("import", "assets", file, "--json") == 1
    answer = json.loads(capfd.readouterr().out)
    assert (answer["created"], answer["unchanged"], [result["row"] for result in answer["results"]]) == (0, 248, [120, 240])
    assert len(await world.rows("SELECT 1 FROM audit WHERE action = 'asset.import'")) == 1


async def test_every_kind_of_broken_row_is_told_and_stops_no_other(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    broken: list[tuple[bytes, str]] = [
        (b"", ""),
        (b"5", ""),
        (b'{"asset":', ""),
        (b'{"class":"circular_box"}', ""),
        (b'{"asset":"x"}', ""),
        (b'{"asset":null,"class":"circular_box"}', "/asset"),
        (b'{"asset":"x\\u0000","class":"circular_box"}', "/asset"),
        (b'{"asset":"\xff","class":"circular_box"}', ""),
        (b'{"asset":"x","class":"circular_box","max_trips":0}', "/max_trips"),
        (b'{"asset":"x","class":"circular_box","max_trips":1e9}', "/max_trips"),
        (b'{"asset":"x","class":"circular_box","max_trips":NaN}', ""),
        (b'{"asset":"(8003)04012345555553987","class":"circular_box"}', "/asset"),
        (b'{"asset":"x","class":"moon_box"}', "/class"),
        (b"[" * 5_000, ""),
        (b'{"asset":"x","class":"' + b"c" * 70_000 + b'"}', ""),
    ]
    file = tmp_path / "boxes.ndjson"
    file.write_bytes(
        b"\n".join([b'{"asset":"first","class":"circular_box"}', *(row for row, _ in broken), b'{"asset":"last","class":"circular_bag"}'])
    )
    assert await command("import", "assets", file, "--json") == 1
    answer = json.loads(capfd.readouterr().out)
    assert (answer["created"], answer["unchanged"]) == (2, 0)
    assert [r["errors"][0]["pointer"] for r in answer["results"]] == [*(p for row, p in broken if row), ""], "a line too long is two pieces"
    assert [row["key"] for row in await world.rows("SELECT key FROM asset ORDER BY key")] == ["first", "last"]


async def test_a_table_with_broken_rows_is_read_to_its_end(world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "boxes.csv"
    file.write_bytes(
        b'\xef\xbb\xbfasset,class,max_trips\nfirst,circular_box,1\n"a"b,circular_box,1\nx,circular_box,1,2\n\xff,circular_box,\n,,\nlast,circular_bag,\n'
    )
    assert await command("import", "assets", file, "--json") == 1
    answer = json.loads(capfd.readouterr().out)
    assert (answer["created"], answer["rejected"]) == (2, 3)
    assert [row["key"] for row in await world.rows("SELECT key FROM asset ORDER BY key")] == ["first", "last"]


async def test_only_so_many_rejected_rows_are_kept(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "MAX_LISTED", 5)
    monkeypatch.setattr("service.flows.assets.CHUNK_ROWS", 3)
    file = tmp_path / "boxes.csv"
    file.write_text("asset,class\n" + "x,moon_box\n" * 20)
    assert await command("import", "assets", file, "--json") == 1
    answer = json.loads(capfd.readouterr().out)
    assert (answer["rejected"], [result["row"] for result in answer["results"]]) == (20, [0, 1, 2, 3, 4])
    assert await world.rows("SELECT 1 FROM audit WHERE action = 'asset.import'") == []


async def test_a_file_that_cannot_be_finished_registers_nothing(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.flows.assets.CHUNK_ROWS", 10)
    async with world.pool.acquire() as conn:  # the database refuses one row of the third chunk
        await conn.execute("ALTER TABLE asset ADD CHECK (key <> 'box25')")
    file = tmp_path / "boxes.csv"
    file.write_text("asset,class\n" + "".join(f"box-{n},circular_box\n" for n in range(30)))
    with pytest.raises(asyncpg.CheckViolationError):
        await command("import", "assets", file)
    assert await world.rows("SELECT 1 FROM asset") == []
    assert await world.rows("SELECT 1 FROM audit WHERE action = 'asset.import'") == []


@pytest.mark.parametrize(("name", "content"), [("boxes.txt", "asset,class\n"), ("boxes.json", "[]"), ("none.csv", None)])
async def test_wrong_usage_is_exit_code_2(world: World, tmp_path: Path, name: str, content: str | None) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    assert await command("import", "assets", tmp_path / name) == 2


@pytest.mark.parametrize(("heading", "said"), [(b"", "first line"), (b"asset,asset\n", "first line"), (b"asset,\xff\n", "UTF-8")])
async def test_a_table_without_a_heading_is_refused(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str], heading: bytes, said: str
) -> None:
    (tmp_path / "boxes.csv").write_bytes(heading)
    assert await command("import", "assets", tmp_path / "boxes.csv") == 1
    assert said in capfd.readouterr().err

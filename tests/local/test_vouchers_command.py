"""`import vouchers` as a person or a script runs it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from service.cli import run, vouchers
from service.settings import Settings
from tests.redeeming import Catalogue
from tests.sealer import SEALER
from tests.worlds import World


@pytest.fixture(autouse=True)
def own_servers(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("database_url", "balance_redis_url", "queue_redis_url", "master_key"):
        monkeypatch.setenv(f"GREENPOINTS_{name.upper()}", getattr(settings, name))


@pytest.fixture
async def catalogue(database: str) -> AsyncIterator[Catalogue]:
    pool = await asyncpg.create_pool(database, min_size=1, max_size=2)
    made = Catalogue(await World(pool).found())
    await made.reward("film", vouchers=True)
    yield made
    await pool.close()


async def command(*words: object) -> int:
    """In a thread, for a command runs an event loop of its own."""
    return await asyncio.to_thread(run, ["import", "vouchers", *(str(word) for word in words)])


async def codes(catalogue: Catalogue) -> list[str]:
    return [SEALER.open(row["sealed"]) for row in await catalogue.world.rows("SELECT sealed FROM voucher ORDER BY number")]


async def test_a_file_larger_than_a_chunk_is_loaded_once_with_one_audit_row(
    catalogue: Catalogue, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.flows.vouchers.CHUNK_ROWS", 100)
    rows = [f"FILM-{n}" for n in range(250)]
    rows[130], rows[240] = rows[10], "x" * 600
    file = tmp_path / "codes.csv"
    file.write_text("code\n" + "\n".join(rows) + "\n")
    assert await command(file, "--reward", "film") == 1
    told = capfd.readouterr()
    assert told.out == "created 248, duplicate 1, rejected 1\n"
    assert "row 240: : Expected `str` of length <= 512" in told.err
    assert "250 of 250 vouchers" in told.err
    assert "FILM-" not in told.out + told.err
    assert await codes(catalogue) == [code for n, code in enumerate(rows) if n not in (130, 240)]
    (audit,) = await catalogue.world.rows("SELECT actor, subject, after::text FROM audit WHERE action = 'voucher.load'")
    assert (audit["actor"], audit["subject"]) == ("command", "reward:film")
    assert json.loads(audit["after"]) == {"rows": 250, "created": 248, "duplicate": 1, "rejected": 1}
    assert await command(file, "--reward", "film", "--json") == 1
    answer = json.loads(capfd.readouterr().out)
    assert (answer["created"], answer["duplicate"], answer["rejected"]) == (0, 249, 1)
    assert len(await catalogue.world.rows("SELECT FROM audit WHERE action = 'voucher.load'")) == 1


async def test_broken_rows_are_told_and_stop_no_other(catalogue: Catalogue, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "codes.ndjson"
    file.write_bytes(b'"first"\n5\n"\xff"\n{"code": "x"}\n\n"a\\u0000b"\n' + b"[" * 5_000 + b'\n"last"\n')
    assert await command(file, "--reward", "film", "--json") == 1
    answer = json.loads(capfd.readouterr().out)
    assert (answer["created"], [row["row"] for row in answer["results"]]) == (2, [1, 2, 3, 4, 5])
    assert await codes(catalogue) == ["first", "last"]


async def test_only_so_many_rows_are_kept_to_be_told(
    catalogue: Catalogue, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vouchers, "MAX_LISTED", 5)
    monkeypatch.setattr("service.flows.vouchers.CHUNK_ROWS", 3)
    file = tmp_path / "codes.csv"
    file.write_text("code\n" + "same\n" * 20)
    assert await command(file, "--reward", "film", "--json") == 0, "a duplicate is no failure"
    answer = json.loads(capfd.readouterr().out)
    assert (answer["created"], answer["duplicate"], [row["row"] for row in answer["results"]]) == (1, 19, [1, 2, 3, 4, 5])


async def test_a_file_that_cannot_be_finished_loads_nothing(catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.flows.vouchers.CHUNK_ROWS", 10)
    await catalogue.world.rows("ALTER TABLE voucher ADD CHECK (number < 25)")  # the database refuses a row of the third chunk
    file = tmp_path / "codes.csv"
    file.write_text("code\n" + "".join(f"FILM-{n}\n" for n in range(30)))
    with pytest.raises(asyncpg.CheckViolationError):
        await command(file, "--reward", "film")
    assert await codes(catalogue) == []
    assert await catalogue.world.rows("SELECT FROM audit WHERE action = 'voucher.load'") == []


@pytest.mark.parametrize(
    ("reward", "said"), [("nothing", "no such reward"), ("plain", "gives out no codes"), ("NUL\u00e4", "no such reward")]
)
async def test_what_cannot_have_codes_is_refused_in_a_line(
    catalogue: Catalogue, tmp_path: Path, capfd: pytest.CaptureFixture[str], reward: str, said: str
) -> None:
    await catalogue.reward("plain")
    (tmp_path / "codes.csv").write_text("code\nA\n")
    assert await command("codes.csv", "--reward", reward) == 1
    assert said in capfd.readouterr().err


@pytest.mark.parametrize("words", [["codes.txt", "--reward", "film"], ["codes.csv"], ["none.csv", "--reward", "film"]])
async def test_wrong_usage_is_exit_code_2(catalogue: Catalogue, tmp_path: Path, words: list[str]) -> None:
    for name in ("codes.txt", "codes.csv"):
        (tmp_path / name).write_text("code\nA\n")
    assert await command(*words) == 2

"""`greenpoints check` and `rebuild` as a script calls them: exit codes, one JSON document on standard output, one line per error."""

import json

import pytest

from service.cli import run
from service.settings import Settings


@pytest.fixture(autouse=True)
def own_servers(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENPOINTS_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("GREENPOINTS_BALANCE_REDIS_URL", settings.balance_redis_url)
    monkeypatch.setenv("GREENPOINTS_QUEUE_REDIS_URL", settings.queue_redis_url)


def test_an_empty_system_is_clean(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert [i["number"] for i in report["invariants"]] == list(range(1, 13))
    assert report["checked"]["accounts"] == 0
    assert run(["check"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("ok      1 double_entry: ")
    assert out[-1].startswith("every invariant holds (0 accounts, ")
    assert run(["rebuild"]) == 0
    assert capsys.readouterr().out == "wrote 0 balances\n"


async def _break(database: str) -> None:
    import asyncpg  # noqa: PLC0415

    connection = await asyncpg.connect(database)
    await connection.execute("INSERT INTO account (bucket, id, program, available) SELECT n & 1023, n, 1, 5 FROM generate_series(1, 12) n")
    await connection.close()


def test_what_is_broken_is_named(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    import asyncio  # noqa: PLC0415

    asyncio.run(_break(settings.database_url))
    assert run(["check", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    (broken,) = [i for i in report["invariants"] if not i["ok"]]
    assert (broken["name"], broken["found"], len(broken["broken"])) == ("balances", 12, 10)
    assert run(["check"]) == 1
    out = capsys.readouterr().out
    assert (
        "2 balances is broken by 12 rows, the first of them:\n  account 1: available 5, reserved 0, debt 0, but its entries sum to 0, 0, 0"
        in out
    )
    assert out.splitlines()[-1].startswith("broken: balances (12 accounts, ")


def test_without_redis_the_line_is_clear(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("GREENPOINTS_BALANCE_REDIS_URL", "redis://127.0.0.1:1/0")
    assert run(["check"]) == 1
    out = capsys.readouterr().out
    assert "8 redis is broken by 1 row:\n  not checked: the balance Redis cannot be read (" in out

"""The command line: exit codes, one line per error, what a script can rely on."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.cli import cli, run
from service.cli.callers import Duration
from service.cli.servers import environment
from service.settings import Settings
from tests.sealer import MASTER_KEY


@pytest.fixture(autouse=True)
def own_servers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No command reaches the system of whoever runs the tests; with `settings` it works on the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "BALANCE_REDIS_URL", "QUEUE_REDIS_URL", "DATA_DIR", "MASTER_KEY"):
        monkeypatch.delenv(f"GREENPOINTS_{name}", raising=False)
    if "settings" in request.fixturenames:
        settings: Settings = request.getfixturevalue("settings")
        monkeypatch.setenv("GREENPOINTS_DATABASE_URL", settings.database_url)
        monkeypatch.setenv("GREENPOINTS_BALANCE_REDIS_URL", settings.balance_redis_url)
        monkeypatch.setenv("GREENPOINTS_QUEUE_REDIS_URL", settings.queue_redis_url)
        monkeypatch.setenv("GREENPOINTS_MASTER_KEY", settings.master_key)


def commands(group: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = getattr(group, "commands", None)
    return [path] if found is None else [leaf for name, command in found.items() for leaf in commands(command, (*path, name))]


@pytest.mark.parametrize("path", [(), *commands(cli)], ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, [*path, "--help"])
    assert result.exit_code == 0
    assert len(result.output.split("\n\n")[1].strip()) > 20


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["token"],
        ["token", "--platform", "x", "--consumer", "y", "--ttl", "3w"],
        ["up", "--port", "70000"],
        ["import", "products", "missing.csv"],
        ["migrate"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("greenpoints: ")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("1h", 3_600), ("1d", 86_400)])
def test_durations(text: str, seconds: int) -> None:
    assert Duration().convert(text, None, None) == timedelta(seconds=seconds)


def test_an_unreachable_database_is_one_line_and_exit_code_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("GREENPOINTS_DATABASE_URL", "postgresql://user:very-secret@127.0.0.1:1/x")
    monkeypatch.setenv("GREENPOINTS_BALANCE_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("GREENPOINTS_QUEUE_REDIS_URL", "redis://127.0.0.1:1/1")
    assert run(["migrate"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "is it running" in err
    assert "very-secret" not in err


def test_the_running_system_fills_in_what_the_environment_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "up.json").write_text(json.dumps({"database_url": "postgresql://up", "balance_redis_url": "redis://up"}))
    found = environment({"GREENPOINTS_DATA_DIR": str(tmp_path), "GREENPOINTS_DATABASE_URL": "postgresql://mine"})
    assert found["GREENPOINTS_DATABASE_URL"] == "postgresql://mine"
    assert found["GREENPOINTS_BALANCE_REDIS_URL"] == "redis://up"
    assert "GREENPOINTS_QUEUE_REDIS_URL" not in found


@pytest.mark.usefixtures("settings")
def test_platforms_keys_and_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["platform", "create", "shop"]) == 1
    assert "no program" in capsys.readouterr().err
    assert run(["platform", "create", "shop", "--create-program", "leaves", "--time-zone", "Europe/Oslo"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["api_key"].startswith("gpk_")
    assert run(["platform", "create", "market", "--name", "The market"]) == 0
    capsys.readouterr()
    assert run(["platform", "list"]) == 0
    assert capsys.readouterr().out == "shop\tshop\tactive\nmarket\tThe market\tactive\n"
    assert run(["platform", "rotate-key", "shop"]) == 0
    assert capsys.readouterr().out.strip() != made["api_key"]
    assert run(["token", "--platform", "shop", "--consumer", "c", "--scope", "balance:read redeem", "--ttl", "1d"]) == 0
    assert capsys.readouterr().out.count(".") == 2
    assert run(["token", "--platform", "shop", "--consumer", "c", "--scope", "everything"]) == 1
    capsys.readouterr()
    assert run(["operator", "create", "a@example.org", "--role", "analyst"]) == 0
    assert json.loads(capsys.readouterr().out)["token"].startswith("gpo_")


@pytest.mark.usefixtures("settings")
def test_a_sandbox_and_keys_that_overlap(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["program", "create", "play", "--currency", "leaves", "--time-zone", "Europe/Oslo", "--sandbox"]) == 0
    assert json.loads(capsys.readouterr().out)["sandbox"] is True
    assert run(["program", "create", "play", "--currency", "leaves"]) == 1
    assert run(["program", "create", "live", "--currency", "leaves", "--time-zone", "Nowhere"]) == 1
    capsys.readouterr()
    assert run(["platform", "create", "play-shop"]) == 0
    assert json.loads(capsys.readouterr().out)["api_key"].startswith("gpk_test_")
    assert run(["platform", "rotate-key", "play-shop", "--keep-old", "1d"]) == 0
    assert capsys.readouterr().out.startswith("gpk_test_")
    assert run(["program", "create", "live", "--currency", "leaves"]) == 0
    assert json.loads(capsys.readouterr().out)["sandbox"] is False
    assert run(["platform", "create", "shop", "--program", "live"]) == 0
    assert json.loads(capsys.readouterr().out)["api_key"].startswith("gpk_live_")


@pytest.mark.usefixtures("settings")
def test_operators_are_listed_helped_and_shut_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["program", "create", "p", "--currency", "leaves"]) == 0
    for words in (["b@example.org", "--role", "admin"], ["a@example.org", "--program", "p"]):
        assert run(["operator", "create", *words]) == 0
    capsys.readouterr()
    assert run(["operator", "reset-password", "b@example.org"]) == 0
    assert len(json.loads(capsys.readouterr().out)["password"]) >= 12
    for _ in range(2):
        assert run(["operator", "deactivate", "a@example.org"]) == 0
    assert run(["operator", "list"]) == 0
    assert capsys.readouterr().out == "a@example.org\tviewer\tp\tinactive\nb@example.org\tadmin\tall programs\tactive\n"
    assert run(["operator", "list", "--json"]) == 0
    assert [row["active"] for row in json.loads(capsys.readouterr().out)] == [False, True]
    assert run(["operator", "reset-password", "nobody@example.org"]) == 1
    assert "no operator" in capsys.readouterr().err


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("products.csv", "gtin,name,category,platform,sku\n06901234567892,Paper,paper,shop,A-1\n123,Bad,,,\n"),
        ("products.ndjson", '{"gtin":"06901234567892","name":"Paper","skus":[{"platform":"shop","sku":"A-1"}]}\n\n{"gtin":"123"}\n'),
        ("products.json", '[{"gtin":"06901234567892","name":"Paper","skus":[{"platform":"shop","sku":"A-1"}]},{"gtin":"123"}]'),
    ],
)
def test_a_bad_row_of_an_import_stops_no_other(name: str, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["platform", "create", "shop", "--create-program", "leaves"])
    (tmp_path / name).write_text(content)
    capsys.readouterr()
    assert run(["import", "products", name]) == 1
    out, err = capsys.readouterr()
    assert out == "created 1, updated 0, unchanged 0, rejected 1\n"
    assert err.startswith("row 1: ")
    assert run(["import", "products", name, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["unchanged"] == 1


@pytest.mark.usefixtures("settings")
def test_a_long_import_is_cut_into_bodies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["platform", "create", "shop", "--create-program", "leaves"])
    rows = [f"eu-ecolabel,IT/004/{number:05d},Mill,2026-01-01,2028-12-31," for number in range(5_003)]
    (tmp_path / "c.csv").write_text("\n".join(["scheme,number,holder,valid_from,valid_until,gtins", *rows, "eu-ecolabel,x,Mill,no,no,"]))
    capsys.readouterr()
    assert run(["import", "certificates", "c.csv"]) == 1
    out, err = capsys.readouterr()
    assert out == "created 5003, updated 0, unchanged 0, rejected 1\n"
    assert err.startswith("row 5003: ")


@pytest.mark.usefixtures("settings")
def test_plastics_are_imported_and_corrected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["platform", "create", "shop", "--create-program", "leaves"])
    heading = "id,period,class,kind,mass_kg,units,merchant"
    rows = [f"r-{number},2025H1,plastic_mailer,used,0.5,{number},m-{number % 9}" for number in range(5_003)]
    (tmp_path / "p.csv").write_text("\n".join([heading, *rows, "r-x,2025H1,circular_box,used,1,,"]))
    capsys.readouterr()
    assert run(["import", "plastics", "p.csv", "--platform", "shop"]) == 1
    out, err = capsys.readouterr()
    assert out == "created 5003, updated 0, unchanged 0, rejected 1\n"
    assert err == "row 5003: /class: is not reported as disposable plastic\n"
    (tmp_path / "p.csv").write_text("\n".join([heading, *rows[:9], rows[9].replace("0.5", "0.7")]))
    assert run(["import", "plastics", "p.csv", "--platform", "shop"]) == 0
    assert capsys.readouterr().out == "created 0, updated 1, unchanged 9, rejected 0\n"
    assert run(["import", "plastics", "p.csv", "--platform", "nobody"]) == 1
    assert "no platform" in capsys.readouterr().err


def test_migrate_says_what_it_did(
    empty_database: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GREENPOINTS_DATABASE_URL", empty_database)
    monkeypatch.setenv("GREENPOINTS_MASTER_KEY", MASTER_KEY)
    monkeypatch.setenv("GREENPOINTS_BALANCE_REDIS_URL", redis_url)
    monkeypatch.setenv("GREENPOINTS_QUEUE_REDIS_URL", redis_url)
    assert run(["migrate", "--check"]) == 1
    missing = capsys.readouterr().out
    assert missing.startswith("missing 0001_main_job.sql\n")
    assert run(["token", "--platform", "shop", "--consumer", "c"]) == 1
    assert "run `greenpoints migrate`" in capsys.readouterr().err
    assert run(["migrate"]) == 0
    assert capsys.readouterr().out == missing.replace("missing", "applied")
    assert run(["migrate"]) == 0
    assert capsys.readouterr().out == "nothing to apply\n"
    assert run(["migrate", "--check"]) == 0

"""`greenpoints replay`: exit codes, a dry run, JSON; and that commands which change something are in the audit."""

import asyncio
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from schemas.rewards import RewardBody
from service.cli import run
from service.flows.reward_catalogue import create_reward
from service.settings import Settings
from tests.api.test_audit import RECORDED
from tests.sealer import SEALER

EVENT = {"type": "activity.completed", "occurred_at": "2026-01-01T00:00:00Z", "consumer": "c", "activity": "refill"}
ALWAYS = ["--from", "2020-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00+08:00"]


@pytest.fixture(autouse=True)
def own_servers(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No command reaches the system of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GREENPOINTS_DATA_DIR", raising=False)
    for name in ("database_url", "balance_redis_url", "queue_redis_url", "master_key"):
        monkeypatch.setenv(f"GREENPOINTS_{name.upper()}", getattr(settings, name))


def ask(settings: Settings, sql: str, *arguments: Any) -> list[Any]:
    async def work() -> list[Any]:
        conn = await asyncpg.connect(settings.database_url)
        try:
            return [tuple(row) for row in await conn.fetch(sql, *arguments)]
        finally:
            await conn.close()

    return asyncio.run(work())


def make_reward(settings: Settings) -> None:
    """A reward with codes in the only program that there is."""

    async def work() -> None:
        conn = await asyncpg.connect(settings.database_url)
        try:
            program = await conn.fetchval("SELECT id FROM program")
            await create_reward(conn, RewardBody(code="film", name="A film", points=10, vouchers=True), sealer=SEALER, program=program)
        finally:
            await conn.close()

    asyncio.run(work())


JUDGED = """
INSERT INTO verdict (program, seq, bucket, account, event, points, outcome, enforced, model, score, own, judged_at)
SELECT program, 1, bucket, account, number, 10, 1, true, 0, 10, 10, now() FROM event LIMIT 1
"""
LABELS = """
INSERT INTO fraud_label (program, event, fraud, points, score, strengths, source)
SELECT p.id, 1000000 + n, n % 2 = 0, 10, 10, CASE n % 2 WHEN 0 THEN '{"burst": 4}' ELSE '{}' END, 'import' FROM program p, generate_series(1, 60) n
"""
KEEP = """
INSERT INTO delivery (program, platform, hook, outcome, detail, body)
SELECT p.program, p.id, h.id, 'untranslatable', 'as it was', $1 FROM hook h JOIN platform p ON p.id = h.platform
 WHERE h.connector = 'standard' RETURNING id
"""


def kept(settings: Settings, name: str | None) -> str:
    """A failed delivery of an event; None: one that cannot be read."""
    body = json.dumps({"type": EVENT["type"], "data": EVENT | {"id": name}}) if name else "nonsense"
    return str(ask(settings, KEEP, body.encode())[0][0])


def test_deliveries_are_replayed_by_id_and_by_range(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["platform", "create", "shop", "--create-program", "leaves"]) == 0
    first, second, bad = kept(settings, "e-1"), kept(settings, "e-2"), kept(settings, None)
    capsys.readouterr()
    assert run(["replay", *ALWAYS, "--dry-run"]) == 1
    out, err = capsys.readouterr()
    assert out == "would be credited 0, duplicates 0, ignored 2, failed 1\n"
    assert err == f"{bad}: untranslatable: the body is not JSON in UTF-8\n"
    assert ask(settings, "SELECT count(*) FROM event") == [(0,)]
    assert run(["replay", first]) == 0
    assert run(["replay", *ALWAYS, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert [(item["id"], item["outcome"]) for item in answer["items"]] == [(second, "ignored"), (bad, "untranslatable")]
    assert run(["replay", *ALWAYS, "--outcome", "ignored", "--platform", "shop"]) == 0
    assert run(["replay", *ALWAYS, "--platform", "nobody"]) == 0
    assert run(["replay", "999999"]) == 1
    assert "no such delivery" in capsys.readouterr().err
    assert ask(settings, "SELECT count(*) FROM event") == [(2,)]
    assert ask(settings, "SELECT attempts FROM delivery ORDER BY id") == [(2,), (2,), (1,)]


@pytest.mark.parametrize(
    "words",
    [
        [], ["1", *ALWAYS], ALWAYS[:2], ["1", "--hook", "x"], ["x"], ["0"], ["--from", "2026-01-01", "--to", "2027-01-01T00:00:00Z"],
        ["--from", "2027-01-01T00:00:00Z", "--to", "2026-01-01T00:00:00Z"], [*ALWAYS, "--outcome", "lost"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_every_command_that_changes_something_is_in_the_audit_once(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("gtin,name,category,platform,sku\n06901234567892,Paper,paper,shop,A-1\n")
    (tmp_path / "c.csv").write_text("scheme,number,holder,valid_from,valid_until,gtins\neu-ecolabel,IT/004/001,M,2026-01-01,2028-12-31,\n")
    (tmp_path / "b.csv").write_text("id,consumer,points,expires_on\nb-1,somebody-there,40,\n")
    (tmp_path / "a.csv").write_text("asset,class,max_trips\nbox-1,circular_box,20\n")
    (tmp_path / "l.csv").write_text("id,period,class,kind,mass_g\nl-1,2025H1,plastic_mailer,used,12.5\n")
    (tmp_path / "v.csv").write_text("code\nBEARER-VALUE-1\n")
    assert run(["platform", "create", "first", "--create-program", "leaves"]) == 0
    make_reward(settings)
    delivery = kept(settings, "e-1")
    assert run(["backup", "b"]) == 0
    words = {
        "restore": ["b", "--replace", settings.database_url.rpartition("/")[2]],
        "platform create": ["shop"], "platform rotate-key": ["shop"], "operator create": ["a@example.org"],
        "operator reset-password": ["a@example.org"], "operator deactivate": ["a@example.org"], "import certificates": ["c.csv"],
        "import assets": ["a.csv"], "import products": ["p.csv"], "import balances": ["b.csv", "--platform", "shop"], "import plastics": ["l.csv", "--platform", "shop"],
        "import vouchers": ["v.csv", "--reward", "film"], "keys rotate-master": [],
        "replay": [delivery], "fraud labels import": ["f.ndjson"], "fraud tune": ["--force", "--save-draft", "--background", "0"],
        "program create": ["second", "--currency", "leaves"],
    }  # fmt: skip
    assert words.keys() == RECORDED.keys()
    for command, arguments in words.items():
        if command == "fraud labels import":
            judged = ask(settings, f"{JUDGED} RETURNING (SELECT e.id FROM event e WHERE e.number = event)")[0][0]
            label = {"platform": "first", "event": judged, "fraud": True}
            (tmp_path / "f.ndjson").write_text(json.dumps(label) + "\n")
            ask(settings, LABELS)
        before = ask(settings, "SELECT max(id) FROM audit")[0][0]
        assert run([*command.split(), *arguments]) == 0, command
        rows = ask(settings, "SELECT actor, action FROM audit WHERE id > $1", before)
        assert rows == [("command", RECORDED[command])], command
    shown = ask(settings, "SELECT string_agg(a::text, '') FROM audit a")[0][0]
    assert "a@example.org" not in shown
    assert "somebody-there" not in shown
    assert "BEARER" not in shown

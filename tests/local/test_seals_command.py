"""`greenpoints seals` as a script calls it: exit codes, one JSON document on standard output, lines that can be hashed."""

import asyncio
import hashlib
import json
from typing import Any

import asyncpg
import pytest

from service.cli import run
from service.settings import Settings
from tests.tampering import tamper


@pytest.fixture(autouse=True)
def own_servers(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENPOINTS_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("GREENPOINTS_BALANCE_REDIS_URL", settings.balance_redis_url)
    monkeypatch.setenv("GREENPOINTS_QUEUE_REDIS_URL", settings.queue_redis_url)


def do(database: str, *statements: str) -> list[Any]:
    """Whatever triggers say; the rows of the last one."""

    async def work() -> list[Any]:
        connection = await asyncpg.connect(database)
        try:
            await tamper(connection, *statements[:-1], "SELECT")
            return await connection.fetch(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(work())


BOOK = (
    "INSERT INTO program (code, name, currency, time_zone) VALUES ('green', 'Green', 'leaf', 'UTC') ON CONFLICT DO NOTHING",
    "INSERT INTO account (bucket, id, program, last_seq) SELECT n, n, (SELECT min(id) FROM program), 2 FROM generate_series(1, 3) n",
    """
    INSERT INTO entry SELECT a, a, s, 1, 9, s, 3 - 2 * s, (SELECT min(id) FROM program), 1, 1, 0, 0, 0, 1, now() - interval '1 hour'
    FROM generate_series(1, 3) a, generate_series(1, 2) s
    """,
)


def test_sealing_and_verifying(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["seals", "verify"]) == 0
    assert capsys.readouterr().out.startswith("every seal holds (0 blocks, 0 entries; ")
    do(settings.database_url, *BOOK, "SELECT")
    assert run(["seals", "now"]) == 0
    assert capsys.readouterr().out == "sealed 6 entries in 1 blocks\n"
    ((head, content),) = do(settings.database_url, "SELECT encode(head, 'hex'), encode(content, 'hex') FROM seal")
    assert run(["seals", "verify", "--json", "--head", head.upper()]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["blocks"], report["entries"], report["broken"]) == (True, 1, 6, [])
    assert run(["seals", "lines", "1"]) == 0
    lines = capsys.readouterr().out
    assert hashlib.sha256(lines.encode()).hexdigest() == content
    for line in lines.splitlines():
        account, _, _, hashed = line.split("|")
        assert run(["seals", "lines", "1", "--account", account, "--program", "green"]) == 0
        assert hashlib.sha256(capsys.readouterr().out.encode()).hexdigest() == hashed
    do(settings.database_url, "UPDATE entry SET at = now() WHERE account = 2 AND seq = 2", "SELECT")
    assert run(["seals", "verify"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "BROKEN block 1 of program green: account 2, entries 1 to 2: not what was sealed"
    assert out[1].startswith("1 findings (1 blocks, 6 entries; ")
    assert run(["seals", "verify", "--from", "2"]) == 0


def test_what_is_asked_wrongly_is_said(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    do(settings.database_url, *BOOK, "SELECT")
    assert run(["seals", "verify", "--head", "abc"]) == 2
    assert run(["seals", "verify", "--head", "0" * 64, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["broken"] == [f"no block has the head {'0' * 64}"]
    assert run(["seals", "lines", "1"]) == 1
    assert run(["seals", "verify", "--program", "nobody"]) == 1

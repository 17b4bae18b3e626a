"""Every line of a process is one structured event, and none shows a secret: seen from outside, in a process of its own."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from service.domain import secrets
from service.local.ports import choose_port
from service.logs import redact
from service.settings import Settings
from tests.servers import Program

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import asyncio, logging, sys, warnings
import structlog
from service.logs import configure_logging
configure_logging(sys.argv[1])
{code}
"""


def lines(code: str, log_format: str = "json") -> list[str]:
    """What a process with this code writes to standard error."""
    program = PROGRAM.format(code=code)
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", program, log_format], capture_output=True, text=True, cwd=ROOT, timeout=30, check=False
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def events(code: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(code)]


def test_our_lines_have_event_level_timestamp_and_what_is_bound() -> None:
    (event,) = events(
        "structlog.contextvars.bind_contextvars(request_id='r-1'); structlog.get_logger('greenpoints.x').info('done', points=3)"
    )
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "done", "level": "info", "points": 3, "request_id": "r-1"}


@pytest.mark.parametrize("name", ["asyncpg", "arq.worker", "_granian", "litestar", "redis", "asyncio"])
def test_lines_of_others_have_the_same_form(name: str) -> None:
    (event,) = events(f"structlog.contextvars.bind_contextvars(request_id='r-1'); logging.getLogger({name!r}).warning('went %s', 'away')")
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "went away", "level": "warning", "logger": name, "request_id": "r-1"}


def test_others_are_heard_from_warnings_on_only() -> None:
    assert lines("logging.getLogger('httpx').info('GET https://x/?token=1'); logging.getLogger('arq.worker').info('a job')") == []


FAILING = """
def fail(authorization):
    raise ValueError("it failed")
def main(log):
    try:
        fail("gpk_" + "live_" + "x" * 30)
    except ValueError:
        log()
"""


@pytest.mark.parametrize("log", ["structlog.get_logger('g').exception('broken')", "logging.getLogger('asyncpg').exception('broken')"])
def test_an_exception_is_one_line_without_its_message_and_local_variables(log: str) -> None:
    (event,) = events(f"{FAILING}\nmain(lambda: {log})")
    assert event["event"] == "broken"
    assert event["exception"].endswith("\nbuiltins.ValueError")
    assert "it failed" not in event["exception"], "a message may quote a person's data"
    assert "gpk_" not in event["exception"]
    assert "\n" in event["exception"], "the trace is inside the line's JSON"


def test_a_crash_and_a_warning_are_lines_too() -> None:
    warning, crash = events("warnings.warn('old'); raise ValueError('the end')")
    assert (warning["logger"], warning["event"].startswith("UserWarning: old")) == ("py.warnings", True)
    assert (crash["level"], crash["event"]) == ("critical", "the process ends by an error")
    assert crash["exception"].endswith("\nbuiltins.ValueError")
    assert "the end" not in crash["exception"]


RANDOM = bytes(range(100, 132))
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJjdXN0LTQyIn0.c2lnbmF0dXJl"
SECRETS = [
    secrets.platform_key(RANDOM), secrets.operator_token(RANDOM), secrets.webhook_secret(RANDOM), JWT, JWT.rpartition(".")[0],
    f"Bearer {JWT}", "Bearer abcdefgh", "Basic YTpi",
]  # fmt: skip
WAYS = """
for s in {secrets!r}:
    structlog.get_logger('g').info('about ' + s)
    structlog.get_logger('g').info('about', deep={{'headers': [s]}})
    structlog.get_logger('g').info('about', exc_info=ValueError(s))
    logging.getLogger('asyncpg').warning('about %s', s)
    logging.getLogger('asyncpg').error('about', exc_info=ValueError(s))
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_are_masked_wherever_they_stand(log_format: str) -> None:
    written = "\n".join(lines(WAYS.format(secrets=SECRETS), log_format))
    assert written.count("about") == 5 * len(SECRETS)
    assert written.count("***") >= 3 * len(SECRETS)
    assert written.count("builtins.ValueError") == 2 * len(SECRETS), "an error's message is left out as a whole"
    for secret in SECRETS:
        assert secret not in written
        assert secret[-8:] not in written


def test_passwords_rows_and_queries_are_masked() -> None:
    assert redact("postgresql://app:s3cr3t@db:5432/x") == "postgresql://app:***@db:5432/x"
    assert redact("duplicate key\nDETAIL:  Key (reference)=(cust-42) already exists.\nHINT: x") == "duplicate key\nDETAIL: ***\nHINT: x"
    assert redact(r'{"e": "duplicate key\nDETAIL:  Key (reference)=(cust-42) exists."}') == r'{"e": "duplicate key\nDETAIL: ***"}'
    assert redact("GET https://shop.example/keys?consumer=cust-42 200") == "GET https://shop.example/keys?*** 200"


@pytest.mark.parametrize("text", ["points were credited", "a_gpk", "2026-11-22T09:00:00Z", "balance Redis does not answer", "/v1/events"])
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


async def test_every_line_of_real_processes_is_an_event(settings: Settings, tmp_path: Path) -> None:
    """With both Redis away, as libraries then have something to say."""
    gone = f"redis://:hunter2@127.0.0.1:{choose_port()}/0"
    settings = msgspec.structs.replace(settings, balance_redis_url=gone, queue_redis_url=gone)
    made = [Program(module, settings, tmp_path / f"{module}.log") for module in ("service.api", "workers")]
    for program in made:
        program._environ["GREENPOINTS_LOG_FORMAT"] = "json"
    try:
        await asyncio.gather(*(program.start() for program in made))
        async with httpx.AsyncClient(base_url=made[0].url) as client:
            await client.get("/v1/me/balance", headers={"Authorization": "Bearer gpk_live_private"})
        end = time.monotonic() + 20
        while "queue Redis does not answer" not in (tmp_path / "workers.log").read_text():
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
    finally:
        for program in made:
            program.end()
    written = "\n".join((tmp_path / f"{module}.log").read_text() for module in ("service.api", "workers"))
    for line in written.split("\n"):
        if line:
            assert {"event", "level", "timestamp"} <= set(json.loads(line)), line
    assert "hunter2" not in written
    assert "gpk_live_private" not in written

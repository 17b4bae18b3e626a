"""Callers that are not let in are logged: why, who, which platform; never what they sent as proof, and not without a bound."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from litestar import Litestar
from structlog.testing import capture_logs

from service.api import refusals
from service.api.refusals import MAX_LINES, PERIOD_S, Refusals
from service.domain import secrets
from service.domain.errors import Unauthenticated
from service.flows import administer
from tests.api.operators import Operators
from tests.sealer import SEALER


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other test has used up the lines of this period."""
    monkeypatch.setattr(refusals, "note", Refusals().note)


async def test_every_kind_of_refusal_is_one_line_without_the_proof(operators: Operators, app: Litestar) -> None:
    async with operators.pool.acquire() as conn:
        consumer = await administer.consumer_token(conn, sealer=SEALER, platform="shop", consumer="c-secret-42", ttl=timedelta(hours=1))
        limited = (await administer.create_key(conn, program=operators.program, platform="shop", scopes=("events:read",))).key
        hook = await conn.fetchval("SELECT id FROM hook WHERE platform = $1 AND connector = 'standard'", operators.platform)
    head, body, signature = consumer.split(".")
    forged = f"{head}.{body}.{signature[:9]}{'A' if signature[9] != 'A' else 'B'}{signature[10:]}"
    unknown_key, unknown_token = secrets.platform_key(bytes(24)), secrets.operator_token(bytes(24))
    cases: list[tuple[str, str, str | None, str, str | None]] = [
        ("GET", "/v1/events", unknown_key, "platform", None),
        ("GET", "/v1/events", unknown_key[:-1], "platform", None),
        ("GET", "/v1/events", None, "platform", None),
        ("GET", "/v1/events", consumer, "platform", None),
        ("POST", "/v1/events", limited, "platform", "shop"),
        ("GET", "/v1/me/balance", forged, "consumer", "shop"),
        ("GET", "/v1/me/balance", "a.b.c", "consumer", None),
        ("GET", "/v1/campaigns", unknown_token, "operator", None),
        ("GET", "/v1/audit", operators.tokens["viewer"], "operator", None),
        ("POST", f"/v1/hooks/{hook}", None, "hook", "shop"),
    ]
    for method, path, proof, kind, platform in cases:
        headers = {} if proof is None else {"Authorization": f"Bearer {proof}"}
        with capture_logs() as lines:
            answer = await operators.client.request(method, path, headers=headers, json={} if method == "POST" else None)
        assert answer.status_code in (401, 403), path
        refused = [line for line in lines if line["event"] == "caller refused"]
        assert [(line["caller"], line["platform"], line["log_level"]) for line in refused] == [(kind, platform, "warning")], path
        assert refused[0]["reason"]
        written = json.dumps(lines)
        assert "c-secret-42" not in written
        assert proof is None or proof not in written
        assert signature not in written


async def test_failed_sign_ins_and_clients_are_logged_without_address_and_secret(operators: Operators) -> None:
    calls: list[tuple[Callable[[], Any], str]] = [
        (
            lambda: operators.client.post("/v1/operators/sign-in", json={"email": "ada@example.com", "password": "wrong horse battery"}),
            "sign-in",
        ),
        (
            lambda: operators.client.post(
                "/v1/oauth/token", data={"grant_type": "client_credentials", "client_id": "shop", "client_secret": "wrong horse battery"}
            ),
            "client",
        ),
    ]
    for call, kind in calls:
        with capture_logs() as lines:
            assert (await call()).status_code == 401
        assert [line["caller"] for line in lines if line["event"] == "caller refused"] == [kind]
        assert "horse" not in json.dumps(lines)
        assert "ada@" not in json.dumps(lines)


def test_the_lines_of_a_period_are_bounded_and_the_rest_is_counted() -> None:
    log, error = Refusals(), Unauthenticated("No.").about("platform", "shop")
    with capture_logs() as lines:
        for _ in range(MAX_LINES + 500):
            log.note(error, now_s=100.0)
    assert len(lines) == MAX_LINES
    with capture_logs() as lines:
        log.note(error, now_s=100.0 + PERIOD_S)
        log.note(error, now_s=100.0 + PERIOD_S)
    assert [(line["event"], line.get("number")) for line in lines] == [
        ("more callers refused", 500),
        ("caller refused", None),
        ("caller refused", None),
    ]
    with capture_logs() as lines:
        log.note(error, now_s=100.0 + 3 * PERIOD_S)
    assert [line["event"] for line in lines] == ["caller refused"]

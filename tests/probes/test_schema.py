"""Requests made from /openapi.json, sound and unsound: every answer is one that the document describes, and none is a 500.

Seeded and short by default; with HYPOTHESIS_PROFILE=long at random and for minutes.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.core import NOT_SET

from tests.probes.documented import Documented
from tests.probes.routes import kinds_of
from tests.probes.tenants import Caller, Deployment

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
EXAMPLES = 300 if LONG else 8
"""Of each route, for each kind of caller who gets somewhere."""
REFUSED_EXAMPLES = 20 if LONG else 2
"""Of each route that wants a proof, without one: it is refused before anything else is looked at."""
ANSWER_TIMEOUT_S = 20.0
CALLERS = ("nobody", "platform a", "consumer of aa9", "station of aa9", "operator: admin")

pytestmark = [pytest.mark.timeout(3_600 if LONG else 600), pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("name", CALLERS)
async def test_answers_are_those_that_the_document_describes(deployment: Deployment, name: str) -> None:
    caller = deployment.caller(name)
    documented = Documented(deployment.app)
    for operation in documented.operations(caller.kind):
        await asyncio.to_thread(_explore, deployment, documented, operation, caller, asyncio.get_running_loop())


def _explore(deployment: Deployment, documented: Documented, operation: Any, caller: Caller, loop: asyncio.AbstractEventLoop) -> None:
    """Requests of one operation, each sent from the loop that has the application, while Hypothesis goes on here."""

    refused = caller.kind is None and bool(operation.definition.raw.get("security"))
    cases = {mode: operation.as_strategy(generation_mode=mode) for mode in GenerationMode}

    @settings(
        max_examples=REFUSED_EXAMPLES if refused else EXAMPLES, deadline=None, derandomize=not LONG, database=None, print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        phases=(Phase.explicit, Phase.generate, Phase.shrink), report_multiple_bugs=True,
    )  # fmt: skip
    @given(data=st.data())
    def explore(data: st.DataObject) -> None:
        case = data.draw(cases[data.draw(st.sampled_from(tuple(GenerationMode)))])
        if data.draw(st.booleans()):
            case.path_parameters = dict(_real(case, deployment))
        answer = asyncio.run_coroutine_threadsafe(_send(deployment, case, caller), loop).result(ANSWER_TIMEOUT_S)
        documented.check(answer, case)

    explore()


async def _send(deployment: Deployment, case: Any, caller: Caller) -> httpx.Response:
    return await deployment.client.request(
        case.method,
        httpx.URL("http://test" + _path(case)),
        params=_query(case),
        content=_content(case),
        headers=_headers(case) | {name.encode(): value.encode() for name, value in caller.headers.items()},
    )


def _real(case: Any, deployment: Deployment) -> Iterator[tuple[str, Any]]:
    """Path parameters that name objects there are, so that requests get further than to a 404."""
    for (name, value), kind in zip((case.path_parameters or {}).items(), kinds_of(case.method.upper(), case.path), strict=True):
        yield name, deployment.a.objects.get(kind or "", value)


def _path(case: Any) -> str:
    path: str = case.path
    for name, value in (case.path_parameters or {}).items():
        path = path.replace("{" + name + "}", quote(str(value), safe="", errors="replace") or "-")
    return path


def _query(case: Any) -> list[tuple[str, str]]:
    pairs = []
    for name, value in (case.query or {}).items():
        for each in value if isinstance(value, list) else [value]:
            pairs.append((name, each if isinstance(each, str) else json.dumps(each)))  # noqa: PERF401 - two loops read better
    return [(name.encode("utf-8", "replace").decode(), value.encode("utf-8", "replace").decode()) for name, value in pairs]


def _content(case: Any) -> bytes | None:
    if case.body is NOT_SET or isinstance(case.body, bytes | None):
        return None if case.body is NOT_SET else case.body
    if case.media_type == "application/x-www-form-urlencoded" and isinstance(case.body, dict):
        fields = [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in case.body.items()]
        return urlencode(fields, errors="replace").encode()
    return json.dumps(case.body).encode()


def _headers(case: Any) -> dict[bytes, bytes]:
    sent = {str(k).encode("latin-1", "replace"): str(v).encode("latin-1", "replace") for k, v in (case.headers or {}).items()}
    if case.body is not NOT_SET:
        sent.setdefault(b"Content-Type", (case.media_type or "application/json").encode())
    return sent

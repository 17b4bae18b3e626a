"""Versions of the fraud model, its signals, and monitors: for operators (docs/fraud-models.md)."""

from datetime import date
from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.params import FromPath, QueryParameter

from schemas.fraud_models import (
    ActivationBody,
    FraudModelAnswer,
    FraudModelBody,
    FraudModelDetails,
    FraudMonitor,
    SignalAnswer,
    SignalSwitch,
)
from schemas.pages import Page
from service.api.bodies import decode_body
from service.api.callers import callers_of
from service.api.changes import change_by
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Position, page_of, read_cursor
from service.api.database import connection
from service.domain.errors import NotFound
from service.domain.roles import MAY
from service.flows import fraud_models as flow
from service.flows import fraud_monitor

TAGS: Final = ["Fraud models"]
MAX_DIGITS: Final = 10

AnyRequest = Request[Any, Any, Any]
From = Annotated[date | None, QueryParameter(name="from", description="A local day of the program; 28 days before `to`, if left out.")]
To = Annotated[date | None, QueryParameter(name="to", description="A local day, not included; tomorrow, if left out.")]


@get("/v1/fraud/models", tags=TAGS, opt={"answer": Page[FraudModelAnswer]})
async def list_fraud_models(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[FraudModelAnswer]:
    """List the versions of the program's model, newest first; the last is version 0, which is shipped."""
    caller = await callers_of(request).operator(request, *MAY["fraud-models:read"])
    before = min(read_cursor(cursor, Position, flow.NEWEST), flow.NEWEST)
    async with connection(request) as conn:
        rows = await flow.page(conn, program=caller.program, before=before, limit=limit + 1)
    return page_of(rows, limit, item=lambda row: row, position=lambda row: row.version)


@get("/v1/fraud/models/{version:str}", tags=TAGS, opt={"answer": FraudModelDetails})
async def read_fraud_model(request: AnyRequest, version: FromPath[str]) -> FraudModelDetails:
    """Read one version with what tuning said about it."""
    caller = await callers_of(request).operator(request, *MAY["fraud-models:read"])
    async with connection(request) as conn:
        return await flow.read(conn, _number(version), program=caller.program)


@post("/v1/fraud/models", tags=TAGS, opt={"body": FraudModelBody, "answer": FraudModelAnswer})
async def draft_fraud_model(request: AnyRequest) -> FraudModelAnswer:
    """Save a new version as a draft: nobody asks it until it is activated. Each request makes one."""
    caller = await callers_of(request).operator(request, *MAY["fraud-models:write"])
    body = await decode_body(request, FraudModelBody)
    async with connection(request) as conn:
        return await flow.draft(conn, body, program=caller.program, operator=caller.operator, change=change_by(caller))


@post("/v1/fraud/models/{version:str}/activate", tags=TAGS, status_code=200, opt={"body": ActivationBody, "answer": FraudModelAnswer})
async def activate_fraud_model(request: AnyRequest, version: FromPath[str]) -> FraudModelAnswer:
    """Let a version run, or be asked beside the running one (`shadow`), or retire it. It counts within seconds; a repeat changes nothing.

    One version runs and one may stand beside it: who was there before is retired. Version 0, the shipped one, can be run again.
    """
    caller = await callers_of(request).operator(request, *MAY["fraud-models:write"])
    body = await decode_body(request, ActivationBody)
    async with connection(request) as conn:
        return await flow.activate(conn, _number(version), body.as_, program=caller.program, change=change_by(caller))


@get("/v1/fraud/signals", tags=TAGS, opt={"answer": Page[SignalAnswer]})
async def list_signals(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[SignalAnswer]:
    """List all signals with their weights in the running model, and which are off."""
    caller = await callers_of(request).operator(request, *MAY["fraud-models:read"])
    after = read_cursor(cursor, Position, 0)
    async with connection(request) as conn:
        found = list(enumerate(await flow.signals(conn, program=caller.program), start=1))
    return page_of(found[after : after + limit + 1], limit, item=lambda row: row[1], position=lambda row: row[0])


@post("/v1/fraud/signals/{signal:str}", tags=TAGS, status_code=200, opt={"body": SignalSwitch, "answer": SignalAnswer})
async def switch_signal(request: AnyRequest, signal: FromPath[str]) -> SignalAnswer:
    """Switch a signal off or on again, within seconds: a new version runs that differs in that alone. A repeat does nothing."""
    caller = await callers_of(request).operator(request, *MAY["fraud-models:write"])
    body = await decode_body(request, SignalSwitch)
    async with connection(request) as conn:
        return await flow.switch(
            conn, signal, on=body.on, reason=body.reason, program=caller.program, operator=caller.operator, change=change_by(caller)
        )


@get("/v1/fraud/monitor", tags=TAGS, opt={"answer": FraudMonitor})
async def read_monitor(request: AnyRequest, from_: From = None, to: To = None) -> Response[FraudMonitor]:
    """Scores, holds and signals by local day and version, whether scores drift, and how many cases were decided a day."""
    caller = await callers_of(request).operator(request, *MAY["fraud-models:read"])
    async with connection(request) as conn:
        return Response(await fraud_monitor.monitor(conn, program=caller.program, from_=from_, to=to))


def _number(version: str) -> int:
    """A version from the path. Raises NotFound for what is none."""
    if not version.isascii() or not version.isdigit() or len(version) > MAX_DIGITS:
        raise NotFound("There is no such version of the model.")
    return int(version)


routes = [
    list_fraud_models,
    read_fraud_model,
    draft_fraud_model,
    activate_fraud_model,
    list_signals,
    switch_signal,
    read_monitor,
]

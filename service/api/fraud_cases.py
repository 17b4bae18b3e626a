"""Fraud cases: listed, read, decided by operators (docs/fraud-cases.md)."""

from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.params import FromPath, QueryParameter

from schemas.adjustments import DecisionBody
from schemas.bounds import MAX_NUMBER_DIGITS, MAX_POINTS
from schemas.fraud import CaseAnswer, CaseOrder, CaseStatus, CaseSummary, FraudDecisionBody
from schemas.pages import Page
from service.api.bodies import decode, decode_body, read_body, require_json
from service.api.callers import OperatorCaller, callers_of
from service.api.changes import change_by
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Position, page_of, read_cursor
from service.api.database import connection
from service.domain.errors import NotFound
from service.domain.roles import MAY
from service.flows import fraud_cases, fraud_reject
from service.flows.fraud_cases import LAST
from service.runtime import Resources

TAGS: Final = ["Fraud"]
MAX_NOTE_BYTES: Final = 4_096

AnyRequest = Request[Any, Any, Any]
StatusFilter = Annotated[CaseStatus | None, QueryParameter(description="Only those in this state; without it all that are not closed.")]
MinPoints = Annotated[int, QueryParameter(ge=0, le=MAX_POINTS, description="Only those whose events have at least so many points.")]
Order = Annotated[CaseOrder, QueryParameter(description="Those first with most to lose, or the newest.")]


@get("/v1/fraud/cases", tags=TAGS, opt={"answer": Page[CaseSummary]})
async def list_fraud_cases(
    request: AnyRequest,
    status: StatusFilter = None,
    min_points: MinPoints = 0,
    order: Order = "expected_loss",
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[CaseSummary]:
    """List fraud cases, those first with most to lose; `within_budget` are those that today's reviewers get to."""
    caller = await callers_of(request).operator(request, *MAY["fraud:read"])
    before = read_cursor(cursor, tuple[Position, Position], (LAST, LAST))
    async with connection(request) as conn:
        found = await fraud_cases.page(
            conn, program=caller.program, status=status, min_points=min_points, order=order, before=before, limit=limit + 1
        )
    return page_of(found, limit, item=lambda row: row[1], position=lambda row: row[0])


@get("/v1/fraud/cases/{case:str}", tags=TAGS, opt={"answer": CaseAnswer})
async def read_fraud_case(request: AnyRequest, case: FromPath[str]) -> CaseAnswer:
    """Read a fraud case: ring, events with reasons, links between accounts, timeline, decisions."""
    caller = await callers_of(request).operator(request, *MAY["fraud:read"])
    return await _read(request, _number(case), caller)


@post("/v1/fraud/cases/{case:str}/decision", tags=TAGS, status_code=200, opt={"body": FraudDecisionBody, "answer": CaseAnswer})
async def decide_fraud_case(request: AnyRequest, case: FromPath[str]) -> Response[CaseAnswer]:
    """Approve or reject what is undecided of a case, or the events that are named.

    Above the program's `alone_points` it is proposed (202): another operator says the same to confirm it, or the other to refuse it. What
    is rejected is taken back at once; of more than 100 events a worker does the rest within seconds.
    """
    caller = await callers_of(request).operator(request, *MAY["fraud:decide"])
    number = _number(case)
    body = await decode_body(request, FraudDecisionBody)
    resources: Resources = request.app.state.resources
    async with connection(request) as conn:
        decided = await fraud_cases.decide(conn, number, body, program=caller.program, operator=caller.operator, change=change_by(caller))
        if decided.done:
            await fraud_reject.carry_out(conn, resources.projection, resources.knowledge, number)
    return Response(await _read(request, number, caller), status_code=202 if decided.waits else 200)


@post("/v1/fraud/cases/{case:str}/withdraw", tags=TAGS, status_code=200, opt={"body": DecisionBody, "answer": CaseAnswer})
async def withdraw_fraud_decision(request: AnyRequest, case: FromPath[str]) -> CaseAnswer:
    """Withdraw a decision that one has proposed oneself."""
    caller = await callers_of(request).operator(request, *MAY["fraud:decide"])
    number = _number(case)
    require_json(request.headers.get("content-type", "application/json").encode("latin-1"))
    content = await read_body(request, MAX_NOTE_BYTES)
    body = decode(content, DecisionBody) if content else DecisionBody()
    async with connection(request) as conn:
        await fraud_cases.withdraw(conn, number, note=body.note, program=caller.program, operator=caller.operator, change=change_by(caller))
    return await _read(request, number, caller)


async def _read(request: AnyRequest, number: int, caller: OperatorCaller) -> CaseAnswer:
    async with connection(request) as conn:
        return await fraud_cases.read(conn, number, program=caller.program, names=caller.role in MAY["personal:read"])


def _number(case: str) -> int:
    """A case's id from the path. Raises NotFound for what is none."""
    if not case.isascii() or not case.isdigit() or len(case) > MAX_NUMBER_DIGITS:
        raise NotFound("There is no such case.")
    return int(case)


routes = [list_fraud_cases, read_fraud_case, decide_fraud_case, withdraw_fraud_decision]

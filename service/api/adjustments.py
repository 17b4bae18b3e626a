"""Adjustments by operators: proposed, decided by another one, listed (docs/adjustments.md)."""

from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.params import FromPath, QueryParameter

from schemas.adjustments import AdjustmentAnswer, AdjustmentBody, AdjustmentStatus, DecisionBody
from schemas.base import PRINTABLE
from schemas.bounds import MAX_CODE_CHARS, MAX_KEY_CHARS
from schemas.pages import Page
from service.api.bodies import decode, decode_body, read_body, require_json
from service.api.callers import callers_of
from service.api.changes import change_by
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Position, page_of, read_cursor
from service.api.database import connection
from service.api.repeats import REPLAYED, IdempotencyKey, idempotency_key_of, request_hash
from service.domain.adjustments import Step
from service.domain.errors import NotFound
from service.domain.roles import MAY
from service.flows import adjustments
from service.flows.events import NEWEST
from service.runtime import Resources

TAGS: Final = ["Adjustments"]
MAX_DIGITS: Final = 18
MAX_DECISION_BYTES: Final = 4_096

AnyRequest = Request[Any, Any, Any]
StatusFilter = Annotated[AdjustmentStatus | None, QueryParameter(description="Only those in this state.")]
PlatformFilter = Annotated[str | None, QueryParameter(max_length=MAX_CODE_CHARS, description="Only those that name a consumer of it.")]
ConsumerFilter = Annotated[
    str | None, QueryParameter(min_length=1, max_length=MAX_KEY_CHARS, pattern=PRINTABLE, description="Only those of this consumer.")
]


@post("/v1/adjustments", tags=TAGS, status_code=201, opt={"body": AdjustmentBody, "answer": AdjustmentAnswer})
async def propose_adjustment(request: AnyRequest, idempotency_key: IdempotencyKey = None) -> Response[AdjustmentAnswer]:  # noqa: ARG001
    """Give points to a consumer or take them, with a reason that the consumer may read.

    Up to the program's `adjustment_alone` it is done at once; above it waits, `pending`, for another operator.
    """
    caller = await callers_of(request).operator(request, *MAY["adjustments:write"])
    key = idempotency_key_of(request)
    body = await decode_body(request, AdjustmentBody)
    async with connection(request) as conn:
        outcome = await adjustments.propose(
            conn, body, program=caller.program, operator=caller.operator, key=key, request_hash=request_hash(request, body),
            change=change_by(caller),
        )  # fmt: skip
    return await _answered(request, outcome)


@post("/v1/adjustments/{adjustment:str}/approve", tags=TAGS, status_code=200, opt={"body": DecisionBody, "answer": AdjustmentAnswer})
async def approve_adjustment(request: AnyRequest, adjustment: FromPath[str]) -> Response[AdjustmentAnswer]:
    """Approve what another operator has proposed: it is carried out at once. A repeat changes nothing."""
    return await _decide(request, adjustment, "approve")


@post("/v1/adjustments/{adjustment:str}/reject", tags=TAGS, status_code=200, opt={"body": DecisionBody, "answer": AdjustmentAnswer})
async def reject_adjustment(request: AnyRequest, adjustment: FromPath[str]) -> Response[AdjustmentAnswer]:
    """Reject what another operator has proposed. A repeat changes nothing."""
    return await _decide(request, adjustment, "reject")


@post("/v1/adjustments/{adjustment:str}/withdraw", tags=TAGS, status_code=200, opt={"body": DecisionBody, "answer": AdjustmentAnswer})
async def withdraw_adjustment(request: AnyRequest, adjustment: FromPath[str]) -> Response[AdjustmentAnswer]:
    """Withdraw what one has proposed oneself. A repeat changes nothing."""
    return await _decide(request, adjustment, "withdraw")


async def _decide(request: AnyRequest, adjustment: str, step: Step) -> Response[AdjustmentAnswer]:
    caller = await callers_of(request).operator(request, *MAY["adjustments:write"])
    number = _number(adjustment)
    require_json(request.headers.get("content-type", "application/json").encode("latin-1"))
    content = await read_body(request, MAX_DECISION_BYTES)
    body = decode(content, DecisionBody) if content else DecisionBody()
    async with connection(request) as conn:
        outcome = await adjustments.decide(
            conn, number, step, note=body.note, program=caller.program, operator=caller.operator, change=change_by(caller)
        )
    return await _answered(request, outcome)


async def _answered(request: AnyRequest, outcome: adjustments.Outcome) -> Response[AdjustmentAnswer]:
    resources: Resources = request.app.state.resources
    await resources.projection.push(outcome.balances)
    return Response(outcome.answer, status_code=outcome.status, headers=REPLAYED if outcome.replayed else {})


@get("/v1/adjustments", tags=TAGS, opt={"answer": Page[AdjustmentAnswer]})
async def list_adjustments(
    request: AnyRequest,
    status: StatusFilter = None,
    platform: PlatformFilter = None,
    consumer: ConsumerFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[AdjustmentAnswer]:
    """List adjustments, newest first."""
    caller = await callers_of(request).operator(request, *MAY["adjustments:read"])
    before = read_cursor(cursor, Position, NEWEST)
    async with connection(request) as conn:
        found = await adjustments.page(
            conn, program=caller.program, before=before, status=status, platform=platform, consumer=consumer, limit=limit + 1
        )
    return page_of(found, limit, item=lambda row: row[1], position=lambda row: row[0])


@get("/v1/adjustments/{adjustment:str}", tags=TAGS, opt={"answer": AdjustmentAnswer})
async def read_adjustment(request: AnyRequest, adjustment: FromPath[str]) -> AdjustmentAnswer:
    """Read one adjustment in its present state."""
    caller = await callers_of(request).operator(request, *MAY["adjustments:read"])
    number = _number(adjustment)
    async with connection(request) as conn:
        return await adjustments.read(conn, number, program=caller.program)


def _number(adjustment: str) -> int:
    """An adjustment's id from the path. Raises NotFound for what is none."""
    if not adjustment.isascii() or not adjustment.isdigit() or len(adjustment) > MAX_DIGITS:
        raise NotFound("There is no such adjustment.")
    return int(adjustment)


routes = [propose_adjustment, approve_adjustment, reject_adjustment, withdraw_adjustment, list_adjustments, read_adjustment]

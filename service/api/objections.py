"""Objections to what fraud checks held or rejected: made by persons, or for them by their platform, answered by operators."""

from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.params import FromPath

from schemas.pages import Page
from schemas.reviews import DecisionOnObjection, ObjectionAnswer, ObjectionBody, ObjectionItem
from service.api.bodies import decode_body
from service.api.callers import callers_of
from service.api.changes import change_by, change_by_platform
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Position, page_of, read_cursor
from service.api.database import connection
from service.api.paths import reference
from service.api.repeats import REPLAYED
from service.domain.errors import NotFound
from service.domain.roles import MAY
from service.flows import objections
from service.flows.administer import Change
from service.runtime import Resources

TAGS: Final = ["Fraud"]
MAX_DIGITS: Final = 18

AnyRequest = Request[Any, Any, Any]


@post("/v1/me/events/{event_id:str}/objection", tags=TAGS, status_code=201, opt={"body": ObjectionBody, "answer": ObjectionAnswer})
async def object_myself(request: AnyRequest, event_id: FromPath[str]) -> Response[ObjectionAnswer]:
    """Say that an event was held or rejected wrongly: a person looks at it. Once for an event; a repeat gets the same answer."""
    caller = await callers_of(request).consumer(request.headers.get("authorization"), "balance:read")
    return await _make(request, event_id, program=caller.program, platform=caller.platform, consumer=caller.reference, by=None)


@post(
    "/v1/consumers/{ref:str}/events/{event_id:str}/objection", tags=TAGS, status_code=201,
    opt={"body": ObjectionBody, "answer": ObjectionAnswer},
)  # fmt: skip
async def object_for_consumer(request: AnyRequest, ref: FromPath[str], event_id: FromPath[str]) -> Response[ObjectionAnswer]:
    """Say so on a consumer's behalf, in their words."""
    caller = await callers_of(request).platform(request.headers.get("authorization"))
    caller.require("objections:write")
    by = change_by_platform(caller.code)
    return await _make(request, event_id, program=caller.program, platform=caller.platform, consumer=reference(ref), by=by)


async def _make(
    request: AnyRequest, event_id: str, *, program: int, platform: int, consumer: str, by: Change | None
) -> Response[ObjectionAnswer]:
    body = await decode_body(request, ObjectionBody)
    async with connection(request) as conn:
        made, replayed = await objections.make(
            conn, program=program, platform=platform, reference=consumer, id=reference(event_id), text=body.text, by=by
        )
    return Response(made, status_code=201, headers=REPLAYED if replayed else {})


@get("/v1/fraud/objections", tags=TAGS, opt={"answer": Page[ObjectionItem]})
async def list_objections(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[ObjectionItem]:
    """List objections: those that wait for an answer first, the oldest event before others; then the rest, the newest first."""
    caller = await callers_of(request).operator(request, *MAY["objections:read"])
    after = read_cursor(cursor, Position, 0)
    async with connection(request) as conn:
        found = await objections.page(
            conn, program=caller.program, after=after, personal=caller.role in MAY["personal:read"], limit=limit + 1
        )
    return page_of(found, limit, item=lambda row: row[1], position=lambda row: row[0])


@post(
    "/v1/fraud/objections/{objection:str}/answer", tags=TAGS, status_code=200,
    opt={"body": DecisionOnObjection, "answer": ObjectionItem},
)  # fmt: skip
async def answer_objection(request: AnyRequest, objection: FromPath[str]) -> ObjectionItem:
    """Answer an objection, as another operator than one who rejected the event. `upheld` lets a held event go and gives points back.

    Above the program's `adjustment_alone` the points wait for a second operator. A repeat changes nothing.
    """
    caller = await callers_of(request).operator(request, *MAY["objections:answer"])
    number = _number(objection)
    body = await decode_body(request, DecisionOnObjection)
    async with connection(request) as conn:
        outcome = await objections.answer(conn, number, body, program=caller.program, operator=caller.operator, change=change_by(caller))
    resources: Resources = request.app.state.resources
    await resources.projection.push(outcome.balances)
    return outcome.answer


def _number(objection: str) -> int:
    """An objection's id from the path. Raises NotFound for what is none."""
    if not objection.isascii() or not objection.isdigit() or len(objection) > MAX_DIGITS:
        raise NotFound(objections.NO_OBJECTION)
    return int(objection)


routes = [object_myself, object_for_consumer, list_objections, answer_objection]

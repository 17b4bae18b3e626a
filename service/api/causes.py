"""Public-welfare causes: for operators; what was given to them, for everybody in the program."""

from typing import Any, Final

from litestar import Request, get, patch, post
from litestar.params import FromPath

from schemas.causes import CauseAnswer, CauseBody, CausePatch
from schemas.pages import Page
from service.api.access import proven
from service.api.bodies import decode_body
from service.api.callers import OperatorCaller, callers_of
from service.api.changes import change_by
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Name, page_of, read_cursor
from service.api.database import connection, short_read
from service.domain.roles import MAY
from service.flows import causes

TAGS: Final = ["Causes"]

AnyRequest = Request[Any, Any, Any]


@post("/v1/causes", tags=TAGS, opt={"body": CauseBody, "answer": CauseAnswer})
async def create_cause(request: AnyRequest) -> CauseAnswer:
    """Add a cause that points can be given to."""
    caller = await callers_of(request).operator(request, *MAY["rewards:write"])
    body = await decode_body(request, CauseBody)
    async with connection(request) as conn:
        return await causes.create_cause(conn, body, program=caller.program, change=change_by(caller))


@get("/v1/causes", tags=TAGS, opt={"answer": Page[CauseAnswer]})
async def list_causes(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[CauseAnswer]:
    """List causes by code with what was given to them: for operators all of the program's, for platforms those that take points."""
    caller = proven(request)
    after = read_cursor(cursor, Name, "")
    async with connection(request) as conn:
        rows = await causes.causes_page(
            conn, program=caller.program, after=after, full=isinstance(caller, OperatorCaller), limit=limit + 1
        )  # fmt: skip
    return page_of(rows, limit, item=lambda row: row, position=lambda row: row.code)


@get("/v1/causes/{code:str}", tags=TAGS, opt={"answer": CauseAnswer})
async def read_cause(request: AnyRequest, code: FromPath[str]) -> CauseAnswer:
    """Read one cause with what was given to it, less what was refunded."""
    caller = await callers_of(request).operator(request, *MAY["rewards:read"])
    async with connection(request) as conn:
        return await causes.read_cause(conn, code, program=caller.program)


@patch("/v1/causes/{code:str}", tags=TAGS, opt={"body": CausePatch, "answer": CauseAnswer})
async def change_cause(request: AnyRequest, code: FromPath[str]) -> CauseAnswer:
    """Change a cause; one that is not `active` takes no more points and keeps those that it has."""
    caller = await callers_of(request).operator(request, *MAY["rewards:write"])
    body = await decode_body(request, CausePatch)
    async with connection(request) as conn:
        return await causes.change_cause(conn, code, body, program=caller.program, change=change_by(caller))


@get("/v1/me/causes", tags=TAGS, opt={"answer": Page[CauseAnswer]})
async def my_causes(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[CauseAnswer]:
    """List the causes that the calling consumer can give points to, with what everybody gave."""
    caller = await callers_of(request).consumer(request.headers.get("authorization"), "balance:read")
    after = read_cursor(cursor, Name, "")
    async with short_read(request) as conn:
        rows = await causes.causes_page(conn, program=caller.program, after=after, full=False, limit=limit + 1)
    return page_of(rows, limit, item=lambda row: row, position=lambda row: row.code)


routes = [create_cause, list_causes, read_cause, change_cause, my_causes]

"""How points of a program live and die: for operators."""

from typing import Any, Final

from litestar import Request, get, patch

from schemas.pages import Page
from schemas.points_policy import PointsPolicyAnswer, PointsPolicyPatch, PointsPolicyRecord
from service.api.bodies import decode_body
from service.api.callers import callers_of
from service.api.changes import change_by
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Position, page_of, read_cursor
from service.api.database import connection
from service.domain.roles import MAY
from service.flows import points_policy as flow

TAGS: Final = ["Points policy"]
NEWEST: Final = 2**31 - 1

AnyRequest = Request[Any, Any, Any]


@get("/v1/points-policy", tags=TAGS, opt={"answer": PointsPolicyAnswer})
async def read_points_policy(request: AnyRequest) -> PointsPolicyAnswer:
    """Read how long points live, when consumers are warned, and what becomes of points that are taken back after they were spent."""
    caller = await callers_of(request).operator(request, *MAY["points-policy:read"])
    async with connection(request) as conn:
        return await flow.policy(conn, program=caller.program)


@patch("/v1/points-policy", tags=TAGS, opt={"body": PointsPolicyPatch, "answer": PointsPolicyAnswer})
async def change_points_policy(request: AnyRequest) -> PointsPolicyAnswer:
    """Save a new version. It counts for what is received from ten seconds later on; points that are there keep their last day."""
    caller = await callers_of(request).operator(request, *MAY["points-policy:write"])
    body = await decode_body(request, PointsPolicyPatch)
    async with connection(request) as conn:
        return await flow.change_policy(conn, body, program=caller.program, change=change_by(caller))


@get("/v1/points-policy/versions", tags=TAGS, opt={"answer": Page[PointsPolicyRecord]})
async def list_points_policies(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[PointsPolicyRecord]:
    """List all versions that were ever saved, newest first."""
    caller = await callers_of(request).operator(request, *MAY["points-policy:read"])
    before = min(read_cursor(cursor, Position, NEWEST), NEWEST)
    async with connection(request) as conn:
        rows = await flow.versions(conn, program=caller.program, before=before, limit=limit + 1)
    return page_of(rows, limit, item=lambda row: row, position=lambda row: row.version)


routes = [read_points_policy, change_points_policy, list_points_policies]

"""The plastics ledger: rows of platforms, closing by operators, the half-yearly report."""

import hashlib
from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from schemas.base import PRINTABLE
from schemas.bounds import MAX_CODE_CHARS, MAX_IMPORT_BYTES, MAX_KEY_CHARS
from schemas.pages import Page
from schemas.plastics import ClosedPeriod, PlasticBody, PlasticEntry, PlasticsAnswer, PlasticsReport
from service.api.access import proven
from service.api.bodies import read_body
from service.api.callers import OperatorCaller, callers_of
from service.api.changes import change_by, change_by_platform
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Position, page_of, read_cursor
from service.api.database import connection
from service.api.registries import format_of
from service.domain import imports
from service.domain.errors import InvalidRequest, NotFound
from service.domain.roles import MAY
from service.flows import administer, plastics
from service.flows.administer import Change

TAGS: Final = ["Plastics"]
JSON: Final = "application/json"
CSV: Final = "text/csv"

AnyRequest = Request[Any, Any, Any]
PlatformCode = Annotated[str | None, QueryParameter(max_length=MAX_CODE_CHARS, description="For operators: whose rows these are.")]
RowId = Annotated[
    str | None, QueryParameter(name="id", min_length=1, max_length=MAX_KEY_CHARS, pattern=PRINTABLE, description="One row's history.")
]
HalfYear = Annotated[str | None, QueryParameter(max_length=6, description="A half-year such as 2026H1.")]


@post("/v1/plastics/reports", tags=TAGS, status_code=200, opt={"body": list[PlasticBody], "answer": PlasticsAnswer})
async def report_plastics(request: AnyRequest, platform: PlatformCode = None) -> PlasticsAnswer:
    """Report up to 5,000 rows of plastic used or collected: a JSON array, NDJSON or CSV, answered per row. Safe to repeat.

    For the platform itself, or for an operator who names the platform.
    """
    caller = _caller(request, platform)
    if caller.code is None:
        raise InvalidRequest.at("/platform", "an operator names the platform")
    format_ = format_of(request)
    rows = imports.plastic_rows(await read_body(request, MAX_IMPORT_BYTES), format_)
    async with connection(request) as conn:
        owner = await administer.find_platform(conn, program=caller.program, code=caller.code)
        return await plastics.report(conn, rows, platform=owner, change=caller.change)


@get("/v1/plastics/reports", tags=TAGS, opt={"answer": Page[PlasticEntry]})
async def list_plastics(
    request: AnyRequest,
    period: HalfYear = None,
    row_id: RowId = None,
    platform: PlatformCode = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[PlasticEntry]:
    """List the entries of the ledger, oldest first: rows as they were reported, and the reversals of what was corrected."""
    caller = _caller(request, platform)
    after = read_cursor(cursor, Position, 0)
    async with connection(request) as conn:
        found = await plastics.entries(
            conn, program=caller.program, after=after, platform=caller.code, half=period, row=row_id, limit=limit + 1
        )
    return page_of(found, limit, item=lambda row: row.entry, position=lambda row: row.number)


@post("/v1/plastics/periods/{period:str}/close", tags=TAGS, status_code=200, opt={"answer": ClosedPeriod})
async def close_period(request: AnyRequest, period: FromPath[str]) -> Response[ClosedPeriod]:
    """Close a half-year that is over, for ever: no more rows get into it, and its report stays the same to the byte. Safe to repeat."""
    caller = await callers_of(request).operator(request, *MAY["plastics:close"])
    async with connection(request) as conn:
        closed = await plastics.close(conn, period, program=caller.program, change=change_by(caller))
    return Response(closed, status_code=200, headers={"ETag": f'"{closed.sha256.json}"'})


@get("/v1/reports/plastics", tags=TAGS, opt={"answer": PlasticsReport})
async def report_on_plastics(request: AnyRequest, period: HalfYear = None) -> Response[bytes]:
    """Used, avoided, collected and the difference in a half-year (the present one, if none is named), by platform, class and merchant.

    JSON or CSV by `Accept`; `ETag` is the SHA-256 of the body. A closed period is always the same bytes. A platform sees its own part.
    """
    caller = _caller(request, None)
    media = request.accept.best_match([JSON, CSV]) or JSON
    async with connection(request) as conn:
        body = await plastics.read_report(
            conn, period, program=caller.program, platform=caller.platform, format_="csv" if media == CSV else "json"
        )
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "Vary": "Accept"}
    return Response(body, media_type=media, headers=headers)


class _Caller(Struct, frozen=True, kw_only=True):
    """Who calls, and about whom: `code` of a platform, None for all of the program's. `platform` is the calling one, None for operators."""

    program: int
    platform: int | None
    code: str | None
    change: Change


def _caller(request: AnyRequest, platform: str | None) -> _Caller:
    """Raises NotFound for a platform that names another."""
    caller = proven(request)
    if isinstance(caller, OperatorCaller):
        return _Caller(program=caller.program, platform=None, code=platform, change=change_by(caller))
    if platform not in (None, caller.code):
        raise NotFound("There is no such platform.")
    return _Caller(program=caller.program, platform=caller.platform, code=caller.code, change=change_by_platform(caller.code))


routes = [report_plastics, list_plastics, close_period, report_on_plastics]

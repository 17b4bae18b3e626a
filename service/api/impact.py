"""Impact factors and the report of impact: for operators (docs/impact.md)."""

import csv
import io
from datetime import date
from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.params import FromPath, QueryParameter

from schemas.bounds import MAX_CODE_CHARS
from schemas.impact import FactorAnswer, FactorBody, FactorHistory, ImpactReport
from schemas.pages import Page
from service.api.bodies import decode_body
from service.api.callers import callers_of
from service.api.changes import change_by
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Name, page_of, read_cursor
from service.api.database import connection
from service.domain.errors import NotFound
from service.domain.roles import MAY
from service.flows import impact

TAGS: Final = ["Impact"]
JSON: Final = "application/json"
CSV: Final = "text/csv"

AnyRequest = Request[Any, Any, Any]
From = Annotated[date | None, QueryParameter(name="from", description="A local day of the program; a year before `to`, if left out.")]
To = Annotated[date | None, QueryParameter(name="to", description="A local day, not included; tomorrow, if left out.")]
_CODE: Final = r"^[a-z0-9][a-z0-9._-]*$"
Campaign = Annotated[str | None, QueryParameter(max_length=MAX_CODE_CHARS, pattern=_CODE, description="Awards of this campaign only.")]
Platform = Annotated[str | None, QueryParameter(max_length=MAX_CODE_CHARS, pattern=_CODE, description="Events of this platform only.")]


@post("/v1/impact-factors", tags=TAGS, opt={"body": FactorBody, "answer": FactorAnswer, "also": (200,)})
async def save_factor(request: AnyRequest) -> Response[FactorAnswer]:
    """Save a new version of an impact factor (201), of the program's own or in place of a reference factor's; the same again is 200.

    It counts for what occurs from `effective_from` on. What awards have recorded stays.
    """
    caller = await callers_of(request).operator(request, *MAY["registries:write"])
    body = await decode_body(request, FactorBody)
    async with connection(request) as conn:
        factor, new = await impact.save_factor(conn, body, program=caller.program, change=change_by(caller))
    return Response(factor, status_code=201 if new else 200)


@get("/v1/impact-factors", tags=TAGS, opt={"answer": Page[FactorAnswer]})
async def list_factors(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[FactorAnswer]:
    """List the reference factors and the program's own by id, each in its newest version."""
    caller = await callers_of(request).operator(request, *MAY["registries:read"])
    after = read_cursor(cursor, Name, "")
    async with connection(request) as conn:
        rows = await impact.factors(conn, program=caller.program, after=after, limit=limit + 1)
    return page_of(rows, limit, item=lambda row: row, position=lambda row: row.id)


@get("/v1/impact-factors/{factor:str}", tags=TAGS, opt={"answer": FactorHistory})
async def read_factor(request: AnyRequest, factor: FromPath[str]) -> FactorHistory:
    """Read one factor with all its versions, newest first."""
    caller = await callers_of(request).operator(request, *MAY["registries:read"])
    if not factor.isascii() or not factor.isprintable():
        raise NotFound("There is no such impact factor.")
    async with connection(request) as conn:
        return await impact.factor(conn, factor, program=caller.program)


@get("/v1/reports/impact", tags=TAGS, opt={"answer": ImpactReport})
async def report_on_impact(
    request: AnyRequest, from_: From = None, to: To = None, campaign: Campaign = None, platform: Platform = None
) -> Response[Any]:
    """Sum what awards recorded, by factor, version and method: never across them. JSON, or CSV with `Accept: text/csv`.

    Awards that were taken back in full do not count. Several awards for one thing count once, with the campaign of the first.
    """
    caller = await callers_of(request).operator(request, *MAY["statistics:read"])
    async with connection(request) as conn:
        report = await impact.report(conn, program=caller.program, from_=from_, to=to, campaign=campaign, platform=platform)
    headers = {"Vary": "Accept"}
    if request.accept.best_match([JSON, CSV]) != CSV:
        return Response(report, headers=headers)
    return Response(_as_csv(report).encode(), media_type=CSV, headers=headers)


_COLUMNS: Final = ("factor", "version", "vintage", "method", "region", "source", "awards", "awards_without_central", "mass_g", "plastic_g")


def _as_csv(report: ImpactReport) -> str:
    """A line per group; what is unknown is empty."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*_COLUMNS, "co2e_low_g", "co2e_central_g", "co2e_high_g"])
    for group in report.groups:
        grams = group.co2e_g
        writer.writerow([*(_cell(getattr(group, name)) for name in _COLUMNS), grams.low, grams.central, grams.high])
    return text.getvalue()


def _cell(value: str | int | None) -> str | int | None:
    """A text that a spreadsheet would take for a formula is quoted as one that it does not."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


routes = [save_factor, list_factors, read_factor, report_on_impact]

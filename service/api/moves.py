"""Coming from another system and being audited: imported balances, and the lines of a consumer's book."""

import io
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Final

from litestar import Request, get, post
from litestar.params import FromPath, FromQuery, QueryParameter

from schemas.bounds import MAX_CODE_CHARS, MAX_IMPORT_BYTES, MAX_IMPORT_ROWS
from schemas.consumers import LedgerLine
from schemas.openings import OpeningBody, OpeningResult, OpeningsAnswer
from schemas.pages import Page
from service.api.access import proven
from service.api.bodies import read_body
from service.api.callers import OperatorCaller, callers_of
from service.api.changes import change_by, change_by_platform
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Position, encode_cursor, read_cursor
from service.api.database import connection, short_read
from service.api.paths import reference
from service.api.registries import format_of
from service.domain import openings as rules
from service.domain.errors import InvalidRequest, NotFound
from service.flows import administer, openings
from service.flows.administer import Change
from service.flows.balances import find_account
from service.flows.past import entries
from service.runtime import Resources

TAGS: Final = ["Consumers"]

AnyRequest = Request[Any, Any, Any]
PlatformCode = Annotated[str | None, QueryParameter(max_length=MAX_CODE_CHARS, description="For operators: whose consumers these are.")]


# Importing -----------------------------------------------------------------------------------------------


@post("/v1/consumers/import", tags=TAGS, status_code=200, opt={"body": list[OpeningBody], "answer": OpeningsAnswer})
async def import_balances(request: AnyRequest, platform: PlatformCode = None) -> OpeningsAnswer:
    """Take over up to 5,000 lots from another system: a JSON array, NDJSON or CSV, answered per row. Safe to repeat.

    For the platform itself, or for an admin who names the platform.
    """
    program, code, change = _importer(request, platform)
    format_ = format_of(request)
    body = await read_body(request, MAX_IMPORT_BYTES)
    rows = list(islice(_rows(body, format_), MAX_IMPORT_ROWS + 1))
    if len(rows) > MAX_IMPORT_ROWS:
        raise InvalidRequest(f"An import has at most {MAX_IMPORT_ROWS:,} rows.")
    resources: Resources = request.app.state.resources
    points, results = 0, list[OpeningResult]()
    for start in range(0, len(rows), openings.BATCH_ROWS):
        async with connection(request) as conn:
            owner = await administer.find_platform(conn, program=program, code=code)
            taken = await openings.take_over(conn, rows[start : start + openings.BATCH_ROWS], platform=owner, change=change)
        await resources.projection.push(taken.balances)
        points += taken.points
        results += taken.results
    statuses = [result.status for result in results]
    return OpeningsAnswer(
        created=statuses.count("created"), duplicates=statuses.count("duplicate"), rejected=statuses.count("rejected"), points=points,
        results=results,
    )  # fmt: skip


def _importer(request: AnyRequest, platform: str | None) -> tuple[int, str, Change]:
    """The program, the platform's code, and who imports. Raises NotFound for another's platform, InvalidRequest where none is named."""
    caller = proven(request)
    if isinstance(caller, OperatorCaller):
        if platform is None:
            raise InvalidRequest.at("/platform", "an operator names the platform")
        return caller.program, platform, change_by(caller)
    if platform not in (None, caller.code):
        raise NotFound("There is no such platform.")
    return caller.program, caller.code, change_by_platform(caller.code)


def _rows(body: bytes, format_: rules.Format) -> Iterator[rules.OpeningRow]:
    if format_ == "json":
        return rules.rows_of_array(body)
    lines = rules.bounded_lines(io.StringIO(body.decode("utf-8", "surrogateescape"), newline=""))
    return rules.rows_of_csv(lines) if format_ == "csv" else rules.rows_of_ndjson(lines)


# The book ------------------------------------------------------------------------------------------------


@get("/v1/me/entries", tags=TAGS, opt={"answer": Page[LedgerLine]})
async def my_entries(
    request: AnyRequest, as_of: FromQuery[datetime | None] = None, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Page[LedgerLine]:
    """List the lines of the calling consumer's book, oldest first, as it stood at `as_of` (now, if it is left out)."""
    caller = await callers_of(request).consumer(request.headers.get("authorization"), "balance:read")
    found = await _entries(request, caller.platform, caller.reference, as_of, cursor, limit)
    return found or Page(items=[], next_cursor=None)


@get("/v1/consumers/{ref:str}/entries", tags=TAGS, opt={"answer": Page[LedgerLine]})
async def consumer_entries(
    request: AnyRequest, ref: FromPath[str], as_of: FromQuery[datetime | None] = None, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Page[LedgerLine]:
    """List the lines of the book of one of the platform's consumers, oldest first, as it stood at `as_of`; 404 for somebody unknown."""
    caller = await callers_of(request).platform(request.headers.get("authorization"))
    caller.require("consumers:read")
    found = await _entries(request, caller.platform, reference(ref), as_of, cursor, limit)
    if found is None:
        raise NotFound("This consumer has no events yet.")
    return found


async def _entries(
    request: AnyRequest, platform: int, consumer: str, as_of: datetime | None, cursor: str | None, limit: int
) -> Page[LedgerLine] | None:
    if as_of is not None and as_of.tzinfo is None:
        raise InvalidRequest.at("/as_of", "needs an offset, such as Z or +08:00")
    after = read_cursor(cursor, Position, 0)
    resources: Resources = request.app.state.resources
    async with short_read(request) as conn:
        account = await find_account(conn, resources.knowledge, platform, consumer)
        if account is None:
            return None
        items, position = await entries(conn, account, as_of=as_of, after=after, limit=limit)
    return Page(items=items, next_cursor=None if position is None else encode_cursor(position))


routes = [import_balances, my_entries, consumer_entries]

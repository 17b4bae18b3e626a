"""Allow and block lists of the fraud checks (docs/fraud-lists.md)."""

from typing import Annotated, Any, Final

from litestar import Request, delete, get, post
from litestar.params import FromPath, QueryParameter

from schemas.fraud_lists import EntryStatus, ListedKind, ListEntryAnswer, ListEntryBody, ListName
from schemas.pages import Page
from service.api.bodies import decode_body
from service.api.callers import callers_of
from service.api.changes import change_by
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Position, page_of, read_cursor
from service.api.database import connection
from service.domain.errors import NotFound
from service.domain.roles import MAY
from service.flows import fraud_lists
from service.flows.events import NEWEST
from service.runtime import Resources

TAGS: Final = ["Fraud"]
MAX_DIGITS: Final = 18

AnyRequest = Request[Any, Any, Any]
ListFilter = Annotated[ListName | None, QueryParameter(name="list", description="Only this list.")]
KindFilter = Annotated[ListedKind | None, QueryParameter(name="kind", description="Only entries of this kind.")]
StatusFilter = Annotated[EntryStatus | None, QueryParameter(description="Only those that count, have ended, or were taken off.")]


@post("/v1/fraud/lists", tags=TAGS, status_code=201, opt={"body": ListEntryBody, "answer": ListEntryAnswer})
async def add_list_entry(request: AnyRequest) -> ListEntryAnswer:
    """List a consumer, a device, a payment, an address or an ip: to be let through always, or to be held always. One entry per thing."""
    caller = await callers_of(request).operator(request, *MAY["fraud:write"])
    body = await decode_body(request, ListEntryBody)
    resources: Resources = request.app.state.resources
    async with connection(request) as conn:
        return await fraud_lists.add(
            conn, body, program=caller.program, operator=caller.operator, hash_key=resources.hash_key, change=change_by(caller)
        )


@get("/v1/fraud/lists", tags=TAGS, opt={"answer": Page[ListEntryAnswer]})
async def list_list_entries(
    request: AnyRequest,
    list_: ListFilter = None,
    kind: KindFilter = None,
    status: StatusFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[ListEntryAnswer]:
    """List entries, newest first; those that have ended and that were taken off, too."""
    caller = await callers_of(request).operator(request, *MAY["fraud:read"])
    before = read_cursor(cursor, Position, NEWEST)
    async with connection(request) as conn:
        found = await fraud_lists.page(
            conn, program=caller.program, before=before, list_=list_, kind=kind, status=status, limit=limit + 1,
            names=caller.role in MAY["personal:read"],
        )  # fmt: skip
    return page_of(found, limit, item=lambda row: row[1], position=lambda row: row[0])


@delete("/v1/fraud/lists/{entry:str}", tags=TAGS, status_code=204)
async def remove_list_entry(request: AnyRequest, entry: FromPath[str]) -> None:
    """Take an entry off. A repeat changes nothing."""
    caller = await callers_of(request).operator(request, *MAY["fraud:write"])
    number = _number(entry)
    async with connection(request) as conn:
        await fraud_lists.remove(conn, number, program=caller.program, change=change_by(caller))


def _number(entry: str) -> int:
    """An entry's id from the path. Raises NotFound for what is none."""
    if not entry.isascii() or not entry.isdigit() or len(entry) > MAX_DIGITS:
        raise NotFound(fraud_lists.UNKNOWN)
    return int(entry)


routes = [add_list_entry, list_list_entries, remove_list_entry]

"""Seals of the ledger, and alerts: for operators (docs/ledger.md)."""

import csv
import io
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, Response, get
from litestar.params import QueryParameter

from schemas.pages import Page
from schemas.proof import Alert, Seal, SealsAnswer
from service.api.callers import callers_of
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Position, encode_cursor, page_of, read_cursor
from service.api.database import connection
from service.domain.roles import MAY
from service.flows import proof
from service.flows.proof import NEWEST

TAGS: Final = ["Proof"]
JSON: Final = "application/json"
CSV: Final = "text/csv"

AnyRequest = Request[Any, Any, Any]
State = Annotated[
    Literal["open", "resolved"] | None, QueryParameter(name="state", description="Only those that are still broken, or hold again.")
]


@get("/v1/reports/seals", tags=TAGS, opt={"answer": SealsAnswer})
async def report_on_seals(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Response[Any]:
    """List the sealed blocks of the program's ledger, newest first, and its head. JSON, or CSV with `Accept: text/csv`.

    Keep the head elsewhere: whoever has it can tell later whether anything up to it was changed. The next page of a CSV is in `Link`.
    """
    caller = await callers_of(request).operator(request, *MAY["statistics:read"])
    before = read_cursor(cursor, Position, NEWEST)
    async with connection(request) as conn:
        found = await proof.seals(conn, program=caller.program, before=before, limit=limit + 1)
    page = page_of(found.items, limit, item=lambda row: row, position=lambda row: row.block)
    answer = SealsAnswer(head=found.head, items=page.items, next_cursor=page.next_cursor)
    headers = {"Vary": "Accept"}
    if request.accept.best_match([JSON, CSV]) != CSV:
        return Response(answer, headers=headers)
    if len(found.items) > limit:
        headers["Link"] = f'</v1/reports/seals?cursor={encode_cursor(page.items[-1].block)}&limit={limit}>; rel="next"'
    return Response(_as_csv(page.items).encode(), media_type=CSV, headers=headers)


@get("/v1/alerts", tags=TAGS, opt={"answer": Page[Alert]})
async def list_alerts(request: AnyRequest, state_: State = None, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[Alert]:
    """List what is broken or was, newest first: once each, from when it was found until it holds again.

    Operators of the whole deployment also see what the check of everything found.
    """
    caller = await callers_of(request).operator(request, *MAY["statistics:read"])
    before = read_cursor(cursor, Position, NEWEST)
    async with connection(request) as conn:
        rows = await proof.alerts(
            conn, program=caller.program, everywhere=caller.everywhere, before=before, is_open=None if state_ is None else state_ == "open",
            limit=limit + 1,
        )  # fmt: skip
    return page_of(rows, limit, item=lambda row: row[1], position=lambda row: row[0])


def _as_csv(seals: Sequence[Seal]) -> str:
    """A line per block."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(field.name for field in msgspec.structs.fields(Seal))
    for seal in seals:
        writer.writerow(msgspec.to_builtins(seal).values())
    return text.getvalue()


routes = [report_on_seals, list_alerts]

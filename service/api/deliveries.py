"""The log of inbound deliveries and their replay: for operators; platforms read their own."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath, FromQuery, QueryParameter

from schemas.bounds import MAX_KEY_CHARS, MAX_TEXT_CHARS
from schemas.deliveries import DeliveryAnswer, Outcome, ReplayAnswer, ReplayRange, ReplayResult, Verdict
from schemas.pages import Page
from service.api.access import proven
from service.api.bodies import decode_body
from service.api.callers import PlatformCaller, callers_of
from service.api.changes import change_by
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Position, encode_cursor, instant, page_of, read_cursor
from service.api.database import connection, serving
from service.api.lanes import Lanes
from service.domain.deliveries import KEPT_OUTCOMES
from service.domain.errors import InvalidRequest, NotFound
from service.domain.roles import MAY
from service.flows.deliveries import Replayer, counted
from service.runtime import Resources
from service.store import deliveries as store

TAGS: Final = ["Deliveries"]

AnyRequest = Request[Any, Any, Any]
Word = Annotated[str | None, QueryParameter(max_length=MAX_TEXT_CHARS)]
Event = Annotated[str | None, QueryParameter(max_length=MAX_KEY_CHARS, description="The id of an event that it reported.")]
From = Annotated[datetime | None, QueryParameter(name="from", description="RFC 3339 with an offset: received then or later.")]
To = Annotated[datetime | None, QueryParameter(name="to", description="RFC 3339 with an offset: received before.")]
DryRun = Annotated[bool, QueryParameter(description="Tell what would come of it, change nothing.")]
NEWEST: Final = 2**63 - 1


@get("/v1/deliveries", tags=TAGS, opt={"answer": Page[DeliveryAnswer]})
async def list_deliveries(
    request: AnyRequest, hook: Word = None, platform: Word = None, outcome: FromQuery[Outcome | None] = None,
    verdict: FromQuery[Verdict | None] = None, topic: Word = None, from_: From = None, to: To = None, event: Event = None,
    cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT,
) -> Page[DeliveryAnswer]:  # fmt: skip
    """Search the log of webhooks that came in, newest first: what was proved, what came of it. A platform's key finds its own."""
    program, own = _reader(request)
    search = store.Search(
        hook=_text(hook), platform=_text(platform), outcome=outcome, verdict=verdict, topic=_text(topic), from_=instant("/from", from_),
        to=instant("/to", to), event=_text(event),
    )  # fmt: skip
    before = read_cursor(cursor, Position, NEWEST)
    async with connection(request) as conn:
        rows = await store.page(conn, search, program=program, platform=own, before=before, limit=limit + 1)
    return page_of(rows, limit, item=lambda row: row, position=lambda row: int(row.id))


@get("/v1/deliveries/{delivery:str}", tags=TAGS, opt={"answer": DeliveryAnswer})
async def read_delivery(request: AnyRequest, delivery: FromPath[str]) -> DeliveryAnswer:
    """Read one delivery of the log; its body is not shown to anybody."""
    program, own = _reader(request)
    async with connection(request) as conn:
        found = await store.find(conn, _number(delivery), program=program, platform=own)
    if found is None:
        raise NotFound("There is no such delivery.")
    return found


@post("/v1/deliveries/{delivery:str}/replay", tags=TAGS, status_code=200, opt={"answer": ReplayResult})
async def replay_delivery(request: AnyRequest, delivery: FromPath[str], dry_run: DryRun = False) -> ReplayResult:  # noqa: FBT002
    """Translate and credit a kept delivery again, with its hook's present settings. A repeat counts nothing twice."""
    caller = await callers_of(request).operator(request, *MAY["deliveries:replay"])
    async with serving():
        return await _replayer(request).one(
            _number(delivery), program=caller.program, change=change_by(caller), dry_run=dry_run
        )  # fmt: skip


@post("/v1/deliveries/replay", tags=TAGS, status_code=200, opt={"body": ReplayRange, "answer": ReplayAnswer})
async def replay_deliveries(request: AnyRequest) -> ReplayAnswer:
    """Replay the kept deliveries of a time, oldest first, a page at a time; one that fails stops none of the others."""
    caller = await callers_of(request).operator(request, *MAY["deliveries:replay"])
    body = await decode_body(request, ReplayRange)
    if body.from_ >= body.to:
        raise InvalidRequest.at("/to", "must be after `from`")
    selection = store.Selection(
        from_=body.from_, to=body.to, hook=body.hook, platform=body.platform,
        outcomes=KEPT_OUTCOMES if body.outcome is None else (body.outcome,),
    )  # fmt: skip
    after = read_cursor(body.cursor, Position, 0)
    async with serving():
        results, going_on = await _replayer(request).page(
            selection, program=caller.program, change=change_by(caller), after=after, limit=body.limit, dry_run=body.dry_run
        )  # fmt: skip
    cursor = None if going_on is None else encode_cursor(going_on)
    return msgspec.structs.replace(counted(results, dry_run=body.dry_run), next_cursor=cursor)


def _reader(request: AnyRequest) -> tuple[int, int | None]:
    """The program whose log the caller may read, and the platform (None: all of the program's)."""
    caller = proven(request)
    return caller.program, caller.platform if isinstance(caller, PlatformCaller) else None


def _replayer(request: AnyRequest) -> Replayer:
    """Credits by the bulk lane, which gives way to what comes in."""
    resources: Resources = request.app.state.resources
    lanes: Lanes = request.app.state.lanes
    return Replayer(
        resources.pool, resources.sealer, submit=lanes.bulk.submit, now=resources.clock.now, hash_key=lambda: resources.hash_key,
        grace=timedelta(hours=resources.settings.shop_redact_grace_h),
    )  # fmt: skip


def _text(text: str | None) -> str | None:
    """A text to search for. Raises InvalidRequest for what no row can have."""
    if text is not None and not text.isprintable():
        raise InvalidRequest("The query holds an unprintable character.")
    return text


def _number(delivery: str) -> int:
    """A delivery's id from the path. Raises NotFound for what is none."""
    if not delivery.isascii() or not delivery.isdigit() or len(delivery) > 18:
        raise NotFound("There is no such delivery.")
    return int(delivery)


routes = [list_deliveries, read_delivery, replay_deliveries, replay_delivery]

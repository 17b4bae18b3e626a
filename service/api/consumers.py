"""What consumers have: balances and activity, for their platform and for themselves (CONTRACT §3.5)."""

from datetime import datetime
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.params import FromPath
from litestar.response.base import ASGIResponse
from msgspec import Meta, Struct
from msgspec.json import encode as encode_json

from schemas.consumers import ActivityItem, BalanceAnswer
from schemas.pages import Page
from service.api.bodies import authorization_of, raw_headers, read_query
from service.api.callers import callers_of
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Position, encode_cursor, read_cursor
from service.api.database import short_read
from service.api.exchange import JsonResponse
from service.api.paths import reference
from service.domain.errors import NotFound, Unavailable
from service.flows import balances as flow
from service.flows.events import NEWEST, activity
from service.flows.past import balance_at
from service.runtime import Resources
from service.store.connection import UNREACHABLE

TAGS = ["Consumers"]
JSON = "application/json"

AnyRequest = Request[Any, Any, Any]


class Freshness(Struct, frozen=True, kw_only=True):
    """The query of a balance."""

    min_version: Annotated[int, Meta(ge=0, le=2**53, description="Never answer data older than this version.")] = 0
    as_of: Annotated[datetime, Meta(tz=True, description="What the balance was at this moment.")] | None = None


@get("/v1/me/balance", tags=TAGS, media_type=JSON, opt={"answer": BalanceAnswer, "query": Freshness})
async def my_balance(request: AnyRequest) -> ASGIResponse:
    """Read the calling consumer's balance."""
    authorization = authorization_of(raw_headers(request))
    callers = callers_of(request)
    caller = callers.consumer_cached(authorization) or await callers.consumer(authorization, "balance:read")
    caller.require("balance:read")
    query = read_query(request, Freshness)
    if query is not None and query.as_of is not None:
        return JsonResponse(await _past(request, caller.platform, caller.reference, query.as_of, unknown=False))
    body = await _balance(request, caller.platform, caller.reference, query)
    return JsonResponse(flow.answer(caller.reference, flow.ZERO_BODY if body is None else body))


@get("/v1/consumers/{ref:str}/balance", tags=TAGS, media_type=JSON, opt={"answer": BalanceAnswer, "query": Freshness})
async def consumer_balance(request: AnyRequest, ref: FromPath[str]) -> Response[bytes]:
    """Read the balance of one of the platform's consumers; 404 before its first event."""
    caller = await callers_of(request).platform(request.headers.get("authorization"))
    caller.require("consumers:read")
    consumer = reference(ref)
    query = read_query(request, Freshness)
    if query is not None and query.as_of is not None:
        return Response(content=await _past(request, caller.platform, consumer, query.as_of, unknown=True), media_type=JSON)
    body = await _balance(request, caller.platform, consumer, query)
    if body is None:
        raise NotFound("This consumer has no events yet.")
    return Response(content=flow.answer(consumer, body), media_type=JSON)


async def _balance(request: AnyRequest, platform: int, consumer: str, query: Freshness | None) -> bytes | None:
    resources: Resources = request.app.state.resources
    min_version = 0 if query is None else query.min_version
    try:
        return await flow.balance_of(
            resources.pool, resources.knowledge, resources.projection, platform=platform, reference=consumer, min_version=min_version
        )
    except UNREACHABLE:
        raise Unavailable("The balance cannot be read right now; try again in a moment.") from None


async def _past(request: AnyRequest, platform: int, consumer: str, as_of: datetime, *, unknown: bool) -> bytes:
    """What the balance was, from PostgreSQL alone. `unknown`: somebody unknown is NotFound."""
    resources: Resources = request.app.state.resources
    async with short_read(request) as conn:
        account = await flow.find_account(conn, resources.knowledge, platform, consumer)
        if account is None and unknown:
            raise NotFound("This consumer has no events yet.")
        return encode_json(await balance_at(conn, account, consumer, as_of))


@get("/v1/me/activity", tags=TAGS, opt={"answer": Page[ActivityItem]})
async def my_activity(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[ActivityItem]:
    """List what happened on the calling consumer's account, newest first."""
    caller = await callers_of(request).consumer(request.headers.get("authorization"), "balance:read")
    found = await _activity(request, caller.platform, caller.reference, cursor, limit)
    return found or Page(items=[], next_cursor=None)


@get("/v1/consumers/{ref:str}/activity", tags=TAGS, opt={"answer": Page[ActivityItem]})
async def consumer_activity(
    request: AnyRequest, ref: FromPath[str], cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Page[ActivityItem]:
    """List what happened on the account of one of the platform's consumers, newest first; 404 before its first event."""
    caller = await callers_of(request).platform(request.headers.get("authorization"))
    caller.require("consumers:read")
    found = await _activity(request, caller.platform, reference(ref), cursor, limit)
    if found is None:
        raise NotFound("This consumer has no events yet.")
    return found


async def _activity(request: AnyRequest, platform: int, consumer: str, cursor: str | None, limit: int) -> Page[ActivityItem] | None:
    resources: Resources = request.app.state.resources
    before = read_cursor(cursor, Position, NEWEST)
    async with short_read(request) as conn:
        account = await flow.find_account(conn, resources.knowledge, platform, consumer)
        if account is None:
            return None
        items, position = await activity(conn, account, before=before, limit=limit)
    return Page(items=items, next_cursor=None if position is None else encode_cursor(position))


routes = [my_balance, consumer_balance, my_activity, consumer_activity]

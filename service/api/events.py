"""Events: report one or many, try one out, look them up (CONTRACT §3.3)."""

import asyncio
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery
from litestar.response.base import ASGIResponse
from msgspec import Meta, Struct

from schemas.base import Instant
from schemas.bounds import MAX_BATCH
from schemas.events import BatchAnswer, Event, EventAnswer, Status
from schemas.pages import Page
from service.api.bodies import authorization_of, raw_headers, read_body, read_query, require_json
from service.api.callers import PlatformCaller, callers_of
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Position, encode_cursor, read_cursor
from service.api.database import short_read
from service.api.exchange import AnyRequest, JsonResponse
from service.api.lanes import CHUNK_BESIDE, Lanes
from service.api.paths import reference
from service.api.problems import problem_of
from service.domain.errors import GreenpointsError, InvalidRequest, NotFound, Undeclared, UnsupportedMediaType
from service.domain.intake import Sender, decode_json, read_fact
from service.domain.posting import Fact
from service.flows import events as flow
from service.flows.outcomes import Outcome
from service.flows.receive import preview
from service.runtime import Resources
from service.telemetry import metrics, tallies

TAGS = ["Events"]
JSON = "application/json"
NDJSON = "application/x-ndjson"
REPLAYED = ((b"idempotency-replayed", b"true"),)
CHUNKS_AHEAD = 2
"""Chunks of one bulk body that may wait for their commit; the next is read only then."""
LARGE_BODY = 1_000
"""From so many events on a body begins with a small chunk: single events may come in while it is committed."""
READ_AT_ONCE = 25
"""Events of a bulk body that are decoded before other requests get a turn."""
_REFUSED = tallies.count(metrics.EVENTS, "unknown", "refused")
"""Of bulk bodies: a single event that breaks a rule is counted by its answer."""


class TryOut(Struct, frozen=True, kw_only=True):
    """The query of `POST /v1/events`."""

    dry_run: Annotated[bool, Meta(description="Answer the same, but write nothing and count nothing.")] = False
    as_of: Annotated[Instant | None, Meta(description="With dry_run: decide as if it were then.")] = None


@post("/v1/events", tags=TAGS, media_type=JSON, opt={"body": Event, "answer": EventAnswer, "query": TryOut, "also": (200,)})
async def receive_event(request: Request[Any, Any, Any]) -> ASGIResponse:
    """Report one event and get its points.

    `(platform, id)` is the idempotency key, for ever: an exact repeat gets the first answer with status 200.
    """
    resources: Resources = request.app.state.resources
    headers = raw_headers(request)
    caller = await _platform(request, headers)
    require_json(headers.get(b"content-type"))
    try_out = read_query(request, TryOut)
    body = await read_body(request, resources.settings.max_body_bytes)
    fact = await _Reader(request, caller).read(body)
    if try_out is not None and (try_out.dry_run or try_out.as_of is not None):
        return await _dry_run(request, fact, try_out)
    lanes: Lanes = request.app.state.lanes
    outcome = (await lanes.single.submit([fact]))[0]
    if outcome.error is not None:
        raise outcome.error
    if outcome.replayed:
        return JsonResponse(outcome.answer, 200, REPLAYED)
    return JsonResponse(outcome.answer, 201)


async def _dry_run(request: AnyRequest, fact: Fact, try_out: TryOut) -> ASGIResponse:
    if not try_out.dry_run:
        raise InvalidRequest("as_of needs dry_run=true: an event is credited now or not at all.")
    async with short_read(request) as conn:
        answer = await preview(conn, fact, request.app.state.resources.knowledge, try_out.as_of)
    return JsonResponse(msgspec.json.encode(answer))


@post("/v1/events/batch", tags=TAGS, media_type=JSON, status_code=200, opt={"body": list[Event], "answer": BatchAnswer})
async def receive_batch(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Report up to 5,000 events, as a JSON array or as NDJSON. One bad event never blocks the others."""
    resources: Resources = request.app.state.resources
    caller = await _platform(request, raw_headers(request))
    lanes: Lanes = request.app.state.lanes
    lanes.begin_body()
    try:
        body = await read_body(request, resources.settings.max_bulk_body_bytes)
        events = _split(body, request.headers.get("content-type"))
        return await _credit_all(events, _Reader(request, caller), lanes)
    finally:
        lanes.bodies -= 1


def _split(body: bytes, content_type: str | None) -> list[msgspec.Raw | bytes]:
    """The events of a bulk body, not decoded yet."""
    essence = (content_type or JSON).split(";", 1)[0].strip().lower()
    events: list[msgspec.Raw | bytes]
    if essence == NDJSON:
        events = [line for line in body.split(b"\n") if line.strip()]
    elif essence == JSON:
        try:
            events = msgspec.json.decode(body, type=list[msgspec.Raw])
        except msgspec.ValidationError:
            decode_json(body)
            raise InvalidRequest.at("", "The body must be a list of events.") from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            decode_json(body)
            raise
    else:
        raise UnsupportedMediaType(f"Send {JSON} or {NDJSON}, not {essence[:64]!r}.")
    if len(events) > MAX_BATCH:
        raise InvalidRequest.at("", f"A batch may have at most {MAX_BATCH} events, this one has {len(events)}.")
    return events


async def _credit_all(events: list[msgspec.Raw | bytes], reader: "_Reader", lanes: Lanes) -> Response[bytes]:
    """Read, submit and await chunk by chunk, a few ahead; answers in the order of the request."""
    results: list[bytes] = [b""] * len(events)
    counts = {"accepted": 0, "duplicates": 0, "rejected": 0}
    waiting: list[tuple[list[int], asyncio.Future[list[Outcome]]]] = []
    await reader.sender()  # before anything is submitted: without it the whole body is refused

    async def collect() -> None:
        places, future = waiting.pop(0)
        for place, outcome in zip(places, await future, strict=True):
            if outcome.error is not None:
                counts["rejected"] += 1
                results[place] = msgspec.json.encode(problem_of(outcome.error))
            else:
                counts["duplicates" if outcome.replayed else "accepted"] += 1
                results[place] = outcome.answer

    try:
        start = 0
        while start < len(events):
            size = lanes.chunk if start or len(events) <= LARGE_BODY else CHUNK_BESIDE
            chunk = range(start, min(start + size, len(events)))
            start = chunk.stop
            facts, places = [], []
            for place in chunk:
                try:
                    facts.append(await reader.read(events[place]))
                    places.append(place)
                except GreenpointsError as error:
                    _REFUSED.add()
                    counts["rejected"] += 1
                    results[place] = msgspec.json.encode(problem_of(error))
                if place % READ_AT_ONCE == 0:
                    await asyncio.sleep(0)
            if facts:
                waiting.append((places, lanes.bulk.submit(facts)))
            if len(waiting) >= CHUNKS_AHEAD:
                await collect()
        while waiting:
            await collect()
    finally:
        for _, future in waiting:
            future.cancel()
    head = msgspec.json.encode(counts)[:-1] + b',"results":['
    return Response(content=head + b",".join(results) + b"]}", status_code=200, media_type=JSON)


@get("/v1/events", tags=TAGS, opt={"answer": Page[EventAnswer]})
async def list_events(
    request: Request[Any, Any, Any],
    consumer: FromQuery[str | None] = None,
    status: FromQuery[Status | None] = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[EventAnswer]:
    """List the platform's own events, newest first, of one consumer or in one status."""
    caller = await callers_of(request).platform(request.headers.get("authorization"))
    caller.require("events:read")
    before = read_cursor(cursor, Position, flow.NEWEST)
    async with short_read(request) as conn:
        items, position = await flow.list_events(
            conn, platform=caller.platform, program=caller.program, reference=None if consumer is None else reference(consumer),
            status=status, before=before, limit=limit,
        )  # fmt: skip
    return Page(items=items, next_cursor=None if position is None else encode_cursor(position))


@get("/v1/events/{event_id:path}", tags=TAGS, opt={"answer": EventAnswer})
async def read_event(request: Request[Any, Any, Any], event_id: FromPath[str]) -> EventAnswer:
    """Read one event with its status, awards and balance as they are now."""
    caller = await callers_of(request).platform(request.headers.get("authorization"))
    caller.require("events:read")
    async with short_read(request) as conn:
        found = await flow.find_event(conn, platform=caller.platform, program=caller.program, id=reference(event_id.removeprefix("/")))
    if found is None:
        raise NotFound("There is no such event.")
    return found


async def _platform(request: AnyRequest, headers: dict[bytes, bytes]) -> PlatformCaller:
    """The calling platform; a dictionary look-up for one that has called before."""
    authorization = authorization_of(headers)
    callers = callers_of(request)
    caller = callers.platform_cached(authorization) or await callers.platform(authorization)
    caller.require("events:write")
    return caller


class _Reader:
    """Reads the events of one request, with what its program's may name beside the reference lists."""

    __slots__ = ("_asked", "_caller", "_callers", "_resources", "_sender")

    def __init__(self, request: AnyRequest, caller: PlatformCaller) -> None:
        self._callers, self._caller = callers_of(request), caller
        self._resources: Resources = request.app.state.resources
        self._sender: Sender | None = None
        self._asked = False

    async def read(self, body: bytes | msgspec.Raw) -> Fact:
        """The event as a fact. Raises MalformedJson, InvalidRequest, Unavailable, Overloaded.

        Where it names what this process does not know, PostgreSQL is asked, once for all events of the request: what was declared before
        the request came, by whichever process, is known then.
        """
        now, hash_key = self._resources.clock.now(), self._resources.hash_key
        try:
            return read_fact(body, self._sender or await self.sender(), now=now, hash_key=hash_key)
        except Undeclared:
            if self._asked:
                raise
            self._sender, self._asked = await self._with(anew=True), True
            return read_fact(body, self._sender, now=now, hash_key=hash_key)

    async def sender(self) -> Sender:
        """On whose behalf they come. Raises Unavailable, Overloaded."""
        if self._sender is None:
            self._sender = await self._with(anew=False)
        return self._sender

    async def _with(self, *, anew: bool) -> Sender:
        caller = self._caller
        own = await self._callers.vocabulary(caller.program, anew=anew)
        return Sender(program=caller.program, platform=caller.platform, platform_code=caller.code, own=own)


routes = [receive_event, receive_batch, list_events, read_event]

"""A person's data: erase it, hand it out, keep it for the law; what platforms asked for by webhook (docs/privacy.md).

A platform acts for its own consumers. An administrator names the platform: `?platform=demo-shop`, because a reference is one platform's.
"""

from typing import Any

import msgspec
from litestar import Request, Response, delete, get, patch, post, put
from litestar.params import FromPath

from schemas.pages import Page
from schemas.privacy import Export, HoldAnswer, HoldBody, PolicyBody, PrivacyRequestAnswer
from service.api.bodies import decode_body
from service.api.callers import callers_of
from service.api.changes import change_by
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Position, encode_cursor, page_of, read_cursor
from service.api.database import connection
from service.api.persons import Actor, PlatformCode, actor_of, consumer_of
from service.domain.errors import NotFound
from service.domain.roles import MAY
from service.flows import erase, personal_export, privacy_requests
from service.flows.events import NEWEST
from service.runtime import Resources
from service.store import audit, vault
from service.store import privacy_requests as store
from service.store.connection import Connection

TAGS = ["Privacy"]

AnyRequest = Request[Any, Any, Any]


# Consumers --------------------------------------------------------------------------------------------


@delete("/v1/consumers/{ref:str}", tags=TAGS, status_code=204)
async def erase_consumer(request: AnyRequest, ref: FromPath[str], platform: PlatformCode = None) -> None:
    """Erase a consumer: nobody can tell any more whose account it was, and its points can never be spent. 404 from then on."""
    actor = actor_of(request)
    async with connection(request) as conn:
        consumer = await consumer_of(conn, actor, ref, platform)
        account = await erase.erase(conn, **msgspec.structs.asdict(consumer), change=actor.change)
    resources: Resources = request.app.state.resources
    await resources.projection.forget([account])


@get("/v1/consumers/{ref:str}/export", tags=TAGS, opt={"answer": Export})
async def export_consumer(request: AnyRequest, ref: FromPath[str], platform: PlatformCode = None, cursor: Cursor = None) -> Response[bytes]:
    """Read everything that is held about a consumer, as one JSON document (500 events a page)."""
    actor = actor_of(request)
    before = read_cursor(cursor, Position, NEWEST)
    async with connection(request) as conn:
        consumer = await consumer_of(conn, actor, ref, platform)
        document, position = await personal_export.export(conn, **msgspec.structs.asdict(consumer), before=before, change=actor.change)
    return _document(document, position)


def _document(document: Export, position: int | None) -> Response[bytes]:
    whole = msgspec.structs.replace(document, next_cursor=None if position is None else encode_cursor(position))
    return Response(content=msgspec.json.encode(whole), media_type="application/json", headers={"Cache-Control": "no-store"})


# Legal holds ------------------------------------------------------------------------------------------


@get("/v1/consumers/{ref:str}/legal-hold", tags=TAGS, opt={"answer": HoldAnswer})
async def read_hold(request: AnyRequest, ref: FromPath[str], platform: PlatformCode = None) -> HoldAnswer:
    """Read the legal hold on a consumer's data; 404 without one."""
    actor = await _administrator(request)
    async with connection(request) as conn:
        consumer = await consumer_of(conn, actor, ref, platform)
        return _hold(await erase.read_hold(conn, platform=consumer.platform, reference=consumer.reference))


@put("/v1/consumers/{ref:str}/legal-hold", tags=TAGS, opt={"body": HoldBody, "answer": HoldAnswer})
async def place_hold(request: AnyRequest, ref: FromPath[str], platform: PlatformCode = None) -> HoldAnswer:
    """Keep a consumer's data: nobody can erase it, and retention leaves it alone, until the hold is lifted."""
    actor = await _administrator(request)
    body = await decode_body(request, HoldBody)
    async with connection(request) as conn:
        consumer = await consumer_of(conn, actor, ref, platform)
        return _hold(await erase.place_hold(conn, **msgspec.structs.asdict(consumer), reason=body.reason, change=actor.change))


@delete("/v1/consumers/{ref:str}/legal-hold", tags=TAGS, status_code=204)
async def lift_hold(request: AnyRequest, ref: FromPath[str], platform: PlatformCode = None) -> None:
    """Lift a legal hold. Requests that waited for it are done within seconds."""
    actor = await _administrator(request)
    async with connection(request) as conn:
        consumer = await consumer_of(conn, actor, ref, platform)
        await erase.lift_hold(conn, **msgspec.structs.asdict(consumer), change=actor.change)


async def _administrator(request: AnyRequest) -> Actor:
    operator = await callers_of(request).operator(request, *MAY["personal:hold"])
    return Actor(program=operator.program, platform=None, code="", change=change_by(operator))


# What platforms ask for by webhook --------------------------------------------------------------------


@get("/v1/privacy-requests", tags=TAGS, opt={"answer": Page[PrivacyRequestAnswer]})
async def list_requests(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[PrivacyRequestAnswer]:
    """List requests to erase or to hand out what is known of persons, newest first: a platform its own, an operator the program's."""
    actor = actor_of(request)
    before = read_cursor(cursor, Position, NEWEST)
    async with connection(request) as conn:
        rows = await store.page(conn, program=actor.program, platform=actor.platform, before=before, limit=limit + 1)
    return page_of(rows, limit, item=_request, position=lambda row: row.id)


@get("/v1/privacy-requests/{request_id:int}", tags=TAGS, opt={"answer": PrivacyRequestAnswer})
async def read_request(request: AnyRequest, request_id: FromPath[int]) -> PrivacyRequestAnswer:
    """Read one request and how far it has come."""
    actor = actor_of(request)
    async with connection(request) as conn:
        return _request(await _own(conn, actor, request_id))


@get("/v1/privacy-requests/{request_id:int}/export", tags=TAGS, opt={"answer": Export})
async def read_export(request: AnyRequest, request_id: FromPath[int], cursor: Cursor = None) -> Response[bytes]:
    """Read what is held about the person whom the request is about; 404 when nobody was known, or it is too long ago."""
    actor = actor_of(request)
    before = read_cursor(cursor, Position, NEWEST)
    async with connection(request) as conn:
        found = await _own(conn, actor, request_id)
        if found.kind != "export" or found.account is None:
            raise NotFound("There is no export of this request.")
        document, position = await personal_export.export_account(
            conn, program=found.program, platform=found.platform, code=found.code, account=found.account, before=before, change=actor.change
        )
    return _document(document, position)


@post("/v1/privacy-requests/{request_id:int}/cancel", tags=TAGS, status_code=200, opt={"answer": PrivacyRequestAnswer})
async def cancel_request(request: AnyRequest, request_id: FromPath[int]) -> PrivacyRequestAnswer:
    """Cancel a request to erase everybody, before its grace period has ended."""
    operator = await callers_of(request).operator(request, *MAY["personal:erase"])
    async with connection(request) as conn:
        return _request(await privacy_requests.cancel(conn, program=operator.program, id=_number(request_id), change=change_by(operator)))


async def _own(conn: Connection, actor: Actor, request_id: int) -> store.PrivacyRequest:
    """Raises NotFound for what is somebody else's."""
    found = await store.find(conn, _number(request_id))
    if found is None or found.program != actor.program or actor.platform not in (None, found.platform):
        raise NotFound("There is no such privacy request.")
    return found


# Policy -----------------------------------------------------------------------------------------------


@get("/v1/privacy-policy", tags=TAGS, opt={"answer": PolicyBody})
async def read_policy(request: AnyRequest) -> PolicyBody:
    """Read what comes of later events of an erased reference."""
    operator = await callers_of(request).operator(request, *MAY["platforms:read"])
    async with connection(request) as conn:
        return PolicyBody(erased_reference=await vault.policy(conn, operator.program))


@patch("/v1/privacy-policy", tags=TAGS, opt={"body": PolicyBody, "answer": PolicyBody})
async def change_policy(request: AnyRequest) -> PolicyBody:
    """Choose what comes of later events of an erased reference; `refuse` keeps a keyed hash of each that is erased from then on."""
    operator = await callers_of(request).operator(request, *MAY["platforms:write"])
    body = await decode_body(request, PolicyBody)
    change = change_by(operator)
    async with connection(request) as conn, conn.transaction():
        before = await vault.policy(conn, operator.program)
        await vault.set_policy(conn, operator.program, body.erased_reference)
        await audit.record(
            conn, program=operator.program, actor=change.actor, action="privacy_policy.change", subject="program",
            before={"erased_reference": before}, after={"erased_reference": body.erased_reference}, request_id=change.request_id,
        )  # fmt: skip
    return body


# Answers ----------------------------------------------------------------------------------------------


def _hold(hold: vault.Hold) -> HoldAnswer:
    return HoldAnswer(reason=hold.reason, placed_by=hold.placed_by, placed_at=hold.placed_at)


def _request(row: store.PrivacyRequest) -> PrivacyRequestAnswer:
    there = row.kind == "export" and row.account is not None
    return PrivacyRequestAnswer(
        id=str(row.id), platform=row.code, kind=row.kind, state=row.state, received_at=row.received_at, not_before=row.not_before,
        deadline=row.deadline, done_at=row.done_at, consumers=row.consumers, orders=row.scrubbed,
        export=f"/v1/privacy-requests/{row.id}/export" if there else None,
    )  # fmt: skip


def _number(request_id: int) -> int:
    """A row's number from the path. Raises NotFound for one that no row can have."""
    if not 0 < request_id < 2**63:
        raise NotFound("There is no such privacy request.")
    return request_id


routes = [
    erase_consumer,
    export_consumer,
    read_hold,
    place_hold,
    lift_hold,
    list_requests,
    read_request,
    read_export,
    cancel_request,
    read_policy,
    change_policy,
]

"""Spending: reserve, capture, cancel, refund; for platforms, and for consumers themselves (CONTRACT §3.6)."""

from datetime import timedelta
from typing import Annotated, Any, Final, TypeVar

from litestar import Request, get, post
from litestar.params import FromPath, QueryParameter
from litestar.response.base import ASGIResponse
from msgspec import UNSET, UnsetType

from schemas.bounds import MAX_REDEMPTION_BYTES
from schemas.pages import Page
from schemas.redemptions import (
    CancelBody,
    CaptureBody,
    OwnRedemptionBody,
    RedemptionAnswer,
    RedemptionBody,
    RedemptionItem,
    RedemptionStatus,
    RefundBody,
)
from service.api.access import proven
from service.api.bodies import authorization_of, decode, raw_headers, read_body, require_json
from service.api.callers import ConsumerCaller, PlatformCaller, callers_of
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Position, page_of, read_cursor
from service.api.database import short_read
from service.api.exchange import AnyRequest, JsonResponse
from service.api.lanes import Lanes
from service.api.paths import reference
from service.api.repeats import IdempotencyKey, idempotency_key_of, request_hash
from service.domain.campaigns import parse_duration
from service.domain.errors import InvalidRequest
from service.domain.redeeming import MAX_TTL, MIN_TTL
from service.flows import redemptions as flow
from service.flows.events import NEWEST
from service.flows.redeem import Ask
from service.runtime import Resources
from service.sealing import Sealer

TAGS: Final = ["Redemptions"]
JSON: Final = "application/json"
REPLAYED_HEADER: Final = ((b"idempotency-replayed", b"true"),)

Status = Annotated[RedemptionStatus | None, QueryParameter(name="status", description="Only those in this state.")]
T = TypeVar("T")


# Platforms -----------------------------------------------------------------------------------------------


@post("/v1/redemptions", tags=TAGS, media_type=JSON, opt={"body": RedemptionBody, "answer": RedemptionAnswer, "also": (200,)})
async def create_redemption(request: Request[Any, Any, Any], idempotency_key: IdempotencyKey = None) -> ASGIResponse:  # noqa: ARG001
    """Reserve points of one of the platform's consumers, or spend them at once with `capture`. Needs an `Idempotency-Key`.

    A reservation that is neither captured nor cancelled releases itself at `expires_at`.
    """
    caller = await _platform(request)
    body = await _read(request, RedemptionBody)
    return await _submit(request, _creation(body, caller, request_hash(request, body), consumer=body.consumer))


@get("/v1/redemptions", tags=TAGS, opt={"answer": Page[RedemptionItem]})
async def list_redemptions(
    request: Request[Any, Any, Any], cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT, in_state: Status = None,
    consumer: Annotated[str | None, QueryParameter(max_length=128, description="Only this consumer's.")] = None,
) -> Page[RedemptionItem]:  # fmt: skip
    """List the platform's redemptions, newest first."""
    caller = proven(request)
    assert isinstance(caller, PlatformCaller)
    before = read_cursor(cursor, Position, NEWEST)
    async with short_read(request) as conn:
        rows = await flow.of_platform(conn, caller.platform, consumer=consumer, status=in_state, before=before, limit=limit + 1)
    return page_of(rows, limit, item=lambda row: row.item, position=lambda row: row.number)


@get("/v1/redemptions/{redemption:str}", tags=TAGS, opt={"answer": RedemptionAnswer})
async def read_redemption(request: Request[Any, Any, Any], redemption: FromPath[str]) -> RedemptionAnswer:
    """Read one of the platform's redemptions, with its consumer's balance as it is now."""
    caller = proven(request)
    assert isinstance(caller, PlatformCaller)
    async with short_read(request) as conn:
        return await flow.find(conn, sealer=_sealer(request), program=caller.program, platform=caller.platform, id_=reference(redemption))


@post(
    "/v1/redemptions/{redemption:str}/capture",
    tags=TAGS,
    media_type=JSON,
    status_code=200,
    opt={"body": CaptureBody, "answer": RedemptionAnswer},
)
async def capture_redemption(
    request: Request[Any, Any, Any],
    redemption: FromPath[str],
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001
) -> ASGIResponse:
    """Spend what is reserved, or fewer `points` of it: the rest is free again at once. Needs an `Idempotency-Key`."""
    caller = await _platform(request)
    body = await _read(request, CaptureBody, empty=True)
    return await _submit(request, _step("capture", redemption, caller, request_hash(request, body), points=body.points))


@post(
    "/v1/redemptions/{redemption:str}/cancel",
    tags=TAGS,
    media_type=JSON,
    status_code=200,
    opt={"body": CancelBody, "answer": RedemptionAnswer},
)
async def cancel_redemption(
    request: Request[Any, Any, Any],
    redemption: FromPath[str],
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001
) -> ASGIResponse:
    """Let go what is reserved. Needs an `Idempotency-Key`."""
    caller = await _platform(request)
    body = await _read(request, CancelBody, empty=True)
    return await _submit(request, _step("cancel", redemption, caller, request_hash(request, body)))


@post(
    "/v1/redemptions/{redemption:str}/refund",
    tags=TAGS,
    media_type=JSON,
    status_code=200,
    opt={"body": RefundBody, "answer": RedemptionAnswer},
)
async def refund_redemption(
    request: Request[Any, Any, Any],
    redemption: FromPath[str],
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001
) -> ASGIResponse:
    """Give spent points back, all that are left or fewer `points`: to the lots that they came from. Needs an `Idempotency-Key`."""
    caller = await _platform(request)
    body = await _read(request, RefundBody, empty=True)
    return await _submit(request, _step("refund", redemption, caller, request_hash(request, body), points=body.points))


# Consumers themselves ------------------------------------------------------------------------------------


@post("/v1/me/redemptions", tags=TAGS, media_type=JSON, opt={"body": OwnRedemptionBody, "answer": RedemptionAnswer, "also": (200,)})
async def create_my_redemption(request: Request[Any, Any, Any], idempotency_key: IdempotencyKey = None) -> ASGIResponse:  # noqa: ARG001
    """Reserve the calling consumer's points, or spend them at once with `capture`. Needs an `Idempotency-Key`."""
    caller = await _consumer(request)
    body = await _read(request, OwnRedemptionBody)
    return await _submit(request, _creation(body, caller, request_hash(request, body), consumer=caller.reference))


@get("/v1/me/redemptions", tags=TAGS, opt={"answer": Page[RedemptionItem]})
async def list_my_redemptions(
    request: Request[Any, Any, Any], cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT, in_state: Status = None
) -> Page[RedemptionItem]:
    """List the calling consumer's redemptions through this platform, newest first."""
    caller = await callers_of(request).consumer(request.headers.get("authorization"), "balance:read")
    before = read_cursor(cursor, Position, NEWEST)
    async with short_read(request) as conn:
        rows = await flow.of_platform(conn, caller.platform, consumer=caller.reference, status=in_state, before=before, limit=limit + 1)
    return page_of(rows, limit, item=lambda row: row.item, position=lambda row: row.number)


@get("/v1/me/redemptions/{redemption:str}", tags=TAGS, opt={"answer": RedemptionAnswer})
async def read_my_redemption(request: Request[Any, Any, Any], redemption: FromPath[str]) -> RedemptionAnswer:
    """Read one of the calling consumer's redemptions."""
    caller = await callers_of(request).consumer(request.headers.get("authorization"), "balance:read")
    async with short_read(request) as conn:
        return await flow.find(
            conn, sealer=_sealer(request), program=caller.program, platform=caller.platform, id_=reference(redemption),
            consumer=caller.reference,
        )  # fmt: skip


@post(
    "/v1/me/redemptions/{redemption:str}/capture",
    tags=TAGS,
    media_type=JSON,
    status_code=200,
    opt={"body": CaptureBody, "answer": RedemptionAnswer},
)
async def capture_my_redemption(
    request: Request[Any, Any, Any],
    redemption: FromPath[str],
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001
) -> ASGIResponse:
    """Spend what the calling consumer has reserved, or fewer `points` of it. Needs an `Idempotency-Key`."""
    caller = await _consumer(request)
    body = await _read(request, CaptureBody, empty=True)
    return await _submit(request, _step("capture", redemption, caller, request_hash(request, body), points=body.points))


@post(
    "/v1/me/redemptions/{redemption:str}/cancel",
    tags=TAGS,
    media_type=JSON,
    status_code=200,
    opt={"body": CancelBody, "answer": RedemptionAnswer},
)
async def cancel_my_redemption(
    request: Request[Any, Any, Any],
    redemption: FromPath[str],
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001
) -> ASGIResponse:
    """Let go what the calling consumer has reserved. Needs an `Idempotency-Key`."""
    caller = await _consumer(request)
    body = await _read(request, CancelBody, empty=True)
    return await _submit(request, _step("cancel", redemption, caller, request_hash(request, body)))


# Parts ---------------------------------------------------------------------------------------------------


def _sealer(request: AnyRequest) -> Sealer:
    resources: Resources = request.app.state.resources
    return resources.sealer


async def _platform(request: AnyRequest) -> PlatformCaller:
    authorization = authorization_of(raw_headers(request))
    callers = callers_of(request)
    caller = callers.platform_cached(authorization) or await callers.platform(authorization)
    caller.require("redemptions:write")
    return caller


async def _consumer(request: AnyRequest) -> ConsumerCaller:
    authorization = authorization_of(raw_headers(request))
    callers = callers_of(request)
    caller = callers.consumer_cached(authorization) or await callers.consumer(authorization, "redeem")
    caller.require("redeem")
    return caller


async def _read(request: AnyRequest, type_: type[T], *, empty: bool = False) -> T:
    """The body. `empty`: none at all is an empty object."""
    headers = raw_headers(request)
    require_json(headers.get(b"content-type"))
    body = await read_body(request, MAX_REDEMPTION_BYTES)
    return decode(body or b"{}" if empty else body, type_)


def _creation(body: OwnRedemptionBody, caller: PlatformCaller | ConsumerCaller, hash_: bytes, *, consumer: str) -> Ask:
    if body.reward is not None and body.cause is not None:
        raise InvalidRequest.at("/cause", "points go to a reward or to a cause, not to both")
    if body.points is UNSET and body.reward is None:
        raise InvalidRequest.at("/points", "is required")
    return Ask(
        program=caller.program, platform=caller.platform, step="create", key=None, by_consumer=isinstance(caller, ConsumerCaller),
        request_hash=hash_, consumer=consumer, points=_points(body.points), reference=body.reference,
        reward=body.reward, cause=body.cause, capture=body.capture, ttl=_ttl(body.ttl),
    )  # fmt: skip


def _step(
    step: flow.Step, redemption: str, caller: PlatformCaller | ConsumerCaller, hash_: bytes, *, points: int | UnsetType = UNSET
) -> Ask:
    id_ = reference(redemption)
    own = caller.reference if isinstance(caller, ConsumerCaller) else None
    return Ask(
        program=caller.program, platform=caller.platform, step=step, key=None, by_consumer=own is not None,
        request_hash=hash_, consumer=own,
        redemption=id_, points=_points(points),
    )  # fmt: skip


def _points(points: int | UnsetType) -> int | None:
    return None if points is UNSET else points


def _ttl(text: str) -> timedelta:
    try:
        duration = parse_duration(text)
    except ValueError as error:
        raise InvalidRequest.at("/ttl", str(error)) from None
    ttl = timedelta(days=duration.days, seconds=duration.seconds)
    if duration.months or not MIN_TTL <= ttl <= MAX_TTL:
        raise InvalidRequest.at("/ttl", "must be from PT1S to P31D, in weeks, days, hours, minutes and seconds")
    return ttl


async def _submit(request: AnyRequest, ask: Ask) -> ASGIResponse:
    """Hand the request to its lane, and answer what comes of it."""
    ask.key = idempotency_key_of(request)
    lanes: Lanes = request.app.state.lanes
    outcome = (await lanes.redeem.submit([ask]))[0]
    if outcome.error is not None:
        raise outcome.error
    return JsonResponse(outcome.answer, outcome.status, REPLAYED_HEADER if outcome.replayed else ())


routes = [
    create_redemption,
    list_redemptions,
    read_redemption,
    capture_redemption,
    cancel_redemption,
    refund_redemption,
    create_my_redemption,
    list_my_redemptions,
    read_my_redemption,
    capture_my_redemption,
    cancel_my_redemption,
]

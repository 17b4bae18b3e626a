"""Points that consumers give each other, by themselves or through their platform (docs/adjustments.md)."""

from typing import Any, Final

from litestar import Request, Response, post
from litestar.params import FromPath

from schemas.adjustments import TransferAnswer, TransferBody
from service.api.bodies import decode_body
from service.api.callers import ConsumerCaller, PlatformCaller, callers_of
from service.api.database import connection
from service.api.paths import reference
from service.api.repeats import REPLAYED, IdempotencyKey, idempotency_key_of, request_hash
from service.flows import transfers
from service.runtime import Resources

TAGS: Final = ["Transfers"]

AnyRequest = Request[Any, Any, Any]


@post("/v1/me/transfers", tags=TAGS, status_code=201, opt={"body": TransferBody, "answer": TransferAnswer})
async def give_points(request: AnyRequest, idempotency_key: IdempotencyKey = None) -> Response[TransferAnswer]:  # noqa: ARG001
    """Give points of the calling consumer to another consumer of the same platform, where the program allows it."""
    caller = await callers_of(request).consumer(request.headers.get("authorization"), "redeem")
    return await _give(request, caller, caller.reference)


@post("/v1/consumers/{ref:str}/transfers", tags=TAGS, status_code=201, opt={"body": TransferBody, "answer": TransferAnswer})
async def give_points_of_consumer(
    request: AnyRequest,
    ref: FromPath[str],
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001
) -> Response[TransferAnswer]:
    """Give points of one of the platform's consumers to another, where the program allows it; 404 for a giver whom nobody knows."""
    caller = await callers_of(request).platform(request.headers.get("authorization"))
    caller.require("transfers:write")
    return await _give(request, caller, reference(ref))


async def _give(request: AnyRequest, caller: ConsumerCaller | PlatformCaller, sender: str) -> Response[TransferAnswer]:
    key = idempotency_key_of(request)
    body = await decode_body(request, TransferBody)
    async with connection(request) as conn:
        outcome = await transfers.transfer(
            conn, body, program=caller.program, platform=caller.platform, sender=sender, by_platform=isinstance(caller, PlatformCaller),
            key=key, request_hash=request_hash(request, body),
        )  # fmt: skip
    resources: Resources = request.app.state.resources
    await resources.projection.push(outcome.balances)
    return Response(outcome.answer, status_code=outcome.status, headers=REPLAYED if outcome.replayed else {})


routes = [give_points, give_points_of_consumer]

"""Rewards and their voucher codes: for operators; what is on offer, for platforms and consumers."""

from typing import Any, Final

from litestar import Request, get, patch, post
from litestar.params import FromPath

from schemas.bounds import MAX_IMPORT_BYTES
from schemas.pages import Page
from schemas.rewards import MyReward, RewardAnswer, RewardBody, RewardItem, RewardPatch, VoidVoucher, VoucherCode, VouchersAnswer
from service.api.access import proven
from service.api.bodies import decode_body, read_body
from service.api.callers import PlatformCaller, callers_of
from service.api.changes import change_by
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Name, Position, page_of, read_cursor
from service.api.database import connection, short_read
from service.api.registries import format_of
from service.domain import imports
from service.domain.roles import MAY
from service.flows import reward_catalogue, vouchers

TAGS: Final = ["Rewards"]

AnyRequest = Request[Any, Any, Any]


@post("/v1/rewards", tags=TAGS, opt={"body": RewardBody, "answer": RewardAnswer})
async def create_reward(request: AnyRequest) -> RewardAnswer:
    """Put a reward into the catalogue: points buy it at once, or from `valid_from` on."""
    caller = await callers_of(request).operator(request, *MAY["rewards:write"])
    body = await decode_body(request, RewardBody)
    async with connection(request) as conn:
        return await reward_catalogue.create_reward(
            conn, body, sealer=request.app.state.resources.sealer, program=caller.program, change=change_by(caller)
        )  # fmt: skip


@get("/v1/rewards", tags=TAGS, opt={"answer": Page[RewardItem]})
async def list_rewards(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[RewardItem]:
    """List rewards by code: for operators all of the program's, for a platform those that it can offer now."""
    caller = proven(request)
    after = read_cursor(cursor, Name, "")
    async with connection(request) as conn:
        if isinstance(caller, PlatformCaller):
            rows = await reward_catalogue.offers(conn, program=caller.program, platform=caller.platform, after=after, limit=limit + 1)
        else:
            rows = await reward_catalogue.rewards_page(conn, program=caller.program, after=after, limit=limit + 1)
    return page_of(rows, limit, item=lambda row: row, position=lambda row: row.code)


@get("/v1/rewards/{code:str}", tags=TAGS, opt={"answer": RewardAnswer})
async def read_reward(request: AnyRequest, code: FromPath[str]) -> RewardAnswer:
    """Read one reward with what is left of it, reserved and given out."""
    caller = await callers_of(request).operator(request, *MAY["rewards:read"])
    async with connection(request) as conn:
        return await reward_catalogue.read_reward(conn, code, program=caller.program)


@patch("/v1/rewards/{code:str}", tags=TAGS, opt={"body": RewardPatch, "answer": RewardAnswer})
async def change_reward(request: AnyRequest, code: FromPath[str]) -> RewardAnswer:
    """Change a reward, or take it off the catalogue (`active` false), for what is reserved from then on; null lifts a limit."""
    caller = await callers_of(request).operator(request, *MAY["rewards:write"])
    body = await decode_body(request, RewardPatch)
    async with connection(request) as conn:
        return await reward_catalogue.change_reward(conn, code, body, program=caller.program, change=change_by(caller))


@post("/v1/rewards/{code:str}/vouchers", tags=TAGS, status_code=200, opt={"body": list[VoucherCode], "answer": VouchersAnswer})
async def load_vouchers(request: AnyRequest, code: FromPath[str]) -> VouchersAnswer:
    """Load up to 5,000 voucher codes of a reward: a JSON array of texts, NDJSON or CSV, answered per row. Safe to repeat."""
    caller = await callers_of(request).operator(request, *MAY["rewards:write"])
    format_ = format_of(request)
    rows = imports.voucher_rows(await read_body(request, MAX_IMPORT_BYTES), format_)
    sealer = request.app.state.resources.sealer
    async with connection(request) as conn:
        return await vouchers.load(conn, rows, sealer=sealer, program=caller.program, code=code, change=change_by(caller))


@get("/v1/rewards/{code:str}/vouchers/void", tags=TAGS, opt={"answer": Page[VoidVoucher]})
async def list_void_vouchers(
    request: AnyRequest, code: FromPath[str], cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Page[VoidVoucher]:
    """List the codes that were given out and refunded, in the order in which they were loaded: to be cancelled by whoever made them."""
    caller = await callers_of(request).operator(request, *MAY["rewards:write"])
    after = read_cursor(cursor, Position, 0)
    sealer = request.app.state.resources.sealer
    async with connection(request) as conn:
        rows = await vouchers.void(conn, sealer=sealer, program=caller.program, code=code, after=after, limit=limit + 1)
    return page_of(rows, limit, item=lambda row: row[1], position=lambda row: row[0])


@get("/v1/me/rewards", tags=TAGS, opt={"answer": Page[MyReward]})
async def my_rewards(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[MyReward]:
    """List the rewards that are on offer to the calling consumer now, with their price, and whether its points buy them."""
    caller = await callers_of(request).consumer(request.headers.get("authorization"), "balance:read")
    after = read_cursor(cursor, Name, "")
    async with short_read(request) as conn:
        rows = await reward_catalogue.offers_to(
            conn, program=caller.program, platform=caller.platform, reference=caller.reference, after=after, limit=limit + 1
        )
    return page_of(rows, limit, item=lambda row: row, position=lambda row: row.code)


routes = [create_reward, list_rewards, read_reward, change_reward, load_vouchers, list_void_vouchers, my_rewards]

"""Reusable packaging and the policy about returns: for operators."""

import hashlib
from typing import Annotated, Any, Final, Literal

from litestar import Request, Response, get, patch, post
from litestar.params import FromPath, QueryParameter

from schemas.assets import AssetAnswer, AssetBody, AssetItem, AssetState, AssetStep, PackagingPolicy, PackagingPolicyPatch
from schemas.bounds import MAX_CODE_CHARS, MAX_IMPORT_BYTES
from schemas.pages import Page
from schemas.registries import ImportAnswer
from service.api.bodies import decode_body, read_body
from service.api.callers import callers_of
from service.api.changes import change_by
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Name, page_of, read_cursor
from service.api.database import connection
from service.api.paths import reference
from service.api.registries import format_of
from service.domain import imports
from service.domain.roles import MAY
from service.flows import assets

TAGS: Final = ["Packaging"]
STEP: Final[dict[str, Any]] = {"body": AssetStep, "answer": AssetAnswer}

AnyRequest = Request[Any, Any, Any]
ClassFilter = Annotated[str | None, QueryParameter(name="class", max_length=MAX_CODE_CHARS, pattern=r"^[a-z0-9][a-z0-9._-]*$")]
StateFilter = Annotated[AssetState | None, QueryParameter(name="state")]


@post("/v1/packaging/assets", tags=TAGS, opt={"body": AssetBody, "answer": AssetAnswer, "also": (200,)})
async def register_asset(request: AnyRequest) -> Response[AssetAnswer]:
    """Register a piece of reusable packaging (201) by GRAI, GIAI or a code of one's own; a repeat changes nothing (200)."""
    caller = await callers_of(request).operator(request, *MAY["registries:write"])
    body = await decode_body(request, AssetBody)
    async with connection(request) as conn:
        asset, new = await assets.register_asset(conn, body, program=caller.program, change=change_by(caller))
    return Response(asset, status_code=201 if new else 200)


@post("/v1/packaging/assets/import", tags=TAGS, status_code=200, opt={"body": list[AssetBody], "answer": ImportAnswer})
async def import_assets(request: AnyRequest) -> ImportAnswer:
    """Register up to 5,000 assets: a JSON array, NDJSON or CSV, answered per row. Safe to repeat."""
    caller = await callers_of(request).operator(request, *MAY["registries:write"])
    format_ = format_of(request)
    body = await read_body(request, MAX_IMPORT_BYTES)
    rows = imports.asset_rows(body, format_)
    sha256 = hashlib.sha256(body).hexdigest()
    async with connection(request) as conn:
        return await assets.import_assets(conn, rows, program=caller.program, sha256=sha256, change=change_by(caller))


@get("/v1/packaging/assets", tags=TAGS, opt={"answer": Page[AssetItem]})
async def list_assets(
    request: AnyRequest,
    class_: ClassFilter = None,
    in_state: StateFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[AssetItem]:
    """List the program's assets by identifier, perhaps of one class or in one state only."""
    caller = await callers_of(request).operator(request, *MAY["registries:read"])
    after = read_cursor(cursor, Name, "")
    async with connection(request) as conn:
        rows = await assets.assets(conn, program=caller.program, after=after, class_=class_, state=in_state, limit=limit + 1)
    return page_of(rows, limit, item=lambda row: row, position=lambda row: row.asset)


@get("/v1/packaging/assets/{asset:str}", tags=TAGS, opt={"answer": AssetAnswer})
async def read_asset(request: AnyRequest, asset: FromPath[str]) -> AssetAnswer:
    """Read one asset with its trips, newest first; it may be written in any of its forms, percent-encoded."""
    caller = await callers_of(request).operator(request, *MAY["registries:read"])
    async with connection(request) as conn:
        return await assets.asset(conn, reference(asset), program=caller.program)


@post("/v1/packaging/assets/{asset:str}/inspect", tags=TAGS, status_code=200, opt=STEP)
async def inspect_asset(request: AnyRequest, asset: FromPath[str]) -> AssetAnswer:
    """Say that an asset was inspected and can go out again."""
    return await _step(request, asset, "inspect")


@post("/v1/packaging/assets/{asset:str}/retire", tags=TAGS, status_code=200, opt=STEP)
async def retire_asset(request: AnyRequest, asset: FromPath[str]) -> AssetAnswer:
    """Take an asset out of use for good; a trip that is open can still end. A repeat changes nothing."""
    return await _step(request, asset, "retire")


@post("/v1/packaging/assets/{asset:str}/lose", tags=TAGS, status_code=200, opt=STEP)
async def lose_asset(request: AnyRequest, asset: FromPath[str]) -> AssetAnswer:
    """Say that an asset is lost; a return or shipment finds it again. A repeat changes nothing."""
    return await _step(request, asset, "lose")


async def _step(request: AnyRequest, asset: str, fact: Literal["inspect", "retire", "lose"]) -> AssetAnswer:
    caller = await callers_of(request).operator(request, *MAY["registries:write"])
    body = await decode_body(request, AssetStep)
    async with connection(request) as conn:
        return await assets.step(conn, reference(asset), fact, body, program=caller.program, change=change_by(caller))


@get("/v1/packaging-policy", tags=TAGS, opt={"answer": PackagingPolicy})
async def read_packaging_policy(request: AnyRequest) -> PackagingPolicy:
    """Read who earns for a returned asset, and how long single-use packaging can be given back."""
    caller = await callers_of(request).operator(request, *MAY["registries:read"])
    async with connection(request) as conn:
        return await assets.policy(conn, program=caller.program)


@patch("/v1/packaging-policy", tags=TAGS, opt={"body": PackagingPolicyPatch, "answer": PackagingPolicy})
async def change_packaging_policy(request: AnyRequest) -> PackagingPolicy:
    """Choose who earns for a returned asset, and how long single-use packaging can be given back; for events from then on."""
    caller = await callers_of(request).operator(request, *MAY["registries:write"])
    body = await decode_body(request, PackagingPolicyPatch)
    async with connection(request) as conn:
        return await assets.change_policy(conn, body, program=caller.program, change=change_by(caller))


routes = [
    register_asset,
    import_assets,
    list_assets,
    read_asset,
    inspect_asset,
    retire_asset,
    lose_asset,
    read_packaging_policy,
    change_packaging_policy,
]

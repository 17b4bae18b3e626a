"""Platforms with their keys and hooks, operators, and the audit: for administrators."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, get, patch, post
from litestar.params import FromPath, QueryParameter

from schemas.bounds import MAX_KEEP_OLD_DAYS, MAX_TEXT_CHARS
from schemas.callers import (
    AuditAnswer,
    HookAnswer,
    HookBody,
    HookPatch,
    KeyAnswer,
    KeyBody,
    KeyReplacement,
    OperatorAnswer,
    OperatorBody,
    OperatorCredentials,
    PlatformAnswer,
    PlatformBody,
    PlatformCredentials,
    PlatformLimits,
    PlatformPatch,
    SigningKeyAnswer,
    SigningKeyBody,
)
from schemas.connectors import HookSettings
from schemas.pages import Page
from service.api.bodies import decode_body
from service.api.callers import callers_of
from service.api.changes import change_by
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Name, Position, instant, page_of, read_cursor
from service.api.database import connection
from service.domain.campaigns import parse_duration
from service.domain.errors import InvalidRequest, NotFound
from service.domain.roles import MAY
from service.flows import administer
from service.sealing import Sealer
from service.store import audit
from service.store import callers as store

PLATFORMS: Final = ["Platforms"]
OPERATORS: Final = ["Operators"]

AnyRequest = Request[Any, Any, Any]

Actor = Annotated[str | None, QueryParameter(max_length=MAX_TEXT_CHARS, description="Such as `operator:7`, or `command`.")]
Action = Annotated[str | None, QueryParameter(max_length=MAX_TEXT_CHARS, description="Such as `campaign.activate`.")]
Subject = Annotated[str | None, QueryParameter(max_length=MAX_TEXT_CHARS, description="Such as `platform:demo-shop`.")]
RequestId = Annotated[str | None, QueryParameter(max_length=MAX_TEXT_CHARS, description="The X-Request-Id of the change.")]
From = Annotated[datetime | None, QueryParameter(name="from", description="RFC 3339 with an offset: changed then or later.")]
To = Annotated[datetime | None, QueryParameter(name="to", description="RFC 3339 with an offset: changed before.")]


# Platforms --------------------------------------------------------------------------------------------


@get("/v1/platforms", tags=PLATFORMS, opt={"answer": Page[PlatformAnswer]})
async def list_platforms(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[PlatformAnswer]:
    """List the program's platforms, oldest first."""
    caller = await callers_of(request).operator(request, *MAY["platforms:read"])
    after = read_cursor(cursor, Position, 0)
    async with connection(request) as conn:
        rows = await administer.list_platforms(conn, program=caller.program, after=after, limit=limit + 1)
    return page_of(rows, limit, item=_platform, position=lambda row: row.id)


@post("/v1/platforms", tags=PLATFORMS, opt={"body": PlatformBody, "answer": PlatformCredentials})
async def create_platform(request: AnyRequest) -> PlatformCredentials:
    """Create a platform. The answer shows its API key and hook secrets, this once."""
    caller = await callers_of(request).operator(request, *MAY["platforms:write"])
    body = await decode_body(request, PlatformBody)
    sealer: Sealer = request.app.state.resources.sealer
    async with connection(request) as conn:
        return await administer.create_platform(
            conn, sealer=sealer, program=caller.program, code=body.code, name=body.name, change=change_by(caller)
        )


@get("/v1/platforms/{code:str}", tags=PLATFORMS, opt={"answer": PlatformAnswer})
async def read_platform(request: AnyRequest, code: FromPath[str]) -> PlatformAnswer:
    """Read one platform."""
    caller = await callers_of(request).operator(request, *MAY["platforms:read"])
    async with connection(request) as conn:
        return _platform(await administer.find_platform(conn, program=caller.program, code=code))


@patch("/v1/platforms/{code:str}", tags=PLATFORMS, opt={"body": PlatformPatch, "answer": PlatformAnswer})
async def change_platform(request: AnyRequest, code: FromPath[str]) -> PlatformAnswer:
    """Set and lift a platform's rate limits: they count everywhere within 5 s."""
    caller = await callers_of(request).operator(request, *MAY["platforms:write"])
    body = await decode_body(request, PlatformPatch)
    async with connection(request) as conn:
        return _platform(await administer.change_platform(conn, program=caller.program, code=code, patch=body, change=change_by(caller)))


# API keys ---------------------------------------------------------------------------------------------


@get("/v1/platforms/{code:str}/keys", tags=PLATFORMS, opt={"answer": Page[KeyAnswer]})
async def list_keys(request: AnyRequest, code: FromPath[str], cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[KeyAnswer]:
    """List a platform's API keys without the keys, revoked ones too."""
    caller = await callers_of(request).operator(request, *MAY["platforms:read"])
    after = read_cursor(cursor, Position, 0)
    async with connection(request) as conn:
        platform = await administer.find_platform(conn, program=caller.program, code=code)
        rows = await store.keys(conn, platform.id, after=after, limit=limit + 1)
    return page_of(rows, limit, item=_key, position=lambda row: row.id)


@post("/v1/platforms/{code:str}/keys", tags=PLATFORMS, opt={"body": KeyBody, "answer": KeyAnswer})
async def create_key(request: AnyRequest, code: FromPath[str]) -> KeyAnswer:
    """Create one more API key. The answer shows it, this once."""
    caller = await callers_of(request).operator(request, *MAY["platforms:write"])
    body = await decode_body(request, KeyBody)
    async with connection(request) as conn:
        return await administer.create_key(
            conn, program=caller.program, platform=code, scopes=body.scopes, expires_at=body.expires_at, change=change_by(caller)
        )


@post("/v1/platforms/{code:str}/keys/{key:int}/revoke", tags=PLATFORMS, status_code=200, opt={"answer": KeyAnswer})
async def revoke_key(request: AnyRequest, code: FromPath[str], key: FromPath[int]) -> KeyAnswer:
    """Revoke an API key: it is refused everywhere within 5 s. A repeat changes nothing."""
    caller = await callers_of(request).operator(request, *MAY["platforms:write"])
    async with connection(request) as conn:
        return _key(await administer.revoke_key(conn, program=caller.program, platform=code, key=key_number(key), change=change_by(caller)))


@post("/v1/platforms/{code:str}/keys/{key:int}/replace", tags=PLATFORMS, opt={"body": KeyReplacement, "answer": KeyAnswer})
async def replace_key(request: AnyRequest, code: FromPath[str], key: FromPath[int]) -> KeyAnswer:
    """Create an API key with the scopes of an old one, which goes on for as long as you say. The answer shows the new key, this once."""
    caller = await callers_of(request).operator(request, *MAY["platforms:write"])
    body = await decode_body(request, KeyReplacement)
    keep_old = keep_old_of(body.keep_old)
    async with connection(request) as conn:
        return await administer.replace_key(
            conn, program=caller.program, platform=code, key=key_number(key), keep_old=keep_old, change=change_by(caller)
        )


# Signing keys -----------------------------------------------------------------------------------------


@get("/v1/platforms/{code:str}/signing-keys", tags=PLATFORMS, opt={"answer": Page[SigningKeyAnswer]})
async def list_signing_keys(
    request: AnyRequest, code: FromPath[str], cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Page[SigningKeyAnswer]:
    """List the keys that sign a platform's consumer tokens, revoked ones too, oldest first."""
    caller = await callers_of(request).operator(request, *MAY["platforms:read"])
    after = read_cursor(cursor, Position, 0)
    async with connection(request) as conn:
        platform = await administer.find_platform(conn, program=caller.program, code=code)
        rows = await store.signing_keys(conn, platform.id, revoked=True, after=after, limit=limit + 1)
    return page_of(rows, limit, item=_signing_key, position=lambda row: row.id)


@post("/v1/platforms/{code:str}/signing-keys", tags=PLATFORMS, opt={"body": SigningKeyBody, "answer": SigningKeyAnswer})
async def add_signing_key(request: AnyRequest, code: FromPath[str]) -> SigningKeyAnswer:
    """Register a public key (PEM) or the address of a key set (JWKS) that signs a platform's consumer tokens."""
    caller = await callers_of(request).operator(request, *MAY["platforms:write"])
    body = await decode_body(request, SigningKeyBody)
    async with connection(request) as conn:
        row = await administer.add_signing_key(
            conn,
            program=caller.program,
            platform=code,
            algorithm=body.algorithm,
            kid=body.kid,
            public_pem=body.public_pem,
            jwks_url=body.jwks_url,
            allow_loopback=callers_of(request).allow_loopback_jwks,
            change=change_by(caller),
        )
    return _signing_key(row)


@post("/v1/platforms/{code:str}/signing-keys/{key:int}/revoke", tags=PLATFORMS, status_code=200, opt={"answer": SigningKeyAnswer})
async def revoke_signing_key(request: AnyRequest, code: FromPath[str], key: FromPath[int]) -> SigningKeyAnswer:
    """Revoke a signing key: tokens that it signed are refused within 5 s. A repeat changes nothing."""
    caller = await callers_of(request).operator(request, *MAY["platforms:write"])
    async with connection(request) as conn:
        row = await administer.revoke_signing_key(
            conn, program=caller.program, platform=code, key=key_number(key), change=change_by(caller)
        )
    return _signing_key(row)


# Hooks ------------------------------------------------------------------------------------------------


@get("/v1/platforms/{code:str}/hooks", tags=PLATFORMS, opt={"answer": Page[HookAnswer]})
async def list_hooks(request: AnyRequest, code: FromPath[str], cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[HookAnswer]:
    """List a platform's inbound hooks without their secrets."""
    caller = await callers_of(request).operator(request, *MAY["platforms:read"])
    after = read_cursor(cursor, Name, "")
    async with connection(request) as conn:
        platform = await administer.find_platform(conn, program=caller.program, code=code)
        rows = await store.hooks(conn, platform.id, after=after, limit=limit + 1)
    return page_of(rows, limit, item=_hook, position=lambda row: row.id)


@post("/v1/platforms/{code:str}/hooks", tags=PLATFORMS, opt={"body": HookBody, "answer": HookAnswer})
async def create_hook(request: AnyRequest, code: FromPath[str]) -> HookAnswer:
    """Create one more inbound hook. The answer shows its secret, this once."""
    caller = await callers_of(request).operator(request, *MAY["platforms:write"])
    body = await decode_body(request, HookBody)
    async with connection(request) as conn:
        row = await administer.create_hook(
            conn,
            sealer=request.app.state.resources.sealer,
            program=caller.program,
            platform=code,
            connector=body.connector,
            secret=body.secret,
            settings=body.settings,
            change=change_by(caller),
        )
    return msgspec.structs.replace(_hook(row), secret=row.secrets[0])


@patch("/v1/platforms/{code:str}/hooks/{hook:str}", tags=PLATFORMS, opt={"body": HookPatch, "answer": HookAnswer})
async def change_hook(request: AnyRequest, code: FromPath[str], hook: FromPath[str]) -> HookAnswer:
    """Change a hook's settings, secrets or state."""
    caller = await callers_of(request).operator(request, *MAY["platforms:write"])
    body = await decode_body(request, HookPatch)
    async with connection(request) as conn:
        return _hook(
            await administer.change_hook(
                conn,
                sealer=request.app.state.resources.sealer,
                program=caller.program,
                platform=code,
                hook=hook,
                patch=body,
                change=change_by(caller),
            )
        )


# Operators and the audit ------------------------------------------------------------------------------


@get("/v1/operators", tags=OPERATORS, opt={"answer": Page[OperatorAnswer]})
async def list_operators(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[OperatorAnswer]:
    """List the program's operators, oldest first; not those of the whole deployment."""
    caller = await callers_of(request).operator(request, *MAY["operators:read"])
    after = read_cursor(cursor, Position, 0)
    async with connection(request) as conn:
        rows = await store.operators(conn, program=caller.program, after=after, limit=limit + 1)
    return page_of(rows, limit, item=_operator, position=lambda row: row.id)


@post("/v1/operators", tags=OPERATORS, opt={"body": OperatorBody, "answer": OperatorCredentials})
async def create_operator(request: AnyRequest) -> OperatorCredentials:
    """Create an operator of this program. The answer shows password and token, this once.

    Operators of the whole deployment are made on the command line.
    """
    caller = await callers_of(request).operator(request, *MAY["operators:write"])
    body = await decode_body(request, OperatorBody)
    async with connection(request) as conn:
        return await administer.create_operator(
            conn,
            email=body.email,
            role=body.role,
            program=caller.program,
            password=body.password,
            change=change_by(caller),
        )


@get("/v1/audit", tags=OPERATORS, opt={"answer": Page[AuditAnswer]})
async def list_audit(
    request: AnyRequest, actor: Actor = None, action: Action = None, subject: Subject = None, request_id: RequestId = None,
    from_: From = None, to: To = None, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT,
) -> Page[AuditAnswer]:  # fmt: skip
    """List who changed what in the program, newest first. Operators of every program also see what belongs to none."""
    caller = await callers_of(request).operator(request, *MAY["audit:read"])
    before_id = read_cursor(cursor, Position, 2**63 - 1)
    if any(text is not None and not text.isprintable() for text in (actor, action, subject, request_id)):
        raise NotFound("There is no such change.")
    search = audit.Search(
        actor=actor, action=action, subject=subject, request_id=request_id, from_=instant("/from", from_), to=instant("/to", to),
        everywhere=caller.everywhere,
    )  # fmt: skip
    async with connection(request) as conn:
        rows = await audit.page(conn, search, program=caller.program, before_id=before_id, limit=limit + 1)
    return page_of(rows, limit, item=_audit, position=lambda row: row.id)


# Answers ----------------------------------------------------------------------------------------------


def _platform(row: store.Platform) -> PlatformAnswer:
    limits = msgspec.json.decode(row.limits, type=PlatformLimits)
    return PlatformAnswer(code=row.code, name=row.name, active=row.active, created_at=row.created_at, limits=limits)


def _key(row: store.ApiKey) -> KeyAnswer:
    return KeyAnswer(**msgspec.structs.asdict(row))


def _signing_key(row: store.SigningKey) -> SigningKeyAnswer:
    return SigningKeyAnswer(**msgspec.structs.asdict(row))


def _hook(row: store.Hook) -> HookAnswer:
    settings = msgspec.json.decode(row.settings, type=HookSettings)
    return HookAnswer(id=row.id, connector=row.connector, settings=settings, active=row.active, created_at=row.created_at)


def _operator(row: store.Operator) -> OperatorAnswer:
    return OperatorAnswer(id=row.id, email=row.email, role=row.role, active=row.active, created_at=row.created_at)


def _audit(row: audit.AuditRow) -> AuditAnswer:
    return AuditAnswer(**(msgspec.structs.asdict(row) | {"id": str(row.id)}))


MAX_KEEP_OLD: Final = timedelta(days=MAX_KEEP_OLD_DAYS)


def keep_old_of(text: str) -> timedelta:
    """How long an old key goes on. Raises InvalidRequest."""
    try:
        found = parse_duration(text)
    except ValueError as error:
        raise InvalidRequest.at("/keep_old", str(error)) from None
    kept = timedelta(days=min(found.days, 1_000), seconds=found.seconds)
    if found.months or kept > MAX_KEEP_OLD:
        raise InvalidRequest.at("/keep_old", f"must be at most {MAX_KEEP_OLD_DAYS} days, without months")
    return kept


def key_number(key: int) -> int:
    """A row's number from the path. Raises NotFound for one that no row can have."""
    if not 0 < key < 2**63:
        raise NotFound("There is no key of this number.")
    return key


routes = [
    list_platforms,
    create_platform,
    read_platform,
    change_platform,
    list_keys,
    create_key,
    revoke_key,
    replace_key,
    list_signing_keys,
    add_signing_key,
    revoke_signing_key,
    list_hooks,
    create_hook,
    change_hook,
    list_operators,
    create_operator,
    list_audit,
]

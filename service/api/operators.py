"""Operators: signing in and out, passwords, and tokens for machines."""

from datetime import timedelta
from typing import Any, Final

import msgspec
from litestar import Request, get, patch, post
from litestar.params import FromPath

from schemas.callers import (
    MeAnswer,
    OperatorAnswer,
    OperatorPatch,
    OperatorTokenAnswer,
    OperatorTokenBody,
    PasswordChangeBody,
    PasswordResetAnswer,
    PasswordResetBody,
    SessionAnswer,
    SignInBody,
)
from schemas.pages import Page
from service.api.bodies import decode_body
from service.api.callers import callers_of
from service.api.changes import change_by, change_of, request_id
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Position, page_of, read_cursor
from service.api.database import connection
from service.domain.errors import NotFound, Unavailable
from service.domain.roles import MAY
from service.flows import operators as flow
from service.runtime import Resources
from service.store.callers import Operator
from service.store.connection import UNREACHABLE
from service.store.operators import OperatorToken

OPERATORS: Final = ["Operators"]

AnyRequest = Request[Any, Any, Any]


# Oneself ----------------------------------------------------------------------------------------------


@post("/v1/operators/sign-in", tags=OPERATORS, status_code=200, opt={"body": SignInBody, "answer": SessionAnswer})
async def sign_in(request: AnyRequest) -> SessionAnswer:
    """Get a session's token for an e-mail address and a password. Ten failures in a quarter of an hour are followed by 429."""
    body = await decode_body(request, SignInBody)
    resources: Resources = request.app.state.resources
    life = timedelta(seconds=resources.settings.operator_session_s)
    try:
        return await flow.sign_in(
            resources.pool,
            email=body.email,
            password=body.password,
            program=body.program,
            life=life,
            request_id=request_id(),
        )
    except UNREACHABLE:
        raise Unavailable("The database does not answer; try again in a moment.") from None


@post("/v1/operators/sign-out", tags=OPERATORS, status_code=204)
async def sign_out(request: AnyRequest) -> None:
    """End the session that the request comes with."""
    login = await callers_of(request).operator_login(request)
    async with connection(request) as conn:
        await flow.sign_out(conn, login, change=change_of(login.operator))


@get("/v1/operators/me", tags=OPERATORS, opt={"answer": MeAnswer})
async def read_me(request: AnyRequest) -> MeAnswer:
    """Read who the request comes from."""
    login = await callers_of(request).operator_login(request)
    async with connection(request) as conn:
        return await flow.me(conn, login)


@post("/v1/operators/me/password", tags=OPERATORS, status_code=204, opt={"body": PasswordChangeBody})
async def change_password(request: AnyRequest) -> None:
    """Change one's own password. Ends all other sessions; tokens for machines go on."""
    login = await callers_of(request).operator_login(request)
    body = await decode_body(request, PasswordChangeBody)
    pool = request.app.state.resources.pool
    try:
        await flow.change_password(pool, login, current=body.current, new=body.new, change=change_of(login.operator))
    except UNREACHABLE:
        raise Unavailable("The database does not answer; try again in a moment.") from None


# Others -----------------------------------------------------------------------------------------------


@patch("/v1/operators/{operator:int}", tags=OPERATORS, opt={"body": OperatorPatch, "answer": OperatorAnswer})
async def change_operator(request: AnyRequest, operator: FromPath[int]) -> OperatorAnswer:
    """Change another operator's role or state. Who is made inactive loses all sessions and tokens."""
    caller = await callers_of(request).operator(request, *MAY["operators:write"])
    body = await decode_body(request, OperatorPatch)
    async with connection(request) as conn:
        row = await flow.change_operator(
            conn, _number(operator), body, program=caller.program, by=caller.operator, change=change_by(caller)
        )
    return _operator(row)


@post(
    "/v1/operators/{operator:int}/password", tags=OPERATORS, status_code=200, opt={"body": PasswordResetBody, "answer": PasswordResetAnswer}
)
async def reset_password(request: AnyRequest, operator: FromPath[int]) -> PasswordResetAnswer:
    """Give an operator a new password, shown this once. Ends all of the operator's sessions."""
    caller = await callers_of(request).operator(request, *MAY["operators:write"])
    body = await decode_body(request, PasswordResetBody)
    async with connection(request) as conn:
        return await flow.reset_password(conn, _number(operator), program=caller.program, password=body.password, change=change_by(caller))


@get("/v1/operators/{operator:int}/tokens", tags=OPERATORS, opt={"answer": Page[OperatorTokenAnswer]})
async def list_tokens(
    request: AnyRequest, operator: FromPath[int], cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Page[OperatorTokenAnswer]:
    """List an operator's tokens and sessions without the tokens, oldest first, ended ones too."""
    caller = await callers_of(request).operator(request, *MAY["operators:read"])
    after = read_cursor(cursor, Position, 0)
    async with connection(request) as conn:
        rows = await flow.list_tokens(conn, _number(operator), program=caller.program, after=after, limit=limit + 1)
    return page_of(rows, limit, item=_token, position=lambda row: row.id)


@post("/v1/operators/{operator:int}/tokens", tags=OPERATORS, opt={"body": OperatorTokenBody, "answer": OperatorTokenAnswer})
async def create_token(request: AnyRequest, operator: FromPath[int]) -> OperatorTokenAnswer:
    """Create a token for a machine that acts as this operator. The answer shows it, this once."""
    caller = await callers_of(request).operator(request, *MAY["operators:write"])
    body = await decode_body(request, OperatorTokenBody)
    async with connection(request) as conn:
        return await flow.create_token(
            conn,
            _number(operator),
            program=caller.program,
            name=body.name,
            expires_at=body.expires_at,
            change=change_by(caller),
        )


@post("/v1/operators/{operator:int}/tokens/{token:int}/revoke", tags=OPERATORS, status_code=200, opt={"answer": OperatorTokenAnswer})
async def revoke_token(request: AnyRequest, operator: FromPath[int], token: FromPath[int]) -> OperatorTokenAnswer:
    """Revoke an operator's token or session: it is refused at once. A repeat changes nothing."""
    caller = await callers_of(request).operator(request, *MAY["operators:write"])
    async with connection(request) as conn:
        return _token(await flow.revoke_token(conn, _number(operator), _number(token), program=caller.program, change=change_by(caller)))


def _operator(row: Operator) -> OperatorAnswer:
    return OperatorAnswer(id=row.id, email=row.email, role=row.role, active=row.active, created_at=row.created_at)


def _token(row: OperatorToken) -> OperatorTokenAnswer:
    return OperatorTokenAnswer(**msgspec.structs.asdict(row))


def _number(number: int) -> int:
    """A row's number from the path. Raises NotFound for one that no row can have."""
    if not 0 < number < 2**63:
        raise NotFound("There is nothing of this number.")
    return number


routes = [
    sign_in,
    sign_out,
    read_me,
    change_password,
    change_operator,
    reset_password,
    list_tokens,
    create_token,
    revoke_token,
]

"""Operators: signing in and out, passwords, tokens for machines, and what an administrator changes of another operator.

An unknown address costs the same work and gets the same answer as a wrong password. Attempts are counted per address, existing or not;
after ten failures within a quarter of an hour the account answers 429 until the quarter is over: long enough against guessing, and never
for ever. Sessions and tokens that were made before go on meanwhile. No process remembers operators, so every change counts at once.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from secrets import token_bytes
from typing import Any, Final

import msgspec
from msgspec import UNSET

from schemas.callers import (
    MeAnswer,
    OperatorPatch,
    OperatorTokenAnswer,
    PasswordResetAnswer,
    SessionAnswer,
)
from service.domain import secrets
from service.domain.errors import Forbidden, InvalidRequest, InvalidState, NotFound, RateLimited, Unauthenticated
from service.domain.roles import MAY
from service.flows import passwords
from service.flows.administer import BY_COMMAND, Change, choose_program
from service.store import audit, callers
from service.store import operators as store
from service.store.callers import Operator, OperatorLogin
from service.store.connection import Connection, Pool

MAX_FAILURES: Final = 10
WINDOW: Final = timedelta(minutes=15)
WRONG: Final = "The e-mail address or the password is wrong."


# Signing in and out -----------------------------------------------------------------------------------


async def sign_in(
    pool: Pool, *, email: str, password: str, program: str | None, life: timedelta, request_id: str | None = None
) -> SessionAnswer:
    """A session that ends after `life`, perhaps in one program only. Each call makes another one.

    Raises Unauthenticated, RateLimited, NotFound (no such program for this operator), Overloaded.
    """
    login, verified = await _verified(pool, email, password)
    token = secrets.operator_token(token_bytes(secrets.RANDOM_BYTES))
    fresh = await passwords.hash_password(password) if secrets.needs_rehash(verified) else None
    async with pool.acquire() as conn, conn.transaction():
        chosen = await _program(conn, login.program, program)
        if fresh is not None and await store.set_password(conn, login.id, password_hash=fresh, only_if=verified):
            verified = fresh
        ends = await store.insert_session(
            conn, token_hash=secrets.token_hash(token), login=login, password_hash=verified, life=life, program=chosen
        )
        if ends is None:
            raise Unauthenticated(WRONG).about("sign-in")
        await store.clear_attempts(conn, _account(email))
        change = Change(actor=f"operator:{login.id}", request_id=request_id)
        await _record(conn, change, login.program, "operator.sign_in", login.id)
    return SessionAnswer(token=token, expires_at=ends, role=login.role)


async def sign_out(conn: Connection, login: OperatorLogin, *, change: Change) -> None:
    """End the session that the request came with. Raises InvalidState for a token that is no session."""
    if not login.session:
        raise InvalidState("This token is not a session: an administrator revokes it.")
    async with conn.transaction():
        await store.revoke_token(conn, operator=login.operator, token=login.token)
        await _record(conn, change, login.program, "operator.sign_out", login.operator)


async def me(conn: Connection, login: OperatorLogin) -> MeAnswer:
    """The operator behind a token. Raises Unauthenticated when it is gone."""
    found = await store.me(conn, login.token)
    if found is None:
        raise Unauthenticated("The operator's token is unknown, expired or revoked.").about("operator")
    return MeAnswer(**msgspec.structs.asdict(found))


async def change_password(pool: Pool, login: OperatorLogin, *, current: str, new: str, change: Change) -> None:
    """Change one's own password; ends the operator's other sessions, tokens for machines go on.

    Raises InvalidRequest (a weak password), Unauthenticated (the current one is wrong), RateLimited, Overloaded.
    """
    _check_strength(new, login.email, "/new")
    _, verified = await _verified(pool, login.email, current)
    hashed = await passwords.hash_password(new)
    async with pool.acquire() as conn, conn.transaction():
        if not await store.set_password(conn, login.operator, password_hash=hashed, only_if=verified):
            raise Unauthenticated(WRONG).about("operator")
        await store.end_sessions(conn, login.operator, keep=login.token)
        await store.clear_attempts(conn, _account(login.email))
        await _record(conn, change, login.program, "operator.password", login.operator)


async def _verified(pool: Pool, email: str, password: str) -> tuple[store.Login, str]:
    """The operator with this address and password, and the hash that it fits. Holds no connection while it hashes."""
    async with pool.acquire() as conn:
        taken = await store.take_attempt(conn, _account(email), window=WINDOW)
        if taken.attempts > MAX_FAILURES:
            raise RateLimited("Too many attempts to sign in; try again later.", retry_after_s=taken.retry_after_s).about("sign-in")
        found = await store.login(conn, email)
    usable = found is not None and found.active
    fits = await passwords.is_password(password, hashed=found.password_hash if found is not None and usable else None)
    if found is None or not usable or not fits:
        raise Unauthenticated(WRONG).about("sign-in")
    return found, found.password_hash


async def _program(conn: Connection, own: int | None, chosen: str | None) -> int | None:
    if chosen is None:
        return None
    program = await choose_program(conn, chosen)
    if own not in (None, program.id):
        raise NotFound(f"There is no program {chosen!r}.")
    return program.id


def _account(email: str) -> bytes:
    return secrets.token_hash(email.lower())


def _check_strength(password: str, email: str, pointer: str) -> None:
    if (weakness := secrets.password_weakness(password, email)) is not None:
        raise InvalidRequest.at(pointer, weakness)


# Other operators --------------------------------------------------------------------------------------


async def change_operator(conn: Connection, operator: int, patch: OperatorPatch, *, program: int, by: int, change: Change) -> Operator:
    """Change another operator's role or state; who is made inactive loses all sessions and tokens for good.

    Raises NotFound, InvalidState (oneself: so that an administrator is left), Forbidden (one is no administrator any more: two who shut
    each other out at the same time would leave nobody).
    """
    async with conn.transaction():
        if (await store.lock_active(conn, [by, operator])).get(by) not in MAY["operators:write"]:
            raise Forbidden("Your own role was changed meanwhile.").about("operator")
        before = await _operator(conn, program, operator)
        if operator == by:
            raise InvalidState("Nobody changes their own role or state: another administrator does.")
        after = msgspec.structs.replace(
            before,
            role=before.role if patch.role is UNSET else patch.role,
            active=before.active if patch.active is UNSET else patch.active,
        )
        await _update(conn, before, after, change)
    return after


async def deactivate(conn: Connection, email: str, *, change: Change = BY_COMMAND) -> None:
    """Make an operator of any program inactive: for the command line. A repeat changes nothing. Raises NotFound."""
    async with conn.transaction():
        before = await _operator_by_email(conn, email)
        await _update(conn, before, msgspec.structs.replace(before, active=False), change)


async def reset_password(
    conn: Connection, operator: int | str, *, program: int | None, password: str | None = None, change: Change = BY_COMMAND
) -> PasswordResetAnswer:
    """A new password for an operator, by number within a program or (the command line) by address; ends all of the operator's sessions.

    Raises NotFound, InvalidRequest (a weak password), Overloaded.
    """
    plain = secrets.password(token_bytes(secrets.RANDOM_BYTES)) if password is None else password
    hashed = await passwords.hash_password(plain)
    async with conn.transaction():
        if isinstance(operator, str):
            found = await _operator_by_email(conn, operator)
        else:
            assert program is not None
            found = await _operator(conn, program, operator)
        _check_strength(plain, found.email, "/password")
        await store.set_password(conn, found.id, password_hash=hashed)
        await store.end_sessions(conn, found.id)
        await store.clear_attempts(conn, _account(found.email))
        await _record(conn, change, found.program, "operator.password_reset", found.id)
    return PasswordResetAnswer(email=found.email, password=plain)


async def list_tokens(conn: Connection, operator: int, *, program: int, after: int, limit: int) -> list[store.OperatorToken]:
    """An operator's tokens and sessions with ids above `after`, oldest first. Raises NotFound."""
    async with conn.transaction():
        await _operator(conn, program, operator)
        return await store.tokens(conn, operator, after=after, limit=limit)


async def create_token(
    conn: Connection, operator: int, *, program: int, name: str, expires_at: datetime | None, change: Change
) -> OperatorTokenAnswer:
    """A named token that acts as the operator, shown this once. Raises NotFound, InvalidRequest (in the past), InvalidState."""
    async with conn.transaction():
        found = await _operator(conn, program, operator)
        if not found.active:
            raise InvalidState("The operator is not active.")
        if expires_at is not None and expires_at <= await callers.now(conn):
            raise InvalidRequest.at("/expires_at", "must be in the future")
        if await store.count_tokens(conn, operator) >= store.MAX_TOKENS:
            raise InvalidState(f"An operator may have {store.MAX_TOKENS} tokens; revoke one first.")
        token = secrets.operator_token(token_bytes(secrets.RANDOM_BYTES))
        row = await store.insert_token(conn, token_hash=secrets.token_hash(token), operator=operator, name=name, expires_at=expires_at)
        await _record(
            conn, change, program, "operator.token_create", operator, after={"token": row.id, "name": name, "expires_at": expires_at}
        )
    return OperatorTokenAnswer(**msgspec.structs.asdict(row), token=token)


async def revoke_token(conn: Connection, operator: int, token: int, *, program: int, change: Change) -> store.OperatorToken:
    """Revoke an operator's token or session; it is refused at once. A repeat changes nothing. Raises NotFound."""
    async with conn.transaction():
        await _operator(conn, program, operator)
        row = await store.revoke_token(conn, operator=operator, token=token)
        if row is None:
            raise NotFound(f"The operator has no token {token}.")
        await _record(conn, change, program, "operator.token_revoke", operator, after={"token": row.id, "name": row.name})
    return row


async def _operator(conn: Connection, program: int, operator: int) -> Operator:
    found = await store.operator_for_update(conn, program=program, operator=operator)
    if found is None:
        raise NotFound(f"There is no operator {operator}.")
    return found


async def _operator_by_email(conn: Connection, email: str) -> Operator:
    found = await store.operator_by_email_for_update(conn, email) if email.isprintable() else None
    if found is None:
        raise NotFound(f"There is no operator {email[:254]!r}.")
    return found


async def _update(conn: Connection, before: Operator, after: Operator, change: Change) -> None:
    await store.update_operator(conn, before.id, role=after.role, active=after.active)
    if not after.active:
        await store.end_all(conn, before.id)
    shown = [{"role": row.role, "active": row.active} for row in (before, after)]
    await _record(conn, change, before.program, "operator.change", before.id, before=shown[0], after=shown[1])


async def _record(
    conn: Connection,
    change: Change,
    program: int | None,
    action: str,
    operator: int,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """The audit row. No version is raised: no process remembers operators."""
    await audit.record(
        conn, program=program, actor=change.actor, action=action, subject=f"operator:{operator}", before=before, after=after,
        request_id=change.request_id,
    )  # fmt: skip

"""SQL of operators' sign-in: attempts, sessions, passwords and tokens."""

from datetime import datetime, timedelta

from msgspec import Struct

from service.store.callers import Operator
from service.store.connection import Connection

# Attempts ---------------------------------------------------------------------------------------------

# Counted before the password is looked at, so that guesses at the same time cannot be more than guesses one after the other.
TAKE_ATTEMPT = """
INSERT INTO sign_in_attempt AS a (account, attempts, began_at) VALUES ($1, 1, now())
ON CONFLICT (account) DO UPDATE
   SET attempts = CASE WHEN a.began_at <= now() - $2::interval THEN 1 ELSE least(a.attempts, 1000000) + 1 END,
       began_at = CASE WHEN a.began_at <= now() - $2::interval THEN now() ELSE a.began_at END
RETURNING attempts, greatest(ceil(extract(epoch FROM began_at + $2::interval - now())), 1)::integer AS retry_after_s
"""
CLEAR_ATTEMPTS = "DELETE FROM sign_in_attempt WHERE account = $1"
FORGET_ATTEMPTS = """
DELETE FROM sign_in_attempt
 WHERE account IN (SELECT account FROM sign_in_attempt WHERE began_at <= now() - $1::interval ORDER BY began_at LIMIT 100 FOR UPDATE SKIP LOCKED)
"""


class Attempts(Struct, frozen=True, kw_only=True):
    """Attempts of an account in its window, this one included, and the seconds until the window ends."""

    attempts: int
    retry_after_s: int


async def take_attempt(conn: Connection, account: bytes, *, window: timedelta) -> Attempts:
    """Count one more attempt; forgets some of other accounts whose window is over."""
    row = await conn.fetchrow(TAKE_ATTEMPT, account, window)
    assert row is not None
    await conn.execute(FORGET_ATTEMPTS, window)
    return Attempts(**row)


async def clear_attempts(conn: Connection, account: bytes) -> None:
    """Forget an account's attempts."""
    await conn.execute(CLEAR_ATTEMPTS, account)


# Passwords --------------------------------------------------------------------------------------------


class Login(Struct, frozen=True, kw_only=True):
    """An operator who wants to sign in."""

    id: int
    program: int | None
    email: str
    password_hash: str
    role: str
    active: bool


LOGIN = """
SELECT id, program, email, password_hash, role, active
  FROM operator
 WHERE lower(email) = lower($1)
 ORDER BY (email = $1) DESC, id
 LIMIT 1
"""
SET_PASSWORD = "UPDATE operator SET password_hash = $2 WHERE id = $1 AND ($3::text IS NULL OR password_hash = $3) RETURNING id"  # noqa: S105 - a statement


async def login(conn: Connection, email: str) -> Login | None:
    """The operator with this address, whatever its case."""
    row = await conn.fetchrow(LOGIN, email)
    return None if row is None else Login(**row)


async def set_password(conn: Connection, operator: int, *, password_hash: str, only_if: str | None = None) -> bool:
    """Replace a password's hash, perhaps only while it is still that one; whether it was done."""
    return await conn.fetchval(SET_PASSWORD, operator, password_hash, only_if) is not None


# Operators --------------------------------------------------------------------------------------------

OPERATOR_FOR_UPDATE = """
SELECT id, program, email, role, active, created_at FROM operator WHERE program = $1 AND id = $2::bigint FOR NO KEY UPDATE
"""
LOCK_OPERATORS = "SELECT id, role, active FROM operator WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE"
OPERATOR_BY_EMAIL_FOR_UPDATE = "SELECT id, program, email, role, active, created_at FROM operator WHERE email = $1 FOR NO KEY UPDATE"
UPDATE_OPERATOR = "UPDATE operator SET role = $2, active = $3 WHERE id = $1"
ALL_OPERATORS = """
SELECT o.email, o.role, o.active, p.code AS program
  FROM operator o LEFT JOIN program p ON p.id = o.program
 WHERE o.email > $1
 ORDER BY o.email
 LIMIT $2
"""


class ListedOperator(Struct, frozen=True, kw_only=True):
    """An operator as the command line lists them; `program` null: of the whole deployment."""

    email: str
    role: str
    active: bool
    program: str | None


async def operator_for_update(conn: Connection, *, program: int, operator: int) -> Operator | None:
    """A program's operator, locked until the transaction ends."""
    row = await conn.fetchrow(OPERATOR_FOR_UPDATE, program, operator)
    return None if row is None else Operator(**row)


async def lock_active(conn: Connection, operators: list[int]) -> dict[int, str]:
    """Lock these operators, in order, until the transaction ends; the roles of those who are active."""
    return {row["id"]: row["role"] for row in await conn.fetch(LOCK_OPERATORS, operators) if row["active"]}


async def operator_by_email_for_update(conn: Connection, email: str) -> Operator | None:
    """An operator of any program, locked until the transaction ends: for the command line."""
    row = await conn.fetchrow(OPERATOR_BY_EMAIL_FOR_UPDATE, email)
    return None if row is None else Operator(**row)


async def update_operator(conn: Connection, operator: int, *, role: str, active: bool) -> None:
    """Replace role and state."""
    await conn.execute(UPDATE_OPERATOR, operator, role, active)


async def all_operators(conn: Connection, *, after: str, limit: int) -> list[ListedOperator]:
    """Operators of the whole deployment with addresses behind `after`, by address."""
    return [ListedOperator(**row) for row in await conn.fetch(ALL_OPERATORS, after, limit)]


# Sessions and tokens ----------------------------------------------------------------------------------

MAX_SESSIONS = 50
"""Sessions that an operator may have; the next ends the oldest."""
MAX_TOKENS = 50
"""Named tokens of an operator that have not ended."""


class OperatorToken(Struct, frozen=True, kw_only=True):
    """A token without the token."""

    id: int
    name: str | None
    session: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


# Only while the password is the one that was verified.
INSERT_SESSION = """
INSERT INTO operator_token (hash, operator, expires_at, session, program)
SELECT $1, id, now() + $3::interval, true, $4 FROM operator WHERE id = $2 AND active AND password_hash = $5
RETURNING expires_at
"""
DELETE_OLD_SESSIONS = """
DELETE FROM operator_token
 WHERE operator = $1 AND session
   AND (expires_at <= now() OR revoked_at IS NOT NULL
        OR id NOT IN (SELECT id FROM operator_token WHERE operator = $1 AND session AND revoked_at IS NULL ORDER BY id DESC LIMIT $2))
"""
INSERT_NAMED = """
INSERT INTO operator_token (hash, operator, name, expires_at) VALUES ($1, $2, $3, $4)
RETURNING id, name, session, created_at, expires_at, revoked_at, last_used_at
"""
COUNT_TOKENS = """
SELECT count(*) FROM operator_token
 WHERE operator = $1 AND NOT session AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
"""
TOKENS = """
SELECT id, name, session, created_at, expires_at, revoked_at, last_used_at
  FROM operator_token
 WHERE operator = $1 AND id > $2
 ORDER BY id
 LIMIT $3
"""
REVOKE = """
UPDATE operator_token SET revoked_at = coalesce(revoked_at, now())
 WHERE operator = $1 AND id = $2
RETURNING id, name, session, created_at, expires_at, revoked_at, last_used_at
"""
END_SESSIONS = """
UPDATE operator_token SET revoked_at = now() WHERE operator = $1 AND session AND revoked_at IS NULL AND id IS DISTINCT FROM $2::bigint
"""
END_ALL = "UPDATE operator_token SET revoked_at = now() WHERE operator = $1 AND revoked_at IS NULL"


async def insert_session(
    conn: Connection, *, token_hash: bytes, login: Login, password_hash: str, life: timedelta, program: int | None
) -> datetime | None:
    """A session and its end; null when the password was changed or the operator made inactive meanwhile. Clears ended ones away."""
    ends: datetime | None = await conn.fetchval(INSERT_SESSION, token_hash, login.id, life, program, password_hash)
    await conn.execute(DELETE_OLD_SESSIONS, login.id, MAX_SESSIONS)
    return ends


async def insert_token(conn: Connection, *, token_hash: bytes, operator: int, name: str, expires_at: datetime | None) -> OperatorToken:
    """A named token."""
    row = await conn.fetchrow(INSERT_NAMED, token_hash, operator, name, expires_at)
    assert row is not None
    return OperatorToken(**row)


async def count_tokens(conn: Connection, operator: int) -> int:
    """Tokens of an operator that are no sessions and have not ended."""
    found: int = await conn.fetchval(COUNT_TOKENS, operator)
    return found


async def tokens(conn: Connection, operator: int, *, after: int, limit: int) -> list[OperatorToken]:
    """An operator's tokens and sessions with ids above `after`, oldest first, ended ones too."""
    return [OperatorToken(**row) for row in await conn.fetch(TOKENS, operator, after, limit)]


async def revoke_token(conn: Connection, *, operator: int, token: int) -> OperatorToken | None:
    """The token, revoked; a repeat keeps the first time. Null when the operator has no such token."""
    row = await conn.fetchrow(REVOKE, operator, token)
    return None if row is None else OperatorToken(**row)


async def end_sessions(conn: Connection, operator: int, *, keep: int | None = None) -> None:
    """End an operator's sessions, perhaps all but one."""
    await conn.execute(END_SESSIONS, operator, keep)


async def end_all(conn: Connection, operator: int) -> None:
    """End an operator's sessions and tokens."""
    await conn.execute(END_ALL, operator)


class Me(Struct, frozen=True, kw_only=True):
    """The operator behind a token; `program` by its code."""

    id: int
    email: str
    role: str
    program: str | None
    session: bool
    expires_at: datetime | None


ME = """
SELECT o.id, o.email, o.role, p.code AS program, t.session, t.expires_at
  FROM operator_token t JOIN operator o ON o.id = t.operator LEFT JOIN program p ON p.id = coalesce(o.program, t.program)
 WHERE t.id = $1
"""


async def me(conn: Connection, token: int) -> Me | None:
    """The operator behind a token that was proved just now."""
    row = await conn.fetchrow(ME, token)
    return None if row is None else Me(**row)

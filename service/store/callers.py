"""Who may call: programs, platforms with their keys and hooks, operators.

Every statement that changes something a process may have cached is followed, in the same transaction, by
`raise_version`; processes compare the version every few seconds and forget what they know when it has risen.
"""

from datetime import datetime, timedelta

from msgspec import Struct

from service.store.connection import Connection

MAX_SIGNING_KEYS = 20
"""Signing keys that one platform may have at a time."""

# Versions ---------------------------------------------------------------------------------------------

VERSION = "SELECT callers_version FROM deployment"
RAISE_VERSION = "UPDATE deployment SET callers_version = callers_version + 1"
NOW = "SELECT now()"


async def version(conn: Connection) -> int:
    """The number of changes to callers so far."""
    found: int = await conn.fetchval(VERSION)
    return found


async def raise_version(conn: Connection) -> None:
    """Tell every process that what it remembers of callers is out of date. Locks one row until the commit: call it last."""
    await conn.execute(RAISE_VERSION)


async def now(conn: Connection) -> datetime:
    """The transaction's time."""
    found: datetime = await conn.fetchval(NOW)
    return found


# Looking a caller up ----------------------------------------------------------------------------------


class PlatformKey(Struct, frozen=True, kw_only=True):
    """An active platform key, or an access token that stands for one, and whose it is."""

    key: int
    platform: int
    program: int
    code: str
    sandbox: bool
    scopes: list[str]
    expires_at: datetime | None
    limits: str
    """The platform's, as JSON by class."""


PLATFORM_BY_KEY = """
SELECT k.id AS key, p.id AS platform, p.program, p.code, g.sandbox, k.scopes, k.expires_at, p.limits
  FROM api_key k JOIN platform p ON p.id = k.platform JOIN program g ON g.id = p.program
 WHERE k.hash = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now()) AND p.active
"""


async def platform_by_key(conn: Connection, key_hash: bytes) -> PlatformKey | None:
    """The platform behind an API key that is neither revoked nor expired."""
    row = await conn.fetchrow(PLATFORM_BY_KEY, key_hash)
    return None if row is None else PlatformKey(**row)


class OperatorLogin(Struct, frozen=True, kw_only=True):
    """An active operator and the token that proved it; `program` null: of every program."""

    token: int
    operator: int
    email: str
    role: str
    program: int | None
    session: bool


BEARING_OPERATOR = """
SELECT t.id AS token, o.id AS operator, o.email, o.role, coalesce(o.program, t.program) AS program, t.session
  FROM operator_token t JOIN operator o ON o.id = t.operator
 WHERE t.hash = $1 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now()) AND o.active
"""


async def operator_by_token(conn: Connection, token_hash: bytes) -> OperatorLogin | None:
    """The operator behind a token that is neither revoked nor expired."""
    row = await conn.fetchrow(BEARING_OPERATOR, token_hash)
    return None if row is None else OperatorLogin(**row)


class SigningKey(Struct, frozen=True, kw_only=True):
    """A key that verifies a platform's consumer tokens: a public key, or the address of a key set (JWKS).

    `development` keys were made by the system; they sign for `greenpoints token` and are only found by their kid.
    """

    id: int
    kid: str | None
    algorithm: str
    public_pem: str | None
    jwks_url: str | None
    development: bool
    created_at: datetime
    revoked_at: datetime | None


class Issuer(Struct, frozen=True, kw_only=True):
    """A platform as the issuer of consumer tokens."""

    platform: int
    program: int
    code: str
    keys: list[SigningKey]


ISSUER = "SELECT id AS platform, program, code FROM platform WHERE code = $1 AND active"
SIGNING_KEYS = """
SELECT id, kid, algorithm, public_pem, jwks_url, private_pem IS NOT NULL AS development, created_at, revoked_at
  FROM signing_key
 WHERE platform = $1 AND ($2 OR revoked_at IS NULL) AND id > $3::bigint
 ORDER BY id
 LIMIT $4
"""


async def issuer(conn: Connection, code: str) -> Issuer | None:
    """The platform with this code and its keys that are not revoked."""
    row = await conn.fetchrow(ISSUER, code)
    if row is None:
        return None
    return Issuer(**row, keys=await signing_keys(conn, row["platform"], revoked=False, after=0, limit=MAX_SIGNING_KEYS))


async def signing_keys(conn: Connection, platform: int, *, revoked: bool, after: int, limit: int) -> list[SigningKey]:
    """A platform's signing keys with ids above `after`, oldest first, with or without revoked ones."""
    return [SigningKey(**row) for row in await conn.fetch(SIGNING_KEYS, platform, revoked, after, limit)]


class DevelopmentKey(Struct, frozen=True, kw_only=True):
    """The private key behind `greenpoints token`."""

    kid: str
    algorithm: str
    private_pem: str


DEVELOPMENT_KEY = """
SELECT kid, algorithm, private_pem
  FROM signing_key
 WHERE platform = $1 AND private_pem IS NOT NULL AND revoked_at IS NULL
 ORDER BY id DESC
 LIMIT 1
"""


async def development_key(conn: Connection, platform: int) -> DevelopmentKey | None:
    """The platform's newest development key that is not revoked."""
    row = await conn.fetchrow(DEVELOPMENT_KEY, platform)
    return None if row is None else DevelopmentKey(**row)


class Hook(Struct, frozen=True, kw_only=True):
    """An inbound hook. `secrets` newest first; `settings` is the connector's JSON."""

    id: str
    platform: int
    program: int
    platform_code: str
    connector: str
    secrets: list[str]
    settings: str
    active: bool
    created_at: datetime
    limits: str = "{}"
    """The platform's, as JSON by class, where somebody delivers to the hook."""


HOOK = """
SELECT h.id, h.platform, p.program, p.code AS platform_code, h.connector, h.secrets, h.settings, h.active, h.created_at, p.limits
  FROM hook h JOIN platform p ON p.id = h.platform
 WHERE h.id = $1 AND h.active AND p.active
"""
HOOK_OF_ANY_STATE = """
SELECT h.id, h.platform, p.program, p.code AS platform_code, h.connector, h.secrets, h.settings, h.active, h.created_at
  FROM hook h JOIN platform p ON p.id = h.platform
 WHERE h.id = $1
"""
HOOKS = """
SELECT h.id, h.platform, p.program, p.code AS platform_code, h.connector, h.secrets, h.settings, h.active, h.created_at
  FROM hook h JOIN platform p ON p.id = h.platform
 WHERE h.platform = $1 AND h.id > $2
 ORDER BY h.id
 LIMIT $3
"""
HOOK_FOR_UPDATE = """
SELECT h.id, h.platform, p.program, p.code AS platform_code, h.connector, h.secrets, h.settings, h.active, h.created_at
  FROM hook h JOIN platform p ON p.id = h.platform
 WHERE h.platform = $1 AND h.id = $2
   FOR UPDATE OF h
"""


async def hook(conn: Connection, hook_id: str) -> Hook | None:
    """An active hook of an active platform."""
    row = await conn.fetchrow(HOOK, hook_id)
    return None if row is None else Hook(**row)


async def hook_of_any_state(conn: Connection, hook_id: str) -> Hook | None:
    """A hook whether it takes deliveries or not: for a replay of what it took."""
    row = await conn.fetchrow(HOOK_OF_ANY_STATE, hook_id)
    return None if row is None else Hook(**row)


async def hooks(conn: Connection, platform: int, *, after: str, limit: int) -> list[Hook]:
    """A platform's hooks with ids above `after`, by id, active or not."""
    return [Hook(**row) for row in await conn.fetch(HOOKS, platform, after, limit)]


async def hook_for_update(conn: Connection, *, platform: int, hook_id: str) -> Hook | None:
    """One hook of a platform, locked until the transaction ends."""
    row = await conn.fetchrow(HOOK_FOR_UPDATE, platform, hook_id)
    return None if row is None else Hook(**row)


# Programs ---------------------------------------------------------------------------------------------


class Program(Struct, frozen=True, kw_only=True):
    """A points scheme; a sandbox is for trying things out."""

    id: int
    code: str
    name: str
    currency: str
    time_zone: str
    sandbox: bool


PROGRAM = "SELECT id, code, name, currency, time_zone, sandbox FROM program WHERE code = $1"
FIRST_PROGRAMS = "SELECT id, code, name, currency, time_zone, sandbox FROM program ORDER BY id LIMIT $1"
INSERT_PROGRAM = """
INSERT INTO program (code, name, currency, time_zone, sandbox) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (code) DO NOTHING
RETURNING id, code, name, currency, time_zone, sandbox
"""
IS_SANDBOX = "SELECT g.sandbox FROM platform p JOIN program g ON g.id = p.program WHERE p.id = $1"


async def program(conn: Connection, code: str) -> Program | None:
    """The program with this code."""
    row = await conn.fetchrow(PROGRAM, code)
    return None if row is None else Program(**row)


async def first_programs(conn: Connection, limit: int) -> list[Program]:
    """The oldest programs; with a limit of 2 it tells whether there is exactly one."""
    return [Program(**row) for row in await conn.fetch(FIRST_PROGRAMS, limit)]


async def insert_program(conn: Connection, *, code: str, name: str, currency: str, time_zone: str, sandbox: bool) -> Program | None:
    """The new program; null when the code is taken."""
    row = await conn.fetchrow(INSERT_PROGRAM, code, name, currency, time_zone, sandbox)
    return None if row is None else Program(**row)


async def is_sandbox(conn: Connection, platform: int) -> bool:
    """Whether the platform's program is a sandbox."""
    found: bool = await conn.fetchval(IS_SANDBOX, platform)
    return found


# Platforms and their keys -----------------------------------------------------------------------------


class Platform(Struct, frozen=True, kw_only=True):
    """A platform as administration sees it."""

    id: int
    program: int
    code: str
    name: str
    active: bool
    created_at: datetime
    limits: str
    """As JSON by class."""


PLATFORM = "SELECT id, program, code, name, active, created_at, limits FROM platform WHERE program = $1 AND code = $2"
PLATFORM_BY_CODE = "SELECT id, program, code, name, active, created_at, limits FROM platform WHERE code = $1"
PLATFORMS = """
SELECT id, program, code, name, active, created_at, limits
  FROM platform
 WHERE program = $1 AND id > $2::bigint
 ORDER BY id
 LIMIT $3
"""
INSERT_PLATFORM = """
INSERT INTO platform (program, code, name) VALUES ($1, $2, $3)
ON CONFLICT (code) DO NOTHING
RETURNING id, program, code, name, active, created_at, limits
"""


SET_LIMITS = """
UPDATE platform SET limits = $2::jsonb WHERE id = $1
RETURNING id, program, code, name, active, created_at, limits
"""


async def platform(conn: Connection, *, program: int, code: str) -> Platform | None:
    """A program's platform by its code."""
    row = await conn.fetchrow(PLATFORM, program, code)
    return None if row is None else Platform(**row)


async def platform_by_code(conn: Connection, code: str) -> Platform | None:
    """A platform of any program: for the command line, which sees the whole deployment."""
    row = await conn.fetchrow(PLATFORM_BY_CODE, code)
    return None if row is None else Platform(**row)


async def platforms(conn: Connection, *, program: int, after: int, limit: int) -> list[Platform]:
    """A program's platforms with ids above `after`, oldest first."""
    return [Platform(**row) for row in await conn.fetch(PLATFORMS, program, after, limit)]


async def set_limits(conn: Connection, platform: int, limits: str) -> Platform:
    """The platform with these limits instead of those it had."""
    row = await conn.fetchrow(SET_LIMITS, platform, limits)
    assert row is not None
    return Platform(**row)


async def insert_platform(conn: Connection, *, program: int, code: str, name: str) -> Platform | None:
    """The new platform; null when the code is taken, in whichever program."""
    row = await conn.fetchrow(INSERT_PLATFORM, program, code, name)
    return None if row is None else Platform(**row)


class ApiKey(Struct, frozen=True, kw_only=True):
    """A platform's API key without the key. `last_used_at` is up to a minute and a half behind."""

    id: int
    hint: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


INSERT_KEY = """
INSERT INTO api_key (platform, hash, hint, scopes, expires_at) VALUES ($1, $2, $3, $4, $5)
RETURNING id, hint, scopes, created_at, expires_at, revoked_at, last_used_at
"""
KEY_OF = """
SELECT id, hint, scopes, created_at, expires_at, revoked_at, last_used_at FROM api_key WHERE platform = $1 AND id = $2::bigint
"""
KEYS = """
SELECT id, hint, scopes, created_at, expires_at, revoked_at, last_used_at
  FROM api_key
 WHERE platform = $1 AND id > $2::bigint
 ORDER BY id
 LIMIT $3
"""
REVOKE_KEY = """
UPDATE api_key SET revoked_at = coalesce(revoked_at, now())
 WHERE platform = $1 AND id = $2::bigint
RETURNING id, hint, scopes, created_at, expires_at, revoked_at, last_used_at
"""
# Ending at once is revoking; ending later is expiring, never later than before.
END_KEY = """
UPDATE api_key
   SET revoked_at = CASE WHEN $3::interval <= '0' THEN now() END,
       expires_at = CASE WHEN $3::interval <= '0' THEN expires_at ELSE least(expires_at, now() + $3) END
 WHERE platform = $1 AND id = $2::bigint AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
RETURNING id, hint, scopes, created_at, expires_at, revoked_at, last_used_at
"""
END_OTHER_KEYS = """
UPDATE api_key
   SET revoked_at = CASE WHEN $3::interval <= '0' THEN now() END,
       expires_at = CASE WHEN $3::interval <= '0' THEN expires_at ELSE least(expires_at, now() + $3) END
 WHERE platform = $1 AND id <> $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
"""
# At most once a minute and key, whatever the number of processes; what somebody else is writing is left to the next time.
TOUCH_KEYS = """
WITH due AS (
  SELECT id FROM api_key
   WHERE id = ANY($1::bigint[]) AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
     FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE api_key k SET last_used_at = now() FROM due WHERE k.id = due.id
"""
TOUCH_OPERATOR_TOKENS = """
WITH due AS (
  SELECT id FROM operator_token
   WHERE id = ANY($1::bigint[]) AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
     FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE operator_token t SET last_used_at = now() FROM due WHERE t.id = due.id
"""


async def insert_key(
    conn: Connection, *, platform: int, key_hash: bytes, hint: str, scopes: list[str], expires_at: datetime | None
) -> ApiKey:
    """The new key; no scopes: everything a platform may do."""
    row = await conn.fetchrow(INSERT_KEY, platform, key_hash, hint, scopes, expires_at)
    assert row is not None
    return ApiKey(**row)


async def keys(conn: Connection, platform: int, *, after: int, limit: int) -> list[ApiKey]:
    """A platform's keys with ids above `after`, oldest first, revoked ones too."""
    return [ApiKey(**row) for row in await conn.fetch(KEYS, platform, after, limit)]


async def revoke_key(conn: Connection, *, platform: int, key: int) -> ApiKey | None:
    """The key, revoked; a repeat keeps the first time. Null when the platform has no such key."""
    row = await conn.fetchrow(REVOKE_KEY, platform, key)
    return None if row is None else ApiKey(**row)


async def key_of(conn: Connection, *, platform: int, key: int) -> ApiKey | None:
    """A platform's key, whatever its state."""
    row = await conn.fetchrow(KEY_OF, platform, key)
    return None if row is None else ApiKey(**row)


async def end_key(conn: Connection, *, platform: int, key: int, after: timedelta) -> ApiKey | None:
    """The key, which ends after this time; null when the platform has none of this number or it has ended."""
    row = await conn.fetchrow(END_KEY, platform, key, after)
    return None if row is None else ApiKey(**row)


async def end_other_keys(conn: Connection, *, platform: int, keep: int, after: timedelta) -> None:
    """End all of a platform's keys but one, after this time."""
    await conn.execute(END_OTHER_KEYS, platform, keep, after)


async def touch(conn: Connection, *, keys: list[int], operator_tokens: list[int]) -> None:
    """Say that these were used just now; never waits for a lock."""
    if keys:
        await conn.execute(TOUCH_KEYS, keys)
    if operator_tokens:
        await conn.execute(TOUCH_OPERATOR_TOKENS, operator_tokens)


INSERT_SIGNING_KEY = """
INSERT INTO signing_key (platform, kid, algorithm, public_pem, jwks_url, private_pem) VALUES ($1, $2, $3, $4, $5, $6)
RETURNING id, kid, algorithm, public_pem, jwks_url, private_pem IS NOT NULL AS development, created_at, revoked_at
"""
REVOKE_SIGNING_KEY = """
UPDATE signing_key SET revoked_at = coalesce(revoked_at, now())
 WHERE platform = $1 AND id = $2::bigint
RETURNING id, kid, algorithm, public_pem, jwks_url, private_pem IS NOT NULL AS development, created_at, revoked_at
"""
LOCK_PLATFORM = "SELECT id FROM platform WHERE id = $1 FOR NO KEY UPDATE"


async def lock_platform(conn: Connection, platform: int) -> None:
    """Let nobody else change this platform until the transaction ends."""
    await conn.execute(LOCK_PLATFORM, platform)


async def insert_signing_key(
    conn: Connection,
    *,
    platform: int,
    kid: str | None,
    algorithm: str,
    public_pem: str | None,
    jwks_url: str | None,
    private_pem: str | None,
) -> SigningKey:
    """The new signing key: either `public_pem` or `jwks_url`; `private_pem` for a development key only."""
    row = await conn.fetchrow(INSERT_SIGNING_KEY, platform, kid, algorithm, public_pem, jwks_url, private_pem)
    assert row is not None
    return SigningKey(**row)


async def revoke_signing_key(conn: Connection, *, platform: int, key: int) -> SigningKey | None:
    """The key, revoked; a repeat keeps the first time. Null when the platform has no such key."""
    row = await conn.fetchrow(REVOKE_SIGNING_KEY, platform, key)
    return None if row is None else SigningKey(**row)


INSERT_HOOK = """
WITH h AS (
  INSERT INTO hook (id, platform, connector, secrets, settings) VALUES ($1, $2, $3, $4, $5)
  RETURNING id, platform, connector, secrets, settings, active, created_at
)
SELECT h.id, h.platform, p.program, p.code AS platform_code, h.connector, h.secrets, h.settings, h.active, h.created_at
  FROM h JOIN platform p ON p.id = h.platform
"""
UPDATE_HOOK = "UPDATE hook SET secrets = $2, settings = $3, active = $4 WHERE id = $1"


async def insert_hook(conn: Connection, *, hook_id: str, platform: int, connector: str, secrets: list[str], settings: str) -> Hook:
    """A new inbound hook."""
    row = await conn.fetchrow(INSERT_HOOK, hook_id, platform, connector, secrets, settings)
    assert row is not None
    return Hook(**row)


async def update_hook(conn: Connection, *, hook_id: str, secrets: list[str], settings: str, active: bool) -> None:
    """Replace a hook's secrets, settings and state."""
    await conn.execute(UPDATE_HOOK, hook_id, secrets, settings, active)


# Operators --------------------------------------------------------------------------------------------


class Operator(Struct, frozen=True, kw_only=True):
    """An operator without password and tokens; `program` null: of every program."""

    id: int
    program: int | None
    email: str
    role: str
    active: bool
    created_at: datetime


INSERT_OPERATOR = """
INSERT INTO operator (program, email, password_hash, role) VALUES ($1, $2, $3, $4)
ON CONFLICT (email) DO NOTHING
RETURNING id, program, email, role, active, created_at
"""
INSERT_OPERATOR_TOKEN = "INSERT INTO operator_token (hash, operator, expires_at) VALUES ($1, $2, $3)"  # noqa: S105 - a statement
OPERATORS = """
SELECT id, program, email, role, active, created_at
  FROM operator
 WHERE program = $1 AND id > $2::bigint
 ORDER BY id
 LIMIT $3
"""


async def insert_operator(conn: Connection, *, program: int | None, email: str, password_hash: str, role: str) -> Operator | None:
    """The new operator; null when the address is taken."""
    row = await conn.fetchrow(INSERT_OPERATOR, program, email, password_hash, role)
    return None if row is None else Operator(**row)


async def insert_operator_token(conn: Connection, *, token_hash: bytes, operator: int, expires_at: datetime | None) -> None:
    """A new token of an operator."""
    await conn.execute(INSERT_OPERATOR_TOKEN, token_hash, operator, expires_at)


async def operators(conn: Connection, *, program: int, after: int, limit: int) -> list[Operator]:
    """A program's operators with ids above `after`, oldest first; not those of the whole deployment."""
    return [Operator(**row) for row in await conn.fetch(OPERATORS, program, after, limit)]

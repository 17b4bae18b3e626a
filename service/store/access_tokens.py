"""SQL of access tokens (OAuth 2 client credentials): each stands for an API key for a while, and ends with it."""

from datetime import timedelta

from service.store.callers import PlatformKey
from service.store.connection import Connection

BEARING_PLATFORM = """
SELECT k.id AS key, p.id AS platform, p.program, p.code, g.sandbox, a.scopes, least(a.expires_at, k.expires_at) AS expires_at, p.limits
  FROM access_token a JOIN api_key k ON k.id = a.api_key JOIN platform p ON p.id = k.platform JOIN program g ON g.id = p.program
 WHERE a.hash = $1 AND a.expires_at > now()
   AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now()) AND p.active
"""
LOCK_KEY = "SELECT id FROM api_key WHERE id = $1 FOR UPDATE"
DELETE_EXPIRED = "DELETE FROM access_token WHERE api_key = $1 AND expires_at <= now()"
COUNT = "SELECT count(*) FROM access_token WHERE api_key = $1"
INSERT = """
INSERT INTO access_token (hash, api_key, scopes, expires_at)
SELECT $1, id, $3::text[], least(now() + $4::interval, expires_at)
  FROM api_key
 WHERE id = $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
RETURNING expires_at - now() AS life
"""


async def platform_by_token(conn: Connection, token_hash: bytes) -> PlatformKey | None:
    """The platform behind an access token that has not expired, of an API key that is neither revoked nor expired."""
    row = await conn.fetchrow(BEARING_PLATFORM, token_hash)
    return None if row is None else PlatformKey(**row)


async def count_after_clearing(conn: Connection, key: int) -> int:
    """Delete a key's expired tokens and count the others; the key stays locked until the transaction ends."""
    await conn.execute(LOCK_KEY, key)
    await conn.execute(DELETE_EXPIRED, key)
    found: int = await conn.fetchval(COUNT, key)
    return found


async def insert(conn: Connection, *, token_hash: bytes, key: int, scopes: list[str], life: timedelta) -> timedelta | None:
    """A token of a key that lives this long, or as long as the key if that is shorter; null when the key has ended meanwhile."""
    found: timedelta | None = await conn.fetchval(INSERT, token_hash, key, scopes, life)
    return found

"""OAuth 2 client credentials (RFC 6749 §4.4): a short-lived access token for an API key.

The client's id is the platform's code and its secret one of the platform's API keys: no second kind of secret to issue, to rotate and to
revoke. A token may do at most what its key may do, and ends with it.
"""

from collections.abc import Collection
from datetime import timedelta
from secrets import token_bytes
from typing import Final

from msgspec import Struct

from service.domain import secrets
from service.domain.roles import SCOPES
from service.store import access_tokens as store
from service.store.callers import PlatformKey, platform_by_key
from service.store.connection import Connection

LIFE: Final = timedelta(hours=1)
MAX_TOKENS: Final = 1_000
"""Tokens that one key may have at a time; a client keeps one until it ends."""


class UnknownClient(Exception):
    """No platform of this code has this key, or the key has ended."""


class ScopeRefused(Exception):
    """A scope that does not exist, or that the key lacks."""


class TooManyTokens(Exception):
    """The key has as many tokens as it may."""


class Issued(Struct, frozen=True, kw_only=True):
    """A new access token, how many whole seconds it lives, and what it may do."""

    token: str
    platform: str
    expires_in_s: int
    scopes: list[str]


async def issue(conn: Connection, *, client: str, secret: str, scopes: Collection[str]) -> Issued:
    """A new access token; without scopes one that may do all that the key may. Each call makes another one.

    Raises UnknownClient, ScopeRefused, TooManyTokens.
    """
    async with conn.transaction():
        key = await _key(conn, client, secret)
        granted = _granted(key, scopes)
        if await store.count_after_clearing(conn, key.key) >= MAX_TOKENS:
            raise TooManyTokens
        token = secrets.access_token(token_bytes(secrets.RANDOM_BYTES))
        life = await store.insert(conn, token_hash=secrets.token_hash(token), key=key.key, scopes=granted, life=LIFE)
        if life is None:
            raise UnknownClient
    return Issued(token=token, platform=key.code, expires_in_s=int(life.total_seconds()), scopes=granted or sorted(SCOPES))


async def _key(conn: Connection, client: str, secret: str) -> PlatformKey:
    if not secrets.is_platform_key(secret):
        raise UnknownClient
    key = await platform_by_key(conn, secrets.token_hash(secret))
    if key is None or key.code != client or secrets.is_test_key(secret) != key.sandbox:
        raise UnknownClient
    return key


def _granted(key: PlatformKey, wanted: Collection[str]) -> list[str]:
    """What the token may do; empty: everything, as for the key."""
    allowed = set(key.scopes) or set(SCOPES)
    if not allowed.issuperset(wanted):
        raise ScopeRefused
    return sorted(set(wanted)) or sorted(key.scopes)

"""Secrets: what they look like and how they are kept.

Everything here is deterministic: the caller brings the random bytes (flows draw them from the `secrets` module).
Keys and tokens carry at least 160 random bits, so that a plain SHA-256 of the whole token is a safe thing to
store and to look up by; passwords are chosen by people, hence argon2id (RFC 9106).
"""

import base64
import hashlib
import re

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

RANDOM_BYTES = 24
"""Random bytes behind each key, token, hook secret and hook id: 192 bits, a whole number of base64 groups."""

SALT_BYTES = 16

PLATFORM_KEY_PREFIX = "gpk_"
OPERATOR_TOKEN_PREFIX = "gpo_"  # noqa: S105 - the prefix is public
WEBHOOK_SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix is public

_PLATFORM_KEY = re.compile(r"gpk_live_[A-Za-z0-9_-]{27,64}")
_OPERATOR_TOKEN = re.compile(r"gpo_[A-Za-z0-9_-]{27,64}")
_HOOK_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_WEBHOOK_SECRET = re.compile(r"whsec_(?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_WEBHOOK_SECRET_BYTES = range(24, 65)

_passwords = PasswordHasher()


def platform_key(random: bytes) -> str:
    """A platform's API key, `gpk_live_…`."""
    return PLATFORM_KEY_PREFIX + "live_" + _url_safe(random)


def operator_token(random: bytes) -> str:
    """An operator's token, `gpo_…`."""
    return OPERATOR_TOKEN_PREFIX + _url_safe(random)


def webhook_secret(random: bytes) -> str:
    """A Standard Webhooks secret: `whsec_` and the base64 of 24 to 64 bytes (standard-webhooks.md, "Signature scheme")."""
    return WEBHOOK_SECRET_PREFIX + base64.b64encode(_enough(random)).decode()


def shared_secret(random: bytes) -> str:
    """A secret that is used as it stands, as UTF-8, for an HMAC (Shopify, WooCommerce): hexadecimal."""
    return _enough(random).hex()


def hook_id(random: bytes) -> str:
    """The unguessable last part of an inbound hook's address."""
    return _url_safe(random)


def password(random: bytes) -> str:
    """A password for somebody who did not bring one."""
    return _url_safe(random)


def token_hash(token: str) -> bytes:
    """What is stored in place of a key or token: SHA-256 of all of it."""
    return hashlib.sha256(token.encode()).digest()


def hint(token: str) -> str:
    """The last four characters: enough for a person to tell two keys apart."""
    return token[-4:]


def is_platform_key(token: str) -> bool:
    """Whether this has the shape of a platform key; what has not, need not be looked up."""
    return _PLATFORM_KEY.fullmatch(token) is not None


def is_operator_token(token: str) -> bool:
    """Whether this has the shape of an operator token."""
    return _OPERATOR_TOKEN.fullmatch(token) is not None


def is_hook_id(text: str) -> bool:
    """Whether this has the shape of a hook's id."""
    return _HOOK_ID.fullmatch(text) is not None


def is_webhook_secret(text: str) -> bool:
    """Whether this is a Standard Webhooks secret: the prefix and the base64 of 24 to 64 bytes."""
    if _WEBHOOK_SECRET.fullmatch(text) is None:
        return False
    return len(base64.b64decode(text.removeprefix(WEBHOOK_SECRET_PREFIX))) in _WEBHOOK_SECRET_BYTES


def hash_password(plain: str, *, salt: bytes) -> str:
    """The argon2id hash with its parameters and salt (PHC string). Takes tens of milliseconds: call it in a thread."""
    return _passwords.hash(plain, salt=salt)


def verify_password(plain: str, *, hashed: str) -> bool:
    """Whether the password is the one behind the hash; false for a damaged hash too. As slow as hashing."""
    try:
        return _passwords.verify(hashed, plain)
    except (VerificationError, InvalidHashError):
        return False


def _url_safe(random: bytes) -> str:
    return base64.urlsafe_b64encode(_enough(random)).decode().rstrip("=")


def _enough(random: bytes) -> bytes:
    if len(random) < RANDOM_BYTES:
        raise ValueError(f"a secret needs {RANDOM_BYTES} random bytes, not {len(random)}")
    return random

"""Secrets: what they look like and how they are kept.

Everything here is deterministic: the caller brings the random bytes (flows draw them from the `secrets` module).
Keys and tokens carry at least 160 random bits, so that a plain SHA-256 of the whole token is a safe thing to
store and to look up by; passwords are chosen by people, hence argon2id (RFC 9106).

Keys of platforms and stations, and access tokens, end in a checksum, so that a scanner can tell a leaked one from a text that only looks
like one, without asking anybody, and so that a guess or a typing error costs no look-up. It guards against accidents, not against forgery.
"""

import base64
import hashlib
import re
import zlib
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

RANDOM_BYTES = 24
"""Random bytes behind each key, token, hook secret and hook id: 192 bits, a whole number of base64 groups."""

SALT_BYTES = 16
MIN_DISTINCT_CHARS = 5

PLATFORM_KEY_PREFIX = "gpk_"
TEST_KEY_PREFIX = "gpk_test_"
ACCESS_TOKEN_PREFIX = "gpa_"  # noqa: S105 - the prefix is public
STATION_KEY_PREFIX = "gps_"
TEST_STATION_KEY_PREFIX = "gps_test_"
OPERATOR_TOKEN_PREFIX = "gpo_"  # noqa: S105 - the prefix is public
WEBHOOK_SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix is public

BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_CHARS: Final = 33
"""192 bits in base 62."""
CHECKSUM_CHARS: Final = 6
"""32 bits in base 62."""

_CHECKED = re.compile(r"(?:gpk_live|gpk_test|gps_live|gps_test|gpa)_[0-9A-Za-z]{39}")
_UNCHECKED_KEY = re.compile(r"gpk_live_[A-Za-z0-9_-]{32}")
"""Keys of the first release: 24 bytes in base64, without a checksum. Told apart by their length, so that no key can be read both ways."""
_OPERATOR_TOKEN = re.compile(r"gpo_[A-Za-z0-9_-]{27,64}")
_HOOK_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_WEBHOOK_SECRET = re.compile(r"whsec_(?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_WEBHOOK_SECRET_BYTES = range(24, 65)

_passwords = PasswordHasher()


def platform_key(random: bytes, *, sandbox: bool = False) -> str:
    """A platform's API key with its checksum: `gpk_live_…`, in a sandbox `gpk_test_…`."""
    return _checked((TEST_KEY_PREFIX if sandbox else f"{PLATFORM_KEY_PREFIX}live_") + _base62(_enough(random), RANDOM_CHARS))


def access_token(random: bytes) -> str:
    """A token that stands for a platform key for an hour, `gpa_…`, with its checksum."""
    return _checked(ACCESS_TOKEN_PREFIX + _base62(_enough(random), RANDOM_CHARS))


def station_key(random: bytes, *, sandbox: bool = False) -> str:
    """A collection station's key with its checksum: `gps_live_…`, in a sandbox `gps_test_…`."""
    return _checked((TEST_STATION_KEY_PREFIX if sandbox else f"{STATION_KEY_PREFIX}live_") + _base62(_enough(random), RANDOM_CHARS))


def checksum(text: str) -> str:
    """CRC-32 (the one of zip and PNG) of the ASCII text, in base 62 with leading zeros: six characters."""
    return _base62(zlib.crc32(text.encode()).to_bytes(4, "big"), CHECKSUM_CHARS)


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
    """Whether this has the shape of a platform key and its checksum is right; what has not, need not be looked up."""
    return (token.startswith(PLATFORM_KEY_PREFIX) and _is_checked(token)) or _UNCHECKED_KEY.fullmatch(token) is not None


def is_test_key(token: str) -> bool:
    """Whether this platform key is one for sandboxes."""
    return token.startswith(TEST_KEY_PREFIX)


def is_station_key(token: str) -> bool:
    """Whether this has the shape of a station's key and its checksum is right."""
    return token.startswith(STATION_KEY_PREFIX) and _is_checked(token)


def is_test_station_key(token: str) -> bool:
    """Whether this station's key is one for sandboxes."""
    return token.startswith(TEST_STATION_KEY_PREFIX)


def is_access_token(token: str) -> bool:
    """Whether this has the shape of an access token and its checksum is right."""
    return token.startswith(ACCESS_TOKEN_PREFIX) and _is_checked(token)


def is_platform_proof(token: str) -> bool:
    """Whether this has the shape of what proves a platform: an API key, or an access token in its place."""
    return is_platform_key(token) or is_access_token(token)


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


def password_weakness(plain: str, email: str) -> str | None:
    """Why this is no password for the operator with this address, in words; None when it will do. Length is checked by its type."""
    folded, address = plain.casefold(), email.casefold()
    if folded in (address, address.partition("@")[0]):
        return "must not be the e-mail address"
    if len(set(folded)) < MIN_DISTINCT_CHARS:
        return f"must have at least {MIN_DISTINCT_CHARS} different characters"
    return None


def hash_password(plain: str, *, salt: bytes) -> str:
    """The argon2id hash with its parameters and salt (PHC string). Takes tens of milliseconds: call it in a thread."""
    return _passwords.hash(plain, salt=salt)


def verify_password(plain: str, *, hashed: str) -> bool:
    """Whether the password is the one behind the hash; false for a damaged hash too. As slow as hashing."""
    try:
        return _passwords.verify(hashed, plain)
    except (VerificationError, InvalidHashError):
        return False


def needs_rehash(hashed: str) -> bool:
    """Whether the hash was made with other parameters than those of today."""
    try:
        return _passwords.check_needs_rehash(hashed)
    except InvalidHashError:
        return True


def hash_of_nobody() -> str:
    """A hash that no password has and that takes as long to find that out as a real one: for an operator who does not exist."""
    cost = f"m={_passwords.memory_cost},t={_passwords.time_cost},p={_passwords.parallelism}"
    salt, digest = (base64.b64encode(bytes(size)).decode().rstrip("=") for size in (SALT_BYTES, _passwords.hash_len))
    return f"$argon2id$v=19${cost}${salt}${digest}"


def _checked(text: str) -> str:
    return text + checksum(text)


def _is_checked(token: str) -> bool:
    return _CHECKED.fullmatch(token) is not None and checksum(token[:-CHECKSUM_CHARS]) == token[-CHECKSUM_CHARS:]


def _base62(data: bytes, chars: int) -> str:
    number, digits = int.from_bytes(data, "big"), ""
    for _ in range(chars):
        number, digit = divmod(number, len(BASE62))
        digits = BASE62[digit] + digits
    return digits


def _url_safe(random: bytes) -> str:
    return base64.urlsafe_b64encode(_enough(random)).decode().rstrip("=")


def _enough(random: bytes) -> bytes:
    if len(random) < RANDOM_BYTES:
        raise ValueError(f"a secret needs {RANDOM_BYTES} random bytes, not {len(random)}")
    return random

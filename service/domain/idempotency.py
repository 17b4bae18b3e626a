"""Idempotency-Key: how it is written, and whose it is.

The header is a String of RFC 8941, as draft-ietf-httpapi-idempotency-key-header has it: quoted. Bare, as most clients send it, it is the
same key.
"""

from schemas.bounds import MAX_KEY_CHARS
from service.domain.errors import IdempotencyKeyMissing, InvalidRequest

HEADER = "Idempotency-Key"
_QUOTED_MIN = 2


def read_key(header: str | None) -> str:
    """The key. Raises IdempotencyKeyMissing, InvalidRequest (empty, too long, not printable ASCII)."""
    if header is None or not header.strip(' \t"'):
        raise IdempotencyKeyMissing(f"Send an {HEADER}, the same one when the request is repeated: then it is carried out once.")
    key = header.strip(" \t")
    if len(key) >= _QUOTED_MIN and key[0] == key[-1] == '"':
        key = key[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if len(key) > MAX_KEY_CHARS or not key.isascii() or not key.isprintable():
        raise InvalidRequest(f"The {HEADER} must be 1 to {MAX_KEY_CHARS} printable ASCII characters.")
    return key


def of_platform(platform: int, key: str) -> str:
    """The stored key of a platform's request."""
    return f"p{platform}:{key}"


def of_consumer(platform: int, account: int, key: str) -> str:
    """The stored key of a consumer's own request: no two consumers' keys meet, and it does not name the person."""
    return f"c{platform}:{account}:{key}"


def of_operator(operator: int, key: str) -> str:
    """The stored key of an operator's request."""
    return f"o{operator}:{key}"


def is_repeat(first: bytes, again: bytes) -> bool:
    """Whether a request hashed `again` repeats one hashed `first`; empty: what the first one was is forgotten, with its person."""
    return not first or first == again

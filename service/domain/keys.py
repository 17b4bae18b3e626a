"""Registry keys: what counts once, for ever. The key alone is the identity, never together with the account."""

from enum import IntEnum


class Kind(IntEnum):
    """What a registry key names."""

    EVENT = 1
    ORDER = 2
    OPENING = 3
    WRITTEN = 4
    """An event that nobody reported: `packaging.reassigned`."""
    REDEMPTION = 5


BUCKETS = 1_024


def platform_key(platform: int, name: str) -> str:
    """The key of something that a platform names itself: its own id space, told apart by the platform's number."""
    return f"{platform}:{name}"


def bucket_of(account: int) -> int:
    """The bucket of an account; the id is random, so its low bits are as good as a hash."""
    return account & (BUCKETS - 1)

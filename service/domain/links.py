"""Link codes: short enough to be typed, long enough not to be guessed while they count."""

import hashlib
import secrets
from datetime import timedelta
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no letter looks like a digit."""
LENGTH: Final = 12
GROUP: Final = 4
LIFE: Final = timedelta(minutes=10)
_LOOKALIKES: Final = str.maketrans("OIL", "011")


def new_code() -> str:
    """60 random bits, as `ABCD-EFGH-JKMN`."""
    letters = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    return "-".join(letters[i : i + GROUP] for i in range(0, LENGTH, GROUP))


def hash_of(program: int, code: str) -> bytes:
    """What is stored of a code, however it is typed: letter case, spaces, hyphens and look-alikes do not matter."""
    plain = "".join(c for c in code.upper() if c.isalnum()).translate(_LOOKALIKES)
    return hashlib.sha256(f"{program}:{plain}".encode()).digest()

"""Secrets at rest: sealed with the deployment's master key before PostgreSQL sees them.

What is sealed: secrets that must be used again as they are (hook secrets, development signing keys) and bodies that are kept for a
replay. What is only compared (API keys, operators' tokens and passwords) is hashed instead.

A sealed text is a Fernet token (AES-128-CBC and HMAC-SHA256, https://github.com/fernet/spec) behind `v1:`, so that it can be told from a
plain text of an older release.
"""

import hashlib
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

MARK = "v1:"


class Unsealable(Exception):
    """None of the master keys that are set opens this: one that is still in use was removed, or the text was changed."""


class UnusableMasterKey(ValueError):
    """Not a master key."""


def new_master_key() -> str:
    """32 random bytes as URL-safe base64."""
    return Fernet.generate_key().decode()


def fingerprints(setting: str) -> list[str]:
    """What tells master keys apart without the keys: 16 hex digits for each in `GREENPOINTS_MASTER_KEY`, newest first."""
    keys = [key.strip() for key in setting.split(",") if key.strip()]
    return [hashlib.sha256(b"greenpoints master key:" + key.encode()).hexdigest()[:16] for key in keys]


class Sealer:
    """Seals with the newest master key and opens with any of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        """`keys`: newest first. Raises UnusableMasterKey."""
        if not keys:
            raise UnusableMasterKey("no key is given")
        try:
            parts = [Fernet(key) for key in keys]
        except ValueError:
            raise UnusableMasterKey("each key must be 32 bytes as URL-safe base64, as `greenpoints keys new-master` prints it") from None
        self._newest = parts[0]
        self._all = MultiFernet(parts)

    @classmethod
    def of_setting(cls, text: str) -> "Sealer":
        """From `GREENPOINTS_MASTER_KEY`: keys separated by commas, newest first. Raises UnusableMasterKey."""
        return cls([key.strip() for key in text.split(",") if key.strip()])

    def seal(self, plain: str | bytes) -> str:
        """The text, sealed with the newest key."""
        return MARK + self._newest.encrypt(plain.encode() if isinstance(plain, str) else plain).decode()

    def open(self, sealed: str) -> str:
        """The text again; a plain one of an older release as it is. Raises Unsealable."""
        return self.open_bytes(sealed).decode()

    def open_bytes(self, sealed: str) -> bytes:
        """The bytes again. Raises Unsealable."""
        if not sealed.startswith(MARK):
            return sealed.encode()
        try:
            return self._all.decrypt(sealed.removeprefix(MARK))
        except InvalidToken:
            raise Unsealable("no master key opens a sealed value: set the key that it was sealed with, too") from None

    def is_current(self, sealed: str) -> bool:
        """Whether it is sealed, and with the newest key."""
        if not sealed.startswith(MARK):
            return False
        try:
            self._newest.decrypt(sealed.removeprefix(MARK))
        except InvalidToken:
            return False
        return True

"""Positions of rows in a form that says nothing: a cursor must not tell how many rows others have written meanwhile.

A synthetic initialisation vector: a keyed hash of the text is both the proof that we wrote it and the start of the key stream, so that the
same position always gives the same cursor, in every process of the deployment.
"""

import hashlib
import hmac
from typing import Final

TAG_BYTES: Final = 12
BLOCK_BYTES: Final = 24
"""Texts are filled up to a multiple: the length of a number tells its size."""


class Seal:
    """Seals with a key that all processes of a deployment have."""

    def __init__(self, key: bytes) -> None:
        self._key = hashlib.blake2b(key[: hashlib.blake2b.MAX_KEY_SIZE], person=b"cursors").digest()

    def close(self, text: bytes) -> bytes:
        """The text, sealed. It must not end with a space."""
        filled = text.ljust(-(-len(text) // BLOCK_BYTES) * BLOCK_BYTES)
        tag = self._tag(filled)
        return tag + self._stream(tag, filled)

    def open(self, sealed: bytes) -> bytes:
        """What was sealed. Raises ValueError for what was not sealed with this key."""
        tag, text = sealed[:TAG_BYTES], sealed[TAG_BYTES:]
        filled = self._stream(tag, text)
        if not hmac.compare_digest(tag, self._tag(filled)):
            raise ValueError("not sealed here")
        return filled.rstrip(b" ")

    def _tag(self, text: bytes) -> bytes:
        return hashlib.blake2b(text, key=self._key, digest_size=TAG_BYTES).digest()

    def _stream(self, tag: bytes, text: bytes) -> bytes:
        """The text with the tag's key stream over it; once more gives the text back."""
        stream = hashlib.shake_256(self._key + tag).digest(len(text))
        return bytes(a ^ b for a, b in zip(text, stream, strict=True))

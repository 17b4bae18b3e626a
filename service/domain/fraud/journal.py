"""Saving what changes without saving everything: chunks of changed entries, and the oldest chunks written anew before they are many.

A chunk is written once and later forgotten whole, as the segments of a log-structured store are (Rosenblum and Ousterhout, 1992). It holds
entries of one part, each a key with its value or with None (it is gone). The newest copy of a key counts. As soon as chunks hold twice as
many entries as the part has keys, the oldest chunk is forgotten, and of its entries those that are still the newest are written again, so
that saving costs a few entries for one that changed, whatever the part has grown to.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

CHUNK: Final = 1_000
"""Entries of a chunk: some 60 KB, which any store takes as one value."""
SPARE: Final = 2
"""Entries in all chunks for one key of the part before the oldest is forgotten: an entry is then written twice at most, on average."""
EFFORT: Final = 3
"""Entries of old chunks that are looked at for one that changed: saving stays proportional to what changed."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Record = tuple[bytes, bytes | None]
"""Of a snapshot: key and value; None: forgotten."""
_encode = msgspec.msgpack.Encoder().encode


class Part(Protocol[K]):
    """State by key that a journal saves. It notes which keys change, and for each key in which chunk its newest copy is."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[K]: ...

    def take(self) -> Iterable[K]:
        """The keys that changed or went since the last call; some perhaps twice."""

    def pack(self, keys: Iterable[K], chunk: int) -> tuple[list[K], list[Any]]:
        """Entries for the chunk with this number, which has the newest copies of their keys from now on; the keys, then the entries.

        A key of which there is nothing to be written is left out.
        """

    def newest(self, key: K, chunk: int) -> bool:
        """Whether there is such a key, and this chunk may have the newest copy of it."""

    def load(self, body: bytes, chunk: int) -> list[K]:
        """Take the entries of a chunk in, in place of older copies; their keys. Chunks come in the order of their numbers."""


class Journal(Generic[K]):
    """The chunks of one part. Their keys in a snapshot: the name, a colon, the number in 16 hex digits."""

    def __init__(self, name: str, part: Part[K]) -> None:
        self.name = name
        self._part = part
        self._chunks: deque[tuple[int, list[K]]] = deque()
        """Number and keys, the oldest first."""
        self._entries = 0
        self._number = 0

    def changed(self, *, everything: bool = False) -> Iterator[Record]:
        """What is to be written, and which chunks are to be forgotten, since the last call. Use it up: what it has passed counts as saved.

        `everything`: the snapshot is lost; write all keys, forget no chunk.
        """
        keys = list(self._part.take())
        if everything:
            keys, self._entries = list(self._part), 0
            self._chunks.clear()
        effort = EFFORT * len(keys)
        gone = []
        while effort > 0 and self._entries > SPARE * len(self._part) + CHUNK:
            number, old = self._chunks.popleft()
            gone.append(number)
            keys += [key for key in old if self._part.newest(key, number)]
            effort -= len(old)
            self._entries -= len(old)
        for start in range(0, len(keys), CHUNK):
            yield from self._write(keys[start : start + CHUNK])
        for number in gone:
            yield self._key(number), None

    def load(self, chunks: Iterable[tuple[int, bytes]]) -> None:
        """Restore the part from its chunks (number, value), in any order."""
        known: dict[K, K] = {}
        for number, body in sorted(chunks):
            # The part's own keys, so that each is in memory once.
            keys = [known.setdefault(key, key) for key in self._part.load(body, number)]
            self._chunks.append((number, keys))
            self._entries += len(keys)
            self._number = number

    def _write(self, keys: list[K]) -> Iterator[Record]:
        self._number += 1
        written, entries = self._part.pack(keys, self._number)
        if not entries:
            return
        self._chunks.append((self._number, written))
        self._entries += len(written)
        yield self._key(self._number), _encode(entries)

    def _key(self, number: int) -> bytes:
        return f"{self.name}:{number:016x}".encode()


class Table(dict[K, V]):
    """State by key, as a Part of a journal: a dictionary that knows what was set or deleted. Note what was changed in place (`note`).

    Use only `[]`, `get`, `in`, `pop`, `del` and reading; other ways to change a dictionary go unnoticed. `tracked`: changes are noted for
    a journal, which has to ask for them now and then. No value is None.
    """

    def __init__(self, type_: object, *, tracked: bool = False) -> None:
        super().__init__()
        self._changes: dict[K, None] | None = {} if tracked else None
        self._chunk_of: dict[K, int] = {}
        self._decode: Callable[[bytes], list[tuple[K, V | None]]] = msgspec.msgpack.Decoder(type_).decode

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        if self._changes is not None:
            self._changes[key] = None

    def __delitem__(self, key: K) -> None:
        super().__delitem__(key)
        self.note(key)

    def pop(self, key: K, default: V | None = None) -> V | None:  # type: ignore[override]
        """Take a key out; its value, or `default`."""
        if key in self:
            self.note(key)
        return super().pop(key, default)

    def note(self, key: K) -> None:
        """The value of a key was changed in place."""
        if self._changes is not None:
            self._changes[key] = None

    def take(self) -> Iterable[K]:
        """As Part.take."""
        taken, self._changes = self._changes or {}, {}
        return taken

    def pack(self, keys: Iterable[K], chunk: int) -> tuple[list[K], list[Any]]:
        """As Part.pack."""
        written: list[K] = []
        entries: list[Any] = []
        for key in keys:
            value = self.get(key)
            if value is not None:
                self._chunk_of[key] = chunk
            elif self._chunk_of.pop(key, None) is None:
                continue
            written.append(key)
            entries.append((key, value))
        return written, entries

    def newest(self, key: K, chunk: int) -> bool:
        """As Part.newest."""
        return self._chunk_of.get(key) == chunk

    def load(self, body: bytes, chunk: int) -> list[K]:
        """As Part.load."""
        entries = self._decode(body)
        for key, value in entries:
            if value is None:
                super().pop(key, None)
                self._chunk_of.pop(key, None)
            else:
                super().__setitem__(key, value)
                self._chunk_of[key] = chunk
        return [key for key, _ in entries]

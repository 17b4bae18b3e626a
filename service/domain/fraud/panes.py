"""The keys of one window length, as small as they can be kept: most are touched once and never again."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Final

import msgspec
from msgspec import Struct

MAX_MEMBERS: Final = 64
"""More tell no more: what 64 share belongs to nobody."""
MAX_BUCKETS: Final = 3
"""The newest bucket, the one before, and one for late events."""
_MONTH: Final = 30 * 86_400

Sums = tuple[float, ...]
Member = str | int
Once = tuple[int, Sums, Member | None]
"""A key that was touched once: when, what that added, the member. The keys of one event share it."""


class Tally(Struct, array_like=True, gc=False):
    """A key that was touched more than once: its three newest buckets by number, and its members."""

    key: str
    """The very text that is the key in its pane: journals have no copies of it."""
    number: int
    here: list[float]
    first_at: int
    last_at: int
    only: Member | None = None
    """The member, as long as there is but one: it was last there at `last_at`."""
    members: dict[Member, int] | None = None
    """Member → when it was last there."""
    floor: int = 0
    """None of the members was last there before it."""
    older_number: int = -1
    older: list[float] | None = None
    oldest_number: int = -1
    oldest: list[float] | None = None
    chunk: int = 0
    """Of the journal, where its newest copy is; 0: it has changed since, or was never written."""

    def bucket(self, number: int) -> list[float] | None:
        """The sums of a bucket; a new one in its place, if it is new enough to be kept, else None."""
        if number == self.number:
            return self.here
        if number > self.number:
            self.oldest_number, self.oldest = self.older_number, self.older
            self.older_number, self.older = self.number, self.here
            self.number, self.here = number, [0] * len(self.here)
            return self.here
        if number == self.older_number:
            return self.older
        if number > self.older_number:
            self.oldest_number, self.oldest = self.older_number, self.older
            self.older_number, self.older = number, [0] * len(self.here)
            return self.older
        if number > self.oldest_number:
            self.oldest_number, self.oldest = number, [0] * len(self.here)
        return self.oldest if number == self.oldest_number else None

    def before(self, number: int) -> list[float] | None:
        """The sums of the bucket before one; None: nothing is known of it."""
        number -= 1
        return self.older if number == self.older_number else self.oldest if number == self.oldest_number else None

    def join(self, member: Member, at: int, window: int) -> None:
        """Note a member. When there are as many as are remembered, those who left the window make room, else it is not noted."""
        members = self.members
        if members is None:
            if self.only is None or self.only == member:
                self.only = member
                return
            # `last_at` is still that of the touch before.
            members = self.members = {self.only: self.last_at}
            self.only, self.floor = None, min(at, self.last_at)
        seen = members.get(member)
        if seen is None and len(members) >= MAX_MEMBERS:
            if at - window >= self.floor:
                self.evict(at - window)
            if len(members) >= MAX_MEMBERS:
                return
        if seen is None or seen < at:
            members[member] = at
            self.floor = min(self.floor, at)

    def present(self, since: int) -> int:
        """How many members were last there after `since`. Those who were not are forgotten: amortised, each costs once."""
        members = self.members
        if members is None:
            return 0 if self.only is None else 1
        if since >= self.floor and len(members) < MAX_MEMBERS:
            self.evict(since)
        return len(members)

    def evict(self, since: int) -> None:
        """Forget the members who were last there at `since` or before."""
        members = self.members or {}
        for gone in [member for member, seen in members.items() if seen <= since]:
            del members[gone]
        self.floor = min(members.values(), default=since)


_tally_of: Final[Callable[..., Tally]] = Tally
_entries = msgspec.msgpack.Decoder(list[list[Any]]).decode


class Pane:
    """All keys of one window length, in two generations: those touched since the last turn, and those not. A Part of a journal.

    A generation lasts as long as the window, so that what is forgotten with the one before has nothing left in it; twice as long if that
    is less than a month, for the rest of the bucket before, which costs little there. No step looks at all keys.
    """

    def __init__(self, window: int, *, turned: int, tracked: bool, generation: int = 1) -> None:
        self.window = window
        self._lasts = window if window >= _MONTH else 2 * window
        self.turned = turned
        """When this generation began, by the time of the touch that began it."""
        self.generation = generation
        self.now: dict[str, Tally | Once] = {}
        self.before: dict[str, Tally | Once] = {}
        self.changes: list[str] | None = [] if tracked else None

    def __len__(self) -> int:
        return len(self.now) + len(self.before)

    def __iter__(self) -> Iterator[str]:
        return chain(self.now, self.before)

    def recall(self, key: str, at: int) -> Tally | None:
        """The tally of a key that this generation does not know, to be touched now; None: nobody knows it. May begin a generation."""
        if at - self.turned >= self._lasts:
            self.before, self.now, self.turned = self.now, {}, at
            self.generation += 1
        found = self.before.pop(key, None)
        if found is None:
            return None
        if isinstance(found, tuple):
            return self.promote(key, found)
        self.now[found.key] = found
        return found

    def remember(self, key: str, once: Once) -> None:
        """Keep the first touch of a key."""
        self.now[key] = once
        if self.changes is not None:
            self.changes.append(key)

    def promote(self, key: str, once: Once) -> Tally:
        """A tally for a key that is touched for the second time."""
        at, adds, member = once
        self.now.pop(key, None)
        tally = self.now[key] = Tally(key, at // self.window, list(adds), at, at, member)
        if self.changes is not None:
            self.changes.append(key)
        return tally

    def changed(self, tally: Tally) -> None:
        """Note that a tally is no longer what was written of it last."""
        tally.chunk = 0
        if self.changes is not None:
            self.changes.append(tally.key)

    def take(self) -> list[str]:
        """As Part.take."""
        taken, self.changes = self.changes or [], []
        return taken

    def pack(self, keys: Iterable[str], chunk: int) -> tuple[list[str], list[Any]]:
        """As Part.pack. An entry is the generation with a Tally, or with a key and its Once."""
        written: list[str] = []
        entries: list[Any] = []
        for key in keys:
            generation, found = self.generation, self.now.get(key)
            if found is None:
                generation, found = generation - 1, self.before.get(key)
            if isinstance(found, tuple):
                entries.append((generation, key, found))
            elif found is None or found.chunk == chunk:
                continue
            else:
                found.chunk = chunk
                entries.append((generation, found))
            written.append(key)
        return written, entries

    def newest(self, key: str, chunk: int) -> bool:
        """As Part.newest."""
        found = self.now.get(key) or self.before.get(key)
        return found is not None and (isinstance(found, tuple) or found.chunk == chunk)

    def load(self, body: bytes, chunk: int) -> list[str]:
        """As Part.load: entries of generations that have been forgotten are passed over."""
        loaded = []
        for generation, *entry in _entries(body):
            keys = self.now if generation == self.generation else self.before if generation == self.generation - 1 else None
            if keys is None:
                continue
            found: Tally | Once
            if len(entry) == 2:
                key, (at, adds, member) = entry
                found = (at, tuple(adds), member)
            else:
                found = _tally_of(*entry[0])
                key, found.chunk = found.key, chunk
            self.now.pop(key, None)
            self.before.pop(key, None)
            keys[key] = found
            loaded.append(key)
        return loaded

"""Allow and block lists: who is always let through, and who is always held, until a person has looked."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal

from msgspec import Struct

ListName = Literal["allow", "block"]
ENTITIES: Final = ("device", "payment", "address", "ip")
"""What can be listed beside accounts: attributes of events, as their keyed hashes."""
ACCOUNT: Final = "account"
MAX_ENTRIES: Final = 10_000
"""That count in one program: every process holds them in memory."""


class Entry(Struct, frozen=True, kw_only=True, gc=False):
    """One listed thing. `value`: a keyed hash, of an account its number in digits; `until`: when it ends (None: never)."""

    list: ListName
    kind: str
    value: str
    until: datetime | None = None


class Lists:
    """The entries of one program as they were read; an entry that has ended since does not count where the time is said."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = {(entry.kind, entry.value): entry for entry in entries}

    def says(self, account: int, entities: Mapping[str, Any], *, now: datetime | None = None) -> ListName | None:
        """What the lists say of an event: `block` wins over `allow`, None where nothing of it is listed.

        `entities`: kind → keyed hash, as in the stored event's attributes; other names are not looked at. `now`: entries that have
        ended by then do not count (None: as of when the lists were read).
        """
        if not self._entries:
            return None
        said: ListName | None = None
        things = [(ACCOUNT, str(account)), *((kind, entities[kind]) for kind in ENTITIES if kind in entities)]
        for thing in things:
            entry = self._entries.get(thing)
            if entry is not None and (now is None or entry.until is None or entry.until > now):
                if entry.list == "block":
                    return "block"
                said = "allow"
        return said


NOTHING: Final = Lists()

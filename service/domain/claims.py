"""Claims: what earns once in the whole program, whatever platform reports it and for whom.

A claim is a kind and a canonical text; the store keeps only a keyed hash of it (table `claim`). It is taken when an award is granted
for it and released when that award is taken back in full.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Final

from msgspec import Struct


class Kind(IntEnum):
    """What a claim is about; column `kind` of table `claim`, so numbers are never used again."""

    PARCEL = 1
    """A waybill, for how its parcel is packed."""
    RETURNED = 2
    """A waybill and a class: single-use packaging of that parcel that came back."""
    SERIAL = 3
    """A device that was traded in."""
    RECEIPT = 4
    """A receipt, a repair or rental document, a weighing ticket."""
    COURSE = 5
    """A version of a learning module, by one consumer."""
    TOKEN = 6
    """A collection station's one-time token."""
    ACTIVITY = 7
    """What a program's own activity kind says earns once."""


RULES: Final[dict[Kind, str]] = {
    Kind.PARCEL: "A waybill earns once for its packaging.",
    Kind.RETURNED: "The packaging of a waybill can be given back once.",
    Kind.SERIAL: "A serial number can be traded in once.",
    Kind.RECEIPT: "A receipt or document earns once.",
    Kind.COURSE: "A learning module earns once.",
    Kind.TOKEN: "A collection token counts once.",
    Kind.ACTIVITY: "What this activity was done with earns once.",
}
"""What a second one is told. It names the rule, never who was first."""


class Claim(Struct, frozen=True):
    """`text` is canonical: perturbed repeats (case, spaces, hyphens) have the same one."""

    kind: Kind
    text: str


class Holder(Struct, frozen=True, gc=False):
    """What a claim was granted for: an item (0 where there are none) of an event on an account."""

    account: int
    event: int
    item: int


ClaimKey = tuple[int, Claim]
"""program, claim."""


class NotAsked(RuntimeError):
    """A claim was not read, so that it would count as free: whoever decides has to read again."""


class Claims:
    """The claims that a batch may take: asked for first, then read and sealed, then taken and released."""

    @classmethod
    def none(cls) -> "Claims":
        """Of a batch that may take none, but perhaps releases some."""
        claims = cls()
        claims.seal({})
        return claims

    def __init__(self) -> None:
        self._holders: dict[ClaimKey, Holder | None] = {}
        self._were: dict[ClaimKey, Holder | None] = {}
        self._sealed = False
        self.released: set[Holder] = set()
        """Whose awards were taken back: every claim of theirs is free again."""

    def ask(self, program: int, claims: Sequence[Claim]) -> None:
        """These may be taken. Raises NotAsked once sealed."""
        if self._sealed and any((program, claim) not in self._holders for claim in claims):
            raise NotAsked
        for claim in claims:
            self._holders.setdefault((program, claim))

    @property
    def asked(self) -> Sequence[ClaimKey]:
        """In the order in which they were asked for."""
        return list(self._holders)

    def seal(self, holders: Mapping[ClaimKey, Holder]) -> None:
        """Take what was read: who holds those that are not free."""
        self._holders |= holders
        self._were = dict(self._holders)
        self._sealed = True

    def taken(self, program: int, claims: Sequence[Claim]) -> Claim | None:
        """The first of these that somebody holds. Raises NotAsked."""
        self.ask(program, claims)
        return next((claim for claim in claims if self._holders[program, claim] is not None), None)

    def take(self, program: int, claims: Sequence[Claim], holder: Holder) -> None:
        """Hold claims that are free."""
        self.ask(program, claims)
        for claim in claims:
            assert self._holders[program, claim] is None, "a claim is taken once"
            self._holders[program, claim] = holder

    def release(self, holder: Holder) -> None:
        """Its awards were taken back in full."""
        self.released.add(holder)
        for key, held_by in self._holders.items():
            if held_by == holder:
                self._holders[key] = None

    def changed(self) -> list[tuple[ClaimKey, Holder]]:
        """Those that somebody else holds now than before."""
        return [(key, holder) for key, holder in self._holders.items() if holder is not None and holder != self._were[key]]

    def left(self) -> list[ClaimKey]:
        """Those that nobody holds: what was put in their place while this was decided goes again."""
        return [key for key, holder in self._holders.items() if holder is None]

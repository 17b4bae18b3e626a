"""Claims: what earns once in the whole program, whatever platform reports it and for whom.

A claim is a kind and a canonical text; the store keeps only a keyed hash of it (table `claim`). It is taken when an award is granted
for it and released when that award is taken back in full.
"""

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

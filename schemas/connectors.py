"""Settings of an inbound hook, as an operator writes them (`hook.settings`, JSON)."""

from typing import Annotated

from msgspec import Meta, Struct, field

from schemas.base import Code
from schemas.bounds import MAX_PACKAGING_RULES, MAX_STATION_RULES, MAX_TEXT_CHARS

_Wanted = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_CHARS, pattern=r"\S")]


class _PackagingRule(Struct, frozen=True, kw_only=True, tag_field="from", forbid_unknown_fields=True):
    """Which packaging class a choice of the shop's customer stands for. Texts are compared without case and outer spaces."""

    class_: Code = field(name="class")


class NoteAttributeRule(_PackagingRule, frozen=True, kw_only=True, tag="note_attribute"):
    """A cart attribute of this name; without `value`, whatever it says if it says anything."""

    name: _Wanted
    value: _Wanted | None = None


class PropertyRule(_PackagingRule, frozen=True, kw_only=True, tag="property"):
    """A property of this name on any line; without `value`, whatever it says if it says anything."""

    name: _Wanted
    value: _Wanted | None = None


class ShippingLineRule(_PackagingRule, frozen=True, kw_only=True, tag="shipping_line"):
    """A shipping method with this code, title and source: those of the three that are given must all agree."""

    code: _Wanted | None = None
    title: _Wanted | None = None
    source: _Wanted | None = None

    def __post_init__(self) -> None:
        """A rule that names nothing would match every order."""
        if self.code is None and self.title is None and self.source is None:
            raise ValueError("a shipping_line rule needs code, title or source")


PackagingRule = NoteAttributeRule | PropertyRule | ShippingLineRule


class StationRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which collection station an EPCIS read point or business location is: a GLN as a URN or a Digital Link, or any other URI."""

    location: _Wanted
    station: Code


class HookSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one hook may be told; `{}` is a hook without settings. Of the packaging rules the first that matches wins.

    `order_transaction_type` (EPCIS): which type of business transaction is the order; without it the first of `po`, `desadv` and `inv`
    that is there, then one without a type.
    """

    packaging: Annotated[list[PackagingRule], Meta(max_length=MAX_PACKAGING_RULES)] = []
    order_transaction_type: Code | None = None
    stations: Annotated[list[StationRule], Meta(max_length=MAX_STATION_RULES)] = []

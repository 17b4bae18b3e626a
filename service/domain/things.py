"""Things that may earn, and what conditions read of them: each value is computed only if a condition names it."""

import re
from collections.abc import Callable, Sequence
from decimal import ROUND_DOWN, Decimal
from typing import Any

from msgspec import Struct

from schemas.events import ActivityCompleted, Event, Line, OrderPaid, Packaging, Return
from service.domain.claims import Claim
from service.domain.money import minor_units
from service.domain.orders import line_amount
from service.domain.products import Standing

DEFAULT_TIER = "seed"
_MICROGRAM = Decimal("0.000001")
_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")


class Thing(Struct, kw_only=True, gc=False):
    """What a campaign looks at: a line, an order's packaging, a returned item or an activity, within its event.

    `amount` is in major units of `currency`, `mass_g` in grams; None where the thing has none.
    """

    event: Event
    platform_code: str
    quantity: Decimal
    amount: Decimal | None = None
    currency: str | None = None
    mass_g: Decimal | None = None
    line: Line | None = None
    standing: Standing | None = None
    packaging: Packaging | None = None
    item: Return | None = None
    index: int | None = None
    """Position of the item in its event."""
    shipment: str | None = None
    """Id of the event that told how the order was really packed; None: as was chosen at checkout."""
    claims: tuple[Claim, ...] = ()
    """What it earns by, once in the whole program."""
    proved: bool = False
    """A registered station took it, and its token says so."""
    counted: bool = False
    """An award has its impact: the next ones have none."""


def line_thing(event: OrderPaid, line: Line, standing: Standing, platform_code: str) -> Thing:
    """A line of a paid order."""
    return Thing(
        event=event, platform_code=platform_code, quantity=Decimal(line.quantity), currency=event.order.currency, line=line,
        amount=line_amount(line.quantity, line.unit_price, line.amount), standing=standing, packaging=event.packaging,
    )  # fmt: skip


def packaging_thing(
    event: Event, packaging: Packaging, platform_code: str, *, units: int | None = None, shipment: str | None = None,
    claims: tuple[Claim, ...] = (),
) -> Thing:  # fmt: skip
    """How an order is packed. `units`: assets, where its class has them; None: parcels."""
    quantity = Decimal(packaging.parcels if units is None else units)
    return Thing(event=event, platform_code=platform_code, quantity=quantity, packaging=packaging, shipment=shipment, claims=claims)


def item_thing(
    event: Event, item: Return, index: int, platform_code: str, *, units: Decimal | None = None, claims: tuple[Claim, ...] = ()
) -> Thing:
    """So many units (None: all) of a returned item; its mass is that of all its units, in proportion."""
    quantity, mass_g = Decimal(item.quantity), None if item.mass_g is None else Decimal(item.mass_g)
    if units is not None and units != quantity and mass_g is not None:
        mass_g = (mass_g * units / quantity).quantize(_MICROGRAM, ROUND_DOWN)
    return Thing(
        event=event, platform_code=platform_code, quantity=quantity if units is None else units, mass_g=mass_g, item=item, index=index,
        claims=claims,
    )  # fmt: skip


def activity_thing(event: ActivityCompleted, platform_code: str, *, claims: tuple[Claim, ...] = ()) -> Thing:
    """An activity; a mass is its evidence's `mass_g`."""
    mass_g = mass_of(event.evidence.get("mass_g"))
    return Thing(event=event, platform_code=platform_code, quantity=Decimal(1), mass_g=mass_g, claims=claims)


def mass_of(value: object) -> Decimal | None:
    """Grams of a piece of evidence, a decimal string or an integer; None: it is none."""
    known = (type(value) is int and value >= 0) or (isinstance(value, str) and _DECIMAL.fullmatch(value) is not None)
    return Decimal(str(value)) if known else None


def values_of(thing: Thing, names: Sequence[str]) -> list[Any]:
    """The values of these names of `service.domain.conditions.NAMES`."""
    return [_VALUES[name](thing) for name in names]


def _minor(amount: str | None, currency: str | None) -> int:
    return 0 if amount is None else minor_units(Decimal(amount), currency)


def _channel(thing: Thing) -> str:
    channel = thing.event.attributes.get("channel")
    return channel if isinstance(channel, str) else ""


_LINE: dict[str, Callable[[Any, Line, Standing], Any]] = {
    "line.id": lambda _, line, __: line.id,
    "line.sku": lambda _, line, __: line.sku or "",
    "line.gtin": lambda _, __, standing: standing.gtin,
    "line.category": lambda _, __, standing: standing.category,
    "line.merchant": lambda _, line, __: line.merchant or "",
    "line.quantity": lambda thing, _, __: float(thing.quantity),
    "line.unit_price": lambda thing, line, _: _minor(line.unit_price, thing.currency),
    "line.amount": lambda thing, _, __: minor_units(thing.amount, thing.currency),
    "line.certified": lambda _, __, standing: standing.certified,
    "line.schemes": lambda _, __, standing: standing.schemes,
}


def _of_line(value: Callable[[Any, Line, Standing], Any]) -> Callable[[Any], Any]:
    return lambda thing: value(thing, thing.line, thing.standing)


_VALUES: dict[str, Callable[[Any], Any]] = {
    **{name: _of_line(value) for name, value in _LINE.items()},
    "order.id": lambda thing: thing.event.order.id,
    "order.currency": lambda thing: thing.event.order.currency or "",
    "order.total": lambda thing: _minor(thing.event.order.total, thing.event.order.currency),
    "order.channel": _channel,
    "packaging.class": lambda thing: (thing.packaging.class_ or "") if thing.packaging else "",
    "packaging.parcels": lambda thing: thing.packaging.parcels if thing.packaging else 0,
    "item.class": lambda thing: thing.item.class_ or "",
    "item.asset": lambda thing: thing.item.asset or "",
    "item.proved": lambda thing: thing.proved,
    "item.station": lambda thing: thing.item.station or "",
    "item.quantity": lambda thing: float(thing.quantity),
    "item.mass_g": lambda thing: float(thing.mass_g or 0),
    "activity.name": lambda thing: thing.event.activity,
    "activity.evidence": lambda thing: thing.event.evidence,
    "event.type": lambda thing: thing.event.TYPE,
    "event.occurred_at": lambda thing: thing.event.occurred_at,
    "event.attributes": lambda thing: thing.event.attributes,
    "platform.code": lambda thing: thing.platform_code,
    "consumer.tier": lambda _: DEFAULT_TIER,
    "consumer.attributes": lambda _: {},
}

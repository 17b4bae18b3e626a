"""What is known of one event when it is judged."""

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct

from schemas.events import ActivityCompleted, Event, OrderFulfilled, OrderPaid, OrderRefunded, Packaging, PackagingReturned, Return
from service.domain.activities import ActivityKind, claims_of
from service.domain.fraud.account import Account, Step
from service.domain.identifiers import canonical_asset, canonical_waybill

STRONG: Final = ("device", "payment", "address")
"""What people share with few; an ip is shared with thousands, a region with millions."""
ENTITIES: Final = (*STRONG, "ip")
MAX_ITEMS: Final = 8
"""Lines, returns, assets and tags of one event that are looked at: the cost of an event has a bound."""
_KNOWN: Final = frozenset({*ENTITIES, "region", "attendant"})
_NUMBER: Final = re.compile(r"(\d{1,9})\D*$")


class OrderLine(Struct, frozen=True, kw_only=True, gc=False):
    """A line as bought; `price` is of one unit, in major units of the order's currency. `certificate`: what it earns by."""

    sku: str = ""
    quantity: float = 1
    price: float = 0
    category: str = ""
    merchant: str = ""
    certificate: str = ""


class Returned(Struct, frozen=True, kw_only=True, gc=False):
    """An item that came back. `mass_g`: grams of all of it, 0 where nobody weighed. `asset` and `waybill` are keyed hashes."""

    asset: str = ""
    class_: str = ""
    quantity: float = 1
    mass_g: float = 0
    station: str = ""
    waybill: str = ""


class OrderBefore(Struct, frozen=True, kw_only=True, gc=False):
    """The order that a refund, a cancellation or a shipment is about, as its `order.paid` was observed."""

    at: int
    entities: Mapping[str, str]
    merchant: str = ""


class Context(Struct, frozen=True, kw_only=True):
    """What the event itself does not say."""

    number: int
    """Of the event, in the deployment."""
    platform: str
    account: Account
    account_id: int
    points: int
    """What it would earn; negative: what it takes back."""
    received_at: datetime
    replaced: int = 0
    """Points that it took back while it earned: those of the choice at checkout that a shipment stands in place of."""
    hash_key: bytes = b"\0"
    """For what is hashed here: assets, waybills, evidence, tags. At most 64 bytes."""
    certificates: Mapping[str, str] = {}
    """Of lines that earn as certified, by the line's id."""
    order: OrderBefore | None = None
    most: int = 0
    """Points that an event of its kind can earn at most in this program, by its caps; 0: nobody says."""
    kinds: Mapping[str, ActivityKind] = {}
    """The program's own activities."""


class Observation(Struct, frozen=True, kw_only=True):
    """One event, reduced to what signals look at. Texts that could identify anybody are keyed hashes."""

    number: int
    platform: str
    account_id: int
    account: Account
    type: str
    at: int
    """When it happened, seconds since 1970, UTC: what windows follow."""
    delay_s: int
    """From happening to arriving."""
    points: int
    replaced: int = 0
    age_s: int
    """Of the account, when it happened."""
    most: int = 0
    entities: Mapping[str, str]
    region: str = ""
    order: str = ""
    order_age_s: int = -1
    """Since the order was paid, for what is about an earlier order; -1: it is not."""
    money: float = 0
    """The order's total in major units of its currency."""
    lines: tuple[OrderLine, ...] = ()
    merchant: str = ""
    """That of the lines that are worth most."""
    packaging: str = ""
    shipped: tuple[str, ...] = ()
    """Assets that left."""
    parcels: int = 0
    returns: tuple[Returned, ...] = ()
    activity: str = ""
    attendant: str = ""
    evidence: tuple[str, ...] = ()
    """What should occur once: serials, receipts, waybills, each with its use."""
    tags: tuple[str, ...] = ()
    """Attributes that nobody has a meaning for here: channels, codes of referrals."""
    shape: str = ""
    """The action without who did it: equal for people who do exactly the same."""
    code: int = -1

    @property
    def step(self) -> Step:
        """What the account's record keeps of it."""
        station = next((item.station for item in self.returns if item.station), "")
        device = self.entities.get("device", "")
        return Step(at=self.at, shape=self.shape, region=self.region, device=device, station=station, code=self.code)


def observe(event: Event, context: Context) -> Observation:
    """The observation of an event as it is stored (attributes hashed; see intake.minimised). Bounded work, whatever the event carries."""
    attributes, order = event.attributes, context.order
    at = int(event.occurred_at.timestamp())
    entities = {kind: value[:64] for kind in ENTITIES if isinstance(value := attributes.get(kind), str) and value}
    if not entities and order is not None:
        entities = dict(order.entities)
    region, attendant = attributes.get("region"), attributes.get("attendant")
    more = _details(event, context)
    more.setdefault("merchant", "" if order is None else order.merchant)
    more["evidence"] = tuple(_hash(context.hash_key, text) for text in more.get("evidence", ()))[:MAX_ITEMS]
    tags = [f"{name}={value}" for name, value in attributes.items() if name not in _KNOWN and isinstance(value, str | int)]
    return Observation(
        number=context.number, platform=context.platform, account_id=context.account_id, account=context.account, type=event.TYPE,
        at=at, delay_s=int(context.received_at.timestamp()) - at, points=context.points, replaced=context.replaced, most=context.most,
        age_s=max(0, at - context.account.opened_at),
        entities=entities, region=region[:64] if isinstance(region, str) else "", order=event.order_id or "",
        order_age_s=-1 if order is None else max(0, at - order.at), attendant=attendant[:64] if isinstance(attendant, str) else "",
        tags=tuple(_hash(context.hash_key, tag) for tag in tags[:MAX_ITEMS // 2]), **more,
    )  # fmt: skip


def _details(event: Event, context: Context) -> dict[str, Any]:
    match event:
        case OrderPaid():
            return _paid(event, context)
        case OrderFulfilled():
            return _fulfilled(event, context)
        case PackagingReturned():
            return _came_back(event, context)
        case ActivityCompleted():
            claims = claims_of(event, context.kinds, context.account_id)
            serial = next((text for value in event.evidence.values() if isinstance(text := value, str)), "")
            return {
                "activity": event.activity, "evidence": tuple(f"{claim.kind}:{claim.text}" for claim in claims),
                "code": _number(serial), "shape": f"a:{event.activity}",
            }  # fmt: skip
        case OrderRefunded():
            return {"shape": "refund"}
    return {"shape": event.TYPE}


def _paid(event: OrderPaid, context: Context) -> dict[str, Any]:
    lines = tuple(
        OrderLine(
            sku=(line.sku or line.gtin or "")[:64], quantity=float(line.quantity),
            price=_price(line.unit_price, line.amount, line.quantity),
            category=(line.category or "")[:64], merchant=(line.merchant or "")[:64], certificate=context.certificates.get(line.id, ""),
        )
        for line in event.lines[:MAX_ITEMS]
    )  # fmt: skip
    best = max(lines, key=_worth, default=OrderLine())
    packaging = "" if event.packaging is None else event.packaging.class_ or ""
    sold = f"{best.merchant}/{best.sku}*{best.quantity:g}" if best.certificate else "-"
    return {
        "lines": lines, "money": float(event.order.total or 0), "merchant": best.merchant, "packaging": packaging,
        "shape": f"o:{sold}:{packaging}:{len(event.lines)}",
    }  # fmt: skip


def _worth(line: OrderLine) -> tuple[bool, float]:
    return bool(line.certificate), line.price * line.quantity


def _price(unit: str | None, amount: str | None, quantity: str | int) -> float:
    return float(unit) if unit is not None else float(Decimal(amount) / Decimal(quantity)) if amount is not None else 0.0


def _fulfilled(event: OrderFulfilled, context: Context) -> dict[str, Any]:
    packaging = event.packaging or Packaging()
    assets = tuple(_hash(context.hash_key, f"asset:{_canonical(canonical_asset, asset)}") for asset in packaging.assets[:MAX_ITEMS])
    evidence = () if packaging.waybill is None else (f"sent:{_canonical(canonical_waybill, packaging.waybill)}",)
    return {
        "packaging": packaging.class_ or "", "shipped": assets, "parcels": packaging.parcels, "evidence": evidence,
        "shape": f"f:{packaging.class_}",
    }  # fmt: skip


def _came_back(event: PackagingReturned, context: Context) -> dict[str, Any]:
    returns = tuple(_item(item, context.hash_key) for item in event.returns[:MAX_ITEMS])
    evidence = [f"back:{item.waybill}:{item.class_}" for item in returns if item.waybill]
    evidence += [f"token:{item.proof}" for item in event.returns[:MAX_ITEMS] if item.proof is not None]
    first = returns[0]
    units = sum(item.quantity for item in returns)
    return {
        "returns": returns, "evidence": tuple(evidence), "code": _number(event.returns[0].asset or ""),
        "shape": f"r:{first.station}:{first.class_ or 'asset'}:{units:g}",
    }  # fmt: skip


def _item(item: Return, key: bytes) -> Returned:
    return Returned(
        asset="" if item.asset is None else _hash(key, f"asset:{_canonical(canonical_asset, item.asset)}"),
        class_=(item.class_ or "")[:64], quantity=1.0 if item.asset is not None else float(item.quantity), mass_g=float(item.mass_g or 0),
        station=(item.station or "")[:64], waybill="" if item.waybill is None else _hash(key, _canonical(canonical_waybill, item.waybill)),
    )  # fmt: skip


def _canonical(form: Callable[[str], str], text: str) -> str:
    """As a scanner, a shop or a person may write it; what has no canonical form stands for itself (the intake refuses it)."""
    try:
        return form(text)
    except ValueError:
        return text


def _number(text: str) -> int:
    found = _NUMBER.search(text)
    return -1 if found is None else int(found.group(1))


def _hash(key: bytes, text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=10, key=key).hexdigest()

"""What is known of one event when it is judged."""

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

from msgspec import Struct

from schemas.events import ActivityCompleted, Event, OrderFulfilled, OrderPaid, OrderRefunded, Packaging, PackagingReturned, Return
from service.domain.activities import ActivityKind, claims_of, kind_of
from service.domain.fraud.account import Account, Step
from service.domain.identifiers import canonical_asset, canonical_serial, canonical_waybill

T = TypeVar("T")

STRONG: Final = ("device", "payment", "address")
"""What people share with few; an ip is shared with thousands, a region with millions."""
ENTITIES: Final = (*STRONG, "ip")
MAX_ITEMS: Final = 8
"""Lines, returns, assets and tags of one event that are looked at: the cost of an event has a bound."""
_KNOWN: Final = frozenset({*ENTITIES, "region", "attendant"})
FULL: Final = 0.9
"""An order that earns this share of the most that one can is full."""
_LEAST_SERIAL: Final = 6
"""Characters: of shorter ones the beginning is nearly nothing, and many have it in common."""
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
    """An item that came back. `mass_g`: grams of all of it, 0 where nobody weighed. `asset`, `station` and `waybill` are keyed hashes."""

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
    packaging: str = ""


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


class _Once(Generic[T]):
    """As functools.cached_property, which takes a lock up to Python 3.11: twice the time of all the rest."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make

    def __get__(self, of: Any, type_: object = None) -> T:  # noqa: ANN401 - whatever has the property
        made = of.__dict__[self._make.__name__] = self._make(of)
        return made


class Observation(Struct, frozen=True, kw_only=True, dict=True):
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
    certified: float = 0
    """What its certified lines cost."""
    full: bool = False
    """Whether the order earns nearly the most that one can (FULL)."""
    parcels: int = 0
    returns: tuple[Returned, ...] = ()
    activity: str = ""
    attendant: str = ""
    kind: str = ""
    """As Step.kind."""
    thing: str = ""
    """What it was about, without what makes it unique: the product, the activity and whose receipt it is."""
    evidence: tuple[str, ...] = ()
    """What should occur once: serials, receipts, tokens of returns."""
    waybills: tuple[str, ...] = ()
    """Of the parcel that left, or of those whose packaging came back."""
    stem: str = ""
    """The beginning of a serial: what numbers have in common that were counted up, or made from one another."""
    as_chosen: bool | None = None
    """As Step.as_chosen."""
    tags: tuple[str, ...] = ()
    """Attributes that nobody has a meaning for here: channels, codes of referrals."""
    shape: str = ""
    """The action without who did it: equal for people who do exactly the same."""
    code: int = -1

    @_Once
    def things(self) -> tuple[tuple[str, str], ...]:
        """Kinds of what it was done with, each with its key: the same text wherever it is kept."""
        return tuple([(kind, f"{kind}:{value}") for kind, value in self.entities.items()])

    @_Once
    def step(self) -> Step:
        """What the account's record keeps of it."""
        station = next((item.station for item in self.returns if item.station), "")
        return Step(
            at=self.at, shape=self.shape, kind=self.kind, region=self.region, device=self.entities.get("device", ""),
            ip=self.entities.get("ip", ""), station=station, code=self.code,
            full=self.full, points=self.points, certified=self.certified, reversal=self.points < 0, as_chosen=self.as_chosen,
        )  # fmt: skip


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
        tags=tuple(_hash_of_tag(context.hash_key, tag) for tag in tags[:MAX_ITEMS // 2]), **more,
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
            return _completed(event, context)
        case OrderRefunded():
            return {"shape": "refund"}
    return {"shape": event.TYPE}


def _paid(event: OrderPaid, context: Context) -> dict[str, Any]:
    lines = tuple(
        OrderLine(
            sku=_named(context.hash_key, line.sku or line.gtin), quantity=float(line.quantity),
            price=_price(line.unit_price, line.amount, line.quantity),
            category=_named(context.hash_key, line.category), merchant=_named(context.hash_key, line.merchant),
            certificate=context.certificates.get(line.id, ""),
        )
        for line in event.lines[:MAX_ITEMS]
    )  # fmt: skip
    certified, pure = sum(line.price * line.quantity for line in lines if line.certificate), all(line.certificate for line in lines)
    best = max(lines, key=worth, default=OrderLine())
    packaging = "" if event.packaging is None else event.packaging.class_ or ""
    sold = f"{best.merchant}/{best.sku}" if best.certificate else "-"
    return {
        "lines": lines, "money": float(event.order.total or 0), "merchant": best.merchant, "packaging": packaging,
        "shape": f"o:{sold}:{packaging}", "thing": f"{best.merchant}/{best.sku}",
        "kind": "plain" if context.points <= 0 else "choice" if not certified else "pure" if pure else "mixed", "certified": certified,
        "full": certified > 0 and 0 < FULL * context.most <= context.points,
    }  # fmt: skip


def worth(line: OrderLine) -> tuple[bool, float]:
    """Sorts the lines of an order: what it earns by comes last, and of that what costs most."""
    return bool(line.certificate), line.price * line.quantity


def _price(unit: str | None, amount: str | None, quantity: str | int) -> float:
    return float(unit) if unit is not None else float(Decimal(amount) / Decimal(quantity)) if amount is not None else 0.0


def _fulfilled(event: OrderFulfilled, context: Context) -> dict[str, Any]:
    packaging = event.packaging or Packaging()
    assets = tuple(_hash(context.hash_key, f"asset:{_canonical(canonical_asset, asset)}") for asset in packaging.assets[:MAX_ITEMS])
    waybills = () if packaging.waybill is None else (_hash(context.hash_key, _waybill(packaging.waybill)),)
    chosen, used = "" if context.order is None else context.order.packaging, packaging.class_
    return {
        "packaging": used or "", "shipped": assets, "parcels": packaging.parcels, "waybills": waybills, "shape": f"f:{used}",
        "as_chosen": used == chosen if used and chosen else None,
    }  # fmt: skip


def _came_back(event: PackagingReturned, context: Context) -> dict[str, Any]:
    returns = tuple(_item(item, context.hash_key) for item in event.returns[:MAX_ITEMS])
    evidence = [f"token:{item.proof}" for item in event.returns[:MAX_ITEMS] if item.proof is not None]
    first = returns[0]
    units = sum(item.quantity for item in returns)
    return {
        "returns": returns, "kind": "return", "evidence": tuple(evidence), "code": _number(event.returns[0].asset or ""),
        "waybills": tuple(dict.fromkeys(item.waybill for item in returns if item.waybill)),
        "shape": f"r:{first.station}:{first.class_ or 'asset'}:{units:g}",
    }  # fmt: skip


def _completed(event: ActivityCompleted, context: Context) -> dict[str, Any]:
    claims = claims_of(event, context.kinds, context.account_id)
    kind = kind_of(event.activity, context.kinds)
    rule = None if kind is None else kind.claim
    # What is not claimed says whose receipt it is, of which brand, from which terminal: many have that in common.
    claimed = frozenset() if rule is None else frozenset(rule.keys)
    about = [text for key, text in sorted(event.evidence.items()) if key not in claimed and isinstance(text, str)]
    serial = "" if rule is None or rule.kind != "serial" else str(event.evidence.get(rule.keys[0], ""))
    return {
        "activity": event.activity, "kind": "activity", "shape": f"a:{event.activity}",
        "thing": _hash(context.hash_key, "|".join([event.activity, *about])),
        "evidence": tuple(f"{claim.kind}:{claim.text}" for claim in claims),
        "code": _number(serial), "stem": _stem(serial, context.hash_key),
    }  # fmt: skip


def _stem(serial: str, key: bytes) -> str:
    """The first two thirds of a serial, hashed: numbers of one batch or of one imagination differ in the rest. Empty: too short to say."""
    code = _canonical(canonical_serial, serial)
    return "" if len(code) < _LEAST_SERIAL else _hash(key, f"stem:{code[: -(-len(code) * 2 // 3)]}")


def _item(item: Return, key: bytes) -> Returned:
    return Returned(
        asset="" if item.asset is None else _hash(key, f"asset:{_canonical(canonical_asset, item.asset)}"),
        class_=(item.class_ or "")[:64], quantity=1.0 if item.asset is not None else float(item.quantity), mass_g=float(item.mass_g or 0),
        station=_named(key, item.station), waybill="" if item.waybill is None else _hash(key, _waybill(item.waybill)),
    )  # fmt: skip


def _canonical(form: Callable[[str], str], text: str) -> str:
    """As a scanner, a shop or a person may write it; what has no canonical form stands for itself (the intake refuses it)."""
    try:
        return form(text)
    except ValueError:
        return text


def _waybill(text: str) -> str:
    """Capitals and digits, with a letter among them, are canonical and no form of GS1: most carriers' numbers, in a tenth of the time."""
    return text if text.isascii() and text.isalnum() and text.isupper() else _canonical(canonical_waybill, text)


def _number(text: str) -> int:
    found = _NUMBER.search(text)
    return -1 if found is None else int(found.group(1))


@lru_cache(maxsize=4_096)
def _hash_of_tag(key: bytes, tag: str) -> str:
    """Most tags are of a few channels, again and again."""
    return _hash(key, tag)


@lru_cache(1 << 16)
def _named(key: bytes, text: str | None) -> str:
    """What senders call a shop, a product, a category, a station: texts of theirs that may hold anything, and that come again and again."""
    return _hash(key, f"name:{text}") if text else ""


def _hash(key: bytes, text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=10, key=key).hexdigest()

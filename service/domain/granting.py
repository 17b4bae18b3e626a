"""What one fact earns: candidates, conditions, points, stacking, multipliers, caps and budgets.

A *thing* is what a campaign of the action looks at: a line (purchase), an order's packaging (packaging), a returned item
(return), an activity (activity). Campaigns that match a thing stack:

- `add` grants always;
- of those with `best`, the one with the most points;
- of those with `exclusive:<group>`, the one with the highest priority in its group (then the most points, then the code);
- a `multiplier` then grants (factor − 1) × what the campaigns `of` were granted for the thing, caps and budgets applied.
"""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from schemas.campaigns import Multiplier, PerAmount
from schemas.events import ActivityCompleted, Award, Event, OrderPaid, Packaging, PackagingReturned, Refusal
from service.domain import earning
from service.domain.campaigns import CompiledCampaign, expires_on
from service.domain.catalogue import Catalogue, Program
from service.domain.certificates import CertificateFacts
from service.domain.conditions import activation
from service.domain.money import minor_units
from service.domain.orders import line_amount
from service.domain.products import Products, Standing
from service.domain.usage import Usage

DEFAULT_TIER = "seed"


class Granted(Struct, kw_only=True, gc=False):
    """Points that a campaign grants for one thing."""

    campaign: CompiledCampaign
    points: int
    day: date
    due_at: datetime
    expires_on: date | None
    reason: str
    line: str | None = None
    index: int | None = None
    certificate: CertificateFacts | None = None

    def as_award(self) -> Award:
        """As the answer shows it."""
        return Award(
            campaign=self.campaign.code, version=self.campaign.version, action=self.campaign.body.action, points=self.points,
            reason=self.reason, line=UNSET if self.line is None else self.line, return_=UNSET if self.index is None else self.index,
            certificate=UNSET if self.certificate is None else str(self.certificate.id),
        )  # fmt: skip


class Thing(Struct, kw_only=True, gc=False):
    """What a campaign looks at, with what its rule and its condition need."""

    data: dict[str, Any]
    quantity: Decimal
    amount: Decimal | None = None
    currency: str | None = None
    mass_g: Decimal | None = None
    line: str | None = None
    index: int | None = None
    standing: Standing | None = None


class Granter:
    """Grants for one event. `now` is the transaction's; holds start from it."""

    def __init__(
        self, *, event: Event, platform: int, platform_code: str, account: int, program: Program,
        catalogue: Catalogue, products: Products, usage: Usage, now: datetime, order_used: dict[int, int] | None = None,
    ) -> None:  # fmt: skip
        self.event = event
        self.platform = platform
        self.platform_code = platform_code
        self.account = account
        self.program = program
        self.catalogue = catalogue
        self.products = products
        self.usage = usage
        self.now = now
        self.day = event.occurred_at.astimezone(program.zone).date()
        self.granted: list[Granted] = []
        self.refused: list[Refusal] = []
        self._order_used = order_used if order_used is not None else {}
        self._common: dict[str, Any] = {
            "event.type": event.TYPE,
            "event.occurred_at": event.occurred_at,
            "event.attributes": event.attributes,
            "platform.code": platform_code,
            "consumer.tier": DEFAULT_TIER,
            "consumer.attributes": {},
        }

    def purchase(self, event: OrderPaid) -> None:
        """Grant for every line of a paid order."""
        campaigns = self._candidates("purchase")
        if not campaigns:
            return
        order = self._order_data(event) | _packaging_data(event.packaging)
        for line in event.lines:
            standing = self.products.standing(self.program.id, self.platform, line, event.occurred_at, self.program.zone)
            if standing.contradictory:
                self.refused.append(Refusal(code=standing.code, detail=standing.detail, line=line.id))
                continue
            quantity, amount = Decimal(line.quantity), line_amount(line.quantity, line.unit_price, line.amount)
            currency = event.order.currency
            unit_price = None if line.unit_price is None else Decimal(line.unit_price)
            data = {
                "line.id": line.id, "line.sku": line.sku or "", "line.gtin": standing.gtin, "line.category": standing.category,
                "line.merchant": line.merchant or "", "line.quantity": float(quantity),
                "line.unit_price": minor_units(unit_price, currency), "line.amount": minor_units(amount, currency),
                "line.certified": standing.certified, "line.schemes": standing.schemes,
            }  # fmt: skip
            self._grant(
                campaigns, "purchase",
                Thing(data=order | data, quantity=quantity, amount=amount, currency=currency, line=line.id, standing=standing),
            )  # fmt: skip

    def packaging(self, event: Any, packaging: Packaging) -> None:
        """Grant for how an order is packed, once per order: its parcels are the quantity."""
        if campaigns := self._candidates("packaging"):
            data = self._order_data(event) | _packaging_data(packaging)
            self._grant(campaigns, "packaging", Thing(data=data, quantity=Decimal(packaging.parcels)))

    def returns(self, event: PackagingReturned) -> None:
        """Grant for every returned item."""
        if not (campaigns := self._candidates("return")):
            return
        for index, item in enumerate(event.returns):
            mass = None if item.mass_g is None else Decimal(item.mass_g)
            data = self._common | {
                "item.class": item.class_, "item.quantity": float(Decimal(item.quantity)), "item.mass_g": float(mass or 0),
                "item.asset": item.asset or "", "item.station": item.station or "",
            }  # fmt: skip
            self._grant(campaigns, "return", Thing(data=data, quantity=Decimal(item.quantity), mass_g=mass, index=index))

    def activity(self, event: ActivityCompleted) -> None:
        """Grant for an activity."""
        if campaigns := self._candidates("activity"):
            mass = event.evidence.get("mass_g")
            mass_g = Decimal(mass) if isinstance(mass, int) or (isinstance(mass, str) and mass.isdigit()) else None
            data = self._common | {"activity.name": event.activity, "activity.evidence": event.evidence}
            self._grant(campaigns, "activity", Thing(data=data, quantity=Decimal(1), mass_g=mass_g))

    def _candidates(self, action: str) -> list[CompiledCampaign]:
        return [
            c
            for c in self.catalogue.candidates(self.program.id, action, self.platform_code, self.event.occurred_at)
            if c.segment is None or c.segment.holds(activation(action, self._common))  # type: ignore[arg-type]
        ]

    def _order_data(self, event: Any) -> dict[str, Any]:
        channel = event.attributes.get("channel")
        total = None if event.order.total is None else Decimal(event.order.total)
        return self._common | {
            "order.id": event.order.id,
            "order.currency": event.order.currency or "",
            "order.total": minor_units(total, event.order.currency),
            "order.channel": channel if isinstance(channel, str) else "",
        }

    def _grant(self, campaigns: list[CompiledCampaign], action: str, thing: Thing) -> None:
        """Match, weigh, stack, multiply and cut for one thing."""
        matched = self._matching(campaigns, action, thing)
        if not matched:
            return
        worth = [(c, points) for c in matched if not isinstance(c.body.award, Multiplier) and (points := self._worth(c, thing)) > 0]
        granted: dict[str, int] = {}
        for campaign, points in _stack(worth):
            granted[campaign.code] = self._cut(campaign, points, thing)
        for campaign in matched:
            rule = campaign.body.award
            if isinstance(rule, Multiplier):
                base = sum(granted.get(code, 0) for code in rule.of)
                if points := earning.multiplied(rule.factor, base):
                    self._cut(campaign, points, thing)

    def _matching(self, campaigns: list[CompiledCampaign], action: str, thing: Thing) -> list[CompiledCampaign]:
        """The campaigns whose condition holds; one that fails only for want of a certificate says so."""
        facts = None
        matched = []
        for campaign in campaigns:
            if campaign.when is None:
                matched.append(campaign)
                continue
            if facts is None:
                facts = activation(action, thing.data)  # type: ignore[arg-type]
            if campaign.when.holds(facts):
                matched.append(campaign)
            elif (standing := thing.standing) is not None and not standing.certified:
                as_if = thing.data | {"line.certified": True, "line.schemes": standing.known_schemes}
                if campaign.when.holds(activation(action, as_if)):  # type: ignore[arg-type]
                    self._refuse(thing, campaign, standing.code, standing.detail)
        return matched

    def _worth(self, campaign: CompiledCampaign, thing: Thing) -> int:
        rule = campaign.body.award
        assert not isinstance(rule, Multiplier)
        try:
            return earning.points_for(rule, quantity=thing.quantity, amount=thing.amount, currency=thing.currency, mass_g=thing.mass_g)
        except earning.CurrencyMismatch:
            wanted = rule.currency if isinstance(rule, PerAmount) else getattr(rule, "currency", "")
            self._refuse(thing, campaign, "currency_mismatch", f"This campaign counts {wanted}, the order is in {thing.currency}.")
            return 0

    def _cut(self, campaign: CompiledCampaign, points: int, thing: Thing) -> int:
        """Cut to what caps and budgets allow, count it and grant it; returns the points granted."""
        in_order = self._order_used.get(campaign.id, 0)
        left, code = self.usage.allowed(campaign, self.account, self.day, in_order)
        allowed = points if left is None else min(points, left)
        if allowed <= 0:
            words = "The cap on this campaign's points" if code == "cap_reached" else "This campaign's budget"
            self._refuse(thing, campaign, code, f"{words} is used up.")
            return 0
        self._order_used[campaign.id] = in_order + allowed
        self.usage.count(campaign.id, self.catalogue.tracked(campaign.id), self.account, self.day, allowed)
        due_at = self.now + timedelta(seconds=campaign.hold_s)
        self.granted.append(
            Granted(
                campaign=campaign, points=allowed, day=self.day, due_at=due_at, line=thing.line, index=thing.index,
                expires_on=None if campaign.expires is None else expires_on(due_at, campaign.expires, self.program.zone),
                reason=_reason(campaign, points, allowed, code), certificate=thing.standing.certificate if thing.standing else None,
            )  # fmt: skip
        )
        return allowed

    def _refuse(self, thing: Thing, campaign: CompiledCampaign, code: str, detail: str) -> None:
        line: str | UnsetType = UNSET if thing.line is None else thing.line
        index: int | UnsetType = UNSET if thing.index is None else thing.index
        self.refused.append(Refusal(code=code, detail=detail, line=line, return_=index, campaign=campaign.code))


def _packaging_data(packaging: Packaging | None) -> dict[str, Any]:
    if packaging is None:
        return {"packaging.class": "", "packaging.parcels": 0}
    return {"packaging.class": packaging.class_, "packaging.parcels": packaging.parcels}


def _stack(worth: list[tuple[CompiledCampaign, int]]) -> list[tuple[CompiledCampaign, int]]:
    """Which of the matching campaigns grant, in the order in which caps and budgets are asked (priority, code)."""
    if len(worth) < 2:
        return worth
    chosen: dict[str, tuple[CompiledCampaign, int]] = {}
    result = []
    for campaign, points in worth:
        stacking = campaign.body.stacking
        if stacking == "add":
            result.append((campaign, points))
        elif stacking not in chosen or _rank(stacking)(campaign, points) > _rank(stacking)(*chosen[stacking]):
            chosen[stacking] = (campaign, points)
    result += chosen.values()
    result.sort(key=lambda pair: (-pair[0].body.priority, pair[0].code))
    return result


def _rank(stacking: str) -> Callable[[CompiledCampaign, int], tuple[int, int]]:
    if stacking == "best":
        return lambda campaign, points: (points, campaign.body.priority)
    return lambda campaign, points: (campaign.body.priority, points)


def _reason(campaign: CompiledCampaign, worth: int, granted: int, code: str) -> str:
    """In words that a person can read."""
    if worth == granted:
        return f"{campaign.body.name}: {granted} points"
    bound = "its cap" if code == "cap_reached" else "its budget"
    return f"{campaign.body.name}: {granted} points, cut from {worth} by {bound}"

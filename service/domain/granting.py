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

from msgspec import UNSET, Struct, UnsetType

from schemas.campaigns import Action, Multiplier, PerAmount
from schemas.events import ActivityCompleted, Award, Event, OrderPaid, Packaging, PackagingReturned, Refusal
from service.domain import earning
from service.domain.campaigns import CompiledCampaign, expires_on
from service.domain.catalogue import Catalogue, Program
from service.domain.certificates import CertificateFacts
from service.domain.conditions import activation
from service.domain.products import Products
from service.domain.things import Thing, activity_thing, item_thing, line_thing, packaging_thing, values_of
from service.domain.usage import Usage


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


Terms = dict[int, tuple[datetime, date | None]]
"""id() of a campaign's version → when the hold of points granted now ends, and their last day. The same for a whole batch."""


class Granter:
    """Grants for one event. `now` is the transaction's; holds start from it."""

    def __init__(
        self, *, event: Event, platform: int, platform_code: str, account: int, program: Program,
        catalogue: Catalogue, products: Products, usage: Usage, now: datetime, terms: Terms,
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
        self._in_order: dict[int, int] = {}
        self._terms = terms

    def purchase(self, event: OrderPaid) -> None:
        """Grant for every line of a paid order."""
        for line in event.lines if (campaigns := self._candidates("purchase")) else ():
            standing = self.products.standing(self.program.id, self.platform, line, event.occurred_at, self.program.zone)
            if standing.contradictory:
                self.refused.append(Refusal(code=standing.code, detail=standing.detail, line=line.id))
            else:
                self._grant(campaigns, "purchase", line_thing(event, line, standing, self.platform_code))

    def packaging(self, event: Event, packaging: Packaging) -> None:
        """Grant for how an order is packed, once per order."""
        if campaigns := self._candidates("packaging"):
            self._grant(campaigns, "packaging", packaging_thing(event, packaging, self.platform_code))

    def returns(self, event: PackagingReturned) -> None:
        """Grant for every returned item."""
        for index, item in enumerate(event.returns) if (campaigns := self._candidates("return")) else ():
            self._grant(campaigns, "return", item_thing(event, item, index, self.platform_code))

    def activity(self, event: ActivityCompleted) -> None:
        """Grant for an activity."""
        if campaigns := self._candidates("activity"):
            self._grant(campaigns, "activity", activity_thing(event, self.platform_code))

    def _candidates(self, action: Action) -> list[CompiledCampaign]:
        candidates = self.catalogue.candidates(self.program.id, action, self.platform_code, self.event.occurred_at)
        if all(c.segment is None for c in candidates):
            return candidates
        whole = Thing(event=self.event, platform_code=self.platform_code, quantity=Decimal(1))
        return [c for c in candidates if c.segment is None or c.segment.holds(activation(action, values_of(whole, c.segment.names)))]

    def _grant(self, campaigns: list[CompiledCampaign], action: Action, thing: Thing) -> None:
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

    def _matching(self, campaigns: list[CompiledCampaign], action: Action, thing: Thing) -> list[CompiledCampaign]:
        """The campaigns whose condition holds; one that fails only for want of a certificate says so."""
        facts = None
        matched = []
        for campaign in campaigns:
            if campaign.when is None:
                matched.append(campaign)
                continue
            if facts is None:
                facts = activation(action, values_of(thing, _read_by(campaigns)))
            if campaign.when.holds(facts):
                matched.append(campaign)
            elif (standing := thing.standing) is not None and not standing.certified:
                as_if = values_of(thing, campaign.when.names) | {"line.certified": True, "line.schemes": standing.known_schemes}
                if campaign.when.holds(activation(action, as_if)):
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
        in_order = self._in_order.get(campaign.id, 0)
        left, code = self.usage.allowed(campaign, self.account, self.day, in_order)
        allowed = points if left is None else min(points, left)
        if allowed < points and code == "budget_exhausted":
            self.usage.cut_by_budget = True
        if allowed <= 0:
            words = "The cap on this campaign's points" if code == "cap_reached" else "This campaign's budget"
            self._refuse(thing, campaign, code, f"{words} is used up.")
            return 0
        self._in_order[campaign.id] = in_order + allowed
        self.usage.count(campaign.id, self.catalogue.tracked(campaign.id), self.account, self.day, allowed)
        due_at, last_day = self._terms_of(campaign)
        self.granted.append(
            Granted(
                campaign=campaign,
                points=allowed,
                day=self.day,
                due_at=due_at,
                expires_on=last_day,
                line=None if thing.line is None else thing.line.id,
                index=thing.index,
                reason=_reason(campaign, points, allowed, code),
                certificate=thing.standing.certificate if thing.standing else None,
            )
        )
        return allowed

    def _terms_of(self, campaign: CompiledCampaign) -> tuple[datetime, date | None]:
        """When the hold of points granted now ends, and on which day they can be spent for the last time."""
        terms = self._terms.get(id(campaign))
        if terms is None:
            due_at = self.now + timedelta(seconds=campaign.hold_s)
            last_day = None if campaign.expires is None else expires_on(due_at, campaign.expires, self.program.zone)
            terms = self._terms[id(campaign)] = (due_at, last_day)
        return terms

    def _refuse(self, thing: Thing, campaign: CompiledCampaign, code: str, detail: str) -> None:
        line: str | UnsetType = UNSET if thing.line is None else thing.line.id
        index: int | UnsetType = UNSET if thing.index is None else thing.index
        self.refused.append(Refusal(code=code, detail=detail, line=line, return_=index, campaign=campaign.code))


def _read_by(campaigns: list[CompiledCampaign]) -> frozenset[str]:
    """The names that their conditions read."""
    if len(campaigns) == 1:
        return campaigns[0].when.names if campaigns[0].when else frozenset()
    return frozenset().union(*(c.when.names for c in campaigns if c.when))


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

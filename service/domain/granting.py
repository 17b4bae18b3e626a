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
from schemas.events import Award, Event, Impact, OrderPaid, Refusal
from schemas.impact import ImpactRecord
from service.domain import earning
from service.domain.campaigns import CompiledCampaign
from service.domain.catalogue import Catalogue, Program
from service.domain.certificates import CertificateFacts
from service.domain.claims import RULES, Claim, Claims
from service.domain.conditions import Condition
from service.domain.impact import central_g, impact_of
from service.domain.points_policy import last_day
from service.domain.products import Products
from service.domain.things import Thing, line_thing, values_of
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
    """Of a purchase: the order line. Of packaging: the event that told what was really used (`OrderFacts.target`)."""
    index: int | None = None
    certificate: CertificateFacts | None = None
    impact: ImpactRecord | None = None
    """Of the thing: only the first award for it has it."""

    @property
    def co2e_g(self) -> int:
        """Grams of CO2e as sums count them."""
        return central_g(self.impact)

    @property
    def plastic_g(self) -> int:
        """Grams of plastic as sums count them."""
        return 0 if self.impact is None else self.impact.plastic_g

    def as_award(self) -> Award:
        """As the answer shows it."""
        line = self.line if self.campaign.body.action == "purchase" else None
        return Award(
            campaign=self.campaign.code, version=self.campaign.version, action=self.campaign.body.action, points=self.points,
            reason=self.reason, line=UNSET if line is None else line, return_=UNSET if self.index is None else self.index,
            certificate=UNSET if self.certificate is None else str(self.certificate.id),
            impact=_NO_IMPACT if self.impact is None else Impact(co2e_g=self.co2e_g, plastic_g=self.plastic_g, record=self.impact),
        )  # fmt: skip


_NO_IMPACT = Impact()


class Scope:
    """What all events of a batch are judged by. `now` is the transaction's; holds start from it."""

    def __init__(self, *, catalogue: Catalogue, products: Products, usage: Usage, claims: Claims, now: datetime) -> None:
        self.catalogue = catalogue
        self.products = products
        self.usage = usage
        self.claims = claims
        self.now = now
        self._terms: dict[int, tuple[datetime, date | None]] = {}

    def terms(self, campaign: CompiledCampaign, program: Program) -> tuple[datetime, date | None]:
        """When the hold of points granted now ends, and on which day they can be spent for the last time."""
        terms = self._terms.get(id(campaign))
        if terms is None:
            due_at = self.now + timedelta(seconds=campaign.hold_s)
            policy = program.points_policies.at(self.now)
            terms = self._terms[id(campaign)] = (due_at, last_day(policy, due_at, campaign.expires, program.zone))
        return terms


class Granter:
    """Grants for one event. `day` is the local day on which it occurred."""

    __slots__ = ("_in_order", "account", "claimed", "day", "event", "granted", "platform", "platform_code", "program", "refused", "scope")

    def __init__(self, scope: Scope, event: Event, *, platform: int, platform_code: str, account: int, program: Program, day: date) -> None:
        self.scope = scope
        self.event = event
        self.platform = platform
        self.platform_code = platform_code
        self.account = account
        self.program = program
        self.day = day
        self.granted: list[Granted] = []
        self.refused: list[Refusal] = []
        self.claimed: list[tuple[tuple[Claim, ...], int]] = []
        """What granted things earn by, each with its item (0 where there are none): to be taken by whoever posts the awards."""
        self._in_order: dict[int, int] = {}

    def purchase(self, event: OrderPaid) -> None:
        """Grant for every line of a paid order."""
        for line in event.lines if (campaigns := self._candidates("purchase")) else ():
            standing = self.scope.products.standing(self.program.id, self.platform, line, event.occurred_at, self.day)
            if standing.contradictory:
                self.refused.append(Refusal(code=standing.code, detail=standing.detail, line=line.id))
            else:
                self._grant(campaigns, line_thing(event, line, standing, self.platform_code))

    def grant(self, action: Action, thing: Thing) -> None:
        """Grant for how an order is packed, for a returned item or for an activity, unless what it earns by has earned before."""
        if campaigns := self._candidates(action):
            self._grant(campaigns, thing)

    def meets(self, action: Action) -> bool:
        """Whether any campaign of the action is a candidate."""
        return bool(self._candidates(action))

    def refuse(self, code: str, detail: str, *, index: int | None = None) -> None:
        """Say why something earns nothing, whatever the campaigns."""
        self.refused.append(Refusal(code=code, detail=detail, return_=UNSET if index is None else index))

    def _candidates(self, action: Action) -> list[CompiledCampaign]:
        candidates = self.scope.catalogue.candidates(self.program.id, action, self.platform_code, self.event.occurred_at)
        for campaign in candidates:
            if campaign.segment is not None:
                break
        else:
            return candidates
        whole = Thing(event=self.event, platform_code=self.platform_code, quantity=Decimal(1))
        return [c for c in candidates if c.segment is None or c.segment.holds(values_of(whole, c.segment.names))]

    def _grant(self, campaigns: list[CompiledCampaign], thing: Thing) -> None:
        """Match, weigh, stack, multiply and cut for one thing."""
        worth: list[tuple[CompiledCampaign, int]] = []
        multipliers: list[tuple[CompiledCampaign, Multiplier]] = []
        for campaign in campaigns:
            if campaign.when is None or self._matches(campaign, campaign.when, thing):
                rule = campaign.body.award
                if type(rule) is Multiplier:
                    multipliers.append((campaign, rule))
                elif (points := self._worth(campaign, thing)) > 0:
                    worth.append((campaign, points))
        if thing.claims and (worth or multipliers) and (claim := self.scope.claims.taken(self.program.id, thing.claims)) is not None:
            self.refuse("already_awarded", RULES[claim.kind], index=thing.index)
            return
        granted: dict[str, int] = {}
        for campaign, points in _stack(worth) if len(worth) > 1 else worth:
            granted[campaign.code] = self._cut(campaign, points, thing)
        for campaign, rule in multipliers:
            base = sum(granted.get(code, 0) for code in rule.of)
            if points := earning.multiplied(rule.factor, base):
                self._cut(campaign, points, thing)
        if thing.claims and any(granted.values()):
            self.claimed.append((thing.claims, thing.index or 0))

    def _matches(self, campaign: CompiledCampaign, when: Condition, thing: Thing) -> bool:
        """Whether a campaign's condition holds; if it fails only for want of a certificate, say so."""
        values = values_of(thing, when.names)
        if when.holds(values):
            return True
        if (standing := thing.standing) is not None and not standing.certified:
            as_if = {"line.certified": True, "line.schemes": standing.known_schemes}
            if when.holds([as_if.get(name, value) for name, value in zip(when.names, values, strict=True)]):
                self._refuse(thing, campaign, standing.code, standing.detail)
        return False

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
        usage = self.scope.usage
        windows = usage.windows(self.account, campaign.id, self.day)
        left, code = usage.allowed(campaign, windows, in_order)
        allowed = points if left is None or left > points else left
        if allowed < points and code == "budget_exhausted":
            usage.cut_by_budget = True
        if allowed <= 0:
            words = "The cap on this campaign's points" if code == "cap_reached" else "This campaign's budget"
            self._refuse(thing, campaign, code, f"{words} is used up.")
            return 0
        self._in_order[campaign.id] = in_order + allowed
        usage.count(windows, allowed)
        due_at, last_day = self.scope.terms(campaign, self.program)
        self.granted.append(
            Granted(
                campaign=campaign,
                points=allowed,
                day=self.day,
                due_at=due_at,
                expires_on=last_day,
                line=thing.shipment if thing.line is None else thing.line.id,
                index=thing.index,
                reason=_reason(campaign, points, allowed, code),
                certificate=thing.standing.certificate if thing.standing else None,
                impact=None if thing.counted else impact_of(thing, self.program),
            )
        )
        thing.counted = True
        return allowed

    def _refuse(self, thing: Thing, campaign: CompiledCampaign, code: str, detail: str) -> None:
        line: str | UnsetType = UNSET if thing.line is None else thing.line.id
        index: int | UnsetType = UNSET if thing.index is None else thing.index
        self.refused.append(Refusal(code=code, detail=detail, line=line, return_=index, campaign=campaign.code))


def _stack(worth: list[tuple[CompiledCampaign, int]]) -> list[tuple[CompiledCampaign, int]]:
    """Which of the matching campaigns grant, in the order in which caps and budgets are asked (priority, code)."""
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

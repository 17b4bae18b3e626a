"""What the system promises, said a second time and as simply as possible: a pure model that shares no code with the service.

Facts are plain dicts as a platform sends them, arithmetic is fractions, an account is three numbers. Nothing here knows
SQL, batches, lots or versions. `tests/flows/test_state_machine.py` holds the real thing against it.
"""

import copy
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime
from fractions import Fraction
from math import floor
from typing import Any, Literal
from zoneinfo import ZoneInfo

Fact = dict[str, Any]
Window = tuple[str, str, str | None, str | None]
"""campaign, kind of window (day, year, total, budget, budget_day), consumer (None: a budget), day or year."""


@dataclass(frozen=True)
class Campaign:
    """`rule`: ("each", points) per unit, ("money", points, per) per amount, ("more", factor − 1, campaign) on top of another."""

    code: str
    action: Literal["purchase", "packaging", "return", "activity"]
    rule: tuple[Any, ...]
    certified_only: bool = False
    on_hold: bool = False
    caps: dict[str, int] = field(default_factory=dict)
    budget: dict[str, int] = field(default_factory=dict)


@dataclass(eq=False)
class Award:
    campaign: str
    consumer: str
    line: str | None
    points: int
    kept: int
    day: date
    on_hold: bool
    settled: bool = False
    packaging: bool = False
    sent: bool = False
    """For how the order was really packed, not for what was chosen at checkout."""


@dataclass
class Order:
    paid: Fact | None = None
    consumer: str = ""
    refunds: dict[str, Fact] = field(default_factory=dict)
    cancelled: bool = False
    sent: bool = False
    """It was told how it was really packed."""
    awards: list[Award] = field(default_factory=list)
    waiting: list[Fact] = field(default_factory=list)


@dataclass
class Account:
    pending: int = 0
    available: int = 0
    debt: int = 0


@dataclass(frozen=True)
class Expected:
    """`status` None: the id was reused with other content."""

    status: str | None
    points: int = 0
    replayed: bool = False


class Model:
    """`certified`: the SKUs that a valid certificate covers."""

    def __init__(self, campaigns: list[Campaign], *, zone: str, certified: set[str]) -> None:
        self.campaigns = campaigns
        self.zone = ZoneInfo(zone)
        self.certified = certified
        self.accounts: dict[str, Account] = {}
        self.orders: dict[str, Order] = {}
        self.awards: list[Award] = []
        self.used: Counter[Window] = Counter()
        self.known: dict[str, tuple[Fact, Expected]] = {}

    # What a platform can do

    def send(self, platform: str, facts: list[Fact]) -> list[Expected]:
        """Facts of one transaction: an order counts before what depends on it, otherwise the order of arrival stays."""
        fresh = []
        for fact in facts:
            if f"{platform}:{fact['id']}" not in self.known:
                self.known[f"{platform}:{fact['id']}"] = (copy.deepcopy(fact), Expected("?"))
                fresh.append(fact)
        for fact in sorted(fresh, key=lambda f: f["type"] in ("order.refunded", "order.cancelled", "order.fulfilled")):
            self.known[f"{platform}:{fact['id']}"] = (copy.deepcopy(fact), self._credit(platform, fact))
        return [self._answer(platform, fact, first=any(fact is f for f in fresh)) for fact in facts]

    def _answer(self, platform: str, fact: Fact, *, first: bool) -> Expected:
        content, answer = self.known[f"{platform}:{fact['id']}"]
        if content != fact:
            return Expected(None)
        return Expected(answer.status, answer.points, replayed=not first)

    def settle(self, *, everything: bool = False) -> None:
        """What is not on a long hold (or everything) becomes available; debt is repaid first."""
        for award in self.awards:
            if not award.settled and (everything or not award.on_hold):
                award.settled = True
                account = self.accounts[award.consumer]
                repaid = min(account.debt, award.kept)
                account.pending -= award.kept
                account.debt -= repaid
                account.available += award.kept - repaid

    # One fact

    def _credit(self, platform: str, fact: Fact) -> Expected:
        kind = fact["type"]
        if "order" not in fact:
            consumer = f"{platform}:{fact['consumer']}"
            self.accounts.setdefault(consumer, Account())
            return self._granted(self._grant(fact, consumer, self._things(fact)))
        order = self.orders.setdefault(f"{platform}:{fact['order']['id']}", Order())
        if kind == "order.paid":
            consumer = f"{platform}:{fact['consumer']}"
            self.accounts.setdefault(consumer, Account())
            return self._paid(order, fact, consumer)
        if order.paid is None:
            order.waiting.append(fact)
            return Expected("parked")
        return self._about(order, fact)

    def _paid(self, order: Order, fact: Fact, consumer: str) -> Expected:
        if order.paid is not None:
            return Expected("ignored")
        order.paid, order.consumer = fact, consumer
        order.awards = self._grant(fact, consumer, self._things(fact))
        answer = self._granted(order.awards)
        for waiting in order.waiting:
            self._about(order, waiting)
        return answer

    def _about(self, order: Order, fact: Fact) -> Expected:
        if fact["type"] == "order.fulfilled":
            order.sent = True
            taken = self._take_back(order)
            granted: list[Award] = []
            if not order.cancelled and not any(
                a.sent and a.kept for a in order.awards
            ):  # without a waybill an order's packaging earns once
                granted = self._grant(fact, order.consumer, self._things(fact))
                order.awards += granted
                taken += self._take_back(order)
            status = "pending" if granted else "settled" if taken else "ignored"
            return Expected(status, sum(a.points for a in granted) - taken)
        if fact["type"] == "order.refunded":
            if fact["refund"]["id"] in order.refunds:
                return Expected("ignored")
            order.refunds[fact["refund"]["id"]] = fact["refund"]
        elif order.cancelled:
            return Expected("ignored")
        else:
            order.cancelled = True
        taken = self._take_back(order)
        return Expected("settled", -taken) if taken else Expected("ignored")

    # What is granted

    def _things(self, fact: Fact) -> list[tuple[str, str | None, int, Fraction | None, bool]]:
        """(action, line, whole units, money, certified)"""
        things: list[tuple[str, str | None, int, Fraction | None, bool]] = []
        if fact["type"] == "order.paid":
            for line in fact["lines"]:
                units = Fraction(line["quantity"])
                things.append(("purchase", line["id"], floor(units), _cost(line), line.get("sku") in self.certified))
        if fact["type"] in ("order.paid", "order.fulfilled") and "packaging" in fact:
            things.append(("packaging", None, fact["packaging"]["parcels"], None, False))
        if fact["type"] == "packaging.returned":
            things += [("return", None, floor(Fraction(item["quantity"])), None, False) for item in fact["returns"]]
        if fact["type"] == "activity.completed":
            things.append(("activity", None, 1, None, False))
        return things

    def _grant(self, fact: Fact, consumer: str, things: list[tuple[str, str | None, int, Fraction | None, bool]]) -> list[Award]:
        day = datetime.fromisoformat(fact["occurred_at"]).astimezone(self.zone).date()
        granted: list[Award] = []
        for action, line, units, money, certified in things:
            here: dict[str, int] = {}
            for campaign in self.campaigns:
                if campaign.action != action or (campaign.certified_only and not certified):
                    continue
                match campaign.rule:
                    case ("each", each):
                        points = each * units
                    case ("money", each, per):
                        points = floor(each * (money or 0) / Fraction(per))
                    case ("more", factor, other):
                        points = floor(Fraction(factor) * here.get(other, 0))
                in_order = sum(a.points for a in granted if a.campaign == campaign.code)
                for limit, used in self._limits(campaign, consumer, day, in_order):
                    points = min(points, limit - used)
                if points > 0:
                    here[campaign.code] = points
                    award = Award(
                        campaign.code, consumer, line, points, points, day, campaign.on_hold, packaging=action == "packaging",
                        sent=fact["type"] == "order.fulfilled",
                    )  # fmt: skip
                    granted.append(award)
                    self._count(award, points)
        self.awards += granted
        self.accounts[consumer].pending += sum(a.points for a in granted)
        return granted

    def _limits(self, campaign: Campaign, consumer: str, day: date, in_order: int) -> list[tuple[int, int]]:
        limits = [(campaign.caps["order"], in_order)] if "order" in campaign.caps else []
        for window in _windows(campaign, consumer, day):
            limit = campaign.budget.get(window[1]) if window[2] is None else campaign.caps.get(window[1])
            if limit is not None:
                limits.append((limit, self.used[window]))
        return limits

    def _count(self, award: Award, points: int) -> None:
        campaign = next(c for c in self.campaigns if c.code == award.campaign)
        for window in _windows(campaign, award.consumer, award.day):
            self.used[window] += points

    @staticmethod
    def _granted(awards: list[Award]) -> Expected:
        return Expected("pending", sum(a.points for a in awards)) if awards else Expected("ignored")

    # What is taken back

    def _take_back(self, order: Order) -> int:
        """Bring every award of the order down to what the facts leave of it; what is missing after spending becomes debt."""
        account, total = self.accounts[order.consumer], 0
        for award in order.awards:
            superseded = award.packaging and order.sent and not award.sent
            back = award.kept - (0 if superseded else floor(award.points * self._share(order, award.line)))
            if back <= 0:
                continue
            award.kept -= back
            total += back
            self._count(award, -back)
            if award.settled:
                there = min(account.available, back)
                account.available -= there
                account.debt += back - there
            else:
                account.pending -= back
        return total

    def _share(self, order: Order, line: str | None) -> Fraction:
        """What refunds leave: of a line by quantity, of the rest by amount over what is left of the total."""
        assert order.paid is not None
        if order.cancelled:
            return Fraction(0)
        lines = {each["id"]: each for each in order.paid["lines"]}
        by_lines = {id_: self._line_share(order, each) for id_, each in lines.items()}
        left = Fraction(order.paid["order"]["total"]) - sum((1 - by_lines[i]) * (_cost(each) or 0) for i, each in lines.items())
        refunded = sum((Fraction(r["amount"]) for r in order.refunds.values() if not r.get("lines")), Fraction(0))
        by_amount = Fraction(1) if not refunded else max(Fraction(0), left - refunded) / left if left > 0 else Fraction(0)
        if line is not None:
            return by_amount * by_lines[line]
        any_lines = any(r.get("lines") for r in order.refunds.values())
        return Fraction(0) if any_lines and not any(by_lines.values()) else by_amount

    @staticmethod
    def _line_share(order: Order, line: Fact) -> Fraction:
        back = sum(
            (Fraction(item["quantity"]) for r in order.refunds.values() for item in r.get("lines", ()) if item["id"] == line["id"]),
            Fraction(0),
        )
        bought = Fraction(line["quantity"])
        return max(Fraction(0), bought - back) / bought


def _cost(line: Fact) -> Fraction | None:
    if "amount" in line:
        return Fraction(line["amount"])
    return Fraction(line["quantity"]) * Fraction(line["unit_price"]) if "unit_price" in line else None


def _windows(campaign: Campaign, consumer: str, day: date) -> list[Window]:
    """The windows in which a campaign's points are counted, as far as it limits them."""
    spans = {"day": str(day), "year": str(day.year), "total": None}
    windows: list[Window] = [(campaign.code, span, consumer, spans[span]) for span in campaign.caps if span != "order"]
    return windows + [(campaign.code, kind, None, str(day) if kind == "budget_day" else None) for kind in campaign.budget]

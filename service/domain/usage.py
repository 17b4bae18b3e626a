"""Caps and budgets inside one batch: what is used, what is left, what this batch changes."""

from datetime import date
from enum import IntEnum

from service.domain.campaigns import CompiledCampaign
from service.domain.catalogue import Tracked

WHOLE_LIFE = date.min
"""The window of totals and of a campaign's whole budget; `-infinity` in the database."""


class Span(IntEnum):
    """Length of a cap's window."""

    DAY = 1
    YEAR = 2
    TOTAL = 3


CapKey = tuple[int, int, int, date]
"""account, campaign, span, first day of the window."""
BudgetKey = tuple[int, date]
"""campaign, day (WHOLE_LIFE: all of it)."""


def cap_keys(account: int, campaign: int, tracked: Tracked, day: date) -> list[CapKey]:
    """The windows that points awarded on a local day count in."""
    keys: list[CapKey] = []
    if tracked.day:
        keys.append((account, campaign, Span.DAY, day))
    if tracked.year:
        keys.append((account, campaign, Span.YEAR, day.replace(month=1, day=1)))
    if tracked.total:
        keys.append((account, campaign, Span.TOTAL, WHOLE_LIFE))
    return keys


def budget_keys(campaign: int, tracked: Tracked, day: date) -> list[BudgetKey]:
    """The budget rows that points awarded on a local day count in."""
    keys: list[BudgetKey] = []
    if tracked.budget_total:
        keys.append((campaign, WHOLE_LIFE))
    if tracked.budget_day:
        keys.append((campaign, day))
    return keys


class Usage:
    """Used points per window as read under locks, with what this batch has added or given back."""

    __slots__ = ("budget_changes", "budgets", "cap_changes", "caps")

    def __init__(self, caps: dict[CapKey, int], budgets: dict[BudgetKey, int]) -> None:
        self.caps = caps
        self.budgets = budgets
        self.cap_changes: dict[CapKey, int] = {}
        self.budget_changes: dict[BudgetKey, int] = {}

    def allowed(self, campaign: CompiledCampaign, account: int, day: date, in_order: int) -> tuple[int | None, str]:
        """How many more points the campaign may grant now (None: no bound) and the code of the tightest bound.

        `in_order` is what it has granted in this order already.
        """
        left, code = None, ""
        if (caps := campaign.body.caps) is not None:
            limits = (
                (caps.order, in_order),
                (caps.consumer_day, self.caps.get((account, campaign.id, Span.DAY, day), 0)),
                (caps.consumer_year, self.caps.get((account, campaign.id, Span.YEAR, day.replace(month=1, day=1)), 0)),
                (caps.consumer_total, self.caps.get((account, campaign.id, Span.TOTAL, WHOLE_LIFE), 0)),
            )
            for limit, used in limits:
                if limit is not None and (left is None or limit - used < left):
                    left, code = limit - used, "cap_reached"
        if (budget := campaign.body.budget) is not None:
            bounds = (
                (budget.points, self.budgets.get((campaign.id, WHOLE_LIFE), 0)),
                (budget.per_day, self.budgets.get((campaign.id, day), 0)),
            )
            for limit, used in bounds:
                if limit is not None and (left is None or limit - used < left):
                    left, code = limit - used, "budget_exhausted"
        return (None if left is None else max(left, 0)), code

    def count(self, campaign: int, tracked: Tracked, account: int, day: date, points: int) -> None:
        """Count points (negative: give back) in every tracked window of their local day."""
        for key in cap_keys(account, campaign, tracked, day):
            self.caps[key] = self.caps.get(key, 0) + points
            self.cap_changes[key] = self.cap_changes.get(key, 0) + points
        for budget in budget_keys(campaign, tracked, day):
            self.budgets[budget] = self.budgets.get(budget, 0) + points
            self.budget_changes[budget] = self.budget_changes.get(budget, 0) + points

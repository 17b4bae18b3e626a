"""Caps and budgets inside one batch: what is used, what is left, what this batch changes."""

from collections.abc import Mapping
from datetime import date
from enum import IntEnum
from functools import lru_cache

from service.domain.campaigns import CompiledCampaign
from service.domain.catalogue import Tracked

WHOLE_LIFE = date.min
"""The window of totals and of a campaign's whole budget; `-infinity` in the database."""


class Span(IntEnum):
    """Length of a cap's window."""

    DAY = 1
    YEAR = 2
    TOTAL = 3


NEARLY = 0.9
"""From this share of a budget on, its row is locked before a batch is decided, no longer when it is written."""

CapKey = tuple[int, int, int, date]
"""account, campaign, span, first day of the window."""
BudgetKey = tuple[int, date]
"""campaign, day (WHOLE_LIFE: all of it)."""


@lru_cache(maxsize=1_024)
def first_of_year(day: date) -> date:
    """January 1st of its year."""
    return day.replace(month=1, day=1)


def cap_keys(account: int, campaign: int, tracked: Tracked, day: date) -> list[CapKey]:
    """The windows that points awarded on a local day count in."""
    keys: list[CapKey] = []
    if tracked.day:
        keys.append((account, campaign, Span.DAY, day))
    if tracked.year:
        keys.append((account, campaign, Span.YEAR, first_of_year(day)))
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

    __slots__ = ("budget_changes", "budget_limits", "budgets", "cap_changes", "caps", "cut_by_budget")

    def __init__(self, caps: dict[CapKey, int], budgets: dict[BudgetKey, int]) -> None:
        self.caps = caps
        self.budgets = budgets
        self.cap_changes: dict[CapKey, int] = {}
        self.budget_changes: dict[BudgetKey, int] = {}
        self.budget_limits: dict[BudgetKey, int] = {}
        """The lowest limit that a grant of this batch was judged by; the write is guarded with it."""
        self.cut_by_budget = False
        """A budget has cut an award: only right if the budget's row was locked when it was read."""

    def allowed(self, campaign: CompiledCampaign, account: int, day: date, in_order: int) -> tuple[int | None, str]:
        """How many more points the campaign may grant now (None: no bound) and the code of the tightest bound.

        `in_order` is what it has granted in this order already.
        """
        left, code = None, ""
        if (caps := campaign.body.caps) is not None:
            windows = (
                (caps.consumer_day, Span.DAY, day),
                (caps.consumer_year, Span.YEAR, first_of_year(day)),
                (caps.consumer_total, Span.TOTAL, WHOLE_LIFE),
            )
            if caps.order is not None:
                left, code = caps.order - in_order, "cap_reached"
            for limit, span, start in windows:
                if limit is not None:
                    room = limit - self.caps.get((account, campaign.id, span, start), 0)
                    if left is None or room < left:
                        left, code = room, "cap_reached"
        if (budget := campaign.body.budget) is not None:
            for limit, start in ((budget.points, WHOLE_LIFE), (budget.per_day, day)):
                if limit is not None:
                    key = (campaign.id, start)
                    self.budget_limits[key] = min(limit, self.budget_limits.get(key, limit))
                    room = limit - self.budgets.get((campaign.id, start), 0)
                    if left is None or room < left:
                        left, code = room, "budget_exhausted"
        return (None if left is None else max(left, 0)), code

    def short(self, limits: Mapping[BudgetKey, int]) -> bool:
        """Whether a budget is so near its limit that it had better be locked while a batch is decided."""
        return any(self.budgets.get(key, 0) >= limit * NEARLY for key, limit in limits.items())

    def count(self, campaign: int, tracked: Tracked, account: int, day: date, points: int) -> None:
        """Count points (negative: give back) in every tracked window of their local day."""
        for key in cap_keys(account, campaign, tracked, day):
            self.caps[key] = self.caps.get(key, 0) + points
            self.cap_changes[key] = self.cap_changes.get(key, 0) + points
        for budget in budget_keys(campaign, tracked, day):
            self.budgets[budget] = self.budgets.get(budget, 0) + points
            self.budget_changes[budget] = self.budget_changes.get(budget, 0) + points

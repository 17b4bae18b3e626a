"""Caps and budgets inside one batch: what is used, what is left, what this batch changes."""

from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from service.domain.campaigns import CompiledCampaign
from service.domain.catalogue import Catalogue

WHOLE_LIFE = date.min
"""The window of totals and of a campaign's whole budget; `-infinity` in the database."""

DAY, YEAR, TOTAL = 1, 2, 3
"""Length of a cap's window: column `span` of table `cap_usage`."""

NEARLY: Final = 0.9
"""From this share of a budget on, its row is locked before a batch is decided, no longer when it is written."""

CapKey = tuple[int, int, int, date]
"""account, campaign, span, first day of the window."""
CapValue = tuple[int, int, int, date, int]
"""The same, and the points used."""
BudgetKey = tuple[int, date]
"""campaign, day (WHOLE_LIFE: all of it)."""


NOWHERE: Final[Mapping[int, int]] = MappingProxyType({})


class Counter(Struct, gc=False):
    """Used points of one window."""

    used: int = 0
    change: int = 0
    """What this batch adds or gives back."""
    stored: bool = False
    """Of a cap: it was counted before this batch."""
    limit: int | None = None
    """The lowest limit that a grant of this batch was judged by; writing a budget is guarded with it."""


class Windows(Struct, gc=False):
    """Every window that points of one consumer, campaign and local day count in."""

    caps: list[tuple[int, Counter]]
    """By span."""
    budgets: list[tuple[bool, Counter]]
    """Whether it is the budget of a day, and its counter."""


class Usage:
    """The windows that a batch may touch: asked for first, then read and sealed, then counted in."""

    def __init__(self, catalogue: Catalogue, homes: Mapping[int, int] = NOWHERE) -> None:
        """`homes`: of linked accounts, the one that has their points: caps are of a person."""
        self.caps: dict[CapKey, Counter] = {}
        self.budgets: dict[BudgetKey, Counter] = {}
        self.cut_by_budget = False
        """A budget has cut an award: only right if the budget's row was locked when it was read."""
        self._catalogue = catalogue
        self._homes = homes
        self._windows: dict[tuple[int, int, date], Windows] = {}
        self._sealed = False

    def windows(self, account: int, campaign: int, day: date) -> Windows:
        """The windows of points awarded on a local day. Raises RuntimeError for windows that were not asked for before `seal`."""
        found = self._windows.get((account, campaign, day))
        if found is None:
            if self._sealed:
                raise RuntimeError(f"the caps of campaign {campaign} on {day} were not read: they would count as unused")
            found = self._windows[account, campaign, day] = self._made(account, campaign, day)
        return found

    def _made(self, account: int, campaign: int, day: date) -> Windows:
        account = self._homes.get(account, account)
        tracked = self._catalogue.tracked(campaign)
        caps, budgets = [], []
        if tracked.day:
            caps.append((DAY, self.caps.setdefault((account, campaign, DAY, day), Counter())))
        if tracked.year:
            caps.append((YEAR, self.caps.setdefault((account, campaign, YEAR, _first_of_year(day)), Counter())))
        if tracked.total:
            caps.append((TOTAL, self.caps.setdefault((account, campaign, TOTAL, WHOLE_LIFE), Counter())))
        if tracked.budget_total:
            budgets.append((False, self.budgets.setdefault((campaign, WHOLE_LIFE), Counter())))
        if tracked.budget_day:
            budgets.append((True, self.budgets.setdefault((campaign, day), Counter())))
        return Windows(caps, budgets)

    def seal(self, caps: Sequence[int | None], budgets: Mapping[BudgetKey, int]) -> None:
        """Take what was read, caps in the order of `caps` (None: never counted); from now on other windows are an error."""
        for counter, used in zip(self.caps.values(), caps, strict=True):
            if used is not None:
                counter.used = used
                counter.stored = True
        for budget, used in budgets.items():
            self.budgets[budget].used = used
        self._sealed = True

    def allowed(self, campaign: CompiledCampaign, windows: Windows, in_order: int) -> tuple[int | None, str]:
        """How many more points the campaign may grant now (None: no bound) and the code of the tightest bound.

        `in_order` is what it has granted in this order already.
        """
        left, code = None, ""
        if (caps := campaign.caps) is not None:
            if caps[0] is not None:
                left, code = caps[0] - in_order, "cap_reached"
            for span, counter in windows.caps:
                if (limit := caps[span]) is not None and (left is None or limit - counter.used < left):
                    left, code = limit - counter.used, "cap_reached"
        if (budget := campaign.body.budget) is not None:
            for daily, counter in windows.budgets:
                if (limit := budget.per_day if daily else budget.points) is not None:
                    if counter.limit is None or limit < counter.limit:
                        counter.limit = limit
                    if left is None or limit - counter.used < left:
                        left, code = limit - counter.used, "budget_exhausted"
        return (None if left is None else max(left, 0)), code

    def short(self, used: Mapping[BudgetKey, int]) -> bool:
        """Whether a budget is so near its limit that it had better be locked while a batch is decided."""
        return any(used.get(key, 0) >= limit * NEARLY for key, limit in self._catalogue.budget_limits(self.budgets).items())

    @staticmethod
    def count(windows: Windows, points: int) -> None:
        """Count points (negative: give back) in every window."""
        for _, counter in windows.caps:
            counter.used += points
            counter.change += points
        for _, counter in windows.budgets:
            counter.used += points
            counter.change += points

    def changed_caps(self, *, stored: bool) -> Sequence[CapValue]:
        """Used points of the windows that this batch changes, of those that were counted before or of the others."""
        return [(*key, counter.used) for key, counter in self.caps.items() if counter.change and counter.stored is stored]

    def changed_budgets(self) -> Sequence[tuple[BudgetKey, int, int | None]]:
        """What this batch adds to budgets, and the limit that must hold (None: points are given back)."""
        return [(key, c.change, c.limit if c.change > 0 else None) for key, c in self.budgets.items() if c.change]


@lru_cache(maxsize=1_024)
def _first_of_year(day: date) -> date:
    """January 1st of its year."""
    return day.replace(month=1, day=1)

"""What is running: programs and campaigns as compiled at one catalogue version, and which of them an event meets."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from service.domain.activities import ActivityKind
from service.domain.campaigns import CompiledCampaign
from service.domain.factors import OwnFactors
from service.domain.packaging import PackagingClass
from service.domain.points_policy import PointsPolicies


class Program(Struct, frozen=True, kw_only=True):
    """A points scheme; its time zone rules the days and years of caps, certificates and expiry.

    `return_earner`: whose points a reusable asset earns, `returner` (whoever brings it) or `recipient` (to whom it was shipped).
    `return_window_days`: how long single-use packaging can be given back after it was shipped; None: returns are not compared.
    """

    id: int
    code: str
    zone: ZoneInfo
    return_earner: Literal["returner", "recipient"] = "returner"
    return_window_days: int | None = 90
    impact_factors: OwnFactors = OwnFactors()
    """Its own impact factors, and its corrections of reference factors."""
    activity_kinds: Mapping[str, ActivityKind] = {}
    """The program's own, by code; retired ones too."""
    packaging_classes: Mapping[str, PackagingClass] = {}
    """The program's own, by code; retired ones too."""
    points_policies: PointsPolicies = PointsPolicies()


class Tracked(Struct, frozen=True, kw_only=True, gc=False):
    """What is counted for a campaign: every window that any of its versions caps or budgets."""

    day: bool
    year: bool
    total: bool
    budget_total: bool
    budget_day: bool

    @property
    def budget(self) -> bool:
        """Whether a batch must lock budget rows of this campaign."""
        return self.budget_total or self.budget_day


class Catalogue:
    """Immutable once built; a process that is behind `deployment.catalogue_version` builds a new one."""

    def __init__(self, version: int, programs: Iterable[Program], campaigns: Iterable[tuple[int, CompiledCampaign]]) -> None:
        """`campaigns`: (program id, version) of every version of every campaign, ended ones too: refunds still meet them."""
        self.version = version
        self.programs = {p.id: p for p in programs}
        self._versions: dict[int, list[CompiledCampaign]] = defaultdict(list)
        self._running: dict[tuple[int, str], list[list[CompiledCampaign]]] = defaultdict(list)
        by_program: dict[int, int] = {}
        for program, campaign in campaigns:
            self._versions[campaign.id].append(campaign)
            by_program[campaign.id] = program
        for id_, versions in self._versions.items():
            versions.sort(key=lambda c: -c.version)
            if versions[0].status == "running":
                self._running[by_program[id_], versions[0].body.action].append(versions)
        self._tracked = {id_: _tracked(versions) for id_, versions in self._versions.items()}

    def candidates(self, program: int, action: str, platform: str, occurred_at: datetime) -> list[CompiledCampaign]:
        """Running campaigns that the event may meet, each in the version in force when it occurred; highest priority first."""
        found = []
        for versions in self._running.get((program, action), ()):
            for campaign in versions:
                if campaign.effective_from is None or campaign.effective_from <= occurred_at:
                    body = campaign.body
                    if body.starts_at <= occurred_at < body.ends_at and (campaign.platforms is None or platform in campaign.platforms):
                        found.append(campaign)
                    break
        if len(found) > 1:
            found.sort(key=lambda c: (-c.body.priority, c.code))
        return found

    def get(self, campaign: int, version: int) -> CompiledCampaign:
        """One version of a campaign, by number."""
        return next(c for c in self._versions[campaign] if c.version == version)

    def knows(self, campaign: int) -> bool:
        """Whether the campaign existed when this catalogue was read."""
        return campaign in self._versions

    def budget_limits(self, keys: Iterable[tuple[int, date]]) -> dict[tuple[int, date], int]:
        """The newest limit of each budget window that has one."""
        limits = {}
        for campaign, day in keys:
            if (budget := self._versions[campaign][0].body.budget) is not None:
                limit = budget.points if day == date.min else budget.per_day
                if limit is not None:
                    limits[campaign, day] = limit
        return limits

    def tracked(self, campaign: int) -> Tracked:
        """What is counted for a campaign."""
        return self._tracked[campaign]


def _tracked(versions: list[CompiledCampaign]) -> Tracked:
    caps = [v.body.caps for v in versions if v.body.caps]
    budgets = [v.body.budget for v in versions if v.body.budget]
    return Tracked(
        day=any(c.consumer_day is not None for c in caps),
        year=any(c.consumer_year is not None for c in caps),
        total=any(c.consumer_total is not None for c in caps),
        budget_total=any(b.points is not None for b in budgets),
        budget_day=any(b.per_day is not None for b in budgets),
    )

"""Campaigns as operators write them, and their statistics (CONTRACT §3.7)."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from schemas.base import PRINTABLE, Body, Code, Currency, DurationText, Instant, MoneyText, Points
from schemas.bounds import (
    MAX_AWARD_POINTS,
    MAX_CAMPAIGN_PLATFORMS,
    MAX_CONDITION_CHARS,
    MAX_DECIMAL_CHARS,
    MAX_FACTOR_CHARS,
    MAX_MULTIPLIED,
    MAX_NAME_CHARS,
    MAX_PRIORITY,
    MAX_TIERS,
)
from schemas.events import Award, Refusal

Action = Literal["purchase", "packaging", "return", "activity"]
Rounding = Literal["floor", "ceil", "half_up", "half_even"]
CampaignStatus = Literal["draft", "running", "paused", "ended"]
Granularity = Literal["hour", "day", "week"]

PositivePoints = Annotated[int, Meta(ge=1, le=MAX_AWARD_POINTS)]
FactorText = Annotated[str, Meta(max_length=MAX_FACTOR_CHARS, pattern=r"^[0-9]{1,4}(\.[0-9]{1,4})?$(?!\n)")]
Expression = Annotated[str, Meta(max_length=MAX_CONDITION_CHARS)]


class Fixed(Struct, frozen=True, kw_only=True, tag_field="kind", tag="fixed"):
    """The same points for each thing that matches (a line, an order's packaging, a returned item, an activity)."""

    points: PositivePoints


class PerUnit(Struct, frozen=True, kw_only=True, tag_field="kind", tag="per_unit"):
    """Points for each whole unit: line quantity, parcels, returned quantity; 1 for an activity."""

    points: PositivePoints


class PerAmount(Struct, frozen=True, kw_only=True, tag_field="kind", tag="per_amount"):
    """`points` for each `per` of money spent on the line, in exact arithmetic, rounded once per line."""

    points: PositivePoints
    per: MoneyText
    currency: Currency
    rounding: Rounding = "floor"


class PerKg(Struct, frozen=True, kw_only=True, tag_field="kind", tag="per_kg"):
    """`points` for each kilogram, in exact arithmetic, rounded once per item."""

    points: PositivePoints
    rounding: Rounding = "floor"


class Tier(Struct, frozen=True, kw_only=True):
    """From this amount (major units), quantity or mass (grams) on: these points."""

    from_: Annotated[str, Meta(max_length=MAX_DECIMAL_CHARS, pattern=r"^[0-9]{1,12}(\.[0-9]{1,6})?$(?!\n)")] = field(name="from")
    points: Points


class Tiered(Struct, frozen=True, kw_only=True, tag_field="kind", tag="tiered"):
    """The points of the highest tier that is reached."""

    by: Literal["amount", "quantity", "mass"]
    tiers: Annotated[list[Tier], Meta(min_length=1, max_length=MAX_TIERS)]
    currency: Currency | None = None


class Multiplier(Struct, frozen=True, kw_only=True, tag_field="kind", tag="multiplier"):
    """(factor − 1) × what the campaigns `of` granted for the same thing, as an award of its own, rounded down."""

    factor: FactorText
    of: Annotated[list[Code], Meta(min_length=1, max_length=MAX_MULTIPLIED)]


AwardRule = Fixed | PerUnit | PerAmount | PerKg | Tiered | Multiplier


class Caps(Struct, frozen=True, kw_only=True):
    """The most points per order, and per consumer and day, year, whole life; null: no cap."""

    order: Points | None = None
    consumer_day: Points | None = None
    consumer_year: Points | None = None
    consumer_total: Points | None = None


class Budget(Struct, frozen=True, kw_only=True):
    """The most points that a campaign grants in all and per day; null: no bound."""

    points: Points | None = None
    per_day: Points | None = None


Stacking = Annotated[str, Meta(pattern=r"^(add|best|exclusive:[a-z0-9][a-z0-9._-]{0,63})$(?!\n)")]


class CampaignBody(Body, frozen=True, kw_only=True):
    """What an operator sends; kept as it is in each version."""

    code: Code
    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS, pattern=PRINTABLE)]
    action: Action
    starts_at: Instant
    ends_at: Instant
    award: AwardRule
    platforms: Annotated[list[Code], Meta(max_length=MAX_CAMPAIGN_PLATFORMS)] | None = None
    segment: Expression | None = None
    when: Expression | None = None
    caps: Caps | None = None
    budget: Budget | None = None
    stacking: Stacking = "add"
    priority: Annotated[int, Meta(ge=0, le=MAX_PRIORITY)] = 100
    hold: DurationText = "P14D"
    expires_after: DurationText | None = None


class CampaignAnswer(Body, frozen=True, kw_only=True):
    """A campaign as stored: its current body, status and version. `revision` rises with every change, of the status too."""

    code: str
    status: CampaignStatus
    version: int
    revision: int
    created_at: datetime
    name: str
    action: Action
    starts_at: datetime
    ends_at: datetime
    award: Any
    platforms: list[str] | None
    segment: str | None
    when: str | None
    caps: Caps | None
    budget: Budget | None
    stacking: str
    priority: int
    hold: str
    expires_after: str | None


class CampaignVersion(Body, frozen=True, kw_only=True):
    """One version: it counts for events that occurred from `effective_from` on (null: all) until the next one does."""

    version: int
    effective_from: datetime | None
    created_at: datetime
    created_by: str
    body: CampaignBody


class SimulationResult(Body, frozen=True, kw_only=True):
    """What the campaign would award for one event."""

    id: str
    points: int
    awards: list[Award]
    refused: list[Refusal]


class Simulation(Body, frozen=True, kw_only=True):
    """What a campaign in its newest version would award, each event by itself and with nothing used of caps and budgets."""

    campaign: str
    version: int
    platform: str
    points: int
    results: list[SimulationResult]


class Totals(Body, frozen=True, kw_only=True):
    """Sums of a campaign; `consumers` are distinct accounts with an award above 0, `points_issued` is before reversals."""

    events: int = 0
    consumers: int = 0
    points_issued: int = 0
    points_pending: int = 0
    points_settled: int = 0
    points_reversed: int = 0
    points_redeemed: int = 0
    points_expired: int = 0
    budget_used: int = 0
    held: int = 0
    rejected: int = 0
    co2e_g: int = 0
    plastic_g: int = 0


class Statistics(Body, frozen=True, kw_only=True):
    """Totals, a series (`at` = start of each hour, day or week in the program's time zone) and sums by platform."""

    code: str
    granularity: Granularity
    time_zone: str
    totals: Totals
    series: list[dict[str, Any]]
    by_platform: list[dict[str, Any]]

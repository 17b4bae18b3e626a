"""What makes one world differ from another: every seed draws its own."""

from datetime import date, datetime, time, timedelta
from random import Random

from msgspec import Struct

EVENTS_PER_SESSION = 2.15
"""Measured over many seeds: an order brings its fulfilment, perhaps a return and a refund. Only the number of consumers follows from it."""


class Parameters(Struct, frozen=True, kw_only=True):
    """One world. Shares are of consumers unless they say otherwise; each range is this project's assumption, wide on purpose."""

    seed: int
    days: int
    consumers: int
    """At the start."""
    start: datetime
    platforms: int
    sessions_a_day: float
    """Of the mean consumer; the median is far below, because the tail is long."""
    tail: float
    """Sigma of the log-normal rates."""
    growth_a_day: float
    """New consumers a day as a share of those at the start."""
    campaign_day: int
    campaign_factor: float
    weekend: float
    season: float
    """Amplitude of a slow wave of demand."""
    family: float
    dormitory: float
    office: float
    parcel_shop: float
    vpn: float
    traveller: float
    mobile: float
    """Share of sessions through a carrier's NAT."""
    serial_refunder: float
    refund: float
    """Share of orders refunded, in part or whole."""
    cancel: float
    volunteer: float
    bulk: float
    two_platforms: float
    returner: float
    """How likely the mean consumer brings packaging back."""
    reuse: float
    """Share of orders in reusable boxes at the mean platform."""
    green: float
    """Share of certified products in baskets."""
    price_level: float
    activity: float
    """Share of sessions that are activities instead of orders."""
    retry: float
    """Share of events that are sent twice."""
    offline: float
    """Share of stations that upload late."""


def draw(*, seed: int, events: int, days: int, start: date | None = None) -> Parameters:
    """The parameters of this seed, with as many consumers as bring about `events` within `days`. Without `start` the seed draws one."""
    rng = Random(f"parameters:{seed}")
    u = rng.uniform
    sessions, growth, factor = u(0.15, 0.4), u(0.002, 0.012), u(8, 12)
    # A campaign day needs days around it to stand out from.
    campaign_day = rng.randrange(days // 3, max(days // 3 + 1, days - 2)) if days >= 5 else -1
    weighted_days = days * (1 + growth * days / 2) + (factor - 1 if campaign_day >= 0 else 0)
    drawn = date(2025, 1, 6) + timedelta(days=rng.randrange(300))
    return Parameters(
        seed=seed, days=days, consumers=max(60, round(events / (sessions * EVENTS_PER_SESSION * weighted_days))),
        start=datetime.combine(drawn if start is None else start, time()),
        platforms=rng.randint(3, 6), sessions_a_day=sessions, tail=u(0.9, 1.3), growth_a_day=growth,
        campaign_day=campaign_day, campaign_factor=factor, weekend=u(1.1, 1.6), season=u(0.0, 0.25),
        family=u(0.25, 0.45), dormitory=u(0.03, 0.1), office=u(0.08, 0.2), parcel_shop=u(0.03, 0.1), vpn=u(0.01, 0.04),
        traveller=u(0.02, 0.06), mobile=u(0.2, 0.5), serial_refunder=u(0.01, 0.03), refund=u(0.05, 0.10), cancel=u(0.01, 0.03),
        volunteer=u(0.002, 0.006), bulk=u(0.005, 0.02), two_platforms=u(0.08, 0.2), returner=u(0.1, 0.35), reuse=u(0.05, 0.25),
        green=u(0.15, 0.4), price_level=u(0.7, 1.4), activity=u(0.12, 0.3), retry=u(0.003, 0.012), offline=u(0.05, 0.2),
    )  # fmt: skip

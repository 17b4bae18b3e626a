"""Signals: each one look at an event's features, with a sentence that says what was seen."""

from collections.abc import Callable
from typing import Final, Literal

from msgspec import Struct

from service.domain.fraud.features import Features
from service.domain.fraud.windows import HOUR

HISTORY_NATS: Final = 3.0
"""Nats an event (on average, over the other events) at which history is as strong as it gets: odds of 20 to 1, each time."""
Group = Literal["effort", "linkage", "economics", "evidence", "place-and-time", "history"]
Look = Callable[[Features], float]


class Signal(Struct, frozen=True, kw_only=True):
    """`look` says how strong it is: 0, ¼, ½, ¾ or 1. Weights are log-odds at strength 1 before any tuning."""

    name: str
    group: Group
    weight: float
    look: Look
    says: str
    """For a reviewer; a format of Features `f`."""
    softly: str
    """For the person whom it is about: nothing that teaches how to get around it, nothing about others."""


def stepped(value: float, quarter: float, half: float, three: float, whole: float) -> float:
    """¼ from `quarter` on, ½ from `half` on, and so forth; thresholds ascend."""
    if value < quarter:
        return 0.0
    if value < half:
        return 0.25
    return 0.5 if value < three else 0.75 if value < whole else 1.0


def unusual(spreads: float) -> float:
    """By distance from the median in spreads to the 95th percentile. Were logarithms normal, 1½ would be 1 of 150, 2 1 of 2,000."""
    return 0.0 if spreads < 1.5 else stepped(spreads, 1.5, 2, 3, 4)


def surprising(nats: float) -> float:
    """By surprise: odds of 20, 150, 3,000, 160,000 to 1."""
    return 0.0 if nats < 3 else stepped(nats, 3, 5, 8, 12)


def soon(seconds: int, quarter: int, half: int, three: int, whole: int) -> float:
    """The sooner the stronger; thresholds descend. Negative seconds: never."""
    return (
        0.0
        if seconds < 0 or seconds > quarter
        else 0.25
        if seconds > half
        else 0.5
        if seconds > three
        else 0.75
        if seconds > whole
        else 1.0
    )


def eighths(value: float, whole: float) -> float:
    """The share of `whole`, at most 1, rounded down to eighths: finer than steps, for what is measured in nats already."""
    return min(8, int(value / whole * 8)) / 8


def _same_path(f: Features) -> float:
    return min(max(unusual(f.path_spreads), surprising(f.path_nats)), stepped(f.path_accounts, 3, 4, 6, 10))


def _same_behaviour(f: Features) -> float:
    return surprising(f.behaviour_nats) if f.behaviour_accounts >= 4 else 0.0


def _crowd(spreads: float, accounts: int) -> float:
    return unusual(spreads) if accounts >= 3 else 0.0


def _young_company(f: Features) -> float:
    """A family signs up together: below what many share here, new accounts are little surprise."""
    return min(surprising(f.shared_nats), 0.25 if f.shared_spreads < 1 else 0.5 if f.shared_spreads < 1.5 else 1.0)


def _young_ring(f: Features) -> float:
    return min(stepped(f.ring_size, 3, 5, 8, 12), stepped(f.ring_young, 0.5, 0.7, 0.8, 0.9), max(0.25, unusual(f.ring_spreads)))


def _one_buyer(f: Features) -> float:
    """A merchant whose points go to few, much each: a small shop has few buyers, but they do not take much."""
    if f.merchant_each_spreads < 1:
        return 0.0
    return stepped(f.merchant_each_spreads, 1.2, 1.6, 2.2, 3)


def _refunds(f: Features) -> float:
    return stepped(f.refund_share, 0.4, 0.55, 0.7, 0.85) if f.refunded_points >= 4 * 20 else 0.0


def _closed(f: Features) -> float:
    """Fewer than 1 of 200 events of a station that is known well are in this hour of the day."""
    if f.station_events < 200:
        return 0.0
    return stepped(1 / max(f.hour_share, 1e-6), 200, 300, 500, 1_000)


def _impossible(f: Features) -> float:
    """One box among many may have been lost sight of; all of an event's boxes were not."""
    if not f.impossible_assets:
        return 0.0
    share = f.impossible_assets / f.assets
    return 0.25 if share < 0.3 else 0.5 if share < 0.6 else 0.75 if f.impossible_assets == 1 else 1.0


def _near_cap(f: Features) -> float:
    """An order that earns nearly all that one can, more so on a new account."""
    return (0.75 if f.young else 0.25) if 0.85 <= f.cap_share < 1 else (0.5 if f.young else 0.25) if f.cap_share >= 1 else 0.0


def _other_hands(f: Features) -> float:
    """Soon after device and region changed together, and busy: moving house is neither."""
    near = soon(f.moved_s, 72 * HOUR, 48 * HOUR, 24 * HOUR, 6 * HOUR)
    busy = max(unusual(f.hour_spreads), unusual(f.day_spreads), unusual(f.hour_points_spreads))
    return min(near, 0.5) if not busy else near


def _fresh_and_fast(f: Features) -> float:
    return max(unusual(f.day_spreads), unusual(f.shared_day_spreads), unusual(f.hour_points_spreads)) if f.young else 0.0


SIGNALS: Final[tuple[Signal, ...]] = (
    # effort
    Signal(name="burst", group="effort", weight=2.0, look=lambda f: unusual(f.hour_spreads),
           says="{f.hour_events:.0f} events of this consumer within an hour.", softly="Many reports arrived within a short time."),
    Signal(name="shared_burst", group="effort", weight=2.0, look=lambda f: unusual(f.shared_day_spreads),
           says="{f.shared_day_events:.0f} events within a day from one {f.shared_day_kind}.",
           softly="Many reports arrived within a short time."),
    Signal(name="clockwork", group="effort", weight=3.0, look=lambda f: stepped(f.steady, 2, 3, 4, 6),
           says="{f.steady} equal intervals between events in a row.", softly="The times of the reports are unusual."),
    Signal(name="same_path", group="effort", weight=3.5, look=_same_path,
           says="{f.path_accounts} accounts took the same first steps at the same pace within a week.",
           softly="Several accounts were used in the same way."),
    Signal(name="same_behaviour", group="effort", weight=3.0, look=_same_behaviour,
           says="{f.behaviour_accounts} accounts, most of them new, did exactly this within a week.",
           softly="Several accounts were used in the same way."),
    Signal(name="same_amount", group="effort", weight=2.0, look=lambda f: stepped(f.same_amount, 3, 4, 6, 8),
           says="{f.same_amount:.0f} orders of this consumer over the same amount within 30 days.", softly="Several orders are alike."),
    Signal(name="fresh_and_fast", group="effort", weight=2.0, look=_fresh_and_fast,
           says="An account of {f.age_days:.1f} days with {f.day_points:.0f} points within a day.",
           softly="The account is new and was used a lot."),
    Signal(name="rushed", group="effort", weight=1.5, look=lambda f: unusual(f.rushed_spreads),
           says="A new account that came to its next step far sooner than others do.", softly="The account is new and was used a lot."),
    Signal(name="hour_points", group="effort", weight=1.5, look=lambda f: unusual(f.hour_points_spreads),
           says="{f.hour_points:.0f} points within an hour.", softly="The points of a short time are many."),
    Signal(name="shared_points", group="effort", weight=1.5, look=lambda f: unusual(f.shared_points_spreads),
           says="{f.shared_points:.0f} points within a day on one device, payment or address.", softly="The points of one day are many."),
    # linkage
    Signal(name="crowded_device", group="linkage", weight=3.0, look=lambda f: _crowd(f.device_spreads, f.device_accounts),
           says="{f.device_accounts} accounts on one device within 30 days.", softly="A device was used by several accounts."),
    Signal(name="crowded_payment", group="linkage", weight=3.5, look=lambda f: _crowd(f.payment_spreads, f.payment_accounts),
           says="{f.payment_accounts} accounts pay by one means of payment.", softly="A means of payment was used by several accounts."),
    Signal(name="crowded_address", group="linkage", weight=1.0, look=lambda f: _crowd(f.address_spreads, f.address_accounts),
           says="{f.address_accounts} accounts have one address.", softly="An address was used by several accounts."),
    Signal(name="young_company", group="linkage", weight=3.0, look=_young_company,
           says="{f.shared_young:.0%} of the points of one {f.shared_kind} went to new accounts.",
           softly="Several new accounts were used together."),
    Signal(name="young_ring", group="linkage", weight=3.0, look=_young_ring,
           says="Linked to {f.ring_size} accounts; {f.ring_young:.0%} of their points were earned while new.",
           softly="Several new accounts were used together."),
    # economics
    Signal(name="gain", group="economics", weight=2.0, look=lambda f: unusual(f.gain_spreads),
           says="{f.gain:.2f} points a unit of money in this order.", softly="The points are many for this order."),
    Signal(name="month_gain", group="economics", weight=1.5, look=lambda f: unusual(f.month_gain_spreads),
           says="{f.month_points:.0f} points within 30 days, for hardly any purchases.", softly="The points are many for what was bought."),
    Signal(name="day_points", group="economics", weight=2.0, look=lambda f: unusual(f.day_spreads),
           says="{f.day_points:.0f} points within a day.", softly="The points of one day are many."),
    Signal(name="month_points", group="economics", weight=1.5, look=lambda f: unusual(f.month_spreads),
           says="{f.month_points:.0f} points within 30 days.", softly="The points of the last weeks are many."),
    Signal(name="few_buyers", group="economics", weight=2.5, look=_one_buyer,
           says="The shop's points go to {f.merchant_accounts} accounts; this one has {f.pair_share:.0%} of them.",
           softly="The orders at one shop are unusual."),
    Signal(name="young_buyers", group="economics", weight=2.5, look=lambda f: surprising(f.merchant_nats),
           says="The shop's points go to {f.merchant_accounts} accounts, most of them new.", softly="The orders at one shop are unusual."),
    Signal(name="refunds", group="economics", weight=3.0, look=_refunds,
           says="{f.refund_share:.0%} of the points of 30 days ({f.refunded_points:.0f}) were taken back by refunds.",
           softly="Many orders were returned."),
    Signal(name="shared_refunds", group="economics", weight=2.0, look=lambda f: stepped(f.shared_refund_share, 0.4, 0.5, 0.65, 0.8),
           says="{f.shared_refund_share:.0%} of the points of those that this account shares with were refunded.",
           softly="Many orders were returned."),
    Signal(name="free_points", group="economics", weight=1.5, look=lambda f: unusual(f.free_spreads),
           says="{f.free_points:.0f} points within 30 days for what costs nothing.", softly="Many points are for activities."),
    Signal(name="shared_free_points", group="economics", weight=2.5, look=lambda f: unusual(f.shared_free_spreads),
           says="{f.shared_free_points:.0f} points within 30 days for what costs nothing, by accounts that share something.",
           softly="Many points are for activities."),
    Signal(name="near_cap", group="economics", weight=1.0, look=_near_cap,
           says="The order earns {f.cap_share:.0%} of the most that one can.", softly="The points are many for one order."),
    Signal(name="new_shop", group="economics", weight=1.0, look=lambda f: unusual(f.merchant_age_spreads),
           says="The shop began to sell far later than others.", softly="The orders at one shop are unusual."),
    Signal(name="new_certificate", group="economics", weight=1.0, look=lambda f: unusual(f.certificate_age_spreads),
           says="The certificate was never seen before these days.", softly="A product's certificate is being checked."),
    Signal(name="odd_price", group="economics", weight=2.0, look=lambda f: unusual(f.price_spreads),
           says="{f.price:.2f} for a certified product is far from what its category costs.", softly="The price of a product is unusual."),
    Signal(name="certificate_sprawl", group="economics", weight=2.0, look=lambda f: unusual(f.certificate_spreads),
           says="{f.certificate_skus} products sold under one certificate within a week.",
           softly="A product's certificate is being checked."),
    # evidence
    Signal(name="reused", group="evidence", weight=8.0, look=lambda f: 1.0 if f.reused > 1 else 0.0,
           says="The same serial or receipt was used by {f.reused} accounts or platforms.",
           softly="A document or number was used before."),
    Signal(name="reused_parcel", group="evidence", weight=4.0, look=lambda f: stepped(f.reused_parcel, 1.5, 1.5, 2, 3),
           says="Packaging of the same waybill came back from {f.reused_parcel} accounts or platforms.",
           softly="A parcel's packaging came back before."),
    Signal(name="impossible_asset", group="evidence", weight=4.0, look=_impossible,
           says="{f.impossible_assets} assets came back that had not been shipped.", softly="A box could not be matched to a shipment."),
    Signal(name="quick_trip", group="evidence", weight=3.0, look=lambda f: soon(f.trip_s or -1, 12 * HOUR, 6 * HOUR, 2 * HOUR, HOUR // 2),
           says="A box came back {f.trip_s} s after it was shipped.", softly="A box came back sooner than usual."),
    Signal(name="sequential", group="evidence", weight=4.0, look=lambda f: stepped(f.code_run, 2, 3, 4, 5),
           says="{f.code_run} numbers in a row, one after the other.", softly="The numbers of boxes or devices are unusual."),
    Signal(name="surplus", group="evidence", weight=2.5, look=lambda f: unusual(f.surplus_spreads),
           says="{f.surplus:.0f} units more came back than were shipped to this consumer within 30 days.",
           softly="More packaging came back than was sent."),
    Signal(name="odd_mass", group="evidence", weight=2.0, look=lambda f: unusual(f.mass_spreads),
           says="The mass of a piece is far from what its class weighs.", softly="The weight of a return is unusual."),
    Signal(name="station_regular", group="evidence", weight=1.5, look=lambda f: unusual(f.station_each_spreads),
           says="Much of what this station paid within 30 days went to this consumer.", softly="Returns at one station are unusual."),
    Signal(name="attendant", group="evidence", weight=2.0, look=lambda f: unusual(f.attendant_each_spreads),
           says="The attendant's consumers got far more points each than those of others.", softly="Returns at one station are unusual."),
    # place and time
    Signal(name="two_regions", group="place-and-time", weight=2.0,
           look=lambda f: soon(f.region_s, 2 * HOUR, HOUR, HOUR // 2, HOUR // 6),
           says="In another region {f.region_s} s after the last event.", softly="The places of the reports are unusual."),
    Signal(name="two_stations", group="place-and-time", weight=3.0,
           look=lambda f: soon(f.station_s, HOUR, HOUR // 2, HOUR // 4, HOUR // 12),
           says="At another station {f.station_s} s after the last one.", softly="The places of the reports are unusual."),
    Signal(name="other_hands", group="place-and-time", weight=2.0, look=_other_hands,
           says="{f.moved_s} s after the account's device and region changed together.", softly="The account is used in a new way."),
    Signal(name="closed", group="place-and-time", weight=2.5, look=_closed,
           says="At an hour at which {f.hour_share:.2%} of the station's events are.", softly="The time of a return is unusual."),
    Signal(name="delayed", group="place-and-time", weight=0.5, look=lambda f: unusual(f.delay_spreads),
           says="Reported long after it happened.", softly="A report came late."),
    # history
    Signal(name="flagged", group="history", weight=6.0, look=lambda f: eighths(f.account_odds, HISTORY_NATS),
           says="This account raised suspicion by {f.account_odd:.0f} of its other {f.account_events:.0f} events.",
           softly="Other reports of the account are being reviewed."),
    Signal(name="flagged_kind", group="history", weight=3.0, look=lambda f: eighths(f.kind_odds, HISTORY_NATS),
           says="It did so by {f.kind_odd:.0f} of its other {f.kind_events:.0f} events that are a(n) {f.kind}, too.",
           softly="Other reports of the account are being reviewed."),
    Signal(name="suspect_ring", group="history", weight=3.0, look=lambda f: eighths(f.ring_odds, HISTORY_NATS),
           says="Other accounts of its ring of {f.ring_size} raised suspicion by {f.ring_odd:.0f} of {f.ring_events:.0f} events.",
           softly="Related reports are being reviewed."),
    Signal(name="suspect_company", group="history", weight=2.0, look=lambda f: eighths(f.company_odds, HISTORY_NATS),
           says="{f.company_events:.0f} events of others with the same {f.company} raised suspicion of {f.company_odds:.1f} nats each.",
           softly="Related reports are being reviewed."),
    Signal(name="convicted", group="history", weight=5.0, look=lambda f: stepped(f.convicted_share, 0.05, 0.15, 0.3, 0.5),
           says="A person rejected events of {f.convicted} accounts of its ring of {f.ring_size}.",
           softly="Earlier reports were rejected."),
)  # fmt: skip
NAMES: Final = tuple(signal.name for signal in SIGNALS)


def strengths_of(f: Features) -> tuple[float, ...]:
    """The strengths of all signals, in the order of SIGNALS."""
    return tuple([signal.look(f) for signal in SIGNALS])


def explain(f: Features, signal: Signal) -> str:
    """The sentence for a reviewer, with its numbers."""
    return signal.says.format(f=f)

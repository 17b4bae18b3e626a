"""Signals: each one look at an event's features, with a sentence that says what was seen."""

from collections.abc import Callable
from typing import Final, Literal

from msgspec import Struct

from service.domain.fraud import looks
from service.domain.fraud.features import Features
from service.domain.fraud.looks import soon, stepped, surprising, unusual
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


def quarters(value: float, whole: float) -> float:
    """The share of `whole`, at most 1, rounded down to quarters, for what is measured in nats already."""
    return min(4, int(value / whole * 4)) / 4


SIGNALS: Final[tuple[Signal, ...]] = (
    # effort
    Signal(name="burst", group="effort", weight=2.0, look=lambda f: unusual(f.hour_spreads),
           says="{f.hour_events:.0f} events of this consumer within an hour.", softly="Many reports arrived within a short time."),
    Signal(name="busy_day", group="effort", weight=2.0, look=lambda f: unusual(f.day_spreads),
           says="{f.day_events:.0f} events of this consumer within a day.", softly="Many reports arrived within a short time."),
    Signal(name="sleepless", group="effort", weight=3.0, look=lambda f: stepped(f.day_hours, 10, 14, 18, 22),
           says="In {f.day_hours} different hours of one day.", softly="The times of the reports are unusual."),
    Signal(name="clockwork", group="effort", weight=3.0, look=lambda f: stepped(f.steady, 2, 4, 6, 8),
           says="{f.steady} equal intervals between events in a row.", softly="The times of the reports are unusual."),
    Signal(name="same_path", group="effort", weight=3.5, look=looks.same_path,
           says="{f.path_accounts} accounts took the same first steps at the same pace within a week.",
           softly="Several accounts were used in the same way."),
    Signal(name="same_behaviour", group="effort", weight=3.0, look=looks.same_behaviour,
           says="{f.behaviour_accounts} accounts, most of them new, did exactly this within a week.",
           softly="Several accounts were used in the same way."),
    Signal(name="rushed", group="effort", weight=3.0, look=lambda f: unusual(f.rushed_spreads),
           says="A new account that came to its next step far sooner than others do.", softly="The account is new and was used a lot."),
    Signal(name="even", group="effort", weight=3.0, look=lambda f: stepped(f.even, 3, 5, 7, 9),
           says="{f.even} nearly equal intervals between acts in a row.", softly="The times of the reports are unusual."),
    Signal(name="same_debut", group="effort", weight=3.5, look=looks.same_debut,
           says="{f.debut_accounts} accounts began with exactly this within a week.", softly="Several accounts were used in the same way."),
    Signal(name="young_path", group="effort", weight=1.0, look=looks.young_path,
           says="{f.path_accounts} accounts, most of them new, took the same first steps.",
           softly="Several accounts were used in the same way."),
    Signal(name="again", group="effort", weight=2.0, look=looks.again,
           says="{f.same_events:.0f} times the same thing within a week.", softly="Several reports are alike."),
    Signal(name="awake", group="effort", weight=2.0, look=lambda f: surprising(f.awake_nats),
           says="{f.day_events:.0f} events within a day of an account that used to be quiet.",
           softly="The account is used more than before."),
    # linkage
    Signal(name="crowded_device", group="linkage", weight=3.0, look=lambda f: looks.crowd(f.device_spreads, f.device_accounts),
           says="{f.device_accounts} accounts on one device within 30 days.", softly="A device was used by several accounts."),
    Signal(name="crowded_payment", group="linkage", weight=3.5, look=lambda f: looks.crowd(f.payment_spreads, f.payment_accounts),
           says="{f.payment_accounts} accounts pay by one means of payment.", softly="A means of payment was used by several accounts."),
    Signal(name="crowded_address", group="linkage", weight=1.5, look=lambda f: looks.crowd(f.address_spreads, f.address_accounts),
           says="{f.address_accounts} accounts have one address.", softly="An address was used by several accounts."),
    Signal(name="young_company", group="linkage", weight=3.0, look=looks.young_company,
           says="{f.shared_young:.0%} of the points of one {f.shared_kind} went to new accounts.",
           softly="Several new accounts were used together."),
    Signal(name="young_ring", group="linkage", weight=3.0, look=looks.young_ring,
           says="Linked to {f.ring_size} accounts; {f.ring_young:.0%} of their points were earned while new.",
           softly="Several new accounts were used together."),
    # economics
    Signal(name="month_gain", group="economics", weight=3.0, look=lambda f: unusual(f.month_gain_spreads),
           says="{f.month_points:.0f} points within 30 days, for hardly any purchases.", softly="The points are many for what was bought."),
    Signal(name="only_returns", group="economics", weight=3.0, look=lambda f: looks.only(f, "return"),
           says="{f.act_count} of {f.acts} acts are of one kind ({f.act}); of others {f.act_share:.0%} are.",
           softly="The account is used in one way only."),
    Signal(name="only_activities", group="economics", weight=2.5, look=lambda f: looks.only(f, "activity"),
           says="{f.act_count} of {f.acts} acts are of one kind ({f.act}); of others {f.act_share:.0%} are.",
           softly="The account is used in one way only."),
    Signal(name="only_choices", group="economics", weight=3.5, look=lambda f: looks.only(f, "choice"),
           says="{f.act_count} of {f.acts} acts are of one kind ({f.act}); of others {f.act_share:.0%} are.",
           softly="The account is used in one way only."),
    Signal(name="only_certified", group="economics", weight=1.0, look=looks.only_certified,
           says="{f.act_count} of {f.acts} acts are of one kind ({f.act}); of others {f.act_share:.0%} are.",
           softly="The account is used in one way only."),
    Signal(name="hugging", group="economics", weight=4.0, look=looks.hugging,
           says="An order that just reaches the most that one can earn, by {f.pieces:.0f} pieces; {f.full} of {f.all_orders}.",
           softly="Several orders are alike."),
    Signal(name="split", group="economics", weight=4.5, look=looks.split,
           says="{f.same_events:.0f} orders of one product within a week earn {f.same_caps:.1f} times what one order can.",
           softly="Several orders are alike."),
    Signal(name="gain", group="economics", weight=1.5, look=lambda f: stepped(f.gain_doublings, 0.5, 1, 1.5, 3),
           says="{f.gain:.2f} points a unit of money in this order.", softly="The points are many for this order."),
    Signal(name="refunds", group="economics", weight=3.0, look=looks.refunds,
           says="{f.reversals} refunds or cancellations of {f.orders} orders that earned.", softly="Many orders were returned."),
    Signal(name="shared_free", group="linkage", weight=2.5, look=lambda f: surprising(f.shared_free_nats),
           says="{f.shared_free:.0%} of the points of accounts that share something are for what costs nothing.",
           softly="Many points are for activities."),
    Signal(name="shared_gain", group="economics", weight=3.0, look=lambda f: unusual(f.shared_gain_spreads),
           says="{f.shared_gain:.2f} points a unit of money for accounts that share something.",
           softly="The points are many for what was bought."),
    Signal(name="choice_again", group="economics", weight=4.5, look=looks.choice_again,
           says="{f.same_events:.0f} orders of one thing within a week, which earn by their packaging alone.",
           softly="Several orders are alike."),
    Signal(name="own_buyers", group="economics", weight=5.0, look=looks.own_buyers,
           says="The shop has {f.merchant_accounts} customers, nearly all of them new.", softly="The orders at one shop are unusual."),
    Signal(name="broken_choice", group="economics", weight=3.0, look=looks.broken_choice,
           says="{f.broken} of {f.chosen} orders were shipped in another packaging than was chosen.",
           softly="Orders were shipped in another packaging than was chosen."),
    Signal(name="certificate_mix", group="economics", weight=6.0, look=lambda f: unusual(f.certificate_categories_spreads),
           says="Goods of {f.certificate_categories} categories are sold under one certificate.",
           softly="A product's certificate is being checked."),
    Signal(name="odd_price", group="economics", weight=2.5, look=lambda f: unusual(f.price_spreads),
           says="{f.price:.2f} for a certified product is far from what its category costs.", softly="The price of a product is unusual."),
    Signal(name="small_shop", group="economics", weight=0.0, look=looks.small_shop,
           says="The shop has {f.merchant_accounts} customers, far fewer than others.", softly="The orders at one shop are unusual."),
    # evidence
    Signal(name="reused", group="evidence", weight=8.0, look=lambda f: 1.0 if f.reused > 1 else 0.0,
           says="The same serial or receipt was used by {f.reused} accounts or platforms.",
           softly="A document or number was used before."),
    Signal(name="foreign_parcels", group="evidence", weight=3.5, look=looks.foreign_parcels,
           says="Packaging of {f.foreign_parcels} parcels that were sent to others, or came back from them.",
           softly="A parcel's packaging was somebody else's."),
    Signal(name="stem", group="evidence", weight=5.0, look=looks.stem,
           says="{f.stem_events:.0f} serials that begin alike, from {f.stem_accounts} accounts.",
           softly="The numbers of devices are unusual."),
    Signal(name="box_loop", group="evidence", weight=4.0, look=lambda f: stepped(f.box_trips, 2, 3, 4, 6),
           says="One box came back {f.box_trips:.0f} times an account that has had it.", softly="A box came back more often than usual."),
    Signal(name="one_attendant", group="evidence", weight=2.5, look=lambda f: surprising(f.attendant_nats),
           says="{f.attendant_events:.0f} returns with one attendant, while others take what comes.",
           softly="Returns at one station are unusual."),
    Signal(name="impossible_asset", group="evidence", weight=4.0, look=looks.impossible,
           says="{f.impossible_assets} assets came back that had not been shipped.", softly="A box could not be matched to a shipment."),
    Signal(name="quick_trip", group="evidence", weight=4.0, look=lambda f: soon(f.trip_s or -1, 36 * HOUR, 12 * HOUR, 2 * HOUR, HOUR // 2),
           says="A box came back {f.trip_s} s after it was shipped.", softly="A box came back sooner than usual."),
    Signal(name="sequential", group="evidence", weight=4.0, look=lambda f: stepped(f.code_run, 2, 3, 4, 6),
           says="{f.code_run} numbers in a row, one after the other.", softly="The numbers of boxes or devices are unusual."),
    Signal(name="surplus", group="evidence", weight=3.0, look=lambda f: unusual(f.surplus_spreads),
           says="{f.surplus:.0f} units more came back than were shipped to this consumer within 30 days.",
           softly="More packaging came back than was sent."),
    Signal(name="surplus_units", group="evidence", weight=1.0, look=lambda f: stepped(f.surplus, 4, 9, 18, 40),
           says="{f.surplus:.0f} units more came back than were shipped to this consumer within 30 days.",
           softly="More packaging came back than was sent."),
    Signal(name="odd_mass", group="evidence", weight=4.0, look=lambda f: unusual(f.mass_spreads),
           says="The mass of a piece is far from what its class weighs.", softly="The weight of a return is unusual."),
    # place and time
    Signal(name="two_regions", group="place-and-time", weight=2.0,
           look=looks.two_regions,
           says="In another region {f.region_s} s after the last event.", softly="The places of the reports are unusual."),
    Signal(name="two_stations", group="place-and-time", weight=4.0,
           look=lambda f: soon(f.station_s, 4 * HOUR, HOUR, HOUR // 4, HOUR // 12),
           says="At another station {f.station_s} s after the last one.", softly="The places of the reports are unusual."),
    Signal(name="other_hands", group="place-and-time", weight=5.0, look=looks.other_hands,
           says="{f.moved_s} s after the account came to another device at another place.", softly="The account is used in a new way."),
    Signal(name="new_hands", group="place-and-time", weight=2.0, look=looks.new_hands,
           says="{f.moved_s} s after the account came to another device at another place.", softly="The account is used in a new way."),
    Signal(name="elsewhere", group="place-and-time", weight=1.0, look=looks.elsewhere,
           says="{f.moved_s} s after the account came to another region.", softly="The account is used in a new way."),
    Signal(name="hops", group="place-and-time", weight=3.0, look=looks.hops,
           says="{f.hops} times in another region or at another station within hours.", softly="The places of the reports are unusual."),
    Signal(name="odd_hour", group="place-and-time", weight=3.0, look=looks.odd_hour,
           says="At a time of day at which {f.hour_share:.1%} of the station's events are.", softly="The time of a return is unusual."),
    # history
    Signal(name="young", group="history", weight=2.0, look=looks.young,
           says="The account is {f.age_days:.1f} days old.", softly="The account is new."),
    Signal(name="flagged", group="history", weight=6.0, look=lambda f: quarters(f.account_odds, HISTORY_NATS),
           says="This account raised suspicion by {f.account_odd:.0f} of its other {f.account_events:.0f} events.",
           softly="Other reports of the account are being reviewed."),
    Signal(name="flagged_kind", group="history", weight=3.0, look=lambda f: quarters(f.kind_odds, HISTORY_NATS),
           says="It did so by {f.kind_odd:.0f} of its other {f.kind_events:.0f} events of this kind ({f.kind}).",
           softly="Other reports of the account are being reviewed."),
    Signal(name="suspect_ring", group="history", weight=3.0, look=lambda f: quarters(f.ring_odds, HISTORY_NATS),
           says="Other accounts of its ring of {f.ring_size} raised suspicion by {f.ring_odd:.0f} of {f.ring_events:.0f} events.",
           softly="Related reports are being reviewed."),
    Signal(name="suspect_company", group="history", weight=2.0, look=lambda f: quarters(f.company_odds, HISTORY_NATS),
           says="{f.company_events:.0f} events of others with the same {f.company} raised suspicion of {f.company_odds:.1f} nats each.",
           softly="Related reports are being reviewed."),
    Signal(name="convicted", group="history", weight=5.0, look=lambda f: stepped(f.convicted_share, 0.05, 0.15, 0.3, 0.5),
           says="A person rejected events of {f.convicted} accounts of its ring of {f.ring_size}.",
           softly="Earlier reports were rejected."),
)  # fmt: skip
NAMES: Final = tuple(signal.name for signal in SIGNALS)
_LOOKS: Final = tuple(signal.look for signal in SIGNALS)


def strengths_of(f: Features) -> tuple[float, ...]:
    """The strengths of all signals, in the order of SIGNALS."""
    return tuple([look(f) for look in _LOOKS])


def explain(f: Features, signal: Signal) -> str:
    """The sentence for a reviewer, with its numbers."""
    return signal.says.format(f=f)

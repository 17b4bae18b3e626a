"""How strongly each signal sees what it is for: 0, ¼, ½, ¾ or 1, from the features of one event."""

from typing import Final

from service.domain.fraud.features import Features
from service.domain.fraud.norms import surprise
from service.domain.fraud.windows import DAY, HOUR, MAX_MEMBERS

_HARDLY_LESS: Final = -0.35
"""Doublings below the usual rate: a fifth is lost at the cap."""
_MANY: Final = 4
"""Accounts at an ip, which are no family's."""
_PIECES: Final = 4
"""Certified ones of an order that reaches the cap: fewer are a dear thing or two."""
_MOSTLY: Final = 0.5
_ORDERS: Final = frozenset({"mixed", "pure"})
_BOUGHT: Final = _ORDERS | {"choice"}


def stepped(value: float, quarter: float, half: float, three: float, whole: float) -> float:
    """¼ from `quarter` on, ½ from `half` on, and so forth; thresholds ascend."""
    if value < quarter:
        return 0.0
    if value < half:
        return 0.25
    return 0.5 if value < three else 0.75 if value < whole else 1.0


def unusual(spreads: float) -> float:
    """By distance from the median in spreads to the 95th percentile. Were logarithms normal, 1 would be 1 of 20, 2 1 of 2,000."""
    return 0.0 if spreads < 1 else stepped(spreads, 1, 2, 3, 5)


def surprising(nats: float) -> float:
    """By surprise: odds of 7, 150, 160,000 and 10 to the 10th to 1."""
    return 0.0 if nats < 2 else stepped(nats, 2, 5, 12, 24)


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


def same_path(f: Features) -> float:
    """Many accounts with one path, more than is usual at this step."""
    return unusual(f.path_spreads) if f.path_accounts >= 3 else 0.0


def young_path(f: Features) -> float:
    """Accounts with one path that are surprisingly new."""
    return surprising(f.path_nats) if f.path_accounts >= 3 else 0.0


def young(f: Features) -> float:
    """How new the account is. By itself it says nothing against anybody: what the others say weighs more of who came today."""
    return stepped(-f.age_days, -10, -5, -1.5, -0.05) if f.age_days >= 0 else 0.0


def same_behaviour(f: Features) -> float:
    """Of a shop's till and of a lesson everybody is a customer: there more is asked, and what very many do says nothing."""
    if f.behaviour_accounts < 4:
        return 0.0
    if f.act in _BOUGHT:
        return surprising(f.behaviour_nats)
    return stepped(f.behaviour_nats, 3, 8, 16, 24) if f.behaviour_accounts < MAX_MEMBERS else 0.0


def crowd(spreads: float, accounts: int) -> float:
    """How many accounts share a thing; two are a couple."""
    return unusual(spreads) if accounts >= 3 else 0.0


def young_company(f: Features) -> float:
    """A family signs up together: below what many share here, new accounts are little surprise."""
    return min(surprising(f.shared_nats), 0.25 if f.shared_spreads < 1 else 0.5 if f.shared_spreads < 1.5 else 1.0)


def young_ring(f: Features) -> float:
    """A ring whose points were earned while its accounts were new."""
    return min(stepped(f.ring_size, 3, 5, 8, 12), surprising(f.ring_nats))


def impossible(f: Features) -> float:
    """One box among many may have been lost sight of; all of an event's boxes were not."""
    if not f.impossible_assets:
        return 0.0
    share = f.impossible_assets / f.assets
    return 0.25 if share < 0.3 else 0.5 if share < 0.6 else 0.75 if f.impossible_assets == 1 else 1.0


def other_hands(f: Features) -> float:
    """Soon after another device at another place, and busy: moving house with a new phone is not."""
    return taken_over(f) if f.other_device else 0.0


def elsewhere(f: Features) -> float:
    """The same where nobody says which device it is: a journey looks like it."""
    return 0.0 if f.other_device else taken_over(f)


def taken_over(f: Features) -> float:
    """How soon after the account moved, and how busy it has been since, for what it was before."""
    return min(_near(f), max(0.25, surprising(max(f.moved_nats, f.awake_nats))))


def new_hands(f: Features) -> float:
    """How soon after another device at another place, whatever came of it."""
    return _near(f) if f.other_device else 0.0


def _near(f: Features) -> float:
    return soon(f.moved_s, 7 * DAY, 3 * DAY, DAY, 6 * HOUR)


def same_debut(f: Features) -> float:
    """One product is what many accounts begin with, while few others buy it."""
    return surprising(f.debut_nats) if f.debut_accounts >= 3 else 0.0


def hugging(f: Features) -> float:
    """Orders that just reach the cap by many pieces, and hardly any others.

    By chance, full orders lie far above the cap and are of one dear thing, and an office that buys many pieces reaches it now and then.
    """
    if f.order_doublings < _HARDLY_LESS or f.pieces < _PIECES:
        return 0.0
    if f.full < _MOSTLY * f.all_orders or f.full_doublings < _HARDLY_LESS:
        return 0.25
    return stepped(f.full, 1, 1, 2, 3)


def split(f: Features) -> float:
    """One product, again and again, for more than one order can earn, and each time below that: who buys dear things loses at the cap."""
    if f.gain_doublings < -0.5:
        return 0.0
    return min(stepped(f.same_caps, 0.8, 1.2, 1.8, 3), stepped(f.same_events, 2, 3, 4, 5))


def small_shop(f: Features) -> float:
    """A shop with far fewer customers than others have here."""
    return stepped(-f.merchant_spreads, 0.6, 1, 1.4, 2) if f.merchant_accounts else 0.0


def again(f: Features) -> float:
    """The same thing by the same person, or the same wallet, within a week."""
    return stepped(f.same_events, 3, 5, 8, 14)


def choice_again(f: Features) -> float:
    """One thing ordered again and again for the sake of its packaging."""
    return stepped(f.same_events, 2, 3, 4, 6) if f.act == "choice" else 0.0


def own_buyers(f: Features) -> float:
    """Few customers for a shop of this program, and nearly all of them new."""
    return min(surprising(f.merchant_nats), stepped(-f.merchant_spreads, 0.8, 1, 1.2, 1.4)) if f.merchant_accounts >= 3 else 0.0


def refunds(f: Features) -> float:
    """More is asked than for other surprises: some people send half of what they try on back."""
    return stepped(f.reversal_nats, 4, 6, 8, 11)


def only(f: Features, *acts: str) -> float:
    """How surprising it is that the account does hardly anything but these acts."""
    return surprising(f.act_nats) if f.act in acts else 0.0


def only_certified(f: Features) -> float:
    """More is asked than for other acts: some people buy only what is certified."""
    return stepped(f.act_nats, 5, 8, 11, 15) if f.act in _ORDERS else 0.0


def broken_choice(f: Features) -> float:
    """Of ten choices one may be shipped otherwise by mistake; by surprise beyond that."""
    return stepped(surprise(f.broken, f.chosen, 0.1), 2, 4, 6, 9) if f.broken >= 2 else 0.0


def foreign_parcels(f: Features) -> float:
    """Parcels of others in one return: a neighbour takes one along."""
    return stepped(f.foreign_parcels, 1, 2, 3, 5)


def two_regions(f: Features) -> float:
    """Another region too soon."""
    return at_vpn(f, soon(f.region_s, 8 * HOUR, 2 * HOUR, HOUR // 2, HOUR // 6))


def hops(f: Features) -> float:
    """Too soon elsewhere, not for the first time."""
    return at_vpn(f, stepped(f.hops, 1, 2, 3, 5))


def at_vpn(f: Features, strength: float) -> float:
    """An address that many use may be a VPN, whose ends are anywhere; who stands at a station is there."""
    return min(strength, 0.25) if f.ip_accounts >= _MANY and not f.at_station else strength


def stem(f: Features) -> float:
    """A batch of devices has an owner for each; invented ones have the same few."""
    return stepped(f.stem_events - f.stem_accounts, 2, 3, 5, 8) if f.stem_accounts < MAX_MEMBERS else 0.0


def odd_hour(f: Features) -> float:
    """One of 20, 60, 110, 300 events of the station."""
    return stepped(1 / max(f.hour_share, 1e-6), 20, 60, 110, 300)

"""From counts to the numbers that signals look at."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from service.domain.fraud.account import is_steady, moved_at
from service.domain.fraud.norms import YOUNG, Norms, surprise
from service.domain.fraud.observation import STRONG, Observation
from service.domain.fraud.rings import Ring
from service.domain.fraud.touches import YOUNG_MOST_S
from service.domain.fraud.windows import DAY, EMPTY, HOUR, Count

Counts = Mapping[str, Count]
SETTLED_EVENTS: Final = 3
"""Before them nobody knows an account's own device and region."""
MIN_SHARED: Final = 3
"""Accounts of a cohort below which nothing is said about it."""
RUSHED_STEPS: Final = range(1, 6)
"""Events of a new account after its first one whose pace is compared."""


class Features(Struct, kw_only=True, gc=False):
    """Of one event. `…_spreads`: how unusual it is in this program (Norms.spreads). `…_nats`: surprise, log-likelihood against chance."""

    points: float = 0
    age_days: float = 0
    young: bool = False
    # effort
    hour_events: float = 0
    hour_spreads: float = 0
    shared_day_events: float = 0
    shared_day_spreads: float = 0
    shared_day_kind: str = ""
    shared_points: float = 0
    shared_points_spreads: float = 0
    rushed_spreads: float = 0
    hour_points: float = 0
    hour_points_spreads: float = 0
    steady: int = 0
    path_accounts: int = 0
    path_spreads: float = 0
    path_nats: float = 0
    behaviour_accounts: int = 0
    behaviour_nats: float = 0
    behaviour_spreads: float = 0
    same_amount: float = 0
    code_run: int = 0
    # linkage
    device_accounts: int = 0
    device_spreads: float = 0
    payment_accounts: int = 0
    payment_spreads: float = 0
    address_accounts: int = 0
    address_spreads: float = 0
    ip_accounts: int = 0
    shared_nats: float = 0
    shared_kind: str = ""
    shared_young: float = 0
    shared_spreads: float = 0
    ring_size: int = 1
    ring_spreads: float = 0
    ring_young: float = 0
    # economics
    gain: float = 0
    gain_spreads: float = 0
    month_gain_spreads: float = 0
    day_points: float = 0
    day_spreads: float = 0
    month_points: float = 0
    month_spreads: float = 0
    pair_share: float = 0
    merchant_accounts: int = 0
    merchant_each_spreads: float = 0
    merchant_nats: float = 0
    refund_share: float = 0
    refunded_points: float = 0
    shared_refund_share: float = 0
    free_points: float = 0
    free_spreads: float = 0
    shared_free_points: float = 0
    shared_free_spreads: float = 0
    cap_share: float = 0
    merchant_age_spreads: float = 0
    certificate_age_spreads: float = 0
    price: float = 0
    price_spreads: float = 0
    certificate_skus: int = 0
    certificate_spreads: float = 0
    # evidence
    reused: int = 0
    reused_parcel: int = 0
    assets: int = 0
    impossible_assets: int = 0
    trip_s: int = 0
    surplus: float = 0
    surplus_spreads: float = 0
    shared_surplus: float = 0
    mass_spreads: float = 0
    station_each_spreads: float = 0
    attendant_each_spreads: float = 0
    # place and time
    region_s: int = -1
    station_s: int = -1
    moved_s: int = -1
    hour_share: float = 1
    station_events: float = 0
    delay_spreads: float = 0
    # history: see history.inherit
    account_odds: float = 0
    account_events: float = 0
    account_odd: float = 0
    kind: str = ""
    kind_odds: float = 0
    kind_events: float = 0
    kind_odd: float = 0
    ring_odds: float = 0
    ring_events: float = 0
    ring_odd: float = 0
    company_odds: float = 0
    company_events: float = 0
    company: str = ""
    convicted: int = 0
    convicted_share: float = 0

    measures: dict[str, float] = {}
    """What the program's norms learn from this event."""


def features_of(o: Observation, counts: Counts, ring: Ring, norms: Norms) -> Features:
    """The features of an event that earns. Reads the norms, changes nothing; hand `measures` to Norms.learn after the verdict.

    What is inherited is not in them: history.inherit adds that.
    """
    f = Features(points=o.points, age_days=o.age_s / 86_400, measures={})
    f.young = o.age_s < min(norms.young_s(), YOUNG_MOST_S)
    f.measures[YOUNG] = o.age_s + 1
    _effort(f, o, counts, norms)
    _linkage(f, counts, ring, norms)
    _economics(f, o, counts, norms)
    if o.returns:
        _packaging(f, o, counts, norms)
    reused = max((counts[slot].members for slot in counts if slot.startswith("evidence.")), default=0)
    if o.returns:
        f.reused_parcel = reused
    else:
        f.reused = reused
    _place(f, o, norms)
    return f


def _measure(f: Features, norms: Norms, name: str, value: float) -> float:
    f.measures[name] = value
    return norms.spreads(name, value)


def _young_nats(count: Count, norms: Norms) -> float:
    """Surprise about a cohort's young share, each account one trial: points of one account are not independent."""
    if count.members < MIN_SHARED or not count.points:
        return 0.0
    return surprise(count.young / count.points * count.members, count.members, norms.young_share())


def _effort(f: Features, o: Observation, counts: Counts, norms: Norms) -> None:
    f.hour_events = counts["account.hour"].events
    f.hour_spreads = _measure(f, norms, "hour", f.hour_events)
    f.hour_points = counts["account.hour"].points
    f.hour_points_spreads = _measure(f, norms, "hour.points", f.hour_points)
    if o.account.events in RUSHED_STEPS:
        # The other tail: younger than others were at this step.
        f.rushed_spreads = -_measure(f, norms, f"age.{o.account.events}", o.age_s + 1)
    for kind in STRONG:
        count = counts.get(f"{kind}.day")
        if count is not None:
            spreads = _measure(f, norms, f"{kind}.day", count.events)
            f.shared_points = max(f.shared_points, count.points)
            f.shared_points_spreads = max(f.shared_points_spreads, _measure(f, norms, f"{kind}.day.points", count.points))
            if spreads > f.shared_day_spreads:
                f.shared_day_events, f.shared_day_spreads, f.shared_day_kind = count.events, spreads, kind
    account = o.account
    gap = o.at - account.last_at if account.events else 0
    f.steady = account.steady + 1 if is_steady(account, gap) else 0
    if (path := counts.get("path.week")) is not None:
        f.path_accounts, f.path_nats = path.members, _young_nats(path, norms)
        f.path_spreads = _measure(f, norms, f"path.{account.events}", path.members)
    behaviour = counts.get("behaviour.week", EMPTY)
    f.behaviour_accounts, f.behaviour_nats = behaviour.members, _young_nats(behaviour, norms)
    f.behaviour_spreads = _measure(f, norms, f"behaviour.{o.type}", behaviour.members)
    f.same_amount = counts.get("amount.month", EMPTY).events
    if o.code >= 0 and account.code >= 0 and abs(o.code - account.code) == 1:
        f.code_run = account.run + 1


def _linkage(f: Features, counts: Counts, ring: Ring, norms: Norms) -> None:
    for kind in STRONG:
        count = counts.get(f"{kind}.month")
        if count is None:
            continue
        spreads = _measure(f, norms, kind, count.members)
        if kind == "device":
            f.device_accounts, f.device_spreads = count.members, spreads
        elif kind == "payment":
            f.payment_accounts, f.payment_spreads = count.members, spreads
        else:
            f.address_accounts, f.address_spreads = count.members, spreads
        nats = _young_nats(count, norms)
        if nats > f.shared_nats:
            f.shared_nats, f.shared_kind, f.shared_young, f.shared_spreads = nats, kind, count.young / count.points, spreads
        if count.members >= MIN_SHARED:
            if count.free:
                f.shared_free_points = max(f.shared_free_points, count.free)
                f.shared_free_spreads = max(f.shared_free_spreads, _measure(f, norms, f"{kind}.free", count.free))
            f.shared_refund_share = max(f.shared_refund_share, count.reversed / max(count.points, 1))
            f.shared_surplus = max(f.shared_surplus, count.returned - count.shipped)
    f.ip_accounts = counts.get("ip.month", EMPTY).members
    f.ring_size = ring.size
    f.ring_spreads = _measure(f, norms, "ring", ring.size)
    f.ring_young = ring.young / ring.points if ring.points else 0.0


def _economics(f: Features, o: Observation, counts: Counts, norms: Norms) -> None:
    day, month = counts["account.day"], counts["account.month"]
    f.day_points, f.month_points = day.points, month.points
    f.day_spreads = _measure(f, norms, "day.points", day.points)
    f.month_spreads = _measure(f, norms, "month.points", month.points)
    # A unit of money is added, so that what costs nothing has a finite gain.
    f.month_gain_spreads = _measure(f, norms, "month.gain", month.points / (month.money + 1))
    f.refunded_points, f.refund_share = month.reversed, month.reversed / max(month.points, 1)
    if month.free:
        f.free_points, f.free_spreads = month.free, _measure(f, norms, "month.free", month.free)
    f.cap_share = o.points / o.most if o.most else 0.0
    if o.money:
        f.gain = o.points / (o.money + 1)
        f.gain_spreads = _measure(f, norms, "gain", f.gain)
    merchant = counts.get("merchant.month")
    if merchant is not None and merchant.points:
        pair = counts.get("pair.month", EMPTY)
        f.merchant_accounts, f.pair_share = merchant.members, pair.points / merchant.points
        f.merchant_each_spreads = _measure(f, norms, "merchant.each", merchant.points / max(merchant.members, 1))
        f.merchant_age_spreads = -_measure(f, norms, "merchant.age", o.at - merchant.first_at + DAY)
        f.merchant_nats = _young_nats(merchant, norms)
    if (certificate := counts.get("certificate.week")) is not None:
        f.certificate_skus = certificate.members
        f.certificate_age_spreads = -_measure(f, norms, "certificate.age", o.at - certificate.first_at + HOUR)
        f.certificate_spreads = _measure(f, norms, "certificate.skus", certificate.members)
    for line in o.lines:
        if line.certificate and line.price:
            # Both ways: far too dear launders points, far too cheap is no such product.
            spreads = abs(_measure(f, norms, f"price.{line.category}", line.price))
            if spreads > f.price_spreads:
                f.price, f.price_spreads = line.price, spreads


def _packaging(f: Features, o: Observation, counts: Counts, norms: Norms) -> None:
    month = counts["account.month"]
    f.surplus = month.returned - month.shipped
    f.surplus_spreads = _measure(f, norms, "surplus", max(f.surplus, 0) + 1)
    for i, item in enumerate(o.returns):
        if item.asset:
            f.assets += 1
            asset = counts[f"asset.{i}"]
            if asset.returned > asset.shipped:
                f.impossible_assets += 1
            elif asset.last_at and (not f.trip_s or o.at - asset.last_at < f.trip_s):
                f.trip_s = max(1, o.at - asset.last_at)
        if item.mass_g:
            class_ = item.class_ or "asset"
            f.mass_spreads = max(f.mass_spreads, abs(_measure(f, norms, f"mass.{class_}", item.mass_g / item.quantity)))
    if (station := counts.get("station.month")) is not None:
        f.station_events = station.events
        f.hour_share = counts["station.hour"].events / max(station.events, 1)
        f.station_each_spreads = _measure(f, norms, "station.each", counts["station.pair"].points)
    if (attendant := counts.get("attendant.month")) is not None:
        f.attendant_each_spreads = _measure(f, norms, "attendant.each", attendant.points / max(attendant.members, 1))


def _place(f: Features, o: Observation, norms: Norms) -> None:
    account = o.account
    if o.region and account.region and o.region != account.region:
        f.region_s = abs(o.at - account.region_at)
    if (moved := moved_at(account, o.step)) and account.events >= SETTLED_EVENTS:
        f.moved_s = abs(o.at - moved)
    station = next((item.station for item in o.returns if item.station), "")
    if station and account.station and station != account.station:
        f.station_s = abs(o.at - account.station_at)
    f.delay_spreads = _measure(f, norms, f"delay.{o.type}", max(o.delay_s, 0) + HOUR)

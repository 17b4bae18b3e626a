"""The features of what is bought and of what comes back: economics and evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.domain.fraud.account import KINDS, with_act, with_full
from service.domain.fraud.norms import Norms, surprise
from service.domain.fraud.observation import Observation
from service.domain.fraud.records import MOST_ODDS
from service.domain.fraud.windows import EMPTY, Count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.domain.fraud.features import Features

    Counts = Mapping[str, Count]

MIN_SHARED: Final = 3
"""Accounts of a cohort below which nothing is said about it."""
LEAST_SHARE: Final = 0.02
"""No share of a program is taken for rarer: surprise divides by it, and the first weeks know little."""
LEAST_ACTS: Final = 200
"""Acts on a platform before its mixture says anything: as for norms."""
PRIOR: Final = 8.0
"""Events that the hours of all stations weigh in the hours of one, until it is known."""


def measured(f: Features, norms: Norms, name: str, value: float) -> float:
    """How unusual a value is (Norms.spreads); the norms will learn it."""
    f.measures[name] = value
    return norms.spreads(name, value)


def young_nats(count: Count, norms: Norms) -> float:
    """Surprise about a cohort's young share, each account one trial: points of one account are not independent."""
    if count.members < MIN_SHARED or not count.points:
        return 0.0
    return surprise(count.young / count.points * count.members, count.members, norms.young_share())


def economics(f: Features, o: Observation, counts: Counts, norms: Norms) -> None:
    """What the account earns, by what, and for how much money."""
    month, everybody, account = counts["account.month"], counts.get("acts.all", EMPTY), o.account
    f.month_points = month.points
    # A unit of money is added, so that what costs nothing has a finite gain.
    f.month_gain_spreads = measured(f, norms, "month.gain", month.points / (month.money + 1))
    if not o.kind:
        return
    acts = with_act(account, o.kind)
    f.acts, f.act_count = sum(acts), acts[KINDS.index(o.kind)]
    if everybody.events >= LEAST_ACTS:
        f.act_share = counts["acts.kind"].events / everybody.events
        f.act_nats = surprise(f.act_count, f.acts, min(0.98, max(LEAST_SHARE, f.act_share)))
    reversals(f, account.reversals, acts, everybody)
    f.broken, f.chosen = account.broken, account.broken + account.kept


def reversals(f: Features, times: int, acts: tuple[int, ...], everybody: Count) -> None:
    """How surprising it is that so many of the account's orders that earned were taken back, for the share that everybody's are."""
    earned = sum(acts[1 : KINDS.index("return")])
    f.reversals, f.orders = times, earned
    if times and earned:
        usual = min(0.9, max(LEAST_SHARE, everybody.reversed / max(everybody.points, 1)))
        f.reversal_nats = surprise(min(times, earned), earned, usual)


def bought(f: Features, o: Observation, counts: Counts, norms: Norms) -> None:
    """Of an order: its shop, its goods, their certificates and prices, and how near it comes to the most that one can earn."""
    f.gain = o.points / (o.money + 1)
    if o.certified and not o.full:
        # What a full order loses at the cap is left out of what is usual.
        f.measures["yield"] = o.points / o.certified
    # Goods earn at a few rates, so that the least spread is the spread: the way from the usual rate is in doublings.
    f.gain_doublings = norms.spreads("yield", f.gain)
    if o.most:
        f.cap_share, f.same_caps = o.points / o.most, counts["same.week"].points / o.most
        if o.full:
            f.full, points, money = with_full(o.account, o.step)
            f.full_doublings = norms.spreads("yield", points / money)
            f.order_doublings = norms.spreads("yield", o.points / o.certified)
            f.all_orders = f.orders + o.account.acts[0]
            f.pieces = sum(line.quantity for line in o.lines if line.certificate)
    merchant = counts.get("merchant.month", EMPTY)
    f.merchant_accounts = merchant.members
    f.merchant_spreads = measured(f, norms, "merchant", merchant.members)
    f.merchant_nats = young_nats(merchant, norms)
    if (certificate := counts.get("certificate.month")) is not None:
        f.certificate_categories = certificate.members
        f.certificate_categories_spreads = measured(f, norms, "certificate.categories", f.certificate_categories**3)
    for line in o.lines:
        if line.certificate and line.price:
            # Both ways: far too dear launders points, far too cheap is no such product.
            spreads = abs(measured(f, norms, f"price.{line.category}", line.price))
            if spreads > f.price_spreads:
                f.price, f.price_spreads = line.price, spreads


def packaging(f: Features, o: Observation, counts: Counts, norms: Norms) -> None:
    """Of a return: what came back, whose it was, where and when."""
    month = counts["account.month"]
    f.surplus = month.returned - month.shipped
    f.surplus_spreads = measured(f, norms, "surplus", (month.returned + 1) / (month.shipped + 1))
    f.parcels = len(o.waybills)
    f.foreign_parcels = sum(counts[f"waybill.{i}"].members > 1 for i in range(f.parcels))
    for i, item in enumerate(o.returns):
        if item.asset:
            f.assets += 1
            asset = counts[f"asset.{i}"]
            f.box_trips = max(f.box_trips, asset.returned / max(asset.members, 1))
            if asset.returned > asset.shipped:
                f.impossible_assets += 1
            elif asset.last_at and (not f.trip_s or o.at - asset.last_at < f.trip_s):
                f.trip_s = max(1, o.at - asset.last_at)
        if item.mass_g:
            # Cubed: a scale is far better than the doubling that norms take for the least spread.
            class_, each = item.class_ or "asset", item.mass_g / item.quantity
            f.mass_spreads = max(f.mass_spreads, abs(measured(f, norms, f"mass.{class_}", each**3)))
    if "station.month" in counts:
        _station(f, counts)


def _station(f: Features, counts: Counts) -> None:
    station, pair, block = counts["station.month"], counts["station.pair"], counts["station.block"]
    # Of others only, less what was suspicious: who comes by night every night does not make the night usual.
    others = max(0.0, station.events - pair.events - station.suspect / MOST_ODDS)
    usual = counts["block.month"].events / counts["block.all"].events
    f.hour_share = (max(0.0, block.events - pair.events - block.suspect / MOST_ODDS) + PRIOR * usual) / (others + PRIOR)
    if (attendant := counts.get("attendant.month")) is not None:
        # By accounts, not by what they brought: an attendant's few friends bring much.
        share = (attendant.members - 1) / max(1, station.members - 1)
        f.attendant_events = counts["attendant.pair"].events
        f.attendant_nats = surprise(f.attendant_events, pair.events, min(0.95, max(LEAST_SHARE, share)))

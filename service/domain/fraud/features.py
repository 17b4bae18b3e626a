"""From counts to the numbers that signals look at."""

from collections.abc import Mapping
from math import log
from typing import Final

from msgspec import Struct

from service.domain.fraud.account import Account, evenness, hops, is_steady, moved_at
from service.domain.fraud.norms import YOUNG, Norms, surprise
from service.domain.fraud.observation import STRONG, Observation
from service.domain.fraud.rings import Ring
from service.domain.fraud.touches import YOUNG_MOST_S
from service.domain.fraud.trade import LEAST_SHARE, MIN_SHARED, bought, economics, measured, packaging, reversals, young_nats
from service.domain.fraud.windows import DAY, EMPTY, HOUR, MAX_MEMBERS, Count

Counts = Mapping[str, Count]
SETTLED_DAYS: Final = 3
SETTLED_EVENTS: Final = 3
"""Before them nobody knows an account's own device and region."""
TRIALS: Final = 2
"""Of an account, in its cohort: what one person does is not independent."""
RUSHED_STEPS: Final = range(1, 6)
"""Events of a new account after its first one whose pace is compared."""


class Features(Struct, kw_only=True, gc=False):
    """Of one event. `…_spreads`: how unusual it is in this program (Norms.spreads). `…_nats`: surprise, log-likelihood against chance."""

    points: float = 0
    age_days: float = -1
    """−1: nobody says."""
    young: bool = False
    act: str = ""
    """As Step.kind."""
    # effort
    hour_events: float = 0
    hour_spreads: float = 0
    day_events: float = 0
    day_hours: int = 0
    day_spreads: float = 0
    rushed_spreads: float = 0
    steady: int = 0
    even: int = 0
    path_accounts: int = 0
    path_spreads: float = 0
    path_nats: float = 0
    behaviour_accounts: int = 0
    behaviour_nats: float = 0
    debut_accounts: int = 0
    debut_nats: float = 0
    same_events: float = 0
    awake_nats: float = 0
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
    ring_young: float = 0
    ring_nats: float = 0
    # economics
    acts: int = 0
    act_count: int = 0
    act_share: float = 0
    act_nats: float = 0
    gain: float = 0
    month_points: float = 0
    month_gain_spreads: float = 0
    same_caps: float = 0
    cap_share: float = 0
    full: int = 0
    full_doublings: float = -9
    order_doublings: float = -9
    pieces: float = 0
    all_orders: int = 0
    gain_doublings: float = -9
    merchant_accounts: int = 0
    merchant_spreads: float = 0
    merchant_nats: float = 0
    reversals: int = 0
    orders: int = 0
    """That earned."""
    reversal_nats: float = 0
    shared_free: float = 0
    shared_free_nats: float = 0
    shared_gain: float = 0
    shared_gain_spreads: float = 0
    broken: int = 0
    chosen: int = 0
    certificate_categories: int = 0
    certificate_categories_spreads: float = 0
    price: float = 0
    price_spreads: float = 0
    # evidence
    reused: int = 0
    parcels: int = 0
    foreign_parcels: int = 0
    assets: int = 0
    impossible_assets: int = 0
    box_trips: float = 0
    trip_s: int = 0
    stem_events: float = 0
    stem_accounts: int = 0
    surplus: float = 0
    surplus_spreads: float = 0
    mass_spreads: float = 0
    attendant_events: float = 0
    attendant_nats: float = 0
    # place and time
    region_s: int = -1
    at_station: bool = False
    station_s: int = -1
    hops: int = 0
    moved_s: int = -1
    moved_nats: float = 0
    other_device: bool = False
    hour_share: float = 1
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
    """The features of an event that earns, or that takes points back: of that, only what it says about the orders before.

    Reads the norms, changes nothing; hand `measures` to Norms.learn after the verdict. What is inherited is not in them:
    history.inherit adds that.
    """
    if o.points < 0:
        f = Features(points=o.points, age_days=o.age_s / 86_400, measures={})
        reversals(f, o.account.reversals + 1, o.account.acts, counts.get("acts.all", EMPTY))
        return f
    f = Features(points=o.points, age_days=o.age_s / 86_400, act=o.kind, measures={})
    f.young = o.age_s < min(norms.young_s(), YOUNG_MOST_S)
    f.measures[YOUNG] = o.age_s + 1
    _effort(f, o, counts, norms)
    _linkage(f, counts, ring, norms)
    economics(f, o, counts, norms)
    if o.merchant:
        bought(f, o, counts, norms)
    if o.returns:
        packaging(f, o, counts, norms)
    f.reused = max((counts[slot].members for slot in counts if slot.startswith("evidence.")), default=0)
    if (stem := counts.get("stem.month")) is not None:
        f.stem_events, f.stem_accounts = stem.events, stem.members
    _place(f, o)
    return f


def _effort(f: Features, o: Observation, counts: Counts, norms: Norms) -> None:
    account = o.account
    f.hour_events = counts["account.hour"].events
    f.hour_spreads = measured(f, norms, "hour", f.hour_events)
    day = counts["account.day"]
    f.day_events, f.day_hours = day.events, day.members
    f.day_spreads = measured(f, norms, "day", f.day_events)
    if account.events in RUSHED_STEPS:
        # The other tail: younger than others were at this step.
        f.rushed_spreads = -measured(f, norms, f"age.{account.events}", o.age_s + 1)
    gap = o.at - account.last_at if account.events else 0
    f.steady = account.steady + 1 if is_steady(account, gap) else 0
    f.even = evenness(account, o.at)
    if (path := counts.get("path.week")) is not None:
        f.path_accounts, f.path_nats = path.members, young_nats(path, norms)
        f.path_spreads = measured(f, norms, f"path.{account.events}", path.members)
    behaviour = counts.get("behaviour.week", EMPTY)
    f.behaviour_accounts, f.behaviour_nats = behaviour.members, young_nats(behaviour, norms)
    if (debut := counts.get("debut.week")) is not None:
        f.debut_accounts = debut.members
        # By events: of a best-seller there are more accounts, first ones and others, than members are counted.
        trials = min(behaviour.events, MAX_MEMBERS)
        f.debut_nats = surprise(trials * min(1.0, debut.events / max(behaviour.events, 1)), trials, norms.young_share())
    if (same := counts.get("same.week")) is not None:
        f.same_events = same.events
    f.awake_nats = _awake(account, f.day_events, o.at)
    if o.code >= 0 and account.code >= 0 and abs(o.code - account.code) == 1:
        f.code_run = account.run + 1


def _awake(account: Account, today: float, at: int) -> float:
    """Surprise about a day's acts, for what the account used to do."""
    before = sum(account.acts) + 1 - today
    return _pace_nats(today, 1.0, before, (at - account.opened_at) / DAY - 1)


def _pace_nats(acts: float, days: float, before: float, days_before: float) -> float:
    """Surprise (Poisson) about acts in so many days, for the pace before: a quiet account wakes up. The least pace is one act a month."""
    if before < SETTLED_EVENTS or days_before < SETTLED_DAYS or acts < 2:
        return 0.0
    usual = max(before / days_before, 1 / 30) * days
    return acts * log(acts / usual) - acts + usual if acts > usual else 0.0


def _linkage(f: Features, counts: Counts, ring: Ring, norms: Norms) -> None:
    everybody = counts.get("acts.all", EMPTY)
    free = max(LEAST_SHARE, everybody.free / max(everybody.points, 1))
    for kind in STRONG:
        count = counts.get(f"{kind}.month")
        if count is None:
            continue
        spreads = measured(f, norms, kind, count.members)
        if kind == "device":
            f.device_accounts, f.device_spreads = count.members, spreads
        elif kind == "payment":
            f.payment_accounts, f.payment_spreads = count.members, spreads
        else:
            f.address_accounts, f.address_spreads = count.members, spreads
        if count.members < MIN_SHARED:
            continue
        nats = young_nats(count, norms)
        if nats > f.shared_nats:
            f.shared_nats, f.shared_kind, f.shared_young, f.shared_spreads = nats, kind, count.young / count.points, spreads
        share = count.free / max(count.points, 1)
        trials = min(count.events, TRIALS * count.members)
        nats = surprise(share * trials, trials, free)
        if nats > f.shared_free_nats:
            f.shared_free, f.shared_free_nats = share, nats
        gain = count.points / (count.money + count.members)
        spreads = measured(f, norms, f"{kind}.gain.{count.members.bit_length()}", gain)
        if spreads > f.shared_gain_spreads:
            f.shared_gain, f.shared_gain_spreads = gain, spreads
    f.ip_accounts = counts.get("ip.month", EMPTY).members
    f.ring_size = ring.size
    if ring.size >= MIN_SHARED and ring.points:
        f.ring_young = ring.young / ring.points
        f.ring_nats = surprise(f.ring_young * ring.size, ring.size, norms.young_share())


def _place(f: Features, o: Observation) -> None:
    account = o.account
    if o.region and account.region and o.region != account.region:
        f.region_s = abs(o.at - account.region_at)
    if (moved := moved_at(account, o.step)) and account.events >= SETTLED_EVENTS:
        f.moved_s, f.other_device = abs(o.at - moved), bool(account.device)
        new = moved != account.moved_at
        before = sum(account.acts) if new else account.acts_moved
        days = max(f.moved_s, 6 * HOUR) / DAY
        f.moved_nats = _pace_nats(sum(account.acts) + 1 - before, days, before, (moved - account.opened_at) / DAY)
    if (hopped := hops(account, o.step)) > account.hops:
        f.hops = hopped
    station = next((item.station for item in o.returns if item.station), "")
    f.at_station = bool(station)
    if station and account.station and station != account.station:
        f.station_s = abs(o.at - account.station_at)

"""Which windows an event is counted in. All are known before any is read, so that a batch takes one round trip."""

from collections.abc import Mapping, Sequence
from typing import Final

from service.domain.fraud.account import MAX_PATH, path_after
from service.domain.fraud.observation import ENTITIES, Observation, worth
from service.domain.fraud.windows import DAY, HOUR, LIFE, MONTH, NOTHING, QUARTER, WEEK, Count, Sums, Touch

YOUNG_MOST_S: Final = 14 * DAY
"""Nobody is young after two weeks: by then the first hold (P14D in the contract's example) is over."""
PATH_FROM: Final = 1
"""Paths are compared from the second step on; before that most people look alike."""
DEBUT: Final = 2
"""Acts that are an account's first ones: what somebody came for."""
BLOCK: Final = 3 * HOUR
BLOCKS: Final = DAY // BLOCK
"""The day of a station in parts: hours would ask for many events before they say anything, and opening hours last longer."""

_MONTHS: Final = {kind: f"{kind}.month" for kind in ENTITIES}

SUSPECTS: Final = (
    "device.month", "payment.month", "address.month", "ip.month", "merchant.month", "certificate.month", "stem.month",
    "station.month", "station.block", "attendant.month", "path.week", "behaviour.week", "debut.week", "tag.0", "tag.1",
)  # fmt: skip
"""Slots whose keys several accounts share: suspicion of one falls on the others by its share."""


def keys_of(o: Observation, *, young_s: int) -> list[Touch]:
    """What the event adds, and where. `young_s`: accounts younger than this (seconds) are young in this program (Norms.young_s)."""
    young = o.age_s < min(young_s, YOUNG_MOST_S)
    sums = _sums(o, young=young)
    at, me = o.at, o.account_id
    account = f"a:{me}"
    touches = [Touch("account.month", account, MONTH, at, sums)]
    if o.kind or o.points:
        # What a shop reports about an order (that it left) says nothing about what people share.
        touches += [Touch(_MONTHS[kind], key, MONTH, at, sums, me) for kind, key in o.things]
    if o.kind:
        touches.append(Touch("acts.all", f"k:{o.platform}", MONTH, at, sums))
        touches.append(Touch("acts.kind", f"k:{o.platform}:{o.kind}", MONTH, at, sums))
        if o.merchant:
            touches.append(Touch("merchant.month", f"m:{o.platform}:{o.merchant}", MONTH, at, sums, me))
    elif o.points < 0:
        touches.append(Touch("acts.all", f"k:{o.platform}", MONTH, at, (0.0, *sums[1:])))
    if o.shipped or o.returns:
        touches += _assets(o)
    if o.waybills:
        touches += [Touch(f"waybill.{i}", f"w:{text}", QUARTER, at, sums, f"{o.platform}:{me}") for i, text in enumerate(o.waybills)]
    if o.points > 0:
        touches += _earning(o, account, sums)
    return touches


def _sums(o: Observation, *, young: bool) -> Sums:
    earned, back = max(o.points - o.replaced, 0), max(-o.points, 0)
    returned = sum(item.quantity for item in o.returns)
    shipped = len(o.shipped) or o.parcels
    return (1.0, earned, earned if young else 0.0, 0.0, back, o.money, shipped, returned, earned if o.activity else 0.0)


def _earning(o: Observation, key: str, sums: Sums) -> list[Touch]:
    """Only what earns: here the cost is, and here is what may be lost. `key`: of the account."""
    at, me, account = o.at, o.account_id, o.account
    touches = [Touch("account.hour", key, HOUR, at, sums), Touch("account.day", key, DAY, at, sums, at // HOUR)]
    behaviour = f"{o.platform}:{o.thing or o.shape}:{o.packaging}"
    touches.append(Touch("behaviour.week", f"b:{behaviour}", WEEK, at, sums, me))
    if o.merchant and sum(account.acts) < DEBUT:
        touches.append(Touch("debut.week", f"d:{behaviour}", WEEK, at, sums, me))
    if PATH_FROM <= account.events < MAX_PATH:
        touches.append(Touch("path.week", f"p:{path_after(account, o.step)}", WEEK, at, sums, me))
    if o.thing:
        # One wallet for several accounts is one buyer.
        touches.append(Touch("same.week", f"r:{o.entities.get('payment') or me}:{o.thing}", WEEK, at, sums))
    best = max(o.lines, key=worth, default=None)
    if best is not None and best.certificate:
        touches.append(Touch("certificate.month", f"c:{best.certificate}", MONTH, at, sums, best.category))
    if o.stem:
        touches.append(Touch("stem.month", f"n:{o.stem}", MONTH, at, sums, me))
    if o.evidence:
        touches += [Touch(f"evidence.{i}", f"e:{text}", QUARTER, at, sums, f"{o.platform}:{me}") for i, text in enumerate(o.evidence)]
    if o.returns and (station := o.returns[0].station):
        touches.append(Touch("station.month", f"st:{station}", MONTH, at, sums, me))
        touches.append(Touch("station.block", f"sh:{station}:{at // BLOCK % BLOCKS}", MONTH, at, sums, me))
        touches.append(Touch("block.month", f"sh:{at // BLOCK % BLOCKS}", MONTH, at, sums))
        touches.append(Touch("block.all", "sh", MONTH, at, sums))
        touches.append(Touch("station.pair", f"sa:{station}:{me}", MONTH, at, sums))
        if o.attendant:
            touches.append(Touch("attendant.month", f"at:{o.attendant}", MONTH, at, sums, me))
            touches.append(Touch("attendant.pair", f"aa:{o.attendant}:{me}", MONTH, at, sums))
    touches += [Touch(f"tag.{i}", f"g:{tag}", MONTH, at, sums, me) for i, tag in enumerate(o.tags[:2])]
    return touches


def _assets(o: Observation) -> list[Touch]:
    out = (1.0, 0, 0, 0, 0, 0, 1.0, 0, 0)
    back = (1.0, 0, 0, 0, 0, 0, 0, 1.0, 0)
    touches = [Touch(f"asset.{i}", f"as:{asset}", LIFE, o.at, out, o.account_id) for i, asset in enumerate(o.shipped)]
    touches += [
        Touch(f"asset.{i}", f"as:{item.asset}", LIFE, o.at, back, o.account_id) for i, item in enumerate(o.returns) if item.asset
    ]  # fmt: skip
    return touches


def by_slot(touches: Sequence[Touch], counts: Sequence[Count]) -> Mapping[str, Count]:
    """The counts of one event by what they are to it."""
    return {touch.slot: count for touch, count in zip(touches, counts, strict=True)}


def aftermath(touches: Sequence[Touch], *, odds: float) -> list[Touch]:
    """What a verdict adds: the suspicion (nats) that the event itself raised, to its account and to all that it shares with others.

    `odds` leaves out what was inherited, so that it does not feed itself. Add it after the verdict, with the next round trip.
    """
    adds = (*NOTHING[:3], odds, *NOTHING[4:])
    return [Touch(t.slot, t.key, t.window, t.at, adds) for t in touches if t.slot in SUSPECTS or t.slot == "account.month"]

"""What an event inherits from its account, its ring and its company, and the second look at earlier events when those turn out odd."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from service.domain.fraud.features import Features
from service.domain.fraud.model import Judge, Verdict
from service.domain.fraud.records import DOUBT, KINDS, MOST_ODDS, ODD_FROM, SUMMED, Past, Record, Sums
from service.domain.fraud.rings import Ring
from service.domain.fraud.signals import HISTORY_NATS, NAMES, SIGNALS
from service.domain.fraud.touches import SUSPECTS
from service.domain.fraud.windows import Count

RECORDED: Final = tuple(NAMES.index(name) for name in ("flagged", "flagged_kind", "suspect_ring", "convicted"))
"""Signals that a second look looks at anew; all others are as they were when the event came in."""

LOOKS: Final = 32
"""At most so often a ring is looked through: four times for each step of what its accounts inherit."""


class Again(Struct, frozen=True, kw_only=True, gc=False):
    """An earlier event, judged again with what is known now. If it is still pending, hold it; if not, it is for the case of its ring."""

    account_id: int
    number: int
    """Of the event, in the deployment."""
    verdict: Verdict
    strengths: tuple[float, ...]


def inherit(f: Features, record: Record, kind: int, ring: Ring, *, but: Past | None = None) -> None:
    """Set what an event inherits from its account and its ring. `but`: the event itself, if it is among what they did already."""
    suspected = ring.size > 1 and ring.sums.odds > 0
    if suspected or record.suspected:
        account = record.all()
        f.account_odds, f.account_events, f.account_odd = _others(account, but)
        f.kind, (f.kind_odds, f.kind_events, f.kind_odd) = KINDS[kind % SUMMED], _others(record.kinds[kind % SUMMED], but)
        if suspected:
            ring.sums.turn(account.at)
            f.ring_odds = ring.sums.mean(but_events=account.events, but_odds=account.odds)
            f.ring_events, f.ring_odd = max(0.0, ring.sums.events - account.events), max(0.0, ring.sums.odd - account.odd)
    f.ring_size = ring.size
    if record.convicted:
        f.convicted, f.convicted_share = max(1, ring.convicted), 1.0
    elif ring.convicted:
        f.convicted, f.convicted_share = ring.convicted, ring.convicted / ring.size


def _others(sums: Sums, but: Past | None) -> tuple[float, float, float]:
    """Mean (nats), events and odd events, without one that is among them."""
    if but is None:
        return sums.mean(), sums.events, sums.odd
    weight = sums.turn(but.at)
    odds = weight * min(but.own, MOST_ODDS)
    odd = weight if but.own >= ODD_FROM else 0.0
    return sums.mean(but_events=weight, but_odds=odds), max(0.0, sums.events - weight), max(0.0, sums.odd - odd)


def accompany(f: Features, counts: Mapping[str, Count]) -> None:
    """Set what an event inherits from others that share a thing with it: an address, a shop, a product, a station, a way to behave.

    What the account raised itself is left out, at most all that it raised anywhere. The thing whose others are oddest counts.
    """
    own = counts["account.month"].suspect
    for slot in SUSPECTS:
        count = counts.get(slot)
        if count is None or count.suspect <= own:
            continue
        mean = (count.suspect - own) / (count.events + 2 * DOUBT)
        if mean > f.company_odds:
            f.company_odds, f.company_events, f.company = mean, count.events, slot.partition(".")[0]


def level(mean: float) -> int:
    """Where a mean (nats) is, in LOOKS steps to what is as strong as it gets: a ring is looked through again when this rises."""
    return min(LOOKS, int(mean / HISTORY_NATS * LOOKS))


def look_back(judge: Judge, account_id: int, record: Record, ring: Ring, *, report_all: bool = False) -> list[Again]:
    """Judge the remembered events of an account again; those that are to be held now, or all whose score rose."""
    found: list[Again] = []
    hold_bp = judge.model.hold_bp
    for past in record.past:
        if past.score_bp >= hold_bp and not report_all:
            continue
        f = Features()
        inherit(f, record, past.kind, ring, but=past)
        strengths = _strengths(past, f)
        verdict = judge.decide(strengths, kind=past.kind)
        if verdict.score_bp > past.score_bp:
            if report_all or verdict.score_bp >= hold_bp:
                found.append(Again(account_id=account_id, number=past.number, verdict=verdict, strengths=strengths))
            past.score_bp = verdict.score_bp
    return found


def as_past(number: int, at: int, kind: int, verdict: Verdict, strengths: Sequence[float]) -> Past:
    """What to remember of an event."""
    fired = tuple((i, strength) for i, strength in enumerate(strengths) if strength and i not in RECORDED)
    return Past(number, at, kind, verdict.own, verdict.score_bp, fired)


def _strengths(past: Past, f: Features) -> tuple[float, ...]:
    strengths = [0.0] * len(SIGNALS)
    for i, strength in past.fired:
        strengths[i] = strength
    for i in RECORDED:
        strengths[i] = SIGNALS[i].look(f)
    return tuple(strengths)

"""All steps in one place, over state in memory: for evaluation, for tuning, and as the model of what a worker does in batches."""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from service.domain.fraud.features import Features, features_of
from service.domain.fraud.history import Again, accompany, as_past, inherit, level, look_back
from service.domain.fraud.journal import Table
from service.domain.fraud.model import PASS, Judge, Verdict
from service.domain.fraud.norms import MemoryNorms, Norms
from service.domain.fraud.observation import Observation
from service.domain.fraud.records import (
    LARGE,
    LEAST_OWN,
    MOST_ODDS,
    ODD_FROM,
    ORDER_POINTS,
    SUMMED,
    Record,
    kind_of,
    new_record,
    new_records,
)
from service.domain.fraud.rings import Ring, Rings
from service.domain.fraud.signals import strengths_of
from service.domain.fraud.touches import YOUNG_MOST_S, aftermath, by_slot, keys_of
from service.domain.fraud.windows import MemoryWindows, Windows

LEAST_PASSED_ON: Final = 0.25
"""Nats below which nothing is added to what an event shares with others: a quarter of a weak signal."""


class Judged(Struct, frozen=True, kw_only=True, gc=False):
    """A verdict and what it rests on. Without strengths the event earns nothing and was not judged."""

    verdict: Verdict
    kind: int = 0
    """Index of records.KINDS."""
    strengths: tuple[float, ...] = ()
    features: Features | None = None
    again: tuple[Again, ...] = ()
    """Earlier events of its account or its ring that are to be held now, or to be listed in the ring's case if they have settled."""


_UNJUDGED: Final = Judged(verdict=PASS)


class Pipeline:
    """Judges events one after the other, in order of arrival. Each event once: repeats are sorted out before.

    `report_all`: report every second look that raised a score, whether it holds or not, as tuning wants them.
    """

    def __init__(
        self, judge: Judge, *, windows: Windows | None = None, rings: Rings | None = None, norms: Norms | None = None,
        records: Table[int, Record] | None = None, report_all: bool = False,
    ) -> None:  # fmt: skip
        self.judged_by = judge
        self._windows: Windows = windows or MemoryWindows()
        self._rings = rings or Rings()
        self._norms: Norms = norms or MemoryNorms()
        self._records = new_records() if records is None else records
        self._report_all = report_all

    def judge(self, o: Observation) -> Judged:
        """Count the event in, judge it if it earns, let its suspicion fall on what it shares, and look back if that changed enough."""
        young_s = self._norms.young_s()
        touches = keys_of(o, young_s=young_s)
        young = o.age_s < min(young_s, YOUNG_MOST_S)
        ring = self._rings.join(o, young=young)
        if o.points <= 0:
            self._windows.note(touches)
            return _UNJUDGED
        counts = self._windows.add(touches)
        record = self._record(o.account_id)
        slots, kind = by_slot(touches, counts), kind_of(o.type)
        features = features_of(o, slots, ring, self._norms)
        if kind == 0:
            features.measures[ORDER_POINTS] = o.points
            if self._norms.spreads(ORDER_POINTS, o.points) > 0:
                kind = LARGE
        inherit(features, record, kind, ring)
        accompany(features, slots)
        strengths = strengths_of(features)
        verdict = self.judged_by.decide(strengths, kind=kind)
        own = min(verdict.own, MOST_ODDS)
        if own >= LEAST_PASSED_ON:
            self._windows.note(aftermath(touches, odds=own))
        self._norms.learn(features.measures, young=young)
        record.kinds[kind % SUMMED].add(o.at, own)
        self._records.note(o.account_id)
        ring.sums.add(o.at, own)
        again: tuple[Again, ...] = ()
        if own >= LEAST_OWN:
            again = self._look_back(o.account_id, record, ring, odd=own >= ODD_FROM)
            record.remember(as_past(o.number, o.at, kind, verdict, strengths))
            ring.suspect(o.account_id)
        return Judged(verdict=verdict, kind=kind, strengths=strengths, features=features, again=again)

    def clear(self, accounts: Iterable[int]) -> None:
        """A person approved what these accounts did: their suspicion is forgotten, in their rings, too, and nothing of it is judged again.

        Their events still count: as events without suspicion. A repeat is safe.
        """
        for account in accounts:
            record = self._records.get(account)
            if record is None:
                continue
            ring = self._rings.ring(account)
            ring.forgive(account, record.all(), convicted=record.convicted)
            for sums in record.kinds:
                sums.odds = sums.odd = 0.0
            record.past.clear()
            record.convicted = False
            self._records.note(account)
            self._rings.note(ring)

    def convict(self, accounts: Iterable[int]) -> tuple[Again, ...]:
        """A person rejected what these accounts did: they, and by share the accounts of their rings, start with a prior from now on.

        What is to be held of their rings with that, or clawed back. A repeat is safe.
        """
        again: list[Again] = []
        for account in accounts:
            record = self._record(account)
            if record.convicted:
                continue
            record.convicted = True
            ring = self._rings.ring(account)
            ring.convicted += 1
            ring.suspect(account)
            again += self._look_through(ring)
            self._records.note(account)
            self._rings.note(ring)
        return tuple(again)

    def _record(self, account: int) -> Record:
        record = self._records.get(account)
        if record is None:
            record = self._records[account] = new_record()
        return record

    def _look_back(self, account: int, record: Record, ring: Ring, *, odd: bool) -> tuple[Again, ...]:
        """Through the account's events after each odd one, through those of its whole ring when the ring's mean rose by a step."""
        if ring.size > 1 and (reached := level(ring.sums.mean())) > ring.seen:
            ring.seen = reached
            return tuple(self._look_through(ring))
        return tuple(look_back(self.judged_by, account, record, ring, report_all=self._report_all)) if odd else ()

    def _look_through(self, ring: Ring) -> list[Again]:
        for account in ring.suspects:
            self._records.note(account)
        return [
            again
            for account in ring.suspects
            for again in look_back(self.judged_by, account, self._records[account], ring, report_all=self._report_all)
        ]

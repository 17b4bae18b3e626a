"""All steps in one place, over state in memory: for evaluation, for tuning, and as the model of what a worker does in batches."""

from typing import Final

from msgspec import Struct

from service.domain.fraud.features import Features, features_of
from service.domain.fraud.model import BASIS, PASS, Judge, Verdict
from service.domain.fraud.norms import MemoryNorms, Norms
from service.domain.fraud.observation import Observation
from service.domain.fraud.rings import Rings
from service.domain.fraud.signals import strengths_of
from service.domain.fraud.touches import YOUNG_MOST_S, aftermath, by_slot, keys_of
from service.domain.fraud.windows import MemoryWindows, Windows

LEAST_SUSPICION: Final = 0.02
"""Probabilities below it are not passed on: they are everybody's."""


class Judged(Struct, frozen=True, kw_only=True, gc=False):
    """A verdict and what it rests on. Without strengths the event earns nothing and was not judged."""

    verdict: Verdict
    strengths: tuple[float, ...] = ()
    features: Features | None = None
    ring: int = 0
    """An account that stands for the ring that the event's account is in; 0: not judged."""


_UNJUDGED: Final = Judged(verdict=PASS)


class Pipeline:
    """Judges events one after the other, in order of arrival. Each event once: repeats are sorted out before."""

    def __init__(self, judge: Judge, *, windows: Windows | None = None, rings: Rings | None = None, norms: Norms | None = None) -> None:
        self.judged_by = judge
        self._windows: Windows = windows or MemoryWindows()
        self._rings = rings or Rings()
        self._norms: Norms = norms or MemoryNorms()

    def judge(self, o: Observation) -> Judged:
        """Count the event in, judge it if it earns, and let its suspicion fall on what it shares."""
        young_s = self._norms.young_s()
        touches = keys_of(o, young_s=young_s)
        young = o.age_s < min(young_s, YOUNG_MOST_S)
        ring = self._rings.join(o, young=young)
        if o.points <= 0:
            self._windows.note(touches)
            return _UNJUDGED
        counts = self._windows.add(touches)
        features = features_of(o, by_slot(touches, counts), ring, self._norms)
        strengths = strengths_of(features)
        verdict = self.judged_by.decide(strengths)
        suspicion = verdict.own_bp / BASIS
        if suspicion >= LEAST_SUSPICION:
            self._windows.note(aftermath(touches, suspicion=suspicion))
            self._rings.suspect(o.account_id, suspicion)
        self._norms.learn(features.measures, young=young)
        return Judged(verdict=verdict, strengths=strengths, features=features, ring=ring.root)

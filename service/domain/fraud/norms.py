"""What is usual in a program: running distributions of what signals measure, so that no threshold is a constant fitted to one program.

A measure is a histogram of its logarithm, eight bins to a doubling, whose counts are halved now and then: it follows seasons and
campaign days. What is read is robust against the few percent that are fraud: how many spreads a value lies above the median, a spread
being the way from the median to the 95th percentile, at least a doubling.
"""

from collections.abc import Mapping
from itertools import accumulate
from math import log, log2
from typing import Final, Protocol

from msgspec import Struct

BINS_A_DOUBLING: Final = 8
_LOWEST: Final = -10
"""Everything below 2^-10 is one bin."""
_BINS: Final = (_LOWEST * -1 + 40) * BINS_A_DOUBLING
MAX_TOTAL: Final = 200_000
"""Counts are halved beyond it: some weeks of a middling program."""
ENOUGH: Final = 200
"""Values before a measure says anything: ten lie above the 95th percentile."""
KNOWN: Final = 4_000
"""Values from which on a measure is sampled: 200 lie above the 95th percentile, so that it hardly moves any more."""
SAMPLE: Final = 8
"""One event of so many teaches a measure that is known, and stands for all of them."""
MAX_MEASURES: Final = 512
"""Measures (one a category of goods and class of packaging among them); more are not kept."""
LEAST_SPREAD: Final = log(2)
YOUNG: Final = "age"
_YOUNG_SHARE: Final = 0.25
FIRST_YOUNG: Final = 0.5
"""Share of young accounts in points while nothing is known: a new program has hardly any others."""
_MEMORY: Final = 5_000
"""Events over which the share of the young is averaged."""


class Norms(Protocol):
    """Read while a batch is judged; learn from it afterwards."""

    def spreads(self, measure: str, value: float) -> float:
        """How many spreads (in logarithms) a value lies above the median; negative: below. 0 while too little is known."""

    def young_s(self) -> int:
        """The age (seconds) below which an account is young: the lower quartile of ages at events."""

    def young_share(self) -> float:
        """The share of events that young accounts earn by, lately."""

    def learn(self, measures: Mapping[str, float], *, young: bool) -> None:
        """Count one event's values, and whether its account is young."""


class Histogram(Struct, gc=False):
    """One measure. What is read was worked out when the counts were last looked through; logarithms are natural."""

    counts: list[int]
    total: int = 0
    fresh: int = 0
    """Values since then."""
    low: float = 0.0
    median: float = 0.0
    spread: float = LEAST_SPREAD
    spread_below: float = LEAST_SPREAD

    def learn(self, value: float, weight: int) -> None:
        """Count a value; `weight` is how many it stands for."""
        self.counts[_bin(value)] += weight
        self.total += weight
        self.fresh += weight
        # Looking a quantile up takes all bins, so that it is done once in 2 % more values.
        if self.fresh * 50 >= self.total and self.fresh >= ENOUGH // 4:
            self._refresh()

    def _refresh(self) -> None:
        self.fresh = 0
        if self.total > MAX_TOTAL:
            self.counts = [count // 2 for count in self.counts]
            self.total = sum(self.counts)
        low, self.low, self.median, high = self._quantiles(0.05, _YOUNG_SHARE, 0.5, 0.95)
        self.spread, self.spread_below = max(LEAST_SPREAD, high - self.median), max(LEAST_SPREAD, self.median - low)

    def _quantiles(self, *shares: float) -> list[float]:
        """Natural logarithms of the middles of the bins in which these shares are reached; shares ascend."""
        found: list[float] = []
        below = accumulate(self.counts)
        reached, i = next(below), 0
        for share in shares:
            while reached < share * self.total:
                reached, i = next(below), i + 1
            found.append(((i + 0.5) / BINS_A_DOUBLING + _LOWEST) * LEAST_SPREAD)
        return found


class MemoryNorms:
    """In memory, for one program. 400 counts a measure. One that knows enough learns from one event of SAMPLE only, in their order."""

    def __init__(self, *, tracked: bool = False) -> None:
        self.measures: dict[str, Histogram] = {}
        self.changes: set[str] | None = set() if tracked else None
        """Measures that have learnt since somebody last cleared it."""
        self.share = FIRST_YOUNG
        self.turn = 0
        self._known = set[str]()
        """Measures that are sampled: their totals stay above KNOWN, however often they are halved."""

    def spreads(self, measure: str, value: float) -> float:
        """As Norms.spreads."""
        found = self.measures.get(measure)
        if found is None or found.total < ENOUGH or value <= 0:
            return 0.0
        above = log(value) - found.median
        return above / (found.spread if above > 0 else found.spread_below)

    def young_s(self) -> int:
        """As Norms.young_s; a day while too little is known."""
        found = self.measures.get(YOUNG)
        return 86_400 if found is None or found.total < ENOUGH else int(2.718281828**found.low)

    def young_share(self) -> float:
        """As Norms.young_share; never quite 0 or 1, because surprise divides by it."""
        return min(0.95, max(0.02, self.share))

    def learn(self, measures: Mapping[str, float], *, young: bool) -> None:
        """As Norms.learn."""
        self.share += (young - self.share) / _MEMORY
        self.turn = (self.turn + 1) % SAMPLE
        known = self._known
        for measure in measures if self.turn == 0 else [measure for measure in measures if measure not in known]:
            found = self.measures.get(measure)
            if found is None:
                if len(self.measures) >= MAX_MEASURES:
                    continue
                found = self.measures[measure] = Histogram([0] * _BINS)
            if found.total < KNOWN:
                found.learn(measures[measure], 1)
            elif self.turn == 0:
                found.learn(measures[measure], SAMPLE)
            else:
                known.add(measure)
                continue
            if self.changes is not None:
                self.changes.add(measure)


def surprise(hits: float, trials: float, share: float) -> float:
    """How surprising `hits` of `trials` are where `share` is usual: the log-likelihood ratio in nats (trials × KL divergence); 0 below.

    3 nats are odds of 20 to 1, 7 of 1,000 to 1.
    """
    if trials <= 0 or hits <= share * trials:
        return 0.0
    rate = min(hits / trials, 1.0)
    rest = trials * (1 - rate) * log((1 - rate) / (1 - share)) if rate < 1 else 0.0
    return trials * rate * log(rate / share) + rest


def _bin(value: float) -> int:
    if value <= 0:
        return 0
    found = int((log2(value) - _LOWEST) * BINS_A_DOUBLING)
    return found if 0 <= found < _BINS else 0 if found < 0 else _BINS - 1

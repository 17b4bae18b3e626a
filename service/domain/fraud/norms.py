"""What is usual in a program: running distributions of what signals measure, so that no threshold is a constant fitted to one program.

A measure is a histogram of its logarithm, eight bins to a doubling, whose counts are halved now and then: it follows seasons and
campaign days. What is read is robust against the few percent that are fraud: how many spreads a value lies above the median, a spread
being the way from the median to the 95th percentile, at least a doubling.
"""

from collections.abc import Mapping
from math import log, log2
from typing import Final, Protocol

BINS_A_DOUBLING: Final = 8
_LOWEST: Final = -10
"""Everything below 2^-10 is one bin."""
_BINS: Final = (_LOWEST * -1 + 40) * BINS_A_DOUBLING
MAX_TOTAL: Final = 200_000
"""Counts are halved beyond it: some weeks of a middling program."""
ENOUGH: Final = 200
"""Values before a measure says anything: ten lie above the 95th percentile."""
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


class _Histogram:
    __slots__ = ("counts", "fresh", "low", "median", "spread", "spread_below", "total")

    def __init__(self) -> None:
        self.counts = [0] * _BINS
        self.total = self.fresh = 0
        self.median = self.low = 0.0
        self.spread = self.spread_below = LEAST_SPREAD

    def learn(self, value: float) -> None:
        self.counts[_bin(value)] += 1
        self.total += 1
        self.fresh += 1
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
        wanted, below = list(shares), 0
        for i, count in enumerate(self.counts):
            below += count
            while wanted and below >= wanted[0] * self.total:
                found.append(((i + 0.5) / BINS_A_DOUBLING + _LOWEST) * log(2))
                wanted.pop(0)
        return found


class MemoryNorms:
    """In memory, for one program. 400 counts a measure."""

    def __init__(self) -> None:
        self._measures: dict[str, _Histogram] = {}
        self._young_share = FIRST_YOUNG

    def spreads(self, measure: str, value: float) -> float:
        """As Norms.spreads."""
        found = self._measures.get(measure)
        if found is None or found.total < ENOUGH or value <= 0:
            return 0.0
        above = log(value) - found.median
        return above / (found.spread if above > 0 else found.spread_below)

    def young_s(self) -> int:
        """As Norms.young_s; a day while too little is known."""
        found = self._measures.get(YOUNG)
        return 86_400 if found is None or found.total < ENOUGH else int(2.718281828**found.low)

    def young_share(self) -> float:
        """As Norms.young_share; never quite 0 or 1, because surprise divides by it."""
        return min(0.95, max(0.02, self._young_share))

    def learn(self, measures: Mapping[str, float], *, young: bool) -> None:
        """As Norms.learn."""
        self._young_share += (young - self._young_share) / _MEMORY
        for measure, value in measures.items():
            found = self._measures.get(measure)
            if found is None:
                if len(self._measures) >= MAX_MEASURES:
                    continue
                found = self._measures[measure] = _Histogram()
            found.learn(value)


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
    return 0 if value <= 0 else min(_BINS - 1, max(0, int((log2(value) - _LOWEST) * BINS_A_DOUBLING)))

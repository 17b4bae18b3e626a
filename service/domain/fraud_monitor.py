"""How scores are spread, and how far a spread has moved."""

from bisect import bisect_right
from collections.abc import Mapping
from math import log
from typing import Final

BINS: Final = (0, 10, 30, 100, 300, 1_000, 3_000, 5_000, 7_000, 9_000)
"""Where the bins of scores begin, in basis points. Nine of ten scores are below one percent: equal tenths would all be in the first."""
DRIFTED: Final = 0.25
"""A stability index above it is a shift to look into (Siddiqi: below 0.1 none, up to 0.25 a small one)."""
LEAST_EVENTS: Final = 1_000
"""Of each side: fewer move by chance."""
_SMOOTHING: Final = 0.5
"""Added to each bin, so that an empty one is not infinitely far."""


def bin_of(score_bp: int) -> int:
    """The bin of a score: where it begins."""
    return BINS[bisect_right(BINS, score_bp) - 1]


def stability_index(before: Mapping[int, int], now: Mapping[int, int]) -> float:
    """The population stability index of two counts by bin; 0: the same spread, whatever the numbers of events.

    PSI = Σ (now − before) × ln(now ÷ before) over the shares of the bins: N. Siddiqi, Credit Risk Scorecards, 2006, chapter 12. It is
    Jeffreys' divergence, symmetric and never negative.
    """
    sizes = [sum(side.get(b, 0) + _SMOOTHING for b in BINS) for side in (before, now)]
    total = 0.0
    for b in BINS:
        was, is_ = ((side.get(b, 0) + _SMOOTHING) / size for side, size in zip((before, now), sizes, strict=True))
        total += (is_ - was) * log(is_ / was)
    return total

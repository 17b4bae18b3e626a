"""Where things happen: regions with their networks, collection stations with hours and people."""

import math
from random import Random

from loadtests.traffic.clock import DAY, HOUR
from loadtests.traffic.parameters import Parameters

UNIT_MASS_G = {
    "plastic_mailer": 14, "corrugated_plastic_fill": 40, "foam_box": 180, "single_use_container": 22, "original_product_pack": 150,
    "reused_carton": 300, "recycled_content_carton": 300, "circular_box": 650, "circular_bag": 90, "deposit_container": 240,
}  # fmt: skip
"""Grams of one unit, near those of docs/impact.md where it has one; else an assumption."""


class Region:
    """A prefecture. Its mobile carriers put thousands behind each of a few addresses."""

    __slots__ = ("_prefix", "code", "nat", "x", "y")

    def __init__(self, rng: Random, number: int) -> None:
        self.code = f"{110_000 + 10_000 * (number % 55) + 100 * (number // 55 + 1)}"
        self.x, self.y = rng.uniform(0, 3_000), rng.uniform(0, 3_000)
        self._prefix = f"{rng.randint(36, 125)}.{rng.randint(1, 254)}"
        self.nat = [f"{rng.randint(36, 125)}.{rng.randint(1, 254)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}" for _ in range(3)]

    def ip(self, rng: Random) -> str:
        """An address of a home or an office there."""
        return f"{self._prefix}.{rng.randrange(256)}.{rng.randint(1, 254)}"


class Station:
    """A place that takes packaging back."""

    __slots__ = ("attendants", "classes", "closes", "code", "offline", "opens", "region", "scale", "weighs")

    def __init__(self, rng: Random, code: str, region: Region, *, offline: bool) -> None:
        self.code, self.region, self.offline = code, region, offline
        around_the_clock = rng.random() < 0.25
        self.opens = 0 if around_the_clock else rng.choice((7, 8, 9)) * HOUR
        self.closes = DAY if around_the_clock else rng.choice((18, 20, 21, 22)) * HOUR
        self.attendants = [] if around_the_clock else [f"a-{rng.getrandbits(24):06x}" for _ in range(rng.randint(1, 3))]
        self.weighs = rng.random() < 0.7
        self.scale = rng.gauss(1, 0.02)
        """A scale that was never adjusted reads a little wrong, always the same way."""

    def mass(self, rng: Random, class_: str, units: int) -> int:
        """What its scale shows for so many units, in grams."""
        return max(1, round(UNIT_MASS_G[class_] * units * self.scale * rng.gauss(1, 0.08)))

    def opening(self, t: float) -> float:
        """The first moment from `t` on at which it is open."""
        day, second = divmod(t, DAY)
        if second < self.opens:
            return day * DAY + self.opens + (t % 900)
        return t if second < self.closes else (day + 1) * DAY + self.opens + (t % 900)


class Places:
    """All regions and stations of a world."""

    def __init__(self, rng: Random, parameters: Parameters) -> None:
        self.regions = [Region(rng, n) for n in range(max(3, min(40, parameters.consumers // 400)))]
        self._weights = [1 / (n + 1) for n in range(len(self.regions))]
        self.stations: dict[str, list[Station]] = {}
        number = 0
        for region, weight in zip(self.regions, self._weights, strict=True):
            share = weight / sum(self._weights)
            here = self.stations[region.code] = []
            for _ in range(max(2, round(share * parameters.consumers / 120))):
                number += 1
                here.append(Station(rng, f"st-{number:04}", region, offline=rng.random() < parameters.offline))
        self.vpn = [(self.region(rng).ip(rng), self.region(rng)) for _ in range(12)]
        """Exits of VPN services: an ip and where it is."""

    def region(self, rng: Random) -> Region:
        """One of them; big cities are much bigger than others."""
        return rng.choices(self.regions, self._weights)[0]

    def far_apart(self, rng: Random) -> tuple[Region, Region]:
        """Two regions with some hours of travel between them, if there are such."""
        pairs = [rng.sample(self.regions, 2) for _ in range(8)]
        one, other = max(pairs, key=lambda pair: math.dist((pair[0].x, pair[0].y), (pair[1].x, pair[1].y)))
        return one, other

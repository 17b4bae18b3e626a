"""Frauds that places and times give away."""

from typing import ClassVar, Final

from loadtests.traffic.clock import DAY, HOUR
from loadtests.traffic.patterns.accounts import small_gain
from loadtests.traffic.rings import Pattern, Ring


class ImpossibleTravel(Pattern):
    """Accounts that a crowd uses together, or a script through proxies: another region every few minutes."""

    name: ClassVar[str] = "impossible_travel"

    def plan(self, ring: Ring) -> None:
        """Runs of acts, each from somewhere else; the careful pause between two regions for up to two hours."""
        rng, places = ring.rng, ring.world.places
        people = ring.members(1, 8, mixed=0.2)
        while ring.wants():
            one, t = rng.choice(people), ring.moment()
            for _ in range(rng.randint(2, 6)):
                region = places.region(rng)
                small_gain(ring, t, one, place=(region.ip(rng), region.code))
                t += rng.uniform(60, 600 + 2 * HOUR * ring.care)


class Clockwork(Pattern):
    """A script that never sleeps: the same act at exact intervals, through the night."""

    name: ClassVar[str] = "clockwork"

    def plan(self, ring: Ring) -> None:
        """An interval for all; the careful let it tremble by some percent."""
        rng = ring.rng
        people = ring.members(1, 5, mixed=0.15)
        activity = rng.choice(("e_receipt", "refill", "learning"))
        every = rng.choice((300, 600, 900, 1_800, HOUR))
        clocks = [ring.start + rng.random() * DAY for _ in people]
        while ring.wants():
            n = min(range(len(people)), key=clocks.__getitem__)
            ring.act(clocks[n], people[n], activity)
            clocks[n] += every * (1 + rng.uniform(-0.1, 0.1) * ring.care)


PATTERNS: Final = (ImpossibleTravel, Clockwork)

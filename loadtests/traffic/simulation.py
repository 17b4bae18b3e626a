"""The course of a world: hour by hour, everybody acts, and what has arrived is handed out."""

import heapq
from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from datetime import date
from math import cos, tau
from random import Random
from typing import Any

from loadtests.traffic.actions import Actions, Boxes
from loadtests.traffic.clock import DAY, HOUR, Clock
from loadtests.traffic.format import Label, Sent
from loadtests.traffic.living import Life
from loadtests.traffic.parameters import Parameters, draw
from loadtests.traffic.patterns import PATTERNS
from loadtests.traffic.people import Consumer, Population
from loadtests.traffic.places import Places
from loadtests.traffic.reporting import Reporter
from loadtests.traffic.rings import Rings

_Due = tuple[float, int, Callable[..., None], tuple[Any, ...]]


class Traffic:
    """An iterator of (Sent, Label) in order of arrival, once. The same arguments give the same lines.

    `events` is about how many (within a quarter), `fraud` the share of fraudulent points in all points that are earned. `patterns` names
    the frauds that occur (None: all), `without` leaves some of them out. `start` is the first day, in China; without it the seed draws one.
    Raises ValueError for a name that is none, and for numbers that make no world.
    """

    def __init__(
        self, *, events: int = 1_000_000, days: int = 30, seed: int = 1, fraud: float = 0.01,
        patterns: Collection[str] | None = None, without: Collection[str] = (), start: date | None = None,
    ) -> None:  # fmt: skip
        if unknown := {*(patterns or ()), *without} - PATTERNS.keys():
            raise ValueError(f"no such pattern: {', '.join(sorted(unknown))}")
        if events < 1 or days < 1 or not 0 <= fraud < 1:
            raise ValueError("events and days must be above 0, and fraud at least 0 and below 1")
        self.parameters: Parameters = draw(seed=seed, events=events, days=days, start=start)
        self._events = events
        self._rng = Random(f"life:{seed}")
        self._clock = Clock(self.parameters.start)
        self._reporter = Reporter(self.parameters, self._clock)
        self.places = Places(self._rng, self.parameters)
        self.population = Population(self._rng, self.parameters, self.places)
        self.consumers: list[Consumer] = []
        """All that act honestly by habit; more of them every day."""
        actions = Actions(self._reporter)
        self.boxes = {platform.code: Boxes(self._rng, platform) for platform in self.population.platforms}
        self.life = Life(self._rng, self.parameters, self.places, actions, self._clock, self.boxes, self.later)
        chosen = [PATTERNS[name] for name in PATTERNS if name not in without and (patterns is None or name in patterns)]
        self._rings = Rings(self, actions, chosen, share=fraud)
        self._due: defaultdict[int, list[_Due]] = defaultdict(list)
        self._now: list[_Due] = []
        self._hour = -1
        self._sequence = 0

    def __iter__(self) -> Iterator[tuple[Sent, Label]]:
        for day in range(self.parameters.days):
            self._grow(day)
            for t, consumer in self._sessions(day):
                self.later(t, self.life.session, consumer)
            for hour in range(day * 24, day * 24 + 24):
                self._live(hour)
                yield from self._reporter.arrived(hour)
                self._rings.start(after=(hour + 1) * HOUR, honest_points=self._reporter.honest_points, events=self._events)

    def habits(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """By platform and consumer what is particular about the honest so far: names of hard negatives (docs/fraud-traffic.md)."""
        return {(one.platform.code, one.ref): one.habits for one in self.consumers if one.habits}

    def _live(self, hour: int) -> None:
        """Everything that happens in an hour, in order; what it causes in the same hour is part of it."""
        self._hour, self._now = hour, self._due.pop(hour, [])
        heapq.heapify(self._now)
        while self._now:
            t, _, act, arguments = heapq.heappop(self._now)
            act(t, *arguments)

    def later(self, t: float, act: Callable[..., None], *arguments: object) -> None:
        """Have something done at `t`, now or to come."""
        self._sequence += 1
        hour = int(t // HOUR)
        if hour == self._hour:
            heapq.heappush(self._now, (t, self._sequence, act, arguments))
        else:
            self._due[hour].append((t, self._sequence, act, arguments))

    def _grow(self, day: int) -> None:
        """New people, and the changes of a day: other home ips from the carrier, phones sold on, lessons at school, collection days."""
        p, rng = self.parameters, self._rng
        wanted = p.consumers * (1 + p.growth_a_day * day) + (p.consumers * 0.05 if day > p.campaign_day >= 0 else 0)
        while len(self.consumers) < wanted:
            self.consumers += self.population.household()
        for _ in range(len(self.consumers) // 30):
            one = rng.choice(self.consumers)
            one.ip = one.home.ip(rng)
        for _ in range(len(self.consumers) // 3_000 + (rng.random() < 0.3)):
            seller, buyer = rng.sample(self.consumers, 2)
            buyer.device, seller.device = seller.device, f"{rng.getrandbits(64):016x}"
            for one in (seller, buyer):
                one.habits = (*one.habits, "second_hand_phone")
                one.moved()

        if self._clock.weekday(day) < 5 and rng.random() < min(0.9, len(self.consumers) / 4_000):
            pupils = rng.choice(self.consumers).building
            self.later((day * 24 + rng.randint(8, 15)) * HOUR, self.life.lesson, list(pupils), pupils[0].home.ip(rng))

        if rng.random() < 0.1:  # somewhere a collection day is announced
            station = rng.choice(self.consumers).station
            for one in self.consumers:
                if one.station is station and one.bag:
                    self.later((day * 24 + rng.uniform(10, 17)) * HOUR, self.life.trip, one)
                    one.habits = (*one.habits, "collection_day")

    def _sessions(self, day: int) -> Iterator[tuple[float, Consumer]]:
        p, rng = self.parameters, self._rng
        factor = 1 + p.season * cos(tau * day / 60)
        if self._clock.weekday(day) >= 5:
            factor *= p.weekend
        if day == p.campaign_day:
            factor *= p.campaign_factor
        uniform = rng.random
        for consumer in self.consumers:
            expected = consumer.rate * factor
            # Poisson by its waiting times.
            left = rng.expovariate(1)
            while left < expected:
                left += rng.expovariate(1)
                yield day * DAY + (bisect(consumer.hours, uniform() * consumer.hours[-1]) + uniform()) * HOUR, consumer

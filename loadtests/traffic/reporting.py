"""How what happens becomes events: texts, clocks, delays and repeats of the platforms, and the label beside each event."""

from collections import defaultdict
from random import Random

from msgspec import Raw

from loadtests.traffic.clock import HOUR, Clock
from loadtests.traffic.format import Label, Sent
from loadtests.traffic.parameters import Parameters
from loadtests.traffic.people import Consumer, Platform


class Truth:
    """What a fraudulent event belongs to, and how many points that tried to earn inside the period."""

    __slots__ = ("pattern", "ring", "tried")

    def __init__(self, pattern: str, ring: str) -> None:
        self.pattern, self.ring, self.tried = pattern, ring, 0


_Waiting = tuple[float, int, Platform, str, str, str, int, Truth | None]


class Reporter:
    """Takes what happens and gives it back as lines in order of arrival. All times are seconds since the period's start."""

    def __init__(self, parameters: Parameters, clock: Clock) -> None:
        self.honest_points = 0
        """Positive points of honest events that have arrived."""
        self._clock, self._retry = clock, parameters.retry
        self._end = parameters.days * 24 * HOUR
        self._hours: defaultdict[int, list[_Waiting]] = defaultdict(list)
        self._sequence = 0

    def report(
        self, rng: Random, t: float, consumer: Consumer, kind: str, body: str, points: int, *,
        attributes: str = "", named: bool = True, late_s: float = 0.0, truth: Truth | None = None,
    ) -> str:  # fmt: skip
        """One event that happened at `t`; its id. `body` and `attributes` are members of JSON objects."""
        platform = consumer.platform
        id_ = f"e{platform.number()}"
        who = f'"consumer":"{consumer.ref}",' if named else ""
        free = f',"attributes":{{{attributes}}}' if attributes else ""
        at = t + late_s + rng.random() * 2
        if platform.every_s:
            at += platform.every_s - at % platform.every_s + rng.random() * 20
        elif rng.random() < 0.01:
            at += rng.expovariate(1 / 1_800)  # a delivery that failed and was tried again
        occurred = min(t + platform.ahead_s, at + 240) if platform.ahead_s else t
        when = self._clock.text(occurred, utc=platform.utc)
        text = f'{{"id":"{id_}","type":"{kind}","occurred_at":"{when}",{who}{body}{free}}}'
        self._wait(at, platform, text, id_, consumer.ref, points, truth)
        if rng.random() < self._retry:
            self._wait(at + rng.choice((1, 5, 30, 300, 3_600)) * rng.uniform(0.8, 1.2), platform, text, id_, consumer.ref, 0, truth)
        return id_

    def _wait(self, at: float, platform: Platform, text: str, id_: str, ref: str, points: int, truth: Truth | None) -> None:
        if at >= self._end:
            return
        if truth is not None and points > 0:
            truth.tried += points
        self._sequence += 1
        self._hours[int(at // HOUR)].append((at, self._sequence, platform, text, id_, ref, points, truth))

    def arrived(self, hour: int) -> list[tuple[Sent, Label]]:
        """What arrives in this hour since the start, in order. Nothing that happens later can arrive in it."""
        lines = []
        instant = self._clock.instant
        for at, _, platform, text, id_, ref, points, truth in sorted(self._hours.pop(hour, ())):
            if truth is None:
                if points > 0:
                    self.honest_points += points
                label = Label(platform=platform.code, event=id_, consumer=ref, points=points)
            else:
                label = Label(platform=platform.code, event=id_, consumer=ref, points=points, pattern=truth.pattern, ring=truth.ring)
            lines.append((Sent(at=instant(at), platform=platform.code, event=Raw(text.encode())), label))
        return lines

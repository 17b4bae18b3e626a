"""What is remembered of an account for aggregation: evidence is weak event by event and strong over an account and its ring.

Each event leaves what it raised by itself: its own log-odds, without what it inherited, at most MOST_ODDS. What is read is their mean over
the *other* events: not their sum, because an account that does the same thing every day says the same thing every day. So suspicion
does not feed itself, a busy account is no more suspicious than a quiet one, and a few odd events of many stay a few of many.
Sums fade by half in FADE_S of occurred_at.
"""

from typing import Final

from msgspec import Struct

from service.domain.fraud.journal import Table
from service.domain.fraud.windows import MONTH

FADE_S: Final = MONTH
"""Half-life, as long as the longest window of what is measured."""
MOST_ODDS: Final = 4.0
"""Nats that one event can add, odds of 55 to 1: no single event, however odd, makes an account by itself."""
ODD_FROM: Final = 1.0
"""Nats from which an event is called odd, e to 1: counted in sentences, and a reason to look at what came before it again."""
DOUBT: Final = 1.0
"""Events without suspicion that every account and ring is credited with: one event is no habit."""
MAX_PAST: Final = 32
"""Events of an account that can be judged again: enough for a month in which every day has an odd one."""
PAST_S: Final = MONTH
"""How long they can be: longer than any hold, and than a clawback is likely to find the points."""
LEAST_OWN: Final = 0.5
"""Nats that an event must raise by itself to be judged again: an ordinary event of an account that was taken over stays its owner's."""
KINDS: Final = ("order", "return", "activity", "large order")
"""Of events that earn. A large order earns more than the program's median order: it costs more than most frauds want to spend."""
LARGE: Final = 3
ORDER_POINTS: Final = "order.points"
"""What the program's norms learn to tell large orders."""
SUMMED: Final = 3
"""Kinds that are summed apart: orders are orders, large or not."""


def kind_of(type_: str) -> int:
    """Which of KINDS an event type that earns belongs to, orders aside from their size."""
    return 0 if type_.startswith("order") else 1 if type_ == "packaging.returned" else 2


class Past(Struct, array_like=True, gc=False):
    """An event that was judged. `fired`: strengths of its own signals, by index of SIGNALS; `score_bp`: the highest it ever got."""

    number: int
    at: int
    kind: int
    own: float
    score_bp: int
    fired: tuple[tuple[int, float], ...]


class Sums(Struct, array_like=True, gc=False):
    """Events, what they raised by themselves (nats, each at most MOST_ODDS), how many were odd; faded to `at` (seconds since 1970)."""

    at: int = 0
    events: float = 0
    odds: float = 0
    odd: float = 0

    def add(self, at: int, odds: float) -> None:
        """Count an event in. A late one counts as much less as it would have faded."""
        weight = self.turn(at)
        self.events += weight
        self.odds += weight * odds
        if odds >= ODD_FROM:
            self.odd += weight

    def turn(self, at: int) -> float:
        """Fade to `at` if that is later; what an event that happened then counts."""
        passed = at - self.at
        if passed <= 0:
            return float(0.5 ** (-passed / FADE_S))
        if self.events:
            kept = 0.5 ** (passed / FADE_S)
            self.events, self.odds, self.odd = self.events * kept, self.odds * kept, self.odd * kept
        self.at = at
        return 1.0

    def merge(self, other: "Sums", sign: int = 1) -> None:
        """Add another's sums, or take them away again (−1), never below 0."""
        weight = sign * self.turn(other.at)
        self.events = max(0.0, self.events + weight * other.events)
        self.odds = max(0.0, self.odds + weight * other.odds)
        self.odd = max(0.0, self.odd + weight * other.odd)

    def mean(self, *, but_events: float = 0.0, but_odds: float = 0.0) -> float:
        """Nats an event, without some; DOUBT events without suspicion are counted in."""
        return max(0.0, self.odds - but_odds) / (max(0.0, self.events - but_events) + DOUBT)


class Record(Struct, array_like=True):
    """One account: sums by kind of event, and the events that can be judged again, the newest last."""

    kinds: tuple[Sums, Sums, Sums]
    """By index of KINDS, modulo SUMMED."""
    past: list[Past]
    convicted: bool = False
    """A person rejected events of it."""

    @property
    def suspected(self) -> bool:
        """Whether anything it did raised suspicion: of most accounts nothing did, and nothing is inherited."""
        orders, returns, activities = self.kinds
        return orders.odds > 0 or returns.odds > 0 or activities.odds > 0

    def all(self) -> Sums:
        """Over all kinds."""
        total = Sums()
        for sums in self.kinds:
            if sums.events:
                total.merge(sums)
        return total

    def remember(self, past: Past) -> None:
        """Keep an event that raised suspicion by itself; the oldest makes room."""
        self.past.append(past)
        if len(self.past) > MAX_PAST or self.past[0].at < past.at - PAST_S:
            del self.past[0]


def new_records(*, tracked: bool = False) -> Table[int, Record]:
    """Of all accounts, by account id: none. `tracked`: see Table."""
    return Table(list[tuple[int, Record | None]], tracked=tracked)


def new_record() -> Record:
    """Of an account that was never judged."""
    return Record((Sums(), Sums(), Sums()), [])

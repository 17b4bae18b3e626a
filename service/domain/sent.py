"""Single-use packaging sent to consumers, and what of it came back: never more than was sent, within the program's window."""

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal

from msgspec import Struct

SentKey = tuple[int, str]
"""account, class."""


class Day(Struct, gc=False):
    """What was sent on one local day, and what of it came back, in units."""

    day: date
    units: Decimal
    returned: Decimal


class Sent:
    """What a batch knows and changes; the accounts' locks make it exact."""

    def __init__(self) -> None:
        self._days: dict[SentKey, list[Day]] = {}
        self.changes: dict[tuple[int, str, date], tuple[Decimal, Decimal]] = {}
        """(account, class, day) → units sent and returned, to add."""
        self.back: list[tuple[int, int, int, str, date, Decimal]] = []
        """(account, event, item, class, day, units): which of it a return counts as given back."""

    def ask(self, account: int, class_: str) -> None:
        """It may be given back in this batch."""
        self._days.setdefault((account, class_), [])

    @property
    def asked(self) -> list[SentKey]:
        """In the order in which they were asked for."""
        return list(self._days)

    def seal(self, days: Mapping[SentKey, list[Day]]) -> None:
        """Take what was read."""
        self._days |= days

    def send(self, account: int, class_: str, day: date, units: Decimal) -> None:
        """Units (negative: a shipment was declared wrong) went to a consumer."""
        self._add(account, class_, day, units, Decimal(0))
        if (known := self._days.get((account, class_))) is not None:
            for one in known:
                if one.day == day:
                    one.units += units
                    return
            known.append(Day(day, units, Decimal(0)))

    def unsend(self, account: int, class_: str, day: date, units: Decimal) -> None:
        """A shipment was declared wrong: it goes, but for what has come back of that day already."""
        known = next((one for one in self._days[account, class_] if one.day == day), None)
        if known is not None:
            self.send(account, class_, day, -min(units, known.units - known.returned))

    def give_back(self, account: int, class_: str, day: date, units: Decimal, *, window_days: int, event: int, item: int) -> Decimal:
        """Count at most `units` as given back on a local day, of what was sent in the days before, the oldest first; how many."""
        first = day - timedelta(days=window_days)
        counted = Decimal(0)
        for one in sorted(self._days[account, class_], key=lambda d: d.day):
            part = min(one.units - one.returned, units - counted)
            if first <= one.day <= day and part > 0:
                one.returned += part
                counted += part
                self._add(account, class_, one.day, Decimal(0), part)
                self.back.append((account, event, item, class_, one.day, part))
        return counted

    def left(self, account: int, class_: str, day: date, *, window_days: int) -> Decimal:
        """How many units can be given back on a local day."""
        first = day - timedelta(days=window_days)
        return sum((one.units - one.returned for one in self._days.get((account, class_), ()) if first <= one.day <= day), Decimal(0))

    def take_again(self, account: int, class_: str, day: date, units: Decimal) -> None:
        """A return was declared wrong: what it counted as given back is still out."""
        self._add(account, class_, day, Decimal(0), -units)

    def _add(self, account: int, class_: str, day: date, units: Decimal, returned: Decimal) -> None:
        before = self.changes.get((account, class_, day), (Decimal(0), Decimal(0)))
        self.changes[account, class_, day] = (before[0] + units, before[1] + returned)

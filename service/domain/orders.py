"""Facts and targets of one order (DESIGN §3): the same facts in any order and repetition give the same target."""

from decimal import Decimal
from fractions import Fraction

from schemas.events import OrderFulfilled, OrderPaid, Refund

_ALL = Fraction(1)
_NONE = Fraction(0)


class OrderFacts:
    """What is known about one order: what was bought, refunded (by refund id) and sent (by event id), whether it was cancelled."""

    __slots__ = ("_amounts", "_quantities", "_total", "bought", "cancelled", "declared_wrong", "refunds", "sent")

    def __init__(self) -> None:
        self.bought: OrderPaid | None = None
        self._total: Decimal | None = None
        self.refunds: dict[str, Refund] = {}
        self.cancelled = False
        self.sent: dict[str, OrderFulfilled] = {}
        """What tells how it was really packed, by event id."""
        self.declared_wrong: set[str] = set()
        """Ids of events that were declared wrong."""

    def paid(self, event: OrderPaid) -> None:
        """Add what was bought. The first report counts; a later one with other lines or another total changes nothing."""
        if self.bought is None:
            self.bought = event

    def really_sent(self) -> list[OrderFulfilled]:
        """What was sent, without what was declared wrong."""
        return [event for id_, event in self.sent.items() if id_ not in self.declared_wrong]

    def target(self, points: int, *, action: str, line: str | None) -> int:
        """The points, of those awarded, that these facts leave.

        An award for packaging has as its line the event that told what was really used; None: it was chosen at checkout.
        """
        if action != "packaging":
            return self.kept(points, line)
        if line in self.declared_wrong or (line is None and self.really_sent()):
            return 0  # what was really used stands in place of what was chosen at checkout
        return self.kept(points, None)

    def _reckon(self) -> Decimal:
        """What was paid in all; reads what was bought when it is first asked for, which is only where something goes back."""
        if self._total is None:
            assert self.bought is not None, "a target is asked for before the order was paid"
            self._total = Decimal(self.bought.order.total or 0)
            self._quantities = {line.id: Decimal(line.quantity) for line in self.bought.lines}
            self._amounts = {line.id: line_amount(line.quantity, line.unit_price, line.amount) for line in self.bought.lines}
        return self._total

    def kept(self, points: int, line: str | None) -> int:
        """The points, of those awarded for a line (None: for the whole order), that these facts leave: rounded down."""
        if self.cancelled:
            return 0
        if not self.refunds:
            return points
        self._reckon()
        share = self._share_by_amount() * (self._share_of_order() if line is None else self._share_of_line(line))
        return int(points * share)  # int() of a Fraction rounds towards zero

    def _share_by_amount(self) -> Fraction:
        """Refunds without lines count pro rata over what refunds with lines have left: (left − refunded) ÷ left.

        Where no refund has lines, all is left: kept = points × (total − refunded) ÷ total.
        """
        refunded = sum((Decimal(r.amount or 0) for r in self.refunds.values() if not r.lines), Decimal(0))
        if not refunded:
            return _ALL
        left = Fraction(self._reckon()) - self._value_of_refunded_lines()
        return _NONE if refunded >= left else (left - Fraction(refunded)) / left

    def _value_of_refunded_lines(self) -> Fraction:
        """What refunds with lines gave back, at the prices of the order."""
        if not any(r.lines for r in self.refunds.values()):
            return _NONE
        return sum(((1 - self._share_of_line(line)) * Fraction(cost) for line, cost in self._amounts.items() if cost), _NONE)

    def _share_of_line(self, line: str) -> Fraction:
        """Refunds with lines count by quantity; a line without a quantity by its amount."""
        bought, cost = self._quantities.get(line), self._amounts.get(line)
        if bought is None:
            return _ALL
        units, money = Decimal(0), Decimal(0)
        for refund in self.refunds.values():
            for item in refund.lines:
                if item.id == line and item.quantity is not None:
                    units += Decimal(item.quantity)
                elif item.id == line:
                    money += Decimal(item.amount or 0)
        share = _NONE if units >= bought else Fraction(bought - units) / Fraction(bought)
        if money:
            share *= _NONE if not cost or money >= cost else Fraction(cost - money) / Fraction(cost)
        return share

    def _share_of_order(self) -> Fraction:
        """An award for the whole order stays until every line is refunded."""
        if any(r.lines for r in self.refunds.values()) and not any(self._share_of_line(line) for line in self._quantities):
            return _NONE
        return _ALL


def line_amount(quantity: str | int, unit_price: str | None, amount: str | None) -> Decimal | None:
    """What a line cost in major units: its amount after discounts, else quantity × unit price, else unknown."""
    if amount is not None:
        return Decimal(amount)
    return None if unit_price is None else Decimal(quantity) * Decimal(unit_price)

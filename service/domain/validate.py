"""What a well-typed event must also satisfy before it may be credited."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec

from schemas.base import PRINTABLE
from schemas.bounds import MAX_FREE_BYTES, MAX_FREE_DEPTH
from schemas.events import ActivityCompleted, Event, Line, OrderFulfilled, OrderPaid, OrderRefunded, PackagingReturned
from schemas.problems import FieldError
from service.domain.errors import InvalidRequest
from service.domain.gtin import normalise_gtin
from service.domain.packaging import CLASS_CODES

MAX_AHEAD = timedelta(minutes=5)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_FREE = ("attributes", "evidence")
_UNPRINTABLE = re.compile("[" + PRINTABLE[3 : PRINTABLE.index("]")] + "]")
_NEEDS_CONSUMER = frozenset({"order.paid", "packaging.returned", "activity.completed"})


def check_event(event: Event, now: datetime) -> None:
    """Raise InvalidRequest with every error found, each with its JSON pointer. `now` is PostgreSQL's."""
    errors: list[FieldError] = []
    if event.occurred_at > now + MAX_AHEAD:
        errors.append(_error("/occurred_at", "is more than 5 minutes in the future"))
    elif event.occurred_at < EARLIEST:
        errors.append(_error("/occurred_at", "is before the year 2000"))
    if event.consumer is None and event.TYPE in _NEEDS_CONSUMER:
        errors.append(_error("/consumer", f"is required in {event.TYPE}"))
    if event.attributes:
        _free(event.attributes, "/attributes", errors)
    if (check := _CHECKS.get(type(event))) is not None:
        check(event, errors)
    if errors:
        raise InvalidRequest.of(errors)


def check_texts(event: Event) -> None:
    """Raise InvalidRequest for texts with unprintable characters. Free objects may have any."""
    errors: list[FieldError] = []
    for name, value in msgspec.to_builtins(event).items():
        if name not in _FREE:
            _texts(value, f"/{name}", errors)
    if errors:
        raise InvalidRequest.of(errors)


def _texts(value: object, at: str, errors: list[FieldError]) -> None:
    if isinstance(value, str):
        if _UNPRINTABLE.search(value):
            errors.append(_error(at, "has a character that cannot be printed"))
    elif isinstance(value, dict):
        for name, child in value.items():
            _texts(child, f"{at}/{name}", errors)
    elif isinstance(value, list):
        for i, child in enumerate(value):
            _texts(child, f"{at}/{i}", errors)


def _order_paid(event: OrderPaid, errors: list[FieldError]) -> None:
    if event.order.currency is None:
        errors.append(_error("/order/currency", "is required in order.paid"))
    if event.order.total is None:
        errors.append(_error("/order/total", "is required in order.paid"))
    elif event.order.total[0] == "-":
        errors.append(_error("/order/total", "must not be negative"))
    seen: set[str] = set()
    for i, line in enumerate(event.lines):
        if line.id in seen:
            errors.append(_error(f"/lines/{i}/id", "is the id of another line of this order, too"))
        seen.add(line.id)
        _line(line, i, errors)
    _packaging(event, errors)


def _line(line: Line, i: int, errors: list[FieldError]) -> None:
    if line.gtin is not None:
        try:
            normalise_gtin(line.gtin)
        except ValueError as error:
            errors.append(_error(f"/lines/{i}/gtin", str(error)))
    if not Decimal(line.quantity):
        errors.append(_error(f"/lines/{i}/quantity", "must be above 0"))
    if line.unit_price is not None and line.unit_price[0] == "-":
        errors.append(_error(f"/lines/{i}/unit_price", "must not be negative"))
    if line.amount is not None and line.amount[0] == "-":
        errors.append(_error(f"/lines/{i}/amount", "must not be negative"))


def _packaging(event: OrderPaid | OrderFulfilled, errors: list[FieldError]) -> None:
    packaging = event.packaging
    if packaging is not None and not (packaging.class_ is None and packaging.assets) and packaging.class_ not in CLASS_CODES:
        errors.append(_error("/packaging/class", "is not a known packaging class"))


def _refund(event: OrderRefunded, errors: list[FieldError]) -> None:
    refund = event.refund
    if not refund.lines and refund.amount is None:
        errors.append(_error("/refund", "needs lines or an amount"))
    if refund.amount is not None and refund.amount[0] == "-":
        errors.append(_error("/refund/amount", "must not be negative: state what was given back"))
    for i, line in enumerate(refund.lines):
        if line.quantity is None and line.amount is None:
            errors.append(_error(f"/refund/lines/{i}", "needs a quantity or an amount"))
        if line.amount is not None and line.amount[0] == "-":
            errors.append(_error(f"/refund/lines/{i}/amount", "must not be negative: state what was given back"))


def _returns(event: PackagingReturned, errors: list[FieldError]) -> None:
    for i, item in enumerate(event.returns):
        if not (item.class_ is None and item.asset) and item.class_ not in CLASS_CODES:
            errors.append(_error(f"/returns/{i}/class", "is not a known packaging class"))
        if not Decimal(item.quantity):
            errors.append(_error(f"/returns/{i}/quantity", "must be above 0"))


def _activity(event: ActivityCompleted, errors: list[FieldError]) -> None:
    _free(event.evidence, "/evidence", errors)


_CHECKS: Final[dict[type, Callable[[Any, list[FieldError]], None]]] = {
    OrderPaid: _order_paid, OrderFulfilled: _packaging, OrderRefunded: _refund, PackagingReturned: _returns, ActivityCompleted: _activity,
}  # fmt: skip


def _free(value: dict[str, Any], at: str, errors: list[FieldError]) -> None:
    """Bounds of a free object: size and depth."""
    if _depth(value) > MAX_FREE_DEPTH:
        errors.append(_error(at, f"is nested deeper than {MAX_FREE_DEPTH} levels"))
    elif len(msgspec.json.encode(value)) > MAX_FREE_BYTES:
        errors.append(_error(at, f"is larger than {MAX_FREE_BYTES} bytes"))


def _depth(value: dict[str, Any] | list[Any], limit: int = MAX_FREE_DEPTH + 1) -> int:
    """Levels of nesting, counted up to `limit`."""
    below = 0
    if limit > 1:
        for child in value.values() if type(value) is dict else value:
            if type(child) is dict or type(child) is list:
                below = max(below, _depth(child, limit - 1))
    return 1 + below


def _error(pointer: str, detail: str) -> FieldError:
    return FieldError(pointer=pointer, detail=detail)

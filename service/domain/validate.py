"""What a well-typed event must also satisfy before it may be credited."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from schemas.events import Event, Line, OrderFulfilled, OrderPaid, OrderRefunded, Packaging, PackagingReturned, Return
from schemas.problems import FieldError
from service.domain.errors import InvalidRequest
from service.domain.gtin import normalise_gtin
from service.domain.packaging import CLASS_CODES

MAX_AHEAD = timedelta(minutes=5)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
MAX_FREE_BYTES = 8_192
MAX_FREE_DEPTH = 8
_NEEDS_CONSUMER = frozenset({"order.paid", "packaging.returned", "activity.completed"})


def check_event(event: Event, now: datetime) -> None:
    """Raise InvalidRequest with every error found, each with its JSON pointer. `now` is PostgreSQL's."""
    errors = list(_errors(event, now))
    if errors:
        raise InvalidRequest(f"{errors[0].detail} (at {errors[0].pointer})", errors)


def _errors(event: Event, now: datetime) -> Iterable[FieldError]:
    if event.occurred_at > now + MAX_AHEAD:
        yield _error("/occurred_at", "is more than 5 minutes in the future")
    elif event.occurred_at < EARLIEST:
        yield _error("/occurred_at", "is before the year 2000")
    if event.consumer is None and event.TYPE in _NEEDS_CONSUMER:
        yield _error("/consumer", f"is required in {event.TYPE}")
    if event.attributes:
        yield from _free(event.attributes, "/attributes")
    if isinstance(event, OrderPaid):
        yield from _order_paid(event)
    elif isinstance(event, OrderFulfilled):
        yield from _packaging(event.packaging)
    elif isinstance(event, OrderRefunded):
        yield from _refund(event)
    elif isinstance(event, PackagingReturned):
        for i, item in enumerate(event.returns):
            yield from _return(item, f"/returns/{i}")
    elif event.TYPE == "activity.completed":
        yield from _free(event.evidence, "/evidence")  # type: ignore[union-attr]


def _order_paid(event: OrderPaid) -> Iterable[FieldError]:
    if event.order.currency is None:
        yield _error("/order/currency", "is required in order.paid")
    if event.order.total is None:
        yield _error("/order/total", "is required in order.paid")
    elif event.order.total.startswith("-"):
        yield _error("/order/total", "must not be negative")
    seen: set[str] = set()
    for i, line in enumerate(event.lines):
        if line.id in seen:
            yield _error(f"/lines/{i}/id", "is the id of another line of this order, too")
        seen.add(line.id)
        yield from _line(line, f"/lines/{i}")
    yield from _packaging(event.packaging)


def _line(line: Line, at: str) -> Iterable[FieldError]:
    if line.gtin is not None:
        try:
            normalise_gtin(line.gtin)
        except ValueError as error:
            yield _error(f"{at}/gtin", str(error))
    if not Decimal(line.quantity):
        yield _error(f"{at}/quantity", "must be above 0")
    for name, amount in (("unit_price", line.unit_price), ("amount", line.amount)):
        if amount is not None and amount.startswith("-"):
            yield _error(f"{at}/{name}", "must not be negative")


def _packaging(packaging: Packaging | None) -> Iterable[FieldError]:
    if packaging is not None and packaging.class_ not in CLASS_CODES:
        yield _error("/packaging/class", f"{packaging.class_[:64]!r} is not a known packaging class")


def _refund(event: OrderRefunded) -> Iterable[FieldError]:
    refund = event.refund
    if not refund.lines and refund.amount is None:
        yield _error("/refund", "needs lines or an amount")
    if refund.amount is not None and refund.amount.startswith("-"):
        yield _error("/refund/amount", "must not be negative: state what was given back")
    for i, line in enumerate(refund.lines):
        if line.quantity is None and line.amount is None:
            yield _error(f"/refund/lines/{i}", "needs a quantity or an amount")
        if line.amount is not None and line.amount.startswith("-"):
            yield _error(f"/refund/lines/{i}/amount", "must not be negative: state what was given back")


def _return(item: Return, at: str) -> Iterable[FieldError]:
    if item.class_ not in CLASS_CODES:
        yield _error(f"{at}/class", f"{item.class_[:64]!r} is not a known packaging class")
    if not Decimal(item.quantity):
        yield _error(f"{at}/quantity", "must be above 0")


def _free(value: dict[str, Any], at: str) -> Iterable[FieldError]:
    """Bounds of a free object: size and depth."""
    if _depth(value) > MAX_FREE_DEPTH:
        yield _error(at, f"is nested deeper than {MAX_FREE_DEPTH} levels")
    elif len(msgspec.json.encode(value)) > MAX_FREE_BYTES:
        yield _error(at, f"is larger than {MAX_FREE_BYTES} bytes")


def _depth(value: object, limit: int = MAX_FREE_DEPTH + 1) -> int:
    """Levels of nesting, counted up to `limit`."""
    if limit == 0 or not isinstance(value, dict | list):
        return 0
    children = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(child, limit - 1) for child in children), default=0)


def _error(pointer: str, detail: str) -> FieldError:
    return FieldError(pointer=pointer, detail=detail)

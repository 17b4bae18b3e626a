"""What a well-typed event must also satisfy before it may be credited."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec

from schemas.base import PRINTABLE
from schemas.bounds import MAX_FREE_BYTES, MAX_FREE_DEPTH
from schemas.events import (
    ActivityCompleted,
    Event,
    EventErrorDeclared,
    Line,
    OrderFulfilled,
    OrderPaid,
    OrderRefunded,
    PackagingReturned,
    Return,
)
from schemas.problems import FieldError
from service.domain.activities import BUILT_IN, evidence_errors, kind_of
from service.domain.errors import InvalidRequest, Undeclared
from service.domain.evidence import depth
from service.domain.gtin import normalise_gtin
from service.domain.identifiers import canonical_asset, canonical_waybill
from service.domain.packaging import CLASS_CODES, class_of
from service.domain.vocabulary import Vocabulary

MAX_AHEAD = timedelta(minutes=5)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_FREE = ("attributes", "evidence")
_UNPRINTABLE = re.compile("[" + PRINTABLE[3 : PRINTABLE.index("]")] + "]")
_NEEDS_CONSUMER = frozenset({"order.paid", "activity.completed"})


_REFERENCE_ONLY: Final = Vocabulary()


def check_event(event: Event, now: datetime, own: Vocabulary = _REFERENCE_ONLY) -> None:
    """Raise InvalidRequest with every error found, each with its JSON pointer. `now` is PostgreSQL's.

    Where the event names what no reference list has, that is Undeclared: `own` may be behind.
    """
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
        check(event, errors, own)
    if errors:
        raise (Undeclared if _names_own(event) else InvalidRequest).of(errors)


def _names_own(event: Event) -> bool:
    """Whether it names what no reference list has."""
    match event:
        case OrderPaid() | OrderFulfilled():
            return event.packaging is not None and event.packaging.class_ not in (None, *CLASS_CODES)
        case PackagingReturned():
            return any(item.class_ not in (None, *CLASS_CODES) for item in event.returns)
        case ActivityCompleted():
            return event.activity not in BUILT_IN
    return False


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


def _order_paid(event: OrderPaid, errors: list[FieldError], own: Vocabulary) -> None:
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
    _packaging(event, errors, own)


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


def _packaging(event: OrderPaid | OrderFulfilled, errors: list[FieldError], own: Vocabulary) -> None:
    packaging = event.packaging
    if packaging is None:
        return
    if packaging.class_ is not None:
        _class(packaging.class_, "/packaging/class", errors, own)
    elif not packaging.assets:
        errors.append(_error("/packaging/class", "is required without assets"))
    if packaging.waybill is not None:
        _canonical(canonical_waybill, packaging.waybill, "/packaging/waybill", errors)
    seen: set[str] = set()
    for i, text in enumerate(packaging.assets):
        at = f"/packaging/assets/{i}"
        asset = _canonical(canonical_asset, text, at, errors)
        if asset in seen:
            errors.append(_error(at, "is there twice"))
        elif asset is not None:
            seen.add(asset)


def _class(code: str, at: str, errors: list[FieldError], own: Vocabulary) -> None:
    found = class_of(code, own.classes)
    if found is None:
        errors.append(_error(at, "is not a known packaging class"))
    elif not found.active:
        errors.append(_error(at, "is a packaging class that was retired"))


def _canonical(form: Callable[[str], str], text: str, at: str, errors: list[FieldError]) -> str | None:
    """The canonical text; None, and an error, for what has none."""
    try:
        return form(text)
    except ValueError as error:
        errors.append(_error(at, str(error)))
        return None


def _refund(event: OrderRefunded, errors: list[FieldError], _: Vocabulary) -> None:
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


def _returns(event: PackagingReturned, errors: list[FieldError], own: Vocabulary) -> None:
    if event.consumer is None and any(item.asset is None for item in event.returns):
        errors.append(_error("/consumer", "is required unless every item names an asset"))
    seen: set[tuple[str | None, ...]] = set()
    for i, item in enumerate(event.returns):
        at = f"/returns/{i}"
        if item.class_ is not None:
            _class(item.class_, f"{at}/class", errors, own)
        elif item.asset is None:
            errors.append(_error(f"{at}/class", "is required without an asset"))
        if not Decimal(item.quantity):
            errors.append(_error(f"{at}/quantity", "must be above 0"))
        _return_once(item, at, seen, errors)
        _deposit(item, at, errors)


def _return_once(item: Return, at: str, seen: set[tuple[str | None, ...]], errors: list[FieldError]) -> None:
    """An asset comes back once in an event, and so does a class of a parcel's packaging; a parcel may have several classes."""
    asset = None if item.asset is None else _canonical(canonical_asset, item.asset, f"{at}/asset", errors)
    waybill = None if item.waybill is None else _canonical(canonical_waybill, item.waybill, f"{at}/waybill", errors)
    field, key = ("asset", (asset,)) if item.asset is not None else ("waybill", (waybill, item.class_))
    if key[0] is None:
        return
    if key in seen:
        errors.append(_error(f"{at}/{field}", "is that of another item, too"))
    seen.add(key)


def _deposit(item: Return, at: str, errors: list[FieldError]) -> None:
    if item.deposit is None:
        return
    if item.asset is None:
        errors.append(_error(f"{at}/deposit", "needs an asset"))
    if Decimal(item.deposit.amount) <= 0:
        errors.append(_error(f"{at}/deposit/amount", "must be above 0"))


def _activity(event: ActivityCompleted, errors: list[FieldError], own: Vocabulary) -> None:
    kind = kind_of(event.activity, own.kinds)
    if kind is None:
        errors.append(_error("/activity", "is neither built in nor an activity of this program's own"))
    elif not kind.active:
        errors.append(_error("/activity", "is retired"))
    if _free(event.evidence, "/evidence", errors) and kind is not None:
        errors += evidence_errors(event, kind)


def _declaration(event: EventErrorDeclared, errors: list[FieldError], _: Vocabulary) -> None:
    if event.error.event == event.id:
        errors.append(_error("/error/event", "must be another event"))
    for i, id_ in enumerate(event.error.corrected_by):
        if id_ == event.error.event:
            errors.append(_error(f"/error/corrected_by/{i}", "is the event that is declared wrong"))


_CHECKS: Final[dict[type, Callable[[Any, list[FieldError], Vocabulary], None]]] = {
    OrderPaid: _order_paid, OrderFulfilled: _packaging, OrderRefunded: _refund, PackagingReturned: _returns,
    ActivityCompleted: _activity, EventErrorDeclared: _declaration,
}  # fmt: skip


def _free(value: dict[str, Any], at: str, errors: list[FieldError]) -> bool:
    """Bounds of a free object: size and depth; whether it keeps them."""
    if depth(value, MAX_FREE_DEPTH + 1) > MAX_FREE_DEPTH:
        errors.append(_error(at, f"is nested deeper than {MAX_FREE_DEPTH} levels"))
    elif len(msgspec.json.encode(value)) > MAX_FREE_BYTES:
        errors.append(_error(at, f"is larger than {MAX_FREE_BYTES} bytes"))
    else:
        return True
    return False


def _error(pointer: str, detail: str) -> FieldError:
    return FieldError(pointer=pointer, detail=detail)

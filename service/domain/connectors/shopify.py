"""Shopify webhooks: `orders/paid|updated|fulfilled|cancelled` carry the whole order as it is, `refunds/create` one refund.

Sources: shopify.dev, "Verify webhook deliveries", "Privacy law compliance" and the Admin REST resources Order and Refund; header names
with and without `X-` as in Shopify/shopify-api-ruby lib/shopify_api/webhooks/request.rb.

Only the body is signed, neither the topic nor the time. So the body decides what happened, the topic only whether it
is an order or a refund: every order body yields all the facts that it states (paid, fulfilled, each refund,
cancelled), under ids made of the resource's ids. Whatever is lost, repeated, overtaken or replayed under another
topic, the same fact comes out under the same id.

How money is read, all in the shop's currency:

- A line's `amount` is price × original quantity − its discounts, at least 0. It contains tax exactly if the shop's
  prices do (`taxes_included`): points follow the shown prices.
- The order's `total` is what was paid for those lines: their amounts, plus their taxes where prices exclude them, and
  never more than `total_price`. Shipping, duties, tips and gift cards are not in it. So an amount-only refund of
  everything reaches it and takes all points back, one of x per cent of the goods takes x per cent, one of shipping none.
- A refund with lines counts by their quantities, whatever was paid for them; one without by the money that was given
  back (successful transactions; in another currency than the shop's, the adjustment of kind `refund_discrepancy`),
  less what of it was shipping, duties and fees.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from schemas import shopify
from schemas.base import Instant
from schemas.bounds import MAX_LINES
from schemas.events import Event, Line, OrderCancelled, OrderFulfilled, OrderPaid, OrderRefunded, Packaging, Refund, RefundLine
from schemas.events import Order as OrderRef
from service.domain.connectors.base import BadSignature, Demand, Headers, Hook, Translated, Untranslatable, decode, header, printable
from service.domain.connectors.shopify_packaging import chosen_class

ORDER_TOPICS = frozenset({"orders/paid", "orders/updated", "orders/fulfilled", "orders/cancelled"})
REFUND_TOPIC = "refunds/create"
SHOP_REDACT = "shop/redact"
CUSTOMER_REDACT = "customers/redact"
DATA_REQUEST = "customers/data_request"

_PAID = frozenset({"paid", "partially_refunded", "refunded"})
_NEVER_PAID = frozenset({"pending", "authorized", "voided", "expired", "unpaid"})
_MAX_AMOUNT = Decimal(10**12)
_MAX_QUANTITY = Decimal(10**6)
_MAX_TEXT_AMOUNT = Decimal(10**15)
_SMALLEST_UNIT = Decimal("0.000001")
_MAX_ID_DIGITS = 20
_ZERO = Decimal(0)

_ORDER = msgspec.json.Decoder(shopify.Order)
_REFUND = msgspec.json.Decoder(shopify.RefundCreated)
_DEMAND = msgspec.json.Decoder(shopify.CustomerDemand)


def verify(hook: Hook, headers: Headers, body: bytes, now: datetime) -> None:  # noqa: ARG001 - Shopify signs no time
    """Raise BadSignature unless base64(HMAC-SHA256(secret, raw body)) by one of the secrets is in the header."""
    given = header(headers, "shopify-hmac-sha256", "x-shopify-hmac-sha256")
    if given is None:
        raise BadSignature("X-Shopify-Hmac-Sha256 is required")
    for secret in filter(None, hook.secrets):
        expected = base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256))
        if hmac.compare_digest(expected, given.encode()):
            return
    raise BadSignature("no secret of the hook signed this body")


def translate(hook: Hook, headers: Headers, body: bytes) -> Translated:
    """The facts in an order or a refund; other topics are ignored. Raises Untranslatable."""
    topic = header(headers, "shopify-topic", "x-shopify-topic")
    if topic is None:
        raise Untranslatable("X-Shopify-Topic is required")
    delivery_id = header(headers, "shopify-webhook-id", "x-shopify-webhook-id")
    if topic in (SHOP_REDACT, CUSTOMER_REDACT, DATA_REQUEST):
        return Translated(topic=topic, delivery_id=delivery_id, events=[], demand=_demand(topic, decode(body, _DEMAND)))
    if topic in ORDER_TOPICS:
        events, ignored = _order(decode(body, _ORDER), hook)
    elif topic == REFUND_TOPIC:
        events, ignored = _lone_refund(decode(body, _REFUND))
    else:
        events, ignored = [], "nothing is read from this topic"
    return Translated(topic=topic, delivery_id=delivery_id, events=events, ignored=None if events else ignored)


def _demand(topic: str, body: shopify.CustomerDemand) -> Demand:
    """What a compliance topic asks for. `shop/redact` names nobody: it is about everybody whom the shop knows."""
    if topic == SHOP_REDACT:
        return Demand(kind="erase_all")
    consumer = _consumer(body.customer)
    if topic == DATA_REQUEST:
        return Demand(kind="export", consumer=consumer)
    return Demand(kind="erase", consumer=consumer, orders=tuple(dict.fromkeys(map(_id, body.orders_to_redact or ()))))


# Orders -------------------------------------------------------------------------------------------------


def _order(order: shopify.Order, hook: Hook) -> tuple[list[Event], str]:
    """Every fact that the order states now, and why there is none if so."""
    order_id, status = _id(order.id), (order.financial_status or "").lower()
    if order.test:
        return [], "a test order earns nothing"
    if status in _NEVER_PAID:
        return [], f"the order is not paid but {status}"
    consumer = _consumer(order.customer)
    events: list[Event] = []
    if status not in _PAID:
        # Paid in part: perhaps never in full, perhaps paid and then enlarged. What it took back counts, in case it had earned.
        ignored = "the order is not paid in full"
    elif consumer is None:
        ignored = "the order has no customer: whom it would credit is not known"
    else:
        ignored = "the order has no line that could earn"
        events += _bought(order, order_id, consumer, hook)
    events += _taken_back(order, order_id, consumer)
    return events, ignored


def _bought(order: shopify.Order, order_id: str, consumer: str, hook: Hook) -> Iterable[Event]:
    """order.paid, and order.fulfilled when all has been shipped. Nothing when only gift cards were bought."""
    bought = [item for item in order.line_items if not item.gift_card and item.quantity]
    if not bought:
        return
    class_ = chosen_class(order, hook.settings.packaging)
    attributes: dict[str, Any] = {}
    if channel := printable(order.source_name, max_chars=64):
        attributes["channel"] = channel
    yield OrderPaid(
        id=f"shopify:{order_id}:paid",
        occurred_at=_required(_instant(order.processed_at, order.created_at, order.updated_at)),
        consumer=consumer,
        attributes=attributes,
        order=OrderRef(id=order_id, currency=order.currency, total=_text(_total(order, bought))),
        lines=_lines(bought),
        packaging=None if class_ is None else Packaging(class_=class_),
    )
    if (order.fulfillment_status or "").lower() == "fulfilled":
        yield _fulfilled(order, order_id, consumer, class_)


def _fulfilled(order: shopify.Order, order_id: str, consumer: str, class_: str | None) -> Event:
    """The choice was carried out; the waybill is known when all went under one."""
    shipments = [f for f in order.fulfillments or () if f.status == "success"]
    instants = [at for at in (_instant(shipment.created_at) for shipment in shipments) if at]
    waybills = {waybill for waybill in (printable(shipment.tracking_number, max_chars=128) for shipment in shipments) if waybill}
    return OrderFulfilled(
        id=f"shopify:{order_id}:fulfilled",
        occurred_at=_required(max(instants, default=None) or _instant(order.updated_at, order.processed_at, order.created_at)),
        consumer=consumer,
        order=OrderRef(id=order_id),
        packaging=None if class_ is None else Packaging(class_=class_, waybill=waybills.pop() if len(waybills) == 1 else None),
    )


def _taken_back(order: shopify.Order, order_id: str, consumer: str | None) -> Iterable[Event]:
    """Refunds and the cancellation. The order is their key: they count for a customer who has been deleted since, too."""
    for refund in order.refunds or ():
        event = _refund(refund, order_id, _instant(order.updated_at, order.created_at))
        if not isinstance(event, str):
            yield event
    if cancelled_at := _instant(order.cancelled_at):
        yield OrderCancelled(id=f"shopify:{order_id}:cancelled", occurred_at=cancelled_at, consumer=consumer, order=OrderRef(id=order_id))


def _lines(items: list[shopify.LineItem]) -> list[Line]:
    if len(items) > MAX_LINES:
        raise Untranslatable(f"the order has more than {MAX_LINES} lines")
    return [
        Line(
            id=_id(item.id),
            sku=_sku(item.sku),
            quantity=_quantity_text(item.quantity),
            unit_price=_text(_unit_price(item)),
            amount=_text(_line_amount(item)),
        )
        for item in items
    ]


def _line_amount(item: shopify.LineItem) -> Decimal:
    """What the line cost: price × quantity − discounts. Allocations hold the line's and the order's; `total_discount` the line's."""
    if item.discount_allocations:
        discount = sum((_amount(part.amount) for part in item.discount_allocations), _ZERO)
    else:
        discount = _amount(item.total_discount)
    return max(_unit_price(item) * _quantity(item.quantity) - discount, _ZERO)


def _unit_price(item: shopify.LineItem) -> Decimal:
    price = item.price if item.price is not None else _shop_amount(item.price_set)
    if price is None:
        raise Untranslatable("a line has no price")
    return max(_amount(price), _ZERO)


def _total(order: shopify.Order, bought: list[shopify.LineItem]) -> Decimal:
    """What was paid for the lines, taxes included; an amount-only refund is a part of it."""
    total = sum((_line_amount(item) for item in bought), _ZERO)
    if not order.taxes_included:
        total += sum((_amount(tax.price) for item in bought for tax in item.tax_lines or ()), _ZERO)
    if order.total_price is not None:
        total = min(total, _amount(order.total_price))
    return max(total, _ZERO)


# Refunds ------------------------------------------------------------------------------------------------


def _lone_refund(refund: shopify.RefundCreated) -> tuple[list[Event], str]:
    event = _refund(refund, _id(refund.order_id), None)
    return ([], event) if isinstance(event, str) else ([event], "")


def _refund(refund: shopify.Refund, order_id: str, otherwise_at: datetime | None) -> OrderRefunded | str:
    """The refund as a fact, or why it takes nothing back. Reads the refund alone, so that every topic says the same."""
    refund_id = _id(refund.id)
    if refund.refund_line_items:
        lines = _refund_lines(refund.refund_line_items)
        if not lines:
            return "only gift cards were refunded"
        amount = sum((Decimal(line.amount) for line in lines if line.amount), _ZERO)
    else:
        given_back = _amount_given_back(refund)
        if isinstance(given_back, str):
            return given_back
        lines, amount = [], given_back
    moved_at = [value for transaction in refund.transactions or () for value in (transaction.processed_at, transaction.created_at)]
    return OrderRefunded(
        id=f"shopify:{order_id}:refund:{refund_id}",
        occurred_at=_required(_instant(refund.processed_at, refund.created_at, *moved_at) or otherwise_at),
        order=OrderRef(id=order_id),
        refund=Refund(id=refund_id, lines=lines, amount=_text(amount)),
    )


def _refund_lines(items: list[shopify.RefundLineItem]) -> list[RefundLine]:
    """By order line, summed: Shopify splits a line by where its units go back to."""
    quantities: dict[str, Decimal] = {}
    amounts: dict[str, Decimal] = {}
    for item in items:
        inner = item.line_item
        line = item.line_item_id if item.line_item_id is not None or inner is None else inner.id
        if line is None:
            raise Untranslatable("a refund line names no order line")
        if inner and inner.gift_card:
            continue
        line_id = _id(line)
        subtotal = item.subtotal if item.subtotal is not None else _shop_amount(item.subtotal_set)
        quantities[line_id] = quantities.get(line_id, _ZERO) + _quantity(item.quantity or _ZERO)
        amounts[line_id] = amounts.get(line_id, _ZERO) + max(_amount(subtotal), _ZERO)
    if len(quantities) > MAX_LINES:
        raise Untranslatable(f"the refund has more than {MAX_LINES} lines")
    return [
        RefundLine(id=line_id, quantity=_quantity_text(quantity) if quantity else None, amount=_text(amounts[line_id]))
        for line_id, quantity in quantities.items()
    ]


def _amount_given_back(refund: shopify.Refund) -> Decimal | str:
    """How much of the goods' price a refund without lines gave back, or why none."""
    transactions = [t for t in refund.transactions or () if (t.kind or "").lower() == "refund"]
    if any((t.status or "").lower() == "pending" for t in transactions):
        return "the refund is pending: it counts when the money has moved"
    moved = [t for t in transactions if (t.status or "").lower() == "success"]
    if transactions and not moved:
        return "no money was given back"
    if moved and _are_in_shop_currency(moved, refund):
        goods = sum((_amount(t.amount) for t in moved), _ZERO) - _other_costs(refund)
    else:
        goods = -_adjustments(refund, "refund_discrepancy")
    return goods if goods > 0 else "nothing of the goods' price was refunded"


def _are_in_shop_currency(transactions: list[shopify.Transaction], refund: shopify.Refund) -> bool:
    """Whether none moved in another currency than the shop's, as far as the refund tells the two."""
    known = {item.shop_money.currency_code for item in _money_sets(refund) if item.shop_money and item.shop_money.currency_code}
    return not known or {t.currency for t in transactions if t.currency} <= known


def _money_sets(refund: shopify.Refund) -> Iterable[shopify.MoneySet]:
    sets = [refund.total_duties_set, refund.total_additional_fees_set]
    sets += [adjustment.amount_set for adjustment in refund.order_adjustments or ()]
    sets += [shipping.subtotal_amount_set for shipping in refund.refund_shipping_lines or ()]
    return [item for item in sets if item]


def _other_costs(refund: shopify.Refund) -> Decimal:
    """Shipping, duties and fees in a refund. Shipping is told in one of two ways, or in both (API 2024-10)."""
    shipping = _ZERO
    for line in refund.refund_shipping_lines or ():
        taxes = (line.shipping_line and line.shipping_line.tax_lines) or ()
        shipping += _amount(_shop_amount(line.subtotal_amount_set)) + sum((_amount(tax.price) for tax in taxes), _ZERO)
    shipping = max(shipping, -_adjustments(refund, "shipping_refund"))
    return shipping + _amount(_shop_amount(refund.total_duties_set)) + _amount(_shop_amount(refund.total_additional_fees_set))


def _adjustments(refund: shopify.Refund, kind: str) -> Decimal:
    """The sum of the adjustments of one kind with their taxes; negative: given back to the customer."""
    parts = [part for part in refund.order_adjustments or () if part.kind == kind]
    return sum((_amount(part.amount) + _amount(part.tax_amount) for part in parts), _ZERO)


# Values -------------------------------------------------------------------------------------------------


def _consumer(customer: shopify.Customer | None) -> str | None:
    """The customer's id; the customer may be null or absent, and so may the id."""
    return None if customer is None or customer.id is None else _id(customer.id)


def _id(value: int | str) -> str:
    """An id as decimal text, the same for a number and for its digits."""
    if isinstance(value, int):
        digits = str(value) if 0 < value < 10**_MAX_ID_DIGITS else ""
    else:
        digits = value if value.isascii() and value.isdigit() and len(value) <= _MAX_ID_DIGITS else ""
    if not digits or not int(digits):
        raise Untranslatable("an id is not a positive whole number")
    return str(int(digits))


def _instant(*values: object) -> datetime | None:
    """The first of these that is a time with an offset, in UTC."""
    for value in values:
        if isinstance(value, str):
            try:
                return msgspec.convert(value, Instant).astimezone(UTC)
            except (msgspec.ValidationError, OverflowError):
                continue
    return None


def _required(at: datetime | None) -> datetime:
    if at is None:
        raise Untranslatable("no time with an offset says when it happened")
    return at


def _shop_amount(money: shopify.MoneySet | None) -> Decimal | None:
    return money.shop_money.amount if money and money.shop_money else None


def _amount(value: Decimal | None) -> Decimal:
    """An amount within bounds, to a millionth; none is 0."""
    return _ZERO if value is None else _bounded(value, _MAX_AMOUNT)


def _quantity(value: Decimal) -> Decimal:
    """A number of units within bounds."""
    quantity = _bounded(value, _MAX_QUANTITY)
    if quantity < 0:
        raise Untranslatable("a quantity is negative")
    return quantity


def _bounded(value: Decimal, limit: Decimal) -> Decimal:
    if not value.is_finite() or not -limit <= value <= limit:
        raise Untranslatable(f"a number is beyond {limit}")
    exponent = value.as_tuple().exponent
    return value if isinstance(exponent, int) and -6 <= exponent <= 0 else value.quantize(_SMALLEST_UNIT)


def _text(amount: Decimal) -> str:
    """An amount as schemas.base.MoneyText; zero has no sign."""
    if amount >= _MAX_TEXT_AMOUNT:
        raise Untranslatable(f"an amount is beyond {_MAX_TEXT_AMOUNT}")
    return format(amount or abs(amount), "f")


def _quantity_text(value: Decimal) -> str:
    quantity = _quantity(value)
    return str(int(quantity)) if quantity == quantity.to_integral_value() else format(quantity, "f")


def _sku(value: object) -> str | None:
    """The line's SKU; some apps write it as a number."""
    return printable(str(value) if type(value) is int and abs(value) < 10**_MAX_ID_DIGITS else value, max_chars=128)

"""The parts of Shopify's `orders/*`, `refunds/create` and compliance payloads that are read (Admin REST resources, 2017 to 2026-07).

Only what is needed is named, so that no name, address or e-mail is ever decoded. Amounts come as strings
("57.23", "23600") or as JSON numbers (195.67); both are decoded to Decimal from the text, never through a float.
Ids exceed 2^53. What comes in several shapes, and what is too unimportant to lose an order over an odd value, is `Odd`:
its reader takes what fits and ignores the rest.
"""

from decimal import Decimal
from typing import Annotated, Any

from msgspec import Meta, Struct

from schemas.base import Currency
from schemas.bounds import MAX_LINES, MAX_REDACTED_ORDERS

Id = int | str
"""An id of up to 64 bits, as a number or as decimal digits; the connector checks which."""

Odd = Any
"""A value of unknown shape."""


class _Part(Struct, frozen=True, kw_only=True):
    """Part of a payload: immutable, unknown fields ignored."""


class Money(_Part, frozen=True, kw_only=True):
    """An amount in one currency."""

    amount: Decimal | None = None
    currency_code: str | None = None


class MoneySet(_Part, frozen=True, kw_only=True):
    """The same amount in the shop's and the customer's currency; only the shop's counts."""

    shop_money: Money | None = None


class Customer(_Part, frozen=True, kw_only=True):
    """Who bought; `id` may be null."""

    id: Id | None = None


class Allocation(_Part, frozen=True, kw_only=True):
    """The part of a discount, of a line or of the whole order, that falls on a line."""

    amount: Decimal | None = None


class TaxLine(_Part, frozen=True, kw_only=True):
    """One tax on a line, for all its units."""

    price: Decimal | None = None


class LineItem(_Part, frozen=True, kw_only=True):
    """One line as ordered. `quantity` is the original one: what was refunded since is not taken off."""

    id: Id
    quantity: Decimal
    price: Decimal | None = None
    price_set: MoneySet | None = None
    total_discount: Decimal | None = None
    discount_allocations: list[Allocation] | None = None
    tax_lines: list[TaxLine] | None = None
    gift_card: bool | None = None
    sku: Odd = None
    properties: Odd = None


class RefundedItem(_Part, frozen=True, kw_only=True):
    """The line inside a refund line."""

    id: Id | None = None
    gift_card: bool | None = None


class RefundLineItem(_Part, frozen=True, kw_only=True):
    """Units of one line that were refunded; `subtotal` is what was paid for them, after discounts, before added tax."""

    line_item_id: Id | None = None
    line_item: RefundedItem | None = None
    quantity: Decimal | None = None
    subtotal: Decimal | None = None
    subtotal_set: MoneySet | None = None


class OrderAdjustment(_Part, frozen=True, kw_only=True):
    """What a refund gives back apart from its lines, usually negative: `shipping_refund` or `refund_discrepancy`."""

    kind: str | None = None
    amount: Decimal | None = None
    tax_amount: Decimal | None = None
    amount_set: MoneySet | None = None


class Transaction(_Part, frozen=True, kw_only=True):
    """Money that moved, in the currency of the payment."""

    kind: str | None = None
    status: str | None = None
    amount: Decimal | None = None
    currency: str | None = None
    processed_at: Odd = None
    created_at: Odd = None


class ShippingLineTax(_Part, frozen=True, kw_only=True):
    """The refunded shipping method, read for its taxes."""

    tax_lines: list[TaxLine] | None = None


class RefundShippingLine(_Part, frozen=True, kw_only=True):
    """Shipping costs that were given back (since 2024-10 in place of the adjustment)."""

    subtotal_amount_set: MoneySet | None = None
    shipping_line: ShippingLineTax | None = None


class Refund(_Part, frozen=True, kw_only=True):
    """One refund, alone (`refunds/create`) or inside its order. It names no customer."""

    id: Id
    order_id: Id | None = None
    processed_at: Odd = None
    created_at: Odd = None
    refund_line_items: list[RefundLineItem] | None = None
    order_adjustments: list[OrderAdjustment] | None = None
    transactions: list[Transaction] | None = None
    refund_shipping_lines: list[RefundShippingLine] | None = None
    total_duties_set: MoneySet | None = None
    total_additional_fees_set: MoneySet | None = None


class RefundCreated(Refund, frozen=True, kw_only=True):
    """The body of `refunds/create`: here the order must be named."""

    order_id: Id


class ShippingLine(_Part, frozen=True, kw_only=True):
    """A shipping method that was chosen."""

    code: Odd = None
    title: Odd = None
    source: Odd = None


class Fulfillment(_Part, frozen=True, kw_only=True):
    """One shipment; it counts when its status is `success`."""

    status: str | None = None
    created_at: Odd = None
    tracking_number: Odd = None


class Order(_Part, frozen=True, kw_only=True):
    """The body of every `orders/*` topic: the whole order as it is now. `currency` is the shop's."""

    id: Id
    currency: Currency
    line_items: list[LineItem]
    test: bool | None = None
    financial_status: str | None = None
    fulfillment_status: str | None = None
    taxes_included: bool | None = None
    total_price: Decimal | None = None
    customer: Customer | None = None
    processed_at: Odd = None
    created_at: Odd = None
    updated_at: Odd = None
    cancelled_at: Odd = None
    source_name: Odd = None
    note_attributes: Odd = None
    shipping_lines: list[ShippingLine] | None = None
    fulfillments: list[Fulfillment] | None = None
    refunds: Annotated[list[Refund], Meta(max_length=MAX_LINES)] | None = None


class CustomerDemand(_Part, frozen=True, kw_only=True):
    """The body of `customers/redact` and `customers/data_request`; the customer, and its id, may be missing."""

    customer: Customer | None = None
    orders_to_redact: Annotated[list[Id], Meta(max_length=MAX_REDACTED_ORDERS)] | None = None

"""The event that a platform reports and the answer it gets (CONTRACT §3.3)."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from schemas.base import Body, Currency, Instant, MoneyText
from schemas.bounds import (
    MAX_DECIMAL_CHARS,
    MAX_KEY_CHARS,
    MAX_LINES,
    MAX_PARCEL_ASSETS,
    MAX_PARCELS,
    MAX_PROOF_CHARS,
    MAX_QUANTITY,
    MAX_TEXT_CHARS,
)
from schemas.impact import ImpactRecord
from schemas.reviews import Review

# Printable like `schemas.base.Key`, but checked for the whole event at once (service.domain.validate): a pattern for each of a
# dozen texts would be a third of the time that decoding takes.
Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY_CHARS, description="Printable.")]
"""An identifier that a sender chose: printable, 1 to 128 characters."""

Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARS, description="Printable.")]
"""A short free text, perhaps empty."""

DecimalInput = (
    Annotated[str, Meta(max_length=MAX_DECIMAL_CHARS, pattern=r"^[0-9]{1,12}(\.[0-9]{1,6})?$(?!\n)")]
    | Annotated[int, Meta(ge=0, le=MAX_QUANTITY)]
)
"""A quantity or a mass: a decimal string or a JSON integer, never a float, never negative."""

Status = Literal["pending", "held", "settled", "rejected", "voided", "parked", "ignored"]


class Order(Struct, frozen=True, kw_only=True, gc=False):
    """The order that an event is about. `currency` and `total` are required in `order.paid` only."""

    id: Key
    currency: Currency | None = None
    total: MoneyText | None = None


class Line(Struct, frozen=True, kw_only=True, gc=False):
    """One order line as bought. `amount` (what the line cost after discounts) defaults to quantity × unit_price."""

    id: Key
    sku: Text | None = None
    gtin: Text | None = None
    quantity: DecimalInput = 1
    unit_price: MoneyText | None = None
    amount: MoneyText | None = None
    category: Text | None = None
    merchant: Text | None = None


class Packaging(Struct, frozen=True, kw_only=True):
    """How an order was packed: chosen at checkout, or used at fulfilment. Without a class, the registered one of its assets counts."""

    class_: Text | None = field(name="class", default=None)
    parcels: Annotated[int, Meta(ge=1, le=MAX_PARCELS)] = 1
    waybill: Key | None = None
    assets: Annotated[list[Key], Meta(max_length=MAX_PARCEL_ASSETS)] = []


class RefundLine(Struct, frozen=True, kw_only=True, gc=False):
    """Units (or, without a quantity, an amount) of one order line that were given back."""

    id: Key
    quantity: DecimalInput | None = None
    amount: MoneyText | None = None


class Refund(Struct, frozen=True, kw_only=True):
    """One refund; without lines its amount counts pro rata over the order's total."""

    id: Key
    lines: Annotated[list[RefundLine], Meta(max_length=MAX_LINES)] = []
    amount: MoneyText | None = None


class Deposit(Struct, frozen=True, kw_only=True, gc=False):
    """Money that the sender pays back for a returned asset, if this return is the one that counts."""

    amount: MoneyText
    currency: Currency


class Return(Struct, frozen=True, kw_only=True, gc=False):
    """Packaging that came back. `mass_g` is grams. With an asset, the class is the registered one, whatever stands here."""

    class_: Text | None = field(name="class", default=None)
    asset: Key | None = None
    quantity: DecimalInput = 1
    mass_g: DecimalInput | None = None
    waybill: Key | None = None
    order: Key | None = None
    station: Key | None = None
    proof: Annotated[str, Meta(max_length=MAX_PROOF_CHARS)] | None = None
    deposit: Deposit | None = None


class Declaration(Struct, frozen=True, kw_only=True):
    """What EPCIS 2.0 calls an error declaration: an earlier event is wrong, and perhaps others stand in its place."""

    event: Key
    reason: Literal["did_not_occur", "incorrect_data"]
    corrected_by: Annotated[list[Key], Meta(max_length=MAX_LINES)] = []


class _Fact(Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """What all events carry. `attributes` is free, at most 8 KiB and 8 levels."""

    TYPE: ClassVar[str]

    id: Key
    occurred_at: Instant
    consumer: Key | None = None
    attributes: dict[str, Any] = {}

    @property
    def order_id(self) -> str | None:
        """The order that this fact belongs to, if it belongs to one."""
        return None


class _OrderFact(_Fact, frozen=True, kw_only=True, omit_defaults=True):
    order: Order

    @property
    def order_id(self) -> str | None:
        return self.order.id


class OrderPaid(_OrderFact, frozen=True, kw_only=True, tag="order.paid", omit_defaults=True):
    """An order was paid: what earns for purchases."""

    TYPE = "order.paid"
    lines: Annotated[list[Line], Meta(max_length=MAX_LINES)] = []
    packaging: Packaging | None = None


class OrderFulfilled(_OrderFact, frozen=True, kw_only=True, tag="order.fulfilled", omit_defaults=True):
    """An order left the warehouse, in the packaging that was really used."""

    TYPE = "order.fulfilled"
    packaging: Packaging | None = None


class OrderCancelled(_OrderFact, frozen=True, kw_only=True, tag="order.cancelled", omit_defaults=True):
    """An order was cancelled: all that it earned goes back."""

    TYPE = "order.cancelled"


class OrderRefunded(_OrderFact, frozen=True, kw_only=True, tag="order.refunded", omit_defaults=True):
    """Part or all of an order was refunded; counts once per `refund.id`."""

    TYPE = "order.refunded"
    refund: Refund


class PackagingReturned(_Fact, frozen=True, kw_only=True, tag="packaging.returned", omit_defaults=True):
    """Packaging came back. Without a consumer it counts for those that its assets were shipped to."""

    TYPE = "packaging.returned"
    returns: Annotated[list[Return], Meta(min_length=1, max_length=MAX_LINES)]


class ActivityCompleted(_Fact, frozen=True, kw_only=True, tag="activity.completed", omit_defaults=True):
    """Something else that the program rewards was done."""

    TYPE = "activity.completed"
    activity: Key
    evidence: dict[str, Any] = {}


class EventErrorDeclared(_Fact, frozen=True, kw_only=True, tag="event.error_declared", omit_defaults=True):
    """An order.fulfilled, packaging.returned or activity.completed of the same platform is declared wrong: what it earned goes back."""

    TYPE = "event.error_declared"
    error: Declaration


Event = OrderPaid | OrderFulfilled | OrderCancelled | OrderRefunded | PackagingReturned | ActivityCompleted | EventErrorDeclared


class PackagingReassigned(_Fact, frozen=True, kw_only=True, tag="packaging.reassigned", omit_defaults=True):
    """Not reported by anybody: what another event changed of the returns of a consumer that it is not about."""

    TYPE = "packaging.reassigned"
    cause: Literal["shipment", "error_declared"]


StoredEvent = Event | PackagingReassigned
"""What the ledger holds."""


class Impact(Body, frozen=True, kw_only=True, gc=False):
    """Grams of CO2e avoided (the central number; 0 where there is none) and of plastic avoided or collected; negative: taken back.

    `record` says by which factor, with the range and the source; of several awards for one thing the first has it.
    """

    co2e_g: int = 0
    plastic_g: int = 0
    record: ImpactRecord | UnsetType = UNSET


class Balance(Body, frozen=True, kw_only=True, gc=False):
    """An account's points after the event; `version` rises with every change."""

    pending: int = 0
    reserved: int = 0
    available: int = 0
    debt: int = 0
    version: int = 0


class Award(Body, frozen=True, kw_only=True, gc=False):
    """What one campaign granted for one event or one line of it; negative points take back."""

    campaign: str
    version: int
    action: str
    points: int
    reason: str
    line: str | UnsetType = UNSET
    return_: int | UnsetType = field(name="return", default=UNSET)
    certificate: str | UnsetType = UNSET
    impact: Impact = Impact()


class Refusal(Body, frozen=True, kw_only=True, gc=False):
    """Why something earned nothing, or less than its campaign says."""

    code: str
    detail: str
    line: str | UnsetType = UNSET
    return_: int | UnsetType = field(name="return", default=UNSET)
    campaign: str | UnsetType = UNSET


class DepositDue(Body, frozen=True, kw_only=True, gc=False):
    """The deposit that is to be paid back for a returned asset: once per trip, by the same record that points are awarded by."""

    return_: int = field(name="return")
    asset: str
    amount: str
    currency: str


class EventAnswer(Body, frozen=True, kw_only=True):
    """The answer to one event. `points` is the signed change; `available_at` is when the last of them ends its hold.

    `deposits` is there where a return named some, with those that are to be paid back; `review` where fraud checks held it.
    """

    id: str
    status: Status
    points: int
    available_at: datetime | None
    awards: list[Award]
    refused: list[Refusal]
    balance: Balance
    deposits: list[DepositDue] | UnsetType = UNSET
    review: Review | UnsetType = UNSET


class BatchAnswer(Body, frozen=True, kw_only=True):
    """The answer to a batch, results in the order of the request; an error is the problem object in place of a result."""

    accepted: int
    duplicates: int
    rejected: int
    results: list[Any]

"""Shopify in: signatures, every trap of its payloads, and what the published samples come out as."""

import base64
import hashlib
import hmac
import json
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.connectors import HookSettings
from schemas.events import Event, Line, Order, OrderCancelled, OrderFulfilled, OrderPaid, OrderRefunded, Packaging, Refund, RefundLine
from service.domain.connectors import BadSignature, Demand, Hook, Translated, Untranslatable, translate, verify
from service.domain.errors import InvalidRequest, Unauthenticated
from service.domain.validate import check_event

FIXTURES = Path(__file__).parents[3] / ".." / "shared" / "fixtures" / "shopify"
NOW = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)
PAID_AT = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
BIG = 820982911946154508  # beyond 2^53: a float would make it …500


# Payloads of our own ------------------------------------------------------------------------------------


def an_item(**changes: Any) -> dict[str, Any]:
    item = {
        "id": 11,
        "sku": "TP-01",
        "quantity": 2,
        "price": "39.00",
        "total_discount": "0.00",
        "discount_allocations": [],
        "gift_card": False,
    }
    return item | {"properties": [], "tax_lines": []} | changes


def an_order(**changes: Any) -> dict[str, Any]:
    order = {
        "id": 1001,
        "test": False,
        "currency": "CNY",
        "financial_status": "paid",
        "fulfillment_status": None,
        "taxes_included": True,
        "total_price": "78.00",
        "created_at": "2026-11-21T15:59:00+08:00",
        "processed_at": "2026-11-21T16:00:00+08:00",
        "updated_at": "2026-11-21T16:00:05+08:00",
        "cancelled_at": None,
        "customer": {"id": 42, "email": "someone@example.com"},
        "email": "someone@example.com",
        "note_attributes": [],
        "shipping_lines": [],
        "line_items": [an_item()],
        "refunds": [],
    }
    return order | changes


def a_refund(**changes: Any) -> dict[str, Any]:
    refund = {
        "id": 7,
        "order_id": 1001,
        "created_at": "2026-11-23T10:00:00+08:00",
        "processed_at": "2026-11-23T10:00:00+08:00",
        "refund_line_items": [],
        "order_adjustments": [],
        "transactions": [],
        "refund_shipping_lines": [],
    }
    return refund | changes


def a_refund_line(**changes: Any) -> dict[str, Any]:
    return {"id": 1, "line_item_id": 11, "quantity": 1, "subtotal": 39.0, "total_tax": 0.0, "line_item": {"id": 11}} | changes


def a_transaction(amount: Any, **changes: Any) -> dict[str, Any]:
    return {"kind": "refund", "status": "success", "amount": amount, "currency": "CNY"} | changes


def in_shop_money(amount: str, currency: str = "CNY") -> dict[str, Any]:
    return {"shop_money": {"amount": amount, "currency_code": currency}, "presentment_money": {"amount": "1.00", "currency_code": "XTS"}}


def translated(payload: object, topic: str = "orders/paid", **rules: Any) -> Translated:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    hook = Hook(id="h", connector="shopify", secrets=("s",), settings=msgspec.convert(rules, HookSettings))
    return translate(hook, {"x-shopify-topic": topic}, body)


def paid(payload: dict[str, Any], **rules: Any) -> OrderPaid:
    event = translated(payload, **rules).events[0]
    assert isinstance(event, OrderPaid)
    return event


def refunded(payload: dict[str, Any]) -> Refund:
    (event,) = translated(payload, "refunds/create").events
    assert isinstance(event, OrderRefunded)
    return event.refund


# Signatures ---------------------------------------------------------------------------------------------

HOOK = Hook(id="h", connector="shopify", secrets=("new secret", "old secret"))
BODY = json.dumps(an_order()).encode()


def signature(body: bytes, secret: str) -> str:
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


@pytest.mark.parametrize("name", ["x-shopify-hmac-sha256", "shopify-hmac-sha256"])
@pytest.mark.parametrize("secret", HOOK.secrets)
def test_both_secrets_verify_under_both_header_names(name: str, secret: str) -> None:
    assert verify(HOOK, {name: signature(BODY, secret)}, BODY, NOW) is None


def test_a_known_signature() -> None:
    # computed with: printf '{"id":1}' | openssl dgst -sha256 -hmac hush -binary | base64
    hook = Hook(id="h", connector="shopify", secrets=("hush",))
    assert verify(hook, {"x-shopify-hmac-sha256": "VnKUjZsLuN5iZWjn5EntcBVCF9kMN43LglzCE1/GSeY="}, b'{"id":1}', NOW) is None


def test_the_time_is_not_signed_and_does_not_matter() -> None:
    headers = {"x-shopify-hmac-sha256": signature(BODY, "new secret"), "x-shopify-triggered-at": "2001-01-01T00:00:00Z"}
    assert verify(HOOK, headers, BODY, NOW) is None


def test_forged_tampered_and_unsigned_deliveries_are_refused() -> None:
    good = signature(BODY, "new secret")
    hexadecimal = hmac.new(b"new secret", BODY, hashlib.sha256).hexdigest()
    for headers in ({}, {"x-shopify-hmac-sha256": ""}, {"x-shopify-topic": "orders/paid"}):
        with pytest.raises(BadSignature, match="required"):
            verify(HOOK, headers, BODY, NOW)
    for given_signature in (signature(BODY, "wrong"), good[:-1], good.lower(), hexadecimal, "é", "\udcff", "A" * 5_000):
        with pytest.raises(Unauthenticated):
            verify(HOOK, {"x-shopify-hmac-sha256": given_signature}, BODY, NOW)
    with pytest.raises(BadSignature):
        verify(HOOK, {"x-shopify-hmac-sha256": good}, BODY + b" ", NOW)


@pytest.mark.parametrize("secrets", [(), ("",), ("", "")])
def test_an_empty_secret_lets_nobody_in(secrets: tuple[str, ...]) -> None:
    hook = Hook(id="h", connector="shopify", secrets=secrets)
    with pytest.raises(BadSignature):
        verify(hook, {"x-shopify-hmac-sha256": signature(BODY, "")}, BODY, NOW)


def test_an_unknown_connector_proves_and_translates_nothing() -> None:
    hook = Hook(id="h", connector="carrier-pigeon", secrets=("s",))
    with pytest.raises(BadSignature):
        verify(hook, {"x-shopify-hmac-sha256": signature(BODY, "s")}, BODY, NOW)
    with pytest.raises(Untranslatable):
        translate(hook, {}, BODY)


# Orders -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", ["orders/paid", "orders/updated", "orders/fulfilled", "orders/cancelled"])
def test_every_order_topic_says_the_same_about_the_same_order(topic: str) -> None:
    assert translated(an_order(source_name="web"), topic).events == [
        OrderPaid(
            id="shopify:1001:paid",
            occurred_at=PAID_AT,
            consumer="42",
            attributes={"channel": "web"},
            order=Order(id="1001", currency="CNY", total="78.00"),
            lines=[Line(id="11", sku="TP-01", quantity="2", unit_price="39.00", amount="78.00")],
        )
    ]


def test_headers_without_x_and_the_delivery_id() -> None:
    hook = Hook(id="h", connector="shopify", secrets=("s",))
    result = translate(hook, {"shopify-topic": "orders/paid", "shopify-webhook-id": "b7504392"}, BODY)
    assert (result.topic, result.delivery_id, len(result.events), result.ignored) == ("orders/paid", "b7504392", 1, None)
    with pytest.raises(Untranslatable, match="Topic"):
        translate(hook, {}, BODY)


@pytest.mark.parametrize("topic", ["orders/create", "fulfillments/create", "customers/update", "app/uninstalled", "x"])
def test_other_topics_are_ignored_whatever_they_carry(topic: str) -> None:
    assert translated(b"not even JSON", topic) == Translated(
        topic=topic, delivery_id=None, events=[], ignored="nothing is read from this topic"
    )


@pytest.mark.parametrize(
    ("topic", "body", "demand"),
    [
        (
            "customers/redact",
            {
                "customer": {"id": 191167, "email": "john@example.com", "phone": "555-625-1199"},
                "orders_to_redact": [299938, "280263", 299938],
            },
            Demand(kind="erase", consumer="191167", orders=("299938", "280263")),
        ),
        ("customers/redact", {"customer": {"id": None}, "orders_to_redact": None}, Demand(kind="erase")),
        ("customers/redact", {"shop_id": 954889}, Demand(kind="erase")),
        (
            "customers/data_request",
            {"customer": {"id": 191167}, "orders_requested": [299938], "data_request": {"id": 9999}},
            Demand(kind="export", consumer="191167"),
        ),
        ("customers/data_request", {"customer": None}, Demand(kind="export")),
        ("shop/redact", {"shop_id": 954889, "shop_domain": "x.myshopify.com", "customer": {"id": 1}}, Demand(kind="erase_all")),
    ],
)
def test_compliance_topics_are_demands(topic: str, body: Any, demand: Demand) -> None:
    result = translated(json.dumps(body).encode(), topic)
    assert (result.events, result.ignored, result.demand) == ([], None, demand)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"customer": {"id": "ada@example.com"}}', b'{"orders_to_redact": ["x"]}'])
def test_a_demand_that_cannot_be_read_quotes_nobody(body: bytes) -> None:
    with pytest.raises(Untranslatable) as caught:
        translated(body, "customers/redact")
    assert "ada" not in caught.value.detail


def test_ids_beyond_2_to_the_53_stay_exact_as_numbers_and_as_text() -> None:
    for big in (BIG, str(BIG)):
        event = paid(an_order(id=big, customer={"id": big}, line_items=[an_item(id=big)]))
        assert (event.id, event.order.id, event.consumer, event.lines[0].id) == (f"shopify:{BIG}:paid", str(BIG), str(BIG), str(BIG))


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, None, "", "x", "1e3", " 1", "1\n", "٣", 10**20, "9" * 21, [], {}])
def test_an_id_is_a_positive_whole_number(bad: Any) -> None:
    for payload in (an_order(id=bad), an_order(line_items=[an_item(id=bad)])):
        with pytest.raises(Untranslatable):
            translated(payload)
    with pytest.raises(Untranslatable):
        translated(a_refund(order_id=bad, refund_line_items=[a_refund_line()]), "refunds/create")


def test_a_test_order_earns_nothing_and_takes_nothing_back() -> None:
    result = translated(an_order(test=True, cancelled_at="2026-11-22T00:00:00Z", refunds=[a_refund(refund_line_items=[a_refund_line()])]))
    assert (result.events, result.ignored) == ([], "a test order earns nothing")


@pytest.mark.parametrize("status", ["pending", "authorized", "voided", "expired"])
@pytest.mark.parametrize("topic", ["orders/paid", "orders/updated", "orders/cancelled"])
def test_an_unpaid_order_earns_nothing_whatever_the_unsigned_topic_says(status: str, topic: str) -> None:
    result = translated(an_order(financial_status=status, cancelled_at="2026-11-22T00:00:00Z"), topic)
    assert (result.events, result.ignored) == ([], f"the order is not paid but {status}")


@pytest.mark.parametrize("status", ["partially_paid", "someone@example.com", "", None])
def test_an_order_paid_in_part_earns_nothing_but_its_cancellation_counts(status: str | None) -> None:
    result = translated(an_order(financial_status=status))
    assert (result.events, result.ignored) == ([], "the order is not paid in full")
    (cancelled,) = translated(an_order(financial_status=status, cancelled_at="2026-11-22T00:00:00Z")).events
    assert cancelled.id == "shopify:1001:cancelled"


@pytest.mark.parametrize("customer", [None, {}, {"id": None}, "absent"])
def test_a_guest_order_credits_nobody(customer: Any) -> None:
    order = an_order(customer=customer)
    if customer == "absent":
        del order["customer"]
    result = translated(order)
    assert (result.events, result.ignored) == ([], "the order has no customer: whom it would credit is not known")
    # The customer may have been deleted after the order earned: what is taken back counts by the order.
    events = translated(
        order | {"cancelled_at": "2026-11-22T00:00:00Z", "refunds": [a_refund(transactions=[a_transaction("78.00")])]}
    ).events
    assert [(event.id, event.consumer) for event in events] == [("shopify:1001:refund:7", None), ("shopify:1001:cancelled", None)]


def test_an_updated_order_carries_all_its_facts() -> None:
    order = an_order(
        financial_status="partially_refunded",
        fulfillment_status="fulfilled",
        cancelled_at="2026-11-24T00:00:00Z",
        refunds=[a_refund(refund_line_items=[a_refund_line()]), a_refund(id=8, transactions=[a_transaction("5.00")])],
    )
    assert translated(order, "orders/updated").events[1:] == [
        OrderFulfilled(
            id="shopify:1001:fulfilled", occurred_at=datetime(2026, 11, 21, 8, 0, 5, tzinfo=UTC), consumer="42", order=Order(id="1001")
        ),
        OrderRefunded(
            id="shopify:1001:refund:7",
            occurred_at=datetime(2026, 11, 23, 2, 0, tzinfo=UTC),
            order=Order(id="1001"),
            refund=Refund(id="7", lines=[RefundLine(id="11", quantity="1", amount="39.0")], amount="39.0"),
        ),
        OrderRefunded(
            id="shopify:1001:refund:8",
            occurred_at=datetime(2026, 11, 23, 2, 0, tzinfo=UTC),
            order=Order(id="1001"),
            refund=Refund(id="8", amount="5.00"),
        ),
        OrderCancelled(id="shopify:1001:cancelled", occurred_at=datetime(2026, 11, 24, tzinfo=UTC), consumer="42", order=Order(id="1001")),
    ]


def test_a_refund_is_the_same_fact_alone_and_inside_its_order() -> None:
    refund = a_refund(refund_line_items=[a_refund_line()])
    alone = translated(refund, "refunds/create").events
    inside = translated(an_order(financial_status="partially_refunded", refunds=[refund]), "orders/updated").events[1:]
    assert alone == inside


def test_the_original_quantity_counts_not_what_is_left() -> None:
    line = paid(an_order(line_items=[an_item(quantity=3, current_quantity=0, fulfillable_quantity=0)])).lines[0]
    assert (line.quantity, line.amount) == ("3", "117.00")


@pytest.mark.parametrize(
    ("item", "unit_price", "amount"),
    [
        ({"price": "57.23", "quantity": 1}, "57.23", "57.23"),
        ({"price": "23600", "quantity": 2}, "23600", "47200"),
        ({"price": 10, "quantity": 3}, "10", "30"),
        ({"price": 10.99, "quantity": 3}, "10.99", "32.97"),
        ({"price": 0.1, "quantity": 3}, "0.1", "0.3"),
        ({"price": "62.6793", "quantity": 1}, "62.6793", "62.6793"),
        ({"price": "0.33333333", "quantity": 1}, "0.333333", "0.333333"),
        ({"price": None, "price_set": in_shop_money("12.50"), "quantity": 2}, "12.50", "25.00"),
        ({"price": "10.00", "quantity": 2, "total_discount": "1.50"}, "10.00", "18.50"),
        (
            {"price": "10.00", "quantity": 2, "total_discount": "1.50", "discount_allocations": [{"amount": "1.50"}, {"amount": 2.25}]},
            "10.00",
            "16.25",
        ),
        ({"price": "10.00", "quantity": 1, "discount_allocations": None, "total_discount": None}, "10.00", "10.00"),
        ({"price": "10.00", "quantity": 1, "discount_allocations": [{"amount": "10.00"}]}, "10.00", "0.00"),
        ({"price": "10.00", "quantity": 1, "total_discount": "99.00"}, "10.00", "0"),
        ({"price": "-0.00", "quantity": 1}, "0.00", "0.00"),
        ({"price": "-5.00", "quantity": 1}, "0", "0"),
        ({"price": "8.00", "quantity": "1.5"}, "8.00", "12.000"),
    ],
)
def test_money_is_exact_and_after_discounts(item: dict[str, Any], unit_price: str, amount: str) -> None:
    line = paid(an_order(line_items=[an_item(**item)])).lines[0]
    assert (line.unit_price, Decimal(line.amount or "")) == (unit_price, Decimal(amount))


@pytest.mark.parametrize(
    "bad", ["NaN", "sNaN", "Infinity", "1e400", 1e400, "1e999999999999999999", "1e99999999999999999999", 10**13, "", "x", True, []]
)
def test_a_number_that_cannot_be_counted_is_untranslatable(bad: Any) -> None:
    for item in (an_item(price=bad), an_item(quantity=bad), an_item(discount_allocations=[{"amount": bad}])):
        if item["quantity"] == "" or item["quantity"] == []:
            continue
        with pytest.raises(Untranslatable):
            translated(an_order(line_items=[item]))
    with pytest.raises(Untranslatable):
        translated(a_refund(transactions=[a_transaction(bad)]), "refunds/create")


@pytest.mark.parametrize(
    ("changes", "total"),
    [
        # Prices include tax: what was paid for the goods is the lines; shipping is not in it.
        ({"taxes_included": True, "total_price": "98.00", "line_items": [an_item(tax_lines=[{"price": "6.00"}])]}, "78.00"),
        # Prices exclude tax: it is added, since a refund gives it back, too.
        (
            {"taxes_included": False, "total_price": "104.00", "line_items": [an_item(tax_lines=[{"price": "4.00"}, {"price": 2.5}])]},
            "84.50",
        ),
        # Never more than what was paid in all.
        ({"total_price": "70.00"}, "70.00"),
        ({"total_price": None}, "78.00"),
        # Gift cards earn nothing, so that what was paid for them is not in it.
        ({"total_price": "128.00", "line_items": [an_item(), an_item(id=12, gift_card=True, price="50.00", quantity=1)]}, "78.00"),
    ],
)
def test_the_total_is_what_was_paid_for_the_lines(changes: dict[str, Any], total: str) -> None:
    assert paid(an_order(**changes)).order.total == total


def test_gift_cards_earn_nothing() -> None:
    card = an_item(id=12, gift_card=True)
    assert [line.id for line in paid(an_order(line_items=[card, an_item()])).lines] == ["11"]
    result = translated(an_order(line_items=[card]))
    assert (result.events, result.ignored) == ([], "the order has no line that could earn")
    result = translated(a_refund(refund_line_items=[a_refund_line(line_item={"id": 11, "gift_card": True})]), "refunds/create")
    assert (result.events, result.ignored) == ([], "only gift cards were refunded")


@pytest.mark.parametrize(
    ("sku", "kept"),
    [
        ("TP-01", "TP-01"),
        (" TP-01 ", "TP-01"),
        ("", None),
        ("  ", None),
        (None, None),
        (123, "123"),
        (True, None),
        ({}, None),
        ([1], None),
        ("x" * 128, "x" * 128),
        ("x" * 129, None),
        ("TP\u0000", None),
        ("TP\n1", None),
        ("T\u2028P", None),
        ("茶", "茶"),
    ],
)
def test_a_sku_is_kept_whole_or_not_at_all(sku: Any, kept: str | None) -> None:
    assert paid(an_order(line_items=[an_item(sku=sku)])).lines[0].sku == kept


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        ({}, PAID_AT),
        ({"processed_at": None}, datetime(2026, 11, 21, 7, 59, tzinfo=UTC)),
        ({"processed_at": "2026-11-21T16:00:00"}, datetime(2026, 11, 21, 7, 59, tzinfo=UTC)),
        ({"processed_at": "yesterday", "created_at": 5}, datetime(2026, 11, 21, 8, 0, 5, tzinfo=UTC)),
        ({"processed_at": "0001-01-01T00:00:00+14:00"}, datetime(2026, 11, 21, 7, 59, tzinfo=UTC)),
        ({"processed_at": "2024-08-03T18:28:37.234647458Z"}, datetime(2024, 8, 3, 18, 28, 37, 234647, tzinfo=UTC)),
    ],
)
def test_the_time_comes_from_the_body(changes: dict[str, Any], at: datetime) -> None:
    assert paid(an_order(**changes)).occurred_at == at


def test_without_any_time_it_is_untranslatable() -> None:
    with pytest.raises(Untranslatable, match="no time"):
        translated(an_order(processed_at=None, created_at=None, updated_at=None))
    refund = a_refund(processed_at=None, created_at=None, transactions=[a_transaction("1.00")])
    with pytest.raises(Untranslatable, match="no time"):
        translated(refund, "refunds/create")
    refund["transactions"][0]["created_at"] = "2026-11-23T00:00:00Z"
    assert translated(refund, "refunds/create").events[0].occurred_at == datetime(2026, 11, 23, tzinfo=UTC)


def test_more_lines_than_an_event_holds_are_untranslatable() -> None:
    items = [an_item(id=n) for n in range(1, 502)]
    assert len(paid(an_order(line_items=items[:500])).lines) == 500
    with pytest.raises(Untranslatable, match="500 lines"):
        translated(an_order(line_items=items))
    with pytest.raises(Untranslatable, match="500 lines"):
        translated(a_refund(refund_line_items=[a_refund_line(line_item_id=n) for n in range(1, 502)]), "refunds/create")


# Refunds ------------------------------------------------------------------------------------------------


def test_a_refund_has_no_consumer_and_units_of_a_line_are_summed() -> None:
    payload = a_refund(
        refund_line_items=[a_refund_line(), a_refund_line(quantity=2, subtotal="78.00"), a_refund_line(line_item_id=12, subtotal=10)],
        transactions=[a_transaction("127.00")],
    )
    (event,) = translated(payload, "refunds/create").events
    assert event == OrderRefunded(
        id="shopify:1001:refund:7",
        occurred_at=datetime(2026, 11, 23, 2, 0, tzinfo=UTC),
        consumer=None,
        order=Order(id="1001"),
        refund=Refund(
            id="7",
            lines=[RefundLine(id="11", quantity="3", amount="117.00"), RefundLine(id="12", quantity="1", amount="10")],
            amount="127.00",
        ),
    )


def test_a_refund_line_falls_back_to_its_inner_line_and_its_amount() -> None:
    item = {"line_item": {"id": 11}, "quantity": None, "subtotal_set": in_shop_money("7.50")}
    assert refunded(a_refund(refund_line_items=[item])).lines == [RefundLine(id="11", quantity=None, amount="7.50")]
    with pytest.raises(Untranslatable, match="names no order line"):
        translated(a_refund(refund_line_items=[{"quantity": 1}]), "refunds/create")


@pytest.mark.parametrize(
    ("changes", "amount"),
    [
        ({"transactions": [a_transaction("20.00")]}, "20.00"),
        ({"transactions": [a_transaction("20.00"), a_transaction(5.5)]}, "25.50"),
        ({"transactions": [a_transaction("20.00"), a_transaction("5.00", status="failure"), a_transaction("9.00", kind="sale")]}, "20.00"),
        # Shipping told by an adjustment, since 2024-10 by refund_shipping_lines, for a while by both: taken off once.
        (
            {
                "transactions": [a_transaction("25.00")],
                "order_adjustments": [{"kind": "shipping_refund", "amount": "-5.00", "tax_amount": "-0.50"}],
            },
            "19.50",
        ),
        ({"transactions": [a_transaction("25.00")], "refund_shipping_lines": [{"subtotal_amount_set": in_shop_money("5.00")}]}, "20.00"),
        (
            {
                "transactions": [a_transaction("25.50")],
                "order_adjustments": [{"kind": "shipping_refund", "amount": "-5.00", "tax_amount": "-0.50"}],
                "refund_shipping_lines": [
                    {"subtotal_amount_set": in_shop_money("5.00"), "shipping_line": {"tax_lines": [{"price": "0.50"}]}}
                ],
            },
            "20.00",
        ),
        (
            {
                "transactions": [a_transaction("30.00")],
                "total_duties_set": in_shop_money("8.00"),
                "total_additional_fees_set": in_shop_money("2.00"),
            },
            "20.00",
        ),
        # Paid in another currency than the shop's: the adjustment is in the shop's.
        (
            {
                "transactions": [a_transaction("2.90", currency="USD")],
                "order_adjustments": [
                    {"kind": "refund_discrepancy", "amount": "-20.00", "tax_amount": "-1.00", "amount_set": in_shop_money("-20.00")}
                ],
            },
            "21.00",
        ),
        ({"order_adjustments": [{"kind": "refund_discrepancy", "amount": "-20.00"}]}, "20.00"),
        (
            {"refund_line_items": None, "order_adjustments": None, "refund_shipping_lines": None, "transactions": [a_transaction("1.00")]},
            "1.00",
        ),
    ],
)
def test_a_refund_without_lines_counts_the_money_given_back_for_the_goods(changes: dict[str, Any], amount: str) -> None:
    refund = refunded(a_refund(**changes))
    assert (refund.lines, refund.amount) == ([], amount)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "nothing of the goods' price was refunded"),
        (
            {"transactions": [a_transaction("5.00")], "refund_shipping_lines": [{"subtotal_amount_set": in_shop_money("5.00")}]},
            "nothing of the goods'",
        ),
        (
            {"transactions": [a_transaction("5.00")], "order_adjustments": [{"kind": "shipping_refund", "amount": "-5.00"}]},
            "nothing of the goods'",
        ),
        (
            {
                "transactions": [a_transaction("5.50")],
                "refund_shipping_lines": [
                    {"subtotal_amount_set": in_shop_money("5.00"), "shipping_line": {"tax_lines": [{"price": "0.50"}]}}
                ],
            },
            "nothing of the goods'",
        ),
        ({"transactions": [a_transaction("8.00")], "total_duties_set": in_shop_money("8.00")}, "nothing of the goods'"),
        ({"transactions": [a_transaction("5.00", status="failure")]}, "no money was given back"),
        ({"transactions": [a_transaction("5.00"), a_transaction("5.00", status="pending")]}, "the refund is pending"),
    ],
)
def test_a_refund_of_nothing_but_shipping_takes_no_points_back(changes: dict[str, Any], reason: str) -> None:
    result = translated(a_refund(**changes), "refunds/create")
    assert result.events == []
    assert (result.ignored or "").startswith(reason)


@pytest.mark.parametrize("taxes_included", [True, False])
def test_an_amount_only_refund_of_everything_reaches_the_total(*, taxes_included: bool) -> None:
    total_price = Decimal("78.00") + 10 + (0 if taxes_included else Decimal("6.00"))
    items = [an_item(tax_lines=[{"price": "6.00"}])]
    bought = paid(an_order(taxes_included=taxes_included, total_price=str(total_price), line_items=items))
    everything = refunded(a_refund(transactions=[a_transaction(str(total_price))]))
    assert Decimal(everything.amount or 0) >= Decimal(bought.order.total or 0)
    goods = a_refund(
        transactions=[a_transaction(str(total_price))], refund_shipping_lines=[{"subtotal_amount_set": in_shop_money("10.00")}]
    )
    assert Decimal(refunded(goods).amount or 0) == Decimal(bought.order.total or 0)


# Packaging ----------------------------------------------------------------------------------------------

RULES = [
    {"from": "note_attribute", "name": "packaging", "value": "reuse box", "class": "circular_box"},
    {"from": "property", "name": "Wrapping", "value": "none", "class": "ship_in_own_container"},
    {"from": "shipping_line", "code": "GREEN", "source": "shopify", "class": "paper_mailer"},
    {"from": "note_attribute", "name": "no bag", "class": "refill_or_pack_free"},
]


@pytest.mark.parametrize(
    ("changes", "class_"),
    [
        ({}, None),
        ({"note_attributes": [{"name": "colour", "value": "green"}, {"name": "Packaging ", "value": " Reuse Box"}]}, "circular_box"),
        ({"note_attributes": {"packaging": "reuse box"}}, "circular_box"),
        ({"note_attributes": [{"name": "packaging", "value": "foam"}]}, None),
        ({"note_attributes": [{"name": "packaging"}, None, 5, [], {"value": "reuse box"}]}, None),
        ({"note_attributes": [{"name": "no bag", "value": True}]}, "refill_or_pack_free"),
        ({"note_attributes": [{"name": "no bag", "value": ""}]}, None),
        ({"line_items": [an_item(), an_item(id=12, properties=[{"name": "wrapping", "value": "None"}])]}, "ship_in_own_container"),
        ({"line_items": [an_item(properties={"Wrapping": "none"})]}, "ship_in_own_container"),
        ({"line_items": [an_item(properties={"name": "Wrapping", "value": "none"})]}, "ship_in_own_container"),
        ({"line_items": [an_item(properties={"name": "property 1", "value": 3})]}, None),
        ({"line_items": [an_item(properties={})]}, None),
        ({"line_items": [an_item(properties=None)]}, None),
        ({"line_items": [an_item(properties="odd")]}, None),
        ({"shipping_lines": [{"code": "green", "source": "shopify", "title": "Slow"}]}, "paper_mailer"),
        ({"shipping_lines": [{"code": "green", "source": "other"}, {"code": 5, "source": {}}]}, None),
        ({"shipping_lines": None}, None),
        # The first rule wins, wherever the choices stand.
        (
            {"shipping_lines": [{"code": "GREEN", "source": "shopify"}], "note_attributes": [{"name": "packaging", "value": "reuse box"}]},
            "circular_box",
        ),
    ],
)
def test_the_packaging_choice_is_mapped_by_the_hook(changes: dict[str, Any], class_: str | None) -> None:
    expected = None if class_ is None else Packaging(class_=class_)
    assert paid(an_order(**changes), packaging=RULES).packaging == expected
    assert paid(an_order(**changes)).packaging is None


def test_what_was_shipped_keeps_the_choice_and_its_one_waybill() -> None:
    shipments = [
        {"status": "success", "created_at": "2026-11-22T08:00:00+08:00", "tracking_number": "SF100"},
        {"status": "success", "created_at": "2026-11-22T09:00:00+08:00", "tracking_number": "SF100"},
        {"status": "failure", "created_at": "2026-11-23T09:00:00+08:00", "tracking_number": "SF200"},
    ]
    order = an_order(fulfillment_status="fulfilled", fulfillments=shipments, note_attributes=[{"name": "packaging", "value": "reuse box"}])
    assert translated(order, packaging=RULES).events[1] == OrderFulfilled(
        id="shopify:1001:fulfilled",
        occurred_at=datetime(2026, 11, 22, 1, 0, tzinfo=UTC),
        consumer="42",
        order=Order(id="1001"),
        packaging=Packaging(class_="circular_box", waybill="SF100"),
    )
    shipments[1]["tracking_number"] = "SF300"
    (_, shipped) = translated(order, packaging=RULES).events
    assert isinstance(shipped, OrderFulfilled)
    assert shipped.packaging == Packaging(class_="circular_box")


@pytest.mark.parametrize(
    "rule",
    [
        {"from": "shipping_line", "class": "circular_box"},
        {"from": "note_attribute", "class": "circular_box"},
        {"from": "note_attribute", "name": " ", "class": "circular_box"},
        {"from": "property", "name": "x", "valeu": "typo", "class": "circular_box"},
        {"from": "tags", "name": "x", "class": "circular_box"},
        {"from": "property", "name": "x", "class": ""},
        {"name": "x", "class": "circular_box"},
    ],
)
def test_a_rule_that_would_never_or_always_fit_is_refused(rule: dict[str, str]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"packaging": [rule]}, HookSettings)


# Whatever the JSON is -----------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", ["orders/paid", "refunds/create"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b"{",
        b'{"id": NaN}',
        b'{"id": 1e999999999999999999999}',
        b'{"id": ' + b"9" * 5_000 + b"}",
        b'{"id": "\\ud800"}',
        b'{"id": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_body_of_another_kind_is_untranslatable(topic: str, body: bytes) -> None:
    with pytest.raises(Untranslatable):
        translated(body, topic)


def test_an_order_is_no_refund_and_a_refund_is_no_order() -> None:
    with pytest.raises(Untranslatable, match="order_id"):
        translated(an_order(), "refunds/create")
    with pytest.raises(Untranslatable, match="required"):
        translated(a_refund(refund_line_items=[a_refund_line()]), "orders/paid")


def test_errors_quote_nothing_of_the_body() -> None:
    secret = "someone@example.com"
    for payload in (
        *(an_order(**{name: secret}) for name in ("id", "test", "total_price", "customer", "line_items", "refunds", "currency")),
        *(an_order(line_items=[an_item(**{name: secret})]) for name in ("id", "quantity", "price", "gift_card", "discount_allocations")),
    ):
        with pytest.raises(Untranslatable) as caught:
            translated(payload)
        assert "someone" not in caught.value.detail


ODD = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(
        ["", "x", "paid", "refunded", "NaN", "1e30", "-1", "10.00", "2026-11-21T16:00:00Z", "0001-01-01T00:00:00+14:00", "\x00", "success"]
    )
    | st.text(max_size=8)
)
ANY_JSON = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6
)
MONEY_SET = in_shop_money("1.00")
FULL_REFUND = a_refund(
    refund_line_items=[a_refund_line(subtotal_set=MONEY_SET)],
    order_adjustments=[{"kind": "shipping_refund", "amount": "-5.00", "tax_amount": "0.00", "amount_set": MONEY_SET}],
    transactions=[a_transaction("20.00", processed_at="2026-11-23T00:00:00Z", created_at=None)],
    refund_shipping_lines=[{"subtotal_amount_set": MONEY_SET, "shipping_line": {"tax_lines": [{"price": "0.10"}]}}],
    total_duties_set=MONEY_SET,
    total_additional_fees_set=None,
)
FULL_ORDER = an_order(
    financial_status="partially_refunded",
    fulfillment_status="fulfilled",
    taxes_included=False,
    cancelled_at="2026-11-24T00:00:00Z",
    source_name="web",
    note_attributes=[{"name": "packaging", "value": "foam"}],
    shipping_lines=[{"code": "GREEN", "title": "t", "source": "s"}],
    fulfillments=[{"status": "success", "created_at": "2026-11-22T08:00:00Z", "tracking_number": "SF1"}],
    line_items=[
        an_item(
            price_set=MONEY_SET,
            discount_allocations=[{"amount": "1.00"}],
            tax_lines=[{"price": "1.00"}],
            properties=[{"name": "a", "value": "b"}],
        )
    ],
    refunds=[FULL_REFUND, FULL_REFUND | {"id": 8, "refund_line_items": []}],
)


def paths(value: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, child in children for path in paths(child, (*at, key)))]


def replaced(value: Any, path: tuple[str | int, ...], by: object) -> Any:
    if not path:
        return by
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], by)
    return copy


def refused_at(event: Event) -> set[str]:
    try:
        check_event(event, NOW)
    except InvalidRequest as refused:
        return {error.pointer for error in refused.errors}
    return set()


def assert_sound(result: Translated) -> None:
    """Events that the schema takes back as they are, and that say why when there are none."""
    assert bool(result.events) is (result.ignored is None)
    for event in result.events:
        assert msgspec.json.decode(msgspec.json.encode(event), type=Event) == event
        assert len(event.id) <= 128
        assert event.id.startswith("shopify:")
        assert refused_at(event) <= {"/occurred_at"}


@pytest.mark.parametrize(("topic", "payload"), [("orders/updated", FULL_ORDER), ("refunds/create", FULL_REFUND)])
def test_odd_values_anywhere_are_translated_soundly_or_untranslatable(topic: str, payload: dict[str, Any]) -> None:
    """Every place of a full payload in turn, with each of these values."""
    odd: list[Any] = [
        None,
        True,
        0,
        -1,
        2**70,
        1.5,
        -1e300,
        "",
        "x",
        "NaN",
        "-5",
        "9" * 40,
        "a\u0000b",
        [],
        [None],
        {},
        {"id": None},
        {"name": {}},
    ]
    for path in paths(payload):
        for value in odd:
            with suppress(Untranslatable):
                assert_sound(translated(replaced(payload, path, value), topic, packaging=RULES))


@given(st.sampled_from(paths(FULL_ORDER)), st.sampled_from(paths(FULL_ORDER)), ANY_JSON, ANY_JSON)
@settings(max_examples=60, deadline=None)
def test_any_json_in_any_two_places_of_an_order(one: tuple[Any, ...], other: tuple[Any, ...], this: object, that: object) -> None:
    payload = replaced(FULL_ORDER, one, this)
    with suppress(AttributeError, IndexError, KeyError, TypeError):  # the first may have taken the second place away
        payload = replaced(payload, other, that)
    with suppress(Untranslatable):
        assert_sound(translated(payload, "orders/updated", packaging=RULES))


@given(ANY_JSON, st.sampled_from(["orders/paid", "refunds/create"]))
@settings(max_examples=50, deadline=None)
def test_any_json_at_all(payload: object, topic: str) -> None:
    with suppress(Untranslatable):
        assert_sound(translated(payload, topic))


# The published samples ----------------------------------------------------------------------------------


def sample(name: str) -> dict[str, Any]:
    path = FIXTURES / f"{name}.json"
    if not path.exists():
        pytest.skip("the shared fixtures are not here")
    payload: dict[str, Any] = json.loads(path.read_text())
    return payload


IPODS = OrderPaid(
    id="shopify:450789469:paid",
    occurred_at=datetime(2008, 1, 10, 16, 0, tzinfo=UTC),
    consumer="207119551",
    attributes={"channel": "web"},
    order=Order(id="450789469", currency="USD", total="598.94"),
    lines=[
        Line(id="466157049", sku="IPOD2008GREEN", quantity="1", unit_price="199.00", amount="195.66"),
        Line(id="518995019", sku="IPOD2008RED", quantity="1", unit_price="199.00", amount="195.67"),
        Line(id="703073504", sku="IPOD2008BLACK", quantity="1", unit_price="199.00", amount="195.67"),
    ],
)
IPODS_REFUNDED = OrderRefunded(
    id="shopify:450789469:refund:509562969",
    occurred_at=datetime(2025, 7, 2, 16, 29, 59, tzinfo=UTC),
    order=Order(id="450789469"),
    refund=Refund(
        id="509562969",
        lines=[RefundLine(id="703073504", quantity="1", amount="195.66"), RefundLine(id="466157049", quantity="1", amount="195.67")],
        amount="391.33",
    ),
)


def test_sample_of_an_order_refunded_in_part() -> None:
    assert translated(sample("orders-updated-1"), "orders/updated").events == [IPODS, IPODS_REFUNDED]
    assert translated(sample("orders-updated-1"), "orders/paid").events == [IPODS, IPODS_REFUNDED]


def test_sample_of_a_cancelled_order() -> None:
    cancelled = OrderCancelled(
        id="shopify:450789469:cancelled",
        occurred_at=datetime(2025, 7, 2, 16, 31, 25, tzinfo=UTC),
        consumer="207119551",
        order=Order(id="450789469"),
    )
    assert translated(sample("orders-cancelled-1"), "orders/cancelled").events == [IPODS, IPODS_REFUNDED, cancelled]


def test_sample_of_a_choice_in_properties_and_attributes() -> None:
    engraved = [{"from": "property", "name": "custom engraving back", "value": "merry christmas", "class": "circular_box"}]
    green = [{"from": "note_attribute", "name": "colour", "value": "green", "class": "reused_carton"}]
    free = [{"from": "shipping_line", "code": "Free Shipping", "class": "paper_mailer"}]
    for rules, class_ in ((engraved, "circular_box"), (green, "reused_carton"), (free, "paper_mailer")):
        assert paid(sample("orders-updated-1"), packaging=rules).packaging == Packaging(class_=class_)


def test_sample_without_a_customer() -> None:
    result = translated(sample("orders-paid-1"))
    assert (result.events, result.ignored) == ([], "the order has no customer: whom it would credit is not known")
    bought = paid(sample("orders-paid-1") | {"customer": {"id": 5}})
    assert bought.order == Order(id="1073459976", currency="EUR", total="238.47")
    assert bought.lines == [Line(id="1071823188", sku=None, quantity="3", unit_price="74.99", amount="224.97")]


def test_sample_with_a_discount() -> None:
    assert translated(sample("orders-paid-3")).events == [
        OrderPaid(
            id="shopify:1073459981:paid",
            occurred_at=datetime(2025, 7, 2, 16, 31, 38, tzinfo=UTC),
            consumer="1073339475",
            attributes={"channel": "755357713"},
            order=Order(id="1073459981", currency="USD", total="181.09"),
            lines=[Line(id="1071823193", sku="IPOD2009BLACK", quantity="1", unit_price="199.00", amount="181.09")],
        )
    ]


def test_sample_paid_and_fulfilled_at_once() -> None:
    assert translated(sample("orders-paid-5")).events == [
        OrderPaid(
            id="shopify:1073459970:paid",
            occurred_at=datetime(2025, 7, 2, 16, 31, 2, tzinfo=UTC),
            consumer="1073339468",
            attributes={"channel": "755357713"},
            order=Order(id="1073459970", currency="USD", total="199.00"),
            lines=[Line(id="1071823182", sku="IPOD2008BLACK", quantity="1", unit_price="199.00", amount="199.00")],
        ),
        OrderFulfilled(
            id="shopify:1073459970:fulfilled",
            occurred_at=datetime(2025, 7, 2, 16, 31, 3, tzinfo=UTC),
            consumer="1073339468",
            order=Order(id="1073459970"),
        ),
    ]


@pytest.mark.parametrize("name", ["orders-paid-6", "orders-fulfilled-1", "orders-updated-3"])
def test_samples_of_test_orders(name: str) -> None:
    result = translated(sample(name))
    assert (result.events, result.ignored) == ([], "a test order earns nothing")
    # What they would say if they were real: 3 × 150.00 and 5 free, 20.00 of shipping not counted.
    bought, *later = translated(sample(name) | {"test": False}).events
    assert isinstance(bought, OrderPaid)
    assert bought.order == Order(id="5182437124", currency="EUR", total="450.00")
    assert [(line.id, line.quantity, line.unit_price, line.amount) for line in bought.lines] == [
        ("10069290756", "3", "150.00", "450.00"),
        ("10069290820", "5", "0.00", "0.00"),
    ]
    expected = {"orders-paid-6": [], "orders-fulfilled-1": ["fulfilled"], "orders-updated-3": ["fulfilled", "refund:225207300"]}[name]
    assert [event.id for event in later] == [f"shopify:5182437124:{fact}" for fact in expected]


def test_sample_of_a_refund_of_one_unit_for_no_money() -> None:
    assert translated(sample("refunds-create-1"), "refunds/create").events == [
        OrderRefunded(
            id="shopify:450789469:refund:929361472",
            occurred_at=datetime(2025, 7, 2, 16, 38, 34, tzinfo=UTC),
            order=Order(id="450789469"),
            refund=Refund(id="929361472", lines=[RefundLine(id="518995019", quantity="1", amount="0.0")], amount="0.0"),
        )
    ]


def test_sample_of_a_shipping_refund() -> None:
    result = translated(sample("refunds-create-2"), "refunds/create")
    assert (result.events, result.ignored) == ([], "nothing of the goods' price was refunded")


def test_sample_of_a_refund_alone_and_in_its_order() -> None:
    (alone,) = translated(sample("refunds-create-4"), "refunds/create").events
    assert alone == OrderRefunded(
        id="shopify:5182437124:refund:225207300",
        occurred_at=datetime(2017, 10, 7, 11, 59, 31, tzinfo=UTC),
        order=Order(id="5182437124"),
        refund=Refund(id="225207300", lines=[RefundLine(id="10069290756", quantity="1", amount="150.0")], amount="150.0"),
    )
    assert translated(sample("orders-updated-3") | {"test": False}).events[-1] == alone


@pytest.mark.parametrize("name", ["line_item-properties-empty-object-1", "line_item-properties-object-1"])
def test_samples_of_odd_properties(name: str) -> None:
    rule = {"from": "property", "name": "property 1", "value": "3", "class": "circular_box"}
    packaging = paid(an_order(line_items=[an_item(**sample(name))]), packaging=[rule]).packaging
    assert packaging == (Packaging(class_="circular_box") if "empty" not in name else None)


def test_samples_of_other_topics() -> None:
    assert translated(sample("fulfillments-create-1"), "fulfillments/create").events == []
    for capture in sample("captured-headers-1")["captures"]:
        headers = {name.lower(): text for name, text in capture["headers"].items()}
        hook = Hook(id="h", connector="shopify", secrets=("s",))
        with pytest.raises(BadSignature, match="no secret"):
            verify(hook, headers, b"{}", NOW)
        assert translate(hook, headers | {"x-shopify-topic": "orders/create"}, b"{}").delivery_id == headers["x-shopify-webhook-id"]

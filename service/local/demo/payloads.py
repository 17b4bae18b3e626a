"""What shops send: the events of our API, a Shopify order with its HMAC, a Standard Webhook. Pure; `now` is handed in."""

import base64
import hashlib
import hmac
from datetime import datetime
from typing import Any

import msgspec
from standardwebhooks import Webhook

from service.flows.demo import BOXES

MEI = "mei"
"""The consumer whose story is told."""

SHOPIFY_ORDER, SHOPIFY_CUSTOMER = 9_007_199_254_740_993, 7_016_500_000_000_001
"""Beyond 2^53, as Shopify's ids may be: a program that reads them as floating point gets another order."""
SOAP_LINE, CUP_LINE = 14_000_000_000_000_001, 14_000_000_000_000_002

BATCH_SIZE, BATCH_CONSUMERS = 500, 35
WITHOUT_OFFSET = 250
"""The one event of the batch that is wrong."""


def order(
    number: str, *, consumer: str, now: datetime, lines: list[dict[str, Any]], total: str, packaging: str | None = None
) -> dict[str, Any]:
    """An `order.paid` event."""
    event: dict[str, Any] = {
        "id": f"{number}:paid", "type": "order.paid", "occurred_at": now.isoformat(timespec="seconds"), "consumer": consumer,
        "order": {"id": number, "currency": "CNY", "total": total}, "lines": lines,
    }  # fmt: skip
    return event if packaging is None else event | {"packaging": {"class": packaging, "parcels": 1}}


def meis_order(now: datetime) -> dict[str, Any]:
    """Two packs of certified tissue and a cup without a certificate, shipped in their own container."""
    tissue = {"id": "1", "sku": "DEMO-TISSUE", "quantity": "2", "unit_price": "39.00"}
    cup = {"id": "2", "sku": "DEMO-CUP", "quantity": "1", "unit_price": "19.00"}
    return order("demo-1001", consumer=MEI, now=now, lines=[tissue, cup], total="97.00", packaging="ship_in_own_container")


def meis_refund(now: datetime) -> dict[str, Any]:
    """One of the two packs goes back."""
    return {
        "id": "demo-1001:refund:r-1", "type": "order.refunded", "occurred_at": now.isoformat(timespec="seconds"), "consumer": MEI,
        "order": {"id": "demo-1001"}, "refund": {"id": "r-1", "lines": [{"id": "1", "quantity": "1"}]},
    }  # fmt: skip


def boxes_shipped(now: datetime) -> list[dict[str, Any]]:
    """An order of cups, and that it left in the demo's three circular boxes."""
    cups = {"id": "1", "sku": "DEMO-CUP", "quantity": "3", "unit_price": "19.00"}
    bought = order("demo-1000", consumer=MEI, now=now, lines=[cups], total="57.00")
    sent = {
        "id": "demo-1000:sent", "type": "order.fulfilled", "occurred_at": bought["occurred_at"], "order": {"id": "demo-1000"},
        "packaging": {"class": "circular_box", "parcels": len(BOXES), "waybill": "DEMO-SF-1000", "assets": list(BOXES)},
    }  # fmt: skip
    return [bought, sent]


def boxes_returned(now: datetime) -> dict[str, Any]:
    """The three boxes come back to a station, as the body of a Standard Webhook."""
    at = now.isoformat(timespec="seconds")
    event = {
        "id": "demo-return-7", "type": "packaging.returned", "occurred_at": at, "consumer": MEI,
        "returns": [{"asset": box, "station": "demo-station-7"} for box in BOXES],
    }  # fmt: skip
    return {"type": event["type"], "timestamp": at, "data": event}


def standard_headers(secret: str, message_id: str, body: bytes, now: datetime) -> dict[str, str]:
    """The signature of a Standard Webhook, made by that project's own package."""
    signature = Webhook(secret).sign(message_id, now, body.decode())
    return {"webhook-id": message_id, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}


def shopify_order(now: datetime) -> dict[str, Any]:
    """Three pieces of certified soap and a cup, in the shape of Shopify's Order resource."""
    at = now.isoformat(timespec="seconds")
    return {
        "id": SHOPIFY_ORDER, "name": "#1002", "test": False, "currency": "CNY", "financial_status": "paid", "fulfillment_status": None,
        "taxes_included": True, "total_price": "55.00", "created_at": at, "processed_at": at, "updated_at": at, "source_name": "web",
        "customer": {"id": SHOPIFY_CUSTOMER}, "note_attributes": [], "shipping_lines": [], "refunds": [],
        "line_items": [
            {"id": SOAP_LINE, "sku": "DEMO-SOAP", "quantity": 3, "price": "12.00", "total_discount": "0.00", "gift_card": False},
            {"id": CUP_LINE, "sku": "DEMO-CUP", "quantity": 1, "price": "19.00", "total_discount": "0.00", "gift_card": False},
        ],
    }  # fmt: skip


def shopify_refund(now: datetime) -> dict[str, Any]:
    """One piece of soap is refunded, in the shape of Shopify's Refund resource. It names no customer."""
    at = now.isoformat(timespec="seconds")
    return {
        "id": 929_361_465, "order_id": SHOPIFY_ORDER, "created_at": at, "processed_at": at, "order_adjustments": [],
        "transactions": [{"kind": "refund", "status": "success", "amount": "12.00", "currency": "CNY"}],
        "refund_line_items": [{"line_item_id": SOAP_LINE, "quantity": 1, "subtotal": "12.00"}],
    }  # fmt: skip


def shopify_headers(secret: str, topic: str, body: bytes) -> dict[str, str]:
    """Shopify's headers: the HMAC is over the raw body."""
    digest = hmac.digest(secret.encode(), body, hashlib.sha256)
    return {"X-Shopify-Topic": topic, "X-Shopify-Hmac-Sha256": base64.b64encode(digest).decode(), "X-Shopify-Shop-Domain": "demo.example"}


def batch_consumer(i: int) -> str:
    """Who has the batch's order number `i`."""
    return f"cust-{i % BATCH_CONSUMERS:02d}"


def batch(now: datetime) -> bytes:
    """Orders of many consumers as NDJSON: 1 to 3 packs of tissue each, every fifth without an outer box; one time has no offset."""
    lines = []
    for i in range(BATCH_SIZE):
        quantity = 1 + i % 3
        packs = {"id": "1", "sku": "DEMO-TISSUE", "quantity": str(quantity), "unit_price": "39.00"}
        event = order(
            f"demo-b{i:03d}", consumer=batch_consumer(i), now=now, lines=[packs], total=f"{39 * quantity}.00",
            packaging=None if i % 5 else "no_secondary_packaging",
        )  # fmt: skip
        if i == WITHOUT_OFFSET:
            event["occurred_at"] = "2026-11-22T09:00:00"
        lines.append(msgspec.json.encode(event))
    return b"\n".join(lines)

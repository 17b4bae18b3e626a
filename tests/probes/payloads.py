"""A sound delivery of every connector, and how its sender signs: a new connector needs an entry here."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook

NOW = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / ".." / "shared" / "fixtures"
"""Real payloads, where they are at hand (they are not ours to copy)."""

ORDER_PAID: dict[str, Any] = {
    "id": "1001:paid", "type": "order.paid", "occurred_at": "2026-11-22T09:00:00+08:00", "consumer": "cust-42",
    "order": {"id": "1001", "currency": "CNY", "total": "128.00"},
    "lines": [
        {"id": "1", "sku": "TP-01", "gtin": "6901234567892", "quantity": "2", "unit_price": "39.00", "amount": "70.00", "category": "paper",
         "merchant": "m-7"},
    ],
    "packaging": {"class": "ship_in_own_container", "parcels": 1, "waybill": "SF100", "assets": ["04012345555554987"]},
    "attributes": {"channel": "app", "device": "d", "ip": "192.0.2.1", "region": {"city": "x"}},
}  # fmt: skip
_OF_AN_ORDER = {"occurred_at": "2026-11-22T08:00:00+08:00", "consumer": "cust-42", "order": {"id": "1001"}}
EVENTS: list[dict[str, Any]] = [
    ORDER_PAID,
    {"id": "f", "type": "order.fulfilled", **_OF_AN_ORDER, "packaging": {"class": "circular_box", "parcels": 2}},
    {"id": "c", "type": "order.cancelled", **_OF_AN_ORDER},
    {"id": "r", "type": "order.refunded", **_OF_AN_ORDER,
     "refund": {"id": "r-1", "lines": [{"id": "1", "quantity": 1, "amount": "39.00"}], "amount": "39.00"}},
    {"id": "p", "type": "packaging.returned", "occurred_at": "2026-11-22T00:00:00Z", "consumer": "c",
     "returns": [{"class": "circular_box", "asset": "04012345555554987", "quantity": "1", "mass_g": "250.5", "station": "s", "proof": "p"}]},
    {"id": "a", "type": "activity.completed", "occurred_at": "2026-11-22T00:00:00Z", "consumer": "c", "activity": "refill",
     "evidence": {"serial": "1", "n": [1, {"x": 2.5}]}},
]  # fmt: skip
"""A sound event of each type."""

_ITEM = {
    "id": 11, "sku": "TP-01", "quantity": 2, "current_quantity": 2, "price": "39.00", "total_discount": "0.00", "gift_card": False,
    "properties": [{"name": "_box", "value": "own"}], "tax_lines": [{"price": "1.00", "rate": 0.1}],
    "discount_allocations": [{"amount": "1.00", "amount_set": {"shop_money": {"amount": "1.00", "currency_code": "CNY"}}}],
}  # fmt: skip
_REFUND = {
    "id": 7, "order_id": 1001, "created_at": "2026-11-21T16:30:00+08:00", "processed_at": "2026-11-21T16:30:00+08:00",
    "refund_line_items": [{"id": 1, "line_item_id": 11, "quantity": 1, "subtotal": 39.0, "total_tax": 0.0, "line_item": {"id": 11}}],
    "order_adjustments": [{"id": 3, "amount": "-1.00", "tax_amount": "0.00", "kind": "refund_discrepancy"}],
    "transactions": [{"kind": "refund", "status": "success", "amount": "38.00", "currency": "CNY"}],
}  # fmt: skip
_SHOPIFY_ORDER = {
    "id": 1001, "test": False, "currency": "CNY", "financial_status": "partially_refunded", "fulfillment_status": "fulfilled",
    "taxes_included": True, "total_price": "78.00", "created_at": "2026-11-21T15:59:00+08:00", "processed_at": "2026-11-21T16:00:00+08:00",
    "updated_at": "2026-11-21T16:00:05+08:00", "cancelled_at": "2026-11-21T17:00:00+08:00",
    "customer": {"id": 42, "email": "someone@example.com"}, "note_attributes": [{"name": "box", "value": "own"}],
    "shipping_lines": [{"code": "green", "title": "Green", "source": "shop"}], "line_items": [_ITEM], "refunds": [_REFUND],
}  # fmt: skip


_BOX = "urn:epc:id:grai:4012345.55555.987"
_SHIPPED = {
    "type": "ObjectEvent", "eventID": "urn:uuid:374d95fc-9457-4a51-bd6a-0bba133845a8", "eventTime": "2026-11-21T16:00:00+08:00",
    "eventTimeZoneOffset": "+08:00", "action": "OBSERVE", "bizStep": "shipping", "disposition": "in_transit",
    "epcList": [_BOX, "https://id.gs1.org/8004/4012345ABC"], "readPoint": {"id": "urn:epc:id:sgln:4012345.00005.0"},
    "bizTransactionList": [{"type": "po", "bizTransaction": "urn:epcglobal:cbv:bt:4012345000009:1001"}],
}  # fmt: skip
_CAME_BACK = {
    "@type": "epcis:ObjectEvent", "epcis:eventTime": {"@value": "2026-11-21T17:00:00Z"}, "action": "OBSERVE", "bizStep": "cbv:BizStep-collecting",
    "disposition": "urn:epcglobal:cbv:disp:returned", "epcList": [_BOX, "urn:epc:id:giai:4012345.ABC"], "example:note": {"example:n": [1, 2.50]},
    "quantityList": [{"epcClass": "urn:epc:class:lgtin:4012345.012345.998877", "quantity": 2.5, "uom": "KGM"}],
    "sourceList": [{"type": "owning_party", "source": "urn:epc:id:pgln:4012345.00000"}], "ilmd": {"example:lot": "1"},
}  # fmt: skip
_WRONG = _SHIPPED | {
    "errorDeclaration": {"declarationTime": "2026-11-21T18:00:00Z", "reason": "did_not_occur", "correctiveEventIDs": ["urn:x:1"]}
}
_TAGGED = {
    "type": "AssociationEvent", "eventTime": "2026-11-20T00:00:00Z", "action": "ADD", "parentID": _BOX,
    "childEPCs": ["urn:epc:id:giai:4000001.12345"],
}  # fmt: skip
EPCIS_DOCUMENT: dict[str, Any] = {
    "@context": ["https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld", {"example": "https://ns.example.com/epcis/"}],
    "type": "EPCISDocument", "schemaVersion": "2.0", "creationDate": "2026-11-21T20:00:00Z",
    "epcisBody": {"eventList": [_SHIPPED, _CAME_BACK, _WRONG, _TAGGED]},
}  # fmt: skip


@dataclass
class Sender:
    """How one connector's sender works. `headers` signs a body; `topics` are headers that say what a body is."""

    secret: str
    headers: Callable[[str, bytes], dict[str, str]]
    payloads: list[Any]
    topics: list[dict[str, str]]
    fixtures: str | None = None
    """The folder of its real payloads."""

    def sound(self) -> list[Any]:
        """Its payloads, the real ones too where they are at hand."""
        found = list(self.payloads)
        if self.fixtures is not None and (FIXTURES / self.fixtures).is_dir():
            found += [json.loads(path.read_bytes()) for path in sorted((FIXTURES / self.fixtures).glob("*.json"))]
        return found


def _standard(secret: str, body: bytes) -> dict[str, str]:
    text = body.decode("latin-1")  # the library takes text; what is signed here is only for bodies that are ASCII
    signature = Webhook(secret).sign("m-1", NOW, text) if body.isascii() else _standard_bytes(secret, body)
    return {"webhook-id": "m-1", "webhook-timestamp": str(int(NOW.timestamp())), "webhook-signature": signature}


def _standard_bytes(secret: str, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"m-1.{int(NOW.timestamp())}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def _hmac_in(name: str) -> Callable[[str, bytes], dict[str, str]]:
    return lambda secret, body: {name: base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256)).decode()}


SENDERS: dict[str, Sender] = {
    "epcis": Sender(
        secret="whsec_" + base64.b64encode(b"e" * 24).decode(),
        headers=_standard,
        payloads=[
            EPCIS_DOCUMENT, _SHIPPED, _CAME_BACK, [_WRONG, _TAGGED],
            EPCIS_DOCUMENT | {"type": "EPCISQueryDocument", "epcisBody": {"queryResults": {"resultsBody": {"eventList": [_SHIPPED]}}}},
        ],
        topics=[{}],
    ),
    "standard": Sender(
        secret="whsec_" + base64.b64encode(b"s" * 24).decode(),
        headers=_standard,
        payloads=[{"type": event["type"], "timestamp": "2026-11-22T01:00:00Z", "data": event} for event in EVENTS],
        topics=[{}],
    ),
    "shopify": Sender(
        secret="hush, a shared secret",
        headers=_hmac_in("x-shopify-hmac-sha256"),
        payloads=[_SHOPIFY_ORDER, _SHOPIFY_ORDER | {"financial_status": "paid", "refunds": [], "cancelled_at": None}, _REFUND],
        topics=[{"x-shopify-topic": t} for t in ("orders/paid", "orders/updated", "orders/cancelled", "refunds/create", "carts/update")],
        fixtures="shopify",
    ),
}  # fmt: skip
"""By the connector's name."""

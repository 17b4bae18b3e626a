"""What of a fact is forgotten, and what stays."""

import json
from typing import Any

import pytest

from service.domain.privacy import scrubbed

EVENT: dict[str, Any] = {"id": "e", "occurred_at": "2026-06-01T00:00:00Z"}
ATTRIBUTES = {"note": "ring twice", "ip": "h:12", "region": "h:34"}
ITEM = {"class": "circular_box", "quantity": 1, "asset": "1", "order": "o"}


def left(event: dict[str, Any], **kinds: bool) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(scrubbed(json.dumps(EVENT | event), **kinds))
    return {name: value for name, value in found.items() if name not in EVENT}


def test_attributes_go_kind_by_kind() -> None:
    event = {"type": "order.cancelled", "order": {"id": "o"}, "attributes": ATTRIBUTES}
    assert left(event, free=True, hashed=False)["attributes"] == {"ip": "h:12", "region": "h:34"}
    assert left(event, free=False, hashed=True)["attributes"] == {"note": "ring twice"}
    assert "attributes" not in left(event)


@pytest.mark.parametrize(
    ("event", "gone"),
    [
        ({"type": "activity.completed", "activity": "refill", "evidence": {"serial": "x"}}, "evidence"),
        ({"type": "packaging.returned", "returns": [ITEM | {"waybill": "w"}]}, "waybill"),
        ({"type": "packaging.returned", "returns": [ITEM | {"station": "s"}]}, "station"),
        ({"type": "packaging.returned", "returns": [ITEM | {"proof": "p"}]}, "proof"),
        ({"type": "order.paid", "order": {"id": "o"}, "lines": [], "packaging": {"class": "reused_box", "waybill": "w"}}, "waybill"),
        ({"type": "order.fulfilled", "order": {"id": "o"}, "packaging": {"class": "reused_box", "waybill": "w"}}, "waybill"),
    ],
)
def test_free_texts_go(event: dict[str, Any], gone: str) -> None:
    before, after = json.dumps(event), json.dumps(left(event))
    assert f'"{gone}": null' in after or f'"{gone}"' not in after
    assert f'"{gone}"' in before
    for kept in ("activity", "asset", "class", "order"):
        assert (f'"{kept}"' in before) == (f'"{kept}"' in after)
    assert gone in json.dumps(left(event, free=False))


def test_where_there_is_nothing_to_forget_nothing_changes() -> None:
    facts = json.dumps(EVENT | {"type": "order.cancelled", "order": {"id": "o"}, "unknown": 1})
    assert scrubbed(facts) is facts

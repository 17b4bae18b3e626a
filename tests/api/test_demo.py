"""A newcomer's first calls on the demo: one for each action family, each earns."""

from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx

from service.flows.demo import seed_demo
from tests.sealer import SEALER


def first_events() -> list[tuple[str, int, dict[str, Any]]]:
    """The campaign that awards, its points, the event."""
    now = datetime.now(UTC).isoformat()
    order = {"id": "demo-1001", "currency": "CNY", "total": "59.80"}
    lines = [{"id": "1", "sku": "DEMO-TISSUE", "quantity": "2", "unit_price": "29.90"}]
    box = {"class": "circular_box", "assets": ["demo-box-1"]}
    returns = [{"asset": "DEMO BOX 1", "station": "demo-station-1"}]
    evidence = {"station": "demo-station-1", "serial": "demo-7"}
    bodies: list[tuple[str, int, dict[str, Any]]] = [
        ("demo-certified-goods", 59, {"id": "e1", "type": "order.paid", "order": order, "lines": lines}),
        (
            "demo-less-packaging",
            20,
            {"id": "e2", "type": "order.fulfilled", "order": order, "packaging": {"class": "ship_in_own_container"}},
        ),
        ("demo-less-packaging", 20, {"id": "e5", "type": "order.fulfilled", "order": order, "packaging": box | {"waybill": "SF-5"}}),
        ("demo-box-return", 50, {"id": "e3", "type": "packaging.returned", "returns": returns}),
        ("demo-refill", 10, {"id": "e4", "type": "activity.completed", "activity": "refill", "evidence": evidence}),
    ]
    return [(campaign, points, body | {"occurred_at": now, "consumer": "demo-consumer"}) for campaign, points, body in bodies]


async def test_the_first_credit_of_each_family_works_at_once(
    client: httpx.AsyncClient, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    shop = (await seed_demo(connection, sealer=SEALER))[0]
    headers = {"Authorization": f"Bearer {shop.api_key}"}
    for campaign, points, event in first_events():
        answer = await client.post("/v1/events", json=event, headers=headers)
        assert answer.status_code == 201, answer.text
        assert [(award["campaign"], award["points"]) for award in answer.json()["awards"]] == [(campaign, points)], answer.text

"""A box through EPCIS events alone, in every order of arrival: shipped, back, declared wrong."""

import itertools
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from service.domain.connectors import Hook, translate
from service.domain.intake import fact_of
from service.flows.receive import receive
from tests.worlds import HASH_KEY, World

BOX, OTHER = "urn:epc:id:grai:4012345.55555.987", "urn:epc:id:giai:4012345.ABC"
SHIPPED: dict[str, Any] = {
    "type": "ObjectEvent", "eventID": "s1", "eventTime": "2026-01-20T00:00:00Z", "action": "OBSERVE", "bizStep": "shipping",
    "epcList": [BOX, OTHER], "bizTransactionList": [{"type": "po", "bizTransaction": "o1"}],
}  # fmt: skip
RETURNED: dict[str, Any] = {
    "type": "ObjectEvent", "eventTime": "2026-01-21T00:00:00Z", "action": "OBSERVE", "bizStep": "collecting", "epcList": [BOX, OTHER],
}  # fmt: skip
WRONG = RETURNED | {"errorDeclaration": {"declarationTime": "2026-01-22T00:00:00Z", "reason": "did_not_occur"}}
PAID = {
    "id": "o1:paid", "type": "order.paid", "occurred_at": "2026-01-19T00:00:00Z", "consumer": "c", "lines": [],
    "order": {"id": "o1", "currency": "CNY", "total": "1.00"},
}  # fmt: skip


async def deliver(world: World, event: dict[str, Any]) -> None:
    if event is PAID:
        await world.credit(PAID)
        return
    translated = translate(Hook(id="h", connector="epcis", secrets=()), {}, json.dumps(event).encode())
    facts = [
        fact_of(each, world.platforms["shop"], now=datetime.now(UTC), hash_key=HASH_KEY, newer_wins=True) for each in translated.events
    ]
    async with world.pool.acquire() as conn:
        outcomes = (await receive(conn, facts, world.knowledge)).outcomes
    assert [outcome.error for outcome in outcomes] == [None] * len(facts)


TOLD = [*itertools.permutations((PAID, SHIPPED, RETURNED)), *itertools.permutations((PAID, SHIPPED, RETURNED, WRONG))]


@pytest.mark.parametrize("order", TOLD, ids=lambda order: " ".join("psrw"[[PAID, SHIPPED, RETURNED, WRONG].index(e)] for e in order))
async def test_any_order_of_arrival_ends_the_same(world: World, order: tuple[dict[str, Any], ...]) -> None:
    await world.campaign(action="return", when="item.class == 'circular_box'", award={"kind": "fixed", "points": 7})
    for key in ("04012345555554987", "giai:4012345ABC"):
        await world.rows("INSERT INTO asset (program, key, class) VALUES ($1, $2, 'circular_box')", world.program, key)
    for event in (*order, *order):
        await deliver(world, event)
    rows = await world.rows("SELECT pending + available AS points FROM account")
    assert sum(row["points"] for row in rows) == (0 if WRONG in order else 14)

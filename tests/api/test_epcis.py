"""EPCIS deliveries to a real hook: repeats, forms, parts that cannot be read, tags."""

import base64
import hashlib
import hmac
import json
from typing import Any

import httpx
import pytest
from litestar import Litestar

from schemas.callers import HookCredentials
from tests.beginnings import Begin, Beginning
from tests.deliveries import Shop, signed
from tests.worlds import World, now

BOX, TAG = "urn:epc:id:grai:4012345.55555.987", "urn:epc:id:giai:4000001.12345"


class Warehouse:
    """A platform whose warehouse reports by EPCIS."""

    def __init__(self, shop: Shop, hook: HookCredentials) -> None:
        self.shop, self.hook, self.world = shop, hook, shop.world

    async def says(self, *events: Any, delivery: str = "m-1") -> httpx.Response:
        body = json.dumps({"type": "EPCISDocument", "epcisBody": {"eventList": list(events)}}).encode()
        headers = signed(body, self.hook.secret, delivery)
        return await self.shop.client.post(f"/v1/hooks/{self.hook.id}", content=body, headers=headers)

    async def outcomes(self) -> list[tuple[str, str]]:
        """What the log says of each delivery, oldest first."""
        return [(row["outcome"], row["detail"]) for row in reversed(await self.shop.log(hook=self.hook.id))]


async def open_warehouse(app: Litestar, client: httpx.AsyncClient) -> Warehouse:
    shop = await Shop(app, client, World(app.state.resources.pool)).found()
    made = await shop.call("POST", "/v1/platforms/shop/hooks", json={"connector": "epcis"})
    assert made.status_code == 201, made.text
    assert made.json()["secret"].startswith("whsec_")
    return Warehouse(shop, HookCredentials(id=made.json()["id"], secret=made.json()["secret"]))


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Warehouse]:
    return begin(open_warehouse, in_app=True)


@pytest.fixture
def warehouse(shop: Warehouse) -> Warehouse:
    return shop


def shipped(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "type": "ObjectEvent", "eventID": f"urn:example:event:{number}", "eventTime": now(), "action": "OBSERVE", "bizStep": "shipping",
        "epcList": [BOX], "bizTransactionList": [{"type": "po", "bizTransaction": f"urn:epcglobal:cbv:bt:4012345000009:{number}"}],
    } | changes  # fmt: skip


def tagged(event: str = "urn:example:tag:1", **changes: Any) -> dict[str, Any]:
    return {
        "type": "AssociationEvent", "eventID": event, "eventTime": now(), "action": "ADD", "parentID": BOX, "childEPCs": [TAG],
    } | changes  # fmt: skip


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [event["id"] for event in answer.json()["events"]]


async def known(warehouse: Warehouse) -> list[str]:
    """The events that are registered."""
    rows = await warehouse.world.rows("SELECT key FROM registry WHERE kind = 1 ORDER BY key")
    return [row["key"].split(":", 1)[1] for row in rows]


async def test_a_repeat_in_whatever_form_is_a_repeat(warehouse: Warehouse) -> None:
    event = shipped(1)
    assert ids(await warehouse.says(event)) == ["urn:example:event:1"]
    before = await known(warehouse)
    assert len(before) == 1
    other = {"@type": "epcis:" + event["type"]} | {key: value for key, value in reversed(event.items()) if key != "type"}
    other |= {"eventID": "URN:EXAMPLE:event:1", "bizStep": "https://ref.gs1.org/cbv/BizStep-shipping"}
    other |= {"epcList": ["https://boxes.example.com/8003/04012345555554987"]}
    assert ids(await warehouse.says(other, event, delivery="m-2")) == ["urn:example:event:1"]
    assert await known(warehouse) == before
    assert [outcome for outcome, _ in await warehouse.outcomes()][-1] == "duplicate"


async def test_without_an_id_a_repeat_is_a_repeat_too(warehouse: Warehouse) -> None:
    event = {key: value for key, value in shipped(1).items() if key != "eventID"}
    (first,) = ids(await warehouse.says(event))
    (second,) = ids(await warehouse.says(dict(reversed(event.items()))))
    assert first == second
    assert first.startswith("ni:///sha-256;")
    assert len(await known(warehouse)) == 1


async def test_the_signature_of_a_repository_is_taken_and_a_forged_one_is_not(warehouse: Warehouse) -> None:
    body = json.dumps(shipped(1)).encode()
    proof = base64.b64encode(hmac.digest(warehouse.hook.secret.encode(), body, hashlib.sha256)).decode()
    address, client = f"/v1/hooks/{warehouse.hook.id}", warehouse.shop.client
    for headers in ({}, {"GS1-Signature": proof[:-4] + "AAA="}, {"GS1-Signature": warehouse.hook.secret}):
        assert (await client.post(address, content=body, headers=headers)).status_code == 401
    assert (await client.post(address, content=body + b" ", headers={"GS1-Signature": proof})).status_code == 401
    assert await known(warehouse) == []
    assert ids(await client.post(address, content=body, headers={"GS1-Signature": proof})) == ["urn:example:event:1"]


async def test_one_bad_event_stops_no_other_and_the_rest_is_kept_for_a_replay(warehouse: Warehouse) -> None:
    bill = [{"type": "bol", "bizTransaction": "7"}]
    answer = await warehouse.says(
        shipped(1),
        shipped(2, eventTime="2126-01-01T00:00:00Z"),
        shipped(3, eventTime="soon"),
        shipped(4, bizTransactionList=bill),
        shipped(5),
    )
    assert ids(answer) == ["urn:example:event:1", "urn:example:event:5"]
    (row,) = await warehouse.shop.log(hook=warehouse.hook.id)
    assert (row["outcome"], row["replayable"]) == ("untranslatable", True)
    assert [event["id"] for event in row["events"]] == ["urn:example:event:1", "urn:example:event:5"]
    assert "event 3: Invalid RFC3339" in row["detail"]
    assert "event 4: none of its business transactions has the type po, desadv, inv" in row["detail"]
    assert "in the future" in row["detail"]
    path = f"/v1/platforms/shop/hooks/{warehouse.hook.id}"
    assert (await warehouse.shop.call("PATCH", path, json={"settings": {"order_transaction_type": "bol"}})).status_code == 200
    replayed = (await warehouse.shop.call("POST", f"/v1/deliveries/{row['id']}/replay")).json()
    assert [event["id"] for event in replayed["events"]] == ["urn:example:event:4"]
    assert replayed["outcome"] == "untranslatable"
    assert len(await known(warehouse)) == 3


async def test_a_body_of_which_nothing_can_be_read_is_kept(warehouse: Warehouse) -> None:
    assert ids(await warehouse.says(shipped(1, eventTime="soon"), "someone@example.com")) == []
    (row,) = await warehouse.shop.log(hook=warehouse.hook.id)
    assert (row["outcome"], row["replayable"]) == ("untranslatable", True)
    assert "someone" not in row["detail"]


async def test_a_tag_on_a_box_is_written_down_once(warehouse: Warehouse) -> None:
    for delivery in ("m-1", "m-1", "m-2"):
        assert ids(await warehouse.says(tagged(), delivery=delivery)) == []
    (row,) = await warehouse.world.rows("SELECT * FROM asset_tag")
    platform = warehouse.world.platforms["shop"]
    assert (row["program"], row["platform"]) == (platform.program, platform.platform)
    assert (row["tag"], row["asset"], row["joined"], row["void"]) == ("giai:400000112345", "04012345555554987", True, False)
    assert {outcome for outcome, _ in await warehouse.outcomes()} == {"noted"}


async def test_a_tag_is_written_down_beside_events_that_count_and_events_that_do_not(warehouse: Warehouse) -> None:
    declared = tagged("urn:example:tag:2", errorDeclaration={"declarationTime": now()})
    assert ids(await warehouse.says(tagged(), shipped(1), declared, shipped(2, eventTime="soon"))) == ["urn:example:event:1"]
    rows = await warehouse.world.rows("SELECT event, void FROM asset_tag ORDER BY event")
    assert [(row["event"], row["void"]) for row in rows] == [("urn:example:tag:1", False), ("urn:example:tag:2", True)]


async def test_what_a_replay_only_tries_out_writes_no_tag(warehouse: Warehouse) -> None:
    await warehouse.says(tagged(), shipped(2, eventTime="soon"))
    await warehouse.world.rows("DELETE FROM asset_tag")
    (row,) = await warehouse.shop.log(hook=warehouse.hook.id)
    path = f"/v1/deliveries/{row['id']}/replay"
    assert (await warehouse.shop.call("POST", path, params={"dry_run": "true"})).status_code == 200
    assert await warehouse.world.rows("SELECT * FROM asset_tag") == []
    assert (await warehouse.shop.call("POST", path)).json()["outcome"] == "untranslatable"
    assert len(await warehouse.world.rows("SELECT * FROM asset_tag")) == 1


@pytest.mark.parametrize(
    "chosen",
    [
        {"order_transaction_type": "PO!"}, {"order_transaction_type": 1}, {"stations": [{"location": "", "station": "s"}]},
        {"stations": [{"location": "l", "station": "A station"}]}, {"stations": [{"location": "l"}]}, {"unheard": 1},
    ],
)  # fmt: skip
async def test_settings_that_mean_nothing_are_refused(warehouse: Warehouse, chosen: Any) -> None:
    path = f"/v1/platforms/shop/hooks/{warehouse.hook.id}"
    answer = await warehouse.shop.call("PATCH", path, json={"settings": chosen})
    assert answer.status_code == 422, answer.text


async def register(warehouse: Warehouse, *keys: str) -> None:
    for key in keys:
        await warehouse.world.rows("INSERT INTO asset (program, key, class) VALUES ($1, $2, 'circular_box')", warehouse.world.program, key)


async def assets_of(warehouse: Warehouse, event: str) -> list[str]:
    (answer,) = await warehouse.world.rows("SELECT facts FROM event WHERE id = $1 UNION ALL SELECT facts FROM parked WHERE id = $1", event)
    fact: dict[str, Any] = json.loads(answer["facts"])
    assets: list[str] = fact["packaging"]["assets"]
    return assets


async def test_a_box_that_was_read_by_its_tag_is_the_box(warehouse: Warehouse) -> None:
    await register(warehouse, "04012345555554987")
    await warehouse.says(tagged())
    assert ids(
        await warehouse.says(shipped(1, epcList=[TAG]), shipped(2, epcList=[BOX, TAG]), shipped(3, epcList=["urn:epc:id:giai:4000001.7"]))
    )
    assert await assets_of(warehouse, "urn:example:event:1") == ["04012345555554987"]
    assert await assets_of(warehouse, "urn:example:event:2") == ["04012345555554987"]
    assert await assets_of(warehouse, "urn:example:event:3") == ["giai:40000017"]


async def test_a_tag_that_is_told_with_what_it_is_read_on_is_known_in_time(warehouse: Warehouse) -> None:
    await register(warehouse, "04012345555554987")
    await warehouse.says(tagged(eventTime="2026-01-01T00:00:00Z"), shipped(1, epcList=[TAG]))
    assert await assets_of(warehouse, "urn:example:event:1") == ["04012345555554987"]

"""Reusable packaging, what was really shipped, and what earns once: in any order of arrival, and side by side."""

import asyncio
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.stations import StationBody
from service.flows.knowledge import Knowledge
from service.flows.stations import create_station
from tests import books
from tests.sealer import SEALER
from tests.worlds import World, order_paid

pytestmark = pytest.mark.anyio

BOX = "04012345555554987"
START = datetime.now(UTC) - timedelta(days=20)
_ids = itertools.count(1)


def day(number: float) -> str:
    return (START + timedelta(days=number)).isoformat()


def fulfilled(order: str, *assets: str, at: float = 1, class_: str | None = "circular_box", **packaging: Any) -> dict[str, Any]:
    body = {"parcels": 1} | packaging | ({"assets": list(assets)} if assets else {}) | ({"class": class_} if class_ else {})
    return {
        "id": f"{order}:sent-{next(_ids)}",
        "type": "order.fulfilled",
        "occurred_at": day(at),
        "order": {"id": order},
        "packaging": body,
    }


def paid(order: str, consumer: str, **changes: Any) -> dict[str, Any]:
    return order_paid(consumer, order=order, occurred_at=day(0), **changes)


def returned(consumer: str | None, *assets: str, at: float = 2, **item: Any) -> dict[str, Any]:
    event = {
        "id": f"r-{next(_ids)}", "type": "packaging.returned", "occurred_at": day(at),
        "returns": [{"asset": asset} | item for asset in assets] or [{"class": "paper_mailer"} | item],
    }  # fmt: skip
    return event if consumer is None else event | {"consumer": consumer}


def wrong(event: dict[str, Any], *corrected_by: str) -> dict[str, Any]:
    return {
        "id": f"{event['id']}:wrong", "type": "event.error_declared", "occurred_at": day(5),
        "error": {"event": event["id"], "reason": "did_not_occur", "corrected_by": list(corrected_by)},
    }  # fmt: skip


async def asset(world: World, key: str = BOX, *, max_trips: int | None = None, class_: str = "circular_box") -> None:
    await world.rows("INSERT INTO asset (program, key, class, max_trips) VALUES ($1, $2, $3, $4)", world.program, key, class_, max_trips)


async def kept(world: World) -> dict[str, int]:
    """Points of every consumer, whatever their state."""
    rows = await world.rows(
        "SELECT p.code || ':' || r.reference AS who, a.pending + a.available - a.debt AS points FROM account a "
        "JOIN consumer_reference r ON r.bucket = a.bucket AND r.account = a.id JOIN platform p ON p.id = r.platform"
    )
    return {r["who"]: r["points"] for r in rows if r["points"]}


async def sound(world: World) -> None:
    async with world.pool.acquire() as connection:
        assert await books.faults(connection) == {}


@pytest.fixture
async def green(world: World) -> World:
    await world.campaign(code="back", action="return", award={"kind": "per_unit", "points": 50})
    await world.campaign(code="pack", action="packaging", award={"kind": "per_unit", "points": 5})
    await asset(world)
    return world


async def test_a_box_earns_once_per_trip_on_whatever_platform_it_is_reported(green: World) -> None:
    await green.send(paid("o-1", "ann"), fulfilled("o-1", BOX))
    assert (await green.credit(returned("ann", BOX)))["points"] == 50
    again = await green.credit(returned("ann", BOX, at=3), "market")
    assert again["status"] == "parked"
    assert again["refused"][0]["code"] == "asset_not_out"
    assert "ann" not in json.dumps(again["refused"])
    assert await kept(green) == {"shop:ann": 55}
    await green.send(paid("o-2", "bob"), fulfilled("o-2", BOX, at=4))
    assert (await green.credit(returned("bob", BOX, at=5)))["points"] == 50
    (state,) = await green.rows("SELECT state FROM asset")
    assert state["state"] == "returned"
    await sound(green)


async def test_a_box_that_nobody_shipped_earns_nothing(green: World) -> None:
    unknown = await green.credit(returned("ann", "04012345555554988"))
    assert (unknown["points"], unknown["refused"][0]["code"]) == (0, "asset_unknown")
    early = await green.credit(returned("ann", BOX))
    assert (early["status"], early["refused"][0]["code"]) == ("parked", "asset_not_out")
    assert await kept(green) == {}
    await sound(green)


async def test_a_return_that_overtook_its_shipment_counts_when_that_comes(green: World) -> None:
    early = returned("ann", BOX, at=2)
    assert (await green.credit(early))["status"] == "parked"
    await green.credit(paid("o-1", "bob"))
    assert (await green.credit(fulfilled("o-1", BOX, at=1)))["points"] == 5
    assert await kept(green) == {"shop:ann": 50, "shop:bob": 5}
    repeat = await green.send(early)
    assert repeat[0].replayed
    assert json.loads(repeat[0].answer)["status"] == "parked"
    assert await green.rows("SELECT 1 FROM parked UNION ALL SELECT 1 FROM waiting_return") == []
    await sound(green)


async def test_a_return_before_its_trip_waits_on_when_the_box_leaves_later(green: World) -> None:
    await green.credit(returned("ann", BOX, at=1))
    await green.send(paid("o-1", "bob"), fulfilled("o-1", BOX, at=3))
    assert await kept(green) == {"shop:bob": 5}
    assert (await green.credit(returned("bob", BOX, at=4)))["points"] == 50
    await sound(green)


async def test_the_program_may_let_it_count_for_whom_it_was_shipped_to(green: World) -> None:
    await green.rows(
        "WITH p AS (UPDATE program SET return_earner = 'recipient') UPDATE deployment SET catalogue_version = catalogue_version + 1"
    )
    await green.send(paid("o-1", "ann"), fulfilled("o-1", BOX))
    answer = await green.credit(returned("bob", BOX), "market")
    assert answer["points"] == 50
    assert answer["balance"]["pending"] == 0, "the balance of the consumer that it names, not of the one that it counts for"
    assert await kept(green) == {"shop:ann": 55}
    await sound(green)


async def test_a_trip_beyond_the_limit_ends_and_earns_nothing(green: World) -> None:
    await asset(green, "box2", max_trips=1)
    for n, consumer in enumerate(("ann", "bob")):
        await green.send(paid(f"o-{n}", consumer), fulfilled(f"o-{n}", "box2", at=2 * n))
    assert (await green.credit(returned("ann", "BOX-2", at=1)))["points"] == 50
    worn = await green.credit(returned("bob", " Box 2", at=3))
    assert [r["code"] for r in worn["refused"]] == ["trip_limit"]
    (trips,) = await green.rows("SELECT count(returned_event) AS ended FROM trip")
    assert trips["ended"] == 2
    await sound(green)


async def test_a_deposit_is_paid_back_by_the_return_that_ends_the_trip(green: World) -> None:
    await green.send(paid("o-1", "ann"), fulfilled("o-1", BOX))
    deposit = {"amount": "2.00", "currency": "CNY"}
    first = await green.credit(returned("ann", BOX, deposit=deposit))
    assert first["deposits"] == [{"return": 0, "asset": BOX} | deposit]
    second = await green.credit(returned("bob", BOX, deposit=deposit))
    assert "deposits" not in second
    assert await green.rows("SELECT deposit::text, deposit_currency FROM trip") == [{"deposit": "2.00", "deposit_currency": "CNY"}]


async def test_a_hundred_consumers_present_the_same_box_at_once(green: World) -> None:
    await green.send(paid("o-1", "ann"), fulfilled("o-1", BOX))
    events = [returned(f"c-{n}", BOX) for n in range(100)]
    processes = [Knowledge() for _ in range(4)]

    async def present(n: int, event: dict[str, Any]) -> dict[str, Any]:
        (outcome,) = await green.send(event, platform="shop" if n % 2 else "market", knowledge=processes[n % 4])
        return json.loads(outcome.answer)  # type: ignore[no-any-return]

    answers = await asyncio.gather(*(present(n, event) for n, event in enumerate(events)))
    assert sorted(a["points"] for a in answers)[-2:] == [0, 50]
    await sound(green)


# What was really used ------------------------------------------------------------------------------------


async def test_the_class_used_wins_over_the_class_chosen(world: World) -> None:
    await world.campaign(
        code="own", action="packaging", when="packaging.class == 'ship_in_own_container'", award={"kind": "per_unit", "points": 7}
    )
    await world.campaign(
        code="slim", action="packaging", when="packaging.class == 'reduced_volume_box'", award={"kind": "per_unit", "points": 3}
    )
    chosen = {"class": "ship_in_own_container", "parcels": 1}
    assert (await world.credit(paid("o-1", "ann", packaging=chosen)))["points"] == 7
    used = await world.credit(fulfilled("o-1", class_="reduced_volume_box", waybill="SF-100"))
    assert used["points"] == 3 - 7
    assert await kept(world) == {"shop:ann": 3}
    await sound(world)


async def test_a_waybill_earns_once_however_it_is_written_and_is_free_again_after_a_full_refund(green: World) -> None:
    await green.send(paid("o-1", "ann"), paid("o-2", "bob"))
    assert (await green.credit(fulfilled("o-1", class_="ship_in_own_container", waybill="SF 100-7")))["points"] == 5
    second = fulfilled("o-2", class_="ship_in_own_container", waybill="sf1007")
    answer = await green.credit(second, "shop")
    assert (answer["points"], [r["code"] for r in answer["refused"]]) == (0, ["already_awarded"])
    cancelled = {"id": "o-1:cancelled", "type": "order.cancelled", "occurred_at": day(3), "order": {"id": "o-1"}}
    assert (await green.credit(cancelled))["points"] == -15 + 10
    assert await green.rows("SELECT 1 FROM claim") == []
    assert (await green.credit(fulfilled("o-2", class_="ship_in_own_container", waybill="SF1007")))["points"] == 5
    await sound(green)


async def test_each_parcel_of_an_order_earns(green: World) -> None:
    await green.credit(paid("o-1", "ann", packaging={"class": "slim_tape", "parcels": 2}))
    for waybill in ("a1", "a2"):
        await green.credit(fulfilled("o-1", class_="slim_tape", waybill=waybill))
    assert await kept(green) == {"shop:ann": 10}
    await sound(green)


async def test_reusable_packaging_earns_by_its_registered_assets_only(green: World) -> None:
    await green.credit(paid("o-1", "ann"))
    without = await green.credit(fulfilled("o-1", parcels=9))
    assert [r["code"] for r in without["refused"]] == ["evidence_missing"]
    made_up = await green.credit(fulfilled("o-1", BOX, "box-9", parcels=9, waybill="w2"))
    assert made_up["points"] == 5
    assert [r["code"] for r in made_up["refused"]] == ["asset_unknown"]
    await sound(green)


# Single-use packaging ------------------------------------------------------------------------------------


async def test_single_use_packaging_comes_back_no_more_often_than_it_was_sent(green: World) -> None:
    await green.send(paid("o-1", "ann"), fulfilled("o-1", class_="paper_mailer", parcels=3))
    before = await kept(green)
    two, more = returned("ann", quantity="2", waybill="w-1"), returned("ann", quantity="2", waybill="w-2")
    assert (await green.credit(two))["points"] == 100
    cut = await green.credit(more)
    assert (cut["points"], [r["code"] for r in cut["refused"]]) == (50, ["more_than_shipped"])
    assert (await green.credit(returned("bob", quantity="1")))["points"] == 0
    await green.credit(wrong(two))
    assert (await green.credit(returned("ann", quantity="5", waybill="w-3")))["points"] == 100
    assert (await kept(green))["shop:ann"] == before["shop:ann"] + 150
    await sound(green)


async def test_single_use_packaging_that_overtook_its_shipment_counts_when_that_comes(green: World) -> None:
    early, more = returned("ann", quantity="2", at=2), returned("ann", at=2.5)
    answer = await green.credit(early)
    assert (answer["status"], [r["code"] for r in answer["refused"]]) == ("parked", ["not_shipped"])
    await green.credit(more)
    await green.credit(paid("o-1", "ann"))
    await green.credit(fulfilled("o-1", class_="paper_mailer", parcels=1))
    assert await kept(green) == {"shop:ann": 55}, "as much as was sent"
    await green.credit(fulfilled("o-1", class_="paper_mailer", parcels=1, waybill="w-2"))
    assert await kept(green) == {"shop:ann": 110}
    assert await green.rows("SELECT 1 FROM parked UNION ALL SELECT 1 FROM waiting_return") == []
    await sound(green)


async def test_a_batch_may_name_a_return_before_its_shipment(green: World) -> None:
    await green.send(
        returned("ann"), returned("ann", BOX), fulfilled("o-1", BOX), fulfilled("o-1", class_="paper_mailer"), paid("o-1", "ann")
    )
    assert await kept(green) == {"shop:ann": 105}
    await sound(green)


async def test_packaging_of_one_waybill_comes_back_once(green: World) -> None:
    await green.send(paid("o-1", "ann"), fulfilled("o-1", class_="paper_mailer", parcels=5))
    assert (await green.credit(returned("ann", waybill="SF-1")))["points"] == 50
    assert [r["code"] for r in (await green.credit(returned("ann", waybill="sf1")))["refused"]] == ["already_awarded"]
    await sound(green)


async def test_what_was_sent_too_long_ago_earns_nothing(green: World) -> None:
    await green.rows(
        "WITH p AS (UPDATE program SET return_window_days = 5) UPDATE deployment SET catalogue_version = catalogue_version + 1"
    )
    await green.send(paid("o-1", "ann"), fulfilled("o-1", class_="paper_mailer", at=1))
    assert (await green.credit(returned("ann", at=9)))["points"] == 0
    assert (await green.credit(returned("ann", at=5)))["points"] == 50


# Declared wrong ------------------------------------------------------------------------------------------


async def test_a_shipment_that_was_declared_wrong_takes_the_points_of_whoever_brought_the_box(green: World) -> None:
    shipment = fulfilled("o-1", BOX)
    await green.send(paid("o-1", "ann"), shipment)
    await green.credit(returned("bob", BOX), "market")
    answer = await green.credit(wrong(shipment))
    assert answer["points"] == -5
    assert await kept(green) == {}
    await green.credit(fulfilled("o-1", BOX, at=1.5))
    assert await kept(green) == {"shop:ann": 5, "market:bob": 50}, "the corrected shipment lets the return count again"
    await sound(green)


async def test_a_return_that_was_declared_wrong_leaves_its_trip_to_another(green: World) -> None:
    await green.send(paid("o-1", "ann"), fulfilled("o-1", BOX))
    first = returned("ann", BOX)
    await green.credit(first)
    await green.credit(returned("bob", BOX, at=3), "market")
    assert (await green.credit(wrong(first)))["points"] == -50
    assert await kept(green) == {"shop:ann": 5, "market:bob": 50}
    await sound(green)


async def test_what_is_declared_wrong_before_it_comes_never_counts(green: World) -> None:
    shipment, back = fulfilled("o-1", BOX), returned("ann", BOX)
    await green.credit(paid("o-1", "ann"))
    assert (await green.credit(wrong(shipment)))["status"] == "ignored"
    (late,) = await green.send(shipment)
    assert late.replayed
    assert json.loads(late.answer)["refused"][0]["code"] == "declared_wrong"
    await green.credit(back)
    assert await kept(green) == {}
    await green.credit(wrong(back))
    await green.credit(fulfilled("o-1", BOX, at=1.5))
    assert await kept(green) == {"shop:ann": 5}
    await sound(green)


async def test_an_order_that_was_declared_wrong_before_it_came_is_none(green: World) -> None:
    event = paid("o-1", "ann")
    await green.credit(wrong(event))
    (late,) = await green.send(event)
    assert late.replayed
    assert (await green.credit(fulfilled("o-1", BOX)))["status"] == "parked"
    assert (await green.credit(event | {"id": "o-1:paid-again"}))["status"] == "ignored"
    assert await kept(green) == {"shop:ann": 5}, "the shipment that had waited for it"
    await sound(green)


async def test_another_report_of_a_shipment_counts_where_the_first_is_declared_wrong(green: World) -> None:
    first, second = fulfilled("o-1", BOX, waybill="w-1"), fulfilled("o-1", BOX, at=1.2, waybill="w-1")
    await green.credit(paid("o-1", "ann"))
    await green.credit(first)
    assert (await green.credit(second))["points"] == 0
    await green.credit(returned("ann", BOX))
    await green.credit(wrong(first))
    assert await kept(green) == {"shop:ann": 55}
    await sound(green)


async def test_an_order_is_not_declared_wrong(green: World) -> None:
    event = paid("o-1", "ann", packaging={"class": "slim_tape"})
    await green.credit(event)
    answer = await green.credit(wrong(event))
    assert (answer["points"], answer["refused"][0]["code"]) == (0, "not_declarable")
    assert await kept(green) == {"shop:ann": 5}


# Any order -----------------------------------------------------------------------------------------------

FACTS = ("paid", "sent", "back", "sent_wrong", "sent_again", "paid_2", "sent_2", "back_2", "cancelled_2", "other_wrong")


@pytest.mark.parametrize("omit", [(), ("sent_again",), ("sent_wrong",), ("back",), ("sent_2", "back_2"), ("sent_wrong", "sent_again")])
async def test_any_order_of_arrival_ends_the_same(world: World, omit: tuple[str, ...]) -> None:
    await world.campaign(code="back", action="return", award={"kind": "per_unit", "points": 50})
    await world.campaign(code="pack", action="packaging", award={"kind": "per_unit", "points": 5})
    results = []
    orders = list(itertools.islice(itertools.permutations(FACTS), 0, None, 151_201))
    for n, order in enumerate(orders):
        box = f"box{n}"
        await asset(world, box)
        one, two, ann, bob = f"a-{n}", f"b-{n}", f"ann-{n}", f"bob-{n}"
        events: dict[str, Any] = {
            "paid": paid(one, ann, packaging={"class": "slim_tape"}), "sent": fulfilled(one, box, at=1), "back": returned(bob, box, at=2),
            "sent_again": fulfilled(one, box, at=1.5), "paid_2": paid(two, bob), "sent_2": fulfilled(two, box, at=3, waybill=f"w-{n}"),
            "back_2": returned(ann, box, at=4),
            "cancelled_2": {"id": f"{two}:cancelled", "type": "order.cancelled", "occurred_at": day(5), "order": {"id": two}},
        }  # fmt: skip
        other = returned("eve", box, at=2.5)
        await world.credit(other)
        events |= {"sent_wrong": wrong(events["sent"], events["sent_again"]["id"]), "other_wrong": wrong(other)}
        for name in order:
            if name not in omit:
                await world.credit(events[name])
        points = await kept(world)
        results.append((points.get(f"shop:{ann}", 0), points.get(f"shop:{bob}", 0), points.get("shop:eve", 0)))
        await world.rows("DELETE FROM consumer_reference WHERE reference LIKE 'eve%'")
    assert set(results) == {results[0]}, [(r, " ".join(x for x in o if x not in omit)) for o, r in zip(orders, results, strict=True)]
    await sound(world)


# One event that names something twice ----------------------------------------------------------------------


async def test_items_of_one_return_share_what_was_sent(green: World) -> None:
    await green.send(paid("o-1", "ann"), fulfilled("o-1", class_="paper_mailer", parcels=1))
    many = returned("ann") | {"returns": [{"class": "paper_mailer", "quantity": 1, "waybill": f"w-{n}"} for n in range(5)]}
    answer = await green.credit(many)
    assert answer["points"] == 50
    assert [(r["return"], r["code"]) for r in answer["refused"]] == [(n, "more_than_shipped") for n in range(1, 5)]
    await sound(green)


async def test_items_of_one_return_share_what_its_station_takes_that_day(green: World) -> None:
    await green.send(paid("o-1", "ann"), fulfilled("o-1", class_="paper_mailer", parcels=5))
    async with green.pool.acquire() as connection:
        await create_station(
            connection, StationBody(code="corner", name="Corner", max_units=2, needs_proof=False, late_h=720), sealer=SEALER, program=green.program
        )  # fmt: skip
    many = returned("ann") | {"returns": [{"class": "paper_mailer", "station": "corner", "waybill": f"w-{n}"} for n in range(3)]}
    answer = await green.credit(many)
    assert answer["points"] == 100
    assert [(r["return"], r["code"]) for r in answer["refused"]] == [(2, "station_limit")]
    await sound(green)


async def test_a_trip_that_is_known_late_moves_the_limit(green: World) -> None:
    await asset(green, "box2", max_trips=1)
    await green.send(paid("o-2", "bob"), fulfilled("o-2", "box2", at=3))
    await green.credit(returned("bob", "box2", at=4))
    assert await kept(green) == {"shop:bob": 55}
    early = fulfilled("o-1", "box2", at=1)
    await green.send(paid("o-1", "ann"), early)
    assert await kept(green) == {"shop:ann": 5, "shop:bob": 5}, "it was the second trip"
    await green.credit(wrong(early))
    assert await kept(green) == {"shop:bob": 55}
    await sound(green)


async def test_what_a_shipment_carries_for_an_earlier_return_is_not_of_its_order(green: World) -> None:
    """The corrected shipment carries the award of a return that was stored before: cancelling the order takes back its packaging only."""
    first = fulfilled("o-1", BOX)
    await green.send(paid("o-1", "ann"), first)
    await green.credit(returned("ann", BOX))
    await green.credit(wrong(first))
    await green.credit(fulfilled("o-1", BOX, at=1.5))
    await green.credit({"id": "o-1:cancelled", "type": "order.cancelled", "occurred_at": day(6), "order": {"id": "o-1"}})
    assert await kept(green) == {"shop:ann": 50}
    await sound(green)

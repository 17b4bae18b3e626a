"""From events to observations and touches: bounded, hashed, and the same for what is the same."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.domain.fraud.account import MAX_PATH, MAX_TIMES, Account, Step, after, evenness
from service.domain.fraud.observation import MAX_ITEMS, OrderBefore, _waybill
from service.domain.fraud.touches import SUSPECTS, aftermath, by_slot, keys_of
from service.domain.fraud.windows import DAY, MemoryWindows
from service.domain.identifiers import canonical_waybill
from tests.fraud.making import T0, observation, observed

PAID: dict[str, Any] = {
    "type": "order.paid", "order": {"id": "1", "currency": "CNY", "total": "128.00"}, "packaging": {"class": "circular_box"},
    "lines": [{"id": "1", "sku": "A", "quantity": "2", "unit_price": "39.00", "category": "paper", "merchant": "m-7"},
              {"id": "2", "sku": "B", "unit_price": "50.00", "category": "soap", "merchant": "m-8"}],
    "attributes": {"device": "h:d", "payment": "h:p", "ip": "h:i", "region": "h:r", "channel": "app", "address": 7},
}  # fmt: skip


def back(*assets: str, **more: Any) -> dict[str, Any]:
    return {"type": "packaging.returned", "returns": [{"asset": asset, "station": "s"} for asset in assets], **more}


def test_an_order_is_about_the_merchant_of_its_certified_lines() -> None:
    o = observed(PAID, certificates={"2": "C1"})
    assert (o.money, o.packaging, o.region, len(o.lines)) == (128.0, "circular_box", "h:r", 2)
    other = observed(PAID, certificates={"1": "C1"})
    assert (o.merchant, other.merchant) == (o.lines[1].merchant, o.lines[0].merchant)
    assert o.merchant != other.merchant
    assert o.entities == {"device": "h:d", "payment": "h:p", "ip": "h:i"}


def test_what_could_name_somebody_is_hashed_with_the_key() -> None:
    trade_in = {
        "type": "activity.completed",
        "activity": "trade_in",
        "evidence": {"serial": "SN-12345"},
        "attributes": {"referrer": "anna"},
    }
    one, other = (observed(trade_in, hash_key=key) for key in (b"1", b"2"))
    assert len(one.evidence) == 1
    assert one.evidence != other.evidence
    assert one.tags != other.tags
    assert "12345" not in one.evidence[0]
    assert "anna" not in one.tags[0]


def test_a_serial_written_another_way_is_the_same() -> None:
    one, other = (
        observed({"type": "activity.completed", "activity": "trade_in", "evidence": {"serial": text}}) for text in ("SN-12345", "sn 12345")
    )
    assert one.evidence == other.evidence


def test_a_refund_without_attributes_is_about_its_orders_things() -> None:
    refund = {"type": "order.refunded", "order": {"id": "1"}, "refund": {"id": "r", "amount": "1.00"}}
    o = observed(refund, points=-5, order=OrderBefore(at=T0 - DAY, entities={"device": "h:d"}, merchant="m-7"))
    assert (o.entities, o.merchant, o.order_age_s) == ({"device": "h:d"}, "m-7", DAY)


def test_the_work_for_an_event_has_a_bound() -> None:
    many = observed(back(*(f"box{i}" for i in range(200))) | {"attributes": {f"a{i}": "x" for i in range(50)} | PAID["attributes"]})
    assert len(many.returns) == MAX_ITEMS
    assert len(keys_of(many, young_s=DAY)) < 40


def test_slots_are_told_apart() -> None:
    for o in (observed(PAID, certificates={"1": "C"}), observed(back("box1", "box2")), observation(entities={"device": "d"})):
        touches = keys_of(o, young_s=DAY)
        assert len({touch.slot for touch in touches}) == len(touches)


def test_only_what_earns_is_compared_with_others() -> None:
    assert "behaviour.week" in {touch.slot for touch in keys_of(observed(PAID), young_s=DAY)}
    assert "behaviour.week" not in {touch.slot for touch in keys_of(observed(PAID, points=0), young_s=DAY)}


def test_points_of_the_young_are_counted_apart() -> None:
    windows = MemoryWindows()
    for age, young in ((0, 10), (2 * DAY, 0), (30 * DAY, 0)):
        touches = keys_of(observation(entities={"device": f"d{age}"}, age_s=age), young_s=DAY)
        assert by_slot(touches, windows.add(touches))["device.month"].young == young


def test_suspicion_falls_on_what_is_shared_and_counts_no_event() -> None:
    windows = MemoryWindows()
    touches = keys_of(observation(entities={"device": "d"}), young_s=DAY)
    windows.add(touches)
    marks = aftermath(touches, odds=0.5)
    windows.add(marks)
    assert {mark.slot for mark in marks} <= {*SUSPECTS, "account.month"}
    after_ = by_slot(touches, windows.add(touches))
    assert (after_["device.month"].suspect, after_["device.month"].events) == (0.5, 2)
    assert after_["account.day"].suspect == 0


def walk(*steps: tuple[int, str]) -> Account:
    account = Account(opened_at=T0)
    for at, shape in steps:
        account = after(account, Step(at=T0 + at, shape=shape))
    return account


def test_paths_are_the_same_for_the_same_steps_at_the_same_pace_only() -> None:
    first = walk((0, "a"), (100, "b"), (200, "c")).path
    assert walk((5_000, "a"), (5_110, "b"), (5_190, "c")).path == first
    assert walk((0, "a"), (100, "b"), (200, "d")).path != first
    assert walk((0, "a"), (100, "b"), (90_000, "c")).path != first


def test_a_path_ends() -> None:
    steps = [(i * 100, "a") for i in range(MAX_PATH + 3)]
    assert walk(*steps[:MAX_PATH]).path == walk(*steps).path


def test_equal_gaps_are_counted_and_a_late_event_does_not_turn_the_clock_back() -> None:
    account = walk((0, "a"), (600, "a"), (1_200, "a"), (1_801, "a"))
    assert account.steady == 2
    late = after(account, Step(at=T0 + 10, shape="a"))
    assert (late.last_at, late.events) == (account.last_at, 5)
    assert walk((0, "a"), (600, "a"), (1_300, "a")).steady == 0


def test_what_a_person_does_is_told_apart_and_what_a_shop_reports_is_not_an_act() -> None:
    plain, pure = observed(PAID, points=0), observed(PAID, certificates={"1": "C", "2": "C"})
    mixed, choice = observed(PAID, certificates={"2": "C1"}), observed(PAID, points=30)
    shipped = observed({"type": "order.fulfilled", "order": {"id": "1"}, "packaging": {"class": "plastic_mailer"}}, points=0)
    assert [o.kind for o in (plain, mixed, pure, choice, observed(back("box")), shipped)] == [
        "plain",
        "mixed",
        "pure",
        "choice",
        "return",
        "",
    ]
    account = walk(*((i, o.kind) for i, o in enumerate((plain, mixed, pure, choice, shipped, mixed))))
    assert account.acts == (0, 0, 0, 0, 0, 0)
    for o in (plain, mixed, pure, choice, shipped, mixed):
        account = after(account, o.step)
    assert account.acts == (1, 2, 1, 1, 0, 0)


def test_a_full_order_is_remembered_with_what_it_cost() -> None:
    dear = observed(PAID, certificates={"1": "C", "2": "C"}, points=95, most=100)
    account = after(walk(), dear.step)
    assert (account.full, account.full_points, account.full_money) == (1, 95, 128.0)
    assert after(account, observed(PAID, certificates={"1": "C"}, points=80, most=100).step).full == 1


def test_a_choice_that_was_not_kept_is_remembered() -> None:
    order = OrderBefore(at=T0, entities={}, packaging="circular_box")
    account = walk()
    for class_ in ("circular_box", "plastic_mailer", "plastic_mailer"):
        shipped = {"type": "order.fulfilled", "order": {"id": "1"}, "packaging": {"class": class_}}
        account = after(account, observed(shipped, points=0, order=order).step)
    assert (account.kept, account.broken) == (1, 2)
    unknown = observed({"type": "order.fulfilled", "order": {"id": "1"}, "packaging": {"class": "circular_box"}}, points=0)
    assert unknown.as_chosen is None


def test_gaps_that_tremble_are_even_in_whatever_order_they_arrive_and_those_of_people_are_not() -> None:
    def even(*times: int) -> int:
        account = Account(opened_at=T0)
        for at in times[:-1]:
            account = after(account, Step(at=T0 + at, shape="a", kind="activity"))
        return evenness(account, T0 + times[-1])

    assert even(0, 600, 1_250, 1_800, 2_380) == 3
    assert even(1_250, 600, 2_380, 0, 1_800) == 3
    assert even(0, 600, 4_250, 4_500) == 0
    assert even(*range(0, 60_000, 600)) == MAX_TIMES - 2


def test_home_again_is_no_hop() -> None:
    account = Account(opened_at=T0)
    for at, region in ((0, "home"), (600, "away"), (1_200, "home"), (1_800, "other"), (90_000, "away")):
        account = after(account, Step(at=T0 + at, shape="a", kind="activity", region=region))
    assert account.hops == 2


def test_other_hands_are_another_device_at_another_place() -> None:
    settled = after(Account(opened_at=T0), Step(at=T0, shape="a", device="d", region="r", ip="i"))

    def moved(**step: str) -> bool:
        return after(settled, Step(at=T0 + 60, shape="a", **step)).moved_at > 0

    assert moved(device="d2", region="r2", ip="i2")
    assert moved(device="d2", region="r", ip="i2")
    assert not moved(device="d", region="r2", ip="i2")
    assert not moved(device="d2", region="r", ip="i")
    assert moved(region="r2", ip="i2")


def test_serials_that_were_counted_up_begin_alike_and_receipts_have_no_stem() -> None:
    def of(**evidence: str) -> str:
        activity = "trade_in" if "serial" in evidence else "e_receipt"
        return observed({"type": "activity.completed", "activity": activity, "evidence": evidence}).stem

    assert of(serial="HA0123456789") == of(serial="ha 0123-450000") != ""
    assert of(serial="HA0123456789") != of(serial="HA9123456789")
    assert of(serial="12") == of(merchant="m", receipt="R0123456789") == ""


def test_receipts_of_one_shop_are_the_same_thing_whatever_their_number() -> None:
    def of(merchant: str, receipt: str) -> str:
        evidence = {"merchant": merchant, "receipt": receipt}
        return observed({"type": "activity.completed", "activity": "e_receipt", "evidence": evidence}).thing

    assert of("m-1", "R1") == of("m-1", "R2") != of("m-2", "R1")


def test_one_parcel_is_one_thing_for_shop_and_station() -> None:
    sent = observed(
        {"type": "order.fulfilled", "order": {"id": "1"}, "packaging": {"class": "plastic_mailer", "waybill": "SF-100"}}, points=0
    )
    returns = [{"class": "plastic_mailer", "waybill": "SF100"}, {"class": "foam_box", "waybill": "sf100"}]
    assert observed({"type": "packaging.returned", "returns": returns}).waybills == sent.waybills
    assert len(sent.waybills) == 1


def test_a_shipment_that_earns_has_its_orders_merchant_and_no_lines() -> None:
    paid = OrderBefore(at=T0, entities={"device": "d"}, merchant="m-1")
    body = {"type": "order.fulfilled", "consumer": "c", "order": {"id": "o"}, "packaging": {"class": "circular_box", "assets": ["BOX-1"]}}
    o = observed(body, points=30, order=paid)
    slots = {touch.slot for touch in keys_of(o, young_s=DAY)}
    assert (o.merchant, o.lines) == ("m-1", ())
    assert "device.month" in slots
    assert "sku.week" not in slots


def test_a_shipment_that_stands_in_place_of_a_choice_earns_once() -> None:
    windows = MemoryWindows()
    choice, shipment = observation(points=20), observation(points=20, replaced=20)
    for o in (choice, shipment):
        touches = keys_of(o, young_s=DAY)
        counts = by_slot(touches, windows.add(touches))
    assert counts["account.month"].points == 20
    assert counts["account.month"].reversed == 0
    assert {touch.slot for touch in keys_of(shipment, young_s=DAY)} > {"behaviour.week"}, "it is judged all the same"


@given(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=40))
def test_what_is_taken_for_a_canonical_waybill_is_one(text: str) -> None:
    assert _waybill(text) == canonical_waybill(text)


def test_texts_of_senders_are_hashed_whatever_they_hold() -> None:
    back = {"type": "packaging.returned", "returns": [{"class": "paper_bag", "quantity": "1", "station": "near ada"}]}
    for o in (observed(PAID, certificates={"2": "C1"}), observed(back)):
        for text in ("m-7", "m-8", "near ada"):
            assert text not in str(o)

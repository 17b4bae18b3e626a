"""Objections over HTTP: who may make one to what, who answers it, and what follows."""

from typing import Any

import pytest

from tests.api.test_adjustments import available, problem
from tests.beginnings import Begin, Beginning
from tests.deliveries import Shop
from tests.objecting import SAID, answer_it, bought, listed, number_of, object_to, open_shop, review
from tests.reviewing import event_of, hold, reject, states
from tests.worlds import refund


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Shop]:
    return begin(open_shop, in_app=True)


# Objecting


async def test_a_person_objects_once_and_a_repeat_is_the_same_answer(shop: Shop) -> None:
    paid = await bought(shop)
    await hold(shop.world, paid["id"])
    made = await object_to(shop, paid["id"])
    assert made.status_code == 201, made.text
    assert made.json() | {"made_at": ""} == {"state": "open", "made_at": "", "answered_at": None, "answer": None}
    again = await object_to(shop, paid["id"])
    assert (again.status_code, again.headers["Idempotency-Replayed"], again.json()) == (201, "true", made.json())
    assert (await review(shop))["objection"] == made.json()
    by_shop = await object_to(shop, paid["id"], "shop")
    assert (by_shop.status_code, by_shop.json()) == (201, made.json())
    assert problem(await object_to(shop, paid["id"], body={"text": "Another"})) == (409, "invalid_state", [])
    assert [item["text"] for item in await listed(shop)] == [SAID["text"]]


async def test_a_platform_objects_for_a_consumer_and_that_is_written_down(shop: Shop) -> None:
    paid = await bought(shop)
    await hold(shop.world, paid["id"])
    made = await object_to(shop, paid["id"], "shop")
    assert (made.status_code, "Idempotency-Replayed" in made.headers) == (201, False)
    (row,) = await shop.world.rows("SELECT actor, action, after::text AS after FROM audit WHERE action LIKE 'objection.%'")
    assert (row["actor"], row["action"], "birthday" in row["after"]) == ("platform:shop", "objection.make", False)


async def test_only_what_is_held_or_was_rejected_lately_can_be_objected_to(shop: Shop) -> None:
    paid = await bought(shop)
    assert problem(await object_to(shop, paid["id"])) == (404, "not_found", [])
    await hold(shop.world, paid["id"])
    for state in ("released", "approved", "voided"):
        await shop.world.rows("UPDATE fraud_case_event SET state = $1, deadline = NULL, at_deadline = NULL, decided_at = now()", state)
        assert problem(await object_to(shop, paid["id"])) == (409, "invalid_state", [])
    for days, status in ((91, 409), (89, 201)):
        await shop.world.rows("UPDATE fraud_case_event SET state = 'rejected', decided_at = now() - make_interval(days => $1)", days)
        assert (await object_to(shop, paid["id"])).status_code == status


async def test_nobody_objects_for_somebody_else(shop: Shop) -> None:
    paid = await bought(shop)
    await hold(shop.world, paid["id"])
    for who in ("bob of shop", "ada of market", "market"):
        assert problem(await object_to(shop, paid["id"], who)) == (404, "not_found", [])
    assert (await shop.call("POST", f"/v1/me/events/{paid['id']}/objection", "ada who spends", json=SAID)).status_code == 403
    for odd in ("nothing", "%00", "x" * 129):
        assert (await object_to(shop, odd)).status_code == 404
    assert await listed(shop) == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({}, ""), ({"text": ""}, "/text"), ({"text": "x" * 2_001}, "/text"), ({"text": "a\u0000"}, "/text"), ({"text": 5}, "/text"),
     ({"text": "\u001b[31m"}, "/text"), ({"text": None}, "/text")],
)  # fmt: skip
async def test_a_bad_objection_is_refused_and_none_is_there(shop: Shop, body: Any, pointer: str) -> None:
    paid = await bought(shop)
    await hold(shop.world, paid["id"])
    status, code, pointers = problem(await object_to(shop, paid["id"], body=body))
    assert (status, code, [p for p in pointers if p]) == (422, "invalid_request", [pointer] if pointer else [])
    assert await listed(shop) == []


async def test_an_id_of_two_platforms_means_the_askers_own_then_the_first(shop: Shop) -> None:
    """The market reported for the same person under an id that the shop has used, too."""
    here = await bought(shop, order="o-same")
    there = await bought(shop, order="o-same", platform="market", quantity=2)
    await shop.world.rows(
        """UPDATE event e SET bucket = o.bucket, account = o.account FROM event o
           WHERE o.id = $1 AND o.platform = $2 AND e.id = $1 AND e.platform = $3""",
        here["id"], shop.world.platforms["shop"].platform, shop.world.platforms["market"].platform,
    )  # fmt: skip
    await hold(shop.world, there["id"], platform="market")
    assert (await object_to(shop, here["id"], body={"text": "theirs"})).status_code == 201
    await hold(shop.world, here["id"])
    assert (await object_to(shop, here["id"], body={"text": "own"})).status_code == 201
    assert {(item["platform"], item["text"]) for item in await listed(shop)} == {("market", "theirs"), ("shop", "own")}


# Answering


async def test_who_was_right_about_a_hold_gets_the_points_when_it_ends(shop: Shop) -> None:
    paid = await bought(shop)
    await hold(shop.world, paid["id"])
    await object_to(shop, paid["id"])
    (item,) = await listed(shop)
    assert item | {"state": "open", "event_state": "held", "points": 10, "event": paid["id"], "consumer": "ada", "adjustment": None} == item
    done = await answer_it(shop, "upheld")
    assert done.status_code == 200, done.text
    assert done.json() | {"state": "upheld", "event_state": "approved", "until": None, "answer": "We have looked."} == done.json()
    assert await states(shop.world, paid["id"]) == {
        "screening": None, "event": "approved", "case": "closed", "label": False, "objection": "upheld",
    }  # fmt: skip
    seen = await review(shop)
    assert (seen["state"], seen["objection"]["state"], seen["objection"]["answer"]) == ("approved", "upheld", "We have looked.")
    (row,) = await shop.world.rows("SELECT decision, proposed_by, status, events FROM fraud_decision")
    event = await event_of(shop.world, paid["id"])
    assert row == {"decision": "approve", "proposed_by": await number_of(shop, "fraud"), "status": "done", "events": [event["number"]]}


async def test_a_case_with_something_left_to_decide_stays_open(shop: Shop) -> None:
    one, other = await bought(shop), await bought(shop, "bob")
    await hold(shop.world, one["id"], other["id"])
    await object_to(shop, one["id"])
    assert (await answer_it(shop, "upheld")).status_code == 200
    assert (await states(shop.world, one["id"]))["case"] == "open"
    assert await states(shop.world, other["id"]) == {"screening": 1, "event": "held", "case": "open", "label": None, "objection": None}


async def test_a_refused_objection_changes_nothing_but_says_so(shop: Shop) -> None:
    paid = await bought(shop)
    await hold(shop.world, paid["id"])
    await object_to(shop, paid["id"])
    assert (await answer_it(shop, "refused", text="Nine accounts, one phone.")).status_code == 200
    assert (await states(shop.world, paid["id"])) == {
        "screening": 1, "event": "held", "case": "open", "label": None, "objection": "refused",
    }  # fmt: skip
    seen = await review(shop)
    assert (seen["state"], seen["objection"]["state"], seen["objection"]["answer"]) == ("held", "refused", "Nine accounts, one phone.")


async def test_who_was_right_about_a_rejection_gets_the_points_back(shop: Shop) -> None:
    paid = await bought(shop)
    await hold(shop.world, paid["id"])
    await reject(shop.world, paid, by=await number_of(shop, "fraud"))
    assert (await review(shop, path="/v1/me/activity")) is None  # the cancellation is the newest
    await object_to(shop, paid["id"])
    assert problem(await answer_it(shop, "upheld", "fraud")) == (409, "invalid_state", [])
    assert problem(await answer_it(shop, "refused", "fraud")) == (409, "invalid_state", [])
    assert await available(shop) == 0
    done = await answer_it(shop, "upheld", "second")
    assert done.status_code == 200, done.text
    assert await available(shop) == 10
    assert await states(shop.world, paid["id"]) == {
        "screening": 2, "event": "rejected", "case": "closed", "label": False, "objection": "upheld",
    }  # fmt: skip
    made = (await shop.call("GET", f"/v1/adjustments/{done.json()['adjustment']}")).json()
    assert (made["status"], made["points"], made["proposed_by"]) == ("done", 10, f"operator:{await number_of(shop, 'second')}")
    top = (await shop.call("GET", "/v1/me/activity", "ada of shop")).json()["items"][0]
    assert (top["kind"], top["points"], top["reason"]) == (
        "points.adjusted",
        10,
        f"Your objection was right: the points of {paid['id']} are back",
    )
    again = await answer_it(shop, "upheld", "second")
    assert (again.status_code, again.json()["adjustment"], await available(shop)) == (200, done.json()["adjustment"], 10)
    for state, who in (("refused", "second"), ("upheld", "admin")):
        assert problem(await answer_it(shop, state, who)) == (409, "invalid_state", [])


async def test_what_a_refund_had_taken_is_not_given_back(shop: Shop) -> None:
    paid = await bought(shop, quantity=3)
    await hold(shop.world, paid["id"])
    await shop.world.credit(refund(paid, "r", 1))
    await reject(shop.world, paid, by=await number_of(shop, "fraud"))
    await object_to(shop, paid["id"])
    assert (await answer_it(shop, "upheld", "second")).status_code == 200
    assert await available(shop) == 20


async def test_what_is_being_decided_is_not_approved_beside(shop: Shop) -> None:
    paid = await bought(shop)
    await hold(shop.world, paid["id"])
    await object_to(shop, paid["id"])
    await shop.world.rows("UPDATE fraud_case_event SET deadline = now()")
    assert problem(await answer_it(shop, "upheld")) == (409, "invalid_state", [])
    assert (await states(shop.world, paid["id"]))["event"] == "held"


async def test_whoever_confirmed_a_rejection_does_not_answer_either(shop: Shop) -> None:
    paid = await bought(shop)
    await hold(shop.world, paid["id"])
    await reject(shop.world, paid, by=await number_of(shop, "fraud"), also_by=await number_of(shop, "second"))
    await object_to(shop, paid["id"])
    for who in ("fraud", "second"):
        assert problem(await answer_it(shop, "upheld", who)) == (409, "invalid_state", [])
    assert (await answer_it(shop, "upheld", "admin")).status_code == 200


async def test_many_points_wait_for_a_second_operator_and_are_proposed_again(shop: Shop) -> None:
    paid = await bought(shop, quantity=150)
    await hold(shop.world, paid["id"])
    await reject(shop.world, paid, by=await number_of(shop, "fraud"))
    await object_to(shop, paid["id"])
    first = (await answer_it(shop, "upheld", "second")).json()["adjustment"]
    assert await available(shop) == 0
    assert (await shop.call("POST", f"/v1/adjustments/{first}/approve", "second")).status_code == 409
    assert (await answer_it(shop, "upheld", "second")).json()["adjustment"] == first
    assert (await shop.call("POST", f"/v1/adjustments/{first}/reject", "admin")).status_code == 200
    again = (await answer_it(shop, "upheld", "second")).json()["adjustment"]
    assert again != first
    assert (await shop.call("POST", f"/v1/adjustments/{again}/approve", "admin")).status_code == 200
    assert await available(shop) == 1_500
    assert (await answer_it(shop, "upheld", "second")).json()["adjustment"] == again


async def test_one_operator_does_not_let_go_what_takes_two(shop: Shop) -> None:
    paid = await bought(shop)
    case = await hold(shop.world, paid["id"])
    await object_to(shop, paid["id"])
    await shop.world.rows("INSERT INTO fraud_policy (program, alone_points) VALUES ($1, 9)", shop.world.program)
    assert problem(await answer_it(shop, "upheld")) == (409, "invalid_state", [])
    await shop.world.rows("UPDATE fraud_policy SET alone_points = 10")
    event = await event_of(shop.world, paid["id"])
    await shop.world.rows(
        """INSERT INTO fraud_decision (number, program, fraud_case, decision, events, points, alone, status, proposed_by, proposed_at)
           VALUES (nextval('number'), $1, $2, 'reject', ARRAY[$3::bigint], 10, false, 'pending', $4, now())""",
        shop.world.program, case, event["number"], await number_of(shop, "second"),
    )  # fmt: skip
    assert problem(await answer_it(shop, "upheld")) == (409, "invalid_state", [])
    assert (await states(shop.world, paid["id"])) == {"screening": 1, "event": "held", "case": "open", "label": None, "objection": "open"}
    await shop.world.rows("DELETE FROM fraud_decision")
    assert (await answer_it(shop, "upheld")).status_code == 200


async def test_who_may_and_whose_it_is(shop: Shop) -> None:
    paid = await bought(shop)
    await hold(shop.world, paid["id"])
    await object_to(shop, paid["id"])
    (item,) = await listed(shop)
    (seen,) = await listed(shop, "analyst")
    assert (seen["consumer"], seen["text"], seen["event"]) == (None, None, paid["id"])
    for who in ("viewer", "campaigns", "shop", "ada of shop"):
        assert (await shop.call("GET", "/v1/fraud/objections", who)).status_code == 403
    for who in ("viewer", "analyst", "campaigns", "shop", "ada of shop"):
        assert (await answer_it(shop, "upheld", who)).status_code == 403
    assert (await answer_it(shop, "upheld", "foreign", id_=item["id"])).status_code == 404
    assert await listed(shop, "foreign") == []
    for odd in ("0", "x", "9" * 30, "٣", "-1"):
        assert (await answer_it(shop, "upheld", id_=odd)).status_code == 404
    for body in ({}, {"state": "open", "answer": "x"}, {"state": "upheld"}, {"state": "upheld", "answer": ""}):
        assert (await shop.call("POST", f"/v1/fraud/objections/{item['id']}/answer", json=body)).status_code == 422
    assert (await listed(shop))[0]["state"] == "open"


async def test_the_list_has_open_ones_first_page_by_page(shop: Shop) -> None:
    ids = []
    for _ in range(4):
        paid = await bought(shop)
        await hold(shop.world, paid["id"])
        await object_to(shop, paid["id"])
        ids.append(paid["id"])
    for item in (await listed(shop))[:2]:
        assert (await answer_it(shop, "refused", id_=item["id"])).status_code == 200
    expected = [ids[2], ids[3], ids[1], ids[0]]
    assert [item["event"] for item in await listed(shop)] == expected
    first = (await shop.call("GET", "/v1/fraud/objections", params={"limit": 3})).json()
    rest = (await shop.call("GET", "/v1/fraud/objections", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [item["event"] for item in first["items"] + rest["items"]] == expected
    assert rest["next_cursor"] is None

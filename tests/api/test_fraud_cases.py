"""Fraud cases over HTTP: who may, what is shown to whom, in which order, and what a decision is answered."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar

from tests.api.operators import _token
from tests.beginnings import Begin, Beginning
from tests.deliveries import Shop, refill
from tests.fraud_cases import a_case, hold
from tests.worlds import World, order_paid


async def open_shop(app: Litestar, client: httpx.AsyncClient) -> Shop:
    """Goods earn 10 points, refills 10; operators admin, fraud, second (of fraud), analyst, viewer, and foreign of another program."""
    made = await Shop(app, client, World(app.state.resources.pool)).found()
    async with made.world.pool.acquire() as conn:
        for name, role in (("fraud", "fraud"), ("second", "fraud"), ("analyst", "analyst"), ("campaigns", "campaigns")):
            made.tokens[name] = await _token(conn, name, role, made.world.program)
    return made


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Shop]:
    return begin(open_shop, in_app=True)


async def ring(shop: Shop, *consumers: str, quantity: int = 1, score: int = 9_000, device: str = "phone-1", **more: Any) -> int:
    """A case of an order each, all on one device."""
    orders = [order_paid(c, quantity=quantity, attributes={"device": device, "ip": f"ip-of-{c}"}) for c in consumers]
    await shop.world.send(*orders)
    return await hold(shop.world, *(order["id"] for order in orders), score=score, **more)


async def decide(shop: Shop, case: int, decision: str = "reject", who: str = "fraud", **more: Any) -> httpx.Response:
    return await shop.call("POST", f"/v1/fraud/cases/{case}/decision", who, json={"decision": decision} | more)


async def ids(shop: Shop, query: str = "") -> list[int]:
    answer = await shop.call("GET", f"/v1/fraud/cases{query}", "analyst")
    assert answer.status_code == 200, answer.text
    return [int(item["id"]) for item in answer.json()["items"]]


# Reading


async def test_a_case_shows_its_ring_with_what_links_it(shop: Shop) -> None:
    case = await ring(shop, "ann", "bob", quantity=2)
    await shop.world.send(alone := refill("alone", "eve"))
    await hold(shop.world, alone["id"], case=case, score=5_000, deadline=timedelta(days=2))
    seen = (await shop.call("GET", f"/v1/fraud/cases/{case}", "fraud")).json()
    assert seen | {
        "status": "open", "score": 9_000, "account_count": 3, "event_count": 3, "points": 50, "undecided_count": 3, "undecided_points": 50,
        "expected_loss": 41, "within_budget": True, "closed_at": None, "complete": True, "decisions": [],
    } == seen  # fmt: skip
    names = {account["references"][0]["consumer"]: account["id"] for account in seen["ring"]}
    assert sorted(names) == ["ann", "bob", "eve"]
    (link,) = seen["links"]
    assert (sorted(link["between"]), link["shared"]) == (sorted([names["ann"], names["bob"]]), ["device"])
    event = seen["events"][-1]
    assert event | {
        "platform": "shop", "event": "alone", "type": "activity.completed", "account": names["eve"], "points": 10, "score": 5_000,
        "state": "held", "found": "arrival", "at_deadline": "release", "decision": None, "decided_at": None,
    } == event  # fmt: skip
    assert [(reason["signal"], reason["share"]) for reason in event["reasons"]] == [("burst", 0.7), ("door", 0.3)]
    assert seen["deadline"] == event["deadline"], "the next one"
    assert sorted({moment["what"] for moment in seen["timeline"]}) == ["held", "occurred", "opened"]
    assert seen["timeline"] == sorted(seen["timeline"], key=lambda moment: moment["at"])


async def test_names_are_for_those_who_may_read_them(shop: Shop) -> None:
    case = await ring(shop, "ann-the-person")
    seen = await shop.call("GET", f"/v1/fraud/cases/{case}", "analyst")
    assert seen.status_code == 200
    assert [account["references"] for account in seen.json()["ring"]] == [None]
    assert "ann-the-person" not in seen.text


async def test_who_may_what(shop: Shop) -> None:
    case = await ring(shop, "ann")
    for who, read, decides in (("viewer", 403, 403), ("campaigns", 403, 403), ("analyst", 200, 403), ("foreign", 404, 404)):
        assert (await shop.call("GET", f"/v1/fraud/cases/{case}", who)).status_code == read, who
        assert (await decide(shop, case, who=who)).status_code == decides, who
        assert (await shop.call("POST", f"/v1/fraud/cases/{case}/withdraw", who)).status_code == decides, who
    assert (await shop.call("GET", "/v1/fraud/cases", "foreign")).json() == {"items": [], "next_cursor": None}
    for wrong in ("0", "9" * 19, "x", "-1"):
        assert (await shop.call("GET", f"/v1/fraud/cases/{wrong}", "fraud")).status_code == 404
    assert await shop.world.rows("SELECT FROM fraud_decision") == []


async def test_cases_come_by_what_can_be_lost(shop: Shop) -> None:
    small = await ring(shop, "a", score=9_900)
    large = await ring(shop, "b", quantity=5, score=5_000)
    sure = await ring(shop, "c", quantity=4, score=9_000)
    nothing = await a_case(shop.world)
    assert await ids(shop) == [sure, large, small, nothing]
    assert await ids(shop, "?order=newest") == [nothing, sure, large, small]
    assert await ids(shop, "?min_points=40") == [sure, large]
    assert await ids(shop, "?min_points=40&order=newest") == [sure, large]
    for order in ("expected_loss", "newest"):
        found, cursor = [], ""
        while True:
            page = (await shop.call("GET", f"/v1/fraud/cases?limit=1&order={order}{cursor}", "fraud")).json()
            found += [int(item["id"]) for item in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert found == await ids(shop, f"?order={order}")
    assert (await decide(shop, sure)).status_code == 200
    assert await ids(shop) == [large, small, nothing]
    assert await ids(shop, "?status=closed") == [sure]
    assert await ids(shop, "?status=proposed") == []
    for wrong in ("?status=x", "?order=x", "?min_points=-1", "?cursor=x"):
        assert (await shop.call("GET", f"/v1/fraud/cases{wrong}", "fraud")).status_code == 422, wrong


async def test_where_somebody_waits_for_an_answer_reviewers_look_first(shop: Shop) -> None:
    small = await ring(shop, "a", score=9_900)
    large = await ring(shop, "b", quantity=5, score=5_000)
    await shop.world.rows(
        "INSERT INTO fraud_objection (bucket, account, event, program, text, status, made_at) "
        "SELECT bucket, account, event, program, 'It was me.', 'open', now() FROM fraud_case_event WHERE fraud_case = $1", small,
    )  # fmt: skip
    assert await ids(shop) == [small, large]
    page = (await shop.call("GET", "/v1/fraud/cases?limit=1", "fraud")).json()
    assert page["items"][0]["objection_count"] > 0
    rest = (await shop.call("GET", f"/v1/fraud/cases?cursor={page['next_cursor']}", "fraud")).json()
    assert [int(item["id"]) for item in rest["items"]] == [large]


async def test_todays_reviewers_get_to_those_with_most_to_lose(shop: Shop) -> None:
    cases = [await ring(shop, f"c-{n}", quantity=n) for n in (4, 3, 2, 1)]
    await shop.world.rows("INSERT INTO fraud_policy (program, reviews_a_day) VALUES ($1, 2)", shop.world.program)

    async def within() -> list[int]:
        items = (await shop.call("GET", "/v1/fraud/cases", "analyst")).json()["items"]
        return [int(item["id"]) for item in items if item["within_budget"]]

    assert await within() == cases[:2]
    await decide(shop, cases[1])
    assert await within() == cases[:1], "one of today's two is done"
    await decide(shop, cases[0])
    assert await within() == []
    await shop.world.rows("UPDATE fraud_decision SET decided_at = decided_at - interval '1 day'")
    assert await within() == cases[2:]


# Deciding


async def test_a_rejection_shows_everywhere_at_once(shop: Shop) -> None:
    case = await ring(shop, "ann", quantity=3)
    assert (await shop.call("GET", "/v1/consumers/ann/balance", "shop")).json()["pending"] == 30
    answer = await decide(shop, case, note="a farm")
    assert answer.status_code == 200, answer.text
    done = answer.json()
    assert (done["status"], done["undecided_count"], done["expected_loss"]) == ("closed", 0, 0)
    assert [(e["state"], e["decision"], e["deadline"]) for e in done["events"]] == [("rejected", "reject", None)]
    (decision,) = done["decisions"]
    assert (
        decision | {"decision": "reject", "status": "done", "alone": True, "events": 1, "points": 30, "note": "a farm", "decided_by": None}
        == decision
    )
    assert [m["what"] for m in done["timeline"]][-2:] in (["rejected", "closed"], ["closed", "rejected"])
    assert (await shop.call("GET", "/v1/consumers/ann/balance", "shop")).json()["pending"] == 0
    event = (await shop.call("GET", f"/v1/events/{done['events'][0]['event'].replace(':', '%3A')}", "shop")).json()
    assert (event["status"], event["points"]) == ("rejected", 0)
    assert (await shop.call("GET", "/v1/consumers/ann/balance", "shop")).json()["version"] == 2
    again = await decide(shop, case)
    assert (again.status_code, again.json()["events"], again.json()["decisions"]) == (200, done["events"], done["decisions"])
    other = await decide(shop, case, "approve")
    assert (other.status_code, other.json()["code"]) == (409, "invalid_state")


async def test_above_the_limit_it_takes_two(shop: Shop) -> None:
    await shop.world.rows("INSERT INTO fraud_policy (program, alone_points) VALUES ($1, 29)", shop.world.program)
    case = await ring(shop, "ann", quantity=3)
    proposed = await decide(shop, case, note="look")
    assert proposed.status_code == 202, proposed.text
    assert (proposed.json()["status"], proposed.json()["events"][0]["state"]) == ("proposed", "held")
    alone = await decide(shop, case)
    assert (alone.status_code, alone.json()["code"]) == (409, "invalid_state")
    assert "another operator has to confirm it" in alone.json()["detail"]
    assert await ids(shop, "?status=proposed") == [case]
    withdrawn = await shop.call("POST", f"/v1/fraud/cases/{case}/withdraw", "fraud", json={"note": "not sure"})
    assert (withdrawn.status_code, withdrawn.json()["status"]) == (200, "open")
    assert (
        withdrawn.json()["decisions"][0] | {"status": "withdrawn", "note": "look", "decided_note": "not sure"}
        == withdrawn.json()["decisions"][0]
    )
    assert (await decide(shop, case)).status_code == 202
    confirmed = await decide(shop, case, who="second", note="yes")
    assert confirmed.status_code == 200, confirmed.text
    made = confirmed.json()["decisions"][-1]
    assert (made["status"], made["alone"], made["decided_note"]) == ("done", False, "yes")
    assert made["proposed_by"] != made["decided_by"] is not None
    assert confirmed.json()["events"][0]["state"] == "rejected"
    assert (await decide(shop, case)).status_code == 200, "whoever says it again is told how it is"


async def test_some_are_decided_by_their_ids(shop: Shop) -> None:
    case = await ring(shop, "ann", "bob")
    seen = (await shop.call("GET", f"/v1/fraud/cases/{case}", "fraud")).json()
    one, other = seen["events"]
    done = await decide(shop, case, "approve", events=[one["id"]])
    assert {e["id"]: e["state"] for e in done.json()["events"]} == {one["id"]: "approved", other["id"]: "held"}
    assert done.json()["events"][0]["id"] == other["id"], "what is undecided comes first"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"decision": "pass"}, "/decision"),
        ({"note": "x"}, ""),
        ({"decision": "reject", "note": ""}, "/note"),
        ({"decision": "reject", "events": []}, "/events"),
        ({"decision": "reject", "events": ["x"]}, "/events/0"),
        ({"decision": "reject", "events": ["123"]}, "/events/0"),
        ({"decision": "reject", "events": ["1"] * 501}, "/events"),
    ],
)
async def test_what_is_wrong_is_said_and_changes_nothing(shop: Shop, body: dict[str, Any], pointer: str) -> None:
    case = await ring(shop, "ann")
    answer = await shop.call("POST", f"/v1/fraud/cases/{case}/decision", "fraud", json=body)
    assert answer.status_code == 422, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await shop.world.rows("SELECT FROM fraud_decision") == []

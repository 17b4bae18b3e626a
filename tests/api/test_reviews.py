"""Persons under review, over HTTP: what they and their platform see, what campaigns count, what an export has."""

import pytest

from tests.beginnings import Begin, Beginning
from tests.deliveries import Shop
from tests.objecting import SAID, answer_it, bought, number_of, object_to, open_shop, review
from tests.reviewing import REASONS, SOFT, event_of, hold, reject, verdict
from tests.worlds import now


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Shop]:
    return begin(open_shop, in_app=True)


# What they see


async def test_a_person_sees_a_hold_its_deadline_and_soft_reasons(shop: Shop) -> None:
    paid = await bought(shop)
    assert await review(shop) is None
    await hold(shop.world, paid["id"])
    seen = await review(shop)
    assert seen | {"since": "", "until": ""} == {"state": "held", "since": "", "until": "", "reasons": SOFT, "objection": None}
    assert seen["since"] < seen["until"]
    assert await review(shop, "shop", "/v1/consumers/ada/activity") == seen
    assert (await shop.call("GET", f"/v1/events/{paid['id']}", "shop")).json()["review"] == seen
    assert (await shop.call("GET", "/v1/events", "shop")).json()["items"][0]["review"] == seen
    text = (await shop.call("GET", "/v1/me/activity", "ada of shop")).text
    for reason in REASONS:
        assert str(reason["sentence"]) not in text
        assert str(reason["signal"]) not in text


@pytest.mark.parametrize(("state", "shown"), [("released", True), ("approved", True), ("voided", False), ("settled", False)])
async def test_what_came_of_it_is_told_and_nothing_of_what_changed_nothing(shop: Shop, state: str, shown: bool) -> None:  # noqa: FBT001
    paid = await bought(shop)
    await hold(shop.world, paid["id"])
    await shop.world.rows(
        """UPDATE fraud_case_event SET state = $1, deadline = NULL, at_deadline = NULL,
                  decided_at = CASE WHEN $1 = 'settled' THEN NULL ELSE held_at + interval '1 hour' END""",
        state,
    )
    seen = await review(shop)
    assert (seen is not None) == shown
    if shown:
        (row,) = await shop.world.rows("SELECT decided_at FROM fraud_case_event")
        assert (seen["state"], seen["until"]) == (state, None)
        assert seen["since"][:19] == row["decided_at"].isoformat()[:19]


async def test_who_does_not_know_the_person_sees_no_review(shop: Shop) -> None:
    """A shop reports what came back; it counts for somebody whom it does not know (any more)."""
    await shop.world.campaign(code="back", action="return", award={"kind": "fixed", "points": 5})
    await shop.world.rows("UPDATE program SET return_window_days = NULL")
    back = {"id": "r-1", "type": "packaging.returned", "occurred_at": now(), "consumer": "ada"}
    assert (await shop.world.credit(back | {"returns": [{"class": "reused_carton", "quantity": "1"}]}))["points"] == 5
    await hold(shop.world, "r-1")
    assert (await shop.call("GET", "/v1/events/r-1", "shop")).json()["review"]["state"] == "held"
    await shop.world.rows("UPDATE consumer_reference SET platform = $1", shop.world.platforms["market"].platform)
    found = (await shop.call("GET", "/v1/events/r-1", "shop")).json()
    assert (found["status"], "review" in found) == ("held", False)


# Statistics, export


async def test_campaigns_count_what_is_held_and_rejected_of_theirs(shop: Shop) -> None:
    held, gone, honest = await bought(shop), await bought(shop), await bought(shop)
    elsewhere = await bought(shop, platform="market")
    await hold(shop.world, held["id"], gone["id"])
    await hold(shop.world, elsewhere["id"], platform="market")
    await reject(shop.world, gone, by=await number_of(shop, "fraud"))
    assert honest["id"] not in (held["id"], gone["id"])
    found = (await shop.call("GET", "/v1/campaigns/goods/statistics")).json()
    assert (found["totals"]["held"], found["totals"]["rejected"], found["totals"]["events"]) == (2, 1, 4)
    assert [(e["platform"], e["held"], e["rejected"]) for e in found["by_platform"]] == [("market", 1, 0), ("shop", 1, 1)]
    assert [sum(e[name] for e in found["series"]) for name in ("held", "rejected")] == [2, 1]
    past = (await shop.call("GET", "/v1/campaigns/goods/statistics", params={"to": "2020-01-01T00:00:00Z"})).json()
    assert (past["totals"]["held"], past["totals"]["rejected"]) == (0, 0)
    other = (await shop.call("GET", "/v1/campaigns/refills/statistics")).json()
    assert (other["totals"]["held"], other["totals"]["rejected"]) == (0, 0)
    await object_to(shop, held["id"])
    assert (await answer_it(shop, "upheld")).status_code == 200
    assert (await shop.call("GET", "/v1/campaigns/goods/statistics")).json()["totals"]["held"] == 1


async def test_an_export_has_verdicts_reviews_and_what_was_said(shop: Shop) -> None:
    paid, shadowed = await bought(shop), await bought(shop)
    await hold(shop.world, paid["id"])
    await verdict(shop.world, await event_of(shop.world, paid["id"]), outcome=1)
    await verdict(shop.world, await event_of(shop.world, shadowed["id"]), enforced=False)
    await object_to(shop, paid["id"])
    await answer_it(shop, "refused", text="No.")
    events = {e["id"]: e for e in (await shop.call("GET", "/v1/consumers/ada/export", "shop")).json()["events"]}
    assert [v["outcome"] for v in events[paid["id"]]["verdicts"]] == ["held"]
    assert (events[shadowed["id"]]["verdicts"], events[shadowed["id"]]["review"]) == ([], None)
    exported = events[paid["id"]]["review"]
    assert (exported["state"], exported["reasons"], exported["objection"]["text"], exported["objection"]["answer"]) == (
        "held", SOFT, SAID["text"], "No.",
    )  # fmt: skip

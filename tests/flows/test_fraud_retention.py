"""What erasure and retention do to what fraud checks leave behind."""

from datetime import timedelta
from typing import Any

import pytest

from service.domain.errors import InvalidState, NotFound
from service.flows import erase as erasing
from service.flows import fraud_retention
from tests.adjusting import CHANGE, operator, unharmed
from tests.flows.test_erase import erase, finish
from tests.flows.test_erase import hold as keep
from tests.flows.test_objections import answer, make
from tests.reviewing import event_of, hold, listed, reject, states, verdict
from tests.worlds import World, order_paid

TERMS = fraud_retention.Terms(verdicts=400, attributes=400)


@pytest.fixture
async def bought(world: World) -> dict[str, Any]:
    """An order of `c`, worth 10 points."""
    await world.campaign(code="goods")
    await world.credit(paid := order_paid("c"))
    return paid


# Erasing


async def test_who_is_erased_leaves_no_reasons_no_words_and_no_entry(world: World, bought: dict[str, Any]) -> None:
    one, other = order_paid("c"), order_paid("d")
    for paid in (one, other):
        await world.credit(paid)
    await hold(world, bought["id"], one["id"], other["id"])
    for paid in (bought, one, other):
        await make(world, paid, "Ada says no.")
    await answer(world, one, "refused", by=await operator(world))
    account = await erase(world)
    for kind, value in (("account", str(account)), ("device", str(account))):
        await listed(world, kind, value)
    assert await finish(world) == 1
    mine = [(await event_of(world, paid["id"]))["number"] for paid in (bought, one)]
    rows = await world.rows("SELECT event, reasons FROM fraud_case_event ORDER BY event")
    assert [(row["event"] in mine, row["reasons"] == "[]") for row in rows] == [(True, True), (True, True), (False, False)]
    rows = await world.rows("SELECT event, strengths FROM verdict ORDER BY event")
    assert [(row["event"] in mine, row["strengths"] is None) for row in rows] == [(True, True), (True, True), (False, False)]
    rows = await world.rows("SELECT event, status, text, answer FROM fraud_objection ORDER BY event")
    assert [tuple(row.values()) for row in rows] == [
        (mine[1], "refused", None, None), ((await event_of(world, other["id"]))["number"], "open", "Ada says no.", None),
    ]  # fmt: skip
    assert [row["kind"] for row in await world.rows("SELECT kind FROM fraud_list")] == ["device"]
    await unharmed(world)


async def test_an_entry_stays_while_another_platform_knows_the_account(world: World, bought: dict[str, Any]) -> None:
    account = (await event_of(world, bought["id"]))["account"]
    await world.rows(
        "INSERT INTO consumer_reference (platform, reference, bucket, account) SELECT $1, 'x', bucket, account FROM consumer_reference",
        world.platforms["market"].platform,
    )
    await listed(world, "account", str(account))
    await erase(world)
    await finish(world)
    assert len(await world.rows("SELECT FROM fraud_list")) == 1


async def test_nothing_is_given_back_to_who_was_erased(world: World, bought: dict[str, Any]) -> None:
    await hold(world, bought["id"])
    await reject(world, bought, by=await operator(world))
    await make(world, bought)
    one = await operator(world)
    await erase(world)
    with pytest.raises(InvalidState, match="erased"):
        await answer(world, bought, "upheld", by=one)
    await finish(world)
    with pytest.raises(NotFound):
        await answer(world, bought, "upheld", by=one)
    assert await world.rows("SELECT FROM adjustment") == []


# Retention


async def test_verdicts_are_forgotten_after_their_time(world: World, bought: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fraud_retention, "BATCH", 2)
    event = await event_of(world, bought["id"])
    for days in (500, 450, 420, 401, 399, 0):
        await verdict(world, event, days_ago=days)
    await fraud_retention.sweep(world.pool, TERMS)
    rows = await world.rows("SELECT (extract(epoch FROM now() - judged_at) / 86400)::int AS days FROM verdict ORDER BY seq")
    assert [row["days"] for row in rows] == [399, 0]


async def test_what_a_legal_hold_keeps_stays_until_it_is_lifted(
    world: World, bought: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fraud_retention, "BATCH", 2)
    await world.credit(other := order_paid("d"))
    await hold(world, bought["id"], other["id"])
    for paid in (bought, other):
        await make(world, paid)
        await answer(world, paid, "refused", by=await operator(world))
    await world.rows("DELETE FROM verdict")
    await keep(world)
    for paid in (bought, bought, bought, other):
        await verdict(world, await event_of(world, paid["id"]), days_ago=500)
    await _age(world, days=401)
    await fraud_retention.sweep(world.pool, TERMS)
    assert await _left(world) == {"verdicts": 3, "reasons": 1, "texts": 1}
    sender = world.platforms["shop"]
    async with world.pool.acquire() as connection:
        await erasing.lift_hold(
            connection, program=sender.program, platform=sender.platform, code="shop", reference="c", change=CHANGE
        )  # fmt: skip
    await fraud_retention.sweep(world.pool, TERMS)
    assert await _left(world) == {"verdicts": 0, "reasons": 0, "texts": 0}


@pytest.mark.parametrize(
    ("days", "left"), [(399, {"verdicts": 0, "reasons": 1, "texts": 1}), (401, {"verdicts": 0, "reasons": 0, "texts": 0})]
)
async def test_reasons_and_words_are_forgotten_so_long_after_the_decision(
    world: World, bought: dict[str, Any], days: int, left: dict[str, int]
) -> None:
    await hold(world, bought["id"])
    await make(world, bought)
    await answer(world, bought, "refused", by=await operator(world))
    await world.rows("DELETE FROM verdict")
    await _age(world, days=days)
    await fraud_retention.sweep(world.pool, TERMS)
    assert await _left(world) == left
    assert (await states(world, bought["id"]))["objection"] == "refused"


async def test_what_is_undecided_keeps_its_reasons(world: World, bought: dict[str, Any]) -> None:
    await hold(world, bought["id"])
    await make(world, bought)
    await world.rows("UPDATE fraud_case_event SET held_at = now() - interval '500 days'")
    await world.rows("UPDATE fraud_objection SET made_at = now() - interval '500 days'")
    await fraud_retention.sweep(world.pool, TERMS)
    assert await _left(world) == {"verdicts": 1, "reasons": 1, "texts": 1}


async def test_counts_messages_and_ended_entries_are_deleted_after_their_time(world: World) -> None:
    for days in (401, 399):
        await world.rows(
            "INSERT INTO fraud_hour VALUES ($1, now() - make_interval(days => $2), 0, 'score', '9', 1, 10)", world.program, days
        )
        await listed(world, "device", f"removed-{days}", removed_days_ago=days)
        await listed(world, "device", f"ended-{days}", until_days_ago=days)
    for days in (91, 89):
        await world.rows(
            """INSERT INTO outbox (number, program, platform, type, bucket, account, data, at)
               VALUES (nextval('number'), $1, 1, 'event.held', 0, 1024, '{}', now() - make_interval(days => $2))""",
            world.program, days,
        )  # fmt: skip
    await listed(world, "device", "there")
    await fraud_retention.sweep(world.pool, fraud_retention.Terms(verdicts=400, attributes=0))
    assert len(await world.rows("SELECT FROM fraud_list")) == 5
    await fraud_retention.sweep(world.pool, TERMS)
    assert len(await world.rows("SELECT FROM fraud_hour")) == 1
    assert len(await world.rows("SELECT FROM outbox")) == 1
    rows = await world.rows("SELECT value FROM fraud_list ORDER BY number")
    assert [row["value"] for row in rows] == ["removed-399", "ended-399", "there"]


async def _age(world: World, *, days: int) -> None:
    """Everything was decided and answered so long ago."""
    ago = timedelta(days=days)
    await world.rows(
        "UPDATE fraud_case_event SET state = 'released', deadline = NULL, at_deadline = NULL, decided_at = now() - $1::interval", ago
    )
    await world.rows("UPDATE fraud_objection SET answered_at = now() - $1::interval", ago)


async def _left(world: World) -> dict[str, Any]:
    (row,) = await world.rows(
        """SELECT (SELECT count(*) FROM verdict) AS verdicts,
                  (SELECT count(*) FROM fraud_case_event WHERE reasons <> '[]') AS reasons,
                  (SELECT count(*) FROM fraud_objection WHERE text IS NOT NULL) AS texts"""
    )
    return row

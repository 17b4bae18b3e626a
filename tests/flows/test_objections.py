"""Objections whatever happens at the same moment; what erasure, retention and links do to what fraud checks leave behind."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from schemas.reviews import DecisionOnObjection, ObjectionAnswer
from service.domain.errors import InvalidState, NotFound
from service.flows import erase as erasing
from service.flows import fraud_retention, links, objections
from service.flows.approvals import approve_event
from service.flows.settle import settle_due
from service.projection import Projection
from tests.adjusting import CHANGE, balances, operator, unharmed
from tests.flows.test_erase import erase, finish
from tests.flows.test_erase import hold as keep
from tests.flows.test_locks import blocked
from tests.reviewing import event_of, hold, listed, reject, states, verdict
from tests.worlds import World, order_paid

TERMS = fraud_retention.Terms(verdicts=400, attributes=400)


@pytest.fixture
async def bought(world: World) -> dict[str, Any]:
    """An order of `c`, worth 10 points."""
    await world.campaign(code="goods")
    await world.credit(paid := order_paid("c"))
    return paid


async def make(world: World, paid: dict[str, Any], text: str = "No.", *, connection: Any = None) -> tuple[ObjectionAnswer, bool]:
    sender = world.platforms["shop"]

    async def on(conn: Any) -> tuple[ObjectionAnswer, bool]:
        return await objections.make(
            conn, program=sender.program, platform=sender.platform, reference=paid["consumer"], id=paid["id"], text=text
        )

    if connection is not None:
        return await on(connection)
    async with world.pool.acquire() as conn:
        return await on(conn)


async def answer(world: World, paid: dict[str, Any], state: Any, *, by: int) -> objections.Outcome:
    event = await event_of(world, paid["id"])
    body = DecisionOnObjection(state=state, answer="We have looked.")
    async with world.pool.acquire() as conn:
        return await objections.answer(conn, event["number"], body, program=world.program, operator=by, change=CHANGE)


async def settle(world: World, projection: Projection) -> None:
    await settle_due(world.pool, projection, stripe=1, buckets=1_024, batch_events=1_000)


# At the same moment


async def test_of_many_who_object_at_once_one_does(world: World, bought: dict[str, Any]) -> None:
    await hold(world, bought["id"])
    made = await asyncio.gather(*(make(world, bought, f"No {n}.") for n in range(6)), return_exceptions=True)
    assert sum(not isinstance(one, BaseException) and not one[1] for one in made) == 1
    assert [type(one) for one in made if isinstance(one, BaseException)] == [InvalidState] * 5
    assert len(await world.rows("SELECT FROM fraud_objection")) == 1


@pytest.mark.parametrize("text", ["First.", "Second."])
async def test_whoever_objects_second_finds_the_first(world: World, bought: dict[str, Any], text: str) -> None:
    await hold(world, bought["id"])
    async with world.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        first, _ = await make(world, bought, "First.", connection=connection)
        task = await blocked(world, make(world, bought, text))
        assert not task.done()
        await transaction.commit()
    if text == "First.":
        assert await task == (first, True)
    else:
        with pytest.raises(InvalidState):
            await task


async def test_whoever_waits_for_the_same_words_gets_the_same_answer(world: World, bought: dict[str, Any]) -> None:
    await hold(world, bought["id"])
    made = await asyncio.gather(*(make(world, bought) for _ in range(6)))
    assert sorted(replayed for _, replayed in made) == [False] + [True] * 5
    assert len({one.made_at for one, _ in made}) == 1


async def test_of_two_answers_at_once_one_is_given(world: World, bought: dict[str, Any]) -> None:
    await hold(world, bought["id"])
    await reject(world, bought, by=await operator(world))
    await make(world, bought)
    by = [await operator(world) for _ in range(4)]
    done = await asyncio.gather(*(answer(world, bought, "upheld", by=one) for one in by), return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in done) == 1, done
    assert all(isinstance(one, objections.Outcome | InvalidState) for one in done)
    assert await balances(world) == {"c": (10, 0)}
    assert len(await world.rows("SELECT FROM adjustment")) == 1
    await unharmed(world)


async def test_what_is_approved_settles_once_and_not_before(world: World, bought: dict[str, Any], projection: Projection) -> None:
    await hold(world, bought["id"])
    await settle(world, projection)
    assert await balances(world) == {"c": (0, 0)}
    await make(world, bought)
    await answer(world, bought, "upheld", by=await operator(world))
    await settle(world, projection)
    await settle(world, projection)
    assert await balances(world) == {"c": (10, 0)}
    await unharmed(world)


async def test_an_approval_waits_for_whoever_has_the_account(world: World, bought: dict[str, Any]) -> None:
    await hold(world, bought["id"])
    event = await event_of(world, bought["id"])
    one = await operator(world)
    async with world.pool.acquire() as holder, world.pool.acquire() as other:
        async with holder.transaction():
            await holder.execute("SELECT FROM account WHERE id = $1 FOR NO KEY UPDATE", event["account"])
            task = await blocked(world, _approve(other, event, one))
            assert not task.done()
            await holder.execute("UPDATE fraud_case_event SET deadline = now() - interval '1 s'")
        with pytest.raises(InvalidState):
            await task
    assert (await states(world, bought["id"]))["event"] == "held"


async def _approve(connection: Any, event: dict[str, Any], by: int) -> bool:
    async with connection.transaction():
        return await approve_event(connection, event["bucket"], event["number"], by)


async def test_what_is_not_held_is_not_approved(world: World, bought: dict[str, Any]) -> None:
    event = await event_of(world, bought["id"])
    one = await operator(world)
    async with world.pool.acquire() as connection:
        assert not await _approve(connection, event, one)
        await hold(world, bought["id"])
        assert await _approve(connection, event, one)
        assert not await _approve(connection, event, one)
    assert len(await world.rows("SELECT FROM fraud_decision")) == 1


async def test_an_erasure_waits_for_whoever_objects(world: World, bought: dict[str, Any]) -> None:
    await hold(world, bought["id"])
    async with world.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await make(world, bought, "Ada says no.", connection=connection)
        task = await blocked(world, erase(world))
        assert not task.done()
        await transaction.commit()
        await task
    await finish(world)
    assert await world.rows("SELECT FROM fraud_objection") == []
    with pytest.raises(NotFound):
        await make(world, bought)


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


# Links


async def test_the_points_of_a_linked_account_come_back_to_the_one_purse(world: World, bought: dict[str, Any]) -> None:
    await world.credit(order_paid("m"), "market")
    await hold(world, bought["id"])
    await reject(world, bought, by=await operator(world))
    await make(world, bought)
    await _link(world)
    await answer(world, bought, "upheld", by=await operator(world))
    found = await balances(world)
    assert found["c"] == (0, 0)
    assert found["m"] == (10, 0)
    event = await event_of(world, bought["id"])
    assert (await world.rows("SELECT account FROM fraud_objection")) == [{"account": event["account"]}]
    await unharmed(world)


async def _link(world: World) -> None:
    """The shop's `c` shows that the market's `m` is the same person."""
    shop, market = world.platforms["shop"], world.platforms["market"]
    async with world.pool.acquire() as conn:
        code = await links.make_code(
            conn, program=market.program, platform=market.platform, code="market", reference="m", change=CHANGE
        )  # fmt: skip
        await links.link(
            conn, program=shop.program, platform=shop.platform, code="shop", reference="c", link_code=code.code, stripe=1, change=CHANGE
        )  # fmt: skip


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


# The schema


async def test_a_campaign_knows_its_events_however_they_got_into_a_case(world: World, bought: dict[str, Any]) -> None:
    await world.campaign(code="more")
    await world.credit(twice := order_paid("d"))
    await world.credit(nothing := order_paid("e") | {"lines": []})
    await hold(world, bought["id"], twice["id"], nothing["id"])
    rows = await world.rows(
        "SELECT c.code, x.event, x.platform FROM fraud_campaign_event x JOIN campaign c ON c.id = x.campaign ORDER BY x.event, c.code"
    )
    numbers = [(await event_of(world, paid["id"]))["number"] for paid in (bought, twice)]
    shop = world.platforms["shop"].platform
    assert [tuple(row.values()) for row in rows] == [
        ("goods", numbers[0], shop), ("goods", numbers[1], shop), ("more", numbers[1], shop),
    ]  # fmt: skip


async def test_an_event_has_one_objection(world: World, bought: dict[str, Any]) -> None:
    await hold(world, bought["id"])
    await make(world, bought)
    with pytest.raises(asyncpg.UniqueViolationError):
        await world.rows("INSERT INTO fraud_objection SELECT * FROM fraud_objection")


async def test_the_audit_of_an_answer_has_no_words(world: World, bought: dict[str, Any]) -> None:
    await hold(world, bought["id"])
    await make(world, bought, "Ada says no.")
    await answer(world, bought, "refused", by=await operator(world))
    (row,) = await world.rows("SELECT action, after::text AS after FROM audit WHERE action LIKE 'objection.%'")
    assert row["action"] == "objection.answer"
    assert json.loads(row["after"])["state"] == "refused"
    assert "Ada" not in row["after"]
    assert "looked" not in row["after"]

"""Objections whatever happens at the same moment; what erasure, retention and links do to what fraud checks leave behind."""

import asyncio
import json
from typing import Any

import asyncpg
import pytest

from schemas.reviews import DecisionOnObjection, ObjectionAnswer
from service.domain.errors import InvalidState, NotFound
from service.flows import fraud_retention, links, objections
from service.flows.approvals import approve_event
from service.flows.settle import settle_due
from service.projection import Projection
from tests import fraud_cases
from tests.adjusting import CHANGE, balances, operator, unharmed
from tests.flows.test_erase import erase, finish
from tests.flows.test_locks import blocked
from tests.reviewing import event_of, hold, reject, states
from tests.worlds import World, order_paid, refund

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


# As cases are really decided


async def test_what_a_case_rejected_is_given_back_less_what_was_refunded(world: World, projection: Projection) -> None:
    await world.campaign(code="goods")
    await world.credit(paid := order_paid("c", quantity=3))
    case = await hold(world, paid["id"])
    await world.credit(refund(paid, "r", 1))
    rejecter, other = await operator(world), await operator(world)
    await fraud_cases.decide(world, case, "reject", by=rejecter)
    assert await fraud_cases.carry_out(world, case, projection) == 1
    await make(world, paid)
    with pytest.raises(InvalidState):
        await answer(world, paid, "upheld", by=rejecter)
    await answer(world, paid, "upheld", by=other)
    assert await balances(world) == {"c": (20, 0)}
    assert await fraud_cases.labels(world) == [False]
    await fraud_cases.sound(world)


async def test_what_an_objection_let_go_is_decided_for_its_case_too(world: World, projection: Projection) -> None:
    await world.campaign(code="goods")
    paid = [order_paid("c"), order_paid("d")]
    for one in paid:
        await world.credit(one)
    case = await hold(world, *(one["id"] for one in paid))
    await make(world, paid[0])
    by = await operator(world)
    await answer(world, paid[0], "upheld", by=by)
    await fraud_cases.past_deadline(world)
    await fraud_cases.sweep(world, projection)
    assert await fraud_cases.states(world, case) == {paid[0]["id"]: "approved", paid[1]["id"]: "released"}
    assert await fraud_cases.status(world, case) == "closed"
    await settle(world, projection)
    assert await balances(world) == {"c": (10, 0), "d": (10, 0)}
    await fraud_cases.sound(world)


async def test_what_a_decision_is_about_is_not_let_go_beside_it(world: World, projection: Projection) -> None:
    await world.campaign(code="goods")
    await world.credit(paid := order_paid("c"))
    case = await hold(world, paid["id"])
    await make(world, paid)
    await fraud_cases.decide(world, case, "reject", by=await operator(world))
    with pytest.raises(InvalidState, match="carried out"):
        await answer(world, paid, "upheld", by=await operator(world))
    assert await fraud_cases.carry_out(world, case, projection) == 1
    await answer(world, paid, "upheld", by=await operator(world))
    assert await balances(world) == {"c": (10, 0)}
    await fraud_cases.sound(world)


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

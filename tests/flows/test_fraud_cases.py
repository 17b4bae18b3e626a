"""Decisions about fraud cases: what one operator decides alone, what takes two, what becomes of the points, whatever happens meanwhile."""

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from schemas.fraud import FraudDecisionBody
from service.domain.errors import InvalidRequest, InvalidState, NotFound
from service.domain.keys import platform_key
from service.flows import fraud_cases as flow
from service.flows import fraud_reject
from service.flows.events import find_event
from service.flows.receive import receive
from service.flows.settle import settle_due
from service.projection import Projection
from service.store import fraud_decisions as store
from tests.adjusting import operator, propose, set_policy
from tests.deliveries import refill
from tests.flows.test_locks import Slow, blocked
from tests.fraud_cases import (
    CHANGE,
    audited,
    carry_out,
    decide,
    hold,
    labels,
    number_of,
    past_deadline,
    sound,
    states,
    status,
    sweep,
    told,
)
from tests.worlds import World, cancelled, order_paid, refund


@pytest.fixture
async def shop(world: World) -> World:
    """Goods earn 10 points each, refills 7, packaging 5, returns 3; all settle at once unless somebody holds them."""
    await world.campaign(code="goods")
    await world.campaign(code="refills", action="activity", award={"kind": "fixed", "points": 7})
    await world.campaign(code="packed", action="packaging", award={"kind": "fixed", "points": 5})
    await world.campaign(code="back", action="return", award={"kind": "fixed", "points": 3})
    await world.rows("UPDATE program SET return_window_days = NULL")
    return world


async def settle(world: World, projection: Projection) -> None:
    await settle_due(world.pool, projection, stripe=1, buckets=1024, batch_events=1_000)


async def balances(world: World) -> dict[str, tuple[int, int, int]]:
    """Pending, available and debt, by consumer."""
    rows = await world.rows(
        "SELECT r.reference, a.pending, a.available, a.debt FROM consumer_reference r JOIN account a ON a.id = r.account ORDER BY 1"
    )
    return {row["reference"]: (row["pending"], row["available"], row["debt"]) for row in rows}


async def event_status(world: World, id_: str) -> str:
    async with world.pool.acquire() as conn:
        found = await find_event(conn, platform=world.platforms["shop"].platform, program=world.program, id=id_)
    assert found is not None
    return found.status


async def limit(world: World, points: int) -> None:
    """What one operator decides alone."""
    await world.rows(
        "INSERT INTO fraud_policy (program, alone_points) VALUES ($1, $2) ON CONFLICT (program) DO UPDATE SET alone_points = $2",
        world.program, points,
    )  # fmt: skip


async def ring(world: World, **more: Any) -> tuple[int, str, str]:
    """A case with an order of `ann` (20 points) and a refill of `bob` (7)."""
    paid, done = order_paid("ann", quantity=2), refill("refill-1", "bob")
    await world.send(paid, done)
    return await hold(world, paid["id"], done["id"], **more), paid["id"], done["id"]


# Approve ---------------------------------------------------------------------------------------------------


async def test_what_is_held_settles_once_it_is_approved_and_not_before(shop: World, projection: Projection) -> None:
    case, paid, done = await ring(shop)
    await settle(shop, projection)
    assert await balances(shop) == {"ann": (20, 0, 0), "bob": (7, 0, 0)}
    assert await event_status(shop, paid) == "held"
    decided = await decide(shop, case, "approve", by=await operator(shop))
    assert (decided.waits, decided.done) == (False, True)
    assert await carry_out(shop, case, projection) == 2
    assert await event_status(shop, paid) == "pending"
    await settle(shop, projection)
    assert await balances(shop) == {"ann": (0, 20, 0), "bob": (0, 7, 0)}
    assert await states(shop, case) == {paid: "approved", done: "approved"}
    assert await status(shop, case) == "closed"
    assert await labels(shop) == [False, False]
    assert await told(shop) == []
    assert await audited(shop) == [("approve", "operator:1")]
    await sound(shop)


async def test_some_of_a_case_is_decided_by_name(shop: World, projection: Projection) -> None:
    case, paid, done = await ring(shop)
    one = await operator(shop)
    await decide(shop, case, "approve", by=one, events=[await number_of(shop, done)])
    await carry_out(shop, case, projection)
    assert await states(shop, case) == {paid: "held", done: "approved"}
    assert await status(shop, case) == "open"
    with pytest.raises(InvalidState, match="has been decided already"):
        await decide(shop, case, "reject", by=one, events=[await number_of(shop, done), await number_of(shop, paid)])
    await decide(shop, case, "reject", by=one)
    await carry_out(shop, case, projection)
    assert await states(shop, case) == {paid: "rejected", done: "approved"}
    assert await status(shop, case) == "closed"
    await sound(shop)


# Reject ----------------------------------------------------------------------------------------------------


async def test_what_is_rejected_is_taken_back_and_marked(shop: World, projection: Projection) -> None:
    case, paid, done = await ring(shop)
    await decide(shop, case, "reject", by=await operator(shop), note="a farm")
    assert await carry_out(shop, case, projection) == 2
    await settle(shop, projection)
    assert await balances(shop) == {"ann": (0, 0, 0), "bob": (0, 0, 0)}
    assert [await event_status(shop, id_) for id_ in (paid, done)] == ["rejected", "rejected"]
    assert await states(shop, case) == {paid: "rejected", done: "rejected"}
    assert await labels(shop) == [True, True]
    unknown = "An automatic check found something unusual."
    messages = await told(shop)
    assert sorted((m["event"], m["points"]) for m in messages) == sorted([(paid, 20), (done, 7)])
    assert all(len(m["reasons"]) == 2 and "9 events" not in str(m["reasons"]) and m["reasons"][1] == unknown for m in messages)
    (row,) = await shop.rows(
        "SELECT balance.version FROM account balance JOIN consumer_reference r ON r.account = balance.id WHERE r.reference = 'ann'"
    )
    account = (await shop.rows("SELECT account FROM consumer_reference WHERE reference = 'ann'"))[0]["account"]
    pushed = await projection.read(account)
    assert pushed is not None
    assert pushed.version == row["version"], "the new balance is in Redis"
    await sound(shop)


async def test_what_had_settled_and_was_spent_becomes_debt(shop: World, projection: Projection) -> None:
    paid = order_paid("ann", quantity=2)
    await shop.credit(paid)
    await settle(shop, projection)
    case = await hold(shop, paid["id"], settled=True)
    await set_policy(shop, negative_balance="debt")
    await shop.rows("UPDATE deployment SET catalogue_version = catalogue_version + 1")
    one = await operator(shop)
    await propose(shop, -15, by=one, consumer="ann")
    await decide(shop, case, "reject", by=one)
    await carry_out(shop, case, projection)
    assert await balances(shop) == {"ann": (0, 0, 15)}
    assert await event_status(shop, paid["id"]) == "rejected"
    await sound(shop)


async def test_a_shipment_is_declared_wrong_and_a_return_too(shop: World, projection: Projection) -> None:
    paid = order_paid("ann", quantity=1)
    sent = {
        "id": "sent", "type": "order.fulfilled", "occurred_at": paid["occurred_at"], "order": {"id": paid["order"]["id"]},
        "packaging": {"class": "reused_carton", "parcels": 1},
    }  # fmt: skip
    back = {
        "id": "back", "type": "packaging.returned", "occurred_at": paid["occurred_at"], "consumer": "ann",
        "returns": [{"class": "reused_carton", "quantity": 1}],
    }  # fmt: skip
    for event in (paid, sent, back):
        await shop.credit(event)
    (before,) = (await balances(shop)).values()
    assert before == (18, 0, 0)
    case = await hold(shop, paid["id"], "sent", "back")
    await decide(shop, case, "reject", by=await operator(shop))
    await carry_out(shop, case, projection)
    assert await states(shop, case) == {paid["id"]: "rejected", "sent": "rejected", "back": "rejected"}
    assert await balances(shop) == {"ann": (0, 0, 0)}
    await sound(shop)


async def test_what_cannot_be_taken_back_is_not_rejected(shop: World) -> None:
    case, paid, _ = await ring(shop)
    await shop.rows("UPDATE event SET type = 'packaging.reassigned' WHERE id = $1", paid)
    with pytest.raises(InvalidState, match="cannot be taken back by itself"):
        await decide(shop, case, "reject", by=await operator(shop))
    assert set((await states(shop, case)).values()) == {"held"}


# Refunds meanwhile -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("decision", ["approve", "reject"])
async def test_what_was_cancelled_meanwhile_is_voided(shop: World, projection: Projection, decision: str) -> None:
    paid = order_paid("ann", quantity=2)
    await shop.credit(paid)
    case = await hold(shop, paid["id"])
    await shop.credit(cancelled(paid))
    await decide(shop, case, decision, by=await operator(shop))
    await carry_out(shop, case, projection)
    assert await states(shop, case) == {paid["id"]: "voided"}
    assert await event_status(shop, paid["id"]) == "voided"
    assert await labels(shop) == [decision == "reject"], "what operators say of it is still worth learning from"
    assert await told(shop) == []
    await settle(shop, projection)
    assert await shop.rows("SELECT FROM due") == []
    await sound(shop)


async def test_what_is_left_after_a_refund_is_rejected(shop: World, projection: Projection) -> None:
    paid = order_paid("ann", quantity=2)
    await shop.credit(paid)
    case = await hold(shop, paid["id"])
    await shop.credit(refund(paid, "r", 1))
    await decide(shop, case, "reject", by=await operator(shop))
    await carry_out(shop, case, projection)
    assert await states(shop, case) == {paid["id"]: "rejected"}
    assert await balances(shop) == {"ann": (0, 0, 0)}
    late = await shop.credit(refund(paid, "late", 1))
    assert (late["status"], late["points"]) == ("ignored", 0)
    await sound(shop)


async def test_what_refunds_left_nothing_of_needs_no_decision(shop: World, projection: Projection) -> None:
    case, paid, done = await ring(shop)
    order = {"order": {"id": paid.removesuffix(":paid")}}
    assert await sweep(shop, projection, empty=True) == 0
    await shop.credit(cancelled(order))
    assert await sweep(shop, projection, empty=True) == 1
    assert await states(shop, case) == {paid: "voided", done: "held"}
    assert await status(shop, case) == "open"
    assert await labels(shop) == []


# Two operators ---------------------------------------------------------------------------------------------


async def test_above_the_limit_another_operator_confirms(shop: World, projection: Projection) -> None:
    await limit(shop, 26)
    case, paid, done = await ring(shop)
    one, two = await operator(shop), await operator(shop)
    proposed = await decide(shop, case, "reject", by=one)
    assert (proposed.waits, proposed.done) == (True, False)
    assert await status(shop, case) == "proposed"
    assert await carry_out(shop, case, projection) == 0
    with pytest.raises(InvalidState, match="another operator has to confirm it"):
        await decide(shop, case, "reject", by=one)
    with pytest.raises(InvalidState, match="confirm or refuse that one first"):
        await decide(shop, case, "reject", by=two, events=[await number_of(shop, paid)])
    assert (await decide(shop, case, "reject", by=two)).done
    assert await carry_out(shop, case, projection) == 2
    assert await states(shop, case) == {paid: "rejected", done: "rejected"}
    for who in (one, two):
        assert (await decide(shop, case, "reject", by=who)).done, "a repeat is no error"
    assert await audited(shop) == [("propose_reject", "operator:1"), ("reject", "operator:1")]
    await sound(shop)


@pytest.mark.parametrize(("decision", "other"), [("approve", "reject"), ("reject", "approve")])
async def test_up_to_the_limit_one_decides_alone_and_says_it_twice(shop: World, projection: Projection, decision: str, other: str) -> None:
    await limit(shop, 27)
    case, *_ = await ring(shop)
    one = await operator(shop)
    assert not (await decide(shop, case, decision, by=one)).waits
    assert not (await decide(shop, case, decision, by=one)).waits
    with pytest.raises(InvalidState, match="has been decided already"):
        await decide(shop, case, other, by=one)
    await carry_out(shop, case, projection)
    await decide(shop, case, decision, by=one)
    assert await carry_out(shop, case, projection) == 0
    assert len(await told(shop)) == (2 if decision == "reject" else 0)
    assert await audited(shop) == [(decision, "operator:1")]


async def test_piece_by_piece_one_decides_no_more_alone(shop: World, projection: Projection) -> None:
    await limit(shop, 26)
    case, paid, done = await ring(shop)
    one, two = await operator(shop), await operator(shop)
    assert not (await decide(shop, case, "reject", by=one, events=[await number_of(shop, paid)])).waits
    await carry_out(shop, case, projection)
    assert (await decide(shop, case, "reject", by=one)).waits
    assert not (await decide(shop, case, "reject", by=two)).waits
    await carry_out(shop, case, projection)
    assert await states(shop, case) == {paid: "rejected", done: "rejected"}


async def test_another_operator_refuses_and_the_first_withdraws(shop: World, projection: Projection) -> None:
    await limit(shop, 0)
    case, *_ = await ring(shop)
    one, two = await operator(shop), await operator(shop)
    await decide(shop, case, "reject", by=one)
    refused = await decide(shop, case, "approve", by=two)
    assert (refused.waits, refused.done) == (False, False)
    assert await status(shop, case) == "open"
    await decide(shop, case, "approve", by=two)
    with pytest.raises(InvalidState, match="Another operator proposed this"):
        await withdraw(shop, case, by=one)
    await withdraw(shop, case, by=two)
    with pytest.raises(InvalidState, match="No decision"):
        await withdraw(shop, case, by=two)
    made = await shop.rows("SELECT decision, status FROM fraud_decision ORDER BY number")
    assert made == [{"decision": "reject", "status": "refused"}, {"decision": "approve", "status": "withdrawn"}]
    assert await carry_out(shop, case, projection) == 0
    assert set((await states(shop, case)).values()) == {"held"}


async def withdraw(world: World, case: int, *, by: int) -> None:
    async with world.pool.acquire() as conn:
        await flow.withdraw(conn, case, note=None, program=world.program, operator=by, change=CHANGE)


async def test_not_even_the_database_lets_one_operator_do_it(shop: World) -> None:
    await limit(shop, 0)
    case, *_ = await ring(shop)
    one = await operator(shop)
    await decide(shop, case, "reject", by=one)
    with pytest.raises(asyncpg.CheckViolationError, match="fraud_decision_four_eyes"):
        await shop.rows("UPDATE fraud_decision SET status = 'done', decided_by = $1, decided_at = now()", one)
    with pytest.raises(asyncpg.UniqueViolationError, match="fraud_decision_pending"):
        await shop.rows(
            "INSERT INTO fraud_decision (number, program, fraud_case, decision, events, points, alone, status, proposed_by, proposed_at) "
            "SELECT number + 1, program, fraud_case, decision, events, points, alone, status, proposed_by, proposed_at FROM fraud_decision"
        )


async def test_what_joins_the_case_later_is_not_part_of_the_proposal(shop: World, projection: Projection) -> None:
    await limit(shop, 0)
    case, paid, done = await ring(shop)
    one, two = await operator(shop), await operator(shop)
    await decide(shop, case, "reject", by=one)
    await shop.credit(more := refill("refill-2", "eve"))
    await hold(shop, more["id"], case=case)
    await decide(shop, case, "reject", by=two)
    await carry_out(shop, case, projection)
    assert await states(shop, case) == {paid: "rejected", done: "rejected", more["id"]: "held"}
    assert await status(shop, case) == "open"


# Whose, and which ------------------------------------------------------------------------------------------


async def test_other_cases_and_other_programs_are_not_touched(shop: World) -> None:
    case, paid, _ = await ring(shop)
    await shop.credit(more := refill("refill-2", "eve"))
    await hold(shop, more["id"])
    one = await operator(shop)
    with pytest.raises(InvalidRequest) as refused:
        await decide(shop, case, "reject", by=one, events=[await number_of(shop, paid), await number_of(shop, more["id"])])
    assert [e.pointer for e in refused.value.errors] == ["/events/1"]
    async with shop.pool.acquire() as conn:
        with pytest.raises(NotFound):
            await flow.decide(conn, case, FraudDecisionBody(decision="reject"), program=shop.program + 1, operator=one, change=CHANGE)
        with pytest.raises(NotFound):
            await flow.read(conn, case, program=shop.program + 1, names=True)
    assert await shop.rows("SELECT FROM fraud_decision") == []


# Deadlines -------------------------------------------------------------------------------------------------


async def test_what_nobody_decides_is_released_at_its_deadline_and_not_before(shop: World, projection: Projection) -> None:
    case, paid, done = await ring(shop)
    assert await sweep(shop, projection) == 0
    await past_deadline(shop)
    assert await event_status(shop, paid) == "held", "it does not settle by itself"
    await settle(shop, projection)
    assert await balances(shop) == {"ann": (20, 0, 0), "bob": (7, 0, 0)}
    assert await sweep(shop, projection) == 2
    await settle(shop, projection)
    assert await balances(shop) == {"ann": (0, 20, 0), "bob": (0, 7, 0)}
    assert await states(shop, case) == {paid: "released", done: "released"}
    assert await labels(shop) == []
    assert await audited(shop) == [("released", "worker")]
    assert await status(shop, case) == "closed"
    with pytest.raises(InvalidState):
        await decide(shop, case, "reject", by=await operator(shop))


async def test_or_rejected_where_its_policy_says_so(shop: World, projection: Projection) -> None:
    case, paid, done = await ring(shop, at_deadline="reject", deadline=timedelta(seconds=-1))
    assert await sweep(shop, projection) == 2
    assert await sweep(shop, projection) == 0
    assert await states(shop, case) == {paid: "rejected", done: "rejected"}
    assert await balances(shop) == {"ann": (0, 0, 0), "bob": (0, 0, 0)}
    assert await labels(shop) == [], "nobody looked at it"
    assert await audited(shop) == [("rejected", "worker")]
    assert len(await told(shop)) == 2
    await sound(shop)


async def test_what_cannot_be_taken_back_is_released_instead(shop: World, projection: Projection) -> None:
    case, paid, done = await ring(shop, at_deadline="reject", deadline=timedelta(seconds=-1))
    await shop.rows("UPDATE event SET type = 'packaging.reassigned' WHERE id = $1", paid)
    assert await sweep(shop, projection) == 2
    assert await states(shop, case) == {paid: "released", done: "rejected"}


async def test_a_proposal_of_which_nothing_is_left_lapses(shop: World, projection: Projection) -> None:
    await limit(shop, 0)
    case, paid, done = await ring(shop)
    one, two = await operator(shop), await operator(shop)
    await decide(shop, case, "reject", by=one, events=[await number_of(shop, paid)])
    await shop.rows("UPDATE fraud_case_event SET deadline = now() - interval '1 s' WHERE event = $1", int(await number_of(shop, paid)))
    await sweep(shop, projection)
    assert await states(shop, case) == {paid: "released", done: "held"}
    assert [row["status"] for row in await shop.rows("SELECT status FROM fraud_decision")] == ["lapsed"]
    assert await status(shop, case) == "open"
    await decide(shop, case, "reject", by=two)
    assert await status(shop, case) == "proposed"


# At the same moment ----------------------------------------------------------------------------------------


async def test_of_two_decisions_at_once_one_counts(shop: World, projection: Projection) -> None:
    case, paid, done = await ring(shop)
    one, two = await operator(shop), await operator(shop)
    async with shop.pool.acquire() as conn, conn.transaction():
        await decide(shop, case, "approve", by=one, connection=conn)
        second = await blocked(shop, decide(shop, case, "reject", by=two))
        assert not second.done(), "it did not wait"
    with pytest.raises(InvalidState, match="has been decided already"):
        await second
    await carry_out(shop, case, projection)
    assert await states(shop, case) == {paid: "approved", done: "approved"}


async def test_many_carry_the_same_decision_out(shop: World, projection: Projection) -> None:
    orders = [order_paid(f"c-{n % 3}", quantity=1) for n in range(12)]
    await shop.send(*orders)
    case = await hold(shop, *(order["id"] for order in orders))
    await decide(shop, case, "reject", by=await operator(shop))
    ended = await asyncio.gather(*(carry_out(shop, case, projection) for _ in range(4)))
    assert sum(ended) == 12
    assert len(await told(shop)) == 12
    assert set((await balances(shop)).values()) == {(0, 0, 0)}
    assert await status(shop, case) == "closed"
    await sound(shop)


async def test_a_decision_and_a_deadline_at_once(shop: World, projection: Projection) -> None:
    """The sweep looks while an operator is just rejecting: the operator's word counts."""
    case, paid, done = await ring(shop)
    await past_deadline(shop)
    one = await operator(shop)
    async with shop.pool.acquire() as conn, conn.transaction():
        await decide(shop, case, "reject", by=one, connection=conn)
        sweeping = await blocked(shop, sweep(shop, projection))
        assert not sweeping.done(), "it did not wait"
    await sweeping
    await sweep(shop, projection)
    assert await states(shop, case) == {paid: "rejected", done: "rejected"}
    assert await labels(shop) == [True, True]
    await sound(shop)


async def test_a_refund_and_a_rejection_at_once(shop: World, projection: Projection) -> None:
    """The rejection waits for the refund's lock of the account, and takes back what that has left."""
    paid = order_paid("ann", quantity=2)
    await shop.credit(paid)
    case = await hold(shop, paid["id"])
    await decide(shop, case, "reject", by=await operator(shop))
    async with Slow(shop).credits(refund(paid, "r", 2)):
        rejecting = await blocked(shop, carry_out(shop, case, projection))
        assert not rejecting.done(), "it did not wait"
    await rejecting
    assert await states(shop, case) == {paid["id"]: "voided"}
    assert await balances(shop) == {"ann": (0, 0, 0)}
    await sound(shop)


async def test_it_is_concluded_by_what_is_there_under_the_lock(shop: World, projection: Projection) -> None:
    """An approval waits for a refund that takes everything: what is left is read after the lock."""
    paid = order_paid("ann", quantity=2)
    await shop.credit(paid)
    case = await hold(shop, paid["id"])
    await decide(shop, case, "approve", by=await operator(shop))
    async with Slow(shop).credits(refund(paid, "r", 2)):
        approving = await blocked(shop, carry_out(shop, case, projection))
        assert not approving.done(), "it did not wait"
    await approving
    assert await states(shop, case) == {paid["id"]: "voided"}


async def test_settling_and_a_rejection_at_once(shop: World, projection: Projection) -> None:
    """Whatever comes first, nothing is left: rings of events that settle while they are rejected."""
    orders = [order_paid(f"c-{n}", quantity=1) for n in range(10)]
    await shop.send(*orders)
    case = await hold(shop, *(order["id"] for order in orders), settled=True)
    await decide(shop, case, "reject", by=await operator(shop))
    await asyncio.gather(settle(shop, projection), carry_out(shop, case, projection), settle(shop, projection))
    await sweep(shop, projection)
    assert set((await states(shop, case)).values()) == {"rejected"}
    assert set((await balances(shop)).values()) == {(0, 0, 0)}
    await sound(shop)


# In the middle ---------------------------------------------------------------------------------------------


async def test_what_was_decided_is_finished_by_the_sweep(shop: World, projection: Projection) -> None:
    """A process ended after the points were taken back: the same fact is not counted again."""
    case, paid, done = await ring(shop)
    await decide(shop, case, "reject", by=await operator(shop))
    async with shop.pool.acquire() as conn:
        for row in await store.ready(conn, case, limit=10):
            for again in (False, True):
                (outcome,) = (await receive(conn, [fraud_reject._reversal(row)], shop.knowledge)).outcomes
                assert (outcome.error, outcome.replayed) == (None, again)
    assert (await balances(shop))["bob"] == (0, 0, 0)
    assert await sweep(shop, projection) == 2
    assert await states(shop, case) == {paid: "rejected", done: "rejected"}
    assert len(await shop.rows("SELECT FROM event WHERE type = 'event.error_declared'")) == 1
    await sound(shop)


async def test_nobody_can_guess_what_takes_it_back(shop: World) -> None:
    case, *_ = await ring(shop)
    await decide(shop, case, "reject", by=await operator(shop))
    ids = [row["reversal"] for row in await shop.rows("SELECT reversal FROM fraud_case_event")]
    assert len(set(ids)) == 2
    assert all(len(id_) == len("review:") + 36 for id_ in ids)
    assert await shop.rows("SELECT FROM registry WHERE key = ANY($1)", [platform_key(1, id_) for id_ in ids]) == []

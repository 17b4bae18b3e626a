"""Adjustments: what one operator does alone, what takes two, whatever they do at the same moment."""

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from service.domain.errors import IdempotencyKeyInUse, IdempotencyKeyReused, InsufficientPoints, InvalidRequest, InvalidState, NotFound
from service.flows import adjustments as flow
from service.flows import erase as erasing
from service.store import adjustments, check_adjustments, repeats
from tests.adjusting import CHANGE, balances, decide, give, in_days, lots, operator, propose, set_policy, unharmed
from tests.flows.test_erase import erase, finish
from tests.flows.test_locks import blocked
from tests.worlds import World


@pytest.fixture
async def known(world: World) -> World:
    """Somebody with 100 points."""
    await give(world, 100)
    return world


async def audited(world: World) -> list[str]:
    return [row["action"] for row in await world.rows("SELECT action FROM audit WHERE action LIKE 'adjustment.%' ORDER BY id")]


async def statuses(world: World) -> list[tuple[Any, ...]]:
    rows = await world.rows("SELECT status, alone, transfer IS NOT NULL AS transfer FROM adjustment ORDER BY number")
    return [tuple(row.values()) for row in rows]


# Alone -----------------------------------------------------------------------------------------------------


async def test_up_to_the_limit_it_is_done_at_once(known: World) -> None:
    made = await propose(known, 1_000, by=await operator(known), note="called twice")
    assert (made.status, made.answer.status, made.replayed) == (201, "done", False)
    assert made.answer.balance is not None
    assert (made.answer.balance.available, made.answer.balance.version) == (1_100, 2)
    assert [balance for _, balance in made.balances] == [made.answer.balance]
    assert await statuses(known) == [("done", True, True)]
    assert await audited(known) == ["adjustment.make"]
    (row,) = await known.rows("SELECT kind, points, reason, version FROM transfer")
    assert row == {"kind": 9, "points": 1_000, "reason": "said sorry", "version": 2}
    await unharmed(known)


async def test_points_that_are_taken_come_from_what_expires_first(known: World) -> None:
    soon = in_days(30)
    await give(known, 20, last_day=soon)
    made = await propose(known, -30, by=await operator(known))
    assert made.answer.balance is not None
    assert made.answer.balance.available == 90
    assert await lots(known, "c") == [(90, None)]
    await unharmed(known)


@pytest.mark.parametrize(
    ("policy", "said", "last_day"),
    [
        ({}, {}, None),
        ({"expiry": {"kind": "rolling", "after": "P10D"}}, {}, 10),
        ({"expiry": {"kind": "rolling", "after": "P10D"}}, {"expires_on": None}, None),
        ({"expiry": {"kind": "rolling", "after": "P10D"}}, {"expires_on": 3}, 3),
        ({}, {"expires_on": 0}, 0),
    ],
)
async def test_given_points_live_as_long_as_was_said_or_as_the_program_says(
    known: World, policy: dict[str, Any], said: dict[str, Any], last_day: int | None
) -> None:
    await set_policy(known, **policy)
    today = (await known.rows("SELECT (now() AT TIME ZONE 'Asia/Shanghai')::date AS today"))[0]["today"]
    if said.get("expires_on") is not None:
        said = {"expires_on": (today + timedelta(days=said["expires_on"])).isoformat()}
    await propose(known, 5, by=await operator(known), **said)
    (row,) = await known.rows("SELECT expires_on, origin, campaign, amount, idle_months FROM lot WHERE origin = 9")
    expected = None if last_day is None else today + timedelta(days=last_day)
    assert row == {"expires_on": expected, "origin": 9, "campaign": 0, "amount": 5, "idle_months": None}
    await unharmed(known)


async def test_under_a_policy_of_activity_given_points_live_while_their_consumer_is_active(known: World) -> None:
    await set_policy(known, expiry={"kind": "activity", "months": 6})
    one = await operator(known)
    await propose(known, 5, by=one)
    await propose(known, 6, by=one, expires_on=None)
    rows = await known.rows("SELECT amount, idle_months, expires_on IS NULL AS forever FROM lot WHERE origin = 9 ORDER BY amount")
    assert rows == [{"amount": 5, "idle_months": 6, "forever": False}, {"amount": 6, "idle_months": None, "forever": True}]


@pytest.mark.parametrize(("negative", "said"), [("debt", "refuse"), ("cap_at_zero", "allow"), ("refuse", "allow")])
async def test_more_than_there_is_is_refused_unless_it_may_be_owed(known: World, negative: str, said: str) -> None:
    await set_policy(known, negative_balance=negative)
    with pytest.raises(InsufficientPoints, match="100 can be"):
        await propose(known, -101, by=await operator(known), debt=said)
    assert await statuses(known) == []
    assert await audited(known) == []
    assert await balances(known) == {"c": (100, 0)}


async def test_what_is_missing_is_owed_and_repaid_by_the_next_points(known: World) -> None:
    one = await operator(known)
    made = await propose(known, -130, by=one, debt="allow")
    assert made.answer.balance is not None
    assert (made.answer.balance.available, made.answer.balance.debt) == (0, 30)
    await unharmed(known)
    await propose(known, 50, by=one)
    assert await balances(known) == {"c": (20, 0)}
    await unharmed(known)


async def test_points_that_have_expired_are_not_taken(known: World) -> None:
    await known.rows("UPDATE lot SET expires_on = '2020-01-01'")
    with pytest.raises(InsufficientPoints, match="0 can be"):
        await propose(known, -1, by=await operator(known))


@pytest.mark.parametrize(
    ("points", "more", "pointer"),
    [
        (0, {}, "/points"),
        (-5, {"expires_on": None}, "/expires_on"),
        (5, {"expires_on": "2020-01-01"}, "/expires_on"),
        (5, {"debt": "allow"}, "/debt"),
        (5, {"platform": "no-platform"}, "/platform"),
        (5, {"consumer": "nobody"}, "/consumer"),
        (5, {"platform": "market"}, "/consumer"),
    ],
)
async def test_what_is_wrong_is_said_and_changes_nothing(known: World, points: int, more: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await propose(known, points, by=await operator(known), **more)
    assert [error.pointer for error in refused.value.errors] == [pointer]
    assert await statuses(known) == []
    assert await known.rows("SELECT key FROM idempotent_request") == []


async def test_nobody_has_more_than_anybody_may(known: World) -> None:
    await set_policy(known, adjustment_alone=10**15)
    with pytest.raises(InvalidState, match="more than"):
        await propose(known, 10**15, by=await operator(known))
    await propose(known, -(10**15), by=await operator(known), debt="allow")
    with pytest.raises(InvalidState, match="debt of more than"):
        await propose(known, -101, by=await operator(known), debt="allow")
    await unharmed(known)


# Once ------------------------------------------------------------------------------------------------------


async def test_a_repeat_is_answered_as_at_first_and_does_nothing(known: World) -> None:
    one = await operator(known)
    first = await propose(known, 10, by=one, key="k", note="for the file")
    await propose(known, 5, by=one)
    again = await propose(known, 10, by=one, key="k", note="for the file")
    assert (again.status, again.replayed, again.balances) == (201, True, [])
    assert again.answer == first.answer
    assert await balances(known) == {"c": (115, 0)}
    with pytest.raises(IdempotencyKeyReused):
        await propose(known, 11, by=one, key="k")
    assert (await propose(known, 10, by=await operator(known), key="k")).replayed is False, "another operator's key is another key"
    assert await balances(known) == {"c": (125, 0)}


async def test_a_refused_request_leaves_its_key_free(known: World) -> None:
    one = await operator(known)
    with pytest.raises(InsufficientPoints):
        await propose(known, -101, by=one, key="k")
    await give(known, 1)
    assert (await propose(known, -101, by=one, key="k")).answer.status == "done"


async def test_a_repeat_while_the_first_is_running_is_sent_back(known: World) -> None:
    one = await operator(known)
    async with known.pool.acquire() as connection, connection.transaction():
        await propose(known, 10, by=one, key="k", connection=connection)
        second = await blocked(known, propose(known, 10, by=one, key="k"))
        assert second.done(), "it does not wait"
        with pytest.raises(IdempotencyKeyInUse):
            await second
    assert (await propose(known, 10, by=one, key="k")).replayed
    assert await balances(known) == {"c": (110, 0)}


async def test_two_at_once_leave_one_after_the_other(known: World) -> None:
    one = await operator(known)
    async with known.pool.acquire() as connection, connection.transaction():
        await propose(known, -70, by=one, connection=connection)
        second = await blocked(known, propose(known, -70, by=one))
    with pytest.raises(InsufficientPoints, match="30 can be"):
        await second
    assert await balances(known) == {"c": (30, 0)}
    await unharmed(known)


async def test_a_storm_of_adjustments_leaves_sound_books(known: World) -> None:
    one = await operator(known)
    results = await asyncio.gather(*(propose(known, -7, by=one) for _ in range(20)), return_exceptions=True)
    assert [type(result) for result in results].count(flow.Outcome) == 14
    assert {type(result) for result in results} == {flow.Outcome, InsufficientPoints}
    assert await balances(known) == {"c": (2, 0)}
    await unharmed(known)


# Four eyes -------------------------------------------------------------------------------------------------


async def test_above_the_limit_nothing_happens_until_another_operator_approves(known: World) -> None:
    one, two = await operator(known), await operator(known)
    made = await propose(known, 1_001, by=one)
    assert (made.status, made.answer.status, made.answer.balance, made.balances) == (201, "pending", None, [])
    assert made.answer.open_until == made.answer.proposed_at + timedelta(days=7)
    assert await balances(known) == {"c": (100, 0)}
    with pytest.raises(InvalidState, match="by another operator"):
        await decide(known, made, "approve", by=one)
    with pytest.raises(InvalidState, match="by another operator"):
        await decide(known, made, "reject", by=one)
    with pytest.raises(InvalidState, match="reject it instead"):
        await decide(known, made, "withdraw", by=two)
    done = await decide(known, made, "approve", by=two, note="checked the call")
    assert (done.answer.status, done.answer.decided_by, done.answer.decision_note) == ("done", f"operator:{two}", "checked the call")
    assert done.answer.balance is not None
    assert done.answer.balance.available == 1_101
    again = await decide(known, made, "approve", by=two)
    assert (again.answer.status, again.answer.balance, again.balances) == ("done", None, [])
    with pytest.raises(InvalidState, match="is done"):
        await decide(known, made, "approve", by=await operator(known))
    assert await balances(known) == {"c": (1_101, 0)}
    assert await audited(known) == ["adjustment.propose", "adjustment.approve"]
    await unharmed(known)


@pytest.mark.parametrize(("step", "status"), [("reject", "rejected"), ("withdraw", "withdrawn")])
async def test_what_is_rejected_or_withdrawn_never_happens(known: World, step: str, status: str) -> None:
    one, two = await operator(known), await operator(known)
    made = await propose(known, 5_000, by=one)
    by = two if step == "reject" else one
    assert (await decide(known, made, step, by=by)).answer.status == status
    assert (await decide(known, made, step, by=by)).answer.status == status, "a repeat"
    with pytest.raises(InvalidState, match=f"is {status}"):
        await decide(known, made, "approve", by=two)
    assert await balances(known) == {"c": (100, 0)}
    assert await audited(known) == ["adjustment.propose", f"adjustment.{step}"]


async def test_a_policy_of_zero_takes_two_for_everything(known: World) -> None:
    await set_policy(known, adjustment_alone=0)
    assert (await propose(known, 1, by=await operator(known))).answer.status == "pending"
    assert (await propose(known, -1, by=await operator(known))).answer.status == "pending"


async def test_what_cannot_be_carried_out_any_more_stays_pending(known: World) -> None:
    one, two = await operator(known), await operator(known)
    await set_policy(known, adjustment_alone=10)
    taken = await propose(known, -50, by=one)
    late = await propose(
        known, 11, by=one, expires_on=(await known.rows("SELECT (now() AT TIME ZONE 'Asia/Shanghai')::date::text AS d"))[0]["d"]
    )
    for _ in range(6):
        await propose(known, -10, by=two)
    with pytest.raises(InsufficientPoints, match="40 can be"):
        await decide(known, taken, "approve", by=two)
    await known.rows("UPDATE adjustment SET expires_on = expires_on - 1 WHERE number = $1", int(late.answer.id))
    with pytest.raises(InvalidState, match="which is over"):
        await decide(known, late, "approve", by=two)
    assert [status for status, _, _ in await statuses(known)].count("pending") == 2
    await unharmed(known)


async def test_another_programs_adjustment_is_not_there(known: World) -> None:
    made = await propose(known, 5_000, by=await operator(known))
    async with known.pool.acquire() as connection:
        for step in ("approve", "reject", "withdraw"):
            with pytest.raises(NotFound):
                await flow.decide(connection, int(made.answer.id), step, note=None, program=known.program + 1, operator=2, change=CHANGE)  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            await flow.read(connection, int(made.answer.id), program=known.program + 1)


async def test_of_two_approvals_at_once_one_wins(known: World) -> None:
    one, two, three = [await operator(known) for _ in range(3)]
    made = await propose(known, 5_000, by=one)
    async with known.pool.acquire() as connection, connection.transaction():
        await decide(known, made, "approve", by=two, connection=connection)
        second = await blocked(known, decide(known, made, "approve", by=three))
        assert not second.done()
    with pytest.raises(InvalidState, match="is done"):
        await second
    assert await balances(known) == {"c": (5_100, 0)}
    await unharmed(known)


@pytest.mark.parametrize(
    ("first", "then"), [("approve", "withdraw"), ("withdraw", "approve"), ("approve", "reject"), ("reject", "approve")]
)
async def test_whoever_decides_first_decides(known: World, first: str, then: str) -> None:
    one, two, three = [await operator(known) for _ in range(3)]
    by = {"approve": two, "withdraw": one, "reject": three}
    made = await propose(known, 5_000, by=one)
    async with known.pool.acquire() as connection, connection.transaction():
        decided = (await decide(known, made, first, by=by[first], connection=connection)).answer.status
        second = await blocked(known, decide(known, made, then, by=by[then]))
        assert not second.done()
    with pytest.raises(InvalidState, match=f"is {decided}"):
        await second
    assert await balances(known) == {"c": (5_100 if first == "approve" else 100, 0)}
    await unharmed(known)


async def test_a_crowd_that_decides_at_the_same_moment(known: World) -> None:
    operators = [await operator(known) for _ in range(6)]
    made = await propose(known, 5_000, by=operators[0])
    steps = [
        decide(known, made, "withdraw", by=operators[0]),
        *(decide(known, made, "reject" if n % 2 else "approve", by=by) for n, by in enumerate(operators[1:])),
    ]
    results = await asyncio.gather(*steps, return_exceptions=True)
    (won,) = [result for result in results if isinstance(result, flow.Outcome)]
    assert {type(result) for result in results} == {flow.Outcome, InvalidState}
    assert await balances(known) == {"c": (5_100 if won.answer.status == "done" else 100, 0)}
    await unharmed(known)


async def test_not_even_the_database_lets_one_operator_do_it(known: World) -> None:
    one, two = await operator(known), await operator(known)
    made = await propose(known, 5_000, by=one)
    for change in (
        f"status = 'done', decided_at = now(), transfer = 1, decided_by = {one}", "status = 'done', decided_at = now(), transfer = 1",
        f"status = 'rejected', decided_at = now(), decided_by = {one}", f"status = 'withdrawn', decided_at = now(), decided_by = {two}",
        "status = 'withdrawn', decided_at = now()", "alone = true", "status = 'done'", f"decided_by = {two}",
    ):  # fmt: skip
        with pytest.raises(asyncpg.CheckViolationError):
            await known.rows(f"UPDATE adjustment SET {change} WHERE number = $1", int(made.answer.id))
    await decide(known, made, "approve", by=two)


# Time ------------------------------------------------------------------------------------------------------


async def overdue(world: World) -> None:
    await world.rows("UPDATE adjustment SET open_until = now() - interval '1 hour'")


async def test_what_nobody_decides_within_a_week_expires(known: World) -> None:
    one, two = await operator(known), await operator(known)
    await propose(known, 5, by=one)
    made = await propose(known, 5_000, by=one)
    assert await flow.expire(known.pool) == 0
    await overdue(known)
    with pytest.raises(InvalidState, match="could be decided until"):
        await decide(known, made, "approve", by=two)
    assert await asyncio.gather(*(flow.expire(known.pool) for _ in range(4))) in [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert await statuses(known) == [("done", True, True), ("expired", False, False)]
    with pytest.raises(InvalidState, match="is expired"):
        await decide(known, made, "approve", by=two)
    assert await audited(known) == ["adjustment.make", "adjustment.propose", "adjustment.expire"]
    assert await known.rows("SELECT actor FROM audit WHERE action = 'adjustment.expire'") == [{"actor": "worker"}]


async def test_the_sweep_leaves_alone_what_somebody_is_just_deciding(known: World) -> None:
    made = await propose(known, 5_000, by=await operator(known))
    await overdue(known)
    async with known.pool.acquire() as connection, connection.transaction():
        await adjustments.lock(connection, program=known.program, number=int(made.answer.id))
        sweeping = await blocked(known, flow.expire(known.pool))
        assert sweeping.done()
        assert await sweeping == 0
    assert await flow.expire(known.pool) == 1


# Persons ---------------------------------------------------------------------------------------------------


async def test_what_was_written_goes_with_the_person(known: World) -> None:
    one, two = await operator(known), await operator(known)
    done = await propose(known, 10, by=one, note="Ada called")
    refused = await propose(known, 5_000, by=one, note="Ada called again")
    await decide(known, refused, "reject", by=two, note="Ada is not serious")
    waiting = await propose(known, 5_000, by=one)
    await erase(known)
    with pytest.raises(InvalidRequest) as unknown:
        await propose(known, 1, by=one)
    assert unknown.value.errors[0].pointer == "/consumer"
    with pytest.raises(InvalidState, match="was erased"):
        await decide(known, waiting, "approve", by=two)
    await finish(known)
    texts = await known.rows("SELECT reason, note, decision_note FROM adjustment UNION ALL SELECT reason, NULL, NULL FROM transfer")
    assert len(texts) == 4
    assert {value for row in texts for value in row.values()} == {None}
    async with known.pool.acquire() as connection:
        shown = await flow.read(connection, int(done.answer.id), program=known.program)
    assert (shown.consumer, shown.reason, shown.note, shown.points) == (None, None, None, 10)
    kept = str(await known.rows("SELECT answer FROM idempotent_request")) + str(
        await known.rows("SELECT after::text FROM audit WHERE action LIKE 'adjustment%'")
    )
    assert "Ada" not in kept
    assert "sorry" not in kept
    assert '"c"' not in kept
    await decide(known, waiting, "reject", by=two)
    await unharmed(known)


async def test_what_another_platform_still_knows_stays(known: World) -> None:
    market = known.platforms["market"].platform
    await known.rows("INSERT INTO consumer_reference SELECT $1, 'm', bucket, account FROM consumer_reference", market)
    one = await operator(known)
    await propose(known, 10, by=one, platform="market", consumer="m")
    await propose(known, 11, by=one)
    await erase(known)
    await finish(known)
    assert await known.rows("SELECT points, reason FROM adjustment ORDER BY points") == [
        {"points": 10, "reason": "said sorry"}, {"points": 11, "reason": None},
    ]  # fmt: skip
    assert await known.rows("SELECT points, reason FROM transfer ORDER BY points") == [
        {"points": 10, "reason": "said sorry"}, {"points": 11, "reason": None},
    ]  # fmt: skip
    await erase(known, "m", "market")
    await finish(known)
    assert await known.rows("SELECT FROM adjustment WHERE reason IS NOT NULL") == []


async def test_an_erasure_waits_for_an_adjustment_in_progress(known: World) -> None:
    """It is only proposed so far, and has locked no account."""
    one = await operator(known)
    async with known.pool.acquire() as connection, connection.transaction():
        assert (await propose(known, 5_000, by=one, connection=connection)).answer.status == "pending"
        erased = await blocked(known, erase(known))
        assert not erased.done()
    await erased
    await finish(known)
    assert await known.rows("SELECT FROM adjustment WHERE reason IS NOT NULL") == []


async def test_long_histories_are_forgotten_to_the_end(known: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "SCRUB_EVENTS", 2)
    one = await operator(known)
    for _ in range(5):
        await propose(known, 1, by=one)
    await erase(known)
    assert await finish(known) == 1
    assert await known.rows("SELECT FROM transfer WHERE reason IS NOT NULL") == []
    assert await known.rows("SELECT FROM adjustment WHERE reason IS NOT NULL") == []


async def test_every_statement_fits_the_migrated_schema(world: World) -> None:
    from service.store import consumer_transfers  # noqa: PLC0415 - beside the others

    async with world.pool.acquire() as conn:
        for module in (adjustments, check_adjustments, repeats, consumer_transfers):
            for name, statement in vars(module).items():
                if name.isupper() and not name.startswith("_"):
                    await conn.prepare(statement)

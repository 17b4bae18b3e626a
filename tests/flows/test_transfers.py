"""Points between consumers: lot by lot, within the limits, whoever gives to whom at the same moment."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from service.domain.errors import (
    GreenpointsError,
    IdempotencyKeyReused,
    InsufficientPoints,
    InvalidRequest,
    InvalidState,
    NotFound,
)
from service.flows import links
from service.flows import transfers as flow
from service.flows.administer import Change
from tests.adjusting import balances, give, in_days, lots, operator, propose, send, set_policy, unharmed
from tests.flows.test_erase import erase, finish
from tests.flows.test_locks import blocked
from tests.worlds import World, order_paid

ON = {"transfers": {"enabled": True, "per_transfer": 1_000, "per_day": 5_000}}


@pytest.fixture
async def two(world: World) -> World:
    """`a` with 100 points and `b` with none, in a program that lets them give points to each other."""
    await set_policy(world, **ON)
    await give(world, 100, "a")
    await give(world, 1, "b")
    return world


async def sums(world: World) -> dict[str, int]:
    """The book of transfers: what accounts have given (positive) and received, by name."""
    rows = await world.rows(
        """SELECT r.reference, sum(e.amount)::bigint AS points FROM entry e JOIN consumer_reference r USING (bucket, account)
           WHERE e.book = 11 GROUP BY 1"""
    )
    return {row["reference"]: row["points"] for row in rows}


async def test_points_move_with_their_last_day_and_where_they_come_from(two: World) -> None:
    await two.campaign(expires_after="P10D")
    soon = in_days(5)
    await give(two, 10, "a", last_day=soon)
    await two.rows("UPDATE lot SET campaign = 1, platform = 7, idle_months = 3 WHERE amount = 10")
    given = await send(two, 30, message="for you")
    assert (given.status, given.answer.points, given.answer.to, given.replayed) == (201, 30, "b", False)
    assert (given.answer.balance.available, given.answer.balance.version) == (80, 3)
    assert await lots(two, "a") == [(80, None)]
    assert await lots(two, "b") == [(10, soon), (1, None), (20, None)]
    columns = "amount, remaining, campaign, platform, idle_months, n, origin"
    moved = await two.rows(f"SELECT {columns}, event FROM lot WHERE origin = 10 ORDER BY n")
    assert [tuple(row.values())[:-1] for row in moved] == [
        (10, 10, 1, 7, 3, 0, 10),
        (20, 20, 0, two.platforms["shop"].platform, None, 1, 10),
    ]
    (number,) = {row["event"] for row in moved}
    rows = await two.rows("SELECT points, reason, version FROM transfer WHERE number = $1 AND kind = 10 ORDER BY points", number)
    assert rows == [{"points": -30, "reason": "for you", "version": 3}, {"points": 30, "reason": "for you", "version": 2}]
    assert await sums(two) == {"a": 30, "b": -30}
    assert [(b.available, b.version) for _, b in given.balances] == [(80, 3), (31, 2)]
    await unharmed(two)


async def test_many_lots_with_one_last_day_become_one(two: World) -> None:
    for _ in range(5):
        await give(two, 10, "a")
    await send(two, 140)
    assert await two.rows("SELECT n, amount FROM lot WHERE origin = 10") == [{"n": 0, "amount": 140}]
    await unharmed(two)


async def test_too_many_last_days_are_refused(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.domain.transfers.MAX_LOTS", 2)
    for days in (5, 6):
        await give(two, 10, "a", last_day=in_days(days))
    with pytest.raises(InvalidState, match="different last days"):
        await send(two, 30)
    assert (await send(two, 20)).answer.points == 20


async def test_received_points_repay_debt_first(two: World) -> None:
    one = await operator(two)
    await propose(two, -21, by=one, consumer="b", debt="allow")
    await send(two, 50)
    assert await balances(two) == {"a": (50, 0), "b": (30, 0)}
    await unharmed(two)


async def test_consumers_give_points_only_where_the_program_lets_them(world: World) -> None:
    await give(world, 100, "a")
    await give(world, 1, "b")
    with pytest.raises(InvalidState, match="cannot give points"):
        await send(world, 1)
    await set_policy(world, **ON)
    await send(world, 1)
    await set_policy(world)
    with pytest.raises(InvalidState, match="cannot give points"):
        await send(world, 1)


async def test_limits_of_a_transfer_and_of_a_day(two: World) -> None:
    await set_policy(two, transfers={"enabled": True, "per_transfer": 40, "per_day": 70})
    with pytest.raises(InvalidRequest) as refused:
        await send(two, 41)
    assert [error.pointer for error in refused.value.errors] == ["/points"]
    await send(two, 40)
    with pytest.raises(InvalidState, match="40 of the 70"):
        await send(two, 31)
    await send(two, 30)
    with pytest.raises(InvalidState, match="70 of the 70"):
        await send(two, 1)
    await send(two, 1, "b", "a")
    await two.rows("UPDATE consumer_transfer SET day = day - 1")
    await send(two, 30)
    assert await balances(two) == {"a": (1, 0), "b": (100, 0)}
    await unharmed(two)


async def test_the_day_is_the_programs(two: World) -> None:
    await send(two, 1)
    (row,) = await two.rows("SELECT day, (at AT TIME ZONE 'Asia/Shanghai')::date AS local FROM consumer_transfer")
    assert row["day"] == row["local"]


@pytest.mark.parametrize(
    ("sender", "to", "points", "error"),
    [
        ("a", "a", 1, InvalidRequest),
        ("a", "nobody", 1, InvalidRequest),
        ("a", "b", 101, InsufficientPoints),
        ("a", "nobody", 101, InsufficientPoints),
        ("nobody", "b", 1, InsufficientPoints),
        ("nobody", "nobody", 1, InsufficientPoints),
    ],
)
async def test_what_cannot_be_given_changes_nothing(two: World, sender: str, to: str, points: int, error: type[GreenpointsError]) -> None:
    with pytest.raises(error) as refused:
        await send(two, points, sender, to)
    if isinstance(refused.value, InvalidRequest):
        assert [one.pointer for one in refused.value.errors] == ["/to"]
    assert await balances(two) == {"a": (100, 0), "b": (1, 0)}
    assert await two.rows("SELECT FROM idempotent_request UNION ALL SELECT FROM consumer_transfer") == []


async def test_a_platform_gives_for_its_consumers_and_knows_whom_it_does_not(two: World) -> None:
    await send(two, 5, by_platform=True)
    with pytest.raises(NotFound):
        await send(two, 5, "nobody", by_platform=True)
    with pytest.raises(NotFound):
        await send(two, 5, by_platform=True, platform="market")


async def test_whoever_was_erased_and_whoever_never_was_are_told_alike(two: World) -> None:
    said = []
    await send(two, 5, message="for Bob")
    await send(two, 1, "b", "a", message="from Bob")
    await erase(two, "b")
    for name in ("b", "nobody"):
        with pytest.raises(InvalidRequest) as refused:
            await send(two, 1, "a", name)
        said.append((refused.value.detail, refused.value.errors))
    assert said[0] == said[1]
    await finish(two)
    # What Bob wrote and what was written to him, on both sides.
    assert await two.rows("SELECT count(*) FILTER (WHERE reason IS NULL) AS gone, count(*) AS all FROM transfer") == [{"gone": 4, "all": 4}]
    assert "Bob" not in str(await two.rows("SELECT answer FROM idempotent_request"))
    assert '"b"' not in str(await two.rows("SELECT answer FROM idempotent_request"))
    await unharmed(two)


async def test_an_erasure_waits_for_a_transfer_in_progress(two: World) -> None:
    """The transfer has found both accounts, and waits for the first: of the other it has locked nothing."""
    ids = {r["reference"]: r["account"] for r in await two.rows("SELECT reference, account FROM consumer_reference")}
    giver, taker = sorted("ab", key=lambda name: ids[name])
    await give(two, 5, giver)
    async with two.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM account WHERE id = $1 FOR UPDATE", ids[giver])
        sent = await blocked(two, send(two, 5, giver, taker, message="for you"))
        erased = await blocked(two, erase(two, taker), already=1)
        assert not erased.done()
    await sent
    await erased
    await finish(two)
    assert await two.rows("SELECT FROM transfer WHERE reason IS NOT NULL") == []


async def test_what_two_others_wrote_to_each_other_stays(two: World) -> None:
    await give(two, 1, "c")
    await send(two, 5, "a", "c", message="for Carol")
    await send(two, 5, "a", "b", message="for Bob")
    await erase(two, "b")
    await finish(two)
    assert [row["reason"] for row in await two.rows("SELECT reason FROM transfer ORDER BY number")] == [
        "for Carol",
        "for Carol",
        None,
        None,
    ]


async def test_points_on_hold_and_past_their_last_day_are_nobodys_to_give(two: World) -> None:
    await two.campaign(hold="P14D")
    await two.credit(order_paid("a", quantity=10))
    await two.rows("UPDATE lot SET expires_on = '2020-01-01' WHERE amount = 100")
    await give(two, 3, "a")
    with pytest.raises(InsufficientPoints, match="3 can be spent"):
        await send(two, 4)
    await send(two, 3)
    await unharmed(two)


# Linked accounts (until there is a way to link them: as such a way would leave them)


async def link(world: World, reference: str, to: str) -> None:
    sender = world.platforms["shop"]
    names = {"program": world.program, "platform": sender.platform, "code": "shop", "change": Change()}
    async with world.pool.acquire() as conn:
        made = await links.make_code(conn, **names, reference=to)
        await links.link(conn, **names, reference=reference, link_code=made.code, stripe=1)


async def test_nobody_gives_to_a_linked_account_of_their_own(two: World) -> None:
    await two.rows("DELETE FROM lot WHERE remaining = 1")
    await give(two, 10, "alias")
    await link(two, "alias", "a")
    for sender, to in (("a", "alias"), ("alias", "a"), ("alias", "alias")):
        with pytest.raises(InvalidRequest) as refused:
            await send(two, 1, sender, to)
        assert [error.pointer for error in refused.value.errors] == ["/to"]


async def test_a_linked_account_gives_and_takes_where_its_points_are(two: World) -> None:
    await two.campaign()
    await two.credit(order_paid("alias"))
    await link(two, "alias", "a")
    await send(two, 10, "alias", "b")
    await send(two, 1, "b", "alias")
    await propose(two, 5, by=await operator(two), consumer="alias")
    assert await balances(two) == {"a": (96, 0), "alias": (0, 0), "b": (10, 0)}
    await erase(two, "alias")
    await finish(two)
    assert await two.rows("SELECT FROM adjustment WHERE reason IS NOT NULL") == []
    await unharmed(two)


# Once, and at the same moment ----------------------------------------------------------------------------------


async def test_a_repeat_is_answered_as_at_first_and_moves_nothing(two: World) -> None:
    first = await send(two, 10, key="k")
    await send(two, 1)
    again = await send(two, 10, key="k")
    assert (again.status, again.replayed, again.balances) == (201, True, [])
    assert again.answer == first.answer
    with pytest.raises(IdempotencyKeyReused):
        await send(two, 11, key="k")
    assert not (await send(two, 1, "b", "a", key="k")).replayed, "another consumer's key is another key"
    assert not (await send(two, 10, key="k", by_platform=True)).replayed, "and so is the platform's"
    assert await balances(two) == {"a": (80, 0), "b": (21, 0)}


async def test_many_repeats_at_once_move_points_once(two: World) -> None:
    results = await asyncio.gather(*(send(two, 10, key="k") for _ in range(20)), return_exceptions=True)
    assert {getattr(result, "code", "answered") for result in results} <= {"answered", "idempotency_key_in_use"}
    assert await balances(two) == {"a": (90, 0), "b": (11, 0)}
    await unharmed(two)


async def test_the_limit_of_a_day_holds_at_the_same_moment(two: World) -> None:
    await set_policy(two, transfers={"enabled": True, "per_transfer": 40, "per_day": 50})
    async with two.pool.acquire() as connection, connection.transaction():
        await send(two, 30, connection=connection)
        second = await blocked(two, send(two, 30))
    with pytest.raises(InvalidState, match="30 of the 50"):
        await second
    results = await asyncio.gather(*(send(two, 3) for _ in range(12)), return_exceptions=True)
    assert [type(result) for result in results].count(flow.Outcome) == 6
    assert await balances(two) == {"a": (52, 0), "b": (49, 0)}
    await unharmed(two)


LOW, HIGH = 1 << 40, 1 << 41


@pytest.mark.parametrize(("sender", "to"), [("high", "low"), ("low", "high")])
async def test_whoever_gives_to_whom_the_lower_account_is_locked_first(world: World, sender: str, to: str) -> None:
    """So that opposite transfers never hold what the other one waits for: whatever stands first in the table, or in the request."""
    await set_policy(world, **ON)
    for account, name in ((HIGH, "high"), (LOW, "low")):
        await world.rows("INSERT INTO account (bucket, id, program) VALUES (0, $1, $2)", account, world.program)
        shop = world.platforms["shop"].platform
        await world.rows(
            "INSERT INTO consumer_reference (platform, reference, bucket, account) VALUES ($1, $2, 0, $3)", shop, name, account
        )
        await give(world, 10, name)
    lock = "SELECT FROM account WHERE id = $1 FOR NO KEY UPDATE"
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute(lock, LOW)
        giving = await blocked(world, send(world, 1, sender, to))
        assert not giving.done()
        await connection.execute(f"{lock} NOWAIT", HIGH)
    await giving
    await unharmed(world)


async def test_opposite_transfers_at_once_all_arrive(two: World) -> None:
    await give(two, 99, "b")
    people = itertools.cycle([("a", "b"), ("b", "a")])
    await asyncio.gather(*(send(two, 1, *next(people)) for _ in range(60)))
    assert await balances(two) == {"a": (100, 0), "b": (100, 0)}
    assert await sums(two) == {"a": 0, "b": 0}
    await unharmed(two)


async def test_whatever_is_adjusted_and_given_at_once_the_books_balance(two: World) -> None:
    await set_policy(two, **ON)
    one = await operator(two)
    await give(two, 50, "c")
    await give(two, 60, "b")
    work: list[Callable[[], Any]] = [
        lambda: send(two, 9, "a", "b"), lambda: send(two, 8, "b", "c"), lambda: send(two, 7, "c", "a"), lambda: send(two, 11, "b", "a"),
        lambda: propose(two, -13, by=one, consumer="b"), lambda: propose(two, 10, by=one, consumer="c"),
        lambda: propose(two, -20, by=one, consumer="a", debt="allow"), lambda: two.credit(order_paid("a")),
    ]  # fmt: skip
    await two.campaign()
    results = await asyncio.gather(*(step() for _ in range(8) for step in work), return_exceptions=True)
    assert {type(result) for result in results if isinstance(result, BaseException)} <= {InsufficientPoints}
    (held,) = await two.rows("SELECT sum(available - debt)::bigint AS points FROM account")
    (made,) = await two.rows("SELECT -sum(amount)::bigint AS points FROM entry WHERE book IN (5, 10)")
    assert held == made
    assert sum((await sums(two)).values()) == 0
    await unharmed(two)

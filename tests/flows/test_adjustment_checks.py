"""`check` on adjustments and transfers: a world with some of each is clean, and one tampered row breaks exactly its invariant."""

from typing import Any

import pytest

from service.flows.check import check
from service.projection import Projection
from tests.adjusting import decide, give, operator, propose, send, set_policy
from tests.flows.test_check import broken, change, delete, execute
from tests.tampering import allow
from tests.worlds import World


@pytest.fixture
async def moved(world: World) -> World:
    """Points given, taken, owed and repaid; adjustments in every state; transfers both ways."""
    await set_policy(world, transfers={"enabled": True})
    await give(world, 500, "a")
    await give(world, 100, "b")
    one, two = await operator(world), await operator(world)
    await propose(world, 70, by=one, consumer="a")
    await propose(world, -30, by=one, consumer="b")
    await propose(world, -90, by=one, consumer="b", debt="allow")
    done, refused, withdrawn, lapsed = [await propose(world, 1_500, by=one, consumer="a") for _ in range(4)]
    await decide(world, done, "approve", by=two)
    await decide(world, refused, "reject", by=two)
    await decide(world, withdrawn, "withdraw", by=one)
    await world.rows("UPDATE adjustment SET status = 'expired', decided_at = now() WHERE number = $1", int(lapsed.answer.id))
    await propose(world, -1_500, by=one, consumer="a")
    await send(world, 60, "a", "b")
    await send(world, 7, "b", "a")
    await send(world, 8, "a", "b")
    return world


async def test_adjustments_and_transfers_are_clean(moved: World, projection: Projection) -> None:
    assert broken(await check(moved.pool, projection)) == {}


BETWEEN = "book = 11 AND amount > 0"
MORE_GIVEN = f"""
    UPDATE entry SET amount = amount + sign(amount)
    WHERE (account, transfer) IN (SELECT account, transfer FROM entry WHERE {BETWEEN} ORDER BY transfer LIMIT 1)
"""
ONE_TRANSFER_FOR_TWO = """
    UPDATE adjustment SET transfer = (SELECT min(transfer) FROM adjustment) WHERE status = 'done' AND points = 1500
"""
TAMPERING = [
    # number 1, between consumers
    (change("consumer_transfer", "points = points + 1"), "double_entry"),
    (change("consumer_transfer", "to_account = to_account + 1024"), "double_entry"),
    (delete("consumer_transfer"), "double_entry"),
    (MORE_GIVEN, "double_entry balances lots"),
    (change("entry", "book = 10", BETWEEN), "double_entry settlements"),
    (change("lot", "origin = 11", "origin = 10"), "double_entry"),
    # number 4, adjustments
    (change("adjustment", "points = points + 1", "status = 'done'"), "settlements"),
    (change("adjustment", "transfer = transfer + 1000000", "status = 'done'"), "settlements"),
    (ONE_TRANSFER_FOR_TWO, "settlements"),
    (delete("adjustment", "status = 'done'"), "settlements"),
    (change("entry", "book = 9", "book = 10"), "settlements"),
    (change("lot", "origin = 11", "origin = 9"), "settlements"),
    (change("adjustment", "alone = true, decided_by = NULL", "status = 'done' AND points = 1500"), "settlements"),
    # number 9
    (change("adjustment", "open_until = now() - interval '3 minutes'", "status = 'pending'"), "deadlines"),
]  # fmt: skip
TABLES = ("consumer_transfer", "adjustment", "entry", "lot")


async def test_one_tampered_row_breaks_exactly_its_invariant(moved: World, projection: Projection) -> None:
    async with moved.pool.acquire() as conn:
        await allow(conn)
    await execute(moved, "CREATE SCHEMA kept", *(f"CREATE TABLE kept.{table} AS TABLE {table}" for table in TABLES))
    found: dict[str, Any] = {}
    for sql, _ in TAMPERING:
        assert (await execute(moved, sql)).split()[-1] != "0", f"changed nothing: {sql}"
        found[sql] = broken(await check(moved.pool, projection))
        for table in TABLES:
            await execute(moved, f"DELETE FROM {table}", f"INSERT INTO {table} SELECT * FROM kept.{table}")
    assert {sql: (names, found[sql]) for sql, names in TAMPERING if " ".join(found[sql]) != names} == {}
    assert broken(await check(moved.pool, projection)) == {}


async def test_what_one_may_do_alone_is_what_the_policy_said_then(moved: World, projection: Projection) -> None:
    """A limit that is lowered later makes nothing wrong; one that was lower then shows who went over it."""
    await set_policy(moved, adjustment_alone=10)
    assert broken(await check(moved.pool, projection)) == {}
    await moved.rows("UPDATE points_policy SET effective_from = now() - interval '1 hour'")
    assert list(broken(await check(moved.pool, projection))) == ["settlements"]

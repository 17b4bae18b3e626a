"""Exports of what was: whatever was spent, adjusted, given, linked and split, each moment is the one that there was."""

from collections import defaultdict
from typing import Any

from service.store import exports
from service.store.past import balance_at
from service.store.past import now as database_now
from tests.adjusting import give, operator, propose, send, set_policy, unharmed
from tests.flows.test_spending_locks import ask, do, link, split
from tests.worlds import World, order_paid


async def export(conn: Any, what: exports.What, **selection: Any) -> list[dict[str, Any]]:
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        await exports.begin(conn)
        return [dict(row) async for row in exports.rows(conn, what, exports.Selection(**selection))]


async def test_every_moment_is_as_it_was(world: World) -> None:
    await world.campaign(hold="P14D")
    await set_policy(world, transfers={"enabled": True})
    await give(world, 100, "ada")
    await give(world, 50, "bob")
    await give(world, 5, "eve", platform="market")
    by = await operator(world)
    made: dict[str, Any] = {}

    async def reserve() -> None:
        made.update(await do(world, ask(world, points=30)))

    async def join() -> None:
        async with world.pool.acquire() as conn:
            await link(world, conn)

    steps: list[Any] = [
        lambda: world.credit(order_paid("eve", quantity=2), "market"), reserve, lambda: do(world, ask(world, "capture", redemption=made["id"], points=20)),
        lambda: propose(world, 40, by=by, consumer="ada"), lambda: send(world, 10, "bob", "ada"), join,
        lambda: do(world, ask(world, "create", "market", points=100, capture=True)), lambda: world.credit(order_paid("eve"), "market"),
        lambda: do(world, ask(world, "refund", redemption=made["id"])), lambda: split(world), lambda: propose(world, -3, by=by, consumer="ada"),
    ]  # fmt: skip
    moments = []
    async with world.pool.acquire() as conn:
        for step in steps:
            moments.append(
                (await database_now(conn), {r["account"]: r for r in await export(conn, "balances")}, await export(conn, "lots"))
            )
            await step()
        accounts = [r["id"] for r in await conn.fetch("SELECT id FROM account ORDER BY id")]
        for n, (moment, balances, lots) in enumerate(moments):
            then = {r["account"]: r for r in await export(conn, "balances", as_of=moment)}
            assert then == balances, n
            for account in accounts:
                b = await balance_at(conn, account, moment)
                kept = then.get(account, {"pending": 0, "available": 0, "reserved": 0, "debt": 0})
                assert [kept[x] for x in ("pending", "available", "reserved", "debt")] == [b.pending, b.available, b.reserved, b.debt], (
                    n,
                    account,
                )
            points: dict[int, int] = defaultdict(int)
            for lot in await export(conn, "lots", as_of=moment, open_lots=True):
                points[lot["account"]] += lot["points"]
            assert points == {a: r["available"] + r["reserved"] for a, r in balances.items() if r["available"] + r["reserved"]}, n
            assert {lot["id"] for lot in lots} == {lot["id"] for lot in await export(conn, "lots", as_of=moment)}, n
            ledger = await export(conn, "ledger", as_of=moment)
            assert sum(row["amount"] for row in ledger) == 0
        ledger = await export(conn, "ledger")
        assert len(ledger) == await conn.fetchval("SELECT count(*) FROM entry")
        assert {row["kind"] for row in ledger} == {"opening", "reserve", "capture", "adjust", "transfer", "link", "refund"}
        assert {row["book"] for row in ledger} == {"opening", "available", "reserved", "redeemed", "adjustment", "transfer", "link"}
    await unharmed(world)


async def test_a_line_that_came_through_no_platform_is_told_too(world: World) -> None:
    await give(world, 5, "ada")
    await world.rows(
        """INSERT INTO entry (bucket, account, seq, transfer, kind, book, amount, program, platform, campaign, event, award, n, version, at)
           SELECT bucket, account, 9 + k, 99, 8, 1 + 7 * k, 2 * k - 1, program, 0, 0, 99, 0, 0, 9, now()
           FROM entry, generate_series(0, 1) k WHERE seq = 1"""
    )
    async with world.pool.acquire() as conn:
        found = [(row["kind"], row["book"], row["platform"]) for row in await export(conn, "ledger") if row["transfer"] == 99]
    assert sorted(found) == [("expire", "available", None), ("expire", "breakage", None)]

"""The check of what changed: finds what is broken where something happened, tells it once, and says when it holds again."""

from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from service.flows.check_recent import Looked, check_recent
from service.flows.settle import settle_due
from service.projection import Projection
from service.store import alerts
from service.store import check_recent as store
from tests.flows.test_locks import blocked
from tests.tampering import tamper
from tests.worlds import World, order_paid, refund

NOW = timedelta(0)


@pytest.fixture
async def lived(world: World, redis_url: str) -> World:
    """Two consumers with settled points, points on hold and points taken back."""
    await world.campaign()
    await world.campaign(hold="P14D", award={"kind": "fixed", "points": 7})
    paid = order_paid("c-1", quantity=3)
    await world.send(paid, order_paid("c-2"))
    async with Redis.from_url(redis_url) as redis:
        await settle_due(world.pool, Projection(redis, epoch=1, ttl_s=60, wait_ms=100), stripe=1, buckets=1_024, batch_events=100)
    await world.credit(refund(paid, "r", 1))
    return world


async def look(world: World) -> Looked:
    looked = await check_recent(world.pool, margin=NOW)
    assert looked is not None
    return looked


async def told(world: World) -> list[dict[str, Any]]:
    return await world.rows("SELECT program, kind, subject, words, resolved_at IS NULL AS is_open FROM alert ORDER BY id")


async def change(world: World, *sql: str) -> None:
    async with world.pool.acquire() as conn:
        await tamper(conn, *sql)


async def test_only_what_changed_is_looked_at_and_that_once(lived: World) -> None:
    looked = await look(lived)
    assert (looked.accounts, looked.broken) == (2, [])
    assert await told(lived) == []
    await lived.credit(order_paid("c-2"))
    assert (await look(lived)).accounts == 1
    assert (await look(lived)).accounts == 0


OF_C_2 = "(SELECT account FROM consumer_reference WHERE reference = 'c-2')"
TAMPERING = {
    f"UPDATE entry SET amount = amount + 1 WHERE account = {OF_C_2} AND book = 4": "double_entry",
    f"UPDATE account SET last_seq = last_seq + 1 WHERE id = {OF_C_2}": "double_entry",
    f"DELETE FROM entry WHERE account = {OF_C_2} AND seq = 1": "double_entry balances lots",
    f"UPDATE account SET available = available + 1 WHERE id = {OF_C_2}": "balances",
    f"UPDATE account SET pending = pending + 1 WHERE id = {OF_C_2}": "balances",
    f"UPDATE account SET debt = debt + 1 WHERE id = {OF_C_2}": "balances",
    f"UPDATE account SET reserved = reserved + 1 WHERE id = {OF_C_2}": "balances",
    f"UPDATE account SET version = version + 1 WHERE id = {OF_C_2}": "balances",
    f"DELETE FROM account WHERE id = {OF_C_2}": "double_entry",
    f"UPDATE lot SET remaining = remaining - 1 WHERE account = {OF_C_2}": "lots",
    f"UPDATE lot SET amount = amount + 1 WHERE account = {OF_C_2}": "lots",
    f"INSERT INTO lot_use SELECT bucket, account, event, n, 1, 1 FROM lot WHERE account = {OF_C_2}": "lots",
}


@pytest.mark.parametrize(("sql", "kinds"), TAMPERING.items())
async def test_what_is_broken_is_told_once_and_resolved_when_it_holds_again(lived: World, sql: str, kinds: str) -> None:
    for table in ("account", "entry", "lot", "lot_use"):
        await lived.rows(f"CREATE TABLE kept_{table} AS TABLE {table}")
    await change(lived, sql)
    first = await look(lived)
    assert [b.kind for b in first.broken] == kinds.split()
    alert = await told(lived)
    (row,) = await lived.rows(f"SELECT {OF_C_2} AS account")
    assert [(a["program"], a["kind"], a["subject"], a["is_open"]) for a in alert] == [
        (lived.program, kind, f"account {row['account']}", True) for kind in kinds.split()
    ]
    assert all(a["words"].startswith(f"account {row['account']}: ") for a in alert)
    again = await look(lived)
    assert (again.accounts, len(again.broken)) == (0, len(alert)), "nothing changed, but it is looked at again"
    assert await told(lived) == alert
    await change(lived, *(f"DELETE FROM {t}" for t in ("account", "entry", "lot", "lot_use")),
                 *(f"INSERT INTO {t} SELECT * FROM kept_{t}" for t in ("account", "entry", "lot", "lot_use")))  # fmt: skip
    assert (await look(lived)).broken == []
    assert await told(lived) == [a | {"is_open": False} for a in alert]
    await change(lived, sql)
    await lived.rows("UPDATE event SET received_at = now()")
    await look(lived)
    assert [a["is_open"] for a in await told(lived)] == [False] * len(alert) + [True] * len(alert), "broken anew: told anew"


async def test_what_is_not_committed_yet_is_looked_at_later(lived: World) -> None:
    """A credit that began before the look and commits after it."""
    await look(lived)
    async with lived.pool.acquire() as slow:
        late = slow.transaction()
        await late.start()
        await slow.execute(f"UPDATE account SET available = available + 1, version = version + 1 WHERE id = {OF_C_2}")
        await slow.execute(
            f"INSERT INTO entry SELECT bucket, account, seq + 100, 9, 9, 9, 3, program, 1, 1, 0, 0, 0, 9, now() FROM entry "
            f"WHERE account = {OF_C_2} AND seq = 1"
        )
        await lived.credit(order_paid("c-1"))
        assert (await look(lived)).broken == []
        await late.commit()
    assert {b.kind for b in (await look(lived)).broken} == {"double_entry", "balances"}


async def test_one_looks_at_a_time(lived: World) -> None:
    async with lived.pool.acquire() as other:
        assert await store.try_checking(other)
        assert await check_recent(lived.pool, margin=NOW) is None
        await store.free_checking(other)
    assert (await look(lived)).accounts == 2


async def test_two_that_look_at_once_tell_it_once(lived: World) -> None:
    """Even without the lock: two transactions that found the same."""
    await change(lived, f"UPDATE account SET available = available + 1 WHERE id = {OF_C_2}")
    async with lived.pool.acquire() as one, lived.pool.acquire() as other:
        accounts = await store.changed(one, (await store.through(one)) - timedelta(hours=1), await one.fetchval("SELECT now()"))
        broken = await store.broken(one, accounts)
        assert len(broken) == 1
        first = one.transaction()
        await first.start()
        await alerts.tell(one, [a for _, a in accounts], broken)
        second = await blocked(lived, alerts.tell(other, [a for _, a in accounts], broken))
        await first.commit()
        await second
    assert len(await told(lived)) == 1


async def test_alerts_are_bounded(lived: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "MAX_OPEN", 3)
    await lived.rows("UPDATE account SET available = available + 1, debt = 1")
    await lived.rows("UPDATE lot SET remaining = 0")
    looked = await look(lived)
    assert len(looked.broken) == 4
    assert len(await told(lived)) == 3


async def test_every_statement_fits_the_migrated_schema(world: World) -> None:
    async with world.pool.acquire() as conn:
        for module in (store, alerts):
            for name, statement in vars(module).items():
                if name.isupper() and not name.startswith("_") and isinstance(statement, str) and "SELECT" in statement:
                    await conn.prepare(statement)

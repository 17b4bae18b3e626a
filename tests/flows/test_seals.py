"""Seals: every entry is in exactly one block, whatever commits when; what was changed since is named."""

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from service.flows import proof
from service.flows.seal import BUCKETS, seal
from service.flows.settle import settle_due
from service.projection import Projection
from service.store import seals as store
from tests.flows.test_locks import blocked
from tests.tampering import APPEND_ONLY, tamper
from tests.worlds import World, order_paid, refund

NOW = timedelta(0)
ACCOUNT = "INSERT INTO account (bucket, id, program, available, version, last_seq) VALUES ($1 & 1023, $1, $2, 5, 1, 2)"
TRANSFER = """
INSERT INTO entry (bucket, account, seq, transfer, kind, book, amount, program, platform, campaign, event, award, n, version, at)
SELECT $1 & 1023, $1, $3 + i, $3, 9, 1 + 8 * (i & 1), 5 - 10 * (i & 1), $2, 1, 1, 0, 0, 0, 1, now() FROM generate_series(0, 1) i
"""


@pytest.fixture
async def booked(world: World) -> World:
    """A world with settled and reversed points of several consumers."""
    await world.campaign()
    paid = [order_paid(f"c-{n % 3}", quantity=n) for n in range(1, 6)]
    await world.send(*paid)
    await settle(world)
    await world.credit(refund(paid[4], "r", 2))
    return world


async def settle(world: World) -> None:
    async with Redis.from_url("redis://127.0.0.1:1/0") as nobody:
        await settle_due(world.pool, Projection(nobody, epoch=1, ttl_s=600, wait_ms=10), stripe=1, buckets=1_024, batch_events=1_000)


async def book(conn: Any, world: World, account: int, seq: int = 1) -> None:
    """Two entries of an account, with its row."""
    if seq == 1:
        await conn.execute(ACCOUNT, account, world.program)
    else:
        await conn.execute("UPDATE account SET last_seq = last_seq + 2 WHERE id = $1", account)
    await conn.execute(TRANSFER, account, world.program, seq)


async def sealed_entries(world: World) -> int:
    (row,) = await world.rows("SELECT coalesce(sum(last - first + 1), 0)::int AS n FROM seal_part")
    return int(row["n"])


async def broken(world: World) -> list[str]:
    async with world.pool.acquire() as conn:
        report = await proof.verify(conn)
    assert report.ok == (not report.broken)
    return report.broken


def sha256(*lines: str) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


async def test_the_chain_is_what_the_documents_say(booked: World) -> None:
    """Hashed once more from the rows, here in Python."""
    first = await seal(booked.pool, margin=NOW)
    await booked.send(order_paid("c-1"), order_paid("c-9"))
    await settle(booked)
    second = await seal(booked.pool, margin=NOW)
    assert (first.blocks, second.blocks) == (1, 1)
    (there,) = await booked.rows("SELECT count(*)::int AS n FROM entry")
    assert first.entries + second.entries == there["n"] == await sealed_entries(booked)
    entries = {(r["account"], r["seq"]): r for r in await booked.rows("SELECT *, (extract(epoch FROM at) * 1e6)::bigint AS us FROM entry")}
    previous = "0" * 64
    for block in await booked.rows("SELECT * FROM seal ORDER BY block"):
        parts = await booked.rows("SELECT * FROM seal_part WHERE block = $1 ORDER BY account", block["block"])
        lines = []
        for part in parts:
            names = "account seq transfer kind book amount program platform campaign event award n version us".split()
            rows = [entries.pop((part["account"], seq)) for seq in range(part["first"], part["last"] + 1)]
            hashed = sha256(*("|".join(str(row[name]) for name in names) for row in rows))
            assert part["hash"].hex() == hashed
            lines.append(f"{part['account']}|{part['first']}|{part['last']}|{hashed}")
        content = sha256(*lines)
        sealed_at = block["sealed_at"].strftime("%Y-%m-%dT%H:%M:%SZ")
        head = sha256(f"greenpoints-seal-1|{block['block']}|{block['entries']}|{block['accounts']}|{sealed_at}|{previous}|{content}")
        assert (block["previous"].hex(), block["content"].hex(), block["head"].hex()) == (previous, content, head)
        previous = head
    assert entries == {}
    assert await broken(booked) == []
    assert (await seal(booked.pool, margin=NOW)).blocks == 0, "nothing is sealed twice"


ONE = "WHERE ctid = (SELECT min(ctid) FROM {0})"
CHANGES = {
    "changed": "UPDATE entry SET amount = amount + 1 " + ONE.format("entry"),
    "its time": "UPDATE entry SET at = at + interval '1 microsecond' " + ONE.format("entry"),
    "deleted": "DELETE FROM entry " + ONE.format("entry"),
    "the last deleted": "DELETE FROM entry WHERE (account, seq) IN (SELECT account, max(seq) FROM entry GROUP BY 1 LIMIT 1)",
    "two exchanged": "UPDATE entry e SET seq = 3 - seq WHERE account = (SELECT min(account) FROM entry) AND seq < 3 AND seq > 0",
}


@pytest.mark.parametrize("sql", CHANGES.values(), ids=CHANGES.keys())
async def test_a_changed_entry_is_named_with_its_block(booked: World, sql: str) -> None:
    await seal(booked.pool, margin=NOW)
    before = await booked.rows("SELECT account, seq, e::text AS row FROM entry e")
    async with booked.pool.acquire() as conn:
        if "3 - seq" in sql:
            await tamper(conn, sql.replace("3 - seq", "-seq"), sql.replace("3 - seq", "3 + seq").replace("seq < 3 AND seq > 0", "seq < 0"))
        else:
            assert await tamper(conn, sql) != "UPDATE 0"
    after = {r["row"] for r in await booked.rows("SELECT e::text AS row FROM entry e")}
    (account,) = {r["account"] for r in before if r["row"] not in after}
    (words,) = await broken(booked)
    assert words.startswith(f"block 1 of program green: account {account}, entries 1 to ")


async def test_an_entry_that_is_slipped_in_is_named(booked: World) -> None:
    """The later ones move up, as if it had always been there."""
    await seal(booked.pool, margin=NOW)
    (row,) = await booked.rows("SELECT account, max(seq) AS last FROM entry GROUP BY account ORDER BY 2 DESC LIMIT 1")
    move = f"UPDATE entry SET seq = {{}} WHERE account = {row['account']} AND {{}}"
    columns = "transfer, kind, book, amount, program, platform, campaign, event, award, n, version, at"
    async with booked.pool.acquire() as conn:
        await tamper(
            conn, move.format("-seq - 1", "seq >= 2"), move.format("-seq", "seq < 0"),
            f"INSERT INTO entry (bucket, account, seq, {columns}) SELECT bucket, account, 2, {columns} FROM entry "
            f"WHERE account = {row['account']} AND seq = 1",
        )  # fmt: skip
    (words,) = await broken(booked)
    assert words == f"block 1 of program green: account {row['account']}, entries 1 to {row['last']}: not what was sealed"


OF_SEALS = {
    "a hash": ("UPDATE seal_part SET hash = sha256(hash) WHERE block = 2", "block 2 of program green: its parts are not those that were sealed"),
    "a part": ("UPDATE seal_part SET last = last - 1 WHERE block = 2", "block 2 of program green: its parts are not those that were sealed"),
    "the content": ("UPDATE seal SET content = sha256(content) WHERE block = 2", "block 2 of program green: its parts are not those"),
    "the time": ("UPDATE seal SET sealed_at = sealed_at + interval '1 s' WHERE block = 2", "block 2 of program green: its head is not the hash"),
    "the head": ("UPDATE seal SET head = sha256(head) WHERE block = 2", "block 2 of program green: its head is not the hash"),
    "the count": ("UPDATE seal SET entries = entries + 1 WHERE block = 2", "block 2 of program green: its head is not the hash"),
    "the chain": ("UPDATE seal SET previous = sha256(previous) WHERE block = 2", "block 2 of program green: it does not follow from"),
    "a block": ("DELETE FROM seal WHERE block = 2", "block 2 of program green: it has parts, but is not in the chain"),
    "a number": ("UPDATE seal SET block = 7 WHERE block = 3", "block 3 of program green: it has parts, but is not in the chain"),
}  # fmt: skip


@pytest.mark.parametrize(("sql", "words"), OF_SEALS.values(), ids=OF_SEALS.keys())
async def test_a_changed_seal_is_named(world: World, sql: str, words: str) -> None:
    for seq in (1, 3, 5):
        async with world.pool.acquire() as conn:
            await book(conn, world, 77, seq)
        assert (await seal(world.pool, margin=NOW)).entries == 2
    async with world.pool.acquire() as conn:
        assert (await tamper(conn, sql)).split()[-1] == "1"
    found = await broken(world)
    assert found[0].startswith(words), found


async def test_a_block_hashed_anew_is_known_by_a_head_that_was_kept(booked: World) -> None:
    """Who changes an entry and all seals after it has a chain that holds; only the head tells."""
    await seal(booked.pool, margin=NOW)
    async with booked.pool.acquire() as conn:
        kept = (await proof.seals(conn, program=booked.program, before=2, limit=1)).items[0].head
        assert (await proof.verify(conn, program=booked.program, head=kept)).ok
        await tamper(
            conn, "UPDATE entry SET amount = amount + 1 WHERE book = 1", "DELETE FROM seal", "DELETE FROM seal_part",
            "UPDATE proof_progress SET through = '2000-01-01'",
        )  # fmt: skip
        await seal(booked.pool, margin=NOW)
        assert (await proof.verify(conn)).ok
        report = await proof.verify(conn, program=booked.program, head=kept)
    assert report.broken == [f"no block has the head {kept}"]


async def test_only_the_blocks_that_are_asked_for_are_verified(world: World) -> None:
    for seq in (1, 3):
        async with world.pool.acquire() as conn:
            await book(conn, world, 77, seq)
        await seal(world.pool, margin=NOW)
    async with world.pool.acquire() as conn:
        await tamper(conn, "UPDATE entry SET amount = 7 WHERE seq = 1")
        assert [(await proof.verify(conn, first=first)).found for first in (1, 2)] == [1, 0]
        assert [(await proof.verify(conn, program=program)).found for program in (world.program, world.program + 1)] == [1, 0]


# What commits when ----------------------------------------------------------------------------------------------


async def test_what_commits_late_is_sealed_later(world: World) -> None:
    """Its time is before that of what was sealed meanwhile; while it is open nothing moves past it."""
    async with world.pool.acquire() as slow, world.pool.acquire() as fast:
        late = slow.transaction()
        await late.start()
        await book(slow, world, 901)  # not of a bucket whose turn it is
        await book(fast, world, 902)
        await seal(world.pool, margin=NOW, buckets=1)
        await late.commit()
    sealed = await sealed_entries(world)
    await seal(world.pool, margin=NOW, buckets=1)
    assert (sealed, await sealed_entries(world)) == (sealed, 4)
    assert sealed < 4
    assert await broken(world) == []


async def test_what_nobody_could_see_coming_is_sealed_when_its_buckets_turn_comes(world: World) -> None:
    """A transaction began, slept past the margin without a trace, and wrote: its entries are dated before what has been looked at."""
    async with world.pool.acquire() as slow, world.pool.acquire() as fast:
        late = slow.transaction()
        await late.start()
        await slow.execute("SELECT 1")
        await asyncio.sleep(0.01)
        await book(fast, world, 2)
        await seal(world.pool, margin=NOW, buckets=1)
        assert await sealed_entries(world) == 2
        await book(slow, world, 900)
        await late.commit()
    await seal(world.pool, margin=NOW, buckets=1)
    assert await sealed_entries(world) == 2, "by its time alone it would be missed for ever"
    for _ in range(BUCKETS // 128 + 1):
        await seal(world.pool, margin=NOW, buckets=128)
    assert await sealed_entries(world) == 4
    assert await broken(world) == []


@pytest.mark.parametrize("second", [5, 6], ids=["of the same account", "of different accounts"])
async def test_two_sealers_never_fork_the_chain(world: World, second: int) -> None:
    """Even without the lock that keeps them apart: the second one waits for the first, and fails."""
    async with world.pool.acquire() as one, world.pool.acquire() as other:
        await book(one, world, 5)
        await book(one, world, 6)
        async with one.transaction():
            assert (await store.seal_buckets(one, range(5, 6))).entries == 2
            waiting = await blocked(world, store.seal_buckets(other, range(second, second + 1)))
        with pytest.raises(asyncpg.UniqueViolationError):
            await waiting
    assert await sealed_entries(world) == 2
    assert await broken(world) == []
    assert (await seal(world.pool, margin=NOW)).entries == 2


async def test_one_sealer_at_a_time(world: World) -> None:
    async with world.pool.acquire() as one:
        await book(one, world, 5)
        async with one.transaction():
            assert await store.try_sealing(one)
            assert (await seal(world.pool, margin=NOW)).entries == 0
    assert (await seal(world.pool, margin=NOW)).entries == 2


async def test_sealers_beside_writers_and_each_other(world: World) -> None:
    """Whoever is ended in the middle leaves nothing behind."""

    async def write(account: int) -> None:
        for seq in range(1, 31, 2):
            async with world.pool.acquire() as conn, conn.transaction():
                await book(conn, world, account, seq)

    async def seal_on(ended: list[bool]) -> None:
        while not ended:
            task = asyncio.create_task(seal(world.pool, margin=NOW))
            await asyncio.wait([task], timeout=0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    ended: list[bool] = []
    sealers = [asyncio.create_task(seal_on(ended)) for _ in range(2)]
    await asyncio.gather(*(write(account) for account in (5, 1_029, 6, 7)))
    ended.append(True)
    await asyncio.gather(*sealers)
    await seal(world.pool, margin=NOW, buckets=BUCKETS)
    assert await sealed_entries(world) == 120
    assert await broken(world) == []


async def test_what_has_a_gap_is_not_sealed(world: World) -> None:
    async with world.pool.acquire() as conn:
        for account in (3, 4):
            for seq in (1, 3, 5):
                await book(conn, world, account, seq)
        await tamper(conn, "DELETE FROM entry WHERE account = 3 AND seq = 4")
    assert (await seal(world.pool, margin=NOW, buckets=BUCKETS)).entries == 6
    assert {r["account"] for r in await world.rows("SELECT account FROM seal_part")} == {4}


async def test_blocks_are_bounded(world: World) -> None:
    """A long account in parts, many entries in several blocks, all dated alike."""
    accounts, entries = 24, 3_000
    await world.rows(
        "INSERT INTO account (bucket, id, program, last_seq) SELECT n & 1023, n, $1, 1 FROM generate_series(1, $2) n",
        world.program,
        accounts,
    )
    await world.rows(
        "INSERT INTO entry SELECT a & 1023, a, s, s, 9, 1, 1, $1, 1, 1, 0, 0, 0, 1, now() FROM generate_series(1, $2) a, "
        "generate_series(1, CASE a WHEN 1 THEN 12000 ELSE $3 END) s",
        world.program, accounts, entries,
    )  # fmt: skip
    there = 12_000 + (accounts - 1) * entries
    sealed = await seal(world.pool, margin=NOW)
    assert (sealed.entries, sealed.blocks) == (there, 2)
    sizes = await world.rows("SELECT block, entries, accounts FROM seal ORDER BY block")
    assert all(row["entries"] < store.BLOCK_ENTRIES + store.PART_ENTRIES for row in sizes)
    parts = await world.rows("SELECT first, last FROM seal_part WHERE account = 1 ORDER BY first")
    assert [(r["first"], r["last"]) for r in parts] == [(1, 10_000), (10_001, 12_000)]
    assert await broken(world) == []


# Append-only ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["origin", "replica"])
async def test_the_database_refuses_changes_of_the_book(booked: World, role: str) -> None:
    await seal(booked.pool, margin=NOW)
    async with booked.pool.acquire() as conn:
        await conn.execute(f"SET session_replication_role = {role}")
        for table in APPEND_ONLY:
            column = "account" if table != "seal" else "entries"
            for statement in (f"UPDATE {table} SET {column} = 0", f"DELETE FROM {table} WHERE false", f"TRUNCATE {table} CASCADE"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                    await conn.execute(statement)
    assert await broken(booked) == []

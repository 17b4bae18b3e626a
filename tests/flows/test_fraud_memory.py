"""Snapshots of what judges remember: whole or not at all, never over a later one's."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from service.fraud_memory import Memory, Overtaken

pytestmark = pytest.mark.anyio


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, socket_timeout=5) as made:
        yield made


async def test_what_was_saved_is_what_is_loaded(redis: Redis) -> None:
    memory = Memory(redis, epoch=1)
    assert await memory.load(1) is None
    many = [(b"r%d" % n, b"v" * n) for n in range(250)]
    await memory.save_everything(1, 1, many, seq=10)
    assert await memory.save(1, 1, [(b"r1", b"new"), (b"r2", None), (b"other", b"x")], before=10, seq=12)
    found = await memory.load(1)
    assert found is not None
    expected = dict(many) | {b"r1": b"new", b"other": b"x"}
    del expected[b"r2"]
    assert (found.seq, dict(found.records)) == (12, expected)
    assert await Memory(redis, epoch=2).load(1) is None, "another history"
    assert await memory.load(2) is None, "another program"


async def test_changes_are_not_written_onto_another_snapshot(redis: Redis) -> None:
    memory = Memory(redis, epoch=1)
    assert not await memory.save(1, 1, [(b"a", b"1")], before=0, seq=5), "there is none"
    await memory.save_everything(1, 1, [(b"a", b"1")], seq=5)
    assert not await memory.save(1, 1, [(b"a", b"3")], before=7, seq=9)
    found = await memory.load(1)
    assert found is not None
    assert (found.seq, found.records) == (5, [(b"a", b"1")])


async def test_who_was_overtaken_writes_nothing(redis: Redis) -> None:
    memory = Memory(redis, epoch=1)
    await memory.save_everything(1, 2, [(b"a", b"2")], seq=5)
    with pytest.raises(Overtaken):
        await memory.save(1, 1, [(b"a", b"1")], before=5, seq=6)
    with pytest.raises(Overtaken):
        await memory.save_everything(1, 1, [(b"a", b"1")], seq=6)
    found = await memory.load(1)
    assert found is not None
    assert (found.seq, found.records) == (5, [(b"a", b"2")])
    assert [key async for key in redis.scan_iter("*fraud*")] == [memory.key(1).encode()], "nothing is left beside it"


async def test_a_whole_snapshot_takes_the_place_of_what_was_there(redis: Redis) -> None:
    memory = Memory(redis, epoch=1)
    await memory.save_everything(1, 1, [(b"old", b"1")], seq=5)
    await memory.save_everything(1, 1, [(b"new", b"1")], seq=6)
    found = await memory.load(1)
    assert found is not None
    assert (found.seq, found.records) == (6, [(b"new", b"1")])

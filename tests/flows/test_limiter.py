"""Counting against limits: exact in one process, shared by several through Redis, going on without it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from service.api import limiter as module
from service.api.limiter import Limiter
from service.domain.limits import Limit
from service.local.ports import choose_port

TEN = Limit(10, 60)
START = 1_800_000_000.0  # the beginning of a minute
KEY = b"k" * 32


class Time:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


def limiter_on(redis: Redis, clock: Time, hash_key: bytes = KEY) -> Limiter:
    return Limiter(redis, clock=clock, hash_key=lambda: hash_key, wait_s=5.0)


def admitted(limiter: Limiter, times: int, limit: Limit = TEN, who: str = "a") -> int:
    return sum(limiter.take("me", (who,), limit).admitted for _ in range(times))


async def test_exactly_the_limit_is_admitted(redis: Redis, clock: Time) -> None:
    limiter = limiter_on(redis, clock)
    standings = [limiter.take("me", ("a",), TEN) for _ in range(12)]
    assert [s.admitted for s in standings] == [True] * 10 + [False] * 2
    assert [s.remaining for s in standings] == [*range(9, -1, -1), 0, 0]
    assert [s.after_s for s in standings] == [60] * 10 + [66] * 2
    assert limiter.refused == {"me": 2}
    assert admitted(limiter, 12, who="b") == 10, "another caller has its own"
    assert sum(limiter.take("read", ("a",), TEN).admitted for _ in range(12)) == 10, "so has another class"


async def test_after_the_wait_one_more_is_admitted_and_not_before(redis: Redis, clock: Time) -> None:
    limiter = limiter_on(redis, clock)
    assert admitted(limiter, 10) == 10
    wait = limiter.take("me", ("a",), TEN).after_s
    clock.now += wait - 0.01
    assert admitted(limiter, 1) == 0
    clock.now += 0.01
    assert admitted(limiter, 2) == 1


async def test_no_counted_window_gets_more_and_none_at_all_twice_as_much(redis: Redis, clock: Time) -> None:
    limiter = limiter_on(redis, clock)
    times = []
    for _ in range(1_200):
        clock.now += 0.5
        times += [clock.now] * admitted(limiter, 1)
    assert len(times) >= 90, "of the hundred that ten minutes are worth"
    assert max(sum(start <= t < start + 60 for t in times) for start in range(int(START), int(START) + 600, 60)) == 10
    assert max(sum(t <= other < t + 60 for other in times) for t in times) < 20


async def test_a_clock_that_is_set_back_gives_nothing_away(redis: Redis, clock: Time) -> None:
    limiter = limiter_on(redis, clock)
    clock.now += 30
    assert admitted(limiter, 12) == 10
    clock.now -= 3_600
    assert admitted(limiter, 1) == 0


async def test_two_processes_share_a_limit(redis: Redis, clock: Time) -> None:
    one, two = limiter_on(redis, clock), limiter_on(redis, clock)
    assert admitted(one, 6) == 6
    await one.exchange()
    assert admitted(two, 1) == 1, "it has not heard yet: what the time between two exchanges costs"
    await two.exchange()
    assert admitted(two, 12) == 3
    await two.exchange()
    assert admitted(one, 1) == 1, "until it hears, too"
    await one.exchange()
    assert admitted(one, 5) == 0
    clock.now += 60
    assert (admitted(one, 1), admitted(two, 1)) == (0, 0), "all of the window before counts"
    await asyncio.gather(one.exchange(), two.exchange())
    clock.now += 12
    assert admitted(two, 3) == 1, "10 less four fifths of 11, whoever counted them"


async def test_telling_twice_counts_once(redis: Redis, clock: Time) -> None:
    one, two = limiter_on(redis, clock), limiter_on(redis, clock)
    admitted(one, 4)
    admitted(two, 1)
    for _ in range(3):
        for count in one._counts["me"].values():
            one._touched[count] = None
        await one.exchange()
    await two.exchange()
    assert admitted(two, 12) == 5


async def test_what_changed_on_the_way_is_told_next(redis: Redis, clock: Time) -> None:
    one, two = limiter_on(redis, clock), limiter_on(redis, clock)
    admitted(one, 2)
    telling = asyncio.create_task(one.exchange())
    await asyncio.sleep(0)  # on its way to Redis
    admitted(one, 3)
    await telling
    await one.exchange()
    admitted(two, 1)
    await two.exchange()
    assert admitted(two, 12) == 4


async def test_a_caller_far_below_the_limit_is_not_told(redis: Redis, clock: Time) -> None:
    limiter = limiter_on(redis, clock)
    large = Limit(3_000, 60)
    admitted(limiter, 29, large)
    await limiter.exchange()
    assert await redis.keys() == []
    admitted(limiter, 2, large)
    await limiter.exchange()
    assert await redis.keys() != []


async def test_redis_learns_no_name_and_forgets(redis: Redis, clock: Time) -> None:
    limiter = limiter_on(redis, clock)
    limiter.take("anonymous", ("203.0.113.7",), TEN)
    await limiter.exchange()
    keys = await redis.keys()
    assert keys
    for key in keys:
        stored = await redis.hgetall(key)
        assert b"203.0" not in key + b"".join(stored) + b"".join(stored.values())
        assert 0 < await redis.pttl(key) <= 121_000


async def test_nothing_is_told_before_the_key_that_hides_callers_is_known(redis: Redis, clock: Time) -> None:
    limiter = limiter_on(redis, clock, hash_key=b"")
    assert admitted(limiter, 12) == 10
    await limiter.exchange()
    assert await redis.keys() == []


async def test_without_redis_a_process_goes_on_alone_and_catches_up(redis: Redis, clock: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    async with Redis(host="127.0.0.1", port=choose_port()) as nobody:
        limiter = limiter_on(nobody, clock)
        assert admitted(limiter, 12) == 10
        await limiter.exchange()
        assert limiter.failures == 1
        assert admitted(limiter, 1) == 0
        limiter._script = redis.register_script(module.EXCHANGE)  # it is back
        await limiter.exchange()
    other = limiter_on(redis, clock)
    admitted(other, 1)
    await other.exchange()
    assert admitted(other, 1) == 0, "what was counted meanwhile has been told"


async def test_a_redis_that_hangs_is_left_alone(clock: Time) -> None:
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the other side ends
        writer.close()
        ended.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, Redis(host="127.0.0.1", port=server.sockets[0].getsockname()[1]) as slow:
        limiter = Limiter(slow, clock=clock, hash_key=lambda: KEY, wait_s=0.01)
        admitted(limiter, 1)
        await limiter.exchange()
        await limiter.exchange()
        assert limiter.failures == 1, "the second exchange did not ask"
        await slow.aclose()
        await ended.wait()


async def test_callers_are_remembered_up_to_a_bound(redis: Redis, clock: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CALLERS", 100)
    limiter = limiter_on(redis, clock)
    admitted(limiter, 10, who="kept")
    for n in range(500):
        admitted(limiter, 1, who=f"other {n}")
        assert admitted(limiter, 1, who="kept") == 0, "who calls often is not forgotten"
    assert len(limiter._counts["me"]) == 100
    assert len(limiter._touched) <= 100
    assert sum(name.limit is not None for name in limiter._counts["me"].values()) == 100


async def test_one_exchange_is_bounded_and_nobody_waits_for_ever(redis: Redis, clock: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EXCHANGED", 20)
    monkeypatch.setattr(module, "CALL", 7)
    limiter = limiter_on(redis, clock)
    for n in range(50):
        admitted(limiter, 1, who=f"caller {n}")
    for left in (30, 10, 0):
        await limiter.exchange()
        assert len(limiter._touched) == left
    assert len(await redis.keys()) == 50


async def test_a_new_limit_counts_from_now_on(redis: Redis, clock: Time) -> None:
    limiter = limiter_on(redis, clock)
    assert admitted(limiter, 8) == 8
    assert admitted(limiter, 8, Limit(5, 60)) == 0
    assert admitted(limiter, 8, Limit(12, 60)) == 4
    assert admitted(limiter, 8, Limit(3, 10)) == 3, "another window begins empty"

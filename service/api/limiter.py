"""Counting requests against limits, in this process at once and in Redis together with the others.

A decision takes nothing but this process's numbers. Every 100 ms they are exchanged: each process writes its own counts, absolute, into a
hash per caller and window, and reads the sum of the others'. Writing them twice, late or not at all is harmless, so nothing is ever counted
twice; with Redis gone each process goes on alone and enforces the whole limit by its own count.

So a caller that spreads its requests over several processes can get more than its limit by what they admit between two exchanges: with n
processes, at most (n - 1) × what it sends in 100 ms, and by the hundredth of the limit below which a count is not exchanged at all.
"""

import asyncio
import hashlib
import itertools
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import structlog
from msgspec import Struct
from redis.asyncio import Redis

from service.domain.limits import Limit, room, wait_s
from service.projection import REDIS_UNREACHABLE

EXCHANGE_S: Final = 0.1
MAX_CALLERS: Final = 8_192
"""Callers of one class that are remembered; the one unused for longest is forgotten, and what it used with it."""
MAX_EXCHANGED: Final = 1_000
"""Callers of one exchange; the others wait for the next."""
CALL: Final = 250
"""Callers of one script call: Redis is busy for about a millisecond."""
QUIET_SHARE: Final = 100
"""A caller who has used less than this part of the limit (a hundredth) here is not exchanged: most callers never are."""
PAUSE_S: Final = 1.0
"""Redis is left alone for that long after a failure."""

# For each key: this process's field and count, and the key's life; the answer is the sum of the other fields.
EXCHANGE: Final = """
local others = {}
for i = 1, #KEYS do
  local own = tonumber(ARGV[3 * i - 1])
  if own > 0 then
    redis.call('HSET', KEYS[i], ARGV[3 * i - 2], own)
    redis.call('PEXPIRE', KEYS[i], ARGV[3 * i])
  end
  local sum = 0
  for _, count in ipairs(redis.call('HVALS', KEYS[i])) do
    sum = sum + tonumber(count)
  end
  others[i] = sum - own
end
return others
"""

log = structlog.get_logger("greenpoints.limiter")

Who = tuple[object, ...]
"""What tells a caller from the others of its class."""


class Standing(Struct, frozen=True):
    """Where a caller stands after a request: whether it was admitted, how many more would be, and when there will be more."""

    admitted: bool
    remaining: int
    after_s: int
    """Refused: when a request fits again. Admitted: the end of the window that is being counted."""


class _Count:
    """What one caller has used in the window `number` and in the one before, here and elsewhere."""

    __slots__ = ("before", "counted", "field", "limit", "name", "number", "others", "others_before")

    def __init__(self, name: str, limit: Limit, number: int, field: str) -> None:
        self.name = name
        self.limit = limit
        self.number = number
        self.field = field
        self.counted = self.before = self.others = self.others_before = 0

    def turn(self, number: int) -> None:
        """Time has come to this window. A clock that was set back changes nothing."""
        if number == self.number + 1:
            self.before, self.others_before = self.counted, self.others
            self.counted = self.others = 0
        elif number > self.number:
            self.before = self.others_before = self.counted = self.others = 0
        else:
            return
        self.number = number


class Limiter:
    """The counts of one process. Not for use from several event loops."""

    def __init__(self, redis: Redis, *, clock: Callable[[], float], hash_key: Callable[[], bytes], wait_s: float) -> None:
        """`clock` is seconds since 1970, the same for all processes; `hash_key` hides callers in Redis; empty: not known yet."""
        self._clock = clock
        self._hash_key = hash_key
        self._wait_s = wait_s
        self._script = redis.register_script(EXCHANGE)
        self._process = secrets.token_hex(6)
        self._numbers = itertools.count()
        self._counts: dict[str, OrderedDict[Who, _Count]] = {}
        self._touched: dict[_Count, None] = {}
        self._paused_until = 0.0
        self.refused: dict[str, int] = {}
        """Refusals by class, for metrics."""
        self.failures = 0

    def take(self, kind: str, who: Who, limit: Limit) -> Standing:
        """Count a request of this caller, unless it must be refused: that one does not count."""
        now = self._clock()
        count, elapsed_s = self._at(kind, who, limit, now)
        before, counted = count.before + count.others_before, count.counted + count.others
        left = room(limit, before=before, counted=counted, elapsed_s=elapsed_s)
        if (counted + 1) * QUIET_SHARE > limit.requests:
            self._touched[count] = None
        if left < 1:
            self.refused[kind] = self.refused.get(kind, 0) + 1
            return Standing(admitted=False, remaining=0, after_s=wait_s(limit, before=before, counted=counted, elapsed_s=elapsed_s))
        count.counted += 1
        return Standing(admitted=True, remaining=int(left - 1), after_s=math.ceil(limit.per_s - elapsed_s))

    def _at(self, kind: str, who: Who, limit: Limit, now: float) -> tuple[_Count, float]:
        """The caller's count, turned to the present, and the seconds of its window that have passed."""
        number = int(now // limit.per_s)
        counts = self._counts.get(kind)
        if counts is None:
            counts = self._counts[kind] = OrderedDict()
        count = counts.get(who)
        if count is None or count.limit.per_s != limit.per_s:
            name = "\0".join((kind, *map(str, who)))
            count = counts[who] = _Count(name, limit, number, f"{self._process}-{next(self._numbers):x}")
            if len(counts) > MAX_CALLERS:
                self._touched.pop(counts.popitem(last=False)[1], None)
        counts.move_to_end(who)
        count.limit = limit
        if number != count.number:
            count.turn(number)
        return count, max(0.0, now - count.number * limit.per_s)

    # Redis

    async def keep_exchanging(self) -> None:
        """Exchange until the task is cancelled."""
        task = asyncio.current_task()
        assert task is not None
        while not task.cancelling():  # asked for: redis-py now and then swallows a cancellation while it takes a connection
            await asyncio.sleep(EXCHANGE_S)
            await self.exchange()

    async def exchange(self) -> None:
        """Tell the other processes what was counted here and hear what was counted there, for callers who called lately.

        Raises nothing: without Redis this process goes on with its own counts, and they are told when it is back.
        """
        hash_key = self._hash_key()
        if not self._touched or not hash_key or time.monotonic() < self._paused_until:
            return
        chosen = list(itertools.islice(self._touched, MAX_EXCHANGED))
        for start in range(0, len(chosen), CALL):
            part = chosen[start : start + CALL]
            try:
                async with asyncio.timeout(self._wait_s):
                    await self._tell(part, hash_key)
            except REDIS_UNREACHABLE as error:
                self._failed(error)
                return

    async def _tell(self, counts: list[_Count], hash_key: bytes) -> None:
        keys: list[bytes] = []
        arguments: list[Any] = []
        numbers = [count.number for count in counts]
        for count in counts:
            name = _hidden(count, hash_key)
            life_ms = count.limit.per_s * 2_000 + 1_000
            keys += (b"%b:%d" % (name, count.number), b"%b:%d" % (name, count.number - 1))
            arguments += (count.field, count.counted, life_ms, count.field, count.before, life_ms)
        told = [count.counted for count in counts]
        others = await self._script(keys=keys, args=arguments)
        for i, (count, number) in enumerate(zip(counts, numbers, strict=True)):
            if count in self._touched:
                del self._touched[count]
                if count.number != number or count.counted != told[i]:
                    self._touched[count] = None  # behind those that have waited
            if count.number == number:
                count.others, count.others_before = others[2 * i], others[2 * i + 1]
            elif count.number == number + 1:
                count.others_before = others[2 * i]

    def _failed(self, error: BaseException) -> None:
        if not self.failures:
            log.warning("limits are not shared between processes while the balance Redis does not answer", error=type(error).__name__)
        self.failures += 1
        self._paused_until = time.monotonic() + PAUSE_S


def _hidden(count: _Count, hash_key: bytes) -> bytes:
    """A caller's name in Redis: who it is cannot be told from it. One hash tag for all, so that a script reaches them in a cluster."""
    digest = hashlib.blake2b(count.name.encode(), key=hash_key[:64], digest_size=12).hexdigest()
    return b"gp:{limits}:%d:%b" % (count.limit.per_s, digest.encode())

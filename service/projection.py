"""Balances in Redis: a projection that can only be behind PostgreSQL, never wrong for long (DESIGN §1).

A value is `<version, 20 digits><flag><JSON object body>`; a write is accepted only if it is newer than what is there, so
writing twice, out of order or not at all is harmless. Flag `d` says that the body has the details that only a reader
computes (next_available, expiring); `-` that it has the balances alone; `h` that the account is linked: the body is the id of the one
that has its points. The deployment's epoch is part of every key and is
raised after a restore, so that keys of another history are never read. Each key carries one hash tag, for a cluster.

The longest a wrong (older) value can live: until the next sweep of a worker (`service.flows.mend`), at most its TTL.
"""

import asyncio
import random
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import structlog
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from schemas.events import Balance
from service.telemetry import metrics, tallies, traces

ACCEPT_NEWER = """
local accepted = 0
for i = 1, #KEYS do
  local value = ARGV[i + 1]
  local old = redis.call('GETRANGE', KEYS[i], 0, 19)
  local new = string.sub(value, 1, 20)
  if old == '' or old < new or (old == new and string.sub(value, 21, 21) == 'd') then
    redis.call('SET', KEYS[i], value, 'PX', ARGV[1])
    accepted = accepted + 1
  end
end
return accepted
"""
REDIS_UNREACHABLE = (RedisError, OSError, TimeoutError, RuntimeError)
"""What a command raises when Redis is down, gone or too slow: a failure of Redis, no defect of ours.

RuntimeError is what uvloop raises where a connection is reset between being made and its first command: "the handler is closed".
"""
MAX_KEYS = 500
"""Keys of one call; more are sent in turn, so that Redis is never busy for long."""
PAUSE_S = 1.0
"""Redis is left alone for that long when it is gone, so that it costs one wait a second, not one a request."""
PATIENCE = 3
"""Waits in a row that Redis may exceed before it counts as gone: a single one may have been our own hiccup."""
VERSION_DIGITS = 20
MARK_MS = 3_600_000
"""Life of a mark; longer than the pause of any sweep that is not dead."""

log = structlog.get_logger("greenpoints.projection")
_encode = msgspec.json.Encoder().encode


class Held(Struct, frozen=True, kw_only=True, gc=False):
    """A balance as read back: its version, the JSON object body without braces, and whether that has the details."""

    version: int
    body: bytes
    detailed: bool
    home: int | None = None
    """Another account has the points; then there is no body."""


class Projection:
    """Reads and writes balances; every wait is bounded, a failure is an answer, never an exception."""

    def __init__(self, redis: Redis, *, epoch: int, ttl_s: int, wait_ms: float) -> None:
        self.redis = redis
        self.epoch = epoch
        self.wait_s = wait_ms / 1_000
        self._ttl_ms = ttl_s * 1_000
        self._script = redis.register_script(ACCEPT_NEWER)
        self._paused_until = 0.0
        self._late = 0
        self._wanted: dict[int, asyncio.Future[Held | None]] = {}
        self._fence_misses = tallies.count(metrics.FENCE_MISSES)
        self._failures = tallies.count(metrics.BALANCE_REDIS_FAILURES)

    @property
    def usable(self) -> bool:
        """False for a moment after a failure."""
        return time.monotonic() >= self._paused_until

    def key(self, account: int) -> bytes:
        """The key of an account's balance."""
        return b"gp:%d:balance:{%d}" % (self.epoch, account)

    async def push(self, balances: Iterable[tuple[int, Balance]], *, wait_s: float | None = None) -> bool:
        """Offer newer balances; whether Redis took notice in time. What it missed, a sweep of a worker pushes again."""
        with traces.inner_span("push balances"):
            return await self._offer(
                [(account, _value(balance.version, b"-", _encode(balance)[1:-1])) for account, balance in balances], wait_s
            )

    async def point(self, pointers: Iterable[tuple[int, int, int]], *, wait_s: float | None = None) -> bool:
        """Say of linked accounts where their points are: (account, its version, the account that has them)."""
        return await self._offer([(account, _value(version, b"h", b"%d" % home)) for account, version, home in pointers], wait_s)

    async def answers(self) -> bool:
        """Whether Redis answers within the bound of a request's wait."""
        try:
            async with asyncio.timeout(self.wait_s):
                await self.redis.ping()
        except REDIS_UNREACHABLE:
            return False
        return True

    async def has_forgotten(self, name: str) -> bool:
        """Whether Redis has lost the mark that the last call with this name left; leaves one. False when Redis does not answer."""
        if not self.usable:
            return False
        try:
            async with asyncio.timeout(self.wait_s):
                before = await self.redis.set(b"gp:%d:mark:%b" % (self.epoch, name.encode()), b"1", px=MARK_MS, get=True)
        except REDIS_UNREACHABLE as error:
            self._failed(error)
            return False
        return before is None

    async def fill(self, account: int, version: int, body: bytes) -> bool:
        """Offer a balance with its details, as a reader computed it."""
        return await self._offer([(account, _value(version, b"d", body))], None)

    async def forget(self, accounts: Sequence[int]) -> bool:
        """Remove balances; whether Redis did so. What a settlement or a refund pushes later is a number under a number again."""
        for start in range(0, len(accounts), MAX_KEYS):
            try:
                async with asyncio.timeout(self.wait_s):
                    await self.redis.unlink(*map(self.key, accounts[start : start + MAX_KEYS]))
            except REDIS_UNREACHABLE as error:
                self._failed(error)
                return False
        return True

    async def _offer(self, values: Sequence[tuple[int, bytes]], wait_s: float | None) -> bool:
        if not self.usable:
            return not values
        for start in range(0, len(values), MAX_KEYS):
            part = values[start : start + MAX_KEYS]
            life = int(self._ttl_ms * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            try:
                async with asyncio.timeout(wait_s or self.wait_s):
                    accepted = await self._script(keys=[self.key(account) for account, _ in part], args=[life, *(v for _, v in part)])
            except REDIS_UNREACHABLE as error:
                self._failed(error)
                return False
            self._fence_misses.add(len(part) - accepted)
            self._late = 0
        return True

    def read(self, account: int) -> "asyncio.Future[Held | None]":
        """The balance of an account, or None if Redis does not know it. Reads of the same moment share one round trip."""
        future = self._wanted.get(account)
        if future is None:
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            if not self.usable:
                future.set_result(None)
                return future
            if not self._wanted:
                loop.call_soon(self._flush)
            self._wanted[account] = future
        return future

    def _flush(self) -> None:
        wanted, self._wanted = self._wanted, {}
        task = asyncio.get_running_loop().create_task(self._read(wanted))
        task.add_done_callback(_retrieve)

    async def _read(self, wanted: "dict[int, asyncio.Future[Held | None]]") -> None:
        values: Sequence[Any] = [None] * len(wanted)
        try:
            async with asyncio.timeout(self.wait_s):
                values = await self.redis.mget([self.key(account) for account in wanted])
            self._late = 0
        except REDIS_UNREACHABLE as error:
            self._failed(error)
        for future, value in zip(wanted.values(), values, strict=True):
            if not future.done():
                future.set_result(None if value is None else parse(value))

    def _failed(self, error: BaseException) -> None:
        self._failures.add()
        self._late += 1
        if isinstance(error, TimeoutError) and self._late < PATIENCE:
            return
        if self.usable:
            log.warning("balance Redis does not answer; reads go to PostgreSQL, a sweep will catch up", error=type(error).__name__)
        self._paused_until = time.monotonic() + PAUSE_S


def parse(value: bytes) -> Held:
    """A stored value. Raises ValueError for what is none."""
    version, flag, body = int(value[:VERSION_DIGITS]), value[VERSION_DIGITS : VERSION_DIGITS + 1], value[VERSION_DIGITS + 1 :]
    if flag == b"h":
        return Held(version=version, body=b"", detailed=False, home=int(body))
    return Held(version=version, body=body, detailed=flag == b"d")


def _value(version: int, flag: bytes, body: bytes) -> bytes:
    return b"%020d%b%b" % (version, flag, body)


def _retrieve(task: "asyncio.Task[None]") -> None:
    """A defect in the reading task is logged, and its waiters fall through to PostgreSQL by their own bound."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("reading balances failed", exc_info=error)

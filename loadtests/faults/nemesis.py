"""What goes wrong: processes killed and paused, Redis emptied, PostgreSQL stopped at once, connections cut. By chance, from a seed."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
from redis.asyncio import Redis

from service.local.data_dir import read_private
from service.local.up import Pids, UpFile
from service.projection import REDIS_UNREACHABLE
from service.store.connection import UNREACHABLE

PAUSE_S = (0.3, 2.5)
"""How long something that is stopped stays so."""
REST_S = (0.4, 2.0)
"""Between two faults."""
TOGETHER = 0.25
"""How often a second fault comes with the first."""
PATIENCE_S = 3.0
"""For a server that it strikes at to take a connection and to answer."""


class Missed(Exception):
    """There was nothing to strike at: it was down already."""


class Nemesis:
    """Strikes at a system that `up` runs. `faults` counts by kind."""

    def __init__(self, up_file: Path, seed: int) -> None:
        self.faults: Counter[str] = Counter()
        self.longest_recovery_s = 0.0
        self.slowest = ""
        self._path = up_file
        self._order = random.Random(seed)
        """What is struck when; apart from the rest, so that it does not depend on what happens meanwhile."""
        self._random = random.Random(seed)
        self._frozen: set[int] = set()
        self._waiting: list[tuple[str, float]] = []
        """(kind, when) of faults after which nobody has been answered yet."""
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "API killed": lambda: self._kill(self._pids().api),
            "API paused": lambda: self._pause(self._pids().api),
            "worker killed": lambda: self._kill(self._pids().worker),
            "worker paused": lambda: self._pause(self._pids().worker),
            "Valkey killed": lambda: self._kill(_one(self._pids().valkey)),
            "Valkey paused": lambda: self._pause(_one(self._pids().valkey)),
            "Valkey flushed": self._flush,
            "Valkey connections cut": self._cut_redis,
            "PostgreSQL stopped immediately": lambda: self._signal(_one(self._pids().postgres), signal.SIGQUIT),
            "PostgreSQL paused": self._pause_postgres,
            "PostgreSQL connections cut": self._cut_postgres,
        }

    @property
    def kinds(self) -> list[str]:
        """All that may happen."""
        return list(self._kinds)

    async def strike(self, until: float) -> None:
        """Strike until a time of the monotonic clock; each kind once first, in an order from the seed, then by chance."""
        first = self._order.sample(self.kinds, len(self.kinds))
        while time.monotonic() < until:
            await asyncio.sleep(self._order.uniform(*REST_S))
            chosen = [first.pop() if first else self._order.choice(self.kinds)]
            if self._order.random() < TOGETHER:
                chosen.append(self._order.choice(self.kinds))
            await asyncio.gather(*(self._one(kind) for kind in chosen))

    async def _one(self, kind: str) -> None:
        try:
            await self._kinds[kind]()
        except (Missed, ProcessLookupError, asyncpg.PostgresError, *REDIS_UNREACHABLE, *UNREACHABLE):
            return
        self.faults[kind] += 1
        self._waiting.append((kind, time.monotonic()))

    def answered(self, begun: float) -> None:
        """A caller was answered whose request began then: what was struck before it has recovered."""
        if self._waiting and self._waiting[0][1] <= begun:
            now = time.monotonic()
            for kind, at in [each for each in self._waiting if each[1] <= begun]:
                if now - at > self.longest_recovery_s:
                    self.longest_recovery_s, self.slowest = now - at, kind
            self._waiting = [each for each in self._waiting if each[1] > begun]

    def heal(self) -> None:
        """Let everything go on that we have stopped."""
        for pid in self._frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._frozen.clear()

    # Striking

    def _up(self) -> UpFile:
        found = read_private(self._path, UpFile)
        if found is None:
            raise Missed
        return found

    def _pids(self) -> Pids:
        return self._up().pids

    async def _signal(self, pids: list[int], number: signal.Signals) -> None:
        if not pids:
            raise Missed
        pid = self._random.choice(sorted(pids))
        os.kill(pid, number)

    async def _kill(self, pids: list[int]) -> None:
        await self._signal(pids, signal.SIGKILL)

    async def _pause(self, pids: list[int]) -> None:
        if not pids:
            raise Missed
        await self._freeze([self._random.choice(sorted(pids))])

    async def _freeze(self, pids: list[int]) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                self._frozen.add(pid)
        await asyncio.sleep(self._random.uniform(*PAUSE_S))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            self._frozen.discard(pid)

    async def _pause_postgres(self) -> None:
        """The server with all its backends: connections stay open, nobody answers."""
        (server,) = _one(self._pids().postgres)
        await self._freeze([server, *_children(server)])

    async def _cut_postgres(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            connection = await asyncpg.connect(self._up().database_url, timeout=PATIENCE_S)
            try:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
                )
            finally:
                connection.terminate()

    async def _flush(self) -> None:
        await self._on_redis("FLUSHALL")

    async def _cut_redis(self) -> None:
        await self._on_redis("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def _on_redis(self, *words: str) -> None:
        async with (
            asyncio.timeout(PATIENCE_S),
            Redis.from_url(self._up().balance_redis_url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S) as redis,
        ):
            await redis.execute_command(*words)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def _one(pid: int | None) -> list[int]:
    return [] if pid is None else [pid]

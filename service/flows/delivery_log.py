"""The log of inbound deliveries: rows gather in memory for a moment and are written together, so that no delivery waits for its row.

A process that is killed loses the rows of its last moments, never an event: those are committed before the delivery is answered.
What verified and could not be credited is not gathered here but written, with its body, before the answer (`keep`).
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime

import structlog
from msgspec import Struct

from service.domain.deliveries import Delivery, Refusals
from service.store import deliveries as store
from service.store.connection import UNREACHABLE, Pool

INTERVAL_S = 0.2
MAX_ROWS = 10_000
"""Rows that may wait; beyond it the oldest is dropped."""
ROWS_AT_ONCE = 1_000
REFUSED_PER_MINUTE = 10
"""Forged deliveries of a hook that one process writes down in a minute; the others are counted in one row."""
ACQUIRE_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 5.0

log = structlog.get_logger("greenpoints.deliveries")


class LogStatistics(Struct):
    """Counters for metrics."""

    written: int = 0
    dropped: int = 0


class DeliveryLog:
    """One per serving process. Not for use from several event loops."""

    def __init__(self, pool: Pool, now: Callable[[], datetime], *, max_rows: int = MAX_ROWS) -> None:
        self.statistics = LogStatistics()
        self._pool = pool
        self._now = now
        self._max_rows = max_rows
        self._rows: deque[Delivery] = deque()
        self._refusals = Refusals(REFUSED_PER_MINUTE)
        self._turn = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, row: Delivery) -> None:
        """Write it down within a moment."""
        self._put([row])

    def refuse(self, row: Delivery) -> None:
        """Write it down, or only count it if the hook has had many of the kind in this minute."""
        self._put(self._refusals.add(row))

    def start(self) -> None:
        """Start writing."""
        self._task = asyncio.create_task(self._write(), name="delivery-log")

    async def stop(self) -> None:
        """Write what has gathered, for at most STOP_TIMEOUT_S, and stop."""
        self._put(self._refusals.ended(None))
        self._stopping.set()
        with contextlib.suppress(*UNREACHABLE):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                if self._task is not None:
                    await self._task
                await self.flush()

    async def flush(self) -> None:
        """Write what has gathered now. Raises what PostgreSQL raises when it is not there; nothing is lost then."""
        async with self._turn:
            await self._flush()

    async def _flush(self) -> None:
        while self._rows:
            rows = [self._rows.popleft() for _ in range(min(len(self._rows), ROWS_AT_ONCE))]
            try:
                async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn:
                    await store.write(conn, rows)
            except UNREACHABLE:
                self._rows.extendleft(reversed(rows))
                self._make_room()
                raise
            except Exception:
                self.statistics.dropped += len(rows)
                log.exception("rows of the delivery log could not be written", rows=len(rows))
            else:
                self.statistics.written += len(rows)

    async def _write(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), INTERVAL_S)
            self._put(self._refusals.ended(self._now()))
            with contextlib.suppress(*UNREACHABLE):
                await self.flush()

    def _put(self, rows: Iterable[Delivery]) -> None:
        self._rows.extend(rows)
        self._make_room()

    def _make_room(self) -> None:
        over = len(self._rows) - self._max_rows
        if over > 0:
            if self.statistics.dropped == 0:
                log.warning("the delivery log is full: its oldest rows are dropped")
            self.statistics.dropped += over
            for _ in range(over):
                self._rows.popleft()

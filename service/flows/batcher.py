"""Group commit: requests hand their facts to a lane and wait; a lane commits what has gathered (DESIGN §1)."""

import asyncio
import contextlib
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import asyncpg
import structlog
from msgspec import Struct

from service import failpoints
from service.domain.errors import Internal, Overloaded, Unavailable
from service.domain.posting import Account
from service.flows.outcomes import Outcome, Received
from service.store.connection import UNREACHABLE, Connection, Pool
from service.telemetry import metrics, tallies, traces

MAX_CONFLICTS = 5
"""Attempts of one batch against deadlocks and serialisation failures."""
ANSWERS_AT_ONCE = 8
"""Requests of a batch that are answered before the next batch's statements get a turn: all at once would hold them up."""
WATCH_INTERVAL_S = 0.1
RECONNECT_S = 0.2
REST = 4
"""How much longer than its batch took a lane rests that gives way."""
BUSY_FOR_S = 0.1
"""A lane counts as busy for so long after a request."""
PATIENCE_S = 0.02
"""How long a fact waits for the end of another writer's batch before it gets one of its own."""
_CONFLICTS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)

log = structlog.get_logger("greenpoints.batcher")

Publish = Callable[[Sequence[Account], bool], Awaitable[None]]
"""Called after COMMIT and before the answers: push the balances, ring the doorbell. Bounded in time."""


T = TypeVar("T")


class Work(Struct, Generic[T], frozen=True, kw_only=True):
    """What a lane does with the items of its requests."""

    commit: Callable[[Connection, Sequence[T], int], Awaitable[Received]]
    """In one transaction; given a connection, the items and a stripe of roll-ups. Safe to repeat."""
    get_ready: Callable[[Connection], Awaitable[None]]
    """Called once with each connection."""
    name: Callable[[T], str]
    """What to call an item in logs and metrics."""
    count: Callable[[Sequence[T], Received], None]
    """Called once with each batch that was committed."""
    failed: Callable[[T], None]
    """Called with an item that no batch can commit."""


class _Unwritable(Exception):
    """A value that the driver cannot encode: an InterfaceError, as a lost connection is, but no fault of PostgreSQL."""


class Waiting(Struct, Generic[T], eq=False):
    """Items of one request, and who waits for what comes of them."""

    items: list[T]
    future: "asyncio.Future[list[Outcome]]"
    since: float
    trace: traces.Link = None
    """The request's span, when traces are on."""


class Writer(Struct, frozen=True):
    """A connection that commits, and the roll-up rows that are its own: so two writers never wait for each other's."""

    connection: Connection
    stripe: int


class LaneTallies:
    """What is counted of one lane; each batch adds to it once, not each event."""

    def __init__(self, lane: str) -> None:
        self.batch_events = tallies.spread(metrics.LANE_BATCH_EVENTS, lane)
        self.batch_requests = tallies.spread(metrics.LANE_BATCH_REQUESTS, lane)
        self.commit_s = tallies.spread(metrics.LANE_COMMIT_SECONDS, lane)
        self.overloaded = tallies.count(metrics.LANE_OVERLOADED, lane)
        self.timed_out = tallies.count(metrics.LANE_TIMED_OUT, lane)
        self.isolated = tallies.count(metrics.LANE_ISOLATED, lane)
        self.conflicts = tallies.count(metrics.LANE_CONFLICTS, lane)


class Lane(Generic[T]):
    """A bounded queue with `writers` connections that commit from it; single credits and bulk bodies have one each."""

    def __init__(
        self, name: str, *, pool: Pool, work: Work[T], publish: Publish, batch_events: int, queue_requests: int,
        batch_wait_s: float, answer_timeout_s: float, writers: int, crowd: int = 1, gives_way_to: "Lane[T] | None" = None,
    ) -> None:  # fmt: skip
        """`crowd`: so many requests are worth a second batch beside one that is being committed.

        `gives_way_to`: while that lane is busy, this one commits one batch at a time, and rests after it.
        """
        self.name = name
        self.tallies = LaneTallies(name)
        self._pool = pool
        self._work = work
        self._publish = publish
        self._batch_events = batch_events
        self._queue_requests = queue_requests
        self._batch_wait_s = batch_wait_s
        self._answer_timeout_s = answer_timeout_s
        self._queue: deque[Waiting[T]] = deque()
        self._committing: set[Waiting[T]] = set()
        self._changed = asyncio.Event()
        """Something came into the queue, or a batch has ended."""
        self._crowd = crowd
        self._tasks: list[asyncio.Task[None]] = []
        self._publishing: set[asyncio.Task[None]] = set()
        self._writers = writers
        self._down: str | None = None
        self._gives_way_to = gives_way_to
        self._alone = asyncio.Lock()
        self._newest = 0.0

    def start(self) -> None:
        """Start committing."""
        self._tasks = [asyncio.create_task(self._write(), name=f"{self.name}-writer-{i}") for i in range(self._writers)]
        self._tasks.append(asyncio.create_task(self._watch(), name=f"{self.name}-watch"))

    async def stop(self) -> None:
        """Stop; who still waits is told that the outcome is unknown."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._publishing, return_exceptions=True)
        self._fail([*self._queue, *self._committing], "This process is stopping.")
        self._queue.clear()

    @property
    def is_busy(self) -> bool:
        """Whether requests are coming in."""
        return bool(self._queue) or time.monotonic() - self._newest < BUSY_FOR_S

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def is_full(self) -> bool:
        """Whether one more request would be refused."""
        return len(self._queue) >= self._queue_requests

    @property
    def committing(self) -> int:
        """Requests that are being committed."""
        return len(self._committing)

    @property
    def oldest_s(self) -> float:
        """How long the oldest request has been queued or committed; 0 when there is none."""
        since = [waiting.since for waiting in self._committing]
        if self._queue:
            since.append(self._queue[0].since)
        return time.monotonic() - min(since) if since else 0.0

    @property
    def is_stuck(self) -> bool:
        """Whether somebody's outcome has not come although the answer timeout, and the watch after it, have passed."""
        return self.oldest_s > self._answer_timeout_s + 2 * WATCH_INTERVAL_S

    def submit(self, items: list[T]) -> "asyncio.Future[list[Outcome]]":
        """Hand over items; the future gives one outcome for each, in order. Raises Overloaded or Unavailable at once."""
        if self._down is not None:
            raise Unavailable(self._down)
        if self.is_full:
            raise self.overloaded()
        future: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self._newest = time.monotonic()
        self._queue.append(Waiting(items, future, self._newest, traces.link()))
        self._changed.set()
        return future

    def overloaded(self) -> Overloaded:
        """The refusal of one more request, counted."""
        self.tallies.overloaded.add()
        return Overloaded("More events are waiting than can be committed in time.")

    # Committing

    async def _write(self) -> None:
        """Commit batch after batch on one connection; a lost one is replaced."""
        while True:
            try:
                async with self._pool.acquire() as connection:
                    await self._work.get_ready(connection)
                    self._down = None
                    writer = Writer(connection, secrets.randbelow(2**31))
                    while True:
                        if self._gives_way_to is None:
                            await self._commit(writer, await self._gather())
                        else:
                            await self._commit_aside(writer, self._gives_way_to)
            except UNREACHABLE as error:
                if self._down is None:
                    log.warning("PostgreSQL does not answer", lane=self.name, error=type(error).__name__)
                self._down = "The database does not answer."
                waiting = list(self._queue)
                self._queue.clear()
                self._fail(waiting, self._down)
                await asyncio.sleep(RECONNECT_S)

    async def _commit_aside(self, writer: Writer, other: "Lane[T]") -> None:
        """Commit a batch; while the other lane is busy alone, with a rest after it."""
        if not other.is_busy:
            await self._commit(writer, await self._gather())
            return
        async with self._alone:
            taken = await self._gather()
            start = time.monotonic()
            await self._commit(writer, taken)
            if other.is_busy:
                await asyncio.sleep(REST * (time.monotonic() - start))

    async def _gather(self) -> list[Waiting[T]]:
        """Wait for work, then a moment for company, then take as much as fits into one transaction.

        While another writer is at work, a few facts wait for its end: two small batches cost more than one, and are no sooner done.
        """
        while not self._queue or (self._committing and len(self._queue) < self._crowd and not self._is_slow()):
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S if self._queue else None):
                    await self._changed.wait()
        if self._batch_wait_s and len(self._queue) < self._batch_events:
            await asyncio.sleep(self._batch_wait_s)
        taken: list[Waiting[T]] = []
        events = 0
        while self._queue and (not taken or events + len(self._queue[0].items) <= self._batch_events):
            waiting = self._queue.popleft()
            taken.append(waiting)
            events += len(waiting.items)
        return taken

    def _is_slow(self) -> bool:
        """Whether the first in the queue has waited long enough for another writer's end."""
        return time.monotonic() - self._queue[0].since > PATIENCE_S

    async def _commit(self, writer: Writer, taken: list[Waiting[T]]) -> None:
        if not taken:
            return
        self._committing.update(taken)
        try:
            await self._credit(writer, taken)
        except UNREACHABLE:
            self._fail(taken, "The database went away while this was being committed; the outcome is unknown.")
            raise
        except asyncio.CancelledError:
            self._fail(taken, "This process is stopping; the outcome is unknown.")
            raise
        except Exception:
            # A writer must outlive any defect, or its lane would hang.
            log.exception("a batch could not be isolated", lane=self.name)
            self._fail(taken, "Something went wrong on our side; the outcome is unknown.")
        finally:
            self._committing.difference_update(taken)
            self._changed.set()

    async def _credit(self, writer: Writer, taken: list[Waiting[T]]) -> None:
        """Commit in one transaction; if that fails, in two halves, down to the one fact that is the cause."""
        try:
            with traces.span("commit batch", links=[waiting.trace for waiting in taken]) as span:
                received = await self._receive(writer, [item for waiting in taken for item in waiting.items], span)
        except UNREACHABLE:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, only the fact that causes it may suffer
            if len(taken) > 1:
                middle = len(taken) // 2
                await self._credit(writer, taken[:middle])
                await self._credit(writer, taken[middle:])
            else:
                outcomes = await self._isolate(writer, taken[0].items, error)
                _resolve(taken[0], outcomes)
            return
        self.tallies.batch_requests.add(len(taken))
        task = asyncio.create_task(self._answer(taken, received))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def _isolate(self, writer: Writer, items: list[T], error: Exception) -> list[Outcome]:
        """Commit the items of one request half by half; the poisonous one gets an error of its own."""
        if len(items) == 1 and isinstance(error, _CONFLICTS):
            return [Outcome(error=Unavailable("Others kept changing the same rows. Repeat with the same id: it cannot count twice."))]
        if len(items) == 1:
            self.tallies.isolated.add()
            self._work.failed(items[0])
            log.error("an event could not be credited", type=self._work.name(items[0]), exc_info=error)
            return [Outcome(error=Internal("This event could not be credited; the defect has been logged."))]
        outcomes: list[Outcome] = []
        middle = len(items) // 2
        for half in (items[:middle], items[middle:]):
            try:
                received = await self._receive(writer, half, traces.NOTHING)
            except UNREACHABLE:
                raise
            except Exception as cause:  # noqa: BLE001 - as above
                outcomes += await self._isolate(writer, half, cause)
            else:
                await self._publish(received.changed, received.due_now)
                outcomes += received.outcomes
        return outcomes

    async def _receive(self, writer: Writer, items: list[T], span: traces.AnySpan) -> Received:
        """One transaction, again after a deadlock or a serialisation failure."""
        for attempt in range(1, MAX_CONFLICTS + 1):
            begun = time.perf_counter()
            try:
                received = await self._work.commit(writer.connection, items, writer.stripe)
            except _CONFLICTS:
                self.tallies.conflicts.add()
                if attempt == MAX_CONFLICTS:
                    raise
            except asyncpg.InterfaceError as error:
                if isinstance(error, ValueError):
                    raise _Unwritable from error
                raise
            else:
                self.tallies.commit_s.add(time.perf_counter() - begun)
                self.tallies.batch_events.add(len(items))
                self._work.count(items, received)
                if traces.on():
                    span.set("greenpoints.lane", self.name)
                    span.set("greenpoints.batch.events", len(items))
                    span.set(traces.EVENT_NUMBERS, [number for number, _, _ in received.credited[: traces.MAX_NUMBERS]])
                return received
        raise AssertionError("unreachable")

    async def _answer(self, taken: list[Waiting[T]], received: Received) -> None:
        """Push the balances, then answer: a later read shows the effect."""
        try:
            await self._publish(received.changed, received.due_now)
            failpoints.at("receive.pushed")
        finally:
            start = 0
            for n, waiting in enumerate(taken, 1):
                end = start + len(waiting.items)
                _resolve(waiting, received.outcomes[start:end])
                start = end
                if n % ANSWERS_AT_ONCE == 0:
                    await asyncio.sleep(0)

    # Waiting has an end

    async def _watch(self) -> None:
        """Nobody waits longer than the answer timeout, even while PostgreSQL hangs in the middle of a commit."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            limit = time.monotonic() - self._answer_timeout_s
            late = []
            while self._queue and self._queue[0].since < limit:
                late.append(self._queue.popleft())
            stuck = [waiting for waiting in self._committing if waiting.since < limit]
            self._fail(late, "The database did not answer in time; nothing of this was committed.")
            self._fail(stuck, "The database did not answer in time; the outcome is unknown.")

    def _fail(self, waiting: Sequence[Waiting[T]], detail: str) -> None:
        for each in waiting:
            if not each.future.done():
                self.tallies.timed_out.add()
                each.future.set_exception(Unavailable(f"{detail} Repeat with the same id: it cannot count twice."))


def _resolve(waiting: Waiting[T], outcomes: list[Outcome]) -> None:
    if not waiting.future.done():
        waiting.future.set_result(outcomes)

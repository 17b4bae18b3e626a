"""A small HTTP/1.1 load generator: keep-alive connections, requests made beforehand, so that the server is what is measured.

Closed loop (`closed`): each connection sends the next request when it has the answer; gives a rate.
Open loop (`open_loop`): requests leave at given times whatever the answers do; gives latencies that count the waiting, too.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Iterator

from msgspec import Struct

CONNECT_TIMEOUT_S = 5.0


class Result(Struct, kw_only=True):
    """What came of one run. Latencies in seconds, unsorted; `statuses` counts answers by status."""

    seconds: float
    latencies_s: list[float]
    statuses: dict[int, int]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies_s) / self.seconds

    def percentile_ms(self, share: float) -> float:
        """The latency that this share of the answers did not exceed."""
        ordered = sorted(self.latencies_s)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1_000 if ordered else float("nan")


def request(
    method: str, path: str, *, token: str | None = None, body: bytes = b"", content_type: str = "application/json", key: str | None = None
) -> bytes:
    """A whole request as bytes; `key`: its Idempotency-Key."""
    head = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    if token:
        head.append(f"Authorization: Bearer {token}")
    if key:
        head.append(f"Idempotency-Key: {key}")
    if body:
        head += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body


class _Connection(asyncio.Protocol):
    """One keep-alive connection; calls back with the status of each answer."""

    def __init__(self, run: "_Run") -> None:
        self._run = run
        self._buffer = b""
        self._missing = 0
        self._status = 0
        self.transport: asyncio.Transport | None = None
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._run.lost(self)

    def send(self, data: bytes, at: float) -> None:
        assert self.transport is not None
        self.sent_at = at
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
            if self._missing <= 0:
                self._missing = 0
                self._run.answered(self, self._status)
            return
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        self._status = int(head[9:12])
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        self._missing = max(length - (len(self._buffer) - end - 4), 0)
        self._buffer = b""
        if not self._missing:
            self._run.answered(self, self._status)


class _Run:
    """Shared bookkeeping of one run."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []
        self.statuses: dict[int, int] = {}
        self.finished = asyncio.Event()
        self.idle: deque[_Connection] = deque()
        self.requests: Iterator[bytes] = iter(())
        self.until = 0.0
        self.closed_loop = True
        self.open = 0

    def answered(self, connection: _Connection, status: int) -> None:
        now = time.perf_counter()
        self.latencies_s.append(now - connection.sent_at)
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if self.closed_loop and now < self.until and (data := next(self.requests, None)) is not None:
            connection.send(data, now)
            return
        self.idle.append(connection)
        self.open -= 1
        if not self.open:
            self.finished.set()

    def lost(self, connection: _Connection) -> None:
        if connection not in self.idle:
            self.open -= 1
            self.statuses[0] = self.statuses.get(0, 0) + 1
            if not self.open:
                self.finished.set()


async def _connect(run: _Run, port: int, count: int) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    made = []
    for _ in range(count):
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, protocol = await loop.create_connection(lambda: _Connection(run), "127.0.0.1", port)
        made.append(protocol)
    return made


async def closed(port: int, requests: Iterable[bytes], *, connections: int, seconds: float) -> Result:
    """As many requests as the server answers in that time over so many connections."""
    run = _Run()
    made = await _connect(run, port, connections)
    run.requests = iter(requests)
    start = time.perf_counter()
    run.until = start + seconds
    run.open = len(made)
    for connection in made:
        data = next(run.requests, None)
        if data is None:
            break
        connection.send(data, time.perf_counter())
    async with asyncio.timeout(seconds + 60):
        await run.finished.wait()
    took = time.perf_counter() - start
    _close(run, made)
    return Result(seconds=took, latencies_s=run.latencies_s, statuses=run.statuses)


async def open_loop(port: int, requests: Iterable[bytes], *, rate: float, seconds: float, connections: int = 512) -> Result:
    """Requests at a fixed rate; latency counts from the moment each was due, so that a stall is not hidden."""
    run = _Run()
    run.closed_loop = False
    made = await _connect(run, port, connections)
    run.idle.extend(made)
    source = iter(requests)
    start = time.perf_counter()
    backlog: deque[tuple[float, bytes]] = deque()
    sent = 0
    while (now := time.perf_counter()) < start + seconds or backlog:
        due = min(int((now - start) * rate), int(seconds * rate))
        while sent < due and (data := next(source, None)) is not None:
            backlog.append((start + sent / rate, data))
            sent += 1
        while backlog and run.idle:
            at, data = backlog.popleft()
            connection = run.idle.popleft()
            run.open += 1
            connection.send(data, at)
        await asyncio.sleep(0.001)
    run.finished.clear()
    if run.open:
        async with asyncio.timeout(60):
            await run.finished.wait()
    _close(run, made)
    return Result(seconds=seconds, latencies_s=run.latencies_s, statuses=run.statuses)


def _close(run: _Run, connections: list[_Connection]) -> None:
    run.idle.extend(connections)
    for connection in connections:
        if connection.transport is not None:
            connection.transport.close()

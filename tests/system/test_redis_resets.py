"""A Redis, or what stands before it, that resets each connection at once, under the event loop of our processes."""

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
import uvloop
from redis.asyncio import Connection, ConnectionPool, Redis

from schemas.events import Balance
from service.doorbell import Doorbell
from service.projection import REDIS_UNREACHABLE, Projection

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no seconds: close() sends a reset."""
MADE = threading.Semaphore(0)
"""Connections that the client has made."""


@pytest.fixture
def resetting() -> Iterator[int]:
    """The port of a server that takes connections, and resets them once they are made."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    taken, _ = server.accept()
                except OSError:
                    return
                MADE.acquire(timeout=5)
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                taken.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


class Slow(Connection):
    """A connection that is reset before its first command is written: by chance that is one of ten, or none."""

    async def _connect(self) -> None:
        await super()._connect()
        MADE.release()
        assert self._writer is not None
        while not self._writer.transport.is_closing():
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)  # uvloop closes in its next turn


def pool(port: int) -> ConnectionPool:
    return ConnectionPool(Slow, host="127.0.0.1", port=port, password="x", socket_timeout=1, socket_connect_timeout=1)


def test_the_driver_raises_what_we_expect_of_a_redis_that_is_gone(resetting: int) -> None:
    async def ask() -> Exception | None:
        async with Redis(connection_pool=pool(resetting)) as redis:
            try:
                await redis.ping()
            except Exception as error:  # noqa: BLE001 - which one it is is the question
                return error
        return None

    seen = uvloop.run(ask())
    assert type(seen) is RuntimeError, "no case to speak of: is REDIS_UNREACHABLE still as it should be?"
    assert isinstance(seen, REDIS_UNREACHABLE)


def test_a_projection_fails_quietly(resetting: int) -> None:
    async def ask() -> None:
        async with Redis(connection_pool=pool(resetting)) as redis:
            for call in (
                lambda projection: projection.push([(1, Balance(pending=1, version=1))]),
                lambda projection: projection.has_forgotten("mark"),
                lambda projection: projection.answers(),
            ):
                assert await call(Projection(redis, epoch=1, ttl_s=60, wait_ms=1_000)) is False

    uvloop.run(ask())


def test_a_doorbell_fails_quietly(resetting: int) -> None:
    async def ask() -> None:
        doorbell = Doorbell(f"redis://:x@127.0.0.1:{resetting}")
        doorbell._redis.connection_pool.connection_class = Slow
        assert await doorbell.answers(1) is False
        await doorbell.close()

    uvloop.run(ask())

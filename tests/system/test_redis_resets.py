"""A Redis, or what stands before it, that resets each connection at once, under the event loop of our processes."""

import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
import uvloop
from redis.asyncio import Redis

from schemas.events import Balance
from service.doorbell import Doorbell
from service.projection import REDIS_UNREACHABLE, Projection

TRIES = 300
"""In about one of ten uvloop has closed the transport before the first command is written."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no seconds: close() sends a reset."""


@pytest.fixture
def resetting() -> Iterator[int]:
    """The port of a server that takes connections, and resets them."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    taken, _ = server.accept()
                except OSError:
                    return
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                taken.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def on_uvloop(work: Coroutine[Any, Any, None]) -> None:
    uvloop.run(work)


def test_the_driver_raises_what_we_expect_of_a_redis_that_is_gone(resetting: int) -> None:
    seen: list[Exception] = []

    async def ask() -> None:
        for _ in range(TRIES):
            redis = Redis(host="127.0.0.1", port=resetting, password="x", socket_timeout=1, socket_connect_timeout=1)
            try:
                await redis.ping()
            except Exception as error:  # noqa: BLE001 - which ones there are is the question
                seen.append(error)
            await redis.aclose()

    on_uvloop(ask())
    assert [error for error in seen if not isinstance(error, REDIS_UNREACHABLE)] == []
    assert any(type(error) is RuntimeError for error in seen), "the case that this is about did not come about"


def test_a_projection_fails_quietly(resetting: int) -> None:
    async def ask() -> None:
        redis = Redis(host="127.0.0.1", port=resetting, password="x", socket_timeout=1, socket_connect_timeout=1)
        for _ in range(TRIES):
            projection = Projection(redis, epoch=1, ttl_s=60, wait_ms=1_000)  # a new one, for one that has failed rests
            assert await projection.push([(1, Balance(pending=1, version=1))]) is False
            projection = Projection(redis, epoch=1, ttl_s=60, wait_ms=1_000)
            assert await projection.has_forgotten("mark") is False
            assert await projection.answers() is False
        await redis.aclose()

    on_uvloop(ask())


def test_a_doorbell_fails_quietly(resetting: int) -> None:
    async def ask() -> None:
        doorbell = Doorbell(f"redis://:x@127.0.0.1:{resetting}")
        for _ in range(TRIES):
            assert await doorbell.answers(1) is False
        await doorbell.close()

    on_uvloop(ask())

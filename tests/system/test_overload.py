"""Overload over a real socket: the answer comes before the body is sent, and the connection stays usable or is closed in order."""

import asyncio
import json
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from service.settings import Settings
from tests.servers import Program
from tests.worlds import World, order_paid

LARGE = 8 * 2**20
WAIT_S = 20.0
CHUNK = 65_536


class Connection:
    """One HTTP/1.1 connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), WAIT_S)).decode().split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), fields

    async def body(self, fields: dict[str, str]) -> Any:
        if fields.get("transfer-encoding") != "chunked":
            return json.loads(await asyncio.wait_for(self.reader.readexactly(int(fields["content-length"])), WAIT_S))
        body = b""
        while size := int(await asyncio.wait_for(self.reader.readline(), WAIT_S), 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readline()
        return json.loads(body)


def request(path: str, key: str, size: int) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\r\n"
    return head.encode()


async def until_waiting(client: httpx.AsyncClient, line: str) -> None:
    """Until /metrics has this line."""
    async with asyncio.timeout(WAIT_S):
        while line not in (await client.get("/metrics")).text.splitlines():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", ["/v1/events", "/v1/hooks/any", "/v1/events/batch"])
async def test_a_full_lane_answers_before_the_body_is_sent(settings: Settings, tmp_path: Path, world: World, path: str) -> None:
    api = Program(
        "service.api", settings, tmp_path / "api.log", BATCH_EVENTS="1", QUEUE_EVENTS="1", SINGLE_WRITERS="1", BULK_QUEUE_BODIES="1",
        ANSWER_TIMEOUT_S="30", STATEMENT_TIMEOUT_S="30",
    )  # fmt: skip
    key = world.keys["shop"]
    blocker = await asyncpg.connect(settings.database_url)
    waiting: list[asyncio.Task[httpx.Response]] = []
    try:
        await api.start()
        async with httpx.AsyncClient(base_url=api.url, headers={"authorization": f"Bearer {key}"}, timeout=60) as client:
            transaction = blocker.transaction()
            await transaction.start()
            await blocker.execute("LOCK TABLE registry IN ACCESS EXCLUSIVE MODE")  # nothing commits
            if path == "/v1/events/batch":
                waiting.append(await accepted(client, path, [order_paid()]))
                await until_refused(client, path)
            else:
                waiting += [await accepted(client, "/v1/events", order_paid()) for _ in range(2)]
                await until_waiting(client, 'greenpoints_lane_waiting_requests{lane="single"} 1.0')
            await refused_and_usable(api, path, key, large=LARGE)
            await refused_and_usable(api, path, key, large=500)
            await refused_and_closed(api, path, key)
            await transaction.rollback()
            assert {(await task).status_code for task in waiting} <= {200, 201}
    finally:
        for task in waiting:
            task.cancel()
        await blocker.close()
        api.end()


async def accepted(client: httpx.AsyncClient, path: str, body: Any) -> "asyncio.Task[httpx.Response]":
    """A request that is not refused, because the one before it is being committed and has left the queue."""
    async with asyncio.timeout(WAIT_S):
        while True:
            task = asyncio.create_task(client.post(path, json=body))
            done, _ = await asyncio.wait([task], timeout=0.5)
            if not done:
                return task
            assert (await task).status_code == 503


async def until_refused(client: httpx.AsyncClient, path: str) -> None:
    """Until the one bulk body that may run is being read: a second is refused."""
    async with asyncio.timeout(WAIT_S):
        while (await client.post(path, content=b"no JSON", headers={"content-type": "application/json"})).status_code != 503:
            await asyncio.sleep(0.01)


async def refused_and_usable(api: Program, path: str, key: str, *, large: int) -> None:
    """The head arrives though not a byte of the body was sent; after the body the connection takes the next request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    connection = Connection(reader, writer)
    await connection.send(request(path, key, large))
    status, fields = await connection.head()
    assert (status, fields["retry-after"], fields["content-type"]) == (503, "1", "application/problem+json")
    assert "request-id" in fields
    for start in range(0, large, CHUNK):
        await connection.send(b"x" * min(CHUNK, large - start))
    assert (await connection.body(fields))["code"] == "overloaded"
    await connection.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    status, fields = await connection.head()
    assert (status, await connection.body(fields)) == (200, {"status": "up"})
    writer.close()


async def refused_and_closed(api: Program, path: str, key: str) -> None:
    """A body beyond every bound is not read: the whole answer, then the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    connection = Connection(reader, writer)
    await connection.send(request(path, key, 100 * LARGE))
    status, fields = await connection.head()
    assert (status, (await connection.body(fields))["code"]) == (503, "overloaded")
    assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
    writer.close()

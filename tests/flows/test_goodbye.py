"""A connection on which PostgreSQL has said goodbye, and which it has not closed yet."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from service.settings import Settings
from service.store.connection import UNREACHABLE

WATCH_S = 0.01
GIVE_UP_S = 5.0


@pytest.fixture
async def without_end(settings: Settings) -> AsyncIterator[str]:
    """The address of a proxy that passes on what PostgreSQL says, and not that it hangs up."""
    target = urlsplit(settings.database_url)
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(target.hostname, target.port)
        writers.extend((writer, back))
        for task in (asyncio.create_task(pass_on(reader, back)), asyncio.create_task(pass_on(there, writer))):
            tasks.add(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield target._replace(netloc=target.netloc.rpartition(":")[0] + f":{port}").geturl()
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for writer in writers:
        writer.transport.abort()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


async def test_what_is_asked_between_goodbye_and_the_end_is_worth_trying_again(without_end: str, settings: Settings) -> None:
    connection = await asyncpg.connect(without_end)
    pid = connection.get_server_pid()
    other = await asyncpg.connect(settings.database_url)
    try:
        await other.execute("SELECT pg_terminate_backend($1, 5000)", pid)
        async with asyncio.timeout(GIVE_UP_S):
            while not isinstance(seen := await asked(connection), asyncpg.InternalClientError):
                await asyncio.sleep(WATCH_S)
        assert isinstance(seen, UNREACHABLE)
    finally:
        connection.terminate()
        await other.close()


async def asked(connection: "asyncpg.Connection[asyncpg.Record]") -> Exception | None:
    try:
        await connection.execute("SELECT 1", timeout=GIVE_UP_S)
    except Exception as error:  # noqa: BLE001 - which one it is is the question
        return error
    return None

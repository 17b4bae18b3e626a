"""The types of a connection and of a pool, as annotations.

asyncpg's classes take a parameter for the type checker only, not at run time, hence the quoted aliases.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
"""A connection of its own, or one lent by a pool."""

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)
"""What a statement raises when PostgreSQL is down, restarting, out of connections or too slow: worth trying again, no defect.

OperatorInterventionError covers shutdown, crash recovery, "starting up" and a statement timeout. InternalClientError is what the driver
raises where the server has said goodbye on an idle connection, and has not closed it yet.
"""

READ_TIMEOUT_S: Final = 0.9


@asynccontextmanager
async def reading(pool: Pool) -> AsyncIterator[Connection]:
    """A connection for a short read that somebody waits for: a server that hangs costs no more than READ_TIMEOUT_S.

    Raises TimeoutError then, and gives the connection up: asking such a server to cancel would be one more wait.
    """
    async with asyncio.timeout(READ_TIMEOUT_S):
        connection = await pool.acquire()
        try:
            yield connection
        except asyncio.CancelledError:
            connection.terminate()
            raise
        finally:
            await pool.release(connection)


PLAN_BY_INDEX = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET plan_cache_mode = force_generic_plan"
"""For connections that touch a few rows of tables of any size by their keys, again and again.

Left to itself the planner reads a young table as a whole, because its statistics still say that it is tiny, and keeps that
plan while the table grows by a hundred thousand rows.
"""


async def plan_by_index(connection: Connection) -> None:
    """Make this connection look everything up by index; a pool undoes it when the connection is given back."""
    await connection.execute(PLAN_BY_INDEX)


__all__ = ["UNREACHABLE", "Connection", "Pool", "PoolConnectionProxy", "plan_by_index", "reading"]

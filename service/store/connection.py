"""The types of a connection and of a pool, as annotations.

asyncpg's classes take a parameter for the type checker only, not at run time, hence the quoted aliases.
"""

from typing import TypeAlias

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
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)
"""What a statement raises when PostgreSQL is down, restarting, out of connections or too slow: worth trying again, no defect.

OperatorInterventionError covers shutdown, crash recovery, "starting up" and a statement timeout.
"""

__all__ = ["UNREACHABLE", "Connection", "Pool", "PoolConnectionProxy"]

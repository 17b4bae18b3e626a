"""A connection for one request."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from service.api.exchange import AnyRequest
from service.domain.errors import Unavailable
from service.store.connection import UNREACHABLE, Connection, reading

ACQUIRE_TIMEOUT_S: Final = 0.9


@asynccontextmanager
async def connection(request: AnyRequest) -> AsyncIterator[Connection]:
    """One of the pool's connections, given back at the end. Raises Unavailable when PostgreSQL is not there or none is free in time."""
    try:
        async with request.app.state.resources.pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn:
            yield conn
    except UNREACHABLE:
        raise Unavailable("The database does not answer; try again in a moment.") from None


@asynccontextmanager
async def serving() -> AsyncIterator[None]:
    """For flows that take connections of their own: raises Unavailable when PostgreSQL is not there."""
    try:
        yield
    except UNREACHABLE:
        raise Unavailable("The database does not answer; try again in a moment.") from None


@asynccontextmanager
async def short_read(request: AnyRequest) -> AsyncIterator[Connection]:
    """The same for a read that takes milliseconds: a server that hangs is given up within a second. Raises Unavailable."""
    try:
        async with reading(request.app.state.resources.pool) as conn:
            yield conn
    except UNREACHABLE:
        raise Unavailable("The database does not answer; try again in a moment.") from None

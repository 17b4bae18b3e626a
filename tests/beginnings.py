"""What many tests begin with, made once: a template of databases, and the objects that know what is in it."""

import copy
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, overload

import asyncpg
import httpx

from service.settings import Settings
from service.store.connection import Pool
from tests.servers import serving

if TYPE_CHECKING:
    from litestar import Litestar

T = TypeVar("T")
MakeWithApp = Callable[["Litestar", httpx.AsyncClient], Awaitable[T]]
MakeWithPool = Callable[[Pool], Awaitable[T]]


class Begin(Protocol):
    """The fixture `begin` of tests/conftest.py: makes beginnings, each once."""

    @overload
    def __call__(self, make: MakeWithPool[T]) -> "Beginning[T]": ...
    @overload
    def __call__(self, make: MakeWithApp[T], *, in_app: Literal[True], **changes: Any) -> "Beginning[T]": ...


class Beginning(Generic[T]):
    """A database that is copied for each test that begins with it, and what was made in it."""

    def __init__(self, database: str, made: T, *bound: Any) -> None:
        """`bound`: what only lived while it was made, and what is made holds on to."""
        self.database = database
        self._made, self._bound = made, bound

    def in_app(self, app: "Litestar", client: httpx.AsyncClient) -> T:
        """A copy of what was made through an application, for one on a copy of the database."""
        return self._bind(*_parts(app, client))

    def in_pool(self, pool: Pool) -> T:
        """A copy of what was made through a pool, for one of a copy of the database."""
        return self._bind(pool)

    def _bind(self, *new: Any) -> T:
        return copy.deepcopy(self._made, {id(old): one for old, one in zip(self._bound, new, strict=True)})


async def make_with_app(make: MakeWithApp[T], *, database: str, settings: Settings) -> Beginning[T]:
    """`make` on the real application, which is stopped again."""
    async with serving(settings) as (app, client):
        return Beginning(database, await make(app, client), *_parts(app, client))


async def make_with_pool(make: MakeWithPool[T], *, database: str, dsn: str) -> Beginning[T]:
    """`make` on a pool, which is closed again."""
    async with asyncpg.create_pool(dsn, min_size=1) as pool:
        return Beginning(database, await make(pool), pool)


def _parts(app: "Litestar", client: httpx.AsyncClient) -> tuple[Any, ...]:
    return app, client, app.state.resources, app.state.resources.pool

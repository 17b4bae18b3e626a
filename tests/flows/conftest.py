from collections.abc import AsyncIterator

import asyncpg
import pytest
from redis.asyncio import Redis

from service.projection import Projection
from tests.beginnings import Begin, Beginning
from tests.redeeming import Catalogue
from tests.worlds import World, found_world


@pytest.fixture
def beginning(begin: Begin) -> Beginning[World]:
    return begin(found_world)


@pytest.fixture
async def world(beginning: Beginning[World], database: str) -> AsyncIterator[World]:
    pool = await asyncpg.create_pool(database, min_size=1, max_size=8)
    yield beginning.in_pool(pool)
    await pool.close()


@pytest.fixture
async def projection(redis_url: str) -> AsyncIterator[Projection]:
    async with Redis.from_url(redis_url, socket_timeout=5) as redis:
        yield Projection(redis, epoch=1, ttl_s=600, wait_ms=1_000)


@pytest.fixture
def catalogue(world: World) -> Catalogue:
    return Catalogue(world)

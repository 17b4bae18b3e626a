from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.redeeming import Catalogue
from tests.worlds import World


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    pool = await asyncpg.create_pool(database, min_size=1, max_size=8)
    yield await World(pool).found()
    await pool.close()


@pytest.fixture
def catalogue(world: World) -> Catalogue:
    return Catalogue(world)

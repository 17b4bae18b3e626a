from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.worlds import World


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    pool = await asyncpg.create_pool(database, min_size=1, max_size=4)
    yield await World(pool).found()
    await pool.close()

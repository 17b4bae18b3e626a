from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.beginnings import Begin, Beginning
from tests.worlds import World, found_world


@pytest.fixture
def beginning(begin: Begin) -> Beginning[World]:
    return begin(found_world)


@pytest.fixture
async def world(beginning: Beginning[World], database: str) -> AsyncIterator[World]:
    pool = await asyncpg.create_pool(database, min_size=1, max_size=4)
    yield beginning.in_pool(pool)
    await pool.close()

"""Who calls the API in tests."""

import httpx
import pytest
from litestar import Litestar

from tests.api.operators import Operators, make_operators


@pytest.fixture
async def operators(app: Litestar, client: httpx.AsyncClient) -> Operators:
    """Two programs and their operators, on the real application."""
    return await make_operators(app, client)

"""Who calls the API in tests. A file that begins with more than the operators has a `beginning` of its own."""

from typing import Any

import httpx
import pytest
from litestar import Litestar

from tests.api.operators import Operators, make_operators
from tests.beginnings import Begin, Beginning


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Any]:
    return begin(make_operators, in_app=True)


@pytest.fixture
async def operators(beginning: Beginning[Operators], app: Litestar, client: httpx.AsyncClient) -> Operators:
    """Two programs and their operators, on the real application."""
    return beginning.in_app(app, client)


@pytest.fixture
async def shop(beginning: Beginning[Any], app: Litestar, client: httpx.AsyncClient) -> Any:
    """What the file's `beginning` opens, on the real application."""
    return beginning.in_app(app, client)

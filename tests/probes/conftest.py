"""What the probes' application does without, and whom it serves."""

import httpx
import msgspec
import pytest
from litestar import Litestar

from service.settings import Settings
from tests.beginnings import Begin, Beginning
from tests.probes.tenants import Deployment, found_deployment

UNLIMITED = {
    "limit_anonymous_per_min": 0, "limit_sign_in_per_min": 0, "limit_operator_per_min": 0, "limit_consumer_per_min": 0,
    "limit_station_per_min": 0,
}  # fmt: skip
"""The probes send thousands of requests from one address and have to see who may, not how often."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, **UNLIMITED)


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Deployment]:
    return begin(found_deployment, in_app=True, **UNLIMITED)


@pytest.fixture
async def deployment(beginning: Beginning[Deployment], app: Litestar, client: httpx.AsyncClient) -> Deployment:
    return beginning.in_app(app, client)

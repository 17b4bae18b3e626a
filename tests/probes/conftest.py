"""What the probes' application does without."""

import msgspec
import pytest

from service.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Without the limits of rates: the probes send thousands of requests from one address and have to see who may, not how often."""
    return msgspec.structs.replace(
        settings, limit_anonymous_per_min=0, limit_sign_in_per_min=0, limit_operator_per_min=0, limit_consumer_per_min=0,
        limit_station_per_min=0,
    )  # fmt: skip

"""Observations and features for the tests here."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from schemas.events import Event
from service.domain.fraud.account import Account
from service.domain.fraud.observation import Context, Observation, observe

T0 = 1_736_121_600
"""2025-01-06, a midnight, UTC."""


def observation(
    *, account: int = 1, at: int = T0, points: int = 10, entities: dict[str, str] | None = None, account_before: Account | None = None,
    **more: Any,
) -> Observation:  # fmt: skip
    given: dict[str, Any] = {
        "number": 1, "platform": "p", "account_id": account, "account": account_before or Account(opened_at=at), "type": "activity.completed", "at": at, "delay_s": 0,
        "points": points, "age_s": 0, "entities": entities or {}, "activity": "learning", "shape": "a:learning",
    } | more  # fmt: skip
    return Observation(**given)


def observed(body: dict[str, Any], *, account: int = 1, points: int = 10, delay_s: int = 0, **context: Any) -> Observation:
    """From an event as a platform reports it."""
    event = msgspec.convert({"id": "e", "occurred_at": "2025-01-06T00:00:00Z", "consumer": "c", **body}, Event)
    return observe(
        event,
        Context(
            number=1, platform="p", account_id=account, points=points, received_at=datetime.fromtimestamp(T0, UTC) + timedelta(seconds=delay_s),
            **{"account": Account(opened_at=T0), **context},
        ),
    )  # fmt: skip

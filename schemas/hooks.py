"""What the sender of an inbound hook is answered (CONTRACT §3.4)."""

from schemas.base import Body


class HookEvent(Body, frozen=True, kw_only=True):
    """One event that the delivery reported."""

    id: str
    status: str
    points: int


class HookAnswer(Body, frozen=True, kw_only=True):
    """Received; `events` is empty for a duplicate topic, an ignored one, or one that could not be translated."""

    received: bool
    events: list[HookEvent]

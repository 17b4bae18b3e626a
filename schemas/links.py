"""Joining what two platforms call one person (CONTRACT §3.5)."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from schemas.base import Body
from schemas.bounds import MAX_LINK_CODE_CHARS
from schemas.events import Balance


class LinkCodeAnswer(Body, frozen=True, kw_only=True):
    """A code that the consumer gives to another platform; it counts once, until `expires_at`."""

    code: str
    expires_at: datetime


class LinkBody(Body, frozen=True, kw_only=True):
    """The code that another platform gave to this consumer."""

    code: Annotated[str, Meta(min_length=1, max_length=MAX_LINK_CODE_CHARS)]


class LinkAnswer(Body, frozen=True, kw_only=True):
    """Whether the consumer's points are in one balance with those of another reference, and that balance."""

    consumer: str
    linked: bool
    balance: Balance

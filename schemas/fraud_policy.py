"""What a program decides about events that the fraud checks hold (docs/fraud-models.md)."""

from typing import Annotated, Literal

from msgspec import Meta

from schemas.base import Body, DurationText, Points
from schemas.bounds import MAX_REVIEWS_A_DAY

AtDeadline = Literal["release", "reject"]


class FraudPolicyBody(Body, frozen=True, kw_only=True):
    """The whole policy; it counts for what is held from now on."""

    hold_for: DurationText
    """How long somebody has to decide: a minute to 90 days."""
    at_deadline: AtDeadline
    """What comes when nobody has."""
    alone_points: Points
    """Up to how many points one operator decides alone."""
    reviews_a_day: Annotated[int, Meta(ge=1, le=MAX_REVIEWS_A_DAY)]
    """How many cases reviewers look at: as many are shown first."""


class FraudPolicyAnswer(FraudPolicyBody, frozen=True, kw_only=True):
    """The policy in force; version 0: nobody has changed the defaults."""

    version: int

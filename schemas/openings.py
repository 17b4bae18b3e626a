"""Balances that are taken over from another system, row by row."""

from datetime import date
from typing import Annotated, Literal

from msgspec import Meta

from schemas.base import Body, Instant, Key
from schemas.bounds import MAX_POINTS
from schemas.problems import FieldError


class OpeningBody(Body, frozen=True, kw_only=True):
    """One lot of one consumer.

    `id` is the row's idempotency key, for ever, among its platform's. `expires_on` is the last day on which the points can be spent; it
    must be said, and null means never: a misspelt field must not make points last for ever.
    """

    id: Key
    consumer: Key
    points: Annotated[int, Meta(gt=0, le=MAX_POINTS)]
    expires_on: date | None
    earned_at: Instant | None = None


class OpeningResult(Body, frozen=True, kw_only=True):
    """What became of one row (numbered from 0; a CSV file's heading does not count)."""

    row: int
    status: Literal["created", "duplicate", "rejected"]
    id: str | None = None
    code: Literal["invalid_request", "id_reused"] | None = None
    errors: list[FieldError] = []


class OpeningsAnswer(Body, frozen=True, kw_only=True):
    """What became of each row; a rejected row changes nothing and stops no other. `points`: of the rows created."""

    created: int
    duplicates: int
    rejected: int
    points: int
    results: list[OpeningResult]

"""Public-welfare causes that points can be given to (CONTRACT §3.7)."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from schemas.base import Body, Code
from schemas.bounds import MAX_URL_CHARS
from schemas.registries import PrintableText
from schemas.rewards import Description

HttpsUrl = Annotated[str, Meta(max_length=MAX_URL_CHARS, pattern=r"^https://[!#-;=?-~]+$(?!\n)")]
"""An address that apps show to consumers."""


class CauseBody(Body, frozen=True, kw_only=True):
    """A cause; `url` says more about it."""

    code: Code
    name: PrintableText
    description: Description = ""
    url: HttpsUrl | None = None
    active: bool = True


class CausePatch(Body, frozen=True, kw_only=True):
    """What to change of a cause; absent fields stay. One that is not active takes no more points and keeps those that it has."""

    name: PrintableText | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    url: HttpsUrl | UnsetType | None = UNSET
    active: bool | UnsetType = UNSET


class CauseAnswer(Body, frozen=True, kw_only=True):
    """A cause. `points` were given in so many `donations`, less what was refunded. The last two fields are shown to operators."""

    code: str
    name: str
    description: str
    url: str | None
    points: int
    donations: int
    active: bool | UnsetType = UNSET
    created_at: datetime | UnsetType = UNSET

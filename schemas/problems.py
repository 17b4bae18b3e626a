"""RFC 9457 problem documents (CONTRACT §3.2)."""

from msgspec import UNSET, UnsetType

from schemas.base import Body


class FieldError(Body, frozen=True, kw_only=True):
    """One thing wrong with the request: a JSON pointer (RFC 6901) and what to do about it."""

    pointer: str
    detail: str
    position: int | UnsetType = UNSET


class Problem(Body, frozen=True, kw_only=True):
    """`application/problem+json`; `code` is stable, `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldError] | UnsetType = UNSET

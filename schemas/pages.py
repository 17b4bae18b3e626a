"""The shape of every list (CONTRACT §3.7)."""

from typing import Generic, TypeVar

from schemas.base import Body

T = TypeVar("T")


class Page(Body, Generic[T], frozen=True, kw_only=True):
    """Some items of a list; `next_cursor` (opaque) asks for the ones after them, null: there are no more."""

    items: list[T]
    next_cursor: str | None

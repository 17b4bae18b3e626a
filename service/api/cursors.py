"""Cursors of lists: sealed, so that they say nothing to callers; the last item's position to us."""

import base64
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Final, TypeVar

import msgspec
from litestar.params import QueryParameter

from schemas.base import PRINTABLE
from schemas.bounds import MAX_CURSOR_CHARS, MAX_PAGE_ITEMS, MAX_TEXT_CHARS
from schemas.pages import Page
from service.api.seals import Seal
from service.domain.errors import InvalidRequest

Limit = Annotated[int, QueryParameter(ge=1, le=MAX_PAGE_ITEMS, description="At most this many items.")]
Cursor = Annotated[str | None, QueryParameter(max_length=MAX_CURSOR_CHARS, description="`next_cursor` of the answer before.")]

DEFAULT_LIMIT: Final = 50

Position = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A cursor over numbered rows."""
Name = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_CHARS, pattern=PRINTABLE)]
"""A cursor over named rows."""

Row = TypeVar("Row")
Item = TypeVar("Item")
T = TypeVar("T")


class _Sealing:
    """The key of this process: one deployment each."""

    key: Callable[[], bytes] = bytes


def seal_cursors(key: Callable[[], bytes]) -> None:
    """Seal cursors from now on with a key of the deployment, which may become known only with the first answer of PostgreSQL."""
    _Sealing.key = staticmethod(key)


def read_cursor(cursor: str | None, type_: type[T], first: T) -> T:
    """The position that a cursor stands for, `first` without one. Raises InvalidRequest for what was never a cursor of this list."""
    if cursor is None:
        return first
    try:
        sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(Seal(_Sealing.key()).open(sealed), type=type_)
    except (ValueError, msgspec.MsgspecError):
        raise InvalidRequest("The cursor is not one that this list gave out.") from None


def page_of(
    rows: Sequence[Row], limit: int, *, item: Callable[[Row], Item], position: Callable[[Row], int | str | tuple[int, int]]
) -> Page[Item]:
    """A page from at most `limit` + 1 rows: the one too many only tells that there are more."""
    shown = rows[:limit]
    more = len(rows) > limit
    return Page(items=[item(row) for row in shown], next_cursor=encode_cursor(position(shown[-1])) if more else None)


def encode_cursor(position: int | str | tuple[int, int]) -> str:
    """The cursor that stands for a position."""
    return base64.urlsafe_b64encode(Seal(_Sealing.key()).close(msgspec.json.encode(position))).decode().rstrip("=")


def instant(pointer: str, at: datetime | None) -> datetime | None:
    """A time that a list is searched by. Raises InvalidRequest for a naive one."""
    if at is not None and at.tzinfo is None:
        raise InvalidRequest.at(pointer, "needs an offset, such as Z or +08:00")
    return at

"""One request as the edge of HTTP sees it, whatever route it goes to: its id, and what is added to its answer.

The visit of the request that is being answered is a context variable: what has no request in hand can ask for it, too.
"""

import itertools
import secrets
from contextvars import ContextVar
from typing import Any, Final

from litestar.types import HTTPScope
from structlog.contextvars import STRUCTLOG_KEY_PREFIX

from schemas.bounds import MAX_REQUEST_ID_CHARS

HEADERS: Final = "greenpoints.headers"
"""Where a scope keeps its headers by name, so that they are sorted once a request."""

_prefix = secrets.token_hex(4)
_numbers = itertools.count(1)


class Visit:
    """A request. `request_id` is the caller's own, if it is usable, or made here: unique among processes and restarts."""

    __slots__ = ("counted", "fields", "headers", "known", "limited", "replaced", "request_id", "scope")

    def __init__(self, scope: HTTPScope, headers: dict[bytes, bytes]) -> None:
        self.scope = scope
        self.headers = headers
        """By lower-case name; of a repeated one the last."""
        sent = headers.get(b"request-id") or headers.get(b"x-request-id")
        self.request_id = (_usable(sent) if sent is not None else None) or f"{_prefix}-{next(_numbers):x}"
        self.fields: list[tuple[bytes, bytes]] = [(b"request-id", self.request_id.encode())]
        """Headers that the answer gets beside its own."""
        self.known = False
        """Somebody proved who he is; not set for the busiest routes, which refuse with 401 if nobody does."""
        self.limited = self.counted = False
        """A limit was asked about this request; it was counted for its address."""
        self.replaced = False
        """Its answer was replaced by a refusal."""


def _usable(sent: bytes) -> str | None:
    """An id that a caller may choose: printable ASCII, not too long."""
    if len(sent) > MAX_REQUEST_ID_CHARS or not sent.isascii():
        return None
    text = sent.decode("ascii")
    return text if text.isprintable() else None


_current: ContextVar[Visit | None] = ContextVar("visit", default=None)
_bound: ContextVar[str] = ContextVar(f"{STRUCTLOG_KEY_PREFIX}request_id")
"""What `bind_contextvars(request_id=…)` sets, at a tenth of its cost."""


def begin(scope: HTTPScope) -> Visit:
    """The visit that begins with this request: from now on the current one, its id on every line that is logged meanwhile."""
    headers = dict(scope["headers"])
    scope[HEADERS] = headers  # type: ignore[typeddict-unknown-key]
    visit = Visit(scope, headers)
    _current.set(visit)
    _bound.set(visit.request_id)
    return visit


def current() -> Visit | None:
    """The request that is being answered; None outside of one."""
    return _current.get()


def headers_of(scope: Any) -> dict[bytes, bytes]:  # noqa: ANN401 - a Scope, or as little of one as a test has
    """The headers by lower-case name, as they came; of a repeated one the last."""
    found: dict[bytes, bytes] | None = scope.get(HEADERS)
    return dict(scope["headers"]) if found is None else found

"""Who makes a change, for the audit."""

from typing import Any, Final

from litestar import Request

from service.api.callers import OperatorCaller
from service.flows.administer import Change

MAX_REQUEST_ID_CHARS: Final = 128


def change_by(caller: OperatorCaller, request: Request[Any, Any, Any]) -> Change:
    """The operator, and the caller's own X-Request-Id, which joins the audit to other logs."""
    return Change(actor=caller.actor, request_id=request_id_of(request))


def request_id_of(request: Request[Any, Any, Any]) -> str | None:
    """The caller's own X-Request-Id, unless it is too long or not printable."""
    request_id = request.headers.get("x-request-id")
    usable = request_id is not None and len(request_id) <= MAX_REQUEST_ID_CHARS and request_id.isprintable()
    return request_id if usable else None

"""Who makes a change, for the audit."""

from typing import Any, Final

from litestar import Request

from service.api.callers import OperatorCaller
from service.flows.administer import Change

MAX_REQUEST_ID_CHARS: Final = 128


def change_by(caller: OperatorCaller, request: Request[Any, Any, Any]) -> Change:
    """The operator, and the caller's own X-Request-Id, which joins the audit to other logs."""
    return change_of(caller.operator, request)


def change_of(operator: int, request: Request[Any, Any, Any]) -> Change:
    """The same for an operator who acts in no program in particular."""
    return Change(actor=f"operator:{operator}", request_id=request_id_of(request))


def request_id_of(request: Request[Any, Any, Any]) -> str | None:
    """The caller's X-Request-Id, if it can be kept."""
    request_id = request.headers.get("x-request-id")
    usable = request_id is not None and len(request_id) <= MAX_REQUEST_ID_CHARS and request_id.isprintable()
    return request_id if usable else None

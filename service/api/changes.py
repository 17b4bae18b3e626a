"""Who makes a change, for the audit."""

from typing import Any

from litestar import Request

from service.api.callers import OperatorCaller
from service.api.visits import current
from service.flows.administer import Change


def change_by(caller: OperatorCaller, request: Request[Any, Any, Any]) -> Change:  # noqa: ARG001 - a change is a request's
    """The operator, and the request's id, which joins the audit to the logs and to the caller's own."""
    visit = current()
    return Change(actor=caller.actor, request_id=None if visit is None else visit.request_id)

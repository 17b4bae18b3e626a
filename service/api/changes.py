"""Who makes a change, for the audit."""

from service.api.callers import OperatorCaller
from service.api.visits import current
from service.flows.administer import Change


def change_by(caller: OperatorCaller) -> Change:
    """The operator, and the request's id, which joins the audit to the logs and to the caller's own."""
    return change_of(caller.operator)


def change_of(operator: int) -> Change:
    """The same for an operator who acts in no program in particular."""
    return Change(actor=f"operator:{operator}", request_id=request_id())


def change_by_platform(code: str) -> Change:
    """The same for a platform."""
    return Change(actor=f"platform:{code}", request_id=request_id())


def request_id() -> str | None:
    """The id of the request that is being answered."""
    visit = current()
    return None if visit is None else visit.request_id

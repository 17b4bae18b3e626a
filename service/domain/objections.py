"""Objections to what fraud checks held or rejected: when one may be made, who answers it, what follows."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final, Literal

from msgspec import Struct

from service.domain.errors import InvalidState

OPEN_FOR: Final = timedelta(days=90)
"""How long after a rejection one may object to it."""

Answer = Literal["upheld", "refused"]


class Reviewed(Struct, frozen=True, kw_only=True):
    """An event of a case, as far as objections need it."""

    bucket: int
    account: int
    event: int
    program: int
    platform: int
    id: str
    """The platform's own id of the event."""
    fraud_case: int
    points: int
    taken: int
    """Points that its rejection took back; before that the same as `points`."""
    state: str
    decided: bool
    """By operators, or because its deadline has passed; while it is still `held`, that is being carried out."""
    decided_at: datetime | None
    rejected_by: tuple[int, ...]
    """Operators who proposed or confirmed its rejection."""


class Objection(Struct, frozen=True, kw_only=True):
    """An objection as stored; columns of table `fraud_objection`."""

    bucket: int
    account: int
    event: int
    program: int
    text: str | None
    status: Literal["open", "upheld", "refused"]
    made_at: datetime
    answer: str | None = None
    answered_by: int | None = None
    answered_at: datetime | None = None
    adjustment: int | None = None


def check_open(event: Reviewed, *, now: datetime) -> None:
    """Raises InvalidState unless the event is held, or was rejected less than OPEN_FOR ago."""
    if event.state == "held":
        return
    if event.state != "rejected" or event.decided_at is None:
        raise InvalidState("This event is neither held nor rejected: there is nothing to object to.")
    if now >= event.decided_at + OPEN_FOR:
        raise InvalidState(f"Objections to this rejection could be made until {(event.decided_at + OPEN_FOR).isoformat()}.")


def needs_answering(objection: Objection, event: Reviewed, answer: Answer, *, operator: int, lapsed: bool) -> bool:
    """Whether the answer is still to be given; False: this operator has given it before, and nothing is left of it to do.

    `lapsed`: its adjustment ended without being carried out, and has to be proposed again. Raises InvalidState.
    """
    _check_operator(event.rejected_by, operator)
    if objection.status == "open":
        return True
    if objection.status != answer:
        raise InvalidState(f"The objection was answered: {objection.status}.")
    if lapsed:
        return True
    if objection.answered_by != operator:
        raise InvalidState(f"The objection was answered by another operator: {objection.status}.")
    return False


def _check_operator(rejected_by: Collection[int], operator: int) -> None:
    """Whoever rejected does not judge what is said against it."""
    if operator in rejected_by:
        raise InvalidState("An objection is answered by another operator than one who rejected the event.")

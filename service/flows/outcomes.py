"""What comes of the items of a batch: facts, or requests to spend."""

from msgspec import Struct

from service.domain.errors import GreenpointsError
from service.domain.fraud.door import Found
from service.domain.posting import Account


class Outcome(Struct, kw_only=True, gc=False):
    """What came of one item: an answer (JSON), or an error."""

    answer: bytes = b""
    replayed: bool = False
    error: GreenpointsError | None = None
    status: int = 201
    """Of the first answer."""


class Received(Struct, kw_only=True):
    """What came of a batch; `changed` are the accounts whose balances are to be pushed, after COMMIT."""

    outcomes: list[Outcome]
    changed: list[Account]
    due_now: bool
    """Something may settle at once: ring the doorbell."""
    credited: list[tuple[int, str, str]]
    """(number, type, status) of each event that was new."""
    at_door: list[Found] = []
    """What the checks at the door found of them."""

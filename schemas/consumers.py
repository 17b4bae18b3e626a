"""What consumers see (CONTRACT §3.5)."""

from datetime import date, datetime

from msgspec import UNSET, UnsetType

from schemas.base import Body
from schemas.reviews import Review


class Available(Body, frozen=True, kw_only=True):
    """The points whose hold ends next, and when."""

    points: int
    at: datetime


class Expiring(Body, frozen=True, kw_only=True):
    """Points that can be spent until the end of this day."""

    points: int
    on: date


class BalanceDetails(Body, frozen=True, kw_only=True):
    """A balance without its owner; `version` rises with every change."""

    pending: int = 0
    reserved: int = 0
    available: int = 0
    debt: int = 0
    version: int = 0
    next_available: Available | None = None
    expiring: list[Expiring] = []
    tier: str = "seed"


class BalanceAnswer(BalanceDetails, frozen=True, kw_only=True):
    """The whole answer."""

    consumer: str
    as_of: datetime


class ActivityItem(Body, frozen=True, kw_only=True):
    """One thing that happened, in words that a person can read; `points` are signed. `review` is there where fraud checks held it."""

    at: datetime
    kind: str
    points: int
    status: str
    reason: str
    event: str | None = None
    redemption: str | None = None
    review: Review | UnsetType = UNSET


class PastBalance(Body, frozen=True, kw_only=True):
    """What a balance was at a moment; zeros with version 0 before its first change."""

    consumer: str
    pending: int
    reserved: int
    available: int
    debt: int
    version: int
    as_of: datetime


class BooksAfter(Body, frozen=True, kw_only=True):
    """The consumer's books after a line of the ledger; `debt` is positive here."""

    available: int
    reserved: int
    debt: int


class LedgerLine(Body, frozen=True, kw_only=True):
    """One line of a consumer's ledger; `amount` is signed, and the lines of one change sum to zero."""

    seq: int
    at: datetime
    kind: str
    book: str
    amount: int
    balance: BooksAfter
    version: int
    event: str | None
    """The id of what caused it: an event's, or an imported row's; null: time alone."""
    campaign: str | None

"""What a batch is made of: facts, accounts under lock, awards as posted, and the rows that come of them."""

from datetime import date, datetime
from typing import Any

from msgspec import Struct

from schemas.events import Balance, Event, EventAnswer
from service.domain.granting import Granted
from service.domain.keys import bucket_of, platform_key

OrderKey = tuple[int, str]
"""platform, order id."""


class Fact(Struct, kw_only=True, gc=False):
    """An event that passed every check, on its way into a transaction."""

    program: int
    platform: int
    platform_code: str
    event: Event
    facts: bytes
    """The event as stored: JSON, minimised."""
    request_hash: bytes
    """Of the JSON value as sent."""
    newer_wins: bool = False
    """From a hook: the same id with other content is a newer state of the same thing, not a conflict."""
    key: tuple[int, str] = (0, "")
    """(program, registry key) of the event."""
    kept: dict[str, Any] = {}
    """The event's attributes as they are stored: what identifies is hashed."""
    order_key: OrderKey | None = None
    """The order that it is about."""
    day: date = date.min
    """On which it occurred in the program's time zone; set by whoever reads for it, with the catalogue that has the zone."""

    def __post_init__(self) -> None:
        self.key = (self.program, platform_key(self.platform, self.event.id))
        order = self.event.order_id
        self.order_key = None if order is None else (self.platform, order)


class Account(Struct, gc=False):
    """Balances of a consumer under lock; changed in place."""

    id: int
    program: int
    pending: int = 0
    available: int = 0
    reserved: int = 0
    debt: int = 0
    version: int = 0
    last_seq: int = 0
    home: int | None = None
    """Linked to another account, which has its points; None: it has them itself."""
    was: int = 0
    """Its version before this batch."""
    bucket: int = 0
    other: "Account | None" = None
    """The account that `home` names, under lock as well."""

    def __post_init__(self) -> None:
        self.was = self.version
        self.bucket = bucket_of(self.id)

    @property
    def purse(self) -> "Account":
        """The account that has its points."""
        return self.other or self

    def balance(self) -> Balance:
        """As an answer shows it."""
        return Balance(pending=self.pending, reserved=self.reserved, available=self.available, debt=self.debt, version=self.version)


class PostedAward(Struct, kw_only=True, gc=False):
    """An award as posted so far: what it granted, what of it was taken back, whether it settled."""

    event: int
    n: int
    campaign: int
    code: str
    version: int
    action: str
    platform: int
    line: str | None
    points: int
    day: date
    co2e_g: int = 0
    plastic_g: int = 0
    item: int | None = None
    """Position of the returned item in its event."""
    settled: bool = False
    reversed: int = 0
    reversed_was: int = 0
    """What had been taken back before this batch."""
    granted: Granted | None = None
    """Set when this batch grants it."""

    @property
    def left(self) -> int:
        """Points that have not been taken back."""
        return self.points - self.reversed


class Parked(Struct, kw_only=True, gc=False):
    """A fact that came before what it depends on: an order, or the shipment of an asset."""

    number: int
    fact: Fact
    received_at: datetime
    answer: str
    """The first answer, as JSON."""


class Change:
    """One event's change of one account: however much it does, the account's version rises once."""

    __slots__ = ("account", "version", "written_off")

    def __init__(self, account: Account) -> None:
        self.account = account
        self.written_off = 0
        """Points that were spent before they were taken back, and that the program's policy does not ask for."""
        self.version = 0
        """Of the account after it; 0: nothing has happened yet."""

    def happens(self) -> None:
        """Something of it is about to be done."""
        if not self.version:
            purse = self.account.purse
            purse.version += 1
            self.version = purse.version


class Entry(Struct, kw_only=True, gc=False):
    """One line of the book; columns of table `entry`."""

    bucket: int
    account: int
    seq: int
    transfer: int
    kind: int
    book: int
    amount: int
    program: int
    platform: int
    campaign: int
    event: int
    award: int
    n: int
    version: int


class Stored(Struct, kw_only=True, gc=False):
    """An event to be written; columns of table `event`."""

    bucket: int
    account: int
    number: int
    fact: Fact
    received_at: datetime
    points: int
    version: int
    answer: EventAnswer
    first_answer: str | None = None
    """As JSON, where the fact was parked at first."""


class Sums:
    """What one batch adds to a campaign's roll-up on one platform."""

    __slots__ = ("co2e_g", "events", "issued", "pending", "plastic_g", "reversed")

    def __init__(self) -> None:
        self.events = 0
        self.issued = 0
        self.pending = 0
        self.reversed = 0
        self.co2e_g = 0
        self.plastic_g = 0

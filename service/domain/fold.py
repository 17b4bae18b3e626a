"""The decision: facts in, answers and changes out, folded event by event over one batch.

The fold sees what earlier events of the same batch did, so that an order, its refund and a repeat fit into one
transaction. It does no I/O: the flow reads under locks before, and writes `Fold.changes()` after.
"""

from datetime import date, datetime

import msgspec
from msgspec import UNSET, Struct, field

from schemas.events import (
    ActivityCompleted,
    Award,
    Balance,
    Event,
    EventAnswer,
    Impact,
    OrderCancelled,
    OrderFulfilled,
    OrderPaid,
    OrderRefunded,
    PackagingReturned,
    Refusal,
    Status,
)
from service.domain.granting import Granted, Granter, Scope
from service.domain.keys import bucket_of, platform_key
from service.domain.ledger import Book, Kind, Lot, claw_back
from service.domain.orders import OrderFacts

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
    was: int = 0
    """Its version before this batch."""
    bucket: int = 0

    def __post_init__(self) -> None:
        self.was = self.version
        self.bucket = bucket_of(self.id)

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
    settled: bool = False
    reversed: int = 0
    reversed_was: int = 0
    """What had been taken back before this batch."""
    granted: Granted | None = None
    """Set when this batch grants it."""


class Parked(Struct, kw_only=True, gc=False):
    """A fact that came before its order."""

    number: int
    fact: Fact
    received_at: datetime
    answer: str
    """The first answer, as JSON."""


class OrderState(Struct, gc=False):
    """One order under its account's lock: facts, awards, and what waits for it."""

    account: int | None
    """Fixed by order.paid; None until it comes."""
    facts: OrderFacts = field(default_factory=OrderFacts)
    awards: list[PostedAward] = []
    parked: list[Parked] = []
    picked_up: list[Parked] = []
    registered_before: bool = False
    """Its key was in the registry before this batch."""
    newly_paid: bool = False
    """Its order.paid is in this batch."""
    erased: bool = False
    """Its owner was erased: what still comes about it is kept without anything free."""

    def add(self, event: Event) -> None:
        """Add a stored fact."""
        if type(event) is OrderPaid:
            self.facts.paid(event)
        elif type(event) is OrderRefunded:
            self.facts.refunds.setdefault(event.refund.id, event.refund)
        elif type(event) is OrderCancelled:
            self.facts.cancelled = True


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


class Fold:
    """Folds facts, one after the other, over locked state; then says what to write."""

    def __init__(
        self, scope: Scope, *, accounts: dict[int, Account], orders: dict[OrderKey, OrderState], lots: dict[int, list[Lot]],
    ) -> None:  # fmt: skip
        self.scope = scope
        self.accounts = accounts
        self.orders = orders
        self.lots = lots
        self.stored: list[Stored] = []
        self.parked: list[Stored] = []
        self.granted: list[tuple[Account, PostedAward]] = []
        self.entries: list[Entry] = []
        self.lot_uses: dict[tuple[int, int, int, int], int] = {}
        """(account, lot's event, lot's n, transfer) → points used."""
        self.sums: dict[tuple[int, int, int], Sums] = {}
        """(program, campaign, platform) → what to add."""

    def credit(self, fact: Fact, number: int, account: Account | None) -> EventAnswer:
        """Decide one new fact. `account` is its consumer's (None: not known), the order's own account takes precedence."""
        event = fact.event
        if type(event) is OrderPaid:
            assert account is not None
            return self._order_paid(fact, event, number, account)
        if fact.order_key is not None:
            return self._about_order(fact, number, account)
        assert account is not None
        granter = self._granter(fact, account)
        if type(event) is PackagingReturned:
            granter.returns(event)
        elif type(event) is ActivityCompleted:
            granter.activity(event)
        posted = self._post(granter, account, fact, number)
        return self._store(fact, number, account, posted, granter.refused)

    # An order and what depends on it

    def _order_paid(self, fact: Fact, event: OrderPaid, number: int, account: Account) -> EventAnswer:
        order = self.orders[fact.platform, event.order.id]
        if order.account is not None:
            detail = "This order was reported as paid before; an order line earns once."
            return self._store(fact, number, account, [], [Refusal(code="already_awarded", detail=detail)])
        order.account, order.newly_paid = account.id, True
        order.facts.paid(event)
        granter = self._granter(fact, account)
        granter.purchase(event)
        if event.packaging is not None:
            granter.packaging(event, event.packaging)
        posted = self._post(granter, account, fact, number)
        order.awards += posted
        waiting, order.parked = order.parked, []
        if not waiting:
            return self._store(fact, number, account, posted, granter.refused)
        place = len(self.stored)
        self._store(fact, number, account, posted, granter.refused)
        for parked in waiting:
            order.picked_up.append(parked)
            self._apply(parked.fact, parked.number, account, order, parked)
        # The order's first answer shows the balance with what had been waiting for it.
        answer = msgspec.structs.replace(self.stored[place].answer, balance=account.balance())
        self.stored[place] = msgspec.structs.replace(self.stored[place], answer=answer)
        return answer

    def _about_order(self, fact: Fact, number: int, account: Account | None) -> EventAnswer:
        key = fact.order_key
        assert key is not None
        order = self.orders[key]
        if order.account is None:
            answer = EventAnswer(
                id=fact.event.id, status="parked", points=0, available_at=None, awards=[],
                refused=[Refusal(code="order_unknown", detail="Waits for the order.paid event of its order.")],
                balance=Balance() if account is None else account.balance(),
            )  # fmt: skip
            self.parked.append(
                Stored(bucket=0, account=0, number=number, fact=fact, received_at=self.scope.now, points=0, version=0, answer=answer)
            )
            return answer
        return self._apply(fact, number, self.accounts[order.account], order)

    def _apply(self, fact: Fact, number: int, account: Account, order: OrderState, parked: Parked | None = None) -> EventAnswer:
        """Add a fact to a known order and post the difference between target and posted."""
        event = fact.event
        if type(event) is OrderFulfilled:
            return self._fulfilled(fact, event, number, account, order, parked)
        if type(event) is OrderRefunded and event.refund.id in order.facts.refunds:
            return self._nothing(fact, number, account, "already_refunded", "This refund was reported before; it counts once.", parked)
        if type(event) is OrderCancelled and order.facts.cancelled:
            return self._nothing(fact, number, account, "already_cancelled", "This order was reported as cancelled before.", parked)
        order.add(event)
        taken = self._reverse(order, account, number)
        if not taken:
            return self._nothing(fact, number, account, "nothing_to_reverse", "No points of this order are left to take back.", parked)
        return self._store(fact, number, account, [], [], parked=parked, taken=taken)

    def _fulfilled(
        self, fact: Fact, event: OrderFulfilled, number: int, account: Account, order: OrderState, parked: Parked | None
    ) -> EventAnswer:
        if event.packaging is None:
            return self._nothing(fact, number, account, "no_packaging", "The event names no packaging.", parked)
        if order.facts.cancelled:
            return self._nothing(fact, number, account, "order_cancelled", "The order was cancelled.", parked)
        if any(award.action == "packaging" for award in order.awards):
            return self._nothing(fact, number, account, "already_awarded", "The packaging of this order earned before.", parked)
        granter = self._granter(fact, account)
        granter.packaging(event, event.packaging)
        posted = self._post(granter, account, fact, number)
        order.awards += posted
        taken = self._reverse(order, account, number, bump=not posted)
        return self._store(fact, number, account, posted, granter.refused, parked=parked, taken=taken)

    def _nothing(self, fact: Fact, number: int, account: Account, code: str, detail: str, parked: Parked | None) -> EventAnswer:
        return self._store(fact, number, account, [], [Refusal(code=code, detail=detail)], parked=parked)

    # Posting

    def _granter(self, fact: Fact, account: Account) -> Granter:
        return Granter(
            self.scope, fact.event, platform=fact.platform, platform_code=fact.platform_code, account=account.id,
            program=self.scope.catalogue.programs[fact.program], day=fact.day,
        )  # fmt: skip

    def _post(self, granter: Granter, account: Account, fact: Fact, number: int) -> list[PostedAward]:
        """Put what was granted on hold."""
        if not granter.granted:
            return []
        posted = []
        campaigns = set()
        for n, g in enumerate(granter.granted):
            award = PostedAward(
                event=number, n=n, campaign=g.campaign.id, code=g.campaign.code, version=g.campaign.version, action=g.campaign.body.action,
                platform=fact.platform, line=g.line, points=g.points, day=g.day,
                co2e_g=g.co2e_g, plastic_g=g.plastic_g, granted=g,
            )  # fmt: skip
            posted.append(award)
            self.granted.append((account, award))
            account.pending += g.points
            sums = self._sums(fact.program, award)
            sums.issued += g.points
            sums.pending += g.points
            sums.co2e_g += award.co2e_g
            sums.plastic_g += award.plastic_g
            if g.campaign.id not in campaigns:
                campaigns.add(g.campaign.id)
                sums.events += 1
        account.version += 1
        return posted

    def _reverse(self, order: OrderState, account: Account, number: int, *, bump: bool = True) -> list[tuple[PostedAward, int]]:
        """Post target − posted for every award of the order; `number` is the event that causes it."""
        found = [
            (award, back)
            for award in order.awards
            if (back := award.points - award.reversed - order.facts.kept(award.points, award.line)) > 0
        ]
        if not found:
            return []
        account.version += bump
        for award, points in found:
            award.reversed += points
            sums = self._sums(account.program, award)
            sums.reversed += points
            if award.reversed == award.points:  # impact is of a thing that was or was not: it goes with the last point
                sums.co2e_g -= award.co2e_g
                sums.plastic_g -= award.plastic_g
            if self.scope.catalogue.knows(award.campaign):
                self.scope.usage.count(self.scope.usage.windows(account.id, award.campaign, award.day), -points)
            if award.settled:
                self._claw_back(account, award, points, number)
            else:
                account.pending -= points
                sums.pending -= points
        return found

    def _claw_back(self, account: Account, award: PostedAward, points: int, number: int) -> None:
        """Take settled points back; what is missing becomes debt."""
        taken, missing = claw_back(self.lots.get(account.id, ()), points, event=award.event, n=award.n)
        for lot, part in taken:
            key = (account.id, lot.event, lot.n, number)
            self.lot_uses[key] = self.lot_uses.get(key, 0) + part
        account.available -= points - missing
        account.debt += missing
        for book, amount in ((Book.AVAILABLE, missing - points), (Book.DEBT, -missing), (Book.ISSUANCE, points)):
            if amount:
                account.last_seq += 1
                self.entries.append(
                    Entry(
                        bucket=account.bucket,
                        account=account.id,
                        seq=account.last_seq,
                        transfer=number,
                        kind=Kind.CLAWBACK,
                        book=book,
                        amount=amount,
                        program=account.program,
                        platform=award.platform,
                        campaign=award.campaign,
                        event=number,
                        award=award.event,
                        n=award.n,
                        version=account.version,
                    )
                )

    def _sums(self, program: int, award: PostedAward) -> Sums:
        key = (program, award.campaign, award.platform)
        sums = self.sums.get(key)
        if sums is None:
            sums = self.sums[key] = Sums()
        return sums

    # Answers

    def _store(
        self, fact: Fact, number: int, account: Account, posted: list[PostedAward], refused: list[Refusal], *,
        parked: Parked | None = None, taken: list[tuple[PostedAward, int]] | None = None,
    ) -> EventAnswer:  # fmt: skip
        """Keep the event with its answer."""
        granted = [a.granted for a in posted if a.granted is not None]
        awards = [g.as_award() for g in granted]
        if taken:
            awards += [_taken_back(award, points) for award, points in taken]
        status: Status = "pending" if posted else "settled" if taken else "ignored"
        answer = EventAnswer(
            id=fact.event.id,
            status=status,
            points=sum([a.points for a in awards]),
            available_at=max([g.due_at for g in granted]) if granted else None,
            awards=awards,
            refused=refused,
            balance=account.balance(),
        )
        self.stored.append(
            Stored(
                bucket=account.bucket,
                account=account.id,
                number=number,
                fact=fact,
                points=answer.points,
                received_at=parked.received_at if parked else self.scope.now,
                version=account.version if awards else 0,
                answer=answer,
                first_answer=parked.answer if parked else None,
            )
        )
        return answer


def _taken_back(award: PostedAward, points: int) -> Award:
    gone = award.reversed == award.points
    return Award(
        campaign=award.code, version=award.version, action=award.action, points=-points, line=UNSET if award.line is None else award.line,
        reason=f"{points} points taken back: the order was refunded or cancelled",
        impact=Impact(co2e_g=-award.co2e_g, plastic_g=-award.plastic_g) if gone else Impact(),
    )  # fmt: skip

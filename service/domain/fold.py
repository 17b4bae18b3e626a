"""The decision: facts in, answers and changes out, folded event by event over one batch.

The fold sees what earlier events of the same batch did, so that an order, its refund and a repeat fit into one
transaction. It does no I/O: the flow reads under locks before, and writes `Fold.changes()` after.
"""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Struct, field

from schemas.events import (
    ActivityCompleted,
    Award,
    Balance,
    DepositDue,
    Event,
    EventAnswer,
    EventErrorDeclared,
    Impact,
    OrderCancelled,
    OrderFulfilled,
    OrderPaid,
    OrderRefunded,
    PackagingReturned,
    Refusal,
    Status,
    StoredEvent,
)
from service.domain.activities import claims_of as activity_claims
from service.domain.activities import missing_evidence
from service.domain.claims import Holder
from service.domain.fraud.door import Hint, Visit
from service.domain.granting import Granter, Scope
from service.domain.ledger import Book, Kind, Lot, claw_back
from service.domain.orders import OrderFacts
from service.domain.posting import Account, Change, Entry, Fact, OrderKey, Parked, PostedAward, Stored, Sums
from service.domain.returns import Declared, Effects, PackagingState, Returns
from service.domain.things import activity_thing


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

    def add(self, event: StoredEvent) -> None:
        """Add a stored fact."""
        if type(event) is OrderPaid:
            self.facts.paid(event)
        elif type(event) is OrderFulfilled:
            if event.packaging is not None:
                self.facts.sent.setdefault(event.id, event)
        elif type(event) is EventErrorDeclared:
            self.facts.declared_wrong.add(event.error.event)
        elif type(event) is OrderRefunded:
            self.facts.refunds.setdefault(event.refund.id, event.refund)
        elif type(event) is OrderCancelled:
            self.facts.cancelled = True


class Fold:
    """Folds facts, one after the other, over locked state; then says what to write."""

    def __init__(
        self, scope: Scope, *, accounts: dict[int, Account], orders: dict[OrderKey, OrderState], lots: dict[int, list[Lot]],
        packaging: PackagingState | None = None, visit: Visit | None = None,
    ) -> None:  # fmt: skip
        """`visit`: who is asked at the door about what earns (None: nobody)."""
        self.scope = scope
        self.accounts = accounts
        self.orders = orders
        self.lots = lots
        self.packaging = packaging or PackagingState()
        self.stored: list[Stored] = []
        self.parked: list[Stored] = []
        self.granted: list[tuple[Account, PostedAward]] = []
        self.reversed: dict[tuple[int, int, int], PostedAward] = {}
        """(account, event, n) → award of an earlier batch that something was taken back of."""
        self.entries: list[Entry] = []
        self.lot_uses: dict[tuple[int, int, int, int], int] = {}
        """(account, lot's event, lot's n, transfer) → points used."""
        self.sums: dict[tuple[int, int, int], Sums] = {}
        """(program, campaign, platform) → what to add."""
        self._counted: set[tuple[int, int, int]] = set()
        """(event, campaign, platform) that roll-ups count."""
        self.visit = visit
        self.hinted: list[tuple[int, int, Hint]] = []
        """(account, event, why) of what is held at the door."""
        self.returns = Returns(self)

    def credit(self, fact: Fact, number: int, account: Account | None) -> EventAnswer:
        """Decide one new fact. `account` is its consumer's (None: not known), the order's own account takes precedence."""
        event = fact.event
        if type(event) is OrderPaid:
            assert account is not None
            return self._order_paid(fact, event, number, account)
        if fact.order_key is not None:
            return self._about_order(fact, number, account)
        if type(event) is PackagingReturned:
            return self.returns.returned(fact, event, number, account)
        assert account is not None
        granter = self.granter(fact, account)
        if type(event) is ActivityCompleted and granter.meets("activity"):
            kinds = granter.program.activity_kinds
            if (missing := missing_evidence(event, kinds)) is not None:
                granter.refuse("evidence_missing", missing)
            else:
                claims = tuple(activity_claims(event, kinds, account.id))
                granter.grant("activity", activity_thing(event, fact.platform_code, claims=claims))
        change = Change(account)
        posted = self.post(granter, change, fact, number)
        return self.store(fact, number, change, posted, granter.refused)

    def declare_wrong(self, fact: Fact, event: EventErrorDeclared, number: int, wrong: Declared) -> EventAnswer:
        """Take back what an event of an earlier batch earned, and give what others earn in its place."""
        account = self.accounts[wrong.account]
        if type(wrong.event) is EventErrorDeclared:
            detail = "A shipment, a return or an activity can be declared wrong; an order is cancelled or refunded."
            return self.store(fact, number, Change(account), [], [Refusal(code="not_declarable", detail=detail)])
        effects = Effects(self, fact, number, account, "error_declared")
        if type(wrong.event) is OrderFulfilled:
            assert fact.order_key is not None
            order = self.orders[fact.order_key]
            order.add(event)
            self._reverse(order, effects, number)
            self.returns.not_shipped(wrong, effects, fact)
            self._pack_again(order, fact, account, effects, number)
        else:
            effects.take_back(account.id, wrong.awards, fact)
            if type(wrong.event) is PackagingReturned:
                self.returns.not_returned(wrong, effects, fact)
        effects.finish()
        if not effects.posted and not effects.taken:
            effects.refused.append(Refusal(code="nothing_to_reverse", detail="The event that it declares wrong has no points left."))
        shown = Account(id=0, program=fact.program) if type(wrong.event) is PackagingReturned else account  # it may be another platform's
        return self.store(fact, number, effects.change, effects.posted, effects.refused, taken=effects.taken, shown=shown)

    # An order and what depends on it

    def _order_paid(self, fact: Fact, event: OrderPaid, number: int, account: Account) -> EventAnswer:
        order = self.orders[fact.platform, event.order.id]
        if order.account is not None:
            detail = "This order was reported as paid before; an order line earns once."
            return self.store(fact, number, Change(account), [], [Refusal(code="already_awarded", detail=detail)])
        order.account, order.newly_paid = account.id, True
        order.facts.paid(event)
        granter = self.granter(fact, account)
        granter.purchase(event)
        if event.packaging is not None:
            self.returns.pack(granter, event, event.packaging)
        change = Change(account)
        posted = self.post(granter, change, fact, number)
        order.awards += posted
        waiting, order.parked = order.parked, []
        if not waiting:
            return self.store(fact, number, change, posted, granter.refused)
        place = len(self.stored)
        self.store(fact, number, change, posted, granter.refused)
        for parked in waiting:
            order.picked_up.append(parked)
            self._apply(parked.fact, parked.number, account, order, parked)
        # The order's first answer shows the balance with what had been waiting for it.
        answer = msgspec.structs.replace(self.stored[place].answer, balance=account.purse.balance())
        self.stored[place] = msgspec.structs.replace(self.stored[place], answer=answer)
        return answer

    def _about_order(self, fact: Fact, number: int, account: Account | None) -> EventAnswer:
        key = fact.order_key
        assert key is not None
        order = self.orders[key]
        if order.account is None:
            refused = [Refusal(code="order_unknown", detail="Waits for the order.paid event of its order.")]
            return self.park(fact, number, refused, account)
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
        effects = Effects(self, fact, number, account, "shipment")
        self._reverse(order, effects, number)
        if not effects.taken:
            return self._nothing(fact, number, account, "nothing_to_reverse", "No points of this order are left to take back.", parked)
        return self.store(fact, number, effects.change, [], [], parked=parked, taken=effects.taken)

    def _fulfilled(
        self, fact: Fact, event: OrderFulfilled, number: int, account: Account, order: OrderState, parked: Parked | None
    ) -> EventAnswer:
        if event.packaging is None:
            return self._nothing(fact, number, account, "no_packaging", "The event names no packaging.", parked)
        order.add(event)
        effects = Effects(self, fact, number, account, "shipment")
        self._reverse(order, effects, number)  # what was really used stands in place of what was chosen at checkout
        granter = self.granter(fact, account)
        if order.facts.cancelled:
            granter.refuse("order_cancelled", "The order was cancelled.")
        else:
            self.returns.pack(granter, event, event.packaging)
            order.awards += effects.post(granter, fact)
            self._reverse(order, effects, number)  # what was refunded before
        self.returns.ship(fact, event, event.packaging, number, account, effects, granter)
        effects.finish()
        return self.store(fact, number, effects.change, effects.posted, granter.refused, parked=parked, taken=effects.taken)

    def _pack_again(self, order: OrderState, fact: Fact, account: Account, effects: Effects, number: int) -> None:
        """What was declared wrong no longer stands in the way of what was chosen at checkout, or of another report of the shipment."""
        bought = order.facts.bought
        if order.facts.cancelled or bought is None:
            return
        again: Sequence[OrderFulfilled | OrderPaid] = order.facts.really_sent() or [bought]
        for event in again:
            line = event.id if type(event) is OrderFulfilled else None
            if event.packaging is not None and not any(a.action == "packaging" and a.line == line and a.left for a in order.awards):
                granter = self.granter(fact, account, event=event)
                self.returns.pack(granter, event, event.packaging)
                order.awards += effects.post(granter, fact, item=len(effects.posted) + 1)
        self._reverse(order, effects, number)

    def _nothing(self, fact: Fact, number: int, account: Account, code: str, detail: str, parked: Parked | None) -> EventAnswer:
        return self.store(fact, number, Change(account), [], [Refusal(code=code, detail=detail)], parked=parked)

    # Posting

    def granter(self, fact: Fact, account: Account, *, event: Event | None = None) -> Granter:
        """Grants for the fact's event, or for another that it brings into force."""
        event = event or fact.event
        program = self.scope.catalogue.programs[fact.program]
        day = fact.day if event is fact.event else event.occurred_at.astimezone(program.zone).date()
        return Granter(
            self.scope, event, platform=fact.platform, platform_code=fact.platform_code, account=account.id, program=program, day=day
        )  # fmt: skip

    def post(
        self, granter: Granter, change: Change, fact: Fact, number: int, *, first: int = 0, item: int | None = None
    ) -> list[PostedAward]:  # fmt: skip
        """Put what was granted on hold, carried by event `number` from its `first` award on; what it earned by is taken.

        `item`: what the awards are told apart by where the event carries those of another.
        """
        if not granter.granted:
            return []
        account = change.account
        change.happens()
        posted = []
        for n, g in enumerate(granter.granted, first):
            award = PostedAward(
                event=number, n=n, campaign=g.campaign.id, code=g.campaign.code, version=g.campaign.version, action=g.campaign.body.action,
                platform=fact.platform, line=g.line, points=g.points, day=g.day, item=g.index if item is None else item,
                co2e_g=g.co2e_g, plastic_g=g.plastic_g, granted=g,
            )  # fmt: skip
            posted.append(award)
            self.granted.append((account, award))
            account.purse.pending += g.points
            sums = self._sums(fact.program, award)
            sums.issued += g.points
            sums.pending += g.points
            sums.co2e_g += award.co2e_g
            sums.plastic_g += award.plastic_g
            if (counted := (number, g.campaign.id, fact.platform)) not in self._counted:
                self._counted.add(counted)
                sums.events += 1
        for claims, index in granter.claimed:
            self.scope.claims.take(fact.program, claims, Holder(account.id, number, index if item is None else item))
        return posted

    def _reverse(self, order: OrderState, effects: Effects, number: int) -> None:
        """Post target − posted for every award of the order; `number` is the event that causes it."""
        spent = False
        for award in order.awards:
            back = award.left - order.facts.target(award.points, action=award.action, line=award.line)
            if back > 0:
                effects.taken.append((award, self.take_back(effects.change, award, back, number)))
                spent = spent or award.action != "purchase"
        if spent:
            self.release(effects.change.account.id, [award for award in order.awards if award.action != "purchase"])

    def take_back(self, change: Change, award: PostedAward, points: int, number: int) -> int:
        """Take points of an award back: from what is on hold, or as a clawback. Returns them."""
        account = change.account
        change.happens()
        award.reversed += points
        sums = self._sums(account.program, award)
        sums.reversed += points
        if not award.left:  # impact is of a thing that was or was not: it goes with the last point
            sums.co2e_g -= award.co2e_g
            sums.plastic_g -= award.plastic_g
        if self.scope.catalogue.knows(award.campaign):
            self.scope.usage.count(self.scope.usage.windows(account.id, award.campaign, award.day), -points)
        if award.settled:
            self._claw_back(change, award, points, number)
        else:
            account.purse.pending -= points
            sums.pending -= points
        if award.granted is None:
            self.reversed[account.id, award.event, award.n] = award
        return points

    def release(self, account: int, awards: Sequence[PostedAward]) -> None:
        """What these awards were earned by is free again, where none of it is left."""
        left: dict[Holder, int] = {}
        for award in awards:
            holder = Holder(account, award.event, award.item or 0)
            left[holder] = left.get(holder, 0) + award.left
        for holder, points in left.items():
            if not points:
                self.scope.claims.release(holder)

    def _claw_back(self, change: Change, award: PostedAward, points: int, number: int) -> None:
        """Take settled points back; what is missing becomes debt, or is written off: that is the program's policy."""
        account = change.account.purse
        policy = self.scope.catalogue.programs[account.program].points_policies.at(self.scope.now).negative_balance
        lots = self.lots.get(account.id, [])
        if policy == "refuse" and sum(lot.free for lot in lots) < points:
            lots = []
        taken, missing = claw_back(lots, points, event=award.event, n=award.n)
        for lot, part in taken:
            key = (account.id, lot.event, lot.n, number)
            self.lot_uses[key] = self.lot_uses.get(key, 0) + part
        owed = missing if policy == "debt" else 0
        account.available -= points - missing
        account.debt += owed
        change.written_off += missing - owed
        books = ((Book.AVAILABLE, missing - points), (Book.DEBT, -owed), (Book.WRITE_OFF, owed - missing), (Book.ISSUANCE, points))
        for book, amount in books:
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
                        version=change.version,
                    )
                )

    def _sums(self, program: int, award: PostedAward) -> Sums:
        key = (program, award.campaign, award.platform)
        sums = self.sums.get(key)
        if sums is None:
            sums = self.sums[key] = Sums()
        return sums

    # Answers

    def park(self, fact: Fact, number: int, refused: list[Refusal], named: Account | None) -> EventAnswer:
        """Keep a fact that waits for what it depends on."""
        answer = EventAnswer(
            id=fact.event.id, status="parked", points=0, available_at=None, awards=[], refused=refused,
            balance=Balance() if named is None else named.purse.balance(),
        )  # fmt: skip
        self.parked.append(
            Stored(bucket=0, account=0, number=number, fact=fact, received_at=self.scope.now, points=0, version=0, answer=answer)
        )
        return answer

    def store(
        self, fact: Fact, number: int, change: Change, posted: list[PostedAward], refused: list[Refusal], *,
        parked: Parked | None = None, taken: list[tuple[PostedAward, int]] | None = None, deposits: list[DepositDue] | None = None,
        shown: Account | None = None,
    ) -> EventAnswer:  # fmt: skip
        """Keep the event with its answer, which shows the balance of `shown` (None: of its account)."""
        account = change.account
        if change.written_off:
            detail = f"{change.written_off} points had been spent already; the program bears them."
            refused = [*refused, Refusal(code="points_spent", detail=detail)]
        granted = [a.granted for a in posted if a.granted is not None]
        awards = [g.as_award() for g in granted]
        if taken:
            awards += [_taken_back(award, points) for award, points in taken]
        status: Status = "settled" if taken else "ignored"
        if posted:
            status = "held" if self._is_held(fact, number, account) else "pending"
        answer = EventAnswer(
            id=fact.event.id,
            status=status,
            points=sum([a.points for a in awards]),
            available_at=max([g.due_at for g in granted]) if granted else None,
            awards=awards,
            refused=refused,
            balance=(shown or account).purse.balance(),
            deposits=deposits or UNSET,
        )
        self.stored.append(
            Stored(
                bucket=account.bucket,
                account=account.id,
                number=number,
                fact=fact,
                points=answer.points,
                received_at=parked.received_at if parked else self.scope.now,
                version=change.version,
                answer=answer,
                first_answer=parked.answer if parked else None,
            )
        )
        return answer

    def _is_held(self, fact: Fact, number: int, account: Account) -> bool:
        """Whether the door holds an event that earns."""
        if self.visit is None:
            return False
        hint = self.visit.look(
            program=fact.program, account=account.id, purse=account.purse.id, entities=fact.kept, occurred_at=fact.event.occurred_at,
            now=self.scope.now,
        )  # fmt: skip
        if hint:
            self.hinted.append((account.id, number, hint))
        return bool(hint)


_WHY_BACK = {
    "packaging": "what was really used counts, or the order was refunded or cancelled",
    "return": "the shipment or the return was declared wrong",
    "activity": "it was declared wrong",
}


def _taken_back(award: PostedAward, points: int) -> Award:
    why = _WHY_BACK.get(award.action, "the order was refunded or cancelled")
    return Award(
        campaign=award.code, version=award.version, action=award.action, points=-points,
        line=award.line if award.line is not None and award.action == "purchase" else UNSET, reason=f"{points} points taken back: {why}",
        impact=Impact() if award.left else Impact(co2e_g=-award.co2e_g, plastic_g=-award.plastic_g),
    )  # fmt: skip

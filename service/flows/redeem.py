"""Redeem: many requests, one transaction: open, lock, read, decide, write, commit. PostgreSQL alone decides what can be spent.

What is refused changes nothing, and its key may be used again; what is carried out is remembered with its answer, for ever.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Final, Literal

import msgspec
from msgspec import UNSET, Struct

from schemas.events import Balance
from schemas.redemptions import RedemptionAnswer
from service.domain import idempotency
from service.domain.errors import (
    GreenpointsError,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    InsufficientPoints,
    NotFound,
)
from service.domain.ledger import Kind
from service.domain.posting import Account
from service.domain.purse import Purse
from service.domain.redeeming import Redemption, new_id
from service.flows.batcher import Work
from service.flows.links import JOINED, move
from service.flows.outcomes import Outcome, Received
from service.projection import Projection
from service.store import purses as store_purses
from service.store import redemptions as store
from service.store.connection import Connection, Pool, plan_by_index
from service.store.purses import Moved, Terms
from service.store.repeats import First
from service.telemetry import metrics, tallies

MAX_ATTEMPTS: Final = 3
RELEASE_BATCH: Final = 200
"""Reservations that are released in one transaction."""
PUSH_WAIT_S: Final = 1.0
UNKNOWN: Final = "There is no such redemption."
_encode = msgspec.json.Encoder().encode


class Ask(Struct, kw_only=True, gc=False):
    """One request. `consumer` names who pays, or who asks and must be the one who paid; `redemption` what it is about."""

    program: int
    platform: int
    step: Literal["create", "capture", "cancel", "refund", "expire"]
    key: str | None
    """Its Idempotency-Key; None: nobody asks, a reservation has come to its end."""
    by_consumer: bool = False
    """The consumer asks: their keys are their own, and what they do not have is not there."""
    request_hash: bytes = b""
    consumer: str | None = None
    redemption: str | None = None
    points: int | None = None
    reference: str | None = None
    reward: str | None = None
    cause: str | None = None
    capture: bool = False
    ttl: timedelta = timedelta(0)
    payer: int = 0
    """Of an end: the account and the number are known already."""
    number: int = 0


def redeeming() -> Work[Ask]:
    """The work of a lane of redemptions."""
    return Work(commit=redeem, get_ready=plan_by_index, name=lambda ask: f"redemption.{ask.step}", count=_count, failed=_failed)


async def redeem(connection: Connection, asks: Sequence[Ask], stripe: int) -> Received:
    """Carry requests out, those of one program in one transaction, each on its own; a repeat gets the stored first answer.

    Safe to repeat. Raises what PostgreSQL raises; then the caller may split the batch.
    """
    outcomes: dict[int, Outcome] = {}
    changed: list[Account] = []
    for program in sorted({ask.program for ask in asks}):
        places = [i for i, ask in enumerate(asks) if ask.program == program]
        batch = await _carry_out(connection, [asks[i] for i in places], program, stripe)
        outcomes |= dict(zip(places, batch.outcomes, strict=True))
        changed += batch.changed
    return Received(outcomes=[outcomes[i] for i in range(len(asks))], changed=changed, due_now=False, credited=[])


async def _carry_out(connection: Connection, asks: Sequence[Ask], program: int, stripe: int) -> "_Batch":
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            async with connection.transaction():
                batch = _Batch(connection, asks, program)
                await batch.open()
                await batch.decide()
                await batch.write(stripe)
        except Moved:
            if attempt == MAX_ATTEMPTS:
                raise
        else:
            return batch
    raise AssertionError("the last attempt raises")


class _Batch:
    """The requests of one program in one transaction."""

    def __init__(self, connection: Connection, asks: Sequence[Ask], program: int) -> None:
        self._connection = connection
        self._asks = asks
        self._program = program
        self._opened: list[store.Opened] = []
        self._stored: dict[tuple[int, str], First] = {}
        self._terms: Terms
        self._homes: dict[int, int] = {}
        self._purses: dict[int, Purse] = {}
        self._redemptions: dict[int, Redemption] = {}
        self._touched: dict[int, Redemption] = {}
        self._answered: dict[str, store.Answered] = {}
        self.outcomes: list[Outcome] = []
        self.changed: list[Account] = []

    async def open(self) -> None:
        """Find who and what the requests are about, lock the accounts, then read what they have: in later statements."""
        connection, asks = self._connection, self._asks
        self._opened = await store.open_requests(
            connection, [(a.program, a.key, a.by_consumer, a.platform, a.consumer, a.redemption) for a in asks]
        )
        found = list(zip(asks, self._opened, strict=True))
        payers = {(one.payer or ask.payer, one.number or ask.number) for ask, one in found if one.mine and (one.number or ask.number)}
        persons = {one.person for _, one in found if one.mine and one.person is not None}
        accounts, self._homes = await store_purses.lock_with_homes(connection, persons | {payer for payer, _ in payers})
        keys = {(a.program, key) for a, one in found if (key := _stored_key(a, one)) is not None}
        self._stored = await store.stored(connection, sorted(keys)) if keys else {}
        self._redemptions = await store.read(connection, sorted(payers)) if payers else {}
        self._terms = await store_purses.terms(connection, self._program)
        purses = await store_purses.open_purses(connection, accounts.values(), self._terms, redemptions=list(self._redemptions))
        self._purses = {purse.account.id: purse for purse in purses}

    async def decide(self) -> None:
        """Carry the requests out, one after the other, each on what the ones before it left."""
        self.outcomes = [await self._outcome(ask, one) for ask, one in zip(self._asks, self._opened, strict=True)]

    async def write(self, stripe: int) -> None:
        """Write what was done; nothing where everything was refused or a repeat."""
        used = [purse for purse in self._purses.values() if purse.transfers]
        if used:
            await store_purses.write(self._connection, used, self._terms, stripe=stripe)
            changed, answered = list(self._touched.values()), list(self._answered.values())
            await store.write(self._connection, program=self._program, changed=changed, answered=answered)
        self.changed = [purse.account for purse in used]

    async def _outcome(self, ask: Ask, opened: store.Opened) -> Outcome:
        key = _stored_key(ask, opened)
        if not opened.mine:
            return Outcome(error=IdempotencyKeyInUse("The first request with this Idempotency-Key is still running."))
        if key is not None and (first := self._stored.get((ask.program, key)) or self._answered.get(key)) is not None:
            return _repeat(ask, first)
        try:
            status, redemption, purse = (201, *self._create(ask, opened)) if ask.step == "create" else (200, *self._go_on(ask, opened))
        except GreenpointsError as error:
            return Outcome(error=error)
        if (home := self._homes.get(redemption.account, redemption.account)) != redemption.account:
            purse = await self._bring_home(purse, self._purses[home])
        self._touched[redemption.number] = redemption
        body = _encode(answer_of(redemption, purse.account.balance()))
        if key is not None:
            self._answered[key] = store.Answered(
                program=ask.program, key=key, request_hash=ask.request_hash, status=status, answer=body.decode(), account=purse.account.id
            )
        return Outcome(answer=body, status=status)

    def _create(self, ask: Ask, opened: store.Opened) -> tuple[Redemption, Purse]:
        if opened.person is None:
            if ask.by_consumer:
                raise InsufficientPoints(f"{ask.points} points were asked for, 0 can be spent.")
            raise NotFound("This consumer has no events yet.")
        purse, now = self._purses[self._homes[opened.person]], self._terms.now
        assert ask.points is not None
        redemption = Redemption(
            number=opened.transfer, account=purse.account.id, platform=ask.platform, id=new_id(), status="reserved", points=ask.points,
            reference=ask.reference, created_at=now, expires_at=now + ask.ttl, is_new=True,
        )  # fmt: skip
        if ask.capture:
            redemption.spend(purse, now, reason=_REASONS["capture"])
        else:
            redemption.reserve(purse, reason=_REASONS["reserve"])
        return redemption, purse

    def _go_on(self, ask: Ask, opened: store.Opened) -> tuple[Redemption, Purse]:
        redemption = self._redemptions.get(opened.number or ask.number)
        if redemption is None or (ask.step != "expire" and not self._may(ask, opened, redemption)):
            raise NotFound(UNKNOWN)
        purse, now = self._purses[redemption.account], self._terms.now
        if ask.step == "capture":
            redemption.capture(purse, opened.transfer, ask.points, now, reason=_REASONS["capture"])
        elif ask.step == "refund":
            redemption.refund(purse, opened.transfer, ask.points, reason=_REASONS["refund"])
        elif ask.step != "create":
            redemption.release(purse, opened.transfer, ask.step, now, reason=_REASONS[ask.step])
        return redemption, purse

    async def _bring_home(self, purse: Purse, home: Purse) -> Purse:
        """What came back to an account that was linked since it paid belongs to the one that has its points now."""
        (number,) = await store_purses.numbers(self._connection, 1)
        for each in (purse, home):
            each.begin(Kind.LINK, number, platform=0, reason=JOINED)
        await move(self._connection, purse, home, [(lot, lot.free) for lot in purse.lots.values() if lot.free], out_of=number)
        return home

    def _may(self, ask: Ask, opened: store.Opened, redemption: Redemption) -> bool:
        """Whether it is the platform's, and (where a consumer asks) paid from the consumer's purse."""
        if redemption.platform != ask.platform:
            return False
        return not ask.by_consumer or (opened.person is not None and self._homes[opened.person] == self._homes[redemption.account])


_REASONS: Final = {
    "reserve": "Points were reserved",
    "capture": "Points were spent",
    "cancel": "A reservation was cancelled",
    "expire": "A reservation ended",
    "refund": "Spent points came back",
}


def answer_of(redemption: Redemption, balance: Balance) -> RedemptionAnswer:
    """As an answer shows it."""
    r = redemption
    return RedemptionAnswer(
        id=r.id, status=r.status, points=r.points, captured=r.captured, refunded=r.refunded, reference=r.reference, reward=None, cause=None,
        created_at=r.created_at, expires_at=r.expires_at, balance=balance, voucher=UNSET,
    )  # fmt: skip


def _stored_key(ask: Ask, opened: store.Opened) -> str | None:
    """As the answer is stored under; None: nobody asks, or somebody unknown, of whom nothing is stored."""
    if ask.key is None:
        return None
    if not ask.by_consumer:
        return idempotency.of_platform(ask.platform, ask.key)
    return None if opened.person is None else idempotency.of_consumer(ask.platform, opened.person, ask.key)


def _repeat(ask: Ask, first: First | store.Answered) -> Outcome:
    if first.request_hash != ask.request_hash:
        return Outcome(error=IdempotencyKeyReused("This Idempotency-Key came before with another request.", []))
    return Outcome(answer=first.answer.encode(), replayed=True, status=first.status)


# Reservations that nobody ends ---------------------------------------------------------------------------


async def release_expired(pool: Pool, projection: Projection, *, stripe: int) -> int:
    """Release reservations whose end has come; returns how many.

    Safe to repeat and side by side: under its account's lock each is released once, whoever finds it.
    """
    done = 0
    async with pool.acquire() as connection:
        await plan_by_index(connection)
        buckets = await store.buckets_due(connection)
        while buckets and (found := await store.due(connection, buckets, RELEASE_BATCH)):
            asks = [
                Ask(program=program, platform=0, step="expire", key=None, payer=payer, number=number) for program, payer, number in found
            ]
            received = await redeem(connection, asks, stripe)
            await projection.push([(account.id, account.balance()) for account in received.changed], wait_s=PUSH_WAIT_S)
            released = sum(outcome.error is None for outcome in received.outcomes)
            done += released
            if not released:
                break  # somebody else did it meanwhile
    return done


@cache
def _tally(step: str, outcome: str) -> tallies.CountTally:
    return tallies.count(metrics.REDEMPTIONS, step, outcome)


def _count(asks: Sequence[Ask], received: Received) -> None:
    for ask, outcome in zip(asks, received.outcomes, strict=True):
        _tally(ask.step, "repeated" if outcome.replayed else "done" if outcome.error is None else outcome.error.code).add()


def _failed(ask: Ask) -> None:
    _tally(ask.step, "failed").add()

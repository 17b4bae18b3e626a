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
from service import failpoints
from service.domain import idempotency
from service.domain.errors import (
    GreenpointsError,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    InsufficientPoints,
    NotFound,
    Unavailable,
)
from service.domain.ledger import Kind
from service.domain.posting import Account
from service.domain.purse import Purse
from service.domain.redeeming import Redemption, new_id
from service.flows import causes, rewards
from service.flows.batcher import Work
from service.flows.links import JOINED, move
from service.flows.outcomes import Outcome, Received
from service.sealing import Sealer
from service.store import purses as store_purses
from service.store import redemptions as store
from service.store.connection import Connection, plan_by_index
from service.store.purses import Moved, Terms
from service.store.releases import Due
from service.store.repeats import First
from service.telemetry import metrics, tallies

MAX_ATTEMPTS: Final = 3
UNKNOWN: Final = "There is no such redemption."
EXPIRED: Final = "Points expired"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(RedemptionAnswer).decode


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


def redeeming(sealer: Sealer) -> Work[Ask]:
    """The work of a lane of redemptions."""

    async def commit(connection: Connection, asks: Sequence[Ask], stripe: int) -> Received:
        return await redeem(connection, asks, stripe, sealer=sealer)

    return Work(commit=commit, get_ready=plan_by_index, name=lambda ask: f"redemption.{ask.step}", count=_count, failed=_failed)


async def redeem(connection: Connection, asks: Sequence[Ask], stripe: int, *, sealer: Sealer | None = None) -> Received:
    """Carry requests out, those of one program in one transaction, each on its own; a repeat gets the stored first answer.

    `sealer` opens the codes of rewards; without one nothing is spent on rewards. Safe to repeat. Raises what PostgreSQL raises; then the
    caller may split the batch.
    """
    outcomes: dict[int, Outcome] = {}
    changed: list[Account] = []
    for program in sorted({ask.program for ask in asks}):
        places = [i for i, ask in enumerate(asks) if ask.program == program]
        batch = await _carry_out(connection, [asks[i] for i in places], program, stripe, sealer)
        outcomes |= dict(zip(places, batch.outcomes, strict=True))
        changed += batch.changed
    return Received(outcomes=[outcomes[i] for i in range(len(asks))], changed=changed, due_now=False, credited=[])


async def _carry_out(connection: Connection, asks: Sequence[Ask], program: int, stripe: int, sealer: Sealer | None) -> "_Batch":
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            async with connection.transaction():
                batch = _Batch(connection, asks, program, sealer)
                await batch.open()
                await batch.decide()
                failpoints.at("redeem.decided")
                await batch.write(stripe)
        except Moved:
            if attempt == MAX_ATTEMPTS:
                raise
        else:
            failpoints.at("redeem.committed")
            return batch
    raise AssertionError("the last attempt raises")


class _Batch:
    """The requests of one program in one transaction."""

    def __init__(self, connection: Connection, asks: Sequence[Ask], program: int, sealer: Sealer | None) -> None:
        self._sealer = sealer
        self._given: dict[int, tuple[int, int]] = {}
        """Cause → points, donations."""
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
        failpoints.at("redeem.opened")
        found = list(zip(asks, self._opened, strict=True))
        payers = {(one.payer or ask.payer, one.number or ask.number) for ask, one in found if one.mine and (one.number or ask.number)}
        persons = {one.person for _, one in found if one.mine and one.person is not None}
        accounts, self._homes = await store_purses.lock_with_homes(connection, persons | {payer for payer, _ in payers})
        failpoints.at("redeem.locked")
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
            failpoints.at("redeem.posted")
            changed, answered = list(self._touched.values()), list(self._answered.values())
            await store.write(self._connection, program=self._program, changed=changed, answered=answered)
            failpoints.at("redeem.written")
        for cause, (points, donations) in sorted(self._given.items()):
            await causes.count(self._connection, cause=cause, points=points, donations=donations, stripe=stripe)
            failpoints.at("redeem.counted")
        self.changed = [purse.account for purse in used]

    async def _outcome(self, ask: Ask, opened: store.Opened) -> Outcome:
        key = _stored_key(ask, opened)
        if not opened.mine:
            return Outcome(error=IdempotencyKeyInUse("The first request with this Idempotency-Key is still running."))
        if key is not None and (first := self._stored.get((ask.program, key)) or self._answered.get(key)) is not None:
            return await self._repeat(ask, first)
        try:
            if ask.step == "create":
                status, (redemption, purse, voucher) = 201, await self._create(ask, opened)
            else:
                status, (redemption, purse, voucher) = 200, await self._go_on(ask, opened)
        except GreenpointsError as error:
            return Outcome(error=error)
        if (home := self._homes.get(redemption.account, redemption.account)) != redemption.account:
            purse = await self._bring_home(purse, self._purses[home])
        self._touched[redemption.number] = redemption
        answer = answer_of(redemption, purse.account.balance())
        body = _encode(answer)
        if key is not None:
            self._answered[key] = store.Answered(
                program=ask.program, key=key, request_hash=ask.request_hash, status=status, answer=body.decode(), account=purse.account.id
            )
        # The code of a reward is shown, and not kept: a repeat asks for it again.
        shown = body if voucher is None else _encode(msgspec.structs.replace(answer, voucher=voucher))
        return Outcome(answer=shown, status=status)

    async def _repeat(self, ask: Ask, first: First | store.Answered) -> Outcome:
        """The first answer again; another request under its key is refused, as long as it is known what the first one was."""
        if not idempotency.is_repeat(first.request_hash, ask.request_hash):
            return Outcome(error=IdempotencyKeyReused("This Idempotency-Key came before with another request."))
        body = first.answer.encode()
        answer = _decode(body)
        if (
            answer.reward is not None
            and answer.captured
            and (found := await store.find(self._connection, program=ask.program, platform=ask.platform, id_=answer.id))
        ):
            try:
                voucher = await voucher_for(self._connection, self._sealer, ask.program, found)
            except GreenpointsError as error:
                return Outcome(error=error)
            if voucher is not None:
                body = _encode(msgspec.structs.replace(answer, voucher=voucher))
        return Outcome(answer=body, replayed=True, status=first.status)

    async def _create(self, ask: Ask, opened: store.Opened) -> tuple[Redemption, Purse, str | None]:
        if opened.person is None:
            if ask.by_consumer:
                raise InsufficientPoints("0 points can be spent.")
            raise NotFound("This consumer has no events yet.")
        purse, now = self._purses[self._homes[opened.person]], self._terms.now
        redemption = Redemption(
            number=opened.transfer, account=purse.account.id, platform=ask.platform, id=new_id(), status="reserved", points=ask.points or 0,
            reference=ask.reference, created_at=now, expires_at=now + ask.ttl, is_new=True, reward_code=ask.reward, cause_code=ask.cause,
        )  # fmt: skip
        voucher = None
        if ask.cause is not None:
            redemption.cause = await causes.cause_of(self._connection, program=self._program, code=ask.cause)
        if ask.reward is not None:
            async with self._connection.transaction():  # what is refused after it was booked is not booked
                booked = await rewards.book(
                    self._connection, program=self._program, platform=ask.platform, code=ask.reward, account=purse.account.id,
                    redemption=redemption.number, points=ask.points, now=now,
                )  # fmt: skip
                redemption.reward, redemption.points = booked.reward, booked.points
                purse.require(redemption.points)
                if ask.capture:
                    voucher = await self._deliver(redemption)
        if ask.capture:
            redemption.spend(purse, now, reason=_REASONS["capture"])
            self._give(redemption, redemption.points, 1)
        else:
            redemption.reserve(purse, reason=_REASONS["reserve"])
        return redemption, purse, voucher

    async def _deliver(self, redemption: Redemption) -> str | None:
        if self._sealer is None:
            raise Unavailable("The reward's code cannot be shown at the moment; try again later.")
        return await rewards.deliver(
            self._connection, sealer=self._sealer, program=self._program, account=redemption.account, redemption=redemption.number
        )

    def _give(self, redemption: Redemption, points: int, donations: int) -> None:
        """Count what its cause is given, or loses."""
        if redemption.cause is not None:
            before = self._given.get(redemption.cause, (0, 0))
            self._given[redemption.cause] = (before[0] + points, before[1] + donations)

    async def _go_on(self, ask: Ask, opened: store.Opened) -> tuple[Redemption, Purse, str | None]:
        redemption = self._redemptions.get(opened.number or ask.number)
        if redemption is None or (ask.step != "expire" and not self._may(ask, opened, redemption)):
            raise NotFound(UNKNOWN)
        purse, now = self._purses[redemption.account], self._terms.now
        voucher = None
        if ask.step == "capture":
            if redemption.reward is not None:
                redemption.check("capture", now)
                async with self._connection.transaction():
                    voucher = await self._deliver(redemption)
                    redemption.capture(purse, opened.transfer, ask.points, now, reason=_REASONS["capture"])
            else:
                redemption.capture(purse, opened.transfer, ask.points, now, reason=_REASONS["capture"])
            self._give(redemption, redemption.captured, 1)
        elif ask.step == "refund":
            back = redemption.refund(purse, opened.transfer, ask.points, reason=_REASONS["refund"])
            self._give(redemption, -back, -1 if redemption.refunded == redemption.captured else 0)
        elif ask.step != "create":
            redemption.release(purse, opened.transfer, ask.step, now, reason=_REASONS[ask.step])
        if purse.stale:
            (number,) = await store_purses.numbers(self._connection, 1)
            purse.expire(purse.begin(Kind.EXPIRE, number, platform=0, reason=EXPIRED))
        if redemption.reward is not None and ask.step != "capture":
            await rewards.give_back(
                self._connection, program=self._program, account=redemption.account, redemption=redemption.number,
                captured=ask.step == "refund",
            )  # fmt: skip
        return redemption, purse, voucher

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


async def voucher_for(connection: Connection, sealer: Sealer | None, program: int, redemption: Redemption) -> str | None:
    """The code that a redemption was given; None where it has none. Raises Unavailable."""
    if redemption.reward is None or redemption.status != "captured" or sealer is None:
        return None
    return await rewards.voucher_of(connection, sealer=sealer, program=program, account=redemption.account, redemption=redemption.number)


def answer_of(redemption: Redemption, balance: Balance, voucher: str | None = None) -> RedemptionAnswer:
    """As an answer shows it."""
    r = redemption
    return RedemptionAnswer(
        id=r.id, status=r.status, points=r.points, captured=r.captured, refunded=r.refunded, reference=r.reference, reward=r.reward_code,
        cause=r.cause_code, created_at=r.created_at, expires_at=r.expires_at, balance=balance,
        voucher=UNSET if voucher is None else voucher,
    )  # fmt: skip


def _stored_key(ask: Ask, opened: store.Opened) -> str | None:
    """As the answer is stored under; None: nobody asks, or somebody unknown, of whom nothing is stored."""
    if ask.key is None:
        return None
    if not ask.by_consumer:
        return idempotency.of_platform(ask.platform, ask.key)
    return None if opened.person is None else idempotency.of_consumer(ask.platform, opened.person, ask.key)


# Reservations that nobody ends ---------------------------------------------------------------------------


async def release_expired(
    connection: Connection, due: Sequence[Due], *, program: int, stripe: int
) -> Sequence[tuple[int, Balance]]:  # fmt: skip
    """Release reservations whose end has come, in the caller's transaction, their accounts locked; returns the balances that changed."""
    asks = [Ask(program=program, platform=0, step="expire", key=None, payer=one.account, number=one.redemption) for one in due]
    batch = _Batch(connection, asks, program, None)
    await batch.open()
    await batch.decide()
    await batch.write(stripe)
    _count(asks, Received(outcomes=batch.outcomes, changed=batch.changed, due_now=False, credited=[]))
    return [(account.id, account.balance()) for account in batch.changed]


@cache
def _tally(step: str, outcome: str) -> tallies.CountTally:
    return tallies.count(metrics.REDEMPTIONS, step, outcome)


def _count(asks: Sequence[Ask], received: Received) -> None:
    for ask, outcome in zip(asks, received.outcomes, strict=True):
        _tally(ask.step, "repeated" if outcome.replayed else "done" if outcome.error is None else outcome.error.code).add()


def _failed(ask: Ask) -> None:
    _tally(ask.step, "failed").add()

"""Adjustments: an operator gives or takes points; above the program's limit a second operator has to approve.

Who carries one out shares the catalogue lock (nobody is erased meanwhile), locks the account, then the adjustment's row, and decides by
what the row says then. The audit names accounts, no persons: what people wrote stays where it is erased with the person.
"""

from typing import Final

import msgspec
from msgspec import UNSET, Struct

from schemas.adjustments import AdjustmentAnswer, AdjustmentBody
from schemas.events import Balance
from service import failpoints
from service.domain import adjustments as rules
from service.domain import idempotency
from service.domain.adjustments import Adjustment, Step
from service.domain.errors import InvalidRequest, InvalidState, NotFound
from service.domain.keys import bucket_of
from service.domain.posting import Account
from service.flows import administer
from service.flows.administer import Change
from service.flows.repeats import Answered, in_one_transaction, once
from service.store import adjustments as store
from service.store import audit, balances, purses, vault
from service.store.callers import Platform
from service.store.connection import Connection, Pool
from service.store.locks import share_catalogue
from service.store.purses import Terms

NO_ROLLUPS: Final = 0
"""In place of a stripe: no campaign's statistics count adjustments."""
SWEEP_ROWS: Final = 100
"""Adjustments that one transaction of the sweep expires."""
WORKER: Final = Change(actor="worker")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AdjustmentAnswer).decode


class Outcome(Struct, frozen=True, kw_only=True):
    """What a request is answered; `balances` are to be pushed after COMMIT. `replayed`: it is a repeat, and nothing was done."""

    answer: AdjustmentAnswer
    balances: list[tuple[int, Balance]]
    status: int = 200
    replayed: bool = False


# Proposing ------------------------------------------------------------------------------------------------


async def propose(
    connection: Connection, body: AdjustmentBody, *, program: int, operator: int, key: str, request_hash: bytes, change: Change
) -> Outcome:
    """Carry an adjustment out, or leave it to a second operator where it is above what one may do alone.

    Safe to repeat with the same key. Raises InvalidRequest (the body, no such platform or consumer), InsufficientPoints, InvalidState
    (nobody may have so many points), IdempotencyKeyReused, IdempotencyKeyInUse.
    """
    changed: list[tuple[int, Balance]] = []

    async def run() -> Answered:
        terms = await purses.terms(connection, program)
        rules.check(body, today=terms.today)
        platform, account = await _whose(connection, body, program)
        adjustment = _adjustment(
            body, terms, platform=platform.id, account=account, number=(await purses.numbers(connection, 1))[0], by=operator
        )
        adjustment, balance = await _make(connection, adjustment, terms, change)
        if balance is not None:
            changed.append(balance)
        shown = store.Shown(adjustment=adjustment, platform=body.platform, consumer=None)
        answer = msgspec.structs.replace(_answer(shown, changed), reason=None, note=None)
        return Answered(status=201, body=_encode(answer).decode(), account=account)

    async def work() -> tuple[int, str, bool]:
        changed.clear()
        await share_catalogue(connection)
        return await once(connection, program=program, key=idempotency.of_operator(operator, key), request_hash=request_hash, run=run)

    status, answer, replayed = await in_one_transaction(connection, work)
    # What names or describes the person is not kept with the answer: a repeat brings it along.
    full = msgspec.structs.replace(_decode(answer), consumer=body.consumer, reason=body.reason, note=body.note)
    return Outcome(answer=full, balances=changed, status=status, replayed=replayed)


async def _make(
    connection: Connection, adjustment: Adjustment, terms: Terms, change: Change
) -> tuple[Adjustment, tuple[int, Balance] | None]:
    """Carry it out if one operator may do it alone, and store it: as it is then, and the new balance if there is one."""
    balance = None
    if adjustment.alone:
        adjustment, balance = await _carry_out(connection, adjustment, await _lock(connection, adjustment.account), terms)
    await store.insert(connection, adjustment)
    failpoints.at("adjustments.inserted")
    await _record(connection, adjustment, "adjustment.make" if adjustment.alone else "adjustment.propose", change)
    return adjustment, balance


async def give_back(
    connection: Connection, *, account: int, platform: int, points: int, reason: str, program: int, operator: int, change: Change
) -> tuple[int, tuple[int, Balance] | None]:
    """Give points that were taken wrongly, inside a transaction that shares the catalogue: the adjustment's number, and the new balance.

    Above what one operator may do alone it waits for another one, and there is no balance. Raises InvalidState (nobody may have so many).
    """
    terms = await purses.terms(connection, program)
    body = AdjustmentBody(platform="", consumer="", points=points, reason=reason)
    number = (await purses.numbers(connection, 1))[0]
    made, balance = await _make(
        connection, _adjustment(body, terms, platform=platform, account=account, number=number, by=operator), terms, change
    )  # fmt: skip
    return made.number, balance


async def _whose(connection: Connection, body: AdjustmentBody, program: int) -> tuple[Platform, int]:
    """The platform and the account. Raises InvalidRequest."""
    try:
        platform = await administer.find_platform(connection, program=program, code=body.platform)
    except NotFound:
        raise InvalidRequest.at("/platform", "is not a platform of this program") from None
    account = await balances.find_account(connection, platform.id, body.consumer)
    if account is None:
        raise InvalidRequest.at("/consumer", "is not known to this platform")
    return platform, account


def _adjustment(body: AdjustmentBody, terms: Terms, *, platform: int, account: int, number: int, by: int) -> Adjustment:
    return Adjustment(
        bucket=bucket_of(account), account=account, number=number, program=terms.program, platform=platform, points=body.points,
        reason=body.reason, note=body.note, own_last_day=body.expires_on is not UNSET,
        expires_on=None if body.expires_on is UNSET else body.expires_on, may_owe=body.debt == "allow",
        alone=abs(body.points) <= terms.policies.at(terms.now).adjustment_alone, status="pending", proposed_by=by, proposed_at=terms.now,
        open_until=terms.now + rules.OPEN_FOR,
    )  # fmt: skip


async def _lock(connection: Connection, account: int) -> Account:
    """The account that has this one's points, under lock."""
    return (await purses.lock(connection, [account]))[account]


async def _carry_out(
    connection: Connection, adjustment: Adjustment, account: Account, terms: Terms
) -> tuple[Adjustment, tuple[int, Balance]]:
    """Give or take the points: the adjustment as it is then, and the new balance. Raises what the rules raise."""
    (purse,) = await purses.open_purses(connection, [account], terms)
    (number,) = await purses.numbers(connection, 1)
    policy = terms.policies.at(terms.now)
    rules.carry_out(purse, adjustment, number, policy=policy, now=terms.now, zone=terms.zone)
    done = msgspec.structs.replace(adjustment, status="done", decided_at=terms.now, transfer=number)
    await purses.write(connection, [purse], terms, stripe=NO_ROLLUPS)
    failpoints.at("adjustments.posted")
    return done, (account.id, account.balance())


# Deciding -------------------------------------------------------------------------------------------------


async def decide(
    connection: Connection, number: int, step: Step, *, note: str | None, program: int, operator: int, change: Change
) -> Outcome:
    """Approve (and carry out), reject or withdraw a pending adjustment. The same step by the same operator again changes nothing.

    Raises NotFound, InvalidState (decided, lapsed, whose it is to decide, its consumer was erased), InsufficientPoints.
    """
    changed: list[tuple[int, Balance]] = []

    async def work() -> None:
        changed.clear()
        await share_catalogue(connection)
        found = await store.find(connection, program=program, number=number)
        if found is None:
            raise NotFound("There is no such adjustment.")
        account = await _lock(connection, found.account) if step == "approve" else None
        locked = await store.lock(connection, program=program, number=number)
        assert locked is not None, "adjustments are never deleted"
        terms = await purses.terms(connection, program)
        if not rules.needs_deciding(locked, step, operator=operator, now=terms.now):
            return
        done = locked
        if account is not None:
            if await vault.is_erased(connection, locked.account, locked.platform):
                raise InvalidState("The consumer was erased; the adjustment can only be rejected.")
            done, balance = await _carry_out(connection, locked, account, terms)
            changed.append(balance)
        await store.decide(connection, locked, rules.OUTCOMES[step], by=operator, note=note, transfer=done.transfer)
        failpoints.at("adjustments.decided")
        await _record(connection, done, f"adjustment.{step}", change)

    await in_one_transaction(connection, work)
    shown = await store.show(connection, program=program, number=number)
    assert shown is not None
    return Outcome(answer=_answer(shown, changed), balances=changed)


async def expire(pool: Pool) -> int:
    """End those that nobody decided in time; returns how many. Safe to repeat, to run side by side and after a crash."""
    ended = 0
    async with pool.acquire() as connection:
        while True:
            async with connection.transaction():
                overdue = await store.lock_overdue(connection, SWEEP_ROWS)
                for adjustment in overdue:
                    await store.decide(connection, adjustment, "expired", by=None, note=None, transfer=None)
                    failpoints.at("adjustments.expired")
                    await _record(connection, adjustment, "adjustment.expire", WORKER)
            ended += len(overdue)
            if len(overdue) < SWEEP_ROWS:
                return ended


# Reading --------------------------------------------------------------------------------------------------


async def read(connection: Connection, number: int, *, program: int) -> AdjustmentAnswer:
    """One adjustment. Raises NotFound."""
    shown = await store.show(connection, program=program, number=number)
    if shown is None:
        raise NotFound("There is no such adjustment.")
    return _answer(shown, [])


async def page(
    connection: Connection, *, program: int, before: int, status: str | None, platform: str | None, consumer: str | None, limit: int
) -> list[tuple[int, AdjustmentAnswer]]:
    """At most `limit` adjustments with numbers below `before`, newest first, each with its number."""
    found = await store.page(connection, program=program, before=before, status=status, platform=platform, consumer=consumer, limit=limit)
    return [(shown.adjustment.number, _answer(shown, [])) for shown in found]


def _answer(shown: store.Shown, changed: list[tuple[int, Balance]]) -> AdjustmentAnswer:
    a = shown.adjustment
    return AdjustmentAnswer(
        id=str(a.number), status=a.status, platform=shown.platform, consumer=shown.consumer, points=a.points, reason=a.reason, note=a.note,
        expires_on=a.expires_on if a.own_last_day else UNSET, debt="allow" if a.may_owe else "refuse",
        proposed_by=f"operator:{a.proposed_by}", proposed_at=a.proposed_at, open_until=a.open_until if a.status == "pending" else None,
        decided_by=None if a.decided_by is None else f"operator:{a.decided_by}", decided_at=a.decided_at, decision_note=a.decision_note,
        balance=changed[0][1] if changed else None,
    )  # fmt: skip


async def _record(connection: Connection, adjustment: Adjustment, action: str, change: Change) -> None:
    after = {
        "account": str(adjustment.account), "points": adjustment.points,
        "transfer": None if adjustment.transfer is None else str(adjustment.transfer),
    }  # fmt: skip
    await audit.record(
        connection, program=adjustment.program, actor=change.actor, action=action, subject=f"adjustment:{adjustment.number}", after=after,
        request_id=change.request_id,
    )  # fmt: skip
    failpoints.at("adjustments.recorded")

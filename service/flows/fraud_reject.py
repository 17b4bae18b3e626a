"""Carry out what was decided about fraud cases: by operators, by a deadline's policy, or by a refund that left nothing.

An event that is rejected is taken back by the fact that would have taken it back anyway: its order is cancelled, or it is declared wrong.
That fact's id is stored with the decision, so that whoever goes on after a crash repeats it, and it counts once. Then, under the locks
of account and case, the event gets its mark, its label and its message.
"""

from collections.abc import Sequence
from typing import Final

import asyncpg
import msgspec
import structlog

from schemas.events import Balance, Declaration, Event, EventErrorDeclared, Order, OrderCancelled
from schemas.fraud import CaseEventState, CaseReason
from service import failpoints
from service.domain.fraud_cases import outcome, softly
from service.domain.intake import Sender, fact_of
from service.domain.posting import Fact
from service.flows.knowledge import Knowledge
from service.flows.receive import receive
from service.projection import Projection
from service.store import audit, credit
from service.store import fraud_decisions as store
from service.store.connection import UNREACHABLE, Connection, Pool, plan_by_index
from service.store.fraud_decisions import Case, Ready

AT_ONCE: Final = 100
"""Events that one transaction concludes, and a request carries out before it is answered."""
MAX_CASES: Final = 200
"""That one look of the sweep works on."""
MAX_ATTEMPTS: Final = 5
_AGAIN: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_decode_reasons = msgspec.json.Decoder(list[CaseReason]).decode
_encode = msgspec.json.Encoder().encode

log = structlog.get_logger("greenpoints.fraud")


async def sweep(pool: Pool, projection: Projection, knowledge: Knowledge, *, empty: bool = False) -> int:
    """Finish what was decided, and decide by their policy what is past its deadline; returns how many events that ended.

    `empty`: end events instead of which refunds have left nothing. Safe to repeat, to run side by side and after a crash.
    """
    ended = 0
    async with pool.acquire() as connection:
        for case in await store.cases_to_do(connection, limit=MAX_CASES, empty=empty):
            try:
                while (done := await carry_out(connection, projection, knowledge, case)) == AT_ONCE:
                    ended += done
                ended += done
            except UNREACHABLE:
                raise
            except Exception:
                log.exception("a decision about a fraud case cannot be carried out; trying again", case=case)
    return ended


async def carry_out(connection: Connection, projection: Projection, knowledge: Knowledge, case: int) -> int:
    """Carry out at most AT_ONCE of what is decided or due in a case; returns how many events that ended.

    Safe to repeat, to run side by side and after a crash. Raises what PostgreSQL raises; what has been done stays done.
    """
    await plan_by_index(connection)
    async with connection.transaction():
        await store.lock(connection, case)
        await store.expire(connection, case)
        failpoints.at("fraud.expired")
    ready = await store.ready(connection, case, limit=AT_ONCE)
    for row in ready:
        if row.kind == "reject" and row.sent is None and row.left:
            await _take_back(connection, projection, knowledge, row)
    return await _concluded(connection, case, ready) if ready else 0


async def _take_back(connection: Connection, projection: Projection, knowledge: Knowledge, row: Ready) -> None:
    """Take back what is left of an event."""
    fact = _reversal(row)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            received = await receive(connection, [fact], knowledge)
        except _AGAIN:
            if attempt == MAX_ATTEMPTS:
                raise
        else:
            break
    failpoints.at("fraud.reversed")
    changed: list[tuple[int, Balance]] = [(account.id, account.balance()) for account in received.changed]
    await projection.push(changed)
    failpoints.at("fraud.pushed")


def _reversal(row: Ready) -> Fact:
    """The fact that takes an event back, the same whenever it is made."""
    assert row.reversal is not None
    assert row.at is not None
    event: Event
    if row.type == "order.paid":
        assert row.order_id is not None
        event = OrderCancelled(id=row.reversal, occurred_at=row.at, order=Order(id=row.order_id))
    else:
        event = EventErrorDeclared(id=row.reversal, occurred_at=row.at, error=Declaration(event=row.id, reason="did_not_occur"))
    sender = Sender(program=row.program, platform=row.platform, platform_code=row.platform_code)
    return fact_of(event, sender, now=row.at, hash_key=b"")


async def _concluded(connection: Connection, case: int, ready: Sequence[Ready]) -> int:
    """Conclude them; after a deadlock again."""
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            ended = await _conclude(connection, case, ready)
        except _AGAIN:
            if attempt == MAX_ATTEMPTS:
                raise
        else:
            failpoints.at("fraud.committed")
            return ended
    raise AssertionError("the last attempt raises")


async def _conclude(connection: Connection, number: int, ready: Sequence[Ready]) -> int:
    """In one transaction: what is left of these events is read under their accounts' locks, and what was decided becomes their state."""
    async with connection.transaction():
        await credit.lock_accounts(connection, sorted({row.account for row in ready}))
        case = await store.lock(connection, number)
        assert case is not None, "cases are never deleted"
        now = await store.ready(connection, number, limit=len(ready), events=[row.event for row in ready])
        ends = [(row, state) for row in now if (state := outcome(row.kind, left=row.left, taken=row.taken)) is not None]
        if not ends:
            return 0
        await store.conclude(connection, case.program, [(row, state, _is_fraud(row)) for row, state in ends])
        failpoints.at("fraud.concluded")
        if rejected := [row for row, state in ends if state == "rejected"]:
            await store.tell_rejected(connection, case.program, [(row, _message(row)) for row in rejected])
        failpoints.at("fraud.told")
        await store.close(connection, number)
        failpoints.at("fraud.closed")
        await _record(connection, case, ends)
        failpoints.at("fraud.noted")
        return len(ends)


def _is_fraud(row: Ready) -> bool | None:
    """What operators say; a deadline says nothing."""
    return None if row.decision is None else row.kind == "reject"


def _message(row: Ready) -> str:
    """What the platform is told: nothing that teaches how to get around it, nothing about others."""
    reasons = softly(reason.signal for reason in _decode_reasons(row.reasons))
    return _encode({"event": row.id, "points": row.points, "reasons": reasons}).decode()


async def _record(connection: Connection, case: Case, ends: Sequence[tuple[Ready, CaseEventState]]) -> None:
    """In the audit: what nobody decided. What operators decided is there already."""
    for state in ("released", "rejected"):
        events = [str(row.event) for row, then in ends if then == state and row.decision is None]
        if events:
            await audit.record(
                connection, program=case.program, actor="worker", action=f"fraud_case.{state}", subject=f"fraud_case:{case.number}",
                after={"events": events},
            )  # fmt: skip

"""Fraud cases: operators read them, and decide.

Who decides locks the case, and notes what was decided of which events; `fraud_reject.carry_out` does it, at once or, where a process
ended in between, by a worker. The audit names events by their numbers, no persons: notes stay where they are forgotten.
"""

from typing import Any, Final

from msgspec import Struct

from schemas.fraud import CaseAnswer, CaseOrder, CaseStatus, CaseSummary, FraudDecisionBody
from service import failpoints
from service.domain import fraud_cases as rules
from service.domain.errors import InvalidState, NotFound
from service.domain.fraud_cases import Plan
from service.flows.administer import Change
from service.flows.fraud_evidence import MAX_SHOWN_DECISIONS, MAX_SHOWN_EVENTS, answer_of, summary_of
from service.flows.repeats import in_one_transaction
from service.store import audit
from service.store import fraud_cases as store
from service.store import fraud_decisions as decisions
from service.store.connection import Connection
from service.store.fraud_decisions import Case

LAST: Final = 2**63 - 1
_NO_CASE: Final = "There is no such case."


class Decided(Struct, frozen=True, kw_only=True):
    """What a decision came to. `waits`: for another operator; `done`: there is something to carry out, perhaps from an earlier request."""

    waits: bool
    done: bool


async def decide(
    connection: Connection, number: int, body: FraudDecisionBody, *, program: int, operator: int, change: Change
) -> Decided:  # fmt: skip
    """Decide about all undecided events of a case, or those named; above the program's limit propose it, confirm or refuse it.

    Who says again what has been decided so gets no error and changes nothing. Raises NotFound, InvalidRequest (an event is not of the case)
    and InvalidState (decided otherwise, whose it is to confirm, it cannot be taken back).
    """
    named = None if body.events is None else [int(event) for event in body.events]

    async def work() -> Decided:
        case = await decisions.lock(connection, number, program=program)
        if case is None:
            raise NotFound(_NO_CASE)
        proposal = await decisions.proposal(connection, number)
        plan = rules.plan(
            await decisions.suspects(connection, number), proposal, body.decision, named, operator=operator,
            alone_points=await decisions.alone_points(connection, case, operator),
        )  # fmt: skip
        if plan.step == "repeat":
            return Decided(waits=False, done=True)
        if proposal is None:
            made = await decisions.insert(
                connection, case, body.decision, plan.events, points=plan.points, note=body.note, alone=plan.step == "make", by=operator
            )
        else:
            made = proposal.number
            status = "done" if plan.step == "confirm" else "refused"
            await decisions.end(connection, made, status, by=operator, note=body.note)
        failpoints.at("fraud.decided")
        if plan.step in ("make", "confirm"):
            await decisions.mark(connection, number, made, plan.events, body.decision)
        failpoints.at("fraud.marked")
        await decisions.set_status(connection, number, "proposed" if plan.step == "propose" else "open")
        failpoints.at("fraud.status_set")
        await _record(connection, case, _ACTIONS[plan.step].format(body.decision), plan, made, change)
        return Decided(waits=plan.step == "propose", done=plan.step in ("make", "confirm"))

    return await in_one_transaction(connection, work)


_ACTIONS: Final[dict[str, str]] = {
    "make": "fraud_case.{}", "confirm": "fraud_case.{}", "propose": "fraud_case.propose_{}", "refuse": "fraud_case.refuse",
}  # fmt: skip


async def withdraw(
    connection: Connection, number: int, *, note: str | None, program: int, operator: int, change: Change
) -> None:  # fmt: skip
    """Withdraw what one has proposed oneself. Raises NotFound, InvalidState (nothing waits, another one proposed it)."""

    async def work() -> None:
        case = await decisions.lock(connection, number, program=program)
        if case is None:
            raise NotFound(_NO_CASE)
        proposal = await decisions.proposal(connection, number)
        if proposal is None:
            raise InvalidState("No decision about this case waits for a second operator.")
        if proposal.proposed_by != operator:
            raise InvalidState("Another operator proposed this; confirm it, or refuse it with the other decision.")
        await decisions.end(connection, proposal.number, "withdrawn", by=operator, note=note)
        failpoints.at("fraud.withdrawn")
        await decisions.set_status(connection, number, "open")
        failpoints.at("fraud.reopened")
        await _record(connection, case, "fraud_case.withdraw", Plan(step="refuse"), proposal.number, change)

    await in_one_transaction(connection, work)


async def _record(connection: Connection, case: Case, action: str, plan: Plan, decision: int, change: Change) -> None:
    after: dict[str, Any] = {"decision": str(decision)}
    if plan.events:
        after |= {"events": [str(event) for event in plan.events], "points": plan.points}
    await audit.record(
        connection, program=case.program, actor=change.actor, action=action, subject=f"fraud_case:{case.number}", after=after,
        request_id=change.request_id,
    )  # fmt: skip
    failpoints.at("fraud.recorded")


# Reading --------------------------------------------------------------------------------------------------


async def read(connection: Connection, number: int, *, program: int, names: bool) -> CaseAnswer:
    """A case with its evidence. `names`: with what platforms call its accounts. Raises NotFound."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        found = await store.find(connection, program=program, number=number)
        if found is None:
            raise NotFound(_NO_CASE)
        budget = await store.within_budget(connection, program=program)
        events = await store.events(connection, number, limit=MAX_SHOWN_EVENTS)
        accounts = list(dict.fromkeys(row["account"] for row in events))
        references = await store.references(connection, accounts) if names else None
        made = await store.decisions(connection, number, limit=MAX_SHOWN_DECISIONS)
    return answer_of(found, events, references, made, within_budget=number in budget)


async def page(
    connection: Connection,
    *,
    program: int,
    status: CaseStatus | None,
    min_points: int,
    order: CaseOrder,
    before: tuple[int, int],
    limit: int,
) -> list[tuple[tuple[int, int], CaseSummary]]:
    """At most `limit` cases after the position `before` (expected loss, number), each with its own. `status` None: those not closed."""
    budget = await store.within_budget(connection, program=program)
    if order == "newest" or status == "closed":  # a closed one has nothing to lose
        found = await store.newest(connection, program=program, status=status, min_points=min_points, before=before[1], limit=limit)
    else:
        found = await store.by_loss(connection, program=program, status=status, min_points=min_points, before=before, limit=limit)
    return [((case.rank, case.number), summary_of(case, within_budget=case.number in budget)) for case in found]

"""Objections: a person says that a hold or a rejection is wrong, and an operator who did not reject it answers.

Who objects shares the catalogue lock (nobody is erased meanwhile); who answers locks the account, too, then the objection's row. The audit
names events and accounts, no persons: what was said stays where it is forgotten with the person.
"""

from typing import Final

from msgspec import Struct

from schemas.events import Balance
from schemas.reviews import DecisionOnObjection, ObjectionAnswer, ObjectionItem
from service import failpoints
from service.domain import objections as rules
from service.domain.errors import InvalidState, NotFound
from service.domain.objections import Objection, Reviewed
from service.flows import adjustments
from service.flows.administer import Change
from service.flows.approvals import approve_event
from service.flows.repeats import in_one_transaction
from service.store import audit, balances, purses, reviews, vault
from service.store import objections as store
from service.store.connection import Connection
from service.store.locks import share_catalogue

NO_EVENT: Final = "No event of this consumer under this id was held or rejected."
NO_OBJECTION: Final = "There is no such objection."
GIVEN_BACK: Final = "Your objection was right: the points of {} are back"


class Outcome(Struct, frozen=True, kw_only=True):
    """What an operator is answered; `balances` are to be pushed after COMMIT."""

    answer: ObjectionItem
    balances: list[tuple[int, Balance]]


# Objecting ------------------------------------------------------------------------------------------------


async def make(
    connection: Connection, *, program: int, platform: int, reference: str, id: str, text: str, by: Change | None = None,  # noqa: A002 - the event's field
) -> tuple[ObjectionAnswer, bool]:  # fmt: skip
    """Note what a person says against a hold or a rejection; and whether it is a repeat, which changes nothing.

    `id` is the event's as activity shows it. Where several platforms reported under it, the asking platform's is meant, else the first.
    `by`: the platform that does it for the person. Raises NotFound, InvalidState (neither held nor lately rejected; said otherwise before).
    """

    async def work() -> tuple[Objection, bool]:
        await share_catalogue(connection)
        account = await balances.find_account(connection, platform, reference)
        event = None if account is None else await reviews.by_id(connection, account=account, platform=platform, id=id)
        if event is None:
            raise NotFound(NO_EVENT)
        return await _once(connection, event, text, program=program, by=by)

    objection, replayed = await in_one_transaction(connection, work)
    return _told(objection), replayed


async def _once(connection: Connection, event: Reviewed, text: str, *, program: int, by: Change | None) -> tuple[Objection, bool]:
    """The one objection to the event: this one, or the one that is there."""
    there = await store.of_event(connection, bucket=event.bucket, event=event.event)
    if there is None:
        now = await store.now(connection)
        rules.check_open(event, now=now)
        made = Objection(
            bucket=event.bucket, account=event.account, event=event.event, program=program, text=text, status="open", made_at=now
        )
        if await store.insert(connection, made):
            failpoints.at("objections.made")
            if by is not None:
                await _record(connection, made, "objection.make", by)
            return made, False
        there = await store.of_event(connection, bucket=event.bucket, event=event.event)
    if there is None or there.text != text:
        raise InvalidState("There is an objection to this event already, in other words; it stands as it is.")
    return there, True


def _told(objection: Objection) -> ObjectionAnswer:
    return ObjectionAnswer(
        state=objection.status, made_at=objection.made_at, answered_at=objection.answered_at, answer=objection.answer
    )  # fmt: skip


# Answering ------------------------------------------------------------------------------------------------


async def answer(connection: Connection, number: int, body: DecisionOnObjection, *, program: int, operator: int, change: Change) -> Outcome:
    """Uphold or refuse an objection; the same answer by the same operator again changes nothing.

    Upheld, a held event is approved, and the points of a rejected one are given back by an adjustment, which takes a second operator above
    the program's `adjustment_alone`; where that one ended without giving any, a repeat proposes another.
    Raises NotFound, InvalidState (answered otherwise, whose it is to answer, decided by two only, the consumer was erased).
    """
    changed: list[tuple[int, Balance]] = []

    async def work() -> None:
        changed.clear()
        await share_catalogue(connection)
        found = await store.find(connection, program=program, event=number)
        if found is None:
            raise NotFound(NO_OBJECTION)
        await purses.lock(connection, [found.account])
        objection = await store.lock(connection, program=program, event=number)
        event = None if objection is None else await reviews.by_number(connection, bucket=objection.bucket, event=number)
        if objection is None or event is None:
            raise NotFound(NO_OBJECTION)
        lapsed = await store.lapsed(connection, objection)
        if not rules.needs_answering(objection, event, body.state, operator=operator, lapsed=lapsed):
            return
        adjustment = objection.adjustment
        if body.state == "upheld":
            adjustment = await _uphold(connection, event, operator=operator, change=change, changed=changed)
            failpoints.at("objections.upheld")
        await store.answer(connection, objection, body.state, answer=body.answer, by=operator, adjustment=adjustment)
        failpoints.at("objections.answered")
        await _record(connection, objection, "objection.answer", change, state=body.state, adjustment=adjustment)

    await in_one_transaction(connection, work)
    shown = await store.show(connection, program=program, event=number)
    if shown is None:
        raise NotFound(NO_OBJECTION)  # erased since
    return Outcome(answer=item(shown, personal=True), balances=changed)


async def _uphold(
    connection: Connection, event: Reviewed, *, operator: int, change: Change, changed: list[tuple[int, Balance]]
) -> int | None:
    """What follows where the person was right; the number of the adjustment, if it takes one."""
    if event.state == "held":
        await approve_event(connection, event.bucket, event.event, operator)
    if event.state != "rejected":
        return None
    if await vault.is_erased(connection, event.account, event.platform):
        raise InvalidState("The consumer was erased; nothing can be given back.")
    await reviews.label_honest(connection, bucket=event.bucket, event=event.event)
    failpoints.at("objections.labelled")
    if not event.taken:
        return None
    given, balance = await adjustments.give_back(
        connection, account=event.account, platform=event.platform, points=event.taken, reason=GIVEN_BACK.format(event.id),
        program=event.program, operator=operator, change=change,
    )  # fmt: skip
    if balance is not None:
        changed.append(balance)
    return given


async def _record(
    connection: Connection, objection: Objection, action: str, change: Change, *, state: str = "open", adjustment: int | None = None
) -> None:
    after = {
        "account": str(objection.account), "state": state, "adjustment": None if adjustment is None else str(adjustment),
    }  # fmt: skip
    await audit.record(
        connection, program=objection.program, actor=change.actor, action=action, subject=f"objection:{objection.event}", after=after,
        request_id=change.request_id,
    )  # fmt: skip
    failpoints.at("objections.recorded")


# Reading --------------------------------------------------------------------------------------------------


async def page(connection: Connection, *, program: int, after: int, personal: bool, limit: int) -> list[tuple[int, ObjectionItem]]:
    """At most `limit` objections behind this place, open ones first, each with its place. `personal`: with names and words."""
    found = await store.page(connection, program=program, after=after, limit=limit)
    return [(shown.place, item(shown, personal=personal)) for shown in found]


def item(shown: store.Shown, *, personal: bool) -> ObjectionItem:
    """An objection as an operator sees it who may read personal data, or may not."""
    return ObjectionItem(
        id=str(shown.event), state=shown.status, made_at=shown.made_at, answered_at=shown.answered_at,
        answer=shown.answer if personal else None, platform=shown.platform, event=shown.id, consumer=shown.consumer if personal else None,
        text=shown.text if personal else None, case=str(shown.fraud_case), event_state=shown.state, points=shown.points,
        until=shown.deadline, answered_by=None if shown.answered_by is None else f"operator:{shown.answered_by}",
        adjustment=None if shown.adjustment is None else str(shown.adjustment),
    )  # fmt: skip

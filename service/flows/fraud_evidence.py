"""What operators are shown of a fraud case: its ring, events, links and timeline, made from stored rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, get_args

import msgspec
from asyncpg import Record

from schemas.fraud import (
    CaseAccount,
    CaseAnswer,
    CaseDecisionAnswer,
    CaseEvent,
    CaseLink,
    CaseMoment,
    CaseReason,
    CaseReference,
    CaseSummary,
    LinkKind,
)
from service.domain import fraud_cases as rules
from service.store.fraud_cases import Summary

MAX_SHOWN_EVENTS: Final = 500
MAX_SHOWN_DECISIONS: Final = 100
_KINDS: Final[tuple[LinkKind, ...]] = get_args(LinkKind)
_decode_reasons = msgspec.json.Decoder(list[CaseReason]).decode


class _Facts(msgspec.Struct, frozen=True):
    """Of a stored event: what links look at."""

    attributes: dict[str, Any] = {}


_decode_facts = msgspec.json.Decoder(_Facts).decode


def summary_of(case: Summary, *, within_budget: bool) -> CaseSummary:
    """A case as a list shows it."""
    return CaseSummary(**_summed(case, within_budget=within_budget))


def _summed(case: Summary, *, within_budget: bool) -> dict[str, Any]:
    return {
        "id": str(case.number), "status": case.status, "root": str(case.ring), "score": case.score, "account_count": case.accounts,
        "event_count": case.events, "points": case.points, "undecided_count": case.undecided, "undecided_points": case.undecided_points,
        "expected_loss": case.expected_loss, "within_budget": within_budget, "deadline": case.deadline, "opened_at": case.opened_at,
        "updated_at": case.updated_at, "closed_at": case.closed_at, "objection_count": case.objections,
        "merged_into": None if case.merged_into is None else str(case.merged_into),
    }  # fmt: skip


def answer_of(
    case: Summary, events: Sequence[Record], references: Mapping[int, list[tuple[str, str]]] | None, decisions: Sequence[Record], *,
    within_budget: bool,
) -> CaseAnswer:  # fmt: skip
    """A case with its evidence. `references`: None where the reader may not see names."""
    made = [_decision(row) for row in decisions]
    return CaseAnswer(
        **_summed(case, within_budget=within_budget), complete=len(events) == case.events, ring=_ring(events, references),
        events=[_event(row) for row in events], links=_links(events),
        timeline=sorted(_timeline(case, events, made), key=lambda moment: moment.at), decisions=made,
    )  # fmt: skip


def _event(row: Record) -> CaseEvent:
    return CaseEvent(
        id=str(row["event"]), account=str(row["account"]), platform=row["platform"], event=row["id"], type=row["type"],
        occurred_at=row["occurred_at"], received_at=row["received_at"], points=row["points"], score=row["score"], state=row["state"],
        found=row["found"], reasons=_decode_reasons(row["reasons"]), held_at=row["held_at"], deadline=row["deadline"],
        at_deadline=row["at_deadline"], decision=row["decision"], decided_at=row["decided_at"],
    )  # fmt: skip


def _ring(events: Sequence[Record], references: Mapping[int, list[tuple[str, str]]] | None) -> list[CaseAccount]:
    """Accounts, those with most points first."""
    of: dict[int, list[Record]] = {}
    for row in events:
        of.setdefault(row["account"], []).append(row)
    ring = [
        CaseAccount(
            id=str(account),
            events=len(rows),
            points=sum(row["points"] for row in rows),
            score=max(row["score"] for row in rows),
            references=None
            if references is None
            else [CaseReference(platform=code, consumer=name) for code, name in references.get(account, [])],
        )
        for account, rows in of.items()
    ]
    return sorted(ring, key=lambda account: -account.points)


def _links(events: Sequence[Record]) -> list[CaseLink]:
    shared = (
        (row["account"], kind, str(attributes[kind]))
        for row in events
        if row["facts"] is not None
        for attributes in [_decode_facts(row["facts"]).attributes]
        for kind in _KINDS
        if kind in attributes
    )
    return [CaseLink(between=(str(one), str(other)), shared=kinds) for (one, other), kinds in rules.links(shared)]


def _decision(row: Record) -> CaseDecisionAnswer:
    return CaseDecisionAnswer(
        id=str(row["number"]), decision=row["decision"], status=row["status"], events=row["events"], points=row["points"],
        alone=row["alone"], note=row["note"], proposed_by=f"operator:{row['proposed_by']}", proposed_at=row["proposed_at"],
        decided_by=None if row["decided_by"] is None else f"operator:{row['decided_by']}", decided_at=row["decided_at"],
        decided_note=row["decided_note"],
    )  # fmt: skip


def _timeline(case: Summary, events: Sequence[Record], decisions: Sequence[CaseDecisionAnswer]) -> Iterator[CaseMoment]:
    yield CaseMoment(at=case.opened_at, what="opened")
    for row in events:
        about = {"event": str(row["event"]), "account": str(row["account"]), "points": row["points"]}
        if row["occurred_at"] is not None:
            yield CaseMoment(at=row["occurred_at"], what="occurred", **about)
        yield CaseMoment(at=row["held_at"], what="held", **about)
        if row["decided_at"] is not None:
            yield CaseMoment(at=row["decided_at"], what=row["state"], **about)
    for made in decisions:
        yield CaseMoment(at=made.proposed_at, what="proposed", points=made.points, by=made.proposed_by)
        if made.decided_at is not None and made.status in ("refused", "withdrawn", "lapsed"):
            yield CaseMoment(at=made.decided_at, what=made.status, points=made.points, by=made.decided_by)
    if case.closed_at is not None:
        yield CaseMoment(at=case.closed_at, what="closed")

"""Fraud cases: what an operator's decision comes to, what carrying it out makes of an event, what links the accounts of a ring."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import combinations
from typing import Final, Literal

from msgspec import Struct

from schemas.fraud import CaseDecision, CaseEventState, LinkKind
from service.domain.errors import InvalidRequest, InvalidState
from service.domain.fraud.signals import SIGNALS

MAX_LINKS: Final = 500
"""Pairs of accounts that one answer shows."""
MAX_SHARING: Final = 40
"""Accounts with one thing in common of which every pair is a link; of a larger crowd each is linked with the first one."""
REVERSIBLE: Final = frozenset({"order.paid", "order.fulfilled", "packaging.returned", "activity.completed"})
"""Types of events whose points a rejection can take back; what else carries awards follows from one of these."""
_SOFTLY: Final = {signal.name: signal.softly for signal in SIGNALS}
_UNUSUAL: Final = "An automatic check found something unusual."

Kind = Literal["approve", "reject", "release", "void"]
"""What is to be done with an event: as operators decided, as its deadline's policy says, or because nothing of it is left."""


class Suspect(Struct, frozen=True, kw_only=True):
    """An event of a case as a decision sees it. `decided`: how, or by its deadline; perhaps it is still being carried out."""

    event: int
    type: str
    points: int
    decided: CaseDecision | Literal["deadline"] | None


class Proposal(Struct, frozen=True, kw_only=True):
    """A decision that waits for a second operator."""

    number: int
    decision: CaseDecision
    events: list[int]
    proposed_by: int


class Plan(Struct, frozen=True, kw_only=True):
    """What a request comes to: `make` (one operator alone), `propose`, `confirm`, `refuse`, or `repeat`, which does nothing."""

    step: Literal["make", "propose", "confirm", "refuse", "repeat"]
    events: list[int] = []
    points: int = 0


def plan(
    suspects: Sequence[Suspect],
    proposal: Proposal | None,
    decision: CaseDecision,
    named: Sequence[int] | None,
    *,
    operator: int,
    alone_points: int,
) -> Plan:
    """What becomes of an operator's decision.

    `named`: the events that it is about (None: all that are undecided). `alone_points`: up to how many points the operator may still
    decide alone in this case. Raises InvalidRequest (an event is not of this case) and InvalidState (decided otherwise; whose it is
    to confirm; it cannot be taken back).
    """
    known = {s.event: s for s in suspects}
    for i, event in enumerate(named or ()):
        if event not in known:
            raise InvalidRequest.at(f"/events/{i}", "is not an event of this case")
    undecided = {s.event for s in suspects if s.decided is None}
    if proposal is not None:
        return _answered(proposal, undecided, decision, named, operator=operator)
    wanted = undecided if named is None else set(named)
    if not wanted & undecided:
        about = [s for s in suspects if named is None or s.event in wanted]
        if {s.decided for s in about if s.decided != "deadline"} == {decision}:
            return Plan(step="repeat")
        raise InvalidState("Everything that this is about has been decided already.")
    if wanted - undecided:
        raise InvalidState(f"Event {min(wanted - undecided)} has been decided already.")
    if decision == "reject" and (fixed := [e for e in wanted if known[e].type not in REVERSIBLE]):
        raise InvalidState(
            f"Event {min(fixed)} follows from another one and cannot be taken back by itself; name the others, "
            "and take its points by an adjustment."
        )
    points = sum(known[event].points for event in wanted)
    return Plan(step="make" if points <= alone_points else "propose", events=sorted(wanted), points=points)


def _answered(
    proposal: Proposal, undecided: Collection[int], decision: CaseDecision, named: Sequence[int] | None, *, operator: int
) -> Plan:  # fmt: skip
    """A decision while another one waits."""
    if operator == proposal.proposed_by:
        raise InvalidState(f"You proposed to {proposal.decision} these events; another operator has to confirm it. You may withdraw it.")
    if named is not None and set(named) != set(proposal.events):
        raise InvalidState("A decision about other events of this case waits for a second operator; confirm or refuse that one first.")
    if decision != proposal.decision:
        return Plan(step="refuse")
    return Plan(step="confirm", events=[event for event in proposal.events if event in undecided])


def outcome(kind: Kind, *, left: int, taken: bool) -> CaseEventState | None:
    """What an event is once that has been carried out; None: it has not been yet.

    `left`: points of it that nobody has taken back; `taken`: the rejection's own fact has taken them.
    """
    if kind == "reject" and taken:
        return "rejected"
    if not left:
        return "voided"
    states: dict[Kind, CaseEventState] = {"approve": "approved", "release": "released"}
    return states.get(kind)


def softly(signals: Iterable[str]) -> list[str]:
    """What the person may be told, each sentence once."""
    return list(dict.fromkeys(_SOFTLY.get(name, _UNUSUAL) for name in signals)) or [_UNUSUAL]


def links(shared: Iterable[tuple[int, LinkKind, str]]) -> list[tuple[tuple[int, int], list[LinkKind]]]:
    """Pairs of accounts with the kinds of what they have in common, those with most first; MAX_LINKS at most.

    `shared`: account, kind, keyed hash of what one of its events carries.
    """
    groups: dict[tuple[LinkKind, str], set[int]] = defaultdict(set)
    for account, kind, value in shared:
        groups[kind, value].add(account)
    found: dict[tuple[int, int], set[LinkKind]] = defaultdict(set)
    for (kind, _), accounts in groups.items():
        first, *others = sorted(accounts)
        pairs = combinations((first, *others), 2) if len(accounts) <= MAX_SHARING else ((first, other) for other in others)
        for pair in pairs:
            found[pair].add(kind)
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return [(pair, sorted(kinds)) for pair, kinds in ordered[:MAX_LINKS]]

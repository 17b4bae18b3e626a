"""What comes of one batch of events: facts for the judge, verdicts as rows, and what is to be held, with its reasons. No I/O."""

import contextlib
from collections import deque
from collections.abc import Sequence
from itertools import compress
from typing import Final, cast

import msgspec
from msgspec import Struct

from schemas.events import Event, StoredEvent
from schemas.fraud import CaseReason
from service.domain.catalogue import Catalogue
from service.domain.fraud.history import Again
from service.domain.fraud.judging import Facts, Judging
from service.domain.fraud.lists import ListName, Lists
from service.domain.fraud.model import BASIS, Judge, Reason, Verdict, reasons
from service.domain.fraud.pipeline import Judged
from service.domain.fraud.signals import NAMES, SIGNALS
from service.store import fraud_holds as holds
from service.store import screening as store
from service.store.fraud_holds import Suspected
from service.store.fraud_models import Active
from service.store.fraud_policy import Policy
from service.store.screening import Decided, VerdictRow, Waiting
from service.telemetry import metrics, tallies

_events = msgspec.json.Decoder(StoredEvent)
_certificates = msgspec.json.Decoder(dict[str, str]).decode
_ALL: Final = range(len(SIGNALS))
_ACTIONS: Final = {
    "order.paid": "purchase",
    "order.fulfilled": "packaging",
    "packaging.returned": "return",
    "activity.completed": "activity",
}
_DOOR: Final = {
    1: ("block_list", "On a block list.", "An earlier review concerns this account or what it used."),
    2: ("door_burst", "Far more events within an hour than people make.", "Unusually many actions in a short time."),
}
MAX_ALERT_CHARS: Final = 500
_OUTCOMES: Final = {"pass": store.PASS, "hold": store.HOLD, "reject": store.REJECT}


class Rules:
    """What a program says at the moment: models, policy, lists."""

    def __init__(self, models: Active, policy: Policy, lists: Lists) -> None:
        self.judge = Judge(models.running)
        self.shadow = None if models.shadow is None else Judge(models.shadow)
        self.policy = policy
        self.lists = lists


class Told(Struct, kw_only=True):
    """An event with what came of it."""

    waiting: Waiting
    judged: Judged | None
    """None: it could not be judged."""
    error: Exception | None = None
    says: ListName | None = None
    shadow: Verdict | None = None

    @property
    def outcome(self) -> int:
        """As table `verdict` has it."""
        if self.judged is None:
            return store.UNJUDGED
        if not self.judged.strengths:
            return store.EARNS_NOTHING
        found = _OUTCOMES[self.judged.verdict.outcome]
        return store.HOLD if found == store.PASS and self.at_door else found

    @property
    def at_door(self) -> bool:
        """Whether the checks at the door, or a block list, hold it."""
        return self.says == "block" or (self.waiting.hint > 0 and self.says != "allow")


def case_of(w: Waiting, catalogue: Catalogue, program: int) -> tuple[StoredEvent, Facts]:
    """An event as it is stored, and what the ledger knows of it."""
    event = _events.decode(w.facts)
    known = catalogue.programs.get(program)
    caps = 0
    if (action := _ACTIONS.get(w.type)) is not None:
        for campaign in catalogue.candidates(program, action, w.platform_code, event.occurred_at):
            if campaign.body.caps is not None and campaign.body.caps.order is not None:
                caps += campaign.body.caps.order
    certificates = {} if w.certificates is None else _certificates(w.certificates)
    facts = Facts(
        number=w.event, platform=w.platform_code, account_id=w.account, opened_at=event.occurred_at, points=w.points,
            replaced=w.replaced,
        received_at=w.received_at, certificates=certificates, most=caps, kinds={} if known is None else known.activity_kinds,
    )  # fmt: skip
    return event, facts


class Written(Struct, frozen=True, kw_only=True):
    """What one transaction writes."""

    told: Sequence[Told]
    again: Sequence[Suspected]
    """Earlier events that decisions shed another light on."""
    decisions: Sequence[int]
    rest: Sequence[int]
    """Events that stay under suspicion of ending judges."""


Case = tuple[StoredEvent, Facts]


def take_in(judging: Judging, cases: Sequence[tuple[int, Case]], decisions: Sequence[Decided]) -> None:
    """Remember events that were judged, with their places, as they were taken in the first time; what came of it is known."""
    left = deque(decisions)
    for seq, (event, facts) in cases:
        while left and left[0].told < seq:
            tell(judging, left.popleft())
        with contextlib.suppress(Exception):  # it was held when it was judged; what it left is as it was then
            judging.judge_event(cast("Event", event), facts)


def tell(judging: Judging, decided: Decided) -> list[Suspected]:
    """Tell the judge what a person decided; what is to be held because of it."""
    if decided.approves:
        judging.clear(decided.accounts)
        return []
    return [_looked_back(again, again.account_id) for again in judging.convict(decided.accounts)]


def _looked_back(again: Again, ring: int) -> Suspected:
    v = again.verdict
    total = sum(added for _, added in v.fired) or 1.0
    why = [
        Reason(
            signal=SIGNALS[i].name, strength=again.strengths[i], bp=round(BASIS * added / total), softly=SIGNALS[i].softly,
            says=f"When others of its ring had been found: {SIGNALS[i].softly}",
        )
        for i, added in v.fired
    ]  # fmt: skip
    return Suspected(account=again.account_id, event=again.number, ring=ring, score=v.score_bp, reasons=_json(why), found="look_back")


def all_suspected(w: Written) -> list[Suspected]:
    """What is to be held: of this batch, and what came before and looks different now; each event once."""
    found = {s.event: s for s in w.again}
    for t in w.told:
        if t.judged is not None:
            found |= {again.number: _looked_back(again, t.judged.ring) for again in t.judged.again}
    allowed = {t.waiting.event for t in w.told if t.says == "allow"}
    for t in w.told:
        if (s := _suspected(t)) is not None:
            found[s.event] = s
    return [s for s in found.values() if s.event not in allowed]


def judge_all(judging: Judging, waiting: Sequence[Waiting], cases: Sequence[Case], rules: Rules) -> list[Told]:
    """Judge one after the other; an event whose check raises does not stop the others."""
    told: list[Told] = []
    for w, (event, facts) in zip(waiting, cases, strict=True):
        try:
            judged = judging.judge_event(cast("Event", event), facts)
            says = rules.lists.says(w.account, event.attributes) if judged.strengths else None
            shadow = rules.shadow.decide(judged.strengths, kind=judged.kind) if rules.shadow is not None and judged.strengths else None
            told.append(Told(waiting=w, judged=judged, says=says, shadow=shadow))
        except Exception as error:  # noqa: BLE001 - whatever it is: the event is held, and somebody is told
            told.append(Told(waiting=w, judged=None, error=error))
    return told


def row_of(t: Told, *, enforces: bool) -> VerdictRow:
    """The verdict as it is stored. `enforces`: what is suspicious is held."""
    w, v, shadow = t.waiting, t.judged, t.shadow
    if v is None:
        return VerdictRow(
            bucket=w.bucket,
            account=w.account,
            event=w.event,
            points=w.points,
            outcome=t.outcome,
            enforced=enforces,
            model=0,
            score=0,
            own=0,
        )
    return VerdictRow(
        bucket=w.bucket, account=w.account, event=w.event, points=w.points, outcome=t.outcome, enforced=enforces and t.says != "allow",
        model=v.verdict.model, score=v.verdict.score_bp, own=round(1_000 * v.verdict.own), strengths=strengths_json(v.strengths),
        shadow_model=None if shadow is None else shadow.model, shadow_score=None if shadow is None else shadow.score_bp,
        shadow_outcome=None if shadow is None else _OUTCOMES[shadow.outcome],
    )  # fmt: skip


def _suspected(t: Told) -> Suspected | None:
    """What is to be held of it, and why; None: it passes."""
    w, v = t.waiting, t.judged
    if v is None:
        if w.points <= 0:
            return None
        says = f"The checks could not judge it ({type(t.error).__name__})."
        reason = Reason(signal="unchecked", strength=1, bp=BASIS, says=says, softly="A check is not finished.")
        return Suspected(account=w.account, event=w.event, ring=w.account, score=0, reasons=_json([reason]), found="unchecked")
    if t.outcome in (store.EARNS_NOTHING, store.PASS) or t.says == "allow":
        return None
    why = [] if v.features is None or v.verdict.outcome == "pass" else reasons(v.verdict, v.strengths, v.features)
    if t.at_door:
        signal, says, softly = _DOOR[1 if t.says == "block" else w.hint]
        why.insert(0, Reason(signal=signal, strength=1, bp=BASIS, says=says, softly=softly))
    return Suspected(
        account=w.account, event=w.event, ring=v.ring or w.account, score=v.verdict.score_bp, reasons=_json(why),
        found="door" if t.at_door else "arrival", at_once=v.verdict.outcome == "reject",
    )  # fmt: skip


def alert_words(event: int, error: Exception) -> str:
    """What operators are told of an event that could not be judged."""
    return f"Event {event} could not be judged and is held: {type(error).__name__}: {error}"[:MAX_ALERT_CHARS]


def _json(why: Sequence[Reason]) -> str:
    return msgspec.json.encode([CaseReason(signal=r.signal, sentence=r.says, share=r.bp / BASIS) for r in why]).decode()


def strengths_json(strengths: Sequence[float]) -> str | None:
    """Strengths above 0 as JSON {signal: quarters}; None: there is none."""
    fired = {NAMES[i]: round(4 * strengths[i]) for i in compress(_ALL, strengths)}
    return msgspec.json.encode(fired).decode() if fired else None


def count(rows: Sequence[VerdictRow], held: Sequence[holds.Held], opened: int) -> None:
    """Count what was written. `opened`: new cases."""
    for outcome, n in _tally(rows).items():
        tallies.count(metrics.VERDICTS, outcome).add(n)
    if held:
        tallies.count(metrics.HELD_POINTS).add(sum(h.points for h in held if h.state == "held"))
    if opened:
        tallies.count(metrics.CASES_OPENED).add(opened)


_NAMES: Final = {0: "earns nothing", 1: "pass", 2: "hold", 3: "reject", 4: "unjudged"}


def _tally(rows: Sequence[VerdictRow]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for row in rows:
        name = _NAMES[row.outcome]
        sums[name] = sums.get(name, 0) + 1
    return sums

"""Statuses, cases and labels as figures, in the form of the evaluation in one process."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from loadtests.fraud.evaluate import Fates, Holds, Run
from loadtests.fraud.live.reading import Key, Told
from loadtests.fraud.report import figures
from loadtests.traffic.format import Label, Sent
from service.domain.fraud.model import Judge, Model, Verdict
from service.domain.fraud.pipeline import Judged
from service.domain.fraud.records import kind_of
from service.domain.fraud.signals import SIGNALS

HELD: Final = frozenset({"held", "rejected"})
_SUSPECTED: Final = frozenset({2, 3, 4})
"""Outcomes of table `verdict` that hold an event where verdicts are enforced."""


class Refused(Struct):
    """Events that should have earned by the reckoning and were not taken, or earned nothing: how many, and their nominal points."""

    honest: int = 0
    honest_points: int = 0
    fraud: int = 0
    fraud_points: int = 0


class Live(Struct):
    """What came of a run. `refused` by the reason that the API gave; the judged events are in `run`."""

    run: Run
    sent: int = 0
    refused: dict[str, Refused] = {}
    later: int = 0
    """Orders that chose a reusable box: such a choice earns when the box is shipped, and is judged then."""
    without_verdict: int = 0
    """Events that earn and have none: must be 0."""
    contradictions: int = 0
    """Events whose status says other than their verdict and case: must be 0."""
    undone: int = 0
    """Fraudulent points that passed and that rules took back later, when something else was reported."""
    cases: dict[int, list[int]] = {}
    """Case → its honest and its fraudulent events."""
    found: dict[str, int] = {}
    """How events came into cases → how many."""


def score(
    traffic: Iterable[tuple[Sent, Label]], answers: Mapping[Key, Mapping[str, Any]], now: Mapping[Key, Mapping[str, Any]],
    told: Mapping[Key, Told], *, enforced: bool,
) -> Live:  # fmt: skip
    """Figures of a run from what was sent, the first answers, the statuses `now` and the verdicts. Repeats of an id count once."""
    live, judge, seen = Live(Run()), Judge(Model()), set[Key]()
    fates = Fates(live.run, judge.model, Holds(), None, 0)
    for number, (sent, label) in enumerate(traffic):
        key = sent.platform, label.event
        if key in seen:
            continue
        seen.add(key)
        live.sent += 1
        live.run.events += 1
        answer, verdict = answers[key], told.get(key)
        if verdict is not None and verdict.case is not None:
            live.cases.setdefault(verdict.case, [0, 0])[label.pattern is not None] += 1
            live.found[verdict.found or ""] = live.found.get(verdict.found or "", 0) + 1
        if sum(award["points"] for award in answer.get("awards", ())) <= 0:
            if label.points > 0 and _earns_later(sent, answer):
                live.later += 1
            elif label.points > 0:
                _refuse(live, label, _why(answer))
            continue
        if verdict is None:
            live.without_verdict += 1
            continue
        held = _is_held(live, now[key], verdict, enforced=enforced)
        value = max(0, answer["points"])
        if label.pattern is not None and not held:
            live.undone += max(0, value - sum(award["points"] for award in now[key]["awards"]))
        strengths = [verdict.strengths.get(signal.name, 0) / 4 for signal in SIGNALS]
        kind, hold_bp = kind_of(_typed(sent.event).type), judge.model.hold_bp
        said = Verdict(
            outcome="hold" if held else "pass", score_bp=max(verdict.score, hold_bp) if held else min(verdict.score, hold_bp - 1),
            own=0.0, model=0, fired=judge.decide(strengths, kind=kind).fired if held else (),
        )  # fmt: skip
        fates.arrived(number, Judged(verdict=said, kind=kind), replace(label, points=value), now=sent.at.timestamp())
    fates.finish()
    return live


def _is_held(live: Live, now: Mapping[str, Any], verdict: Told, *, enforced: bool) -> bool:
    suspected = verdict.outcome in _SUSPECTED
    if not enforced:
        live.contradictions += now["status"] in HELD or verdict.case is not None
        return suspected
    held = now["status"] in HELD
    # What was taken back before its verdict has nothing left to hold; what is found later was judged to pass.
    live.contradictions += held != (verdict.case is not None) and now["status"] != "voided"
    live.contradictions += suspected and not held and now["status"] != "voided"
    return held or (suspected and now["status"] == "voided")


def _why(answer: Mapping[str, Any]) -> str:
    """Why an event earned nothing, in the API's words."""
    if isinstance(answer["status"], int):
        return f"{answer['status']} {answer['code']}"
    codes = sorted((refusal["code"] for refusal in answer["refused"]), key="certificate_missing".__eq__)  # that is said of every other line
    return f"{answer['status']}: {codes[0]}" if codes else str(answer["status"])


class _Typed(Struct):
    type: str


_typed = msgspec.json.Decoder(_Typed).decode


def _earns_later(sent: Sent, answer: Mapping[str, Any]) -> bool:
    paid = _typed(sent.event).type == "order.paid"
    return paid and "evidence_missing" in {refusal["code"] for refusal in answer.get("refused", ())}


def _refuse(live: Live, label: Label, why: str) -> None:
    refused = live.refused.setdefault(why, Refused())
    if label.pattern is None:
        refused.honest += 1
        refused.honest_points += label.points
    else:
        refused.fraud += 1
        refused.fraud_points += label.points


def live_figures(live: Live) -> dict[str, Any]:
    """All figures: those of the judged events as loadtests.fraud has them, and what the rules refused. No speed: that is the machine's."""
    found = figures(live.run)
    del found["events_per_second"]
    at_door = sum(refused.fraud_points for refused in live.refused.values())
    tried = live.run.fraud_points + at_door
    return found | {
        "refused_fraud_points": at_door, "refused_honest_points": sum(refused.honest_points for refused in live.refused.values()),
        "recall_by_value_with_refused": round((live.run.fraud_points_held + at_door) / tried, 5) if tried else 0.0,
        "fraud_points_undone_by_rules": live.undone, "choices_that_earn_at_shipment": live.later,
        "without_verdict": live.without_verdict, "contradictions": live.contradictions,
        "cases": len(live.cases), "cases_without_fraud": sum(not fraud for _, fraud in live.cases.values()),
        "events_in_cases_by": dict(sorted(live.found.items())),
    }  # fmt: skip

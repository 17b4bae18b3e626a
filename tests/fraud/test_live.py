"""The evaluation on a running system: what it counts, and a small run of it."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from loadtests.fraud.live import founding
from loadtests.fraud.live.__main__ import main
from loadtests.fraud.live.reading import Key, Told
from loadtests.fraud.live.scoring import Live, live_figures, score
from loadtests.traffic.format import Label, Sent


def sent(id_: str, points: int, ring: str | None = None, kind: str = "activity.completed") -> tuple[Sent, Label]:
    event = Raw(json.dumps({"id": id_, "type": kind}).encode())
    label = Label(platform="shop-1", event=id_, consumer="u1", points=points, pattern=ring and "burst", ring=ring)
    return Sent(at=datetime(2025, 3, 1, tzinfo=UTC), platform="shop-1", event=event), label


def answer(points: int, status: str = "pending", *refused: str) -> dict[str, Any]:
    awards = [{"points": points}] if points else []
    return {"status": status, "points": points, "awards": awards, "refused": [{"code": code} for code in refused]}


def told(outcome: int, case: int | None = None) -> Told:
    found = None if case is None else "arrival"
    return Told(points=10, outcome=outcome, score=100, own=100, model=0, strengths={"burst": 4}, case=case, found=found)


TRAFFIC = [
    sent("honest", 10), sent("wrongly held", 10), sent("caught", 40, "r1"), sent("missed", 30, "r1"), sent("caught", 0, "r1"),
    sent("refused", 20, "r2"), sent("refused, too", 5), sent("nothing", 0), sent("box", 30, None, "order.paid"),
]  # fmt: skip
ANSWERS: dict[Key, Any] = {
    ("shop-1", "honest"): answer(10), ("shop-1", "wrongly held"): answer(10), ("shop-1", "caught"): answer(36),
    ("shop-1", "missed"): answer(30), ("shop-1", "refused"): answer(0, "ignored", "certificate_missing", "already_awarded"),
    ("shop-1", "refused, too"): {"status": 422, "code": "invalid_request"}, ("shop-1", "nothing"): answer(0, "ignored"),
    ("shop-1", "box"): answer(0, "ignored", "evidence_missing"),
}  # fmt: skip
NOW: dict[Key, Any] = {
    ("shop-1", "honest"): answer(10), ("shop-1", "wrongly held"): answer(10, "held"), ("shop-1", "caught"): answer(36, "held"),
    ("shop-1", "missed"): answer(12),
}  # fmt: skip
TOLD: dict[Key, Told] = {
    ("shop-1", "honest"): told(1), ("shop-1", "wrongly held"): told(2, 7), ("shop-1", "caught"): told(2, 8), ("shop-1", "missed"): told(1),
}  # fmt: skip


def scored(*, enforced: bool = True, **changes: Any) -> Live:
    given: dict[str, Any] = {"answers": ANSWERS, "now": NOW, "told": TOLD} | changes
    return score(TRAFFIC, given["answers"], given["now"], given["told"], enforced=enforced)


def test_points_are_those_of_the_api_and_a_repeat_counts_once() -> None:
    found = live_figures(scored())
    assert found["events"] == 8
    assert found["recall_by_value"] == round(36 / 66, 5)
    assert found["precision_by_value"] == round(36 / 46, 5)
    assert found["honest_events_held"] == 0.5
    assert found["patterns"]["burst"]["points"] == 66


def test_what_the_rules_refuse_is_out_of_the_evaluation_and_told_apart() -> None:
    live = scored()
    assert {why: (n.honest_points, n.fraud_points) for why, n in live.refused.items()} == {
        "ignored: already_awarded": (0, 20), "422 invalid_request": (5, 0),
    }  # fmt: skip
    found = live_figures(live)
    assert found["recall_by_value_with_refused"] == round((36 + 20) / (66 + 20), 5)
    assert found["choices_that_earn_at_shipment"] == 1
    assert found["fraud_points_undone_by_rules"] == 18


def test_cases_are_told_by_what_is_in_them() -> None:
    found = live_figures(scored())
    assert (found["cases"], found["cases_without_fraud"], found["events_in_cases_by"]) == (2, 1, {"arrival": 2})


def test_in_shadow_mode_the_verdict_counts_and_a_held_status_is_a_contradiction() -> None:
    free = {key: value | {"status": "pending"} for key, value in NOW.items()}
    without_cases = {key: told(verdict.outcome) for key, verdict in TOLD.items()}
    found = live_figures(scored(enforced=False, now=free, told=without_cases))
    assert (found["recall_by_value"], found["contradictions"]) == (round(36 / 66, 5), 0)
    assert scored(enforced=False).contradictions == 2


@pytest.mark.parametrize(
    ("now", "verdict"), [(answer(30, "held"), told(1)), (answer(30), told(2)), (answer(30), told(1, 9))], ids=["status", "verdict", "case"]
)
def test_a_status_that_says_other_than_verdict_and_case_is_seen(now: dict[str, Any], verdict: Told) -> None:
    key = ("shop-1", "missed")
    assert scored().contradictions == 0
    assert scored(now=NOW | {key: now}, told=TOLD | {key: verdict}).contradictions


def test_an_event_that_earns_and_has_no_verdict_is_seen() -> None:
    assert scored(told={key: verdict for key, verdict in TOLD.items() if key[1] != "missed"}).without_verdict == 1


def test_boxes_that_only_fraud_names_do_not_exist() -> None:
    def back(asset: str, pattern: str | None) -> tuple[Sent, Label]:
        event = {
            "id": asset, "type": "packaging.returned", "occurred_at": "2025-03-01T12:00:00Z", "consumer": "u1",
            "returns": [{"asset": asset, "class": "circular_box", "quantity": "1"}],
        }  # fmt: skip
        label = Label(platform="shop-1", event=asset, consumer="u1", points=15, pattern=pattern)
        return Sent(at=datetime(2025, 3, 1, tzinfo=UTC), platform="shop-1", event=Raw(json.dumps(event).encode())), label

    assert founding.goods_of([back("BOX-1", None), back("BOX-2", "sequential_codes")]).assets == {"BOX-1": "circular_box"}


def test_wrong_usage() -> None:
    assert main(["--seed", "1"]) == 2
    assert main(["--days", "31"]) == 2


@pytest.mark.slow
@pytest.mark.xdist_group("up")
def test_every_event_of_a_small_world_has_a_verdict_that_its_status_follows(scratch: Path) -> None:
    out = scratch / "live.json"
    assert main(["--events", "150", "--days", "3", "--fraud", "0.05", "--compare", "--out", str(out)]) in {0, 1}
    result = json.loads(out.read_text())
    live, refused = result["live"], result["refused"]
    assert (live["without_verdict"], live["contradictions"], result["failed_checks"]) == (0, 0, {})
    assert live["events"] > 60
    assert not {why for why in refused if why[:3].isdigit()}, "the API takes every event"
    differences = result["differences"]
    assert differences["both"] > 30
    assert differences["outcomes"] <= 0.02 * differences["both"]

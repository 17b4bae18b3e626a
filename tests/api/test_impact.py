"""Impact over HTTP: factors in versions, records that are pinned, a report that counts each thing once and nothing that was taken back."""

import csv
import io
import itertools
import json
from typing import Any

import httpx
import pytest

from schemas.bounds import MAX_FACTOR_VERSIONS
from service.store.impact import GROUPS
from tests.api.operators import Operators
from tests.api.test_campaigns import CAMPAIGN

FACTOR: dict[str, Any] = {
    "id": "fleet.box", "what": "return of our box", "unit": "item", "co2e_kg": {"low": "0.1", "central": None, "high": "0.3"},
    "plastic_g": "19.5", "method": "life-cycle assessment", "region": "CN", "vintage": 2026, "usable_for": ["avoidance"],
    "source": "report 3", "verification": "primary", "applies_to": [{"action": "return", "class": "circular_box"}], "effective_from": None,
}  # fmt: skip
BOARD = FACTOR | {"id": "mat.board.primary.uk2025", "unit": "kg", "co2e_kg": {"central": "2"}, "plastic_g": None, "applies_to": []}
DAY = "2026-03-01"
_ids = itertools.count(1)


async def campaign(operators: Operators, action: str, **more: Any) -> str:
    code = f"c-{next(_ids)}"
    body = {"code": code, "action": action, "when": None, "award": {"kind": "fixed", "points": 5}, "hold": "PT0S", "stacking": "add"}
    body |= {"starts_at": "2025-01-01T00:00:00Z", "ends_at": "2030-01-01T00:00:00Z"} | more
    assert (await operators.call("POST", "/v1/campaigns", CAMPAIGN | body)).status_code == 201
    assert (await operators.call("POST", f"/v1/campaigns/{code}/activate")).status_code == 200
    return code


async def save(operators: Operators, **changes: Any) -> httpx.Response:
    return await operators.call("POST", "/v1/impact-factors", FACTOR | changes)


async def paid(operators: Operators, class_: str = "ship_in_own_container", *, at: str = f"{DAY}T12:00:00+08:00", **packaging: Any) -> Any:
    """An order in this packaging; its answer."""
    name = f"o-{next(_ids)}"
    body = {
        "id": name, "type": "order.paid", "occurred_at": at, "consumer": "c", "order": {"id": name, "currency": "CNY", "total": "10.00"},
        "packaging": {"class": class_} | packaging,
    }  # fmt: skip
    return await _reported(operators, body)


async def shipped(operators: Operators) -> str:
    """A box that is out."""
    box, at = f"box-{next(_ids)}", f"{DAY}T08:00:00+08:00"
    assert (await operators.call("POST", "/v1/packaging/assets", {"asset": box, "class": "circular_box"})).status_code == 201
    name = (await paid(operators, "slim_tape", at=at))["id"]
    await about(operators, name, "order.fulfilled", occurred_at=at, packaging={"assets": [box]})
    return box


async def back(operators: Operators, class_: str, **item: Any) -> Any:
    """A returned item; the answer."""
    body = {"id": f"r-{next(_ids)}", "type": "packaging.returned", "occurred_at": f"{DAY}T12:00:00+08:00", "consumer": "c"}
    return await _reported(operators, body | {"returns": [{"class": class_} | item]})


async def about(operators: Operators, order: str, type_: str, **more: Any) -> Any:
    body = {"id": f"a-{next(_ids)}", "type": type_, "occurred_at": f"{DAY}T13:00:00+08:00", "order": {"id": order}}
    return await _reported(operators, body | more)


async def _reported(operators: Operators, body: dict[str, Any]) -> Any:
    answer = await operators.call("POST", "/v1/events", body, role="shop")
    assert answer.status_code == 201, answer.text
    return answer.json()


async def report(operators: Operators, query: str = f"from={DAY}&to=2026-03-02", **more: Any) -> list[dict[str, Any]]:
    answer = await operators.call("GET", f"/v1/reports/impact?{query}", **more)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["groups"]
    return found


def impacts(answer: Any) -> list[Any]:
    return [award["impact"] for award in answer["awards"]]


NOTHING = {"co2e_g": 0, "plastic_g": 0}

# Factors -------------------------------------------------------------------------------------------------


async def test_a_factor_is_saved_in_versions(operators: Operators) -> None:
    first = await save(operators)
    assert (first.status_code, first.json()["newest"]["version"], first.json()["origin"]) == (201, 1, "program")
    assert first.json()["newest"]["created_by"].startswith("operator:")
    repeat = await save(operators)
    assert (repeat.status_code, repeat.json()) == (200, first.json())
    second = await save(operators, plastic_g="20", effective_from="2026-05-01T00:00:00+08:00")
    assert (second.status_code, second.json()["newest"]["version"]) == (201, 2)
    whole = (await operators.call("GET", "/v1/impact-factors/fleet.box", role="viewer")).json()
    assert [(v["version"], v["plastic_g"]) for v in whole["versions"]] == [(2, "20"), (1, "19.5")]
    assert whole["newest"] == second.json()["newest"]
    assert whole["versions"][1] == first.json()["newest"], "the first version is as it was"


async def test_the_list_has_the_reference_and_the_programs_own(operators: Operators) -> None:
    await save(operators)
    assert (await operators.call("POST", "/v1/impact-factors", BOARD)).status_code == 201
    found, cursor = [], ""
    while cursor is not None:
        page = (await operators.call("GET", f"/v1/impact-factors?limit=20{cursor and f'&cursor={cursor}'}", role="viewer")).json()
        found += page["items"]
        cursor = page["next_cursor"]
    ids = [item["id"] for item in found]
    assert ids == sorted(set(ids))
    assert len(ids) == 66
    by_id = {item["id"]: item for item in found}
    assert (by_id["fleet.box"]["origin"], by_id["fleet.box"]["newest"]["version"]) == ("program", 1)
    assert (by_id[BOARD["id"]]["origin"], by_id[BOARD["id"]]["newest"]["version"]) == ("reference", 1)
    whole = (await operators.call("GET", f"/v1/impact-factors/{BOARD['id']}")).json()
    assert [(v["version"], v["co2e_kg"]["central"]) for v in whole["versions"]] == [(1, "2"), (0, "1.19973")]


async def test_factors_are_a_programs_own(operators: Operators) -> None:
    await save(operators)
    assert (await operators.call("GET", "/v1/impact-factors/fleet.box", role="foreign")).status_code == 404
    theirs = (await operators.call("GET", "/v1/impact-factors?limit=200", role="foreign")).json()["items"]
    assert {item["origin"] for item in theirs} == {"reference"}
    assert (await operators.call("POST", "/v1/impact-factors", FACTOR, role="viewer")).status_code == 403


BAD: list[tuple[dict[str, Any], str]] = [
    ({"co2e_kg": {"low": 0.1}}, "/co2e_kg/low"),
    ({"co2e_kg": {"low": "NaN"}}, "/co2e_kg/low"),
    ({"co2e_kg": {"low": "-1"}}, "/co2e_kg/low"),
    ({"co2e_kg": {"low": "1e9"}}, "/co2e_kg/low"),
    ({"co2e_kg": {"low": "0.3", "high": "0.1"}}, "/co2e_kg"),
    ({"co2e_kg": {"central": "0.3", "high": "0.1"}}, "/co2e_kg"),
    ({"co2e_kg": None, "plastic_g": None}, ""),
    ({"plastic_g": 5}, "/plastic_g"),
    ({"unit": "parcel"}, "/applies_to/0"),
    ({"applies_to": [{"action": "packaging", "class": "circular_box"}]}, "/applies_to/0"),
    ({"applies_to": [{"action": "return", "class": "x"}] * 2}, "/applies_to/1"),
    ({"applies_to": [{"action": "purchase", "class": "x"}]}, "/applies_to/0/action"),
    ({"applies_to": [{"action": "return", "class": "Ä"}]}, "/applies_to/0/class"),
    ({"usable_for": ["mass_only"]}, "/usable_for"),
    ({"usable_for": []}, "/usable_for"),
    ({"verification": "recall"}, "/verification"),
    ({"source": "a\u0000b"}, "/source"),
    ({"method": ""}, "/method"),
    ({"vintage": 10**30}, "/vintage"),
    ({"id": "mass.corrugated_parcel.cn2018"}, "/id"),
    ({"id": "mat.board.primary.uk2025"}, "/unit"),
    ({"id": "A b"}, "/id"),
    ({"effective_from": "2026-01-01T00:00:00"}, "/effective_from"),
    ({"effective_from": "0001-01-01T00:00:00+14:00"}, "/effective_from"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "pointer"), BAD, ids=lambda value: json.dumps(value)[:50])
async def test_a_factor_that_contradicts_itself_is_refused(operators: Operators, changes: dict[str, Any], pointer: str) -> None:
    answer = await save(operators, **changes)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    assert await operators.fetch("SELECT count(*) FROM impact_factor") == [(0,)]


async def test_a_thing_has_one_factor(operators: Operators) -> None:
    assert (await save(operators)).status_code == 201
    refused = await save(operators, id="other")
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/applies_to/0")
    assert "fleet.box" in refused.text
    assert (await save(operators, applies_to=[])).status_code == 201
    assert (await save(operators, id="other")).status_code == 201


async def test_a_program_has_only_so_many_versions(operators: Operators) -> None:
    await operators.fetch(
        "INSERT INTO impact_factor SELECT $1, 'old', n, now(), $2, now(), 'command' FROM generate_series(1, $3) n",
        operators.program, json.dumps(FACTOR | {"id": "old", "applies_to": []}), MAX_FACTOR_VERSIONS - 1,
    )  # fmt: skip
    assert (await save(operators)).status_code == 201
    assert (await save(operators)).status_code == 200
    assert (await save(operators, plastic_g="1")).status_code == 409
    assert (await save(operators, id="another", applies_to=[])).status_code == 409


# Records -------------------------------------------------------------------------------------------------


async def test_a_record_stays_when_its_factor_is_corrected(operators: Operators) -> None:
    await campaign(operators, "packaging")
    (first,) = impacts(await paid(operators))
    assert (first["co2e_g"], first["record"]["version"], first["record"]["vintage"]) == (364, 0, 2025)
    before = await operators.fetch("SELECT event, co2e_g, plastic_g, impact FROM award")
    assert json.loads(before[0][3]) == first["record"]
    corrected = BOARD | {"effective_from": f"{DAY}T00:00:00+08:00"}
    assert (await operators.call("POST", "/v1/impact-factors", corrected)).status_code == 201
    (second,) = impacts(await paid(operators))
    assert (second["co2e_g"], second["record"]["version"]) == (608, 1)
    (earlier,) = impacts(await paid(operators, at="2026-02-28T23:59:59+08:00"))
    assert earlier == first, "what occurred before is reckoned as it was then, however late it comes"
    export = (await operators.call("GET", "/v1/consumers/c/export", role="shop")).json()
    assert [a["impact"]["version"] for e in reversed(export["events"]) for a in e["awards"]] == [0, 1, 0]
    after = await operators.fetch("SELECT event, co2e_g, plastic_g, impact FROM award ORDER BY event")
    assert after[0] == before[0]
    groups = await report(operators)
    assert [(g["version"], g["awards"], g["co2e_g"]["central"]) for g in groups] == [(0, 1, 364), (1, 1, 608)], "never added up"


async def test_recycling_shows_grams_and_never_co2e(operators: Operators) -> None:
    await campaign(operators, "return")
    assert (await operators.call("PATCH", "/v1/packaging-policy", {"return_window_days": None})).status_code == 200
    (impact,) = impacts(await back(operators, "plastic_mailer", mass_g="1250.7"))
    assert (impact["co2e_g"], impact["plastic_g"], impact["record"]["co2e_g"]) == (0, 1250, None)
    use: dict[str, Any] = {
        "applies_to": [{"action": "return", "class": "foam_box"}],
        "unit": "kg",
        "plastic_g": "1000",
        "co2e_kg": {"central": "3"},
    }
    use["effective_from"] = "2026-01-01T00:00:00Z"
    assert (await save(operators, **use)).status_code == 201
    (impact,) = impacts(await back(operators, "foam_box", mass_g="2000"))
    assert (impact["record"]["factor"], impact["plastic_g"], impact["record"]["co2e_g"]) == ("fleet.box", 2000, None)
    assert [(g["plastic_g"], g["co2e_g"]) for g in await report(operators)] == [
        (2000, {"low": None, "central": None, "high": None}), (1250, {"low": None, "central": None, "high": None}),
    ]  # fmt: skip


async def test_several_awards_for_one_thing_count_it_once(operators: Operators) -> None:
    main, other = await campaign(operators, "packaging", priority=9), await campaign(operators, "packaging", priority=1)
    doubled = {"kind": "multiplier", "factor": "2", "of": [main]}
    await campaign(operators, "packaging", award=doubled)
    first, *others = impacts(await paid(operators, parcels=2))
    assert (first["co2e_g"], first["plastic_g"], first["record"]["mass_g"]) == (729, 39, 608)
    assert others == [NOTHING, NOTHING]
    assert [g["awards"] for g in await report(operators)] == [1]
    assert [g["awards"] for g in await report(operators, f"from={DAY}&to=2026-03-02&campaign={main}")] == [1]
    assert await report(operators, f"from={DAY}&to=2026-03-02&campaign={other}") == []


async def test_a_capped_award_leaves_the_record_to_the_next(operators: Operators) -> None:
    await campaign(operators, "packaging", priority=9, budget={"points": 3})
    await campaign(operators, "packaging", priority=1)
    cut, second = impacts(await paid(operators))
    assert (cut["plastic_g"], second) == (19, NOTHING)
    (alone,) = impacts(await paid(operators))
    assert alone["plastic_g"] == 19, "the first campaign's budget is used up"


async def test_what_nobody_awards_is_not_recorded(operators: Operators) -> None:
    await campaign(operators, "packaging", when="packaging.class == 'reused_carton'")
    assert (await paid(operators))["awards"] == []
    assert await report(operators) == []


# Reversals -----------------------------------------------------------------------------------------------


async def sums(operators: Operators, code: str) -> tuple[int, int]:
    totals = (await operators.call("GET", f"/v1/campaigns/{code}/statistics")).json()["totals"]
    return totals["co2e_g"], totals["plastic_g"]


async def test_what_is_taken_back_in_full_takes_its_grams_along(operators: Operators) -> None:
    code = await campaign(operators, "packaging", award={"kind": "fixed", "points": 100})
    kept, gone = await paid(operators), await paid(operators)
    assert await sums(operators, code) == (728, 38)
    refund = {"id": "half", "amount": "5.00"}
    part = await about(operators, gone["id"], "order.refunded", refund=refund)
    assert (part["points"], impacts(part)) == (-50, [NOTHING]), "half a refund does not wrap half a parcel"
    assert await sums(operators, code) == (728, 38)
    assert [g["awards"] for g in await report(operators)] == [2]
    rest = await about(operators, gone["id"], "order.cancelled")
    assert (rest["points"], impacts(rest)) == (-50, [{"co2e_g": -364, "plastic_g": -19}])
    assert await sums(operators, code) == (364, 19)
    assert [(g["awards"], g["plastic_g"], g["co2e_g"]["central"]) for g in await report(operators)] == [(1, 19, 364)]
    await about(operators, kept["id"], "order.cancelled")
    assert await sums(operators, code) == (0, 0)
    assert await report(operators) == []


# The report ----------------------------------------------------------------------------------------------


async def test_sums_say_how_many_have_no_central_number(operators: Operators) -> None:
    await campaign(operators, "return")
    assert (await save(operators, effective_from="2026-01-01T00:00:00Z")).status_code == 201
    for _ in range(2):
        box = await shipped(operators)
        await back(operators, "circular_box", asset=box)
    ours = [g for g in await report(operators) if g["factor"] == "fleet.box"]
    assert [(g["awards"], g["awards_without_central"], g["co2e_g"], g["plastic_g"]) for g in ours] == [
        (2, 2, {"low": 200, "central": None, "high": 600}, 38)
    ]


async def test_days_are_local_and_the_last_is_not_included(operators: Operators) -> None:
    await campaign(operators, "packaging")
    for at in ("2026-02-28T23:59:59+08:00", "2026-02-28T16:00:00Z", "2026-03-01T15:59:59Z", "2026-03-01T16:00:00Z"):
        await paid(operators, at=at)
    assert [g["awards"] for g in await report(operators)] == [2]
    assert [g["awards"] for g in await report(operators, "from=2026-02-28&to=2026-03-03")] == [4]
    assert await report(operators, f"from={DAY}&to={DAY}") == []
    usual = (await operators.call("GET", "/v1/reports/impact")).json()
    assert usual["from"] < usual["to"]


async def test_a_report_is_of_one_program_and_perhaps_one_platform(operators: Operators) -> None:
    await campaign(operators, "packaging")
    await paid(operators)
    days = f"from={DAY}&to=2026-03-02"
    assert [g["awards"] for g in await report(operators, f"{days}&platform=shop", role="viewer")] == [1]
    assert await report(operators, days, role="foreign") == []
    for query in ("platform=foreign", "campaign=foreign", "platform=nobody"):
        assert (await operators.call("GET", f"/v1/reports/impact?{days}&{query}")).status_code == 404
    assert (await operators.call("GET", "/v1/reports/impact?from=2026-03-02&to=2026-03-01")).status_code == 422
    assert (await operators.call("GET", "/v1/reports/impact?from=yesterday")).status_code == 422


async def test_the_report_is_a_table_where_that_is_asked_for(operators: Operators) -> None:
    await campaign(operators, "packaging")
    use = [{"action": "packaging", "class": "paper_mailer"}]
    made = await save(
        operators, unit="parcel", method="=SUM(A1)", source='a "quoted", source', applies_to=use, effective_from="2026-01-01T00:00:00Z"
    )
    assert made.status_code == 201
    await paid(operators, "paper_mailer")
    answer = await operators.call("GET", f"/v1/reports/impact?from={DAY}&to=2026-03-02", headers={"Accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["vary"] == "Accept"
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert row == {
        "factor": "fleet.box", "version": "1", "vintage": "2026", "method": "'=SUM(A1)", "region": "CN", "source": 'a "quoted", source',
        "awards": "1", "awards_without_central": "1", "mass_g": "0", "plastic_g": "19", "co2e_low_g": "100", "co2e_central_g": "",
        "co2e_high_g": "300",
    }  # fmt: skip


async def test_a_report_reads_only_awards_with_an_impact(operators: Operators) -> None:
    """Among many awards it finds its own by their day."""
    await campaign(operators, "packaging")
    await paid(operators)
    await operators.fetch(
        """
        INSERT INTO award (bucket, account, event, n, program, platform, campaign, version, points, day, due_at)
        SELECT 1, 1, 1000000 + i, 0, $1, $2, 1, 1, 5, '2026-03-01', now() FROM generate_series(1, 20000) i
        """,
        operators.program, operators.platform,
    )  # fmt: skip
    await operators.fetch("ANALYZE award")

    plan = "\n".join(
        str(row[0])
        for row in await operators.fetch(
            "EXPLAIN " + GROUPS.replace("$1", str(operators.program)).replace("$2", "date '2026-03-01'").replace("$3", "date '2026-03-02'")
            .replace("$4", "NULL").replace("$5", "NULL")
        )
    )  # fmt: skip
    assert "award_impact" in plan
    assert [g["awards"] for g in await report(operators)] == [1]

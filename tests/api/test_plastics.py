"""Plastics over HTTP: rows in three formats, who may do what, the report as JSON and CSV, closing."""

import csv
import hashlib
import io
import json
from typing import Any

import httpx
import pytest

from service.flows import administer
from tests.api.operators import Operators, _token
from tests.sealer import SEALER

REPORTS, REPORT = "/v1/plastics/reports", "/v1/reports/plastics"
ROWS = [
    {"id": "a/1", "period": "2025H1", "class": "plastic_mailer", "kind": "used", "mass_kg": "1.25", "units": 500, "merchant": "m-7"},
    {"id": "b", "period": "2025-04-01/2025-06-30", "class": "plastic_mailer", "kind": "collected", "mass_g": "250.5", "note": "counted"},
]
CSV = (
    "id,period,class,kind,mass_kg,mass_g,units,merchant,note,colour\r\n"
    "a/1,2025H1,plastic_mailer,used,1.250,,500,m-7,,red\r\nb,2025-04-01/2025-06-30,plastic_mailer,collected,,250.500,,,counted,\r\n"
)


@pytest.fixture
async def operators(operators: Operators) -> Operators:
    """With an admin and an analyst, keys of one scope, and a second platform of the program."""
    async with operators.pool.acquire() as conn:
        for role in ("admin", "analyst"):
            operators.tokens[role] = await _token(conn, role, role, operators.program)
        for scope in ("plastics:write", "plastics:read", "events:write"):
            key = await administer.create_key(conn, program=operators.program, platform="shop", scopes=[scope], expires_at=None)
            operators.tokens[scope] = str(key.key)
        made = await administer.create_platform(conn, sealer=SEALER, program=operators.program, code="market", name="Market")
        operators.tokens["market"] = made.api_key
    return operators


async def post(operators: Operators, rows: Any, **more: Any) -> httpx.Response:
    return await operators.call("POST", REPORTS, rows, **({"role": "shop"} | more))


async def read(operators: Operators, role: str = "shop", accept: str = "application/json", **query: Any) -> httpx.Response:
    return await operators.call("GET", REPORT, role=role, params={"period": "2025H1"} | query, headers={"Accept": accept})


async def close(operators: Operators, half: str = "2025H1", role: str = "analyst") -> httpx.Response:
    return await operators.call("POST", f"/v1/plastics/periods/{half}/close", role=role)


async def test_rows_count_once_however_they_are_written(operators: Operators) -> None:
    answer = await post(operators, ROWS)
    assert answer.status_code == 200
    assert answer.json() == {
        "created": 2, "updated": 0, "unchanged": 0, "rejected": 0,
        "results": [
            {"row": n, "status": "created", "id": id_, "code": None, "errors": [], "warnings": []} for n, id_ in enumerate(("a/1", "b"))
        ],
    }  # fmt: skip
    ndjson = "".join(json.dumps(row) + "\n" for row in ROWS)
    for content, type_ in ((ndjson, "application/x-ndjson"), (CSV, "text/csv"), ("\ufeff" + CSV, "text/csv; charset=utf-8")):
        again = (await post(operators, None, content=content.encode(), headers={"Content-Type": type_})).json()
        assert (again["unchanged"], again["created"], again["updated"]) == (2, 0, 0), again
    assert await operators.fetch("SELECT actor, action, subject, after::text FROM audit WHERE action LIKE 'plastics%'") == [
        ("platform:shop", "plastics.report", "platform:shop", '{"created": 2, "updated": 0}')
    ]


async def test_a_correction_keeps_the_history(operators: Operators) -> None:
    await post(operators, ROWS)
    assert (await post(operators, [ROWS[0] | {"mass_kg": "2", "units": 800}])).json()["updated"] == 1
    shown = (await operators.call("GET", REPORTS, role="shop", params={"id": "a/1"})).json()["items"]
    assert [(e["revision"], e["reversal"], e["mass_g"], e["units"], e["platform"], e["from"], e["to"]) for e in shown] == [
        (1, False, "1250", 500, "shop", "2025-01-01", "2025-06-30"), (1, True, "-1250", -500, "shop", "2025-01-01", "2025-06-30"),
        (2, False, "2000", 800, "shop", "2025-01-01", "2025-06-30"),
    ]  # fmt: skip
    cursor, found = None, []
    while True:
        page = (await operators.call("GET", REPORTS, role="viewer", params={"limit": 1} | ({"cursor": cursor} if cursor else {}))).json()
        found += [(e["id"], e["revision"], e["reversal"]) for e in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert found == [("a/1", 1, False), ("b", 1, False), ("a/1", 1, True), ("a/1", 2, False)]
    assert (await operators.call("GET", REPORTS, role="viewer", params={"period": "2024H1"})).json()["items"] == []
    assert (await operators.call("GET", REPORTS, role="viewer", params={"period": "2024"})).status_code == 422


async def test_bad_rows_are_told_one_by_one(operators: Operators) -> None:
    good = ROWS[0]
    rows: list[Any] = [
        good | {"mass_g": 1}, good | {"mass_kg": 1.5}, good | {"class": "circular_box"}, good | {"period": "2025H3"}, 7, good | {"units": "x"},
        {"id": "only"}, good | {"corrects": "nobody"}, good | {"mass_kg": "-1"}, good | {"period": "2999H1"}, good,
    ]  # fmt: skip
    answer = (await post(operators, rows)).json()
    pointers = [(r["errors"][0]["pointer"] if r["errors"] else None) for r in answer["results"]]
    assert pointers == ["/mass_g", "/mass_kg", "/class", "/period", "", "/units", "", "/corrects", "/mass_kg", "/period", None]
    assert [r["code"] for r in answer["results"]] == ["invalid_request"] * 10 + [None]
    assert (answer["created"], answer["rejected"]) == (1, 10)
    lines = ["[" * 100_000, '{"id": "n", "mass_g": NaN}', '{"id": "n"', json.dumps(good), "\x00"]
    answer = (await post(operators, None, content="\n".join(lines).encode(), headers={"Content-Type": "application/x-ndjson"})).json()
    assert [r["status"] for r in answer["results"]] == ["rejected", "rejected", "rejected", "unchanged", "rejected"]
    assert await operators.fetch("SELECT mass_g::text FROM plastic_entry") == [("1250.000",)]
    messy = b"id,period,class,kind,mass_g\na,2025H1,plastic_mailer,used,1e3\n\xffb,2025H1,plastic_mailer,used,1\n"
    assert (await post(operators, None, content=messy, headers={"Content-Type": "text/csv"})).status_code == 422
    assert len(await operators.fetch("SELECT 1 FROM plastic_entry")) == 1


@pytest.mark.parametrize(
    ("content", "type_", "status"),
    [
        (b"{}", "application/json", 422), (b"[", "application/json", 400), (b"", "text/csv", 422), (b"[]", "text/plain", 415),
        (b"{}\n" * 5_001, "application/x-ndjson", 422), (b"[" + b" " * 8 * 2**20 + b"]", "application/json", 413), (b"[]", "application/json", 200),
    ],
    ids=range(7),
)  # fmt: skip
async def test_what_is_no_list_of_rows_is_refused_as_a_whole(operators: Operators, content: bytes, type_: str, status: int) -> None:
    assert (await post(operators, None, content=content, headers={"Content-Type": type_})).status_code == status


async def test_who_may_report_read_and_close(operators: Operators) -> None:
    statuses = {
        role: (await post(operators, ROWS, role=role)).status_code
        for role in ("plastics:write", "plastics:read", "events:write", "viewer", "campaigns", "fraud", "analyst", "admin")
    }
    assert statuses == {
        "plastics:write": 200, "plastics:read": 403, "events:write": 403, "viewer": 403, "campaigns": 403, "fraud": 403, "analyst": 422, "admin": 422,
    }  # fmt: skip
    for role, platform, status in (
        ("analyst", "shop", 200), ("analyst", "foreign", 404), ("analyst", "nobody", 404), ("foreign", "shop", 404), ("shop", "market", 404),
        ("shop", "shop", 200),
    ):  # fmt: skip
        assert (await post(operators, ROWS, role=role, params={"platform": platform})).status_code == status, (role, platform)
    for role, status in (("plastics:read", 200), ("plastics:write", 403), ("events:write", 403), ("viewer", 200), ("foreign", 200)):
        assert (await read(operators, role)).status_code == status, role
        assert (await operators.call("GET", REPORTS, role=role)).status_code == status, role
    for role in ("shop", "viewer", "campaigns", "fraud"):
        assert (await close(operators, role=role)).status_code == 403, role
    assert (await close(operators, role="foreign")).status_code == 404, "nothing was reported in that program"
    assert await operators.fetch("SELECT 1 FROM plastic_period") == []
    assert (await operators.client.get(REPORT)).status_code == 401


async def test_everybody_sees_what_is_theirs(operators: Operators) -> None:
    await post(operators, ROWS)
    await post(operators, [ROWS[0] | {"mass_kg": 2, "merchant": "other"}], role="market")
    for phase in ("open", "closed"):
        whole = (await read(operators, "viewer")).json()
        assert [p["platform"] for p in whole["platforms"]] == ["market", "shop"]
        assert whole["totals"] == {"used_g": "3250", "collected_g": "250.5", "avoided_g": "0", "difference_g": "2999.5"}
        assert (whole["status"], whole["from"], whole["to"], whole["time_zone"]) == (phase, "2025-01-01", "2025-06-30", "Asia/Shanghai")
        for role, used in (("shop", "1250"), ("market", "2000")):
            own = (await read(operators, role)).json()
            assert [p["platform"] for p in own["platforms"]] == [role]
            assert own["totals"]["used_g"] == used
            listed = (await operators.call("GET", REPORTS, role=role)).json()["items"]
            assert {e["platform"] for e in listed} == {role}
        assert (await operators.call("GET", REPORTS, role="shop", params={"platform": "market"})).status_code == 404
        foreign = (await read(operators, "foreign")).json()
        assert (foreign["status"], foreign["platforms"]) == ("open", [])
        assert (await close(operators)).status_code == 200
    shop = (await read(operators)).json()["platforms"][0]
    assert shop["lines"] == [
        {"class": "plastic_mailer", "merchant": None, "used_g": "0", "collected_g": "250.5", "difference_g": "-250.5"},
        {"class": "plastic_mailer", "merchant": "m-7", "used_g": "1250", "collected_g": "0", "difference_g": "1250"},
    ]


async def test_the_report_is_json_or_csv_and_its_tag_is_its_hash(operators: Operators) -> None:
    await post(operators, [ROWS[0] | {"merchant": '=HYPERLINK("http://x")'}, ROWS[1]])
    for accept, media in (
        ("application/json", "application/json"), ("*/*", "application/json"), ("text/html", "application/json"), ("text/csv", "text/csv"),
        ("text/csv;q=0.9, application/json;q=0.1", "text/csv"), ("text/*", "text/csv"),
    ):  # fmt: skip
        answer = await read(operators, accept=accept)
        assert answer.headers["content-type"].split(";")[0] == media, accept
        assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
        assert answer.headers["vary"] == "Accept"
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [(row["level"], row["merchant"], row["used_g"], row["collected_g"], row["difference_g"]) for row in rows] == [
        ("line", "", "0", "250.5", "-250.5"), ("line", '\'=HYPERLINK("http://x")', "1250", "0", "1250"),
        ("platform", "", "1250", "250.5", "999.5"), ("total", "", "1250", "250.5", "999.5"),
    ]  # fmt: skip
    assert (await read(operators, period="2025")).json()["errors"][0]["pointer"] == "/period"
    assert (await operators.call("GET", REPORT, role="shop")).json()["status"] == "open", "the present half-year"


async def test_closing(operators: Operators) -> None:
    await post(operators, ROWS)
    for half in ("2024H1", "2025H3", "x", "2025%2FH1"):
        assert (await close(operators, half)).status_code == 404, half
    present = (await operators.call("GET", REPORT, role="shop")).json()["period"]
    assert (await post(operators, [ROWS[0] | {"id": "now", "period": present}])).json()["created"] == 1
    refused = await close(operators, present)
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")
    closed = await close(operators)
    assert closed.json() == (await close(operators, role="admin")).json()
    whole, table = await read(operators, "viewer"), await read(operators, "viewer", "text/csv")
    assert closed.json()["sha256"] == {"json": whole.headers["etag"].strip('"'), "csv": table.headers["etag"].strip('"')}
    assert closed.headers["etag"] == whole.headers["etag"]
    assert whole.json()["closed_at"] == closed.json()["closed_at"]
    late = (
        await post(
            operators, [ROWS[0] | {"id": "late"}, ROWS[0], ROWS[0] | {"id": "back", "period": present, "mass_kg": "-1", "corrects": "a/1"}]
        )
    ).json()
    assert [(r["status"], r["code"]) for r in late["results"]] == [
        ("rejected", "invalid_state"), ("unchanged", None), ("created", None),
    ]  # fmt: skip
    assert (await read(operators, "viewer")).content == whole.content
    assert (await read(operators, "viewer", "text/csv")).content == table.content
    assert len(await operators.fetch("SELECT 1 FROM audit WHERE action = 'plastics.close'")) == 1

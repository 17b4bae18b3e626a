"""Imported balances, past balances and the lines of a book, over HTTP."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar

from service.flows import administer
from service.flows.settle import settle_due
from tests.api.operators import Operators
from tests.sealer import SEALER

ROWS = [
    {"id": "a", "consumer": "c/1", "points": 40, "expires_on": "2099-12-31"},
    {"id": "b", "consumer": "c/1", "points": 2, "expires_on": None, "earned_at": "2024-05-01T10:00:00Z"},
]
CSV = "id,consumer,points,expires_on,earned_at,note\r\na,c/1,40,2099-12-31,,x\r\nb,c/1,2,,2024-05-01T12:00:00+02:00,\r\n"


async def post(operators: Operators, rows: Any, **more: Any) -> httpx.Response:
    return await operators.call("POST", "/v1/consumers/import", rows, **({"role": "shop"} | more))


async def get(operators: Operators, path: str, **query: Any) -> httpx.Response:
    return await operators.call("GET", path, role="shop", params=query)


async def token(operators: Operators, consumer: str, platform: str = "shop") -> str:
    async with operators.pool.acquire() as conn:
        return await administer.consumer_token(conn, sealer=SEALER, platform=platform, consumer=consumer, ttl=timedelta(hours=1))


async def test_rows_are_taken_once_however_they_are_written(operators: Operators) -> None:
    answer = await post(operators, ROWS)
    assert answer.status_code == 200
    assert answer.json() == {
        "created": 2, "duplicates": 0, "rejected": 0, "points": 42,
        "results": [
            {"row": 0, "status": "created", "id": "a", "code": None, "errors": []},
            {"row": 1, "status": "created", "id": "b", "code": None, "errors": []},
        ],
    }  # fmt: skip
    ndjson = "".join(json.dumps(row) + "\n" for row in ROWS)
    for content, type_ in ((ndjson, "application/x-ndjson"), (CSV, "text/csv"), ("\ufeff" + CSV, "text/csv; charset=utf-8")):
        again = await post(operators, None, content=content.encode(), headers={"Content-Type": type_})
        assert (again.json()["duplicates"], again.json()["created"]) == (2, 0), again.text
    balance = (await get(operators, "/v1/consumers/c%2F1/balance")).json()
    assert (balance["available"], balance["version"]) == (42, 1)
    assert balance["expiring"] == [{"points": 40, "on": "2099-12-31"}]
    activity = (await get(operators, "/v1/consumers/c%2F1/activity")).json()["items"]
    assert [(item["kind"], item["points"], item["status"]) for item in activity] == [("balance.imported", n, "settled") for n in (2, 40)]
    assert await operators.fetch("SELECT actor FROM audit WHERE action = 'balances.import'") == [("platform:shop",)]


async def test_bad_rows_are_told_one_by_one(operators: Operators) -> None:
    csv = b'consumer,id,points,expires_on\nc1,a,1e3,\nc1,b,1.0,\nc1,c,5,2020-01-01\nc1,d,-5,\n\xff,e,5,\nc1,f,9223372036854775808,\nc1,g,5,\nc1,"h"x,5,\nc1,i,5,,,\n'
    answer = (await post(operators, None, content=csv, headers={"Content-Type": "text/csv"})).json()
    pointers = ["/points", "/points", "/expires_on", "/points", "/consumer", "/points", None, "", ""]
    assert [(r["errors"][0]["pointer"] if r["errors"] else None) for r in answer["results"]] == pointers
    assert (answer["created"], answer["rejected"], answer["points"]) == (1, 8, 5)
    assert [r["row"] for r in answer["results"]] == list(range(9))


@pytest.mark.parametrize(
    ("content", "type_", "status"),
    [
        (b"{}", "application/json", 422), (b"[", "application/json", 400), (b"id,consumer,points\n", "text/csv", 422), (b"", "text/csv", 422),
        (b"id,consumer,points,expires_on,\xff\na,c,5,,x\n", "text/csv", 422),
        (b"[]", "text/plain", 415), (b'{"id": 1}\n' * 5_001, "application/x-ndjson", 422), (b"[" + b" " * 8 * 2**20 + b"]", "application/json", 413),
    ],
    ids=range(8),
)  # fmt: skip
async def test_what_is_no_list_of_rows_is_refused_as_a_whole(operators: Operators, content: bytes, type_: str, status: int) -> None:
    assert (await post(operators, None, content=content, headers={"Content-Type": type_})).status_code == status


async def test_who_may_import(operators: Operators, app: Litestar) -> None:
    async with operators.pool.acquire() as conn:
        for name, scope in (("importer", "balances:import"), ("reporter", "events:write")):
            key = await administer.create_key(conn, program=operators.program, platform="shop", scopes=[scope], expires_at=None)
            operators.tokens[name] = str(key.key)
        operators.tokens["consumer"] = await token(operators, "c")
    from tests.api.operators import _token  # noqa: PLC0415

    async with operators.pool.acquire() as conn:
        operators.tokens["admin"] = await _token(conn, "admin", "admin", operators.program)
    row = [ROWS[0]]
    assert (await post(operators, row, role="importer")).status_code == 200
    assert (await post(operators, row, role="reporter")).status_code == 403
    assert (await post(operators, row, role="consumer")).status_code == 403
    for role in ("viewer", "campaigns", "fraud"):
        assert (await post(operators, row, role=role, params={"platform": "shop"})).status_code == 403
    assert (await post(operators, row, role="admin")).status_code == 422
    assert (await post(operators, row, role="admin", params={"platform": "shop"})).json()["duplicates"] == 1
    assert (await post(operators, row, role="admin", params={"platform": "foreign"})).status_code == 404
    assert (await post(operators, row, role="foreign", params={"platform": "shop"})).status_code == 404, "another program's admin"
    assert (await post(operators, row, params={"platform": "foreign"})).status_code == 404
    assert (await operators.client.post("/v1/consumers/import", json=row)).status_code == 401
    assert (await post(operators, [ROWS[1]], role="admin", params={"platform": "shop"})).json()["created"] == 1
    actors = await operators.fetch("SELECT actor FROM audit WHERE action = 'balances.import' ORDER BY id")
    assert actors[0] == ("platform:shop",)
    assert actors[1][0].startswith("operator:")


async def test_what_the_balance_was_and_the_lines_behind_it(operators: Operators, app: Litestar) -> None:
    before = datetime.now(UTC)
    assert (await get(operators, "/v1/consumers/c%2F1/balance", as_of=before.isoformat())).status_code == 404
    await post(operators, ROWS)
    resources = app.state.resources
    (between,) = (await operators.fetch("SELECT clock_timestamp()"))[0]
    await post(operators, [ROWS[0] | {"id": "c"}])
    await settle_due(resources.pool, resources.projection, stripe=1, buckets=64, batch_events=100)
    bearer = {"Authorization": f"Bearer {await token(operators, 'c/1')}"}
    for path, call in (("/v1/consumers/c%2F1", "shop"), ("/v1/me", "me")):

        async def read(tail: str, path: str = path, call: str = call, **query: Any) -> httpx.Response:
            if call == "me":
                return await operators.client.get(path + tail, params=query, headers=bearer)
            return await get(operators, path + tail, **query)

        was = (await read("/balance", as_of=between.isoformat())).json()
        assert (was["consumer"], was["available"], was["version"]) == ("c/1", 42, 1)
        assert datetime.fromisoformat(was["as_of"]) == between
        nothing = (await read("/balance", as_of=before.isoformat())).json()
        assert {nothing[k] for k in ("available", "pending", "reserved", "debt", "version")} == {0}
        future = await read("/balance", as_of="2100-01-01T00:00:00Z")
        assert (future.status_code, future.json()["errors"][0]["pointer"]) == (422, "/as_of")
        assert (await read("/balance", as_of="2025-01-01T00:00:00")).status_code == 422
        assert (await read("/balance", as_of="yesterday")).status_code == 422
        lines, cursor = [], None
        while True:
            page = (await read("/entries", limit=4, **({} if cursor is None else {"cursor": cursor}))).json()
            lines += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert [(line["seq"], line["kind"], line["book"], line["amount"], line["event"], line["campaign"]) for line in lines] == [
            (1, "opening", "opening", -40, "a", None), (2, "opening", "available", 40, "a", None), (3, "opening", "opening", -2, "b", None),
            (4, "opening", "available", 2, "b", None), (5, "opening", "opening", -40, "c", None), (6, "opening", "available", 40, "c", None),
        ]  # fmt: skip
        assert [line["balance"]["available"] for line in lines] == [0, 40, 40, 42, 42, 82]
        assert [line["version"] for line in lines] == [1, 1, 1, 1, 2, 2]
        assert len((await read("/entries", as_of=between.isoformat())).json()["items"]) == 4
        assert (await read("/entries", as_of="2100-01-01T00:00:00Z")).status_code == 422
        assert (await read("/entries", cursor="x")).status_code == 422
    assert (await get(operators, "/v1/consumers/nobody/entries")).status_code == 404
    nobody = {"Authorization": f"Bearer {await token(operators, 'nobody')}"}
    assert (await operators.client.get("/v1/me/entries", headers=nobody)).json() == {"items": [], "next_cursor": None}
    foreign = await administer_key(operators)
    assert (await operators.client.get("/v1/consumers/c%2F1/entries", headers=foreign)).status_code == 404, "another platform's consumer"
    assert (
        await operators.client.get("/v1/consumers/c%2F1/balance", headers=foreign, params={"as_of": between.isoformat()})
    ).status_code == 404


async def administer_key(operators: Operators) -> dict[str, str]:
    async with operators.pool.acquire() as conn:
        (program,) = (await operators.fetch("SELECT program FROM platform WHERE code = 'foreign'"))[0]
        key = await administer.create_key(conn, program=program, platform="foreign", scopes=[], expires_at=None)
    return {"Authorization": f"Bearer {key.key}"}

"""Seals and alerts as operators read them."""

import csv
import hashlib
import io
from datetime import timedelta
from typing import Any

import pytest

from service.flows.seal import seal
from tests.api.operators import Operators

NOW = timedelta(0)


async def book(operators: Operators, program: int, account: int, transfers: int) -> None:
    """So many blocks of one transfer each."""
    async with operators.pool.acquire() as conn:
        await conn.execute("INSERT INTO account (bucket, id, program) VALUES ($1 & 1023, $1, $2)", account, program)
        for n in range(transfers):
            await conn.execute(
                "INSERT INTO entry SELECT $1 & 1023, $1, $3 + i, $3, 9, 1 + 8 * (i & 1), 5 - 10 * (i & 1), $2, 1, 1, 0, 0, 0, 1, now() "
                "FROM generate_series(1, 2) i", account, program, 2 * n,
            )  # fmt: skip
            await seal(operators.pool, margin=NOW)


def head_of(item: dict[str, Any]) -> str:
    """As docs/ledger.md tells outsiders."""
    names = ("block", "entries", "accounts", "sealed_at", "previous", "content")
    line = "|".join(["greenpoints-seal-1", *(str(item[name]) for name in names)])
    return hashlib.sha256(f"{line}\n".encode()).hexdigest()


async def test_the_chain_can_be_followed_from_outside(operators: Operators) -> None:
    await book(operators, operators.program, 7, 5)
    (foreign,) = await operators.fetch("SELECT id FROM program WHERE code = 'q'")
    await book(operators, foreign[0], 8, 2)
    items: list[dict[str, Any]] = []
    query = "?limit=2"
    while True:
        answer = await operators.call("GET", f"/v1/reports/seals{query}", role="viewer")
        assert answer.status_code == 200
        body = answer.json()
        assert body["head"]["block"] == 5
        items += body["items"]
        if body["next_cursor"] is None:
            break
        query = f"?limit=2&cursor={body['next_cursor']}"
    assert [item["block"] for item in items] == [5, 4, 3, 2, 1]
    assert body["head"] == items[0]
    for item, before in zip(items, [*items[1:], None], strict=True):
        assert item["head"] == head_of(item)
        assert item["previous"] == ("0" * 64 if before is None else before["head"])
    other = (await operators.call("GET", "/v1/reports/seals", role="foreign")).json()
    assert [item["block"] for item in other["items"]] == [2, 1]


async def test_an_empty_chain_has_no_head(operators: Operators) -> None:
    answer = await operators.call("GET", "/v1/reports/seals", role="viewer")
    assert answer.json() == {"head": None, "items": [], "next_cursor": None}


async def test_seals_come_as_csv(operators: Operators) -> None:
    await book(operators, operators.program, 7, 3)
    answer = await operators.call("GET", "/v1/reports/seals?limit=2", role="viewer", headers={"Accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["block"] for row in rows] == ["3", "2"]
    assert [row["head"] for row in rows] == [head_of(row) for row in rows]
    more = await operators.call("GET", answer.links["next"]["url"], role="viewer", headers={"Accept": "text/csv"})
    assert [row["block"] for row in csv.DictReader(io.StringIO(more.text))] == ["1"]
    assert "link" not in more.headers


async def alert(operators: Operators, program: int | None, subject: str, *, resolved: bool = False) -> None:
    await operators.fetch(
        "INSERT INTO alert (program, kind, subject, words, resolved_at) VALUES ($1, 'lots', $2, 'words', CASE WHEN $3 THEN now() END)",
        program, subject, resolved,
    )  # fmt: skip


async def test_alerts_are_listed(operators: Operators) -> None:
    for n in range(3):
        await alert(operators, operators.program, f"account {n}", resolved=n == 1)
    await alert(operators, None, "ledger")

    async def listed(query: str = "", role: str = "viewer") -> list[str]:
        answer = await operators.call("GET", f"/v1/alerts{query}", role=role)
        assert answer.status_code == 200, answer.text
        return [item["subject"] for item in answer.json()["items"]]

    assert await listed() == ["account 2", "account 1", "account 0"]
    assert await listed("?state=open") == ["account 2", "account 0"]
    assert await listed("?state=resolved") == ["account 1"]
    assert await listed(role="foreign") == [], "another program's, and the deployment's"
    page = (await operators.call("GET", "/v1/alerts?limit=2", role="viewer")).json()
    assert await listed(f"?limit=2&cursor={page['next_cursor']}") == ["account 0"]
    (item,) = (await operators.call("GET", "/v1/alerts?state=resolved", role="viewer")).json()["items"]
    assert (item["kind"], item["words"], item["resolved_at"] is not None) == ("lots", "words", True)


async def test_operators_of_the_deployment_see_its_alerts(operators: Operators) -> None:
    await alert(operators, None, "ledger")
    await operators.fetch("UPDATE operator SET program = NULL WHERE email = 'viewer@example.com'")
    headers = {"X-Greenpoints-Program": "p"}
    answer = await operators.call("GET", "/v1/alerts", role="viewer", headers=headers)
    assert [item["subject"] for item in answer.json()["items"]] == ["ledger"]


@pytest.mark.parametrize(
    "query",
    ["/v1/alerts?state=odd", "/v1/alerts?limit=201", "/v1/alerts?cursor=x", "/v1/reports/seals?cursor=x", "/v1/reports/seals?limit=0"],
)
async def test_what_cannot_be_listed_is_refused(operators: Operators, query: str) -> None:
    assert (await operators.call("GET", query, role="viewer")).status_code == 422

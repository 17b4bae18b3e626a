"""What became of the events: statuses by the API; verdicts and cases from PostgreSQL."""

from collections.abc import Mapping
from typing import Any, Final

import asyncpg
import httpx
import msgspec
from msgspec import Struct

Key = tuple[str, str]
"""Platform and id of an event."""

VERDICTS: Final = """
SELECT p.code, e.id, v.points, v.outcome, v.score, v.own, v.model, v.strengths, c.fraud_case, c.found
FROM verdict v
JOIN event e ON e.bucket = v.bucket AND e.account = v.account AND e.number = v.event
JOIN platform p ON p.id = e.platform
LEFT JOIN fraud_case_event c ON c.bucket = v.bucket AND c.event = v.event
ORDER BY v.seq
"""

FAILED_CHECKS: Final = """
SELECT substring(words FROM ' held: (.*)') AS why, count(*) AS events
FROM alert WHERE kind = 'fraud_check' GROUP BY 1 ORDER BY 2 DESC LIMIT 20
"""


class Told(Struct, frozen=True, kw_only=True):
    """What the judge wrote of an event; scores in basis points, strengths in quarters by signal."""

    points: int
    outcome: int
    score: int
    own: int
    model: int
    strengths: Mapping[str, int]
    case: int | None
    found: str | None


async def statuses(api: str, keys: Mapping[str, str]) -> dict[Key, dict[str, Any]]:
    """Each event of each platform as GET /v1/events shows it now, those that the service wrote itself among them."""
    found: dict[Key, dict[str, Any]] = {}
    async with httpx.AsyncClient(base_url=api, timeout=60) as client:
        for platform, key in keys.items():
            query: dict[str, str | int] = {"limit": 200}
            while True:
                answer = await client.get("/v1/events", params=query, headers={"authorization": f"Bearer {key}"})
                page = answer.raise_for_status().json()
                found |= {(platform, item["id"]): item for item in page["items"]}
                if page["next_cursor"] is None:
                    break
                query["cursor"] = page["next_cursor"]
    return found


async def verdicts(database_url: str) -> dict[Key, Told]:
    """Each verdict with its case, in the order in which they were given."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(VERDICTS)
    finally:
        await connection.close()
    return {
        (r["code"], r["id"]): Told(
            points=r["points"], outcome=r["outcome"], score=r["score"], own=r["own"], model=r["model"],
            strengths={} if r["strengths"] is None else msgspec.json.decode(r["strengths"]), case=r["fraud_case"], found=r["found"],
        )
        for r in rows
    }  # fmt: skip


async def failed_checks(database_url: str) -> dict[str, int]:
    """What the judge told operators of events that it could not judge, without their numbers → of how many."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(FAILED_CHECKS)
    finally:
        await connection.close()
    return {r["why"]: r["events"] for r in rows}

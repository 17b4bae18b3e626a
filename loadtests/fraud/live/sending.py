"""Events by the API as platforms send them: side by side, each platform's in order of arrival."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg
import httpx
import msgspec
from rich.progress import Progress, TaskID

from loadtests.traffic.format import Label, Sent

WINDOW: Final = 100
"""Events that are under way at a time: in life platforms do not overtake one another by days."""
TRIES: Final = 30
PAUSE_S: Final = 0.5
STUCK_S: Final = 120.0
"""Nothing has got a verdict for so long: somebody has to look."""
_JSON: Final = {"content-type": "application/json"}

Answers = dict[tuple[str, str], dict[str, Any]]
"""Platform and id → the first answer to the event: an EventAnswer or a Problem."""


async def send(
    api: str, keys: Mapping[str, str], traffic: Sequence[tuple[Sent, Label]], *, window: int, progress: Progress, task: TaskID
) -> Answers:
    """Send all, in windows of so many events; within one each platform sends for itself. Raises SystemExit: a body was not taken."""
    answers: Answers = {}
    async with httpx.AsyncClient(base_url=api, timeout=60) as client:
        for start in range(0, len(traffic), window):
            part = traffic[start : start + window]
            bodies: dict[str, list[Sent]] = {}
            for sent, _ in part:
                bodies.setdefault(sent.platform, []).append(sent)
            results = await asyncio.gather(*(_post(client, keys[platform], body) for platform, body in bodies.items()))
            for (platform, body), found in zip(bodies.items(), results, strict=True):
                for sent, answer in zip(body, found, strict=True):
                    answers.setdefault((platform, _id(sent)), answer)
            progress.update(task, advance=len(part))
    return answers


async def _post(client: httpx.AsyncClient, key: str, events: Sequence[Sent]) -> list[dict[str, Any]]:
    body = b"[" + b",".join(bytes(sent.event) for sent in events) + b"]"
    for _ in range(TRIES):
        answer = await client.post("/v1/events/batch", content=body, headers=_JSON | {"authorization": f"Bearer {key}"})
        if answer.status_code not in {429, 503}:
            break
        await asyncio.sleep(PAUSE_S)
    if answer.status_code != 200:
        raise SystemExit(f"live: a body was answered {answer.status_code}: {answer.text[:500]}")
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


class _Named(msgspec.Struct):
    id: str


def _id(sent: Sent) -> str:
    return msgspec.json.decode(sent.event, type=_Named).id


async def until_judged(database_url: str, progress: Progress, task: TaskID) -> None:
    """Wait until nothing waits for a verdict. Raises SystemExit when nothing moves."""
    connection = await asyncpg.connect(database_url)
    try:
        most = left = await connection.fetchval("SELECT count(*) FROM screening WHERE state = 0")
        progress.update(task, total=most)
        patience = STUCK_S
        while left:
            await asyncio.sleep(PAUSE_S)
            before, left = left, await connection.fetchval("SELECT count(*) FROM screening WHERE state = 0")
            patience = STUCK_S if left < before else patience - PAUSE_S
            if patience <= 0:
                raise SystemExit(f"live: {left:,} events have waited for a verdict for {STUCK_S:.0f} s")
            progress.update(task, completed=most - left)
    finally:
        await connection.close()

"""Fraud cases made by hand, as the judge would make them, and operators who decide them."""

from datetime import timedelta
from typing import Any

import msgspec

from schemas.fraud import FraudDecisionBody
from service.flows import fraud_cases, fraud_reject
from service.flows.administer import Change
from service.projection import Projection
from tests import books
from tests.worlds import World

CHANGE = Change(actor="operator:1")
REASONS = [
    {"signal": "burst", "sentence": "9 events within an hour.", "share": 0.7},
    {"signal": "door", "sentence": "Too many.", "share": 0.3},
]


async def a_case(world: World, **more: Any) -> int:
    """An open case without events; its number."""
    (row,) = await world.rows(
        """INSERT INTO fraud_case (number, program, ring, status, score, opened_at, updated_at)
           VALUES (nextval('number'), $1, 1, 'open', $2, now(), now()) RETURNING number""",
        more.get("program", world.program), more.get("score", 9_000),
    )  # fmt: skip
    return int(row["number"])


async def hold(
    world: World, *ids: str, case: int | None = None, platform: str = "shop", deadline: timedelta = timedelta(days=7),
    at_deadline: str = "release", score: int = 9_000, settled: bool = False,
) -> int:  # fmt: skip
    """Put these events, by their platform's ids, into a case (None: a new one), held or as they settled; its number."""
    number = await a_case(world, score=score) if case is None else case
    for id_ in ids:
        (event,) = await world.rows(
            "SELECT bucket, account, number, points FROM event WHERE platform = $1 AND id = $2", world.platforms[platform].platform, id_
        )
        key = (event["bucket"], event["account"], event["number"])
        await world.rows("DELETE FROM screening WHERE bucket = $1 AND event = $2", key[0], key[2])
        if not settled:
            await world.rows(
                "INSERT INTO screening (bucket, account, event, program, state) VALUES ($1, $2, $3, $4, 1)", *key, world.program
            )
        await world.rows(
            """INSERT INTO fraud_case_event (bucket, account, event, program, fraud_case, points, score, reasons, found, state, held_at, deadline, at_deadline)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'arrival', $9, now(), CASE WHEN $9 = 'held' THEN now() + $10::interval END,
                       CASE WHEN $9 = 'held' THEN $11 END)""",
            *key, world.program, number, event["points"], score, msgspec.json.encode(REASONS).decode(), "settled" if settled else "held",
            deadline, at_deadline,
        )  # fmt: skip
        await world.rows(
            """INSERT INTO verdict (program, seq, bucket, account, event, points, outcome, enforced, model, score, own, strengths, judged_at)
               SELECT $4, coalesce(max(seq), 0) + 1, $1, $2, $3, $5, 2, true, 0, $6::smallint, $6::smallint, '{"burst": 4}', now() FROM verdict WHERE program = $4""",
            *key, world.program, event["points"], score,
        )  # fmt: skip
    return number


async def decide(
    world: World, case: int, decision: Any, *, by: int, events: Any = None, note: str | None = None, connection: Any = None
) -> fraud_cases.Decided:
    """Only decided: `carry_out` does it."""
    body = FraudDecisionBody(decision=decision, note=note, events=events)

    async def on(conn: Any) -> fraud_cases.Decided:
        return await fraud_cases.decide(conn, case, body, program=world.program, operator=by, change=CHANGE)

    if connection is not None:
        return await on(connection)
    async with world.pool.acquire() as conn:
        return await on(conn)


async def carry_out(world: World, case: int, projection: Projection) -> int:
    async with world.pool.acquire() as conn:
        return await fraud_reject.carry_out(conn, projection, world.knowledge, case)


async def sweep(world: World, projection: Projection, *, empty: bool = False) -> int:
    return await fraud_reject.sweep(world.pool, projection, world.knowledge, empty=empty)


async def past_deadline(world: World) -> None:
    """Everybody's time to decide is over."""
    await world.rows("UPDATE fraud_case_event SET deadline = now() - interval '1 s' WHERE state = 'held'")


async def states(world: World, case: int) -> dict[str, str]:
    """State of each event of a case, by its platform's id."""
    rows = await world.rows(
        "SELECT f.id, e.state FROM fraud_case_event e JOIN event f ON f.bucket = e.bucket AND f.number = e.event WHERE e.fraud_case = $1",
        case,
    )
    return {row["id"]: row["state"] for row in rows}


async def status(world: World, case: int) -> str:
    return str((await world.rows("SELECT status FROM fraud_case WHERE number = $1", case))[0]["status"])


async def number_of(world: World, id_: str) -> str:
    """How an event is called in its case."""
    return str((await world.rows("SELECT number FROM event WHERE id = $1", id_))[0]["number"])


async def labels(world: World) -> list[bool]:
    return [row["fraud"] for row in await world.rows("SELECT fraud FROM fraud_label ORDER BY event")]


async def audited(world: World) -> list[tuple[str, str]]:
    rows = await world.rows("SELECT action, actor FROM audit WHERE subject LIKE 'fraud_case:%' ORDER BY id")
    return [(row["action"].removeprefix("fraud_case."), row["actor"]) for row in rows]


async def told(world: World) -> list[dict[str, Any]]:
    return [msgspec.json.decode(row["data"]) for row in await world.rows("SELECT data FROM outbox ORDER BY number")]


async def sound(world: World) -> None:
    async with world.pool.acquire() as conn:
        assert await books.faults(conn) == {}

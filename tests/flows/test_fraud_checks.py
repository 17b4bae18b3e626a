"""`check` on fraud cases: a world with some of each is clean, and one tampered row breaks exactly its invariant."""

from typing import Any

import pytest

from service.flows.check import check
from service.projection import Projection
from tests.adjusting import operator
from tests.deliveries import refill
from tests.flows.test_check import broken, change, delete, execute
from tests.fraud_cases import carry_out, decide, hold, number_of, past_deadline, sweep
from tests.worlds import World


@pytest.fixture
async def judged(world: World, projection: Projection) -> World:
    """Events that are held, settled, approved, rejected, released; a case that waits for a second operator."""
    await world.campaign(code="refills", action="activity", award={"kind": "fixed", "points": 7})
    done = [refill(f"r-{n}", f"c-{n % 3}") for n in range(9)]
    await world.send(*done)
    ids = [event["id"] for event in done]
    one = await operator(world)
    released = await hold(world, ids[0], ids[1])
    await past_deadline(world)
    await sweep(world, projection)
    assert released
    for decision, id_ in (("approve", ids[2]), ("reject", ids[3])):
        case = await hold(world, id_)
        await decide(world, case, decision, by=one)
        await carry_out(world, case, projection)
    some = await hold(world, ids[4], ids[5])
    await decide(world, some, "reject", by=one, events=[await number_of(world, ids[4])])
    await carry_out(world, some, projection)
    await world.rows("INSERT INTO fraud_policy (program, alone_points) VALUES ($1, 0)", world.program)
    await decide(world, await hold(world, ids[6]), "approve", by=one)
    await hold(world, ids[7])
    return world


FRAUD = "fraud_cases"
TAMPERING = [
    # number 12
    (delete("fraud_case_event", "state = 'held'"), FRAUD),
    (delete("screening", "state = 1"), FRAUD),
    (change("screening", "state = 2", "state = 1"), FRAUD),
    (delete("screening", "state = 2"), FRAUD),
    (change("fraud_case_event", "state = 'rejected'", "state = 'approved'"), FRAUD),
    (change("fraud_case", "status = 'closed', closed_at = now()", "status = 'open'"), FRAUD),
    (change("fraud_case", "status = 'open', closed_at = NULL", "status = 'closed'"), FRAUD),
    (change("fraud_case", "status = 'open'", "status = 'proposed'"), FRAUD),
    (change("fraud_decision", "status = 'lapsed', decided_at = now()", "status = 'pending'"), FRAUD),
    # number 9
    (change("fraud_case_event", "deadline = now() - interval '61 s'", "state = 'held'"), "deadlines"),
    (change("fraud_decision", "status = 'done', alone = true, decided_at = now() - interval '61 s'", "status = 'pending'"), f"deadlines {FRAUD}"),
]  # fmt: skip
TABLES = ("fraud_case_event", "fraud_case", "fraud_decision", "screening")


async def test_one_tampered_row_breaks_exactly_its_invariant(judged: World, projection: Projection) -> None:
    assert broken(await check(judged.pool, projection)) == {}
    await execute(judged, "CREATE SCHEMA kept", *(f"CREATE TABLE kept.{table} AS TABLE {table}" for table in TABLES))
    found: dict[str, Any] = {}
    for sql, _ in TAMPERING:
        assert (await execute(judged, sql)).split()[-1] != "0", f"changed nothing: {sql}"
        found[sql] = broken(await check(judged.pool, projection))
        for table in TABLES:
            await execute(judged, f"DELETE FROM {table}", f"INSERT INTO {table} SELECT * FROM kept.{table}")
    assert {sql: (names, found[sql]) for sql, names in TAMPERING if " ".join(found[sql]) != names} == {}
    assert broken(await check(judged.pool, projection)) == {}

"""Verdicts: what waits for one does not settle, what is held goes to a case, and a judge that ends does not leave a gap."""

import asyncio
from typing import Any

import pytest

from service.domain.fraud.mind import Mind
from service.domain.fraud.model import Model
from service.flows import judge as flow
from service.flows.judge import Judging
from service.flows.settle import settle_due
from service.projection import Projection
from tests.worlds import HASH_KEY, World, order_paid

pytestmark = pytest.mark.anyio
EVERYTHING = Model(hold_bp=1)
"""Holds whatever earns."""


class Bench:
    """A world, and what workers do in it, step by step."""

    def __init__(self, world: World, projection: Projection) -> None:
        self.world = world
        self.projection = projection

    def judging(self, *, mode: Any = "enforce", model: Model | None = None, timeout_s: float = 5.0) -> Judging:
        made = Judging(self.world.pool, self.world.knowledge, mode=mode, hash_key=HASH_KEY, check_timeout_s=timeout_s)
        if model is not None:
            made.model = model
        return made

    async def settle(self) -> int:
        return await settle_due(self.world.pool, self.projection, stripe=1, buckets=1_024, batch_events=100, screened=True)

    async def verdicts(self) -> list[dict[str, Any]]:
        return await self.world.rows("SELECT seq, outcome, enforced, points, score FROM verdict ORDER BY program, seq")

    async def judge(self) -> dict[str, Any]:
        (row,) = await self.world.rows("SELECT seq, taking, tries FROM judge")
        return row


@pytest.fixture
def bench(world: World, projection: Projection) -> Bench:
    return Bench(world, projection)


async def test_nothing_settles_before_its_verdict(bench: Bench) -> None:
    await bench.world.campaign()
    await bench.world.credit(order_paid())
    assert await bench.settle() == 0
    assert await bench.judging().judge_waiting() == 1
    assert await bench.settle() == 1
    assert await bench.world.rows("SELECT FROM screening") == []
    assert [(v["seq"], v["outcome"], v["points"]) for v in await bench.verdicts()] == [(1, 1, 10)]


async def test_what_came_together_is_judged_in_the_order_in_which_it_happened(bench: Bench) -> None:
    await bench.world.campaign()
    happened = ["d", "b", "a", "c"]
    await bench.world.send(*(order_paid(order=o, occurred_at=f"2025-03-01T12:0{minute}:00Z") for minute, o in enumerate(happened)))
    await bench.judging().judge_waiting()
    judged = await bench.world.rows("SELECT e.id FROM verdict v JOIN event e ON e.number = v.event ORDER BY v.seq")
    assert [row["id"] for row in judged] == [f"{order}:paid" for order in happened], "the numbers of one transaction follow the ids"


async def test_what_is_held_does_not_settle_and_goes_to_a_case(bench: Bench) -> None:
    await bench.world.campaign()
    for order in ("a-1", "a-2"):
        await bench.world.credit(order_paid(order=order))
    await bench.world.credit(order_paid("c-2"))
    assert await bench.judging(model=EVERYTHING).judge_waiting() == 3
    assert await bench.settle() == 0
    cases = await bench.world.rows(
        "SELECT c.number, count(*) AS events, sum(points) AS points, bool_and(deadline - held_at = '7 days' AND at_deadline = 'release') AS due "
        "FROM fraud_case c JOIN fraud_case_event e ON e.fraud_case = c.number WHERE e.state = 'held' AND c.status = 'open' GROUP BY 1 ORDER BY 1"
    )
    assert sorted((c["events"], c["points"], c["due"]) for c in cases) == [(1, 10, True), (2, 20, True)], "one for each ring"
    told = await bench.world.rows("SELECT type, data::json ->> 'event' AS event FROM outbox ORDER BY number")
    assert sorted(t["event"] for t in told)[:2] == ["a-1:paid", "a-2:paid"]
    assert {t["type"] for t in told} == {"event.held"}
    (account,) = await bench.world.rows(
        "SELECT pending, available FROM account a JOIN consumer_reference r ON r.account = a.id WHERE reference = 'c-1'"
    )
    assert account == {"pending": 20, "available": 0}


async def test_in_shadow_mode_verdicts_are_told_and_nothing_is_held(bench: Bench) -> None:
    await bench.world.campaign()
    await bench.world.credit(order_paid())
    await bench.judging(mode="shadow", model=EVERYTHING).judge_waiting()
    assert [(v["outcome"], v["enforced"]) for v in await bench.verdicts()] == [(2, False)]
    assert await bench.world.rows("SELECT FROM fraud_case") == []
    assert await bench.settle() == 1


async def test_who_switches_the_checks_off_lets_nothing_go_that_is_held(bench: Bench) -> None:
    await bench.world.campaign()
    await bench.world.credit(order_paid("c-1"))
    await bench.judging(model=EVERYTHING).judge_waiting()
    await bench.world.credit(order_paid("c-2"))
    assert await flow.drain(bench.world.pool) == 1
    settled = await settle_due(bench.world.pool, bench.projection, stripe=1, buckets=1_024, batch_events=100, screened=False)
    assert settled == 1
    assert await bench.world.rows("SELECT state FROM screening") == [{"state": 1}]


async def test_a_check_that_raises_holds_its_event_and_alerts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.world.campaign()
    for order in ("o-1", "o-2", "o-3"):
        await bench.world.credit(order_paid(order, order=order))
    take = Mind.take

    def broken(mind: Mind, case: Any) -> Any:
        if case.event.order_id == "o-2":
            raise ZeroDivisionError("a signal")
        return take(mind, case)

    monkeypatch.setattr(Mind, "take", broken)
    assert await bench.judging().judge_waiting() == 3
    assert [v["outcome"] for v in await bench.verdicts()] == [1, 4, 1]
    assert await bench.settle() == 2
    held = await bench.world.rows("SELECT found, state FROM fraud_case_event")
    assert held == [{"found": "unchecked", "state": "held"}]
    (alert,) = await bench.world.rows("SELECT kind, words FROM alert WHERE resolved_at IS NULL")
    assert alert["kind"] == "fraud_check"
    assert "ZeroDivisionError" in alert["words"]


async def test_a_check_that_hangs_holds_its_event_after_three_attempts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.world.campaign()
    for order in ("o-1", "o-2", "o-3"):
        await bench.world.credit(order_paid(order, order=order))
    take, hanging = Mind.take, asyncio.Event()

    def hangs(mind: Mind, case: Any) -> Any:
        if case.event.order_id == "o-2":
            while not hanging.is_set():  # until the test is over
                pass
        return take(mind, case)

    monkeypatch.setattr(Mind, "take", hangs)
    judging = bench.judging(timeout_s=0.3)
    try:
        for _ in range(6):
            try:
                await judging.judge_waiting()
            except flow.JudgeStuck:
                continue
            finally:
                await bench.world.rows("UPDATE lease SET until = '-infinity' RETURNING 1")
    finally:
        hanging.set()
    assert {v["outcome"] for v in await bench.verdicts()} == {1, 4}
    assert len(await bench.verdicts()) == 3, "each event once"
    assert await bench.settle() == 2
    assert (await bench.judge())["taking"] == []


async def test_another_judge_goes_on_with_the_same_memory(bench: Bench) -> None:
    """What the second one knows is what the first one saw: it is rebuilt from PostgreSQL."""
    await bench.world.campaign()
    for n in range(30):
        await bench.world.credit(order_paid("c-1", order=f"o-{n}"))
    first = bench.judging()
    await first.judge_waiting()
    for n in range(30, 40):
        await bench.world.credit(order_paid("c-1", order=f"o-{n}"))
    second = bench.judging()
    await second.judge_waiting()
    alone = bench.judging()
    await bench.world.rows("DELETE FROM verdict RETURNING 1")
    await bench.world.rows("UPDATE judge SET seq = 0 RETURNING 1")
    await bench.world.rows("INSERT INTO screening SELECT bucket, account, number, program FROM event RETURNING 1")
    before = first._minds, second._minds
    assert before[0] is not before[1]
    await alone.judge_waiting()
    ((_, mind),) = alone._minds.values()
    ((_, rebuilt),) = second._minds.values()
    assert rebuilt._accounts == mind._accounts
    assert (await bench.judge())["seq"] == 40


async def test_two_judges_never_give_two_verdicts(bench: Bench) -> None:
    await bench.world.campaign()
    for n in range(60):
        await bench.world.credit(order_paid(f"c-{n}", order=f"o-{n}"))
    await asyncio.gather(*(bench.judging().judge_waiting() for _ in range(4)))
    assert [v["seq"] for v in await bench.verdicts()] == list(range(1, 61))


async def test_who_lost_its_lease_writes_no_verdict(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paused while it judged; another has judged the same meanwhile."""
    await bench.world.campaign()
    await bench.world.credit(order_paid())
    slow, other = bench.judging(), bench.judging()
    judge = slow._judge

    async def paused(*arguments: Any, **named: Any) -> Any:
        verdicts = await judge(*arguments, **named)
        await bench.world.rows("UPDATE lease SET until = '-infinity' RETURNING 1")
        assert await other.judge_waiting() == 1
        return verdicts

    monkeypatch.setattr(slow, "_judge", paused)
    assert await slow.judge_waiting() == 0
    assert [v["seq"] for v in await bench.verdicts()] == [1]

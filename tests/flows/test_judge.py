"""Verdicts: what waits for one does not settle, what is held goes to a case, and a judge that ends does not leave a gap."""

import asyncio
import time
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from service.domain.fraud.history import Again
from service.domain.fraud.judging import Judging
from service.domain.fraud.model import Model, Verdict
from service.flows import judge as flow
from service.flows.judge import Judges
from service.flows.settle import settle_due
from service.fraud_memory import Memory
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

    def judging(self, *, mode: Any = "enforce", model: Model | None = None, timeout_s: float = 5.0, redis: Redis | None = None) -> Judges:
        memory = Memory(redis or self.projection.redis, epoch=1)
        made = Judges(
            self.world.pool, self.world.knowledge, memory, mode=mode, hash_key=HASH_KEY, check_timeout_s=timeout_s, save_every_s=0
        )  # fmt: skip
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


async def test_what_is_free_settles_without_what_is_not(bench: Bench) -> None:
    """Of one account."""
    await bench.world.campaign()
    await bench.world.credit(order_paid())
    await bench.judging().judge_waiting()
    await bench.world.credit(order_paid())
    assert await bench.settle() == 1
    (account,) = await bench.world.rows("SELECT pending, available FROM account")
    assert account == {"pending": 10, "available": 10}


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


async def meet(bench: Bench, judging: Judges) -> None:
    """c-1 pays by the card of c-2: what were two rings is one."""
    for consumer in ("c-1", "c-2"):
        await bench.world.credit(order_paid(consumer, attributes={"payment": "p-2"}))
        await judging.judge_waiting()


async def test_cases_become_one_when_their_rings_do(bench: Bench) -> None:
    await bench.world.campaign()
    judging = bench.judging(model=EVERYTHING)
    for consumer, card in (("c-1", "p-1"), ("c-2", "p-2")):
        await bench.world.credit(order_paid(consumer, attributes={"payment": card}))
    await judging.judge_waiting()
    assert len(await bench.world.rows("SELECT FROM fraud_case WHERE status = 'open'")) == 2
    await meet(bench, judging)
    cases = await bench.world.rows(
        "SELECT c.status, c.merged_into IS NOT NULL AS merged, count(e.event) AS events FROM fraud_case c "
        "LEFT JOIN fraud_case_event e ON e.fraud_case = c.number GROUP BY c.number ORDER BY c.number"
    )
    assert cases == [{"status": "open", "merged": False, "events": 4}, {"status": "closed", "merged": True, "events": 0}]


async def test_what_was_decided_stays_in_the_case_that_it_was_decided_in(bench: Bench) -> None:
    """One that waits to be carried out, too: its case is closed by whoever carries it out."""
    await bench.world.campaign()
    judging = bench.judging(model=EVERYTHING)
    for consumer, card in (("c-1", "p-1"), ("c-2", "p-2"), ("c-2", "p-2")):
        await bench.world.credit(order_paid(consumer, attributes={"payment": card}))
    await judging.judge_waiting()
    # Of the newer case, whichever that is: the older one stays when they become one.
    await bench.world.rows(
        "UPDATE fraud_case_event SET reversal = 'review:1' WHERE event = ("
        "SELECT max(event) FROM fraud_case_event WHERE fraud_case = (SELECT max(number) FROM fraud_case))"
    )
    await meet(bench, judging)
    cases = await bench.world.rows(
        "SELECT c.status, count(e.event) AS events FROM fraud_case c LEFT JOIN fraud_case_event e ON e.fraud_case = c.number "
        "GROUP BY c.number ORDER BY c.number"
    )
    assert cases == [{"status": "open", "events": 4}, {"status": "open", "events": 1}]


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
    take = Judging.judge_event

    def broken(judging: Judging, event: Any, facts: Any) -> Any:
        if event.order_id == "o-2":
            raise ZeroDivisionError("a signal")
        return take(judging, event, facts)

    monkeypatch.setattr(Judging, "judge_event", broken)
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
    take, hanging = Judging.judge_event, asyncio.Event()

    def hangs(judging: Judging, event: Any, facts: Any) -> Any:
        if event.order_id == "o-2":
            while not hanging.is_set():  # until the test is over
                time.sleep(0.01)
        return take(judging, event, facts)

    monkeypatch.setattr(Judging, "judge_event", hangs)
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


async def credited(bench: Bench, first: int, last: int) -> None:
    for n in range(first, last):
        await bench.world.credit(order_paid(f"c-{n % 7}", order=f"o-{n}", attributes={"device": f"d-{n % 5}"}))


@pytest.mark.parametrize("redis_is", ["there", "flushed", "gone"])
async def test_another_judge_goes_on_with_the_same_memory(bench: Bench, redis_is: str) -> None:
    """From the snapshot in Redis or, without it, from PostgreSQL; and nobody's event passes meanwhile."""
    await bench.world.campaign()
    await credited(bench, 0, 30)
    one = bench.judging()
    await one.judge_waiting()
    await credited(bench, 30, 40)
    redis = None
    if redis_is == "flushed":
        await bench.projection.redis.flushdb()
    elif redis_is == "gone":
        redis = Redis.from_url("redis://127.0.0.1:1", socket_connect_timeout=0.5)
    second = bench.judging(redis=redis)
    await second.judge_waiting()
    await credited(bench, 40, 45)
    await one.judge_waiting()
    verdicts = await bench.verdicts()
    assert [v["seq"] for v in verdicts] == list(range(1, 46))
    snapshot = await Memory(bench.projection.redis, epoch=1).load(1)
    assert snapshot is not None
    assert snapshot.seq == 45
    for table in ("verdict", "screening", "outbox", "fraud_case_event", "fraud_case"):
        await bench.world.rows(f"DELETE FROM {table}")
    await bench.world.rows("UPDATE judge SET seq = 0 RETURNING 1")
    await bench.projection.redis.flushdb()
    await bench.world.rows("INSERT INTO screening SELECT bucket, account, number, program FROM event RETURNING 1")
    await bench.judging().judge_waiting()
    assert await bench.verdicts() == verdicts, "who never was interrupted judges the same"


async def test_who_took_long_to_remember_goes_on_from_there(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than its lease lasts; another one has judged meanwhile. Two that take turns at that would never judge anything."""
    await bench.world.campaign()
    await bench.world.credit(order_paid())
    slow, other = bench.judging(), bench.judging()
    remember = slow._mind

    async def slowly(*arguments: Any) -> Any:
        mind = await remember(*arguments)
        await bench.world.rows("UPDATE lease SET until = '-infinity' RETURNING 1")
        assert await other.judge_waiting() == 1
        return mind

    monkeypatch.setattr(slow, "_mind", slowly)
    assert await slow.judge_waiting() == 0
    monkeypatch.undo()
    (mind,) = slow.minds.values()
    await bench.world.credit(order_paid())
    assert await slow.judge_waiting() == 1
    assert list(slow.minds.values()) == [mind], "it took in what the other one had judged"
    assert mind.seq == 2


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


async def numbers(bench: Bench) -> dict[str, tuple[int, int]]:
    """Account and number of each event, by its id."""
    return {r["id"]: (r["account"], r["number"]) for r in await bench.world.rows("SELECT id, account, number FROM event")}


def shows(monkeypatch: pytest.MonkeyPatch, event: str, earlier: list[tuple[int, int]]) -> None:
    """When this event is judged, these earlier ones (account, number) look different."""
    judge = Judging.judge_event

    def found(judging: Judging, of: Any, facts: Any) -> Any:
        judged = judge(judging, of, facts)
        if of.id != event:
            return judged
        verdict = Verdict(outcome="hold", score_bp=9_000, own=1.0, model=0, fired=((0, 3.0),))
        again = tuple(Again(account_id=a, number=n, verdict=verdict, strengths=judged.strengths) for a, n in earlier)
        return msgspec.structs.replace(judged, again=again)

    monkeypatch.setattr(Judging, "judge_event", found)


async def test_what_came_before_is_held_or_listed_when_its_ring_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.world.campaign(hold="P14D")
    await bench.world.credit(order_paid(order="o-pending"))
    await bench.world.credit(order_paid(order="o-settled"))
    judges = bench.judging()
    await judges.judge_waiting()
    known = await numbers(bench)
    for table in ("due", "award"):
        await bench.world.rows(f"UPDATE {table} SET due_at = '2026-01-01T00:00Z' WHERE event = $1", known["o-settled:paid"][1])
    assert await bench.settle() == 1
    shows(monkeypatch, "o-odd:paid", [known["o-pending:paid"], known["o-settled:paid"]])
    await bench.world.credit(order_paid(order="o-odd"))
    await judges.judge_waiting()
    found = await bench.world.rows(
        "SELECT e.id, c.state, c.found, c.deadline IS NOT NULL AS due, s.state AS screened FROM fraud_case_event c "
        "JOIN event e ON e.number = c.event LEFT JOIN screening s ON s.event = c.event ORDER BY e.id"
    )
    assert found == [
        {"id": "o-pending:paid", "state": "held", "found": "look_back", "due": True, "screened": 1},
        {"id": "o-settled:paid", "state": "settled", "found": "look_back", "due": False, "screened": None},
    ]
    told = await bench.world.rows("SELECT data::json ->> 'event' AS event FROM outbox")
    assert told == [{"event": "o-pending:paid"}]


async def test_what_settles_at_this_moment_is_not_held(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account's lock: a settlement that has begun is waited for."""
    await bench.world.campaign(hold="P14D")
    await bench.world.credit(order_paid(order="o-1"))
    judges = bench.judging()
    await judges.judge_waiting()
    known = await numbers(bench)
    account, number = known["o-1:paid"]
    shows(monkeypatch, "o-2:paid", [(account, number)])
    await bench.world.credit(order_paid("c-2", order="o-2"))
    async with bench.world.pool.acquire() as settling:
        transaction = settling.transaction()
        await transaction.start()
        await settling.execute("SELECT FROM account WHERE id = $1 FOR NO KEY UPDATE", account)
        await settling.execute("DELETE FROM due WHERE event = $1", number)
        judged = asyncio.create_task(judges.judge_waiting())
        await asyncio.sleep(0.5)
        assert not judged.done()
        await transaction.commit()
    assert await judged == 1
    assert await bench.world.rows("SELECT state, found FROM fraud_case_event") == [{"state": "settled", "found": "look_back"}]
    assert await bench.world.rows("SELECT FROM screening") == []


@pytest.mark.parametrize("decision", ["approve", "reject"])
async def test_a_judge_learns_what_persons_decide_and_the_next_one_knows_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, decision: str
) -> None:
    await bench.world.campaign()
    await bench.world.credit(order_paid())
    await bench.judging(model=EVERYTHING).judge_waiting()
    await bench.world.rows(
        "WITH o AS (INSERT INTO operator (email, password_hash, role) VALUES ('a@b.c', 'x', 'fraud') RETURNING id) "
        "INSERT INTO fraud_decision (number, program, fraud_case, decision, events, points, alone, status, proposed_by, proposed_at, decided_at) "
        "SELECT nextval('number'), c.program, c.fraud_case, $1, ARRAY[c.event], c.points, true, 'done', o.id, now(), now() FROM fraud_case_event c, o",
        decision,
    )
    learnt: list[tuple[str, list[int]]] = []
    monkeypatch.setattr(Judging, "clear", lambda _, accounts: learnt.append(("approve", list(accounts))))
    monkeypatch.setattr(Judging, "convict", lambda _, accounts: learnt.append(("reject", list(accounts))) or ())
    await bench.judging().judge_waiting()
    ((account, _),) = (await numbers(bench)).values()
    assert learnt == [(decision, [account])]
    assert await bench.world.rows("SELECT told_seq FROM fraud_decision") == [{"told_seq": 1}]
    await bench.judging().judge_waiting()
    assert len(learnt) == 1, "nothing waits"
    await bench.world.credit(order_paid())
    await bench.judging().judge_waiting()
    assert learnt == [(decision, [account])] * 2, "the memory that it takes over may be older than the decision"

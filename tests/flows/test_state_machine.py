"""Everything a platform may report, in any order, one by one and in batches, held against a small pure model after every step.

Short by default; `make test-long` (HYPOTHESIS_PROFILE=long) looks for hours' worth of trouble in minutes.
"""

import asyncio
import itertools
import json
import os
from collections import Counter
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeVar

import asyncpg
import pytest
import uvloop
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from service.domain.errors import IdReused
from service.domain.intake import read_fact
from service.flows.knowledge import Knowledge
from service.flows.receive import preview
from service.store import settlement
from tests import books
from tests.model import Campaign, Expected, Fact, Model
from tests.tampering import allow
from tests.worlds import HASH_KEY, World

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
COMMON = settings(
    deadline=None, derandomize=not LONG, print_blob=True, report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)  # fmt: skip
MACHINE = settings(COMMON, max_examples=2_000 if LONG else 35, stateful_step_count=60 if LONG else 25)
PERMUTATIONS = settings(COMMON, max_examples=3_000 if LONG else 40)

ZONE = "Asia/Shanghai"
CAMPAIGNS = [
    Campaign("goods", "purchase", ("each", 10), certified_only=True, caps={"order": 60, "day": 90}),
    Campaign("spend", "purchase", ("money", 1, "3.00"), on_hold=True, budget={"budget": 70}),
    Campaign("bonus", "purchase", ("more", "0.5", "goods"), caps={"year": 80}),
    Campaign("pack", "packaging", ("each", 7), caps={"total": 40}),
    Campaign("box", "return", ("each", 5), budget={"budget_day": 40, "budget": 100}),
    Campaign("act", "activity", ("each", 4), on_hold=True, caps={"day": 10}),
]
UNLIMITED = [
    Campaign("goods", "purchase", ("each", 10), certified_only=True, caps={"order": 60}),
    Campaign("spend", "purchase", ("money", 1, "3.00"), on_hold=True),
    Campaign("pack", "packaging", ("each", 7), caps={"total": 17}),
]
FACT_TABLES = [
    "event", "parked", "award", "due", "account", "consumer_reference", "registry", "cap_usage", "budget",
    "entry", "lot", "lot_use", "rollup", "campaign_consumer", "claim", "trip", "waiting_return", "packaging_sent", "packaging_back",
]  # fmt: skip
CLASS = "ship_in_own_container"
LATER = timedelta(days=30)
T = TypeVar("T")


class Real:
    """The real flows on a real database, one event loop for all examples."""

    def __init__(self, dsn: str) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._dsn = dsn
        self._numbers = itertools.count(1)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def open(self, campaigns: list[Campaign]) -> None:
        async def found() -> None:
            pool = await asyncpg.create_pool(self._dsn, min_size=1, max_size=2)
            async with pool.acquire() as conn:
                await allow(conn)  # `forget` empties the book
            self.world = await World(pool).found(returns_compared=False)
            for campaign in campaigns:
                await self.world.campaign(**_body(campaign))

        self.run(found())

    def close(self) -> None:
        self.run(self.world.pool.close())
        self._runner.close()

    def forget(self) -> None:
        """Begin again, with the campaigns only."""
        self.run(self.world.rows(f"WITH {', '.join(f't{i} AS (DELETE FROM {t})' for i, t in enumerate(FACT_TABLES))} SELECT"))
        self.world.knowledge = Knowledge()

    async def send(self, platform: str, facts: list[Fact]) -> list[Expected]:
        outcomes = await self.world.send(*facts, platform=platform)
        answers = [None if o.error else json.loads(o.answer) for o in outcomes]
        assert all(isinstance(o.error, IdReused) for o in outcomes if o.error)
        return [
            Expected(None) if a is None else Expected(a["status"], a["points"], o.replayed) for a, o in zip(answers, outcomes, strict=True)
        ]

    async def preview(self, platform: str, fact: Fact) -> Expected:
        real = read_fact(json.dumps(fact).encode(), self.world.platforms[platform], now=datetime.now(UTC), hash_key=HASH_KEY)
        async with self.world.pool.acquire() as connection:
            answer = await preview(connection, real, self.world.knowledge, None)
        return Expected(answer.status, answer.points)

    async def settle(self, *, everything: bool = False) -> None:
        async with self.world.pool.acquire() as connection, connection.transaction():
            now = await connection.fetchval("SELECT now()") + (LATER if everything else timedelta())
            accounts = await settlement.lock_due_accounts(connection, list(range(1024)), now, 1_000)
            await settlement.settle(connection, accounts, now, 1, {self.world.program: now.replace(minute=0, second=0, microsecond=0)})

    async def state(self) -> dict[str, Any]:
        """The same as `state_of`."""
        async with self.world.pool.acquire() as connection:
            accounts = await connection.fetch(
                "SELECT p.code, r.reference, a.pending, a.available, a.debt FROM account a "
                "JOIN consumer_reference r ON r.bucket = a.bucket AND r.account = a.id JOIN platform p ON p.id = r.platform"
            )
            kept = await connection.fetch(
                "SELECT c.code, sum(w.points - w.reversed) FROM award w JOIN campaign c ON c.id = w.campaign GROUP BY 1"
            )
            caps = await connection.fetch(
                "SELECT c.code, u.span, p.code, r.reference, u.day, u.used FROM cap_usage u JOIN campaign c ON c.id = u.campaign "
                "JOIN consumer_reference r ON r.bucket = u.bucket AND r.account = u.account JOIN platform p ON p.id = r.platform WHERE u.used <> 0"
            )
            budgets = await connection.fetch(
                "SELECT c.code, b.day, isfinite(b.day), b.used FROM budget b JOIN campaign c ON c.id = b.campaign WHERE b.used <> 0"
            )
        spans = {1: ("day", str), 2: ("year", lambda day: str(day.year)), 3: ("total", lambda _: None)}
        used = {(code, spans[span][0], f"{p}:{ref}", spans[span][1](day)): points for code, span, p, ref, day, points in caps}
        used |= {(code, "budget_day" if daily else "budget", None, str(day) if daily else None): u for code, day, daily, u in budgets}
        return {
            "accounts": {f"{p}:{ref}": (pending, available, debt) for p, ref, pending, available, debt in accounts},
            "kept": {code: points for code, points in kept if points},
            "used": used,
        }

    async def faults(self) -> dict[str, Any]:
        async with self.world.pool.acquire() as connection:
            return await books.faults(connection)


def _body(campaign: Campaign) -> dict[str, Any]:
    match campaign.rule:
        case ("each", points):
            award: dict[str, Any] = {"kind": "fixed" if campaign.action == "activity" else "per_unit", "points": points}
        case ("money", points, per):
            award = {"kind": "per_amount", "points": points, "per": per, "currency": "CNY"}
        case ("more", factor, other):
            award = {"kind": "multiplier", "factor": str(float(factor) + 1), "of": [other]}
    names = {"day": "consumer_day", "year": "consumer_year", "total": "consumer_total", "order": "order"}
    budgets = {"budget": "points", "budget_day": "per_day"}
    return {
        "code": campaign.code, "action": campaign.action, "award": award, "when": "line.certified" if campaign.certified_only else "true",
        "hold": "P14D" if campaign.on_hold else "PT0S", "priority": 100 - CAMPAIGNS.index(campaign) if campaign in CAMPAIGNS else 100,
        "caps": {names[k]: v for k, v in campaign.caps.items()} or None, "budget": {budgets[k]: v for k, v in campaign.budget.items()} or None,
    }  # fmt: skip


def state_of(model: Model) -> dict[str, Any]:
    kept: Counter[str] = Counter()
    for award in model.awards:
        kept[award.campaign] += award.kept
    return {
        "accounts": {name: (a.pending, a.available, a.debt) for name, a in model.accounts.items()},
        "kept": {code: points for code, points in kept.items() if points},
        "used": {window: used for window, used in model.used.items() if used},
    }


# Facts -----------------------------------------------------------------------------------------------

PLATFORMS = st.sampled_from(["shop", "shop", "shop", "market"])
CONSUMERS = st.sampled_from(["c-1", "c-2", "c-3"])
SLOTS = st.sampled_from(["1", "2", "3", "4"])
TODAY = datetime.now(UTC).replace(hour=2, minute=0, second=0, microsecond=0) - timedelta(days=1)
DAYS = st.integers(0, 2).map(lambda n: (TODAY - timedelta(days=n)).isoformat())
LINES = st.lists(
    st.fixed_dictionaries(
        {"sku": st.sampled_from(["TP-01", "TP-01", "no-such"]), "quantity": st.sampled_from(["1", "2", "3", "2.5", 4])},
        optional={"unit_price": st.sampled_from(["3.99", "10.00", "0.50"]), "amount": st.sampled_from(["7.77", "30.00", "0.00"])},
    ),
    max_size=3,
)
PACKAGING = st.builds(lambda n: {"class": CLASS, "parcels": n}, st.integers(1, 3))
REFUNDED = {
    "r-a": {"lines": [{"id": "1", "quantity": "1"}]},
    "r-b": {"lines": [{"id": "1", "quantity": 1}, {"id": "2", "quantity": "0.5"}], "amount": "9.00"},
    "r-c": {"lines": [{"id": "2", "quantity": "9"}]},
    "r-d": {"amount": "4.20"},
    "r-e": {"amount": "1000.00"},
}
"""A refund's content is fixed by its id: a platform that says two things about one refund is no honest sender."""


@st.composite
def paid(draw: st.DrawFn) -> Fact:
    slot, lines = draw(SLOTS), draw(LINES)
    fact: Fact = {
        "id": f"{draw(st.sampled_from('pq'))}-{slot}", "type": "order.paid", "occurred_at": draw(DAYS), "consumer": draw(CONSUMERS),
        "order": {"id": slot, "currency": "CNY", "total": draw(st.sampled_from(["25.00", "60.00", "99.99", "0.00"]))},
        "lines": [{"id": str(n)} | line for n, line in enumerate(lines, start=1)],
    }  # fmt: skip
    return fact | ({"packaging": draw(PACKAGING)} if draw(st.booleans()) else {})


@st.composite
def about_order(draw: st.DrawFn) -> Fact:
    slot, kind, again = draw(SLOTS), draw(st.sampled_from(["refunded", "refunded", "cancelled", "fulfilled"])), draw(st.sampled_from("xy"))
    fact: Fact = {"type": f"order.{kind}", "occurred_at": TODAY.isoformat(), "order": {"id": slot}}
    if draw(st.booleans()):
        fact["consumer"] = draw(CONSUMERS)
    if kind == "refunded":
        name = draw(st.sampled_from(sorted(REFUNDED)))
        return fact | {"id": f"{name}-{slot}-{again}", "refund": {"id": name} | REFUNDED[name]}
    if kind == "fulfilled":
        fact["packaging"] = {"class": CLASS, "parcels": int(slot)}
    return fact | {"id": f"{kind}-{slot}-{again}"}


@st.composite
def alone(draw: st.DrawFn) -> Fact:
    fact: Fact = {"id": f"a-{draw(st.integers(0, 30))}", "occurred_at": draw(DAYS), "consumer": draw(CONSUMERS)}
    if draw(st.booleans()):
        return fact | {"type": "activity.completed", "activity": "refill"}
    returns = draw(st.lists(st.builds(lambda n: {"class": "foam_box", "quantity": n}, st.integers(1, 4)), min_size=1, max_size=2))
    return fact | {"type": "packaging.returned", "returns": returns}


FACTS = st.one_of(paid(), about_order(), about_order(), alone())


# The machine -----------------------------------------------------------------------------------------


class Machine(RuleBasedStateMachine):
    """Sends the same to both; they must agree on each answer, and on the whole state after every step."""

    real: ClassVar[Real]

    @initialize()
    def begin(self) -> None:
        self.real.forget()
        self.model = Model(CAMPAIGNS, zone=ZONE, certified={"TP-01"})
        self.sent: list[tuple[str, Fact]] = []

    @rule(platform=PLATFORMS, fact=FACTS, dry=st.booleans())
    def one(self, platform: str, fact: Fact, dry: bool) -> None:  # noqa: FBT001 - drawn
        tried = None
        if dry and f"{platform}:{fact['id']}" not in self.model.known:
            tried = self.real.run(self.real.preview(platform, fact))
        self._send(platform, [fact])
        if tried is not None:
            assert tried == self.model.known[f"{platform}:{fact['id']}"][1], "a dry run answers the same"

    @rule(platform=PLATFORMS, facts=st.lists(FACTS, min_size=2, max_size=7))
    def batch(self, platform: str, facts: list[Fact]) -> None:
        self._send(platform, facts)

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), changed=st.booleans())
    def repeat(self, data: st.DataObject, changed: bool) -> None:  # noqa: FBT001 - drawn
        platform, fact = data.draw(st.sampled_from(self.sent))
        again = dict(reversed(fact.items()))
        self._send(platform, [again | {"attributes": {"channel": "app"}} if changed else again])

    @rule(everything=st.booleans())
    def settle(self, everything: bool) -> None:  # noqa: FBT001 - drawn
        self.real.run(self.real.settle(everything=everything))
        self.model.settle(everything=everything)

    def _send(self, platform: str, facts: list[Fact]) -> None:
        expected = self.model.send(platform, facts)
        assert self.real.run(self.real.send(platform, facts)) == expected
        self.sent += [(platform, fact) for fact in facts]

    @invariant()
    def agree(self) -> None:
        assert self.real.run(self.real.state()) == state_of(self.model)

    def teardown(self) -> None:
        assert self.real.run(self.real.faults()) == {}


@pytest.fixture
def real(database: str) -> Iterator[Real]:
    made = Real(database)
    yield made
    made.close()


@pytest.mark.timeout(0 if LONG else 120)
def test_the_ledger_does_what_the_model_says(anyio_backend: Any, real: Real) -> None:
    real.open(CAMPAIGNS)
    Machine.real = real
    run_state_machine_as_test(Machine, settings=MACHINE)


# Every order of arrival ------------------------------------------------------------------------------


@st.composite
def one_order(draw: st.DrawFn) -> list[Fact]:
    """The facts of one order, without contradictions, some of them reported twice."""
    bought = draw(paid()) | {
        "consumer": "c",
        "id": "paid",
        "order": {"id": "o", "currency": "CNY", "total": draw(st.sampled_from(["60.00", "99.99"]))},
    }
    facts: list[Fact] = [bought]
    names = draw(st.lists(st.sampled_from(["r-a", "r-b", "r-c", "r-d"]), max_size=3, unique=True))
    about = {"type": "order.refunded", "occurred_at": TODAY.isoformat(), "order": {"id": "o"}}
    facts += [about | {"id": name, "refund": {"id": name} | REFUNDED[name]} for name in names]
    if draw(st.booleans()):
        parcels = bought["packaging"]["parcels"] if "packaging" in bought else 3
        facts.append(
            {
                "id": "fulfilled",
                "type": "order.fulfilled",
                "occurred_at": bought["occurred_at"],
                "order": {"id": "o"},
                "packaging": {"class": CLASS, "parcels": parcels},
            }
        )
    if draw(st.integers(0, 3)) == 0:
        facts.append({"id": "cancelled", "type": "order.cancelled", "occurred_at": TODAY.isoformat(), "order": {"id": "o"}})
    facts += [fact | {"id": f"{fact['id']}-again"} for fact in facts[1:] if draw(st.booleans())]
    return facts


@pytest.mark.timeout(0 if LONG else 120)
def test_every_order_of_arrival_and_every_grouping_ends_the_same(anyio_backend: Any, real: Real) -> None:
    real.open(UNLIMITED)
    numbers = itertools.count(1)

    async def arrive(facts: list[Fact], cuts: list[bool], settles: list[bool]) -> dict[str, Any]:
        """Report these facts as another order of another consumer, split where `cuts` say, settling where `settles` say."""
        name = str(next(numbers))
        own = [fact | {"id": f"{fact['id']}/{name}", "order": fact["order"] | {"id": name}} for fact in facts]
        own = [fact | {"consumer": name} if "consumer" in fact else fact for fact in own]
        batch: list[Fact] = []
        for fact, cut, settle in zip(own, cuts, settles, strict=True):
            batch.append(fact)
            if cut:
                await real.send("shop", batch)
                batch = []
            if settle:
                await real.settle()
        if batch:
            await real.send("shop", batch)
        await real.settle()
        rows = await real.world.rows(
            "SELECT a.pending, a.available, a.debt FROM account a JOIN consumer_reference r ON r.account = a.id WHERE r.reference = $1",
            name,
        )
        awards = await real.world.rows(
            "SELECT c.code, w.line, w.points - w.reversed AS kept FROM award w JOIN campaign c ON c.id = w.campaign "
            "JOIN consumer_reference r ON r.account = w.account WHERE r.reference = $1 AND w.points > w.reversed ORDER BY 1, 2",
            name,
        )
        waiting = await real.world.rows("SELECT id FROM parked WHERE order_id = $1", name)
        return {"balance": rows, "awards": awards, "parked": waiting}

    @PERMUTATIONS
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        facts = data.draw(one_order())
        flags = st.lists(st.booleans(), min_size=len(facts), max_size=len(facts))
        model = Model(UNLIMITED, zone=ZONE, certified={"TP-01"})
        for fact in facts:
            model.send("shop", [fact])
        model.settle()
        expected = model.accounts["shop:c"]
        for _ in range(3):
            ended = real.run(arrive(data.draw(st.permutations(facts)), data.draw(flags), data.draw(flags)))
            assert ended["balance"] == [{"pending": expected.pending, "available": expected.available, "debt": expected.debt}]
            kept = sorted((a.campaign, a.line, a.kept) for a in model.awards if a.kept)
            # Packaging is told apart by the event that says what was used: which of several earns depends on which comes first.
            assert sorted((a["code"], None if a["code"] == "pack" else a["line"], a["kept"]) for a in ended["awards"]) == kept
            assert ended["parked"] == []

    holds()
    assert real.run(real.faults()) == {}

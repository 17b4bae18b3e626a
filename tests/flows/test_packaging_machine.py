"""Packaging earns once: whatever is reported about it, in any order, one by one and in batches; counted again from the raw tables.

What must hold is computed here from what is stored, in ways of its own: which spellings mean the same is a table of this file, and
which award is for what is read from the events. Short by default; `make test-long` (HYPOTHESIS_PROFILE=long) goes on for longer.
"""

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from redis.asyncio import Redis

from service.domain.errors import IdReused
from service.flows.check import check
from service.flows.knowledge import Knowledge
from service.projection import Projection
from tests import books
from tests.flows.test_state_machine import COMMON, FACT_TABLES, LONG, Real
from tests.tampering import allow
from tests.worlds import World

MACHINE = settings(COMMON, max_examples=1_000 if LONG else 14, stateful_step_count=60 if LONG else 30)
PERMUTATIONS = settings(COMMON, max_examples=2_000 if LONG else 20)
TABLES = [*FACT_TABLES, "trip", "asset", "waiting_return", "claim", "packaging_sent", "packaging_back"]
JUDGED = frozenset({1, 2, 3, 4, 5, 6, 7, 10})
"""Rules of `check` that need neither Redis nor a clock."""
ZONE = timedelta(hours=8)
"""The program's zone; it has no summer time."""
START = datetime.now(UTC).replace(hour=3, minute=0, second=0, microsecond=0) - timedelta(days=20)

Fact = dict[str, Any]

SPELLINGS = {
    "asset": {
        "04012345555554987": ["04012345555554987", "(8003)04012345555554987", "urn:epc:id:grai:4012345.55555.987"],
        "box2": ["box2", "BOX-2", " Box 2"],
        "box3": ["box3", "B-O-X-3"],
        "pallet4": ["pallet4", "PALLET 4"],
        "never5": ["never5"],
    },
    "waybill": {"SF1": ["SF1", "sf-1", " S F 1 "], "SF2": ["SF2", "s-f-2"], "SF3": ["SF3", "sf 3"]},
    "serial": {"imei1": ["IMEI-1", "imei1", "imei 1"], "imei2": ["imei2", "I.M.E.I/2"]},
    "receipt": {"r1": ["R-1", "r1", "r 1"]},
    "module": {"m1": ["M-1", "m1"]},
}
CANONICAL = {kind: {text: name for name, texts in names.items() for text in texts} for kind, names in SPELLINGS.items()}
MAX_TRIPS = {"04012345555554987": None, "box2": 1, "box3": 2, "pallet4": None}
SINGLE_USE = ["paper_mailer", "slim_tape"]


class Books(Real):
    """The real flows on a real database, and what is stored."""

    def open(self) -> None:  # type: ignore[override]
        async def found() -> None:
            pool = await asyncpg.create_pool(self._dsn, min_size=1, max_size=3)
            async with pool.acquire() as conn:
                await allow(conn)  # `begin` empties the book
            self.world = await World(pool).found()
            await self.world.campaign(code="back", action="return", award={"kind": "per_unit", "points": 50})
            await self.world.campaign(code="pack", action="packaging", award={"kind": "per_unit", "points": 5})
            await self.world.campaign(code="act", action="activity", award={"kind": "per_unit", "points": 9})

        self.run(found())

    async def more(self) -> None:
        """Campaigns that are cut, on hold, and beside the others."""
        await self.world.campaign(
            code="cut",
            action="return",
            award={"kind": "fixed", "points": 20},
            hold="P14D",
            caps={"consumer_day": 30},
            budget={"points": 150},
        )
        await self.world.campaign(code="also", action="packaging", award={"kind": "fixed", "points": 3}, hold="P14D", caps={"order": 6})

    async def begin(self, *, earner: str, assets: dict[str, int | None]) -> None:
        """Forget all facts; assets and whose points they earn are given."""
        await self.world.rows(f"WITH {', '.join(f't{i} AS (DELETE FROM {t})' for i, t in enumerate(TABLES))} SELECT")
        await self.world.rows("UPDATE program SET return_earner = $1", earner)
        await self.world.rows("UPDATE deployment SET catalogue_version = catalogue_version + 1")
        self.world.knowledge = Knowledge()
        for key, most in assets.items():
            await self.register(key, most)

    async def register(self, key: str, most: int | None) -> None:
        sql = "INSERT INTO asset (program, key, class, max_trips) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
        await self.world.rows(sql, self.world.program, key, "circular_box", most)

    async def report(self, platform: str, facts: list[Fact]) -> list[bool]:
        """Which of them were new; an id that was used for something else is refused, anything else is accepted."""
        outcomes = await self.world.send(*facts, platform=platform)
        assert all(o.error is None or isinstance(o.error, IdReused) for o in outcomes), outcomes
        return [o.error is None and not o.replayed for o in outcomes]

    async def look(self) -> "Stored":
        async with self.world.pool.acquire() as connection:
            stored = Stored()
            for name, sql in STORED.items():
                setattr(stored, name, [dict(row) for row in await connection.fetch(sql)])
            stored.faults = await books.faults(connection)
        return stored

    async def checked(self) -> dict[str, list[str]]:
        """What `greenpoints check` finds."""
        async with Redis.from_url("redis://127.0.0.1:1/0") as nobody:
            report = await check(self.world.pool, Projection(nobody, epoch=1, ttl_s=600, wait_ms=100))
        return {i.name: i.broken for i in report.invariants if not i.ok and i.number in JUDGED}


# What is stored, and what must hold of it ---------------------------------------------------------------

STORED = {
    "events": "SELECT e.number, e.account, e.platform, e.id, e.type, e.order_id, e.facts FROM event e ORDER BY e.number",
    "awards": "SELECT a.account, a.event, a.n, a.item, a.line, a.points, a.points - a.reversed AS kept, c.code, c.action "
    "FROM award a JOIN campaign c ON c.id = a.campaign",
    "trips": "SELECT * FROM trip ORDER BY asset, shipped_at, shipped_event",
    "claims": "SELECT kind, account, event, item FROM claim",
    "sent": "SELECT account, class, day, units, returned FROM packaging_sent",
    "back": "SELECT account, event, item, class, day, units FROM packaging_back",
    "parked": "SELECT number, platform, id, facts, declared_wrong FROM parked",
    "waiting": "SELECT asset, number, item FROM waiting_return",
}


def _said(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}


class Stored:
    """The raw rows, and what they must not say."""

    events: list[dict[str, Any]]
    awards: list[dict[str, Any]]
    trips: list[dict[str, Any]]
    claims: list[dict[str, Any]]
    sent: list[dict[str, Any]]
    back: list[dict[str, Any]]
    parked: list[dict[str, Any]]
    waiting: list[dict[str, Any]]
    faults: dict[str, Any]

    def check(self, *, limits: dict[str, int | None]) -> None:
        """All that must hold after every step."""
        assert self.faults == {}
        self.event = {e["number"]: e | {"facts": json.loads(e["facts"], object_hook=_said)} for e in self.events}
        self.by_id = {(e["platform"], e["id"]): e for e in self.event.values()}
        self.wrong = {
            (e["platform"], e["facts"]["error"]["event"]) for e in self.event.values() if e["type"] == "event.error_declared"
        }  # fmt: skip
        self.standing = [a for a in self.awards if a["kept"]]
        self._trips_are_ended_once_and_in_their_time(limits)
        self._each_award_of_an_asset_is_of_one_trip()
        self._each_claim_earns_once()
        self._no_more_comes_back_than_was_sent()
        self._nothing_stands_of_what_was_declared_wrong()
        self._what_waits_has_not_counted()

    def _trips_are_ended_once_and_in_their_time(self, limits: dict[str, int | None]) -> None:
        ended = Counter((t["returned_event"], t["returned_item"]) for t in self.trips if t["returned_event"] is not None)
        assert not [item for item, times in ended.items() if times > 1], "a returned item ends one trip"
        for asset, trips in itertools.groupby(self.trips, key=lambda t: t["asset"]):
            rows = list(trips)
            legs = self.legs(rows)
            for trip in rows:
                if not any(trip is leg for leg in legs):
                    assert trip["returned_event"] is None, "what never was, or was told before, is no trip that ends"
            for n, (leg, later) in enumerate(itertools.zip_longest(legs, legs[1:]), 1):
                if leg["returned_at"] is not None:
                    assert leg["shipped_at"] <= leg["returned_at"]
                    assert later is None or leg["returned_at"] < later["shipped_at"], "the trip that was under way"
                if (most := limits.get(asset)) is not None:
                    assert leg["awarded_event"] is None or n <= most, "a trip beyond the limit earns nothing"

    @staticmethod
    def legs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Trips of one asset that count: of one order the first, not what was declared wrong."""
        first: dict[tuple[int, str], dict[str, Any]] = {}
        for trip in rows:
            if not trip["void"]:
                first.setdefault((trip["platform"], trip["order_id"]), trip)
        return list(first.values())

    def _each_award_of_an_asset_is_of_one_trip(self) -> None:
        earned: defaultdict[tuple[int, int, int], list[dict[str, Any]]] = defaultdict(list)
        for trip in self.trips:
            if trip["awarded_event"] is not None:
                earned[trip["returned_account"], trip["awarded_event"], trip["awarded_item"]].append(trip)
        assert not [trips for trips in earned.values() if len(trips) > 1], "an award is of one trip"
        found: defaultdict[tuple[int, int, int], list[dict[str, Any]]] = defaultdict(list)
        for award in self.standing:
            if award["action"] == "return":
                carrier = self.event[award["event"]]
                if carrier["type"] != "packaging.returned" or "asset" in carrier["facts"]["returns"][award["item"]]:
                    found[award["account"], award["event"], award["item"]].append(award)
        assert found.keys() == earned.keys(), "what stands for a returned asset, and the trips that it stands for"
        for key, awards in found.items():
            assert len({a["code"] for a in awards}) == len(awards), "no campaign awards a trip twice"
            (trip,), carrier = earned[key], self.event[key[1]]
            assert not trip["void"]
            assert trip["shipped_at"] <= trip["returned_at"]
            if carrier["type"] == "packaging.returned":
                assert (trip["returned_event"], trip["returned_item"]) == key[1:]
            returned = self.event[trip["returned_event"]]["facts"]["returns"][trip["returned_item"]]
            assert CANONICAL["asset"][returned["asset"]] == trip["asset"]

    def _each_claim_earns_once(self) -> None:
        holders: defaultdict[tuple[Any, ...], set[tuple[int, int, int]]] = defaultdict(set)
        for award in self.standing:
            if (claim := self._claim(award)) is not None:
                holders[claim].add((award["account"], award["event"], award["item"] or 0))
        assert not {claim: who for claim, who in holders.items() if len(who) > 1}, "earned twice by one thing"
        kinds = {"parcel": 1, "returned": 2, "serial": 3, "receipt": 4, "course": 5}
        expected = sorted((kinds[claim[0]], *who) for claim, (who,) in holders.items())
        told = [c for c in self.claims if c["kind"] != kinds["returned"] or not self._is_bare(c)]
        assert sorted((c["kind"], c["account"], c["event"], c["item"]) for c in told) == expected, "who holds what"

    def _is_bare(self, claim: dict[str, Any]) -> bool:
        """Whether the return that holds it was stored without its waybill, because it counts for another consumer than it names."""
        return "waybill" not in self.event[claim["event"]]["facts"]["returns"][claim["item"]]

    def _claim(self, award: dict[str, Any]) -> tuple[Any, ...] | None:
        """What an award was earned by, read from the event that it is for."""
        carrier = self.event[award["event"]]
        if award["action"] == "packaging":
            facts = self._packed(award, carrier)["facts"]
            if "waybill" in facts["packaging"]:
                return "parcel", CANONICAL["waybill"][facts["packaging"]["waybill"]]
            return ("parcel", carrier["platform"], carrier["order_id"]) if facts["type"] == "order.fulfilled" else None
        facts = carrier["facts"]
        if award["action"] == "return" and facts["type"] == "packaging.returned":
            item = facts["returns"][award["item"]]
            return ("returned", CANONICAL["waybill"][item["waybill"]], item["class"]) if "asset" not in item and "waybill" in item else None
        if award["action"] == "activity":
            evidence = facts["evidence"]
            match facts["activity"]:
                case "trade_in":
                    return "serial", CANONICAL["serial"][evidence["serial"]]
                case "e_receipt":
                    return "receipt", CANONICAL["receipt"][evidence["receipt"]], evidence.get("merchant")
                case "learning":
                    return "course", award["account"], CANONICAL["module"][evidence["module"]], evidence["version"]
        return None

    def _packed(self, award: dict[str, Any], carrier: dict[str, Any]) -> dict[str, Any]:
        """The event that said how the order was packed: what was really used, or what was chosen when the order was first paid."""
        if award["line"] is not None:
            return self.by_id[carrier["platform"], award["line"]]
        paid = [e for e in self.event.values() if (e["platform"], e["order_id"]) == (carrier["platform"], carrier["order_id"])]
        return next(e for e in paid if e["type"] == "order.paid" and e["account"] == award["account"])

    def _no_more_comes_back_than_was_sent(self) -> None:
        back: Counter[tuple[Any, ...]] = Counter()
        of_item: Counter[tuple[Any, ...]] = Counter()
        for row in self.back:
            back[row["account"], row["class"], row["day"]] += row["units"]
            of_item[row["account"], row["event"], row["item"]] += row["units"]
        assert {(s["account"], s["class"], s["day"]): s["returned"] for s in self.sent if s["returned"]} == dict(back)
        shipped: Counter[tuple[Any, ...]] = Counter()
        for e in self.event.values():
            if e["type"] == "order.fulfilled" and (e["platform"], e["id"]) not in self.wrong:
                packaging = e["facts"]["packaging"]
                if packaging.get("class") in SINGLE_USE:
                    day = (datetime.fromisoformat(e["facts"]["occurred_at"]) + ZONE).date()
                    shipped[e["account"], packaging["class"], day] += packaging.get("parcels", 1)
        known = {(s["account"], s["class"], s["day"]): s for s in self.sent}
        for key, s in known.items():
            assert 0 <= s["returned"] <= s["units"]
            assert s["units"] == max(s["returned"], shipped[key]) or (s["units"] > shipped[key] and self.wrong), "what was shipped"
        assert shipped.keys() - {key for key, units in shipped.items() if not units} <= known.keys()
        for award in self.standing:
            if award["code"] == "back":
                carrier = self.event[award["event"]]
                if carrier["type"] == "packaging.returned" and "asset" not in carrier["facts"]["returns"][award["item"]]:
                    assert award["points"] == 50 * of_item[award["account"], award["event"], award["item"]], "as much as came back"

    def _nothing_stands_of_what_was_declared_wrong(self) -> None:
        declarable = {"order.fulfilled", "packaging.returned", "activity.completed"}
        wrong = {self.by_id[key]["number"] for key in self.wrong & self.by_id.keys() if self.by_id[key]["type"] in declarable}
        assert not [t for t in self.trips if t["returned_event"] in wrong or (t["shipped_event"] in wrong and not t["void"])]
        for award in self.standing:
            source = award["event"]
            if award["action"] == "packaging":
                source = self._packed(award, self.event[source])["number"]
            assert source not in wrong, "earned by what never was"

    def _what_waits_has_not_counted(self) -> None:
        ended = {(t["returned_event"], t["returned_item"]) for t in self.trips}
        assert not ended & {(w["number"], w["item"]) for w in self.waiting}
        assert not {p["number"] for p in self.parked} & self.event.keys()
        assert not {p["number"] for p in self.parked if p["declared_wrong"]} & {w["number"] for w in self.waiting}


# Facts without ids; the machine gives them ---------------------------------------------------------------


def spelt(kind: str) -> st.SearchStrategy[str]:
    return st.sampled_from([text for texts in SPELLINGS[kind].values() for text in texts])


def at(hours: int) -> str:
    return (START + timedelta(hours=hours)).isoformat()


PLATFORMS = st.sampled_from(["shop", "shop", "market"])
CONSUMERS = st.sampled_from(["ann", "bob", "eve"])
SLOTS = st.sampled_from(["1", "2", "3"])
TIMES = st.integers(0, 60).map(at)
ASSETS = st.lists(spelt("asset"), max_size=3, unique_by=lambda text: CANONICAL["asset"][text])
ONE_WAY = st.fixed_dictionaries(
    {"class": st.sampled_from(SINGLE_USE)}, optional={"parcels": st.integers(1, 3), "waybill": spelt("waybill")}
)  # fmt: skip
REUSABLE = st.builds(
    lambda assets, more, class_: more | class_ | {"assets": assets},
    st.lists(spelt("asset"), min_size=1, max_size=3, unique_by=lambda text: CANONICAL["asset"][text]),
    st.fixed_dictionaries({}, optional={"waybill": spelt("waybill")}),
    st.sampled_from([{}, {"class": "circular_box"}]),
)


def _what(item: Fact) -> object:
    """No event names one thing twice."""
    if "asset" in item:
        return CANONICAL["asset"][item["asset"]]
    return (CANONICAL["waybill"][item["waybill"]], item["class"]) if "waybill" in item else json.dumps(item, sort_keys=True)


ITEMS = st.lists(
    st.one_of(
        st.builds(lambda asset: {"asset": asset}, spelt("asset")),
        st.builds(lambda asset: {"asset": asset}, spelt("asset")),
        st.fixed_dictionaries(
            {"class": st.sampled_from(SINGLE_USE), "quantity": st.integers(1, 3)}, optional={"waybill": spelt("waybill")}
        ),
    ),
    min_size=1, max_size=3,
    unique_by=_what,
)  # fmt: skip


@st.composite
def paid(draw: st.DrawFn) -> Fact:
    fact: Fact = {
        "type": "order.paid", "occurred_at": at(0), "consumer": draw(CONSUMERS),
        "order": {"id": draw(SLOTS), "currency": "CNY", "total": "30.00"}, "lines": [{"id": "1", "sku": "x", "quantity": 2, "amount": "30.00"}],
    }  # fmt: skip
    return fact | draw(st.sampled_from([{}, {"packaging": draw(ONE_WAY)}]))


@st.composite
def about_order(draw: st.DrawFn) -> Fact:
    kind = draw(st.sampled_from(["fulfilled"] * 5 + ["refunded", "cancelled"]))
    fact: Fact = {"type": f"order.{kind}", "occurred_at": draw(TIMES), "order": {"id": draw(SLOTS)}}
    if kind == "fulfilled":
        fact["packaging"] = draw(st.one_of(ONE_WAY, REUSABLE, REUSABLE))
    elif kind == "refunded":
        fact["refund"] = draw(st.sampled_from([{"id": "all", "amount": "30.00"}, {"id": "half", "lines": [{"id": "1", "quantity": 1}]}]))
    return fact


@st.composite
def returned(draw: st.DrawFn) -> Fact:
    items = draw(ITEMS)
    fact: Fact = {"type": "packaging.returned", "occurred_at": draw(TIMES), "returns": items}
    nobody = draw(st.integers(0, 3)) == 0 and all("asset" in item for item in items)
    return fact if nobody else fact | {"consumer": draw(CONSUMERS)}


@st.composite
def activity(draw: st.DrawFn) -> Fact:
    name, evidence = draw(
        st.one_of(
            st.builds(lambda s: ("trade_in", {"serial": s}), spelt("serial")),
            st.builds(lambda r: ("e_receipt", {"receipt": r, "merchant": "mill"}), spelt("receipt")),
            st.builds(lambda m: ("learning", {"module": m, "version": "1.0"}), spelt("module")),
        )
    )
    return {"type": "activity.completed", "occurred_at": draw(TIMES), "consumer": draw(CONSUMERS), "activity": name, "evidence": evidence}


WRONG = st.integers(-8, 2).map(lambda steps: {"type": "event.error_declared", "occurred_at": at(70), "steps": steps})
"""About an event so many before it, or yet to come."""
FACTS = st.one_of(paid(), about_order(), about_order(), returned(), returned(), activity(), WRONG)


# The machine ---------------------------------------------------------------------------------------------


class Machine(RuleBasedStateMachine):
    """Reports what it likes; after every step all that must hold is counted again."""

    real: ClassVar[Books]

    @initialize(earner=st.sampled_from(["returner", "recipient"]))
    def begin(self, earner: str) -> None:
        self.limits = {key: MAX_TRIPS[key] for key in ("04012345555554987", "box2")}
        self.real.run(self.real.begin(earner=earner, assets=self.limits))
        self.sent: list[tuple[str, Fact]] = []
        self.numbers = {"shop": 0, "market": 0}
        for platform, slot, consumer in (("shop", "1", "ann"), ("shop", "2", "bob"), ("market", "1", "eve")):
            order = {"id": slot, "currency": "CNY", "total": "30.00"}
            lines = [{"id": "1", "sku": "x", "quantity": 2, "amount": "30.00"}]
            self._report(platform, [{"type": "order.paid", "occurred_at": at(0), "consumer": consumer, "order": order, "lines": lines}])

    @rule(key=st.sampled_from(["box3", "pallet4"]))
    def register(self, key: str) -> None:
        self.limits[key] = MAX_TRIPS[key]
        self.real.run(self.real.register(key, MAX_TRIPS[key]))

    @rule(platform=PLATFORMS, fact=FACTS)
    def one(self, platform: str, fact: Fact) -> None:
        self._report(platform, [fact])

    @rule(platform=PLATFORMS, facts=st.lists(FACTS, min_size=2, max_size=6))
    def batch(self, platform: str, facts: list[Fact]) -> None:
        self._report(platform, facts)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        platform, fact = data.draw(st.sampled_from(self.sent))
        assert self.real.run(self.real.report(platform, [dict(reversed(fact.items()))])) == [False]

    @rule(everything=st.booleans())
    def settle(self, everything: bool) -> None:  # noqa: FBT001 - drawn
        self.real.run(self.real.settle(everything=everything))

    def _report(self, platform: str, facts: list[Fact]) -> None:
        named = []
        for fact in facts:
            number = self.numbers[platform] = self.numbers[platform] + 1
            own = {name: value for name, value in fact.items() if name != "steps"} | {"id": f"e-{number}"}
            if "steps" in fact:
                own["error"] = {"event": f"e-{max(number + fact['steps'] or 1, 1)}", "reason": "did_not_occur"}
            if own.get("error") != {"event": own["id"], "reason": "did_not_occur"}:
                named.append(own)
        self.real.run(self.real.report(platform, named))
        self.sent += [(platform, fact) for fact in named]

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "limits"):
            self.real.run(self.real.look()).check(limits=self.limits)

    def teardown(self) -> None:
        assert self.real.run(self.real.checked()) == {}


@pytest.fixture
def real(database: str) -> Iterator[Books]:
    made = Books(database)
    yield made
    made.close()


@pytest.mark.timeout(0 if LONG else 120)
def test_packaging_earns_once_whatever_is_reported(anyio_backend: Any, real: Books) -> None:
    real.open()
    real.run(real.more())
    Machine.real = real
    run_state_machine_as_test(Machine, settings=MACHINE)


# Every order of arrival ----------------------------------------------------------------------------------

BOXES = ("boxa", "boxb")


class Scenario:
    """Orders that ship boxes one after the other, what comes back, and what is declared wrong; no two returns stand for one trip.

    `facts` are the facts with their platforms, `expected` the points of every consumer at the end.
    """

    def __init__(self, most: int | None) -> None:
        self.most = most
        """Trips of each box that earn."""
        self.facts: list[tuple[str, Fact]] = []
        self.expected: Counter[str] = Counter()
        self.legs: dict[str, list[tuple[float, str]]] = {box: [] for box in BOXES}
        """By box: when trips that count began, and whom they went to."""
        self.buyers: dict[str, set[str]] = {box: set() for box in BOXES}
        """By box: of all orders that name it."""
        self.ended: set[tuple[str, tuple[float, str] | None]] = set()

    def say(self, platform: str, id_: str, type_: str, hours: float, **more: Any) -> None:
        self.facts.append((platform, {"id": id_, "type": type_, "occurred_at": (START + timedelta(hours=hours)).isoformat()} | more))

    def wrong(self, platform: str, id_: str) -> None:
        self.say(platform, f"{id_}:wrong", "event.error_declared", 70, error={"event": id_, "reason": "did_not_occur"})


@st.composite
def scenarios(draw: st.DrawFn, earner: str) -> Scenario:
    made = Scenario(draw(st.sampled_from([None, None, 1, 2])))
    for n in range(draw(st.integers(1, 3))):
        _ship(draw, made, f"o-{n}", 10.0 * n + 10)
    for n, box in itertools.product(range(4), BOXES):
        hours = 10.0 * n + 5 + BOXES.index(box) / 10
        if draw(st.integers(0, 2)):
            _bring_back(draw, made, box, hours, earner)
        if draw(st.integers(0, 3)) == 0:
            on, id_ = draw(PLATFORMS), f"{box}:{n}:never"
            made.say(on, id_, "packaging.returned", hours - 1, consumer="eve", returns=[{"asset": box}])
            made.wrong(on, id_)
    return made


def _ship(draw: st.DrawFn, made: Scenario, order: str, hours: float) -> None:
    """An order, and its shipment: reported right, wrong or not at all, perhaps corrected; it may be cancelled."""
    platform, buyer = draw(PLATFORMS), draw(CONSUMERS)
    boxes = draw(st.sampled_from([BOXES, BOXES[:1], BOXES[:1], BOXES[1:]]))
    chosen = {"packaging": {"class": "slim_tape"}} if draw(st.booleans()) else {}
    bought = {"id": order, "currency": "CNY", "total": "30.00"}
    made.say(platform, f"{order}:paid", "order.paid", 0, consumer=buyer, order=bought, **chosen)
    packaging = {"class": "circular_box", "assets": list(boxes)} | draw(st.sampled_from([{}, {"waybill": f"SF-{order}"}]))
    shipped = []
    first = draw(st.sampled_from(["right", "right", "wrong", "never"]))
    if first != "never":
        made.say(platform, f"{order}:sent", "order.fulfilled", hours, order={"id": order}, packaging=packaging)
    if first == "right":
        shipped.append(hours)
    if first == "wrong":
        made.wrong(platform, f"{order}:sent")
    if draw(st.booleans()):
        made.say(platform, f"{order}:sent-again", "order.fulfilled", hours + 1, order={"id": order}, packaging=packaging)
        shipped.append(hours + 1)
    if draw(st.booleans()):
        made.say(platform, f"{order}:cancelled", "order.cancelled", 69, order={"id": order})
    else:
        made.expected[f"{platform}:{buyer}"] += 5 * len(boxes) if shipped else 5 * len(chosen)
    for box in boxes:
        made.buyers[box].add(f"{platform}:{buyer}")
        made.legs[box] += [(at, f"{platform}:{buyer}") for at in shipped[:1]]


def _bring_back(draw: st.DrawFn, made: Scenario, box: str, hours: float, earner: str) -> None:
    """A return, unless another one stands for that trip."""
    # One that names nobody goes on counting for whom it counted for first: here that is always the same one.
    nobody = [None] if earner == "recipient" or len(made.buyers[box]) == 1 else []
    named, on = draw(st.sampled_from(["ann", "bob", *nobody])), draw(PLATFORMS)
    under_way = next((leg for leg in reversed(made.legs[box]) if leg[0] <= hours), None)
    if (box, under_way) in made.ended:
        return
    made.ended.add((box, under_way))
    consumer = {} if named is None else {"consumer": named}
    made.say(on, f"{box}:back-{hours}", "packaging.returned", hours, returns=[{"asset": box}], **consumer)
    if under_way is not None and (made.most is None or made.legs[box].index(under_way) < made.most):
        made.expected[under_way[1] if earner == "recipient" or named is None else f"{on}:{named}"] += 50


ENDED = {
    "points": "SELECT p.code || ':' || r.reference AS who, a.pending + a.available - a.debt AS points FROM account a "
    "JOIN consumer_reference r ON r.bucket = a.bucket AND r.account = a.id JOIN platform p ON p.id = r.platform",
    "trips": "SELECT t.asset, s.id AS shipped, b.id AS back, t.awarded_event IS NOT NULL AS awarded FROM trip t "
    "JOIN event s ON s.number = t.shipped_event LEFT JOIN event b ON b.number = t.returned_event WHERE NOT t.void ORDER BY 1, 2",
    "assets": "SELECT key, state, state_at FROM asset ORDER BY 1",
}


@pytest.mark.timeout(0 if LONG else 120)
@pytest.mark.parametrize("earner", ["returner", "recipient"])
def test_every_order_of_arrival_and_every_grouping_ends_the_same(anyio_backend: Any, real: Books, earner: str) -> None:
    real.open()

    async def arrive(facts: list[tuple[str, Fact]], cuts: list[bool], settles: list[bool], most: int | None) -> dict[str, Any]:
        await real.begin(earner=earner, assets=dict.fromkeys(BOXES, most))
        batch: list[Fact] = []
        for (platform, fact), cut, settle, after in itertools.zip_longest(facts, cuts, settles, facts[1:]):
            batch.append(fact)
            if cut or after is None or after[0] != platform:
                assert all(await real.report(platform, batch)) or any(f["type"] != "event.error_declared" for f in batch)
                batch = []
            if settle:
                await real.settle()
        found = {name: await real.world.rows(sql) for name, sql in ENDED.items()}
        found["points"] = {row["who"]: row["points"] for row in found["points"] if row["points"]}  # type: ignore[assignment]
        return found

    @PERMUTATIONS
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        scenario = data.draw(scenarios(earner))
        flags = st.lists(st.booleans(), min_size=len(scenario.facts), max_size=len(scenario.facts))
        first = None
        for order in (scenario.facts, data.draw(st.permutations(scenario.facts)), data.draw(st.permutations(scenario.facts))):
            ended = real.run(arrive(list(order), data.draw(flags), data.draw(flags), scenario.most))
            assert ended["points"] == {who: points for who, points in scenario.expected.items() if points}
            first = first or ended
            assert ended == first
        assert real.run(real.look()).faults == {}

    holds()
    assert real.run(real.checked()) == {}

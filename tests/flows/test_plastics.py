"""The plastics ledger on PostgreSQL: sums of entries whatever is corrected, closed periods for ever, and nothing between the two."""

import asyncio
import hashlib
import itertools
import json
from collections import defaultdict
from collections.abc import Awaitable, Coroutine
from decimal import Decimal
from typing import Any, TypeVar

import asyncpg
import msgspec
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.plastics import ClosedPeriod, PlasticBody, PlasticsAnswer
from service.domain.errors import InvalidRequest, InvalidState, NotFound
from service.flows import administer, plastics
from service.store import locks
from service.store.callers import Platform
from service.store.plastics import Format
from tests.flows.test_state_machine import LONG, PERMUTATIONS
from tests.sealer import SEALER
from tests.worlds import CHANGE, World, cancelled, order_paid, refund

T = TypeVar("T")
ROW: dict[str, Any] = {"period": "2025H1", "class": "plastic_mailer", "kind": "used", "mass_g": "10"}


async def platform_of(world: World, code: str = "shop") -> Platform:
    async with world.pool.acquire() as conn:
        return await administer.find_platform(conn, program=world.program, code=code)


async def send(world: World, *rows: dict[str, Any], platform: str = "shop") -> PlasticsAnswer:
    given_rows = [msgspec.json.decode(json.dumps(row), type=PlasticBody) for row in rows]
    owner = await platform_of(world, platform)
    async with world.pool.acquire() as conn:
        return await plastics.report(conn, given_rows, platform=owner, change=CHANGE)


async def close(world: World, half: str = "2025H1") -> ClosedPeriod:
    async with world.pool.acquire() as conn:
        return await plastics.close(conn, half, program=world.program, change=CHANGE)


async def read(world: World, half: str = "2025H1", *, platform: int | None = None, format_: Format = "json") -> bytes:
    async with world.pool.acquire() as conn:
        return await plastics.read_report(conn, half, program=world.program, platform=platform, format_=format_)


async def report(world: World, half: str = "2025H1", platform: int | None = None) -> Any:
    return json.loads(await read(world, half, platform=platform))


# Closing -------------------------------------------------------------------------------------------------


async def test_a_closed_period_answers_the_same_bytes_whatever_happens_later(world: World) -> None:
    await send(world, ROW | {"id": "a", "merchant": "m"}, ROW | {"id": "b", "kind": "collected", "mass_g": "4.5"})
    await send(world, ROW | {"id": "a", "mass_g": "1"}, platform="market")
    shop = (await platform_of(world)).id
    closed = await close(world)
    asked: list[tuple[int | None, Format]] = [(None, "json"), (None, "csv"), (shop, "json"), (shop, "csv")]
    kept = [await read(world, platform=platform, format_=format_) for platform, format_ in asked]
    assert [hashlib.sha256(body).hexdigest() for body in kept[:2]] == [closed.sha256.json, closed.sha256.csv]
    assert json.loads(kept[0])["totals"] == {"used_g": "11", "collected_g": "4.5", "avoided_g": "0", "difference_g": "6.5"}
    assert [p["platform"] for p in json.loads(kept[2])["platforms"]] == ["shop"]
    assert json.loads(kept[2])["totals"]["used_g"] == "10"
    refused = await send(world, ROW | {"id": "c"}, ROW | {"id": "a", "mass_g": "11"}, ROW | {"id": "b", "period": "2025H2"})
    assert [(r.code, r.errors[0].pointer) for r in refused.results] == [("invalid_state", "/period")] * 3
    back = await send(world, ROW | {"id": "a-back", "period": "2025H2", "mass_g": "-3", "corrects": "a", "merchant": "m"})
    assert back.created == 1
    async with world.pool.acquire() as conn:
        await administer.create_platform(conn, sealer=SEALER, program=world.program, code="late", name="Late")
    assert await close(world) == closed
    assert [await read(world, platform=platform, format_=format_) for platform, format_ in asked] == kept
    assert (await report(world, "2025H2"))["totals"]["used_g"] == "-3"
    late = await report(world, platform=(await platform_of(world, "late")).id)
    assert (late["status"], late["platforms"], late["totals"]["used_g"]) == ("closed", [], "0")
    audited = await world.rows("SELECT subject, after->'sha256'->>'json' AS hash FROM audit WHERE action = 'plastics.close'")
    assert audited == [{"subject": "plastics:2025H1", "hash": closed.sha256.json}]


async def test_what_is_not_over_or_was_never_reported_is_not_closed(world: World) -> None:
    (today,) = await world.rows("SELECT (now() AT TIME ZONE 'Asia/Shanghai')::date AS day")
    half = f"{today['day'].year}H{1 if today['day'].month < 7 else 2}"
    await send(world, ROW | {"id": "a", "period": half})
    with pytest.raises(InvalidState, match="is not over"):
        await close(world, half)
    for unknown in ("2024H1", "2025H3", "x", "2025-01-01/2025-02-01"):
        with pytest.raises(NotFound):
            await close(world, unknown)
        if unknown != "2024H1":
            with pytest.raises(InvalidRequest):
                await read(world, unknown)
    assert await world.rows("SELECT 1 FROM plastic_period") == []
    assert (await report(world, half))["status"] == "open"


@pytest.mark.parametrize("table", ["plastic_entry", "plastic_period", "plastic_report"])
async def test_not_even_the_owner_of_the_tables_changes_them(world: World, table: str) -> None:
    await send(world, ROW | {"id": "a"})
    await close(world)
    before = await world.rows(f"SELECT * FROM {table}")
    assert before
    async with world.pool.acquire() as conn:
        for role in ("origin", "replica"):
            await conn.execute(f"SET session_replication_role = {role}")
            for statement in (f"UPDATE {table} SET half = '2024H1'", f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                    await conn.execute(statement)
        await conn.execute("RESET session_replication_role")
    assert await world.rows(f"SELECT * FROM {table}") == before


# Avoided -------------------------------------------------------------------------------------------------


async def test_what_was_avoided_is_what_awards_say_that_were_not_taken_back(world: World) -> None:
    await world.campaign()
    paid = order_paid(quantity=3)
    await world.credit(paid)
    await world.credit(order_paid(), "market")
    await world.credit(order_paid("c-2", quantity=5), "market")
    await world.rows(
        "UPDATE award SET day = '2025-06-30', plastic_g = CASE points WHEN 10 THEN 7 ELSE 100 END,"
        """ impact = format('{"factor": "%s"}', CASE points WHEN 50 THEN 'mass.collected_plastic' ELSE 'mass.corrugated_parcel' END)"""
    )
    await world.credit(refund(paid, "r", 1))
    await send(world, ROW | {"id": "a"})
    answer = await report(world)
    assert [(p["platform"], p["used_g"], p["avoided_g"], p["difference_g"]) for p in answer["platforms"]] == [
        ("market", "0", "7", "0"), ("shop", "10", "100", "10"),
    ]  # fmt: skip
    assert answer["totals"]["avoided_g"] == "107"
    assert (await report(world, platform=(await platform_of(world, "market")).id))["totals"]["avoided_g"] == "7"
    await world.credit(cancelled(paid))
    assert (await report(world))["totals"]["avoided_g"] == "7"
    await close(world)
    assert (await report(world))["totals"]["avoided_g"] == "7", "what was kept, not what a closed half-year would be without it"
    before = await read(world)
    await world.rows("UPDATE award SET plastic_g = 1000")
    assert await read(world) == before
    await world.rows("UPDATE award SET day = '2025-07-01'")
    assert (await report(world, "2025H2"))["totals"]["avoided_g"] == "1000"


# At the same time ----------------------------------------------------------------------------------------


async def blocked(world: World, work: Awaitable[T]) -> "asyncio.Task[T]":
    """Start it, and return once it waits for a lock of another transaction (or has ended: then nothing kept it)."""
    task = asyncio.ensure_future(work)
    waiting = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    for _ in range(200):
        if task.done() or (await world.rows(waiting))[0]["n"]:
            break
        await asyncio.sleep(0.01)
    return task


async def test_a_closing_waits_for_rows_that_are_being_written(world: World) -> None:
    owner = await platform_of(world)
    await send(world, ROW | {"id": "a"})
    async with world.pool.acquire() as conn, conn.transaction():
        row = msgspec.json.decode(json.dumps(ROW | {"id": "b", "mass_g": "5"}), type=PlasticBody)
        assert (await plastics.report(conn, [row], platform=owner, change=CHANGE)).created == 1
        closing = await blocked(world, close(world))
        assert not closing.done()
    await closing
    assert (await report(world))["totals"]["used_g"] == "15"


async def test_rows_wait_for_a_closing_and_are_refused_then(world: World) -> None:
    await send(world, ROW | {"id": "a"})
    async with world.pool.acquire() as conn, conn.transaction():
        await plastics.close(conn, "2025H1", program=world.program, change=CHANGE)
        sending = await blocked(world, send(world, ROW | {"id": "b"}, ROW | {"id": "c", "period": "2025H2"}))
        assert not sending.done()
    assert [r.code or r.status for r in (await sending).results] == ["invalid_state", "created"]
    (sums,) = await world.rows("SELECT sum(mass_g)::text AS mass FROM plastic_entry WHERE half = '2025H1'")
    assert sums["mass"] == "10.000"


async def test_two_imports_of_one_row_follow_each_other(world: World) -> None:
    owner = await platform_of(world)
    async with world.pool.acquire() as conn, conn.transaction():
        row = msgspec.json.decode(json.dumps(ROW | {"id": "a"}), type=PlasticBody)
        await plastics.report(conn, [row], platform=owner, change=CHANGE)
        same, other = (
            await blocked(world, send(world, ROW | {"id": "a"})),
            asyncio.ensure_future(send(world, ROW | {"id": "a"}, platform="market")),
        )
        assert (await other).created == 1, "another platform's rows do not wait"
        assert not same.done()
    assert (await same).unchanged == 1


async def test_rows_are_hammered_while_the_period_is_closed(world: World) -> None:
    """Whatever was answered created is in the closed report, and nothing else is."""
    await send(world, ROW | {"id": "first", "mass_g": "1"})
    numbers = itertools.count(1)
    taken: list[int] = []
    refused = asyncio.Event()

    async def hammer(platform: str) -> None:
        while not refused.is_set():
            mass_g = next(numbers)
            (result,) = (await send(world, ROW | {"id": f"r-{mass_g}", "mass_g": mass_g}, platform=platform)).results
            if result.status == "created":
                taken.append(mass_g)
            else:
                assert result.code == "invalid_state"
                refused.set()

    hammers = [asyncio.ensure_future(hammer(platform)) for platform in ("shop", "shop", "market", "market")]
    while len(taken) < 20:
        await asyncio.sleep(0.005)
    answers = await asyncio.gather(close(world), close(world))
    await asyncio.gather(*hammers)
    assert answers[0] == answers[1]
    assert (await report(world))["totals"]["used_g"] == str(1 + sum(taken))
    assert await world.rows("SELECT count(*) AS n FROM audit WHERE action = 'plastics.close'") == [{"n": 1}]


# Any order of reports, corrections and closings -----------------------------------------------------------

HALVES = ("2024H1", "2024H2", "2025H1")
MASSES = ("0", "0.001", "1.5", "100", "-0.001")
Key = tuple[str, str, str, str, str | None]
"""Half-year, platform, class, kind, merchant."""
Step = str | tuple[str, list[dict[str, Any]]]
"""A half-year to close, or a platform's rows."""

_common = {"class": st.sampled_from(("foam_box",) * 3 + ("tape_60mm",)), "kind": st.sampled_from(("used",) * 3 + ("collected",))}
_plain = st.fixed_dictionaries(
    {"id": st.sampled_from("abc"), "period": st.sampled_from(HALVES), "mass_g": st.sampled_from(MASSES)} | _common,
    optional={"merchant": st.just("m")},
)
_corrections = st.fixed_dictionaries(
    {"id": st.sampled_from("cdefg"), "period": st.sampled_from(HALVES[1:]), "mass_g": st.sampled_from(("-0.001", "-1", "-1.5", "1.5")),
     "corrects": st.sampled_from("abc")} | _common,
)  # fmt: skip
_batches = st.tuples(st.sampled_from(("shop", "shop", "market")), st.lists(st.one_of(_plain, _corrections), min_size=2, max_size=8))
_steps = st.one_of(st.sampled_from(HALVES), _batches, _batches)
_first = [{"id": id_, "period": "2024H1", "mass_g": "1.5", "class": "foam_box", "kind": "used"} for id_ in "abc"]
"""What can be taken back once its period is closed: examples of anything seldom come upon it."""


class Model:
    """The same, said as simply as possible: what each row says now, and what was said when a period was closed."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}
        self.reported: set[str] = set()
        self.closed: set[str] = set()

    def take(self, platform: str, row: dict[str, Any]) -> str:
        before = self.rows.get((platform, row["id"]))
        if before == row:
            return "unchanged"
        if {row["period"], row["period"] if before is None else before["period"]} & self.closed or not self._sound(platform, row):
            return "rejected"
        self.rows[platform, row["id"]] = row
        self.reported.add(row["period"])
        return "created" if before is None else "updated"

    def _sound(self, platform: str, row: dict[str, Any]) -> bool:
        mass, corrects = Decimal(row["mass_g"]), row.get("corrects")
        if corrects is None:
            return mass >= 0
        corrected = self.rows.get((platform, corrects))
        if corrected is None or corrected["period"] not in self.closed:
            return False
        taken = sum(
            Decimal(r["mass_g"])
            for (p, id_), r in self.rows.items()
            if p == platform and id_ != row["id"] and r.get("corrects") == corrects and Decimal(r["mass_g"]) < 0
        )
        same = all(corrected.get(name) == row.get(name) for name in ("class", "kind", "merchant"))
        return mass >= 0 or (same and Decimal(corrected["mass_g"]) + taken + mass >= 0)

    def sums(self) -> dict[Key, Decimal]:
        found: dict[Key, Decimal] = defaultdict(Decimal)
        for (platform, _), row in self.rows.items():
            found[row["period"], platform, row["class"], row["kind"], row.get("merchant")] += Decimal(row["mass_g"])
        return {key: mass for key, mass in found.items() if mass}


def sums_of(answer: Any) -> dict[Key, Decimal]:
    return {
        (answer["period"], p["platform"], line["class"], kind, line["merchant"]): Decimal(line[f"{kind}_g"])
        for p in answer["platforms"]
        for line in p["lines"]
        for kind in ("used", "collected")
        if line[f"{kind}_g"] != "0"
    }


def check_totals(answer: Any) -> None:
    for kind in ("used_g", "collected_g", "difference_g"):
        assert Decimal(answer["totals"][kind]) == sum(Decimal(p[kind]) for p in answer["platforms"])
        for p in answer["platforms"]:
            assert Decimal(p[kind]) == sum(Decimal(line[kind]) for line in p["lines"])
    assert Decimal(answer["totals"]["difference_g"]) == Decimal(answer["totals"]["used_g"]) - Decimal(answer["totals"]["collected_g"])


class Real:
    """The real flows on a real database, a program for each example: entries cannot be deleted."""

    def __init__(self, dsn: str) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.world = World(self.run(_pool(dsn)))
        self._numbers = itertools.count(1)
        self._names: dict[str, str] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def close(self) -> None:
        self.run(self.world.pool.close())
        self._runner.close()

    async def begin(self) -> None:
        n = next(self._numbers)
        async with self.world.pool.acquire() as conn:
            self.world.program = (await administer.create_program(conn, code=f"p{n}", name="P", currency="x", time_zone="Asia/Shanghai")).id
            for name in ("shop", "market"):
                await administer.create_platform(conn, sealer=SEALER, program=self.world.program, code=f"{name}{n}", name=name)
                self._names[f"{name}{n}"] = name
        self._number = n

    async def send(self, platform: str, rows: list[dict[str, Any]]) -> list[str]:
        return [r.status for r in (await send(self.world, *rows, platform=f"{platform}{self._number}")).results]

    async def read(self, half: str) -> tuple[bytes, Any]:
        body = await read(self.world, half)
        answer = json.loads(body)
        for p in answer["platforms"]:
            p["platform"] = self._names[p["platform"]]
        return body, answer

    async def entries(self) -> dict[Key, Decimal]:
        rows = await self.world.rows(
            "SELECT half, p.code, class, kind, merchant, sum(mass_g) AS mass_g FROM plastic_entry e JOIN platform p ON p.id = e.platform"
            " WHERE e.program = $1 GROUP BY 1, 2, 3, 4, 5 HAVING sum(mass_g) <> 0",
            self.world.program,
        )
        return {(r["half"], self._names[r["code"]], r["class"], r["kind"], r["merchant"]): r["mass_g"] for r in rows}


async def _pool(dsn: str) -> "asyncpg.Pool[asyncpg.Record]":
    return await asyncpg.create_pool(dsn, min_size=1, max_size=2)


@pytest.mark.timeout(300)
def test_reports_are_the_sums_of_what_rows_say_whatever_is_corrected_and_closed(database: str) -> None:
    real, corrected = Real(database), 0

    @settings(PERMUTATIONS, max_examples=2_000 if LONG else 80)
    @given(steps=st.lists(_steps, min_size=3, max_size=12), begun=st.booleans())
    def run(*, steps: list[Step], begun: bool) -> None:
        nonlocal corrected
        model, kept = Model(), dict[str, bytes]()
        real.run(real.begin())
        for step in [("shop", _first), "2024H1", *steps] if begun else steps:
            if not isinstance(step, str):
                platform, rows = step
                assert real.run(real.send(platform, rows)) == [model.take(platform, row) for row in rows]
            elif step in model.reported:
                model.closed.add(step)
                real.run(close(real.world, step))
            else:
                with pytest.raises(NotFound):
                    real.run(close(real.world, step))
            assert real.run(real.entries()) == model.sums()
            shown: dict[Key, Decimal] = {}
            for half in HALVES:
                body, answer = real.run(real.read(half))
                check_totals(answer)
                shown |= sums_of(answer)
                assert answer["status"] == ("closed" if half in model.closed else "open")
                assert kept.get(half, body) == body
                if half in model.closed:
                    kept[half] = body
            assert shown == model.sums()
        corrected += sum(row["mass_g"].startswith("-") for row in model.rows.values())

    try:
        run()
        assert corrected > 5, "what is never tried is not shown"
    finally:
        real.close()


async def test_the_locks_belong_to_a_program_and_a_platform(world: World) -> None:
    """Another program's closing keeps nobody waiting."""
    async with world.pool.acquire() as conn, conn.transaction():
        await locks.lock_plastic_periods(conn, world.program + 1)
        assert (await asyncio.wait_for(send(world, ROW | {"id": "a"}), 5)).created == 1

"""A station's day under its limits: exact with several writers at once, whatever they bring and take back."""

import asyncio
from datetime import date
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from schemas.stations import StationBody
from service.domain.stations import Used, allowed
from service.flows import administer
from service.flows.stations import create_station
from service.store import stations as store
from service.store.stations import StationDay
from tests.sealer import SEALER

DAY = date(2026, 3, 2)

Pool = Any


class Places:
    """A program with the stations `a` (10 units, 500 g a day) and `b` (no limit)."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.program = 0

    async def found(self) -> "Places":
        async with self.pool.acquire() as conn:
            self.program = (await administer.create_program(conn, code="g", name="G", currency="leaf", time_zone="UTC")).id
            for code, limits in (("a", {"max_units": 10, "max_mass_g": "500"}), ("b", {})):
                await create_station(conn, StationBody(code=code, name=code, **limits), sealer=SEALER, program=self.program)
            self.stations = await store.read_stations(conn, program=self.program, codes=["a", "b", "c"])
        return self

    def key(self, code: str, day: date = DAY) -> StationDay:
        return (self.program, self.stations[code].id, day)

    async def take(self, code: str, units: str, mass_g: str = "0", day: date = DAY) -> bool:
        """As a credit does it: lock, decide, write."""
        key, more = self.key(code, day), Used(units=Decimal(units), mass_g=Decimal(mass_g))
        async with self.pool.acquire() as conn, conn.transaction():
            used = (await store.lock_station_days(conn, [key]))[key]
            if not allowed(self.stations[code], used, units=more.units, mass_g=more.mass_g):
                return False
            assert await store.add_station_days(conn, {key: more}) == set()
            return True

    async def used(self, code: str, day: date = DAY) -> Used:
        async with self.pool.acquire() as conn, conn.transaction():
            return (await store.lock_station_days(conn, [self.key(code, day)]))[self.key(code, day)]


@pytest.fixture
async def places(database: str) -> Any:
    async with asyncpg.create_pool(database, min_size=0, max_size=8) as pool:
        yield await Places(pool).found()


async def test_a_program_has_the_stations_that_it_registered(places: Places) -> None:
    assert sorted(places.stations) == ["a", "b"]
    async with places.pool.acquire() as conn:
        other = await administer.create_program(conn, code="o", name="O", currency="leaf", time_zone="UTC")
        assert await store.read_stations(conn, program=other.id, codes=["a", "b"]) == {}
        assert [await store.has_stations(conn, program) for program in (places.program, other.id)] == [True, False]


async def test_a_limit_holds_however_many_bring_something_at_once(places: Places) -> None:
    taken = await asyncio.gather(*(places.take("a", "1", "1") for _ in range(40)))
    assert sum(taken) == 10
    assert await places.used("a") == Used(units=Decimal(10), mass_g=Decimal(10))
    assert all(await asyncio.gather(*(places.take("b", "1", "1000") for _ in range(20))))
    assert (await places.used("b")).units == 20


async def test_each_day_has_its_own_and_what_is_taken_back_makes_room(places: Places) -> None:
    assert await places.take("a", "9.5", "499.999999")
    assert not await places.take("a", "0.1", "0.000002")
    assert await places.take("a", "9.5", "0", day=date(2026, 3, 3))
    assert await places.take("a", "-5", "-400")
    assert await places.take("a", "5", "400")
    assert await places.used("a") == Used(units=Decimal("9.5"), mass_g=Decimal("499.999999"))


async def test_what_exceeds_a_limit_is_not_written_even_if_nobody_asked(places: Places) -> None:
    a, b = places.key("a"), places.key("b")
    async with places.pool.acquire() as conn, conn.transaction():
        assert list(await store.lock_station_days(conn, [a, b])) == [a, b]
        more = {a: Used(units=Decimal(11)), b: Used(units=Decimal(11))}
        assert await store.add_station_days(conn, more) == {a}
        assert await store.add_station_days(conn, {a: Used(mass_g=Decimal("500.1"))}) == {a}
    assert (await places.used("a")).units == 0
    assert (await places.used("b")).units == 11


async def test_a_limit_that_was_lowered_lets_nothing_in_and_everything_out(places: Places) -> None:
    assert await places.take("a", "8")
    await places.pool.execute("UPDATE station SET max_units = 5 WHERE code = 'a'")
    async with places.pool.acquire() as conn, conn.transaction():
        await store.lock_station_days(conn, [places.key("a")])
        assert await store.add_station_days(conn, {places.key("a"): Used(units=Decimal(1))}) == {places.key("a")}
        assert await store.add_station_days(conn, {places.key("a"): Used(units=Decimal(-1))}) == set()
    assert (await places.used("a")).units == 7


async def test_no_day_goes_below_nothing(places: Places) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await places.take("a", "-1")


async def test_two_that_lock_the_same_days_wait_for_each_other(places: Places) -> None:
    """In the order of the keys, whatever the order in which they are given to the statement."""
    keys = sorted(places.key(code, day) for code in ("a", "b") for day in (DAY, date(2026, 3, 3)))

    async def both(order: list[StationDay]) -> None:
        for _ in range(20):
            async with places.pool.acquire() as conn, conn.transaction():
                await store.lock_station_days(conn, order)
                await store.add_station_days(conn, {key: Used(units=Decimal("0.1")) for key in order})

    await asyncio.gather(both(keys), both(keys[::-1]), both(keys))
    assert (await places.used("b")).units == 6


async def test_the_statements_name_the_program_beside_the_station(places: Places) -> None:
    async with places.pool.acquire() as conn:
        other = await administer.create_program(conn, code="o", name="O", currency="leaf", time_zone="UTC")
        foreign = (other.id, places.stations["a"].id, DAY)
        async with conn.transaction():
            await store.lock_station_days(conn, [foreign])
            assert await store.add_station_days(conn, {foreign: Used(units=Decimal(1))}) == {foreign}
    assert (await places.used("a")).units == 0


async def test_every_statement_is_prepared_by_the_schema(places: Places) -> None:
    async with places.pool.acquire() as conn:
        statements = [text for name, text in vars(store).items() if name.isupper() and isinstance(text, str) and not name.startswith("_")]
        assert len(statements) > 15
        for text in statements:
            await conn.prepare(text)

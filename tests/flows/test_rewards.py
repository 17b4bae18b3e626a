"""Rewards are taken once each, codes given out once each, whatever runs side by side; and every refusal says why."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest

from schemas.problems import FieldError
from service.domain.errors import GreenpointsError, InvalidState, NotFound, Unavailable
from service.flows import vouchers
from service.flows.rewards import deliver, voucher_of
from service.sealing import Sealer, new_master_key
from tests.redeeming import SOLD_OUT, Catalogue, sound, waiting
from tests.sealer import SEALER
from tests.worlds import World


@pytest.fixture
async def crowd(database: str, world: World) -> AsyncIterator[Catalogue]:
    """The same with a connection for each of many buyers."""
    pool = await asyncpg.create_pool(database, min_size=1, max_size=40)
    crowded = World(pool)
    crowded.program, crowded.platforms, crowded.keys = world.program, world.platforms, world.keys
    yield Catalogue(crowded)
    await pool.close()


def counted(results: list[object]) -> Counter[str]:
    """How often there was each refusal; a redemption that worked is its type."""
    return Counter(str(result) if isinstance(result, GreenpointsError) else type(result).__name__ for result in results)


# Side by side -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stock", [None, 50])
async def test_fifty_buyers_get_ten_codes_each_once(crowd: Catalogue, stock: int | None) -> None:
    codes = [f"CODE-{n}" for n in range(10)]
    await crowd.reward(codes=codes, stock=stock)
    buyers = await crowd.accounts(50)
    results = await asyncio.gather(*(crowd.buy(account) for account in buyers), return_exceptions=True)
    assert counted(list(results)) == {"str": 10, SOLD_OUT: 40}
    assert sorted(result for result in results if isinstance(result, str)) == sorted(codes)
    answer = await crowd.read()
    assert (answer.codes_left, answer.reserved, answer.given_out, answer.in_stock) == (0, 0, 10, False)
    assert answer.left == (None if stock is None else 40)
    await sound(crowd.world)


async def test_fifty_buyers_share_a_stock_of_ten(crowd: Catalogue) -> None:
    await crowd.reward(stock=10)
    buyers = await crowd.accounts(50)
    results = await asyncio.gather(*(crowd.reserve(account) for account in buyers), return_exceptions=True)
    assert counted(list(results)) == {"int": 10, SOLD_OUT: 40}
    assert ((answer := await crowd.read()).left, answer.reserved) == (0, 10)
    await sound(crowd.world)


async def test_a_consumer_who_asks_twenty_times_at_once_gets_two(crowd: Catalogue) -> None:
    """Of a reward without end, whose redemptions do not wait for each other: the account's lock is what makes them."""
    await crowd.reward(per_consumer=2)
    account = await crowd.account()
    results = await asyncio.gather(*(crowd.reserve(account) for _ in range(20)), return_exceptions=True)
    assert counted(list(results)) == {"int": 2, "The limit is reached: a consumer can have the reward 2 times.": 18}
    await sound(crowd.world)


async def test_what_is_cancelled_meanwhile_is_bought_again_and_never_twice(crowd: Catalogue) -> None:
    """Ten pieces, forty buyers who keep trying; whoever got one cancels, refunds or keeps it."""
    await crowd.reward(codes=[f"CODE-{n}" for n in range(10)], stock=10)
    buyers = await crowd.accounts(40)
    seen: list[str] = []

    async def shop(n: int, account: int) -> None:
        for _ in range(5):
            try:
                number = await crowd.reserve(account)
            except InvalidState:
                continue
            if n % 4 == 0:
                await crowd.cancel(account, number)
                continue
            code = await crowd.capture(account, number)
            assert code is not None
            seen.append(code)
            if n % 4 == 1:
                await crowd.refund(account, number)
                continue
            return

    await asyncio.gather(*(shop(n, account) for n, account in enumerate(buyers)))
    assert len(seen) == len(set(seen)), "no code was ever shown to two"
    assert len(seen) == 10
    answer = await crowd.read()
    assert answer.codes_left == 0
    assert answer.left == answer.codes_void
    assert answer.given_out + (answer.codes_void or 0) == 10
    await sound(crowd.world)


async def test_the_last_code_is_waited_for_and_had_when_its_buyer_gives_up(catalogue: Catalogue) -> None:
    await catalogue.reward(codes=["THE-ONE"])
    first, second = await catalogue.accounts(2)
    with suppress(ZeroDivisionError):
        async with catalogue.reserving(first):
            other = asyncio.create_task(catalogue.buy(second))
            await waiting(catalogue.world)
            raise ZeroDivisionError
    assert await other == "THE-ONE"
    await sound(catalogue.world)


async def test_buyers_of_what_has_no_end_do_not_wait_for_each_other(catalogue: Catalogue) -> None:
    await catalogue.reward()
    first, second = await catalogue.accounts(2)
    async with catalogue.reserving(first), asyncio.timeout(5):
        await catalogue.reserve(second)


async def test_a_change_waits_for_redemptions_and_they_for_it(catalogue: Catalogue) -> None:
    await catalogue.reward(stock=10)
    first, second = await catalogue.accounts(2)
    async with catalogue.reserving(first):
        closing = asyncio.create_task(catalogue.change(stock=1))
        await waiting(catalogue.world)
        other = asyncio.create_task(catalogue.reserve(second))
        await waiting(catalogue.world, at_least=2)
    assert (await closing).left == 0
    with pytest.raises(InvalidState, match="sold out"):
        await other
    await sound(catalogue.world)


async def test_a_stock_that_gets_an_end_counts_redemptions_under_way(catalogue: Catalogue) -> None:
    await catalogue.reward()
    first, second = await catalogue.accounts(2)
    async with catalogue.reserving(first):
        closing = asyncio.create_task(catalogue.change(stock=1))
        await waiting(catalogue.world)
    assert (await closing).left == 0
    with pytest.raises(InvalidState, match="sold out"):
        await catalogue.reserve(second)
    await sound(catalogue.world)


async def test_a_stock_that_is_set_while_somebody_gives_back_counts_them(catalogue: Catalogue) -> None:
    """The other way round: what is given back while the stock gets an end is counted off."""
    await catalogue.reward()
    first, second = await catalogue.accounts(2)
    kept, back = await catalogue.reserve(first), await catalogue.reserve(second)
    async with catalogue.world.pool.acquire() as conn, conn.transaction():
        await conn.execute("SELECT FROM reward FOR NO KEY UPDATE")
        await conn.execute("UPDATE reward SET stock = 5, taken = 2")
        cancelling = asyncio.create_task(catalogue.cancel(second, back))
        await waiting(catalogue.world)
    await cancelling
    assert (await catalogue.read()).left == 4
    await catalogue.cancel(first, kept)
    assert (await catalogue.read()).left == 5
    await sound(catalogue.world)


async def test_a_stock_that_loses_its_end_while_somebody_waits_is_had(catalogue: Catalogue) -> None:
    await catalogue.reward(stock=0)
    account = await catalogue.account()
    async with catalogue.world.pool.acquire() as conn, conn.transaction():
        await conn.execute("UPDATE reward SET stock = NULL, taken = NULL")
        buying = asyncio.create_task(catalogue.reserve(account))
        await waiting(catalogue.world)
    await buying
    assert ((answer := await catalogue.read()).left, answer.reserved) == (None, 1)


async def test_two_loads_of_the_same_codes_wait_for_each_other(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    """In opposite orders, chunk by chunk: without their lock they would wait in a circle."""
    monkeypatch.setattr(vouchers, "CHUNK_ROWS", 1)
    await catalogue.reward(codes=["A"])
    codes = [f"CODE-{n}" for n in range(100)]
    pool = catalogue.world.pool
    async with pool.acquire(), pool.acquire():
        pass  # so that neither has to wait for its connection
    loads = await asyncio.gather(catalogue.load(codes), catalogue.load(codes[::-1]))
    assert sorted(load.created for load in loads) == [0, 100]
    assert sorted(load.duplicate for load in loads) == [0, 100]


async def test_codes_are_loaded_while_others_are_bought(crowd: Catalogue) -> None:
    await crowd.reward(codes=["FIRST"])
    buyers = await crowd.accounts(20)

    async def patient(account: int) -> str | None:
        for _ in range(200):
            try:
                return await crowd.buy(account)
            except InvalidState:
                await asyncio.sleep(0)
        raise AssertionError("there was no code")

    buying = asyncio.gather(*(patient(account) for account in buyers))
    await crowd.load([f"CODE-{n}" for n in range(19)])
    assert len(set(await buying)) == 20
    await sound(crowd.world)


# The life of a code -----------------------------------------------------------------------------------------


async def test_a_code_is_shown_at_capture_and_no_sooner(catalogue: Catalogue) -> None:
    await catalogue.reward(codes=["SECRET-1"])
    account = await catalogue.account()
    number = await catalogue.reserve(account)
    async with catalogue.world.pool.acquire() as conn:
        named = {"sealer": SEALER, "program": catalogue.world.program, "account": account, "redemption": number}
        assert await voucher_of(conn, **named) is None
        assert await catalogue.capture(account, number) == "SECRET-1"
        assert await deliver(conn, **named) == await voucher_of(conn, **named) == "SECRET-1", "a repeat shows it again"
        for wrong in ({"program": catalogue.world.program + 1}, {"account": account + 1024}, {"redemption": number + 1}):
            assert await voucher_of(conn, **(named | wrong)) is None
            assert await deliver(conn, **(named | wrong)) is None
    await sound(catalogue.world)


async def test_a_cancelled_code_goes_to_the_next_and_a_refunded_one_to_nobody(catalogue: Catalogue) -> None:
    await catalogue.reward(codes=["ONE", "TWO"], stock=2)
    account = await catalogue.account()
    for _ in range(2):  # a repeat changes nothing
        number = await catalogue.reserve(account)
        await catalogue.cancel(account, number)
        await catalogue.cancel(account, number)
    assert ((answer := await catalogue.read()).left, answer.codes_left) == (2, 2)
    number = await catalogue.reserve(account)
    assert await catalogue.capture(account, number) == "ONE"
    for _ in range(2):
        await catalogue.refund(account, number)
    assert ((answer := await catalogue.read()).left, answer.codes_left, answer.codes_void, answer.given_out) == (2, 1, 1, 0)
    assert await catalogue.buy(account) == "TWO"
    with pytest.raises(InvalidState, match="sold out"):
        await catalogue.buy(account)
    async with catalogue.world.pool.acquire() as conn:
        ((_, void),) = await vouchers.void(conn, sealer=SEALER, program=catalogue.world.program, code="cup", after=0, limit=10)
        assert (void.code, void.redemption) == ("ONE", f"r-{number}")
        named = {"sealer": SEALER, "program": catalogue.world.program, "account": account, "redemption": number}
        assert await voucher_of(conn, **named) is None, "nobody has it any more"
    await sound(catalogue.world)


async def test_a_code_that_cannot_be_opened_is_not_paid_for(catalogue: Catalogue) -> None:
    await catalogue.reward(codes=["ONE"])
    account = await catalogue.account()
    number = await catalogue.reserve(account)
    lost = Sealer([new_master_key()])
    async with catalogue.world.pool.acquire() as conn:
        with pytest.raises(Unavailable):
            async with conn.transaction():
                await deliver(conn, sealer=lost, program=catalogue.world.program, account=account, redemption=number)
        with pytest.raises(Unavailable):
            await vouchers.load(conn, ["TWO"], sealer=lost, program=catalogue.world.program, code="cup")
    assert ((answer := await catalogue.read()).reserved, answer.given_out, answer.codes_left) == (1, 0, 0)


async def test_codes_stand_nowhere_as_they_are(catalogue: Catalogue, capfd: pytest.CaptureFixture[str]) -> None:
    await catalogue.reward(codes=["BEARER-VALUE"])
    account = await catalogue.account()
    number = await catalogue.reserve(account)
    await catalogue.capture(account, number)
    await catalogue.refund(account, number)
    for table in ("reward", "voucher", "reward_use", "redemption", "audit"):
        for row in await catalogue.world.rows(f"SELECT t::text AS text FROM {table} t"):
            assert "BEARER" not in row["text"], table
    assert "BEARER" not in "".join(capfd.readouterr())
    (row,) = await catalogue.world.rows("SELECT sealed, hash FROM voucher")
    assert SEALER.open(row["sealed"]) == "BEARER-VALUE"
    (reward,) = await catalogue.world.rows("SELECT sealed_key FROM reward")
    assert len(SEALER.open_bytes(reward["sealed_key"])) == 32


async def test_a_reward_without_codes_has_none(catalogue: Catalogue) -> None:
    await catalogue.reward()
    account = await catalogue.account()
    assert await catalogue.buy(account) is None
    with pytest.raises(InvalidState, match="gives out no codes"):
        await catalogue.load(["ONE"])
    with pytest.raises(NotFound):
        await catalogue.load(["ONE"], code="nothing")


# Loading ----------------------------------------------------------------------------------------------------


async def test_each_row_of_a_load_is_answered(catalogue: Catalogue) -> None:
    await catalogue.reward(codes=["OLD"])
    rows: list[str | FieldError] = [
        "NEW",
        " OLD ",
        "NEW",
        "",
        "  ",
        "a\nb",
        "x" * 512,
        "x" * 513,
        "\ud800",
        FieldError(pointer="", detail="bad"),
        "new",
    ]
    async with catalogue.world.pool.acquire() as conn:
        answer = await vouchers.load(conn, rows, sealer=SEALER, program=catalogue.world.program, code="cup")
        again = await vouchers.load(conn, rows, sealer=SEALER, program=catalogue.world.program, code="cup")
    statuses = [result.status for result in answer.results]
    assert statuses == [
        "created", "duplicate", "duplicate", "rejected", "rejected", "rejected", "created", "rejected", "rejected", "rejected", "created",
    ]  # fmt: skip
    assert [result.row for result in answer.results] == list(range(11))
    assert (answer.created, answer.duplicate, answer.rejected) == (3, 2, 6)
    assert (again.created, again.duplicate, again.rejected) == (0, 5, 6)
    assert len(await catalogue.world.rows("SELECT FROM audit WHERE action = 'voucher.load'")) == 2, "that of the fixture, and this"


async def test_the_same_code_may_be_of_two_rewards(catalogue: Catalogue) -> None:
    await catalogue.reward(codes=["ONE"])
    await catalogue.reward("mug", codes=["ONE"])
    rows = await catalogue.world.rows("SELECT hash FROM voucher")
    assert len({row["hash"] for row in rows}) == 2, "each reward's hashes have a key of their own"

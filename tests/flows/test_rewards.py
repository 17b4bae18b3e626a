"""Rewards are taken once each, codes given out once each, whatever runs side by side; and every refusal says why."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from schemas.causes import CauseBody
from schemas.problems import FieldError
from service.domain.errors import GreenpointsError, InvalidRequest, InvalidState, NotFound, Unavailable
from service.flows import causes, vouchers
from service.flows.check import RULES
from service.flows.rewards import deliver, voucher_of
from service.sealing import Sealer, new_master_key
from service.store import check_rewards
from tests.redeeming import Catalogue, waiting
from tests.sealer import SEALER
from tests.tampering import allow
from tests.worlds import World


@pytest.fixture
def catalogue(world: World) -> Catalogue:
    return Catalogue(world)


@pytest.fixture
async def crowd(database: str, world: World) -> AsyncIterator[Catalogue]:
    """The same with a connection for each of many buyers."""
    pool = await asyncpg.create_pool(database, min_size=1, max_size=40)
    crowded = World(pool)
    crowded.program, crowded.platforms, crowded.keys = world.program, world.platforms, world.keys
    yield Catalogue(crowded)
    await pool.close()


STATEMENTS = {name: value for name, value in vars(check_rewards).items() if name.isupper()}


async def broken(world: World) -> set[str]:
    """What `check` says of rewards: the statements that find something."""
    return {name for name, statement in STATEMENTS.items() if await world.rows(statement)}


async def sound(world: World) -> None:
    assert await broken(world) == set()


def counted(results: list[object]) -> Counter[str]:
    """How often there was each refusal; a redemption that worked is its type."""
    return Counter(str(result) if isinstance(result, GreenpointsError) else type(result).__name__ for result in results)


SOLD_OUT = "The reward is sold out."

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


# Refusals ---------------------------------------------------------------------------------------------------

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


async def test_a_price_is_its_price(catalogue: Catalogue) -> None:
    await catalogue.reward()
    account = await catalogue.account()
    async with catalogue.reserving(account) as (_, _, booked):
        assert booked.points == 100
    async with catalogue.reserving(account, points=100) as (_, _, booked):
        assert booked.points == 100
    for points in (99, 101, 0, -100):
        with pytest.raises(InvalidRequest) as refused:
            await catalogue.reserve(account, points=points)
        assert [error.pointer for error in refused.value.errors] == ["/points"]
    assert (await catalogue.read()).reserved == 2


@pytest.mark.parametrize(
    ("more", "at", "said"),
    [
        ({"valid_from": NOW}, NOW - timedelta(microseconds=1), "The reward is offered from 2026-06-01T00:00:00Z on."),
        ({"valid_from": NOW}, NOW, None),
        ({"valid_until": NOW}, NOW - timedelta(microseconds=1), None),
        ({"valid_until": NOW}, NOW, "The reward was offered until 2026-06-01T00:00:00Z."),
        ({"stock": 0}, NOW, SOLD_OUT),
        ({"vouchers": True}, NOW, SOLD_OUT),
        ({"platforms": ["shop"]}, NOW, None),
    ],
)
async def test_what_is_not_offered_is_refused_in_words(
    catalogue: Catalogue, more: dict[str, object], at: datetime, said: str | None
) -> None:
    await catalogue.reward(**more)
    account = await catalogue.account()
    if said is None:
        await catalogue.reserve(account, at=at)
        return
    with pytest.raises(InvalidState) as refused:
        await catalogue.reserve(account, at=at)
    assert refused.value.detail == said
    assert await catalogue.world.rows("SELECT FROM reward_use") == []


async def test_what_is_anothers_is_as_if_it_did_not_exist(catalogue: Catalogue, database: str) -> None:
    await catalogue.reward("of-market", platforms=["market"])
    account = await catalogue.account()
    async with catalogue.world.pool.acquire() as conn:
        await conn.execute("INSERT INTO program (code, name, currency, time_zone) VALUES ('other', 'O', 'x', 'UTC')")
        await conn.execute(
            "INSERT INTO reward (program, code, name, description, points) SELECT id, 'of-other', 'x', '', 100 FROM program WHERE code = 'other'"
        )
    said = set()
    for code in ("of-market", "of-other", "nothing", "", "NUL\x00", "ä"):
        with pytest.raises(InvalidRequest) as refused:
            await catalogue.reserve(account, code)
        assert [error.pointer for error in refused.value.errors] == ["/reward"]
        said.add(refused.value.detail)
    assert len(said) == 1
    assert await catalogue.reserve(account, "of-market", platform="market")


async def test_a_reward_that_is_taken_off_is_not_booked_and_still_delivered(catalogue: Catalogue) -> None:
    await catalogue.reward(codes=["ONE", "TWO"])
    account = await catalogue.account()
    number = await catalogue.reserve(account)
    await catalogue.change(active=False)
    with pytest.raises(InvalidState, match="not offered at present"):
        await catalogue.reserve(account)
    assert await catalogue.capture(account, number) == "ONE"
    await catalogue.refund(account, number)
    await sound(catalogue.world)


async def test_a_limit_counts_what_was_not_given_back_of_all_linked_accounts(catalogue: Catalogue) -> None:
    await catalogue.reward(per_consumer=1)
    first, second = await catalogue.accounts(2)
    number = await catalogue.reserve(first)
    for refused in (first,):
        with pytest.raises(InvalidState, match="can have the reward once"):
            await catalogue.reserve(refused)
    await catalogue.cancel(first, number)
    await catalogue.reserve(first)
    await catalogue.world.rows("UPDATE account SET home = $2 WHERE id = $1", first, second)
    for linked in (first, second):
        with pytest.raises(InvalidState, match="can have the reward once"):
            await catalogue.reserve(linked)


async def test_a_stock_cannot_fall_below_what_is_taken(catalogue: Catalogue) -> None:
    await catalogue.reward()
    for account in await catalogue.accounts(3):
        await catalogue.reserve(account)
    with pytest.raises(InvalidRequest) as refused:
        await catalogue.change(stock=2)
    assert [error.pointer for error in refused.value.errors] == ["/stock"]
    assert (await catalogue.change(stock=3)).left == 0
    assert (await catalogue.change(stock=5)).left == 2
    assert (await catalogue.change(stock=None)).left is None
    await sound(catalogue.world)


# The check --------------------------------------------------------------------------------------------------


def test_the_check_makes_all_of_these_statements() -> None:
    made = {statement for rule in RULES for statement in rule.statements}
    assert set(STATEMENTS.values()) <= made


TAMPERING = [
    ("UPDATE reward SET taken = taken + 1 WHERE code = 'cup'", {"REWARD_STOCKS"}),
    ("UPDATE reward SET taken = taken - 1 WHERE code = 'cup'", {"REWARD_STOCKS"}),
    ("DELETE FROM reward_use WHERE state = 'given'", {"REWARD_USES", "REWARD_STOCKS", "VOUCHERS"}),
    ("DELETE FROM reward_use WHERE state = 'returned'", {"REWARD_USES", "VOUCHERS"}),
    ("UPDATE reward_use SET state = 'given' WHERE state = 'reserved'", {"REWARD_USES", "VOUCHERS"}),
    ("UPDATE reward_use SET state = 'returned' WHERE state = 'given'", {"REWARD_USES", "REWARD_STOCKS", "VOUCHERS"}),
    ("UPDATE redemption SET reward = reward + 1 WHERE status = 'reserved'", {"REWARD_USES"}),
    ("UPDATE redemption SET status = 'expired', ended_at = now() WHERE status = 'reserved'", {"REWARD_USES"}),
    ("UPDATE redemption SET refunded = captured WHERE refunded = 0 AND captured > 0 AND reward IS NOT NULL", {"REWARD_USES"}),
    ("DELETE FROM redemption WHERE status = 'reserved'", {"REWARD_USES"}),
    ("DELETE FROM voucher WHERE state = 'given'", {"VOUCHERS"}),
    ("UPDATE voucher SET state = 'given' WHERE state = 'reserved'", {"VOUCHERS"}),
    ("UPDATE voucher SET state = 'given', voided_at = NULL WHERE state = 'void'", {"VOUCHERS"}),
    ("UPDATE voucher SET state = 'free', bucket = NULL, account = NULL, redemption = NULL WHERE state = 'given'", {"VOUCHERS"}),
    ("UPDATE voucher SET state = 'given', bucket = 1, account = 1, redemption = 1 WHERE state = 'free'", {"VOUCHERS"}),
    ("UPDATE voucher SET redemption = redemption + 1000000 WHERE state = 'given'", {"VOUCHERS"}),
    ("UPDATE cause_total SET points = points + 1", {"CAUSES"}),
    ("UPDATE cause_total SET donations = donations + 1", {"CAUSES"}),
    ("DELETE FROM cause_total", {"CAUSES"}),
    ("UPDATE entry SET amount = amount + 1 WHERE book = 7 AND amount > 0", {"CAUSES"}),
    ("UPDATE entry SET event = event + 1000000 WHERE book = 7", {"CAUSES"}),
    ("UPDATE redemption SET cause = cause + 1 WHERE cause IS NOT NULL", {"CAUSES"}),
]
GIVEN_TO_A_CAUSE = """
WITH made AS (
    INSERT INTO redemption (bucket, account, number, program, platform, id, status, points, captured, refunded, cause, created_at, expires_at, ended_at)
    SELECT 1, 1, n, 1, 1, 'd-' || n, 'captured', 50, 50, 10 * (n - 900), $1, now(), now(), now() FROM generate_series(900, 905) n
    RETURNING number, captured, refunded
)
INSERT INTO entry (bucket, account, seq, transfer, kind, book, amount, program, platform, campaign, event, award, n, version, at)
SELECT 1, 1, number * 10 + k, number * 10 + k, 5, 7, CASE k WHEN 0 THEN captured ELSE -refunded END, 1, 1, 0, number, 0, 0, 1, now()
FROM made, generate_series(0, 1) k WHERE k = 0 OR refunded > 0
"""


async def test_what_is_tampered_with_is_found(catalogue: Catalogue) -> None:
    """One reserved, one given, one refunded and one free code; six donations of 50, refunded from not at all to in full."""
    world = catalogue.world
    await catalogue.reward(codes=["A", "B", "C", "D"], stock=9)
    account = await catalogue.account()
    await catalogue.reserve(account)
    await catalogue.buy(account)
    refunded = await catalogue.reserve(account)
    await catalogue.capture(account, refunded)
    await catalogue.refund(account, refunded)
    async with world.pool.acquire() as conn:
        await causes.create_cause(conn, CauseBody(code="trees", name="Trees"), program=world.program)
        cause = await causes.cause_of(conn, program=world.program, code="trees")
        await conn.execute(GIVEN_TO_A_CAUSE, cause)
        await causes.count(conn, cause=cause, points=300, donations=6, stripe=1)
        await causes.count(conn, cause=cause, points=-150, donations=-1, stripe=2)
        await sound(world)
        for sql, expected in TAMPERING:
            transaction = conn.transaction()
            await transaction.start()
            await allow(conn)
            assert not (await conn.execute(sql)).endswith(" 0"), f"changed nothing: {sql}"
            found = {name for name, statement in STATEMENTS.items() if await conn.fetch(statement)}
            await transaction.rollback()
            assert found == expected, sql
    await sound(world)

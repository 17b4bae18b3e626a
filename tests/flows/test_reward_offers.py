"""What is not on offer is refused in words, and what was tampered with is found."""

from datetime import UTC, datetime, timedelta

import pytest

from schemas.causes import CauseBody
from service.domain.errors import InvalidRequest, InvalidState
from service.flows import causes
from service.flows.check import RULES
from tests.redeeming import SOLD_OUT, STATEMENTS, Catalogue, sound
from tests.tampering import allow

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
        await allow(conn)
        await causes.create_cause(conn, CauseBody(code="trees", name="Trees"), program=world.program)
        cause = await causes.cause_of(conn, program=world.program, code="trees")
        await conn.execute(GIVEN_TO_A_CAUSE, cause)
        await causes.count(conn, cause=cause, points=300, donations=6, stripe=1)
        await causes.count(conn, cause=cause, points=-150, donations=-1, stripe=2)
        await sound(world)
        for sql, expected in TAMPERING:
            transaction = conn.transaction()
            await transaction.start()
            assert not (await conn.execute(sql)).endswith(" 0"), f"changed nothing: {sql}"
            found = {name for name, statement in STATEMENTS.items() if await conn.fetch(statement)}
            await transaction.rollback()
            assert found == expected, sql
    await sound(world)

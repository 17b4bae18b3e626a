"""What the schema itself refuses, whoever writes it: the last guard behind the flows."""

import asyncpg
import pytest

from tests.adjusting import give
from tests.worlds import World, order_paid


@pytest.fixture
async def credited(world: World) -> World:
    """One account with 20 points on hold."""
    await world.campaign(hold="P14D")
    await world.credit(order_paid(quantity=2))
    return world


@pytest.mark.parametrize("column", ["pending", "available", "reserved", "debt"])
async def test_no_balance_goes_below_nothing(credited: World, column: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match=f"account_{column}_check"):
        await credited.rows(f"UPDATE account SET {column} = -1")


async def test_no_more_is_taken_back_than_was_awarded(credited: World) -> None:
    for reversed_ in (21, -1):
        with pytest.raises(asyncpg.CheckViolationError, match="award"):
            await credited.rows("UPDATE award SET reversed = $1", reversed_)


async def test_an_account_s_entries_are_numbered_once(world: World) -> None:
    insert = """
        INSERT INTO entry (bucket, account, seq, transfer, kind, book, amount, program, platform, campaign, event, award, n, version, at)
        VALUES (1, 1, 1, $1, 1, 1, 5, 1, 1, 1, 1, 1, 0, 1, now())"""
    await world.rows(insert, 1)
    with pytest.raises(asyncpg.UniqueViolationError, match="entry_pkey"):
        await world.rows(insert, 2)


async def test_a_lot_holds_no_more_than_it_was(credited: World) -> None:
    insert = """
        INSERT INTO lot (bucket, account, event, n, program, platform, campaign, amount, remaining, reserved)
        VALUES (1, 1, 1, 0, 1, 1, 1, 20, $1, $2)"""
    for remaining, reserved, constraint in ((21, 0, "lot_"), (-1, 0, "lot_"), (5, 6, "lot_reserved"), (5, -1, "lot_reserved")):
        with pytest.raises(asyncpg.CheckViolationError, match=constraint):
            await credited.rows(insert, remaining, reserved)
    await credited.rows(insert, 20, 20)


async def test_a_key_has_one_answer(world: World) -> None:
    insert = """
        INSERT INTO idempotent_request (program, key, request_hash, status, answer, bucket, account)
        VALUES (1, 'p1:k', $1, 201, '{}', 1, 1)"""
    await world.rows(insert, b"one")
    with pytest.raises(asyncpg.UniqueViolationError, match="idempotent_request_pkey"):
        await world.rows(insert, b"another")


async def test_no_more_of_a_lot_is_reserved_than_is_left(world: World) -> None:
    await give(world, 5)
    for reserved in (6, -1):
        with pytest.raises(asyncpg.CheckViolationError, match="lot_reserved"):
            await world.rows("UPDATE lot SET reserved = $1", reserved)


async def test_an_account_has_one_home_at_a_time(world: World) -> None:
    insert = "INSERT INTO account_link (bucket, account, number, program, home, platform, code, at) VALUES (1, 1, $1, 1, $2, 1, '', now())"
    await world.rows(insert, 1, 1025)
    with pytest.raises(asyncpg.UniqueViolationError, match="account_link_open"):
        await world.rows(insert, 2, 2049)
    await world.rows("UPDATE account_link SET split_at = now()")
    await world.rows(insert, 2, 2049)

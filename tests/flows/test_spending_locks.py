"""Spending beside erasures and links, step by step: who waits for whom, and what is found afterwards."""

import asyncio
import itertools
import json
from datetime import timedelta
from typing import Any

import pytest

from service.flows import erase as erasing
from service.flows import links
from service.flows.administer import Change
from service.flows.redeem import Ask, redeem
from service.store import redemptions as store
from tests.adjusting import give, unharmed
from tests.flows.test_locks import blocked
from tests.worlds import World

NAME = "cart-of-ada"
_keys = itertools.count()
EVERYWHERE = (
    "SELECT count(*) AS n FROM (SELECT r::text AS t FROM redemption r UNION ALL SELECT i::text FROM idempotent_request i) x WHERE t LIKE $1"
)


@pytest.fixture
async def ada(world: World) -> World:
    """`ada` of `shop` has 100 points, `eve` of `market` 5."""
    await give(world, 100, "ada")
    await give(world, 5, "eve", platform="market")
    return world


def ask(world: World, step: Any = "create", platform: str = "shop", **more: Any) -> Ask:
    body = {"program": world.program, "platform": world.platforms[platform].platform, "step": step, "request_hash": b"h"}
    if step == "create":
        body |= {"consumer": "ada" if platform == "shop" else "eve", "points": 5, "ttl": timedelta(minutes=5), "reference": NAME}
    return Ask(**(body | {"key": f"key-{next(_keys)}"} | more))


async def do(world: World, wanted: Ask) -> Any:
    async with world.pool.acquire() as connection:
        (outcome,) = (await redeem(connection, [wanted], 1)).outcomes
    assert outcome.error is None, outcome.error
    return json.loads(outcome.answer)


async def erase(world: World, platform: str = "shop", reference: str = "ada") -> None:
    sender = world.platforms[platform]
    async with world.pool.acquire() as connection:
        await erasing.erase(
            connection, program=world.program, platform=sender.platform, code=platform, reference=reference, change=Change()
        )


async def link(world: World, connection: Any, *, member: str = "eve", platform: str = "market", of: str = "ada", at: str = "shop") -> None:
    def names(platform: str, reference: str) -> dict[str, Any]:
        sender = world.platforms[platform]
        return {"program": world.program, "platform": sender.platform, "code": platform, "reference": reference, "change": Change()}

    code = (await links.make_code(connection, **names(at, of))).code
    await links.link(connection, **names(platform, member), link_code=code, stripe=1)


async def split(world: World) -> None:
    sender = world.platforms["market"]
    async with world.pool.acquire() as connection:
        await links.split(
            connection, program=world.program, platform=sender.platform, code="market", reference="eve", stripe=1, change=Change()
        )  # fmt: skip


async def named(world: World, name: str = NAME) -> int:
    """Rows that have a platform's name for a redemption, or a consumer's."""
    return int((await world.rows(EVERYWHERE, f"%{name}%"))[0]["n"])


# Erasure


async def test_an_erasure_waits_for_whoever_has_looked_the_name_up(ada: World) -> None:
    """What is spent afterwards would stay under the name, behind the erasure's back."""
    wanted = ask(ada)
    async with ada.pool.acquire() as connection, connection.transaction():
        await store.open_requests(
            connection, [(wanted.program, wanted.key, wanted.by_consumer, wanted.platform, wanted.consumer, wanted.redemption)]
        )
        erasure = await blocked(ada, erase(ada))
        assert not erasure.done(), "it did not wait"
        await redeem(connection, [wanted], 1)
    await erasure
    assert await named(ada) == 0
    await unharmed(ada)


async def test_an_erasure_waits_for_a_step_that_names_nobody(ada: World) -> None:
    """A capture says which redemption, not whose; its first answer holds the reference."""
    made = await do(ada, ask(ada))
    async with ada.pool.acquire() as connection, connection.transaction():
        await redeem(connection, [ask(ada, "capture", redemption=made["id"])], 1)
        erasure = await blocked(ada, erase(ada))
        assert not erasure.done(), "it did not wait"
    await erasure
    assert await named(ada) == 0
    await unharmed(ada)


async def test_what_was_redeemed_is_forgotten_and_its_repeats_are_answered(ada: World) -> None:
    create, own = ask(ada), ask(ada, by_consumer=True, key="own")
    first, second = await do(ada, create), await do(ada, own)
    await do(ada, ask(ada, "capture", redemption=first["id"]))
    assert await named(ada) == 5
    await erase(ada)
    assert await named(ada) == 0
    assert {bytes(row["request_hash"]) for row in await ada.rows("SELECT request_hash FROM idempotent_request")} == {b""}
    again = await do(ada, create)
    assert again == first | {"reference": None}, "a late repeat of the platform's spends nothing anew"
    shown = await ada.rows("SELECT id, status, reference FROM redemption ORDER BY number")
    assert [(row["id"], row["reference"]) for row in shown] == [(first["id"], None), (second["id"], None)]
    # What is open goes on, and comes to its end.
    assert (await do(ada, ask(ada, "cancel", redemption=second["id"])))["reference"] is None
    await unharmed(ada)


@pytest.mark.parametrize("before", ["linked", "split"])
async def test_each_platform_forgets_what_is_its_own_wherever_the_points_were(ada: World, before: str) -> None:
    """Spent before the link, in it, and after the split: by the one who is erased, and by the other one."""
    await do(ada, ask(ada, "create", "market", points=1, reference="theirs-1"))
    await do(ada, ask(ada, "cancel", "market", redemption=(await ada.rows("SELECT id FROM redemption"))[0]["id"]))
    await do(ada, ask(ada, points=1, capture=True))
    async with ada.pool.acquire() as connection:
        await link(ada, connection)
    await do(ada, ask(ada, "create", "market", points=1, capture=True, reference="theirs-2"))
    await do(ada, ask(ada, points=1, capture=True))
    if before == "split":
        await split(ada)
        await do(ada, ask(ada, "create", "market", points=1, capture=True, reference="theirs-3"))
    assert (await named(ada, "theirs"), await named(ada)) == (7 if before == "split" else 5, 4)
    await erase(ada, "market", "eve")
    assert await named(ada, "theirs") == 0
    assert await named(ada) == 4, "the other platform's are untouched"
    hashes = await ada.rows("SELECT key, request_hash FROM idempotent_request WHERE key LIKE $1", f"p{ada.platforms['shop'].platform}:%")
    assert {bytes(row["request_hash"]) for row in hashes} == {b"h"}
    await erase(ada)
    assert await named(ada) == 0
    await unharmed(ada)


async def test_a_code_is_forgotten_with_whoever_it_stands_for(ada: World) -> None:
    sender = ada.platforms["shop"]
    async with ada.pool.acquire() as connection:
        await links.make_code(
            connection, program=ada.program, platform=sender.platform, code="shop", reference="ada", change=Change()
        )  # fmt: skip
    await erase(ada)
    assert await ada.rows("SELECT * FROM link_code") == []


# Links


async def test_who_waited_for_a_link_spends_from_the_one_purse(ada: World) -> None:
    async with ada.pool.acquire() as connection, connection.transaction():
        await link(ada, connection)
        spending = await blocked(ada, do(ada, ask(ada, "create", "market", points=50, capture=True)))
        assert not spending.done(), "it did not wait"
    assert (await asyncio.wait_for(spending, 10))["balance"]["available"] == 55
    await unharmed(ada)

"""Rewards in redemptions: booked when points are reserved, delivered when they are captured, given back when they are not or come back.

All of it runs in the transaction of the redemption, after its account is locked: account → reward → voucher.
"""

from datetime import datetime

import structlog
from msgspec import Struct

from service import failpoints
from service.domain.errors import Unavailable
from service.domain.rewards import check_limit, price, sold_out
from service.sealing import Sealer, Unsealable
from service.store import rewards as store
from service.store import vouchers
from service.store.connection import Connection

log = structlog.get_logger("greenpoints.rewards")


class Booked(Struct, frozen=True, kw_only=True):
    """What a redemption reserved."""

    reward: int
    """Its number: column `reward` of the redemption."""
    points: int
    """What it costs, all of it: a redemption of a reward is captured and refunded as a whole."""


async def book(
    connection: Connection, *, program: int, platform: int, code: str, account: int, redemption: int, points: int | None, now: datetime
) -> Booked:
    """Reserve a reward, and a code where it has codes, for a redemption of this number.

    `account` pays, and is locked; `points` is what the request says that the reward costs. Raises InvalidRequest (no such reward for this
    platform, another price), InvalidState (not offered now, sold out, the consumer's limit); then roll back. Not to be repeated.
    """
    reward = await store.lock(connection, program=program, code=code) if code.isascii() and code.isprintable() else None
    cost = price(reward, platform=platform, points=points, now=now)
    assert reward is not None, "a price is a reward's"
    if reward.per_consumer is not None:
        check_limit(reward, await store.used(connection, account=account, reward=reward.id))
    await store.take(connection, account=account, redemption=redemption, reward=reward.id, now=now)
    failpoints.at("rewards.taken")
    if reward.has_codes and not await vouchers.hold(connection, reward=reward.id, account=account, redemption=redemption):
        raise sold_out()
    failpoints.at("rewards.held")
    return Booked(reward=reward.id, points=cost)


async def deliver(connection: Connection, *, sealer: Sealer, program: int, account: int, redemption: int) -> str | None:
    """Give out what a captured redemption reserved; its code, None where the reward has none. A repeat gives the same.

    Raises Unavailable when no master key opens the code; then roll back, so that nobody pays for what cannot be shown.
    """
    await store.give(connection, program=program, account=account, redemption=redemption)
    failpoints.at("rewards.given")
    return await voucher_of(connection, sealer=sealer, program=program, account=account, redemption=redemption)


async def voucher_of(connection: Connection, *, sealer: Sealer, program: int, account: int, redemption: int) -> str | None:
    """The code that a redemption was given; None before its capture and after a refund. Raises Unavailable as `deliver`.

    For those who may read the redemption. It belongs in no log and no table: kept answers leave it out, and ask here again.
    """
    sealed = await vouchers.of_redemption(connection, program=program, account=account, redemption=redemption)
    if sealed is None:
        return None
    try:
        return sealer.open(sealed)
    except Unsealable as error:
        log.error(f"a voucher's code cannot be opened: {error}", redemption=redemption)  # noqa: TRY400 - its trace says nothing more
        raise Unavailable("The reward's code cannot be shown at the moment; try again later.") from None


async def give_back(connection: Connection, *, program: int, account: int, redemption: int, captured: bool) -> None:
    """Take back what a redemption reserved, or was given if it was `captured`: the stock returns, and a code that nobody has seen.

    A code that was given out is void from now on. Nothing happens to a redemption without a reward, and by a repeat.
    """
    await store.give_back(connection, program=program, account=account, redemption=redemption, captured=captured)
    failpoints.at("rewards.given_back")

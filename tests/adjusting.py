"""Helpers for tests of points that move by hand: operators, points to begin with, policies, adjustments, transfers."""

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from schemas.adjustments import AdjustmentBody, TransferBody
from schemas.points_policy import PointsPolicy
from service.domain.openings import rows_of_ndjson
from service.flows import adjustments, administer, transfers
from service.flows.administer import Change
from service.flows.openings import take_over
from service.store import callers
from service.store.connection import Connection
from tests import books
from tests.worlds import World

CHANGE = Change(actor="operator:1")
_names = itertools.count(1)


def in_days(days: int) -> str:
    """A day to come."""
    return (datetime.now(UTC).date() + timedelta(days=days)).isoformat()


async def give(world: World, points: int, consumer: str = "c", *, last_day: str | None = None, platform: str = "shop") -> None:
    """Points from elsewhere: available at once, one lot."""
    row = {"id": f"row-{next(_names)}", "consumer": consumer, "points": points, "expires_on": last_day}
    async with world.pool.acquire() as conn:
        owner = await administer.find_platform(conn, program=world.program, code=platform)
        taken = await take_over(conn, list(rows_of_ndjson([json.dumps(row)])), platform=owner, change=Change())
    assert taken.points == points, taken.results


async def set_policy(world: World, **changes: Any) -> None:
    """A version of the program's policy that counts from now on."""
    policy = msgspec.convert(changes, PointsPolicy)
    await world.rows(
        """INSERT INTO points_policy (program, version, effective_from, body, created_by)
           SELECT $1, coalesce(max(version), 0) + 1, now(), $2, 'command' FROM points_policy WHERE program = $1""",
        world.program, msgspec.json.encode(policy).decode(),
    )  # fmt: skip


async def operator(world: World, role: Any = "fraud") -> int:
    """The number of a new operator."""
    async with world.pool.acquire() as conn:
        made = await callers.insert_operator(
            conn, program=world.program, email=f"op-{next(_names)}@example.com", password_hash="none", role=role
        )
    assert made is not None
    return int(made.id)


async def propose(
    world: World, points: int, *, by: int, consumer: str = "c", key: str | None = None, connection: "Connection | None" = None, **more: Any
) -> adjustments.Outcome:
    body = msgspec.convert({"platform": "shop", "consumer": consumer, "points": points, "reason": "said sorry"} | more, AdjustmentBody)

    async def on(conn: Connection) -> adjustments.Outcome:
        return await adjustments.propose(
            conn, body, program=world.program, operator=by, key=key or f"key-{next(_names)}", request_hash=msgspec.json.encode(body),
            change=CHANGE,
        )  # fmt: skip

    if connection is not None:
        return await on(connection)
    async with world.pool.acquire() as conn:
        return await on(conn)


async def decide(
    world: World, made: adjustments.Outcome, step: Any, *, by: int, note: str | None = None, connection: "Connection | None" = None
) -> adjustments.Outcome:
    async def on(conn: Connection) -> adjustments.Outcome:
        return await adjustments.decide(conn, int(made.answer.id), step, note=note, program=world.program, operator=by, change=CHANGE)

    if connection is not None:
        return await on(connection)
    async with world.pool.acquire() as conn:
        return await on(conn)


async def send(
    world: World, points: int, sender: str = "a", to: str = "b", *, key: str | None = None, message: str | None = None,
    by_platform: bool = False, platform: str = "shop", connection: "Connection | None" = None,
) -> transfers.Outcome:  # fmt: skip
    """A consumer gives points to another."""
    body = TransferBody(to=to, points=points, message=message)
    owner = world.platforms[platform]

    async def on(conn: Connection) -> transfers.Outcome:
        return await transfers.transfer(
            conn, body, program=world.program, platform=owner.platform, sender=sender, by_platform=by_platform,
            key=key or f"key-{next(_names)}", request_hash=msgspec.json.encode(body),
        )  # fmt: skip

    if connection is not None:
        return await on(connection)
    async with world.pool.acquire() as conn:
        return await on(conn)


async def balances(world: World) -> dict[str, tuple[int, int]]:
    """Available points and debt of everybody, by name; of platforms that share names the last one's."""
    rows = await world.rows(
        """SELECT r.reference, a.available, a.debt FROM consumer_reference r JOIN account a ON a.bucket = r.bucket AND a.id = r.account
           ORDER BY r.platform DESC, r.reference"""
    )
    return {row["reference"]: (row["available"], row["debt"]) for row in rows}


async def lots(world: World, consumer: str) -> list[tuple[int, str | None]]:
    """What is left of a consumer's lots, with their last days, in the order in which they are spent."""
    rows = await world.rows(
        """SELECT l.remaining, l.expires_on FROM consumer_reference r JOIN lot l USING (bucket, account)
           WHERE r.reference = $1 AND l.remaining > 0 ORDER BY l.expires_on, l.event, l.n""",
        consumer,
    )
    return [(row["remaining"], None if row["expires_on"] is None else row["expires_on"].isoformat()) for row in rows]


async def unharmed(world: World) -> None:
    async with world.pool.acquire() as connection:
        assert await books.faults(connection) == {}

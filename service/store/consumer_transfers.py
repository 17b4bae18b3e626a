"""SQL of points that consumers give each other. Read what was given in a later statement than the one that locks the giver's account."""

from datetime import date, datetime
from typing import Final

from msgspec import Struct

from service.domain.keys import bucket_of
from service.store.connection import Connection

GIVEN_ON: Final = "SELECT coalesce(sum(points), 0)::bigint FROM consumer_transfer WHERE bucket = $1 AND account = $2 AND day = $3"


async def given_on(connection: Connection, account: int, day: date) -> int:
    """Points that an account has given on a local day."""
    points: int = await connection.fetchval(GIVEN_ON, bucket_of(account), account, day)
    return points


class ConsumerTransfer(Struct, frozen=True, kw_only=True):
    """Points that an account gave; columns of table `consumer_transfer`."""

    account: int
    number: int
    program: int
    platform: int
    id: str
    to_account: int
    points: int
    day: date
    at: datetime


INSERT: Final = """
INSERT INTO consumer_transfer (bucket, account, number, program, platform, id, to_bucket, to_account, points, day, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""


async def insert(connection: Connection, t: ConsumerTransfer) -> None:
    """Note one."""
    await connection.execute(
        INSERT, bucket_of(t.account), t.account, t.number, t.program, t.platform, t.id, bucket_of(t.to_account), t.to_account, t.points,
        t.day, t.at,
    )  # fmt: skip

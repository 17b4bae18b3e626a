"""SQL of leases: who does a part of some work right now, told apart by a token that rises with every taker.

A lease only spares others the wait. What makes a paused worker harmless is that each of its transactions looks at the token, under the
locks of the accounts that it is about to change (`still_mine`): whoever lost the lease meanwhile finds no row, and rolls back.
"""

from typing import Final, Literal

from msgspec import Struct

from service.store.connection import Connection

Work = Literal["expire", "release", "judge"]

LEASE_S: Final = 10.0
"""How long a lease lasts after it was taken, and after each transaction that it was renewed in."""


class Lease(Struct, frozen=True, kw_only=True):
    """A part of some work, taken: the first bucket of a group (of a judge: its program), and the token of this taker."""

    work: Work
    part: int
    token: int


class LeaseLost(Exception):
    """Another worker has taken it: roll back, and leave the rest to them."""


# Looked for first: a mere ON CONFLICT waits for whoever is just renewing it.
PLACE: Final = """
INSERT INTO lease (work, part, token, until) SELECT $1, $2, 0, '-infinity' WHERE NOT EXISTS (SELECT FROM lease WHERE work = $1 AND part = $2)
ON CONFLICT DO NOTHING
"""
# One whose row somebody holds is being renewed in a transaction of theirs: it is not free, however long that hangs.
TAKE: Final = """
WITH free AS (
    SELECT work, part FROM lease WHERE work = $1 AND part = $2 AND until <= clock_timestamp() FOR UPDATE SKIP LOCKED
)
UPDATE lease l SET token = token + 1, until = clock_timestamp() + make_interval(secs => $3)
FROM free f WHERE l.work = f.work AND l.part = f.part RETURNING token
"""
STILL_MINE: Final = """
UPDATE lease SET until = clock_timestamp() + make_interval(secs => $4) WHERE work = $1 AND part = $2 AND token = $3 RETURNING token
"""
GIVE_BACK: Final = "UPDATE lease SET until = '-infinity' WHERE work = $1 AND part = $2 AND token = $3"


async def take(connection: Connection, work: Work, part: int, *, lease_s: float = LEASE_S) -> Lease | None:
    """Take a part that nobody has, by PostgreSQL's clock; None: somebody has it. In a transaction of its own."""
    await connection.execute(PLACE, work, part)
    token = await connection.fetchval(TAKE, work, part, lease_s)
    return None if token is None else Lease(work=work, part=part, token=token)


async def still_mine(connection: Connection, lease: Lease, *, lease_s: float = LEASE_S) -> None:
    """Keep it until this transaction ends, and renew it. Call it after locking what the transaction changes. Raises LeaseLost.

    One that has run out and that nobody has taken is still ours.
    """
    if await connection.fetchval(STILL_MINE, lease.work, lease.part, lease.token, lease_s) is None:
        raise LeaseLost(f"{lease.work} {lease.part} was taken after token {lease.token}")


async def give_back(connection: Connection, lease: Lease) -> None:
    """Let others take it at once; nothing happens if they already have. Killed before this, its holder keeps it until it runs out."""
    await connection.execute(GIVE_BACK, lease.work, lease.part, lease.token)

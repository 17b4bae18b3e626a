"""SQL of voucher codes: loaded sealed, held for a redemption, given out once."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from service.domain.keys import bucket_of
from service.store.connection import Connection

KEY: Final = "SELECT id, sealed_key FROM reward WHERE program = $1 AND code = $2"
LOAD: Final = """
INSERT INTO voucher (reward, sealed, hash) SELECT $1, * FROM unnest($2::text[], $3::bytea[])
ON CONFLICT (reward, hash) DO NOTHING
RETURNING hash
"""


async def key_of(conn: Connection, *, program: int, code: str) -> tuple[int, str | None] | None:
    """A reward's number and the sealed key of its hashes (None: it has no codes); None: there is no such reward."""
    row = await conn.fetchrow(KEY, program, code)
    return None if row is None else (row["id"], row["sealed_key"])


async def load(conn: Connection, *, reward: int, sealed: Sequence[str], hashes: Sequence[bytes]) -> set[bytes]:
    """Add codes that the reward does not have; the hashes of those. The caller holds `locks.lock_vouchers`."""
    return {row["hash"] for row in await conn.fetch(LOAD, reward, sealed, hashes)}


HOLD: Final = """
UPDATE voucher v SET state = 'reserved', bucket = $2, account = $3, redemption = $4
WHERE v.reward = $1 AND v.state = 'free' AND v.number = (
    SELECT f.number FROM voucher f WHERE f.reward = $1 AND f.state = 'free' ORDER BY f.number LIMIT 1
)
RETURNING v.number
"""


async def hold(conn: Connection, *, reward: int, account: int, redemption: int) -> bool:
    """Reserve the first free code for a redemption; False: there is none. The caller holds the reward's lock, alone."""
    return await conn.fetchval(HOLD, reward, bucket_of(account), account, redemption) is not None


OF_REDEMPTION: Final = """
SELECT v.sealed FROM voucher v JOIN reward r ON r.id = v.reward
WHERE r.program = $1 AND v.redemption = $4 AND v.bucket = $2 AND v.account = $3 AND v.state = 'given'
"""


async def of_redemption(conn: Connection, *, program: int, account: int, redemption: int) -> str | None:
    """The sealed code that a redemption was given; None before that, after a refund, and where the reward has none."""
    found: str | None = await conn.fetchval(OF_REDEMPTION, program, bucket_of(account), account, redemption)
    return found


class VoidRow(Struct, frozen=True, kw_only=True):
    """A code that was given out and whose redemption was refunded."""

    number: int
    sealed: str
    redemption: str | None
    """Its public id."""
    voided_at: datetime


VOID: Final = """
SELECT v.number, v.sealed, d.id AS redemption, v.voided_at
FROM voucher v LEFT JOIN redemption d ON d.bucket = v.bucket AND d.account = v.account AND d.number = v.redemption
WHERE v.reward = $1 AND v.state = 'void' AND v.number > $2
ORDER BY v.number LIMIT $3
"""


async def void(conn: Connection, *, reward: int, after: int, limit: int) -> list[VoidRow]:
    """At most `limit` void codes of a reward with numbers above `after`."""
    return [VoidRow(**row) for row in await conn.fetch(VOID, reward, after, limit)]

"""SQL of reservations whose end has come: which buckets have any, which they are, and whether they still are under their accounts' locks."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from service.store.connection import Connection

BUCKETS_WITH_DUE: Final = """
SELECT b::smallint AS bucket FROM generate_series(0, 1023) b
WHERE EXISTS (SELECT FROM reservation_due d WHERE d.bucket = b::smallint AND d.due_at <= now())
"""


async def buckets_with_due(connection: Connection) -> list[int]:
    """Buckets in which a reservation's end has come."""
    return [r["bucket"] for r in await connection.fetch(BUCKETS_WITH_DUE)]


class Due(Struct, frozen=True, kw_only=True):
    """A reservation whose end has come; `account` is the one that it is stored with."""

    program: int
    account: int
    redemption: int


FIND: Final = """
SELECT d.bucket, d.account, d.redemption FROM unnest($1::smallint[]) AS b (bucket) CROSS JOIN LATERAL (
    SELECT bucket, account, redemption FROM reservation_due r WHERE r.bucket = b.bucket AND r.due_at <= now() ORDER BY r.due_at LIMIT $2
) d
LIMIT $2
"""


async def find(connection: Connection, buckets: Sequence[int], limit: int) -> list[tuple[int, int, int]]:
    """(bucket, account, redemption) of at most `limit` reservations whose end has come; nobody is locked."""
    return [(r["bucket"], r["account"], r["redemption"]) for r in await connection.fetch(FIND, buckets, limit)]


STILL_DUE: Final = """
SELECT r.program, r.account, r.number AS redemption
FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS w (bucket, account, redemption)
JOIN redemption r ON r.bucket = w.bucket AND r.account = w.account AND r.number = w.redemption
WHERE r.status = 'reserved' AND r.expires_at <= now()
ORDER BY r.program, r.account, r.number
"""


async def still_due(connection: Connection, found: Sequence[tuple[int, int, int]]) -> list[Due]:
    """Those of locked accounts that are still open, by program; what was captured or cancelled before the lock was ours is not."""
    rows = await connection.fetch(STILL_DUE, [f[0] for f in found], [f[1] for f in found], [f[2] for f in found])
    return [Due(program=r["program"], account=r["account"], redemption=r["redemption"]) for r in rows]

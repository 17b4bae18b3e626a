"""SQL of opening balances: registered, then posted set by set, as settling does it. Call inside one transaction, in this order.

Accounts are found, opened and locked by `service.store.credit`, between `register` and `post`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from asyncpg import Record
from msgspec import Struct

from schemas.events import Balance
from schemas.openings import OpeningBody
from service.domain.keys import bucket_of
from service.store.connection import Connection

PREPARE: Final = "SET LOCAL enable_seqscan = off; SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL jit = off"


async def prepare(connection: Connection) -> None:
    """Plan each statement of this transaction for as many rows as it really has.

    A thousand rows are joined with each other by hash, with tables of any size by index. A plan for ten, nested loops throughout, takes
    many times as long.
    """
    await connection.execute(PREPARE)


KNOWN: Final = "SELECT key, request_hash FROM registry WHERE program = $1 AND kind = 3 AND key = ANY($2::text[])"


async def known(connection: Connection, *, program: int, keys: Sequence[str]) -> dict[str, bytes | None]:
    """Content hashes of rows that were taken before, by registry key; None where the person was erased."""
    return {r["key"]: r["request_hash"] for r in await connection.fetch(KNOWN, program, keys)}


REGISTER: Final = """
INSERT INTO registry (program, kind, key, request_hash, bucket, account)
SELECT $1, 3, w.key, w.hash, (w.account & 1023)::smallint, w.account
FROM unnest($2::text[], $3::bytea[], $4::bigint[]) AS w (key, hash, account)
ORDER BY w.key COLLATE "C"
ON CONFLICT DO NOTHING
RETURNING key, number
"""


async def register(connection: Connection, *, program: int, keys: Sequence[tuple[str, bytes, int]]) -> dict[str, int]:
    """Numbers of the keys that are new. `keys`: (registry key, content hash, account). Waits for another import of the same key."""
    rows = await connection.fetch(REGISTER, program, [k[0] for k in keys], [k[1] for k in keys], [k[2] for k in keys])
    return {r["key"]: r["number"] for r in rows}


UNREGISTER: Final = "DELETE FROM registry WHERE program = $1 AND kind = 3 AND key = ANY($2::text[])"


async def unregister(connection: Connection, *, program: int, keys: Sequence[str]) -> None:
    """Undo the registration of keys, in the transaction that made it."""
    await connection.execute(UNREGISTER, program, keys)


POST: Final = """
WITH given AS MATERIALIZED (
    SELECT w.*, (w.account & 1023)::smallint AS bucket, sum(w.points) OVER (PARTITION BY w.account ORDER BY w.number) AS through
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::date[], $6::timestamptz[])
        AS w (account, number, id, points, expires_on, earned_at)
), paid AS MATERIALIZED (
    -- Debt is repaid first, row after row.
    SELECT g.*, greatest(least(g.points, c.debt - (g.through - g.points)), 0)::bigint AS repaid, c.version + 1 AS version, c.last_seq
    FROM given g JOIN account c ON c.bucket = g.bucket AND c.id = g.account
), line AS MATERIALIZED (
    SELECT p.bucket, p.account, p.number, p.version, b.book, b.amount,
           p.last_seq + row_number() OVER (PARTITION BY p.account ORDER BY p.number, b.n) AS seq
    FROM paid p
    CROSS JOIN LATERAL (VALUES (1, 5::smallint, -p.points), (2, 1::smallint, p.points - p.repaid), (3, 3::smallint, p.repaid)) AS b (n, book, amount)
    WHERE b.amount <> 0
), opening AS (
    INSERT INTO opening (bucket, account, number, program, platform, id, points, expires_on, earned_at, at, version)
    SELECT bucket, account, number, $7, $8, id, points, expires_on, earned_at, now(), version FROM paid
), entry AS (
    INSERT INTO entry (bucket, account, seq, transfer, kind, book, amount, program, platform, campaign, event, award, n, version, at)
    SELECT bucket, account, seq, number, 3, book, amount, $7, $8, 0, number, number, 0, version, now() FROM line
), lot AS (
    INSERT INTO lot (bucket, account, event, n, program, platform, campaign, origin, amount, remaining, expires_on)
    SELECT bucket, account, number, 0, $7, $8, 0, 3, points, points - repaid, expires_on FROM paid
), used AS (
    INSERT INTO lot_use (bucket, account, event, n, transfer, amount)
    SELECT bucket, account, number, 0, number, repaid FROM paid WHERE repaid > 0
), total AS (
    SELECT p.bucket, p.account, sum(p.points)::bigint AS points, sum(p.repaid)::bigint AS repaid, max(l.seq) AS last_seq
    FROM paid p JOIN (SELECT account, max(seq) AS seq FROM line GROUP BY account) l USING (account)
    GROUP BY p.bucket, p.account
)
UPDATE account c
SET available = c.available + t.points - t.repaid, debt = c.debt - t.repaid, version = c.version + 1, last_seq = t.last_seq
FROM total t WHERE c.bucket = t.bucket AND c.id = t.account
RETURNING c.id, c.pending, c.available, c.reserved, c.debt, c.version
"""


async def post(
    connection: Connection, rows: Sequence[tuple[int, int, OpeningBody]], *, program: int, platform: int
) -> list[tuple[int, Balance]]:
    """Write rows of locked accounts as lots and entries, and return the balances. `rows`: (account, number, what it says)."""
    changed = await connection.fetch(
        POST, [r[0] for r in rows], [r[1] for r in rows], [r[2].id for r in rows], [r[2].points for r in rows],
        [r[2].expires_on for r in rows], [r[2].earned_at for r in rows], program, platform,
    )  # fmt: skip
    return [
        (r["id"], Balance(pending=r["pending"], available=r["available"], reserved=r["reserved"], debt=r["debt"], version=r["version"]))
        for r in changed
    ]


class StoredOpening(Struct, frozen=True, kw_only=True):
    """A row that was taken over."""

    number: int
    id: str
    points: int
    at: datetime


PAGE: Final = """
SELECT number, id, points, at FROM opening WHERE bucket = $1 AND account = $2 AND number < $3 ORDER BY number DESC LIMIT $4
"""


async def page(connection: Connection, account: int, *, before: int, limit: int) -> list[StoredOpening]:
    """What was taken over for an account, newest first."""
    rows: list[Record] = await connection.fetch(PAGE, bucket_of(account), account, before, limit)
    return [StoredOpening(**r) for r in rows]

"""SQL of settling: what is due becomes entries, lots and available points, set by set. Call inside one transaction, in this order."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from schemas.events import Balance
from service.store.connection import Connection
from service.store.locks import SETTLEMENT_LOCK

_FREE = """
NOT EXISTS (SELECT FROM screening s WHERE s.bucket = {due}.bucket AND s.event = {due}.event AND (s.state = 1 OR (s.state = 0 AND {screened})))
"""
"""Nobody holds it, and its verdict is there, where one is waited for."""

BUCKETS_WITH_DUE = f"""
SELECT b::smallint AS bucket FROM generate_series(0, 1023) b
WHERE EXISTS (SELECT FROM due d WHERE d.bucket = b::smallint AND d.due_at <= now() AND {_FREE.format(due="d", screened="$1::boolean")})
"""


async def buckets_with_due(connection: Connection, *, screened: bool) -> list[int]:
    """Buckets in which something is due that may settle. `screened`: only what has its verdict may."""
    return [r["bucket"] for r in await connection.fetch(BUCKETS_WITH_DUE, screened)]


# One worker settles a group of buckets at a time. This only spares the others the wait: what makes a repeat
# harmless is the account's lock and the due row, which is there once.
TRY_GROUP = "SELECT pg_try_advisory_xact_lock($1, $2), now()"


async def try_group(connection: Connection, first_bucket: int) -> tuple[bool, datetime]:
    """Whether this transaction may settle the group that begins with this bucket, and the transaction's time."""
    row = await connection.fetchrow(TRY_GROUP, SETTLEMENT_LOCK, first_bucket)
    assert row is not None
    return row[0], row[1]


# What is due of a linked account becomes its home's: both are locked.
LOCK_DUE_ACCOUNTS = f"""
WITH found AS MATERIALIZED (
    SELECT d.bucket, d.account FROM unnest($1::smallint[]) AS b (bucket)
    CROSS JOIN LATERAL (
        SELECT bucket, account FROM due
        WHERE due.bucket = b.bucket AND due.due_at <= $2 AND {_FREE.format(due="due", screened="$4::boolean")}
        ORDER BY due_at LIMIT $3
    ) d
    LIMIT $3
)
SELECT a.bucket, a.id, a.home FROM account a
WHERE (a.bucket, a.id) IN (
    SELECT bucket, account FROM found
    UNION ALL
    SELECT (m.home & 1023)::smallint, m.home FROM found f JOIN account m ON m.bucket = f.bucket AND m.id = f.account WHERE m.home IS NOT NULL
)
ORDER BY a.id
FOR NO KEY UPDATE
"""


async def lock_due_accounts(
    connection: Connection, buckets: Sequence[int], now: datetime, limit: int, *, screened: bool = False
) -> list[tuple[int, int, int]]:
    """(bucket, account, home) of at most `limit` due events, locked in order of their ids.

    One that was linked while this waited for it is left to the next look: its home is not locked.
    """
    rows = await connection.fetch(LOCK_DUE_ACCOUNTS, buckets, now, limit, screened)
    locked = {r["id"] for r in rows}
    return [(r["bucket"], r["id"], r["home"] or r["id"]) for r in rows if r["home"] is None or r["home"] in locked]


SETTLE = f"""
WITH gone AS (
    DELETE FROM due d USING unnest($1::smallint[], $2::bigint[], $7::bigint[]) AS w (bucket, account, home)
    WHERE d.bucket = w.bucket AND d.account = w.account AND d.due_at <= $3 AND {_FREE.format(due="d", screened="$8::boolean")}
    RETURNING d.bucket, d.account, d.event, d.due_at, w.home
), kept AS MATERIALIZED (
    -- From here on `account` is the one that has the points.
    SELECT (g.home & 1023)::smallint AS bucket, g.home AS account, a.event, a.n, a.program, a.platform, a.campaign, a.version AS terms,
           a.expires_on, g.bucket AS own_bucket, g.account AS own, a.points - a.reversed AS points,
           sum(a.points - a.reversed) OVER (PARTITION BY g.home ORDER BY a.event, a.n) AS through
    FROM gone g JOIN award a ON a.bucket = g.bucket AND a.account = g.account AND a.event = g.event AND a.due_at = g.due_at
    WHERE a.points > a.reversed
), paid AS MATERIALIZED (
    -- Debt is repaid first, award after award.
    SELECT k.*, greatest(least(k.points, c.debt - (k.through - k.points)), 0)::bigint AS repaid,
           c.version + 1 AS version, c.last_seq, nextval('number') AS transfer
    FROM kept k JOIN account c ON c.bucket = k.bucket AND c.id = k.account
), line AS MATERIALIZED (
    SELECT p.bucket, p.account, p.transfer, p.program, p.platform, p.campaign, p.event, p.n, p.version, b.book, b.amount,
           p.last_seq + row_number() OVER (PARTITION BY p.bucket, p.account ORDER BY p.event, p.n, b.book) AS seq
    FROM paid p CROSS JOIN LATERAL (VALUES (4::smallint, -p.points), (1::smallint, p.points - p.repaid), (3::smallint, p.repaid)) AS b (book, amount)
    WHERE b.amount <> 0
), entry AS (
    INSERT INTO entry (bucket, account, seq, transfer, kind, book, amount, program, platform, campaign, event, award, n, version, at)
    SELECT bucket, account, seq, transfer, 1, book, amount, program, platform, campaign, event, event, n, version, $3 FROM line
), lot AS (
    INSERT INTO lot (bucket, account, event, n, program, platform, campaign, amount, remaining, expires_on, idle_months)
    SELECT bucket, account, event, n, program, platform, campaign, points, points - repaid, expires_on,
           CASE WHEN expires_on IS NOT NULL AND (SELECT count(*) > 0 FROM points_policy WHERE idle_months IS NOT NULL) THEN (
               -- The policy that was in force when the event came, unless the campaign has a duration of its own.
               SELECT y.idle_months FROM points_policy y
               JOIN event e ON e.bucket = p.own_bucket AND e.account = p.own AND e.number = p.event
               WHERE y.program = p.program AND y.effective_from <= e.received_at AND NOT EXISTS (
                   SELECT FROM campaign_version v
                   WHERE v.campaign = p.campaign AND v.version = p.terms AND v.body::jsonb ->> 'expires_after' IS NOT NULL
               )
               ORDER BY y.version DESC LIMIT 1
           ) END
    FROM paid p
), used AS (
    INSERT INTO lot_use (bucket, account, event, n, transfer, amount)
    SELECT bucket, account, event, n, transfer, repaid FROM paid WHERE repaid > 0
), total AS (
    SELECT p.bucket, p.account, sum(p.points) AS points, sum(p.repaid) AS repaid, max(l.seq) AS last_seq
    FROM paid p JOIN (SELECT bucket, account, max(seq) AS seq FROM line GROUP BY 1, 2) l USING (bucket, account)
    GROUP BY 1, 2
), changed AS (
    UPDATE account c
    SET pending = c.pending - t.points, available = c.available + t.points - t.repaid, debt = c.debt - t.repaid,
        version = c.version + 1, last_seq = t.last_seq
    FROM total t WHERE c.bucket = t.bucket AND c.id = t.account
    RETURNING c.id, c.pending, c.available, c.reserved, c.debt, c.version
), rollup AS (
    INSERT INTO rollup AS r (campaign, hour, platform, stripe, points_pending, points_settled)
    SELECT p.campaign, h.hour, p.platform, $4, -sum(p.points), sum(p.points)
    FROM paid p JOIN unnest($5::int[], $6::timestamptz[]) AS h (program, hour) USING (program)
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (campaign, hour, platform, stripe) DO UPDATE
    SET points_pending = r.points_pending + excluded.points_pending, points_settled = r.points_settled + excluded.points_settled
)
SELECT 0::bigint AS id, (SELECT coalesce(sum(points), 0) FROM paid)::bigint AS pending, 0::bigint AS available, 0::bigint AS reserved,
       0::bigint AS debt, count(*) AS version, array_agg(event) AS events, array_agg(extract(epoch FROM $3 - due_at)::float8) AS late_s FROM gone
UNION ALL
SELECT id, pending, available, reserved, debt, version, NULL, NULL FROM changed
"""


class Settled(Struct, kw_only=True):
    """How many due rows went, their points, and the balances that changed; of each row its event's number and how late it was."""

    due_rows: int
    points: int
    events: list[int]
    late_s: list[float]
    balances: list[tuple[int, Balance]]


async def settle(
    connection: Connection,
    accounts: Sequence[tuple[int, int, int]],
    now: datetime,
    stripe: int,
    hours: dict[int, datetime],
    *,
    screened: bool = False,
) -> Settled:
    """Settle all that is due of locked accounts (bucket, id, home) and may settle. `hours`: program → start of its current hour."""
    rows = await connection.fetch(
        SETTLE,
        [a[0] for a in accounts],
        [a[1] for a in accounts],
        now,
        stripe,
        list(hours),
        list(hours.values()),
        [a[2] for a in accounts],
        screened,
    )
    balances = [
        (r["id"], Balance(pending=r["pending"], available=r["available"], reserved=r["reserved"], debt=r["debt"], version=r["version"]))
        for r in rows[1:]
    ]
    first = rows[0]
    return Settled(
        due_rows=first["version"], points=first["pending"], events=first["events"] or [], late_s=first["late_s"] or [], balances=balances
    )


PROGRAM_ZONES = "SELECT id, time_zone FROM program"


async def program_zones(connection: Connection) -> dict[int, str]:
    """Time zone by program."""
    return {r["id"]: r["time_zone"] for r in await connection.fetch(PROGRAM_ZONES)}


IGNORE_OVERDUE_PARKED = """
UPDATE parked p SET ignored_at = now() FROM program g
WHERE g.id = p.program AND p.ignored_at IS NULL AND p.received_at < now() - g.parked_for
"""


async def ignore_overdue_parked(connection: Connection) -> int:
    """Give up waiting for orders that never came, after the program's limit; a late order still picks its facts up."""
    return int((await connection.execute(IGNORE_OVERDUE_PARKED)).split()[-1])

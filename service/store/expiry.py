"""SQL of expiry: lots whose last day is over become breakage, set by set. `lock` and `expire` inside one transaction, in this order."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Final

from msgspec import Struct

from schemas.events import Balance
from service.store.connection import Connection
from service.store.lots import LAST_DAY

# A lot of a policy of activity is found by the day that it was given at first: it expires then, or that day is moved on.
DUE: Final = """
WITH day AS MATERIALIZED (SELECT id, time_zone, (now() AT TIME ZONE time_zone)::date AS today FROM program)
SELECT b::smallint AS bucket, d.id AS program FROM generate_series(0, 1023) b CROSS JOIN day d
CROSS JOIN LATERAL (
    -- One probe of the index each: as a mere EXISTS it may be planned as a join over all lots.
    SELECT FROM lot l WHERE l.bucket = b::smallint AND l.program = d.id AND l.expires_on < d.today AND l.remaining > l.reserved
    ORDER BY l.expires_on LIMIT 1
) l
ORDER BY 1
"""


async def due(connection: Connection) -> list[tuple[int, int]]:
    """(bucket, program) in which a lot has free points and its day is over."""
    return [(r["bucket"], r["program"]) for r in await connection.fetch(DUE)]


DAYS: Final = "SELECT id, time_zone, now() AS now FROM program WHERE id = ANY($1::int[])"


async def days(connection: Connection, programs: Sequence[int]) -> tuple[datetime, dict[int, str]]:
    """The transaction's time, and the time zones of programs (at least one)."""
    rows = await connection.fetch(DAYS, programs)
    return rows[0]["now"], {r["id"]: r["time_zone"] for r in rows}


LOCK: Final = """
SELECT a.bucket, a.id FROM account a
WHERE (a.bucket, a.id) IN (
    SELECT d.bucket, d.account FROM unnest($1::smallint[], $2::int[], $3::date[]) AS w (bucket, program, today)
    CROSS JOIN LATERAL (
        SELECT l.bucket, l.account FROM lot l
        WHERE l.bucket = w.bucket AND l.program = w.program AND l.expires_on < w.today AND l.remaining > l.reserved
        ORDER BY l.expires_on LIMIT $4
    ) d
    LIMIT $4
)
ORDER BY a.id
FOR NO KEY UPDATE
"""


async def lock(connection: Connection, parts: Sequence[tuple[int, int]], today: Mapping[int, date], limit: int) -> list[tuple[int, int]]:
    """(bucket, account) of at most `limit` lots whose day is over, locked in order of their ids. `parts`: (bucket, program)."""
    rows = await connection.fetch(LOCK, [p[0] for p in parts], [p[1] for p in parts], [today[p[1]] for p in parts], limit)
    return [(r["bucket"], r["id"]) for r in rows]


EXPIRE: Final = f"""
WITH over AS MATERIALIZED (
    SELECT l.bucket, l.account, l.event, l.n, l.program, l.platform, l.campaign, l.free, l.last_day, p.today
    FROM unnest($1::smallint[], $2::bigint[]) AS w (bucket, account)
    JOIN account a ON a.bucket = w.bucket AND a.id = w.account
    JOIN unnest($5::int[], $6::date[]) AS p (program, today) ON p.program = a.program
    CROSS JOIN LATERAL (
        SELECT l.*, l.remaining - l.reserved AS free, {LAST_DAY} AS last_day FROM lot l
        WHERE l.bucket = w.bucket AND l.account = w.account AND l.expires_on < p.today AND l.remaining > 0 AND l.remaining > l.reserved
        ORDER BY l.expires_on LIMIT $8
    ) l
    LIMIT $8
), moved AS (
    UPDATE lot l SET expires_on = o.last_day FROM over o
    WHERE o.last_day >= o.today AND l.bucket = o.bucket AND l.account = o.account AND l.event = o.event AND l.n = o.n
), gone AS MATERIALIZED (
    SELECT * FROM over WHERE last_day < today
), total AS MATERIALIZED (
    SELECT g.*, a.version + 1 AS version, a.last_seq, nextval('number') AS number
    FROM (
        SELECT bucket, account, program, sum(free)::bigint AS points, min(last_day) AS first_day, max(last_day) AS last_day
        FROM gone GROUP BY 1, 2, 3
    ) g JOIN account a ON a.bucket = g.bucket AND a.id = g.account
), entry AS (
    INSERT INTO entry (bucket, account, seq, transfer, kind, book, amount, program, platform, campaign, event, award, n, version, at)
    SELECT t.bucket, t.account, t.last_seq + b.n, t.number, 8, b.book, b.amount, t.program, 0, 0, t.number, 0, 0, t.version, $3
    FROM total t CROSS JOIN LATERAL (VALUES (1, 1::smallint, -t.points), (2, 8::smallint, t.points)) AS b (n, book, amount)
), transfer AS (
    INSERT INTO transfer (bucket, account, number, kind, program, platform, points, reason, version, at)
    SELECT bucket, account, number, 8, program, 0, -points,
           CASE WHEN first_day = last_day THEN format('Points expired: they could be spent until %s', last_day)
                ELSE format('Points expired: they could be spent until %s, the last of them until %s', first_day, last_day) END,
           version, $3
    FROM total
), lot AS (
    UPDATE lot l SET remaining = l.remaining - g.free, expires_on = g.last_day FROM gone g
    WHERE l.bucket = g.bucket AND l.account = g.account AND l.event = g.event AND l.n = g.n
), used AS (
    INSERT INTO lot_use (bucket, account, event, n, transfer, amount)
    SELECT g.bucket, g.account, g.event, g.n, t.number, g.free FROM gone g JOIN total t USING (bucket, account)
), changed AS (
    UPDATE account a SET available = a.available - t.points, version = t.version, last_seq = t.last_seq + 2
    FROM total t WHERE a.bucket = t.bucket AND a.id = t.account
    RETURNING a.id, a.pending, a.available, a.reserved, a.debt, a.version
), rollup AS (
    INSERT INTO rollup AS r (campaign, hour, platform, stripe, points_expired)
    SELECT g.campaign, h.hour, g.platform, $4, sum(g.free)
    FROM gone g JOIN unnest($5::int[], $7::timestamptz[]) AS h (program, hour) USING (program)
    WHERE g.campaign <> 0
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (campaign, hour, platform, stripe) DO UPDATE SET points_expired = r.points_expired + excluded.points_expired
)
SELECT 0::bigint AS id, 0::bigint AS pending, (SELECT coalesce(sum(points), 0) FROM total)::bigint AS available, 0::bigint AS reserved,
       0::bigint AS debt, (SELECT count(*) FROM over) AS version
UNION ALL
SELECT id, pending, available, reserved, debt, version FROM changed
"""


class Expired(Struct, kw_only=True):
    """How many lots went or were moved on, the points that went, and the balances that changed."""

    lots: int
    points: int
    balances: list[tuple[int, Balance]]


async def expire(
    connection: Connection, accounts: Sequence[tuple[int, int]], now: datetime, stripe: int, *, today: Mapping[int, date],
    hours: Mapping[int, datetime], limit: int,
) -> Expired:  # fmt: skip
    """Expire the free points of at most `limit` lots of locked accounts, or move the lot's day on where its consumer was active.

    `today` and `hours`: program → its local day, and the start of its current hour.
    """
    programs = list(today)
    rows = await connection.fetch(
        EXPIRE, [a[0] for a in accounts], [a[1] for a in accounts], now, stripe, programs, [today[p] for p in programs],
        [hours[p] for p in programs], limit,
    )  # fmt: skip
    balances = [
        (r["id"], Balance(pending=r["pending"], available=r["available"], reserved=r["reserved"], debt=r["debt"], version=r["version"]))
        for r in rows[1:]
    ]
    return Expired(lots=rows[0]["version"], points=rows[0]["available"], balances=balances)

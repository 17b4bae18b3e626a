"""Fill a database with a long past, set by set: as if a million events had been credited, settled and partly refunded.

`python -m loadtests.filler --events 1000000` fills the database that GREENPOINTS_DATABASE_URL names; what it writes is what the
flows would have written, so `greenpoints check` is clean before and after. For measuring what depends on how much there is:
check, rebuild, statistics, long histories. Never run it on a system that matters: its program stays.

Of 21 events 20 are orders of two lines, the first of which earns 20 points in a campaign with caps and a budget, and in every
second order 5 more in another. Every tenth order is on hold; of every twentieth half of the first line is refunded, in turn
before and after its settlement.
"""

import argparse
import asyncio
import os
import time
from typing import Final

import asyncpg
import msgspec

from schemas.campaigns import CampaignBody
from service.flows import administer, campaigns
from service.flows.administer import Change
from service.sealing import Sealer, new_master_key
from service.store.connection import Connection

ZONE: Final = "Asia/Shanghai"
PLATFORMS: Final = ("filler-shop", "filler-market")
CAMPAIGNS: Final = (
    {
        "code": "filler-goods", "name": "Certified goods", "award": {"kind": "per_unit", "points": 10},
        "caps": {"consumer_day": 10**9, "consumer_year": 10**9, "consumer_total": 10**9}, "budget": {"points": 10**12, "per_day": 10**12},
    },
    {"code": "filler-bonus", "name": "Bonus", "award": {"kind": "fixed", "points": 5}},
)  # fmt: skip
EVENTS_PER_ORDER: Final = 1.05

# $1 orders, $2 consumers, $3 program, $4 its time zone, $5 platforms, $6 campaigns, $7 the first number that is free
PLAN = """
CREATE TEMP TABLE plan ON COMMIT DROP AS
WITH person AS MATERIALIZED (
    SELECT n, ('x' || substr(md5('filler' || n), 1, 15))::bit(60)::bigint AS account FROM generate_series(1, $2::int) n
)
SELECT i, p.n AS person, p.account, (p.account & 1023)::smallint AS bucket, ($5::int[])[1 + i % 2] AS platform, 'f' || i AS order_id,
       $7::bigint + 4 * i AS number, $7::bigint + 4 * i + 2 AS refund, i % 10 = 1 AS held, i % 20 = 0 AS refunded, i % 40 = 0 AS late,
       a.at, (a.at AT TIME ZONE $4)::date AS day, date_trunc('hour', a.at, $4) AS hour
FROM generate_series(1, $1::int) i
JOIN person p ON p.n = 1 + (hashint4(i)::bigint + 2147483648) % $2
CROSS JOIN LATERAL (SELECT now() - interval '61 days' + interval '60 days' * i / $1 AS at) a
"""
# What changed an account, in the order in which it did: a credit (0), its settlement (1), its refund (2), a settlement after it (3).
CHANGES = """
CREATE TEMP TABLE change ON COMMIT DROP AS
SELECT c.*, row_number() OVER (PARTITION BY account ORDER BY i, what) AS version
FROM (
    SELECT i, account, 0 AS what FROM plan
    UNION ALL SELECT i, account, CASE WHEN late THEN 3 ELSE 1 END FROM plan WHERE NOT held
    UNION ALL SELECT i, account, 2 FROM plan WHERE refunded
) c
"""
GRANTS = """
CREATE TEMP TABLE granted ON COMMIT DROP AS
SELECT p.*, g.n, g.campaign, g.points, CASE WHEN p.refunded THEN g.half ELSE 0 END AS reversed,
       CASE WHEN p.late THEN g.points - g.half ELSE g.points END AS issued
FROM plan p CROSS JOIN LATERAL (
    VALUES (0::smallint, ($6::int[])[1], 20::bigint, 10::bigint), (1::smallint, ($6::int[])[2], 5::bigint, 3::bigint)
) AS g (n, campaign, points, half)
WHERE g.n = 0 OR p.i % 2 = 0
"""
# Books: 1 available, 4 issuance; kinds: 1 settle, 2 claw back.
ENTRIES = """
INSERT INTO entry (bucket, account, seq, transfer, kind, book, amount, program, platform, campaign, event, award, n, version, at)
SELECT bucket, account, row_number() OVER (PARTITION BY account ORDER BY i, what, n, book), transfer, kind, book, amount, $3, platform,
       campaign, event, number, n, version, at
FROM (
    SELECT g.*, c.what, $7 + 4 * $1::bigint + 10 + 2 * g.i + g.n AS transfer, 1::smallint AS kind, b.book, b.sign * g.issued AS amount,
           g.number AS event, c.version
    FROM granted g JOIN change c ON c.i = g.i AND c.what IN (1, 3) CROSS JOIN (VALUES (1::smallint, 1), (4::smallint, -1)) AS b (book, sign)
    UNION ALL
    SELECT g.*, c.what, g.refund, 2::smallint, b.book, b.sign * g.reversed, g.refund, c.version
    FROM granted g JOIN change c ON c.i = g.i AND c.what = 2 CROSS JOIN (VALUES (1::smallint, -1), (4::smallint, 1)) AS b (book, sign)
    WHERE NOT g.late
) e
"""
_AT = """to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
_ANSWER = """format('{"id":"%s","status":"%s","points":%s,"available_at":null,"awards":[],"refused":[],"balance":{"version":%s}}', """
EVENTS = f"""
INSERT INTO event (bucket, account, number, program, platform, id, type, order_id, occurred_at, received_at, points, version, facts, answer)
SELECT bucket, account, number, $3, platform, order_id || ':paid', 'order.paid', order_id, at, at, points, version,
       format('{{"type":"order.paid","id":"%s:paid","occurred_at":"%s","consumer":"f%s","order":{{"id":"%s","currency":"CNY","total":"48.00"}},'
              '"lines":[{{"id":"1","sku":"TP-01","gtin":"06901234567892","quantity":"2","unit_price":"20.00","category":"paper"}},'
              '{{"id":"2","sku":"PEN","quantity":"1","unit_price":"8.00"}}]}}', order_id, {_AT}, person, order_id),
       {_ANSWER} order_id || ':paid', 'pending', points, version)
FROM plan JOIN change c USING (i, account) JOIN (SELECT i, sum(points) AS points FROM granted GROUP BY i) g USING (i) WHERE what = 0
UNION ALL
SELECT bucket, account, refund, $3, platform, order_id || ':refund', 'order.refunded', order_id, at, at, -points, version,
       format('{{"type":"order.refunded","id":"%s:refund","occurred_at":"%s","consumer":"f%s","order":{{"id":"%s"}},'
              '"refund":{{"id":"1","lines":[{{"id":"1","quantity":"1"}}]}}}}', order_id, {_AT}, person, order_id),
       {_ANSWER} order_id || ':refund', 'settled', -points, version)
FROM plan JOIN change c USING (i, account) JOIN (SELECT i, sum(reversed) AS points FROM granted GROUP BY i) g USING (i) WHERE what = 2
"""  # noqa: S608 - constants
STATEMENTS: Final = (
    PLAN,
    CHANGES,
    "CREATE INDEX ON change (i)",
    GRANTS,
    "ANALYZE plan", "ANALYZE change", "ANALYZE granted",
    ENTRIES,
    EVENTS,
    """
    INSERT INTO award (bucket, account, event, n, program, platform, campaign, version, line, points, reversed, day, due_at)
    SELECT bucket, account, number, n, $3, platform, campaign, 1, '1', points, reversed, day,
           CASE WHEN held THEN at + interval '100 days' ELSE at END
    FROM granted
    """,
    "INSERT INTO due (bucket, due_at, account, event) SELECT bucket, at + interval '100 days', account, number FROM plan WHERE held",
    """
    INSERT INTO lot (bucket, account, event, n, program, platform, campaign, amount, remaining)
    SELECT bucket, account, number, n, $3, platform, campaign, issued, points - reversed FROM granted WHERE NOT held
    """,
    """
    INSERT INTO lot_use (bucket, account, event, n, transfer, amount)
    SELECT bucket, account, number, n, refund, reversed FROM granted WHERE refunded AND NOT late
    """,
    """
    INSERT INTO account (bucket, id, program, pending, available, version, last_seq)
    SELECT bucket, account, $3, p.points, coalesce(e.points, 0), c.version, coalesce(e.seq, 0)
    FROM (SELECT bucket, account, coalesce(sum(points) FILTER (WHERE held), 0) AS points FROM granted GROUP BY 1, 2) p
    JOIN (SELECT account, max(version) AS version FROM change GROUP BY 1) c USING (account)
    LEFT JOIN (
        SELECT bucket, account, sum(amount) FILTER (WHERE book = 1) AS points, max(seq) AS seq FROM entry WHERE program = $3 GROUP BY 1, 2
    ) e USING (bucket, account)
    """,
    """
    INSERT INTO consumer_reference (platform, reference, bucket, account)
    SELECT DISTINCT unnest($5::int[]), 'f' || person, bucket, account FROM plan
    """,
    """
    INSERT INTO registry (program, kind, key, number, request_hash, bucket, account)
    SELECT $3, 1, platform || ':' || order_id || ':paid', number, decode(md5(order_id), 'hex'), bucket, account FROM plan
    UNION ALL SELECT $3, 2, platform || ':' || order_id, number + 1, NULL, bucket, account FROM plan
    UNION ALL
    SELECT $3, 1, platform || ':' || order_id || ':refund', refund, decode(md5(order_id), 'hex'), NULL, NULL FROM plan WHERE refunded
    """,
    """
    INSERT INTO cap_usage (bucket, account, campaign, span, day, used)
    SELECT bucket, account, campaign, s.span, s.day, sum(points - reversed)
    FROM granted CROSS JOIN LATERAL (
        VALUES (1, day), (2, date_trunc('year', day::timestamp)::date), (3, date '-infinity')
    ) AS s (span, day)
    WHERE n = 0 GROUP BY 1, 2, 3, 4, 5
    """,
    """
    INSERT INTO budget AS b (campaign, day, used)
    SELECT campaign, s.day, sum(points - reversed) FROM granted CROSS JOIN LATERAL (VALUES (day), (date '-infinity')) AS s (day)
    WHERE n = 0 GROUP BY 1, 2
    ON CONFLICT (campaign, day) DO UPDATE SET used = excluded.used
    """,
    """
    INSERT INTO rollup (campaign, hour, platform, stripe, events, points_issued, points_pending, points_settled, points_reversed)
    SELECT campaign, hour, platform, 0, count(*), sum(points), coalesce(sum(points) FILTER (WHERE held), 0),
           coalesce(sum(issued) FILTER (WHERE NOT held), 0), sum(reversed)
    FROM granted GROUP BY 1, 2, 3
    """,
    """
    INSERT INTO campaign_consumer (bucket, campaign, hour, account, platform)
    SELECT DISTINCT bucket, campaign, hour, account, platform FROM granted
    """,
)  # fmt: skip
NUMBERS = "SELECT nextval('number')"
TABLES: Final = "account award budget campaign_consumer cap_usage consumer_reference due entry event lot lot_use registry rollup"


async def fill(connection: Connection, *, events: int, consumers: int) -> None:
    """Write about `events` events of `consumers` consumers in one transaction, as a program of their own; once per database."""
    orders = max(1, round(events / EVENTS_PER_ORDER))
    async with connection.transaction():
        program, platforms, codes = await _found(connection)
        first: int = await connection.fetchval(NUMBERS)
        values = (orders, consumers, program, ZONE, platforms, codes, first)
        for statement in STATEMENTS:
            await _execute(connection, statement, values)
        await connection.execute(f"SELECT setval('number', {first + 6 * orders + 20})")
    await connection.execute(f"ANALYZE {TABLES.replace(' ', ', ')}")


async def _found(connection: Connection) -> tuple[int, list[int], list[int]]:
    """A program with two platforms and running campaigns: its id and theirs."""
    change = Change()
    program = await administer.create_program(connection, code="filler", name="Filler", currency="leaves", time_zone=ZONE)
    platforms = []
    for code in PLATFORMS:
        await administer.create_platform(connection, sealer=Sealer([new_master_key()]), program=program.id, code=code, name=code)
        platforms.append((await administer.find_platform(connection, program=program.id, code=code)).id)
    common = {"action": "purchase", "starts_at": "2020-01-01T00:00:00Z", "ends_at": "2040-01-01T00:00:00Z"}
    for body in CAMPAIGNS:
        await campaigns.create(connection, msgspec.convert(common | body, CampaignBody), program=program.id, change=change)
        await campaigns.step(connection, str(body["code"]), "activate", program=program.id, change=change)
    rows = await connection.fetch("SELECT id FROM campaign WHERE program = $1 ORDER BY code DESC", program.id)
    return program.id, platforms, [r["id"] for r in rows]


async def _execute(connection: Connection, statement: str, values: tuple[object, ...]) -> None:
    """A statement with those of the numbered values that it names, written into it: CREATE TABLE AS takes no parameters."""
    for number, value in enumerate(values, start=1):
        literal = (
            f"'{value}'" if isinstance(value, str) else f"'{{{','.join(map(str, value))}}}'" if isinstance(value, list) else str(value)
        )
        statement = statement.replace(f"${number}", literal)
    await connection.execute(statement)


async def _main(events: int, consumers: int) -> None:
    connection = await asyncpg.connect(os.environ["GREENPOINTS_DATABASE_URL"])
    try:
        begun = time.monotonic()
        await fill(connection, events=events, consumers=consumers)
        print(f"{events:,} events of {consumers:,} consumers in {time.monotonic() - begun:.0f} s")
    finally:
        await connection.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fill a database with a long past.")
    parser.add_argument("--events", type=int, default=1_000_000, help="how many, about")
    parser.add_argument("--consumers", type=int, default=None, help="of how many consumers; default: a fifth")
    arguments = parser.parse_args()
    asyncio.run(_main(arguments.events, arguments.consumers or max(1, arguments.events // 5)))

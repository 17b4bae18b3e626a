"""A million lots that end on one day, which is over: the benchmark's consumers and many others have five each, given by an adjustment."""

from typing import Final

from service.store.connection import Connection

LOTS: Final = 1_000_000
LOTS_EACH: Final = 5
POINTS: Final = 10

ACCOUNTS: Final = """
INSERT INTO account (bucket, id, program)
SELECT id & 1023, id, $1
FROM (SELECT ((random() * 4503599627370495)::bigint << 10) + (random() * 1023)::int AS id FROM generate_series(1, $2::int)) r
ON CONFLICT DO NOTHING
"""
GIVE: Final = f"""
WITH given AS MATERIALIZED (
    SELECT bucket, id AS account, version + 1 AS version, last_seq, nextval('number') AS number FROM account WHERE program = $1
), entry AS (
    INSERT INTO entry (bucket, account, seq, transfer, kind, book, amount, program, platform, campaign, event, award, n, version, at)
    SELECT bucket, account, last_seq + b.n, number, 9, b.book, b.amount, $1, 0, 0, number, 0, 0, version, now()
    FROM given CROSS JOIN (VALUES (1, 1::smallint, {LOTS_EACH * POINTS}), (2, 10::smallint, {-LOTS_EACH * POINTS})) AS b (n, book, amount)
), transfer AS (
    INSERT INTO transfer (bucket, account, number, kind, program, platform, points, reason, version, at)
    SELECT bucket, account, number, 9, $1, 0, {LOTS_EACH * POINTS}, 'A gift', version, now() FROM given
), lot AS (
    INSERT INTO lot (bucket, account, event, n, program, platform, campaign, origin, amount, remaining, expires_on)
    SELECT bucket, account, number, n, $1, $2, $3, 9, {POINTS}, {POINTS}, (now() - interval '2 days')::date
    FROM given CROSS JOIN generate_series(1, {LOTS_EACH}) n
)
UPDATE account a SET available = a.available + {LOTS_EACH * POINTS}, version = g.version, last_seq = a.last_seq + 2
FROM given g WHERE a.bucket = g.bucket AND a.id = g.account
"""  # noqa: S608 - constants
LEFT: Final = "SELECT count(*) FROM lot WHERE remaining > reserved AND expires_on < (now() - interval '1 day')::date"


async def give(connection: Connection, *, campaign: str) -> int:
    """Give everybody of the campaign's program lots that should have expired; returns how many there are, about LOTS."""
    row = await connection.fetchrow("SELECT id, program FROM campaign WHERE code = $1", campaign)
    assert row is not None
    platform = await connection.fetchval("SELECT min(id) FROM platform WHERE program = $1", row["program"])
    known = await connection.fetchval("SELECT count(*) FROM account WHERE program = $1", row["program"])
    await connection.execute(ACCOUNTS, row["program"], max(LOTS // LOTS_EACH - known, 0))
    await connection.execute(GIVE, row["program"], platform, row["id"])
    await connection.execute("VACUUM ANALYZE lot")
    await connection.execute("VACUUM ANALYZE account")
    left: int = await connection.fetchval(LEFT)
    return left

"""Sums of roll-ups, exact numbers of consumers and of reviewed events, by time, by platform and in all."""

from datetime import datetime
from typing import Final

from msgspec import Struct

from schemas.campaigns import Granularity
from service.store.connection import Connection

# The hour in which something happened is told apart exactly; a longer bucket starts with its local day or ISO week.
_BUCKET: Final = "CASE WHEN $2 = 'hour' THEN hour ELSE date_trunc($2, hour, $3) END"

# Grouped three ways at once: a row without time and platform is the total. Stripes are summed away.
SUMS: Final = f"""
SELECT bucket_at AS at, platform,
       sum(events) AS events, sum(points_issued) AS points_issued, sum(points_pending) AS points_pending,
       sum(points_settled) AS points_settled, sum(points_reversed) AS points_reversed,
       sum(points_redeemed) AS points_redeemed, sum(points_expired) AS points_expired,
       sum(co2e_g) AS co2e_g, sum(plastic_g) AS plastic_g
  FROM (SELECT {_BUCKET} AS bucket_at, r.* FROM rollup r
         WHERE campaign = $1 AND ($4::timestamptz IS NULL OR hour >= $4) AND ($5::timestamptz IS NULL OR hour < $5)) AS r
 GROUP BY GROUPING SETS ((), (bucket_at), (platform))
"""
CONSUMERS: Final = f"""
SELECT bucket_at AS at, platform, count(DISTINCT account) AS consumers
  FROM (SELECT {_BUCKET} AS bucket_at, c.account, c.platform FROM campaign_consumer c
         WHERE bucket = ANY(ARRAY(SELECT generate_series(0, 1023)::smallint)) AND campaign = $1
           AND ($4::timestamptz IS NULL OR hour >= $4) AND ($5::timestamptz IS NULL OR hour < $5)) AS c
 GROUP BY GROUPING SETS ((), (bucket_at), (platform))
"""
# What is on hold and what was rejected now, by when it was received; an event counts in each campaign that awarded it.
REVIEWED: Final = f"""
SELECT bucket_at AS at, platform, count(*) FILTER (WHERE state = 'held') AS held, count(*) FILTER (WHERE state = 'rejected') AS rejected
  FROM (SELECT {_BUCKET} AS bucket_at, h.platform, h.state
          FROM (SELECT date_trunc('hour', x.received_at, $3) AS hour, x.platform, c.state
                  FROM fraud_campaign_event x JOIN fraud_case_event c ON c.bucket = x.bucket AND c.event = x.event
                 WHERE x.campaign = $1 AND c.state IN ('held', 'rejected')) AS h
         WHERE ($4::timestamptz IS NULL OR hour >= $4) AND ($5::timestamptz IS NULL OR hour < $5)) AS r
 GROUP BY GROUPING SETS ((), (bucket_at), (platform))
"""
BUDGET_USED: Final = "SELECT used FROM budget WHERE campaign = $1 AND day = '-infinity'"
PLATFORM_CODES: Final = "SELECT id, code FROM platform WHERE program = $1"


class Group(Struct, frozen=True, kw_only=True):
    """Sums of everything (`at` and `platform` null), of one bucket of time or of one platform."""

    at: datetime | None
    platform: int | None
    sums: dict[str, int]


async def groups(
    conn: Connection, *, campaign: int, granularity: Granularity, time_zone: str, from_: datetime | None, to: datetime | None
) -> list[Group]:
    """Sums, consumers and reviewed events of a campaign in the hours that start in [from_, to), grouped three ways; buckets without data are absent."""
    sums: dict[tuple[datetime | None, int | None], dict[str, int]] = {}
    for statement in (SUMS, CONSUMERS, REVIEWED):
        for row in await conn.fetch(statement, campaign, granularity, time_zone, from_, to):
            group = sums.setdefault((row["at"], row["platform"]), {})
            group.update({name: int(value or 0) for name, value in row.items() if name not in ("at", "platform")})
    return [Group(at=at, platform=platform, sums=values) for (at, platform), values in sums.items()]


async def budget_used(conn: Connection, campaign: int) -> int | None:
    """Points counted against the campaign's whole budget; None when it has none."""
    found: int | None = await conn.fetchval(BUDGET_USED, campaign)
    return found


async def platform_codes(conn: Connection, program: int) -> dict[int, str]:
    """Codes of the program's platforms, by id."""
    return {row["id"]: row["code"] for row in await conn.fetch(PLATFORM_CODES, program)}

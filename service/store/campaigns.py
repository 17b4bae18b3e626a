"""Campaigns and their versions; counters that a new cap or budget starts from."""

from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from schemas.campaigns import CampaignStatus
from service.domain.campaigns import CompiledCampaign, compile_campaign
from service.domain.catalogue import Catalogue, Program
from service.domain.factors import Factor, OwnFactors, compile_own
from service.domain.points_policy import PointsPolicies
from service.store import activity_kinds, packaging_classes, points_policy
from service.store.connection import Connection


class CampaignRow(Struct, frozen=True, kw_only=True):
    """A campaign with its newest version; `body` is JSON of schemas.campaigns.CampaignBody."""

    id: int
    code: str
    action: str
    status: CampaignStatus
    version: int
    revision: int
    created_at: datetime
    body: str


class VersionRow(Struct, frozen=True, kw_only=True):
    """One version; `effective_from` null: from the beginning of time."""

    version: int
    effective_from: datetime | None
    created_at: datetime
    created_by: str
    body: str


INSERT = """
INSERT INTO campaign (program, code, action) VALUES ($1, $2, $3)
ON CONFLICT (program, code) DO NOTHING
RETURNING id
"""
# A campaign that never ran has awarded nothing: its new version may count from the beginning, too. Otherwise from the
# moment when the lock was there (not from the transaction's start): what was decided while it waited is not judged anew.
INSERT_VERSION = """
INSERT INTO campaign_version (campaign, version, body, effective_from, created_by)
VALUES ($1, $2, $3, CASE WHEN $4::boolean THEN clock_timestamp() ELSE '-infinity' END, $5)
"""
SET_VERSION = "UPDATE campaign SET version = $2 WHERE id = $1"
SET_STATUS = "UPDATE campaign SET status = $2 WHERE id = $1"
GET = """
SELECT c.id, c.code, c.action, c.status, c.version, c.revision, c.created_at, v.body
  FROM campaign c JOIN campaign_version v ON v.campaign = c.id AND v.version = c.version
 WHERE c.program = $1 AND c.code = $2
"""
PAGE = """
SELECT c.id, c.code, c.action, c.status, c.version, c.revision, c.created_at, v.body
  FROM campaign c JOIN campaign_version v ON v.campaign = c.id AND v.version = c.version
 WHERE c.program = $1 AND c.code > $2 AND ($3::text IS NULL OR c.status = $3)
 ORDER BY c.code
 LIMIT $4
"""
VERSIONS = """
SELECT version, nullif(effective_from, '-infinity') AS effective_from, created_at, created_by, body
  FROM campaign_version
 WHERE campaign = $1 AND version < $2
 ORDER BY version DESC
 LIMIT $3
"""
ALL_BODIES = "SELECT body FROM campaign_version WHERE campaign = $1 ORDER BY version"
ACTIONS = """
SELECT c.code, c.action, v.body
  FROM campaign c JOIN campaign_version v ON v.campaign = c.id AND v.version = c.version
 WHERE c.program = $1 AND c.code = ANY($2::text[])
"""
PLATFORMS = "SELECT code FROM platform WHERE program = $1 AND code = ANY($2::text[])"


async def insert(conn: Connection, *, program: int, code: str, action: str, body: str, created_by: str) -> int | None:
    """The new campaign's id, with version 1 and status draft; None when the code is taken."""
    id_: int | None = await conn.fetchval(INSERT, program, code, action)
    if id_ is not None:
        await conn.execute(INSERT_VERSION, id_, 1, body, False, created_by)  # noqa: FBT003 - from the beginning of time
    return id_


async def insert_version(conn: Connection, *, campaign: int, version: int, body: str, from_now: bool, created_by: str) -> None:
    """A new version, for events that occur from now on or (of a campaign that never ran) for all."""
    await conn.execute(INSERT_VERSION, campaign, version, body, from_now, created_by)
    await conn.execute(SET_VERSION, campaign, version)


async def set_status(conn: Connection, *, campaign: int, status: CampaignStatus) -> None:
    """Change the status; the caller checked the transition under the catalogue lock."""
    await conn.execute(SET_STATUS, campaign, status)


async def get(conn: Connection, *, program: int, code: str) -> CampaignRow | None:
    """One campaign with its newest version."""
    row = await conn.fetchrow(GET, program, code)
    return None if row is None else CampaignRow(**row)


async def page(conn: Connection, *, program: int, after: str, status: CampaignStatus | None, limit: int) -> list[CampaignRow]:
    """At most `limit` campaigns with codes above `after`, by code."""
    return [CampaignRow(**row) for row in await conn.fetch(PAGE, program, after, status, limit)]


async def versions(conn: Connection, *, campaign: int, before: int, limit: int) -> list[VersionRow]:
    """At most `limit` versions below `before`, newest first."""
    return [VersionRow(**row) for row in await conn.fetch(VERSIONS, campaign, before, limit)]


async def bodies(conn: Connection, campaign: int) -> list[str]:
    """The bodies of all versions, oldest first."""
    return [row["body"] for row in await conn.fetch(ALL_BODIES, campaign)]


async def actions(conn: Connection, *, program: int, codes: list[str]) -> dict[str, tuple[str, str]]:
    """Action and newest body of those campaigns of a program that exist, by code."""
    return {row["code"]: (row["action"], row["body"]) for row in await conn.fetch(ACTIONS, program, codes)}


async def known_platforms(conn: Connection, *, program: int, codes: list[str]) -> set[str]:
    """Those of the codes that are platforms of the program."""
    return {row["code"] for row in await conn.fetch(PLATFORMS, program, codes)}


# The catalogue -------------------------------------------------------------------------------------------

CATALOGUE_VERSION = "SELECT catalogue_version FROM deployment"
RAISE_CATALOGUE_VERSION = "UPDATE deployment SET catalogue_version = catalogue_version + 1"
PROGRAMS = "SELECT id, code, time_zone, return_earner, return_window_days FROM program"
IMPACT_FACTORS = "SELECT program, id, version, effective_from, body FROM impact_factor ORDER BY program, id, version DESC"
CATALOGUE = """
SELECT c.program, c.id, c.status, v.version, nullif(v.effective_from, '-infinity') AS effective_from, v.body
  FROM campaign c JOIN campaign_version v ON v.campaign = c.id
 WHERE c.status <> 'draft'
 ORDER BY c.id, v.version
"""


async def catalogue_version(conn: Connection) -> int:
    """The number of changes to campaigns so far."""
    found: int = await conn.fetchval(CATALOGUE_VERSION)
    return found


async def raise_catalogue_version(conn: Connection) -> None:
    """Make every process load the catalogue again before it decides. Locks one row until the commit: call it last."""
    await conn.execute(RAISE_CATALOGUE_VERSION)


async def load_catalogue(conn: Connection) -> Catalogue:
    """All versions of all campaigns that run or ever ran, compiled; ended ones too, because refunds still meet them.

    Read under the shared catalogue lock it is exactly what its version says; without, it may be newer, never older.
    """
    version = await catalogue_version(conn)
    factors = await _impact_factors(conn)
    kinds, classes = await activity_kinds.by_program(conn), await packaging_classes.by_program(conn)
    policies = await points_policy.by_program(conn)
    programs = [
        Program(
            id=row["id"], code=row["code"], zone=ZoneInfo(row["time_zone"]),
            return_earner=row["return_earner"], return_window_days=row["return_window_days"],
            impact_factors=factors.get(row["id"], OwnFactors()), activity_kinds=kinds.get(row["id"], {}),
            packaging_classes=classes.get(row["id"], {}), points_policies=policies.get(row["id"], PointsPolicies()),
        )
        for row in await conn.fetch(PROGRAMS)
    ]  # fmt: skip
    campaigns: list[tuple[int, CompiledCampaign]] = [
        (row["program"], compile_campaign(row["id"], row["status"], row["version"], row["effective_from"], row["body"]))
        for row in await conn.fetch(CATALOGUE)
    ]
    return Catalogue(version, programs, campaigns)


async def _impact_factors(conn: Connection) -> dict[int, OwnFactors]:
    """Every program's own impact factors."""
    found: dict[int, dict[str, list[Factor]]] = {}
    for row in await conn.fetch(IMPACT_FACTORS):
        versions = found.setdefault(row["program"], {}).setdefault(row["id"], [])
        versions.append(compile_own(row["version"], row["effective_from"], row["body"]))
    return {program: OwnFactors(versions={id_: tuple(v) for id_, v in own.items()}) for program, own in found.items()}


# Counters ------------------------------------------------------------------------------------------------

# Who was ever awarded by the campaign is in campaign_consumer (reachable per bucket); their awards by primary key.
_AWARDED = """
  FROM (SELECT DISTINCT bucket, account FROM campaign_consumer
         WHERE bucket = ANY(ARRAY(SELECT generate_series(0, 1023)::smallint)) AND campaign = $1) AS c
  JOIN award AS a ON a.bucket = c.bucket AND a.account = c.account AND a.campaign = $1 AND a.points > a.reversed
"""
_WINDOWS: Final = {1: "a.day", 2: "date_trunc('year', a.day)::date", 3: "date '-infinity'"}

FILL_CAP: Final = {
    span: f"""
INSERT INTO cap_usage (bucket, account, campaign, span, day, used)
SELECT a.bucket, a.account, $1, {span}, {window}, sum(a.points - a.reversed)
{_AWARDED}
 GROUP BY a.bucket, a.account, {window}
    ON CONFLICT (bucket, account, campaign, span, day) DO UPDATE SET used = excluded.used
"""
    for span, window in _WINDOWS.items()
}
FILL_BUDGET_TOTAL = f"""
INSERT INTO budget (campaign, day, used)
SELECT $1, '-infinity', coalesce(sum(a.points - a.reversed), 0)
{_AWARDED}
    ON CONFLICT (campaign, day) DO UPDATE SET used = excluded.used
"""
FILL_BUDGET_DAYS = f"""
INSERT INTO budget (campaign, day, used)
SELECT $1, a.day, sum(a.points - a.reversed)
{_AWARDED}
 GROUP BY a.day
    ON CONFLICT (campaign, day) DO UPDATE SET used = excluded.used
"""


async def fill_cap(conn: Connection, campaign: int, span: int) -> None:
    """Count what was awarded so far in every window of a span (1 day, 2 year, 3 total). Needs the exclusive catalogue lock."""
    await conn.execute(FILL_CAP[span], campaign)


async def fill_budget(conn: Connection, campaign: int, *, total: bool) -> None:
    """Count what was awarded so far in the budget's only row (`total`) or its rows per day. Needs the exclusive catalogue lock."""
    await conn.execute(FILL_BUDGET_TOTAL if total else FILL_BUDGET_DAYS, campaign)

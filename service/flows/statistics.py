"""What a campaign did: summed from roll-ups that are written at credit, reversal, settlement, spending and expiry."""

from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from schemas.campaigns import Granularity, Statistics, Totals
from service.domain.errors import InvalidRequest, NotFound
from service.domain.hours import start_of_hour
from service.store import campaigns, registries, statistics
from service.store.connection import Connection

MAX_BUCKETS: Final = 10_000
NAMES: Final = (
    "events", "consumers", "points_issued", "points_pending", "points_settled", "points_reversed", "points_redeemed", "points_expired",
    "held", "rejected", "co2e_g", "plastic_g",
)  # fmt: skip
"""What each bucket and platform has."""


async def campaign_statistics(
    conn: Connection, code: str, *, program: int, from_: datetime | None, to: datetime | None, granularity: Granularity
) -> Statistics:
    """Totals, series and sums by platform of what was received in the hours from that of `from_` up to (without) `to`.

    None: the whole life. Hours, days and weeks (from Monday) are the program's. `budget_used` is what counts against the whole
    budget; of a part of its life, or without a budget, what was issued and not reversed.
    Raises NotFound, InvalidRequest (`to` before `from`, too many hours).
    """
    if from_ is not None and to is not None and to < from_:
        raise InvalidRequest.at("/to", "must not be before from")
    row = await campaigns.get(conn, program=program, code=code)
    if row is None:
        raise NotFound("There is no such campaign.")
    _, time_zone = await registries.clock(conn, program)
    zone = ZoneInfo(time_zone)
    since = None if from_ is None else start_of_hour(from_, zone)
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        groups = await statistics.groups(conn, campaign=row.id, granularity=granularity, time_zone=time_zone, from_=since, to=to)
        budget = await statistics.budget_used(conn, row.id) if from_ is None and to is None else None
        codes = await statistics.platform_codes(conn, program)
    if len(groups) > MAX_BUCKETS:
        raise InvalidRequest.at("/granularity", f"gives more than {MAX_BUCKETS:,} entries: choose a longer one, or from and to")
    totals = next((group.sums for group in groups if group.at is None and group.platform is None), {})
    issued = totals.get("points_issued", 0) - totals.get("points_reversed", 0)
    return Statistics(
        code=code,
        granularity=granularity,
        time_zone=time_zone,
        totals=Totals(**totals, budget_used=issued if budget is None else budget),
        series=sorted((_entry({"at": g.at.astimezone(zone)}, g.sums) for g in groups if g.at is not None), key=lambda e: e["at"]),
        by_platform=sorted(
            (_entry({"platform": codes.get(g.platform, "")}, g.sums) for g in groups if g.platform is not None),
            key=lambda e: e["platform"],
        ),
    )


def _entry(head: dict[str, Any], sums: dict[str, int]) -> dict[str, Any]:
    """One bucket or platform, sums that do not exist there as 0."""
    return head | {name: sums.get(name, 0) for name in NAMES}

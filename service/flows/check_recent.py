"""Check what changed: the accounts with new events or entries since the last look, every minute, so that a fault is known soon.

The check of everything (`flows/check.py`) sees what this cannot: rows that changed without an event or an entry.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog
from msgspec import Struct

from schemas.checks import Report
from service.flows.check import RULES
from service.store import alerts
from service.store import check_recent as store
from service.store.balances import writing_since
from service.store.check_recent import Broken
from service.store.connection import Connection, Pool, plan_by_index
from service.telemetry import metrics, tallies

MARGIN: Final = timedelta(seconds=5)
"""A transaction is stamped when it begins, and can be told from a reader only when it has written: that happens within so long."""
INSTANT: Final = timedelta(microseconds=1)
MAX_WINDOWS: Final = 20
"""Of one look; what is left comes with the next one, and the metric of the time tells how far behind it is."""
ACCOUNTS: Final = 1_000
"""Looked up by one statement."""

log = structlog.get_logger("greenpoints.check")


class Looked(Struct, frozen=True, kw_only=True):
    """How many accounts were checked, until when everything that changed has been, and what is broken."""

    accounts: int
    through: datetime
    broken: list[Broken]


async def check_recent(pool: Pool, *, margin: timedelta = MARGIN) -> Looked | None:
    """Check what changed since the last look, and again what was broken; None: somebody else is at it.

    Opens and resolves alerts. Safe to repeat, to run side by side and to kill anywhere: what was not looked at to the end is looked at
    again.
    """
    looked = 0
    broken: list[Broken] = []
    async with pool.acquire() as connection:
        if not await store.try_checking(connection):
            return None
        try:
            await plan_by_index(connection)
            again = await alerts.accounts(connection)
            broken += await _look(connection, again, through=None)
            for _ in range(MAX_WINDOWS):
                since = await store.through(connection)
                now, oldest = await writing_since(connection)
                until = min(now - margin, oldest)
                if until <= since:
                    break
                end = await store.window_end(connection, since, until)
                changed = await store.changed(connection, since, end)
                broken += await _look(connection, changed, through=end if end == until else end + INSTANT)
                looked += len(changed)
                if end == until:
                    break
            through = await store.through(connection)
            opened = await alerts.count(connection)
        finally:
            await store.free_checking(connection)
    _show(looked, through, opened)
    if broken:
        log.error("invariants are broken: GET /v1/alerts or `greenpoints check` says where", rules=_numbers(broken))
    return Looked(accounts=looked, through=through, broken=broken)


async def _look(connection: Connection, accounts: Sequence[tuple[int, int]], *, through: datetime | None) -> list[Broken]:
    """Check these accounts, each part in one snapshot, and tell what was found."""
    found: list[Broken] = []
    for at in range(0, len(accounts), ACCOUNTS):
        part = accounts[at : at + ACCOUNTS]
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            broken = await store.broken(connection, part)
        async with connection.transaction():
            await alerts.tell(connection, [account for _, account in part], broken)
        found += broken
    if through is not None:
        await store.set_through(connection, through)
    return found


async def tell_of_everything(connection: Connection, report: Report) -> None:
    """Open and resolve the alerts that a check of everything is about, by invariant; the rows are not named, whosever they are."""
    broken = {
        rule.name: f"{rule.sentence} Broken by {max(rule.found, 1):,} rows: `greenpoints check` names them."
        for rule in report.invariants if not rule.ok
    }  # fmt: skip
    async with connection.transaction():
        await alerts.tell_of_everything(connection, broken)


def _numbers(broken: Sequence[Broken]) -> dict[str, int]:
    return {kind: sum(b.kind == kind for b in broken) for kind in sorted({b.kind for b in broken})}


def _show(accounts: int, through: datetime, opened: dict[str, int]) -> None:
    metrics.RECENT_CHECK_TIME.set(through.timestamp())
    tallies.count(metrics.RECENT_CHECK_ACCOUNTS).add(accounts)
    for rule in RULES:
        metrics.ALERTS_OPEN.labels(rule.name).set(opened.get(rule.name, 0))

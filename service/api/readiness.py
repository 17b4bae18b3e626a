"""Readiness: what keeps this process from taking credits, and what is wrong besides. Asked anew for every `/readyz`, side by side."""

import asyncio
import time
from typing import Final, Literal

import asyncpg
from msgspec import Struct

from service.api.lanes import Lanes
from service.flows import checked as checks
from service.flows.checked import Checked
from service.flows.migrate import MigrationRefused, read_migrations
from service.runtime import Resources
from service.store import vitals as store
from service.store.connection import UNREACHABLE, reading
from service.store.vitals import Vitals
from service.telemetry import metrics

WORKER_PATIENCE_S: Final = 15.0
"""A worker that is started again is away for as long as five seconds; this is more."""
LATE_S: Final = 60.0
"""From then on the check of the invariants, too, calls an event overdue."""
LOOK_INTERVAL_S: Final = 5.0
CHECK_PATIENCE: Final = 3.0
"""A check counts as old after so many intervals."""


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that is wrong: a stable code, whether it keeps credits out, and words for people."""

    code: str
    level: Literal["reason", "note"]
    detail: str


class Readiness:
    """Judges one serving process."""

    def __init__(self, resources: Resources, lanes: Lanes) -> None:
        self._resources = resources
        self._lanes = lanes
        self._files = _migration_files()
        self.stopping = False
        """Set before the process stops accepting, so that a load balancer turns away in time."""
        self.worker_seen_at = self.started_at = time.monotonic()
        """When a worker was last seen; the first of them may come after us."""

    async def findings(self) -> list[Finding]:
        """What is wrong now, reasons first; nothing: credits can be taken and all else is well. Takes about a second at worst."""
        wait_s = self._resources.settings.redis_wait_ms / 1_000
        vitals, balances, queue, checked = await asyncio.gather(
            self._vitals(), self._resources.projection.answers(), self._resources.doorbell.answers(wait_s), self._checked(wait_s)
        )
        found = [*self._process(), *self._database(vitals)]
        if not balances:
            found.append(_note("balance_redis_unreachable", "balance Redis does not answer: reads go to PostgreSQL"))
        if not queue:
            found.append(_note("queue_redis_unreachable", "queue Redis does not answer: workers go by their timers"))
        if isinstance(vitals, Vitals):
            found += [*self._workers(vitals), *self._invariants(checked, vitals)]
        return sorted(found, key=lambda finding: finding.level, reverse=True)

    async def keep_looking(self) -> None:
        """See how late settling is and what the last check found, for the metrics, for ever: with all workers gone we still tell."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            if (known := await checks.last(self._resources.projection)) is not None:
                checks.show(known)
            if isinstance(vitals := await self._vitals(), Vitals):
                metrics.DUE_OLDEST.set(vitals.overdue_s)
                if vitals.has_worker:
                    self.worker_seen_at = time.monotonic()

    async def _vitals(self) -> Vitals | str | None:
        """What PostgreSQL says; the name of its error, or None where it has no tables."""
        try:
            async with reading(self._resources.pool) as connection:
                vitals = await store.vitals(connection)
        except UNREACHABLE as error:
            return type(error).__name__
        except asyncpg.UndefinedTableError:
            return None
        if not self._resources.is_synced:
            await self._resources.sync()
        return vitals

    async def _checked(self, wait_s: float) -> Checked | None:
        try:
            async with asyncio.timeout(wait_s):
                return await checks.last(self._resources.projection)
        except TimeoutError:
            return None

    def _process(self) -> list[Finding]:
        found = [_reason("stopping", "this process is stopping")] if self.stopping else []
        return found + [
            _reason(f"{lane.name}_lane_stuck", f"the {lane.name} lane: a request has waited for {lane.oldest_s:.1f} s")
            for lane in (self._lanes.single, self._lanes.bulk, self._lanes.redeem)
            if lane.is_stuck
        ]

    def _database(self, vitals: Vitals | str | None) -> list[Finding]:
        if isinstance(vitals, str):
            return [_reason("postgresql_unreachable", f"PostgreSQL: {vitals}")]
        missing = self._files if vitals is None else self._files - vitals.migrations
        if missing or vitals is None:
            names = ", ".join(sorted(missing)[:3])
            return [_reason("migrations_missing", f"PostgreSQL: migrations are missing ({names}): run `greenpoints migrate`")]
        found = []
        if not self._resources.is_synced:
            found.append(_reason("not_synced", f"epoch and hash key are not read yet: {self._resources.database_error}"))
        if self._files and vitals.migrations - self._files:
            # Not a reason: a release migrates first and replaces the processes after it, one by one.
            found.append(_note("migrations_newer", "PostgreSQL has migrations that are newer than this process: replace it soon"))
        return found

    def _workers(self, vitals: Vitals) -> list[Finding]:
        found = []
        now = time.monotonic()
        if vitals.has_worker:
            self.worker_seen_at = now
        elif now - self.worker_seen_at > WORKER_PATIENCE_S:
            found.append(_note("worker_missing", "no worker is connected: points stay pending after their time"))
        if vitals.overdue_s > LATE_S:
            found.append(_note("settlement_late", f"the oldest event past its time is {vitals.overdue_s:.0f} s late"))
        return found

    def _invariants(self, checked: Checked | None, vitals: Vitals) -> list[Finding]:
        if checked is not None and checked.broken:
            return [_note("invariants_broken", f"the last check found broken: {', '.join(sorted(checked.broken))}")]
        interval_s = self._resources.settings.check_interval_s
        patience_s = CHECK_PATIENCE * interval_s
        if not interval_s or time.monotonic() - self.started_at < patience_s:
            return []
        if checked is None or (vitals.at - checked.at).total_seconds() > patience_s:
            return [_note("invariant_check_old", f"the invariants have not been checked for {patience_s:.0f} s")]
        return []


def _migration_files() -> frozenset[str]:
    """The migrations of this release; none where it runs without their folder, and nothing is compared then."""
    try:
        return frozenset(migration.name for migration in read_migrations())
    except MigrationRefused:
        return frozenset()


def _reason(code: str, detail: str) -> Finding:
    return Finding(code=code, level="reason", detail=detail)


def _note(code: str, detail: str) -> Finding:
    return Finding(code=code, level="note", detail=detail)

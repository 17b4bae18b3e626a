"""Every metric, with its labels; docs/operations.md explains them, and a test compares the two.

Labels come from small fixed sets. No consumer, id, address, raw path or free text is ever one.
"""

import asyncio
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import prometheus_client
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

from service.telemetry import sharing, tallies
from service.telemetry.tallies import Spread

FLUSH_INTERVAL_S: Final = 1.0
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

log = structlog.get_logger("greenpoints.metrics")


def _share() -> tuple[Path | None, str | None]:
    """The directory shared with other processes, or why there is none although one is named. Before the first metric is made."""
    folder = sharing.shared_folder()
    if folder is None:
        return None, None
    try:
        number = sharing.take_number(folder)
    except (OSError, sharing.NoNumberLeft) as error:
        # What a process counts is no reason for it not to work; prometheus_client has already chosen files, which there cannot be.
        values.ValueClass = values.MutexValue
        return None, str(error)
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: number)  # type: ignore[no-untyped-call]
    return folder, None


_FOLDER, _PROBLEM = _share()
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY: Final = CollectorRegistry()
_FAST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 500, 1_000)
_LAGS_S: Final = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 3_600, 86_400)


def _counter(name: str, what: str, *labels: str) -> Counter:
    return Counter(f"greenpoints_{name}", what, labels, registry=REGISTRY)


def _spread(name: str, what: str, bounds: tuple[float, ...], *labels: str) -> Spread:
    return Spread(f"greenpoints_{name}", what, labels, buckets=bounds, registry=REGISTRY)


def _sum(name: str, what: str, *labels: str) -> Gauge:
    """Summed over the living processes."""
    return Gauge(f"greenpoints_{name}", what, labels, registry=REGISTRY, multiprocess_mode="livesum")


def _latest(name: str, what: str, *labels: str) -> Gauge:
    """About something all processes see: the one that looked last tells."""
    return Gauge(f"greenpoints_{name}", what, labels, registry=REGISTRY, multiprocess_mode="livemostrecent")


HTTP_SECONDS: Final = _spread(
    "http_request_duration_seconds", "Time until the answer began, by route template and status class", _FAST_S, "method", "route", "status"
)
AUTHENTICATION_REFUSALS: Final = _counter(
    "authentication_refusals_total", "Requests refused because of who called, by what was shown", "kind", "code"
)

LANE_WAITING: Final = _sum("lane_waiting_requests", "Requests in the queue", "lane")
LANE_COMMITTING: Final = _sum("lane_committing_requests", "Requests that are being committed", "lane")
LANE_OLDEST: Final = Gauge(
    "greenpoints_lane_oldest_waiting_seconds", "Age of the oldest request that is queued or being committed", ["lane"],
    registry=REGISTRY, multiprocess_mode="livemax",
)  # fmt: skip
LANE_BATCH_EVENTS: Final = _spread("lane_batch_events", "Events of a committed batch", _SIZES, "lane")
LANE_BATCH_REQUESTS: Final = _spread("lane_batch_requests", "Requests of a committed batch", _SIZES, "lane")
LANE_COMMIT_SECONDS: Final = _spread("lane_commit_duration_seconds", "Time of a batch's transaction, COMMIT included", _FAST_S, "lane")
LANE_OVERLOADED: Final = _counter("lane_overloaded_total", "Requests refused because too many were waiting", "lane")
LANE_TIMED_OUT: Final = _counter("lane_timed_out_total", "Requests answered 503 after waiting", "lane")
LANE_ISOLATED: Final = _counter("lane_isolated_total", "Events that could not be credited by themselves: a defect", "lane")
LANE_CONFLICTS: Final = _counter("lane_conflicts_total", "Batches tried again after a deadlock or serialisation failure", "lane")
EVENTS: Final = _counter("events_total", "Events answered, by type and by what came of them", "type", "status")
FRAUD_DOOR: Final = _counter(
    "fraud_door_total", "Events that the checks at the door found something of, by what and by mode", "found", "mode"
)
REDEMPTIONS: Final = _counter("redemptions_total", "Requests to spend points, by step and by what came of them", "step", "outcome")
HOOK_DELIVERIES: Final = _counter("hook_deliveries_total", "Inbound webhooks, by connector and outcome", "connector", "outcome")

SETTLED_EVENTS: Final = _counter("settled_events_total", "Events whose hold ended")
SETTLED_POINTS: Final = _counter("settled_points_total", "Points that became available, debt repaid included")
SETTLEMENT_LAG: Final = _spread("settlement_lag_seconds", "How late after their time events were settled", _LAGS_S)
SETTLEMENT_SECONDS: Final = _spread("settlement_batch_duration_seconds", "Time of one settling transaction", _FAST_S)
EXPIRED_LOTS: Final = _counter("expired_lots_total", "Lots whose last day was over: expired, or moved on because their consumer is active")
EXPIRED_POINTS: Final = _counter("expired_points_total", "Points that expired")
VERDICTS: Final = _counter("fraud_verdicts_total", "Verdicts of the fraud checks", "outcome")
HELD_POINTS: Final = _counter("fraud_held_points_total", "Points that fraud checks held")
CASES_OPENED: Final = _counter("fraud_cases_opened_total", "Cases of the fraud checks that were opened")
JUDGE_SECONDS: Final = _spread("fraud_judge_batch_duration_seconds", "Time of judging one batch, without reading and writing", _FAST_S)
FRAUD_REDIS_FAILURES: Final = _counter("fraud_redis_failures_total", "What judges remember could not be saved in Redis")
WAITING_OLDEST: Final = _latest(
    "fraud_waiting_oldest_age_seconds", "How long the oldest event without a verdict has waited; 0 when none does"
)
LEASES_LOST: Final = _counter("leases_lost_total", "Work that a worker gave up because another had taken it meanwhile")
DUE_OLDEST: Final = _latest("due_oldest_age_seconds", "How long the oldest event past its time has been so; 0 when none is")
FRAUD_WAITING: Final = _latest("fraud_waiting_events", "Events without a verdict; at most 100,000 are counted")
FRAUD_HELD: Final = _latest("fraud_held_events", "Events that are held for a person; at most 100,000 are counted")
FRAUD_OPEN_CASES: Final = _latest("fraud_open_cases", "Cases of the fraud checks that are not closed; at most 100,000 are counted")
SWEEP_FAILURES: Final = _counter("sweep_failures_total", "Background work that failed and is tried again", "sweep")

FENCE_MISSES: Final = _counter("balance_fence_misses_total", "Pushed balances that were not newer than what Redis had")
BALANCE_REDIS_FAILURES: Final = _counter("balance_redis_failures_total", "Times the balance Redis did not answer")
QUEUE_REDIS_FAILURES: Final = _counter("queue_redis_failures_total", "Times the queue Redis did not take a doorbell or answer a worker")
MEND_SWEEPS: Final = _counter("mend_sweeps_total", "Sweeps that pushed recently changed balances again")
MEND_ACCOUNTS: Final = _counter("mend_accounts_total", "Balances that these sweeps pushed")

DATABASE_UP: Final = Gauge(
    "greenpoints_database_up", "1 while every process reaches PostgreSQL", registry=REGISTRY, multiprocess_mode="livemin"
)  # fmt: skip
DATABASE_CONNECTIONS: Final = _sum("database_connections", "Connections of the pools", "state")
DATABASE_CONNECTIONS_LIMIT: Final = _sum("database_connections_limit", "Most connections that the pools may open")

INVARIANT_CHECK_TIME: Final = _latest("invariant_check_timestamp_seconds", "When the last check of the invariants ended (Unix time)")
INVARIANT_CHECK_SECONDS: Final = _latest("invariant_check_duration_seconds", "How long it took")
INVARIANT_BROKEN: Final = _latest("invariant_broken_rows", "Rows that break an invariant, by the last check", "rule")

RECENT_CHECK_TIME: Final = _latest(
    "recent_check_timestamp_seconds", "Until when everything that changed has been checked by itself (Unix time)"
)
RECENT_CHECK_ACCOUNTS: Final = _counter("recent_check_accounts_total", "Accounts that were checked because they had changed")
ALERTS_OPEN: Final = _latest("alerts_open", "Alerts that are not resolved, by the invariant that is broken", "rule")
SEALED_TIME: Final = _latest("sealed_timestamp_seconds", "Until when every entry of the ledger is sealed (Unix time)")
SEALED_ENTRIES: Final = _counter("sealed_entries_total", "Entries that were sealed")

PROCESSES: Final = _sum("processes", "Living processes", "part")
BUILD_INFO: Final = Gauge(
    "greenpoints_build_info", "1; the label is the version that runs", ["version"], registry=REGISTRY, multiprocess_mode="livemax"
)  # fmt: skip


def release() -> str:
    """The version that runs."""
    try:
        return version("greenpoints")
    except PackageNotFoundError:
        return "unknown"


def tell_process(part: str) -> None:
    """This process is a living `part`: `api` or `worker`."""
    if _PROBLEM is not None:
        log.warning("metrics are not shared with other processes", why=_PROBLEM)
    PROCESSES.labels(part).set(1)
    BUILD_INFO.labels(release()).set(1)


async def keep_flushing() -> None:
    """Hand over what was counted, for ever."""
    while True:
        await asyncio.sleep(FLUSH_INTERVAL_S)
        tallies.flush()


def render() -> bytes:
    """All metrics as text: of every process that shares the directory, or of this one. Safe in a thread; `flush` first."""
    if _FOLDER is None:
        return generate_latest(REGISTRY)
    sharing.forget_the_dead(_FOLDER)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(_FOLDER))  # type: ignore[no-untyped-call]
    return generate_latest(registry)

"""What the last check of the invariants found: kept where every process can read it, and shown as metrics.

It is kept beside the balances in Redis: lost with them, it costs one check that comes early, and a note of `/readyz`.
"""

import asyncio
from datetime import datetime

import msgspec
from msgspec import Struct

from schemas.checks import Report
from service.flows.check import RULES
from service.projection import REDIS_UNREACHABLE, Projection
from service.telemetry import metrics

WAIT_S = 1.0
KEPT_MS = 90 * 86_400_000


class Checked(Struct, frozen=True, kw_only=True):
    """When a check ended, how long it took, and how many rows break each broken invariant."""

    at: datetime
    took_s: float
    broken: dict[str, int]


def summary(report: Report, *, at: datetime) -> Checked:
    """The report in short: names and counts, no rows."""
    return Checked(at=at, took_s=report.took_s, broken={rule.name: max(rule.found, 1) for rule in report.invariants if not rule.ok})


async def remember(projection: Projection, checked: Checked) -> bool:
    """Keep it for the other processes; whether Redis took it."""
    try:
        async with asyncio.timeout(WAIT_S):
            await projection.redis.set(_key(projection), msgspec.json.encode(checked), px=KEPT_MS)
    except REDIS_UNREACHABLE:
        return False
    return True


async def last(projection: Projection) -> Checked | None:
    """The last check that is known, by whichever process; None when there is none or Redis does not answer."""
    try:
        async with asyncio.timeout(WAIT_S):
            kept = await projection.redis.get(_key(projection))
    except REDIS_UNREACHABLE:
        return None
    try:
        return None if kept is None else msgspec.json.decode(kept, type=Checked)
    except msgspec.MsgspecError:
        return None


def show(checked: Checked) -> None:
    """Set the metrics."""
    metrics.INVARIANT_CHECK_TIME.set(checked.at.timestamp())
    metrics.INVARIANT_CHECK_SECONDS.set(checked.took_s)
    for rule in RULES:
        metrics.INVARIANT_BROKEN.labels(rule.name).set(checked.broken.get(rule.name, 0))


def _key(projection: Projection) -> bytes:
    return b"gp:%d:checked" % projection.epoch

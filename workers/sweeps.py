"""What a worker does now and then; each is one call of a flow."""

from datetime import timedelta

from service.flows import adjustments, check_recent, fraud_monitor, fraud_reject, fraud_retention, privacy_requests, retention, seal
from service.flows.erase import finish_erasures
from service.flows.expire import expire_due
from service.flows.forget import forget_deliveries
from service.flows.redeem import release_expired
from service.flows.release import release_due
from service.flows.settle import settle_due
from service.flows.warn import warn_due
from service.runtime import Resources
from service.store.links import forget_codes
from service.store.screening import oldest_waiting
from service.store.settlement import ignore_overdue_parked
from service.store.vitals import vitals
from service.telemetry import metrics


async def settle(resources: Resources) -> None:
    """Settle what is due."""
    settings = resources.settings
    await settle_due(
        resources.pool, resources.projection, stripe=resources.knowledge.stripe, buckets=settings.settle_buckets,
        batch_events=settings.settle_batch_events, screened=settings.fraud_mode != "off",
    )  # fmt: skip


async def release(resources: Resources) -> None:
    """Release reservations whose end has come."""
    await release_due(
        resources.pool, resources.projection, release_expired, stripe=resources.knowledge.stripe, buckets=resources.settings.settle_buckets
    )


async def expire(resources: Resources) -> None:
    """Expire points whose last day is over."""
    settings = resources.settings
    await expire_due(
        resources.pool, resources.projection, stripe=resources.knowledge.stripe, buckets=settings.settle_buckets,
        batch_lots=settings.expiry_batch_lots,
    )  # fmt: skip


async def warn(resources: Resources) -> None:
    """Warn of points that end soon."""
    await warn_due(resources.pool)


async def ignore_parked(resources: Resources) -> None:
    """Give up on facts whose order never came, and forget codes that count no more."""
    async with resources.pool.acquire() as connection:
        await ignore_overdue_parked(connection)
        await forget_codes(connection)


async def forget_old_deliveries(resources: Resources) -> None:
    """Forget deliveries and their bodies after their time."""
    settings = resources.settings
    await forget_deliveries(
        resources.pool, rows_after=timedelta(days=settings.retain_deliveries_days),
        bodies_after=timedelta(days=settings.retain_delivery_bodies_days),
    )  # fmt: skip


async def keep_privacy(resources: Resources) -> None:
    """Do what platforms ask for about persons, and scrub what is left of those who were erased."""
    await privacy_requests.work(resources.pool)
    await finish_erasures(resources.pool, resources.projection)


async def retain(resources: Resources) -> None:
    """Forget what is older than it may be kept."""
    s = resources.settings
    await retention.sweep(
        resources.pool,
        retention.Terms(
            attributes=s.retain_attributes_days, fraud_attributes=s.retain_fraud_attributes_days, parked=s.retain_parked_days,
            exports=s.retain_exports_days, requests=s.retain_requests_days,
        ),
    )  # fmt: skip
    await fraud_retention.sweep(
        resources.pool, fraud_retention.Terms(verdicts=s.retain_fraud_verdicts_days, attributes=s.retain_fraud_attributes_days)
    )


async def expire_adjustments(resources: Resources) -> None:
    """End adjustments that nobody has decided in time."""
    await adjustments.expire(resources.pool)


async def finish_fraud_cases(resources: Resources) -> None:
    """Carry out what was decided about fraud cases, and what their deadlines decide."""
    await fraud_reject.sweep(resources.pool, resources.projection, resources.knowledge)


async def end_empty_fraud_events(resources: Resources) -> None:
    """End events of fraud cases of which refunds have left nothing."""
    await fraud_reject.sweep(resources.pool, resources.projection, resources.knowledge, empty=True)


async def seal_entries(resources: Resources) -> None:
    """Seal what was written to the ledger."""
    await seal.seal(resources.pool)


async def check_changed(resources: Resources) -> None:
    """Check the accounts that changed."""
    await check_recent.check_recent(resources.pool)


async def look(resources: Resources) -> None:
    """See how late judging and settling are."""
    async with resources.pool.acquire() as connection:
        metrics.DUE_OLDEST.set((await vitals(connection)).overdue_s)
        metrics.WAITING_OLDEST.set((await oldest_waiting(connection))[1].total_seconds())


async def watch_fraud_checks(resources: Resources) -> None:
    """See whether scores drift, and how much is held."""
    await fraud_monitor.watch(resources.pool)

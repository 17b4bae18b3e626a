"""What a worker does now and then; each is one call of a flow."""

from datetime import timedelta

from service.flows import privacy_requests, retention
from service.flows.erase import finish_erasures
from service.flows.expire import expire_due
from service.flows.forget import forget_deliveries
from service.flows.settle import settle_due
from service.flows.warn import warn_due
from service.runtime import Resources
from service.store.settlement import ignore_overdue_parked
from service.store.vitals import vitals
from service.telemetry import metrics


async def settle(resources: Resources) -> None:
    """Settle what is due."""
    settings = resources.settings
    await settle_due(
        resources.pool, resources.projection, stripe=resources.knowledge.stripe, buckets=settings.settle_buckets,
        batch_events=settings.settle_batch_events,
    )  # fmt: skip


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
    """Give up on facts whose order never came."""
    async with resources.pool.acquire() as connection:
        await ignore_overdue_parked(connection)


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


async def look(resources: Resources) -> None:
    """See how late settling is."""
    async with resources.pool.acquire() as connection:
        metrics.DUE_OLDEST.set((await vitals(connection)).overdue_s)

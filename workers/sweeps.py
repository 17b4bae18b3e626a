"""What a worker does now and then; each is one call of a flow."""

from service.flows.settle import settle_due
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


async def ignore_parked(resources: Resources) -> None:
    """Give up on facts whose order never came."""
    async with resources.pool.acquire() as connection:
        await ignore_overdue_parked(connection)


async def look(resources: Resources) -> None:
    """See how late settling is."""
    async with resources.pool.acquire() as connection:
        metrics.DUE_OLDEST.set((await vitals(connection)).overdue_s)

"""The two lanes of a serving process: single events, and bulk bodies, so that the latter do not make the former wait."""

from collections.abc import Sequence

from service.domain.fold import Account
from service.flows.batcher import Lane
from service.runtime import Resources

BULK_ANSWER_TIMEOUT_S = 30.0


class Lanes:
    """Opens and closes both."""

    def __init__(self, resources: Resources) -> None:
        settings = resources.settings

        async def publish(changed: Sequence[Account], due_now: bool) -> None:  # noqa: FBT001 - the lane's signature
            if due_now:
                resources.doorbell.ring()
            if changed:
                await resources.projection.push([(account.id, account.balance()) for account in changed])

        self.single = Lane(
            "single", pool=resources.pool, knowledge=resources.knowledge, publish=publish, batch_events=settings.batch_events,
            queue_requests=settings.queue_events, batch_wait_s=settings.batch_wait_ms / 1_000,
            answer_timeout_s=settings.answer_timeout_s, writers=settings.single_writers,
        )  # fmt: skip
        self.bulk = Lane(
            "bulk", pool=resources.pool, knowledge=resources.knowledge, publish=publish, batch_events=settings.bulk_batch_events,
            queue_requests=settings.bulk_queue_bodies * 2, batch_wait_s=0.0, answer_timeout_s=BULK_ANSWER_TIMEOUT_S,
            writers=settings.bulk_writers,
        )  # fmt: skip
        self.bodies = 0
        """Bulk bodies being read or committed."""

    def start(self) -> None:
        """Start committing."""
        self.single.start()
        self.bulk.start()

    async def stop(self) -> None:
        """Stop committing."""
        await self.single.stop()
        await self.bulk.stop()

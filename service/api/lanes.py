"""The lanes of a serving process: single events, bulk bodies, and redemptions, so that none of them makes another wait."""

from collections.abc import Sequence

from service.domain.errors import Overloaded
from service.domain.posting import Account
from service.flows.batcher import Lane
from service.flows.crediting import crediting
from service.flows.redeem import redeeming
from service.runtime import Resources
from service.telemetry import metrics

BULK_ANSWER_TIMEOUT_S = 30.0
BULK = frozenset({"/v1/events/batch", "/v1/stations/me/returns"})
"""Routes whose bodies go into the bulk lane."""
CHUNK_BESIDE = 25
"""Events of a chunk of a bulk body while single events come in: a few milliseconds of deciding."""
CROWD = 64
"""Single events that are worth a second batch beside one that is being committed."""


REDEEM_WRITERS = 2


class Lanes:
    """Opens and closes them."""

    def __init__(self, resources: Resources) -> None:
        settings = resources.settings

        async def publish(changed: Sequence[Account], due_now: bool) -> None:  # noqa: FBT001 - the lane's signature
            if due_now:
                resources.doorbell.ring()
            if changed:
                await resources.projection.push([(account.id, account.balance()) for account in changed])

        work = crediting(resources.knowledge)
        self.single = Lane(
            "single", pool=resources.pool, work=work, publish=publish, batch_events=settings.batch_events,
            queue_requests=settings.queue_events, batch_wait_s=settings.batch_wait_ms / 1_000,
            answer_timeout_s=settings.answer_timeout_s, writers=settings.single_writers, crowd=min(CROWD, settings.batch_events),
        )  # fmt: skip
        self.bulk = Lane(
            "bulk", pool=resources.pool, work=work, publish=publish, batch_events=settings.bulk_batch_events,
            queue_requests=settings.bulk_queue_bodies * 2, batch_wait_s=0.0, answer_timeout_s=BULK_ANSWER_TIMEOUT_S,
            writers=settings.bulk_writers, gives_way_to=self.single,
        )  # fmt: skip
        self.redeem = Lane(
            "redeem", pool=resources.pool, work=redeeming(resources.sealer), publish=publish, batch_events=settings.batch_events,
            queue_requests=settings.queue_events, batch_wait_s=settings.batch_wait_ms / 1_000,
            answer_timeout_s=settings.answer_timeout_s, writers=REDEEM_WRITERS, crowd=min(CROWD, settings.batch_events),
        )  # fmt: skip
        self._chunk = settings.bulk_batch_events
        self._most_bodies = settings.bulk_queue_bodies
        self.bodies = 0
        """Bulk bodies being read or committed."""

    @property
    def is_busy(self) -> bool:
        """Whether events are coming in."""
        return self.single.is_busy or self.bulk.is_busy

    @property
    def is_full(self) -> bool:
        """Whether one of them is."""
        return self.single.is_full or self.bodies >= self._most_bodies or self.bulk.is_full

    def refusal(self, method: str, path: str) -> Overloaded | None:
        """Why a request must not even be read now: it would end in a lane that is full."""
        if method != "POST":
            return None
        if path in BULK:
            if self.bodies >= self._most_bodies:
                return self.too_many_bodies()
            return self.bulk.overloaded() if self.bulk.is_full else None
        if (path == "/v1/events" or path.startswith("/v1/hooks/")) and self.single.is_full:
            return self.single.overloaded()
        return None

    def too_many_bodies(self) -> Overloaded:
        """The refusal of one more bulk body, counted."""
        self.bulk.tallies.overloaded.add()
        return Overloaded("More bulk bodies are waiting than can be committed in time.")

    def begin_body(self) -> None:
        """Count a bulk body in; whoever does counts it out again. Raises Overloaded at the bound."""
        if self.bodies >= self._most_bodies:
            raise self.too_many_bodies()
        self.bodies += 1

    @property
    def chunk(self) -> int:
        """Events of the next chunk of a bulk body: few while single events come in, which wait while a chunk is decided."""
        return min(self._chunk, CHUNK_BESIDE) if self.single.is_busy else self._chunk

    def measure(self) -> None:
        """Set their gauges."""
        for lane in (self.single, self.bulk, self.redeem):
            metrics.LANE_WAITING.labels(lane.name).set(lane.waiting)
            metrics.LANE_COMMITTING.labels(lane.name).set(lane.committing)
            metrics.LANE_OLDEST.labels(lane.name).set(lane.oldest_s)

    def start(self) -> None:
        """Start committing."""
        self.single.start()
        self.bulk.start()
        self.redeem.start()

    async def stop(self) -> None:
        """Stop committing."""
        await self.single.stop()
        await self.bulk.stop()
        await self.redeem.stop()

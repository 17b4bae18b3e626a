"""What the lanes of events do: credit facts, and count what came of them."""

from collections.abc import Sequence
from functools import cache

from service.domain.posting import Fact
from service.flows.batcher import Work
from service.flows.knowledge import Knowledge
from service.flows.outcomes import Received
from service.flows.receive import receive
from service.store import credit
from service.store.connection import Connection
from service.telemetry import metrics, tallies


def crediting(knowledge: Knowledge) -> Work[Fact]:
    """The work of a lane of events."""

    async def commit(connection: Connection, facts: Sequence[Fact], stripe: int) -> Received:
        return await receive(connection, facts, knowledge, stripe=stripe)

    def count(facts: Sequence[Fact], received: Received) -> None:
        _count(facts, received)
        for found in received.at_door:
            _at_door(found, knowledge.door.mode).add()

    return Work(commit=commit, get_ready=credit.get_ready, name=lambda fact: fact.event.TYPE, count=count, failed=_failed)


def _failed(fact: Fact) -> None:
    _events(fact.event.TYPE, "failed").add()


@cache
def _events(type_: str, status: str) -> tallies.CountTally:
    return tallies.count(metrics.EVENTS, type_, status)


@cache
def _at_door(found: str, mode: str) -> tallies.CountTally:
    return tallies.count(metrics.FRAUD_DOOR, found, mode)


def _count(facts: Sequence[Fact], received: Received) -> None:
    for _, type_, status in received.credited:
        _events(type_, status).add()
    if len(received.credited) < len(facts):
        for fact, outcome in zip(facts, received.outcomes, strict=True):
            if outcome.error is not None or outcome.replayed:
                _events(fact.event.TYPE, "repeated" if outcome.error is None else "id_reused").add()

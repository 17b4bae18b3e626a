"""Retention of what fraud checks leave behind: verdicts, reasons, words of objections, statistics, list entries, the outbox.

In small batches; what a legal hold keeps stays. Points, labels and the marks of what was rejected never change.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from msgspec import Struct

from service import failpoints
from service.store import fraud_retention as store
from service.store.connection import Connection, Pool

BATCH: Final = 1_000
"""Rows of one transaction."""
MAX_BATCHES: Final = 20
"""Transactions of one kind (of verdicts: of one program) in one sweep; what is left waits for the next."""
OUTBOX_DAYS: Final = 90
"""How long what platforms are to be told is kept, as long as nothing delivers it."""


class Terms(Struct, frozen=True, kw_only=True):
    """Days for which each kind is kept."""

    verdicts: int
    """Verdicts; reasons and words after the decision; statistics of scores."""
    attributes: int
    """Entries of lists after they were taken off or ended; 0: for ever."""


async def sweep(pool: Pool, terms: Terms) -> None:
    """Forget what is too old. Safe to repeat, to run side by side and after a crash."""
    async with pool.acquire() as connection:
        for program in await store.programs(connection):
            await _verdicts(connection, program, terms.verdicts)
            failpoints.at("fraud_retention.verdicts")
            await _batches(partial(store.delete_hours, connection, program=program, days=terms.verdicts, limit=BATCH))
            failpoints.at("fraud_retention.hours")
        await _batches(partial(store.forget_reasons, connection, days=terms.verdicts, limit=BATCH))
        failpoints.at("fraud_retention.reasons")
        await _batches(partial(store.forget_words, connection, days=terms.verdicts, limit=BATCH))
        failpoints.at("fraud_retention.words")
        await _batches(partial(store.delete_outbox, connection, days=OUTBOX_DAYS, limit=BATCH))
        failpoints.at("fraud_retention.outbox")
        if terms.attributes:
            await _batches(partial(store.delete_entries, connection, days=terms.attributes, limit=BATCH))


async def _verdicts(connection: Connection, program: int, days: int) -> None:
    """From the oldest on; those that a legal hold keeps are passed over."""
    after = 0
    for _ in range(MAX_BATCHES):
        after, old = await store.delete_verdicts(connection, program=program, after=after, days=days, limit=BATCH)
        if old < BATCH:
            break


async def _batches(forget: Callable[[], Awaitable[int]]) -> None:
    """Until less than a batch is found."""
    for _ in range(MAX_BATCHES):
        if await forget() < BATCH:
            break

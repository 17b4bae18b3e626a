"""What is forgotten after its time, in small batches: nobody waits for a long transaction."""

from datetime import timedelta

from service import failpoints
from service.store import deliveries as store
from service.store.connection import Pool

BATCH_ROWS = 1_000
MAX_BATCHES = 200
"""Of one sweep; what is left waits for the next."""


async def forget_deliveries(pool: Pool, *, rows_after: timedelta, bodies_after: timedelta, batch_rows: int = BATCH_ROWS) -> None:
    """Drop the bodies of deliveries older than `bodies_after`, and deliveries older than `rows_after`. Safe to repeat."""
    for forget, age in ((store.drop_bodies, bodies_after), (store.drop, rows_after)):
        for _ in range(MAX_BATCHES):
            async with pool.acquire() as conn:
                if await forget(conn, older_than=age, limit=batch_rows) < batch_rows:
                    break
        failpoints.at("forget.bodies")

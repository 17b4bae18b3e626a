"""Warn: whoever has points that end soon gets a line in their activity, once for each last day.

Each program is looked through once on each of its local days, a bucket at a time; how far that has come is a row, so that a worker that
is killed is carried on from.
"""

from datetime import timedelta
from typing import Final

from service import failpoints
from service.store import points_policy
from service.store import warnings as store
from service.store.connection import Connection, Pool, plan_by_index

BUCKETS_AT_ONCE: Final = 64
"""Buckets of one transaction."""
MAX_WARNINGS: Final = 5_000
"""Rows of one statement; a bucket with more is looked at again."""


async def warn_due(pool: Pool, *, most: int = MAX_WARNINGS) -> int:
    """Look through the programs that have not been today; returns how many warnings it wrote. Safe to repeat and side by side."""
    done = 0
    async with pool.acquire() as connection:
        await plan_by_index(connection)
        for program in await store.programs(connection):
            await store.start(connection, program)
            failpoints.at("warn.started")
            while (written := await _look_through_some(connection, program, most)) is not None:
                done += written
    return done


async def _look_through_some(connection: Connection, program: int, most: int) -> int | None:
    """One transaction; None: it is done for today, or another worker is at it."""
    async with connection.transaction():
        watch = await store.take(connection, program)
        if watch is None or (watch.day, watch.bucket) >= (watch.today, store.BUCKETS):
            return None
        first = watch.bucket if watch.day == watch.today else 0
        before_days = (await points_policy.of_program(connection, program)).at(watch.now).warn_before_days
        if before_days is None:
            await store.set_through(connection, program, watch.today, store.BUCKETS)
            return None
        written = 0
        after = min(first + BUCKETS_AT_ONCE, store.BUCKETS)
        for bucket in range(first, after):
            new = await store.warn(
                connection, program=program, bucket=bucket, from_=watch.today, to=watch.today + timedelta(days=before_days), at=watch.now,
                limit=most,
            )  # fmt: skip
            failpoints.at("warn.warned")
            written += new
            if new == most:
                after = bucket
                break
        await store.set_through(connection, program, watch.today, after)
        failpoints.at("warn.through")
        return written

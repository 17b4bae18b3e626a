"""Rebuild: write every balance in Redis again from PostgreSQL."""

from collections.abc import Callable
from typing import Final, TypeAlias

from redis.exceptions import RedisError

from service.domain.keys import bucket_of
from service.projection import Projection
from service.store import balances as store
from service.store.connection import Pool

PAGE_ACCOUNTS: Final = 1_000
WAIT_S: Final = 5.0

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the accounts done and all accounts."""


class RebuildStopped(RedisError):
    """Redis stopped taking balances; those written so far are right, and running it again is safe."""


async def rebuild(pool: Pool, projection: Projection, *, progress: Progress | None = None) -> int:
    """Delete each balance and write it anew; returns the number of accounts. Raises RedisError.

    Safe to repeat, and while credits run: PostgreSQL is read after the key is gone, so whatever somebody writes in between
    is at least as new, and the fence keeps the newer of both. A key that is missing for a moment is read from PostgreSQL.
    """
    async with pool.acquire() as connection:
        total = await store.count(connection)
    done, after = 0, (-1, -1)
    while True:
        async with pool.acquire() as connection:
            accounts = await store.page(connection, after, PAGE_ACCOUNTS)
            if not accounts:
                return done
            await projection.redis.delete(*(projection.key(account) for account in accounts))
            now = await store.as_redis_knows(connection, accounts)
        if not (await projection.push(now.balances, wait_s=WAIT_S) and await projection.point(now.pointers, wait_s=WAIT_S)):
            raise RebuildStopped(f"it took {done:,} of {total:,} balances, then no more")
        done += len(accounts)
        after = (bucket_of(accounts[-1]), accounts[-1])
        if progress is not None:
            progress(done, max(done, total))

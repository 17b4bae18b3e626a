"""What a process opens once: pool, Redis, clock. Everything else is handed these, there is no other place to get them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
from msgspec import Struct
from redis.asyncio import Redis

from service.domain.fraud.door import Door
from service.doorbell import Doorbell
from service.flows.knowledge import Knowledge
from service.projection import Projection
from service.sealing import Sealer
from service.settings import Settings, sealer_of
from service.store import deployment
from service.store.connection import UNREACHABLE, Pool
from service.telemetry import metrics, tallies

CONNECT_TIMEOUT_S = 0.6
"""Shorter than any wait around it: asyncpg closes the socket of an attempt that timed out, not that of one that was cancelled."""
ASK_TIMEOUT_S = 0.9
SYNC_INTERVAL_S = 2.0


class Clock:
    """PostgreSQL's clock as this process last saw it; for checks before a transaction. Inside one, its own `now()` rules."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def now(self) -> datetime:
        """The time, about."""
        return datetime.fromtimestamp(time.time() + self._ahead_s, UTC)

    def unix_s(self) -> float:
        """The same as seconds since 1970, without building a date."""
        return time.time() + self._ahead_s

    def set(self, database_now: datetime) -> None:
        """PostgreSQL said that it is so late."""
        self._ahead_s = database_now.timestamp() - time.time()


class Resources(Struct, kw_only=True):
    """A process's connections and caches."""

    settings: Settings
    pool: Pool
    projection: Projection
    knowledge: Knowledge
    doorbell: Doorbell
    clock: Clock
    sealer: Sealer
    hash_key: bytes = b""
    """Keys the hashes of attributes; read from PostgreSQL by `sync`."""
    database_error: str | None = "not asked yet"
    """Why PostgreSQL cannot be used right now; None: it can."""

    @property
    def is_synced(self) -> bool:
        """Whether epoch and hash key have been read at least once."""
        return bool(self.hash_key)

    def measure(self) -> None:
        """Set the gauges that belong to a process."""
        idle, size = self.pool.get_idle_size(), self.pool.get_size()
        metrics.DATABASE_CONNECTIONS.labels("idle").set(idle)
        metrics.DATABASE_CONNECTIONS.labels("used").set(size - idle)
        metrics.DATABASE_CONNECTIONS_LIMIT.set(self.pool.get_max_size())
        metrics.DATABASE_UP.set(self.database_error is None)

    async def sync(self) -> None:
        """Ask PostgreSQL for its time, the epoch and the hash key."""
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S), self.pool.acquire() as connection:
                state = await deployment.read(connection)
        except UNREACHABLE as error:
            self.database_error = type(error).__name__
        except asyncpg.UndefinedTableError:
            self.database_error = "migrations are missing: run `greenpoints migrate`"
        else:
            self.clock.set(state.now)
            self.projection.epoch = state.epoch
            self.hash_key = state.hash_key
            self.knowledge.forget(state.vault_version)
            self.database_error = None

    async def keep_in_sync(self) -> None:
        """Sync for ever."""
        while True:
            await self.sync()
            await asyncio.sleep(SYNC_INTERVAL_S)


@asynccontextmanager
async def open_resources(
    settings: Settings, *, name: str = "greenpoints", idle_transaction_s: float | None = None
) -> AsyncIterator[Resources]:
    """Open what a process needs and close it again. PostgreSQL and Redis need not be there yet; `name` is how PostgreSQL lists us.

    `idle_transaction_s`: PostgreSQL ends a connection that has been idle in a transaction for so long; None: never.
    Raises SettingsError without a master key.
    """
    sealer = sealer_of(settings)
    idle = {} if idle_transaction_s is None else {"idle_in_transaction_session_timeout": f"{idle_transaction_s * 1_000:.0f}"}
    pool = await asyncpg.create_pool(
        settings.database_url,
        min_size=0,
        max_size=settings.database_pool,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=settings.statement_timeout_s,
        server_settings={"application_name": name, "timezone": "UTC", "jit": "off"} | idle,
    )
    redis = Redis.from_url(
        settings.balance_redis_url,
        socket_timeout=settings.redis_wait_ms / 1_000 * 4,
        socket_connect_timeout=settings.redis_wait_ms / 1_000 * 4,
        max_connections=64,
    )
    doorbell = Doorbell(settings.queue_redis_url)
    resources = Resources(
        settings=settings, pool=pool, knowledge=Knowledge(door=_door(settings)), doorbell=doorbell, clock=Clock(), sealer=sealer,
        projection=Projection(redis, epoch=1, ttl_s=settings.balance_ttl_s, wait_ms=settings.redis_wait_ms),
    )  # fmt: skip
    await resources.sync()
    forget = tallies.sample(resources.measure)
    try:
        yield resources
    finally:
        forget()
        await doorbell.close()
        await redis.aclose()
        try:
            async with asyncio.timeout(5):
                await pool.close()
        except TimeoutError:
            pool.terminate()


def _door(settings: Settings) -> Door:
    return Door(settings.fraud_mode, consumer_events=settings.fraud_door_consumer_events, device_events=settings.fraud_door_device_events)


CHECK_WAIT_S = 5.0
"""A command or a check waits so long for Redis: nobody waits for its answer."""


@asynccontextmanager
async def open_for_checking(settings: Settings, *, connections: int, name: str) -> AsyncIterator[tuple[Pool, Projection]]:
    """PostgreSQL and the balance Redis with more patience than a request has: no bound on statements. Raises what they raise."""
    redis: Redis = Redis.from_url(settings.balance_redis_url, socket_timeout=CHECK_WAIT_S, socket_connect_timeout=CHECK_WAIT_S)
    try:
        async with asyncpg.create_pool(
            settings.database_url, min_size=0, max_size=connections, timeout=CHECK_WAIT_S,
            server_settings={"application_name": name, "timezone": "UTC"},
        ) as pool:  # fmt: skip
            async with pool.acquire() as connection:
                epoch = (await deployment.read(connection)).epoch
            yield pool, Projection(redis, epoch=epoch, ttl_s=settings.balance_ttl_s, wait_ms=CHECK_WAIT_S * 1_000)
    finally:
        await redis.aclose()

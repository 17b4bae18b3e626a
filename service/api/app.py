"""The HTTP application: routes, refusals, and what runs beside the requests of one serving process."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.exceptions import HTTPException

from service.api import campaigns, consumers, documentation, events, hooks, platforms, registries, system
from service.api.application import Application
from service.api.callers import Callers
from service.api.lanes import Lanes
from service.api.limiter import Limiter
from service.api.limits import Limits
from service.api.problems import on_defect, on_http_exception, on_refusal
from service.domain.errors import GreenpointsError
from service.logs import configure_logging
from service.runtime import open_resources
from service.settings import Settings, load_settings

REFRESH_CALLERS_S = 2.0
"""A revoked key is refused within 5 s (CONTRACT §3.1): this, and the time of one query."""
GC_THRESHOLDS = (10_000, 50, 1_000)
"""Requests leave few cycles: a full collection, which takes tens of milliseconds, waits for an idle moment or for very many objects."""
COLLECT_EVERY_S = 30.0


def create_app(settings: Settings | None = None) -> Litestar:
    """The application; settings from the environment unless given."""
    settings = settings or load_settings()
    configure_logging(settings.log_format)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with open_resources(settings) as resources:
            app.state.resources = resources
            limiter = Limiter(
                resources.projection.redis, clock=resources.clock.unix_s, hash_key=lambda: resources.hash_key,
                wait_s=settings.redis_wait_ms / 1_000,
            )  # fmt: skip
            app.state.limits = application.limits = Limits(limiter, settings)
            app.state.callers = Callers(resources.pool, limits=application.limits)
            app.state.lanes = Lanes(resources)
            app.state.lanes.start()
            application.lanes = app.state.lanes
            beside = [
                asyncio.create_task(resources.keep_in_sync()), asyncio.create_task(_refresh(app.state.callers)),
                asyncio.create_task(_collect(app.state.lanes)), asyncio.create_task(limiter.keep_exchanging()),
            ]  # fmt: skip
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            try:
                yield
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
                await app.state.lanes.stop()

    application = Application(
        route_handlers=[
            *events.routes, *hooks.routes, *consumers.routes, *campaigns.routes, *registries.routes, *platforms.routes,
            *system.routes, *documentation.routes,
        ],
        lifespan=[lifespan],
        exception_handlers={GreenpointsError: on_refusal, HTTPException: on_http_exception, Exception: on_defect},
        openapi_config=documentation.CONFIG,
        request_max_body_size=settings.max_bulk_body_bytes,
    )  # fmt: skip
    application.front = {("POST", "/v1/events"): events.receive_event.fn, ("GET", "/v1/me/balance"): consumers.my_balance.fn}
    return application


async def _collect(lanes: Lanes) -> None:
    """Collect garbage in full where nobody waits."""
    while True:
        await asyncio.sleep(COLLECT_EVERY_S)
        if not lanes.is_busy:
            gc.collect()


async def _refresh(callers: Callers) -> None:
    while True:
        await callers.refresh()
        await asyncio.sleep(REFRESH_CALLERS_S)

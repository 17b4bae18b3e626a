"""The HTTP application: routes, refusals, and what runs beside the requests of one serving process."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.exceptions import HTTPException

from service.api import (
    adjustments,
    assets,
    campaigns,
    causes,
    consumers,
    deliveries,
    documentation,
    events,
    fraud_cases,
    fraud_lists,
    fraud_models,
    fraud_policy,
    hooks,
    impact,
    links,
    moves,
    oauth,
    objections,
    operators,
    plastics,
    platforms,
    points_policy,
    privacy,
    proof,
    redemptions,
    registries,
    rewards,
    station_calls,
    stations,
    system,
    transfers,
    vocabulary,
)
from service.api.access import enforce
from service.api.application import Application
from service.api.callers import Callers
from service.api.cursors import seal_cursors
from service.api.lanes import Lanes
from service.api.limiter import Limiter
from service.api.limits import Limits
from service.api.problems import on_defect, on_http_exception, on_refusal
from service.api.readiness import Readiness
from service.domain.errors import GreenpointsError
from service.flows.delivery_log import DeliveryLog
from service.logs import configure_logging
from service.runtime import open_resources
from service.settings import Settings, load_settings
from service.telemetry import metrics, tallies, traces

REFRESH_CALLERS_S = 2.0
"""A revoked key is refused within 5 s (CONTRACT §3.1): this, and the time of one query."""
WRITE_USED_S = 30.0
"""How often a process writes down which keys were used."""
GC_THRESHOLDS = (10_000, 50, 1_000)
"""Requests leave few cycles: a full collection, which takes tens of milliseconds, waits for an idle moment or for very many objects."""
COLLECT_EVERY_S = 30.0


def create_app(settings: Settings | None = None) -> Litestar:
    """The application; settings from the environment unless given."""
    settings = settings or load_settings()
    configure_logging(settings.log_format)
    traces.start("api")

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with open_resources(settings) as resources:
            app.state.resources = resources
            limiter = Limiter(
                resources.projection.redis, clock=resources.clock.unix_s, hash_key=lambda: resources.hash_key,
                wait_s=settings.redis_wait_ms / 1_000,
            )  # fmt: skip
            app.state.limits = application.limits = Limits(limiter, settings)
            seal_cursors(lambda: resources.hash_key)
            app.state.callers = Callers(resources.pool, sealer=resources.sealer, limits=application.limits)
            app.state.lanes = Lanes(resources)
            app.state.lanes.start()
            application.lanes = app.state.lanes
            app.state.deliveries = DeliveryLog(resources.pool, resources.clock.now)
            app.state.deliveries.start()
            app.state.readiness = Readiness(resources, app.state.lanes)
            metrics.tell_process("api")
            forget = tallies.sample(app.state.lanes.measure)
            beside = [
                asyncio.create_task(metrics.keep_flushing()), asyncio.create_task(app.state.readiness.keep_looking()),
                asyncio.create_task(resources.keep_in_sync()), asyncio.create_task(_refresh(app.state.callers)),
                asyncio.create_task(_collect(app.state.lanes)), asyncio.create_task(_write_used(app.state.callers)),
                asyncio.create_task(limiter.keep_exchanging()),
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
                await app.state.callers.write_used()
                await app.state.lanes.stop()
                await app.state.deliveries.stop()
                forget()
                tallies.flush()
                traces.stop()

    application = Application(
        route_handlers=[
            *events.routes, *hooks.routes, *deliveries.routes, *consumers.routes, *redemptions.routes, *links.routes, *adjustments.routes,
            *fraud_cases.routes, *fraud_lists.routes, *fraud_models.routes, *fraud_policy.routes, *objections.routes, *transfers.routes,
            *rewards.routes, *causes.routes, *moves.routes, *privacy.routes, *campaigns.routes, *registries.routes, *vocabulary.routes,
            *assets.routes, *stations.routes, *station_calls.routes, *impact.routes, *plastics.routes, *proof.routes, *platforms.routes,
            *operators.routes, *oauth.routes, *system.routes, *points_policy.routes, *documentation.routes,
        ],
        guards=[enforce],
        lifespan=[lifespan],
        exception_handlers={GreenpointsError: on_refusal, HTTPException: on_http_exception, Exception: on_defect},
        openapi_config=documentation.CONFIG,
        logging_config=None,
        request_max_body_size=settings.max_bulk_body_bytes,
    )  # fmt: skip
    application.front = {
        ("POST", "/v1/events"): events.receive_event.fn,
        ("GET", "/v1/me/balance"): consumers.my_balance.fn,
        ("POST", "/v1/redemptions"): redemptions.create_redemption.fn,
        ("POST", "/v1/me/redemptions"): redemptions.create_my_redemption.fn,
    }
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


async def _write_used(callers: Callers) -> None:
    while True:
        await asyncio.sleep(WRITE_USED_S)
        await callers.write_used()

"""Inbound hooks: prove the sender over the raw bytes, translate, credit, write down what came of it (CONTRACT §3.4).

What a sender cannot mend is answered 200: a duplicate, an ignored topic, an unknown or erased consumer, a body that we cannot
translate or credit (kept, for replay). 401 is a bad signature, 503 makes the sender try again. A hook never answers 409.
"""

import functools
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog
from litestar import Request, Response, post
from litestar.params import FromPath

from schemas.deliveries import DeliveryEvent, Outcome, Verdict
from schemas.hooks import HookAnswer, HookEvent
from service.api.bodies import read_body
from service.api.callers import callers_of
from service.api.database import connection
from service.api.lanes import Lanes
from service.domain.connectors import BadSignature, StaleSignature, Translated, Untranslatable, verify
from service.domain.deliveries import KEPT_OUTCOMES, MAX_DETAIL_CHARS, MAX_EVENTS, Delivery, delivery_id_in, topic_in, word
from service.domain.errors import Overloaded, PayloadTooLarge, Unavailable, UnsupportedMediaType
from service.flows import associations, privacy_requests
from service.flows.deliveries import facts_in, hook_of, keep, result_of, result_without_events, with_unread
from service.flows.delivery_log import DeliveryLog
from service.runtime import Resources
from service.store.callers import Hook as StoredHook
from service.telemetry import metrics, tallies

TAGS = ["Hooks"]
JSON = "application/json"

log = structlog.get_logger("greenpoints.hooks")


@post("/v1/hooks/{hook_id:str}", tags=TAGS, media_type=JSON, status_code=200, opt={"answer": HookAnswer})
async def receive_hook(request: Request[Any, Any, Any], hook_id: FromPath[str]) -> Response[bytes]:
    """Take a delivery of a platform's own webhooks, signed as the platform signs."""
    resources: Resources = request.app.state.resources
    deliveries: DeliveryLog = request.app.state.deliveries
    stored = await callers_of(request).hook(hook_id)
    headers = {name.lower(): value for name, value in request.headers.items()}
    arrived = _Arrived(stored, headers, resources.clock.now())
    try:
        body = await read_body(request, resources.settings.max_hook_body_bytes)
    except (PayloadTooLarge, UnsupportedMediaType) as error:
        deliveries.refuse(arrived.row("refused", verdict="unread", detail=error.detail))
        raise
    arrived.size_bytes = len(body)
    try:
        verify(hook_of(stored), headers, body, resources.clock.now())
    except BadSignature as error:
        verdict: Verdict = "stale" if isinstance(error, StaleSignature) else "bad_signature"
        deliveries.refuse(arrived.row("refused", verdict=verdict, detail=error.detail))
        raise error.about("hook", stored.platform_code) from None
    callers_of(request).admit_hook(stored)
    try:
        translated, facts = await facts_in(
            stored, headers, body, now=resources.clock.now(), hash_key=resources.hash_key,
            own=functools.partial(callers_of(request).vocabulary, stored.program), tags=functools.partial(_tags, request, stored),
        )  # fmt: skip
    except Untranslatable as error:
        return await _keep(request, arrived.row("untranslatable", detail=error.detail), headers, body)
    except (Overloaded, Unavailable) as error:
        deliveries.add(arrived.row("overloaded" if isinstance(error, Overloaded) else "unavailable", detail=error.detail))
        raise
    except Exception:
        log.exception("a delivery could not be translated", hook=stored.id)
        return await _keep(request, arrived.row("failed", detail="a defect of ours; it has been logged"), headers, body)
    arrived.topic = word(translated.topic) or arrived.topic
    if translated.demand is not None:
        await _ask(request, stored, translated)
        deliveries.add(arrived.row("noted", detail=privacy_requests.NOTED))
        return _answer([])
    lanes: Lanes = request.app.state.lanes
    try:
        credited = result_of(await lanes.single.submit(facts)) if facts else result_without_events(translated)
    except (Overloaded, Unavailable) as error:
        deliveries.add(arrived.row("overloaded" if isinstance(error, Overloaded) else "unavailable", detail=error.detail))
        raise
    result = with_unread(credited, translated)
    row = arrived.row(result.outcome, detail=result.detail, events=result.events)
    if result.outcome in KEPT_OUTCOMES:
        return await _keep(request, row, headers, body)
    deliveries.add(row)
    return _answer(result.events)


class _Arrived:
    """What is known of a delivery while it is handled."""

    def __init__(self, hook: StoredHook, headers: dict[str, str], received_at: datetime) -> None:
        self.topic = topic_in(headers)
        self.size_bytes = 0
        self._delivery_id = delivery_id_in(headers)
        self._hook = hook
        self._received_at = received_at
        self._since = time.perf_counter()

    def row(self, outcome: Outcome, *, verdict: Verdict = "verified", detail: str, events: list[DeliveryEvent] | None = None) -> Delivery:
        """Its row in the log, as of now; asked for once a delivery, which it counts."""
        tallies.count(metrics.HOOK_DELIVERIES, self._hook.connector, outcome if verdict == "verified" else verdict).add()
        request_id = structlog.contextvars.get_contextvars().get("request_id")
        return Delivery(
            program=self._hook.program, platform=self._hook.platform, hook=self._hook.id, connector=self._hook.connector,
            received_at=self._received_at, topic=self.topic, delivery_id=self._delivery_id, size_bytes=self.size_bytes,
            verdict=verdict, outcome=outcome, detail=word(detail, max_chars=MAX_DETAIL_CHARS) or "", events=(events or [])[:MAX_EVENTS],
            duration_ms=round((time.perf_counter() - self._since) * 1_000, 2),
            request_id=None if request_id is None else word(str(request_id)),
        )  # fmt: skip


async def _tags(request: Request[Any, Any, Any], hook: StoredHook, translated: Translated) -> Translated:
    """Write down which tag is on which asset, and let the assets stand where events name their tags. Raises Unavailable."""
    if not associations.concern(translated):
        return translated
    async with connection(request) as conn:
        return await associations.applied(conn, hook.program, hook.platform, translated)


async def _ask(request: Request[Any, Any, Any], hook: StoredHook, translated: Translated) -> None:
    """Note what the platform asks for about a person; workers do it. Raises Unavailable."""
    assert translated.demand is not None
    resources: Resources = request.app.state.resources
    async with connection(request) as conn:
        await privacy_requests.ask(
            conn, program=hook.program, platform=hook.platform, demand=translated.demand, source_key=translated.delivery_id,
            grace=timedelta(hours=resources.settings.shop_redact_grace_h),
        )  # fmt: skip


async def _keep(request: Request[Any, Any, Any], row: Delivery, headers: dict[str, str], body: bytes) -> Response[bytes]:
    """Keep what verified but could not be translated or credited, so that it can be replayed after a fix. Raises Unavailable."""
    async with connection(request) as conn:
        await keep(conn, row, headers, body, request.app.state.resources.sealer)
    return _answer(row.events)


def _answer(events: Sequence[DeliveryEvent]) -> Response[bytes]:
    answer = HookAnswer(received=True, events=[HookEvent(id=e.id, status=e.status, points=e.points) for e in events])
    return Response(content=msgspec.json.encode(answer), media_type=JSON)


routes = [receive_hook]

"""Inbound hooks: prove the sender over the raw bytes, translate, credit (CONTRACT §3.4).

What a sender cannot mend is answered 200: a duplicate, an ignored topic, an unknown consumer, a body that we cannot
translate (kept, for replay). 401 is a bad signature, 503 makes the sender try again. A hook never answers 409.
"""

from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.params import FromPath

from schemas.connectors import HookSettings
from schemas.events import EventAnswer
from schemas.hooks import HookAnswer, HookEvent
from service.api.bodies import read_body
from service.api.callers import callers_of
from service.api.database import connection
from service.api.lanes import Lanes
from service.domain.connectors import Hook, Translated, Untranslatable, translate, verify
from service.domain.errors import GreenpointsError, InvalidRequest, Unauthenticated, Unavailable
from service.domain.fold import Fact
from service.domain.intake import Sender, fact_of
from service.runtime import Resources
from service.store import deliveries
from service.store.callers import Hook as StoredHook
from service.telemetry import metrics, tallies

TAGS = ["Hooks"]
JSON = "application/json"

_answers = msgspec.json.Decoder(EventAnswer)


@post("/v1/hooks/{hook_id:str}", tags=TAGS, media_type=JSON, status_code=200, opt={"answer": HookAnswer})
async def receive_hook(request: Request[Any, Any, Any], hook_id: FromPath[str]) -> Response[bytes]:
    """Take a delivery of a platform's own webhooks, signed as the platform signs."""
    stored = await callers_of(request).hook(hook_id)
    try:
        outcome, response = await _take(request, stored)
    except GreenpointsError as error:
        _count(stored, "bad_signature" if isinstance(error, Unauthenticated) else "refused")
        raise
    _count(stored, outcome)
    return response


def _count(hook: StoredHook, outcome: str) -> None:
    tallies.count(metrics.HOOK_DELIVERIES, hook.connector, outcome).add()


async def _take(request: Request[Any, Any, Any], stored: StoredHook) -> tuple[str, Response[bytes]]:
    """What came of a delivery, for the metric, and its answer."""
    resources: Resources = request.app.state.resources
    body = await read_body(request, resources.settings.max_hook_body_bytes)
    headers = {name.lower(): value for name, value in request.headers.items()}
    hook = _hook(stored)
    verify(hook, headers, body, resources.clock.now())
    try:
        translated = translate(hook, headers, body)
        facts = _facts(translated, stored, resources)
    except Untranslatable as error:
        return "untranslatable", await _keep(request, stored, headers, body, error.detail)
    if not facts:
        return "ignored", _answer([])
    lanes: Lanes = request.app.state.lanes
    outcomes = await lanes.single.submit(facts)
    if any(outcome.error is not None for outcome in outcomes):
        raise Unavailable("The delivery could not be stored; send it again.")
    outcome = "repeated" if all(outcome.replayed for outcome in outcomes) else "taken"
    return outcome, _answer([_answers.decode(outcome.answer) for outcome in outcomes])


def _hook(stored: StoredHook) -> Hook:
    return Hook(id=stored.id, connector=stored.connector, secrets=tuple(stored.secrets), settings=_settings.decode(stored.settings or "{}"))


_settings = msgspec.json.Decoder(HookSettings)


def _facts(translated: Translated, hook: StoredHook, resources: Resources) -> list[Fact]:
    """The delivery's events, checked like any other. Raises Untranslatable for one that breaks a rule."""
    sender = Sender(program=hook.program, platform=hook.platform, platform_code=hook.platform_code)
    try:
        return [
            fact_of(event, sender, now=resources.clock.now(), hash_key=resources.hash_key, newer_wins=True) for event in translated.events
        ]
    except InvalidRequest as error:
        raise Untranslatable(error.detail) from None


async def _keep(request: Request[Any, Any, Any], hook: StoredHook, headers: dict[str, str], body: bytes, detail: str) -> Response[bytes]:
    """Keep what verified but could not be translated, so that it can be replayed after a fix."""
    topic = headers.get("shopify-topic") or headers.get("x-shopify-topic")
    delivery = headers.get("webhook-id") or headers.get("shopify-webhook-id") or headers.get("x-shopify-webhook-id")
    async with connection(request) as conn:
        await deliveries.keep(
            conn, program=hook.program, platform=hook.platform, hook=hook.id, topic=topic, delivery_id=delivery,
            outcome="untranslatable", detail=detail, body=body,
        )  # fmt: skip
    return _answer([])


def _answer(events: list[EventAnswer]) -> Response[bytes]:
    answer = HookAnswer(received=True, events=[HookEvent(id=e.id, status=e.status, points=e.points) for e in events])
    return Response(content=msgspec.json.encode(answer), media_type=JSON)


routes = [receive_hook]

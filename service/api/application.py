"""Litestar, with what every request gets in front of its router."""

import time
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from litestar import Litestar, Request
from litestar.enums import ScopeType
from litestar.response.base import ASGIResponse
from litestar.types import HTTPScope, Message, Receive, Scope, Send

from service.api.exchange import Exchange
from service.api.lanes import Lanes
from service.api.limits import Limits
from service.api.problems import PROBLEMS, encoded_problem, on_defect, on_refusal
from service.api.unread import answer_unread
from service.api.visits import Visit, begin
from service.domain.errors import GreenpointsError
from service.telemetry import metrics, tallies, traces

METHODS: Final = frozenset(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
UNMATCHED: Final = "unmatched"
"""Stands for the route of a request that has none: its path is the caller's choice."""

UNTRACED: Final = frozenset(["/healthz", "/readyz", "/metrics"])
"""Asked every few seconds by machines."""

Handler = Callable[[Any], Awaitable[ASGIResponse]]
"""A route handler that takes nothing but the request, reads no more of it than an Exchange has, and answers an ASGIResponse."""


class Application(Litestar):
    """Routes by the path as it was sent, and calls the handlers of the busiest routes without the router.

    By the path as it was sent: an encoded `/` inside a reference does not split it; handlers get path parameters still
    encoded and decode them with `service.api.paths.reference`.

    Without the router: its routing, parameters, middleware and request object are most of the time of a short request. `front` holds
    (method, path) of routes that need none of it; they are registered as routes all the same, for documentation and for HEAD and
    OPTIONS.

    Before both: what a full lane would refuse is refused before its body is read and before anybody asks who sends it.
    """

    front: Mapping[tuple[object, object], Handler] = MappingProxyType({})
    lanes: Lanes | None = None
    """Asked before anything is read; None until they are open."""
    limits: Limits | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._front_seconds: dict[tuple[Handler, int], tallies.SpreadTally] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        """Answer a request, and observe how long that took."""
        if scope["type"] != ScopeType.HTTP:
            await super().__call__(scope, receive, send)
            return
        raw = scope["raw_path"]
        if b"%" in raw:
            scope["path"] = raw.split(b"?", 1)[0].decode("latin-1")
        visit = begin(scope)
        send = _answering(visit, self.limits, send)
        if (refusal := self._refusal(visit)) is not None:
            await answer_unread(refusal, scope, receive, send)
            return
        handler = self.front.get((scope["method"], scope["path"]))
        if handler is None:
            await self._route(scope, receive, send)
        elif traces.on():
            with traces.request_span(f"{scope['method']} {scope['path']}", scope["headers"]) as span:
                status = await self._answer(handler, scope, receive, send)
                _describe(span, scope["method"], scope["path"], status)
        else:
            await self._answer(handler, scope, receive, send)

    def _refusal(self, visit: Visit) -> GreenpointsError | None:
        """Why the request need not be read."""
        if self.lanes is not None and self.lanes.is_full:
            overloaded = self.lanes.refusal(visit.scope["method"], visit.scope["path"])
            if overloaded is not None:
                return overloaded
        return None if self.limits is None else self.limits.at_the_door(visit)

    async def _route(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """By the router. Time ends where the answer begins: a stream goes on for as long as its reader likes."""
        begun, took_s, status = time.perf_counter(), 0.0, 0

        async def noting(message: Message) -> None:
            nonlocal took_s, status
            if message["type"] == "http.response.start":
                took_s, status = time.perf_counter() - begun, message["status"]
            await send(message)

        method = str(scope["method"]) if scope["method"] in METHODS else "other"
        untraced = scope["path"] in UNTRACED
        with traces.NOTHING if untraced else traces.request_span(method, scope["headers"]) as span:
            try:
                await super().__call__(scope, receive, noting)
            finally:
                route = str(scope.get("path_template") or UNMATCHED)
                if status:  # nobody is answered who has gone away
                    tallies.spread(metrics.HTTP_SECONDS, method, route, f"{status // 100}xx").add(took_s)
                span.rename(f"{method} {route}")
                _describe(span, method, route, status)

    async def _answer(self, handler: Handler, scope: HTTPScope, receive: Receive, send: Send) -> int:
        begun = time.perf_counter()
        try:
            response = await handler(Exchange(self, scope, receive))
        except Exception as error:  # noqa: BLE001 - as the router does: a defect is logged, and answered 500
            scope["litestar_app"] = self
            request: Request[Any, Any, Any] = Request(scope, receive, send)
            refusal = on_refusal(request, error) if isinstance(error, GreenpointsError) else on_defect(request, error)
            made = refusal.to_asgi_response(None, request)
            assert isinstance(made, ASGIResponse)
            response = made
        status = response.status_code
        seconds = self._front_seconds.get((handler, status))
        if seconds is None:
            labels = str(scope["method"]), str(scope["path"]), f"{status // 100}xx"
            seconds = self._front_seconds[handler, status] = tallies.spread(metrics.HTTP_SECONDS, *labels)
        seconds.add(time.perf_counter() - begun)
        await response(scope, receive, send)
        return status


def _answering(visit: Visit, limits: Limits | None, send: Send) -> Send:
    """Send as before, with what the visit adds to the head of the answer; a refusal instead to who proves nothing too often."""
    path = visit.scope["path"]

    # No coroutine of its own: it hands on the one that it got.
    def sending(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            status = message["status"]
            if (status >= 400 or not path.startswith("/v1/")) and limits is not None:
                refusal = limits.at_the_answer(visit, status)
                if refusal is not None:
                    visit.replaced = True
                    return _refuse(refusal, visit, send)
            message["headers"] = [*message["headers"], *visit.fields]
        elif visit.replaced:
            return _nothing()
        return send(message)

    return sending


async def _refuse(refusal: GreenpointsError, visit: Visit, send: Send) -> None:
    body, headers = encoded_problem(refusal)
    start: Message = {"type": "http.response.start", "status": PROBLEMS[refusal.code][0], "headers": [*headers, *visit.fields]}
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _nothing() -> None:
    """The answer is out already."""


def _describe(span: traces.AnySpan, method: str, route: str, status: int) -> None:
    span.set("http.request.method", method)
    span.set("http.route", route)
    span.set("http.response.status_code", status)

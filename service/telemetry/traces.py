"""Traces by OpenTelemetry, when its standard variables name an exporter; otherwise a span is a no-op.

Neither the API nor the SDK is imported then.

Spans carry no personal data: routes as templates, counts, event numbers. No id of a platform's, no reference, no error message. A credit
and its settlement are transactions of different processes, perhaps weeks apart, and no trace identity is stored with the data: both
spans name the numbers of their events (`greenpoints.event.numbers`), by which they are found together.
"""

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Protocol, Self, TypeAlias

import structlog

from service.telemetry.metrics import release

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import SpanContext, SpanKind, Tracer

EVENT_NUMBERS: Final = "greenpoints.event.numbers"
MAX_NUMBERS: Final = 500
"""Event numbers that one span names; of a larger batch the first."""
STOP_WAIT_S: Final = 3.0
"""How long an exporter may take for the last spans of a process that stops."""

Link: TypeAlias = "SpanContext | None"
Value: TypeAlias = "str | int | float | Sequence[int]"
Kind = Literal["internal", "server", "client"]

log = structlog.get_logger("greenpoints.traces")


class AnySpan(Protocol):
    """A span, or what stands for one while traces are off."""

    def set(self, name: str, value: Value) -> None:
        """Attach an attribute."""

    def rename(self, name: str) -> None:
        """Give it the name that was not known when it began."""


class _Nothing(AbstractContextManager["_Nothing"]):
    """Stands for every span while traces are off."""

    def set(self, name: str, value: Value) -> None:
        """Nothing."""

    def rename(self, name: str) -> None:
        """Nothing."""

    def __exit__(self, *_: object) -> None:
        """Nothing."""


class _Span(AbstractContextManager["_Span"]):
    """A span that is recorded, and is the current one inside `with`. Of an error it keeps the type: a message may quote anything."""

    def __init__(self, tracer: "Tracer", name: str, kind: Kind, links: Sequence[Link], context: "Context | None") -> None:
        from opentelemetry import trace  # noqa: PLC0415 - only when traces are on

        kinds: dict[Kind, SpanKind] = {
            "internal": trace.SpanKind.INTERNAL, "server": trace.SpanKind.SERVER, "client": trace.SpanKind.CLIENT,
        }  # fmt: skip
        self._failed = trace.StatusCode.ERROR
        self._current = tracer.start_as_current_span(
            name, context=context, kind=kinds[kind], links=[trace.Link(link) for link in links if link is not None],
            record_exception=False, set_status_on_exception=False,
        )  # fmt: skip

    def set(self, name: str, value: Value) -> None:
        """Attach an attribute."""
        self._span.set_attribute(name, value)

    def rename(self, name: str) -> None:
        """Give it the name that was not known when it began."""
        self._span.update_name(name)

    def __enter__(self) -> Self:
        """Begin."""
        self._span = self._current.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End."""
        if kind is not None:
            self._span.set_status(self._failed)
            self._span.set_attribute("error.type", kind.__name__)
        self._current.__exit__(None, None, None)


NOTHING: Final = _Nothing()
_tracer: "Tracer | None" = None
_provider: "TracerProvider | None" = None


def on() -> bool:
    """Whether spans are recorded; for what costs something to say."""
    return _tracer is not None


def span(name: str, *, kind: Kind = "internal", links: Sequence[Link] = ()) -> "_Span | _Nothing":
    """A span below the current one, for `with`."""
    return NOTHING if _tracer is None else _Span(_tracer, name, kind, links, None)


def inner_span(name: str) -> "_Span | _Nothing":
    """The same where a span is current already, else nothing: for what also happens by itself, many times a minute."""
    return NOTHING if link() is None else span(name)


def request_span(name: str, headers: Iterable[tuple[bytes, bytes]]) -> "_Span | _Nothing":
    """The span of a request, below the sender's when a W3C `traceparent` header names one."""
    if _tracer is None:
        return NOTHING
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415 - only when traces are on

    told = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers if name in (b"traceparent", b"tracestate")}
    return _Span(_tracer, name, "server", (), TraceContextTextMapPropagator().extract(told))


def link() -> Link:
    """The current span's identity, for spans elsewhere that want to point to it; None when there is none."""
    if _tracer is None:
        return None
    from opentelemetry import trace  # noqa: PLC0415 - only when traces are on

    context = trace.get_current_span().get_span_context()
    return context if context.is_valid else None


# Beginning and end ------------------------------------------------------------------------------------------


def wanted(environ: Mapping[str, str]) -> str | None:
    """Which exporter the standard variables ask for: `otlp` or `console`; None: none. Raises ValueError for one that we do not have."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if not exporter:
        names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        exporter = "otlp" if any(environ.get(name) for name in names) else "none"
    if exporter == "none":
        return None
    if exporter not in ("otlp", "console"):
        raise ValueError(f"OTEL_TRACES_EXPORTER may be otlp, console or none, not {exporter!r}")
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    if exporter == "otlp" and protocol.strip().lower() != "http/protobuf":
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL may be http/protobuf, not {protocol!r}")
    return exporter


def start(part: str, environ: Mapping[str, str] | None = None) -> None:
    """Record spans from now on, if the environment asks for it. A wrong variable is a warning: the ledger works without traces."""
    global _tracer, _provider  # noqa: PLW0603 - one tracer a process, so that a span costs nothing while there is none
    environ = os.environ if environ is None else environ
    try:
        exporter = wanted(environ)
    except ValueError as error:
        log.warning("traces are off", why=str(error))
        return
    if exporter is None or _provider is not None:
        return
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - only when traces are on
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    about = {"service.version": release(), "greenpoints.part": part}
    if "OTEL_SERVICE_NAME" not in environ and "service.name=" not in environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        about["service.name"] = "greenpoints"
    _provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
    _tracer = _provider.get_tracer("greenpoints", release())


def _exporter(name: str) -> "SpanExporter":
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter  # noqa: PLC0415 - only when it is wanted

        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - only when it is wanted

    return OTLPSpanExporter()


def stop() -> None:
    """Send the last spans, for at most STOP_WAIT_S: an exporter that hangs holds no process up."""
    global _tracer, _provider
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        ending = threading.Thread(target=provider.shutdown, daemon=True)
        ending.start()
        ending.join(STOP_WAIT_S)

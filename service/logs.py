"""Logs: one line an event, as JSON for machines or in colour for people; to stderr.

An error is logged by its type and where it happened, never by its message: drivers and decoders quote the values that they failed
on, and those may be a person's. Third parties' lines (asyncpg, arq, granian, litestar, redis, asyncio, warnings, a crash) go the same
way, cut to their first line. Nobody logs bodies, headers or queries; `redact` is the last line of defence, over every finished line.
"""

import logging
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor

_SECRET: Final = re.compile(
    r"\b(?P<kept>gpk_|gpo_|whsec_|shpss_|shpat_)[A-Za-z0-9_+/=-]+"  # API keys, operators' tokens, hook secrets
    r"|\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.?[A-Za-z0-9_-]*"  # JSON Web Tokens, cut off or not
    r"|(?P<scheme>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]+"
    r"|(?P<before>://[^\s:@/?#]*:)[^\s@/]+(?=@)",  # the password of an address
    re.IGNORECASE,
)
_ROW: Final = re.compile(r"DETAIL:\s.*?(?=\\n|\n|\"|$)")
"""PostgreSQL's errors quote the row that they are about; the message before it names the constraint."""
_QUERY: Final = re.compile(r"(https?://[^\s\"'?]+)\?[^\s\"']*")


def redact(text: str) -> str:
    """The text with secrets masked, and without quoted rows and query strings."""
    text = _SECRET.sub(lambda found: f"{found['kept'] or found['scheme'] or found['before'] or ''}***", text)
    return _QUERY.sub(r"\1?***", _ROW.sub("DETAIL: ***", text))


MAX_CHAIN: Final = 5
"""Errors of one chain of causes that are shown."""
_SAFE = ("sqlstate", "table_name", "constraint_name")
"""What PostgreSQL says of an error that names no value."""


def trace_of(error: BaseException) -> str:
    """Where an error and its causes happened, and what kind they are; without their messages."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(parts) < MAX_CHAIN:
        stack = "".join(traceback.format_tb(current.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{stack}{_kind(current)}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n\nwhich came of:\n\n".join(parts)


def _kind(error: BaseException) -> str:
    facts = [f"{name}={value}" for name in _SAFE if isinstance(value := getattr(error, name, None), str)]
    return f"{type(error).__module__}.{type(error).__qualname__}" + (f" ({', '.join(facts)})" if facts else "")


def _trace(_: object, __: str, event: EventDict) -> EventDict:
    """A processor: `exc_info` as `exception`, a text."""
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else sys.exc_info()[1] if given else None
    if error is not None:
        event["exception"] = trace_of(error)
    return event


def _first_line(_: object, __: str, event: EventDict) -> EventDict:
    """A processor for what libraries log: asyncio quotes errors from the second line on."""
    event["event"] = str(event["event"]).partition("\n")[0]
    return event


def configure_logging(log_format: Literal["json", "console"]) -> None:
    """Set structlog and the standard library's logging up for this process: the same lines from both."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _trace,
    ]
    rendering = _rendering(log_format)
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(_CurrentStderr()),  # type: ignore[arg-type]  # it is written to and flushed only
        cache_logger_on_first_use=True,
    )
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_first_line, *shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers = [*(other for other in root.handlers if not isinstance(other, _Stderr)), handler]
    root.setLevel(logging.WARNING)
    for name in ("_granian", "granian.access", "arq"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    warnings.showwarning = _on_warning  # type: ignore[assignment]  # nobody names the other two parameters
    sys.excepthook = _on_crash


class _CurrentStderr:
    """What standard error is at the moment of writing: loggers are kept for as long as the process, the stream need not be."""

    def write(self, text: str) -> int:
        """Write a part of a line."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Flush what was written."""
        sys.stderr.flush()


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        self.stream = sys.stderr
        super().emit(record)


def _rendering(log_format: Literal["json", "console"]) -> Sequence[Processor]:
    if log_format == "json":
        return [structlog.processors.JSONRenderer(ensure_ascii=False), _redacted]
    console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return [structlog.processors.StackInfoRenderer(), console, _redacted]


def _redacted(_: object, __: str, line: EventDict | str) -> str:
    """The last processor: what it gets is the finished line."""
    return redact(str(line))


def _on_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
    logging.getLogger("py.warnings").warning("%s: %s (%s:%s)", category.__name__, message, filename, lineno)


def _on_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A process that ends by an exception says so in the same form."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    structlog.get_logger("greenpoints").critical("the process ends by an error", exc_info=(kind, error, trace))

"""Logs: one line an event, as JSON for machines or in colour for people; to stderr.

An error is logged by its type and where it happened, never by its message: drivers and decoders quote the values that they failed
on, and those may be a person's.
"""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, Final, Literal

import structlog

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


def _trace(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401 - structlog's signature
    """A processor: `exc_info` as `exception`, a text."""
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else sys.exc_info()[1] if given else None
    if error is not None:
        event["exception"] = trace_of(error)
    return event


class _Formatter(logging.Formatter):
    """The same for what libraries log: the first line, and no messages of errors."""

    def format(self, record: logging.LogRecord) -> str:
        lines = [f"{record.levelname.lower()} {record.name}: {record.getMessage().partition(chr(10))[0]}"]
        if record.exc_info and record.exc_info[1] is not None:
            lines.append(trace_of(record.exc_info[1]))
        return "\n".join(lines)


def configure_logging(log_format: Literal["json", "console"]) -> None:
    """Set structlog up for this process, and what libraries log."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Formatter())
    console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    renderer = structlog.processors.JSONRenderer() if log_format == "json" else console
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _trace,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )

"""One serving process: `python -m service.api`.

Granian runs inside this process, on uvloop, so the process that is supervised is the one that serves. Several such processes share one port
(SO_REUSEPORT): the kernel spreads connections over them.
"""

import asyncio
import logging
import signal
import sys
from typing import Final

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.errors import FatalError
from granian.log import LogLevels
from granian.server.embed import Server

from service import failpoints
from service.api.app import create_app
from service.settings import Settings, SettingsError, load_settings

BACKLOG = 2_048
"""Connections that may wait to be accepted."""

CONCURRENT_REQUESTS = 8_192
"""Requests in progress; far above the batcher's own bound, which answers 503 `overloaded` first."""


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests in progress are finished. Raises granian's FatalError when the application cannot start."""
    app = create_app(settings)
    server = Server(
        app,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,  # a proxy in front speaks HTTP/1.1; less to attack
        websockets=False,
        runtime_threads=1,
        backlog=BACKLOG,
        backpressure=CONCURRENT_REQUESTS,
        log_level=LogLevels.warning,
        log_dictconfig=_LOGGERS,
    )
    logging.getLogger("_granian").addFilter(_is_worth_saying)
    loop = asyncio.get_running_loop()
    asked = False

    def stop() -> None:
        """Not ready at once, deaf after the delay; the second time deaf at once."""
        nonlocal asked
        if asked or not settings.stop_delay_s:
            server.stop()  # type: ignore[no-untyped-call]
            return
        asked = True
        if (readiness := getattr(app.state, "readiness", None)) is not None:
            readiness.stopping = True
        loop.call_later(settings.stop_delay_s, server.stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await server.serve()


_LOGGERS: Final = {"formatters": {}, "handlers": {}, "loggers": {"_granian": {"propagate": True}, "granian.access": {"propagate": True}}}
"""Granian's lines go to the root logger, and so into the same form as ours (service/logs.py)."""


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """Granian calls serving from a running loop experimental, at every start; tests/local/ kill and stop it so often that we rely on it."""
    return "experimental" not in record.getMessage()


def main() -> int:
    """Exit code 0 after a clean stop, 1 when the application cannot start, 2 for wrong settings."""
    try:
        settings = load_settings()
    except SettingsError as error:
        print(f"greenpoints: {error}", file=sys.stderr)  # noqa: T201 - before logging is set up
        return 2
    failpoints.arm(settings.failpoints)
    try:
        uvloop.run(serve(settings))
    except FatalError:
        return 1  # granian has logged why
    return 0


if __name__ == "__main__":
    sys.exit(main())

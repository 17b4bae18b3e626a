"""Metrics of a worker that runs alone: it has no HTTP server of its own, so a small one on the loopback interface shows them."""

import asyncio
import contextlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from service.telemetry import metrics

ADDRESS = "127.0.0.1"
TRY_AGAIN_S = 5.0
SOCKET_TIMEOUT_S = 5.0


class _Handler(BaseHTTPRequestHandler):
    timeout = SOCKET_TIMEOUT_S

    def do_GET(self) -> None:
        """Answer `/metrics`."""
        found = self.path.partition("?")[0] == "/metrics"
        body = metrics.render() if found else b"there is only /metrics here\n"
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", metrics.CONTENT_TYPE if found else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its parent's name
        """Nothing: a scrape is no event."""


async def keep_showing(port: int) -> None:
    """Serve the metrics until cancelled; 0: nothing. Of several workers one has the port, and another takes it over when that one ends."""
    if port == 0:
        return
    while True:
        with contextlib.suppress(OSError), ThreadingHTTPServer((ADDRESS, port), _Handler) as server:
            server.daemon_threads = True
            thread = Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.to_thread(server.shutdown)
        await asyncio.sleep(TRY_AGAIN_S)

"""The baseline server: bare routes on the same framework and server, that decode the same bodies and touch nothing else."""

import sys
from typing import Any

import msgspec
import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels
from granian.server.embed import Server
from litestar import Litestar, Request, Response, get, post

from schemas.events import Event

_decoder = msgspec.json.Decoder(Event)
_balance = {
    "consumer": "c",
    "pending": 10,
    "reserved": 0,
    "available": 0,
    "debt": 0,
    "version": 1,
    "next_available": None,
    "expiring": [],
    "tier": "seed",
}


@post("/echo", media_type="application/json", status_code=201)
async def echo(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Decode an event and answer it."""
    return Response(content=msgspec.json.encode(_decoder.decode(await request.body())), status_code=201, media_type="application/json")


@get("/json")
async def bare_json() -> dict[str, Any]:
    """Answer a balance that is always the same."""
    return _balance


async def _serve(port: int) -> None:
    app = Litestar([echo, bare_json], openapi_config=None)
    server = Server(
        app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, http=HTTPModes.http1, websockets=False, runtime_threads=1,
        backlog=2_048, backpressure=8_192, log_level=LogLevels.error,
    )  # fmt: skip
    await server.serve()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))

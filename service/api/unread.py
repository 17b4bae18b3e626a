"""Refusals of requests whose body nobody has read.

A server that answers and closes while the sender still sends resets the connection, and the sender may never see the answer. So the
answer goes out at once but is not ended before the body has arrived, read into nothing: then the connection can be used again. Only for as
much and as long as is bounded here; beyond that the connection is closed.
"""

import asyncio
from typing import Final

from litestar.types import Message, Receive, Scope, Send

from schemas.bounds import MAX_BULK_BODY_BYTES
from service.api.problems import PROBLEMS, encoded_problem
from service.api.visits import headers_of
from service.domain.errors import GreenpointsError

MAX_DRAINED_BYTES: Final = MAX_BULK_BODY_BYTES
"""Of one body: what a batch may have."""
MAX_DRAINING: Final = 256
"""Bodies that are read into nothing at a time."""
DRAIN_S: Final = 5.0
"""How long a slow sender keeps its connection."""

_places = asyncio.Semaphore(MAX_DRAINING)


async def answer_unread(refusal: GreenpointsError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a refusal before the body is read."""
    body, headers = encoded_problem(refusal)
    start: Message = {"type": "http.response.start", "status": PROBLEMS[refusal.code][0], "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": True})
    if not _places.locked() and _is_worth_draining(scope):
        async with _places:
            await _drain(receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _is_worth_draining(scope: Scope) -> bool:
    """Whether a body comes that is not too large: a sender that waits for `100 Continue` never sends it."""
    headers = headers_of(scope)
    declared = headers.get(b"content-length", b"0")
    return b"expect" not in headers and declared.isdigit() and int(declared) <= MAX_DRAINED_BYTES


async def _drain(receive: Receive) -> None:
    left = MAX_DRAINED_BYTES
    try:
        async with asyncio.timeout(DRAIN_S):
            while left >= 0:
                message = await receive()
                if message["type"] != "http.request" or not message["more_body"]:
                    return
                left -= len(message["body"])
    except TimeoutError:
        return

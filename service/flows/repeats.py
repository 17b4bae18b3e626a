"""A request with an Idempotency-Key is carried out once; a repeat gets the first answer."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import asyncpg
from msgspec import Struct

from service import failpoints
from service.domain import idempotency
from service.domain.errors import IdempotencyKeyInUse, IdempotencyKeyReused
from service.store import repeats as store
from service.store.connection import Connection, plan_by_index
from service.store.purses import Moved

MAX_ATTEMPTS: Final = 5
_AGAIN = (Moved, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)

T = TypeVar("T")


class Answered(Struct, frozen=True, kw_only=True):
    """What a request was answered. `body`: JSON, without anything about a person; `account`: whose points it was about."""

    status: int
    body: str
    account: int


async def once(
    connection: Connection, *, program: int, key: str, request_hash: bytes, run: Callable[[], Awaitable[Answered]]
) -> tuple[int, str, bool]:
    """Run it, or find what the first request with this key was answered: status, body, and whether it is a repeat.

    Call it inside the transaction of the change. `key` begins with whose it is. Raises IdempotencyKeyReused (another request),
    IdempotencyKeyInUse (the first one is still running), and what `run` raises; then nothing is remembered.
    """
    if not await store.try_key(connection, program=program, key=key):
        raise IdempotencyKeyInUse("The first request with this Idempotency-Key is still running; try again in a moment.")
    first = await store.find(connection, program=program, key=key)
    if first is not None:
        if not idempotency.is_repeat(first.request_hash, request_hash):
            raise IdempotencyKeyReused("This Idempotency-Key came before with another request.")
        return first.status, first.answer, True
    made = await run()
    first = store.First(request_hash=request_hash, status=made.status, answer=made.body)
    await store.remember(connection, first, program=program, key=key, account=made.account)
    failpoints.at("repeats.remembered")
    return made.status, made.body, False


async def in_one_transaction(connection: Connection, work: Callable[[], Awaitable[T]]) -> T:
    """Do it in a transaction; again after a deadlock, or when an account was linked meanwhile, MAX_ATTEMPTS times at most.

    What such requests touch is a few rows of tables of any size: the connection looks everything up by index from then on.
    """
    await plan_by_index(connection)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            async with connection.transaction():
                done = await work()
        except _AGAIN:
            if attempt == MAX_ATTEMPTS:
                raise
        else:
            failpoints.at("repeats.committed")
            return done
    raise AssertionError("the last attempt raises")

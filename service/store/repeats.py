"""SQL of first answers to requests that carried an Idempotency-Key."""

from typing import Final

from msgspec import Struct

from service.domain.keys import bucket_of
from service.store.connection import Connection


def lock_key(*, program: str, key: str) -> str:
    """SQL that takes a stored key until the transaction ends, as a condition: false where another transaction has it."""
    return f"pg_try_advisory_xact_lock(hashtextextended(concat({program}, ':', {key}), 7315))"


TRY: Final = "SELECT " + lock_key(program="$1::int", key="$2::text")
FIND: Final = "SELECT request_hash, status, answer FROM idempotent_request WHERE program = $1 AND key = $2"
REMEMBER: Final = """
INSERT INTO idempotent_request (program, key, request_hash, status, answer, bucket, account) VALUES ($1, $2, $3, $4, $5, $6, $7)
"""


class First(Struct, frozen=True, kw_only=True):
    """A first answer, and the hash of the request that it was given to; empty where that was forgotten with a person."""

    request_hash: bytes
    status: int
    answer: str


async def try_key(connection: Connection, *, program: int, key: str) -> bool:
    """Take a key until the transaction ends; False: another transaction has it."""
    taken: bool = await connection.fetchval(TRY, program, key)
    return taken


async def find(connection: Connection, *, program: int, key: str) -> First | None:
    """What was answered to the first request with this key. Ask in a later statement than the one that took the key."""
    row = await connection.fetchrow(FIND, program, key)
    return None if row is None else First(**row)


async def remember(connection: Connection, first: First, *, program: int, key: str, account: int) -> None:
    """Keep a first answer."""
    await connection.execute(REMEMBER, program, key, first.request_hash, first.status, first.answer, bucket_of(account), account)

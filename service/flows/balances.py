"""Balances for readers: from Redis, from PostgreSQL when Redis does not know or is behind."""

from datetime import UTC, datetime

import msgspec

from schemas.consumers import Available, BalanceDetails, Expiring
from service.domain.things import DEFAULT_TIER
from service.flows.knowledge import Knowledge
from service.projection import Projection
from service.store import balances as store
from service.store.connection import Connection, Pool, reading

_encode = msgspec.json.Encoder().encode
ZERO_BODY = _encode(BalanceDetails())[1:-1]


async def account_of(pool: Pool, knowledge: Knowledge, platform: int, reference: str) -> int | None:
    """The account of a reference; None before its first event. What is remembered may be of somebody who was just erased."""
    account = knowledge.references.get((platform, reference))
    if account is None:
        async with reading(pool) as connection:
            account = await find_account(connection, knowledge, platform, reference)
    return account


async def find_account(connection: Connection, knowledge: Knowledge, platform: int, reference: str) -> int | None:
    """The same as PostgreSQL knows it now."""
    vault_version = knowledge.vault_version
    account = await store.find_account(connection, platform, reference)
    if account is None:
        knowledge.references.pop((platform, reference), None)
    else:
        knowledge.remember({(platform, reference): account}, vault_version)
    return account


async def balance_of(
    pool: Pool, knowledge: Knowledge, projection: Projection, *, platform: int, reference: str, min_version: int
) -> bytes | None:
    """The balance of a platform's consumer as a JSON object body without braces; None before the first event, and once erased.

    Never older than `min_version`. An erasure takes the balance out of Redis, so that PostgreSQL is asked, which knows of it.
    """
    account = await account_of(pool, knowledge, platform, reference)
    if account is None:
        return None
    body = await _body(pool, projection, account, min_version, platform=platform)
    if body is not None:
        return body
    async with reading(pool) as connection:
        account = await find_account(connection, knowledge, platform, reference)
    return None if account is None else await _body(pool, projection, account, min_version, platform=platform)


async def balance_body(pool: Pool, projection: Projection, account: int, min_version: int) -> bytes:
    """The balance of an account, whoever knows it."""
    return await _body(pool, projection, account, min_version, platform=None) or ZERO_BODY


async def _body(pool: Pool, projection: Projection, account: int, min_version: int, *, platform: int | None) -> bytes | None:
    """The balance as a JSON object body without braces, never older than `min_version`. None: the platform knows nobody of this account.

    A miss, a value without details or an old one is read from PostgreSQL and offered to Redis through its fence.
    """
    held = await projection.read(account)
    if held is not None and held.home is not None:
        # Of whom versions are that were counted since a split, Redis cannot tell: PostgreSQL is asked.
        held = None if min_version else await projection.read(held.home)
    if held is not None and held.detailed and held.version >= min_version:
        return held.body
    async with reading(pool) as connection:
        details = await store.details(connection, account, platform)
    if details is None:
        return None
    b = details.balance
    body = _encode(
        BalanceDetails(
            pending=b.pending, reserved=b.reserved, available=b.available, debt=b.debt, version=b.version, tier=DEFAULT_TIER,
            next_available=None if details.next_at is None else Available(points=details.next_points, at=details.next_at),
            expiring=[Expiring(points=points, on=day) for points, day in details.expiring],
        )
    )[1:-1]  # fmt: skip
    await projection.fill(details.account, b.version, body)
    if details.account != account:
        await projection.point([(account, details.asked_version, details.account)])
    return body


def answer(consumer: str, body: bytes) -> bytes:
    """The whole answer: who, the balance, and when it was true."""
    as_of = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return b'{"consumer":' + _encode(consumer) + b"," + body + b',"as_of":"' + as_of.encode() + b'"}'

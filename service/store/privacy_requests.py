"""SQL of what platforms ask for by webhook: erase a person, hand out what is known of them, erase everybody."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from asyncpg import Record
from msgspec import Struct

from service.domain.keys import bucket_of, platform_key
from service.domain.privacy import RequestKind, RequestState
from service.store.connection import Connection

DEADLINE = timedelta(days=30)
"""Within which Shopify wants it done."""


class PrivacyRequest(Struct, frozen=True, kw_only=True):
    """A request, and how far it has come."""

    id: int
    program: int
    platform: int
    code: str
    """The platform's."""
    kind: RequestKind
    state: RequestState
    account: int | None
    orders: list[str]
    """Still to be scrubbed."""
    received_at: datetime
    not_before: datetime
    deadline: datetime
    done_at: datetime | None
    consumers: int
    scrubbed: int


_COLUMNS = """q.id, q.program, q.platform, p.code, q.kind, q.state, q.account, q.orders, q.received_at, q.not_before, q.deadline, q.done_at,
       q.consumers, q.scrubbed"""
_OPEN = "q.state NOT IN ('done', 'cancelled')"

# A request like one that is still open adds nothing to it; a delivery that came before is the same request for ever.
INSERT = """
INSERT INTO privacy_request (program, platform, kind, source_key, bucket, account, orders, not_before, deadline, state, done_at)
SELECT $1, $2, $3, $4, $5::smallint, $6::bigint, $7::text[], now() + $8::interval, now() + $9::interval,
       CASE WHEN $10::boolean THEN 'done' ELSE 'pending' END, CASE WHEN $10 THEN now() END
WHERE NOT EXISTS (
    SELECT FROM privacy_request q WHERE q.platform = $2 AND q.kind = $3 AND q.account IS NOT DISTINCT FROM $6 AND q.orders = $7
    AND q.state NOT IN ('done', 'cancelled')
)
ON CONFLICT DO NOTHING
"""


async def insert(
    connection: Connection, *, program: int, platform: int, kind: RequestKind, source_key: str | None, account: int | None,
    orders: Sequence[str], grace: timedelta, done: bool,
) -> None:  # fmt: skip
    """Keep a request, unless it is there already. `done`: there is nothing to do."""
    bucket = None if account is None else bucket_of(account)
    await connection.execute(INSERT, program, platform, kind, source_key, bucket, account, orders, grace, grace + DEADLINE, done)


OPEN_IDS = f"""
SELECT q.id FROM privacy_request q WHERE {_OPEN} AND q.not_before <= now() ORDER BY q.state = 'on_hold', q.id LIMIT $1
"""
FIND = f"SELECT {_COLUMNS} FROM privacy_request q JOIN platform p ON p.id = q.platform WHERE q.id = $1"
TAKE = FIND + f" AND {_OPEN} AND q.not_before <= now() FOR UPDATE OF q SKIP LOCKED"
PAGE = f"""
SELECT {_COLUMNS} FROM privacy_request q JOIN platform p ON p.id = q.platform
WHERE q.program = $1 AND ($2::int IS NULL OR q.platform = $2) AND q.id < $3 ORDER BY q.id DESC LIMIT $4
"""


async def open_ids(connection: Connection, limit: int) -> list[int]:
    """Requests with something to do, those on hold last."""
    return [r["id"] for r in await connection.fetch(OPEN_IDS, limit)]


async def find(connection: Connection, id_: int) -> PrivacyRequest | None:
    """One request."""
    row = await connection.fetchrow(FIND, id_)
    return None if row is None else PrivacyRequest(**row)


async def take(connection: Connection, id_: int) -> PrivacyRequest | None:
    """One request under lock; None when it is not open any more or another worker has it."""
    row = await connection.fetchrow(TAKE, id_)
    return None if row is None else PrivacyRequest(**row)


async def page(connection: Connection, *, program: int, platform: int | None, before: int, limit: int) -> list[PrivacyRequest]:
    """Requests of a program, perhaps of one platform, newest first."""
    return [PrivacyRequest(**r) for r in await connection.fetch(PAGE, program, platform, before, limit)]


CANCEL = """
UPDATE privacy_request SET state = 'cancelled', done_at = now() WHERE id = $1 AND kind = 'erase_all' AND state = 'pending' RETURNING id
"""


async def cancel(connection: Connection, id_: int) -> bool:
    """Cancel a request to erase everybody that has not begun; whether it was one."""
    return await connection.fetchval(CANCEL, id_) is not None


PROGRESS = """
UPDATE privacy_request SET state = $2, orders = $3, consumers = consumers + $4, scrubbed = scrubbed + $5 WHERE id = $1
"""


async def progress(
    connection: Connection, id_: int, state: RequestState, *, orders: Sequence[str], consumers: int = 0, scrubbed: int = 0
) -> None:
    """Note how far it has come; `orders` are left to do."""
    await connection.execute(PROGRESS, id_, state, orders, consumers, scrubbed)


# Whom it was about is forgotten; an export still needs it, until retention ends that.
FINISH = """
UPDATE privacy_request SET state = 'done', done_at = now(), consumers = consumers + $2, bucket = CASE WHEN kind = 'export' THEN bucket END,
       account = CASE WHEN kind = 'export' THEN account END, orders = '{}'
WHERE id = $1
"""


async def finish(connection: Connection, id_: int, *, consumers: int = 0) -> None:
    """It is done."""
    await connection.execute(FINISH, id_, consumers)


IS_SCRUBBING = "SELECT EXISTS (SELECT FROM erasure WHERE request = $1 AND state = 'running')"


async def is_scrubbing(connection: Connection, id_: int) -> bool:
    """Whether an erasure of this request is not finished yet."""
    found: bool = await connection.fetchval(IS_SCRUBBING, id_)
    return found


# Orders that are to be scrubbed by themselves -------------------------------------------------------------

HELD_ORDERS = """
SELECT substr(r.key, length($2::text) + 2) AS order_id FROM registry r
JOIN legal_hold h ON h.bucket = r.bucket AND h.account = r.account AND h.lifted_at IS NULL
WHERE r.program = $1 AND r.kind = 2 AND r.key = ANY($3::text[])
"""
ORDER_EVENTS = """
SELECT e.account, e.number, e.id, e.facts FROM registry r
JOIN event e ON e.bucket = r.bucket AND e.account = r.account AND e.platform = $2 AND e.order_id = substr(r.key, length($2::text) + 2)
WHERE r.program = $1 AND r.kind = 2 AND r.key = ANY($3::text[])
"""
ORDER_PARKED = """
SELECT program, platform, order_id, number, id, facts FROM parked
WHERE program = $1 AND platform = $2 AND order_id = ANY($3::text[]) AND scrubbed_at IS NULL FOR UPDATE
"""
PLATFORM_PARKED = """
SELECT program, platform, order_id, number, id, facts FROM parked
WHERE program = $1 AND platform = $2 AND scrubbed_at IS NULL ORDER BY order_id, number LIMIT $3 FOR UPDATE
"""


async def held_orders(connection: Connection, program: int, platform: int, orders: Sequence[str]) -> set[str]:
    """Those of the orders that belong to somebody whose data must be kept."""
    keys = [platform_key(platform, order) for order in orders]
    return {r["order_id"] for r in await connection.fetch(HELD_ORDERS, program, str(platform), keys)}


async def order_events(connection: Connection, program: int, platform: int, orders: Sequence[str]) -> list[Record]:
    """What is stored about these orders, whoever's they are: account, number, id, facts."""
    return await connection.fetch(ORDER_EVENTS, program, platform, [platform_key(platform, order) for order in orders])


async def order_parked(connection: Connection, program: int, platform: int, orders: Sequence[str]) -> list[Record]:
    """What waits for these orders, under lock: program, platform, order_id, number, id, facts."""
    return await connection.fetch(ORDER_PARKED, program, platform, orders)


async def platform_parked(connection: Connection, program: int, platform: int, limit: int) -> list[Record]:
    """What waits for any order of a platform and was not scrubbed yet, under lock."""
    return await connection.fetch(PLATFORM_PARKED, program, platform, limit)

"""Retention: forget what is older than it may be kept, in small batches; what a legal hold keeps stays. Points never change."""

from typing import Literal

from asyncpg import Record
from msgspec import Struct

from service import failpoints
from service.domain.privacy import scrubbed
from service.store import retention as store
from service.store import vault
from service.store.connection import Connection, Pool

BATCH = 500
"""Events or parked facts of one transaction."""
MAX_BATCHES = 20
"""Transactions of one kind in one sweep."""
MAX_HOLDS = 20


class Terms(Struct, frozen=True, kw_only=True):
    """Days for which each kind of data is kept; 0: for ever."""

    attributes: int
    fraud_attributes: int
    parked: int
    exports: int
    requests: int


Kind = Literal["attributes", "fraud_attributes"]


async def sweep(pool: Pool, terms: Terms) -> int:
    """Forget what is too old; returns how many events and parked facts were changed. Safe to repeat and to run side by side."""
    kinds: dict[Kind, int] = {"attributes": terms.attributes, "fraud_attributes": terms.fraud_attributes}
    changed = 0
    async with pool.acquire() as connection:
        for kind, days in kinds.items():
            for _ in range(MAX_BATCHES if days else 0):
                looked_at, less = await _events(connection, kind, days)
                changed += less
                if looked_at < BATCH:
                    break
        changed += await _catch_up(connection, {kind: days for kind, days in kinds.items() if days})
        changed += await _parked(connection, terms)
        failpoints.at("retention.parked")
        if terms.exports:
            await store.end_exports(connection, terms.exports)
            failpoints.at("retention.exports")
        if terms.requests:
            await store.delete_records(connection, terms.requests)
    return changed


async def _events(connection: Connection, kind: Kind, days: int) -> tuple[int, int]:
    """One batch: how many events were looked at, and how many changed."""
    async with connection.transaction():
        after = await store.take(connection, kind)
        failpoints.at("retention.taken")
        if after is None:
            return 0, 0
        rows = await store.old_events(connection, after, days, BATCH)
        if not rows:
            return 0, 0
        changed = await _scrub(connection, kind, [row for row in rows if not row["held"]])
        failpoints.at("retention.scrubbed")
        await store.set_through(connection, kind, (rows[-1]["received_at"], rows[-1]["number"]))
        failpoints.at("retention.noted")
    failpoints.at("retention.committed")
    return len(rows), changed


async def _scrub(connection: Connection, kind: Kind, rows: list[Record]) -> int:
    free = kind == "attributes"
    less = [(r["account"], r["number"], scrubbed(r["facts"], free=free, hashed=not free)) for r in rows]
    changed = [new for new, r in zip(less, rows, strict=True) if new[2] != r["facts"]]
    if changed:
        await vault.set_facts(connection, changed)
    return len(changed)


async def _catch_up(connection: Connection, kinds: dict[Kind, int]) -> int:
    """Accounts whose legal hold was lifted: what is too old by now."""
    changed = 0
    async with connection.transaction():
        for hold in await store.lifted_holds(connection, MAX_HOLDS):
            for kind, days in kinds.items():
                after = 0
                while rows := await store.old_events_of(connection, hold, after, days, BATCH):
                    changed += await _scrub(connection, kind, rows)
                    after = rows[-1]["number"]
            await store.set_caught_up(connection, hold)
    failpoints.at("retention.caught_up")
    return changed


async def _parked(connection: Connection, terms: Terms) -> int:
    changed = 0
    for _ in range(MAX_BATCHES):
        async with connection.transaction():
            rows = await store.old_parked(connection, received_days=terms.attributes, ignored_days=terms.parked, limit=BATCH)
            if rows:
                await vault.set_parked(
                    connection, [(r["program"], r["platform"], r["order_id"], r["number"], scrubbed(r["facts"])) for r in rows]
                )
        changed += len(rows)
        if len(rows) < BATCH:
            break
    return changed

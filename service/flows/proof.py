"""Proof: what operators and auditors read of seals and alerts, and seals verified by themselves."""

import time
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from schemas.proof import Alert, Seal, SealsAnswer, SealsReport
from service.domain.errors import NotFound
from service.store import alerts as alert_store
from service.store import check
from service.store import seals as store
from service.store.connection import Connection

SHOWN: Final = 10
"""Findings that a report names."""
NEWEST: Final = 2**63 - 1


async def seals(connection: Connection, *, program: int, before: int, limit: int) -> SealsAnswer:
    """A page of a program's blocks below that number, newest first, and the newest of all; `next_cursor` is the caller's."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        head = await store.page(connection, program=program, before=NEWEST, limit=1)
        rows = await store.page(connection, program=program, before=before, limit=limit)
    return SealsAnswer(head=_seal(head[0]) if head else None, items=[_seal(row) for row in rows], next_cursor=None)


async def alerts(
    connection: Connection, *, program: int, everywhere: bool, before: int, is_open: bool | None, limit: int
) -> list[tuple[int, Alert]]:
    """Alerts of a program with their numbers below that one, newest first; `everywhere`: those of the deployment, too."""
    rows = await alert_store.page(connection, program=program, everywhere=everywhere, before=before, is_open=is_open, limit=limit)
    return [(row.id, Alert(**(msgspec.structs.asdict(row) | {"id": str(row.id)}))) for row in rows]


async def verify(connection: Connection, *, program: int | None = None, first: int = 1, head: str | None = None) -> SealsReport:
    """Verify the chain of a program (None: of all) from block `first` on, in one snapshot; `head` must be one of the program's.

    Reads only, every entry that is sealed. Raises what PostgreSQL raises.
    """
    begun = time.monotonic()
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await check.prepare(connection)
        broken, found = await store.broken(connection, SHOWN, program=program, first=first)
        if head is not None and (program is None or await store.by_head(connection, head, program=program) is None):
            broken, found = [f"no block has the head {head}", *broken], found + 1
        all_ = await store.count(connection, program)
    return SealsReport(
        ok=not found,
        blocks=all_.blocks,
        entries=all_.entries,
        found=found,
        broken=broken[:SHOWN],
        took_s=round(time.monotonic() - begun, 3),
    )


async def lines(connection: Connection, *, program: int, block: int, account: int | None) -> AsyncIterator[str]:
    """The lines that the hash of a block was made of, or that of an account's part of it. Raises NotFound when there are none."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        some = False
        async for line in store.lines(connection, program=program, block=block, account=account):
            some = True
            yield line
    if not some:
        raise NotFound("There is no such block, or nothing of the account in it.")


def _seal(row: store.SealRow) -> Seal:
    return Seal(**msgspec.structs.asdict(row))

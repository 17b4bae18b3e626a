"""What platforms ask for by webhook, done by workers step by step: each step is one transaction, and is found again after a crash."""

from datetime import timedelta

from service.domain.connectors import Demand
from service.domain.errors import InvalidState, NotFound
from service.domain.privacy import scrubbed
from service.flows import erase
from service.flows.administer import Change
from service.store import audit, balances, vault
from service.store import privacy_requests as store
from service.store.connection import Connection, Pool
from service.store.locks import lock_catalogue
from service.store.privacy_requests import PrivacyRequest

NOTED = "a privacy request: workers carry it out"
NAMES = 200
"""References that one step erases; credits wait while it commits."""
ORDERS = 100
"""Orders that one step scrubs."""
MAX_OPEN = 20
"""Requests that one sweep looks at."""
MAX_STEPS = 5
"""Steps of one request in one sweep: each that erases makes every process look references up again."""


async def ask(connection: Connection, *, program: int, platform: int, demand: Demand, source_key: str | None, grace: timedelta) -> None:
    """Note what a platform asks for. A repeated delivery, or one like a request that is still open, makes no second one.

    Whoever is not known needs nothing done. `grace` is waited for before everybody is erased.
    """
    account = None if demand.consumer is None else await balances.find_account(connection, platform, demand.consumer)
    everybody = demand.kind == "erase_all"
    await store.insert(
        connection, program=program, platform=platform, kind=demand.kind, source_key=source_key, account=account, orders=demand.orders,
        grace=grace if everybody else timedelta(), done=account is None and not demand.orders and not everybody,
    )  # fmt: skip


async def work(pool: Pool) -> int:
    """Do what can be done now; returns the number of steps. Safe to run side by side."""
    steps = 0
    async with pool.acquire() as connection:
        for id_ in await store.open_ids(connection, MAX_OPEN):
            for _ in range(MAX_STEPS):
                if not await _step(connection, id_):
                    break
                steps += 1
    return steps


async def _step(connection: Connection, id_: int) -> bool:
    """One transaction; whether there may be more to do at once."""
    request = await store.find(connection, id_)
    if request is None:
        return False
    if request.kind == "export":
        async with connection.transaction():
            if await store.take(connection, id_):
                await store.finish(connection, id_, consumers=1)
        return False
    names = await _names(connection, request)
    if names:
        return await _erase(connection, request, names)
    return await _scrub_or_finish(connection, id_)


async def _names(connection: Connection, request: PrivacyRequest) -> list[str]:
    """Whom it asks to erase, and may be."""
    if request.kind == "erase_all":
        return await vault.free_references(connection, request.platform, NAMES)
    if request.account is None or await vault.open_hold(connection, request.account) is not None:
        return []
    return (await vault.references_of(connection, request.account, request.platform))[:NAMES]


async def _erase(connection: Connection, request: PrivacyRequest, names: list[str]) -> bool:
    async with connection.transaction():
        await lock_catalogue(connection)
        taken = await store.take(connection, request.id)
        if taken is None:
            return False
        found = await vault.lock_names(connection, taken.platform, names)
        free = [name for name, (_, held) in found.items() if not held]
        if free:
            await erase.erase_names(
                connection, program=taken.program, platform=taken.platform, code=taken.code, names=free,
                change=Change(actor=f"platform:{taken.code}"), request=taken.id,
            )  # fmt: skip
        await store.progress(connection, taken.id, "running", orders=taken.orders, consumers=len(free))
    return True


async def _scrub_or_finish(connection: Connection, id_: int) -> bool:
    """Nobody is left who may be erased: scrub orders and what is parked, then see whether something keeps it from being done."""
    async with connection.transaction():
        request = await store.take(connection, id_)
        if request is None:
            return False
        if await _scrub_orders(connection, request):
            return True
        if request.kind == "erase_all" and (rows := await store.platform_parked(connection, request.program, request.platform, NAMES)):
            await erase.scrub_parked(connection, rows)
            return True
        if request.orders or await _is_kept(connection, request):
            if request.state != "on_hold":
                await store.progress(connection, id_, "on_hold", orders=request.orders)
        elif not await store.is_scrubbing(connection, id_):
            await store.finish(connection, id_)
    return False


async def _is_kept(connection: Connection, request: PrivacyRequest) -> bool:
    """Whether a legal hold keeps somebody whom it is about."""
    if request.kind == "erase_all":
        return await vault.has_references(connection, request.platform)
    return request.account is not None and bool(await vault.references_of(connection, request.account, request.platform))


async def _scrub_orders(connection: Connection, request: PrivacyRequest) -> bool:
    """Scrub some of the orders that it names; False when none is left, or only such that a legal hold keeps."""
    held = await store.held_orders(connection, request.program, request.platform, request.orders) if request.orders else set()
    some = [order for order in request.orders if order not in held][:ORDERS]
    if not some:
        return False
    events = await store.order_events(connection, request.program, request.platform, some)
    if events:
        await vault.set_facts(connection, [(e["account"], e["number"], scrubbed(e["facts"])) for e in events])
        await vault.forget_hashes_of(connection, request.program, request.platform, [e["id"] for e in events])
    parked = await store.order_parked(connection, request.program, request.platform, some)
    if parked:
        await erase.scrub_parked(connection, parked)
    done = set(some)
    left = [order for order in request.orders if order not in done]
    await store.progress(connection, request.id, "running", orders=left, scrubbed=len(some))
    return True


async def cancel(connection: Connection, *, program: int, id: int, change: Change) -> PrivacyRequest:  # noqa: A002 - the request's field
    """Cancel a request to erase everybody before it has begun. Raises NotFound, InvalidState."""
    async with connection.transaction():
        request = await store.find(connection, id)
        if request is None or request.program != program:
            raise NotFound("There is no such privacy request.")
        if not await store.cancel(connection, id):
            raise InvalidState("Only a request to erase everybody can be cancelled, and only before it has begun.")
        await audit.record(
            connection, program=program, actor=change.actor, action="privacy_request.cancel", subject=f"platform:{request.code}",
            after={"request": str(id)}, request_id=change.request_id,
        )  # fmt: skip
        found = await store.find(connection, id)
        assert found is not None
        return found

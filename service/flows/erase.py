"""Erase a person as one platform knows them, and keep what a legal hold keeps.

First, in one short transaction that no credit runs beside, the vault's row goes and an `erasure` is noted; from then on nobody can
tell whose account it is, and no process credits it on what it remembers. Then a worker scrubs what is left, batch by batch; killed
in the middle it is found again and goes on.
"""

from collections.abc import Sequence

from asyncpg import Record

from service import failpoints
from service.domain.errors import InvalidState, NotFound
from service.domain.privacy import scrubbed
from service.flows.administer import Change
from service.projection import Projection
from service.store import adjustments, audit, fraud_lists, redemptions, reviews, vault
from service.store.connection import Connection, Pool
from service.store.locks import lock_catalogue

SCRUB_EVENTS = 200
"""Events, or parked facts, that are scrubbed in one transaction."""
MAX_RUNNING = 100
"""Erasures that one sweep looks at."""
UNKNOWN = "The platform has no such consumer."


async def erase(connection: Connection, *, program: int, platform: int, code: str, reference: str, change: Change) -> int:
    """Erase a platform's consumer; returns the account, whose balance is to be removed from Redis after this.

    Raises NotFound (also when it was erased before), InvalidState (a legal hold). Credits wait while this commits.
    """
    async with connection.transaction():
        await lock_catalogue(connection)
        found = (await vault.lock_names(connection, platform, [reference])).get(reference)
        if found is None:
            raise NotFound(UNKNOWN)
        account, held = found
        if held:
            raise InvalidState("A legal hold keeps this consumer's data; it can be erased once the hold is lifted.")
        await erase_names(connection, program=program, platform=platform, code=code, names=[reference], change=change)
    failpoints.at("erase.committed")
    return account


async def erase_names(
    connection: Connection, *, program: int, platform: int, code: str, names: Sequence[str], change: Change, request: int | None = None
) -> list[int]:
    """Take names that are locked and not held out of the vault, note it, and write it down; the accounts."""
    accounts = await vault.erase(connection, program=program, platform=platform, references=names, request=request)
    await redemptions.forget_person(connection, platform=platform, accounts=accounts)
    failpoints.at("erase.erased")
    after = {"platform": code, "accounts": [str(account) for account in accounts]} | ({} if request is None else {"request": str(request)})
    await audit.record(
        connection, program=program, actor=change.actor, action="consumer.erase", subject=f"platform:{code}", after=after,
        request_id=change.request_id,
    )  # fmt: skip
    failpoints.at("erase.written")
    return accounts


# Scrubbing ----------------------------------------------------------------------------------------------


async def finish_erasures(pool: Pool, projection: Projection) -> int:
    """Scrub what erasures have left, each to its end; returns how many are done. Safe to run side by side and again after a crash."""
    done = 0
    async with pool.acquire() as connection:
        for id_ in await vault.running(connection, MAX_RUNNING):
            while (more := await _scrub_some(connection, projection, id_)) is True:
                continue
            done += more is False
    return done


async def _scrub_some(connection: Connection, projection: Projection, id_: int) -> bool | None:
    """One transaction's worth: True, there is more; False, it is done; None, somebody else has it, or Redis does not answer."""
    async with connection.transaction():
        erasure = await vault.take(connection, id_)
        if erasure is None:
            return None
        events = await vault.events_after(connection, erasure, SCRUB_EVENTS)
        if events:
            changed = [(erasure.account, e["number"], less) for e in events if (less := scrubbed(e["facts"])) != e["facts"]]
            await vault.set_facts(connection, changed)
            failpoints.at("scrub.events")
            for platform in {e["platform"] for e in events}:
                await vault.forget_hashes_of(connection, erasure.program, platform, [e["id"] for e in events if e["platform"] == platform])
            await vault.forget_waiting(connection, erasure.program, [e["number"] for e in events])
            await reviews.forget_events(connection, bucket=erasure.bucket, events=[e["number"] for e in events])
            await vault.set_through(connection, erasure, events[-1]["number"])
            failpoints.at("scrub.noted")
            return True
        if erasure.consumer_hash is not None:
            parked = await vault.parked_of(connection, erasure.platform, erasure.consumer_hash, SCRUB_EVENTS)
            if parked:
                await scrub_parked(connection, parked)
                failpoints.at("scrub.parked")
                return True
        reasons = await adjustments.forget(
            connection, bucket=erasure.bucket, account=erasure.account, platform=erasure.platform, limit=SCRUB_EVENTS
        )
        failpoints.at("scrub.reasons")
        if reasons:
            return True
        await fraud_lists.forget(connection, bucket=erasure.bucket, account=erasure.account)
        failpoints.at("scrub.lists")
    # A balance that a reader wrote back while the vault's row went is removed with everything else.
    if not await projection.forget([erasure.account]):
        return None
    failpoints.at("scrub.forgotten")
    async with connection.transaction():
        if (erasure := await vault.take(connection, id_)) is None:
            return None
        await vault.finish(connection, erasure)
        failpoints.at("scrub.finished")
    return False


async def scrub_parked(connection: Connection, rows: Sequence[Record]) -> None:
    """Scrub parked facts that are locked; returns among them wait no more for whoever they name."""
    await vault.set_parked(connection, [(r["program"], r["platform"], r["order_id"], r["number"], scrubbed(r["facts"])) for r in rows])
    for program, platform in {(r["program"], r["platform"]) for r in rows}:
        theirs = [r for r in rows if (r["program"], r["platform"]) == (program, platform)]
        await vault.forget_hashes_of(connection, program, platform, [r["id"] for r in theirs])
        await vault.forget_waiting(connection, program, [r["number"] for r in theirs])


# Legal holds --------------------------------------------------------------------------------------------


async def read_hold(connection: Connection, *, platform: int, reference: str) -> vault.Hold:
    """The hold on a consumer's data. Raises NotFound without one."""
    hold = await vault.open_hold(connection, await _account(connection, platform, reference))
    if hold is None:
        raise NotFound("There is no legal hold on this consumer.")
    return hold


async def place_hold(
    connection: Connection, *, program: int, platform: int, code: str, reference: str, reason: str, change: Change
) -> vault.Hold:
    """Keep a consumer's data until the hold is lifted; on one that is there already the reason changes. Raises NotFound."""
    async with connection.transaction():
        account = await _account(connection, platform, reference)
        hold, new = await vault.place_hold(connection, account=account, program=program, reason=reason, by=change.actor)
        await _record(connection, change, program, "hold.place" if new else "hold.change", code, account)
    return hold


async def lift_hold(connection: Connection, *, program: int, platform: int, code: str, reference: str, change: Change) -> None:
    """Lift the hold: what waited for it is done by a worker. Raises NotFound (no such consumer, no hold)."""
    async with connection.transaction():
        account = await _account(connection, platform, reference)
        if not await vault.lift_hold(connection, account, change.actor):
            raise NotFound("There is no legal hold on this consumer.")
        await _record(connection, change, program, "hold.lift", code, account)


async def _account(connection: Connection, platform: int, reference: str) -> int:
    """The account, its names under lock: an erasure waits, or has been. Raises NotFound."""
    found = (await vault.lock_names(connection, platform, [reference])).get(reference)
    if found is None:
        raise NotFound(UNKNOWN)
    return found[0]


async def _record(connection: Connection, change: Change, program: int, action: str, code: str, account: int) -> None:
    """The account stands for the person, and the reason stays where it is erased with them: the audit names nobody."""
    await audit.record(
        connection, program=program, actor=change.actor, action=action, subject=f"platform:{code}", after={"account": str(account)},
        request_id=change.request_id,
    )  # fmt: skip

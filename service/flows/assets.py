"""Reusable packaging: registered one by one or in bulk, shown with its trips, inspected, retired, lost; and the policy about returns.

An asset is registered once: its class and limit of trips stay. Trips are opened and ended by events (service.flows.receive).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, Literal

import asyncpg
import msgspec
from msgspec import UNSET

from schemas.assets import AssetAnswer, AssetBody, AssetItem, AssetStep, OpenTrip, PackagingPolicy, PackagingPolicyPatch, Trip
from schemas.problems import FieldError
from schemas.registries import ImportAnswer, ImportResult
from service.domain.asset_states import Fact, State, next_state
from service.domain.errors import InvalidRequest, InvalidState, NotFound
from service.domain.identifiers import canonical_asset
from service.domain.packaging import PackagingClass
from service.domain.registrations import Asset, check_asset
from service.flows.administer import BY_COMMAND, Change
from service.store import assets as store
from service.store import audit, locks, packaging_classes
from service.store.campaigns import raise_catalogue_version
from service.store.connection import Connection

HISTORY_TRIPS: Final = 100
CHUNK_ROWS: Final = 10_000
"""Rows of one statement: what an import holds in memory."""
MAX_ATTEMPTS: Final = 5
CLOCK_SLACK: Final = timedelta(minutes=5)

# Registering ---------------------------------------------------------------------------------------------


async def register_asset(conn: Connection, body: AssetBody, *, program: int, change: Change) -> tuple[AssetAnswer, bool]:
    """Register an asset; also says whether it is new, for a repeat changes nothing.

    Raises InvalidRequest (no identifier, no class), InvalidState (registered with other content).
    """
    asset = check_asset(body, await packaging_classes.of_program(conn, program))
    async with conn.transaction():
        new = bool(await store.register(conn, program=program, assets=[asset]))
        if new:
            await audit.record(
                conn, program=program, actor=change.actor, action="asset.create", subject=f"asset:{asset.key}",
                after={"class": asset.class_, "max_trips": asset.max_trips}, request_id=change.request_id,
            )  # fmt: skip
        else:
            known = (await store.registered(conn, program=program, keys=[asset.key]))[asset.key]
            if known != asset:
                raise InvalidState(f"The asset {asset.key} is registered as {_said(known)}.")
        return await _answer(conn, program, asset.key), new


async def import_assets(
    conn: Connection, rows: Iterable[AssetBody | FieldError], *, program: int, sha256: str, change: Change = BY_COMMAND,
    max_rejected: int | None = None, tell: Callable[[int], None] = lambda _: None,
) -> ImportAnswer:  # fmt: skip
    """Register each row that is new, all in one transaction; a bad row stops no other, and a repeat changes nothing.

    `rows` may be an iterator over more than fits in memory; then `max_rejected` limits the results to so many rejected rows. `tell` is
    called with the number of rows done. One audit row holds the counts and `sha256`, the hash of what was read, in hexadecimal digits.
    Two imports of the same assets in different orders may deadlock: a sequence is tried again, MAX_ATTEMPTS times at most.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            return await _import(conn, rows, program, change, sha256, max_rejected, tell)
        except asyncpg.DeadlockDetectedError:
            if attempt == MAX_ATTEMPTS or not isinstance(rows, Sequence):
                raise
    raise AssertionError("the last attempt raises")


async def _import(
    conn: Connection, rows: Iterable[AssetBody | FieldError], program: int, change: Change, sha256: str,
    max_rejected: int | None, tell: Callable[[int], None],
) -> ImportAnswer:  # fmt: skip
    counts: Counter[str] = Counter()
    results: list[ImportResult] = []
    remaining = iter(rows)
    own = await packaging_classes.of_program(conn, program)
    done = 0
    async with conn.transaction():
        while chunk := list(islice(remaining, CHUNK_ROWS)):
            answered = await _register(conn, program, done, chunk, own)
            counts.update(result.status for result in answered)
            if max_rejected is not None:
                answered = [result for result in answered if result.status == "rejected"][: max_rejected - len(results)]
            results += answered
            done += len(chunk)
            tell(done)
        if counts["created"]:
            after = {"sha256": sha256, "rows": done} | {name: counts[name] for name in ("created", "unchanged", "rejected")}
            await audit.record(
                conn, program=program, actor=change.actor, action="asset.import", subject="assets",
                after=after, request_id=change.request_id,
            )  # fmt: skip
    return ImportAnswer(
        created=counts["created"], updated=0, unchanged=counts["unchanged"], rejected=counts["rejected"], results=results
    )  # fmt: skip


async def _register(
    conn: Connection, program: int, first: int, rows: Sequence[AssetBody | FieldError], own: Mapping[str, PackagingClass]
) -> list[ImportResult]:
    """What becomes of some rows, numbered from `first`, in their order."""
    results: dict[int, ImportResult] = {}
    checked: dict[int, Asset] = {}
    state: dict[str, Asset] = {}
    for n, row in enumerate(rows, first):
        try:
            checked[n] = check_asset(_usable(row), own)
            state.setdefault(checked[n].key, checked[n])
        except InvalidRequest as error:
            results[n] = ImportResult(row=n, status="rejected", errors=error.errors)
    new = await store.register(conn, program=program, assets=list(state.values())) if state else set()
    if len(new) < len(state):
        state |= await store.registered(conn, program=program, keys=[key for key in state if key not in new])
    for n, asset in checked.items():
        known = state[asset.key]
        if known != asset:
            pointer = "/class" if known.class_ != asset.class_ else "/max_trips"
            differs = FieldError(pointer=pointer, detail=f"differs: the asset is registered as {_said(known)}")
            results[n] = ImportResult(row=n, status="rejected", id=asset.key, errors=[differs])
        else:
            results[n] = ImportResult(row=n, status="created" if asset.key in new else "unchanged", id=asset.key)
            new.discard(asset.key)
    return [results[n] for n in sorted(results)]


def _usable(row: AssetBody | FieldError) -> AssetBody:
    """Raises InvalidRequest for a row that could not be read."""
    if isinstance(row, FieldError):
        raise InvalidRequest(row.detail, [row])
    return row


def _said(asset: Asset) -> str:
    return f"{asset.class_} with {'no limit of trips' if asset.max_trips is None else f'max_trips {asset.max_trips}'}"


# Showing -------------------------------------------------------------------------------------------------


async def asset(conn: Connection, text: str, *, program: int) -> AssetAnswer:
    """One asset with its trips, by an identifier however written. Raises NotFound."""
    return await _answer(conn, program, _key(text))


async def assets(
    conn: Connection, *, program: int, after: str, class_: str | None, state: State | None, limit: int
) -> list[AssetItem]:  # fmt: skip
    """At most `limit` assets whose canonical texts come after `after`."""
    rows = await store.page(conn, program=program, after=after, class_=class_, state=state, limit=limit)
    return [
        AssetItem(asset=r.key, class_=r.class_, state=r.state, state_at=r.state_at, max_trips=r.max_trips, trips=r.trips) for r in rows
    ]  # fmt: skip


async def _answer(conn: Connection, program: int, key: str) -> AssetAnswer:
    row = await store.get(conn, program=program, key=key)
    if row is None:
        raise NotFound("There is no such asset.")
    trips = await store.trips(conn, program=program, key=key, limit=HISTORY_TRIPS)
    newest = next((trip for trip in trips if not trip.void), None)
    is_open = newest is not None and newest.returned_at is None
    return AssetAnswer(
        asset=row.key, class_=row.class_, state=row.state, state_at=row.state_at, max_trips=row.max_trips, trips=row.trips,
        open_trip=OpenTrip(order=newest.order_id, platform=newest.platform, shipped_at=newest.shipped_at) if newest and is_open else None,
        history=[
            Trip(order=t.order_id, platform=t.platform, shipped_at=t.shipped_at, returned_at=t.returned_at, void=t.void) for t in trips
        ],
    )  # fmt: skip


def _key(text: str) -> str:
    """An asset from the path. Raises NotFound for what can be none."""
    try:
        return canonical_asset(text)
    except ValueError:
        raise NotFound("There is no such asset.") from None


# States --------------------------------------------------------------------------------------------------


async def step(
    conn: Connection, text: str, fact: Literal["inspect", "retire", "lose"], body: AssetStep, *, program: int, change: Change
) -> AssetAnswer:
    """An operator saw that an asset was inspected, retired or lost; to be retired or lost again changes nothing.

    Raises NotFound, InvalidState (the table of states, or something later is known), InvalidRequest (a time to come).
    """
    key = _key(text)
    async with conn.transaction():
        locked = await store.lock(conn, program=program, key=key)
        if locked is None:
            raise NotFound("There is no such asset.")
        if locked.state != _ENDS.get(fact):
            at = body.at or locked.now
            _check_time(at, locked)
            state = next_state(locked.state, fact)
            await store.set_state(conn, program=program, key=key, state=state, at=at)
            await audit.record(
                conn, program=program, actor=change.actor, action=f"asset.{fact}", subject=f"asset:{key}",
                before={"state": locked.state}, after={"state": state, "at": at, "reason": body.reason}, request_id=change.request_id,
            )  # fmt: skip
        return await _answer(conn, program, key)


_ENDS: Final[dict[Fact, State]] = {"retire": "retired", "lose": "lost"}


def _check_time(at: datetime, locked: store.Locked) -> None:
    if at > locked.now + CLOCK_SLACK:
        raise InvalidRequest.at("/at", "must not be in the future")
    if locked.state_at is not None and at < locked.state_at:
        raise InvalidState(f"The asset is {locked.state} since {locked.state_at.isoformat()}.")


# Policy --------------------------------------------------------------------------------------------------


async def policy(conn: Connection, *, program: int) -> PackagingPolicy:
    """What the program decides about packaging that is given back."""
    return PackagingPolicy(**msgspec.structs.asdict(await store.policy(conn, program)))


async def change_policy(conn: Connection, body: PackagingPolicyPatch, *, program: int, change: Change) -> PackagingPolicy:
    """Change it for events from now on. Raises InvalidRequest when nothing is given."""
    given = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    if not given:
        raise InvalidRequest("Give return_earner, return_window_days or both.")
    async with conn.transaction():
        await locks.lock_catalogue(conn)
        before = await store.policy(conn, program)
        after = msgspec.structs.replace(before, **given)
        if after != before:
            await store.set_policy(conn, program, after)
            await audit.record(
                conn, program=program, actor=change.actor, action="packaging_policy.change", subject="program",
                before=msgspec.structs.asdict(before), after=msgspec.structs.asdict(after), request_id=change.request_id,
            )  # fmt: skip
            await raise_catalogue_version(conn)
        return PackagingPolicy(**msgspec.structs.asdict(after))

"""Registered assets and what is shown of their trips."""

from datetime import datetime
from typing import Final, Literal

from msgspec import Struct

from service.domain.asset_states import State
from service.domain.registrations import Asset
from service.store.connection import Connection


class AssetRow(Struct, frozen=True, kw_only=True):
    """An asset as stored; `trips` counts those that are not void."""

    key: str
    class_: str
    state: State
    state_at: datetime | None
    max_trips: int | None
    trips: int


class TripRow(Struct, frozen=True, kw_only=True):
    """A shipment and its return; nobody's name."""

    order_id: str
    platform: str
    shipped_at: datetime
    returned_at: datetime | None
    void: bool


# The primary keys of asset and trip, and nothing else, whatever the number of assets.
_ASSET: Final = """
SELECT a.key, a.class AS class_, a.state, a.state_at, a.max_trips,
       (SELECT count(*) FROM trip t WHERE t.program = a.program AND t.asset = a.key AND NOT t.void) AS trips
  FROM asset a
"""
GET: Final = f"{_ASSET} WHERE a.program = $1 AND a.key = $2"
PAGE: Final = f"""{_ASSET}
 WHERE a.program = $1 AND a.key > $2 AND ($3::text IS NULL OR a.class = $3) AND ($4::text IS NULL OR a.state = $4)
 ORDER BY a.key
 LIMIT $5
"""
TRIPS: Final = """
SELECT t.order_id, p.code AS platform, t.shipped_at, t.returned_at, t.void
  FROM trip t JOIN platform p ON p.id = t.platform AND p.program = t.program
 WHERE t.program = $1 AND t.asset = $2
 ORDER BY t.shipped_at DESC, t.shipped_event DESC
 LIMIT $3
"""
REGISTERED: Final = "SELECT key, class AS class_, max_trips FROM asset WHERE program = $1 AND key = ANY($2::text[])"
REGISTER: Final = """
INSERT INTO asset (program, key, class, max_trips)
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::int[])
    ON CONFLICT (program, key) DO NOTHING
RETURNING key
"""
LOCK: Final = "SELECT state, state_at, now() AS now FROM asset WHERE program = $1 AND key = $2 FOR UPDATE"
SET_STATE: Final = "UPDATE asset SET state = $3, state_at = $4 WHERE program = $1 AND key = $2"


async def get(conn: Connection, *, program: int, key: str) -> AssetRow | None:
    """One asset of the program, by its canonical text."""
    row = await conn.fetchrow(GET, program, key)
    return None if row is None else AssetRow(**row)


async def page(
    conn: Connection, *, program: int, after: str, class_: str | None, state: str | None, limit: int
) -> list[AssetRow]:  # fmt: skip
    """At most `limit` assets whose canonical texts come after `after`, perhaps of one class or in one state only."""
    return [AssetRow(**row) for row in await conn.fetch(PAGE, program, after, class_, state, limit)]


async def trips(conn: Connection, *, program: int, key: str, limit: int) -> list[TripRow]:
    """The newest trips of an asset, at most `limit`."""
    return [TripRow(**row) for row in await conn.fetch(TRIPS, program, key, limit)]


async def registered(conn: Connection, *, program: int, keys: list[str]) -> dict[str, Asset]:
    """Those that are registered, by canonical text."""
    rows = await conn.fetch(REGISTERED, program, keys)
    return {row["key"]: Asset(key=row["key"], class_=row["class_"], max_trips=row["max_trips"]) for row in rows}


async def register(conn: Connection, *, program: int, assets: list[Asset]) -> set[str]:
    """Register those that are not yet; the canonical texts of the new ones. In order of their texts, or imports side by side deadlock."""
    ordered = sorted(assets, key=lambda asset: asset.key)
    rows = await conn.fetch(
        REGISTER, program, [asset.key for asset in ordered], [asset.class_ for asset in ordered], [asset.max_trips for asset in ordered]
    )  # fmt: skip
    return {row["key"] for row in rows}


class Locked(Struct, frozen=True, kw_only=True):
    """The state of an asset whose row is locked, and the transaction's time."""

    state: State
    state_at: datetime | None
    now: datetime


async def lock(conn: Connection, *, program: int, key: str) -> Locked | None:
    """Lock an asset's row until the transaction ends."""
    row = await conn.fetchrow(LOCK, program, key)
    return None if row is None else Locked(**row)


async def set_state(conn: Connection, *, program: int, key: str, state: State, at: datetime) -> None:
    """The state of an asset that is locked, and since when."""
    await conn.execute(SET_STATE, program, key, state, at)


# Policy --------------------------------------------------------------------------------------------------


class PolicyRow(Struct, frozen=True, kw_only=True):
    """What the program decides about packaging that is given back."""

    return_earner: Literal["returner", "recipient"]
    return_window_days: int | None


POLICY: Final = "SELECT return_earner, return_window_days FROM program WHERE id = $1"
SET_POLICY: Final = "UPDATE program SET return_earner = $2, return_window_days = $3 WHERE id = $1"


async def policy(conn: Connection, program: int) -> PolicyRow:
    """The program's policy."""
    row = await conn.fetchrow(POLICY, program)
    if row is None:
        raise LookupError(f"there is no program {program}")
    return PolicyRow(**row)


async def set_policy(conn: Connection, program: int, policy: PolicyRow) -> None:
    """Change the program's policy; the caller holds the catalogue lock and raises the catalogue's version."""
    await conn.execute(SET_POLICY, program, policy.return_earner, policy.return_window_days)

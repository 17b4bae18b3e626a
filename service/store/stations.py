"""Collection stations, their keys, and what came in on their days.

Whoever changes a station holds the catalogue lock alone, whoever credits shares it: no station changes while a return at it is decided.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from schemas.stations import OpeningHours
from service.domain.stations import Station, Used
from service.store.connection import Connection

# Stations ---------------------------------------------------------------------------------------------


class StationRow(Struct, frozen=True, kw_only=True):
    """A station as administration sees it; `hours` is JSON."""

    id: int
    code: str
    name: str
    platform: int | None
    platform_code: str | None
    time_zone: str
    location: str | None
    hours: str | None
    classes: list[str] | None
    max_units: Decimal | None
    max_mass_g: Decimal | None
    needs_proof: bool
    proof_life_s: int
    late_h: int
    active: bool
    created_at: datetime


class StationValues(Struct, frozen=True, kw_only=True):
    """What of a station can be changed; `hours` is JSON."""

    name: str
    time_zone: str
    location: str | None
    hours: str | None
    classes: list[str] | None
    max_units: Decimal | None
    max_mass_g: Decimal | None
    needs_proof: bool
    proof_life_s: int
    late_h: int
    active: bool


_COLUMNS: Final = """s.id, s.code, s.name, s.platform, p.code AS platform_code, s.time_zone, s.location, s.hours, s.classes, s.max_units,
       s.max_mass_g, s.needs_proof, s.proof_life_s, s.late_h, s.active, s.created_at"""
STATION: Final = f"SELECT {_COLUMNS} FROM station s LEFT JOIN platform p ON p.id = s.platform WHERE s.program = $1 AND s.code = $2"
STATIONS: Final = f"""
SELECT {_COLUMNS} FROM station s LEFT JOIN platform p ON p.id = s.platform WHERE s.program = $1 AND s.code > $2 ORDER BY s.code LIMIT $3
"""
INSERT_STATION: Final = """
INSERT INTO station (
    program, code, platform, public_pem, private_pem,
    name, time_zone, location, hours, classes, max_units, max_mass_g, needs_proof, proof_life_s, late_h, active
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (program, code) DO NOTHING
RETURNING id
"""
UPDATE_STATION: Final = """
UPDATE station
   SET name = $3, time_zone = $4, location = $5, hours = $6, classes = $7, max_units = $8, max_mass_g = $9, needs_proof = $10,
       proof_life_s = $11, late_h = $12, active = $13
 WHERE program = $1 AND id = $2
"""
PROGRAM_ZONE: Final = "SELECT time_zone FROM program WHERE id = $1"
SIGNING: Final = "SELECT private_pem, proof_life_s, late_h, now() FROM station WHERE program = $1 AND id = $2"
READ_STATIONS: Final = """
SELECT id, code, platform, time_zone, hours, classes, max_units, max_mass_g, needs_proof, late_h, active, public_pem
  FROM station
 WHERE program = $1 AND code = ANY($2::text[])
"""
HAS_STATIONS: Final = "SELECT EXISTS (SELECT FROM station WHERE program = $1)"
PLATFORMS: Final = "SELECT code, id FROM platform WHERE program = $1 AND code = ANY($2::text[]) AND active"


async def station(conn: Connection, *, program: int, code: str) -> StationRow | None:
    """A program's station by its code."""
    row = await conn.fetchrow(STATION, program, code)
    return None if row is None else StationRow(**row)


async def stations(conn: Connection, *, program: int, after: str, limit: int) -> list[StationRow]:
    """A program's stations with codes above `after`, by code."""
    return [StationRow(**row) for row in await conn.fetch(STATIONS, program, after, limit)]


async def insert_station(
    conn: Connection, *, program: int, code: str, platform: int | None, public_pem: str, private_pem: str, values: StationValues
) -> int | None:
    """The new station's id, `private_pem` sealed; null when the code is taken."""
    found: int | None = await conn.fetchval(
        INSERT_STATION, program, code, platform, public_pem, private_pem, *msgspec.structs.astuple(values)
    )
    return found


async def update_station(conn: Connection, *, program: int, id_: int, values: StationValues) -> None:
    """Replace all that can change of a station."""
    await conn.execute(UPDATE_STATION, program, id_, *msgspec.structs.astuple(values))


async def program_zone(conn: Connection, program: int) -> str:
    """The program's time zone."""
    found: str = await conn.fetchval(PROGRAM_ZONE, program)
    return found


class Signing(Struct, frozen=True, kw_only=True):
    """What it takes to make a station's tokens; `private_pem` sealed."""

    private_pem: str
    proof_life_s: int
    late_h: int
    now: datetime


async def signing(conn: Connection, *, program: int, id_: int) -> Signing | None:
    """A station's signing key."""
    row = await conn.fetchrow(SIGNING, program, id_)
    return None if row is None else Signing(private_pem=row[0], proof_life_s=row[1], late_h=row[2], now=row[3])


async def active_platforms(conn: Connection, *, program: int, codes: Sequence[str]) -> dict[str, int]:
    """Ids of those of the codes that are active platforms of the program."""
    return {row["code"]: row["id"] for row in await conn.fetch(PLATFORMS, program, codes)}


# For batches of events --------------------------------------------------------------------------------


async def read_stations(conn: Connection, *, program: int, codes: Sequence[str]) -> dict[str, Station]:
    """Those of the codes that are stations of the program, by code. Read under the shared catalogue lock."""
    return {
        row["code"]: Station(
            id=row["id"], code=row["code"], platform=row["platform"], time_zone=row["time_zone"],
            hours=None if row["hours"] is None else msgspec.json.decode(row["hours"], type=OpeningHours),
            classes=None if row["classes"] is None else frozenset(row["classes"]), max_units=row["max_units"],
            max_mass_g=row["max_mass_g"], needs_proof=row["needs_proof"], late_h=row["late_h"], active=row["active"],
            public_pem=row["public_pem"],
        )
        for row in await conn.fetch(READ_STATIONS, program, codes)
    }  # fmt: skip


async def has_stations(conn: Connection, program: int) -> bool:
    """Whether the program has registered any: until then the stations that events name are labels."""
    found: bool = await conn.fetchval(HAS_STATIONS, program)
    return found


# Days -------------------------------------------------------------------------------------------------

StationDay: TypeAlias = tuple[int, int, date]
"""Program, station, day."""

# Sorted like the locks: two batches insert in the same order.
OPEN_DAYS: Final = """
INSERT INTO station_day (program, station, day)
SELECT * FROM unnest($1::int[], $2::int[], $3::date[]) ORDER BY 1, 2, 3
ON CONFLICT DO NOTHING
"""
LOCK_DAYS: Final = """
SELECT d.program, d.station, d.day, d.units, d.mass_g
  FROM station_day d
  JOIN unnest($1::int[], $2::int[], $3::date[]) AS k (program, station, day) USING (program, station, day)
 ORDER BY d.program, d.station, d.day
   FOR NO KEY UPDATE OF d
"""
# The limits are compared once more where it is written; what is taken back always fits.
ADD_DAYS: Final = """
UPDATE station_day d
   SET units = d.units + k.units, mass_g = d.mass_g + k.mass_g
  FROM unnest($1::int[], $2::int[], $3::date[], $4::numeric[], $5::numeric[]) AS k (program, station, day, units, mass_g)
  JOIN station s ON s.id = k.station AND s.program = k.program
 WHERE (d.program, d.station, d.day) = (k.program, k.station, k.day)
   AND (k.units <= 0 OR s.max_units IS NULL OR d.units + k.units <= s.max_units)
   AND (k.mass_g <= 0 OR s.max_mass_g IS NULL OR d.mass_g + k.mass_g <= s.max_mass_g)
RETURNING d.program, d.station, d.day
"""


async def lock_station_days(conn: Connection, keys: Sequence[StationDay]) -> dict[StationDay, Used]:
    """What counted on these days so far, locked in the order of their keys until the transaction ends. Each key once, sorted."""
    columns = _columns(keys)
    await conn.execute(OPEN_DAYS, *columns)
    rows = await conn.fetch(LOCK_DAYS, *columns)
    return {(row["program"], row["station"], row["day"]): Used(units=row["units"], mass_g=row["mass_g"]) for row in rows}


async def add_station_days(conn: Connection, added: Mapping[StationDay, Used]) -> set[StationDay]:
    """Count more (or, negative, less) on days that are locked; those that would exceed a limit, which stay as they were.

    Empty for what `service.domain.stations.allowed` allowed under the lock.
    """
    keys = sorted(added)
    rows = await conn.fetch(ADD_DAYS, *_columns(keys), [added[key].units for key in keys], [added[key].mass_g for key in keys])
    return set(keys) - {tuple(row) for row in rows}


def _columns(keys: Sequence[StationDay]) -> tuple[list[int], list[int], list[date]]:
    return [key[0] for key in keys], [key[1] for key in keys], [key[2] for key in keys]


# Keys -------------------------------------------------------------------------------------------------


class KnownStation(Struct, frozen=True, kw_only=True):
    """An active station behind a key that is neither revoked nor expired."""

    key: int
    station: int
    program: int
    code: str
    platform: int | None
    platform_code: str | None
    sandbox: bool
    expires_at: datetime | None


class StationKey(Struct, frozen=True, kw_only=True):
    """A station's key without the key. `last_used_at` is up to a minute and a half behind."""

    id: int
    hint: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


_KEY: Final = "id, hint, created_at, expires_at, revoked_at, last_used_at"
STATION_BY_KEY: Final = """
SELECT k.id AS key, s.id AS station, s.program, s.code, s.platform, p.code AS platform_code, g.sandbox, k.expires_at
  FROM station_key k JOIN station s ON s.id = k.station JOIN program g ON g.id = s.program LEFT JOIN platform p ON p.id = s.platform
 WHERE k.hash = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now()) AND s.active AND p.active IS NOT FALSE
"""
IS_SANDBOX: Final = "SELECT sandbox FROM program WHERE id = $1"
INSERT_KEY: Final = f"INSERT INTO station_key (station, hash, hint, expires_at) VALUES ($1, $2, $3, $4) RETURNING {_KEY}"
KEY_OF: Final = f"SELECT {_KEY} FROM station_key WHERE station = $1 AND id = $2::bigint"
KEYS: Final = f"SELECT {_KEY} FROM station_key WHERE station = $1 AND id > $2::bigint ORDER BY id LIMIT $3"
REVOKE_KEY: Final = f"""
UPDATE station_key SET revoked_at = coalesce(revoked_at, now()) WHERE station = $1 AND id = $2::bigint RETURNING {_KEY}
"""
# Ending at once is revoking; ending later is expiring, never later than before.
END_KEY: Final = f"""
UPDATE station_key
   SET revoked_at = CASE WHEN $3::interval <= '0' THEN now() END,
       expires_at = CASE WHEN $3::interval <= '0' THEN expires_at ELSE least(expires_at, now() + $3) END
 WHERE station = $1 AND id = $2::bigint AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
RETURNING {_KEY}
"""
# At most once a minute and key, whatever the number of processes; what somebody else is writing is left to the next time.
TOUCH_KEYS: Final = """
WITH due AS (
  SELECT id FROM station_key
   WHERE id = ANY($1::bigint[]) AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
     FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE station_key k SET last_used_at = now() FROM due WHERE k.id = due.id
"""


async def station_by_key(conn: Connection, key_hash: bytes) -> KnownStation | None:
    """The active station, of an active platform if it is of one, behind a key that is neither revoked nor expired."""
    row = await conn.fetchrow(STATION_BY_KEY, key_hash)
    return None if row is None else KnownStation(**row)


async def is_sandbox(conn: Connection, program: int) -> bool:
    """Whether the program is a sandbox."""
    found: bool = await conn.fetchval(IS_SANDBOX, program)
    return found


async def insert_key(conn: Connection, *, station: int, key_hash: bytes, hint: str, expires_at: datetime | None) -> StationKey:
    """The new key."""
    row = await conn.fetchrow(INSERT_KEY, station, key_hash, hint, expires_at)
    assert row is not None
    return StationKey(**row)


async def key_of(conn: Connection, *, station: int, key: int) -> StationKey | None:
    """A station's key, whatever its state."""
    row = await conn.fetchrow(KEY_OF, station, key)
    return None if row is None else StationKey(**row)


async def keys(conn: Connection, station: int, *, after: int, limit: int) -> list[StationKey]:
    """A station's keys with ids above `after`, oldest first, revoked ones too."""
    return [StationKey(**row) for row in await conn.fetch(KEYS, station, after, limit)]


async def revoke_key(conn: Connection, *, station: int, key: int) -> StationKey | None:
    """The key, revoked; a repeat keeps the first time. Null when the station has no such key."""
    row = await conn.fetchrow(REVOKE_KEY, station, key)
    return None if row is None else StationKey(**row)


async def end_key(conn: Connection, *, station: int, key: int, after: timedelta) -> StationKey | None:
    """The key, which ends after this time; null when the station has none of this number or it has ended."""
    row = await conn.fetchrow(END_KEY, station, key, after)
    return None if row is None else StationKey(**row)


async def touch(conn: Connection, keys: list[int]) -> None:
    """Say that these were used just now; never waits for a lock."""
    await conn.execute(TOUCH_KEYS, keys)

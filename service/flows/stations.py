"""Collection stations: registered, changed, given keys and one-time tokens.

A change of a station takes the catalogue lock, so that no return at it is decided meanwhile; the change, its audit row and the raised
version of callers commit together. Random bytes are drawn here.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from secrets import token_bytes
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.events import DecimalInput
from schemas.problems import FieldError
from schemas.stations import OpeningHours, StationAnswer, StationBody, StationKeyAnswer, StationPatch, TokensAnswer, TokensBody
from service.domain import secrets, tokens
from service.domain.errors import InvalidRequest, InvalidState, NotFound, Unavailable
from service.domain.opening_hours import check_hours
from service.domain.stations import MAX_AHEAD, NONCE_BYTES, RESERVED_CODES, nonce_of, sign_token, signing_key
from service.flows.administer import BY_COMMAND, Change
from service.sealing import Sealer, Unsealable
from service.store import audit, locks
from service.store import stations as store
from service.store.callers import raise_version
from service.store.connection import Connection

MAX_BEFORE: Final = timedelta(minutes=5)
"""How long ago the window of a token may begin: a station's clock may be late."""

log = structlog.get_logger("greenpoints.stations")


# Stations ---------------------------------------------------------------------------------------------


async def create_station(
    conn: Connection, body: StationBody, *, sealer: Sealer, program: int, change: Change = BY_COMMAND
) -> StationAnswer:
    """A new station with a key, which the answer shows this once. Raises InvalidRequest, InvalidState (the code is taken)."""
    if body.code in RESERVED_CODES:
        raise InvalidRequest.at("/code", "is an address of its own; choose another")
    async with conn.transaction():
        await locks.lock_catalogue(conn)
        zone = body.time_zone or await store.program_zone(conn, program)
        values = store.StationValues(
            name=body.name, time_zone=zone, location=body.location, hours=_encoded(body.opening_hours), classes=_classes(body.classes),
            max_units=_decimal(body.max_units), max_mass_g=_decimal(body.max_mass_g), needs_proof=body.needs_proof,
            proof_life_s=body.proof_life_s, late_h=body.late_h, active=True,
        )  # fmt: skip
        _check(values)
        private_pem, public_pem = tokens.development_key(token_bytes(32))
        id_ = await store.insert_station(
            conn, program=program, code=body.code, platform=await _platform(conn, program, body.platform), public_pem=public_pem,
            private_pem=sealer.seal(private_pem), values=values,
        )  # fmt: skip
        if id_ is None:
            raise InvalidState(f"There is a station {body.code!r} already.")
        _, key = await _insert_key(conn, program=program, station=id_, expires_at=None)
        made = await find_station(conn, program=program, code=body.code)
        await _finish(conn, program, change, "station.create", body.code, after=_plain(made))
    return msgspec.structs.replace(station_answer(made), api_key=key)


async def change_station(conn: Connection, code: str, patch: StationPatch, *, program: int, change: Change = BY_COMMAND) -> StationAnswer:
    """Change what the patch names; it counts for what is credited from now on. Raises NotFound, InvalidRequest."""
    async with conn.transaction():
        await locks.lock_catalogue(conn)
        before = await find_station(conn, program=program, code=code)
        given = {name: value for name in patch.__struct_fields__ if (value := getattr(patch, name)) is not msgspec.UNSET}
        if "opening_hours" in given:
            given["hours"] = _encoded(given.pop("opening_hours"))
        if "classes" in given:
            given["classes"] = _classes(given["classes"])
        for name in given.keys() & {"max_units", "max_mass_g"}:
            given[name] = _decimal(given[name])
        old = store.StationValues(**{name: getattr(before, name) for name in store.StationValues.__struct_fields__})
        new = msgspec.structs.replace(old, **given)
        _check(new)
        if new == old:
            return station_answer(before)
        await store.update_station(conn, program=program, id_=before.id, values=new)
        after = await find_station(conn, program=program, code=code)
        await _finish(conn, program, change, "station.change", code, before=_plain(before), after=_plain(after))
    return station_answer(after)


async def find_station(conn: Connection, *, program: int, code: str) -> store.StationRow:
    """A program's station. Raises NotFound."""
    found = await store.station(conn, program=program, code=code) if code.isascii() and code.isprintable() else None
    if found is None:
        raise NotFound("There is no such station.")
    return found


def station_answer(row: store.StationRow) -> StationAnswer:
    """A station as it is shown."""
    return StationAnswer(
        code=row.code, name=row.name, platform=row.platform_code, time_zone=row.time_zone, location=row.location,
        opening_hours=None if row.hours is None else msgspec.json.decode(row.hours, type=OpeningHours), classes=row.classes,
        max_units=_text(row.max_units), max_mass_g=_text(row.max_mass_g), needs_proof=row.needs_proof, proof_life_s=row.proof_life_s,
        late_h=row.late_h, active=row.active, created_at=row.created_at,
    )  # fmt: skip


def _check(values: store.StationValues) -> None:
    """Raises InvalidRequest with all that is wrong beyond the types."""
    errors = []
    try:
        ZoneInfo(values.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        errors.append(FieldError(pointer="/time_zone", detail="is not an IANA time zone such as Asia/Shanghai"))
    if values.hours is not None:
        errors += check_hours(msgspec.json.decode(values.hours, type=OpeningHours), "/opening_hours")
    if errors:
        raise InvalidRequest.of(errors)


async def _platform(conn: Connection, program: int, code: str | None) -> int | None:
    if code is None:
        return None
    found = (await store.active_platforms(conn, program=program, codes=[code])).get(code)
    if found is None:
        raise InvalidRequest.at("/platform", "is not a platform of this program")
    return found


# Keys -------------------------------------------------------------------------------------------------


async def create_key(
    conn: Connection, *, program: int, station: str, expires_at: datetime | None = None, change: Change = BY_COMMAND
) -> StationKeyAnswer:
    """One more key of a station, shown in `key` this once. Raises NotFound, InvalidRequest (it has expired already)."""
    async with conn.transaction():
        found = await find_station(conn, program=program, code=station)
        row, key = await _insert_key(conn, program=program, station=found.id, expires_at=expires_at)
        if expires_at is not None and expires_at <= row.created_at:
            raise InvalidRequest.at("/expires_at", "must be in the future")
        after = {"key": row.id, "hint": row.hint, "expires_at": row.expires_at}
        await _finish(conn, program, change, "station_key.create", station, after=after)
    return StationKeyAnswer(**msgspec.structs.asdict(row), key=key)


async def revoke_key(conn: Connection, *, program: int, station: str, key: int, change: Change = BY_COMMAND) -> store.StationKey:
    """Revoke a station's key; every process refuses it within 5 s. A repeat changes nothing. Raises NotFound."""
    async with conn.transaction():
        found = await find_station(conn, program=program, code=station)
        row = await store.revoke_key(conn, station=found.id, key=key)
        if row is None:
            raise NotFound(f"The station has no key {key}.")
        await _finish(conn, program, change, "station_key.revoke", station, after={"key": key, "hint": row.hint})
    return row


async def replace_key(
    conn: Connection, *, program: int, station: str, key: int, keep_old: timedelta, change: Change = BY_COMMAND
) -> StationKeyAnswer:
    """A new key in place of an old one, which ends after `keep_old` (or when it would expire anyway, if that is earlier).

    The answer shows the new key, this once. Each call makes another one. Raises NotFound, InvalidState (the old one has ended).
    """
    async with conn.transaction():
        found = await find_station(conn, program=program, code=station)
        old = await store.end_key(conn, station=found.id, key=key, after=keep_old)
        if old is None:
            if await store.key_of(conn, station=found.id, key=key) is None:
                raise NotFound(f"The station has no key {key}.")
            raise InvalidState(f"Key {key} has ended already; make a new one.")
        row, shown = await _insert_key(conn, program=program, station=found.id, expires_at=None)
        after = {"key": row.id, "hint": row.hint, "old": key, "old_expires_at": old.expires_at}
        await _finish(conn, program, change, "station_key.replace", station, after=after)
    return StationKeyAnswer(**msgspec.structs.asdict(row), key=shown)


async def _insert_key(conn: Connection, *, program: int, station: int, expires_at: datetime | None) -> tuple[store.StationKey, str]:
    key = secrets.station_key(token_bytes(secrets.RANDOM_BYTES), sandbox=await store.is_sandbox(conn, program))
    row = await store.insert_key(
        conn, station=station, key_hash=secrets.token_hash(key), hint=secrets.hint(key), expires_at=expires_at
    )  # fmt: skip
    return row, key


# What a station signs ---------------------------------------------------------------------------------


async def issue_tokens(conn: Connection, body: TokensBody, *, sealer: Sealer, program: int, station: int, code: str) -> TokensAnswer:
    """One-time tokens of a station, all of one window. They are kept nowhere: what counts is that each is used once.

    Raises InvalidRequest (a window beyond the next 24 hours), NotFound, Unavailable (no master key opens the station's key).
    """
    signing, key = await open_signing(conn, sealer=sealer, program=program, station=station)
    asked = body.starts_at or signing.now
    if asked < signing.now - MAX_BEFORE:
        raise InvalidRequest.at("/starts_at", "is past")
    if asked > signing.now + MAX_AHEAD:
        raise InvalidRequest.at("/starts_at", "is more than 24 hours from now")
    begins = asked.astimezone(UTC).replace(microsecond=0)
    ends = begins + timedelta(seconds=body.life_s or signing.proof_life_s)
    if ends > signing.now + MAX_AHEAD:
        raise InvalidRequest.at("/life_s", "leads beyond the next 24 hours")
    made = await asyncio.to_thread(_sign, key, code, begins, ends, body.count)
    return TokensAnswer(station=code, valid_from=begins, valid_until=ends, tokens=made)


def _sign(key: Ed25519PrivateKey, station: str, begins: datetime, ends: datetime, count: int) -> list[str]:
    return [
        sign_token(key, station=station, nonce=nonce_of(token_bytes(NONCE_BYTES)), valid_from=begins, valid_until=ends)
        for _ in range(count)
    ]  # fmt: skip


async def open_signing(conn: Connection, *, sealer: Sealer, program: int, station: int) -> tuple[store.Signing, Ed25519PrivateKey]:
    """A station's private key, and what its tokens are made by. Raises NotFound, Unavailable (no master key opens it)."""
    signing = await store.signing(conn, program=program, id_=station)
    if signing is None:
        raise NotFound("There is no such station.")
    try:
        return signing, signing_key(sealer.open(signing.private_pem))
    except Unsealable as error:
        log.error(f"a station's key cannot be opened: {error}", station=station)  # noqa: TRY400 - its trace says nothing more
        raise Unavailable("The station's key cannot be used at the moment; try again later.") from None


# Common -----------------------------------------------------------------------------------------------


async def _finish(
    conn: Connection, program: int, change: Change, action: str, code: str, *,
    after: dict[str, Any], before: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """The audit row, then the version that makes every process look again (last: it locks one row until the commit)."""
    await audit.record(
        conn, program=program, actor=change.actor, action=action, subject=f"station:{code}", before=before, after=after,
        request_id=change.request_id,
    )  # fmt: skip
    await raise_version(conn)


def _plain(row: store.StationRow) -> dict[str, Any]:
    """A station as JSON-like data, for the audit."""
    plain: dict[str, Any] = msgspec.to_builtins(station_answer(row))
    return plain


def _encoded(hours: OpeningHours | None) -> str | None:
    return None if hours is None else msgspec.json.encode(hours).decode()


def _classes(classes: list[str] | None) -> list[str] | None:
    return None if classes is None else sorted(set(classes))


def _decimal(value: DecimalInput | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _text(value: Decimal | None) -> str | None:
    return None if value is None else f"{value:f}"

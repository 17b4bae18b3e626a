"""Collection stations and their keys: for operators."""

from typing import Any, Final

import msgspec
from litestar import Request, get, patch, post
from litestar.params import FromPath

from schemas.callers import KeyReplacement
from schemas.pages import Page
from schemas.stations import StationAnswer, StationBody, StationKeyAnswer, StationKeyBody, StationPatch
from service.api.bodies import decode_body
from service.api.callers import callers_of
from service.api.changes import change_by
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Name, Position, page_of, read_cursor
from service.api.database import connection
from service.api.platforms import keep_old_of, key_number
from service.domain.roles import MAY
from service.flows import stations
from service.store import stations as store

STATIONS: Final = ["Stations"]

AnyRequest = Request[Any, Any, Any]


@get("/v1/stations", tags=STATIONS, opt={"answer": Page[StationAnswer]})
async def list_stations(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[StationAnswer]:
    """List the program's collection stations by code."""
    caller = await callers_of(request).operator(request, *MAY["stations:read"])
    after = read_cursor(cursor, Name, "")
    async with connection(request) as conn:
        rows = await store.stations(conn, program=caller.program, after=after, limit=limit + 1)
    return page_of(rows, limit, item=stations.station_answer, position=lambda row: row.code)


@post("/v1/stations", tags=STATIONS, opt={"body": StationBody, "answer": StationAnswer})
async def create_station(request: AnyRequest) -> StationAnswer:
    """Register a collection station. The answer shows its key, this once."""
    caller = await callers_of(request).operator(request, *MAY["stations:write"])
    body = await decode_body(request, StationBody)
    async with connection(request) as conn:
        return await stations.create_station(
            conn, body, sealer=request.app.state.resources.sealer, program=caller.program, change=change_by(caller)
        )  # fmt: skip


@get("/v1/stations/{code:str}", tags=STATIONS, opt={"answer": StationAnswer})
async def read_station(request: AnyRequest, code: FromPath[str]) -> StationAnswer:
    """Read one collection station."""
    caller = await callers_of(request).operator(request, *MAY["stations:read"])
    async with connection(request) as conn:
        return stations.station_answer(await stations.find_station(conn, program=caller.program, code=code))


@patch("/v1/stations/{code:str}", tags=STATIONS, opt={"body": StationPatch, "answer": StationAnswer})
async def change_station(request: AnyRequest, code: FromPath[str]) -> StationAnswer:
    """Change a collection station; null lifts a limit. It counts for what is reported from now on."""
    caller = await callers_of(request).operator(request, *MAY["stations:write"])
    body = await decode_body(request, StationPatch)
    async with connection(request) as conn:
        return await stations.change_station(conn, code, body, program=caller.program, change=change_by(caller))


@get("/v1/stations/{code:str}/keys", tags=STATIONS, opt={"answer": Page[StationKeyAnswer]})
async def list_station_keys(
    request: AnyRequest, code: FromPath[str], cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Page[StationKeyAnswer]:
    """List a station's keys without the keys, revoked ones too."""
    caller = await callers_of(request).operator(request, *MAY["stations:read"])
    after = read_cursor(cursor, Position, 0)
    async with connection(request) as conn:
        station = await stations.find_station(conn, program=caller.program, code=code)
        rows = await store.keys(conn, station.id, after=after, limit=limit + 1)
    return page_of(rows, limit, item=_key, position=lambda row: row.id)


@post("/v1/stations/{code:str}/keys", tags=STATIONS, opt={"body": StationKeyBody, "answer": StationKeyAnswer})
async def create_station_key(request: AnyRequest, code: FromPath[str]) -> StationKeyAnswer:
    """Create one more key of a station. The answer shows it, this once."""
    caller = await callers_of(request).operator(request, *MAY["stations:write"])
    body = await decode_body(request, StationKeyBody)
    async with connection(request) as conn:
        return await stations.create_key(
            conn, program=caller.program, station=code, expires_at=body.expires_at, change=change_by(caller)
        )  # fmt: skip


@post("/v1/stations/{code:str}/keys/{key:int}/revoke", tags=STATIONS, status_code=200, opt={"answer": StationKeyAnswer})
async def revoke_station_key(request: AnyRequest, code: FromPath[str], key: FromPath[int]) -> StationKeyAnswer:
    """Revoke a station's key: it is refused everywhere within 5 s. A repeat changes nothing."""
    caller = await callers_of(request).operator(request, *MAY["stations:write"])
    async with connection(request) as conn:
        row = await stations.revoke_key(conn, program=caller.program, station=code, key=key_number(key), change=change_by(caller))
    return _key(row)


@post("/v1/stations/{code:str}/keys/{key:int}/replace", tags=STATIONS, opt={"body": KeyReplacement, "answer": StationKeyAnswer})
async def replace_station_key(request: AnyRequest, code: FromPath[str], key: FromPath[int]) -> StationKeyAnswer:
    """Create a key in place of an old one, which goes on for as long as you say. The answer shows the new key, this once."""
    caller = await callers_of(request).operator(request, *MAY["stations:write"])
    body = await decode_body(request, KeyReplacement)
    keep_old = keep_old_of(body.keep_old)
    async with connection(request) as conn:
        return await stations.replace_key(
            conn, program=caller.program, station=code, key=key_number(key), keep_old=keep_old, change=change_by(caller)
        )  # fmt: skip


def _key(row: store.StationKey) -> StationKeyAnswer:
    return StationKeyAnswer(**msgspec.structs.asdict(row))


routes = [
    list_stations,
    create_station,
    read_station,
    change_station,
    list_station_keys,
    create_station_key,
    revoke_station_key,
    replace_station_key,
]

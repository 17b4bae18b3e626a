"""What a station reports as events of a platform: the translation, pure."""

from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.bounds import MAX_STATION_RETURNS
from schemas.events import PackagingReturned, Return
from schemas.problems import FieldError
from schemas.stations import StationReturn
from service.domain.errors import InvalidRequest
from service.domain.intake import decode_json, invalid, malformed
from service.domain.stations import sign_row

_ITEM: Final = "/returns/0"


def split_rows(body: bytes) -> list[msgspec.Raw]:
    """The rows of a body, not decoded yet. Raises MalformedJson, InvalidRequest (no list, too many)."""
    try:
        rows = msgspec.json.decode(body, type=list[msgspec.Raw])
    except msgspec.ValidationError:
        decode_json(body)
        raise InvalidRequest.at("", "must be a JSON array, one object a return") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None
    if len(rows) > MAX_STATION_RETURNS:
        raise InvalidRequest.at("", f"may have at most {MAX_STATION_RETURNS} returns, this one has {len(rows):,}")
    return rows


def read_row(raw: msgspec.Raw) -> StationReturn:
    """One row. Raises MalformedJson, InvalidRequest with what is wrong with it."""
    decode_json(raw)
    try:
        row = msgspec.json.decode(raw, type=StationReturn)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    errors = []
    if row.class_ is None and row.asset is None:
        errors.append(FieldError(pointer="/class", detail="is required without an asset"))
    if row.consumer is not None and row.consumer_token is not None:
        errors.append(FieldError(pointer="/consumer", detail="is told by the consumer_token"))
    if row.consumer is None and row.consumer_token is None and row.asset is None:
        errors.append(FieldError(pointer="/consumer", detail="is required without an asset, or a consumer_token"))
    if errors:
        raise InvalidRequest.of(errors)
    return row


def event_id(station: str, row: str) -> str:
    """The id of the event that a row becomes, among those of its platform."""
    return f"station:{station}:{row}"


def event_of(row: StationReturn, *, station: str, key: Ed25519PrivateKey, consumer: str | None) -> PackagingReturned:
    """A row as an event, with the station's own proof; the same row gives the same event."""
    item = Return(
        class_=row.class_, asset=row.asset, quantity=row.quantity, mass_g=row.mass_g, waybill=row.waybill, station=station,
        proof=sign_row(key, station=station, row=row.id, occurred_at=row.occurred_at),
    )  # fmt: skip
    return PackagingReturned(
        id=event_id(station, row.id), occurred_at=row.occurred_at, consumer=consumer, returns=[item],
        attributes={} if row.attendant is None else {"attendant": row.attendant},
    )  # fmt: skip


def as_of_row(error: InvalidRequest) -> InvalidRequest:
    """What is wrong with an event, told of the row that it was made of."""
    errors = [FieldError(pointer=each.pointer.removeprefix(_ITEM), detail=each.detail) for each in error.errors]
    return InvalidRequest.of(errors) if errors else error

"""Rows of a bulk import: a JSON array, NDJSON or CSV, each row decoded or refused on its own."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

import msgspec

from schemas.bounds import MAX_IMPORT_COLUMNS, MAX_IMPORT_ROWS
from schemas.plastics import PlasticBody
from schemas.problems import FieldError
from schemas.registries import CertificateBody, ProductBody
from service.domain.errors import InvalidRequest, MalformedJson
from service.domain.pointers import field_error

Format = Literal["json", "ndjson", "csv"]
T = TypeVar("T")
Row = dict[str, str]

_WHOLE = re.compile(r"[0-9]{1,19}", re.ASCII)
_MALFORMED = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


def certificate_rows(body: bytes, format_: Format) -> list[CertificateBody | FieldError]:
    """Certificates, or what is wrong with the row. CSV columns: scheme, number, holder, valid_from, valid_until, gtins (by spaces).

    Raises MalformedJson, InvalidRequest (the whole is no list, has no heading or more than MAX_IMPORT_ROWS rows).
    """
    return _decoded(body, format_, CertificateBody, lambda row: {**row, "gtins": row.get("gtins", "").split()})


def product_rows(body: bytes, format_: Format) -> list[ProductBody | FieldError]:
    """Products, or what is wrong with the row. CSV columns: gtin, name, category, platform, sku; repeat the row for more SKUs.

    Raises as `certificate_rows`.
    """
    return _decoded(body, format_, ProductBody, _with_sku)


def plastic_rows(body: bytes, format_: Format) -> list[PlasticBody | FieldError]:
    """Rows of the plastics ledger, or what is wrong with the row. CSV columns are the fields of `PlasticBody`.

    Raises as `certificate_rows`.
    """
    return _decoded(body, format_, PlasticBody, _with_units)


def _with_units(row: Row) -> dict[str, object]:
    """Cells are text; units are a number."""
    units = row.get("units", "")
    return {**row, "units": int(units)} if _WHOLE.fullmatch(units) else {**row}


def _with_sku(row: Row) -> dict[str, object]:
    sku = {name: row[name] for name in ("platform", "sku") if name in row}
    return {**row, "skus": [sku] if sku else []}


def _decoded(body: bytes, format_: Format, type_: type[T], shape: Callable[[Row], object]) -> list[T | FieldError]:
    match format_:
        case "json":
            return [_from_json(raw, type_) for raw in _bounded(_array(body))]
        case "ndjson":
            return [_from_json(line, type_) for line in _bounded([line for line in body.splitlines() if line.strip()])]
        case "csv":
            return [_from_csv(row, type_, shape) for row in _csv_rows(body)]


def _bounded(rows: list[bytes]) -> list[bytes]:
    if len(rows) > MAX_IMPORT_ROWS:
        raise InvalidRequest(f"An import has at most {MAX_IMPORT_ROWS:,} rows; this one has {len(rows):,}.")
    return rows


def _array(body: bytes) -> list[bytes]:
    try:
        return [bytes(raw) for raw in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except msgspec.ValidationError:
        raise InvalidRequest.at("", "must be a JSON array, one object a row") from None
    except _MALFORMED as error:
        raise MalformedJson(f"The body is not valid JSON: {error}.") from None


def _from_json(raw: bytes, type_: type[T]) -> T | FieldError:
    try:
        return msgspec.json.decode(raw, type=type_)
    except msgspec.ValidationError as error:
        return field_error(error)
    except _MALFORMED as error:
        return FieldError(pointer="", detail=f"is not valid JSON: {error}")


def _csv_rows(body: bytes) -> Iterator[Row | FieldError]:
    """Rows by column name, empty cells left out. A byte order mark (Excel writes one) is fine."""
    try:
        reader = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        heading = [name.strip().lower() for name in next(reader, [])]
        if not any(heading) or len(heading) > MAX_IMPORT_COLUMNS or len(set(heading)) != len(heading):
            raise InvalidRequest(f"The first line of a CSV file names its columns, each once, at most {MAX_IMPORT_COLUMNS}.")
        for count, cells in enumerate(cells for cells in reader if any(cells)):
            if count >= MAX_IMPORT_ROWS:
                raise InvalidRequest(f"An import has at most {MAX_IMPORT_ROWS:,} rows.")
            if len(cells) > len(heading):
                yield FieldError(pointer="", detail=f"has {len(cells)} cells, the heading {len(heading)}")
            else:
                yield {name: cell.strip() for name, cell in zip(heading, cells, strict=False) if cell.strip()}
    except UnicodeDecodeError:
        raise InvalidRequest("A CSV file must be in UTF-8.") from None
    except csv.Error as error:
        raise InvalidRequest(f"The CSV file cannot be read: {error}.") from None


def _from_csv(row: Row | FieldError, type_: type[T], shape: Callable[[Row], object]) -> T | FieldError:
    if isinstance(row, FieldError):
        return row
    try:
        return msgspec.convert(shape(row), type=type_)
    except msgspec.ValidationError as error:
        return field_error(error)

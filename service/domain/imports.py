"""Rows of a bulk import: a JSON array, NDJSON or CSV, each row decoded or refused on its own."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeVar

import msgspec

from schemas.assets import AssetBody
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


def asset_rows(body: bytes, format_: Format) -> list[AssetBody | FieldError]:
    """Assets, or what is wrong with the row. CSV columns: asset, class, max_trips. Raises as `certificate_rows`."""
    return _decoded(body, format_, AssetBody, _with_trips)


def asset_lines(lines: Iterable[str], format_: Literal["ndjson", "csv"]) -> Iterator[AssetBody | FieldError]:
    """Assets from the lines of a file of any size, one by one; undecodable bytes are surrogates, and make their row a refused one.

    Raises InvalidRequest when a CSV file's heading is missing.
    """
    if format_ == "ndjson":
        return (_from_json(line.encode("utf-8", "surrogateescape"), AssetBody) for line in lines if line.strip())
    reader = csv.reader(lines, strict=True)
    return (_from_csv(row, AssetBody, _with_trips) for row in _named_cells(reader, _heading(reader)))


def _with_trips(row: Row) -> dict[str, object]:
    trips = row.get("max_trips", "")
    return {**row, "max_trips": int(trips)} if _WHOLE.fullmatch(trips) else {**row}


def voucher_rows(body: bytes, format_: Format) -> list[str | FieldError]:
    """Voucher codes as texts, or what is wrong with the row. CSV column: code. Raises as `certificate_rows`."""
    return _decoded(body, format_, str, _code_of)


def voucher_lines(lines: Iterable[str], format_: Literal["ndjson", "csv"]) -> Iterator[str | FieldError]:
    """The same from the lines of a file of any size, as `asset_lines`."""
    if format_ == "ndjson":
        return (_from_json(line.encode("utf-8", "surrogateescape"), str) for line in lines if line.strip())
    reader = csv.reader(lines, strict=True)
    return (_from_csv(row, str, _code_of) for row in _named_cells(reader, _heading(reader)))


def _code_of(row: Row) -> object:
    """The cell of the column `code`; a table without it has no text there."""
    return row.get("code")


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
        heading = _heading(reader)
        for count, cells in enumerate(cells for cells in reader if any(cells)):
            if count >= MAX_IMPORT_ROWS:
                raise InvalidRequest(f"An import has at most {MAX_IMPORT_ROWS:,} rows.")
            yield _named(heading, cells)
    except UnicodeDecodeError:
        raise InvalidRequest("A CSV file must be in UTF-8.") from None
    except csv.Error as error:
        raise InvalidRequest(f"The CSV file cannot be read: {error}.") from None


def _heading(reader: Iterator[list[str]]) -> list[str]:
    try:
        heading = [name.strip().lower() for name in next(reader, [])]
        "".join(heading).encode()
    except UnicodeEncodeError:  # undecodable bytes, as surrogates
        raise InvalidRequest("A CSV file must be in UTF-8.") from None
    except csv.Error as error:
        raise InvalidRequest(f"The CSV file cannot be read: {error}.") from None
    if not any(heading) or len(heading) > MAX_IMPORT_COLUMNS or len(set(heading)) != len(heading):
        raise InvalidRequest(f"The first line of a CSV file names its columns, each once, at most {MAX_IMPORT_COLUMNS}.")
    return heading


def _named(heading: list[str], cells: list[str]) -> Row | FieldError:
    """The cells by column name, empty ones left out."""
    if len(cells) > len(heading):
        return FieldError(pointer="", detail=f"has {len(cells)} cells, the heading {len(heading)}")
    return {name: cell.strip() for name, cell in zip(heading, cells, strict=False) if cell.strip()}


def _named_cells(reader: Iterator[list[str]], heading: list[str]) -> Iterator[Row | FieldError]:
    """Row by row; what cannot be read as CSV is a refused row, and reading goes on behind it."""
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield FieldError(pointer="", detail=f"cannot be read as CSV: {error}")
        else:
            if any(cells):
                yield _named(heading, cells)


def _from_csv(row: Row | FieldError, type_: type[T], shape: Callable[[Row], object]) -> T | FieldError:
    if isinstance(row, FieldError):
        return row
    try:
        return msgspec.convert(shape(row), type=type_)
    except msgspec.ValidationError as error:
        return field_error(error)

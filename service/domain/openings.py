"""Opening balances: rows of an import, read one by one from a file of any size, and what is wrong with them."""

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import IO, Final, Literal, NamedTuple

import msgspec

from schemas.bounds import MAX_IMPORT_COLUMNS, MAX_IMPORT_LINE_CHARS
from schemas.openings import OpeningBody
from schemas.problems import FieldError
from service.domain.errors import InvalidRequest, MalformedJson
from service.domain.pointers import field_error

COLUMNS: Final = ("id", "consumer", "points", "expires_on")
"""A CSV file must have them, `earned_at` it may have; others are ignored."""
FIRST_YEAR: Final = 1970
CLOCK_SLACK: Final = timedelta(minutes=5)

Format = Literal["json", "ndjson", "csv"]

_WHOLE = re.compile(r"[0-9]{1,19}", re.ASCII)
_MALFORMED = (msgspec.DecodeError, RecursionError, UnicodeError)
_decoder = msgspec.json.Decoder(OpeningBody)
_encode = msgspec.json.Encoder().encode


class OpeningRow(NamedTuple):
    """A row of the file (numbered from 0, a heading not counted), read or refused."""

    row: int
    body: OpeningBody | FieldError


def bounded_lines(file: IO[str]) -> Iterator[str]:
    """The lines of a file. One that is too long comes in pieces, each refused: whatever a file holds, a row is all that is in memory."""
    while line := file.readline(MAX_IMPORT_LINE_CHARS):
        yield line


def rows_of_array(body: bytes) -> Iterator[OpeningRow]:
    """Rows of a JSON array. Raises MalformedJson, InvalidRequest (it is no array)."""
    try:
        raws = msgspec.json.decode(body, type=list[msgspec.Raw])
    except msgspec.ValidationError:
        raise InvalidRequest.at("", "must be a JSON array, one object a row") from None
    except _MALFORMED as error:
        raise MalformedJson(f"The body is not valid JSON: {error}.") from None
    for row, raw in enumerate(raws):
        yield OpeningRow(row, _from_json(bytes(raw)))


def rows_of_ndjson(lines: Iterable[str]) -> Iterator[OpeningRow]:
    """Rows of NDJSON, empty lines left out. Undecodable bytes (as surrogates) make their row a refused one."""
    filled = (line for line in lines if line.strip())
    for row, line in enumerate(filled):
        yield OpeningRow(row, _from_json(line.encode("utf-8", "surrogateescape")))


def rows_of_csv(lines: Iterable[str]) -> Iterator[OpeningRow]:
    """Rows of CSV; empty cells are absent values. What cannot be read as CSV is a refused row, and reading goes on behind it.

    Raises InvalidRequest when the heading is missing or lacks a column.
    """
    reader = csv.reader(lines, strict=True)
    heading = _heading(reader)
    row = 0
    while True:
        body: OpeningBody | FieldError
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            body = FieldError(pointer="", detail=f"cannot be read as CSV: {error}")
        else:
            if not any(cells):
                continue
            body = _from_cells(heading, cells)
        yield OpeningRow(row, body)
        row += 1


def _heading(reader: Iterator[list[str]]) -> list[str]:
    try:
        heading = [name.strip().lstrip("\ufeff").lower() for name in next(reader, [])]
        "".join(heading).encode()
    except UnicodeEncodeError:  # undecodable bytes, as surrogates
        raise InvalidRequest("A CSV file must be in UTF-8.") from None
    except csv.Error as error:
        raise InvalidRequest(f"The CSV file cannot be read: {error}.") from None
    if not any(heading) or len(heading) > MAX_IMPORT_COLUMNS or len(set(heading)) != len(heading):
        raise InvalidRequest(f"The first line of a CSV file names its columns, each once, at most {MAX_IMPORT_COLUMNS}.")
    if missing := [name for name in COLUMNS if name not in heading]:
        raise InvalidRequest(f"The CSV file lacks the column {missing[0]}; it needs {', '.join(COLUMNS)}.")
    return heading


def _from_cells(heading: list[str], cells: list[str]) -> OpeningBody | FieldError:
    if len(cells) > len(heading):
        return FieldError(pointer="", detail=f"has {len(cells)} cells, the heading {len(heading)}")
    values: dict[str, object] = {name: cell.strip() for name, cell in zip(heading, cells, strict=False) if cell.strip()}
    values.setdefault("expires_on", None)
    points = values.get("points")
    if isinstance(points, str) and _WHOLE.fullmatch(points):
        values["points"] = int(points)
    try:
        return msgspec.convert(values, OpeningBody)
    except msgspec.ValidationError as error:
        return field_error(error)


def _from_json(raw: bytes) -> OpeningBody | FieldError:
    try:
        return _decoder.decode(raw)
    except msgspec.ValidationError as error:
        return field_error(error)
    except _MALFORMED as error:
        return FieldError(pointer="", detail=f"is not valid JSON: {error}")


# Judging ------------------------------------------------------------------------------------------------


def timeless_error(body: OpeningBody) -> FieldError | None:
    """What is wrong with a row whenever it comes, so that even a repeat of it is refused."""
    if body.earned_at is not None and not FIRST_YEAR <= body.earned_at.year <= date.max.year - 1:
        return FieldError(pointer="/earned_at", detail=f"must not be before {FIRST_YEAR}")
    return None


def new_error(body: OpeningBody, *, now: datetime, today: date) -> FieldError | None:
    """What is wrong with a row that is new now; a repeat stays good when its last day has passed since."""
    if body.expires_on is not None and body.expires_on < today:
        return FieldError(pointer="/expires_on", detail="is over: these points could never be spent")
    if body.earned_at is not None and body.earned_at > now + CLOCK_SLACK:
        return FieldError(pointer="/earned_at", detail="must not be in the future")
    return None


def content_hash(body: OpeningBody) -> bytes:
    """Of the values, however the row was written; the id is not part of it."""
    earned_at = None if body.earned_at is None else body.earned_at.astimezone(UTC)
    return hashlib.sha256(_encode((body.consumer, body.points, body.expires_on, earned_at))).digest()

"""Lines of labels: which reported events were fraud."""

from collections.abc import Iterable, Iterator

import msgspec
from msgspec import UNSET, Struct, UnsetType

from schemas.base import Code, Key
from schemas.problems import FieldError


class LabelRow(Struct, frozen=True, kw_only=True):
    """An event by its platform's code and its id there, and what it was. Other fields of a line are ignored.

    `fraud` may be left out where `pattern` says which fraud it was (null: none), as in the labels of simulated traffic.
    """

    platform: Code
    event: Key
    fraud: bool | UnsetType = UNSET
    pattern: str | UnsetType | None = UNSET

    @property
    def is_fraud(self) -> bool:
        """What it was."""
        return self.pattern is not None if self.fraud is UNSET else self.fraud


_decode = msgspec.json.Decoder(LabelRow).decode


def label_lines(lines: Iterable[str]) -> Iterator[LabelRow | FieldError]:
    """Rows of NDJSON, empty lines left out; what is wrong in place of one that cannot be read."""
    return (_row(line) for line in lines if line.strip())


def _row(line: str) -> LabelRow | FieldError:
    try:
        row = _decode(line.encode("utf-8", "surrogateescape"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return FieldError(pointer="", detail=str(error))
    if row.fraud is UNSET and row.pattern is UNSET:
        return FieldError(pointer="/fraud", detail="is missing: true or false")
    return row

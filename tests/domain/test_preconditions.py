"""If-Match as RFC 9110 §13.1.1 has it."""

import pytest

from schemas.bounds import MAX_IF_MATCH_CHARS
from service.domain.errors import PreconditionFailed
from service.domain.preconditions import check, matches

TAG = '"3-7"'


@pytest.mark.parametrize("value", ['"3-7"', "*", " * ", '"1-1", "3-7"', '"1-1","3-7","9-9"', ', ,"3-7",', 'W/"3-7", "3-7"', '"a,b", "3-7"'])
def test_a_change_goes_on(value: str) -> None:
    assert matches(value, TAG)


@pytest.mark.parametrize(
    "value",
    [
        "",
        '"3-8"',
        'W/"3-7"',
        'w/"3-7"',
        "3-7",
        "'3-7'",
        '"3-7',
        '"1-1" "3-7"',
        '*, "3-7"',
        '"x,"3-7","',
        '"3-7"x',
        '"1-1",' * MAX_IF_MATCH_CHARS + TAG,
    ],
)
def test_a_change_stops(value: str) -> None:
    assert not matches(value, TAG)
    with pytest.raises(PreconditionFailed):
        check(value, TAG)


def test_without_a_condition_every_change_goes_on() -> None:
    check(None, TAG)

"""GTINs however they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.gtin import normalise_gtin


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("06901234567892", "06901234567892"),
        ("6901234567892", "06901234567892"),
        ("6-901234-567892", "06901234567892"),
        (" 6901234567892 ", "06901234567892"),
        ("036000291452", "00036000291452"),
        ("96385074", "00000096385074"),
        ("(01)06901234567892", "06901234567892"),
        ("(01)06901234567892(10)ABC", "06901234567892"),
        ("0106901234567892", "06901234567892"),
        ("https://id.gs1.org/01/06901234567892", "06901234567892"),
        ("https://example.com/01/9780345418913/10/ABC", "09780345418913"),
    ],
)
def test_becomes_14_digits(text: str, normalised: str) -> None:
    assert normalise_gtin(text) == normalised


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "123",
        "06901234567890",
        "690123456789",
        "９７８０３４５４１８９１３",
        "x" * 600,
        "http://[",
        "(01)06901234567890",
        "0" * 20,
        "6901234567892\x00",
    ],
)
def test_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a GTIN"):
        normalise_gtin(text)


@given(st.integers(0, 10**13 - 1))
def test_exactly_one_check_digit_is_right(body: int) -> None:
    right = []
    for digit in range(10):
        try:
            right.append(normalise_gtin(f"{body:013d}{digit}"))
        except ValueError:
            continue
    assert len(right) == 1
    weighted = sum(int(d) * (3 if i % 2 == 0 else 1) for i, d in enumerate(right[0][:13]))
    assert (weighted + int(right[0][13])) % 10 == 0


@given(st.text(max_size=40))
def test_any_text_is_a_gtin_or_refused(text: str) -> None:
    try:
        normalised = normalise_gtin(text)
    except ValueError:
        return
    assert len(normalised) == 14
    assert normalised.isdigit()

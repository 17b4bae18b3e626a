"""Rows of the plastics ledger: what they mean, which entries they make, what is refused; and the report's bytes."""

import csv
import io
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from schemas.plastics import PlasticBody
from service.domain import imports
from service.domain.errors import InvalidRequest, InvalidState
from service.domain.plastics import Book, Content, Sum, as_csv, as_json, content_of, grams, half_year, make_report, period_of

ROW: dict[str, Any] = {"id": "r", "period": "2026H1", "class": "plastic_mailer", "kind": "used", "mass_g": "12.5"}
TODAY = date(2026, 7, 1)


def content(**changes: Any) -> Content:
    row = {name: value for name, value in (ROW | changes).items() if value is not None}
    return content_of(msgspec.json.decode(msgspec.json.encode(row), type=PlasticBody))


def book(*rows: tuple[str, Content], closed: tuple[str, ...] = (), today: date = TODAY) -> Book:
    """As it stands after these rows; periods are closed afterwards."""
    made = Book([], lines=[], closed=[], today=today)
    for row, said in rows:
        made.take(row, said)
    current = {entry.row: entry for entry in made.entries if not entry.reversal}
    return Book(current.values(), lines=[], closed=closed, today=today)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2026H1", date(2026, 1, 1), date(2026, 6, 30)), ("2026H2", date(2026, 7, 1), date(2026, 12, 31)),
        ("2026-01-01/2026-03-31", date(2026, 1, 1), date(2026, 3, 31)), ("2024-02-29/2024-02-29", date(2024, 2, 29), date(2024, 2, 29)),
        ("2000H1", date(2000, 1, 1), date(2000, 6, 30)), ("9999H2", date(9999, 7, 1), date(9999, 12, 31)),
    ],
)  # fmt: skip
def test_a_period_is_a_half_year_or_days_of_one(text: str, first: date, last: date) -> None:
    period = period_of(text)
    assert (period.first, period.last) == (first, last)
    assert half_year(period.half).first <= first <= last <= half_year(period.half).last


@pytest.mark.parametrize(
    "text",
    [
        "2026H3", "2026H0", "1999H2", "0000H1", "2026", "H1", "2026h1", "2026H1 ", "٢٠٢٦H1", "2026-06-30/2026-07-01", "2026-03-02/2026-03-01",
        "2026-02-30/2026-03-01", "2026-01-01", "2026-01-01/2026-03-31/2026-04-01", "1999-01-01/1999-02-01", "20260101/20260331", "",
    ],
)  # fmt: skip
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        period_of(text)


def test_the_same_values_are_the_same_content_however_they_are_written() -> None:
    said = content(units=3)
    assert content(units=3, mass_g="12.500") == said
    assert content(units=3, mass_g=None, mass_kg="0.0125") == said
    assert content(units=3, period="2026-01-01/2026-06-30") == said
    assert content(mass_g=12) == content(mass_g="12.0") == content(mass_g=None, mass_kg="0.012")
    (row,) = imports.plastic_rows(b"id,period,class,kind,mass_kg,units,merchant\r\nr,2026H1,plastic_mailer,used,0.0125,3,\r\n", "csv")
    assert isinstance(row, PlasticBody)
    assert content_of(row) == said
    assert content(mass_g="-0", corrects="x").mass_g == 0
    assert content(mass_g=None, mass_kg="123456789.123456").mass_g == Decimal("123456789123.456")


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"mass_g": None}, "/mass_g"), ({"mass_kg": "1"}, "/mass_g"), ({"mass_g": "-1"}, "/mass_g"), ({"mass_g": None, "mass_kg": -1}, "/mass_kg"),
        ({"class": "circular_box"}, "/class"), ({"class": "no-such-class"}, "/class"), ({"period": "2026H3"}, "/period"),
        ({"period": "2026-06-01/2026-07-31"}, "/period"),
    ],
)  # fmt: skip
def test_what_a_row_must_not_say(changes: dict[str, Any], pointer: str) -> None:
    changes = {"period": ROW["period"]} | changes
    with pytest.raises((InvalidRequest, msgspec.ValidationError)) as caught:
        content(**changes)
    if isinstance(caught.value, InvalidRequest):
        assert [error.pointer for error in caught.value.errors] == [pointer]
    else:
        assert pointer.replace("/", "$.") in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"mass_g": 1.5}, {"mass_g": "1e3"}, {"mass_g": "1.2345"}, {"mass_g": "1,5"}, {"mass_g": "NaN"}, {"mass_g": ""}, {"mass_g": "1\n"},
        {"mass_g": "1234567890123"}, {"mass_g": 10**12 + 1}, {"mass_g": True}, {"mass_kg": 10**9 + 1, "mass_g": None}, {"units": -1},
        {"units": 1.0}, {"kind": "burnt"}, {"id": ""}, {"id": "a\x00"}, {"merchant": "a\u2028"}, {"note": "x" * 257}, {"class": "A b"},
    ],
)  # fmt: skip
def test_what_cannot_be_read(changes: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        content(**changes)


def test_a_correction_takes_the_entry_before_back() -> None:
    made = Book([], lines=[], closed=[], today=TODAY)
    said = [made.take("r", content(units=2)), made.take("r", content(units=2)), made.take("r", content(mass_g="20", merchant="m"))]
    assert said == ["created", "unchanged", "updated"]
    found = [(e.revision, e.reversal, e.content.mass_g, e.content.units, e.content.merchant) for e in made.entries]
    assert found == [
        (1, False, Decimal("12.5"), 2, None),
        (1, True, Decimal("-12.5"), -2, None),
        (2, False, Decimal(20), None, "m"),
    ]


def test_a_closed_period_takes_nothing_and_gives_nothing_away() -> None:
    made = book(("r", content()), closed=("2026H1",))
    assert made.take("r", content()) == "unchanged", "a repeat stays good"
    for row, said in (("r", content(mass_g="13")), ("new", content()), ("r", content(period="2026H2"))):
        with pytest.raises(InvalidState) as caught:
            made.take(row, said)
        assert [error.pointer for error in caught.value.errors] == ["/period"]
    assert made.entries == []


def test_a_period_that_has_not_begun_is_refused() -> None:
    made = book(today=date(2026, 6, 30))
    for period in ("2026H2", "2026-07-01/2026-07-01"):
        with pytest.raises(InvalidRequest, match="has not begun"):
            made.take("r", content(period=period))
    assert made.take("r", content(period="2026-06-30/2026-06-30")) == "created"


def test_what_was_reported_of_a_closed_period_is_taken_back_in_an_open_one() -> None:
    made = book(("r", content(mass_g="10")), closed=("2026H1",))
    back = {"period": "2026H2", "corrects": "r"}
    assert made.take("c1", content(mass_g="-4", **back)) == "created"
    assert made.take("c2", content(mass_g="-6", **back)) == "created"
    for row in ("c3", "c1"):
        with pytest.raises(InvalidRequest, match=r"has [04] g left"):
            made.take(row, content(mass_g="-4.001", **back))
    assert made.take("c1", content(mass_g="-3", **back)) == "updated"
    assert made.take("c3", content(mass_g="-1", **back)) == "created"
    assert made.take("more", content(mass_g="5", **back)) == "created"
    assert sum(entry.content.mass_g for entry in made.entries) == Decimal(-5)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"corrects": "nobody"}, "is no row"), ({"corrects": "open"}, "is a row of an open period"), ({"corrects": "c"}, "is no row"),
        ({"corrects": "r", "kind": "collected", "mass_g": "-1"}, "another class"), ({"corrects": "r", "merchant": "m", "mass_g": "-1"}, "another class"),
        ({"corrects": "r", "class": "foam_box", "mass_g": "-1"}, "another class"),
    ],
)  # fmt: skip
def test_a_correction_names_what_it_corrects(changes: dict[str, Any], what: str) -> None:
    made = book(("r", content()), ("open", content(period="2026H2")), closed=("2026H1",))
    with pytest.raises(InvalidRequest, match=what) as caught:
        made.take("c", content(period="2026H2", **changes))
    assert [error.pointer for error in caught.value.errors] == ["/corrects"]
    assert made.entries == []


@pytest.mark.parametrize(
    ("mass", "text"),
    [("0", "0"), ("0.000", "0"), ("-0.000", "0"), ("1000", "1000"), ("12.500", "12.5"), ("-1.000", "-1"), ("1E+3", "1000")],
)
def test_masses_are_written_without_needless_zeros(mass: str, text: str) -> None:
    assert grams(Decimal(mass)) == text


def test_the_report_does_not_depend_on_the_order_of_its_rows() -> None:
    sums = [
        Sum(platform=p, class_=c, merchant=m, used_g=Decimal("1.5"), collected_g=Decimal(n))
        for n, (p, c, m) in enumerate(
            [("b", "tape_60mm", None), ("a", "foam_box", "=1+1"), ("a", "foam_box", None), ("b", "foam_box", "é,\n")]
        )
    ]
    none = Sum(platform="c", class_="foam_box", merchant=None, used_g=Decimal(), collected_g=Decimal("0.000"))
    reports = [
        make_report(order, {"z": Decimal(7), "a": Decimal(1)}, period=half_year("2026H1"), time_zone="UTC", closed_at=None)
        for order in ([*sums, none], [none, *reversed(sums)])
    ]
    assert as_json(reports[0]) == as_json(reports[1])
    assert as_csv(reports[0]) == as_csv(reports[1])
    assert [(p.platform, len(p.lines), p.avoided_g) for p in reports[0].platforms] == [
        ("a", 2, "1"), ("b", 2, "0"), ("c", 0, "0"), ("z", 0, "7"),
    ]  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(as_csv(reports[0]).decode(), newline="")))
    assert [row["level"] for row in rows] == ["line", "line", "platform", "line", "line", "platform", "platform", "platform", "total"]
    assert {row["merchant"] for row in rows} == {"", "'=1+1", "é,\n"}, "no cell is a formula"
    assert rows[-1] == {
        "period": "2026H1", "level": "total", "platform": "", "class": "", "merchant": "", "used_g": "6", "collected_g": "6", "avoided_g": "8",
        "difference_g": "0",
    }  # fmt: skip

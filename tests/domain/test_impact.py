"""Impact: the reference list keeps its own rules, the page's worked examples are what is recorded, and waste never records CO2e."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import OrderFulfilled, OrderPaid, PackagingReturned
from schemas.impact import ImpactRecord
from service.domain.catalogue import Program
from service.domain.errors import InvalidRequest
from service.domain.factors import COMPILED, REFERENCE, OwnFactors, compile_own
from service.domain.impact import MAX_GRAMS, METHODS, WHOLLY_PLASTIC, impact_of, report_days
from service.domain.packaging import CLASS_CODES
from service.domain.products import Standing
from service.domain.things import Thing, item_thing, line_thing, packaging_thing
from tests.docs.test_reference import rows

AT = "2026-01-01T00:00:00Z"
FACTOR: dict[str, Any] = {
    "id": "own", "what": "w", "unit": "item", "co2e_kg": {"low": "0.1", "central": "0.2", "high": "0.3"}, "plastic_g": "5", "method": "own",
    "region": "CN", "vintage": 2026, "usable_for": ["avoidance"], "source": "s", "verification": "primary",
}  # fmt: skip


def program(*factors: dict[str, Any]) -> Program:
    """With own factors, all in force from 2026 on; later ones of an id are newer versions."""
    versions: dict[str, Any] = {}
    for factor in factors:
        known = versions.get(factor["id"], ())
        start = datetime.fromisoformat(factor.get("effective_from", AT))
        versions[factor["id"]] = (compile_own(len(known) + 1, start, json.dumps(factor)), *known)
    return Program(id=1, code="p", zone=ZoneInfo("Asia/Shanghai"), impact_factors=OwnFactors(versions=versions))


def thing(said: dict[str, Any], at: str = AT) -> Thing:
    """The packaging of an order, or the first returned item."""
    if "packaging" in said:
        fulfilled = msgspec.convert({"id": "e", "occurred_at": at, "order": {"id": "o"}, "type": "order.fulfilled", **said}, OrderFulfilled)
        assert fulfilled.packaging is not None
        return packaging_thing(fulfilled, fulfilled.packaging, "shop")
    returned = msgspec.convert({"id": "e", "occurred_at": at, "consumer": "c", "type": "packaging.returned", **said}, PackagingReturned)
    return item_thing(returned, returned.returns[0], 0, "shop")


def returned(class_: str, **more: Any) -> Thing:
    return thing({"returns": [{"class": class_, **more}]})


# The reference list --------------------------------------------------------------------------------------


def test_only_what_was_verified_is_in_the_list() -> None:
    assert len(REFERENCE) == 65
    assert {factor.verification for factor in REFERENCE.values()} == {"primary", "secondary"}
    derived = {"act.avoid_corrugated_overbox", "act.reuse_carton", "act.recycle_carton", "act.avoid_plastic_bag_10g", "act.e_receipt"}
    assert not derived & REFERENCE.keys()


@pytest.mark.parametrize("id_", sorted(REFERENCE))
def test_a_factor_is_whole(id_: str) -> None:
    factor = REFERENCE[id_]
    assert factor.what
    assert factor.unit
    assert factor.method
    assert factor.source
    assert factor.usable_for
    assert set(factor.usable_for) <= {"avoidance", "display", "mass_only", "conditional", "report", "context"}
    if not id_.startswith("mass.collected"):  # what the event reports, wherever that was
        assert factor.region
        assert factor.vintage is not None
        assert 2015 <= factor.vintage <= 2026
    known = [Decimal(value) for value in (factor.co2e_kg.low, factor.co2e_kg.central, factor.co2e_kg.high) if value is not None]
    assert known == sorted(known)
    assert known or factor.plastic_g is not None
    if "mass_only" in factor.usable_for:
        assert not known
    if "recycl" in factor.method.lower():
        assert "avoidance" not in factor.usable_for, "a credit for recycling is no avoidance"


def test_board_is_what_the_workbook_says() -> None:
    board = REFERENCE["mat.board.primary.uk2025"]
    assert (board.co2e_kg.central, board.vintage, board.region, board.verification) == ("1.19973", 2025, "GB", "primary")


@pytest.mark.parametrize("key", sorted(METHODS))
def test_a_method_stands_on_factors_that_allow_it(key: tuple[str, str]) -> None:
    method = METHODS[key]
    assert key[1] in CLASS_CODES
    assert COMPILED[method.masses].plastic_g is not None
    factor = COMPILED[method.factor]
    if factor.avoids:
        assert factor.unit == "kg", "grams of material are multiplied"
        assert method.bounds is not None
        low, high = (COMPILED[id_] for id_ in method.bounds)
        assert (low.unit, high.unit, low.avoids, high.avoids) == ("kg", "kg", True, True)
        assert low.central is not None
        assert factor.central is not None
        assert high.central is not None
        assert low.central <= factor.central <= high.central
    else:
        assert factor.id == method.masses


def test_classes_of_plastic_are_classes() -> None:
    assert WHOLLY_PLASTIC <= CLASS_CODES


# What is recorded ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", rows("impact.md", "thing"), ids=lambda cells: cells[0])
def test_the_worked_examples_are_right(cells: list[str]) -> None:
    said, factor, co2e, plastic = (cell.strip("`") for cell in cells)
    record = impact_of(thing(json.loads(said)), program())
    if record is None:
        assert (factor, co2e, plastic) == ("–", "–", "–")
        return
    grams = record.co2e_g
    shown = "–" if grams is None else f"{grams.low}, {grams.central}, {grams.high}"
    assert (record.factor, shown, str(record.plastic_g)) == (factor, co2e, plastic)
    assert record.source == REFERENCE[factor].source


def test_every_class_with_a_record_is_on_the_page() -> None:
    shown = set()
    for said, factor, *_ in rows("impact.md", "thing"):
        part = json.loads(said.strip("`"))
        action = "packaging" if "packaging" in part else "return"
        if factor != "–":
            shown.add((action, part["packaging"]["class"] if action == "packaging" else part["returns"][0]["class"]))
    assert shown >= METHODS.keys()


def test_lines_and_activities_record_nothing() -> None:
    paid = msgspec.convert(
        {"id": "e", "type": "order.paid", "occurred_at": AT, "consumer": "c", "order": {"id": "o", "currency": "CNY", "total": "1.00"},
         "lines": [{"id": "1"}], "packaging": {"class": "ship_in_own_container"}}, OrderPaid,
    )  # fmt: skip
    standing = Standing(
        certified=False, schemes=[], known_schemes=[], gtin="", category="", code="", detail="", certificate=None, contradictory=False
    )
    line = line_thing(paid, paid.lines[0], standing, "shop")
    assert line.packaging is not None
    assert impact_of(line, program()) is None


_mass = st.decimals(min_value=0, max_value=10**12 - 1, places=3).map(str)
_classes = st.sampled_from(sorted(CLASS_CODES | {"of-our-own"}))
_everywhere = [{"action": "return", "class": class_} for class_ in sorted(CLASS_CODES | {"of-our-own"})]


@given(class_=_classes, quantity=_mass, mass_g=st.none() | _mass, unit=st.sampled_from(["none", "item", "kg"]))
def test_waste_never_records_co2e(class_: str, quantity: str, mass_g: str | None, unit: str) -> None:
    own = program() if unit == "none" else program(FACTOR | {"unit": unit, "applies_to": _everywhere})
    said = {"quantity": quantity} | ({} if mass_g is None else {"mass_g": mass_g})
    record = impact_of(returned(class_, **said), own)
    if record is not None:
        assert record.co2e_g is None
        assert 0 <= record.plastic_g <= MAX_GRAMS
        if unit == "none":
            assert mass_g is not None
            assert record.mass_g == int(Decimal(mass_g))
            assert record.plastic_g in (0, record.mass_g)


@given(class_=_classes, parcels=st.integers(1, 1_000))
def test_a_range_is_in_order_and_no_more_than_its_source_says(class_: str, parcels: int) -> None:
    record = impact_of(thing({"packaging": {"class": class_, "parcels": parcels}}), program())
    if record is not None and record.co2e_g is not None:
        grams = record.co2e_g
        assert grams.low is not None
        assert grams.central is not None
        assert grams.high is not None
        assert 0 <= grams.low <= grams.central <= grams.high
        assert grams.central <= Decimal("1.19973") * 304 * parcels


def test_what_nobody_could_have_weighed_is_not_recorded() -> None:
    own = program(FACTOR | {"plastic_g": "999999", "applies_to": [{"action": "return", "class": "foam_box"}]})
    assert impact_of(returned("foam_box", quantity="999999999999"), own) is None


# A program's own factors ---------------------------------------------------------------------------------


def recorded(found: ImpactRecord | None) -> ImpactRecord:
    assert found is not None
    return found


def test_an_own_factor_counts_in_place_of_the_reference_from_its_time_on() -> None:
    use = [{"action": "return", "class": "circular_box"}]
    own = program(FACTOR | {"applies_to": use}, FACTOR | {"plastic_g": "7", "applies_to": use, "effective_from": "2026-06-01T00:00:00Z"})
    said = {"returns": [{"class": "circular_box", "asset": "a"}]}
    seen = {at: recorded(impact_of(thing(said, at), own)) for at in ("2025-12-31T23:59:59Z", AT, "2026-06-01T00:00:00Z")}
    assert [(r.factor, r.version, r.plastic_g) for r in seen.values()] == [
        ("mass.corrugated_parcel.cn2018", 0, 19), ("own", 1, 5), ("own", 2, 7),
    ]  # fmt: skip
    assert recorded(impact_of(thing(said), own)).co2e_g == msgspec.convert({"low": 100, "central": 200, "high": 300}, type(seen[AT].co2e_g))


def test_a_correction_of_a_reference_factor_brings_its_own_range() -> None:
    board = FACTOR | {"id": "mat.board.primary.uk2025", "unit": "kg", "plastic_g": None, "co2e_kg": {"central": "2"}}
    record = recorded(impact_of(thing({"packaging": {"class": "ship_in_own_container"}}), program(board)))
    assert (record.version, record.co2e_g) == (1, msgspec.convert({"low": None, "central": 608, "high": None}, type(record.co2e_g)))
    assert record.bounds is msgspec.UNSET


def test_a_factor_whose_method_does_not_allow_it_gives_no_co2e() -> None:
    own = program(FACTOR | {"usable_for": ["report"], "applies_to": [{"action": "return", "class": "circular_box"}]})
    record = recorded(impact_of(returned("circular_box", asset="a"), own))
    assert (record.co2e_g, record.plastic_g) == (None, 5)


def test_a_factor_per_kilogram_needs_a_mass() -> None:
    own = program(FACTOR | {"unit": "kg", "applies_to": [{"action": "return", "class": "circular_bag"}]})
    assert impact_of(returned("circular_bag", asset="a"), own) is None
    record = recorded(impact_of(returned("circular_bag", asset="a", mass_g="2500.9"), own))
    assert (record.mass_g, record.plastic_g, recorded(record).co2e_g) == (
        2500, 12, msgspec.convert({"low": 250, "central": 500, "high": 750}, type(record.co2e_g)),
    )  # fmt: skip


# The report's days ---------------------------------------------------------------------------------------


def test_a_report_without_days_is_of_the_last_year() -> None:
    today = datetime(2026, 3, 1, tzinfo=UTC).date()
    assert report_days(None, None, today=today) == (date(2025, 3, 1), date(2026, 3, 2))
    assert report_days(date(2026, 1, 1), None, today=today) == (date(2026, 1, 1), date(2026, 3, 2))
    assert report_days(None, date.min, today=today) == (date.min, date.min)


def test_a_report_ends_after_it_begins() -> None:
    with pytest.raises(InvalidRequest):
        report_days(date(2026, 1, 2), date(2026, 1, 1), today=date(2026, 1, 1))

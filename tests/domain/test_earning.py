"""Awards in exact arithmetic, against fractions."""

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.campaigns import Fixed, Multiplier, PerAmount, PerKg, PerUnit, Rounding, Tier, Tiered
from service.domain.earning import MAX_POINTS, CurrencyMismatch, multiplied, points_for

POINTS = st.integers(1, 10**9)
MONEY = st.decimals(0, 10**9, places=6)
QUANTITY = st.decimals(0, 10**6, places=6)
ROUNDINGS: list[Rounding] = ["floor", "ceil", "half_up", "half_even"]


def worth(rule: object, **given_: object) -> int:
    facts = {"quantity": Decimal(1), "amount": None, "currency": "CNY", "mass_g": None} | given_
    return points_for(rule, **facts)  # type: ignore[arg-type]


def rounded(value: Fraction, rounding: Rounding) -> int:
    """Rounding said another way than in the code under test."""
    match rounding:
        case "floor":
            return math.floor(value)
        case "ceil":
            return math.ceil(value)
        case "half_up":
            return math.floor(value + Fraction(1, 2))
        case "half_even":
            return round(value)


@given(points=POINTS, amount=MONEY, per=st.decimals("0.000001", 10**6, places=6), rounding=st.sampled_from(ROUNDINGS))
def test_per_amount_is_exact(points: int, amount: Decimal, per: Decimal, rounding: Rounding) -> None:
    rule = PerAmount(points=points, per=f"{per:f}", currency="CNY", rounding=rounding)
    expected = rounded(points * Fraction(amount) / Fraction(per), rounding)
    assert worth(rule, amount=amount) == min(expected, MAX_POINTS)


@given(points=POINTS, mass=QUANTITY, rounding=st.sampled_from(ROUNDINGS))
def test_per_kg_is_exact(points: int, mass: Decimal, rounding: Rounding) -> None:
    assert worth(PerKg(points=points, rounding=rounding), mass_g=mass) == min(rounded(points * Fraction(mass) / 1000, rounding), MAX_POINTS)


@given(points=POINTS, quantity=QUANTITY)
def test_per_unit_counts_whole_units(points: int, quantity: Decimal) -> None:
    assert worth(PerUnit(points=points), quantity=quantity) == min(points * math.floor(quantity), MAX_POINTS)


@given(factor=st.decimals("1.0001", 9999, places=4), points=st.integers(0, 10**12))
def test_a_multiplier_adds_factor_minus_one(factor: Decimal, points: int) -> None:
    assert multiplied(f"{factor:f}", points) == min(math.floor((Fraction(factor) - 1) * points), MAX_POINTS)


@pytest.mark.parametrize(
    ("rounding", "amounts"),
    [("floor", [0, 0, 0, 1]), ("ceil", [1, 1, 1, 2]), ("half_up", [0, 1, 1, 2]), ("half_even", [0, 0, 1, 2])],
)
def test_rounding(rounding: Rounding, amounts: list[int]) -> None:
    rule = PerAmount(points=1, per="1.00", currency="CNY", rounding=rounding)
    assert [worth(rule, amount=Decimal(text)) for text in ("0.49", "0.50", "0.51", "1.50")] == amounts


def test_a_float_would_be_wrong_here() -> None:
    assert worth(PerAmount(points=100, per="0.01", currency="CNY"), amount=Decimal("1.10")) == 11_000
    assert worth(PerAmount(points=1, per="0.1", currency="CNY"), amount=Decimal("0.3")) == 3


def test_fixed() -> None:
    assert worth(Fixed(points=7), quantity=Decimal(100)) == 7


def test_the_highest_tier_that_is_reached() -> None:
    tiers = [Tier(from_=start, points=points) for start, points in (("100", 10), ("200.50", 25), ("500", 20))]
    rule = Tiered(by="amount", tiers=tiers)
    amounts = ("99.99", "100", "200.49", "200.50", "499", "500")
    assert [worth(rule, amount=Decimal(a)) for a in amounts] == [0, 10, 10, 25, 25, 20]
    assert worth(Tiered(by="quantity", tiers=tiers), quantity=Decimal(100)) == 10
    assert worth(Tiered(by="mass", tiers=tiers), mass_g=Decimal(600)) == 20
    assert worth(Tiered(by="mass", tiers=tiers)) == 0


def test_another_currency_is_never_converted() -> None:
    for rule in (PerAmount(points=1, per="1", currency="EUR"), Tiered(by="amount", currency="EUR", tiers=[Tier(from_="0", points=1)])):
        with pytest.raises(CurrencyMismatch):
            worth(rule, amount=Decimal(5))
        assert worth(rule) == 0


def test_what_is_not_known_counts_nothing() -> None:
    assert worth(PerAmount(points=1, per="1", currency="CNY")) == 0
    assert worth(PerKg(points=1)) == 0
    assert worth(PerAmount(points=1, per="1", currency="CNY", rounding="ceil"), amount=Decimal(-5)) == 0


def test_a_multiplier_has_no_worth_of_its_own() -> None:
    with pytest.raises(TypeError):
        worth(Multiplier(factor="2", of=["x"]))

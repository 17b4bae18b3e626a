"""What is usual: silent until enough is known, deaf to the few percent that are fraud, bounded."""

import random

import pytest

from service.domain.fraud.norms import ENOUGH, FIRST_YOUNG, MAX_MEASURES, MemoryNorms


def learned(values: list[float], *, young: bool = False) -> MemoryNorms:
    norms = MemoryNorms()
    for value in values:
        norms.learn({"m": value, "age": value}, young=young)
    return norms


def usual(n: int, seed: int = 1) -> list[float]:
    rng = random.Random(seed)
    return [rng.lognormvariate(3, 1) for _ in range(n)]


def test_says_nothing_before_enough_is_known() -> None:
    assert learned(usual(ENOUGH - 1)).spreads("m", 1e6) == 0
    assert learned(usual(ENOUGH)).spreads("m", 1e6) > 3
    assert MemoryNorms().spreads("m", 5) == 0


def test_a_spread_is_the_way_from_the_median_to_the_95th_percentile() -> None:
    norms = learned(usual(20_000))
    assert norms.spreads("m", 2.718281828 ** (3 + 1.645)) == pytest.approx(1, abs=0.1)
    assert norms.spreads("m", 2.718281828**3) == pytest.approx(0, abs=0.1)
    assert norms.spreads("m", 2.718281828 ** (3 - 2 * 1.645)) == pytest.approx(-2, abs=0.2)


def test_two_percent_of_fraud_move_nothing() -> None:
    clean, dirty = learned(usual(10_000)), learned(usual(10_000) + [1e6] * 200)
    assert dirty.spreads("m", 500) == pytest.approx(clean.spreads("m", 500), rel=0.1)


def test_where_all_are_the_same_a_spread_is_a_doubling() -> None:
    norms = learned([1.0] * 1_000)
    assert norms.spreads("m", 8) == pytest.approx(3, abs=0.2)


def test_the_young_are_the_lower_quartile_and_their_share_is_followed() -> None:
    norms = learned([float(age) for age in range(1, 10_001)], young=True)
    assert norms.young_s() == pytest.approx(2_500, rel=0.1)
    assert FIRST_YOUNG < norms.young_share() <= 0.95


def test_measures_are_bounded() -> None:
    norms = MemoryNorms()
    for i in range(MAX_MEASURES + 10):
        norms.learn({f"m{i}": 1.0}, young=False)
    assert len(norms.measures) == MAX_MEASURES

"""What a thing is worth under an award rule, in exact arithmetic: rationals of integers, rounded once, never a float."""

from decimal import Decimal
from typing import Final

from schemas.campaigns import AwardRule, Fixed, Multiplier, PerAmount, PerKg, PerUnit, Rounding, Tiered

MAX_POINTS: Final = 10**12
"""The most that one award can be; keeps sums far inside int64."""

_GRAMS_PER_KG: Final = 1_000


class CurrencyMismatch(Exception):
    """The rule counts money of another currency than the order's; nothing is converted."""


def points_for(rule: AwardRule, *, quantity: Decimal, amount: Decimal | None, currency: str | None, mass_g: Decimal | None) -> int:
    """Whole points for one thing (a line, an order's packaging, a returned item, an activity), between 0 and MAX_POINTS.

    `quantity` is units, `amount` money in major units of `currency`, `mass_g` grams; what is None counts 0.
    A multiplier depends on other awards: see `multiplied`. Raises CurrencyMismatch.
    """
    match rule:
        case Fixed():
            points = rule.points
        case PerUnit():
            points = rule.points * int(quantity)
        case PerAmount():
            points = _per_amount(rule, amount, currency)
        case PerKg():
            points = _share(rule.points, mass_g, _GRAMS_PER_KG, rule.rounding)
        case Tiered():
            points = _tiered(rule, quantity, amount, currency, mass_g)
        case Multiplier():
            raise TypeError("a multiplier is worth what other awards make it: use multiplied()")
    return max(0, min(points, MAX_POINTS))


def multiplied(factor: str, points: int) -> int:
    """(factor − 1) × points, rounded down: what a multiplier adds to awards of `points`. 0 for a factor below 1."""
    top, bottom = Decimal(factor).as_integer_ratio()
    return max(0, min((top - bottom) * points // bottom, MAX_POINTS))


def _per_amount(rule: PerAmount, amount: Decimal | None, currency: str | None) -> int:
    if amount is None:
        return 0
    if currency != rule.currency:
        raise CurrencyMismatch
    return _share(rule.points, amount, Decimal(rule.per), rule.rounding)


def _tiered(rule: Tiered, quantity: Decimal, amount: Decimal | None, currency: str | None, mass_g: Decimal | None) -> int:
    if rule.by == "amount" and amount is not None and rule.currency not in (None, currency):
        raise CurrencyMismatch
    measure = {"amount": amount, "quantity": quantity, "mass": mass_g}[rule.by]
    if measure is None:
        return 0
    reached = [(start, tier.points) for tier in rule.tiers if (start := Decimal(tier.from_)) <= measure]
    return max(reached, default=(0, 0))[1]


def _share(points: int, measure: Decimal | None, per: Decimal | int, rounding: Rounding) -> int:
    """Points × measure ÷ per as an exact rational of integers, rounded once."""
    if measure is None or measure <= 0:
        return 0
    top, bottom = measure.as_integer_ratio()
    per_top, per_bottom = per.as_integer_ratio()
    return _rounded(points * top * per_bottom, bottom * per_top, rounding)


def _rounded(top: int, bottom: int, rounding: Rounding) -> int:
    """A non-negative rational as a whole number."""
    whole, rest = divmod(top, bottom)
    match rounding:
        case "floor":
            up = False
        case "ceil":
            up = rest > 0
        case "half_up":
            up = 2 * rest >= bottom
        case "half_even":
            up = 2 * rest > bottom or (2 * rest == bottom and whole % 2 == 1)
    return whole + up

"""What an award says was avoided or collected: mass × factor, for the few classes that a source gives a mass for.

The reasoning, with worked examples that the suite computes, is in docs/impact.md. In short:

- a *parcel that never was* (its own container, a carton used again) is the mean corrugated parcel's board × the factor of new board;
- a *reusable box that came back* replaced such a parcel once more: grams of single-use plastic, no CO2e before it is known that the
  fleet is past its break-even;
- what is *collected for recycling* is grams as weighed, never CO2e;
- everything else records nothing, unless the program brings a factor of its own.
"""

from datetime import date, timedelta
from decimal import Decimal
from typing import Final

from msgspec import UNSET, Struct

from schemas.bounds import MAX_REPORT_DAYS
from schemas.impact import Grams, ImpactRecord
from service.domain.catalogue import Program
from service.domain.errors import InvalidRequest
from service.domain.factors import COMPILED, Factor, factor_of
from service.domain.things import Thing

MAX_GRAMS: Final = 10**12
"""Of one record: a million tonnes, and sums of millions of them stay far inside int64. More is recorded as nothing."""
_GRAMS_PER_KG: Final = 1_000


class Method(Struct, frozen=True, kw_only=True):
    """How a class's factor is applied: to grams of material per parcel or item that are stated in `masses`."""

    words: str
    factor: str
    mass_g: Decimal
    plastic_g: Decimal
    masses: str = "mass.corrugated_parcel.cn2018"
    bounds: tuple[str, str] | None = None
    """Reference factors of the same material whose central numbers are low and high, where `factor` publishes no range."""


_BOARD: Final = Decimal(304)
_FILLER_AND_TAPE: Final = Decimal("19.5")
_TAPE: Final = Decimal("2.7")


def _avoided_board(words: str, plastic_g: Decimal) -> Method:
    return Method(
        words=words, factor="mat.board.primary.uk2025", mass_g=_BOARD, plastic_g=plastic_g,
        bounds=("warm.corrugated.virgin", "cn.express_pack.avg"),
    )  # fmt: skip


METHODS: Final[dict[tuple[str, str], Method]] = {
    ("packaging", "ship_in_own_container"): _avoided_board("avoided procurement: board of a mean corrugated parcel", _FILLER_AND_TAPE),
    ("packaging", "reused_carton"): _avoided_board("avoided procurement: board of a mean corrugated parcel, reused", Decimal(0)),
    ("packaging", "tape_free_box"): Method(
        words="avoided mass: tape of a mean corrugated parcel", factor="mass.corrugated_parcel.cn2018", mass_g=_TAPE, plastic_g=_TAPE
    ),
    ("return", "circular_box"): Method(
        words="avoided mass: filler and tape of a mean corrugated parcel per trip", factor="mass.corrugated_parcel.cn2018",
        mass_g=_FILLER_AND_TAPE, plastic_g=_FILLER_AND_TAPE,
    ),
}  # fmt: skip
"""By action and reference class. A trip of a reusable box counts when the box is back, a carton when it is used again: never twice."""

WHOLLY_PLASTIC: Final = frozenset(
    {"plastic_mailer", "recycled_plastic_mailer", "biodegradable_plastic", "foam_box", "woven_single_use_bag", "tape_60mm", "shopping_bag"}
)
"""Classes whose collected grams are all grams of plastic."""


def impact_of(thing: Thing, program: Program) -> ImpactRecord | None:
    """What one thing avoided or brought back, by the factors in force when it occurred; None: nothing that a source bears out.

    Whoever grants gives it to the first award for the thing and to no other, so that nothing is counted twice.
    """
    if thing.item is not None:
        action, class_ = "return", thing.item.class_ or ""
    elif thing.packaging is not None and thing.line is None:
        action, class_ = "packaging", thing.packaging.class_ or ""
    else:
        return None
    again = action == "packaging" or (thing.item is not None and thing.item.asset is not None)
    own, occurred_at = program.impact_factors, thing.event.occurred_at
    if (factor := own.applying(action, class_, occurred_at)) is not None:
        return _by_factor(factor, thing, again=again)
    if again:
        method = METHODS.get((action, class_))
        return None if method is None else _by_method(method, factor_of(own, method.factor, occurred_at), thing.quantity)
    return _by_factor(COMPILED["mass.collected_plastic" if class_ in WHOLLY_PLASTIC else "mass.collected"], thing, again=False)


def _by_method(method: Method, factor: Factor, units: Decimal) -> ImpactRecord | None:
    """By the masses of the reference list. Where the factor publishes no range, those of others for the same material give it."""
    mass_g = method.mass_g * units
    low, high, bounds = factor.low, factor.high, None
    if method.bounds is not None and factor.version == 0:
        bounds = list(method.bounds)
        low, high = (COMPILED[id_].central for id_ in bounds)
    co2e = [low, factor.central, high] if factor.avoids else None
    return _record(
        factor, method.words, mass_g=mass_g, plastic_g=method.plastic_g * units, co2e=_times(co2e, mass_g), masses=method.masses,
        bounds=bounds,
    )  # fmt: skip


def _by_factor(factor: Factor, thing: Thing, *, again: bool) -> ImpactRecord | None:
    """By a factor alone: per parcel, per item or per kilogram that the event states. Without `again`, what came back is waste: no CO2e."""
    mass_g = thing.mass_g if factor.unit == "kg" else None
    if factor.unit == "kg" and mass_g is None:
        return None
    kilograms_or_units = thing.quantity if mass_g is None else mass_g / _GRAMS_PER_KG
    co2e = [factor.low, factor.central, factor.high] if factor.avoids and again else None
    plastic_g = (factor.plastic_g or Decimal(0)) * kilograms_or_units
    return _record(factor, factor.method, mass_g=mass_g, plastic_g=plastic_g, co2e=_times(co2e, kilograms_or_units * _GRAMS_PER_KG))


def _times(values: list[Decimal | None] | None, grams: Decimal) -> list[int | None] | None:
    """Whole grams, rounded down: never more than the source says."""
    return None if values is None else [None if value is None else int(value * grams) for value in values]


def _record(
    factor: Factor, method: str, *, mass_g: Decimal | None, plastic_g: Decimal, co2e: list[int | None] | None,
    masses: str | None = None, bounds: list[str] | None = None,
) -> ImpactRecord | None:  # fmt: skip
    grams = None if co2e is None or co2e == [None] * 3 else Grams(low=co2e[0], central=co2e[1], high=co2e[2])
    known = [int(mass_g or 0), int(plastic_g), *(g for g in co2e or () if g is not None)]
    if not any(known) or max(known) > MAX_GRAMS:
        return None
    return ImpactRecord(
        factor=factor.id, version=factor.version, vintage=factor.vintage, region=factor.region, method=method, source=factor.source,
        co2e_g=grams, plastic_g=int(plastic_g), mass_g=UNSET if mass_g is None else int(mass_g),
        masses=UNSET if masses is None else masses, bounds=UNSET if bounds is None else bounds,
    )  # fmt: skip


def central_g(record: ImpactRecord | None) -> int:
    """Grams of CO2e as sums count them: the central number, 0 where there is none."""
    return 0 if record is None or record.co2e_g is None else record.co2e_g.central or 0


# The report ----------------------------------------------------------------------------------------------

USUAL_DAYS: Final = 366


def report_days(from_: date | None, to: date | None, *, today: date) -> tuple[date, date]:
    """The local days of a report, the last not included: up to and with today, and USUAL_DAYS long, where nothing else is said.

    Raises InvalidRequest (`to` before `from`, more than MAX_REPORT_DAYS).
    """
    to = to or today + timedelta(days=1)
    from_ = from_ or date.fromordinal(max(1, to.toordinal() - USUAL_DAYS))
    if to < from_:
        raise InvalidRequest.at("/to", "must not be before from")
    if (to - from_).days > MAX_REPORT_DAYS:
        raise InvalidRequest.at("/from", f"is more than {MAX_REPORT_DAYS:,} days before to")
    return from_, to

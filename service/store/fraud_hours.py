"""SQL of how scores, outcomes and signals are spread over hours: counted with the verdicts, read by the monitors."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from types import MappingProxyType
from typing import Final, Literal, Protocol

import msgspec
from msgspec import Struct

from service.domain.fraud_monitor import bin_of
from service.store.connection import Connection

Kind = Literal["score", "outcome", "signal", "held_by"]
OUTCOMES: Final = ("earns_nothing", "pass", "hold", "reject", "unjudged")
"""Names by `verdict.outcome`."""
EARNS_NOTHING, UNJUDGED = 0, 4
HELD: Final = frozenset({2, 3, 4})
FIRED: Final = 2
"""Quarters: a signal counts as fired from half its strength on."""


class Told(Protocol):
    """What is read of a verdict: columns of `verdict`."""

    @property
    def event(self) -> int:
        """Its number."""

    @property
    def points(self) -> int:
        """What it would earn."""

    @property
    def outcome(self) -> int:
        """0 earns nothing, 1 pass, 2 hold, 3 reject, 4 could not be judged."""

    @property
    def model(self) -> int:
        """The version that decided."""

    @property
    def score(self) -> int:
        """In basis points."""

    @property
    def shadow_model(self) -> int | None:
        """The version that was asked beside it."""

    @property
    def shadow_score(self) -> int | None:
        """What it said."""

    @property
    def shadow_outcome(self) -> int | None:
        """What it would have done."""

    @property
    def strengths(self) -> str | None:
        """JSON {signal: quarters}."""


class _Reason(Struct, gc=False):
    signal: str


_quarters = msgspec.json.Decoder(dict[str, int]).decode
_reasons = msgspec.json.Decoder(list[_Reason]).decode
NO_REASONS: Final[Mapping[int, str]] = MappingProxyType({})

ADD: Final = """
INSERT INTO fraud_hour AS h (program, hour, model, kind, name, events, points)
SELECT $1, date_trunc('hour', now(), 'UTC'), * FROM unnest($2::int[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
ON CONFLICT (program, hour, model, kind, name) DO UPDATE SET events = h.events + excluded.events, points = h.points + excluded.points
"""


async def add(connection: Connection, program: int, rows: Sequence[Told], *, reasons: Mapping[int, str] = NO_REASONS) -> None:
    """Count a batch of verdicts into the present hour: one statement, in the transaction that writes the verdicts.

    `reasons`: by number of event JSON of its reasons, as in `fraud_case_event.reasons`, of what is suspected. Signals that fired are
    counted for the version that decided, scores and outcomes also for the one beside it.
    """
    sums: defaultdict[tuple[int, Kind, str], list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        for key in _keys(row, reasons.get(row.event)):
            of = sums[key]
            of[0] += 1
            of[1] += max(0, row.points)
    if sums:
        keys = sorted(sums)
        await connection.execute(
            ADD, program, [k[0] for k in keys], [k[1] for k in keys], [k[2] for k in keys], [sums[k][0] for k in keys],
            [sums[k][1] for k in keys],
        )  # fmt: skip


def _keys(row: Told, reasons: str | None) -> Iterator[tuple[int, Kind, str]]:
    """Where a verdict counts."""
    yield row.model, "outcome", OUTCOMES[row.outcome]
    if row.outcome not in (EARNS_NOTHING, UNJUDGED):
        yield row.model, "score", str(bin_of(row.score))
    if row.shadow_model is not None and row.shadow_score is not None and row.shadow_outcome is not None:
        yield row.shadow_model, "outcome", OUTCOMES[row.shadow_outcome]
        yield row.shadow_model, "score", str(bin_of(row.shadow_score))
    if row.strengths is not None:
        for name, quarters in _quarters(row.strengths).items():
            if quarters >= FIRED:
                yield row.model, "signal", name
    if reasons is not None and row.outcome in HELD:
        for name in dict.fromkeys(reason.signal for reason in _reasons(reasons)):
            yield row.model, "held_by", name


class DayRow(Struct, frozen=True, kw_only=True, gc=False):
    """A count of one local day."""

    day: date
    model: int
    kind: Kind
    name: str
    events: int
    points: int


BY_DAY: Final = """
SELECT (hour AT TIME ZONE $4)::date AS day, model, kind, name, sum(events)::bigint AS events, sum(points)::bigint AS points
FROM fraud_hour
WHERE program = $1 AND hour >= $2::date::timestamp AT TIME ZONE $4 AND hour < $3::date::timestamp AT TIME ZONE $4
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""


async def by_day(connection: Connection, program: int, *, from_: date, to: date, time_zone: str) -> list[DayRow]:
    """Counts by day and version; `to` is not included. An hour belongs to the day in which it begins."""
    return [DayRow(**row) for row in await connection.fetch(BY_DAY, program, from_, to, time_zone)]


class Spread(Struct, frozen=True, kw_only=True):
    """Scores of a version by bin: of the last 24 hours, the present one included, and of the 28 days before them."""

    program: int
    model: int
    now: dict[int, int]
    before: dict[int, int]


SPREADS: Final = """
SELECT program, model, name::int AS bin,
       coalesce(sum(events) FILTER (WHERE hour > date_trunc('hour', now(), 'UTC') - interval '24 hours'), 0)::bigint AS now,
       coalesce(sum(events) FILTER (WHERE hour <= date_trunc('hour', now(), 'UTC') - interval '24 hours'), 0)::bigint AS before
FROM fraud_hour
WHERE kind = 'score' AND hour > date_trunc('hour', now(), 'UTC') - interval '696 hours' AND ($1::int IS NULL OR program = $1)
GROUP BY program, model, name ORDER BY program, model
"""


async def spreads(connection: Connection, program: int | None) -> list[Spread]:
    """The scores of a program's versions, or of all programs', that were asked within 29 days."""
    found: dict[tuple[int, int], Spread] = {}
    for row in await connection.fetch(SPREADS, program):
        key = row["program"], row["model"]
        spread = found.setdefault(key, Spread(program=key[0], model=key[1], now={}, before={}))
        spread.now[row["bin"]] = row["now"]
        spread.before[row["bin"]] = row["before"]
    return list(found.values())


REVIEWS: Final = """
SELECT (coalesce(decided_at, proposed_at) AT TIME ZONE $4)::date AS day, count(DISTINCT fraud_case) AS decided
FROM fraud_decision
WHERE program = $1 AND status = 'done'
  AND coalesce(decided_at, proposed_at) >= $2::date::timestamp AT TIME ZONE $4
  AND coalesce(decided_at, proposed_at) < $3::date::timestamp AT TIME ZONE $4
GROUP BY 1 ORDER BY 1
"""


async def reviews(connection: Connection, program: int, *, from_: date, to: date, time_zone: str) -> list[tuple[date, int]]:
    """Cases that people decided, by local day; days without any are left out."""
    return [(row["day"], row["decided"]) for row in await connection.fetch(REVIEWS, program, from_, to, time_zone)]

"""SQL of fraud cases as operators read them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from asyncpg import Record
from msgspec import Struct

from schemas.fraud import CaseStatus
from service.domain.keys import bucket_of
from service.store.connection import Connection

UNDECIDED: Final = "(e.decided_at IS NULL AND e.decision IS NULL AND e.reversal IS NULL)"
"""Of `fraud_case_event e`: neither operators nor its deadline have decided about it."""
REVIEWS_A_DAY: Final = 50
"""Where a program has no policy."""
OBJECTED: Final = 10**15
"""Points, more than any case has: where somebody waits for an answer, reviewers look first."""
MAX_REFERENCES: Final = 3
"""Names of an account that are shown."""

_EXPECTED: Final = f"coalesce(floor(sum(e.points::numeric * e.score) FILTER (WHERE {UNDECIDED}) / 10000), 0)::bigint"
_SUMMARY: Final = f"""
SELECT c.number, c.status, c.ring, c.score, c.opened_at, c.updated_at, c.closed_at, c.merged_into,
       t.objections, t.expected_loss + CASE WHEN t.objections > 0 THEN {OBJECTED} ELSE 0 END AS rank, t.accounts, t.events, t.points, t.undecided, t.undecided_points, t.expected_loss, t.deadline
FROM fraud_case c CROSS JOIN LATERAL (
    SELECT count(DISTINCT e.account) AS accounts, count(*) AS events, coalesce(sum(e.points), 0)::bigint AS points,
           count(*) FILTER (WHERE {UNDECIDED}) AS undecided, coalesce(sum(e.points) FILTER (WHERE {UNDECIDED}), 0)::bigint AS undecided_points,
           count(*) FILTER (WHERE EXISTS (
               SELECT FROM fraud_objection o WHERE o.bucket = e.bucket AND o.event = e.event AND o.status = 'open'
           )) AS objections,
           {_EXPECTED} AS expected_loss, min(e.deadline) FILTER (WHERE {UNDECIDED}) AS deadline
    FROM fraud_case_event e WHERE e.fraud_case = c.number
) t
"""


class Summary(Struct, frozen=True, kw_only=True):
    """A case with the sums of its events; `score` in basis points, `expected_loss` in points; `rank` is what a list is ordered by."""

    number: int
    status: CaseStatus
    ring: int
    score: int
    opened_at: datetime
    updated_at: datetime
    closed_at: datetime | None
    merged_into: int | None
    objections: int
    rank: int
    accounts: int
    events: int
    points: int
    undecided: int
    undecided_points: int
    expected_loss: int
    deadline: datetime | None


FIND: Final = f"{_SUMMARY} WHERE c.program = $1 AND c.number = $2"


async def find(connection: Connection, *, program: int, number: int) -> Summary | None:
    """A program's case."""
    row = await connection.fetchrow(FIND, program, number)
    return None if row is None else Summary(**row)


BY_LOSS: Final = f"""
SELECT * FROM ({_SUMMARY} WHERE c.program = $1 AND c.status <> 'closed' AND ($2::text IS NULL OR c.status = $2)) s
WHERE s.points >= $3 AND (s.rank, s.number) < ($4::bigint, $5::bigint)
ORDER BY s.rank DESC, s.number DESC LIMIT $6
"""
NEWEST: Final = f"""
{_SUMMARY} WHERE c.program = $1 AND CASE WHEN $2::text IS NULL THEN c.status <> 'closed' ELSE c.status = $2 END
  AND t.points >= $3 AND c.number < $4 ORDER BY c.number DESC LIMIT $5
"""


async def by_loss(
    connection: Connection, *, program: int, status: CaseStatus | None, min_points: int, before: tuple[int, int], limit: int
) -> list[Summary]:
    """Cases that are not closed, by expected loss, those below `before` (loss, number). `status` None: open and proposed."""
    return [Summary(**row) for row in await connection.fetch(BY_LOSS, program, status, min_points, *before, limit)]


async def newest(
    connection: Connection, *, program: int, status: CaseStatus | None, min_points: int, before: int, limit: int
) -> list[Summary]:
    """The newest first, with numbers below `before`. `status` None: open and proposed."""
    return [Summary(**row) for row in await connection.fetch(NEWEST, program, status, min_points, before, limit)]


# What reviewers get to today: as many as a day has, less those that were decided since its midnight in the program's time zone.
WITHIN_BUDGET: Final = f"""
SELECT e.fraud_case FROM fraud_case_event e WHERE e.program = $1 AND {UNDECIDED}
GROUP BY e.fraud_case ORDER BY {_EXPECTED} DESC, e.fraud_case DESC
LIMIT greatest(0, coalesce((SELECT y.reviews_a_day FROM fraud_policy y WHERE y.program = $1), {REVIEWS_A_DAY}) - (
    SELECT count(DISTINCT d.fraud_case) FROM fraud_decision d JOIN program p ON p.id = d.program
    WHERE d.program = $1 AND d.status = 'done'
      AND d.decided_at >= date_trunc('day', now() AT TIME ZONE p.time_zone) AT TIME ZONE p.time_zone
))
"""


async def within_budget(connection: Connection, *, program: int) -> set[int]:
    """Numbers of the cases that today's reviewers get to: those with most to lose."""
    return {row["fraud_case"] for row in await connection.fetch(WITHIN_BUDGET, program)}


EVENTS: Final = """
SELECT e.event, e.account, e.points, e.score, e.state, e.found, e.reasons, e.held_at, e.deadline, e.at_deadline, e.decided_at, d.decision,
       f.id, f.type, f.occurred_at, f.received_at, p.code AS platform, f.facts
FROM fraud_case_event e
LEFT JOIN event f ON f.bucket = e.bucket AND f.account = e.account AND f.number = e.event
LEFT JOIN platform p ON p.id = f.platform
LEFT JOIN fraud_decision d ON d.number = e.decision
WHERE e.fraud_case = $1 ORDER BY e.decided_at IS NOT NULL, e.points DESC, e.event LIMIT $2
"""


async def events(connection: Connection, case: int, *, limit: int) -> list[Record]:
    """Events of a case with what is stored of them, the undecided first, then by points. `facts`: JSON."""
    return await connection.fetch(EVENTS, case, limit)


REFERENCES: Final = f"""
SELECT r.account, p.code AS platform, r.reference FROM unnest($1::smallint[], $2::bigint[]) AS w (bucket, account)
CROSS JOIN LATERAL (
    SELECT account, platform, reference FROM consumer_reference c WHERE c.bucket = w.bucket AND c.account = w.account
    ORDER BY created_at, reference LIMIT {MAX_REFERENCES}
) r JOIN platform p ON p.id = r.platform
"""


async def references(connection: Connection, accounts: Sequence[int]) -> dict[int, list[tuple[str, str]]]:
    """What platforms call these accounts: (platform's code, name), the oldest names first."""
    found: dict[int, list[tuple[str, str]]] = {}
    for row in await connection.fetch(REFERENCES, [bucket_of(a) for a in accounts], accounts):
        found.setdefault(row["account"], []).append((row["platform"], row["reference"]))
    return found


DECISIONS: Final = """
SELECT number, decision, status, cardinality(events) AS events, points, alone, note, proposed_by, proposed_at, decided_by, decided_at, decided_note
FROM fraud_decision WHERE fraud_case = $1 ORDER BY number LIMIT $2
"""


async def decisions(connection: Connection, case: int, *, limit: int) -> list[Record]:
    """Decisions about a case, oldest first."""
    return await connection.fetch(DECISIONS, case, limit)

"""SQL of holds: what the judge suspects stays unsettled, in the case of its ring. Call under the locks of the accounts."""

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from service.domain.keys import bucket_of
from service.store.connection import Connection
from service.store.fraud_cases import UNDECIDED
from service.store.fraud_policy import Policy

Found = Literal["arrival", "door", "look_back", "unchecked"]


class Suspected(Struct, frozen=True, kw_only=True):
    """An event that is to be held. `ring`: an account that stands for its ring; `reasons`: JSON, the heaviest first; `score` in basis points."""

    account: int
    event: int
    ring: int
    score: int
    reasons: str
    found: Found
    at_once: bool = False
    """Rejected without a person: the deadline is now."""


class Held(Struct, frozen=True, kw_only=True):
    """What became of it: `held`, or `settled` where it was too late; nothing comes back of what has no points left."""

    suspected: Suspected
    state: Literal["held", "settled"]
    points: int
    platform: int


LOCK: Final = (
    "SELECT id FROM account WHERE (bucket, id) IN (SELECT * FROM unnest($1::smallint[], $2::bigint[])) ORDER BY id FOR NO KEY UPDATE"
)


async def lock(connection: Connection, accounts: Sequence[int]) -> None:
    """Lock accounts in order of their ids: nothing of theirs settles meanwhile."""
    await connection.execute(LOCK, [bucket_of(a) for a in accounts], accounts)


STANDING: Final = """
SELECT w.account, w.event, e.platform, a.points, d.event IS NOT NULL AS pending
FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS w (bucket, account, event)
JOIN event e ON e.bucket = w.bucket AND e.account = w.account AND e.number = w.event
CROSS JOIN LATERAL (
    SELECT sum(x.points - x.reversed)::bigint AS points, min(x.due_at) AS due_at FROM award x
    WHERE x.bucket = w.bucket AND x.account = w.account AND x.event = w.event
) a
LEFT JOIN LATERAL (SELECT event FROM due WHERE due.bucket = w.bucket AND due.account = w.account AND due.event = w.event LIMIT 1) d ON true
LEFT JOIN fraud_case_event c ON c.bucket = w.bucket AND c.event = w.event
WHERE a.points > 0 AND c.event IS NULL
"""
HOLD: Final = """
INSERT INTO screening (bucket, account, event, program, state)
SELECT w.bucket, w.account, w.event, $1, 1 FROM unnest($2::smallint[], $3::bigint[], $4::bigint[]) AS w (bucket, account, event)
ON CONFLICT (bucket, event) DO UPDATE SET state = 1 WHERE screening.state = 0
"""


async def hold(connection: Connection, program: int, suspected: Sequence[Suspected]) -> list[Held]:
    """Keep these events from settling, those that still can be; what is in a case already, or has no points left, is left out."""
    by_event = {s.event: s for s in suspected}
    rows = await connection.fetch(
        STANDING, [bucket_of(s.account) for s in suspected], [s.account for s in suspected], [s.event for s in suspected]
    )
    found = [
        Held(suspected=by_event[r["event"]], state="held" if r["pending"] else "settled", points=r["points"], platform=r["platform"])
        for r in rows
    ]
    stay = [h.suspected for h in found if h.state == "held"]
    if stay:
        await connection.execute(HOLD, program, [bucket_of(s.account) for s in stay], [s.account for s in stay], [s.event for s in stay])
    return found


MAX_MERGED: Final = 20
"""Cases that one event shows to be about one ring; more are merged by the next ones."""
OPEN_CASES: Final = """
SELECT c.number, c.status FROM fraud_case c
WHERE c.program = $1 AND c.status <> 'closed' AND (c.ring = ANY($2::bigint[]) OR c.number IN (
    SELECT fraud_case FROM fraud_case_event WHERE (bucket, account) IN (SELECT * FROM unnest($3::smallint[], $2::bigint[])) AND state IN ('held', 'settled')
))
ORDER BY c.number LIMIT $4 FOR NO KEY UPDATE
"""
NEW_CASE: Final = """
INSERT INTO fraud_case (number, program, ring, status, score, opened_at, updated_at)
VALUES (nextval('number'), $1, $2, 'open', $3, now(), now()) RETURNING number
"""
# What has been decided stays where it was decided; a case that has a decision to be carried out stays open until it is.
MERGE_EVENTS: Final = f"UPDATE fraud_case_event e SET fraud_case = $1 WHERE e.fraud_case = ANY($2::bigint[]) AND {UNDECIDED}"
MERGE_CASES: Final = """
UPDATE fraud_case c SET status = 'closed', closed_at = now(), updated_at = now(), merged_into = $1
WHERE c.number = ANY($2::bigint[]) AND NOT EXISTS (SELECT FROM fraud_case_event e WHERE e.fraud_case = c.number AND e.decided_at IS NULL)
"""
TOUCH_CASE: Final = "UPDATE fraud_case SET score = greatest(score, $2), updated_at = now() WHERE number = $1"
ADD: Final = """
INSERT INTO fraud_case_event (bucket, account, event, program, fraud_case, points, score, reasons, found, state, held_at, deadline, at_deadline)
SELECT w.bucket, w.account, w.event, $1, $2, w.points, w.score, w.reasons, w.found, w.state, now(),
       CASE WHEN w.state = 'held' THEN CASE WHEN w.at_once THEN now() ELSE now() + $3::interval END END,
       CASE WHEN w.state = 'held' THEN CASE WHEN w.at_once THEN 'reject' ELSE $4 END END
FROM unnest($5::smallint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::smallint[], $10::text[], $11::text[], $12::text[], $13::boolean[])
     AS w (bucket, account, event, points, score, reasons, found, state, at_once)
ON CONFLICT (bucket, event) DO NOTHING
"""
TELL: Final = """
INSERT INTO outbox (number, program, platform, type, bucket, account, event, data, at)
SELECT nextval('number'), $1, w.platform, 'event.held', w.bucket, w.account, w.event,
       json_build_object('event', e.id, 'points', w.points, 'until', now() + $2::interval)::text, now()
FROM unnest($3::smallint[], $4::bigint[], $5::bigint[], $6::int[], $7::bigint[]) AS w (bucket, account, event, platform, points)
JOIN event e ON e.bucket = w.bucket AND e.account = w.account AND e.number = w.event
"""


async def file(connection: Connection, program: int, held: Sequence[Held], policy: Policy) -> int:
    """Put what is held into the cases of its rings, open ones or new ones, and note what platforms are to be told. The number of new cases."""
    opened = 0
    rings: dict[int, list[Held]] = {}
    for h in held:
        rings.setdefault(h.suspected.ring, []).append(h)
    for ring, events in sorted(rings.items()):
        accounts = sorted({ring, *(h.suspected.account for h in events)})
        score = max(h.suspected.score for h in events)
        case = await _open_case(connection, program, accounts)
        if case is None:
            case = await connection.fetchval(NEW_CASE, program, ring, score)
            opened += 1
        else:
            await connection.execute(TOUCH_CASE, case, score)
        of = [h.suspected for h in events]
        await connection.execute(
            ADD, program, case, policy.hold_for, policy.at_deadline, [bucket_of(s.account) for s in of], [s.account for s in of],
            [s.event for s in of], [h.points for h in events], [s.score for s in of], [s.reasons for s in of], [s.found for s in of],
            [h.state for h in events], [s.at_once for s in of],
        )  # fmt: skip
    told = [h for h in held if h.state == "held"]
    if told:
        await connection.execute(
            TELL, program, policy.hold_for, [bucket_of(h.suspected.account) for h in told], [h.suspected.account for h in told],
            [h.suspected.event for h in told], [h.platform for h in told], [h.points for h in told],
        )  # fmt: skip
    return opened


async def _open_case(connection: Connection, program: int, accounts: Sequence[int]) -> int | None:
    """The open case about any of these accounts; where there are several, the oldest, which the others become part of.

    A case whose decision waits for a second operator stays as it was proposed.
    """
    found = await connection.fetch(OPEN_CASES, program, accounts, [bucket_of(a) for a in accounts], MAX_MERGED)
    cases: list[int] = [r["number"] for r in found if r["status"] == "open"]
    if not cases:
        return found[0]["number"] if found else None
    if others := cases[1:]:
        await connection.execute(MERGE_EVENTS, cases[0], others)
        await connection.execute(MERGE_CASES, cases[0], others)
    return cases[0]


ALERT: Final = """
INSERT INTO alert (program, kind, subject, words) VALUES ($1, 'fraud_check', $2, $3)
ON CONFLICT (program, kind, subject) WHERE resolved_at IS NULL DO NOTHING
"""


async def alert(connection: Connection, program: int, event: int, words: str) -> None:
    """Tell operators that an event could not be judged and is held."""
    await connection.execute(ALERT, program, f"event {event}", words)

"""SQL of events in cases, as the persons see them whom they are about; and of approving one of them."""

from datetime import datetime
from typing import Final, Literal

from asyncpg import Record
from msgspec import Struct

from service.domain.keys import bucket_of
from service.domain.objections import Reviewed
from service.store.connection import Connection

# Beside an event `e`, wherever one is read.
REVIEW_JOINS: Final = """
LEFT JOIN fraud_case_event c ON c.bucket = e.bucket AND c.event = e.number
LEFT JOIN fraud_objection o ON o.bucket = e.bucket AND o.event = e.number
"""
REVIEW_COLUMNS: Final = """c.state AS review_state, coalesce(c.decided_at, c.held_at) AS review_since, c.deadline AS review_until,
       c.reasons AS review_reasons, o.status AS objection, o.made_at AS objection_made_at, o.answered_at AS objection_answered_at,
       o.answer AS objection_answer"""


class StoredReview(Struct, frozen=True, kw_only=True):
    """An event in a case, with its objection (None: nobody made one). `reasons`: JSON, the heaviest first."""

    state: str
    since: datetime
    until: datetime | None
    reasons: str
    objection: Literal["open", "upheld", "refused"] | None
    made_at: datetime | None
    answered_at: datetime | None
    answer: str | None


def review_of_row(row: Record) -> StoredReview | None:
    """From a row with REVIEW_COLUMNS; None: the event is in no case."""
    if row["review_state"] is None:
        return None
    return StoredReview(
        state=row["review_state"], since=row["review_since"], until=row["review_until"], reasons=row["review_reasons"],
        objection=row["objection"], made_at=row["objection_made_at"], answered_at=row["objection_answered_at"],
        answer=row["objection_answer"],
    )  # fmt: skip


# What a rejection took is what its own fact says: a refund may have taken some before.
_REVIEWED: Final = """
SELECT c.bucket, c.account, c.event, c.program, e.platform, e.id, c.fraud_case, c.points, coalesce(t.points, c.points) AS taken, c.state,
       c.decided_at, (c.decision IS NOT NULL OR c.deadline <= now()) AS decided, d.proposed_by, d.decided_by, d.decision AS decision
FROM fraud_case_event c
JOIN event e ON e.bucket = c.bucket AND e.account = c.account AND e.number = c.event
LEFT JOIN fraud_decision d ON d.number = c.decision
LEFT JOIN LATERAL (
    SELECT -r.points AS points FROM event r
    WHERE r.platform = e.platform
      AND r.number = (SELECT g.number FROM registry g WHERE g.program = c.program AND g.kind = 1 AND g.key = e.platform || ':' || c.reversal)
) t ON c.reversal IS NOT NULL
"""
# The id may be another platform's, too, that reported for the same person: the asking platform's event comes first, then the oldest.
BY_ID: Final = f"{_REVIEWED} WHERE c.bucket = $1 AND c.account = $2 AND e.id = $3 ORDER BY (e.platform = $4) DESC, c.event LIMIT 1"
BY_NUMBER: Final = f"{_REVIEWED} WHERE c.bucket = $1 AND c.event = $2"
LOCK: Final = f"{BY_NUMBER} FOR UPDATE OF c"


async def by_id(connection: Connection, *, account: int, platform: int, id: str) -> Reviewed | None:  # noqa: A002 - the event's field
    """An event of an account that is in a case, by the id that activity shows."""
    row = await connection.fetchrow(BY_ID, bucket_of(account), account, id, platform)
    return None if row is None else _reviewed(row)


async def by_number(connection: Connection, *, bucket: int, event: int) -> Reviewed | None:
    """An event that is in a case."""
    row = await connection.fetchrow(BY_NUMBER, bucket, event)
    return None if row is None else _reviewed(row)


async def lock(connection: Connection, *, bucket: int, event: int) -> Reviewed | None:
    """The same, under lock; take the account's lock first."""
    row = await connection.fetchrow(LOCK, bucket, event)
    return None if row is None else _reviewed(row)


def _reviewed(row: Record) -> Reviewed:
    values = dict(row)
    decision, by = values.pop("decision"), (values.pop("proposed_by"), values.pop("decided_by"))
    return Reviewed(**values, rejected_by=tuple(one for one in by if one is not None) if decision == "reject" else ())


# What others decide of the case waits until this is committed.
LOCK_CASE: Final = """
SELECT f.number, coalesce(y.alone_points, 10000) AS alone_points
FROM fraud_case f LEFT JOIN fraud_policy y ON y.program = f.program WHERE f.number = $1 FOR UPDATE OF f
"""
PROPOSED: Final = "SELECT EXISTS (SELECT FROM fraud_decision WHERE fraud_case = $1 AND status = 'pending' AND $2 = ANY(events))"


async def lock_case(connection: Connection, fraud_case: int) -> int:
    """Lock a case; up to how many points one operator decides alone."""
    row = await connection.fetchrow(LOCK_CASE, fraud_case)
    assert row is not None, "the event is in a case"
    points: int = row["alone_points"]
    return points


async def is_proposed(connection: Connection, *, fraud_case: int, event: int) -> bool:
    """Whether a decision about the event waits for a second operator."""
    found: bool = await connection.fetchval(PROPOSED, fraud_case, event)
    return found


# It settles when its hold ends; tuning learns that it was none.
APPROVE: Final = """
WITH freed AS (
    DELETE FROM screening WHERE bucket = $1 AND event = $2 AND state = 1
), decision AS (
    INSERT INTO fraud_decision (
        number, program, fraud_case, decision, events, points, alone, status, proposed_by, proposed_at, decided_at
    )
    SELECT nextval('number'), c.program, c.fraud_case, 'approve', ARRAY[c.event], c.points, true, 'done', $3, now(), now()
    FROM fraud_case_event c WHERE c.bucket = $1 AND c.event = $2 AND c.state = 'held'
    RETURNING number, fraud_case
), approved AS (
    UPDATE fraud_case_event c SET state = 'approved', deadline = NULL, at_deadline = NULL, decided_at = now(), decision = d.number
    FROM decision d WHERE c.bucket = $1 AND c.event = $2
)
UPDATE fraud_case f
SET updated_at = now(), status = CASE WHEN w.open THEN f.status ELSE 'closed' END, closed_at = CASE WHEN w.open THEN NULL ELSE now() END
FROM decision d, LATERAL (
    SELECT EXISTS (
        SELECT FROM fraud_case_event o WHERE o.fraud_case = d.fraud_case AND o.event <> $2 AND o.state IN ('held', 'settled')
    ) AS open
) w
WHERE f.number = d.fraud_case
"""
LABEL_HONEST: Final = """
INSERT INTO fraud_label (program, event, fraud, points, score, strengths, source)
SELECT c.program, c.event, false, c.points, c.score,
       coalesce((SELECT v.strengths FROM verdict v WHERE v.bucket = $1 AND v.event = $2 ORDER BY v.seq DESC LIMIT 1), '{}'), 'decision'
FROM fraud_case_event c WHERE c.bucket = $1 AND c.event = $2
ON CONFLICT (program, event) DO UPDATE SET fraud = false, at = now()
"""


async def approve(connection: Connection, *, bucket: int, event: int, operator: int) -> None:
    """Let a held event settle: account, case and event are locked. A case with nothing undecided is closed."""
    await connection.execute(APPROVE, bucket, event, operator)


async def label_honest(connection: Connection, *, bucket: int, event: int) -> None:
    """Note that the event was no fraud, whatever was noted before."""
    await connection.execute(LABEL_HONEST, bucket, event)


# Forgetting ---------------------------------------------------------------------------------------------

# An objection that nobody has answered is nobody's any more.
FORGET: Final = """
WITH verdicts AS (
    UPDATE verdict SET strengths = NULL WHERE bucket = $1 AND event = ANY($2::bigint[]) AND strengths IS NOT NULL
), reasons AS (
    UPDATE fraud_case_event SET reasons = '[]' WHERE bucket = $1 AND event = ANY($2::bigint[]) AND reasons <> '[]'
), open AS (
    DELETE FROM fraud_objection WHERE bucket = $1 AND event = ANY($2::bigint[]) AND status = 'open'
)
UPDATE fraud_objection SET text = NULL, answer = NULL WHERE bucket = $1 AND event = ANY($2::bigint[]) AND status <> 'open'
"""


async def forget_events(connection: Connection, *, bucket: int, events: list[int]) -> None:
    """Forget why these events were suspicious, and what was said about it."""
    await connection.execute(FORGET, bucket, events)

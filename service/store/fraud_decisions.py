"""SQL of decisions about fraud cases, and of carrying them out.

Whoever changes a case, its events or its decisions locks the case first; whoever locks accounts as well has done that before.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from schemas.fraud import CaseDecision, CaseEventState, CaseStatus
from service.domain.fraud_cases import REVERSIBLE, Kind, Proposal, Suspect
from service.store.connection import Connection
from service.store.fraud_cases import UNDECIDED

ALONE_POINTS: Final = 10_000
"""Where a program has no policy."""
_REVERSIBLE: Final = ", ".join(f"'{type_}'" for type_ in sorted(REVERSIBLE))

# Deciding -------------------------------------------------------------------------------------------------

LOCK: Final = """
SELECT number, program, status FROM fraud_case WHERE number = $1 AND ($2::int IS NULL OR program = $2) FOR NO KEY UPDATE
"""


class Case(Struct, frozen=True, kw_only=True):
    """A case under lock."""

    number: int
    program: int
    status: CaseStatus


async def lock(connection: Connection, number: int, *, program: int | None = None) -> Case | None:
    """A case (None: not of this program), under lock: nothing of it changes until the commit."""
    row = await connection.fetchrow(LOCK, number, program)
    return None if row is None else Case(**row)


PROPOSAL: Final = "SELECT number, decision, events, proposed_by FROM fraud_decision WHERE fraud_case = $1 AND status = 'pending'"


async def proposal(connection: Connection, case: int) -> Proposal | None:
    """The decision that waits for a second operator."""
    row = await connection.fetchrow(PROPOSAL, case)
    return None if row is None else Proposal(**row)


SUSPECTS: Final = f"""
SELECT e.event, coalesce(f.type, '') AS type, e.points, CASE WHEN NOT {UNDECIDED} THEN coalesce(d.decision, 'deadline') END AS decided
FROM fraud_case_event e
LEFT JOIN event f ON f.bucket = e.bucket AND f.account = e.account AND f.number = e.event
LEFT JOIN fraud_decision d ON d.number = e.decision
WHERE e.fraud_case = $1
"""


async def suspects(connection: Connection, case: int) -> list[Suspect]:
    """The events of a case."""
    return [Suspect(**row) for row in await connection.fetch(SUSPECTS, case)]


# A case that is decided piece by piece is decided by one operator alone up to the same limit.
ALONE: Final = f"""
SELECT coalesce((SELECT alone_points FROM fraud_policy WHERE program = $1), {ALONE_POINTS}) - coalesce((
    SELECT sum(points) FROM fraud_decision WHERE fraud_case = $2 AND status = 'done' AND alone AND proposed_by = $3
), 0)::bigint
"""


async def alone_points(connection: Connection, case: Case, operator: int) -> int:
    """Up to how many more points of a case this operator decides alone; negative where the limit was lowered."""
    points: int = await connection.fetchval(ALONE, case.program, case.number, operator)
    return points


INSERT: Final = """
INSERT INTO fraud_decision (number, program, fraud_case, decision, events, points, note, alone, status, proposed_by, proposed_at, decided_at)
VALUES (nextval('number'), $1, $2, $3, $4, $5, $6, $7, CASE WHEN $7 THEN 'done' ELSE 'pending' END, $8, now(), CASE WHEN $7 THEN now() END)
RETURNING number
"""


async def insert(
    connection: Connection, case: Case, decision: CaseDecision, events: Sequence[int], *, points: int, note: str | None, alone: bool, by: int
) -> int:  # fmt: skip
    """A decision, done where one operator may decide alone, else pending; its number."""
    number: int = await connection.fetchval(INSERT, case.program, case.number, decision, events, points, note, alone, by)
    return number


END: Final = (
    "UPDATE fraud_decision SET status = $2, decided_by = $3, decided_at = now(), decided_note = $4 WHERE number = $1 AND status = 'pending'"
)


async def end(connection: Connection, number: int, status: str, *, by: int, note: str | None) -> None:
    """End a pending decision: done, refused or withdrawn."""
    await connection.execute(END, number, status, by, note)


MARK: Final = f"""
UPDATE fraud_case_event e SET decision = $2, reversal = CASE WHEN $4 = 'reject' THEN 'review:' || gen_random_uuid() END
WHERE e.fraud_case = $1 AND e.event = ANY($3::bigint[]) AND {UNDECIDED}
"""


async def mark(connection: Connection, case: int, number: int, events: Sequence[int], decision: CaseDecision) -> None:
    """These events of a locked case are decided by this decision, which has yet to be carried out."""
    await connection.execute(MARK, case, number, events, decision)


SET_STATUS: Final = "UPDATE fraud_case SET status = $2, updated_at = now() WHERE number = $1"


async def set_status(connection: Connection, case: int, status: CaseStatus) -> None:
    """Of a locked case that is not closed by it."""
    await connection.execute(SET_STATUS, case, status)


# Carrying out ---------------------------------------------------------------------------------------------

UNFINISHED: Final = """
SELECT fraud_case FROM fraud_case_event e WHERE decided_at IS NULL AND (decision IS NOT NULL OR reversal IS NOT NULL) GROUP BY fraud_case
"""
OVERDUE: Final = f"""
SELECT fraud_case FROM fraud_case_event e WHERE e.state = 'held' AND e.deadline <= now() AND {UNDECIDED} GROUP BY fraud_case
"""
# In any order: one that cannot be finished does not keep the others waiting.
TO_DO: Final = f"SELECT fraud_case FROM ({UNFINISHED} UNION {OVERDUE}) c ORDER BY random() LIMIT $1"
_LEFT: Final = """(
    SELECT coalesce(sum(a.points - a.reversed), 0)::bigint FROM award a WHERE a.bucket = e.bucket AND a.account = e.account AND a.event = e.event
)"""
EMPTY: Final = f"SELECT fraud_case FROM fraud_case_event e WHERE e.decided_at IS NULL AND {_LEFT} = 0 GROUP BY fraud_case LIMIT $1"


async def cases_to_do(connection: Connection, *, limit: int, empty: bool = False) -> list[int]:
    """Cases of which something is to be carried out. `empty`: those instead with an event of which nothing is left."""
    return [row["fraud_case"] for row in await connection.fetch(EMPTY if empty else TO_DO, limit)]


EXPIRE: Final = f"""
UPDATE fraud_case_event e SET reversal = 'review:' || gen_random_uuid()
WHERE e.fraud_case = $1 AND e.state = 'held' AND e.at_deadline = 'reject' AND e.deadline <= now() AND {UNDECIDED} AND EXISTS (
    SELECT FROM event f WHERE f.bucket = e.bucket AND f.account = e.account AND f.number = e.event AND f.type IN ({_REVERSIBLE})
)
"""


async def expire(connection: Connection, case: int) -> None:
    """Of a locked case: what nobody decided in time, and its policy rejects then, is rejected from now on."""
    await connection.execute(EXPIRE, case)


# What is decided, or overdue and released (also where nothing can take it back), or empty. Shipments before their orders: a cancelled
# order takes back what its shipments have left.
READY: Final = f"""
SELECT * FROM (
    SELECT e.bucket, e.account, e.event, e.program, e.reasons, e.points, e.reversal, e.decision, f.platform, p.code AS platform_code, f.id, f.type, f.order_id,
           coalesce(d.decided_at, e.deadline) AS at, {_LEFT} AS left,
           CASE WHEN e.decision IS NOT NULL THEN d.decision
                WHEN e.reversal IS NOT NULL THEN 'reject'
                WHEN {_LEFT} = 0 THEN 'void'
                WHEN e.state = 'held' AND e.deadline <= now() AND (e.at_deadline = 'release' OR f.type NOT IN ({_REVERSIBLE})) THEN 'release'
           END AS kind, s.status AS sent
    FROM fraud_case_event e
    JOIN event f ON f.bucket = e.bucket AND f.account = e.account AND f.number = e.event
    JOIN platform p ON p.id = f.platform
    LEFT JOIN fraud_decision d ON d.number = e.decision
    LEFT JOIN LATERAL (
        SELECT x.answer::json ->> 'status' AS status FROM registry r JOIN event x ON x.platform = f.platform AND x.number = r.number
        WHERE r.program = e.program AND r.kind = 1 AND r.key = f.platform || ':' || e.reversal
    ) s ON e.reversal IS NOT NULL
    WHERE e.fraud_case = $1 AND e.decided_at IS NULL AND ($2::bigint[] IS NULL OR e.event = ANY($2))
) r
WHERE kind IS NOT NULL ORDER BY type = 'order.paid', event LIMIT $3
"""


class Ready(Struct, frozen=True, kw_only=True):
    """An event of which something is to be carried out. `left`: points that nobody has taken back.

    `at`: when that was decided. `reversal`: the id of the fact that takes it back; `sent`: how that was answered, None: not yet.
    `decision`: the operators' (None: its deadline's, or nobody's).
    """

    bucket: int
    account: int
    event: int
    program: int
    reasons: str
    points: int
    reversal: str | None
    decision: int | None
    platform: int
    platform_code: str
    id: str
    type: str
    order_id: str | None
    at: datetime | None
    left: int
    kind: Kind
    sent: str | None

    @property
    def taken(self) -> bool:
        """Whether its reversal took something back."""
        return self.sent is not None and self.sent != "ignored"


async def ready(connection: Connection, case: int, *, limit: int, events: Sequence[int] | None = None) -> list[Ready]:
    """What is to be carried out in a case, all or of these events; read it under their accounts' locks before it is concluded."""
    return [Ready(**row) for row in await connection.fetch(READY, case, events, limit)]


# What is let go settles when its hold ends; what was rejected keeps its mark. A label has the features of the newest verdict.
CONCLUDE: Final = """
WITH w AS MATERIALIZED (
    SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::text[], $5::boolean[]) AS w (bucket, account, event, state, fraud)
), freed AS (
    DELETE FROM screening s USING w WHERE s.bucket = w.bucket AND s.event = w.event AND s.state = 1 AND w.state <> 'rejected'
), rejected AS (
    INSERT INTO screening (bucket, account, event, program, state) SELECT bucket, account, event, $6, 2 FROM w WHERE state = 'rejected'
    ON CONFLICT (bucket, event) DO UPDATE SET state = 2
), labelled AS (
    INSERT INTO fraud_label (program, event, fraud, points, score, strengths, source)
    SELECT $6, w.event, w.fraud, e.points, coalesce(v.score, e.score), coalesce(v.strengths, '{}'), 'decision'
    FROM w JOIN fraud_case_event e USING (bucket, event)
    LEFT JOIN LATERAL (
        SELECT score, strengths FROM verdict v WHERE v.bucket = w.bucket AND v.event = w.event ORDER BY v.seq DESC LIMIT 1
    ) v ON true
    WHERE w.fraud IS NOT NULL
    ON CONFLICT (program, event) DO UPDATE
    SET fraud = excluded.fraud, points = excluded.points, score = excluded.score, strengths = excluded.strengths, source = 'decision', at = now()
)
UPDATE fraud_case_event e SET state = w.state, deadline = NULL, at_deadline = NULL, decided_at = now()
FROM w WHERE e.bucket = w.bucket AND e.event = w.event
"""


async def conclude(connection: Connection, program: int, rows: Sequence[tuple[Ready, CaseEventState, bool | None]]) -> None:
    """End events whose accounts and case are locked: each with its state then, and whether it was fraud (None: nobody says)."""
    await connection.execute(
        CONCLUDE, [r.bucket for r, _, _ in rows], [r.account for r, _, _ in rows], [r.event for r, _, _ in rows], [s for _, s, _ in rows],
        [f for _, _, f in rows], program,
    )  # fmt: skip


TELL: Final = """
INSERT INTO outbox (number, program, platform, type, bucket, account, event, data, at)
SELECT nextval('number'), $1, w.platform, 'event.rejected', w.bucket, w.account, w.event, w.data, now()
FROM unnest($2::int[], $3::smallint[], $4::bigint[], $5::bigint[], $6::text[]) AS w (platform, bucket, account, event, data)
"""


async def tell_rejected(connection: Connection, program: int, rows: Sequence[tuple[Ready, str]]) -> None:
    """Write what platforms are told of rejected events. `rows`: the event, and the message's data (JSON)."""
    await connection.execute(
        TELL, program, [r.platform for r, _ in rows], [r.bucket for r, _ in rows], [r.account for r, _ in rows], [r.event for r, _ in rows],
        [data for _, data in rows],
    )  # fmt: skip


# A proposal of which nothing is left to decide lapses; a case of which nothing is left is closed.
CLOSE: Final = f"""
WITH lapsed AS (
    UPDATE fraud_decision d SET status = 'lapsed', decided_at = now()
    WHERE d.fraud_case = $1 AND d.status = 'pending' AND NOT EXISTS (
        SELECT FROM fraud_case_event e WHERE e.fraud_case = $1 AND e.event = ANY(d.events) AND {UNDECIDED}
    )
    RETURNING 1
), open AS (SELECT count(*) > 0 AS any FROM fraud_case_event e WHERE e.fraud_case = $1 AND e.decided_at IS NULL)
UPDATE fraud_case c
SET updated_at = now(), closed_at = CASE WHEN NOT open.any THEN now() END,
    status = CASE WHEN NOT open.any THEN 'closed' WHEN EXISTS (SELECT FROM lapsed) THEN 'open' ELSE c.status END
FROM open WHERE c.number = $1 AND c.status <> 'closed'
"""


async def close(connection: Connection, case: int) -> None:
    """After events of a locked case were concluded: end what has nothing left."""
    await connection.execute(CLOSE, case)

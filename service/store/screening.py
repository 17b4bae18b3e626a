"""SQL of screening: events that wait for their verdict, what the judge writes of them, and how far it has come."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec
from asyncpg import Record
from msgspec import Struct

from service.store.connection import Connection

Outcome = Literal[0, 1, 2, 3, 4]
EARNS_NOTHING: Final = 0
PASS: Final = 1
HOLD: Final = 2
REJECT: Final = 3
UNJUDGED: Final = 4
"""Outcomes as table `verdict` has them."""

_EVENT = """
x.bucket, x.account, x.event, e.platform, p.code AS platform_code, e.type, e.facts, e.received_at, e.points AS change, w.points AS awarded, w.certificates
"""
_OF = """
JOIN event e ON e.bucket = x.bucket AND e.account = x.account AND e.number = x.event
JOIN platform p ON p.id = e.platform
LEFT JOIN LATERAL (
    SELECT sum(a.points)::bigint AS points, jsonb_object_agg(a.line, a.certificate::text) FILTER (WHERE a.certificate IS NOT NULL AND a.line IS NOT NULL) AS certificates
    FROM award a WHERE a.bucket = x.bucket AND a.account = x.account AND a.event = x.event
) w ON true
"""

PROGRAMS: Final = """
WITH RECURSIVE p AS (
    (SELECT program FROM screening WHERE state = 0 ORDER BY program LIMIT 1)
    UNION ALL
    SELECT (SELECT s.program FROM screening s WHERE s.state = 0 AND s.program > p.program ORDER BY s.program LIMIT 1) FROM p WHERE p.program IS NOT NULL
)
SELECT program FROM p WHERE program IS NOT NULL
UNION
SELECT program FROM fraud_decision WHERE status = 'done' AND told_seq IS NULL
"""


async def programs(connection: Connection) -> list[int]:
    """Programs that have events without a verdict, or decisions that no judge knows of; a look per program, however many events wait."""
    return [r["program"] for r in await connection.fetch(PROGRAMS)]


class Waiting(Struct, frozen=True, kw_only=True):
    """An event as the judge gets it. `points`: what it would earn; negative: what it takes back."""

    bucket: int
    account: int
    event: int
    platform: int
    platform_code: str
    type: str
    facts: str
    received_at: datetime
    points: int
    replaced: int
    """Points that it took back while it earned."""
    certificates: str | None
    """JSON: line → certificate."""
    hint: int = 0


# The numbers of one transaction follow the ids of its events, not what happened first.
WAITING: Final = f"""
SELECT {_EVENT}, x.hint
FROM (SELECT bucket, account, event, hint FROM screening WHERE program = $1 AND state = 0 ORDER BY event LIMIT $2) x {_OF}
ORDER BY e.received_at, e.occurred_at, x.event
"""
SUSPECTS: Final = f"""
SELECT {_EVENT}, x.hint
FROM (SELECT bucket, account, event, hint FROM screening WHERE program = $1 AND state = 0 AND event = $2) x {_OF}
"""
REPLAY: Final = f"""
SELECT x.seq, x.points AS judged_points, {_EVENT}, 0 AS hint
FROM (SELECT seq, bucket, account, event, points FROM verdict WHERE program = $1 AND seq > $2 ORDER BY seq LIMIT $3) x {_OF}
ORDER BY x.seq
"""


async def waiting(connection: Connection, program: int, limit: int) -> list[Waiting]:
    """The first events of a program that have no verdict; those that came together in the order in which they happened."""
    return [_waiting(r) for r in await connection.fetch(WAITING, program, limit)]


async def suspect(connection: Connection, program: int, event: int) -> Waiting | None:
    """One event that waits, by its number; None: it waits no more."""
    row = await connection.fetchrow(SUSPECTS, program, event)
    return None if row is None else _waiting(row)


async def replay(connection: Connection, program: int, after: int, limit: int) -> list[tuple[int, Waiting]]:
    """Events that were judged, in the same order, each with its place. Without those whose facts are gone."""
    return [(r["seq"], _waiting(r, r["judged_points"])) for r in await connection.fetch(REPLAY, program, after, limit)]


def _waiting(r: Record, points: int | None = None) -> Waiting:
    if points is None:
        points = r["change"] if r["awarded"] is None else r["awarded"]
    return Waiting(
        bucket=r["bucket"], account=r["account"], event=r["event"], platform=r["platform"], platform_code=r["platform_code"], type=r["type"],
        facts=r["facts"], received_at=r["received_at"], points=points, replaced=max(0, (r["awarded"] or 0) - r["change"]) if points > 0 else 0,
        certificates=r["certificates"], hint=r["hint"],
    )  # fmt: skip


FIRST_SINCE: Final = "SELECT seq FROM verdict WHERE program = $1 AND judged_at >= $2 ORDER BY judged_at LIMIT 1"


async def place_at(connection: Connection, program: int, since: datetime, last: int) -> int:
    """The place before the first verdict since then; `last` if there is none."""
    first = await connection.fetchval(FIRST_SINCE, program, since)
    return last if first is None else int(first) - 1


NOW: Final = "SELECT now() AS now, catalogue_version FROM deployment"


async def now_and_catalogue(connection: Connection) -> tuple[datetime, int]:
    """PostgreSQL's time, and the version of the campaigns."""
    row = await connection.fetchrow(NOW)
    assert row is not None, "table deployment has one row"
    return row["now"], row["catalogue_version"]


# What persons decided --------------------------------------------------------------------------------------


class Decided(Struct, frozen=True, kw_only=True):
    """What a person decided of these accounts' events. `told`: the judge knew of it after this verdict; -1: it does not know yet."""

    number: int
    approves: bool
    accounts: list[int]
    told: int


_DECIDED = """
SELECT d.number, d.decision, coalesce(d.told_seq, -1) AS told, array_agg(DISTINCT e.account) AS accounts
FROM fraud_decision d JOIN fraud_case_event e ON e.fraud_case = d.fraud_case AND e.event = ANY(d.events)
"""
UNTOLD: Final = (
    f"{_DECIDED} WHERE d.program = $1 AND d.status = 'done' AND d.told_seq IS NULL GROUP BY d.number ORDER BY d.number LIMIT 100"
)
TOLD: Final = f"{_DECIDED} WHERE d.program = $1 AND d.status = 'done' AND d.told_seq >= $2 GROUP BY d.number ORDER BY d.told_seq, d.number"
TELL: Final = "UPDATE fraud_decision SET told_seq = $2 WHERE number = ANY($1::bigint[]) AND told_seq IS NULL"


async def untold(connection: Connection, program: int) -> list[Decided]:
    """Decisions that the judge does not know of yet."""
    return [_decided(r) for r in await connection.fetch(UNTOLD, program)]


async def told_since(connection: Connection, program: int, seq: int) -> list[Decided]:
    """Decisions that the judge knew of after the verdict with this place, in the same order."""
    return [_decided(r) for r in await connection.fetch(TOLD, program, seq)]


async def tell(connection: Connection, numbers: Sequence[int], seq: int) -> None:
    """The judge knows of these decisions, and all its verdicts after that place rest on them."""
    await connection.execute(TELL, numbers, seq)


def _decided(r: Record) -> Decided:
    return Decided(number=r["number"], approves=r["decision"] == "approve", accounts=r["accounts"], told=r["told"])


# How far the judge has come ------------------------------------------------------------------------------


class Progress(Struct, frozen=True, kw_only=True):
    """The judge of a program: its last verdict, the batch that was begun and not finished, and how often."""

    seq: int
    taking: list[int]
    tries: int


PROGRESS: Final = """
INSERT INTO judge (program) VALUES ($1) ON CONFLICT (program) DO UPDATE SET program = excluded.program RETURNING seq, taking, tries
"""
BEGIN: Final = "UPDATE judge SET taking = $2, tries = tries + 1, began = now() WHERE program = $1"
RESET: Final = "UPDATE judge SET taking = $2, tries = $3 WHERE program = $1"
FINISH: Final = "UPDATE judge SET seq = $2, taking = $3, tries = $4 WHERE program = $1 AND seq = $5 RETURNING 1"


async def progress(connection: Connection, program: int) -> Progress:
    """How far the judge of a program has come."""
    row = await connection.fetchrow(PROGRESS, program)
    assert row is not None
    return Progress(seq=row["seq"], taking=row["taking"], tries=row["tries"])


async def begin(connection: Connection, program: int, events: Sequence[int]) -> None:
    """Say what is going to be judged, before anything is: whoever comes after a judge that ended there is warned."""
    await connection.execute(BEGIN, program, events)


async def reset(connection: Connection, program: int, *, taking: Sequence[int], tries: int) -> None:
    """Say what is under suspicion from now on."""
    await connection.execute(RESET, program, taking, tries)


async def finish(connection: Connection, program: int, *, before: int, seq: int, taking: Sequence[int], tries: int) -> bool:
    """Move on to the last of these verdicts; False: another judge has written some meanwhile."""
    return await connection.fetchval(FINISH, program, seq, taking, tries, before) is not None


# Verdicts --------------------------------------------------------------------------------------------------


class VerdictRow(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A row of `verdict`; `score` in basis points, `own` in thousandths of a nat; `strengths` is JSON {signal: quarters}."""

    bucket: int
    account: int
    event: int
    points: int
    outcome: int
    enforced: bool
    model: int
    score: int
    own: int
    shadow_model: int | None = None
    shadow_score: int | None = None
    shadow_outcome: int | None = None
    strengths: str | None = None


# One text of JSON: the driver looks at every value of an array by itself, a dozen arrays took it longer than all the rest.
INSERT: Final = """
INSERT INTO verdict (program, seq, bucket, account, event, points, outcome, enforced, model, score, own, shadow_model, shadow_score, shadow_outcome,
                     strengths, judged_at)
SELECT $1, $2 + v.n, v.bucket, v.account, v.event, v.points, v.outcome, v.enforced, v.model, v.score, v.own, v.shadow_model, v.shadow_score,
       v.shadow_outcome, v.strengths, now()
FROM ROWS FROM (json_to_recordset($3::json) AS (
         bucket smallint, account bigint, event bigint, points bigint, outcome smallint, enforced boolean, model int, score smallint, own integer,
         shadow_model int, shadow_score smallint, shadow_outcome smallint, strengths text))
     WITH ORDINALITY AS v (bucket, account, event, points, outcome, enforced, model, score, own, shadow_model, shadow_score, shadow_outcome, strengths, n)
"""
_encode: Final = msgspec.json.Encoder().encode


async def insert_verdicts(connection: Connection, program: int, before: int, rows: Sequence[VerdictRow]) -> None:
    """Write verdicts in the order in which the judge gave them, after the one with the place `before`."""
    await connection.execute(INSERT, program, before, _encode(rows).decode())


FREE: Final = """
DELETE FROM screening s USING unnest($1::smallint[], $2::bigint[]) AS w (bucket, event) WHERE s.bucket = w.bucket AND s.event = w.event AND s.state = 0
"""


async def free(connection: Connection, events: Iterable[tuple[int, int]]) -> None:
    """These events (bucket, number) have their verdict, and may settle."""
    pairs = list(events)
    await connection.execute(FREE, [p[0] for p in pairs], [p[1] for p in pairs])


DRAIN: Final = """
DELETE FROM screening s USING (SELECT bucket, event FROM screening WHERE state = 0 ORDER BY program, event LIMIT $1 FOR UPDATE SKIP LOCKED) w
WHERE s.bucket = w.bucket AND s.event = w.event AND s.state = 0
"""


async def drain(connection: Connection, limit: int) -> int:
    """Let events pass that nobody judges (mode off); what is held stays held."""
    return int((await connection.execute(DRAIN, limit)).split()[-1])


OLDEST: Final = """
SELECT count(*) AS n, now() - min(e.received_at) AS age
FROM (SELECT bucket, account, event FROM screening WHERE state = 0 ORDER BY program, event LIMIT 1000) s
JOIN event e ON e.bucket = s.bucket AND e.account = s.account AND e.number = s.event
"""


async def oldest_waiting(connection: Connection) -> tuple[int, timedelta]:
    """How many events wait for a verdict (at most 1,000 are counted), and for how long the oldest of them has."""
    row = await connection.fetchrow(OLDEST)
    assert row is not None
    return row["n"], row["age"] or timedelta()

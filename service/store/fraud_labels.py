"""SQL of labels: what judged events turned out to be, and what tuning compares them with."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec import Struct

from service.domain.fraud.records import kind_of
from service.domain.fraud_tuning import Seen
from service.domain.keys import Kind
from service.store.connection import Connection

PAGE_ROWS: Final = 5_000
_quarters = msgspec.json.Decoder(dict[str, int]).decode


class Target(Struct, frozen=True, kw_only=True):
    """An event that a label names: as it was judged last, and the label that it has. Nulls: never reported, never judged, not labelled."""

    event: int | None
    points: int | None
    score: int | None
    strengths: str | None
    fraud: bool | None
    source: str | None


TARGETS: Final = f"""
SELECT r.number AS event, v.points, v.score, v.strengths, l.fraud, l.source
FROM unnest($2::text[]) WITH ORDINALITY AS w (key, n)
LEFT JOIN registry r ON r.program = $1 AND r.kind = {Kind.EVENT.value} AND r.key = w.key
LEFT JOIN LATERAL (
    SELECT points, score, coalesce(strengths, '{{}}') AS strengths FROM verdict
    WHERE verdict.bucket = r.bucket AND verdict.event = r.number AND verdict.program = $1 AND outcome BETWEEN 1 AND 3
    ORDER BY seq DESC LIMIT 1
) v ON true
LEFT JOIN fraud_label l ON l.program = $1 AND l.event = r.number
ORDER BY w.n
"""


async def targets(connection: Connection, program: int, keys: Sequence[str]) -> list[Target]:
    """What is known of the events with these registry keys, in their order."""
    return [Target(**row) for row in await connection.fetch(TARGETS, program, keys)]


PUT: Final = """
INSERT INTO fraud_label (program, event, fraud, points, score, strengths, source)
SELECT $1, *, 'import' FROM unnest($2::bigint[], $3::boolean[], $4::bigint[], $5::smallint[], $6::text[])
ON CONFLICT (program, event) DO UPDATE SET fraud = excluded.fraud, points = excluded.points, score = excluded.score,
    strengths = excluded.strengths, at = now()
WHERE fraud_label.source = 'import'
"""


class Label(Struct, frozen=True, kw_only=True):
    """A label that is imported. `strengths` is JSON {signal: quarters}."""

    event: int
    fraud: bool
    points: int
    score: int
    strengths: str


async def put(connection: Connection, program: int, labels: Sequence[Label]) -> None:
    """Save labels, each event once; what a person decided stays."""
    columns = [[getattr(label, name) for label in labels] for name in Label.__struct_fields__]
    await connection.execute(PUT, program, *columns)


PLATFORMS: Final = "SELECT code, id FROM platform WHERE program = $1"


async def platforms(connection: Connection, program: int) -> dict[str, int]:
    """Numbers of a program's platforms by code."""
    return {row["code"]: row["id"] for row in await connection.fetch(PLATFORMS, program)}


LABELS: Final = """
SELECT l.event, l.fraud, l.points, l.strengths, coalesce((
    SELECT e.type FROM platform q JOIN event e ON e.platform = q.id AND e.number = l.event WHERE q.program = $1 LIMIT 1
), 'order.paid') AS type
FROM fraud_label l
WHERE l.program = $1 AND l.event > $2 AND ($3::timestamptz IS NULL OR l.at >= $3) ORDER BY l.event LIMIT $4
"""


async def labels(connection: Connection, program: int, *, since: datetime | None) -> AsyncIterator[Seen]:
    """All labels of a program, perhaps only those made since then."""
    after = -1
    while rows := await connection.fetch(LABELS, program, after, since, PAGE_ROWS):
        for row in rows:
            yield Seen(
                event=row["event"], quarters=_quarters(row["strengths"]), fraud=row["fraud"], points=row["points"], kind=kind_of(row["type"])
            )  # fmt: skip
        after = rows[-1]["event"]


COUNT: Final = """
SELECT count(*) FILTER (WHERE fraud) AS frauds, count(*) FILTER (WHERE NOT fraud) AS honest FROM fraud_label
WHERE program = $1 AND ($2::timestamptz IS NULL OR at >= $2)
"""


async def count(connection: Connection, program: int, *, since: datetime | None) -> tuple[int, int]:
    """Frauds and honest events among the labels."""
    row = await connection.fetchrow(COUNT, program, since)
    assert row is not None
    return row["frauds"], row["honest"]


class Exported(Struct, frozen=True, kw_only=True):
    """A label as it is exported. Platform and id are null when the event is no longer there."""

    number: int
    platform: str | None
    event: str | None
    fraud: bool
    points: int
    score_bp: int
    strengths: msgspec.Raw
    source: str
    at: datetime


EXPORT: Final = """
SELECT l.event AS number, p.code AS platform, e.id AS event, l.fraud, l.points, l.score AS score_bp, l.strengths, l.source, l.at
FROM fraud_label l
LEFT JOIN LATERAL (
    SELECT e.platform, e.id FROM platform q JOIN event e ON e.platform = q.id AND e.number = l.event WHERE q.program = $1 LIMIT 1
) e ON true
LEFT JOIN platform p ON p.id = e.platform
WHERE l.program = $1 AND l.event > $2 ORDER BY l.event LIMIT $3
"""


async def exported(connection: Connection, program: int) -> AsyncIterator[Exported]:
    """All labels of a program, by number of event."""
    after = -1
    while rows := await connection.fetch(EXPORT, program, after, PAGE_ROWS):
        for row in rows:
            yield Exported(**dict(row) | {"strengths": msgspec.Raw(row["strengths"].encode())})
        after = rows[-1]["number"]


# What nobody labelled --------------------------------------------------------------------------------------


class Range(Struct, frozen=True, kw_only=True):
    """Places of verdicts from which a sample is drawn, both included; empty where `last` is below `first`."""

    first: int
    last: int


RANGE: Final = """
SELECT (SELECT coalesce(min(seq), 1) FROM verdict WHERE program = $1 AND ($3::timestamptz IS NULL OR judged_at >= $3)) AS first,
       (SELECT coalesce(max(seq), 0) FROM verdict WHERE program = $1 AND judged_at < now() - $2::interval) AS last
"""


async def settled_range(connection: Connection, program: int, *, older_than: timedelta, since: datetime | None) -> Range:
    """The places of verdicts that are old enough, perhaps only those given since then."""
    row = await connection.fetchrow(RANGE, program, older_than, since)
    assert row is not None
    return Range(first=row["first"], last=row["last"])


SAMPLE: Final = """
SELECT v.event, v.points, v.strengths, coalesce(e.type, 'order.paid') AS type FROM unnest($2::bigint[]) AS w (seq)
JOIN verdict v ON v.program = $1 AND v.seq = w.seq
LEFT JOIN event e ON e.bucket = v.bucket AND e.account = v.account AND e.number = v.event
WHERE v.outcome = 1
  AND NOT EXISTS (SELECT FROM due d WHERE d.bucket = v.bucket AND d.account = v.account AND d.event = v.event)
  AND NOT EXISTS (SELECT FROM screening s WHERE s.bucket = v.bucket AND s.event = v.event)
  AND NOT EXISTS (SELECT FROM fraud_case_event c WHERE c.bucket = v.bucket AND c.event = v.event)
  AND NOT EXISTS (SELECT FROM fraud_label l WHERE l.program = $1 AND l.event = v.event)
"""


async def passed(connection: Connection, program: int, places: Sequence[int]) -> list[Seen]:
    """Those of the verdicts at these places that passed, settled, are in no case and have no label: taken for honest."""
    return [
        Seen(
            event=row["event"], quarters={} if row["strengths"] is None else _quarters(row["strengths"]), fraud=False, points=row["points"]
        )
        for row in await connection.fetch(SAMPLE, program, places)
    ]

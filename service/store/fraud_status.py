"""SQL that asks how the fraud checks are doing."""

from datetime import datetime
from typing import Final

from msgspec import Struct

from service.store.connection import Connection

MOST: Final = 100_000
"""More are not counted."""

STATUS: Final = f"""
SELECT (SELECT count(*) FROM (SELECT FROM screening WHERE state = 0 AND ($1::int IS NULL OR program = $1) LIMIT {MOST}) w) AS waiting,
       (SELECT extract(epoch FROM now() - e.received_at)::float8
        FROM (SELECT bucket, account, event FROM screening WHERE state = 0 AND ($1::int IS NULL OR program = $1) ORDER BY program, event LIMIT 1) s
        JOIN event e ON e.bucket = s.bucket AND e.account = s.account AND e.number = s.event) AS oldest_s,
       h.held, h.held_points, h.next_deadline,
       (SELECT count(*) FROM (SELECT FROM fraud_case WHERE status <> 'closed' AND ($1::int IS NULL OR program = $1) LIMIT {MOST}) c) AS open_cases,
       (SELECT count(*) FROM fraud_label WHERE program = $1 AND fraud) AS frauds,
       (SELECT count(*) FROM fraud_label WHERE program = $1 AND NOT fraud) AS honest
FROM (SELECT count(*) AS held, coalesce(sum(points), 0)::bigint AS held_points, min(deadline) AS next_deadline
      FROM (SELECT points, deadline FROM fraud_case_event WHERE state = 'held' AND ($1::int IS NULL OR program = $1) LIMIT {MOST}) x) h
"""


class FraudStatus(Struct, frozen=True, kw_only=True):
    """What waits, what is held, what people have to decide. Counts end at MOST."""

    waiting: int
    """Events without a verdict."""
    oldest_s: float | None
    """How long ago the oldest of them was received."""
    held: int
    held_points: int
    next_deadline: datetime | None
    open_cases: int
    frauds: int
    """Labels of one program: decided, or imported."""
    honest: int


async def status(connection: Connection, program: int | None) -> FraudStatus:
    """Of one program, or of all: then without labels."""
    row = await connection.fetchrow(STATUS, program)
    assert row is not None
    return FraudStatus(**row)

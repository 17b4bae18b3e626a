"""SQL of what fraud checks leave behind and may not be kept: a few rows at a time, without looking at those that stay."""

from typing import Final

from service.store.connection import Connection

_UNHELD: Final = "NOT EXISTS (SELECT FROM legal_hold h WHERE h.bucket = {0}.bucket AND h.account = {0}.account AND h.lifted_at IS NULL)"

PROGRAMS: Final = "SELECT id FROM program ORDER BY id"


async def programs(connection: Connection) -> list[int]:
    """All programs."""
    return [row["id"] for row in await connection.fetch(PROGRAMS)]


# From the lowest number on, which is the oldest: what is too young ends it, however much there is.
DELETE_VERDICTS: Final = f"""
WITH oldest AS MATERIALIZED (
    SELECT program, seq, bucket, account, judged_at < now() - make_interval(days => $3) AS old
    FROM verdict WHERE program = $1 AND seq > $2 ORDER BY seq LIMIT $4
), gone AS (
    DELETE FROM verdict v USING oldest o WHERE v.program = o.program AND v.seq = o.seq AND o.old AND {_UNHELD.format("o")}
)
SELECT coalesce(max(seq), 0)::bigint AS last, count(*) FILTER (WHERE old) AS old FROM oldest
"""


async def delete_verdicts(connection: Connection, *, program: int, after: int, days: int, limit: int) -> tuple[int, int]:
    """Delete verdicts of a program older than that, behind this number: the last number that was looked at, and how many were old."""
    row = await connection.fetchrow(DELETE_VERDICTS, program, after, days, limit)
    assert row is not None
    return row["last"], row["old"]


FORGET_REASONS: Final = f"""
UPDATE fraud_case_event SET reasons = '[]'
WHERE (bucket, event) IN (
    SELECT c.bucket, c.event FROM fraud_case_event c
    WHERE c.reasons <> '[]' AND c.decided_at < now() - make_interval(days => $1) AND {_UNHELD.format("c")}
    ORDER BY c.decided_at LIMIT $2
)
RETURNING 1
"""
FORGET_WORDS: Final = f"""
UPDATE fraud_objection SET text = NULL, answer = NULL
WHERE (bucket, event) IN (
    SELECT o.bucket, o.event FROM fraud_objection o
    WHERE o.text IS NOT NULL AND o.answered_at < now() - make_interval(days => $1) AND {_UNHELD.format("o")}
    ORDER BY o.answered_at LIMIT $2
)
RETURNING 1
"""
DELETE_HOURS: Final = """
DELETE FROM fraud_hour WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM fraud_hour WHERE program = $1 AND hour < now() - make_interval(days => $2) LIMIT $3
))
RETURNING 1
"""
DELETE_OUTBOX: Final = """
DELETE FROM outbox WHERE number IN (
    SELECT o.number FROM (SELECT number, at FROM outbox ORDER BY number LIMIT $2) o WHERE o.at < now() - make_interval(days => $1)
)
RETURNING 1
"""
DELETE_ENTRIES: Final = """
DELETE FROM fraud_list WHERE number IN (
    SELECT l.number FROM fraud_list l WHERE least(l.removed_at, l.until) < now() - make_interval(days => $1) ORDER BY l.number LIMIT $2
)
RETURNING 1
"""


async def forget_reasons(connection: Connection, *, days: int, limit: int) -> int:
    """Forget why events were suspicious that were decided so long ago; how many."""
    return len(await connection.fetch(FORGET_REASONS, days, limit))


async def forget_words(connection: Connection, *, days: int, limit: int) -> int:
    """Forget what was said in objections that were answered so long ago; how many."""
    return len(await connection.fetch(FORGET_WORDS, days, limit))


async def delete_hours(connection: Connection, *, program: int, days: int, limit: int) -> int:
    """Delete how scores were spread so long ago; how many rows."""
    return len(await connection.fetch(DELETE_HOURS, program, days, limit))


async def delete_outbox(connection: Connection, *, days: int, limit: int) -> int:
    """Delete what platforms were to be told so long ago; how many rows."""
    return len(await connection.fetch(DELETE_OUTBOX, days, limit))


async def delete_entries(connection: Connection, *, days: int, limit: int) -> int:
    """Delete entries of allow and block lists that were taken off, or ended, so long ago; how many."""
    return len(await connection.fetch(DELETE_ENTRIES, days, limit))

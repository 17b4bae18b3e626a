"""SQL of the log of inbound deliveries."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from asyncpg import Record
from msgspec import Struct

from schemas.deliveries import DeliveryAnswer, DeliveryEvent, Outcome
from service.domain.deliveries import Delivery
from service.store.connection import Connection

# Writing ---------------------------------------------------------------------------------------------

WRITE = """
INSERT INTO delivery (program, platform, hook, connector, topic, delivery_id, received_at, size_bytes, verdict, outcome, detail, events,
                      duration_ms, request_id, deliveries, sealed)
SELECT program, platform, hook, connector, topic, delivery_id, received_at, size_bytes, verdict, outcome, detail, events,
       duration_ms, request_id, deliveries, sealed
  FROM json_to_recordset($1::json) AS r(program int, platform int, hook text, connector text, topic text, delivery_id text,
       received_at timestamptz, size_bytes int, verdict text, outcome text, detail text, events jsonb, duration_ms real,
       request_id text, deliveries int, sealed text)
"""


async def write(conn: Connection, rows: Sequence[Delivery]) -> None:
    """Write these rows, in order, in one statement."""
    await conn.execute(WRITE, msgspec.json.encode(rows).decode())


# Reading ---------------------------------------------------------------------------------------------

_SHOWN = """
SELECT d.id, d.received_at, d.hook, coalesce(p.code, '') AS platform, coalesce(d.connector, h.connector) AS connector, d.topic,
       d.delivery_id, coalesce(nullif(d.size_bytes, 0), length(d.body), 0) AS size_bytes, d.verdict, d.outcome, d.detail, d.events,
       d.duration_ms, d.request_id, d.deliveries, d.sealed IS NOT NULL OR d.body IS NOT NULL AS replayable, d.attempts, d.replayed_at
  FROM delivery d LEFT JOIN platform p ON p.id = d.platform LEFT JOIN hook h ON h.id = d.hook
"""
FIND = _SHOWN + " WHERE d.program = $1 AND ($2::int IS NULL OR d.platform = $2) AND d.id = $3"
PAGE = _SHOWN + (
    " WHERE d.program = $1 AND ($2::int IS NULL OR d.platform = $2) AND d.id < $3 AND ($4::text IS NULL OR d.hook = $4)"
    " AND ($5::text IS NULL OR p.code = $5) AND ($6::text IS NULL OR d.outcome = $6) AND ($7::text IS NULL OR d.verdict = $7)"
    " AND ($8::text IS NULL OR d.topic = $8) AND ($9::timestamptz IS NULL OR d.received_at >= $9)"
    " AND ($10::timestamptz IS NULL OR d.received_at < $10)"
    " AND ($11::text IS NULL OR d.events @> jsonb_build_array(jsonb_build_object('id', $11::text)))"
    " ORDER BY d.id DESC LIMIT $12"
)


class Search(Struct, frozen=True, kw_only=True):
    """Which deliveries: all that is given must fit. `platform` is a code; `from_` is included, `to` is not."""

    hook: str | None = None
    platform: str | None = None
    outcome: str | None = None
    verdict: str | None = None
    topic: str | None = None
    from_: datetime | None = None
    to: datetime | None = None
    event: str | None = None


async def find(conn: Connection, id_: int, *, program: int, platform: int | None) -> DeliveryAnswer | None:
    """One delivery of a program, perhaps of one platform only."""
    row = await conn.fetchrow(FIND, program, platform, id_)
    return None if row is None else _shown(row)


async def page(conn: Connection, search: Search, *, program: int, platform: int | None, before: int, limit: int) -> list[DeliveryAnswer]:
    """At most `limit` deliveries with ids below `before`, newest first."""
    rows = await conn.fetch(
        PAGE, program, platform, before, search.hook, search.platform, search.outcome, search.verdict, search.topic,
        search.from_, search.to, search.event, limit,
    )  # fmt: skip
    return [_shown(row) for row in rows]


_events = msgspec.json.Decoder(list[DeliveryEvent])


def _shown(row: Record) -> DeliveryAnswer:
    return DeliveryAnswer(**(dict(row) | {"id": str(row["id"]), "events": _events.decode(row["events"])}))


# Replaying -------------------------------------------------------------------------------------------


class Selection(Struct, frozen=True, kw_only=True):
    """Kept deliveries of a time, perhaps of one hook or platform, with one of these outcomes."""

    from_: datetime
    to: datetime
    hook: str | None
    platform: str | None
    outcomes: Sequence[Outcome]


class KeptDelivery(Struct, frozen=True, kw_only=True):
    """A delivery as it is replayed: headers and body sealed, or (of an older release) the plain body alone."""

    id: int
    hook: str
    topic: str | None
    delivery_id: str | None
    outcome: str
    attempts: int
    sealed: str | None
    body: bytes | None


_SELECTED = """
  FROM delivery d JOIN platform p ON p.id = d.platform
 WHERE d.program = $1 AND d.id > $2 AND d.received_at >= $3 AND d.received_at < $4 AND ($5::text IS NULL OR d.hook = $5)
   AND ($6::text IS NULL OR p.code = $6) AND d.outcome = ANY($7::text[]) AND (d.sealed IS NOT NULL OR d.body IS NOT NULL)
"""
SELECT = "SELECT d.id" + _SELECTED + " ORDER BY d.id LIMIT $8"
COUNT = "SELECT count(*)" + _SELECTED
KEPT = "SELECT id, hook, topic, delivery_id, outcome, attempts, sealed, body FROM delivery WHERE program = $1 AND id = $2"
# What was credited once stays so, whatever a later replay makes of it.
REPLAYED = """
UPDATE delivery
   SET attempts = attempts + 1, replayed_at = now(),
       outcome = CASE WHEN outcome = 'credited' THEN outcome ELSE $2 END,
       detail = CASE WHEN outcome = 'credited' THEN detail ELSE $3 END,
       events = CASE WHEN outcome = 'credited' THEN events ELSE $4::jsonb END
 WHERE id = $1
"""


async def select(conn: Connection, selection: Selection, *, program: int, after: int, limit: int) -> list[int]:
    """At most `limit` ids above `after`, oldest first."""
    return [row["id"] for row in await conn.fetch(SELECT, program, after, *_arguments(selection), limit)]


async def count(conn: Connection, selection: Selection, *, program: int) -> int:
    """How many deliveries a selection has."""
    found: int = await conn.fetchval(COUNT, program, 0, *_arguments(selection))
    return found


def _arguments(selection: Selection) -> tuple[object, ...]:
    return selection.from_, selection.to, selection.hook, selection.platform, list(selection.outcomes)


async def kept(conn: Connection, id_: int, *, program: int) -> KeptDelivery | None:
    """A delivery with what is kept of it."""
    row = await conn.fetchrow(KEPT, program, id_)
    return None if row is None else KeptDelivery(**row)


async def replayed(conn: Connection, id_: int, *, outcome: Outcome, detail: str, events: Sequence[DeliveryEvent]) -> None:
    """Write down what a replay came to."""
    await conn.execute(REPLAYED, id_, outcome, detail, msgspec.json.encode(events).decode())


# Forgetting ------------------------------------------------------------------------------------------

DROP_BODIES = """
UPDATE delivery SET sealed = NULL, body = NULL
 WHERE id = ANY(ARRAY(SELECT id FROM delivery WHERE received_at < now() - $1::interval AND (sealed IS NOT NULL OR body IS NOT NULL)
                       ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED))
"""
DROP = """
DELETE FROM delivery
 WHERE id = ANY(ARRAY(SELECT id FROM delivery WHERE received_at < now() - $1::interval ORDER BY received_at LIMIT $2
                      FOR UPDATE SKIP LOCKED))
"""


async def drop_bodies(conn: Connection, *, older_than: timedelta, limit: int) -> int:
    """Forget the bodies of at most `limit` deliveries; returns how many."""
    return _changed(await conn.execute(DROP_BODIES, older_than, limit))


async def drop(conn: Connection, *, older_than: timedelta, limit: int) -> int:
    """Forget at most `limit` deliveries; returns how many."""
    return _changed(await conn.execute(DROP, older_than, limit))


def _changed(tag: str) -> int:
    return int(tag.rsplit(" ", 1)[-1])

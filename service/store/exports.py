"""SQL of exports: everything, row by row, in one snapshot. Call inside a transaction that reads repeatably.

$1: program (null: all), $2: a moment (null: now), $3: whether references of consumers are told, $4: platform (null: all), $5: whether lots
with nothing left are left out. A moment is cut as `service.store.past` says: an account's first version that is dated later is the first
that is left out.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from enum import IntEnum
from typing import Final, Literal, get_args

from asyncpg import Record
from msgspec import Struct

from service.domain.ledger import Book, Kind
from service.store.connection import Connection
from service.store.past import EVENT_AT, PENDING_BOOK

STATEMENT_TIMEOUT_S: Final = 3_600.0
PREFETCH_ROWS: Final = 5_000

What = Literal["ledger", "lots", "balances", "events"]
WHATS: Final[tuple[What, ...]] = get_args(What)
Type = Literal["integer", "text", "time", "date"]

COLUMNS: Final[Mapping[What, Mapping[str, Type]]] = {
    "ledger": {
        "account": "integer", "seq": "integer", "at": "time", "transfer": "integer", "kind": "text", "book": "text", "amount": "integer",
        "version": "integer", "program": "text", "platform": "text", "campaign": "text", "event": "text", "event_number": "integer",
        "award": "integer", "n": "integer", "consumer": "text",
    },
    "lots": {
        "id": "text", "consumer": "text", "points": "integer", "expires_on": "date", "earned_at": "time", "amount": "integer",
        "account": "integer", "program": "text", "platform": "text", "campaign": "text", "event_number": "integer", "n": "integer",
    },
    "balances": {
        "account": "integer", "program": "text", "consumer": "text", "pending": "integer", "available": "integer", "reserved": "integer",
        "debt": "integer", "version": "integer",
    },
    "events": {
        "number": "integer", "account": "integer", "program": "text", "platform": "text", "id": "text", "type": "text", "order_id": "text",
        "occurred_at": "time", "received_at": "time", "points": "integer", "version": "integer", "consumer": "text", "facts": "text",
    },
}  # fmt: skip
"""What a row has, in order. Of lots, `points` is what is left of `amount`."""
SUMMED: Final[Mapping[What, tuple[str, ...]]] = {
    "ledger": ("amount",),
    "lots": ("points",),
    "balances": ("pending", "available", "reserved", "debt"),
    "events": ("points",),
}
"""Columns whose sums an export tells; that of the ledger is zero."""

# Versions are of the account that had the points when it happened: of an event that came for a linked one, `event.home`.
_PURSE: Final = "(coalesce(e.home, e.account) & 1023)::smallint AS bucket, coalesce(e.home, e.account) AS account"
_CUT: Final = f"""
WITH cut AS MATERIALIZED (
    SELECT bucket, account, min(version) AS version FROM (
        SELECT {_PURSE}, e.version FROM event e WHERE e.version > 0 AND {EVENT_AT} > $2
        UNION ALL
        SELECT bucket, account, version FROM entry WHERE at > $2
        UNION ALL
        SELECT bucket, account, version FROM transfer WHERE at > $2
    ) late WHERE $2::timestamptz IS NOT NULL GROUP BY bucket, account
)"""
_REFERENCE: Final = """
LEFT JOIN LATERAL (
    SELECT r.reference FROM consumer_reference r WHERE $3::boolean AND r.bucket = {0}.bucket AND r.account = {0}.account
    ORDER BY r.platform <> {1}, r.platform, r.reference LIMIT 1
) r ON true"""


def _name_of(names: type[IntEnum], column: str) -> str:
    """An expression: what a kind or a book is called outside (service.flows.past)."""
    known = " ".join(f"WHEN {one.value} THEN '{one.name.lower()}'" for one in names)
    return f"CASE {column} {known} ELSE 'other-' || {column} END"


_WHOSE: Final = "($1::integer IS NULL OR {0}.program = $1) AND ($4::integer IS NULL OR {0}.platform = $4) AND $5::boolean IS NOT NULL"
_NAMES: Final = (
    "JOIN program g ON g.id = {0}.program LEFT JOIN platform p ON p.id = {0}.platform LEFT JOIN campaign c ON c.id = {0}.campaign"
)

LEDGER: Final = f"""{_CUT}
SELECT e.account, e.seq, e.at, e.transfer,
       {_name_of(Kind, "e.kind")} AS kind, {_name_of(Book, "e.book")} AS book,
       e.amount, e.version, g.code AS program, p.code AS platform, c.code AS campaign, coalesce(v.id, o.id) AS event,
       e.event AS event_number, e.award, e.n::bigint AS n, r.reference AS consumer
FROM entry e {_NAMES.format("e")}
LEFT JOIN cut ON cut.bucket = e.bucket AND cut.account = e.account
LEFT JOIN event v ON v.bucket = e.bucket AND v.account = e.account AND v.number = e.event
LEFT JOIN opening o ON o.bucket = e.bucket AND o.account = e.account AND o.number = e.event
{_REFERENCE.format("e", "e.platform")}
WHERE {_WHOSE.format("e")} AND (cut.version IS NULL OR e.version < cut.version)
"""

LOTS: Final = f"""{_CUT}, given AS MATERIALIZED (
    -- Given to lots or taken from them by what comes later than the moment.
    SELECT u.bucket, u.account, u.event, u.n, sum(u.amount)::bigint AS points
    FROM lot_use u JOIN cut ON cut.bucket = u.bucket AND cut.account = u.account
    WHERE EXISTS (SELECT FROM entry e WHERE e.bucket = u.bucket AND e.account = u.account AND e.transfer = u.transfer AND e.version >= cut.version)
    GROUP BY u.bucket, u.account, u.event, u.n
), unborn AS MATERIALIZED (
    SELECT DISTINCT e.bucket, e.account, e.award, e.n FROM entry e JOIN cut ON cut.bucket = e.bucket AND cut.account = e.account
    WHERE e.version >= cut.version AND e.kind IN (1, 3)
    UNION
    -- Made by a transfer of the account's own: an adjustment, points from another consumer.
    SELECT l.bucket, l.account, l.event, l.n FROM lot l JOIN cut ON cut.bucket = l.bucket AND cut.account = l.account
    JOIN transfer t ON t.bucket = l.bucket AND t.account = l.account AND t.number = l.event
    WHERE l.origin IN (9, 10) AND t.version >= cut.version
    UNION
    -- Brought by a link: the first one that took points of it from another account is later.
    SELECT l.bucket, l.account, l.event, l.n FROM lot l JOIN cut ON cut.bucket = l.bucket AND cut.account = l.account
    WHERE l.origin = 11 AND NOT EXISTS (
        SELECT FROM lot_use u JOIN transfer t ON t.bucket = l.bucket AND t.account = l.account AND t.number = u.transfer
        WHERE u.event = l.event AND u.n = l.n AND u.account <> l.account AND t.kind = 11 AND t.version < cut.version
    )
)
SELECT format('%s:%s/%s', g.code, l.event, l.n) AS id, r.reference AS consumer, l.remaining + coalesce(u.points, 0) AS points, l.expires_on,
       coalesce(o.earned_at, v.occurred_at, o.at) AS earned_at, l.amount, l.account, g.code AS program, p.code AS platform,
       c.code AS campaign, l.event AS event_number, l.n::bigint AS n
FROM lot l {_NAMES.format("l")}
LEFT JOIN given u ON u.bucket = l.bucket AND u.account = l.account AND u.event = l.event AND u.n = l.n
LEFT JOIN unborn b ON b.bucket = l.bucket AND b.account = l.account AND b.award = l.event AND b.n = l.n
LEFT JOIN event v ON v.bucket = l.bucket AND v.account = l.account AND v.number = l.event
LEFT JOIN opening o ON o.bucket = l.bucket AND o.account = l.account AND o.number = l.event
{_REFERENCE.format("l", "l.platform")}
WHERE {_WHOSE.format("l")} AND b.award IS NULL AND (NOT $5 OR l.remaining + coalesce(u.points, 0) > 0)
"""

# An account belongs to no platform: with one, those that it knows.
_KNOWN: Final = """
($1::integer IS NULL OR a.program = $1) AND $5::boolean IS NOT NULL
AND ($4::integer IS NULL OR EXISTS (SELECT FROM consumer_reference k WHERE k.bucket = a.bucket AND k.account = a.account AND k.platform = $4))"""
# Of an account that has left out versions (it was linked) the one before is looked for.
_BEFORE: Final = """
SELECT coalesce(max(x.version), 0) FROM (
    SELECT version FROM event e WHERE e.bucket = a.bucket AND e.account = a.account AND e.home IS NULL
    UNION ALL SELECT version FROM event e WHERE e.home = a.account
    UNION ALL SELECT version FROM entry e WHERE e.bucket = a.bucket AND e.account = a.account
    UNION ALL SELECT version FROM transfer t WHERE t.bucket = a.bucket AND t.account = a.account
) x WHERE x.version < s.version"""
BALANCES: Final = f"""{_CUT}, change AS (
    SELECT cut.bucket, cut.account, e.version, e.points AS pending, 0::bigint AS available, 0::bigint AS reserved, 0::bigint AS debt
    FROM (SELECT {_PURSE}, version, points FROM event e) e JOIN cut USING (bucket, account) WHERE e.version >= cut.version
    UNION ALL
    SELECT t.bucket, t.account, t.version, t.pending, 0, 0, 0 FROM transfer t JOIN cut USING (bucket, account) WHERE t.version >= cut.version
    UNION ALL
    SELECT e.bucket, e.account, e.version, CASE WHEN {PENDING_BOOK} THEN amount ELSE 0 END, CASE book WHEN 1 THEN amount ELSE 0 END,
           CASE book WHEN 2 THEN amount ELSE 0 END, CASE book WHEN 3 THEN -amount ELSE 0 END
    FROM entry e JOIN cut USING (bucket, account) WHERE e.version >= cut.version
), since AS MATERIALIZED (
    -- What has happened since the moment is taken off again.
    SELECT bucket, account, min(version) AS version, sum(pending)::bigint AS pending, sum(available)::bigint AS available,
           sum(reserved)::bigint AS reserved, sum(debt)::bigint AS debt
    FROM change GROUP BY bucket, account
)
SELECT a.account, g.code AS program, r.reference AS consumer, a.pending - coalesce(s.pending, 0) AS pending,
       a.available - coalesce(s.available, 0) AS available, a.reserved - coalesce(s.reserved, 0) AS reserved,
       a.debt - coalesce(s.debt, 0) AS debt, v.version
FROM (SELECT bucket, id AS account, program, pending, available, reserved, debt, version, skipped FROM account) a
JOIN program g ON g.id = a.program
LEFT JOIN since s ON s.bucket = a.bucket AND s.account = a.account
CROSS JOIN LATERAL (
    SELECT CASE WHEN s.version IS NULL THEN a.version WHEN a.skipped = 0 THEN s.version - 1 ELSE ({_BEFORE}) END AS version
) v
{_REFERENCE.format("a", "coalesce($4, 0)")}
WHERE {_KNOWN} AND v.version > 0
"""

EVENTS: Final = f"""{_CUT}
SELECT e.number, e.account, g.code AS program, p.code AS platform, e.id, e.type, e.order_id, e.occurred_at, e.received_at, e.points,
       e.version, r.reference AS consumer, CASE WHEN $3 THEN e.facts END AS facts
FROM (
    SELECT bucket, account, number, program, platform, id, type, order_id, occurred_at, received_at, points, version, facts,
           coalesce(home, account) AS purse
    FROM event
    UNION ALL
    SELECT bucket, account, number, program, platform, id, 'balance.imported', NULL, coalesce(earned_at, at), at, points, version, NULL, account
    FROM opening
) e
JOIN program g ON g.id = e.program JOIN platform p ON p.id = e.platform
LEFT JOIN cut ON cut.account = e.purse
{_REFERENCE.format("e", "e.platform")}
WHERE {_WHOSE.format("e")} AND ($2 IS NULL OR e.received_at <= $2) AND (e.version = 0 OR cut.version IS NULL OR e.version < cut.version)
"""

STATEMENTS: Final[Mapping[What, str]] = {"ledger": LEDGER, "lots": LOTS, "balances": BALANCES, "events": EVENTS}

PREPARE: Final = f"""
SELECT set_config(name, value, true) FROM (VALUES ('jit', 'off'), ('work_mem', '64MB'), ('cursor_tuple_fraction', '1'),
    ('statement_timeout', '{STATEMENT_TIMEOUT_S:.0f}s')
) AS s (name, value)
"""
SNAPSHOT: Final = "SELECT now() AS at, epoch FROM deployment"


class Snapshot(Struct, frozen=True, kw_only=True):
    """What an export sees: PostgreSQL's time, and the deployment's epoch."""

    at: datetime
    epoch: int


async def begin(connection: Connection) -> Snapshot:
    """Prepare the transaction for long reading, and take its snapshot."""
    await connection.execute(PREPARE)
    row = await connection.fetchrow(SNAPSHOT)
    assert row is not None, "table deployment has one row"
    return Snapshot(at=row["at"], epoch=row["epoch"])


class Selection(Struct, frozen=True, kw_only=True):
    """What is exported; None: everything, now."""

    program: int | None = None
    platform: int | None = None
    as_of: datetime | None = None
    references: bool = False
    open_lots: bool = False


ESTIMATE: Final = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = $1::text::regclass"
_TABLES: Final[Mapping[What, str]] = {"ledger": "entry", "lots": "lot", "balances": "account", "events": "event"}


async def estimate(connection: Connection, what: What) -> int:
    """About how many rows there are, for a progress bar; 0: nobody knows yet."""
    found: int = await connection.fetchval(ESTIMATE, _TABLES[what])
    return found


async def rows(connection: Connection, what: What, selection: Selection) -> AsyncIterator[Record]:
    """Every row, through a cursor of the server: PREFETCH_ROWS are in memory."""
    s = selection
    arguments = (s.program, s.as_of, s.references, s.platform, s.open_lots)
    async for row in connection.cursor(STATEMENTS[what], *arguments, prefetch=PREFETCH_ROWS, timeout=STATEMENT_TIMEOUT_S):
        yield row

"""SQL of the check of what changed: the invariants 1, 2 and 3 of DESIGN §6 for some accounts, looked up by their keys.

Each statement finds what breaks one of them for the accounts ($1 buckets, $2 ids) and says it in words, as those of `store/check.py` do
for everything; a rule that is added there for a single account belongs here, too.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct

from service.store.connection import Connection

MAX_ENTRIES: Final = 20_000
"""An account with more is left to the check of everything: each look reads all of its entries."""
WINDOW_ROWS: Final = 10_000
"""Changes are looked for in stretches of time that hold about so many events, or entries."""

Kind = Literal["double_entry", "balances", "lots"]

_ACCOUNTS: Final = "unnest($1::smallint[], $2::bigint[]) AS w (bucket, account)"

# 1. The book balances.

TRANSFERS: Final = f"""
SELECT e.program, e.account, format('account %s: the entries of transfer %s sum to %s', e.account, e.transfer, sum(e.amount)) AS words
FROM {_ACCOUNTS} JOIN entry e USING (bucket, account)
GROUP BY e.program, e.account, e.transfer HAVING sum(e.amount) <> 0
"""
SEQUENCES: Final = f"""
SELECT coalesce(a.program, e.program) AS program, w.account,
       format('account %s: has %s entries, numbered %s to %s, and last_seq %s', w.account, e.entries, coalesce(e.first, 0), coalesce(e.last, 0),
              coalesce(a.last_seq::text, 'of no account row')) AS words
FROM {_ACCOUNTS}
CROSS JOIN LATERAL (
    SELECT count(*) AS entries, min(seq) AS first, max(seq) AS last, min(program) AS program FROM entry
    WHERE entry.bucket = w.bucket AND entry.account = w.account
) e
LEFT JOIN account a ON a.bucket = w.bucket AND a.id = w.account
WHERE (a.id IS NOT NULL OR e.entries > 0) AND (e.entries IS DISTINCT FROM a.last_seq OR e.first <> 1 OR e.last <> e.entries)
"""

# 2. Balances are what their parts add up to.

BALANCES: Final = f"""
SELECT a.program, w.account,
       format('account %s: available %s, reserved %s, debt %s, but its entries sum to %s, %s, %s', w.account, a.available, a.reserved, a.debt,
              e.available, e.reserved, e.debt) AS words
FROM {_ACCOUNTS} JOIN account a ON a.bucket = w.bucket AND a.id = w.account
CROSS JOIN LATERAL (
    SELECT coalesce(sum(amount) FILTER (WHERE book = 1), 0) AS available, coalesce(sum(amount) FILTER (WHERE book = 2), 0) AS reserved,
           coalesce(-sum(amount) FILTER (WHERE book = 3), 0) AS debt
    FROM entry WHERE entry.bucket = w.bucket AND entry.account = w.account
) e
WHERE (a.available, a.reserved, a.debt) <> (e.available, e.reserved, e.debt)
"""
PENDING: Final = f"""
SELECT a.program, w.account, format('account %s: pending %s, but its awards on hold sum to %s', w.account, a.pending, p.points) AS words
FROM {_ACCOUNTS} JOIN account a ON a.bucket = w.bucket AND a.id = w.account
CROSS JOIN LATERAL (
    -- On hold for it: its own, unless another account has its points, and those of accounts that are linked to it.
    SELECT coalesce(sum(x.points - x.reversed), 0) AS points
    FROM (SELECT w.bucket, w.account WHERE a.home IS NULL UNION ALL SELECT o.bucket, o.id FROM account o WHERE o.home = w.account)
        AS f (bucket, account)
    JOIN due d ON d.bucket = f.bucket AND d.account = f.account
    JOIN award x ON x.bucket = d.bucket AND x.account = d.account AND x.event = d.event AND x.due_at = d.due_at
) p
WHERE a.pending <> p.points
"""
VERSIONS: Final = f"""
SELECT a.program, w.account, format('account %s: version %s, but its events and entries tell of %s changes, the newest %s', w.account, a.version - a.skipped,
                                    v.changes, coalesce(v.newest, 0)) AS words
FROM {_ACCOUNTS} JOIN account a ON a.bucket = w.bucket AND a.id = w.account
CROSS JOIN LATERAL (
    SELECT count(*) AS changes, max(version) AS newest FROM (
        SELECT version FROM event WHERE event.bucket = w.bucket AND event.account = w.account AND version > 0 AND event.home IS NULL
        UNION
        SELECT version FROM event WHERE event.home = w.account AND version > 0
        UNION
        SELECT version FROM entry WHERE entry.bucket = w.bucket AND entry.account = w.account
        UNION
        SELECT version FROM transfer WHERE transfer.bucket = w.bucket AND transfer.account = w.account
    ) u
) v
WHERE a.version - a.skipped <> v.changes OR v.newest <> a.version
"""

# 3. Lots.

LOT_USES: Final = f"""
SELECT l.program, l.account, format('account %s: lot %s/%s of %s points has %s left, its uses sum to %s', l.account, l.event, l.n, l.amount,
                                    l.remaining, u.used) AS words
FROM {_ACCOUNTS} JOIN lot l USING (bucket, account)
CROSS JOIN LATERAL (
    SELECT coalesce(sum(amount), 0) AS used FROM lot_use x
    WHERE x.bucket = l.bucket AND x.account = l.account AND x.event = l.event AND x.n = l.n
) u
WHERE l.remaining NOT BETWEEN 0 AND l.amount OR l.amount - l.remaining <> u.used
"""
LOT_SUMS: Final = f"""
SELECT coalesce(l.program, e.program) AS program, w.account,
       format('account %s: its lots have %s points left, its entries say %s available and reserved', w.account, l.points, e.points) AS words
FROM {_ACCOUNTS}
CROSS JOIN LATERAL (
    SELECT min(program) AS program, coalesce(sum(remaining), 0) AS points FROM lot WHERE lot.bucket = w.bucket AND lot.account = w.account
) l
CROSS JOIN LATERAL (
    SELECT min(program) AS program, coalesce(sum(amount), 0) AS points FROM entry
    WHERE entry.bucket = w.bucket AND entry.account = w.account AND book IN (1, 2)
) e
WHERE l.points <> e.points
"""

STATEMENTS: Final[tuple[tuple[Kind, str], ...]] = (
    ("double_entry", TRANSFERS),
    ("double_entry", SEQUENCES),
    ("balances", BALANCES),
    ("balances", PENDING),
    ("balances", VERSIONS),
    ("lots", LOT_USES),
    ("lots", LOT_SUMS),
)


class Broken(Struct, frozen=True, kw_only=True):
    """An account that breaks an invariant, whose program it is, and the first finding in words."""

    kind: Kind
    program: int
    account: int
    words: str


async def broken(connection: Connection, accounts: Sequence[tuple[int, int]]) -> list[Broken]:
    """What breaks an invariant among these accounts (bucket, id): one finding per account and invariant."""
    buckets, ids = [bucket for bucket, _ in accounts], [account for _, account in accounts]
    found: dict[tuple[Kind, int], Broken] = {}
    for kind, statement in STATEMENTS:
        for r in await connection.fetch(statement, buckets, ids):
            found.setdefault((kind, r["account"]), Broken(kind=kind, program=r["program"], account=r["account"], words=r["words"]))
    return list(found.values())


# What changed ---------------------------------------------------------------------------------------------------

CHECKING_LOCK: Final = 0x67726E7074730003
TRY_CHECKING: Final = f"SELECT pg_try_advisory_lock({CHECKING_LOCK})"
FREE_CHECKING: Final = f"SELECT pg_advisory_unlock({CHECKING_LOCK})"
THROUGH: Final = "SELECT through FROM proof_progress WHERE work = 'check'"
SET_THROUGH: Final = "UPDATE proof_progress SET through = $1 WHERE work = 'check' AND through < $1"
WINDOW_END: Final = """
SELECT least((SELECT at FROM entry WHERE at >= $1 AND at <= $2 ORDER BY at OFFSET $3 LIMIT 1),
             (SELECT received_at FROM event WHERE received_at >= $1 AND received_at <= $2 ORDER BY received_at OFFSET $3 LIMIT 1), $2)
"""
CHANGED: Final = f"""
SELECT c.bucket, c.account FROM (
    SELECT bucket, account FROM event WHERE received_at >= $1 AND received_at <= $2 AND version > 0
    UNION
    SELECT bucket, account FROM entry WHERE at >= $1 AND at <= $2
) c LEFT JOIN account a ON a.bucket = c.bucket AND a.id = c.account
WHERE a.last_seq IS NULL OR a.last_seq <= {MAX_ENTRIES}
"""


async def try_checking(connection: Connection) -> bool:
    """Whether nobody else checks what changed; nobody will until `free_checking` or the end of this connection."""
    return bool(await connection.fetchval(TRY_CHECKING))


async def free_checking(connection: Connection) -> None:
    """Let others check."""
    await connection.execute(FREE_CHECKING)


async def through(connection: Connection) -> datetime:
    """Until when everything that changed has been checked."""
    at: datetime = await connection.fetchval(THROUGH)
    return at


async def set_through(connection: Connection, at: datetime) -> None:
    """What changed until then has been checked."""
    await connection.execute(SET_THROUGH, at)


async def window_end(connection: Connection, since: datetime, until: datetime) -> datetime:
    """The end of a stretch of time from `since` that holds about WINDOW_ROWS changes, `until` at the latest."""
    end: datetime = await connection.fetchval(WINDOW_END, since, until, WINDOW_ROWS)
    return end


async def changed(connection: Connection, since: datetime, until: datetime) -> list[tuple[int, int]]:
    """Bucket and id of the accounts that changed in that time, both ends included, but for those with more than MAX_ENTRIES."""
    return [(r["bucket"], r["account"]) for r in await connection.fetch(CHANGED, since, until)]

"""SQL of redemptions: many requests, one transaction. Call inside one transaction, in this order: open, lock (store.purses), read, write."""

from collections.abc import Sequence
from typing import Final

from asyncpg import Record
from msgspec import Struct

from service.domain.keys import Kind, bucket_of
from service.domain.redeeming import Held, Redemption
from service.store.connection import Connection
from service.store.repeats import First, lock_key

_REDEMPTION: Final = int(Kind.REDEMPTION)

# Open --------------------------------------------------------------------------------------------------

# The lock of a key is only tried: its first request is still running where it is held. References are shared so that nobody is erased
# while something is written about them.
OPEN: Final = f"""
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest($1::int[], $2::text[], $3::bool[], $4::int[], $5::text[], $6::text[]) WITH ORDINALITY
        AS w (program, key, by_consumer, platform, reference, redemption, n)
), person AS MATERIALIZED (
    SELECT r.platform, r.reference, r.account FROM consumer_reference r
    WHERE (r.platform, r.reference) IN (SELECT platform, reference FROM wanted WHERE reference IS NOT NULL)
    ORDER BY r.platform, r.reference FOR KEY SHARE
), tried AS MATERIALIZED (
    SELECT w.n, w.key IS NULL OR {
    lock_key(
        program="w.program",
        key="CASE WHEN w.by_consumer THEN concat('c', w.platform, ':', p.account, ':', w.key) ELSE concat('p', w.platform, ':', w.key) END",
    )
} AS mine
    FROM wanted w LEFT JOIN person p ON p.platform = w.platform AND p.reference = w.reference
)
SELECT t.mine, k.account AS payer, k.number, p.account AS person, nextval('number') AS transfer
FROM wanted w JOIN tried t USING (n)
LEFT JOIN person p ON p.platform = w.platform AND p.reference = w.reference
LEFT JOIN registry k ON k.program = w.program AND k.kind = {_REDEMPTION} AND k.key = w.redemption
ORDER BY w.n
"""


class Opened(Struct, frozen=True, kw_only=True):
    """What a request is about, and a number for its transfer."""

    mine: bool
    """Whether no other transaction is busy with the same key."""
    payer: int | None
    """The account of the redemption that it names, and its number."""
    number: int | None
    person: int | None
    """The account of the reference that it names."""
    transfer: int


async def open_requests(
    connection: Connection, requests: Sequence[tuple[int, str | None, bool, int, str | None, str | None]]
) -> list[Opened]:
    """Each request in order: (program, key, whether it is the consumer's own, platform, reference of the consumer, id of the redemption)."""
    rows = await connection.fetch(OPEN, *([r[i] for r in requests] for i in range(6)))
    return [Opened(**row) for row in rows]


# Read --------------------------------------------------------------------------------------------------

STORED: Final = """
SELECT r.program, r.key, r.request_hash, r.status, r.answer
FROM unnest($1::int[], $2::text[]) AS w (program, key) JOIN idempotent_request r USING (program, key)
"""


async def stored(connection: Connection, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], First]:
    """First answers by (program, stored key)."""
    rows = await connection.fetch(STORED, [k[0] for k in keys], [k[1] for k in keys])
    return {(r["program"], r["key"]): First(request_hash=r["request_hash"], status=r["status"], answer=r["answer"]) for r in rows}


_COLUMNS: Final = """r.number, r.account, r.platform, r.id, r.status, r.points, r.captured, r.refunded, r.reference, r.reward, r.cause,
       r.created_at, r.expires_at, r.ended_at, rw.code AS reward_code, ca.code AS cause_code"""
_NAMES: Final = "LEFT JOIN reward rw ON rw.id = r.reward LEFT JOIN cause ca ON ca.id = r.cause"
LOTS: Final = """
SELECT l.redemption, l.event, l.n, l.reserved, l.spent
FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS w (bucket, account, redemption) JOIN redemption_lot l USING (bucket, account, redemption)
"""
ONE: Final = f"""
SELECT {_COLUMNS}
FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS w (bucket, account, number) JOIN redemption r USING (bucket, account, number)
{_NAMES}
"""


async def read(connection: Connection, keys: Sequence[tuple[int, int]]) -> dict[int, Redemption]:
    """Redemptions by number, with their lots. `keys`: (account, number)."""
    arguments = ([bucket_of(k[0]) for k in keys], [k[0] for k in keys], [k[1] for k in keys])
    found = {r["number"]: Redemption(**r) for r in await connection.fetch(ONE, *arguments)}
    for r in await connection.fetch(LOTS, *arguments):
        found[r["redemption"]].lots[r["event"], r["n"]] = Held(r["reserved"], r["spent"])
    return found


# Write -------------------------------------------------------------------------------------------------

WRITE: Final = f"""
WITH registered AS (
    INSERT INTO registry (program, kind, key, number, bucket, account)
    SELECT w.program, {_REDEMPTION}, w.id, w.number, w.bucket, w.account FROM unnest($1::redemption_row[]) w WHERE w.is_new
), new AS (
    INSERT INTO redemption (bucket, account, number, program, platform, id, status, points, captured, refunded, reference, reward, cause,
                            created_at, expires_at, ended_at)
    SELECT w.bucket, w.account, w.number, w.program, w.platform, w.id, w.status, w.points, w.captured, w.refunded, w.reference, w.reward, w.cause,
           w.created_at, w.expires_at, w.ended_at
    FROM unnest($1::redemption_row[]) w WHERE w.is_new
), changed AS (
    UPDATE redemption r SET status = w.status, captured = w.captured, refunded = w.refunded, ended_at = w.ended_at
    FROM unnest($1::redemption_row[]) w
    WHERE NOT w.is_new AND r.bucket = w.bucket AND r.account = w.account AND r.number = w.number
), lots AS (
    INSERT INTO redemption_lot (bucket, account, redemption, event, n, reserved, spent) SELECT * FROM unnest($2::redemption_part[])
    ON CONFLICT (bucket, account, redemption, event, n) DO UPDATE SET reserved = excluded.reserved, spent = excluded.spent
), due AS (
    INSERT INTO reservation_due (bucket, due_at, account, redemption)
    SELECT w.bucket, w.expires_at, w.account, w.number FROM unnest($1::redemption_row[]) w WHERE w.is_new AND w.status = 'reserved'
), gone AS (
    DELETE FROM reservation_due d USING unnest($1::redemption_row[]) w
    WHERE NOT w.is_new AND w.status <> 'reserved' AND d.bucket = w.bucket AND d.due_at = w.expires_at AND d.redemption = w.number
)
INSERT INTO idempotent_request (program, key, request_hash, status, answer, bucket, account)
SELECT w.program, w.key, w.request_hash, w.status, w.answer, (w.account & 1023)::smallint, w.account
FROM unnest($3::int[], $4::text[], $5::bytea[], $6::smallint[], $7::text[], $8::bigint[])
    AS w (program, key, request_hash, status, answer, account)
ORDER BY w.program, w.key COLLATE "C"
"""


class Answered(Struct, frozen=True, kw_only=True):
    """A request that was carried out, with the answer that its repeats get."""

    program: int
    key: str
    request_hash: bytes
    status: int
    answer: str
    account: int


async def write(connection: Connection, *, program: int, changed: Sequence[Redemption], answered: Sequence[Answered]) -> None:
    """Write redemptions, what they are made of, their ends, and first answers."""
    await connection.execute(
        WRITE,
        [
            (
                bucket_of(r.account), r.account, r.number, program, r.platform, r.id, r.status, r.points, r.captured, r.refunded, r.reference,
                r.reward, r.cause, r.created_at, r.expires_at, r.ended_at, r.is_new,
            )
            for r in changed
        ],
        [
            (bucket_of(r.account), r.account, r.number, event, n, held.reserved, held.spent)
            for r in changed for (event, n), held in r.lots.items()
        ],
        [a.program for a in answered], [a.key for a in answered], [a.request_hash for a in answered], [a.status for a in answered],
        [a.answer for a in answered], [a.account for a in answered],
    )  # fmt: skip


# Look up -------------------------------------------------------------------------------------------------

FIND: Final = f"""
SELECT {_COLUMNS}
FROM registry k JOIN redemption r ON r.bucket = k.bucket AND r.account = k.account AND r.number = k.number
{_NAMES}
WHERE k.program = $1 AND k.kind = {_REDEMPTION} AND k.key = $3 AND r.platform = $2
"""


async def find(connection: Connection, *, program: int, platform: int, id_: str) -> Redemption | None:
    """A platform's redemption by its id, as it is now, without its lots."""
    row = await connection.fetchrow(FIND, program, platform, id_)
    return None if row is None else Redemption(**row)


PAGE: Final = f"""
SELECT {_COLUMNS} FROM redemption r {_NAMES}
WHERE r.platform = $1 AND r.number < $2 AND ($3::text IS NULL OR r.status = $3)
ORDER BY r.number DESC LIMIT $4
"""
PAGE_OF_ACCOUNT: Final = f"""
SELECT {_COLUMNS} FROM redemption r {_NAMES}
WHERE r.bucket = $5 AND r.account = $6 AND r.number < $2 AND ($1::int IS NULL OR r.platform = $1) AND ($3::text IS NULL OR r.status = $3)
ORDER BY r.number DESC LIMIT $4
"""


async def page(
    connection: Connection, *, platform: int | None, account: int | None, status: str | None, before: int, limit: int
) -> list[Redemption]:
    """Redemptions through a platform (None: through all, of one account only), newest first."""
    rows: list[Record]
    if account is None:
        rows = await connection.fetch(PAGE, platform, before, status, limit)
    else:
        rows = await connection.fetch(PAGE_OF_ACCOUNT, platform, before, status, limit, bucket_of(account), account)
    return [Redemption(**row) for row in rows]


# Where a person's points are, or were while a link held: redemptions stay with the account that paid.
_PAID: Final = """
mine AS (
    SELECT (w.account & 1023)::smallint AS bucket, w.account FROM unnest($1::bigint[]) AS w (account)
), paid AS MATERIALIZED (
    SELECT m.bucket, m.account FROM mine m
    UNION
    SELECT (a.home & 1023)::smallint, a.home FROM mine m JOIN account a ON a.bucket = m.bucket AND a.id = m.account WHERE a.home IS NOT NULL
    UNION
    SELECT (l.home & 1023)::smallint, l.home FROM mine m JOIN account_link l USING (bucket, account)
)"""
# A redemption that was begun under its old reference is answered with it: it ends first.
LOCK_PAYERS: Final = f"""
WITH {_PAID}
SELECT a.id FROM paid p JOIN account a ON a.bucket = p.bucket AND a.id = p.account ORDER BY a.id FOR NO KEY UPDATE OF a
"""
# What a platform called its redemptions goes with the person, in first answers, too; and what requests looked like: who knew all the rest
# could try names until the hash fits. Without it every request with the key is a repeat.
FORGET_PERSON: Final = f"""
WITH {_PAID}, codes AS (
    DELETE FROM link_code c USING mine m WHERE c.bucket = m.bucket AND c.account = m.account
), named AS (
    UPDATE redemption r SET reference = NULL FROM paid p
    WHERE r.bucket = p.bucket AND r.account = p.account AND r.platform = $2 AND r.reference IS NOT NULL
)
UPDATE idempotent_request i SET request_hash = '', answer = CASE
    WHEN i.answer::jsonb ? 'reference' THEN (i.answer::jsonb || jsonb_build_object('reference', NULL))::text ELSE i.answer END
FROM paid p
WHERE i.bucket = p.bucket AND i.account = p.account
  AND (i.key LIKE 'p' || $2::int || ':%' OR i.key LIKE 'c' || $2::int || ':%' OR i.key LIKE 'o%')
"""


async def forget_person(connection: Connection, *, platform: int, accounts: Sequence[int]) -> None:
    """Forget what names a person in what a platform's consumers redeemed. Their names are locked, so that nothing new begins."""
    await connection.execute(LOCK_PAYERS, accounts)
    await connection.execute(FORGET_PERSON, accounts, platform)

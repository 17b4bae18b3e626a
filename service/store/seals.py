"""SQL of sealed blocks: the entries of the book, hashed and chained per program (docs/ledger.md says what is hashed).

A part is what a block holds of one account: all that followed the part before. An account's entries are numbered without a gap and commit
with its row, one transaction after the other; what a snapshot shows of them is therefore complete up to its last, and none can commit late
below it. So a part needs no lock, and which accounts are looked at, and when, decides only how soon an entry is sealed.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

from msgspec import Struct

from service.store.connection import Connection

BLOCK_ENTRIES: Final = 50_000
"""A block takes accounts until it has so many."""
PART_ENTRIES: Final = 10_000
"""Of one account; the rest comes into the next block."""
BLOCK_ACCOUNTS: Final = 25_000
WINDOW_ENTRIES: Final = 100_000
"""Entries are looked for in stretches of time that hold about so many."""
PREFETCH_ROWS: Final = 2_000
VERIFY_TIMEOUT_S: Final = 3_600.0

SEALING_LOCK: Final = 7390
"""One process seals at a time. Spares the others the work; that a chain has no fork is the primary key's."""
TRY_SEALING: Final = f"SELECT pg_try_advisory_xact_lock({SEALING_LOCK})"


async def try_sealing(connection: Connection) -> bool:
    """Whether this transaction may seal."""
    return bool(await connection.fetchval(TRY_SEALING))


PROGRESS: Final = "SELECT through, bucket FROM proof_progress WHERE work = 'seal'"
SET_THROUGH: Final = "UPDATE proof_progress SET through = $1 WHERE work = 'seal' AND through < $1"
SET_BUCKET: Final = "UPDATE proof_progress SET bucket = $1 WHERE work = 'seal'"
WINDOW_END: Final = """
SELECT coalesce((SELECT at FROM entry WHERE at >= $1 AND at <= $2 ORDER BY at OFFSET $3 LIMIT 1), $2)
"""


async def progress(connection: Connection) -> tuple[datetime, int]:
    """Until when all entries are sealed, as far as their dates tell, and the bucket that is looked at next."""
    row = await connection.fetchrow(PROGRESS)
    assert row is not None, "the migration wrote it"
    return row["through"], row["bucket"]


async def set_through(connection: Connection, through: datetime) -> None:
    """What is dated until then is sealed."""
    await connection.execute(SET_THROUGH, through)


async def set_bucket(connection: Connection, bucket: int) -> None:
    """The bucket to look at next."""
    await connection.execute(SET_BUCKET, bucket)


async def window_end(connection: Connection, since: datetime, until: datetime) -> datetime:
    """The end of a stretch of time from `since` that holds about WINDOW_ENTRIES entries, `until` at the latest."""
    end: datetime = await connection.fetchval(WINDOW_END, since, until, WINDOW_ENTRIES)
    return end


# Sealing ------------------------------------------------------------------------------------------------------

# Lines of decimal numbers and hexadecimal digits, so that anybody can hash them again. `sealed_at` has whole seconds.
_ENTRY_LINE: Final = """
concat_ws('|', e.account, e.seq, e.transfer, e.kind, e.book, e.amount, e.program, e.platform, e.campaign, e.event, e.award, e.n, e.version,
          (extract(epoch FROM e.at) * 1000000)::bigint) || E'\\n'"""
_ENTRIES_HASH: Final = f"sha256(convert_to(string_agg({_ENTRY_LINE}, '' ORDER BY e.seq), 'UTF8'))"
_PART_LINE: Final = "concat_ws('|', account, first, last, encode(hash, 'hex')) || E'\\n'"
_PARTS_HASH: Final = f"sha256(convert_to(string_agg({_PART_LINE}, '' ORDER BY account, first), 'UTF8'))"
_HEAD: Final = """
sha256(convert_to(concat_ws('|', 'greenpoints-seal-1', block, entries, accounts,
                            to_char(sealed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), encode(previous, 'hex'),
                            encode(content, 'hex')) || E'\\n', 'UTF8'))"""
_BEFORE_THE_FIRST: Final = "decode(repeat('00', 32), 'hex')"

_DATED: Final = "SELECT DISTINCT bucket, account FROM entry WHERE at >= $1 AND at <= $2"
_OF_BUCKETS: Final = """
SELECT a.bucket, a.id AS account FROM unnest($1::smallint[]) AS b (bucket) JOIN account a USING (bucket)
WHERE a.last_seq > coalesce((SELECT p.last FROM seal_part p WHERE p.bucket = a.bucket AND p.account = a.id ORDER BY p.first DESC LIMIT 1), 0)
"""
# What has a gap is left alone: the check names it, and sealing it would say that it was well.
_SEAL: Final = f"""
WITH candidate AS MATERIALIZED (
    {{candidates}}
), unsealed AS MATERIALIZED (
    SELECT c.bucket, c.account, s.last, n.entries
    FROM candidate c
    CROSS JOIN LATERAL (
        SELECT coalesce((SELECT p.last FROM seal_part p WHERE p.bucket = c.bucket AND p.account = c.account ORDER BY p.first DESC LIMIT 1), 0)
    ) AS s (last)
    CROSS JOIN LATERAL (
        SELECT count(*) AS entries, min(seq) AS first, max(seq) AS last FROM (
            SELECT seq FROM entry e WHERE e.bucket = c.bucket AND e.account = c.account AND e.seq > s.last ORDER BY e.seq LIMIT {PART_ENTRIES}
        ) x
    ) n
    WHERE n.entries > 0 AND n.first = s.last + 1 AND n.last = s.last + n.entries
    LIMIT {BLOCK_ACCOUNTS}
), picked AS MATERIALIZED (
    SELECT bucket, account, last, entries FROM (
        SELECT u.*, sum(entries) OVER (ORDER BY bucket, account ROWS UNBOUNDED PRECEDING) - entries AS before FROM unsealed u
    ) u WHERE before < {BLOCK_ENTRIES}
), part AS MATERIALIZED (
    SELECT p.bucket, p.account, p.last + 1 AS first, p.last + p.entries AS last, p.entries, h.program, h.hash
    FROM picked p
    CROSS JOIN LATERAL (
        SELECT min(e.program) AS program, {_ENTRIES_HASH} AS hash FROM entry e
        WHERE e.bucket = p.bucket AND e.account = p.account AND e.seq > p.last AND e.seq <= p.last + p.entries
    ) h
), content AS MATERIALIZED (
    SELECT program, sum(entries)::bigint AS entries, count(*)::integer AS accounts, {_PARTS_HASH} AS content FROM part GROUP BY program
), next AS MATERIALIZED (
    SELECT c.*, coalesce(s.block, 0) + 1 AS block, coalesce(s.head, {_BEFORE_THE_FIRST}) AS previous, date_trunc('second', now()) AS sealed_at
    FROM content c
    LEFT JOIN LATERAL (SELECT block, head FROM seal WHERE seal.program = c.program ORDER BY block DESC LIMIT 1) s ON true
), sealed AS (
    INSERT INTO seal (program, block, entries, accounts, previous, content, head, sealed_at)
    SELECT program, block, entries, accounts, previous, content, {_HEAD}, sealed_at FROM next
    RETURNING program, block, entries
), parts AS (
    INSERT INTO seal_part (bucket, account, first, last, program, block, hash)
    SELECT p.bucket, p.account, p.first, p.last, p.program, s.block, p.hash FROM part p JOIN sealed s USING (program)
)
SELECT count(*) AS blocks, coalesce(sum(entries), 0)::bigint AS entries FROM sealed
"""
SEAL_DATED: Final = _SEAL.format(candidates=_DATED)
SEAL_BUCKETS: Final = _SEAL.format(candidates=_OF_BUCKETS)


class Sealed(Struct, frozen=True, kw_only=True):
    """What one statement sealed: a block for each program that has something."""

    blocks: int
    entries: int


async def seal_dated(connection: Connection, since: datetime, until: datetime) -> Sealed:
    """Seal a block of what is not sealed of accounts that have an entry of that time; nothing: all of it is.

    Call inside a transaction. Raises UniqueViolationError when another sealer was faster: nothing is sealed then, and a repeat is safe.
    """
    row = await connection.fetchrow(SEAL_DATED, since, until)
    assert row is not None
    return Sealed(blocks=row["blocks"], entries=row["entries"])


async def seal_buckets(connection: Connection, buckets: range) -> Sealed:
    """The same of all accounts of these buckets, whatever is dated when."""
    row = await connection.fetchrow(SEAL_BUCKETS, list(buckets))
    assert row is not None
    return Sealed(blocks=row["blocks"], entries=row["entries"])


# Verifying ------------------------------------------------------------------------------------------------------

# $1: program (null: all), $2: the first block that is looked at. The first broken block comes first.
BROKEN_PARTS: Final = f"""
SELECT p.program, p.block, format('block %s of program %s: account %s, entries %s to %s: %s', p.block, coalesce(g.code, p.program::text),
              p.account, p.first, p.last, CASE WHEN h.entries = p.last - p.first + 1 THEN 'not what was sealed'
                                               ELSE format('%s were sealed, %s are there', p.last - p.first + 1, h.entries) END) AS words
FROM seal_part p
LEFT JOIN program g ON g.id = p.program
CROSS JOIN LATERAL (
    SELECT count(*) AS entries, {_ENTRIES_HASH} AS hash FROM entry e
    WHERE e.bucket = p.bucket AND e.account = p.account AND e.seq >= p.first AND e.seq <= p.last
) h
WHERE p.block >= $2 AND ($1::integer IS NULL OR p.program = $1) AND h.hash IS DISTINCT FROM p.hash
"""
BROKEN_SEQUENCES: Final = """
SELECT p.program, p.block, format('block %s of program %s: account %s: its entries from %s on follow %s, the last that was sealed before', p.block,
              coalesce(g.code, p.program::text), p.account, p.first, p.before) AS words
FROM (SELECT *, coalesce(lag(last) OVER (PARTITION BY bucket, account ORDER BY first), 0) AS before FROM seal_part) p
LEFT JOIN program g ON g.id = p.program
WHERE p.block >= $2 AND ($1::integer IS NULL OR p.program = $1) AND p.first <> p.before + 1
"""
BROKEN_CHAIN: Final = f"""
SELECT program, block, format('block %s of program %s: %s', block, coalesce(g.code, program::text), CASE
              WHEN s.head IS NULL THEN 'it has parts, but is not in the chain'
              WHEN c.content IS DISTINCT FROM s.content THEN 'its parts are not those that were sealed'
              WHEN s.block <> s.block_before + 1 THEN format('it follows block %s', s.block_before)
              WHEN s.previous <> s.head_before THEN 'it does not follow from the block before'
              ELSE 'its head is not the hash of what it says' END) AS words
FROM (
    SELECT *, coalesce(lag(block) OVER w, 0) AS block_before, coalesce(lag(head) OVER w, {_BEFORE_THE_FIRST}) AS head_before, {_HEAD} AS hashed
    FROM seal WHERE $1::integer IS NULL OR program = $1 WINDOW w AS (PARTITION BY program ORDER BY block)
) s
FULL JOIN (
    SELECT program, block, sum(last - first + 1) AS entries, count(*) AS accounts, {_PARTS_HASH} AS content
    FROM seal_part WHERE $1::integer IS NULL OR program = $1 GROUP BY program, block
) c USING (program, block)
LEFT JOIN program g ON g.id = program
WHERE block >= $2 AND (s.head IS NULL OR c.content IS DISTINCT FROM s.content OR c.entries <> s.entries OR c.accounts <> s.accounts
                       OR s.block <> s.block_before + 1 OR s.previous <> s.head_before OR s.head <> s.hashed)
"""
BROKEN: Final = (BROKEN_CHAIN, BROKEN_SEQUENCES, BROKEN_PARTS)

_SET: Final = "SELECT set_config(name, value, true) FROM unnest($1::text[], $2::text[]) AS s (name, value)"
_BY_INDEX: Final = {"enable_seqscan": "off", "enable_nestloop": "on", "enable_hashjoin": "off"}
_SETTINGS: Final = "SELECT name, setting FROM pg_settings WHERE name = ANY($1::text[])"


async def broken(connection: Connection, shown: int, *, program: int | None = None, first: int = 1) -> tuple[list[str], int]:
    """What does not fit the seals from block `first` on: the first `shown` findings in words, and how many there are.

    Reads every sealed entry, once, by index. Call inside a transaction; its settings are as before afterwards.
    """
    words: list[tuple[int, int, str]] = []
    found = 0
    for statement in BROKEN:
        before = {r["name"]: r["setting"] for r in await connection.fetch(_SETTINGS, list(_BY_INDEX))}
        if statement is BROKEN_PARTS:
            await connection.execute(_SET, list(_BY_INDEX), list(_BY_INDEX.values()))
        rows = await connection.fetch(
            f"SELECT program, block, words, count(*) OVER () AS found FROM ({statement}) b ORDER BY program, block, words LIMIT {shown}",
            program, first, timeout=VERIFY_TIMEOUT_S,
        )  # fmt: skip
        await connection.execute(_SET, list(before), list(before.values()))
        words += [(r["program"], r["block"], r["words"]) for r in rows]
        found += rows[0]["found"] if rows else 0
    return [text for _, _, text in sorted(words, key=lambda each: each[:2])[:shown]], found


COUNT: Final = "SELECT count(*) AS blocks, coalesce(sum(entries), 0)::bigint AS entries FROM seal WHERE $1::integer IS NULL OR program = $1"


async def count(connection: Connection, program: int | None = None) -> Sealed:
    """How many blocks there are, and entries in them."""
    row = await connection.fetchrow(COUNT, program)
    assert row is not None
    return Sealed(blocks=row["blocks"], entries=row["entries"])


# Reading --------------------------------------------------------------------------------------------------------

_COLUMNS: Final = "block, entries, accounts, encode(previous, 'hex') AS previous, encode(content, 'hex') AS content, encode(head, 'hex') AS head, sealed_at"
PAGE: Final = f"SELECT {_COLUMNS} FROM seal WHERE program = $1 AND block < $2 ORDER BY block DESC LIMIT $3"
BY_HEAD: Final = f"SELECT {_COLUMNS} FROM seal WHERE program = $1 AND encode(head, 'hex') = $2"


class SealRow(Struct, frozen=True, kw_only=True):
    """One block; the hashes in hexadecimal digits."""

    block: int
    entries: int
    accounts: int
    previous: str
    content: str
    head: str
    sealed_at: datetime


async def page(connection: Connection, *, program: int, before: int, limit: int) -> list[SealRow]:
    """At most `limit` blocks of a program below that number, newest first."""
    return [SealRow(**dict(r)) for r in await connection.fetch(PAGE, program, before, limit)]


async def by_head(connection: Connection, head: str, *, program: int) -> SealRow | None:
    """The block of a program that has this head (hexadecimal); None: its chain does not have it."""
    row = await connection.fetchrow(BY_HEAD, program, head)
    return None if row is None else SealRow(**dict(row))


PART_LINES: Final = f"SELECT {_PART_LINE} AS line FROM seal_part WHERE program = $1 AND block = $2 ORDER BY account, first"
ENTRY_LINES: Final = f"""
SELECT {_ENTRY_LINE} AS line FROM seal_part p
JOIN entry e ON e.bucket = p.bucket AND e.account = p.account AND e.seq >= p.first AND e.seq <= p.last
WHERE p.program = $1 AND p.block = $2 AND p.account = $3 ORDER BY e.seq
"""


async def lines(connection: Connection, *, program: int, block: int, account: int | None) -> AsyncIterator[str]:
    """The lines that were hashed: of a block its parts, of an account its entries in that block. Call inside a transaction."""
    statement, more = (PART_LINES, ()) if account is None else (ENTRY_LINES, (account,))
    async for row in connection.cursor(statement, program, block, *more, prefetch=PREFETCH_ROWS):
        yield row["line"]

"""SQL of a credit batch: register, lock, read, write (DESIGN §1). Call inside one transaction, in this order.

Lock order everywhere: registry keys sorted → accounts by id → budgets by (campaign, day) → the rest.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import msgspec
from asyncpg import Record
from msgspec import Struct

from service.domain.fraud.door import Hint
from service.domain.granting import Granted
from service.domain.keys import Kind, bucket_of
from service.domain.ledger import Lot
from service.domain.posting import Account, Entry, PostedAward, Stored, Sums
from service.domain.usage import BudgetKey, CapKey, CapValue
from service.store.connection import Connection, plan_by_index
from service.store.locks import CATALOGUE_LOCK
from service.store.lots import LAST_DAY
from service.store.vault import hash_sql

_EVENT = int(Kind.EVENT)
_encoder = msgspec.json.Encoder()

# Accounts of consumers --------------------------------------------------------------------------------

# What was erased in a program that wants no more events of it is not made; `refused` may also have what is known again since.
FIND_OR_CREATE_ACCOUNTS = f"""
WITH wanted AS (
    SELECT w.*, (w.account & 1023)::smallint AS bucket
    FROM unnest($1::int[], $2::int[], $3::text[], $4::bigint[]) AS w (program, platform, reference, account)
), found AS (
    SELECT r.platform, r.reference, r.account FROM wanted w JOIN consumer_reference r USING (platform, reference)
), refused AS (
    SELECT w.platform, w.reference FROM wanted w
    JOIN program p ON p.id = w.program AND p.erased_reference = 'refuse'
    JOIN erased_reference e ON e.platform = w.platform AND e.hash = {hash_sql("w.platform", "w.reference")}
), made AS (
    INSERT INTO consumer_reference (platform, reference, bucket, account)
    SELECT platform, reference, bucket, account FROM wanted w
    WHERE NOT EXISTS (SELECT FROM found f WHERE f.platform = w.platform AND f.reference = w.reference)
      AND NOT EXISTS (SELECT FROM refused x WHERE x.platform = w.platform AND x.reference = w.reference)
    ORDER BY platform, reference
    ON CONFLICT DO NOTHING
    RETURNING platform, reference, bucket, account
), opened AS (
    INSERT INTO account (bucket, id, program)
    SELECT m.bucket, m.account, w.program FROM made m JOIN wanted w USING (platform, reference)
)
SELECT platform, reference, account, false AS opened FROM found UNION ALL SELECT platform, reference, account, true FROM made
UNION ALL SELECT platform, reference, NULL, NULL FROM refused
"""

FIND_ACCOUNTS = """
SELECT r.platform, r.reference, r.account
FROM unnest($1::int[], $2::text[]) AS w (platform, reference) JOIN consumer_reference r USING (platform, reference)
"""


async def find_or_create_accounts(
    connection: Connection, wanted: Sequence[tuple[int, int, str, int]]
) -> tuple[dict[tuple[int, str], int], set[tuple[int, str]], set[tuple[int, str]]]:
    """Accounts by (platform, reference), which of them were opened now, and which references were erased and are refused.

    `wanted` is (program, platform, reference, id to use for a new one), sorted and unique. Who is erased in this very moment is in
    none of the three.
    """
    rows = await connection.fetch(FIND_OR_CREATE_ACCOUNTS, *([w[i] for w in wanted] for i in range(4)))
    found = {(r["platform"], r["reference"]): r["account"] for r in rows if r["opened"] is not None}
    refused = {(r["platform"], r["reference"]) for r in rows if r["opened"] is None} - found.keys()
    raced = [key for w in wanted if (key := (w[1], w[2])) not in found and key not in refused]
    # Somebody else created these between our snapshot and our insert: a later statement sees them.
    opened = {(r["platform"], r["reference"]) for r in rows if r["opened"]}
    return found | (await find_accounts(connection, raced) if raced else {}), opened, refused


async def find_accounts(connection: Connection, wanted: Sequence[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """Existing accounts by (platform, reference); unknown references are left out."""
    rows = await connection.fetch(FIND_ACCOUNTS, [w[0] for w in wanted], [w[1] for w in wanted])
    return {(r["platform"], r["reference"]): r["account"] for r in rows}


CLOSE_ACCOUNTS = """
WITH gone AS (
    DELETE FROM consumer_reference r USING unnest($1::int[], $2::text[]) AS w (platform, reference)
    WHERE r.platform = w.platform AND r.reference = w.reference
    RETURNING r.bucket, r.account
)
DELETE FROM account a USING gone g WHERE a.bucket = g.bucket AND a.id = g.account
"""


async def close_accounts(connection: Connection, references: Sequence[tuple[int, str]]) -> None:
    """Undo the opening of accounts by (platform, reference), in the transaction that opened them."""
    await connection.execute(CLOSE_ACCOUNTS, [r[0] for r in references], [r[1] for r in references])


# Open: register, lock, read ------------------------------------------------------------------------------

# What a decision reads; $1, $2 are the budgets, $3 the caps.
BUDGETS_READ = (
    """SELECT b.campaign, b.day, b.used FROM unnest($1::int[], $2::date[]) AS w (campaign, day) JOIN budget b USING (campaign, day)"""
)
READING = """d.catalogue_version, d.registry_version, now(),
       ARRAY(SELECT b.campaign FROM budgets b), ARRAY(SELECT b.day FROM budgets b), ARRAY(SELECT b.used FROM budgets b),
       ARRAY(SELECT c.used FROM unnest($3::cap_key[]) WITH ORDINALITY AS w (account, campaign, span, day, n)
             LEFT JOIN cap_usage c ON c.bucket = (w.account & 1023)::smallint AND c.account = w.account AND c.campaign = w.campaign
                                  AND c.span = w.span AND c.day = w.day ORDER BY w.n)"""


class Reading(Struct, kw_only=True):
    """What a batch reads under its locks."""

    catalogue_version: int
    registry_version: int
    now: datetime
    caps: list[int | None]
    """In the order in which they were asked for; None: there is no row yet."""
    budgets: dict[BudgetKey, int]
    """Those that have a row."""


def _windows(budgets: Sequence[BudgetKey], caps: Sequence[CapKey]) -> tuple[list[int], list[date], Sequence[CapKey]]:
    return [b[0] for b in budgets], [b[1] for b in budgets], caps


def _reading(row: Record) -> Reading:
    catalogue_version, registry_version, now, campaigns, days, used, caps = row[:7]
    budgets = dict(zip(zip(campaigns, days, strict=True), used, strict=True))
    return Reading(catalogue_version=catalogue_version, registry_version=registry_version, now=now, caps=caps, budgets=budgets)


NewKey = tuple[int, int, str, bytes | None, int | None, int | None]
"""program, kind, key, request hash, bucket, account: a key to register; bucket and account are None while they are not known."""

OPEN = f"""
WITH catalogue AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared($4)), made AS (
    INSERT INTO registry (program, kind, key, request_hash, bucket, account)
    SELECT * FROM unnest($5::new_key[])
    ORDER BY program, kind, key COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING program, kind, key, number
), locked AS MATERIALIZED (
    -- Asking for `made` makes the registry come first.
    SELECT a.id, a.program, a.pending, a.available, a.reserved, a.debt, a.version, a.last_seq, a.home
    FROM unnest($6::bigint[]) AS w (id) JOIN account a ON a.bucket = (w.id & 1023)::smallint AND a.id = w.id
    WHERE (SELECT count(*) FROM made) >= 0 AND (SELECT count(*) FROM catalogue) = 1
    ORDER BY a.id
    FOR NO KEY UPDATE OF a
), budgets AS MATERIALIZED ({BUDGETS_READ})
SELECT {READING},
       ARRAY(SELECT program FROM made), ARRAY(SELECT kind FROM made), ARRAY(SELECT key FROM made), ARRAY(SELECT number FROM made),
       ARRAY(SELECT id FROM locked), ARRAY(SELECT program FROM locked), ARRAY(SELECT pending FROM locked),
       ARRAY(SELECT available FROM locked), ARRAY(SELECT reserved FROM locked), ARRAY(SELECT debt FROM locked),
       ARRAY(SELECT version FROM locked), ARRAY(SELECT last_seq FROM locked), ARRAY(SELECT home FROM locked),
       ARRAY(SELECT a.version FROM unnest($6::bigint[]) AS w (id) JOIN account a ON a.bucket = (w.id & 1023)::smallint AND a.id = w.id
             ORDER BY a.id),
       d.vault_version, d.fraud_version
FROM deployment d
"""


class Opening(Struct, kw_only=True):
    """How a batch begins."""

    events: dict[tuple[int, str], int]
    """(program, event key) → number, of those that are new."""
    orders: set[tuple[int, str]]
    """(program, order key), of those that are new."""
    accounts: dict[int, Account]
    """Under lock."""
    vault_version: int
    """The number of erasures, as far as this statement's snapshot knows; `write` looks again."""
    fraud_version: int
    """The number of changes to the lists of the fraud checks."""
    reading: Reading | None
    """None: one of the accounts changed between the statement's snapshot and its lock, so what belongs to it must be read again.

    Its versions are not final either: whoever changes a campaign may have committed in that moment, too. `write` looks again.
    """


async def open_batch(
    connection: Connection, keys: Sequence[NewKey], accounts: Sequence[int], budgets: Sequence[BudgetKey], caps: Sequence[CapKey]
) -> Opening:
    """Register keys, given in order (those that are not new were registered before), then lock accounts by sorted id, and read.

    One statement reads with one snapshot, taken before its locks. But every change of caps changes their account's version, which
    the lock shows as it is now: equal versions say that nothing happened in between.

    Also takes the shared catalogue lock: a campaign changes before this transaction or after it, never within.
    """
    row = await connection.fetchrow(OPEN, *_windows(budgets, caps), CATALOGUE_LOCK, keys, accounts)
    assert row is not None, "table deployment has one row"
    events: dict[tuple[int, str], int] = {}
    orders = set()
    for program, kind, key, number in zip(*row[7:11], strict=True):
        if kind == _EVENT:
            events[program, key] = number
        else:
            orders.add((program, key))
    locked = {fields[0]: Account(*fields) for fields in zip(*row[11:20], strict=True)}  # the columns are its fields, in order
    reading = _reading(row) if row[17] == row[20] else None
    return Opening(events=events, orders=orders, accounts=locked, vault_version=row[21], fraud_version=row[22], reading=reading)


STORED_ANSWERS = """
SELECT r.program, r.key, r.request_hash, coalesce(e.answer, p.answer) AS answer
FROM unnest($1::int[], $2::text[], $3::int[]) AS w (program, key, platform)
JOIN registry r ON r.program = w.program AND r.kind = 1 AND r.key = w.key
LEFT JOIN LATERAL (SELECT answer FROM event WHERE platform = w.platform AND number = r.number) e ON true
LEFT JOIN LATERAL (SELECT answer FROM parked WHERE platform = w.platform AND program = w.program AND number = r.number) p ON e.answer IS NULL
"""


async def stored_answers(connection: Connection, wanted: Sequence[tuple[int, str, int]]) -> dict[tuple[int, str], tuple[bytes | None, str]]:
    """(program, event key) → request hash (None: forgotten, its consumer was erased) and first answer (JSON), for (program, event key, platform) registered before."""
    rows = await connection.fetch(STORED_ANSWERS, [w[0] for w in wanted], [w[1] for w in wanted], [w[2] for w in wanted])
    return {(r["program"], r["key"]): (r["request_hash"], r["answer"]) for r in rows}


FORGET_ORDERS = """
WITH w AS (SELECT * FROM unnest($1::int[], $2::text[], $3::bool[]) AS w (program, key, kept)), gone AS (
    DELETE FROM registry r USING w WHERE r.program = w.program AND r.kind = 2 AND r.key = w.key AND NOT w.kept
)
UPDATE registry r SET bucket = NULL, account = NULL FROM w WHERE r.program = w.program AND r.kind = 2 AND r.key = w.key AND w.kept
"""


async def forget_orders(connection: Connection, orders: Sequence[tuple[int, str]], *, kept: Sequence[bool]) -> None:
    """Undo, in the transaction that registered them, the keys of orders (program, order key); of those `kept` only the account."""
    await connection.execute(FORGET_ORDERS, [o[0] for o in orders], [o[1] for o in orders], kept)


# The key of an order begins with its platform's id.
LOCK_ORDERS = """
SELECT r.program, r.key, r.account,
       EXISTS (SELECT FROM erasure x WHERE x.bucket = r.bucket AND x.account = r.account AND x.platform = split_part(r.key, ':', 1)::int) AS erased
FROM unnest($1::int[], $2::text[]) AS w (program, key)
JOIN registry r ON r.program = w.program AND r.kind = 2 AND r.key = w.key
ORDER BY r.program, r.key
FOR NO KEY UPDATE OF r
"""


FIND_ORDERS = LOCK_ORDERS.replace("FOR NO KEY UPDATE OF r", "")


async def lock_orders(
    connection: Connection, wanted: Sequence[tuple[int, str]], *, lock: bool = True
) -> dict[tuple[int, str], tuple[int | None, bool]]:
    """Under lock (`lock=False`: only read, for a dry run): (program, order key) → account, and whether its owner was erased.

    The account is None while there are only parked facts.
    """
    rows = await connection.fetch(LOCK_ORDERS if lock else FIND_ORDERS, [w[0] for w in wanted], [w[1] for w in wanted])
    return {(r["program"], r["key"]): (r["account"], r["erased"]) for r in rows}


# Lock --------------------------------------------------------------------------------------------------

LOCK_ACCOUNTS = """
SELECT a.id, a.program, a.pending, a.available, a.reserved, a.debt, a.version, a.last_seq, a.home
FROM unnest($1::bigint[]) AS w (id) JOIN account a ON a.bucket = (w.id & 1023)::smallint AND a.id = w.id
ORDER BY a.id
FOR NO KEY UPDATE OF a
"""
READ_ACCOUNTS = LOCK_ACCOUNTS.replace("FOR NO KEY UPDATE OF a", "")


async def lock_accounts(connection: Connection, ids: Sequence[int], *, lock: bool = True) -> dict[int, Account]:
    """Accounts by id, locked in order of their ids (`lock=False`: only read, for a dry run)."""
    rows = await connection.fetch(LOCK_ACCOUNTS if lock else READ_ACCOUNTS, ids)
    return {row[0]: Account(*row) for row in rows}  # the columns are its fields, in order


# Read again, in a later statement than the lock --------------------------------------------------------

READ = f"""
WITH budgets AS MATERIALIZED ({BUDGETS_READ} ORDER BY b.campaign, b.day FOR NO KEY UPDATE OF b)
SELECT {READING}
FROM deployment d
"""
READ_UNLOCKED = READ.replace("FOR NO KEY UPDATE OF b", "")


async def read(connection: Connection, budgets: Sequence[BudgetKey], caps: Sequence[CapKey], *, lock: bool) -> Reading:
    """Versions, the transaction's time, used caps, and used budgets, under lock if asked."""
    row = await connection.fetchrow(READ if lock else READ_UNLOCKED, *_windows(budgets, caps))
    assert row is not None, "table deployment has one row"
    return _reading(row)


CREATE_BUDGETS = "INSERT INTO budget (campaign, day) SELECT * FROM unnest($1::int[], $2::date[]) ORDER BY 1, 2 ON CONFLICT DO NOTHING"


async def create_budgets(connection: Connection, keys: Sequence[BudgetKey]) -> None:
    """Budget rows of windows that nobody has awarded in yet, so that there is something to lock."""
    await connection.execute(CREATE_BUDGETS, [k[0] for k in keys], [k[1] for k in keys])


ORDER_EVENTS = """
SELECT e.platform, e.order_id, e.number, e.facts
FROM unnest($1::smallint[], $2::bigint[], $3::int[], $4::text[]) AS w (bucket, account, platform, order_id)
JOIN event e ON e.bucket = w.bucket AND e.account = w.account AND e.platform = w.platform AND e.order_id = w.order_id
ORDER BY e.version = 0, e.number
"""
ORDER_AWARDS = """
SELECT e.order_id, e.platform AS order_platform, a.account, a.event, a.n, a.campaign, c.code, a.version, c.action, a.platform, a.line, a.item,
       a.points, a.reversed, a.day, a.co2e_g, a.plastic_g,
       NOT EXISTS (SELECT FROM due d WHERE d.bucket = a.bucket AND d.due_at = a.due_at AND d.event = a.event) AS settled
FROM unnest($1::smallint[], $2::bigint[], $3::int[], $4::text[]) AS w (bucket, account, platform, order_id)
JOIN event e ON e.bucket = w.bucket AND e.account = w.account AND e.platform = w.platform AND e.order_id = w.order_id
JOIN award a ON a.bucket = e.bucket AND a.account = e.account AND a.event = e.number
JOIN campaign c ON c.id = a.campaign AND c.action IN ('purchase', 'packaging')
ORDER BY a.event, a.n
"""


async def order_events(connection: Connection, orders: Sequence[tuple[int, int, str]]) -> list[Record]:
    """Facts of known orders: platform, order_id, number, facts (JSON). `orders`: (account, platform, order id).

    Those that changed something first, then oldest first: of two reports of one thing the one that counted comes first.
    """
    return await connection.fetch(ORDER_EVENTS, *_order_columns(orders))


async def order_awards(connection: Connection, orders: Sequence[tuple[int, int, str]]) -> list[Record]:
    """Awards of known orders as posted: order_id, order_platform, account and the fields of PostedAward."""
    return await connection.fetch(ORDER_AWARDS, *_order_columns(orders))


def _order_columns(orders: Sequence[tuple[int, int, str]]) -> tuple[list[int], list[int], list[int], list[str]]:
    return [bucket_of(o[0]) for o in orders], [o[0] for o in orders], [o[1] for o in orders], [o[2] for o in orders]


OPEN_LOTS = f"""
SELECT l.account, l.event, l.n, l.remaining, l.reserved, {LAST_DAY} AS expires_on
FROM unnest($1::smallint[], $2::bigint[]) AS w (bucket, account) JOIN lot l USING (bucket, account)
WHERE l.remaining > 0
"""


async def open_lots(connection: Connection, accounts: Sequence[int]) -> dict[int, list[Lot]]:
    """Lots with something left, by account."""
    lots: dict[int, list[Lot]] = {}
    for r in await connection.fetch(OPEN_LOTS, [bucket_of(a) for a in accounts], accounts):
        lots.setdefault(r["account"], []).append(Lot(r["event"], r["n"], r["remaining"], r["expires_on"], reserved=r["reserved"]))
    return lots


PARKED = """
SELECT p.platform, p.order_id, p.number, p.received_at, p.facts, p.answer
FROM unnest($1::int[], $2::int[], $3::text[]) AS w (program, platform, order_id) JOIN parked p USING (program, platform, order_id)
WHERE NOT p.declared_wrong
ORDER BY p.number
"""


async def parked(connection: Connection, orders: Sequence[tuple[int, int, str]]) -> list[Record]:
    """Facts that wait for orders, oldest first. `orders`: (program, platform, order id)."""
    return await connection.fetch(PARKED, [o[0] for o in orders], [o[1] for o in orders], [o[2] for o in orders])


# Write -------------------------------------------------------------------------------------------------

WRITE = """
WITH event AS (
    INSERT INTO event (bucket, account, number, program, platform, id, type, order_id, occurred_at, received_at, points, version, facts, answer, outcome)
    SELECT bucket, account, number, program, platform, id, type, order_id, occurred_at, coalesce(received_at, $19), points, version,
           facts, answer, outcome
    FROM unnest($1::new_event[])
    RETURNING 1
), award AS (
    INSERT INTO award (bucket, account, event, n, program, platform, campaign, version, line, points, reversed, day, due_at, expires_on, certificate,
                       item, co2e_g, plastic_g, impact)
    SELECT bucket, account, event, n, program, platform, campaign, version, line, points, reversed, day, coalesce(due_at, $25), expires_on,
           certificate, item, co2e_g, plastic_g, impact
    FROM unnest($2::new_award_2[])
    RETURNING 1
), due AS (
    INSERT INTO due (bucket, due_at, account, event) SELECT DISTINCT bucket, coalesce(due_at, $25), account, event FROM unnest($2::new_award_2[])
    RETURNING 1
), screening AS (
    -- Nothing settles before its verdict.
    INSERT INTO screening (bucket, account, event, program) SELECT bucket, account, number, program FROM unnest($1::new_event[])
    RETURNING 1
), account AS (
    UPDATE account a
    SET pending = w.pending, available = w.available, debt = w.debt, version = w.version, last_seq = w.last_seq
    FROM unnest($3::account_change[]) AS w
    WHERE a.bucket = w.bucket AND a.id = w.id
    RETURNING 1
), new_cap AS (
    INSERT INTO cap_usage (bucket, account, campaign, span, day, used)
    SELECT (account & 1023)::smallint, account, campaign, span, day, used FROM unnest($4::cap_value[])
    ON CONFLICT (bucket, account, campaign, span, day) DO UPDATE SET used = excluded.used
    RETURNING 1
), cap AS (
    UPDATE cap_usage c SET used = w.used FROM unnest($24::cap_value[]) AS w
    WHERE c.bucket = (w.account & 1023)::smallint AND c.account = w.account AND c.campaign = w.campaign AND c.span = w.span AND c.day = w.day
    RETURNING 1
), consumer AS (
    INSERT INTO campaign_consumer (bucket, campaign, hour, account, platform)
    SELECT a.bucket, a.campaign, h.hour, a.account, a.platform
    FROM unnest($2::new_award_2[]) a JOIN unnest($5::int[], $6::timestamptz[]) AS h (program, hour) USING (program)
    ON CONFLICT DO NOTHING
    RETURNING 1
), written AS MATERIALIZED (
    SELECT (SELECT count(*) FROM event) + (SELECT count(*) FROM award) + (SELECT count(*) FROM due) + (SELECT count(*) FROM screening)
         + (SELECT count(*) FROM account) + (SELECT count(*) FROM new_cap) + (SELECT count(*) FROM cap) + (SELECT count(*) FROM consumer) AS rows
), wanted AS MATERIALIZED (
    -- Asking for `written` makes all the above come first: the rows that others wait for are locked last.
    SELECT w.* FROM unnest($7::int[], $8::date[], $9::bigint[], $10::bigint[]) AS w (campaign, day, change, most), written WHERE written.rows >= 0
), locked AS MATERIALIZED (
    SELECT b.campaign, b.day FROM budget b JOIN wanted USING (campaign, day) ORDER BY b.campaign, b.day FOR NO KEY UPDATE OF b
), spent AS (
    UPDATE budget b SET used = b.used + w.change
    FROM wanted w JOIN locked USING (campaign, day)
    WHERE b.campaign = w.campaign AND b.day = w.day AND (w.most IS NULL OR b.used + w.change <= w.most)
    RETURNING 1
), guarded AS MATERIALIZED (
    SELECT (SELECT count(*) FROM spent) = cardinality($7::int[]) AND (SELECT rows FROM written) >= 0
           AND (SELECT catalogue_version = $20 AND vault_version = $21 FROM deployment) AS held
), rolled_up AS (
    INSERT INTO rollup AS r (campaign, hour, platform, stripe, events, points_issued, points_pending, points_reversed,
                             co2e_g, plastic_g)
    SELECT s.* FROM unnest($11::int[], $12::timestamptz[], $13::int[], $14::int[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[],
                           $22::bigint[], $23::bigint[]) AS s
    WHERE (SELECT held FROM guarded)
    ON CONFLICT (campaign, hour, platform, stripe) DO UPDATE
    SET events = r.events + excluded.events, points_issued = r.points_issued + excluded.points_issued,
        points_pending = r.points_pending + excluded.points_pending, points_reversed = r.points_reversed + excluded.points_reversed,
        co2e_g = r.co2e_g + excluded.co2e_g, plastic_g = r.plastic_g + excluded.plastic_g
    RETURNING 1
)
SELECT held FROM guarded
"""


class Writing(Struct, kw_only=True):
    """What a batch writes in its one large statement."""

    now: datetime
    catalogue_version: int
    """That the batch was decided by: it must still hold."""
    vault_version: int
    """That the references were resolved at: nobody may have been erased since."""
    stored: list[tuple[Stored, str, str | None]]
    """Each event with its first answer and, where it was parked at first, its outcome (JSON)."""
    granted: list[tuple[Account, PostedAward]]
    accounts: list[Account]
    new_caps: Sequence[CapValue]
    caps: Sequence[CapValue]
    """Of rows that were read. Absolute values: the account's lock makes them safe."""
    hours: dict[int, datetime]
    """program → start of its current hour"""
    budgets: Sequence[tuple[BudgetKey, int, int | None]]
    """Changes, each with the limit that must hold."""
    sums: list[tuple[int, datetime, int, Sums]]
    """(campaign, hour, platform, what to add), sorted."""
    stripe: int


async def write(connection: Connection, w: Writing) -> bool:
    """Write a batch; budgets and roll-ups come last, so that these shared rows are locked for a moment only.

    False if a budget would exceed its limit, a campaign has changed or somebody was erased: then the batch was decided on an old
    reading, and must be rolled back.
    """
    granted = [(account, award, award.granted) for account, award in w.granted if award.granted is not None]
    due_at = granted[0][2].due_at if granted else None
    held: bool = await connection.fetchval(
        WRITE,
        [_event_row(*stored, w.now) for stored in w.stored],
        [_award_row(*one, due_at) for one in granted],
        [(a.bucket, a.id, a.pending, a.available, a.debt, a.version, a.last_seq) for a in w.accounts],
        w.new_caps,
        list(w.hours), list(w.hours.values()),
        [b[0][0] for b in w.budgets], [b[0][1] for b in w.budgets], [b[1] for b in w.budgets], [b[2] for b in w.budgets],
        [s[0] for s in w.sums], [s[1] for s in w.sums], [s[2] for s in w.sums], [w.stripe] * len(w.sums),
        [s[3].events for s in w.sums], [s[3].issued for s in w.sums], [s[3].pending for s in w.sums], [s[3].reversed for s in w.sums],
        w.now, w.catalogue_version, w.vault_version,
        [s[3].co2e_g for s in w.sums], [s[3].plastic_g for s in w.sums], w.caps, due_at,
    )  # fmt: skip
    return held


def _event_row(stored: Stored, answer: str, outcome: str | None, now: datetime) -> tuple[Any, ...]:
    fact = stored.fact
    received_at = None if stored.received_at is now else stored.received_at  # a time takes the driver long; most are the same
    event = fact.event
    return (
        stored.bucket, stored.account, stored.number, fact.program, fact.platform, event.id, event.TYPE,
        None if fact.order_key is None else fact.order_key[1],
        event.occurred_at, received_at, stored.points, stored.version, fact.facts.decode(), answer, outcome,
    )  # fmt: skip


def _award_row(account: Account, award: PostedAward, granted: Granted, due_at: datetime | None) -> tuple[Any, ...]:
    certificate = None if granted.certificate is None else granted.certificate.id
    impact = None if granted.impact is None else _encoder.encode(granted.impact).decode()
    return (
        account.bucket, account.id, award.event, award.n, account.program, award.platform, award.campaign, award.version, award.line,
        award.points, award.reversed, award.day, None if granted.due_at == due_at else granted.due_at, granted.expires_on, certificate,
        award.item, award.co2e_g, award.plastic_g, impact,
    )  # fmt: skip


SET_HOMES = """
UPDATE event e SET home = w.home FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS w (bucket, account, number, home)
WHERE e.bucket = w.bucket AND e.account = w.account AND e.number = w.number
"""


async def set_homes(connection: Connection, events: Sequence[tuple[int, int, int]]) -> None:
    """Say of events that are written now whose version they have: (account, number, the account that it is linked to)."""
    await connection.execute(
        SET_HOMES, [bucket_of(e[0]) for e in events], [e[0] for e in events], [e[1] for e in events], [e[2] for e in events]
    )


SET_HINTS = """
UPDATE screening s SET hint = w.hint FROM unnest($1::smallint[], $2::bigint[], $3::smallint[]) AS w (bucket, number, hint)
WHERE s.bucket = w.bucket AND s.event = w.number
"""


async def set_hints(connection: Connection, events: Sequence[tuple[int, int, Hint]]) -> None:
    """Say of events that are written now why they are held at the door: (account, number, why)."""
    await connection.execute(SET_HINTS, [bucket_of(e[0]) for e in events], [e[1] for e in events], [int(e[2]) for e in events])


UPDATE_REVERSED = """
UPDATE award a SET reversed = w.reversed
FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::bigint[]) AS w (bucket, account, event, n, reversed)
WHERE a.bucket = w.bucket AND a.account = w.account AND a.event = w.event AND a.n = w.n
"""


async def update_reversed(connection: Connection, awards: Sequence[tuple[int, PostedAward]]) -> None:
    """What was taken back of awards of earlier batches. `awards`: (account, award)."""
    await connection.execute(
        UPDATE_REVERSED, [bucket_of(a) for a, _ in awards], [a for a, _ in awards], [p.event for _, p in awards],
        [p.n for _, p in awards], [p.reversed for _, p in awards],
    )  # fmt: skip


INSERT_ENTRIES = """
INSERT INTO entry (bucket, account, seq, transfer, kind, book, amount, program, platform, campaign, event, award, n, version, at)
SELECT w.*, $15 FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[], $6::smallint[], $7::bigint[], $8::int[],
                            $9::int[], $10::int[], $11::bigint[], $12::bigint[], $13::smallint[], $14::bigint[]) AS w
"""


async def insert_entries(connection: Connection, entries: Sequence[Entry], at: datetime) -> None:
    """Append to the book."""
    names = (
        "bucket",
        "account",
        "seq",
        "transfer",
        "kind",
        "book",
        "amount",
        "program",
        "platform",
        "campaign",
        "event",
        "award",
        "n",
        "version",
    )
    await connection.execute(INSERT_ENTRIES, *([getattr(e, name) for e in entries] for name in names), at)


USE_LOTS = """
WITH used AS (
    SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::bigint[], $6::bigint[])
        AS u (bucket, account, event, n, transfer, amount)
), recorded AS (
    INSERT INTO lot_use (bucket, account, event, n, transfer, amount) SELECT * FROM used
)
UPDATE lot l SET remaining = l.remaining - u.amount
FROM (SELECT bucket, account, event, n, sum(amount)::bigint AS amount FROM used GROUP BY 1, 2, 3, 4) u
WHERE l.bucket = u.bucket AND l.account = u.account AND l.event = u.event AND l.n = u.n
"""


async def use_lots(connection: Connection, uses: dict[tuple[int, int, int, int], int]) -> None:
    """Take points from lots. `uses`: (account, lot's event, lot's n, transfer) → points."""
    keys = list(uses)
    await connection.execute(
        USE_LOTS, [bucket_of(k[0]) for k in keys], [k[0] for k in keys], [k[1] for k in keys], [k[2] for k in keys],
        [k[3] for k in keys], [uses[k] for k in keys],
    )  # fmt: skip


INSERT_PARKED = f"""
INSERT INTO parked (program, platform, order_id, number, id, type, occurred_at, received_at, facts, answer, consumer_hash)
SELECT w.program, w.platform, w.order_id, w.number, w.id, w.type, w.occurred_at, w.received_at, w.facts, w.answer,
       {hash_sql("w.platform", "w.reference")}
FROM unnest($1::int[], $2::int[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[], $9::text[], $10::text[],
            $11::text[])
    AS w (program, platform, order_id, number, id, type, occurred_at, received_at, facts, answer, reference)
"""
DELETE_PARKED = """
DELETE FROM parked p USING unnest($1::int[], $2::int[], $3::text[], $4::bigint[]) AS w (program, platform, order_id, number)
WHERE p.program = w.program AND p.platform = w.platform AND p.order_id = w.order_id AND p.number = w.number
"""


async def park(connection: Connection, parked: Sequence[tuple[Stored, str]]) -> None:
    """Keep facts that came before their order, each with its answer (JSON)."""
    events = [p[0] for p in parked]
    await connection.execute(
        INSERT_PARKED, [e.fact.program for e in events], [e.fact.platform for e in events], ["" if (key := e.fact.order_key) is None else key[1] for e in events],
        [e.number for e in events], [e.fact.event.id for e in events], [e.fact.event.TYPE for e in events],
        [e.fact.event.occurred_at for e in events], [e.received_at for e in events], [e.fact.facts.decode() for e in events],
        [p[1] for p in parked], [e.fact.event.consumer for e in events],
    )  # fmt: skip


async def unpark(connection: Connection, keys: Sequence[tuple[int, int, str, int]]) -> None:
    """Remove facts that their order picked up: (program, platform, order id, number)."""
    await connection.execute(DELETE_PARKED, *([k[i] for k in keys] for i in range(4)))


SET_ORDER_ACCOUNT = """
UPDATE registry r SET bucket = w.bucket, account = w.account
FROM unnest($1::int[], $2::text[], $3::smallint[], $4::bigint[]) AS w (program, key, bucket, account)
WHERE r.program = w.program AND r.kind = 2 AND r.key = w.key AND r.account IS NULL
"""


async def set_order_accounts(connection: Connection, orders: Sequence[tuple[int, str, int]]) -> None:
    """Fix the account of orders that only parked facts had named: (program, order key, account)."""
    await connection.execute(
        SET_ORDER_ACCOUNT, [o[0] for o in orders], [o[1] for o in orders], [bucket_of(o[2]) for o in orders], [o[2] for o in orders]
    )


async def get_ready(connection: Connection) -> None:
    """Make a fresh connection learn the types of a batch's rows, so that the first batch does not wait for that; then plan by index.

    In this order: asyncpg asks the catalogue with a query that is slow without hash joins.
    """
    await connection.prepare(OPEN)
    await connection.prepare(WRITE)
    await plan_by_index(connection)

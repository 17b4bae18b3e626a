"""SQL of packaging in a credit batch: assets and their trips, returns that wait, claims, what was sent. Call in one transaction.

Lock order: registry keys → assets by (program, key) → accounts → claims by (program, kind, fingerprint) → budgets → the rest. What
belongs to an asset (its trips, the returns that wait for it) is changed under its row's lock only, what was sent to a consumer under
their account's.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal

from asyncpg import Record

from service.domain.assets import Asset, AssetKey, Back, Trip
from service.domain.claims import ClaimKey, Holder
from service.domain.keys import bucket_of
from service.domain.posting import PostedAward
from service.domain.sent import Day, SentKey
from service.store.connection import Connection

MAX_WAITING = 50
"""Returns of an asset that are read where a shipment may let one of them count: the earliest."""
BATCH_KEYS = "unnest($1::int[], $2::text[])"

# Assets -----------------------------------------------------------------------------------------------

LOCK_ASSETS = f"""
SELECT a.program, a.key, a.class, a.state, a.state_at, a.max_trips
FROM {BATCH_KEYS} AS w (program, key) JOIN asset a USING (program, key)
ORDER BY a.program, a.key
FOR NO KEY UPDATE OF a
"""
FIND_ASSETS = LOCK_ASSETS.replace("FOR NO KEY UPDATE OF a", "")
TRIPS = f"""
SELECT t.program, t.asset, t.shipped_event, t.shipped_at, t.platform, t.order_id, t.account, t.void, t.returned_event, t.returned_item,
       t.returned_at, t.returned_platform, t.returned_account, t.awarded_event, t.awarded_item, t.deposit::text AS deposit, t.deposit_currency
FROM {BATCH_KEYS} AS w (program, asset) JOIN trip t USING (program, asset)
"""


async def assets(connection: Connection, keys: Sequence[AssetKey], *, lock: bool = True) -> dict[AssetKey, Asset]:
    """Registered assets under lock (`lock=False`: only read, for a dry run), with their trips; waiting returns are read apart."""
    wanted = [k[0] for k in keys], [k[1] for k in keys]
    found = {
        (r["program"], r["key"]): Asset(
            program=r["program"], key=r["key"], class_=r["class"], state=r["state"], state_at=r["state_at"], max_trips=r["max_trips"],
            trips=[], waiting=[],
        )
        for r in await connection.fetch(LOCK_ASSETS if lock else FIND_ASSETS, *wanted)
    }  # fmt: skip
    for r in await connection.fetch(TRIPS, *wanted) if found else ():
        found[r["program"], r["asset"]].trips.append(_trip(r))
    return found


def _trip(r: Record) -> Trip:
    back = None
    if r["returned_event"] is not None:
        back = Back(
            event=r["returned_event"], item=r["returned_item"], at=r["returned_at"], platform=r["returned_platform"],
            account=r["returned_account"],
        )  # fmt: skip
    return Trip(
        event=r["shipped_event"], shipped_at=r["shipped_at"], platform=r["platform"], order=r["order_id"], account=r["account"],
        void=r["void"], back=back, awarded=None if r["awarded_event"] is None else (r["awarded_event"], r["awarded_item"]),
        deposit=None if r["deposit"] is None else (r["deposit"], r["deposit_currency"]),
    )  # fmt: skip


# Of a consumer who was erased nothing counts any more.
WAITING = f"""
SELECT x.*, l.code, p.id, p.type, p.received_at, p.facts, p.answer, p.consumer_hash IS NOT NULL AS named,
       e.facts AS stored_facts, e.received_at AS stored_at
FROM unnest($1::int[], $2::text[], $3::timestamptz[]) AS w (program, asset, since)
CROSS JOIN LATERAL (
    SELECT r.program, r.asset, r.number, r.item, r.platform, r.occurred_at, r.bucket, r.account FROM waiting_return r
    WHERE r.program = w.program AND r.asset = w.asset AND r.occurred_at >= w.since
      AND (r.account IS NULL OR EXISTS (SELECT FROM consumer_reference c WHERE c.bucket = r.bucket AND c.account = r.account))
    ORDER BY r.occurred_at, r.number, r.item LIMIT {MAX_WAITING}
) x
JOIN platform l ON l.id = x.platform
LEFT JOIN parked p ON p.number = x.number AND p.program = x.program
LEFT JOIN event e ON e.bucket = x.bucket AND e.account = x.account AND e.number = x.number
"""
RETURNED_FACTS = """
SELECT e.number, e.account, e.platform, l.code, e.facts, e.received_at
FROM unnest($1::int[], $2::bigint[]) AS w (platform, number) JOIN event e USING (platform, number)
JOIN platform l ON l.id = e.platform
"""


LOCK_PARKED = """
SELECT FROM parked p JOIN unnest($1::int[], $2::bigint[]) AS w (program, number) USING (program, number) ORDER BY p.number FOR UPDATE OF p
"""


async def waiting(connection: Connection, since: dict[AssetKey, datetime], *, lock: bool) -> list[Record]:
    """The earliest returns that wait for each asset and happened from that time on; those that are parked are locked until COMMIT.

    A return may wait for several assets, and each of their shipments lets it count: who has waited for another reads what that has left.
    `lock=False`: only read, for a dry run.

    The rows: program, asset, number, item, platform, code, occurred_at, account, and what is parked of them (received_at, facts, answer,
    named: whether it names somebody) or stored (stored_facts).
    """
    locked: set[tuple[int, int]] = set()
    while True:
        rows = await connection.fetch(WAITING, [k[0] for k in since], [k[1] for k in since], list(since.values()))
        parked = {(r["program"], r["number"]) for r in rows if r["facts"] is not None} - locked
        if not lock or not parked:
            return rows
        await lock_parked(connection, parked)
        locked |= parked


async def lock_parked(connection: Connection, events: Collection[tuple[int, int]]) -> None:
    """Let nobody pick these events up, or declare them wrong, until COMMIT: (program, number). What is there then a later statement sees."""
    await connection.execute(LOCK_PARKED, [e[0] for e in events], [e[1] for e in events])


async def returned_facts(connection: Connection, events: Sequence[tuple[int, int]]) -> list[Record]:
    """number, account, platform and facts of returns that count: (platform, number)."""
    return await connection.fetch(RETURNED_FACTS, [e[0] for e in events], [e[1] for e in events])


INSERT_TRIPS = """
INSERT INTO trip (program, asset, shipped_event, shipped_at, platform, order_id, bucket, account, void, returned_event, returned_item,
                  returned_at, returned_platform, returned_bucket, returned_account, awarded_event, awarded_item, deposit, deposit_currency)
SELECT w.* FROM unnest($1::int[], $2::text[], $3::bigint[], $4::timestamptz[], $5::int[], $6::text[], $7::smallint[], $8::bigint[], $9::bool[],
                       $10::bigint[], $11::smallint[], $12::timestamptz[], $13::int[], $14::smallint[], $15::bigint[], $16::bigint[],
                       $17::smallint[], $18::numeric[], $19::text[]) AS w
ON CONFLICT (program, asset, shipped_event) DO UPDATE
SET void = excluded.void, returned_event = excluded.returned_event, returned_item = excluded.returned_item, returned_at = excluded.returned_at,
    returned_platform = excluded.returned_platform, returned_bucket = excluded.returned_bucket, returned_account = excluded.returned_account,
    awarded_event = excluded.awarded_event, awarded_item = excluded.awarded_item, deposit = excluded.deposit,
    deposit_currency = excluded.deposit_currency
"""
# A return that moves from one trip to another leaves the first before it ends the second.
LEAVE_TRIPS = """
UPDATE trip t SET returned_event = NULL, returned_item = NULL, returned_at = NULL
FROM unnest($1::int[], $2::text[], $3::bigint[]) AS w (program, asset, shipped_event)
WHERE t.program = w.program AND t.asset = w.asset AND t.shipped_event = w.shipped_event
"""
UPDATE_ASSETS = """
UPDATE asset a SET state = w.state, state_at = w.state_at
FROM unnest($1::int[], $2::text[], $3::text[], $4::timestamptz[]) AS w (program, key, state, state_at)
WHERE a.program = w.program AND a.key = w.key
"""


async def write_assets(connection: Connection, changed: Iterable[Asset]) -> None:
    """Trips that began, ended or never were, and the states of their assets. The assets are locked."""
    rows = list(changed)
    trips = [(asset, trip) for asset in rows for trip in asset.trips if trip.new or trip.changed]
    if trips:
        moved = [(a.program, a.key, t.event) for a, t in trips if not t.new]
        if moved:
            await connection.execute(LEAVE_TRIPS, [m[0] for m in moved], [m[1] for m in moved], [m[2] for m in moved])
        columns = zip(*(_trip_row(asset, trip) for asset, trip in trips), strict=True)
        await connection.execute(INSERT_TRIPS, *(list(column) for column in columns))
    stated = [a for a in rows if (a.state, a.state_at) != a.was]
    if stated:
        await connection.execute(
            UPDATE_ASSETS, [a.program for a in stated], [a.key for a in stated], [a.state for a in stated], [a.state_at for a in stated]
        )


def _trip_row(asset: Asset, trip: Trip) -> tuple[object, ...]:
    back = trip.back
    account = None if back is None else back.account
    return (
        asset.program, asset.key, trip.event, trip.shipped_at, trip.platform, trip.order, bucket_of(trip.account), trip.account, trip.void,
        None if back is None else back.event, None if back is None else back.item, None if back is None else back.at,
        None if back is None else back.platform, None if account is None else bucket_of(account), account,
        None if trip.awarded is None else trip.awarded[0], None if trip.awarded is None else trip.awarded[1],
        None if trip.deposit is None else Decimal(trip.deposit[0]), None if trip.deposit is None else trip.deposit[1],
    )  # fmt: skip


INSERT_WAITING = """
INSERT INTO waiting_return (program, asset, number, item, platform, occurred_at, bucket, account)
SELECT * FROM unnest($1::int[], $2::text[], $3::bigint[], $4::smallint[], $5::int[], $6::timestamptz[], $7::smallint[], $8::bigint[])
ON CONFLICT DO NOTHING
"""
DELETE_WAITING = """
DELETE FROM waiting_return r USING unnest($1::int[], $2::text[], $3::bigint[], $4::smallint[]) AS w (program, asset, number, item)
WHERE r.program = w.program AND r.asset = w.asset AND r.number = w.number AND r.item = w.item
"""


async def write_waiting(connection: Connection, *, more: Sequence[tuple[AssetKey, Back]], gone: Sequence[tuple[AssetKey, Back]]) -> None:
    """Returns that wait for an asset from now on, and those that do not any more."""
    if more:
        await connection.execute(
            INSERT_WAITING, [k[0] for k, _ in more], [k[1] for k, _ in more], [b.event for _, b in more], [b.item for _, b in more],
            [b.platform for _, b in more], [b.at for _, b in more], [None if b.account is None else bucket_of(b.account) for _, b in more],
            [b.account for _, b in more],
        )  # fmt: skip
    if gone:
        await connection.execute(
            DELETE_WAITING, [k[0] for k, _ in gone], [k[1] for k, _ in gone], [b.event for _, b in gone], [b.item for _, b in gone]
        )


NAME_WAITING = """
UPDATE waiting_return r SET bucket = w.bucket, account = w.account
FROM unnest($1::int[], $2::bigint[], $3::smallint[], $4::bigint[]) AS w (program, number, bucket, account)
WHERE r.program = w.program AND r.number = w.number AND r.account IS DISTINCT FROM w.account
"""


async def name_waiting(connection: Connection, events: Sequence[tuple[int, int, int]]) -> None:
    """Something of these returns counts, so what of them still waits is of the same account: (program, number, account)."""
    await connection.execute(
        NAME_WAITING, [e[0] for e in events], [e[1] for e in events], [bucket_of(e[2]) for e in events], [e[2] for e in events]
    )


# Awards of returns -------------------------------------------------------------------------------------

AWARDS = """
SELECT a.account, a.event, a.n, a.campaign, c.code, a.version, c.action, a.platform, a.line, a.item, a.points, a.reversed, a.day, a.co2e_g, a.plastic_g,
       NOT EXISTS (SELECT FROM due d WHERE d.bucket = a.bucket AND d.due_at = a.due_at AND d.event = a.event) AS settled
FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS w (bucket, account, event)
JOIN award a ON a.bucket = w.bucket AND a.account = w.account AND a.event = w.event
JOIN campaign c ON c.id = a.campaign
ORDER BY a.event, a.n
"""


async def awards(connection: Connection, events: Sequence[tuple[int, int]]) -> list[tuple[int, PostedAward]]:
    """Awards as posted that these events carry, each with its account: (account, event)."""
    rows = await connection.fetch(AWARDS, [bucket_of(e[0]) for e in events], [e[0] for e in events], [e[1] for e in events])
    return [(r["account"], posted(r)) for r in rows]


def posted(r: Record) -> PostedAward:
    """An award as posted, from its columns, its campaign's code and action, and whether it settled."""
    return PostedAward(
        event=r["event"], n=r["n"], campaign=r["campaign"], code=r["code"], version=r["version"], action=r["action"], platform=r["platform"],
        line=r["line"], item=r["item"], points=r["points"], reversed=r["reversed"], reversed_was=r["reversed"], day=r["day"],
        co2e_g=r["co2e_g"], plastic_g=r["plastic_g"],
        settled=r["settled"],
    )  # fmt: skip


# Claims -------------------------------------------------------------------------------------------------

# The text is nested into the hash as in HMAC; the kind keeps equal texts of different kinds apart.
_WANTED = """
wanted AS MATERIALIZED (
    SELECT w.program, w.kind, w.n, sha256(d.hash_key || sha256(d.hash_key || convert_to(w.kind::text || ':' || w.text, 'UTF8'))) AS fingerprint
    FROM unnest($1::int[], $2::smallint[], $3::text[]) WITH ORDINALITY AS w (program, kind, text, n) CROSS JOIN deployment d
)"""
PLACE_CLAIMS = f"""
WITH {_WANTED}
INSERT INTO claim (program, kind, fingerprint, bucket, account, event, item)
SELECT program, kind, fingerprint, 0, 0, 0, 0 FROM wanted ORDER BY program, kind, fingerprint
ON CONFLICT DO NOTHING
"""
HOLDERS = f"""
WITH {_WANTED}
SELECT w.n, c.account, c.event, c.item FROM wanted w JOIN claim c USING (program, kind, fingerprint) WHERE c.event <> 0
"""
TAKE_CLAIMS = f"""
WITH {_WANTED}
INSERT INTO claim (program, kind, fingerprint, bucket, account, event, item)
SELECT w.program, w.kind, w.fingerprint, (h.account & 1023)::smallint, h.account, h.event, h.item
FROM wanted w JOIN unnest($4::bigint[], $5::bigint[], $6::smallint[]) WITH ORDINALITY AS h (account, event, item, n) USING (n)
ORDER BY w.program, w.kind, w.fingerprint
ON CONFLICT (program, kind, fingerprint) DO UPDATE
SET bucket = excluded.bucket, account = excluded.account, event = excluded.event, item = excluded.item
"""
LEAVE_CLAIMS = f"""
WITH {_WANTED}
DELETE FROM claim c USING wanted w WHERE c.program = w.program AND c.kind = w.kind AND c.fingerprint = w.fingerprint AND c.event = 0
"""
RELEASE_CLAIMS = """
DELETE FROM claim c USING unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::smallint[]) AS w (bucket, account, event, item)
WHERE c.bucket = w.bucket AND c.account = w.account AND c.event = w.event AND c.item = w.item
"""


def _columns(keys: Sequence[ClaimKey]) -> tuple[list[int], list[int], list[str]]:
    return [k[0] for k in keys], [int(k[1].kind) for k in keys], [k[1].text for k in keys]


async def place_claims(connection: Connection, keys: Sequence[ClaimKey], *, lock: bool = True) -> dict[ClaimKey, Holder]:
    """Who holds which of these claims. Those that are free are held by this transaction, until `settle_claims`: others wait for it.

    `lock=False`: only read, for a dry run.
    """
    if lock:
        await connection.execute(PLACE_CLAIMS, *_columns(keys))
    rows = await connection.fetch(HOLDERS, *_columns(keys))  # a later statement: it sees what the first has waited for
    return {keys[r["n"] - 1]: Holder(r["account"], r["event"], r["item"]) for r in rows}


async def settle_claims(
    connection: Connection, *, released: Iterable[Holder], taken: Sequence[tuple[ClaimKey, Holder]], left: Sequence[ClaimKey]
) -> None:
    """Write who holds what now; nothing stays of what was placed and not taken."""
    if gone := sorted(released, key=lambda h: (h.account, h.event, h.item)):
        await connection.execute(
            RELEASE_CLAIMS, [bucket_of(h.account) for h in gone], [h.account for h in gone], [h.event for h in gone], [h.item for h in gone]
        )
    if taken:
        holders = [h for _, h in taken]
        await connection.execute(
            TAKE_CLAIMS, *_columns([key for key, _ in taken]), [h.account for h in holders], [h.event for h in holders],
            [h.item for h in holders],
        )  # fmt: skip
    if left:
        await connection.execute(LEAVE_CLAIMS, *_columns(left))


# What was sent ------------------------------------------------------------------------------------------

SENT = """
SELECT s.account, s.class, s.day, s.units, s.returned
FROM unnest($1::smallint[], $2::bigint[], $3::text[]) AS w (bucket, account, class) JOIN packaging_sent s USING (bucket, account, class)
WHERE s.units > s.returned OR $4
"""
ADD_SENT = """
INSERT INTO packaging_sent (bucket, account, class, day, units)
SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::date[], $5::numeric[])
ON CONFLICT (bucket, account, class, day) DO UPDATE SET units = packaging_sent.units + excluded.units
"""
CHANGE_SENT = """
UPDATE packaging_sent s SET units = s.units + least(w.units, 0), returned = s.returned + w.returned
FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::date[], $5::numeric[], $6::numeric[]) AS w (bucket, account, class, day, units, returned)
WHERE s.bucket = w.bucket AND s.account = w.account AND s.class = w.class AND s.day = w.day
"""
INSERT_BACK = """
INSERT INTO packaging_back (bucket, account, event, item, class, day, units)
SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::text[], $6::date[], $7::numeric[])
"""
BACK_OF = "SELECT class, day, units FROM packaging_back WHERE bucket = $1 AND account = $2 AND event = $3"
DELETE_BACK = "DELETE FROM packaging_back WHERE bucket = $1 AND account = $2 AND event = $3"


async def sent(connection: Connection, keys: Sequence[SentKey], *, everything: bool = False) -> dict[SentKey, list[Day]]:
    """By account and class, the days on which something was sent and is not back (`everything`: all days). Accounts are locked."""
    days: dict[SentKey, list[Day]] = {}
    rows = await connection.fetch(SENT, [bucket_of(k[0]) for k in keys], [k[0] for k in keys], [k[1] for k in keys], everything)
    for r in rows:
        days.setdefault((r["account"], r["class"]), []).append(Day(r["day"], r["units"], r["returned"]))
    return days


async def write_sent(
    connection: Connection,
    changes: dict[tuple[int, str, date], tuple[Decimal, Decimal]],
    back: Sequence[tuple[int, int, int, str, date, Decimal]],
) -> None:
    """Add what was sent and returned, by (account, class, day); and which of it returns count as given back."""
    if more := sorted(key for key, (units, _) in changes.items() if units > 0):
        await connection.execute(ADD_SENT, *_sent_columns(more), [changes[k][0] for k in more])
    if less := sorted(key for key, (units, returned) in changes.items() if units < 0 or returned):
        await connection.execute(CHANGE_SENT, *_sent_columns(less), [changes[k][0] for k in less], [changes[k][1] for k in less])
    if back:
        await connection.execute(INSERT_BACK, [bucket_of(b[0]) for b in back], *([b[i] for b in back] for i in range(6)))


def _sent_columns(keys: Sequence[tuple[int, str, date]]) -> tuple[list[int], list[int], list[str], list[date]]:
    return [bucket_of(k[0]) for k in keys], [k[0] for k in keys], [k[1] for k in keys], [k[2] for k in keys]


async def back_of(connection: Connection, account: int, event: int) -> list[tuple[str, date, Decimal]]:
    """What a return counts as given back: class, day on which it was sent, units."""
    return [(r["class"], r["day"], r["units"]) for r in await connection.fetch(BACK_OF, bucket_of(account), account, event)]


async def forget_back(connection: Connection, account: int, event: int) -> None:
    """A return was declared wrong: nothing counts as given back by it."""
    await connection.execute(DELETE_BACK, bucket_of(account), account, event)


# Events that are declared wrong, and events that we write -------------------------------------------------

FIND_DECLARED = """
SELECT r.number, e.bucket, e.account, e.type, e.order_id, e.facts, p.type AS parked_type, p.order_id AS parked_order, p.facts AS parked_facts,
       p.declared_wrong, p.scrubbed_at
FROM registry r
LEFT JOIN event e ON e.platform = $2 AND e.number = r.number
LEFT JOIN parked p ON p.number = r.number AND p.program = r.program
WHERE r.program = $1 AND r.kind = 1 AND r.key = $3
"""
DECLARE_PARKED_WRONG = """
WITH gone AS (DELETE FROM waiting_return WHERE program = $1 AND number = $2)
UPDATE parked SET declared_wrong = true, ignored_at = coalesce(ignored_at, now()) WHERE program = $1 AND number = $2
"""


async def find_declared(connection: Connection, program: int, platform: int, key: str) -> Record | None:
    """An event by its registry key, stored or parked."""
    return await connection.fetchrow(FIND_DECLARED, program, platform, key)


async def declare_parked_wrong(connection: Connection, program: int, number: int) -> None:
    """What waits is picked up no more."""
    await connection.execute(DECLARE_PARKED_WRONG, program, number)


UNREGISTER = "DELETE FROM registry WHERE program = $1 AND kind = 1 AND key = $2"
FORGET_WAITING = "DELETE FROM waiting_return WHERE program = $1 AND number = $2"


async def unregister(connection: Connection, program: int, key: str) -> None:
    """Give back an event's key in the transaction that took it."""
    await connection.execute(UNREGISTER, program, key)


async def forget_waiting(connection: Connection, program: int, number: int) -> None:
    """A return was declared wrong: nothing of it waits."""
    await connection.execute(FORGET_WAITING, program, number)


NUMBERS = "SELECT nextval('number') FROM generate_series(1, $1::int)"
REGISTER_WRITTEN = """
INSERT INTO registry (program, kind, key, number, bucket, account)
SELECT w.program, 4, w.key, w.number, (w.account & 1023)::smallint, w.account
FROM unnest($1::int[], $2::text[], $3::bigint[], $4::bigint[]) AS w (program, key, number, account)
"""


async def numbers(connection: Connection, count: int) -> list[int]:
    """Numbers for events that we write; those that are not used are lost."""
    return [r[0] for r in await connection.fetch(NUMBERS, count)]


async def register_written(connection: Connection, events: Sequence[tuple[int, str, int, int]]) -> None:
    """Register events that nobody reported: (program, key, number, account)."""
    await connection.execute(REGISTER_WRITTEN, *([e[i] for e in events] for i in range(4)))

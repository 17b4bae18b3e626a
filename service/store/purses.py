"""SQL of purses: lock accounts, read their open lots, write back what was done with them. Call inside one transaction, in this order.

Lock order: registry keys → accounts by id → the rest. Whoever writes roll-ups does so last.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from service.domain.campaigns import expires_on, parse_duration
from service.domain.hours import start_of_hour
from service.domain.keys import bucket_of
from service.domain.ledger import Lot
from service.domain.points_policy import PointsPolicies
from service.domain.posting import Account
from service.domain.purse import Purse
from service.store import points_policy
from service.store.connection import Connection
from service.store.lots import LAST_DAY

PROGRAM: Final = "SELECT time_zone, now() AS now FROM program WHERE id = $1"


class Terms(Struct, frozen=True, kw_only=True):
    """What holds for purses of a program in this transaction."""

    program: int
    zone: ZoneInfo
    now: datetime
    """The transaction's time."""
    policies: PointsPolicies

    @property
    def today(self) -> date:
        """The program's local day."""
        return self.now.astimezone(self.zone).date()

    @property
    def restored_until(self) -> date:
        """The last day of points that come back after their own."""
        return expires_on(self.now, parse_duration(self.policies.at(self.now).restored_for), self.zone)


async def terms(connection: Connection, program: int) -> Terms:
    """The program's terms, by PostgreSQL's clock."""
    row = await connection.fetchrow(PROGRAM, program)
    assert row is not None, "the program exists"
    policies = await points_policy.of_program(connection, program)
    return Terms(program=program, zone=ZoneInfo(row["time_zone"]), now=row["now"], policies=policies)


HOMES: Final = """
SELECT a.id, coalesce(a.home, a.id) AS home FROM unnest($1::smallint[], $2::bigint[]) AS w (bucket, id) JOIN account a USING (bucket, id)
"""
LOCK: Final = """
SELECT a.id, a.program, a.pending, a.available, a.reserved, a.debt, a.version, a.last_seq
FROM unnest($1::smallint[], $2::bigint[]) AS w (bucket, id) JOIN account a USING (bucket, id)
ORDER BY a.id
FOR NO KEY UPDATE OF a
"""


class Moved(Exception):
    """An account was linked or split between looking for it and locking it: roll back, and try again."""


async def homes(connection: Connection, accounts: Iterable[int]) -> dict[int, int]:
    """The account that has each one's points: itself, unless it is linked to another."""
    ids = sorted(set(accounts))
    return {r["id"]: r["home"] for r in await connection.fetch(HOMES, [bucket_of(a) for a in ids], ids)}


async def lock(connection: Connection, accounts: Iterable[int]) -> dict[int, Account]:
    """Lock the accounts that have the points of these, in order of their ids; each by the account that was asked for.

    Raises Moved. Accounts that do not exist are left out.
    """
    locked, before = await lock_with_homes(connection, accounts)
    return {account: locked[home] for account, home in before.items()}


async def lock_with_homes(connection: Connection, accounts: Iterable[int]) -> tuple[dict[int, Account], dict[int, int]]:
    """Lock accounts and those that have their points, in order of their ids: all that are locked, and the home of each that was asked for.

    Raises Moved. Accounts that do not exist are left out.
    """
    before = await homes(connection, accounts)
    ids = sorted(before.keys() | set(before.values()))
    rows = await connection.fetch(LOCK, [bucket_of(a) for a in ids], ids)
    if await homes(connection, before) != before:
        raise Moved
    return {r["id"]: Account(**r) for r in rows}, before


OPEN_LOTS: Final = f"""
SELECT l.account, l.event, l.n, l.remaining, l.reserved, {LAST_DAY} AS expires_on, l.campaign, l.platform, l.idle_months
FROM unnest($1::smallint[], $2::bigint[]) AS w (bucket, account) JOIN lot l USING (bucket, account)
WHERE l.remaining > 0 OR (l.bucket, l.account, l.event, l.n) IN (
    SELECT r.bucket, r.account, r.event, r.n FROM redemption_lot r WHERE r.bucket = w.bucket AND r.account = w.account AND r.redemption = ANY($3::bigint[])
)
"""


async def open_purses(connection: Connection, accounts: Iterable[Account], terms: Terms, *, redemptions: Sequence[int] = ()) -> list[Purse]:
    """Purses of locked accounts, each with its open lots, and with those that the redemptions are made of."""
    by_id = {account.id: account for account in accounts}
    lots: dict[int, list[Lot]] = {id_: [] for id_ in by_id}
    ids = list(by_id)
    for r in await connection.fetch(OPEN_LOTS, [bucket_of(a) for a in ids], ids, list(redemptions)):
        lots[r["account"]].append(
            Lot(
                r["event"],
                r["n"],
                r["remaining"],
                r["expires_on"],
                reserved=r["reserved"],
                campaign=r["campaign"],
                platform=r["platform"],
                idle_months=r["idle_months"],
            )
        )
    until = terms.restored_until
    return [Purse(account, lots[id_], today=terms.today, restored_until=until) for id_, account in by_id.items()]


NUMBERS: Final = "SELECT nextval('number') FROM generate_series(1, $1)"


async def numbers(connection: Connection, count: int) -> list[int]:
    """New numbers for transfers."""
    return [r[0] for r in await connection.fetch(NUMBERS, count)]


WRITE: Final = """
WITH entry AS (
    INSERT INTO entry (bucket, account, seq, transfer, kind, book, amount, program, platform, campaign, event, award, n, version, at)
    SELECT w.*, $8 FROM unnest($1::new_entry[]) w
), transfer AS (
    INSERT INTO transfer (bucket, account, number, kind, program, platform, points, redemption, reason, version, at)
    SELECT w.*, $8 FROM unnest($2::new_transfer[]) w
), lot AS (
    INSERT INTO lot (bucket, account, event, n, program, platform, campaign, origin, amount, remaining, reserved, expires_on, idle_months)
    SELECT w.bucket, w.account, w.event, w.n, w.program, w.platform, w.campaign, w.origin, w.amount, w.remaining, 0, w.expires_on, w.idle_months
    FROM unnest($3::new_lot[]) w
), changed AS (
    UPDATE lot l SET remaining = w.remaining, reserved = w.reserved, expires_on = w.expires_on
    FROM unnest($4::lot_change[]) w
    WHERE l.bucket = w.bucket AND l.account = w.account AND l.event = w.event AND l.n = w.n
), used AS (
    INSERT INTO lot_use (bucket, account, event, n, transfer, amount) SELECT * FROM unnest($5::new_lot_use[])
), account AS (
    UPDATE account a SET available = w.available, reserved = w.reserved, debt = w.debt, version = w.version, last_seq = w.last_seq
    FROM unnest($6::purse_change[]) w
    WHERE a.bucket = w.bucket AND a.id = w.id
    RETURNING 1
)
INSERT INTO rollup AS r (campaign, hour, platform, stripe, points_redeemed, points_expired)
SELECT w.campaign, $9, w.platform, $7, w.redeemed, w.expired
FROM unnest($10::int[], $11::int[], $12::bigint[], $13::bigint[]) AS w (campaign, platform, redeemed, expired)
WHERE (SELECT count(*) FROM account) >= 0
ORDER BY 1, 3
ON CONFLICT (campaign, hour, platform, stripe) DO UPDATE
SET points_redeemed = r.points_redeemed + excluded.points_redeemed, points_expired = r.points_expired + excluded.points_expired
"""


async def write(connection: Connection, purses: Sequence[Purse], terms: Terms, *, stripe: int) -> None:
    """Write back what was done with purses of one program. `stripe`: which roll-up rows to write."""
    program = terms.program
    spent: dict[tuple[int, int], tuple[int, int]] = {}
    for purse in purses:
        for key, one in purse.spent.items():
            redeemed, expired = spent.get(key, (0, 0))
            spent[key] = (redeemed + one.redeemed, expired + one.expired)
    keys = sorted(key for key, sums in spent.items() if key[0] and any(sums))
    new = [{(lot.event, lot.n) for lot in purse.new_lots} for purse in purses]
    await connection.execute(
        WRITE,
        [
            (e.bucket, e.account, e.seq, e.transfer, e.kind, e.book, e.amount, e.program, e.platform, e.campaign, e.event, e.award, e.n, e.version)
            for p in purses for e in p.entries
        ],
        [
            (p.account.bucket, p.account.id, t.number, t.kind, program, t.platform, t.points, t.redemption, t.reason, t.version)
            for p in purses for t in p.transfers
        ],
        [
            (
                p.account.bucket, p.account.id, lot.event, lot.n, program, lot.platform, lot.campaign, lot.origin, lot.amount,
                p.lots[lot.event, lot.n].remaining, lot.expires_on, lot.idle_months,
            )
            for p in purses for lot in p.new_lots
        ],
        [
            (p.account.bucket, p.account.id, lot.event, lot.n, lot.remaining, lot.reserved, lot.expires_on)
            for p, made in zip(purses, new, strict=True) for key, lot in p.changed.items() if key not in made
        ],
        [
            (p.account.bucket, p.account.id, event, n, transfer, amount)
            for p in purses for (event, n, transfer), amount in p.uses.items() if amount
        ],
        [
            (a.bucket, a.id, a.available, a.reserved, a.debt, a.version, a.last_seq)
            for a in (p.account for p in purses) if a.version != a.was
        ],
        stripe, terms.now, start_of_hour(terms.now, terms.zone),
        [k[0] for k in keys], [k[1] for k in keys], [spent[k][0] for k in keys], [spent[k][1] for k in keys],
    )  # fmt: skip

"""SQL of an export: what a platform has reported about an account, page by page of its events, newest first."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from asyncpg import Record
from msgspec import Struct

from service.domain.keys import bucket_of
from service.store.connection import Connection
from service.store.vault import hash_sql

MAX_PARKED: Final = 500
MAX_SENT: Final = 3_660
"""Days and classes of what was sent: ten years of a parcel a day."""

MAX_LINKS: Final = 500

OWNER = """
SELECT p.pending, p.available, p.reserved, p.debt, p.version, a.created_at, now() AS as_of,
       (SELECT h.placed_at FROM legal_hold h WHERE h.bucket = a.bucket AND h.account = a.id AND h.lifted_at IS NULL) AS held_since
FROM account a JOIN account p ON p.bucket = (coalesce(a.home, a.id) & 1023)::smallint AND p.id = coalesce(a.home, a.id)
WHERE a.bucket = $1 AND a.id = $2
"""
# Its own account and the one that has its points; one that had them, too, unless the platform knows somebody else by that.
PURSES = """
SELECT a.id FROM account a WHERE a.bucket = $1 AND a.id = $2
UNION
SELECT a.home FROM account a WHERE a.bucket = $1 AND a.id = $2 AND a.home IS NOT NULL
UNION
SELECT l.home FROM account_link l WHERE l.bucket = $1 AND l.account = $2 AND NOT EXISTS (
    SELECT FROM consumer_reference r JOIN account k ON k.bucket = r.bucket AND k.id = r.account
    WHERE r.platform = $3 AND (k.id = l.home OR k.home = l.home)
)
"""
LINKS = f"""
SELECT l.at AS since, l.split_at AS until FROM account_link l WHERE (l.bucket = $1 AND l.account = $2) OR l.home = $2
ORDER BY l.at, l.number LIMIT {MAX_LINKS}
"""
NAMES = "SELECT reference, created_at FROM consumer_reference WHERE bucket = $1 AND account = $2 AND platform = $3 ORDER BY reference"
CAMPAIGNS = """
SELECT c.code, min(a.day) AS first, max(a.day) AS last, count(*) AS awards, sum(a.points)::bigint AS points, sum(a.reversed)::bigint AS reversed
FROM award a JOIN campaign c ON c.id = a.campaign
WHERE a.bucket = $1 AND a.account = $2 AND a.platform = $3 GROUP BY c.code ORDER BY c.code
"""
PARKED = f"""
SELECT p.number, p.id, p.type, p.occurred_at, p.received_at, p.facts, p.declared_wrong FROM consumer_reference r
JOIN parked p ON p.platform = r.platform AND p.consumer_hash = {hash_sql("r.platform", "r.reference")}
WHERE r.bucket = $1 AND r.account = $2 AND r.platform = $3 ORDER BY p.number LIMIT {MAX_PARKED}
"""
AWARDS = """
SELECT a.event, c.code, a.version, a.line, a.item, a.points, a.reversed, a.day, a.due_at, a.expires_on, a.impact
FROM award a JOIN campaign c ON c.id = a.campaign
WHERE a.bucket = $1 AND a.account = $2 AND a.event = ANY($3::bigint[]) ORDER BY a.event, a.n
"""
# By the event that caused them: from $4 to below $5.
ENTRIES = """
SELECT e.seq, e.at, e.kind, e.book, e.amount, c.code, v.id FROM entry e
LEFT JOIN campaign c ON c.id = e.campaign
LEFT JOIN event v ON v.bucket = $6 AND v.account = $7 AND v.number = e.event
WHERE e.bucket = ANY($1::smallint[]) AND e.account = ANY($2::bigint[]) AND e.platform = $3 AND e.event >= $4 AND e.event < $5
ORDER BY e.at, e.account, e.seq
"""
LOTS = """
SELECT l.amount, l.remaining, l.reserved, l.expires_on, c.code, v.id FROM lot l
LEFT JOIN campaign c ON c.id = l.campaign
LEFT JOIN event v ON v.bucket = $6 AND v.account = $7 AND v.number = l.event
WHERE l.bucket = ANY($1::smallint[]) AND l.account = ANY($2::bigint[]) AND l.platform = $3 AND l.event >= $4 AND l.event < $5
ORDER BY l.event, l.n, l.account
"""
REDEMPTIONS = """
SELECT r.id, r.status, r.points, r.captured, r.refunded, r.reference, rw.code AS reward, ca.code AS cause, r.created_at, r.expires_at, r.ended_at
FROM redemption r LEFT JOIN reward rw ON rw.id = r.reward LEFT JOIN cause ca ON ca.id = r.cause
WHERE r.bucket = ANY($1::smallint[]) AND r.account = ANY($2::bigint[]) AND r.platform = $3 AND r.number >= $4 AND r.number < $5
ORDER BY r.number DESC
"""
# What came through no platform (expiry) is told of its own account only.
TRANSFERS = """
SELECT t.at, t.kind, t.points, t.pending, t.reason, r.id AS redemption FROM transfer t
LEFT JOIN redemption r ON r.bucket = t.bucket AND r.account = t.account AND r.number = t.redemption
WHERE t.bucket = ANY($1::smallint[]) AND t.account = ANY($2::bigint[]) AND t.number >= $4 AND t.number < $5
  AND (t.platform = $3 OR (t.platform = 0 AND t.bucket = $6 AND t.account = $7))
ORDER BY t.number DESC
"""

# Of packaging: by the events of a page, so that nobody else's side of a trip is in it, and no other platform's.
SHIPPED = """
SELECT t.shipped_event AS event, t.asset, t.void FROM unnest($2::text[], $3::bigint[]) AS w (asset, event)
JOIN trip t ON t.program = $1 AND t.asset = w.asset AND t.shipped_event = w.event
WHERE t.bucket = $4 AND t.account = $5 ORDER BY t.shipped_event, t.asset
"""
BROUGHT = """
SELECT t.returned_event AS event, t.returned_item AS item, t.asset, t.deposit::text AS deposit, t.deposit_currency
FROM unnest($2::text[], $3::bigint[]) AS w (asset, event)
JOIN trip t ON t.program = $1 AND t.asset = w.asset AND t.returned_event = w.event
WHERE t.returned_bucket = $4 AND t.returned_account = $5 ORDER BY t.returned_event, t.returned_item
"""
WAITING = "SELECT number AS event, item FROM waiting_return WHERE program = $1 AND number = ANY($2::bigint[]) ORDER BY number, item"
CLAIMS = """
SELECT event, item, kind FROM claim WHERE bucket = $1 AND account = $2 AND event = ANY($3::bigint[]) ORDER BY event, item, kind
"""
VERDICTS = """
SELECT event, outcome, judged_at FROM verdict WHERE bucket = $1 AND event = ANY($2::bigint[]) AND outcome >= 2 AND enforced ORDER BY event, seq
"""
OBJECTIONS = "SELECT event, text FROM fraud_objection WHERE bucket = $1 AND event = ANY($2::bigint[])"
BACK = """
SELECT event, item, class, sum(units)::text AS units FROM packaging_back
WHERE bucket = $1 AND account = $2 AND event = ANY($3::bigint[]) GROUP BY event, item, class ORDER BY event, item, class
"""
# It does not say whose shipments these are: where another platform has shipped to the account, too, it is nobody's to hand out.
SENT = f"""
SELECT s.class, s.day, s.units::text AS units, s.returned::text AS returned FROM packaging_sent s
WHERE s.bucket = $1 AND s.account = $2
  AND NOT EXISTS (SELECT FROM consumer_reference r WHERE r.bucket = $1 AND r.account = $2 AND r.platform <> $3)
  AND NOT EXISTS (SELECT FROM erasure e WHERE e.bucket = $1 AND e.account = $2 AND e.platform <> $3)
ORDER BY s.day DESC, s.class LIMIT {MAX_SENT}
"""


async def owner(connection: Connection, account: int) -> Record | None:
    """The account's balance, age and hold, and the transaction's time."""
    return await connection.fetchrow(OWNER, bucket_of(account), account)


async def names(connection: Connection, account: int, platform: int) -> list[tuple[str, datetime]]:
    """The platform's names for it, each with since when."""
    return [(r["reference"], r["created_at"]) for r in await connection.fetch(NAMES, bucket_of(account), account, platform)]


async def campaigns(connection: Connection, account: int, platform: int) -> list[Record]:
    """Campaigns that awarded it: code, first, last, awards, points, reversed."""
    return await connection.fetch(CAMPAIGNS, bucket_of(account), account, platform)


async def parked(connection: Connection, account: int, platform: int) -> list[Record]:
    """Facts that named it and wait for their order, or for a shipment: number, id, type, occurred_at, received_at, facts, declared_wrong."""
    return await connection.fetch(PARKED, bucket_of(account), account, platform)


async def awards(connection: Connection, account: int, events: Sequence[int]) -> list[Record]:
    """Awards of these events: event, code, version, line, item, points, reversed, day, due_at, expires_on, impact (JSON)."""
    return await connection.fetch(AWARDS, bucket_of(account), account, events)


class Scope(Struct, frozen=True, kw_only=True):
    """What a page shows beside its events: what `platform` did with the points of `account`, in `purses`, from number `low` to `below`."""

    account: int
    purses: Sequence[int]
    platform: int
    low: int
    below: int

    async def fetch(self, connection: Connection, statement: str) -> list[Record]:
        """Rows of a statement with these as its arguments."""
        rows: list[Record] = await connection.fetch(
            statement, [bucket_of(p) for p in self.purses], self.purses, self.platform, self.low, self.below,
            *((bucket_of(self.account), self.account) if "$6" in statement else ()),
        )  # fmt: skip
        return rows


async def purses(connection: Connection, account: int, platform: int) -> list[int]:
    """Accounts that have, or had, the points of this one."""
    return [r["id"] for r in await connection.fetch(PURSES, bucket_of(account), account, platform)]


async def links(connection: Connection, account: int) -> list[Record]:
    """Times in which it shared a purse: since, until."""
    return await connection.fetch(LINKS, bucket_of(account), account)


async def entries(connection: Connection, scope: Scope) -> list[Record]:
    """Entries: seq, at, kind, book, amount, code, id of the event."""
    return await scope.fetch(connection, ENTRIES)


async def lots(connection: Connection, scope: Scope) -> list[Record]:
    """Lots: amount, remaining, reserved, expires_on, code, id of the event."""
    return await scope.fetch(connection, LOTS)


async def redemptions(connection: Connection, scope: Scope) -> list[Record]:
    """Redemptions, newest first: the columns of the table, codes of reward and cause."""
    return await scope.fetch(connection, REDEMPTIONS)


async def transfers(connection: Connection, scope: Scope) -> list[Record]:
    """What no event caused, newest first: at, kind, points, pending, reason, id of the redemption."""
    return await scope.fetch(connection, TRANSFERS)


# Packaging ----------------------------------------------------------------------------------------------

AssetOf = tuple[str, int]
"""An asset, in canonical form, and the event that names it."""


async def shipped(connection: Connection, program: int, account: int, named: Sequence[AssetOf]) -> list[Record]:
    """Trips that these events of the account began: event, asset, void."""
    return await connection.fetch(SHIPPED, program, *_columns(named), bucket_of(account), account)


async def brought(connection: Connection, program: int, account: int, named: Sequence[AssetOf]) -> list[Record]:
    """Trips that these events ended for the account: event, item, asset, deposit, deposit_currency."""
    return await connection.fetch(BROUGHT, program, *_columns(named), bucket_of(account), account)


async def waiting(connection: Connection, program: int, events: Sequence[int]) -> list[Record]:
    """Items of these returns that wait for a shipment: event, item."""
    return await connection.fetch(WAITING, program, events)


async def claims(connection: Connection, account: int, events: Sequence[int]) -> list[Record]:
    """What these events hold that earns once: event, item, kind."""
    return await connection.fetch(CLAIMS, bucket_of(account), account, events)


async def verdicts(connection: Connection, account: int, events: Sequence[int]) -> list[Record]:
    """What fraud checks said of these events and did, but for those that passed: event, outcome, judged_at."""
    return await connection.fetch(VERDICTS, bucket_of(account), events)


async def objections(connection: Connection, account: int, events: Sequence[int]) -> dict[int, str | None]:
    """What was said against holds and rejections of these events, by event."""
    return {r["event"]: r["text"] for r in await connection.fetch(OBJECTIONS, bucket_of(account), events)}


async def back(connection: Connection, account: int, events: Sequence[int]) -> list[Record]:
    """Single-use packaging that these returns count as given back: event, item, class, units."""
    return await connection.fetch(BACK, bucket_of(account), account, events)


async def sent(connection: Connection, account: int, platform: int) -> list[Record]:
    """Single-use packaging that was sent to it, newest first: class, day, units, returned. Nothing where platforms share the account."""
    return await connection.fetch(SENT, bucket_of(account), account, platform)


def _columns(named: Sequence[AssetOf]) -> tuple[list[str], list[int]]:
    return [asset for asset, _ in named], [event for _, event in named]

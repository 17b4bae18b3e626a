"""SQL of linked accounts. Call inside one transaction; both accounts are locked before anything is read of them (service.store.purses)."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from service.domain.keys import bucket_of
from service.domain.ledger import Lot
from service.store.connection import Connection

LotKey: TypeAlias = tuple[int, int]

ADD_CODE: Final = """
WITH old AS (DELETE FROM link_code WHERE bucket = $4 AND account = $5)
INSERT INTO link_code (hash, program, platform, bucket, account, expires_at) VALUES ($1, $2, $3, $4, $5, now() + $6)
RETURNING expires_at
"""
TAKE_CODE: Final = "DELETE FROM link_code WHERE hash = $1 AND program = $2 RETURNING account, expires_at > now() AS counts"
FORGET_CODES: Final = "DELETE FROM link_code WHERE expires_at < now()"


async def add_code(connection: Connection, *, hash_: bytes, program: int, platform: int, account: int, life: timedelta) -> datetime:
    """Keep a code; an earlier one of the same account counts no more. Returns its end."""
    ends: datetime = await connection.fetchval(ADD_CODE, hash_, program, platform, bucket_of(account), account, life)
    return ends


async def take_code(connection: Connection, *, hash_: bytes, program: int) -> int | None:
    """Use a code up: the account that it stands for; None where it is unknown, used or too old."""
    row = await connection.fetchrow(TAKE_CODE, hash_, program)
    return row["account"] if row is not None and row["counts"] else None


async def forget_codes(connection: Connection) -> int:
    """Forget codes whose time is over."""
    return int((await connection.execute(FORGET_CODES)).split()[-1])


MEMBERS: Final = "SELECT id FROM account WHERE home = $1 ORDER BY id"


async def members(connection: Connection, home: int) -> list[int]:
    """Accounts whose points another one has."""
    return [r["id"] for r in await connection.fetch(MEMBERS, home)]


SKIP: Final = "UPDATE account SET skipped = skipped + $3 WHERE bucket = $1 AND id = $2"


async def skip_versions(connection: Connection, account: int, versions: int) -> None:
    """Note how many versions an account leaves out; it is locked."""
    await connection.execute(SKIP, bucket_of(account), account, versions)


# What is on hold belongs to awards of the member; its sum moves with the link.
ON_HOLD: Final = """
SELECT coalesce(sum(w.points - w.reversed), 0)::bigint
FROM due d JOIN award w ON w.bucket = d.bucket AND w.account = d.account AND w.event = d.event AND w.due_at = d.due_at
WHERE d.bucket = $1 AND d.account = $2
"""


async def on_hold(connection: Connection, account: int) -> int:
    """Points of the account's own awards that have not settled."""
    points: int = await connection.fetchval(ON_HOLD, bucket_of(account), account)
    return points


SET_HOME: Final = "UPDATE account SET home = $3 WHERE bucket = $1 AND id = $2"
MOVE_PENDING: Final = "UPDATE account SET pending = pending + $3 WHERE bucket = $1 AND id = $2"
SET_TRANSFER_PENDING: Final = "UPDATE transfer SET pending = $4 WHERE bucket = $1 AND account = $2 AND number = $3"


async def set_home(connection: Connection, account: int, home: int | None) -> None:
    """Say who has the account's points."""
    await connection.execute(SET_HOME, bucket_of(account), account, home)


async def move_pending(connection: Connection, account: int, number: int, points: int) -> None:
    """Change what an account has on hold, by a transfer that is written already."""
    await connection.execute(MOVE_PENDING, bucket_of(account), account, points)
    await connection.execute(SET_TRANSFER_PENDING, bucket_of(account), account, number, points)


ADD_LINK: Final = """
INSERT INTO account_link (bucket, account, number, program, home, platform, code, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
END_LINK: Final = """
UPDATE account_link SET split_at = $3 WHERE bucket = $1 AND account = $2 AND split_at IS NULL
"""


async def add_link(
    connection: Connection, *, account: int, number: int, program: int, home: int, platform: int, code: bytes, at: datetime
) -> None:  # fmt: skip
    """Note a link, with the hash of the code that it used."""
    await connection.execute(ADD_LINK, bucket_of(account), account, number, program, home, platform, code, at)


LINKED_BY: Final = "SELECT account, home FROM account_link WHERE code = $1 AND program = $2 AND platform = $3 AND split_at IS NULL"


async def linked_by(connection: Connection, *, hash_: bytes, program: int, platform: int) -> set[int]:
    """The two accounts that a platform has linked by this code, where they still are."""
    row = await connection.fetchrow(LINKED_BY, hash_, program, platform)
    return set() if row is None else {row["account"], row["home"]}


async def end_link(connection: Connection, account: int, at: datetime) -> None:
    """Note its end."""
    await connection.execute(END_LINK, bucket_of(account), account, at)


# Caps are of a person: what both have used counts together.
MERGE_CAPS: Final = """
WITH gone AS (DELETE FROM cap_usage WHERE bucket = $1 AND account = $2 RETURNING campaign, span, day, used)
INSERT INTO cap_usage AS c (bucket, account, campaign, span, day, used)
SELECT $3, $4, campaign, span, day, used FROM gone
ON CONFLICT (bucket, account, campaign, span, day) DO UPDATE SET used = c.used + excluded.used
"""
# And apart again: each has what its own awards count.
SPLIT_CAPS: Final = """
WITH own AS MATERIALIZED (
    SELECT c.campaign, c.span, c.day, sum(w.points - w.reversed)::bigint AS used
    FROM cap_usage c JOIN award w ON w.bucket = $1 AND w.account = $2 AND w.campaign = c.campaign
     AND c.day = CASE c.span WHEN 1 THEN w.day WHEN 2 THEN date_trunc('year', w.day::timestamp)::date ELSE '-infinity' END
    WHERE c.bucket = $3 AND c.account = $4
    GROUP BY c.campaign, c.span, c.day
), less AS (
    UPDATE cap_usage c SET used = c.used - o.used FROM own o
    WHERE c.bucket = $3 AND c.account = $4 AND c.campaign = o.campaign AND c.span = o.span AND c.day = o.day
)
INSERT INTO cap_usage (bucket, account, campaign, span, day, used) SELECT $1, $2, campaign, span, day, used FROM own
"""


async def merge_caps(connection: Connection, account: int, home: int) -> None:
    """Count what the account has used of caps for its home."""
    await connection.execute(MERGE_CAPS, bucket_of(account), account, bucket_of(home), home)


async def split_caps(connection: Connection, account: int, home: int) -> None:
    """Count what the account's own awards have used for itself again."""
    await connection.execute(SPLIT_CAPS, bucket_of(account), account, bucket_of(home), home)


# What goes back when a link is undone: lots of awards for the account's own facts, and those that the link brought.
OWN_LOTS: Final = """
SELECT l.event, l.n FROM lot l WHERE l.bucket = $3 AND l.account = $4 AND l.remaining > 0 AND (
    EXISTS (SELECT FROM award w WHERE w.bucket = $1 AND w.account = $2 AND w.event = l.event AND w.n = l.n)
    OR EXISTS (SELECT FROM lot b WHERE b.bucket = $1 AND b.account = $2 AND b.event = l.event AND b.n = l.n)
)
"""


async def own_lots(connection: Connection, account: int, home: int) -> set[LotKey]:
    """Keys of open lots of the home that are the account's."""
    return {(r["event"], r["n"]) for r in await connection.fetch(OWN_LOTS, bucket_of(account), account, bucket_of(home), home)}


# The same lots, with what they were in the beginning, whether anything is left of them or not.
LOTS: Final = """
SELECT l.event, l.n, l.amount, l.remaining, l.reserved, l.expires_on, l.campaign, l.platform, l.idle_months
FROM unnest($3::bigint[], $4::smallint[]) AS w (event, n) JOIN lot l ON l.bucket = $1 AND l.account = $2 AND l.event = w.event AND l.n = w.n
"""


async def lots(connection: Connection, account: int, keys: Collection[LotKey]) -> dict[LotKey, tuple[Lot, int]]:
    """Lots of an account by key, each with its amount."""
    rows = await connection.fetch(LOTS, bucket_of(account), account, [k[0] for k in keys], [k[1] for k in keys])
    return {
        (r["event"], r["n"]): (
            Lot(
                r["event"],
                r["n"],
                r["remaining"],
                r["expires_on"],
                reserved=r["reserved"],
                campaign=r["campaign"],
                platform=r["platform"],
                idle_months=r["idle_months"],
            ),
            r["amount"],
        )
        for r in rows
    }

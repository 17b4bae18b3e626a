"""SQL of rewards and of their redemptions. `service.store.vouchers` has the codes.

Lock order: account → reward → voucher. A reward that can be sold out, because its stock has an end or it has codes, is locked alone: its
last one is taken once, and nobody is refused for a redemption that rolls back. One without end is shared: redemptions of it do not wait
for each other, and a change of it waits for them all.
"""

from datetime import datetime
from typing import Any, Final

from asyncpg import Record
from msgspec import Struct, structs

from service.domain.keys import bucket_of
from service.domain.rewards import Reward, RewardValues
from service.store.connection import Connection

_COLUMNS: Final = (
    "r.id, r.code, r.name, r.description, r.points, r.stock, r.taken, r.per_consumer, r.valid_from, r.valid_until, r.platforms,"
    " r.sealed_key IS NOT NULL AS has_codes, r.active"
)
MAX_LOCK_TRIES: Final = 3

# Redeeming ------------------------------------------------------------------------------------------------


def _locking(condition: str) -> str:
    """Each branch takes the row if it is of its kind, as it is when the lock is ours."""
    row = f"SELECT {_COLUMNS} FROM reward r WHERE {condition}"
    return f"""
WITH finite AS ({row} AND (r.stock IS NOT NULL OR r.sealed_key IS NOT NULL) FOR NO KEY UPDATE),
     endless AS ({row} AND r.stock IS NULL AND r.sealed_key IS NULL FOR SHARE)
SELECT * FROM finite UNION ALL SELECT * FROM endless
"""


LOCK: Final = _locking("r.program = $1 AND r.code = $2")
LOCK_BY_ID: Final = _locking("r.program = $1 AND r.id = $2")


async def lock(conn: Connection, *, program: int, code: str) -> Reward | None:
    """A program's reward, locked against changes and, where it can be sold out, against other redemptions."""
    return await _lock(conn, LOCK, program, code)


async def _lock(conn: Connection, statement: str, *values: Any) -> Reward | None:
    """A reward whose stock got an end, or lost it, while we waited is in neither branch: look again."""
    for _ in range(MAX_LOCK_TRIES):
        row = await conn.fetchrow(statement, *values)
        if row is not None:
            return Reward(**row)
    return None


# By the account, and by those that are linked to it.
USED: Final = """
SELECT count(*) FROM reward_use u
WHERE u.reward = $3 AND u.state <> 'returned' AND (u.bucket, u.account) IN (
    SELECT $1::smallint, $2::bigint UNION ALL SELECT a.bucket, a.id FROM account a WHERE a.home = $2
)
"""
TAKE: Final = """
WITH counted AS (UPDATE reward SET taken = taken + 1 WHERE id = $4 AND stock IS NOT NULL)
INSERT INTO reward_use (bucket, account, redemption, reward, state, at) VALUES ($1, $2, $3, $4, 'reserved', $5)
"""


async def used(conn: Connection, *, account: int, reward: int) -> int:
    """How often an account has a reward, reserved or given out. The caller holds the account's lock."""
    found: int = await conn.fetchval(USED, bucket_of(account), account, reward)
    return found


async def take(conn: Connection, *, account: int, redemption: int, reward: int, now: datetime) -> None:
    """Reserve one for a redemption. The caller holds the locks of the account and the reward."""
    await conn.execute(TAKE, bucket_of(account), account, redemption, reward, now)


GIVE: Final = """
WITH given AS (
    UPDATE reward_use u SET state = 'given' FROM reward r
    WHERE u.bucket = $1 AND u.account = $2 AND u.redemption = $3 AND u.state = 'reserved' AND r.id = u.reward AND r.program = $4
    RETURNING u.reward
)
UPDATE voucher v SET state = 'given' FROM given g WHERE v.reward = g.reward AND v.redemption = $3 AND v.state = 'reserved'
"""
OF_REDEMPTION: Final = """
SELECT u.reward FROM reward_use u JOIN reward r ON r.id = u.reward AND r.program = $4
WHERE u.bucket = $1 AND u.account = $2 AND u.redemption = $3 AND u.state = $5
"""
# A code that was given out has been seen: it is nobody's from now on. One that was not is free again.
GIVE_BACK: Final = """
WITH back AS (
    UPDATE reward_use SET state = 'returned' WHERE bucket = $1 AND account = $2 AND redemption = $3 AND state = $4 RETURNING reward
), counted AS (
    UPDATE reward r SET taken = r.taken - 1 FROM back b WHERE r.id = b.reward AND r.stock IS NOT NULL
), voided AS (
    UPDATE voucher v SET state = 'void', voided_at = now() FROM back b
    WHERE v.reward = b.reward AND v.redemption = $3 AND v.state = 'given' AND $4 = 'given'
)
UPDATE voucher v SET state = 'free', bucket = NULL, account = NULL, redemption = NULL FROM back b
WHERE v.reward = b.reward AND v.redemption = $3 AND v.state = 'reserved' AND $4 = 'reserved'
"""


async def give(conn: Connection, *, program: int, account: int, redemption: int) -> None:
    """Give out what a redemption reserved. A repeat changes nothing."""
    await conn.execute(GIVE, bucket_of(account), account, redemption, program)


async def give_back(conn: Connection, *, program: int, account: int, redemption: int, captured: bool) -> None:
    """Take back what a redemption reserved or, if it was captured, was given. A repeat changes nothing.

    The caller holds the account's lock; the reward's is taken here, in an earlier statement than what hangs on its stock.
    """
    state = "given" if captured else "reserved"
    reward = await conn.fetchval(OF_REDEMPTION, bucket_of(account), account, redemption, program, state)
    if reward is not None:
        await _lock(conn, LOCK_BY_ID, program, reward)
        await conn.execute(GIVE_BACK, bucket_of(account), account, redemption, state)


# Operators ------------------------------------------------------------------------------------------------

_VALUES: Final = tuple(field for field in RewardValues.__struct_fields__)
INSERT: Final = f"""
INSERT INTO reward (program, code, sealed_key, taken, {", ".join(_VALUES)})
VALUES ($1, $2, $3, CASE WHEN $7::bigint IS NOT NULL THEN 0 END, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (program, code) DO NOTHING
RETURNING id
"""
FOR_CHANGE: Final = f"SELECT {_COLUMNS} FROM reward r WHERE r.program = $1 AND r.code = $2 FOR NO KEY UPDATE"
COUNT_USES: Final = "SELECT count(*) FROM reward_use WHERE reward = $1 AND state <> 'returned'"
UPDATE: Final = f"""
UPDATE reward SET ({", ".join(_VALUES)}) = ($4, $5, $6, $7, $8, $9, $10, $11, $12), taken = CASE WHEN $7::bigint IS NOT NULL THEN $3::bigint END
WHERE program = $1 AND id = $2
"""


async def insert(conn: Connection, *, program: int, code: str, sealed_key: str | None, values: RewardValues) -> bool:
    """A new reward; False: the code is taken. `sealed_key` is sealed."""
    return await conn.fetchval(INSERT, program, code, sealed_key, *structs.astuple(values)) is not None


async def for_change(conn: Connection, *, program: int, code: str) -> Reward | None:
    """A reward whose redemptions wait until the transaction ends."""
    row = await conn.fetchrow(FOR_CHANGE, program, code)
    return None if row is None else Reward(**row)


async def count_uses(conn: Connection, reward: int) -> int:
    """How often a reward is reserved or given out. Exact in a later statement than its lock."""
    found: int = await conn.fetchval(COUNT_USES, reward)
    return found


async def update(conn: Connection, *, program: int, id_: int, taken: int, values: RewardValues) -> None:
    """Change a reward that is locked; `taken` counts where its stock has an end."""
    await conn.execute(UPDATE, program, id_, taken, *structs.astuple(values))


# Showing --------------------------------------------------------------------------------------------------


class RewardRow(Reward, frozen=True, kw_only=True):
    """A reward as it is shown."""

    platform_codes: list[str] | None
    """None: all."""
    in_stock: bool
    created_at: datetime


class Counts(Struct, frozen=True, kw_only=True):
    """Redemptions and codes of one reward."""

    reserved: int
    given: int
    codes_left: int
    codes_void: int


class Offer(RewardRow, frozen=True, kw_only=True):
    """A reward and how often a consumer has it; only counted where that has a limit."""

    used: int


_IN_STOCK: Final = """
(r.taken < r.stock) IS NOT FALSE AND (r.sealed_key IS NULL OR EXISTS (SELECT FROM voucher v WHERE v.reward = r.id AND v.state = 'free'))
"""
_SHOWN: Final = f"""
{_COLUMNS}, r.created_at, {_IN_STOCK} AS in_stock,
CASE WHEN r.platforms IS NOT NULL THEN ARRAY(
    SELECT p.code FROM platform p WHERE p.program = r.program AND p.id = ANY(r.platforms) ORDER BY p.code
) END AS platform_codes
"""
_OFFERED: Final = """
r.active AND (r.valid_from <= now()) IS NOT FALSE AND (r.valid_until > now()) IS NOT FALSE AND ($2 = ANY(r.platforms)) IS NOT FALSE
"""
GET: Final = f"SELECT {_SHOWN} FROM reward r WHERE r.program = $1 AND r.code = $2"
PAGE: Final = f"SELECT {_SHOWN} FROM reward r WHERE r.program = $1 AND r.code > $2 ORDER BY r.code LIMIT $3"
OFFERS: Final = f"SELECT {_SHOWN} FROM reward r WHERE r.program = $1 AND {_OFFERED} AND r.code > $3 ORDER BY r.code LIMIT $4"
MINE: Final = f"""
SELECT {_SHOWN}, CASE WHEN r.per_consumer IS NULL THEN 0 ELSE (
    SELECT count(*) FROM reward_use u WHERE u.reward = r.id AND u.state <> 'returned' AND (u.bucket, u.account) IN (
        SELECT $5::smallint, $6::bigint UNION ALL SELECT a.bucket, a.id FROM account a WHERE a.home = $6
    )) END AS used
FROM reward r WHERE r.program = $1 AND {_OFFERED} AND r.code > $3 ORDER BY r.code LIMIT $4
"""
COUNTS: Final = """
SELECT (SELECT count(*) FROM reward_use WHERE reward = $1 AND state = 'reserved') AS reserved,
       (SELECT count(*) FROM reward_use WHERE reward = $1 AND state = 'given') AS given,
       (SELECT count(*) FROM voucher WHERE reward = $1 AND state = 'free') AS codes_left,
       (SELECT count(*) FROM voucher WHERE reward = $1 AND state = 'void') AS codes_void
"""
# The account that has somebody's points: their own, or the one that it is linked to.
PURSE: Final = """
SELECT h.id, h.available FROM account a JOIN account h ON h.id = coalesce(a.home, a.id) AND h.bucket = coalesce(a.home, a.id) & 1023
WHERE a.bucket = $1 AND a.id = $2
"""


async def get(conn: Connection, *, program: int, code: str) -> RewardRow | None:
    """One reward of the program."""
    row = await conn.fetchrow(GET, program, code)
    return None if row is None else RewardRow(**row)


async def page(conn: Connection, *, program: int, after: str, limit: int) -> list[RewardRow]:
    """At most `limit` rewards with codes above `after`."""
    return [RewardRow(**row) for row in await conn.fetch(PAGE, program, after, limit)]


async def offers(conn: Connection, *, program: int, platform: int, after: str, limit: int) -> list[RewardRow]:
    """The same of what a platform can offer now, in stock or not."""
    return [RewardRow(**row) for row in await conn.fetch(OFFERS, program, platform, after, limit)]


async def offers_to(conn: Connection, *, program: int, platform: int, account: int, after: str, limit: int) -> list[Offer]:
    """The same with how often the account has each; 0 stands for an account that does not exist."""
    rows: list[Record] = await conn.fetch(MINE, program, platform, after, limit, bucket_of(account), account)
    return [Offer(**row) for row in rows]


async def counts(conn: Connection, reward: int) -> Counts:
    """What is reserved and given out of a reward, and its codes. Takes a tenth of a second for a million."""
    row = await conn.fetchrow(COUNTS, reward)
    assert row is not None
    return Counts(**row)


async def purse(conn: Connection, account: int) -> tuple[int, int]:
    """The account that has somebody's points, and how many can be spent."""
    row = await conn.fetchrow(PURSE, bucket_of(account), account)
    return (account, 0) if row is None else (row["id"], row["available"])

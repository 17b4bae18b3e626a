"""SQL of the vault: who is known under which name, who was erased, whose data must be kept.

An erasure takes the catalogue's advisory lock alone, so that no credit is being decided, and raises `deployment.vault_version`; each
credit compares that version when it writes (`service.store.credit.WRITE`). So no credit commits on what a process remembers of
somebody who is erased.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from asyncpg import Record
from msgspec import Struct

from service.domain.keys import bucket_of, platform_key
from service.domain.privacy import ErasedReference
from service.store.connection import Connection


def hash_sql(platform: str, reference: str) -> str:
    """An expression: the keyed hash of a platform's reference. The key is the deployment's; nested, as in HMAC."""
    text = f"convert_to({platform}::text || ':' || {reference}, 'UTF8')"
    return f"(SELECT sha256(x.hash_key || sha256(x.hash_key || {text})) FROM deployment x)"


VERSION = "SELECT vault_version FROM deployment"


async def version(connection: Connection) -> int:
    """The number of erasures so far."""
    found: int = await connection.fetchval(VERSION)
    return found


# Finding ----------------------------------------------------------------------------------------------

REFERENCES_OF = "SELECT reference FROM consumer_reference WHERE bucket = $1 AND account = $2 AND platform = $3 ORDER BY reference"


async def references_of(connection: Connection, account: int, platform: int) -> list[str]:
    """A platform's names for an account."""
    return [r["reference"] for r in await connection.fetch(REFERENCES_OF, bucket_of(account), account, platform)]


FREE_REFERENCES = """
SELECT r.reference FROM consumer_reference r
WHERE r.platform = $1 AND NOT EXISTS (SELECT FROM legal_hold h WHERE h.bucket = r.bucket AND h.account = r.account AND h.lifted_at IS NULL)
ORDER BY r.reference LIMIT $2
"""


async def free_references(connection: Connection, platform: int, limit: int) -> list[str]:
    """References of a platform that no legal hold keeps."""
    return [r["reference"] for r in await connection.fetch(FREE_REFERENCES, platform, limit)]


COUNT_REFERENCES = "SELECT EXISTS (SELECT FROM consumer_reference WHERE platform = $1)"


async def has_references(connection: Connection, platform: int) -> bool:
    """Whether a platform knows anybody."""
    found: bool = await connection.fetchval(COUNT_REFERENCES, platform)
    return found


IS_REFUSED = f"""
SELECT EXISTS (SELECT FROM program p JOIN erased_reference e ON e.platform = $2 AND e.hash = {hash_sql("$2::int", "$3")}
               WHERE p.id = $1 AND p.erased_reference = 'refuse')
"""


async def is_refused(connection: Connection, *, program: int, platform: int, reference: str) -> bool:
    """Whether the program wants no events of this reference, because it was erased."""
    found: bool = await connection.fetchval(IS_REFUSED, program, platform, reference)
    return found


# Erasing ----------------------------------------------------------------------------------------------

# All names of the accounts, in one order: whoever erases or places a hold waits here for the other.
LOCK_NAMES = """
SELECT r.platform, r.reference, r.account,
       EXISTS (SELECT FROM legal_hold h WHERE h.bucket = r.bucket AND h.account = r.account AND h.lifted_at IS NULL) AS held
FROM consumer_reference r
WHERE (r.bucket, r.account) IN (SELECT o.bucket, o.account FROM consumer_reference o WHERE o.platform = $1 AND o.reference = ANY($2::text[]))
ORDER BY r.platform, r.reference
FOR UPDATE OF r
"""
HELD = "SELECT account FROM legal_hold WHERE lifted_at IS NULL AND bucket = ANY($1::smallint[]) AND account = ANY($2::bigint[])"


async def lock_names(connection: Connection, platform: int, references: Sequence[str]) -> dict[str, tuple[int, bool]]:
    """Under lock: account, and whether a legal hold keeps it, of those of the platform's references that exist."""
    rows = await connection.fetch(LOCK_NAMES, platform, references)
    # A hold that was placed while we waited for the lock is seen by a later statement only.
    held = {r["account"] for r in await connection.fetch(HELD, [bucket_of(r["account"]) for r in rows], [r["account"] for r in rows])}
    wanted = set(references)
    return {r["reference"]: (r["account"], r["account"] in held) for r in rows if r["platform"] == platform and r["reference"] in wanted}


ERASE = f"""
WITH gone AS (
    DELETE FROM consumer_reference r WHERE r.platform = $1 AND r.reference = ANY($2::text[])
    RETURNING r.bucket, r.account, {hash_sql("r.platform", "r.reference")} AS hash
), refused AS (
    INSERT INTO erased_reference (platform, hash)
    SELECT $1, g.hash FROM gone g WHERE (SELECT p.erased_reference FROM program p WHERE p.id = $3) = 'refuse'
    ON CONFLICT DO NOTHING
), unheld AS (
    DELETE FROM legal_hold h USING gone g WHERE h.bucket = g.bucket AND h.account = g.account AND h.lifted_at IS NOT NULL
), raised AS (
    UPDATE deployment SET vault_version = vault_version + 1
)
INSERT INTO erasure (bucket, account, program, platform, consumer_hash, request)
SELECT g.bucket, g.account, $3, $1, g.hash, $4 FROM gone g
RETURNING account
"""


async def erase(connection: Connection, *, program: int, platform: int, references: Sequence[str], request: int | None) -> list[int]:
    """Remove references from the vault and note what is to be scrubbed; the accounts. Needs the exclusive catalogue lock."""
    return [r["account"] for r in await connection.fetch(ERASE, platform, references, program, request)]


class Erasure(Struct, frozen=True, kw_only=True):
    """An erasure whose traces are being scrubbed."""

    bucket: int
    account: int
    id: int
    program: int
    platform: int
    through: int
    consumer_hash: bytes | None


RUNNING = "SELECT id FROM erasure WHERE state = 'running' ORDER BY id LIMIT $1"
TAKE = """
SELECT bucket, account, id, program, platform, through, consumer_hash FROM erasure WHERE id = $1 AND state = 'running'
FOR UPDATE SKIP LOCKED
"""


async def running(connection: Connection, limit: int) -> list[int]:
    """Erasures that are not done, oldest first."""
    return [r["id"] for r in await connection.fetch(RUNNING, limit)]


async def take(connection: Connection, id_: int) -> Erasure | None:
    """An erasure under lock; None when it is done or another worker has it."""
    row = await connection.fetchrow(TAKE, id_)
    return None if row is None else Erasure(**row)


# What other platforms reported stays while they know the person: a box that was shipped here may have been brought back there.
EVENTS_AFTER = """
SELECT e.number, e.platform, e.id, e.facts FROM event e
WHERE e.bucket = $1 AND e.account = $2 AND e.number > $3
  AND (e.platform = $4 OR NOT EXISTS (SELECT FROM consumer_reference r WHERE r.bucket = $1 AND r.account = $2 AND r.platform = e.platform))
ORDER BY e.number LIMIT $5
"""


async def events_after(connection: Connection, erasure: Erasure, limit: int) -> list[Record]:
    """Events (number, platform, id, facts) of the account after those that are scrubbed.

    Its platform reported them, or one that does not know the person.
    """
    return await connection.fetch(EVENTS_AFTER, erasure.bucket, erasure.account, erasure.through, erasure.platform, limit)


SET_FACTS = """
UPDATE event e SET facts = w.facts FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::text[]) AS w (bucket, account, number, facts)
WHERE e.bucket = w.bucket AND e.account = w.account AND e.number = w.number
"""


async def set_facts(connection: Connection, changed: Sequence[tuple[int, int, str]]) -> None:
    """Replace what is kept of events: (account, number, facts)."""
    await connection.execute(
        SET_FACTS, [bucket_of(c[0]) for c in changed], [c[0] for c in changed], [c[1] for c in changed], [c[2] for c in changed]
    )


FORGET_HASHES = "UPDATE registry SET request_hash = NULL WHERE program = $1 AND kind = 1 AND key = ANY($2::text[])"


async def forget_hashes(connection: Connection, program: int, keys: Sequence[str]) -> None:
    """Forget what events looked like when they were sent: who knew all the rest could try names until the hash fits."""
    await connection.execute(FORGET_HASHES, program, keys)


async def forget_hashes_of(connection: Connection, program: int, platform: int, ids: Sequence[str]) -> None:
    """The same by the platform's event ids."""
    await forget_hashes(connection, program, [platform_key(platform, id_) for id_ in ids])


SET_THROUGH = "UPDATE erasure SET through = $4 WHERE bucket = $1 AND account = $2 AND id = $3"
FINISH = "UPDATE erasure SET state = 'done', done_at = now(), consumer_hash = NULL WHERE bucket = $1 AND account = $2 AND id = $3"


async def set_through(connection: Connection, erasure: Erasure, number: int) -> None:
    """Events up to this number are scrubbed."""
    await connection.execute(SET_THROUGH, erasure.bucket, erasure.account, erasure.id, number)


FORGET_OPENINGS = """
UPDATE registry r SET request_hash = NULL
FROM opening o
WHERE o.bucket = $1 AND o.account = $2 AND o.platform = $3 AND r.program = o.program AND r.kind = 3 AND r.key = o.platform || ':' || o.id
"""


async def finish(connection: Connection, erasure: Erasure) -> None:
    """Nothing is left to scrub; what rows of imports looked like is forgotten with it: their hashes cover the reference, too."""
    await connection.execute(FORGET_OPENINGS, erasure.bucket, erasure.account, erasure.platform)
    await connection.execute(FINISH, erasure.bucket, erasure.account, erasure.id)


PARKED_OF = """
SELECT program, platform, order_id, number, id, facts FROM parked
WHERE platform = $1 AND consumer_hash = $2 AND scrubbed_at IS NULL ORDER BY number LIMIT $3 FOR UPDATE
"""
SET_PARKED = """
UPDATE parked p SET facts = w.facts, scrubbed_at = now(), consumer_hash = NULL
FROM unnest($1::int[], $2::int[], $3::text[], $4::bigint[], $5::text[]) AS w (program, platform, order_id, number, facts)
WHERE p.program = w.program AND p.platform = w.platform AND p.order_id = w.order_id AND p.number = w.number
"""


async def parked_of(connection: Connection, platform: int, consumer_hash: bytes, limit: int) -> list[Record]:
    """Facts that wait for their order and named this consumer, under lock: program, platform, order_id, number, id, facts."""
    return await connection.fetch(PARKED_OF, platform, consumer_hash, limit)


async def set_parked(connection: Connection, changed: Sequence[tuple[int, int, str, int, str]]) -> None:
    """Replace what is kept of parked facts: (program, platform, order id, number, facts)."""
    await connection.execute(SET_PARKED, *([c[i] for c in changed] for i in range(5)))


FORGET_WAITING = "DELETE FROM waiting_return WHERE program = $1 AND number = ANY($2::bigint[]) AND account IS NOT NULL"


async def forget_waiting(connection: Connection, program: int, numbers: Sequence[int]) -> None:
    """Nothing of these returns counts any more for whoever they name. What counts for the consumer that it was shipped to waits on."""
    await connection.execute(FORGET_WAITING, program, numbers)


UNKNOWN = """
SELECT w.account FROM unnest($1::smallint[], $2::bigint[]) AS w (bucket, account)
WHERE NOT EXISTS (SELECT FROM consumer_reference r WHERE r.bucket = w.bucket AND r.account = w.account)
"""
IS_ERASED = """
SELECT EXISTS (SELECT FROM erasure WHERE bucket = $1 AND account = $2 AND platform = $3)
    OR NOT EXISTS (SELECT FROM consumer_reference WHERE bucket = $1 AND account = $2)
"""


async def unknown(connection: Connection, accounts: Collection[int]) -> set[int]:
    """Those of these accounts that no reference leads to: everybody who knew them has erased them."""
    return {r["account"] for r in await connection.fetch(UNKNOWN, [bucket_of(a) for a in accounts], list(accounts))}


async def is_erased(connection: Connection, account: int, platform: int) -> bool:
    """Whether a platform has erased the person of an account, or everybody who knew them has."""
    found: bool = await connection.fetchval(IS_ERASED, bucket_of(account), account, platform)
    return found


# Legal holds ------------------------------------------------------------------------------------------


class Hold(Struct, frozen=True, kw_only=True):
    """Data that must be kept, until somebody lifts the hold."""

    reason: str
    placed_by: str
    placed_at: datetime


OPEN_HOLD = "SELECT reason, placed_by, placed_at FROM legal_hold WHERE bucket = $1 AND account = $2 AND lifted_at IS NULL"
PLACE_HOLD = """
INSERT INTO legal_hold (bucket, account, program, reason, placed_by) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (bucket, account) WHERE lifted_at IS NULL DO UPDATE SET reason = excluded.reason
RETURNING reason, placed_by, placed_at, xmax = 0 AS new
"""
LIFT_HOLD = """
UPDATE legal_hold SET lifted_at = now(), lifted_by = $3 WHERE bucket = $1 AND account = $2 AND lifted_at IS NULL RETURNING id
"""


async def open_hold(connection: Connection, account: int) -> Hold | None:
    """The hold on an account, if there is one."""
    row = await connection.fetchrow(OPEN_HOLD, bucket_of(account), account)
    return None if row is None else Hold(**row)


async def place_hold(connection: Connection, *, account: int, program: int, reason: str, by: str) -> tuple[Hold, bool]:
    """Place a hold, or change the reason of the one that is there; and whether it is new."""
    row = await connection.fetchrow(PLACE_HOLD, bucket_of(account), account, program, reason, by)
    assert row is not None
    return Hold(reason=row["reason"], placed_by=row["placed_by"], placed_at=row["placed_at"]), row["new"]


async def lift_hold(connection: Connection, account: int, by: str) -> bool:
    """Lift the hold; whether there was one."""
    return await connection.fetchval(LIFT_HOLD, bucket_of(account), account, by) is not None


# The program's policy ----------------------------------------------------------------------------------

POLICY = "SELECT erased_reference FROM program WHERE id = $1"
SET_POLICY = "UPDATE program SET erased_reference = $2 WHERE id = $1"


async def policy(connection: Connection, program: int) -> ErasedReference:
    """What comes of later events of erased references."""
    found: ErasedReference = await connection.fetchval(POLICY, program)
    return found


async def set_policy(connection: Connection, program: int, erased_reference: ErasedReference) -> None:
    """Change that."""
    await connection.execute(SET_POLICY, program, erased_reference)

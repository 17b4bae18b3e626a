"""SQL of alerts: what is broken, a row once from when it was found until it holds again."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from service.domain.keys import bucket_of
from service.store.check_recent import Broken
from service.store.connection import Connection

MAX_OPEN: Final = 1_000
"""Alerts that are open at a time, about: when everything is broken, the first rows say so."""
LEDGER: Final = "ledger"
"""The subject of what a check of everything found: its words count rows, and name nobody's."""

OPEN_ACCOUNTS: Final = """
INSERT INTO alert (program, kind, subject, words, bucket, account)
SELECT program, kind, 'account ' || account, words, bucket, account
FROM unnest($1::integer[], $2::text[], $3::smallint[], $4::bigint[], $5::text[]) AS b (program, kind, bucket, account, words)
LIMIT greatest($6 - (SELECT count(*) FROM alert WHERE resolved_at IS NULL), 0)
ON CONFLICT (program, kind, subject) WHERE resolved_at IS NULL DO NOTHING
"""
RESOLVE_ACCOUNTS: Final = """
UPDATE alert SET resolved_at = now()
WHERE resolved_at IS NULL AND account = ANY($1::bigint[])
  AND (kind, account) NOT IN (SELECT * FROM unnest($2::text[], $3::bigint[]))
"""
OPEN_OF_ACCOUNTS: Final = """
SELECT DISTINCT bucket, account FROM alert WHERE resolved_at IS NULL AND account IS NOT NULL
"""


async def accounts(connection: Connection) -> list[tuple[int, int]]:
    """Bucket and id of the accounts with an open alert."""
    return [(r["bucket"], r["account"]) for r in await connection.fetch(OPEN_OF_ACCOUNTS)]


async def tell(connection: Connection, looked_at: Sequence[int], broken: Sequence[Broken]) -> None:
    """Open alerts for what is broken among the accounts that were looked at, and resolve those of what is not. Safe to repeat."""
    await connection.execute(
        OPEN_ACCOUNTS, [b.program for b in broken], [b.kind for b in broken], [bucket_of(b.account) for b in broken],
        [b.account for b in broken], [b.words for b in broken], MAX_OPEN,
    )  # fmt: skip
    await connection.execute(RESOLVE_ACCOUNTS, looked_at, [b.kind for b in broken], [b.account for b in broken])


OPEN_LEDGER: Final = """
INSERT INTO alert (program, kind, subject, words) SELECT NULL, kind, $3, words FROM unnest($1::text[], $2::text[]) AS b (kind, words)
ON CONFLICT (program, kind, subject) WHERE resolved_at IS NULL DO NOTHING
"""
RESOLVE_LEDGER: Final = "UPDATE alert SET resolved_at = now() WHERE resolved_at IS NULL AND subject = $2 AND kind <> ALL($1::text[])"


async def tell_of_everything(connection: Connection, broken: dict[str, str]) -> None:
    """The same after a check of everything: `broken` has words by the name of the invariant."""
    await connection.execute(OPEN_LEDGER, list(broken), list(broken.values()), LEDGER)
    await connection.execute(RESOLVE_LEDGER, list(broken), LEDGER)


TELL_PROGRAMS: Final = """
WITH resolved AS (
    UPDATE alert SET resolved_at = now() WHERE resolved_at IS NULL AND kind = $1 AND subject = $2 AND program <> ALL($3::integer[])
)
INSERT INTO alert (program, kind, subject, words) SELECT program, $1, $2, words FROM unnest($3::integer[], $4::text[]) AS b (program, words)
ON CONFLICT (program, kind, subject) WHERE resolved_at IS NULL DO NOTHING
"""


async def tell_of_programs(connection: Connection, kind: str, subject: str, words: Mapping[int, str]) -> None:
    """Open an alert of a kind for each of these programs, and resolve those of all others. Safe to repeat."""
    await connection.execute(TELL_PROGRAMS, kind, subject, list(words), list(words.values()))


COUNT: Final = "SELECT kind, count(*) AS n FROM alert WHERE resolved_at IS NULL GROUP BY kind"


async def count(connection: Connection) -> dict[str, int]:
    """Open alerts by kind."""
    return {r["kind"]: r["n"] for r in await connection.fetch(COUNT)}


PAGE: Final = """
SELECT id, kind, subject, words, at, resolved_at FROM alert
WHERE (program = $1 OR ($2 AND program IS NULL)) AND id < $3 AND ($4::boolean IS NULL OR (resolved_at IS NULL) = $4)
ORDER BY id DESC LIMIT $5
"""


class AlertRow(Struct, frozen=True, kw_only=True):
    """One alert."""

    id: int
    kind: str
    subject: str
    words: str
    at: datetime
    resolved_at: datetime | None


async def page(connection: Connection, *, program: int, everywhere: bool, before: int, is_open: bool | None, limit: int) -> list[AlertRow]:
    """At most `limit` alerts of a program below that number, newest first; `everywhere`: those of the deployment, too."""
    return [AlertRow(**dict(r)) for r in await connection.fetch(PAGE, program, everywhere, before, is_open, limit)]

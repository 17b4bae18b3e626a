"""Tags on reusable assets: what was reported, and which asset a tag stood for at a time."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from service.store.connection import Connection


class TagRow(Struct, frozen=True, kw_only=True, order=True):
    """One report. Names are canonical (`service.domain.identifiers`); `tag` is empty for all tags of the asset."""

    event: str
    tag: str
    asset: str
    at: datetime
    joined: bool
    void: bool


INSERT: Final = """
INSERT INTO asset_tag (program, platform, event, tag, asset, at, joined, void)
SELECT $1, $2, w.event, w.tag, w.asset, w.at, w.joined, w.void
FROM unnest($3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::boolean[], $8::boolean[]) AS w (event, tag, asset, at, joined, void)
ON CONFLICT (program, platform, event, tag, asset) DO UPDATE SET void = true WHERE EXCLUDED.void AND NOT asset_tag.void
"""


async def insert(conn: Connection, *, program: int, platform: int, rows: Sequence[TagRow]) -> None:
    """Write down reports, each key once. Safe to repeat; one that was declared wrong, before or after it came, stays so."""
    await conn.execute(
        INSERT, program, platform, [r.event for r in rows], [r.tag for r in rows], [r.asset for r in rows], [r.at for r in rows],
        [r.joined for r in rows], [r.void for r in rows],
    )  # fmt: skip


# A registered asset is itself, whatever is said to be on what; and a tag leads to a registered asset only.
RESOLVE: Final = """
SELECT w.tag, w.at, found.asset
FROM unnest($3::text[], $4::timestamptz[]) AS w (tag, at)
CROSS JOIN LATERAL (
    SELECT j.asset
    FROM asset_tag j
    WHERE j.program = $1 AND j.tag = w.tag AND j.at <= w.at AND j.joined AND NOT j.void
      AND EXISTS (SELECT FROM asset a WHERE a.program = $1 AND a.key = j.asset)
      AND NOT EXISTS (
          SELECT FROM asset_tag d
          WHERE d.program = $1 AND d.tag = j.tag AND d.at > j.at AND d.at <= w.at
            AND d.platform = j.platform AND d.asset = j.asset AND NOT d.joined AND NOT d.void)
      AND NOT EXISTS (
          SELECT FROM asset_tag d
          WHERE d.program = $1 AND d.asset = j.asset AND d.tag = '' AND d.at > j.at AND d.at <= w.at
            AND d.platform = j.platform AND NOT d.void)
    ORDER BY j.platform = $2 DESC, j.at DESC, j.asset
    LIMIT 1
) found
WHERE NOT EXISTS (SELECT FROM asset a WHERE a.program = $1 AND a.key = w.tag)
"""


async def resolve(
    conn: Connection, *, program: int, platform: int, asked: Sequence[tuple[str, datetime]]
) -> dict[tuple[str, datetime], str]:
    """The registered asset that each tag was on at that time; absent: none, or the name is an asset's own.

    What the platform itself reported goes before what others of the program did; of several the latest.
    """
    keys = list(dict.fromkeys(asked))
    rows = await conn.fetch(RESOLVE, program, platform, [tag for tag, _ in keys], [at for _, at in keys])
    return {(row["tag"], row["at"]): row["asset"] for row in rows}

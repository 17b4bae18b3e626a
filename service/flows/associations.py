"""Which tag is on which reusable asset: written down when a hook reports it, looked up when an event names the tag."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import structs

from service.domain.connectors import Association, Translated
from service.domain.tags import names_in, with_assets
from service.store import asset_tags
from service.store.asset_tags import TagRow
from service.store.connection import Connection

NOTED = "which tag is on which asset: written down"


async def remember(conn: Connection, program: int, platform: int, associations: Sequence[Association]) -> None:
    """Write down what was put on an asset or taken off. Safe to repeat, in any order; the first report under an id counts."""
    rows: dict[tuple[str, str, str], TagRow] = {}
    for each in associations:
        key = (each.event, each.tag or "", each.asset)
        void = each.void or (key in rows and rows[key].void)
        rows.setdefault(key, TagRow(event=each.event, tag=each.tag or "", asset=each.asset, at=each.at, joined=each.joined, void=void))
        rows[key] = structs.replace(rows[key], void=void)
    await asset_tags.insert(conn, program=program, platform=platform, rows=[rows[key] for key in sorted(rows)])


async def resolve_aliases(
    conn: Connection, *, program: int, platform: int, assets: Sequence[tuple[str, datetime]]
) -> dict[tuple[str, datetime], str]:
    """For canonical names that events of these times carry: the registered asset that the tag was on then.

    Absent is a name that is an asset's own, or no tag. Call it where assets are read, before their rows are locked.
    """
    return await asset_tags.resolve(conn, program=program, platform=platform, asked=assets) if assets else {}


def concern(translated: Translated) -> bool:
    """Whether there is anything to do for a delivery."""
    return bool(translated.associations or (translated.tagged and translated.events))


async def applied(conn: Connection, program: int, platform: int, translated: Translated, *, dry_run: bool = False) -> Translated:
    """Write down what a delivery says of tags, then put the assets in place of the tags that its events name.

    What is known when the event comes decides: an association that comes later changes no event that was credited.
    """
    if translated.associations and not dry_run:
        await remember(conn, program, platform, translated.associations)
    if not translated.tagged:
        return translated
    names = list(names_in(translated.events))
    assets = await resolve_aliases(conn, program=program, platform=platform, assets=names)
    return structs.replace(translated, events=with_assets(translated.events, assets)) if assets else translated

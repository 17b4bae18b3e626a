"""Export: everything that is held about a platform's consumer, read in one snapshot, a bounded page at a time."""

from collections import defaultdict
from typing import Final

import msgspec
from asyncpg import Record
from msgspec import Raw

from schemas.events import Balance
from schemas.impact import ImpactRecord
from schemas.privacy import Export, ExportedAward, ExportedCampaign, ExportedEntry, ExportedEvent, ExportedLot, ExportedParked
from service.domain.errors import NotFound
from service.domain.ledger import Book, Kind
from service.flows.administer import Change
from service.flows.events import NEWEST
from service.store import audit, balances, events
from service.store import personal_export as store
from service.store.connection import Connection

PAGE: Final = 500
"""Events of one page, with what belongs to them."""
OLDEST: Final = -(2**63)


async def export(
    connection: Connection, *, program: int, platform: int, code: str, reference: str, before: int, change: Change
) -> tuple[Export, int | None]:
    """A page, and the position after it (None: that was all). Who reads it is written down. Raises NotFound."""
    account = await balances.find_account(connection, platform, reference)
    if account is None:
        raise NotFound("The platform has no such consumer.")
    return await export_account(connection, program=program, platform=platform, code=code, account=account, before=before, change=change)


async def export_account(
    connection: Connection, *, program: int, platform: int, code: str, account: int, before: int, change: Change
) -> tuple[Export, int | None]:
    """The same by account. Raises NotFound when the platform knows nobody of it any more."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        names = await store.names(connection, account, platform)
        owner = await store.owner(connection, account)
        if not names or owner is None:
            raise NotFound("The platform has no such consumer.")
        found = await events.of_account(connection, account, platform=platform, before=before, limit=PAGE + 1)
        shown, more = found[:PAGE], len(found) > PAGE
        low, below = shown[-1].number if more else OLDEST, before
        entries = await store.entries(connection, account, platform, low, below)
        lots = await store.lots(connection, account, platform, low, below)
        awards = await store.awards(connection, account, [event.number for event in shown])
        campaigns = await store.campaigns(connection, account, platform)
        parked = await store.parked(connection, account, platform) if before == NEWEST else []
    await audit.record(
        connection, program=program, actor=change.actor, action="consumer.export", subject=f"platform:{code}",
        after={"account": str(account)}, request_id=change.request_id,
    )  # fmt: skip
    document = Export(
        platform=code,
        references=[name for name, _ in names],
        known_since=min(since for _, since in names),
        as_of=owner["as_of"],
        balance=Balance(**{name: owner[name] for name in ("pending", "reserved", "available", "debt", "version")}),
        legal_hold_since=owner["held_since"],
        campaigns=[ExportedCampaign(campaign=c["code"], **{name: c[name] for name in _CAMPAIGN}) for c in campaigns],
        parked=[ExportedParked(facts=Raw(p["facts"].encode()), **{name: p[name] for name in _PARKED}) for p in parked],
        events=_events(shown, awards),
        entries=[
            ExportedEntry(
                seq=e["seq"], at=e["at"], kind=Kind(e["kind"]).name.lower(), book=Book(e["book"]).name.lower(), amount=e["amount"],
                campaign=e["code"], event=e["id"],
            )
            for e in entries
        ],
        lots=[
            ExportedLot(event=r["id"], campaign=r["code"], amount=r["amount"], remaining=r["remaining"], expires_on=r["expires_on"])
            for r in lots
        ],
        next_cursor=None,
    )  # fmt: skip
    return document, low if more else None


_CAMPAIGN = ("first", "last", "awards", "points", "reversed")
_PARKED = ("id", "type", "occurred_at", "received_at")
_AWARD = ("version", "line", "points", "reversed", "day", "due_at", "expires_on")


def _events(shown: list[events.StoredEvent], awards: list[Record]) -> list[ExportedEvent]:
    of_event: dict[int, list[ExportedAward]] = defaultdict(list)
    for award in awards:
        impact = None if award["impact"] is None else msgspec.json.decode(award["impact"], type=ImpactRecord)
        of_event[award["event"]].append(ExportedAward(campaign=award["code"], impact=impact, **{name: award[name] for name in _AWARD}))
    return [
        ExportedEvent(
            id=event.id, type=event.type, occurred_at=event.occurred_at, received_at=event.received_at, status=event.status,
            points=event.points, facts=Raw(event.facts.encode()), answer=Raw(event.answer.encode()), awards=of_event[event.number],
        )
        for event in shown
    ]  # fmt: skip

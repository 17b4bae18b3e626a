"""Export: everything that is held about a platform's consumer, read in one snapshot, a bounded page at a time."""

from collections import defaultdict
from typing import Final, Literal

import msgspec
from asyncpg import Record
from msgspec import UNSET, Raw, Struct, field

from schemas.events import Balance, OrderFulfilled, PackagingReturned, StoredEvent
from schemas.impact import ImpactRecord
from schemas.privacy import (
    Export,
    ExportedAward,
    ExportedCampaign,
    ExportedClaim,
    ExportedEntry,
    ExportedEvent,
    ExportedGivenBack,
    ExportedLink,
    ExportedListing,
    ExportedLot,
    ExportedObjection,
    ExportedParked,
    ExportedRedemption,
    ExportedReturn,
    ExportedReview,
    ExportedSent,
    ExportedShipment,
    ExportedTransfer,
    ExportedVerdict,
)
from service.domain.claims import Kind as Claimed
from service.domain.errors import NotFound
from service.domain.identifiers import canonical_asset
from service.domain.ledger import Book, Kind
from service.flows.administer import Change
from service.flows.events import NEWEST
from service.flows.packing import asset_texts
from service.flows.past import name_of
from service.flows.reviews import review_of
from service.store import audit, balances, events, fraud_lists
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
        purses = await store.purses(connection, account, platform)
        scope = store.Scope(account=account, purses=purses, platform=platform, low=low, below=below)
        entries, lots = await store.entries(connection, scope), await store.lots(connection, scope)
        redemptions, transfers = await store.redemptions(connection, scope), await store.transfers(connection, scope)
        links = await store.links(connection, account) if before == NEWEST else []
        listings = await fraud_lists.of_account(connection, account) if before == NEWEST else []
        awards = await store.awards(connection, account, [event.number for event in shown])
        campaigns = await store.campaigns(connection, account, platform)
        parked = await store.parked(connection, account, platform) if before == NEWEST else []
        sent = await store.sent(connection, account, platform) if before == NEWEST else []
        checked = await _checked(connection, account, [event.number for event in shown])
        packaging = await _packaging(connection, program, account, shown, [p["number"] for p in parked])
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
        parked=[
            ExportedParked(facts=Raw(p["facts"].encode()), waits=packaging.waits[p["number"]], **{name: p[name] for name in _PARKED})
            for p in parked
        ],
        packaging_sent=[ExportedSent(class_=s["class"], day=s["day"], units=s["units"], returned=s["returned"]) for s in sent],
        events=_events(shown, awards, packaging, checked),
        entries=[
            ExportedEntry(
                seq=e["seq"], at=e["at"], kind=name_of(Kind, e["kind"]), book=name_of(Book, e["book"]), amount=e["amount"],
                campaign=e["code"], event=e["id"],
            )
            for e in entries
        ],
        lots=[
            ExportedLot(event=r["id"], campaign=r["code"], expires_on=r["expires_on"], **{name: r[name] for name in _LOT})
            for r in lots
        ],
        redemptions=[ExportedRedemption(**r) for r in redemptions],
        transfers=[ExportedTransfer(kind=name_of(Kind, t["kind"]), **{name: t[name] for name in _TRANSFER}) for t in transfers],
        links=[ExportedLink(**link) for link in links],
        fraud_lists=[ExportedListing(list_=r["list"], since=r["since"], until=r["until"], removed=r["removed"]) for r in listings],
        next_cursor=None,
    )  # fmt: skip
    return document, low if more else None


_CAMPAIGN = ("first", "last", "awards", "points", "reversed")
_LOT = ("amount", "remaining", "reserved")
_TRANSFER = ("at", "points", "pending", "reason", "redemption")
_PARKED = ("id", "type", "occurred_at", "received_at", "declared_wrong")
_AWARD = ("version", "line", "item", "points", "reversed", "day", "due_at", "expires_on")


def _events(shown: list[events.StoredEvent], awards: list[Record], packaging: "_Packaging", checked: "_Checked") -> list[ExportedEvent]:
    of_event: dict[int, list[ExportedAward]] = defaultdict(list)
    for award in awards:
        impact = None if award["impact"] is None else msgspec.json.decode(award["impact"], type=ImpactRecord)
        of_event[award["event"]].append(ExportedAward(campaign=award["code"], impact=impact, **{name: award[name] for name in _AWARD}))
    return [
        ExportedEvent(
            id=event.id, type=event.type, occurred_at=event.occurred_at, received_at=event.received_at, status=event.status,
            points=event.points, facts=Raw(event.facts.encode()), answer=_answer(event, packaging), awards=of_event[event.number],
            shipped=packaging.shipped[event.number], returned=packaging.returned[event.number],
            given_back=packaging.given_back[event.number], waits=packaging.waits[event.number], claims=packaging.claims[event.number],
            verdicts=checked.verdicts[event.number], review=_review(event, checked),
        )
        for event in shown
    ]  # fmt: skip


# Fraud checks -------------------------------------------------------------------------------------------

VERDICTS: Final[dict[int, Literal["held", "rejected", "unchecked"]]] = {2: "held", 3: "rejected", 4: "unchecked"}
"""By `verdict.outcome`."""


class _Checked(Struct):
    """What fraud checks did with each event of a page, and what was said against it, by its number."""

    verdicts: dict[int, list[ExportedVerdict]] = field(default_factory=lambda: defaultdict(list))
    texts: dict[int, str | None] = field(default_factory=dict)


async def _checked(connection: Connection, account: int, numbers: list[int]) -> _Checked:
    found = _Checked(texts=await store.objections(connection, account, numbers))
    for r in await store.verdicts(connection, account, numbers):
        found.verdicts[r["event"]].append(ExportedVerdict(outcome=VERDICTS[r["outcome"]], at=r["judged_at"]))
    return found


def _review(event: events.StoredEvent, checked: _Checked) -> ExportedReview | None:
    review = review_of(event.review)
    if review is UNSET:
        return None
    made = review.objection
    objection = None if made is None else ExportedObjection(text=checked.texts.get(event.number), **msgspec.structs.asdict(made))
    return ExportedReview(**msgspec.structs.asdict(review) | {"objection": objection})


# Packaging ----------------------------------------------------------------------------------------------


class _Packaging(Struct):
    """What belongs to each event of a page, by its number."""

    shipped: dict[int, list[ExportedShipment]] = field(default_factory=lambda: defaultdict(list))
    returned: dict[int, list[ExportedReturn]] = field(default_factory=lambda: defaultdict(list))
    given_back: dict[int, list[ExportedGivenBack]] = field(default_factory=lambda: defaultdict(list))
    waits: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    claims: dict[int, list[ExportedClaim]] = field(default_factory=lambda: defaultdict(list))
    assets: set[int] = field(default_factory=set)
    """Returns of assets."""


async def _packaging(
    connection: Connection, program: int, account: int, shown: list[events.StoredEvent], parked: list[int]
) -> _Packaging:  # fmt: skip
    found = _Packaging()
    numbers = [event.number for event in shown]
    sent, back = _named(shown, OrderFulfilled.TYPE), _named(shown, PackagingReturned.TYPE)
    found.assets = {number for _, number in back}
    for r in await store.shipped(connection, program, account, sent) if sent else ():
        found.shipped[r["event"]].append(ExportedShipment(asset=r["asset"], declared_wrong=r["void"]))
    for r in await store.brought(connection, program, account, back) if back else ():
        found.returned[r["event"]].append(
            ExportedReturn(item=r["item"], asset=r["asset"], deposit=r["deposit"], currency=r["deposit_currency"])
        )
    for r in await store.back(connection, account, numbers):
        found.given_back[r["event"]].append(ExportedGivenBack(item=r["item"], class_=r["class"], units=r["units"]))
    for r in await store.waiting(connection, program, [*numbers, *parked]):
        found.waits[r["event"]].append(r["item"])
    for r in await store.claims(connection, account, numbers):
        found.claims[r["event"]].append(ExportedClaim(item=r["item"], kind=Claimed(r["kind"]).name.lower()))
    return found


def _named(shown: list[events.StoredEvent], type_: str) -> list[store.AssetOf]:
    """The assets that events of a type name."""
    decoded = [(msgspec.json.decode(event.facts, type=StoredEvent), event.number) for event in shown if event.type == type_]
    return sorted({(canonical_asset(text), number) for event, number in decoded for text in asset_texts(event)})


def _answer(event: events.StoredEvent, packaging: _Packaging) -> Raw:
    if event.number not in packaging.assets:
        return Raw(event.answer.encode())
    answer = msgspec.json.decode(event.answer, type=dict[str, Raw])
    answer.pop("balance", None)
    return Raw(msgspec.json.encode(answer))

"""What a credit batch has to know of packaging: assets and their trips, returns that wait, claims, what was sent; and writing it again."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec
from asyncpg import Record
from msgspec import Struct, field

from schemas.events import (
    ActivityCompleted,
    Event,
    OrderCancelled,
    OrderFulfilled,
    OrderPaid,
    OrderRefunded,
    PackagingReassigned,
    PackagingReturned,
)
from service.domain.activities import claims_of as activity_claims
from service.domain.assets import AssetKey, Back
from service.domain.catalogue import Catalogue
from service.domain.claims import Claim, Claims
from service.domain.fold import Fold, OrderState
from service.domain.identifiers import canonical_asset
from service.domain.keys import platform_key
from service.domain.posting import Fact, OrderKey, Parked
from service.domain.returns import Declared, PackagingState, Waiting, parcel_claims, return_claims
from service.domain.sent import SentKey
from service.domain.station_days import StationDays, proof_claims
from service.domain.usage import Usage
from service.store import packaging as store
from service.store import stations
from service.store.connection import Connection

_events = msgspec.json.Decoder(Event)
_RETURNED = "packaging.returned"


class Met(Struct, kw_only=True):
    """What a batch meets of packaging, and whose accounts that concerns."""

    state: PackagingState = field(default_factory=PackagingState)
    accounts: set[int] = field(default_factory=set)
    owners: list[tuple[Fact, int]] = field(default_factory=list)
    """Returns that may be awarded in this batch, each with an account that they may count for."""
    were: dict[AssetKey, list[Back]] = field(default_factory=dict)
    """What waited for each asset before, as far as it was read."""
    told: dict[AssetKey, set[tuple[int, int]]] = field(default_factory=dict)
    """platform, account: who may have to be told of a change in the trips of each asset."""

    def may_count(self, key: AssetKey, fact: Fact, owners: set[int]) -> None:
        """A return of an earlier event may be awarded in this batch, or lose its awards: these are locked, and told."""
        self.accounts |= owners
        self.owners += [(fact, owner) for owner in owners]
        self.told.setdefault(key, set()).update((fact.platform, owner) for owner in owners)


def concerns(event: Event) -> bool:
    """Whether an event may be about packaging that has to be looked up, or earn by a claim."""
    if type(event) is OrderPaid:
        packaging = event.packaging
        return packaging is not None and (packaging.waybill is not None or bool(packaging.assets))
    return type(event) is not OrderRefunded and type(event) is not OrderCancelled


def names_assets(event: Event) -> bool:
    """Whether an event is about reusable packaging, whose assets have to be locked before any account."""
    return bool(asset_texts(event))


def asset_texts(event: Event) -> Sequence[str]:
    """The assets that an event names, as it writes them."""
    if type(event) is PackagingReturned:
        return [item.asset for item in event.returns if item.asset is not None]
    if (type(event) is OrderPaid or type(event) is OrderFulfilled) and event.packaging is not None:
        return event.packaging.assets
    return ()


def claims_of(fact: Fact, account: int, catalogue: Catalogue) -> list[Claim]:
    """What an event may earn by, for a consumer, with the kinds of activities that were known last."""
    event = fact.event
    if type(event) is OrderPaid or type(event) is OrderFulfilled:
        return parcel_claims(fact.platform, event) if event.packaging is not None else []
    if type(event) is PackagingReturned:
        claims = [claim for item in event.returns if item.asset is None for claim in return_claims(item)]
        return [*claims, *(claim for item in event.returns for claim in proof_claims(item))]
    if type(event) is ActivityCompleted:
        program = catalogue.programs.get(fact.program)
        return activity_claims(event, {} if program is None else program.activity_kinds, account)
    return []


# Assets, before any account is locked -------------------------------------------------------------------


async def meet(
    connection: Connection, facts: Sequence[Fact], orders: dict[OrderKey, OrderState], buyers: dict[OrderKey, int], *,
    declared: Declared | None, dry: bool,
) -> Met:  # fmt: skip
    """Lock the assets that these facts name, and read their trips and what waits. `buyers`: the account of each order, where known."""
    met = Met()
    events = [(fact, fact.event) for fact in (*facts, *(p.fact for order in orders.values() for p in order.parked))]
    if declared is not None:
        events.append((facts[0], declared.event))
    named = [(fact, event, (fact.program, canonical_asset(text))) for fact, event in events for text in asset_texts(event)]
    if not named:
        return met
    state = met.state
    state.assets = await store.assets(connection, sorted({key for _, _, key in named}), lock=not dry)
    named = [one for one in named if one[2] in state.assets]
    shippers: dict[AssetKey, set[int]] = {}
    since: dict[AssetKey, datetime] = {}
    for fact, event, key in named:
        if type(event) is OrderFulfilled and fact.order_key is not None:
            if (buyer := buyers.get(fact.order_key)) is not None:
                shippers.setdefault(key, set()).add(buyer)
            under_way = state.assets[key].trip_at(event.occurred_at)  # what ended that may belong to this one
            began = event.occurred_at if under_way is None else under_way.shipped_at
            since[key] = min(since.get(key, began), began)
        elif declared is not None:
            ended = [trip.shipped_at for trip in state.assets[key].trips if trip.back is not None and trip.back.event == declared.number]
            since[key] = min([event.occurred_at, *ended])
    await _read_waiting(connection, met, since, shippers, dry=dry)
    for fact, event, key in named:
        if type(event) is PackagingReturned and declared is None:
            _recipients(met, fact, event, key, shippers.get(key, set()))
    for key, asset in state.assets.items():
        met.were[key] = list(asset.waiting)
        for back in asset.waiting:
            recipients = shippers.get(key, set()) | {trip.account for trip in asset.legs()}
            owners = recipients if back.account is None else {back.account}
            met.may_count(key, state.waiting[back.event].fact, owners)
    times = Counter(key for _, event, key in named if declared is not None or type(event) is not PackagingReturned)
    told = sum(times[key] * len(owners) for key, owners in met.told.items())
    state.numbers = itertools.count(-1, -1) if dry else iter(await store.numbers(connection, told) if told else ())
    return met


def _recipients(met: Met, fact: Fact, event: PackagingReturned, key: AssetKey, shippers: set[int]) -> None:
    """Whom a new return may count for, besides the consumer that it names."""
    trip = met.state.assets[key].trip_at(event.occurred_at)
    owners = shippers | ({trip.account} if trip is not None and trip.back is None else set())
    met.accounts |= owners
    met.owners += [(fact, owner) for owner in owners]


async def _read_waiting(
    connection: Connection, met: Met, since: dict[AssetKey, datetime], shippers: dict[AssetKey, set[int]], *, dry: bool
) -> None:  # fmt: skip
    """Returns that a shipment may let count, and those that count now and may not any more."""
    if not since:
        return
    state = met.state
    for r in await store.waiting(connection, since, lock=not dry):
        back, waiting = _waiting(r)
        if waiting is not None:
            state.waiting.setdefault(back.event, waiting)
            state.assets[r["program"], r["asset"]].waiting.append(back)
    counting = [
        (key, trip.back) for key, at in since.items() for trip in state.assets[key].trips if trip.back is not None and trip.back.at >= at
    ]
    if counting:
        programs = {(back.platform, back.event): key[0] for key, back in counting}
        for r in await store.returned_facts(connection, list(programs)):
            fact = _fact(programs[r["platform"], r["number"]], r["platform"], r["code"], r["facts"])
            state.waiting[r["number"]] = Waiting(
                number=r["number"], fact=fact, account=r["account"], parked=None, received_at=r["received_at"]
            )
    for key, back in (*counting, *((asset, back) for asset in since for back in state.assets[asset].waiting)):
        if (waiting := state.waiting.get(back.event)) is not None and waiting.parked is None and back.account is not None:
            # It counts for somebody, and may count for whom the trip before was shipped to, or the one that is shipped now.
            before = [trip.account for trip in state.assets[key].legs() if trip.shipped_at <= back.at][-2:]
            met.may_count(key, waiting.fact, {back.account, *before, *shippers.get(key, ())})


def _waiting(r: Record) -> tuple[Back, Waiting | None]:
    """A returned item that waits, and its event; None where nothing is left of that."""
    back = Back(event=r["number"], item=r["item"], at=r["occurred_at"], platform=r["platform"], account=r["account"])
    text = r["facts"] or r["stored_facts"]
    if text is None:
        return back, None
    fact = _fact(r["program"], r["platform"], r["code"], text)
    parked = None
    if r["facts"] is not None:
        parked = Parked(number=r["number"], fact=fact, received_at=r["received_at"], answer=r["answer"])
    received_at = r["received_at"] or r["stored_at"]
    named = r["named"] and r["account"] is None
    return back, Waiting(
        number=r["number"], fact=fact, account=r["account"], parked=parked, received_at=received_at, names_another=named
    )  # fmt: skip


def _fact(program: int, platform: int, code: str, facts: str) -> Fact:
    event = _events.decode(facts)
    return Fact(
        program=program, platform=platform, platform_code=code, event=event, facts=facts.encode(), kept=event.attributes, request_hash=b""
    )  # fmt: skip


def _waiting_key(program: int, key: SentKey) -> AssetKey:
    """Where returns of single-use packaging wait: no asset is written in capitals."""
    account, class_ = key
    return program, f"SENT:{account}:{class_}"


# What belongs to accounts, once they are locked -----------------------------------------------------------


async def read_awards(connection: Connection, met: Met, declared: Declared | None) -> set[int]:
    """The awards of returns that may count no more, and of what is declared wrong; the accounts where some of them have settled."""
    state = met.state
    carriers = {
        (trip.back.account, trip.awarded[0])
        for asset in state.assets.values() for trip in asset.trips
        if trip.awarded is not None and trip.back is not None and trip.back.account in met.accounts
    }  # fmt: skip
    settled = set()
    for account, award in await store.awards(connection, sorted(carriers)) if carriers else ():
        state.carried.setdefault((account, (award.event, award.item or 0)), []).append(award)
        if award.settled:
            settled.add(account)
    if declared is not None:
        declared.awards += [award for _, award in await store.awards(connection, [(declared.account, declared.number)])]
        if any(award.settled for award in declared.awards):
            settled.add(declared.account)
    return settled


async def read(
    connection: Connection, met: Met, facts: Sequence[Fact], theirs: Sequence[tuple[Fact, int]], catalogue: Catalogue, *,
    declared: Declared | None, dry: bool,
) -> Claims:  # fmt: skip
    """What was sent, stations, and the claims, which are then kept for this batch. `theirs`: facts, each with its account."""
    await _read_short(connection, met, theirs, dry=dry)
    theirs = [*theirs, *met.owners]
    await _read_sent(connection, met, theirs, declared=declared)
    returns = [fact for fact in (*facts, *(fact for fact, _ in met.owners)) if type(fact.event) is PackagingReturned]
    if declared is not None:
        returns.append(msgspec.structs.replace(facts[0], event=declared.event))
    await _read_stations(connection, met, returns)
    claims = await _read_claims(connection, theirs, catalogue, dry=dry)
    if not dry:
        await _lock_station_days(connection, met, returns)
    return claims


async def _read_short(connection: Connection, met: Met, facts: Iterable[tuple[Fact, int]], *, dry: bool) -> None:
    """Returns of single-use packaging that shipments may let count. `facts`: each with its account."""
    since: dict[AssetKey, datetime] = {}
    keys: dict[AssetKey, SentKey] = {}
    for fact, account in facts:
        event = fact.event
        if type(event) is OrderFulfilled and event.packaging is not None and event.packaging.class_ is not None:
            key = (account, event.packaging.class_)
            at = _waiting_key(fact.program, key)
            began = event.occurred_at - timedelta(days=1)  # what comes back counts from the local day on which it was sent
            since[at], keys[at] = min(since.get(at, began), began), key
    for r in await store.waiting(connection, since, lock=not dry) if since else ():
        back, waiting = _waiting(r)
        if waiting is not None:
            met.state.waiting.setdefault(back.event, waiting)
            met.state.short.setdefault(keys[r["program"], r["asset"]], []).append(back)
            met.owners.append((waiting.fact, back.account or 0))


async def _read_sent(connection: Connection, met: Met, facts: Iterable[tuple[Fact, int]], *, declared: Declared | None) -> None:
    """What was sent to those who give single-use packaging back. `facts`: each with its account."""
    sent = met.state.sent
    if declared is not None:
        met.state.back[declared.number] = await store.back_of(connection, declared.account, declared.number)
        for class_, _, _ in met.state.back[declared.number]:
            sent.ask(declared.account, class_)
        if type(declared.event) is OrderFulfilled and declared.event.packaging is not None and declared.event.packaging.class_ is not None:
            sent.ask(declared.account, declared.event.packaging.class_)
    for fact, account in facts:
        if type(fact.event) is PackagingReturned:
            for item in fact.event.returns:
                if item.asset is None and item.class_ is not None:
                    sent.ask(account, item.class_)
    if sent.asked:
        sent.seal(await store.sent(connection, sent.asked, everything=declared is not None))


async def _read_claims(connection: Connection, facts: Iterable[tuple[Fact, int]], catalogue: Catalogue, *, dry: bool) -> Claims:
    """Who holds what these facts may earn by; what is free is kept for this batch."""
    claims = Claims()
    for fact, account in facts:
        if found := claims_of(fact, account, catalogue):
            claims.ask(fact.program, found)
    claims.seal(await store.place_claims(connection, claims.asked, lock=not dry) if claims.asked else {})
    return claims


async def _read_stations(connection: Connection, met: Met, facts: Iterable[Fact]) -> None:
    """The collection stations that returns name; the catalogue is held, so none changes meanwhile."""
    codes: dict[int, set[str]] = {}
    for fact in facts:
        if type(fact.event) is PackagingReturned:
            for item in fact.event.returns:
                if item.station is not None:
                    codes.setdefault(fact.program, set()).add(item.station)
    if not codes:
        return
    registered = {
        (program, code): station
        for program, names in codes.items()
        for code, station in (await stations.read_stations(connection, program=program, codes=sorted(names))).items()
    }
    programs = frozenset([program for program in codes if await stations.has_stations(connection, program)])
    met.state.stations = StationDays(registered, programs)


async def _lock_station_days(connection: Connection, met: Met, facts: Iterable[Fact]) -> None:
    """What counted at these stations on these days so far, under lock."""
    keys = {key for fact in facts if type(fact.event) is PackagingReturned for key in met.state.stations.keys(fact, fact.event)}
    if keys:
        met.state.stations.used = await stations.lock_station_days(connection, sorted(keys))


def ask_windows(met: Met, usage: Usage, catalogue: Catalogue) -> None:
    """Every window that awards of returns of earlier events can touch."""
    for fact, owner in met.owners:
        if (program := catalogue.programs.get(fact.program)) is None:
            continue
        fact.day = fact.event.occurred_at.astimezone(program.zone).date()
        for campaign in catalogue.candidates(fact.program, "return", fact.platform_code, fact.event.occurred_at):
            usage.windows(owner, campaign.id, fact.day)
    for (account, _), awards in met.state.carried.items():
        for award in awards:
            if catalogue.knows(award.campaign):
                usage.windows(account, award.campaign, award.day)


# Write ------------------------------------------------------------------------------------------------------


def _with_its_event(back: Back, state: PackagingState) -> Back:
    """What waits again waits with the account of its stored event, whomever it counted for."""
    waiting = state.waiting[back.event]
    stored = waiting.parked is None and not waiting.new
    return msgspec.structs.replace(back, account=waiting.account) if stored else back


async def write(connection: Connection, fold: Fold, met: Met, claims: Claims) -> None:
    """Write what the fold decided about packaging."""
    state = met.state
    if state.assets:
        await store.write_assets(connection, state.assets.values())
        more, gone = [], []
        for key, asset in state.assets.items():
            were, are = met.were.get(key, []), asset.waiting
            kept = {(b.event, b.item) for b in are}
            known = {(b.event, b.item) for b in were}
            more += [(key, back) for back in are if (back.event, back.item) not in known]
            gone += [(key, back) for back in were if (back.event, back.item) not in kept]
        await store.write_waiting(connection, more=[(key, _with_its_event(back, state)) for key, back in more], gone=gone)
        stored = {
            (s.fact.program, s.number, s.account) for s in fold.stored if names_assets(s.fact.event) and s.fact.event.TYPE == _RETURNED
        }
        if stored:
            await store.name_waiting(connection, sorted(stored))
    more_short = [(_waiting_key(state.waiting[back.event].fact.program, key), back) for key, back in state.waits]
    gone_short = [(_waiting_key(state.waiting[back.event].fact.program, key), back) for key, back in state.decided]
    await store.write_waiting(connection, more=more_short, gone=gone_short)
    if claims.asked or claims.released:
        await store.settle_claims(connection, released=claims.released, taken=claims.changed(), left=claims.left())
    if state.sent.changes or state.sent.back:
        await store.write_sent(connection, state.sent.changes, state.sent.back)
    if state.stations.added:
        full = await stations.add_station_days(connection, state.stations.added)
        assert not full, "the days were locked when it was decided that they take it"
    written = [s for s in fold.stored if isinstance(s.fact.event, PackagingReassigned)]
    if written:
        await store.register_written(
            connection, [(s.fact.program, platform_key(s.fact.platform, s.fact.event.id), s.number, s.account) for s in written]
        )

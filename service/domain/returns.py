"""Packaging in the fold: what left, what came back, what that earns, and what a later fact changes of it.

An event changes the balance of one account, its own. What it changes for others (a shipment lets another consumer's waiting return
count; a shipment that was declared wrong takes points from whoever brought the box back) is carried by an event of theirs: the return
itself while it was waiting, else a `packaging.reassigned` that we write.
"""

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct, field

from schemas.events import (
    DepositDue,
    Event,
    EventAnswer,
    OrderFulfilled,
    OrderPaid,
    Packaging,
    PackagingReassigned,
    PackagingReturned,
    Refusal,
    Return,
)
from service.domain.assets import Asset, AssetKey, Back, Rematch, Trip, rematch
from service.domain.catalogue import Program
from service.domain.claims import Claim, Kind
from service.domain.granting import Granter
from service.domain.identifiers import canonical_asset, canonical_waybill
from service.domain.packaging import needs_asset
from service.domain.posting import Account, Change, Fact, Parked, PostedAward
from service.domain.sent import Sent, SentKey
from service.domain.station_days import StationDays
from service.domain.stations import Refused, Token, token_claim
from service.domain.things import item_thing, packaging_thing

if TYPE_CHECKING:
    from service.domain.fold import Fold

_encode = msgspec.json.Encoder().encode
Cause = Literal["shipment", "error_declared"]
Carried = tuple[int, int]
"""event, item: what carries the awards of a return."""


class Waiting(Struct, kw_only=True, gc=False):
    """A return of an earlier event, some of whose items wait."""

    number: int
    fact: Fact
    account: int | None
    """Of the consumer that it names, or that it counted for already."""
    parked: Parked | None
    """Nothing of it has counted so far; None: its event is stored, or `new`."""
    new: bool = False
    """It is just coming in."""
    received_at: datetime
    names_another: bool = False
    """It waits for the consumer that something was shipped to, and names one: whoever brought it."""
    verdicts: dict[int, Token | Refused | None] = {}
    """What the stations that its items name say of them."""


class Declared(Struct, kw_only=True, gc=False):
    """An event that is declared wrong."""

    number: int
    account: int
    event: Event
    awards: list[PostedAward]


class PackagingState(Struct, kw_only=True):
    """What a batch knows of packaging, under its locks."""

    assets: dict[AssetKey, Asset] = field(default_factory=dict)
    sent: Sent = field(default_factory=Sent)
    stations: StationDays = field(default_factory=StationDays)
    waiting: dict[int, Waiting] = field(default_factory=dict)
    """By number."""
    carried: dict[tuple[int, Carried], list[PostedAward]] = field(default_factory=dict)
    """(account, what carries them) → awards of returned assets."""
    back: dict[int, list[tuple[str, date, Decimal]]] = field(default_factory=dict)
    """Event that is declared wrong → (class, day, units) that it counts as given back."""
    short: dict[SentKey, list[Back]] = field(default_factory=dict)
    """Returns of single-use packaging of which nothing had been sent so far."""
    decided: list[tuple[SentKey, Back]] = field(default_factory=list)
    """Those of them that wait no more."""
    waits: list[tuple[SentKey, Back]] = field(default_factory=list)
    """Those that wait from now on."""
    numbers: Iterator[int] = iter(())
    """For events that we write."""


class _Other:
    """What an event changes for another account."""

    def __init__(self, account: Account, number: int, fact: Fact) -> None:
        self.change = Change(account)
        self.number = number
        self.fact = fact
        self.posted: list[PostedAward] = []
        self.taken: list[tuple[PostedAward, int]] = []


class Effects:
    """What one event does: to its own account, and to others."""

    def __init__(self, fold: "Fold", fact: Fact, number: int, account: Account, cause: Cause) -> None:
        self.change = Change(account)
        self.posted: list[PostedAward] = []
        self.taken: list[tuple[PostedAward, int]] = []
        self.refused: list[Refusal] = []
        self.number = number
        self._fold = fold
        self._fact = fact
        self._cause = cause
        self._others: dict[tuple[int, int], _Other] = {}

    def post(self, granter: Granter, fact: Fact, *, item: int | None = None) -> list[PostedAward]:
        """Awards for the event's own account. `item`: what tells them from others that it carries, and what they earn by."""
        posted = self._fold.post(granter, self.change, fact, self.number, first=len(self.posted), item=item)
        self.posted += posted
        return posted

    def post_return(self, account: int, granter: Granter, fact: Fact) -> tuple[Carried | None, list[PostedAward]]:
        """Awards for a return of an earlier event, and what carries them (None: there are none)."""
        carrier = self._carrier(account, fact)
        first = len(carrier.posted)
        item = first + 1  # 0 is what the event earns by itself
        posted = self._fold.post(granter, carrier.change, fact, carrier.number, first=first, item=item)
        carrier.posted += posted
        return (carrier.number, item) if posted else None, posted

    def take_back(self, account: int, awards: list[PostedAward], fact: Fact) -> None:
        """All that is left of the awards of one return. `fact`: of the platform that hears of it."""
        left = [award for award in awards if award.left]
        if not left:
            return
        carrier = self._carrier(account, fact)
        carrier.taken += [(a, self._fold.take_back(carrier.change, a, a.left, carrier.number)) for a in left]
        self._fold.release(account, awards)

    def finish(self) -> None:
        """Write what others are told."""
        for other in self._others.values():
            if other.posted or other.taken:
                self._fold.store(other.fact, other.number, other.change, other.posted, [], taken=other.taken)

    def _carrier(self, account: int, fact: Fact) -> "Effects | _Other":
        """What carries changes of this account: the event itself, or one that its owner is told by."""
        return self if account == self.change.account.id else self._other(account, fact)

    def _other(self, account: int, fact: Fact) -> _Other:
        key = (account, fact.platform)
        if key not in self._others:
            number = next(self._fold.packaging.numbers)
            event = PackagingReassigned(id=f"reassigned:{number}", occurred_at=self._fact.event.occurred_at, cause=self._cause)
            told = Fact(
                program=fact.program, platform=fact.platform, platform_code=fact.platform_code, event=event,  # type: ignore[arg-type]
                facts=_encode(event), request_hash=b"",
            )  # fmt: skip
            self._others[key] = _Other(self._fold.accounts[account], number, told)
        return self._others[key]


class Returns:
    """The fold's dealings with packaging."""

    def __init__(self, fold: "Fold") -> None:
        self.fold = fold
        self.state = fold.packaging
        self._account_of: dict[int, int] = {}
        """Return → the consumer that it counts for, where it names none or the program says so."""

    # What left ------------------------------------------------------------------------------------------

    def pack(self, granter: Granter, event: OrderPaid | OrderFulfilled, packaging: Packaging) -> None:
        """Grant for how an order is packed. Reusable packaging counts by its registered assets, anything else by its parcels."""
        if not granter.meets("packaging"):
            return
        known = self._known(granter.program.id, packaging)
        class_ = packaging.class_ or next((asset.class_ for asset in known), None)
        units = packaging.parcels
        if class_ is None:
            granter.refuse("asset_unknown", "None of the assets is registered.")
            return
        if needs_asset(class_, granter.program.packaging_classes) and not (units := sum(asset.class_ == class_ for asset in known)):
            granter.refuse("evidence_missing", "Reusable packaging earns by its registered assets, and none of that class is named.")
            return
        shipment = event.id if type(event) is OrderFulfilled else None
        granter.grant(
            "packaging",
            packaging_thing(
                event, msgspec.structs.replace(packaging, class_=class_), granter.platform_code, units=units, shipment=shipment,
                claims=tuple(parcel_claims(granter.platform, event)),
            ),
        )  # fmt: skip

    def ship(
        self, fact: Fact, event: OrderFulfilled, packaging: Packaging, number: int, account: Account, effects: Effects, granter: Granter
    ) -> None:
        """Begin a trip of each asset, and let returns that wait for one count; remember what single-use packaging was sent."""
        touched = []
        for text in packaging.assets:
            asset = self.state.assets.get((fact.program, canonical_asset(text)))
            if asset is None:
                granter.refuse("asset_unknown", f"The asset {text} is not registered: it goes on no trip.")
            elif asset.state == "retired":
                granter.refuse("asset_retired", f"The asset {text} is retired: it goes on no trip.")
            else:
                trip = Trip(
                    event=number, shipped_at=event.occurred_at, platform=fact.platform, order=event.order.id, account=account.id, new=True
                )  # fmt: skip
                asset.trips.append(trip)
                touched.append(asset)
        if packaging.class_ is not None and not needs_asset(packaging.class_, granter.program.packaging_classes):
            self.state.sent.send(account.id, packaging.class_, granter.day, Decimal(packaging.parcels))
            self._decide_short((account.id, packaging.class_), granter.program)
        self._settle_up(touched, effects)

    def _decide_short(self, key: SentKey, program: Program) -> None:
        """What came back before it was known to be sent counts now, the earliest first."""
        window = program.return_window_days
        for back in sorted(self.state.short.get(key, ()), key=lambda b: (b.at, b.event)):
            waiting = self.state.waiting[back.event]
            day = back.at.astimezone(program.zone).date()
            if waiting.parked is not None and (window is None or self.state.sent.left(*key, day, window_days=window)):
                event = waiting.fact.event
                assert type(event) is PackagingReturned
                waiting.account = key[0]  # where recipients earn, what waits with an asset does not say whom it names
                self._decide(waiting, event, {})
            if waiting.parked is None:
                self.state.decided.append((key, back))

    def not_shipped(self, wrong: Declared, effects: Effects, fact: Fact) -> None:
        """A shipment is declared wrong: its trips never were."""
        touched = []
        for asset in self.state.assets.values():
            for trip in asset.trips:
                if trip.event == wrong.number and not trip.void:
                    trip.void = trip.changed = True
                    touched.append(asset)
        assert type(wrong.event) is OrderFulfilled
        packaging = wrong.event.packaging
        program = self.fold.scope.catalogue.programs[fact.program]
        if packaging is not None and packaging.class_ is not None and not needs_asset(packaging.class_, program.packaging_classes):
            day = wrong.event.occurred_at.astimezone(program.zone).date()
            self.state.sent.unsend(wrong.account, packaging.class_, day, Decimal(packaging.parcels))
        self._settle_up(touched, effects)

    # What came back -------------------------------------------------------------------------------------

    def returned(self, fact: Fact, event: PackagingReturned, number: int, named: Account | None) -> EventAnswer:
        """Decide a return. It waits while nothing of it counts and an asset of it is not out, as far as is known."""
        account = None if named is None else named.id
        if named is not None:
            self.fold.accounts.setdefault(named.id, named)  # a dry run may name somebody whom nobody knows
        waiting = Waiting(number=number, fact=fact, account=account, parked=None, new=True, received_at=self.fold.scope.now)
        self.state.waiting[number] = waiting
        backs = []
        touched = []
        for i, item in enumerate(event.returns):
            asset = self._asset(fact.program, item)
            refused = isinstance(self._verdict(waiting, i, item, asset), Refused)
            if asset is not None and not refused:
                back = Back(event=number, item=i, at=event.occurred_at, platform=fact.platform, account=self._named(waiting))
                asset.waiting.append(back)
                backs.append(back)
                touched.append(asset)
        ended: dict[int, tuple[Asset, Trip]] = {}
        for asset in touched:
            ended |= {t.back.item: (asset, t) for t in self._rematch(asset).ended if t.back is not None and t.back.event == number}
        short = self._short(waiting, event, named)
        waits = bool(backs or short) or named is None
        if not ended and waits and all(item.asset is not None or i in short for i, item in enumerate(event.returns)):
            self.state.waits += short.values()
            granter = self.fold.granter(fact, named or Account(id=0, program=fact.program))
            self._refuse_assets(granter, waiting, event, {})
            return self.fold.park(fact, number, granter.refused, named)
        return self._decide(waiting, event, ended)

    def _short(self, waiting: Waiting, event: PackagingReturned, named: Account | None) -> dict[int, tuple[SentKey, Back]]:
        """Items without an asset that wait, because nothing of their class was sent to this consumer as far as is known; by position."""
        found: dict[int, tuple[SentKey, Back]] = {}
        if named is None:
            return found
        granter = self.fold.granter(waiting.fact, named)
        window, own = granter.program.return_window_days, granter.program.packaging_classes
        for i, item in enumerate(event.returns):
            if item.asset is None and item.class_ is not None and window is not None and not needs_asset(item.class_, own):
                refused = isinstance(self._verdict(waiting, i, item, None), Refused)
                if not refused and not self.state.sent.left(named.id, item.class_, granter.day, window_days=window):
                    back = Back(event=waiting.number, item=i, at=event.occurred_at, platform=waiting.fact.platform, account=named.id)
                    found[i] = ((named.id, item.class_), back)
        return found

    def not_returned(self, wrong: Declared, effects: Effects, fact: Fact) -> None:
        """A return is declared wrong: its trips are still under way, and others may have ended them."""
        assert type(wrong.event) is PackagingReturned
        touched = []
        for asset in self.state.assets.values():
            asset.waiting = [back for back in asset.waiting if back.event != wrong.number]
            for trip in asset.trips:
                if trip.back is not None and trip.back.event == wrong.number:
                    if trip.awarded is not None:
                        self.state.stations.count(
                            msgspec.structs.replace(fact, event=wrong.event), wrong.event.returns[trip.back.item], back=True
                        )
                    owner = trip.back.account
                    if owner is not None and trip.awarded is not None and trip.awarded[0] != wrong.number:
                        effects.take_back(owner, self.state.carried.get((owner, trip.awarded), []), fact)
                    trip.back = trip.awarded = trip.deposit = None
                    trip.changed = True
                    touched.append(asset)
        for i, item in enumerate(wrong.event.returns):
            if item.asset is None and any(award.item == i for award in wrong.awards):
                self.state.stations.count(msgspec.structs.replace(fact, event=wrong.event), item, back=True)
        for class_, day, units in self.state.back.get(wrong.number, ()):
            self.state.sent.take_again(wrong.account, class_, day, units)
        self._settle_up(touched, effects)

    # What a change of trips means -----------------------------------------------------------------------

    def _settle_up(self, assets: list[Asset], effects: Effects) -> None:
        """Give returns to the trips that they belong to now, and post what that changes."""
        counting: dict[int, dict[int, tuple[Asset, Trip]]] = {}
        for asset in assets:
            result = self._rematch(asset)
            for back, awarded in result.undone:
                if awarded is not None:
                    self._take_trip_back(back, awarded, effects)
            for trip in [*result.ended, *self._within_limit_now(asset, result.ended, effects)]:
                assert trip.back is not None
                counting.setdefault(trip.back.event, {})[trip.back.item] = (asset, trip)
        for number, ended in counting.items():
            waiting = self.state.waiting[number]
            event = waiting.fact.event
            assert type(event) is PackagingReturned
            if waiting.parked is not None:
                self._decide(waiting, event, ended)
            else:
                self._grant_again(waiting, event, ended, effects)

    def _within_limit_now(self, asset: Asset, ended: list[Trip], effects: Effects) -> list[Trip]:
        """Trips that may earn now, because one before them never was; where one before them was not known, they turn out to be too many."""
        found: list[Trip] = []
        if asset.max_trips is None:
            return found
        for trip in asset.legs():
            if trip.back is None or trip.back.event not in self.state.waiting or any(trip is one for one in ended):
                continue
            if asset.worn_out(trip) and trip.awarded is not None:
                self._take_trip_back(trip.back, trip.awarded, effects)
                trip.awarded, trip.changed = None, True
            elif trip.awarded is None and not asset.worn_out(trip):
                trip.changed = True
                found.append(trip)
        return found

    def _take_trip_back(self, back: Back, awarded: Carried, effects: Effects) -> None:
        """What a return earned for a trip."""
        waiting = self.state.waiting[back.event]
        assert back.account is not None
        assert type(waiting.fact.event) is PackagingReturned
        effects.take_back(back.account, self.state.carried.get((back.account, awarded), []), waiting.fact)
        self.state.stations.count(waiting.fact, waiting.fact.event.returns[back.item], back=True)

    def _rematch(self, asset: Asset) -> Rematch:
        result = rematch(asset, may_end=self._may_end, may_move=self._may_move)
        asset.restate()
        return result

    def _may_end(self, back: Back, trip: Trip) -> bool:
        """Whether a return may count for a trip; where recipients earn, all that counts of it at first counts for the same one."""
        waiting = self.state.waiting.get(back.event)
        if waiting is None:
            return False  # not read: more wait than could ever count
        if not self._recipients_earn(waiting):
            return True
        first = trip.account
        if waiting.new or waiting.parked is not None:
            first = self._account_of.setdefault(back.event, trip.account)
        back.account = first
        return first == trip.account

    def _may_move(self, back: Back, trip: Trip) -> bool:
        """Whether a return that counts goes on counting as it does, for another trip."""
        waiting = self.state.waiting.get(back.event)
        return waiting is None or back.account == trip.account or not self._recipients_earn(waiting)

    def _recipients_earn(self, waiting: Waiting) -> bool:
        """Whether a return counts for whoever its trip was shipped to: as the program says, or because it names nobody.

        Once something of it counts it is theirs: of what is stored nobody knows whom it named.
        """
        undecided = waiting.new or waiting.parked is not None
        program = self.fold.scope.catalogue.programs[waiting.fact.program]
        return program.return_earner == "recipient" or (undecided and waiting.account is None)

    def _named(self, waiting: Waiting) -> int | None:
        return None if self._recipients_earn(waiting) else waiting.account

    def _decide(self, waiting: Waiting, event: PackagingReturned, ended: dict[int, tuple[Asset, Trip]]) -> EventAnswer:
        """Store a return of which something counts, with its awards."""
        account_id = self._named(waiting)
        if account_id is None:
            account_id = next(
                (t.back.account for _, t in ended.values() if t.back is not None and t.back.account is not None), waiting.account
            )
        assert account_id is not None
        account = self.fold.accounts[account_id]
        fact = waiting.fact
        granter = self.fold.granter(fact, account)
        units = self._grant(granter, waiting, event, ended)
        self._refuse_assets(granter, waiting, event, ended)
        change = Change(account)
        posted = self.fold.post(granter, change, fact, waiting.number)
        for award in posted:  # a later fact of the same batch may take it back
            self.state.carried.setdefault((account.id, (waiting.number, award.item or 0)), []).append(award)
        awarded = {award.item for award in posted}
        program = granter.program
        for i, count in units.items():
            item = event.returns[i]
            if i in awarded and item.class_ is not None and program.return_window_days is not None:
                self.state.sent.give_back(
                    account.id, item.class_, granter.day, count, window_days=program.return_window_days, event=waiting.number, item=i
                )  # fmt: skip
        deposits = self._end(event, ended, {i: (waiting.number, i) for i in ended if i in awarded})
        # The balance of the consumer that was named, and nobody else's.
        shown = Account(id=0, program=fact.program) if waiting.account is None else self.fold.accounts[waiting.account]
        waiting.account, parked, waiting.parked, waiting.new = account.id, waiting.parked, None, False
        return self.fold.store(fact, waiting.number, change, posted, granter.refused, parked=parked, deposits=deposits, shown=shown)

    def _grant_again(self, waiting: Waiting, event: PackagingReturned, ended: dict[int, tuple[Asset, Trip]], effects: Effects) -> None:
        """Grant for items of a return that is stored: its awards are carried by the event that makes them count."""
        for i, (asset, trip) in ended.items():
            assert trip.back is not None
            assert trip.back.account is not None
            granter = self.fold.granter(waiting.fact, self.fold.accounts[trip.back.account])
            self._grant(granter, waiting, event, {i: (asset, trip)}, only=i)
            carried, posted = effects.post_return(trip.back.account, granter, waiting.fact)
            if carried is not None:
                self.state.carried[trip.back.account, carried] = posted
            self._end(event, {i: (asset, trip)}, {} if carried is None else {i: carried})

    def _grant(
        self, granter: Granter, waiting: Waiting, event: PackagingReturned, ended: dict[int, tuple[Asset, Trip]], *, only: int | None = None
    ) -> dict[int, Decimal]:
        """Grant for every item that counts, each seeing what those before it took; the units of those without an asset."""
        units: dict[int, Decimal] = {}
        given: dict[str | None, Decimal] = {}
        for i, item in enumerate(event.returns):
            if only is not None and i != only:
                continue
            asset, trip = ended.get(i, (None, None))
            verdict = self.state.stations.still(waiting.fact, item, self._verdict(waiting, i, item, asset))
            if isinstance(verdict, Refused):
                granter.refuse(verdict.code, verdict.detail, index=i)
            elif asset is not None and trip is not None:
                if asset.worn_out(trip):
                    granter.refuse("trip_limit", f"Trips of this asset earn {asset.max_trips} times; this is one more.", index=i)
                else:
                    counted = msgspec.structs.replace(item, class_=asset.class_, asset=asset.key, quantity=1)
                    self._grant_item(granter, event, counted, i, Decimal(1), (), verdict)
            elif item.asset is None and (count := self._units(granter, item, i, given.get(item.class_, Decimal(0)))):
                units[i] = count
                self._grant_item(granter, event, item, i, count, tuple(return_claims(item)), verdict)
            if any(granted.index == i for granted in granter.granted):
                self.state.stations.count(waiting.fact, item)
                given[item.class_] = given.get(item.class_, Decimal(0)) + units.get(i, Decimal(0))
        return units

    @staticmethod
    def _grant_item(
        granter: Granter, event: PackagingReturned, item: Return, i: int, units: Decimal, claims: tuple[Claim, ...], proof: Token | None
    ) -> None:
        """One token stands for all items of its event: the first that is granted takes it."""
        if proof is not None:
            token = token_claim(proof)
            if not any(token in taken for taken, _ in granter.claimed):
                claims = (*claims, token)
        thing = item_thing(event, item, i, granter.platform_code, units=units, claims=claims)
        thing.proved = proof is not None
        granter.grant("return", thing)

    def _verdict(self, waiting: Waiting, i: int, item: Return, asset: Asset | None) -> Token | Refused | None:
        """What the station that an item names says of it, once."""
        if i not in waiting.verdicts:
            class_ = item.class_ if asset is None else asset.class_
            waiting.verdicts[i] = self.state.stations.judge(waiting.fact, item, class_, now=waiting.received_at)
        return waiting.verdicts[i]

    def _units(self, granter: Granter, item: Return, i: int, given: Decimal) -> Decimal:
        """How many units of single-use packaging count: never more than was sent to this consumer within the program's window.

        `given`: units of the same class that items before it in the same event count as.
        """
        assert item.class_ is not None
        if not granter.meets("return"):
            return Decimal(0)
        if needs_asset(item.class_, granter.program.packaging_classes):
            granter.refuse("evidence_missing", "Reusable packaging earns by its asset, and none is named.", index=i)
            return Decimal(0)
        wanted, window = Decimal(item.quantity), granter.program.return_window_days
        if window is None:
            return wanted
        left = self.state.sent.left(granter.account, item.class_, granter.day, window_days=window) - given
        if left < wanted:
            granter.refuse("more_than_shipped", f"Of this class {left.normalize():f} sent to this consumer are left to give back.", index=i)
        return min(wanted, left)

    def _refuse_assets(
        self, granter: Granter, waiting: Waiting, event: PackagingReturned, ended: dict[int, tuple[Asset, Trip]]
    ) -> None:  # fmt: skip
        """Say why assets do not count, and what waits for its shipment."""
        short = {back.item for _, back in self.state.waits if back.event == waiting.number}
        for i, item in enumerate(event.returns):
            if i in short:
                granter.refuse(
                    "not_shipped", "Nothing of this class was shipped to this consumer, as far as is known; it waits for that.", index=i
                )
            if item.asset is None or i in ended:
                continue
            asset = self._asset(waiting.fact.program, item)
            if isinstance(verdict := waiting.verdicts.get(i), Refused):
                if not any(refusal.return_ == i for refusal in granter.refused):
                    granter.refuse(verdict.code, verdict.detail, index=i)
            elif asset is None:
                granter.refuse("asset_unknown", "This asset is not registered in the program.", index=i)
            else:
                granter.refuse(
                    "asset_not_out", "A trip earns once, and this asset is on none that is known; it waits for its shipment.", index=i
                )

    @staticmethod
    def _end(event: PackagingReturned, ended: dict[int, tuple[Asset, Trip]], awarded: dict[int, Carried]) -> list[DepositDue]:
        """Write down what ended the trips, and the deposits that are to be paid back for them."""
        due = []
        for i, (_, trip) in ended.items():
            trip.awarded = awarded.get(i)
            if (deposit := event.returns[i].deposit) is not None:
                trip.deposit = (deposit.amount, deposit.currency)
                due.append(DepositDue(return_=i, asset=event.returns[i].asset or "", amount=deposit.amount, currency=deposit.currency))
        return due

    def _asset(self, program: int, item: Return) -> Asset | None:
        return None if item.asset is None else self.state.assets.get((program, canonical_asset(item.asset)))

    def _known(self, program: int, packaging: Packaging) -> list[Asset]:
        found = (self.state.assets.get((program, canonical_asset(text))) for text in packaging.assets)
        return [asset for asset in found if asset is not None]


def parcel_claims(platform: int, event: OrderPaid | OrderFulfilled) -> list[Claim]:
    """What an order's packaging earns by: its waybill; what was really used, without a waybill, by its order."""
    packaging = event.packaging
    if packaging is not None and packaging.waybill is not None:
        return [Claim(Kind.PARCEL, canonical_waybill(packaging.waybill))]
    return [Claim(Kind.PARCEL, f"order:{platform}:{event.order.id}")] if type(event) is OrderFulfilled else []


def return_claims(item: Return) -> list[Claim]:
    """What single-use packaging earns by when it comes back: the waybill that it came with, for each class."""
    return [] if item.waybill is None else [Claim(Kind.RETURNED, f"{canonical_waybill(item.waybill)}|{item.class_}")]

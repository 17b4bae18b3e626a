"""A purse: one account under lock with its open lots, and what can be done with its points.

Every method changes the purse and remembers what to write: entries that sum to zero per transfer, what was used of which lot, new lots, and
what campaigns' statistics count. Nothing here waits, reads a clock or knows the database.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from msgspec import Struct

from service.domain.errors import InsufficientPoints
from service.domain.ledger import Book, Kind, Lot
from service.domain.posting import Account, Entry

Part = tuple[Lot, int]
"""So many points of a lot."""


class Transfer(Struct, kw_only=True, gc=False):
    """One transfer of an account: a row of table `transfer`, and what its entries carry."""

    number: int
    kind: Kind
    platform: int
    """Through which it came; 0: none."""
    event: int
    """What its entries point at: the redemption's number, or its own."""
    redemption: int | None = None
    reason: str | None = None
    points: int = 0
    """Signed change of what the consumer can spend, debt counted."""
    version: int = 0


class NewLot(Struct, kw_only=True, gc=False):
    """A lot that a transfer makes; columns of table `lot`."""

    event: int
    n: int
    platform: int
    campaign: int
    origin: Kind
    amount: int
    remaining: int
    expires_on: date | None
    idle_months: int | None = None


class Spent(Struct, gc=False):
    """What a campaign's roll-up on the platform of its lots counts."""

    redeemed: int = 0
    expired: int = 0


class Purse:
    """Points of one account, changed transfer by transfer. `today` is the local day of the program."""

    def __init__(self, account: Account, lots: Iterable[Lot], *, today: date, restored_until: date) -> None:
        self.account = account
        self.lots = {lot.key: lot for lot in lots}
        self.today = today
        self.restored_until = restored_until
        """The last day of points that come back after their own."""
        self.transfers: list[Transfer] = []
        self.entries: list[Entry] = []
        self.uses: dict[tuple[int, int, int], int] = {}
        """(lot's event, lot's n, transfer) → points used; negative: given back."""
        self.changed: dict[tuple[int, int], Lot] = {}
        self.new_lots: list[NewLot] = []
        self.stale: list[Part] = []
        """Past their last day when other points of the same lot came back, and not removed yet: `expire` them."""
        self.spent: dict[tuple[int, int], Spent] = {}
        """(campaign, platform of the lot) → what its statistics count."""

    @property
    def spendable(self) -> int:
        """What can be spent today: lots past their last day do not count, though nobody has removed them yet."""
        return sum(lot.free for lot in self.lots.values() if not self._is_over(lot))

    def require(self, points: int) -> None:
        """Raises InsufficientPoints when fewer can be spent."""
        if points > (spendable := self.spendable):
            raise InsufficientPoints(f"{points} points were asked for, {spendable} can be spent.")

    def begin(self, kind: Kind, number: int, *, platform: int, redemption: int | None = None, reason: str | None = None) -> Transfer:
        """A new transfer: one change of the account."""
        self.account.version += 1
        transfer = Transfer(
            number=number, kind=kind, platform=platform, event=redemption or number, redemption=redemption, reason=reason,
            version=self.account.version,
        )  # fmt: skip
        self.transfers.append(transfer)
        return transfer

    # Reservations

    def reserve(self, transfer: Transfer, points: int) -> list[Part]:
        """Hold points of the lots that expire first. Raises InsufficientPoints: ask `require` before the transfer begins."""
        parts = self._allocate(points)
        for lot, part in parts:
            lot.reserved += part
            self._touch(lot)
        self._available(transfer, -points)
        self._reserved(transfer, points)
        return parts

    def capture(self, transfer: Transfer, held: Sequence[Part], points: int, book: Book) -> list[Part]:
        """Spend `points` of what a reservation holds; the rest is free again. Returns what was spent of each lot."""
        spent = []
        left = points
        for lot, part in sorted(held, key=lambda h: h[0].turn):
            now = min(part, left)
            left -= now
            lot.reserved -= part
            self._use(transfer, lot, now)
            if now:
                spent.append((lot, now))
            if now < part:
                self._restore(lot, part - now)
        all_held = sum(part for _, part in held)
        self._reserved(transfer, -all_held)
        self._post(transfer, book, points)
        self._available(transfer, all_held - points)
        self._redeemed(spent, 1)
        self.repay(transfer)
        return spent

    def spend(self, transfer: Transfer, points: int, book: Book) -> list[Part]:
        """Reserve and capture in one step. Raises InsufficientPoints."""
        parts = self._allocate(points)
        for lot, part in parts:
            self._use(transfer, lot, part)
        self._available(transfer, -points)
        self._post(transfer, book, points)
        self._redeemed(parts, 1)
        return parts

    def release(self, transfer: Transfer, held: Sequence[Part]) -> None:
        """End a reservation: what it holds is free again."""
        for lot, part in held:
            lot.reserved -= part
            self._restore(lot, part)
        points = sum(part for _, part in held)
        self._reserved(transfer, -points)
        self._available(transfer, points)
        self.repay(transfer)

    def refund(self, transfer: Transfer, spent: Sequence[Part], points: int, book: Book) -> list[Part]:
        """Give spent points back to their lots, those first that expire last. Returns what went back to each lot."""
        back = []
        left = points
        for lot, part in sorted(spent, key=lambda s: s[0].turn, reverse=True):
            now = min(part, left)
            if now:
                left -= now
                self._use(transfer, lot, -now)
                self._restore(lot, now)
                back.append((lot, now))
        if left:
            raise ValueError(f"{points} points were not spent: {left} are missing")
        self._post(transfer, book, -points)
        self._available(transfer, points)
        self._redeemed(back, -1)
        self.repay(transfer)
        return back

    # Points from and to other books

    def take(self, transfer: Transfer, points: int, book: Book) -> list[Part]:
        """Take points off, lots that expire first coming first. Raises InsufficientPoints."""
        parts = self._allocate(points)
        self.take_parts(transfer, parts, book)
        return parts

    def take_parts(self, transfer: Transfer, parts: Sequence[Part], book: Book) -> None:
        """Take these parts of free lots off."""
        for lot, part in parts:
            self._use(transfer, lot, part)
        points = sum(part for _, part in parts)
        self._available(transfer, -points)
        self._post(transfer, book, points)

    def expire(self, transfer: Transfer) -> None:
        """Remove what is stale."""
        self.take_parts(transfer, self.stale, Book.BREAKAGE)
        for lot, part in self.stale:
            self.spent.setdefault((lot.campaign, lot.platform), Spent()).expired += part
        self.stale = []

    def owe(self, transfer: Transfer, points: int, book: Book) -> None:
        """Make it owe points that it does not have."""
        self.account.debt += points
        transfer.points -= points
        self._post(transfer, Book.DEBT, -points)
        self._post(transfer, book, points)

    def give(self, transfer: Transfer, lots: Sequence[NewLot], book: Book) -> None:
        """Add lots; debt is repaid from them at once."""
        for new in lots:
            lot = Lot(
                new.event, new.n, new.remaining, new.expires_on, campaign=new.campaign, platform=new.platform, idle_months=new.idle_months
            )
            if lot.key in self.lots:
                raise ValueError(f"lot {lot.key} is there already")
            self.lots[lot.key] = lot
            self.new_lots.append(new)
        points = sum(new.amount for new in lots)
        self._post(transfer, book, -points)
        self._available(transfer, points)
        self.repay(transfer)

    def clear_debt(self, transfer: Transfer, book: Book) -> int:
        """Owe nothing any more, because another book takes it on; returns how much that was."""
        points = self.account.debt
        self.account.debt = 0
        transfer.points += points
        self._post(transfer, Book.DEBT, points)
        self._post(transfer, book, -points)
        return points

    def take_over(self, transfer: Transfer, parts: Sequence[Part], amounts: Mapping[tuple[int, int], int], book: Book) -> None:
        """Take these parts of another purse's lots over, each as the same lot: one that is here already, or a new one.

        `amounts`: what each lot was in the beginning; what is not taken over counts as used. A lot that is here already lives as long as
        the longer-lived of both.
        """
        for theirs, points in parts:
            lot = self.lots.get(theirs.key)
            if lot is None:
                amount = amounts[theirs.key]
                lot = Lot(
                    *theirs.key, 0, theirs.expires_on, campaign=theirs.campaign, platform=theirs.platform, idle_months=theirs.idle_months
                )
                self.lots[lot.key] = lot
                self.new_lots.append(
                    NewLot(
                        event=lot.event,
                        n=lot.n,
                        platform=lot.platform,
                        campaign=lot.campaign,
                        origin=transfer.kind,
                        amount=amount,
                        remaining=0,
                        expires_on=lot.expires_on,
                        idle_months=lot.idle_months,
                    )
                )
                self.uses[*lot.key, transfer.number] = amount
            elif not lot.remaining or theirs.turn > lot.turn:
                lot.expires_on = theirs.expires_on  # points that came back after their last day live longer than those that are here
            self._use(transfer, lot, -points)
        points = sum(part for _, part in parts)
        self._post(transfer, book, -points)
        self._available(transfer, points)
        self.repay(transfer)

    def repay(self, transfer: Transfer) -> None:
        """Repay debt from what is available."""
        points = min(self.account.available, self.account.debt)
        if not points:
            return
        left = points
        for lot in sorted(self.lots.values(), key=lambda lot: lot.turn):
            part = min(lot.free, left)
            self._use(transfer, lot, part)
            left -= part
        self._available(transfer, -points)
        self.account.debt -= points
        transfer.points += points
        self._post(transfer, Book.DEBT, points)

    # Parts

    def _is_over(self, lot: Lot) -> bool:
        return lot.expires_on is not None and lot.expires_on < self.today

    def _allocate(self, points: int) -> list[Part]:
        self.require(points)
        parts = []
        for lot in sorted(self.lots.values(), key=lambda lot: lot.turn):
            part = 0 if self._is_over(lot) else min(lot.free, points)
            if part:
                parts.append((lot, part))
                points -= part
        return parts

    def _restore(self, lot: Lot, points: int) -> None:
        """What comes back after its last day can be spent for a little longer; what else is left of the lot cannot."""
        if self._is_over(lot):
            if others := lot.free - points:
                self.stale.append((lot, others))
            lot.expires_on = self.restored_until
        self._touch(lot)

    def _touch(self, lot: Lot) -> None:
        self.changed[lot.key] = lot

    def _use(self, transfer: Transfer, lot: Lot, points: int) -> None:
        if points:
            lot.remaining -= points
            key = (*lot.key, transfer.number)
            self.uses[key] = self.uses.get(key, 0) + points
        self._touch(lot)

    def _redeemed(self, parts: Iterable[Part], sign: int) -> None:
        for lot, part in parts:
            self.spent.setdefault((lot.campaign, lot.platform), Spent()).redeemed += sign * part

    def _available(self, transfer: Transfer, points: int) -> None:
        self.account.available += points
        transfer.points += points
        self._post(transfer, Book.AVAILABLE, points)

    def _reserved(self, transfer: Transfer, points: int) -> None:
        self.account.reserved += points
        self._post(transfer, Book.RESERVED, points)

    def _post(self, transfer: Transfer, book: Book, amount: int) -> None:
        if not amount:
            return
        account = self.account
        account.last_seq += 1
        self.entries.append(
            Entry(
                bucket=account.bucket,
                account=account.id,
                seq=account.last_seq,
                transfer=transfer.number,
                kind=transfer.kind,
                book=book,
                amount=amount,
                program=account.program,
                platform=transfer.platform,
                campaign=0,
                event=transfer.event,
                award=0,
                n=0,
                version=transfer.version,
            )
        )

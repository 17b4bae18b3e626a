"""The life of a point, said a second time and as simply as possible: a pure model that shares no code with the service.

An account is its lots and what it owes; what is available, reserved or on hold is always summed up anew. Days are whole numbers. Nothing
here knows SQL, entries, versions or transactions. `tests/flows/test_ledger_machine.py` holds the real thing against it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

Name = tuple[str, str]
"""platform, its name for a consumer"""
Key = tuple[int, int]
FAR = 10**9
OPEN_FOR = 7
"""Days in which a proposed adjustment can be decided."""


class Refused(Exception):
    """The service refuses with a problem of this code, and nothing changes."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Campaign:
    """Grants a point per unit. `hold`: days before they are available; `life`: days from then on (None: the policy says)."""

    hold: int
    life: int | None


@dataclass(frozen=True)
class Policy:
    """`life`: days (None: for ever) of points whose campaign says nothing, and of adjustments."""

    negative_balance: str = "debt"
    restored_for: int = 14
    life: int | None = None
    alone: int = 20


@dataclass(frozen=True)
class Reward:
    points: int
    stock: int
    per_consumer: int


@dataclass(eq=False)
class Lot:
    key: Key
    amount: int
    remaining: int
    day: int | None
    """The last on which it can be spent."""
    source: tuple[str, str]
    reserved: int = 0

    @property
    def free(self) -> int:
        return self.remaining - self.reserved

    @property
    def turn(self) -> tuple[int, Key]:
        return FAR if self.day is None else self.day, self.key


@dataclass(eq=False)
class Account:
    lots: dict[Key, Lot] = field(default_factory=dict)
    debt: int = 0
    linked: "Account | None" = None
    rewards: Counter[str] = field(default_factory=Counter)

    @property
    def home(self) -> "Account":
        return self.linked or self

    @property
    def available(self) -> int:
        return sum(lot.free for lot in self.lots.values())

    @property
    def reserved(self) -> int:
        return sum(lot.reserved for lot in self.lots.values())

    def in_turn(self) -> list[Lot]:
        return sorted(self.lots.values(), key=lambda lot: lot.turn)

    def repay(self) -> None:
        for lot in self.in_turn():
            part = min(lot.free, self.debt)
            lot.remaining -= part
            self.debt -= part


@dataclass(eq=False)
class Order:
    """A paid order, which is one award."""

    account: Account
    key: Key
    campaign: str
    platform: str
    points: int
    kept: int
    due: int
    day: int | None
    refunds: dict[str, int] = field(default_factory=dict)
    cancelled: bool = False
    settled: bool = False


@dataclass(eq=False)
class Redemption:
    account: Account
    platform: str
    points: int
    ends: int
    reward: str | None
    cause: bool
    status: str = "reserved"
    captured: int = 0
    refunded: int = 0
    held: dict[Key, int] = field(default_factory=dict)
    spent: dict[Key, int] = field(default_factory=dict)


@dataclass(eq=False)
class Adjustment:
    account: Account
    name: Name
    points: int
    own_day: bool
    day: int | None
    may_owe: bool
    open_until: int
    status: str = "pending"


class Model:
    def __init__(self, campaigns: dict[str, Campaign], rewards: dict[str, Reward]) -> None:
        self.campaigns = campaigns
        self.rewards = rewards
        self.policy = Policy()
        self.today = 0
        self.names: dict[Name, Account] = {}
        self.accounts: list[Account] = []
        """Also of those who were erased."""
        self.orders: dict[tuple[str, str], Order] = {}
        self.redemptions: list[Redemption] = []
        self.taken: Counter[str] = Counter()
        """Of each reward: reserved or given out."""
        self.books: Counter[str] = Counter()
        self._numbers = count(1)

    # Earning

    def credit(self, name: Name, order: str, units: int, campaign: str) -> int:
        if (name[0], order) in self.orders:
            return 0
        terms = self.campaigns[campaign]
        due = self.today + terms.hold
        life = self.policy.life if terms.life is None else terms.life
        day = None if life is None else due + life
        self.orders[name[0], order] = Order(self._open(name), (next(self._numbers), 0), campaign, name[0], units, units, due, day)
        return units

    def refund(self, platform: str, order: str, refund: str, units: int) -> int:
        """Units of the order come back; how many points that takes."""
        paid = self.orders[platform, order]
        paid.refunds.setdefault(refund, units)
        return self._take_back(paid)

    def cancel_order(self, platform: str, order: str) -> int:
        self.orders[platform, order].cancelled = True
        return self._take_back(self.orders[platform, order])

    def pending(self, account: Account) -> int:
        return sum(o.kept for o in self.orders.values() if not o.settled and o.account.home is account)

    def settle(self) -> None:
        for order in sorted(self.orders.values(), key=lambda o: o.key):
            if order.settled or order.due > self.today:
                continue
            order.settled = True
            if order.kept:
                account = order.account.home
                repaid = min(account.debt, order.kept)
                account.debt -= repaid
                account.lots[order.key] = Lot(order.key, order.kept, order.kept - repaid, order.day, (order.campaign, order.platform))

    def _take_back(self, order: Order) -> int:
        target = 0 if order.cancelled else max(0, order.points - sum(order.refunds.values()))
        back = order.kept - target
        order.kept = target
        if order.settled and back:
            self._claw_back(order.account.home, order.key, back)
        return back

    def _claw_back(self, account: Account, key: Key, points: int) -> None:
        """From the lot of that award, then in turn, never what is reserved; what is missing is owed, or the program bears it."""
        lots = sorted(account.lots.values(), key=lambda lot: (lot.key != key, lot.turn))
        missing = points
        if self.policy.negative_balance != "refuse" or account.available >= points:
            for lot in lots:
                part = min(lot.free, missing)
                lot.remaining -= part
                missing -= part
        if self.policy.negative_balance == "debt":
            account.debt += missing
        else:
            self.books["written_off"] += missing

    # Spending

    def spendable(self, account: Account) -> int:
        return sum(lot.free for lot in account.lots.values() if not self._over(lot))

    def redeem(
        self, name: Name, points: int | None, *, ttl: int, at_once: bool, reward: str | None = None, cause: bool = False,
        by_consumer: bool = False,
    ) -> Redemption:  # fmt: skip
        if name not in self.names:
            raise Refused("insufficient_points" if by_consumer else "not_found")
        account = self.names[name].home
        if reward is not None:
            offer = self.rewards[reward]
            if points not in (None, offer.points):
                raise Refused("invalid_request")
            had = sum(each.rewards[reward] for each in [account, *self._members(account)])
            if self.taken[reward] >= offer.stock or had >= offer.per_consumer:
                raise Refused("invalid_state")
            points = offer.points
        assert points is not None
        parts = self._first_out(account, points)
        made = Redemption(account, name[0], points, self.today + ttl, reward, cause)
        for lot, part in parts:
            if at_once:
                lot.remaining -= part
                made.spent[lot.key] = part
            else:
                lot.reserved += part
                made.held[lot.key] = part
        if at_once:
            made.status, made.captured = "captured", points
            self.books["cause" if cause else "redeemed"] += points
        if reward is not None:
            self.taken[reward] += 1
            account.rewards[reward] += 1
        self.redemptions.append(made)
        return made

    def capture(self, platform: str, made: Redemption, points: int | None = None, *, asker: Name | None = None) -> None:
        self._may(platform, made, asker)
        if made.status != "reserved" or self.today >= made.ends:
            raise Refused("invalid_state")
        points = made.points if points is None else points
        if points > made.points or (made.reward is not None and points != made.points):
            raise Refused("invalid_request")
        left = points
        for lot in sorted((made.account.lots[key] for key in made.held), key=lambda lot: lot.turn):
            part = min(made.held[lot.key], left)
            left -= part
            lot.reserved -= made.held[lot.key]
            lot.remaining -= part
            if part:
                made.spent[lot.key] = part
            if part < made.held[lot.key]:
                self._free_again(lot, made.held[lot.key] - part)
        made.held, made.status, made.captured = {}, "captured", points
        self.books["cause" if made.cause else "redeemed"] += points
        made.account.repay()

    def release(self, platform: str, made: Redemption, *, asker: Name | None = None) -> None:
        self._may(platform, made, asker)
        self._release(made, "cancelled")

    def release_ended(self) -> None:
        for made in self.redemptions:
            if made.status == "reserved" and made.ends <= self.today:
                self._release(made, "expired")

    def _release(self, made: Redemption, status: str) -> None:
        if made.status != "reserved":
            raise Refused("invalid_state")
        for key, part in made.held.items():
            lot = made.account.lots[key]
            lot.reserved -= part
            self._free_again(lot, part)
        made.held, made.status = {}, status
        self._reward_back(made)
        made.account.repay()

    def give_back(self, platform: str, made: Redemption, points: int | None = None) -> None:
        """Refund a redemption: to the lots that expire last first; what an account that is linked meanwhile gets back goes home."""
        self._may(platform, made, None)
        left = made.captured - made.refunded
        if made.status != "captured" or not left:
            raise Refused("invalid_state")
        points = left if points is None else points
        if points > left or (made.reward is not None and points != left):
            raise Refused("invalid_request")
        made.refunded += points
        self.books["cause" if made.cause else "redeemed"] -= points
        for lot in sorted((made.account.lots[key] for key in made.spent), key=lambda lot: lot.turn, reverse=True):
            part = min(made.spent[lot.key], points)
            if part:
                points -= part
                made.spent[lot.key] -= part
                lot.remaining += part
                self._free_again(lot, part)
        self._reward_back(made)
        made.account.repay()
        if made.account.linked:
            self._move(made.account, made.account.home, made.account.lots)

    def _may(self, platform: str, made: Redemption, asker: Name | None) -> None:
        if made.platform != platform:
            raise Refused("not_found")
        if asker is not None and (asker not in self.names or self.names[asker].home is not made.account.home):
            raise Refused("not_found")

    def _reward_back(self, made: Redemption) -> None:
        if made.reward is not None:
            self.taken[made.reward] -= 1
            made.account.rewards[made.reward] -= 1

    # Time

    def pass_time(self, days: int) -> None:
        self.today += days

    def expire(self) -> None:
        for account in self.accounts:
            for lot in account.lots.values():
                if self._over(lot):
                    self.books["expired"] += lot.free
                    lot.remaining = lot.reserved

    # By hand

    def adjust(self, name: Name, points: int, *, own_day: bool, day: int | None, may_owe: bool) -> Adjustment:
        if name not in self.names:
            raise Refused("invalid_request")
        made = Adjustment(self.names[name], name, points, own_day, day, may_owe, self.today + OPEN_FOR)
        if abs(points) <= self.policy.alone:
            self._carry_out(made)
        return made

    def approve(self, made: Adjustment) -> None:
        if made.status != "pending" or self.today >= made.open_until or self.names.get(made.name) is not made.account:
            raise Refused("invalid_state")
        self._carry_out(made)

    def reject(self, made: Adjustment) -> None:
        if made.status != "pending" or self.today >= made.open_until:
            raise Refused("invalid_state")
        made.status = "rejected"

    def _carry_out(self, made: Adjustment) -> None:
        account = made.account.home
        if made.points > 0:
            life = self.policy.life
            day = made.day if made.own_day else None if life is None else self.today + life
            if day is not None and day < self.today:
                raise Refused("invalid_state")
            self._add(account, made.points, day, ("", made.name[0]))
            account.repay()
        else:
            there = min(-made.points, self.spendable(account))
            missing = -made.points - there
            if missing and (not made.may_owe or self.policy.negative_balance != "debt"):
                raise Refused("insufficient_points")
            for lot, part in self._first_out(account, there):
                lot.remaining -= part
            account.debt += missing
        made.status = "done"
        self.books["adjusted"] += made.points

    def transfer(self, sender: Name, to: str, points: int, *, by_platform: bool) -> None:
        if sender not in self.names:
            raise Refused("not_found" if by_platform else "insufficient_points")
        giver, taker = self.names[sender].home, self.names.get((sender[0], to))
        if taker is not None and taker.home is giver:
            raise Refused("invalid_request")
        parts = self._first_out(giver, points)
        if taker is None:
            raise Refused("invalid_request")
        number, sums = next(self._numbers), Counter[tuple[int | None, tuple[str, str]]]()
        for lot, part in parts:
            lot.remaining -= part
            sums[lot.day, lot.source] += part
        for n, ((day, source), part) in enumerate(sums.items()):
            taker.home.lots[number, n] = Lot((number, n), part, part, day, source)
        taker.home.repay()

    # Persons

    def link(self, theirs: Name, mine: Name) -> None:
        if theirs not in self.names:
            raise Refused("not_found")
        other = self.names[theirs].home
        home, member = other, self.names[mine].home if mine in self.names else Account()
        if home is member:
            return
        if self._members(member):
            home, member = member, home
            if self._members(member):
                raise Refused("invalid_state")
        if member.reserved:
            raise Refused("invalid_state")
        if mine not in self.names:
            self._open(mine, member)
        owed, member.debt = member.debt, 0
        member.linked = home
        home.debt += owed
        self._move(member, home, member.lots)

    def split(self, name: Name) -> None:
        if name not in self.names:
            raise Refused("not_found")
        member = self.names[name]
        home = member.home
        if home is member:
            others = self._members(home)
            if not others:
                return
            if len(others) != 1:
                raise Refused("invalid_state")
            member = others[0]
        awarded = {o.key for o in self.orders.values() if o.account is member}
        own = [key for key, lot in home.lots.items() if lot.remaining and (key in awarded or key in member.lots)]
        if any(home.lots[key].reserved for key in own):
            raise Refused("invalid_state")
        member.linked = None
        self._move(home, member, own)

    def erase(self, name: Name) -> None:
        if name not in self.names:
            raise Refused("not_found")
        del self.names[name]

    # Parts

    def _open(self, name: Name, account: Account | None = None) -> Account:
        if name not in self.names:
            self.names[name] = account or Account()
            self.accounts.append(self.names[name])
        return self.names[name]

    def _members(self, home: Account) -> list[Account]:
        return [a for a in self.accounts if a.linked is home]

    def _over(self, lot: Lot) -> bool:
        return lot.day is not None and lot.day < self.today

    def _first_out(self, account: Account, points: int) -> list[tuple[Lot, int]]:
        """What expires first, then what came first; nothing whose day is over."""
        if points > self.spendable(account):
            raise Refused("insufficient_points")
        return list(_filled((lot for lot in account.in_turn() if not self._over(lot)), points))

    def _free_again(self, lot: Lot, points: int) -> None:
        """What comes back late lives on; what else is left of its lot does not."""
        if self._over(lot):
            others = lot.free - points
            lot.remaining -= others
            self.books["expired"] += others
            lot.day = self.today + self.policy.restored_for

    def _add(self, account: Account, points: int, day: int | None, source: tuple[str, str]) -> None:
        key = (next(self._numbers), 0)
        account.lots[key] = Lot(key, points, points, day, source)

    def _move(self, source: Account, target: Account, keys: Iterable[Key]) -> None:
        """All that is free of these lots; a lot that is there already lives on for as long as either."""
        for key in list(keys):
            lot = source.lots[key]
            part = lot.free
            if not part:
                continue
            lot.remaining -= part
            there = target.lots.setdefault(key, Lot(key, lot.amount, 0, lot.day, lot.source))
            if not there.remaining or _later(lot, there):
                there.day = lot.day
            there.remaining += part
        target.repay()


def _later(lot: Lot, other: Lot) -> bool:
    return lot.turn > other.turn


def _filled(lots: Iterable[Lot], points: int) -> Iterator[tuple[Lot, int]]:
    for lot in lots:
        part = min(lot.free, points)
        if part:
            points -= part
            yield lot, part


def visible(model: Model) -> dict[Account, dict[str, Any]]:
    """What the real accounts must look like."""
    return {
        account: {
            "balance": (model.pending(account), account.available, account.reserved, account.debt),
            "home": account.linked,
            "lots": [(lot.remaining, lot.reserved, lot.day) for lot in account.in_turn() if lot.remaining],
        }
        for account in model.accounts
    }

"""Rings: accounts that share more than strangers do, joined as their events come in, never searched for.

Accounts are joined (union-find) when the things they share weigh 1 or more together. What a thing weighs says its kind (LINKS): a means
of payment or a device joins by itself, an address only with something else, an ip with two others. What many accounts use joins nobody:
beyond `most` accounts a thing is a carrier's NAT, a parcel shop, an office, and neither does what two accounts used more than 30 days
apart (a phone that was sold). Accounts that were joined stay joined. Work and memory of an event have a bound: COMPANIONS, THINGS,
MAX_RING and MAX_LINKS.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, field

from service.domain.fraud.journal import Table
from service.domain.fraud.observation import Observation
from service.domain.fraud.records import Sums
from service.domain.fraud.windows import DAY, MONTH


class Link(Struct, frozen=True, gc=False):
    """What sharing a thing of some kind means."""

    weight: float
    most: int
    """Accounts beyond which it means nothing."""


LINKS: Final[Mapping[str, Link]] = {
    "payment": Link(1.0, 64), "device": Link(1.0, 32), "address": Link(0.5, 16), "ip": Link(0.25, 8),
}  # fmt: skip
COMPANIONS: Final = 8
"""Newest other accounts of a thing that a newcomer is compared with."""
THINGS: Final = 12
"""Newest things of an account that are remembered."""
FORGOTTEN_S: Final = 2 * MONTH
"""Things that nobody used for so long are forgotten: uses more than 30 days apart join nobody, and some come late."""
MAX_RING: Final = 2_000
"""Rings do not grow beyond it: what is larger is a population that shares something."""
MAX_LINKS: Final = 64
"""Of a ring that are kept as evidence."""
MAX_SUSPECTS: Final = 64
"""Accounts of a ring whose earlier events are judged again: those that raised suspicion first."""


class Evidence(Struct, array_like=True, frozen=True, gc=False):
    """Why two accounts were joined: the kinds of things that they share."""

    account: int
    other: int
    kinds: tuple[str, ...]


class Ring(Struct, array_like=True):
    """A component. `root` names it until it is joined with another; `points` and `young` are sums over its accounts' events."""

    root: int
    size: int = 1
    events: int = 0
    points: int = 0
    young: int = 0
    """Points that its accounts earned while young."""
    links: tuple[Evidence, ...] = ()
    sums: Sums = field(default_factory=Sums)
    """What its accounts' events raised by themselves."""
    suspects: dict[int, None] = field(default_factory=dict)
    """Accounts that raised suspicion, in the order in which they did: at most MAX_SUSPECTS."""
    seen: int = -1
    """Where its highest mean so far was (history.level): it is looked through when that rises."""
    convicted: int = 0
    """Accounts of which a person rejected events."""

    def suspect(self, account: int) -> None:
        """Note that the account raised suspicion."""
        if len(self.suspects) < MAX_SUSPECTS:
            self.suspects[account] = None

    def forgive(self, account: int, raised: Sums, *, convicted: bool) -> None:
        """Take back what an account raised, and that it was convicted if it was; its events stay."""
        innocent = Sums(raised.at, 0.0, raised.odds, raised.odd)
        self.sums.merge(innocent, -1)
        self.suspects.pop(account, None)
        self.convicted -= convicted


class _Thing(Struct, array_like=True):
    accounts: dict[int, int]
    """Account → when it last used it."""
    many: bool = False
    last_at: int = 0
    """When it was last used, to the day."""


class Rings:
    """All rings of a program, in memory. Answers do not depend on the order of events, within the bounds above.

    `tracked`: changes are noted for journals of `tables`, which have to ask for them now and then.
    """

    def __init__(self, *, tracked: bool = False) -> None:
        self._parent: Table[int, int] = Table(list[tuple[int, int | None]], tracked=tracked)
        self._rings: Table[int, Ring] = Table(list[tuple[int, Ring | None]], tracked=tracked)
        self._things: Table[str, _Thing] = Table(list[tuple[str, _Thing | None]], tracked=tracked)
        self._of: Table[int, list[str]] = Table(list[tuple[int, list[str] | None]], tracked=tracked)
        self._oldest: deque[str] = deque()

    def tables(self) -> dict[str, Table[Any, Any]]:
        """All that is kept, by name."""
        return {"parent": self._parent, "ring": self._rings, "thing": self._things, "of": self._of}

    def ring(self, account: int) -> Ring:
        """The ring of an account, kept from now on: alone, if nothing is known."""
        root = self._find(account)
        ring = self._rings.get(root)
        if ring is None:
            ring = self._rings[root] = Ring(root)
        return ring

    def join(self, o: Observation, *, young: bool) -> Ring:
        """Take an event in; the ring that its account is in afterwards."""
        me = o.account_id
        for kind, key in o.things:
            self._use(me, kind, key, o.at)
        ring = self.ring(me)
        earned = max(o.points, 0)
        ring.events += 1
        ring.points += earned
        ring.young += earned if young else 0
        self._rings.note(ring.root)
        return ring

    def note(self, ring: Ring) -> None:
        """Something of a ring was changed from outside."""
        self._rings.note(ring.root)

    def _use(self, me: int, kind: str, key: str, at: int) -> None:
        link = LINKS[kind]
        thing = self._things.get(key)
        if thing is None:
            self._forget(at)
            thing = self._things[key] = _Thing({})
            self._oldest.append(key)
        if at >= thing.last_at + DAY:
            thing.last_at = at
            self._things.note(key)
        if thing.many:
            return
        accounts = thing.accounts
        known = accounts.get(me)
        if known is not None and at < known + DAY:
            return  # the day is enough: within 30 of them it joins
        accounts[me] = at
        self._things.note(key)
        if known is not None:
            return
        if len(accounts) > link.most:
            thing.many, thing.accounts = True, {}
            return
        self._of[me] = [*self._of.get(me, ()), key][-THINGS:]
        for other in list(accounts)[-COMPANIONS - 1 : -1]:
            self._compare(me, other)

    def _forget(self, now: int) -> None:
        """Look at two of the things that were looked at longest ago, for each new one: what nobody uses any more joins nobody."""
        if len(self._oldest) != len(self._things):
            self._oldest = deque(self._things)  # they were restored
        for _ in range(min(2, len(self._oldest))):
            key = self._oldest.popleft()
            thing = self._things[key]
            if thing.last_at < now - FORGOTTEN_S:
                del self._things[key]
            else:
                self._oldest.append(key)

    def _compare(self, me: int, other: int) -> None:
        root, others = self._find(me), self._find(other)
        if root == others:
            return
        weight, kinds = 0.0, []
        for key in self._of[me]:
            thing = self._things.get(key)
            accounts = {} if thing is None else thing.accounts
            if other in accounts and abs(accounts[me] - accounts[other]) <= MONTH:
                kind = key.partition(":")[0]
                weight += LINKS[kind].weight
                kinds.append(kind)
        if weight >= 1:
            self._union(root, others, Evidence(me, other, tuple(kinds)))

    def _union(self, one: int, other: int, why: Evidence) -> None:
        a, b = self._rings.get(one) or Ring(one), self._rings.get(other) or Ring(other)
        if a.size + b.size > MAX_RING:
            return
        if (a.size, -a.root) < (b.size, -b.root):
            a, b = b, a
        self._parent[b.root] = a.root
        self._rings.pop(b.root, None)
        a.size += b.size
        a.events += b.events
        a.points += b.points
        a.young += b.young
        a.links = (*a.links, *b.links, why)[:MAX_LINKS]
        a.sums.merge(b.sums)
        for account in b.suspects:
            a.suspect(account)
        a.seen = min(a.seen, b.seen)  # what either was not looked through for, the larger one is
        a.convicted += b.convicted
        self._rings[a.root] = a

    def _find(self, account: int) -> int:
        parent = self._parent
        if account not in parent:
            return account  # as most are
        root = account
        while (above := parent.get(root, root)) != root:
            root = above
        while (above := parent.get(account, account)) != root:
            parent[account] = root
            account = above
        return root

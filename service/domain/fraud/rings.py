"""Rings: accounts that share more than strangers do, joined as their events come in, never searched for.

Accounts are joined (union-find) when the things they share weigh 1 or more together. What a thing weighs says its kind (LINKS): a means
of payment or a device joins by itself, an address only with something else, an ip with two others. What many accounts use joins nobody:
beyond `most` accounts a thing is a carrier's NAT, a parcel shop, an office, and neither does what two accounts used more than 30 days
apart (a phone that was sold). Accounts that were joined stay joined. Work and memory of an event have a bound: COMPANIONS, THINGS,
MAX_RING and MAX_LINKS.
"""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from service.domain.fraud.journal import Table
from service.domain.fraud.observation import Observation
from service.domain.fraud.windows import MONTH


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
MAX_RING: Final = 2_000
"""Rings do not grow beyond it: what is larger is a population that shares something."""
MAX_LINKS: Final = 64
"""Of a ring that are kept as evidence."""


class Evidence(Struct, frozen=True, gc=False):
    """Why two accounts were joined: the kinds of things that they share."""

    account: int
    other: int
    kinds: tuple[str, ...]


class Ring(Struct, gc=False):
    """A component. `root` names it until it is joined with another; `points` and `young` are sums over its accounts' events."""

    root: int
    size: int = 1
    events: int = 0
    points: int = 0
    young: int = 0
    """Points that its accounts earned while young."""
    suspicion: float = 0
    links: tuple[Evidence, ...] = ()


class _Thing(Struct):
    accounts: dict[int, int]
    """Account → when it last used it."""
    many: bool = False


class Rings:
    """All rings of a program, in memory. Answers do not depend on the order of events, within the bounds above.

    `tracked`: changes are noted for journals of `tables`, which have to ask for them now and then.
    """

    def __init__(self, *, tracked: bool = False) -> None:
        self._parent: Table[int, int] = Table(list[tuple[int, int | None]], tracked=tracked)
        self._rings: Table[int, Ring] = Table(list[tuple[int, Ring | None]], tracked=tracked)
        self._things: Table[str, _Thing] = Table(list[tuple[str, _Thing | None]], tracked=tracked)
        self._of: Table[int, list[str]] = Table(list[tuple[int, list[str] | None]], tracked=tracked)

    def tables(self) -> dict[str, Table[Any, Any]]:
        """All that is kept, by name."""
        return {"parent": self._parent, "ring": self._rings, "thing": self._things, "of": self._of}

    def ring(self, account: int) -> Ring:
        """The ring of an account: alone, if nothing is known."""
        return self._rings.get(self._find(account)) or Ring(account)

    def join(self, o: Observation, *, young: bool) -> Ring:
        """Take an event in; the ring that its account is in afterwards."""
        me = o.account_id
        for kind, value in o.entities.items():
            self._use(me, kind, f"{kind}:{value}", o.at)
        root = self._find(me)
        ring = self._rings.get(root)
        if ring is None:
            ring = self._rings[root] = Ring(root)
        earned = max(o.points, 0)
        ring.events += 1
        ring.points += earned
        ring.young += earned if young else 0
        self._rings.note(root)
        return ring

    def suspect(self, account: int, suspicion: float) -> None:
        """Add what an event of the account raised by itself (0 to 1)."""
        ring = self._rings.get(self._find(account))
        if ring is not None:
            ring.suspicion += suspicion
            self._rings.note(ring.root)

    def _use(self, me: int, kind: str, key: str, at: int) -> None:
        link = LINKS[kind]
        thing = self._things.get(key)
        if thing is None:
            thing = self._things[key] = _Thing({})
        if thing.many:
            return
        accounts = thing.accounts
        known = accounts.get(me)
        if known is not None and known >= at:
            return
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

    def _compare(self, me: int, other: int) -> None:
        root, others = self._find(me), self._find(other)
        if root == others:
            return
        weight, kinds = 0.0, []
        for key in self._of[me]:
            accounts = self._things[key].accounts
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
        self._rings[a.root] = Ring(
            a.root, a.size + b.size, a.events + b.events, a.points + b.points, a.young + b.young, a.suspicion + b.suspicion,
            (*a.links, *b.links, why)[:MAX_LINKS],
        )  # fmt: skip

    def _find(self, account: int) -> int:
        parent = self._parent
        root = account
        while (above := parent.get(root, root)) != root:
            root = above
        while (above := parent.get(account, account)) != root:
            parent[account] = root
            account = above
        return root

"""Frauds by many accounts: what one person may have once, they want many times."""

from typing import ClassVar, Final

from loadtests.traffic.clock import DAY
from loadtests.traffic.people import Consumer
from loadtests.traffic.rings import Pattern, Ring


def small_gain(ring: Ring, t: float, one: Consumer, *, place: tuple[str, str] | None = None) -> None:
    """Something that is rewarded and costs next to nothing."""
    rng = ring.rng
    activity = rng.choices(("learning", "e_receipt", "refill", None), (30, 30, 15, 25))[0]
    if activity is not None:
        ring.act(t, one, activity, place=place)
        return
    product = ring.product(green=True, high=6_000, platform=one.platform)
    ring.order(t, one, [(product, 1)], choice=rng.choice((None, "ship_in_own_container")), ships=rng.random() < 0.8, place=place)


class Burst(Pattern):
    """A few accounts do what is rewarded again and again within minutes or hours, before anybody looks."""

    name: ClassVar[str] = "burst"

    def plan(self, ring: Ring) -> None:
        """Each account works without a break, at a pace of its own."""
        rng = ring.rng
        people = ring.members(1, 6)
        clocks = [ring.moment() for _ in people]
        pace = rng.uniform(15, 120) * (1 + 10 * ring.care)
        while ring.wants():
            n = rng.randrange(len(people))
            clocks[n] += rng.expovariate(1 / pace)
            small_gain(ring, clocks[n], people[n])


class _Shared(Pattern):
    shared: ClassVar[str]

    def plan(self, ring: Ring) -> None:
        """Each account earns a little, at times of its own, at a platform that reports what they share."""
        platforms = ring.world.population.platforms
        ring.platform = ring.rng.choice([platform for platform in platforms if self.shared in platform.sends])
        people = ring.crew(ring.size(6, 60), share=(self.shared,))
        while ring.wants():
            small_gain(ring, ring.moment(), ring.rng.choice(people))


class SharedDevice(_Shared):
    """Many accounts on one phone; addresses and payments are rented."""

    name, shared = "shared_device", "device"


class SharedAddress(_Shared):
    """Many accounts that ship to one address, each with a phone of its own (or one that says so)."""

    name, shared = "shared_address", "address"


class SharedPayment(_Shared):
    """Many accounts that one card or wallet pays for."""

    name, shared = "shared_payment", "payment"


class AccountFarm(Pattern):
    """Young accounts, made by a script: each takes the same few steps that are rewarded at once, and never comes back."""

    name: ClassVar[str] = "account_farm"

    def plan(self, ring: Ring) -> None:
        """One path for all; the careful vary its gaps and give each account a network address of its own."""
        rng = ring.rng
        path = [rng.choice(("learning", "learning", "e_receipt", "refill")) for _ in range(rng.randint(2, 5))]
        gap = rng.uniform(20, 400)
        while ring.wants():
            one = ring.crew(1)[0]
            t = ring.moment()
            for activity in path:
                t += gap * rng.uniform(1 - 0.9 * ring.care, 1 + 3 * ring.care)
                ring.act(t, one, activity)


class BehaviourReferral(Pattern):
    """Somebody posts how to earn; hundreds of new accounts do exactly that, once: the same product, the same choice, the same return.

    Nothing links them but what they do. It is fraud by the program's rule that one offer is for one household, and organised for a share.
    """

    name: ClassVar[str] = "behaviour_referral"

    def plan(self, ring: Ring) -> None:
        """A wave that swells and ebbs, on one product and one second step."""
        rng = ring.rng
        product = ring.product(green=True, low=1_000, high=8_000)
        second = rng.choice(("learning", "refund", "e_receipt"))
        while ring.wants():
            t = ring.start + rng.gammavariate(2, ring.span / 6)
            one = ring.account(home=ring.world.places.region(rng))
            order = ring.order(t, one, [(product, 1)], choice="ship_in_own_container")
            t += rng.expovariate(1 / 1_800)
            if second == "refund":
                ring.do.refund(rng, t + rng.uniform(2, 10) * DAY, order)
            else:
                ring.act(t, one, second)


class SlowDrip(Pattern):
    """A few dozen accounts that one person keeps warm: each earns something small every day or two, for as long as it goes."""

    name: ClassVar[str] = "slow_drip"

    def plan(self, ring: Ring) -> None:
        """A round through all accounts, with one phone or one wallet for every few of them."""
        rng = ring.rng
        ring.span = max(ring.span, 20 * DAY)
        people = [one for _ in range(ring.size(3, 8)) for one in ring.crew(rng.randint(2, 5), share=(rng.choice(("device", "payment")),))]
        clocks = {one: ring.start + rng.uniform(0, 2) * DAY for one in people}
        every = rng.uniform(0.8, 2.5) * DAY
        while ring.wants():
            one = min(people, key=clocks.__getitem__)
            small_gain(ring, clocks[one], one)
            clocks[one] += every * rng.uniform(0.9, 1.1)


class Takeover(Pattern):
    """Old, quiet accounts in other hands: the thief's phone earns with them what their good name lets through."""

    name: ClassVar[str] = "takeover"

    def plan(self, ring: Ring) -> None:
        """Some hours of work on each account, one after the other, in a region where its owner never was."""
        rng = ring.rng
        people = ring.stolen(ring.size(2, 15))
        begun = [ring.moment() for _ in people]
        while ring.wants():
            n = rng.randrange(len(people))
            begun[n] += rng.expovariate(1 / (600 + 20_000 * ring.care))
            if rng.random() < 0.3:
                product = ring.product(green=True, low=5_000, high=30_000, platform=people[n].platform)
                ring.do.refund(rng, begun[n] + rng.uniform(3, 9) * DAY, ring.order(begun[n], people[n], [(product, 1)]))
            else:
                small_gain(ring, begun[n], people[n])


PATTERNS: Final = (Burst, SharedDevice, SharedAddress, SharedPayment, AccountFarm, BehaviourReferral, SlowDrip, Takeover)

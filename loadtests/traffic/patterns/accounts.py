"""Frauds by many accounts: what one person may have once, they want many times."""

from typing import ClassVar, Final

from loadtests.traffic.clock import DAY, HOUR
from loadtests.traffic.people import Consumer
from loadtests.traffic.rings import Pattern, Ring


def small_gain(ring: Ring, t: float, one: Consumer) -> None:
    """Something that is rewarded and costs next to nothing."""
    rng, number = ring.rng, one.platform.number()
    drawn = rng.random()
    if drawn < 0.3:
        one.learnt += 1
        ring.do.do(rng, t, one, "learning", place=ring.place(one), truth=ring.truth, module=f"green-{one.learnt:02}", version="1.0")
    elif drawn < 0.6:
        evidence = {"merchant": f"m-{rng.randrange(12)}", "receipt": f"R{number}"}
        ring.do.do(rng, t, one, "e_receipt", place=ring.place(one), truth=ring.truth, **evidence)
    elif drawn < 0.75:
        evidence = {"terminal": f"t-{one.station.code}-{rng.randrange(3)}", "receipt": f"F{number}"}
        ring.do.do(rng, t, one, "refill", place=ring.place(one), truth=ring.truth, **evidence)
    else:
        product = ring.product(green=True, high=6_000, platform=one.platform)
        ring.order(t, one, [(product, 1)], choice=rng.choice((None, "ship_in_own_container")), ships=rng.random() < 0.8)


class Burst(Pattern):
    """A few accounts do what is rewarded again and again within minutes or hours, before anybody looks."""

    name: ClassVar[str] = "burst"

    def plan(self, ring: Ring) -> None:
        """Each account works without a break, at a pace of its own."""
        rng = ring.rng
        people = ring.taken_over(ring.size(1, 4)) if rng.random() < 0.3 else ring.crew(ring.size(1, 6))
        clocks = [ring.moment() for _ in people]
        pace = rng.uniform(15, 120) * (1 + 10 * ring.care)
        while ring.wants():
            n = rng.randrange(len(people))
            clocks[n] += rng.expovariate(1 / pace)
            small_gain(ring, clocks[n], people[n])


class _Shared(Pattern):
    shared: ClassVar[str]

    def plan(self, ring: Ring) -> None:
        """Each account earns a little, at times of its own."""
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
            for n, activity in enumerate(path):
                t += gap * rng.uniform(1 - 0.9 * ring.care, 1 + 3 * ring.care)
                number = one.platform.number()
                evidence = {
                    "learning": {"module": f"green-{n + 1:02}", "version": "1.0"},
                    "e_receipt": {"merchant": "m-1", "receipt": f"R{number}"},
                }
                facts = evidence.get(activity, {"terminal": f"t-{one.station.code}-0", "receipt": f"F{number}"})
                ring.do.do(rng, t, one, activity, place=ring.place(one), truth=ring.truth, **facts)


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
            elif second == "learning":
                ring.do.do(rng, t, one, "learning", place=ring.place(one), truth=ring.truth, module="green-01", version="1.0")
            else:
                receipt = f"R{one.platform.number()}"
                ring.do.do(rng, t + HOUR, one, "e_receipt", place=ring.place(one), truth=ring.truth, merchant="m-1", receipt=receipt)


PATTERNS: Final = (Burst, SharedDevice, SharedAddress, SharedPayment, AccountFarm, BehaviourReferral)

"""The whole life of a point, in any order, held against a small pure model after every step; time passes when a rule says so.

Short by default; `make test-long` (HYPOTHESIS_PROFILE=long) goes on for long.
"""

import itertools
import os
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from typing import Any, ClassVar, TypeAlias, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from service.flows.redeem import Ask
from tests.ledger_driver import BOOKS, CAMPAIGNS, NAMES, REWARDS, Real, paid_with
from tests.ledger_model import Account, Adjustment, Model, Name, Policy, Redemption, Refused, visible
from tests.worlds import cancelled, refund

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
MACHINE = settings(
    deadline=None, derandomize=not LONG, print_blob=True, report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    max_examples=1_000 if LONG else 15, stateful_step_count=80 if LONG else 50,
)  # fmt: skip
CHECK_EVERY = 10
"""Examples after which the service checks itself; the tests' own books are added up after each."""

T = TypeVar("T")
Begun: TypeAlias = tuple[Ask, Callable[[], Any]]
"""A request, and what the model does for it."""

# The machine -----------------------------------------------------------------------------------------

WHO = st.sampled_from([*NAMES, *[("shop", "a")] * 4, *[("market", "a")] * 2])
"""Two of them mostly, so that their lives have many steps."""
POINTS = st.integers(1, 30)
RICH: list[tuple[Name, str, int]] = [
    (who, campaign, units) for who in NAMES[:4] for campaign, units in (("short", 10), ("now", 30), ("held", 8))
]
"""What everybody but one begins with."""
SELDOM = st.integers(0, 3).map(lambda n: n == 3)
CAMPAIGN = st.sampled_from(["now", "short", "held", "policy"])
SOME = st.sampled_from([None, None, 1, 3, 8, 20])
DAYS = st.sampled_from([1, 1, 1, 2, 3, 6])
POLICIES = st.builds(
    Policy, negative_balance=st.sampled_from([*["debt"] * 4, "cap_at_zero", "refuse"]), restored_for=st.sampled_from([0, 3, 14]),
    life=st.sampled_from([None, 10]),
)  # fmt: skip


class Machine(RuleBasedStateMachine):
    """Does the same to both; they must agree on each answer, and on every balance, lot and redemption after every step."""

    real: ClassVar[Real]
    examples: ClassVar[int] = 0

    @initialize(policy=POLICIES)
    def begin(self, policy: Policy) -> None:
        self.real.run(self.real.forget())
        self.model = Model(CAMPAIGNS, REWARDS)
        self.ids: dict[Account, int] = {}
        self.orders: list[tuple[Name, dict[str, Any]]] = []
        self.made: dict[str, Redemption] = {}
        """By id."""
        self.proposed: dict[str, Adjustment] = {}
        self.again: list[tuple[Name | None, Callable[[], Coroutine[Any, Any, Any]], Any]] = []
        """Requests that were carried out, with their first answers; and whose key it was, where it goes with them when they are erased."""
        self.facts = itertools.count(1)
        self._set_policy(policy)
        for who, campaign, units in RICH:
            self.credit_now(who, campaign, units)
        self.settle()

    # Earning

    @rule(who=WHO, units=POINTS, campaign=CAMPAIGN, waits=SELDOM)
    def credit(self, who: Name, units: int, campaign: str, waits: bool) -> None:  # noqa: FBT001 - drawn
        self.credit_now(who, campaign, units)
        if not waits:
            self.settle()

    def credit_now(self, who: Name, campaign: str, units: int) -> None:
        paid = paid_with(campaign, who[1], units)
        self.orders.append((who, paid))
        self._report(who[0], paid, self.model.credit(who, paid["order"]["id"], units, campaign))

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), name=st.sampled_from(["r", "s", "t"]), units=st.sampled_from([30, 10, 3]))
    def refund(self, data: st.DataObject, name: str, units: int) -> None:
        who, paid = data.draw(st.sampled_from(self.orders))
        fact = refund(paid, name, units) | {"id": f"{paid['id']}-{next(self.facts)}"}
        self._report(who[0], fact, -self.model.refund(who[0], paid["order"]["id"], name, units))

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def cancel_order(self, data: st.DataObject) -> None:
        who, paid = data.draw(st.sampled_from(self.orders))
        fact = cancelled(paid) | {"id": f"{paid['id']}-{next(self.facts)}"}
        self._report(who[0], fact, -self.model.cancel_order(who[0], paid["order"]["id"]))

    @rule()
    def settle(self) -> None:
        self.real.run(self.real.settle())
        self.model.settle()

    def _report(self, platform: str, fact: dict[str, Any], points: int) -> None:
        answer = self.real.run(self.real.send(platform, fact))
        assert answer["points"] == points
        self.again.append((None, lambda: self.real.send(platform, fact), answer))

    # Spending

    def _create(self, draw: Any, who: Name) -> Begun:
        reward = draw(st.sampled_from([None, None, None, "cup", "bag"]))
        cause = reward is None and draw(st.integers(0, 3)) == 0
        points = draw(st.sampled_from([5, 9, 20, 40, 2])) if reward is None else draw(st.sampled_from([None, None, 7]))
        at_once, ttl, by_consumer = draw(st.booleans()), draw(st.sampled_from([1, 3, 10])), draw(st.booleans())
        return self._creation(who, points, reward=reward, cause=cause, at_once=at_once, ttl=ttl, by_consumer=by_consumer)

    def _creation(
        self, who: Name, points: int | None, *, at_once: bool, reward: str | None = None, cause: bool = False, ttl: int = 3,
        by_consumer: bool = False,
    ) -> Begun:  # fmt: skip
        ask = self.real.ask(
            who[0], "create", consumer=who[1], points=points, reward=reward, cause="trees" if cause else None, capture=at_once, ttl=ttl,
            by_consumer=by_consumer,
        )  # fmt: skip
        return ask, lambda: self.model.redeem(
            who, points, ttl=ttl, at_once=at_once, reward=reward, cause=cause, by_consumer=by_consumer
        )  # fmt: skip

    def _step(self, draw: Any, id_: str) -> Begun:
        made, platform = self.made[id_], draw(st.sampled_from(["shop", "shop", "market"]))
        platform = draw(st.sampled_from([self.made[id_].platform] * 4 + [platform]))
        likely = {"reserved": ["capture", "capture", "cancel", "refund"], "captured": ["refund"] * 4 + ["cancel"]}
        step = draw(st.sampled_from(likely.get(made.status, ["capture", "cancel", "refund"])))
        points = draw(SOME) if step != "cancel" else None
        asker = (platform, draw(st.sampled_from("abcd"))) if step != "refund" and draw(st.integers(0, 3)) == 0 else None
        return self._stepping(id_, step, points, platform=platform, asker=asker)

    def _stepping(self, id_: str, step: Any, points: int | None = None, *, platform: str, asker: Name | None = None) -> Begun:
        made = self.made[id_]
        by = {} if asker is None else {"by_consumer": True, "consumer": asker[1]}
        ask = self.real.ask(platform, step, redemption=id_, points=points, **by)

        def do() -> Redemption:
            if step == "capture":
                self.model.capture(platform, made, points, asker=asker)
            elif step == "cancel":
                self.model.release(platform, made, asker=asker)
            else:
                self.model.give_back(platform, made, points)
            return made

        return ask, do

    @rule(data=st.data(), who=WHO)
    def redeem(self, data: st.DataObject, who: Name) -> None:
        self._carry_out([self._create(data.draw, who)])

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        self._carry_out([self._step(data.draw, data.draw(st.sampled_from(list(self.made))))])

    @precondition(lambda self: self.made)
    @rule(data=st.data(), who=WHO, kinds=st.lists(st.booleans(), min_size=2, max_size=4))
    def many(self, data: st.DataObject, who: Name, kinds: list[bool]) -> None:
        """In one transaction, each on what the ones before it left."""
        known = self.model.names.get(who)
        theirs = [id_ for id_, made in self.made.items() if known is not None and made.account.home is known.home]
        begun = [
            self._step(data.draw, data.draw(st.sampled_from(theirs))) if theirs and goes_on else self._create(data.draw, who)
            for goes_on in kinds
        ]
        self._carry_out(begun)

    def _carry_out(self, begun: list[Begun]) -> None:
        answers = self.real.run(self.real.redeem(*[ask for ask, _ in begun]))
        for (ask, do), answer in zip(begun, answers, strict=True):
            made = _tried(do)
            if not isinstance(made, Redemption):
                assert answer == made, ask
                continue
            assert not isinstance(answer, str), (ask, answer)
            self.made[answer["id"]] = made
            whose = (made.platform, ask.consumer or "") if ask.by_consumer else None
            self.again.append((whose, lambda ask=ask: self._redeem_again(ask), answer))  # type: ignore[misc]

    # Twice as often as the rest.
    redeem_more = rule(data=st.data(), who=WHO)(lambda self, data, who: self._carry_out([self._create(data.draw, who)]))
    go_on_more = precondition(lambda self: self.made)(
        rule(data=st.data())(lambda self, data: self._carry_out([self._step(data.draw, data.draw(st.sampled_from(list(self.made))))]))
    )

    async def _redeem_again(self, ask: Ask) -> Any:
        return (await self.real.redeem(ask))[0]

    # Time

    @rule(days=DAYS)
    def pass_time(self, days: int) -> None:
        self.real.run(self.real.pass_time(days))
        self.model.pass_time(days)

    @rule()
    def release_ended(self) -> None:
        self.real.run(self.real.release_ended())
        self.model.release_ended()

    @rule()
    def expire(self) -> None:
        self.real.run(self.real.expire())
        self.model.expire()

    @rule(policy=POLICIES, really=SELDOM)
    def new_policy(self, policy: Policy, really: bool) -> None:  # noqa: FBT001 - drawn
        if really:
            self._set_policy(policy)

    def _set_policy(self, policy: Policy) -> None:
        self.real.run(self.real.policy(policy))
        self.model.policy = policy

    # By hand

    @rule(
        who=WHO,
        points=st.sampled_from([-40, -25, -5, 4, 12, 20, 25]),
        life=st.sampled_from([None, None, 0, 6]),
        own=st.booleans(),
        may_owe=st.booleans(),
    )
    def adjust(self, who: Name, points: int, life: int | None, own: bool, may_owe: bool) -> None:  # noqa: FBT001 - drawn
        own, may_owe = own and points > 0, may_owe and points < 0
        body: dict[str, Any] = {"points": points}
        if own:
            body["expires_on"] = None if life is None else (self.real.today + timedelta(days=life)).isoformat()
        if may_owe:
            body["debt"] = "allow"
        key = self.real.key()
        answer = self.real.run(self.real.adjust(who, key, body))
        day = None if life is None else self.model.today + life
        made = _tried(lambda: self.model.adjust(who, points, own_day=own, day=day, may_owe=may_owe))
        if not isinstance(made, Adjustment):
            assert answer == made
            return
        assert answer.status == made.status
        self.proposed[answer.id] = made
        self.again.append((None, lambda: self._adjust_again(who, key, body), answer.id))

    async def _adjust_again(self, who: Name, key: str, body: dict[str, Any]) -> Any:
        return (await self.real.adjust(who, key, body)).id

    @precondition(lambda self: self.proposed)
    @rule(data=st.data(), approve=st.integers(0, 3).map(bool))
    def decide(self, data: st.DataObject, approve: bool) -> None:  # noqa: FBT001 - drawn
        number = data.draw(st.sampled_from(list(self.proposed)))
        made = self.proposed[number]
        was = made.status
        expected = _tried(lambda: (self.model.approve if approve else self.model.reject)(made))
        if was != "pending" and was == ("done" if approve else "rejected") and abs(made.points) > 20:
            expected = None  # the same decision by the same operator
        answer = self.real.run(self.real.decide(number, "approve" if approve else "reject"))
        assert expected == answer if isinstance(answer, str) else expected is None

    @rule(sender=WHO, to=st.sampled_from("abcd"), points=POINTS, by_platform=st.booleans())
    def transfer(self, sender: Name, to: str, points: int, by_platform: bool) -> None:  # noqa: FBT001 - drawn
        key, body = self.real.key(), {"to": to, "points": points}
        answer = self.real.run(self.real.transfer(sender, key, body, by_platform=by_platform))
        refused = _tried(lambda: self.model.transfer(sender, to, points, by_platform=by_platform))
        if isinstance(answer, str):
            assert answer == refused
            return
        assert refused is None
        self.again.append((sender, lambda: self.real.transfer(sender, key, body, by_platform=by_platform), answer))

    # Persons

    @rule(theirs=WHO, mine=WHO)
    def link(self, theirs: Name, mine: Name) -> None:
        assert self.real.run(self.real.link(theirs, mine)) == _tried(lambda: self.model.link(theirs, mine))

    @rule(who=WHO)
    def split(self, who: Name) -> None:
        assert self.real.run(self.real.split(who)) == _tried(lambda: self.model.split(who))

    @rule(who=WHO, really=SELDOM)
    def erase(self, who: Name, really: bool) -> None:  # noqa: FBT001 - drawn
        if really:
            assert self.real.run(self.real.erase(who)) == _tried(lambda: self.model.erase(who))
            self.again = [request for request in self.again if request[0] != who]

    @precondition(lambda self: self.again)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """It gets the first answer again, and nothing changes."""
        _, request, answer = data.draw(st.sampled_from(self.again))
        assert self.real.run(request()) == answer

    # What must hold

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "model"):
            return
        real, model = self.real.run(self.real.state(self.model.today)), self.model
        self.ids |= {model.names[code, reference]: id_ for code, reference, id_ in real["names"]}
        assert {(code, reference) for code, reference, _ in real["names"]} == model.names.keys()
        lots: dict[int, list[Any]] = {}
        for account, *lot in real["lots"]:
            lots.setdefault(account, []).append(tuple(lot))
        found = {
            id_: {"balance": tuple(balance), "home": home, "lots": lots.get(id_, [])} for id_, *balance, home in real["accounts"]
        }  # fmt: skip
        expected = {
            self.ids[account]: seen | {"home": None if seen["home"] is None else self.ids[seen["home"]]}
            for account, seen in visible(model).items()
        }
        assert found == expected
        assert {r["id"]: tuple(r)[1:] for r in real["redemptions"]} == {
            id_: (made.status, made.points, made.captured, made.refunded) for id_, made in self.made.items()
        }
        assert real["causes"][0]["points"] == model.books["cause"]
        sums = {BOOKS[book][0]: amount * BOOKS[book][1] for book, amount in real["books"]}
        assert {name: n for name, n in sums.items() if n} == {name: n for name, n in model.books.items() if n}

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        assert self.real.run(self.real.faults()) == {}
        Machine.examples += 1
        if Machine.examples % CHECK_EVERY == 0:
            self.settle()  # nothing may be overdue
            self.release_ended()
            self.expire()
            self.agree()
            assert self.real.run(self.real.checked()) == []


def _tried(do: Callable[[], T]) -> T | str:
    """What the model says: its answer, or the code of the problem."""
    try:
        return do()
    except Refused as refused:
        return refused.code


@pytest.fixture
def real(database: str, redis_url: str) -> Iterator[Real]:
    made = Real(database, redis_url)
    made.open()
    yield made
    made.close()


@pytest.mark.timeout(0 if LONG else 120)
def test_points_live_as_the_model_says(anyio_backend: Any, real: Real) -> None:
    Machine.real = real
    run_state_machine_as_test(Machine, settings=MACHINE)


# Lives -----------------------------------------------------------------------------------------------

ADA: Name = NAMES[0]
SHOP = ADA[0]


class Life(Machine):
    """Steps that chance seldom takes one after the other."""

    def earn_and_spend(self, *, at_once: bool) -> str:
        """Everything is spent of one order; the redemption's id."""
        self.cancel_all()
        self.credit(ADA, 9, "now", waits=False)
        return self.spend(9, at_once=at_once)

    def cancel_all(self) -> None:
        for who, paid in self.orders:
            self._report(
                who[0], cancelled(paid) | {"id": f"{paid['id']}-{next(self.facts)}"}, -self.model.cancel_order(who[0], paid["order"]["id"])
            )
        self.settle()
        self.agree()

    def spend(self, points: int, *, at_once: bool) -> str:
        known = set(self.made)
        self._carry_out([self._creation(ADA, points, at_once=at_once)])
        self.agree()
        (made,) = self.made.keys() - known
        return made

    def go(self, redemption: str, step: str, points: int | None = None) -> None:
        self._carry_out([self._stepping(redemption, step, points, platform=SHOP)])
        self.agree()

    def debt(self) -> int:
        return self.model.names[ADA].home.debt


def cancelled_reservation(life: Life) -> list[int]:
    made = life.earn_and_spend(at_once=False)
    life.cancel_all()
    owed = life.debt()
    life.go(made, "cancel")
    return [owed, life.debt()]


def ended_reservation(life: Life) -> list[int]:
    life.earn_and_spend(at_once=False)
    life.cancel_all()
    owed = life.debt()
    life.pass_time(4)
    life.release_ended()
    life.agree()
    return [owed, life.debt()]


def refunded_redemption(life: Life) -> list[int]:
    made = life.earn_and_spend(at_once=True)
    life.cancel_all()
    owed = life.debt()
    life.go(made, "refund", 4)
    return [owed, life.debt()]


def captured_in_part(life: Life) -> list[int]:
    made = life.earn_and_spend(at_once=False)
    life.cancel_all()
    owed = life.debt()
    life.go(made, "capture", 2)
    return [owed, life.debt()]


def refunded_in_parts(life: Life) -> list[int]:
    made = life.earn_and_spend(at_once=True)
    for points in (3, 3, 4, 3, 1):  # the third is one more than is left, the last one more than there was
        life.go(made, "refund", points)
    return [life.made[made].refunded]


@pytest.mark.parametrize(
    ("live", "told"),
    [
        (cancelled_reservation, [9, 0]),
        (ended_reservation, [9, 0]),
        (refunded_redemption, [9, 5]),
        (captured_in_part, [9, 2]),
        (refunded_in_parts, [9]),
    ],
)
def test_a_life_that_chance_seldom_leads(anyio_backend: Any, real: Real, live: Callable[[Life], list[int]], told: list[int]) -> None:
    Machine.real = real
    life = Life()
    life.begin(Policy(negative_balance="debt", restored_for=3, life=None))
    assert live(life) == told
    life.teardown()

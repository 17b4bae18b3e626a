"""Features of orders and returns: what adds up over events of several accounts."""

from service.domain.fraud.account import Account
from service.domain.fraud.features import Features, features_of
from service.domain.fraud.norms import ENOUGH, MemoryNorms
from service.domain.fraud.observation import Observation, OrderLine, Returned
from service.domain.fraud.rings import Ring
from service.domain.fraud.touches import by_slot, keys_of
from service.domain.fraud.trade import LEAST_ACTS
from service.domain.fraud.windows import DAY, HOUR, MemoryWindows
from tests.fraud.making import T0, observation


class World:
    """Windows and norms, and the features of the last event that came."""

    def __init__(self) -> None:
        self.windows, self.norms = MemoryWindows(), MemoryNorms()

    def see(self, *observations: Observation) -> Features:
        for o in observations:
            touches = keys_of(o, young_s=DAY)
            counts = by_slot(touches, self.windows.add(touches))
            if o.points:
                f = features_of(o, counts, Ring(o.account_id), self.norms)
        return f


def order(account: int = 1, *, points: int = 100, money: float = 100, category: str = "soap", at: int = T0, **more: object) -> Observation:
    line = OrderLine(sku="G", price=money, category=category, merchant="m", certificate="C")
    given = {"type": "order.paid", "activity": "", "kind": "pure", "shape": "o", "thing": "m/G", "merchant": "m", "most": 500,
             "lines": (line,), "money": money, "certified": money, "full": points >= 450}  # fmt: skip
    return observation(account=account, points=points, at=at, **given | more)


def back(account: int = 1, *items: Returned, at: int = T0, **more: object) -> Observation:
    given = {"type": "packaging.returned", "activity": "", "kind": "return", "shape": "r", "returns": items}
    return observation(account=account, at=at, **given | more)


def test_one_product_by_several_accounts_of_one_wallet_adds_up() -> None:
    wallet = {"payment": "w"}
    f = World().see(*(order(account, points=400, money=400, entities=wallet) for account in (1, 2, 1)))
    assert (f.same_events, f.same_caps) == (3, 2.4)
    assert World().see(order(1, points=400), order(2, points=400)).same_events == 1


def test_orders_are_measured_by_what_goods_usually_earn() -> None:
    world = World()
    for _ in range(ENOUGH):
        world.norms.learn(world.see(order()).measures, young=False)
    assert abs(world.see(order(points=500, money=510)).order_doublings) < 0.3
    dear = world.see(order(points=500, money=2_000))
    assert (dear.order_doublings < -1.5, dear.gain_doublings < -1.5) == (True, True)
    farmed = world.see(order(points=30, money=4, certified=0, kind="choice"))
    assert farmed.gain_doublings > 2


def test_categories_of_one_certificate_are_counted_whoever_buys() -> None:
    assert World().see(*(order(i, category=category) for i, category in enumerate(("soap", "paper", "soap")))).certificate_categories == 2


def test_a_kind_of_act_is_compared_with_what_others_of_the_platform_do() -> None:
    world = World()
    world.see(*(order(i % 50) for i in range(LEAST_ACTS)))
    learner = Account(opened_at=T0, acts=(0, 0, 0, 0, 0, 7))
    once = world.see(observation(account=99, kind="activity"))
    always = world.see(observation(account=99, kind="activity", account_before=learner))
    assert once.act_nats < always.act_nats
    assert (always.act_count, always.acts) == (8, 8)


def test_a_refund_says_how_many_orders_were_taken_back() -> None:
    world = World()
    world.see(*(order(i) for i in range(20)))
    buyer = Account(opened_at=T0, acts=(0, 0, 5, 0, 0, 0), reversals=4)
    refund = observation(points=-100, type="order.refunded", activity="", shape="refund", account_before=buyer)
    f = world.see(refund)
    assert (f.reversals, f.orders) == (5, 5)
    assert f.reversal_nats > 8
    assert f.measures == {}


def test_a_best_seller_is_bought_by_old_customers_too_and_an_offer_that_was_posted_is_not() -> None:
    old = Account(opened_at=T0 - 90 * DAY, acts=(5, 5, 0, 0, 0, 0))

    def sold(new: int, others: int) -> Features:
        return World().see(*(order(i, account_before=old) for i in range(others)), *(order(1_000 + i) for i in range(new)))

    assert sold(80, 0).debut_nats > 12
    assert sold(80, 240).debut_nats < 1
    assert sold(80, 240).debut_accounts == 64


def test_a_box_that_always_comes_back_from_the_same_hands_goes_round() -> None:
    box = Returned(asset="b", class_="circular_box")
    assert World().see(*(back(1, box, at=T0 + i) for i in range(4))).box_trips == 4
    assert World().see(*(back(i, box, at=T0 + i) for i in range(4))).box_trips == 1


def test_a_parcel_that_was_sent_to_somebody_else_is_foreign() -> None:
    sent = observation(account=1, points=0, type="order.fulfilled", activity="", shape="f", waybills=("w",))
    assert World().see(sent, back(1, Returned(waybill="w"), waybills=("w",))).foreign_parcels == 0
    assert World().see(sent, back(2, Returned(waybill="w"), waybills=("w",))).foreign_parcels == 1


def test_an_attendant_who_is_always_the_same_is_surprising_where_there_are_others() -> None:
    def visits(*others: str) -> float:
        item = Returned(station="s", class_="bag")
        everybody = [back(i, item, attendant=others[i % len(others)]) for i in range(10, 30)]
        return World().see(*everybody, *(back(1, item, attendant="a") for _ in range(6))).attendant_nats

    assert visits("a", "b", "c") > 5
    assert visits("a") < 1


def test_hours_at_which_nobody_else_comes_are_odd_however_often_one_does() -> None:
    item = Returned(station="s", class_="bag")
    days = [back(i, item, at=T0 + i * DAY // 4 % DAY + (9 + i % 8) * HOUR) for i in range(40)]
    by_day = [o for o in days if 9 <= (o.at - T0) // HOUR % 24 < 18]
    night = [back(99, item, at=T0 + DAY + 2 * HOUR) for _ in range(10)]
    world = World()
    usual = world.see(*by_day).hour_share
    assert world.see(*night).hour_share < usual / 4


def test_mass_is_compared_within_its_class() -> None:
    world = World()
    for _ in range(ENOUGH):
        world.norms.learn(world.see(back(1, Returned(class_="bag", quantity=2, mass_g=40))).measures, young=False)
    assert world.see(back(2, Returned(class_="bag", quantity=3, mass_g=60))).mass_spreads < 0.5
    assert world.see(back(2, Returned(class_="bag", quantity=3, mass_g=6))).mass_spreads > 4

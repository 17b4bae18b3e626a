"""Each signal fires on what it is for, and not on the honest case that looks most like it."""

from typing import Any

import pytest

from service.domain.fraud.features import Features
from service.domain.fraud.norms import surprise
from service.domain.fraud.signals import NAMES, SIGNALS

LOOK = {signal.name: signal.look for signal in SIGNALS}

# signal, what it is for, its hard negative
EXAMPLES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("burst", {"hour_spreads": 3.2}, {"hour_spreads": 1.4}),  # a busy evening
    ("busy_day", {"day_spreads": 3.2}, {"day_spreads": 1.4}),  # a campaign day
    ("sleepless", {"day_hours": 20}, {"day_hours": 5}),  # a long Saturday
    ("clockwork", {"steady": 5}, {"steady": 1}),  # two gaps alike by chance
    ("same_path", {"path_accounts": 12, "path_spreads": 4}, {"path_accounts": 2, "path_spreads": 4, "path_nats": 20}),  # a couple that signs up
    ("same_behaviour", {"behaviour_accounts": 20, "behaviour_nats": 15}, {"behaviour_accounts": 64, "behaviour_nats": 0.5}),  # a best-seller
    ("rushed", {"rushed_spreads": 3}, {"rushed_spreads": 1}),  # a keen beginner
    ("even", {"even": 6}, {"even": 2}),  # three gaps alike by chance
    ("same_debut", {"debut_accounts": 12, "debut_nats": 12}, {"debut_accounts": 60, "debut_nats": 1}),  # a best-seller
    ("young_path", {"path_accounts": 8, "path_nats": 12}, {"path_accounts": 2, "path_nats": 12}),  # a couple that signs up
    ("again", {"same_events": 6}, {"same_events": 2}),  # coffee twice a week
    ("awake", {"awake_nats": 9}, {"awake_nats": 1}),  # a holiday
    ("crowded_device", {"device_accounts": 20, "device_spreads": 4}, {"device_accounts": 2, "device_spreads": 1}),  # a couple
    ("crowded_payment", {"payment_accounts": 20, "payment_spreads": 4}, {"payment_accounts": 2, "payment_spreads": 4}),  # a couple, where that is rare
    ("crowded_address", {"address_accounts": 40, "address_spreads": 4}, {"address_accounts": 40, "address_spreads": 1}),  # where dormitories are common
    ("young_company", {"shared_nats": 8, "shared_spreads": 2}, {"shared_nats": 9, "shared_spreads": 0.8}),  # a family that signs up
    ("young_ring", {"ring_size": 12, "ring_nats": 9}, {"ring_size": 12, "ring_nats": 1}),  # an old clan
    ("month_gain", {"month_gain_spreads": 3}, {"month_gain_spreads": 1}),  # a customer of a green shop
    ("shared_free", {"shared_free_nats": 8}, {"shared_free_nats": 2}),  # a family that likes to learn
    ("shared_gain", {"shared_gain_spreads": 3}, {"shared_gain_spreads": 1}),
    ("gain", {"gain_doublings": 3}, {"gain_doublings": 0.2}),  # all of the order is certified
    ("only_returns", {"act": "return", "act_nats": 9}, {"act": "return", "act_nats": 2}),  # a volunteer who shops, too
    ("only_activities", {"act": "activity", "act_nats": 9}, {"act": "activity", "act_nats": 2}),
    ("only_choices", {"act": "choice", "act_nats": 9}, {"act": "choice", "act_nats": 2}),
    ("only_certified", {"act": "pure", "act_nats": 12}, {"act": "pure", "act_nats": 7}),  # who buys only what is certified
    ("hugging", {"full": 3, "all_orders": 4, "full_doublings": 0, "order_doublings": 0, "pieces": 8},
     {"full": 2, "all_orders": 30, "full_doublings": 0, "order_doublings": 0, "pieces": 8}),  # an office that buys many pieces
    ("split", {"same_events": 4, "same_caps": 3, "gain_doublings": 0}, {"same_events": 4, "same_caps": 3, "gain_doublings": -1.5}),  # dear things
    ("refunds", {"reversals": 6, "reversal_nats": 9}, {"reversals": 1, "reversal_nats": 1}),  # one pair of shoes
    ("choice_again", {"act": "choice", "same_events": 6}, {"act": "pure", "same_events": 6}),  # coffee, week by week
    ("own_buyers", {"merchant_accounts": 5, "merchant_nats": 9, "merchant_spreads": -1.5},
     {"merchant_accounts": 5, "merchant_nats": 9, "merchant_spreads": -0.2}),  # where all shops are small
    ("broken_choice", {"broken": 5, "chosen": 6}, {"broken": 1, "chosen": 1}),  # no box was left
    ("small_shop", {"merchant_accounts": 4, "merchant_spreads": -1.5}, {"merchant_accounts": 40, "merchant_spreads": -0.2}),  # where all shops are small
    ("certificate_mix", {"certificate_categories_spreads": 3}, {"certificate_categories_spreads": 0.5}),  # a range of colours
    ("odd_price", {"price_spreads": 3}, {"price_spreads": 1.2}),
    ("reused", {"reused": 2}, {"reused": 1}),  # used once
    ("foreign_parcels", {"foreign_parcels": 4}, {"foreign_parcels": 1}),  # a neighbour's parcel
    ("stem", {"stem_events": 12, "stem_accounts": 3}, {"stem_events": 12, "stem_accounts": 12}),  # a batch that is worn out
    ("box_loop", {"box_trips": 4}, {"box_trips": 1}),
    ("one_attendant", {"attendant_events": 8, "attendant_nats": 8}, {"attendant_events": 8, "attendant_nats": 0.5}),  # there is only one
    ("impossible_asset", {"assets": 2, "impossible_assets": 2}, {"assets": 8, "impossible_assets": 0}),  # a volunteer's many boxes
    ("quick_trip", {"trip_s": 600}, {"trip_s": 86_400}),
    ("sequential", {"code_run": 4}, {"code_run": 1}),
    ("surplus", {"surplus_spreads": 3}, {"surplus_spreads": 1}),  # a generous neighbour
    ("surplus_units", {"surplus": 30}, {"surplus": 3}),  # a neighbour's two boxes
    ("odd_mass", {"mass_spreads": 3}, {"mass_spreads": 1}),  # a wet carton
    ("two_regions", {"region_s": 300}, {"region_s": 300, "ip_accounts": 30}),  # a VPN
    ("two_stations", {"station_s": 120}, {"station_s": 2 * 3_600}),  # a tour with the car
    ("other_hands", {"moved_s": 3_600, "moved_nats": 9, "other_device": True}, {"moved_s": 3_600, "moved_nats": 1, "other_device": True}),  # moved house with a new phone
    ("new_hands", {"moved_s": 3_600, "other_device": True}, {"moved_s": 3_600}),  # a journey
    ("elsewhere", {"moved_s": 3_600, "awake_nats": 9}, {"moved_s": 3_600, "awake_nats": 9, "other_device": True}),
    ("hops", {"hops": 4}, {"hops": 4, "ip_accounts": 30}),  # a VPN
    ("odd_hour", {"hour_share": 0.005}, {"hour_share": 0.05}),  # the last customer of the day
    ("young", {"age_days": 1}, {"age_days": 8}),  # a week old
    ("flagged", {"account_odds": 2}, {"account_odds": 0.3}),  # a busy account with one odd day
    ("flagged_kind", {"kind_odds": 2}, {"kind_odds": 0.3}),
    ("suspect_company", {"company_odds": 2}, {"company_odds": 0.1}),  # a carrier's NAT
    ("suspect_ring", {"ring_odds": 2}, {"ring_odds": 0.3}),
    ("convicted", {"convicted_share": 0.4}, {"convicted_share": 0.04}),  # one of a large ring
]  # fmt: skip


@pytest.mark.parametrize(("name", "fraud", "honest"), EXAMPLES, ids=[name for name, _, _ in EXAMPLES])
def test_fires_on_its_fraud_and_not_on_its_hard_negative(name: str, fraud: dict[str, Any], honest: dict[str, Any]) -> None:
    assert LOOK[name](Features(**fraud)) >= 0.5
    assert LOOK[name](Features(**honest)) <= 0.25
    assert LOOK[name](Features(**honest)) < LOOK[name](Features(**fraud))


def test_every_signal_has_an_example() -> None:
    assert {name for name, _, _ in EXAMPLES} == set(NAMES)
    assert len(NAMES) == len(set(NAMES))


def test_nothing_fires_on_nothing() -> None:
    assert [name for name, look in LOOK.items() if look(Features()) > 0] == []


def test_strengths_are_quarters_or_eighths() -> None:
    for name, fraud, honest in EXAMPLES:
        for given in (fraud, honest):
            assert LOOK[name](Features(**given)) in {0.0, 0.25, 0.5, 0.75, 1.0}


def test_surprise_is_the_log_likelihood_ratio_against_chance() -> None:
    assert surprise(10, 10, 0.5) == pytest.approx(6.931, abs=1e-3)  # 2^-10
    assert surprise(5, 10, 0.5) == surprise(0, 0, 0.5) == 0
    assert surprise(8, 10, 0.5) < surprise(80, 100, 0.5)

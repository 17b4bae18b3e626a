"""The demo campaigns run, and award the demo catalogue only."""

import asyncpg
import pytest

from service.domain.conditions import compile_condition
from service.domain.errors import InvalidState
from service.domain.gtin import normalise_gtin
from service.domain.packaging import CLASS_CODES
from service.flows import administer, campaigns, causes, reward_catalogue
from service.flows.demo import CAMPAIGNS, CAUSE, CERTIFICATES, PLATFORMS, PRODUCTS, PROGRAM, REWARD, VOUCHERS, seed_demo
from tests.sealer import SEALER


async def test_the_demo_is_made_whole_and_once(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    credentials = await seed_demo(connection, sealer=SEALER)
    assert [platform.code for platform in credentials] == list(PLATFORMS)
    assert all(set(platform.hooks) == {"standard", "shopify", "woocommerce"} for platform in credentials)
    program = await administer.choose_program(connection, None)
    running = await campaigns.page(connection, program=program.id, after="", status="running", limit=10)
    assert {campaign.action for campaign in running} == {"purchase", "packaging", "return", "activity"}
    counts = "SELECT (SELECT count(*) FROM product), (SELECT count(*) FROM product_sku), (SELECT count(*) FROM certificate_gtin)"
    assert tuple(await connection.fetchrow(counts)) == (len(PRODUCTS), 2 * len(PRODUCTS), len(CERTIFICATES))
    reward = await reward_catalogue.read_reward(connection, REWARD.code, program=program.id)
    assert (reward.active, reward.in_stock, reward.codes_left) == (True, True, len(VOUCHERS))
    assert await causes.cause_of(connection, program=program.id, code=CAUSE.code)
    before = await connection.fetchval("SELECT count(*) FROM audit")
    with pytest.raises(InvalidState):
        await seed_demo(connection, sealer=SEALER)
    assert await connection.fetchval("SELECT count(*) FROM audit") == before
    assert (await administer.choose_program(connection, PROGRAM)).time_zone == "Asia/Shanghai"


def test_the_demo_s_gtins_are_gs1_s_own_for_demonstrations() -> None:
    for product in PRODUCTS:
        assert normalise_gtin(product.gtin) == product.gtin
        assert product.gtin.startswith("0952")


def holds(code: str, **values: object) -> bool:
    campaign = next(campaign for campaign in CAMPAIGNS if campaign.code == code)
    assert campaign.when is not None
    return compile_condition(campaign.action, campaign.when).evaluate({k.replace("__", "."): v for k, v in values.items()})


def test_demo_campaigns_meet_only_what_is_named_demo() -> None:
    for category, meets in (("demo-paper", True), ("demo-soap", True), ("paper", False), ("", False)):
        assert holds("demo-certified-goods", line__certified=True, line__category=category) is meets
    assert not holds("demo-certified-goods", line__certified=False, line__category="demo-paper")
    for order, meets in (("demo-1001", True), ("1001", False), ("o-demo-1", False)):
        assert holds("demo-less-packaging", packaging__class="ship_in_own_container", order__id=order) is meets
    assert not holds("demo-less-packaging", packaging__class="foam_box", order__id="demo-1001")
    for station, meets in (("demo-station-1", True), ("", False), ("st-1", False)):
        assert holds("demo-box-return", item__class="circular_box", item__station=station) is meets
        assert holds("demo-refill", activity__name="refill", activity__evidence={"station": station}) is meets
    for evidence in ({}, {"station": 7}, {"station": None}, {"serial": "demo-1"}):
        assert not holds("demo-refill", activity__name="refill", activity__evidence=evidence)


def test_the_demo_s_packaging_classes_are_of_the_reference_list() -> None:
    named = {word for campaign in CAMPAIGNS if campaign.when for word in campaign.when.split("'") if word in CLASS_CODES}
    assert named == {"ship_in_own_container", "no_secondary_packaging", "circular_box"}

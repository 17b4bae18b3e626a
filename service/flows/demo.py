"""The demo: what `greenpoints up` puts into an empty deployment, so that a newcomer's first call earns points.

One alliance of two shops, three products, two certificates, a running campaign for each action family, and something to spend points on:
a reward with voucher codes and a public-welfare cause. Everything that earns is named `demo-…`: categories that only the demo's products
have, and orders, stations and evidence whose names begin so. Real products, orders and returns never meet a demo campaign. The GTINs are
from GS1's range for demonstrations (prefix 952).
"""

from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

from schemas.assets import AssetBody
from schemas.callers import PlatformCredentials
from schemas.campaigns import Budget, CampaignBody, Caps, Fixed, PerAmount, PerUnit
from schemas.causes import CauseBody
from schemas.registries import CertificateBody, ProductBody, Sku
from schemas.rewards import RewardBody
from service.flows import administer, assets, campaigns, causes, registries, reward_catalogue, vouchers
from service.flows.administer import BY_COMMAND
from service.sealing import Sealer
from service.store.connection import Connection

PROGRAM: Final = "green-points"
TIME_ZONE: Final = "Asia/Shanghai"
PLATFORMS: Final = {"demo-shop": "Demo shop", "demo-market": "Demo market"}

TISSUE, SOAP, CUP = "09521234500018", "09521234500025", "09521234500032"


def _product(gtin: str, sku: str, name: str, category: str) -> ProductBody:
    return ProductBody(gtin=gtin, name=name, category=category, skus=[Sku(platform=platform, sku=sku) for platform in PLATFORMS])


PRODUCTS: Final = [
    _product(TISSUE, "DEMO-TISSUE", "Recycled tissue, 10 rolls", "demo-paper"),
    _product(SOAP, "DEMO-SOAP", "Olive oil soap", "demo-soap"),
    _product(CUP, "DEMO-CUP", "Enamel cup, not certified", "demo-household"),
]

_FIRST_DAY, _LAST_DAY = date(2025, 1, 1), date(2034, 12, 31)

CERTIFICATES: Final = [
    CertificateBody(
        scheme="eu-ecolabel",
        number="IT/004/95212",
        holder="Demo Paper Mill",
        valid_from=_FIRST_DAY,
        valid_until=_LAST_DAY,
        gtins=[TISSUE],
    ),
    CertificateBody(
        scheme="nordic-swan",
        number="3090 9521",
        holder="Demo Soap Works",
        valid_from=_FIRST_DAY,
        valid_until=_LAST_DAY,
        gtins=[SOAP],
    ),
]

_STARTS_AT = datetime(2025, 1, 1, tzinfo=ZoneInfo(TIME_ZONE))
_ENDS_AT = datetime(2035, 1, 1, tzinfo=ZoneInfo(TIME_ZONE))
_HOLD = "PT5S"
"""Long enough to be seen as pending, short enough to be waited for."""

BOXES: Final = ("demo-box-1", "demo-box-2", "demo-box-3")
"""Circular boxes that go round between the demo's warehouse and its consumers."""

CAMPAIGNS: Final = [
    CampaignBody(
        code="demo-certified-goods",
        name="A point for every yuan spent on certified goods",
        action="purchase",
        starts_at=_STARTS_AT,
        ends_at=_ENDS_AT,
        when="line.certified && line.category in ['demo-paper', 'demo-soap', 'demo-household']",
        award=PerAmount(points=1, per="1.00", currency="CNY", rounding="floor"),
        caps=Caps(order=500, consumer_day=1_000, consumer_year=20_000),
        budget=Budget(points=10_000_000),
        hold=_HOLD,
        expires_after="P12M",
    ),
    CampaignBody(
        code="demo-less-packaging",
        name="20 points for an order without a single-use outer box",
        action="packaging",
        starts_at=_STARTS_AT,
        ends_at=_ENDS_AT,
        when="packaging.class in ['ship_in_own_container', 'no_secondary_packaging', 'circular_box'] && order.id.startsWith('demo-')",
        award=Fixed(points=20),
        caps=Caps(consumer_day=100),
        budget=Budget(points=10_000_000),
        hold=_HOLD,
        expires_after="P12M",
    ),
    CampaignBody(
        code="demo-box-return",
        name="50 points for every circular box that comes back",
        action="return",
        starts_at=_STARTS_AT,
        ends_at=_ENDS_AT,
        when="item.class == 'circular_box' && item.station.startsWith('demo-')",
        award=PerUnit(points=50),
        caps=Caps(consumer_day=500),
        budget=Budget(points=10_000_000),
        hold=_HOLD,
        expires_after="P12M",
    ),
    CampaignBody(
        code="demo-refill",
        name="10 points for a refill",
        action="activity",
        starts_at=_STARTS_AT,
        ends_at=_ENDS_AT,
        when="activity.name == 'refill' && activity.evidence.station.startsWith('demo-')",
        award=Fixed(points=10),
        caps=Caps(consumer_day=30),
        budget=Budget(points=10_000_000),
        hold=_HOLD,
        expires_after="P12M",
    ),
]

REWARD: Final = RewardBody(code="demo-tote-bag", name="A tote bag, to be had at the counter for its code", points=50, vouchers=True)
VOUCHERS: Final = [f"DEMO-BAG-{n:02d}" for n in range(1, 21)]
CAUSE: Final = CauseBody(code="demo-trees", name="Trees for the city", description="Points that are given plant trees along the ring road.")


async def seed_demo(conn: Connection, *, sealer: Sealer) -> list[PlatformCredentials]:
    """Create the demo, all of it or nothing; the credentials of its platforms are shown this once.

    Raises InvalidState when the program or one of the platforms is there already.
    """
    async with conn.transaction():
        program = await administer.create_program(conn, code=PROGRAM, name="Green Points", currency="green points", time_zone=TIME_ZONE)
        credentials = [
            await administer.create_platform(conn, sealer=sealer, program=program.id, code=code, name=name)
            for code, name in PLATFORMS.items()
        ]
        for product in PRODUCTS:
            await registries.register_product(conn, product, program=program.id, change=BY_COMMAND)
        for certificate in CERTIFICATES:
            await registries.register_certificate(conn, certificate, program=program.id, change=BY_COMMAND)
        for box in BOXES:
            await assets.register_asset(conn, AssetBody(asset=box, class_="circular_box"), program=program.id, change=BY_COMMAND)
        for campaign in CAMPAIGNS:
            await campaigns.create(conn, campaign, program=program.id, change=BY_COMMAND)
            await campaigns.step(conn, campaign.code, "activate", program=program.id, change=BY_COMMAND)
        await reward_catalogue.create_reward(conn, REWARD, sealer=sealer, program=program.id)
        await vouchers.load(conn, VOUCHERS, sealer=sealer, program=program.id, code=REWARD.code)
        await causes.create_cause(conn, CAUSE, program=program.id)
    return credentials

"""What one campaign would award, before it runs: for whoever writes its condition."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from schemas.campaigns import CampaignBody, Multiplier, Simulation, SimulationResult
from schemas.events import ActivityCompleted, OrderFulfilled, OrderPaid, PackagingReturned
from service.domain.campaigns import compile_campaign
from service.domain.catalogue import Catalogue, Program
from service.domain.claims import Claims
from service.domain.errors import InvalidRequest, NotFound
from service.domain.granting import Granter, Scope
from service.domain.intake import Sender
from service.domain.packaging import needs_asset
from service.domain.posting import Fact
from service.domain.things import activity_thing, item_thing, packaging_thing
from service.domain.usage import Usage
from service.flows.knowledge import Knowledge
from service.flows.vocabulary import vocabulary_of
from service.store import campaigns, registries
from service.store import statistics as platforms
from service.store.connection import Connection

_NOBODY: Final = 0


async def sender_for(conn: Connection, code: str, *, program: int, platform: str | None) -> Sender:
    """On whose behalf events are tried out: the platform named, else the first that the campaign runs on.

    Raises NotFound (no such campaign), InvalidRequest (no such platform).
    """
    row = await campaigns.get(conn, program=program, code=code)
    if row is None:
        raise NotFound("There is no such campaign.")
    own = msgspec.json.decode(row.body, type=CampaignBody).platforms
    known = await platforms.platform_codes(conn, program)
    for number in sorted(known):
        if known[number] == platform or (platform is None and (own is None or known[number] in own)):
            return Sender(program=program, platform=number, platform_code=known[number], own=await vocabulary_of(conn, program))
    raise InvalidRequest.at("/platform", "is not a platform of this program")


async def simulate(conn: Connection, code: str, facts: Sequence[Fact], *, sender: Sender, now: datetime) -> Simulation:
    """Judge each event by itself, as if the campaign ran in its newest version and nothing of its caps and budget were used.

    A multiplier is tried out together with the campaigns that it multiplies. Writes nothing. Raises NotFound.
    """
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        row = await campaigns.get(conn, program=sender.program, code=code)
        if row is None:
            raise NotFound("There is no such campaign.")
        rule = msgspec.json.decode(row.body, type=CampaignBody).award
        others = (
            [await campaigns.get(conn, program=sender.program, code=other) for other in rule.of] if isinstance(rule, Multiplier) else []
        )
        _, time_zone = await registries.clock(conn, sender.program)
        products = await Knowledge(stripe=0).refresh_products(conn, 1, facts)
    program = Program(
        id=sender.program, code="", zone=ZoneInfo(time_zone), activity_kinds=sender.own.kinds, packaging_classes=sender.own.classes
    )
    versions = [compile_campaign(c.id, "running", c.version, None, c.body) for c in (row, *others) if c is not None]
    catalogue = Catalogue(0, [program], [(sender.program, version) for version in versions])
    results = []
    for fact in facts:
        scope = Scope(catalogue=catalogue, products=products, usage=Usage(catalogue), claims=Claims(), now=now)
        day = fact.event.occurred_at.astimezone(program.zone).date()
        granter = Granter(
            scope, fact.event, platform=sender.platform, platform_code=sender.platform_code, account=_NOBODY, program=program, day=day
        )
        _grant(granter, fact)
        awards = [granted.as_award() for granted in granter.granted if granted.campaign.code == code]
        refused = [refusal for refusal in granter.refused if refusal.campaign in (msgspec.UNSET, code)]
        results.append(SimulationResult(id=fact.event.id, points=sum(a.points for a in awards), awards=awards, refused=refused))
    points = sum(result.points for result in results)
    return Simulation(campaign=code, version=row.version, platform=sender.platform_code, points=points, results=results)


def _grant(granter: Granter, fact: Fact) -> None:
    """By itself: assets count as registered and out, nothing has earned before, and single-use packaging was sent."""
    match fact.event:
        case OrderPaid() as event:
            granter.purchase(event)
            _pack(granter, event)
        case OrderFulfilled() as event:
            _pack(granter, event)
        case PackagingReturned() as event:
            for i, item in enumerate(event.returns):
                units = Decimal(item.quantity) if item.asset is None else Decimal(1)
                granter.grant("return", item_thing(event, item, i, granter.platform_code, units=units))
        case ActivityCompleted() as event:
            granter.grant("activity", activity_thing(event, granter.platform_code))


def _pack(granter: Granter, event: OrderPaid | OrderFulfilled) -> None:
    if (packaging := event.packaging) is not None:
        units = len(packaging.assets) if packaging.class_ is not None and needs_asset(packaging.class_) else packaging.parcels
        granter.grant("packaging", packaging_thing(event, packaging, granter.platform_code, units=units))

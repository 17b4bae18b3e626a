"""One person, two platforms: join their points in one balance, and separate them again (CONTRACT §3.5)."""

from typing import Any, Final

import msgspec
from litestar import Request, delete, post
from litestar.params import FromPath

from schemas.links import LinkAnswer, LinkBody, LinkCodeAnswer
from service.api.bodies import decode_body
from service.api.database import connection
from service.api.persons import PlatformCode, actor_of, consumer_of
from service.flows import links
from service.runtime import Resources

TAGS: Final = ["Consumers"]

AnyRequest = Request[Any, Any, Any]


@post("/v1/consumers/{ref:str}/link-codes", tags=TAGS, opt={"answer": LinkCodeAnswer})
async def make_link_code(request: AnyRequest, ref: FromPath[str]) -> LinkCodeAnswer:
    """Make a code that the consumer gives to another platform, to show that this account is theirs. It counts once, for ten minutes."""
    actor = actor_of(request)
    async with connection(request) as conn:
        consumer = await consumer_of(conn, actor, ref, None)
        return await links.make_code(conn, **msgspec.structs.asdict(consumer), change=actor.change)


@post("/v1/consumers/{ref:str}/link", tags=TAGS, status_code=200, opt={"body": LinkBody, "answer": LinkAnswer})
async def link_consumer(request: AnyRequest, ref: FromPath[str]) -> LinkAnswer:
    """Join this consumer's points with those of the account that a code of another platform stands for: from then on one balance."""
    actor = actor_of(request)
    body = await decode_body(request, LinkBody)
    resources: Resources = request.app.state.resources
    async with connection(request) as conn:
        consumer = await consumer_of(conn, actor, ref, None)
        joined = await links.link(
            conn, **msgspec.structs.asdict(consumer), link_code=body.code, stripe=resources.knowledge.stripe, change=actor.change
        )
    await links.publish(resources.projection, joined)
    return joined.answer()


@delete("/v1/consumers/{ref:str}/link", tags=TAGS, status_code=200, opt={"answer": LinkAnswer})
async def split_consumer(request: AnyRequest, ref: FromPath[str], platform: PlatformCode = None) -> LinkAnswer:
    """Separate a consumer again: what is left of the points that came with them, or from their own facts since, is theirs alone."""
    actor = actor_of(request)
    resources: Resources = request.app.state.resources
    async with connection(request) as conn:
        consumer = await consumer_of(conn, actor, ref, platform)
        joined = await links.split(conn, **msgspec.structs.asdict(consumer), stripe=resources.knowledge.stripe, change=actor.change)
    await links.publish(resources.projection, joined)
    return joined.answer()


routes = [make_link_code, link_consumer, split_consumer]

"""Whose data a request is about: a platform acts for its own consumers, an administrator names the platform, `?platform=demo-shop`."""

from typing import Annotated, Any

from litestar import Request
from litestar.params import QueryParameter
from msgspec import Struct

from schemas.bounds import MAX_CODE_CHARS
from service.api.access import proven
from service.api.callers import PlatformCaller
from service.api.changes import change_by, change_by_platform
from service.api.paths import reference
from service.domain.errors import InvalidRequest, NotFound
from service.flows import administer
from service.flows.administer import Change
from service.store.connection import Connection

AnyRequest = Request[Any, Any, Any]
PlatformCode = Annotated[str | None, QueryParameter(max_length=MAX_CODE_CHARS, description="For administrators: whose consumer is meant.")]


class Actor(Struct, frozen=True, kw_only=True):
    """Who asks; `platform` is None for an administrator who named none."""

    program: int
    platform: int | None
    code: str
    change: Change


def actor_of(request: AnyRequest) -> Actor:
    """A platform or an operator."""
    caller = proven(request)
    if isinstance(caller, PlatformCaller):
        change = change_by_platform(caller.code)
        return Actor(program=caller.program, platform=caller.platform, code=caller.code, change=change)
    return Actor(program=caller.program, platform=None, code="", change=change_by(caller))


class Consumer(Struct, frozen=True, kw_only=True):
    """Whose reference is meant."""

    program: int
    platform: int
    code: str
    reference: str


async def consumer_of(conn: Connection, actor: Actor, ref: str, platform: str | None) -> Consumer:
    """The platform's own consumer; an administrator's choice. Raises NotFound, InvalidRequest."""
    if actor.platform is not None:
        if platform not in (None, actor.code):
            raise NotFound("There is no such platform.")
        return Consumer(program=actor.program, platform=actor.platform, code=actor.code, reference=reference(ref))
    if platform is None:
        raise InvalidRequest("Say whose consumer is meant: ?platform=… is the platform's code.")
    found = await administer.find_platform(conn, program=actor.program, code=platform)
    return Consumer(program=actor.program, platform=found.id, code=found.code, reference=reference(ref))

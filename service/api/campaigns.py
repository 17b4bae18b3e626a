"""Campaigns and their statistics: for operators."""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get, patch, post
from litestar.params import FromPath, FromQuery, QueryParameter

from schemas.bounds import MAX_CODE_CHARS, MAX_SIMULATED, MAX_SIMULATION_BYTES
from schemas.campaigns import CampaignAnswer, CampaignBody, CampaignStatus, CampaignVersion, Granularity, Simulation, Statistics
from schemas.events import Event
from schemas.pages import Page
from service.api.bodies import decode_body, raw_headers, read_body, require_json
from service.api.callers import callers_of
from service.api.changes import change_by
from service.api.conditions import IfMatch, if_match_of
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Name, Position, page_of, read_cursor
from service.api.database import connection
from service.domain.campaigns import Step
from service.domain.errors import InvalidRequest, NotFound
from service.domain.intake import Sender, decode_json, invalid, read_fact
from service.domain.posting import Fact
from service.domain.roles import MAY
from service.flows import campaigns, simulate, statistics
from service.runtime import Resources

TAGS: Final = ["Campaigns"]

AnyRequest = Request[Any, Any, Any]
From = Annotated[datetime | None, QueryParameter(name="from", description="RFC 3339 with an offset; rounded down to the hour.")]
To = Annotated[datetime | None, QueryParameter(name="to", description="RFC 3339 with an offset; not included.")]
Platform = Annotated[
    str | None, QueryParameter(max_length=MAX_CODE_CHARS, description="Whose event it is; else the campaign's first platform.")
]


@post("/v1/campaigns", tags=TAGS, opt={"body": CampaignBody, "answer": CampaignAnswer})
async def create_campaign(request: AnyRequest) -> Response[CampaignAnswer]:
    """Draft a campaign: its conditions are checked, it awards nothing until it is activated."""
    caller = await callers_of(request).operator(request, *MAY["campaigns:write"])
    body = await decode_body(request, CampaignBody)
    async with connection(request) as conn:
        return _tagged(await campaigns.create(conn, body, program=caller.program, change=change_by(caller)), status_code=201)


@get("/v1/campaigns", tags=TAGS, opt={"answer": Page[CampaignAnswer]})
async def list_campaigns(
    request: AnyRequest, status: FromQuery[CampaignStatus | None] = None, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Page[CampaignAnswer]:
    """List the program's campaigns by code, perhaps of one status only."""
    caller = await callers_of(request).operator(request, *MAY["campaigns:read"])
    after = read_cursor(cursor, Name, "")
    async with connection(request) as conn:
        rows = await campaigns.page(conn, program=caller.program, after=after, status=status, limit=limit + 1)
    return page_of(rows, limit, item=lambda row: row, position=lambda row: row.code)


@get("/v1/campaigns/{code:str}", tags=TAGS, opt={"answer": CampaignAnswer})
async def read_campaign(request: AnyRequest, code: FromPath[str]) -> Response[CampaignAnswer]:
    """Read a campaign in its newest version."""
    caller = await callers_of(request).operator(request, *MAY["campaigns:read"])
    async with connection(request) as conn:
        return _tagged(await campaigns.get(conn, _code(code), program=caller.program))


@patch("/v1/campaigns/{code:str}", tags=TAGS, opt={"body": dict, "answer": CampaignAnswer})
async def change_campaign(request: AnyRequest, code: FromPath[str], if_match: IfMatch = None) -> Response[CampaignAnswer]:  # noqa: ARG001
    """Change a campaign by a JSON merge patch: a new version, for what occurs from now on."""
    caller = await callers_of(request).operator(request, *MAY["campaigns:write"])
    changes = await decode_body(request, dict[str, Any])
    async with connection(request) as conn:
        try:
            return _tagged(
                await campaigns.patch(
                    conn, _code(code), changes, program=caller.program, change=change_by(caller), if_match=if_match_of(request)
                )
            )
        except msgspec.ValidationError as error:
            raise invalid(error) from None


@get("/v1/campaigns/{code:str}/versions", tags=TAGS, opt={"answer": Page[CampaignVersion]})
async def list_versions(
    request: AnyRequest, code: FromPath[str], cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Page[CampaignVersion]:
    """List a campaign's versions, newest first."""
    caller = await callers_of(request).operator(request, *MAY["campaigns:read"])
    before = min(read_cursor(cursor, Position, _NEWEST), _NEWEST)
    async with connection(request) as conn:
        rows = await campaigns.versions(conn, _code(code), program=caller.program, before=before, limit=limit + 1)
    return page_of(rows, limit, item=lambda row: row, position=lambda row: row.version)


@post("/v1/campaigns/{code:str}/activate", tags=TAGS, status_code=200, opt={"answer": CampaignAnswer})
async def activate_campaign(request: AnyRequest, code: FromPath[str], if_match: IfMatch = None) -> Response[CampaignAnswer]:  # noqa: ARG001
    """Let a draft or paused campaign award, on every process at once. A repeat changes nothing."""
    return await _step(request, code, "activate")


@post("/v1/campaigns/{code:str}/pause", tags=TAGS, status_code=200, opt={"answer": CampaignAnswer})
async def pause_campaign(request: AnyRequest, code: FromPath[str], if_match: IfMatch = None) -> Response[CampaignAnswer]:  # noqa: ARG001
    """Stop a running campaign from awarding until it is activated again. A repeat changes nothing."""
    return await _step(request, code, "pause")


@post("/v1/campaigns/{code:str}/end", tags=TAGS, status_code=200, opt={"answer": CampaignAnswer})
async def end_campaign(request: AnyRequest, code: FromPath[str], if_match: IfMatch = None) -> Response[CampaignAnswer]:  # noqa: ARG001
    """End a campaign for good; what it awarded stays. A repeat changes nothing."""
    return await _step(request, code, "end")


@post("/v1/campaigns/{code:str}/simulate", tags=TAGS, status_code=200, opt={"body": Event, "answer": Simulation})
async def simulate_campaign(request: AnyRequest, code: FromPath[str], platform: Platform = None) -> Simulation:
    """Try a campaign out on one event or a JSON array of at most 100, also a draft: nothing is written or counted."""
    caller = await callers_of(request).operator(request, *MAY["campaigns:read"])
    require_json(raw_headers(request).get(b"content-type"))
    events = _events(await read_body(request, MAX_SIMULATION_BYTES))
    resources = request.app.state.resources
    async with connection(request) as conn:
        sender = await simulate.sender_for(conn, _code(code), program=caller.program, platform=platform)
        facts = [_fact(raw, at, sender, resources) for at, raw in events]
        return await simulate.simulate(conn, code, facts, sender=sender, now=resources.clock.now())


@get("/v1/campaigns/{code:str}/statistics", tags=TAGS, opt={"answer": Statistics})
async def read_statistics(
    request: AnyRequest, code: FromPath[str], from_: From = None, to: To = None, granularity: FromQuery[Granularity] = "day"
) -> Statistics:
    """Totals, a series by hour, day or week in the program's time zone, and sums by platform; without from and to of its whole life."""
    caller = await callers_of(request).operator(request, *MAY["statistics:read"])
    for pointer, at in (("/from", from_), ("/to", to)):
        if at is not None and at.tzinfo is None:
            raise InvalidRequest.at(pointer, "needs an offset, such as Z or +08:00")
    async with connection(request) as conn:
        return await statistics.campaign_statistics(
            conn, _code(code), program=caller.program, from_=from_, to=to, granularity=granularity
        )  # fmt: skip


_NEWEST: Final = 2**31 - 1


async def _step(request: AnyRequest, code: str, step: Step) -> Response[CampaignAnswer]:
    caller = await callers_of(request).operator(request, *MAY["campaigns:write"])
    async with connection(request) as conn:
        return _tagged(
            await campaigns.step(conn, _code(code), step, program=caller.program, change=change_by(caller), if_match=if_match_of(request))
        )


def _tagged(campaign: CampaignAnswer, *, status_code: int = 200) -> Response[CampaignAnswer]:
    return Response(campaign, status_code=status_code, headers={"ETag": campaigns.tag_of(campaign)})


def _events(body: bytes) -> list[tuple[str, bytes | msgspec.Raw]]:
    """The events of a body, one or an array, each with its JSON pointer. Raises MalformedJson, InvalidRequest."""
    if not body.lstrip().startswith(b"["):
        return [("", body)]
    decode_json(body)
    found = msgspec.json.decode(body, type=list[msgspec.Raw])
    if len(found) > MAX_SIMULATED:
        raise InvalidRequest.at("", f"has {len(found)} events, more than {MAX_SIMULATED}")
    return [(f"/{n}", raw) for n, raw in enumerate(found)]


def _fact(raw: bytes | msgspec.Raw, at: str, sender: Sender, resources: Resources) -> Fact:
    try:
        return read_fact(raw, sender, now=resources.clock.now(), hash_key=resources.hash_key)
    except InvalidRequest as error:
        errors = [msgspec.structs.replace(e, pointer=at + e.pointer) for e in error.errors]
        raise InvalidRequest(error.detail, errors) from None


def _code(code: str) -> str:
    """A code from the path. Raises NotFound for what no campaign can be called."""
    if not code.isascii() or not code.isprintable():
        raise NotFound("There is no such campaign.")
    return code


routes = [
    create_campaign,
    list_campaigns,
    read_campaign,
    change_campaign,
    list_versions,
    activate_campaign,
    pause_campaign,
    end_campaign,
    simulate_campaign,
    read_statistics,
]

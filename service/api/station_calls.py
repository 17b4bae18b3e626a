"""What a collection station itself asks for: one-time tokens to show, and the returns that it took."""

import asyncio
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from litestar import Request, post
from msgspec import Struct

from schemas.events import Refusal
from schemas.stations import StationReturn, StationReturnResult, StationReturnsAnswer, TokensAnswer, TokensBody
from service.api.bodies import decode_body, raw_headers, read_body, require_json
from service.api.callers import StationCaller, callers_of
from service.api.database import connection
from service.api.lanes import Lanes
from service.api.problems import problem_of
from service.domain.errors import GreenpointsError, InvalidRequest, Overloaded, Unavailable
from service.domain.intake import Sender, fact_of
from service.domain.posting import Fact
from service.domain.station_returns import as_of_row, event_id, event_of, read_row, split_rows
from service.domain.validate import MAX_AHEAD
from service.flows import stations as flow
from service.flows.outcomes import Outcome
from service.runtime import Resources
from service.store import stations as store
from service.telemetry import metrics, tallies

TAGS: Final = ["Stations"]
READ_AT_ONCE: Final = 10
"""Rows that are checked and signed before other requests get a turn: a few milliseconds."""
_REFUSED = tallies.count(metrics.EVENTS, "unknown", "refused")

AnyRequest = Request[Any, Any, Any]


class _Answered(Struct, frozen=True, kw_only=True):
    """What of an event's answer a station is told: nothing of the consumer's balance."""

    status: str
    points: int
    refused: list[Refusal]


@post("/v1/stations/me/tokens", tags=TAGS, status_code=200, opt={"body": TokensBody, "answer": TokensAnswer})
async def issue_tokens(request: AnyRequest) -> TokensAnswer:
    """Get one-time tokens to show as QR codes, one for now or many for a window in which the station is offline."""
    caller = await callers_of(request).station(request.headers.get("authorization"))
    body = await decode_body(request, TokensBody)
    async with connection(request) as conn:
        return await flow.issue_tokens(
            conn, body, sealer=request.app.state.resources.sealer, program=caller.program, station=caller.station, code=caller.code
        )  # fmt: skip


@post("/v1/stations/me/returns", tags=TAGS, status_code=200, opt={"body": list[StationReturn], "answer": StationReturnsAnswer})
async def report_returns(request: AnyRequest) -> StationReturnsAnswer:
    """Report up to 500 returns that the station took, also hours later, answered per row. Safe to repeat: each `id` counts once."""
    caller = await callers_of(request).station(request.headers.get("authorization"))
    require_json(raw_headers(request).get(b"content-type"))
    lanes: Lanes = request.app.state.lanes
    lanes.begin_body()
    try:
        rows = split_rows(await read_body(request, request.app.state.resources.settings.max_bulk_body_bytes))
        return await _report(request, caller, rows, lanes)
    finally:
        lanes.bodies -= 1


async def _report(request: AnyRequest, caller: StationCaller, raws: list[msgspec.Raw], lanes: Lanes) -> StationReturnsAnswer:
    """Read all rows, credit those that are sound chunk by chunk; results in the order of the request."""
    results: dict[int, StationReturnResult] = {}
    rows: dict[int, StationReturn] = {}
    for place, raw in enumerate(raws):
        try:
            rows[place] = read_row(raw)
        except GreenpointsError as error:
            results[place] = _rejected(None, error)
        if place % READ_AT_ONCE == 0:
            await asyncio.sleep(0)
    translate = await _Translation.of(request, caller, list(rows.values()))
    facts: list[tuple[int, Fact]] = []
    for place, row in rows.items():
        try:
            facts.append((place, await translate.fact(row)))
        except (Overloaded, Unavailable):
            raise
        except GreenpointsError as error:
            results[place] = _rejected(row.id, error)
        if place % READ_AT_ONCE == 0:
            await asyncio.sleep(0)
    while facts:
        chunk, facts = facts[: lanes.chunk], facts[lanes.chunk :]
        for (place, _), outcome in zip(chunk, await lanes.bulk.submit([fact for _, fact in chunk]), strict=True):
            results[place] = _result(caller.code, rows[place].id, outcome)
    ordered = [results[place] for place in range(len(raws))]
    counts = {outcome: sum(each.outcome == outcome for each in ordered) for outcome in ("accepted", "duplicate", "rejected")}
    return StationReturnsAnswer(
        accepted=counts["accepted"], duplicates=counts["duplicate"], rejected=counts["rejected"], results=ordered
    )  # fmt: skip


class _Translation:
    """From the rows of one request to facts: whose platform, which consumer, the station's proof."""

    def __init__(
        self, request: AnyRequest, caller: StationCaller, *, key: Ed25519PrivateKey, late_h: int, platforms: dict[str, int]
    ) -> None:  # fmt: skip
        self._request, self._caller, self._key, self._late_h, self._platforms = request, caller, key, late_h, platforms

    @classmethod
    async def of(cls, request: AnyRequest, caller: StationCaller, rows: list[StationReturn]) -> "_Translation":
        """Read what it takes, once. Raises NotFound, Unavailable."""
        codes = sorted({row.platform for row in rows if row.platform is not None})
        async with connection(request) as conn:
            signing, key = await flow.open_signing(
                conn, sealer=request.app.state.resources.sealer, program=caller.program, station=caller.station
            )  # fmt: skip
            platforms = await store.active_platforms(conn, program=caller.program, codes=codes) if caller.platform is None else {}
        if caller.platform is not None and caller.platform_code is not None:
            platforms = {caller.platform_code: caller.platform}
        return cls(request, caller, key=key, late_h=signing.late_h, platforms=platforms)

    async def fact(self, row: StationReturn) -> Fact:
        """Raises InvalidRequest with pointers into the row; Unavailable, Overloaded."""
        resources: Resources = self._request.app.state.resources
        now = resources.clock.now()
        if (now - row.occurred_at).total_seconds() > self._late_h * 3_600:
            raise InvalidRequest.at("/occurred_at", f"is more than {self._late_h} hours ago: the station reports no later")
        if row.occurred_at > now + MAX_AHEAD:
            raise InvalidRequest.at("/occurred_at", "is more than 5 minutes in the future")
        sender, consumer = await self._whose(row)
        event = event_of(row, station=self._caller.code, key=self._key, consumer=consumer)
        try:
            return fact_of(event, sender, now=now, hash_key=resources.hash_key)
        except InvalidRequest as error:
            raise as_of_row(error) from None

    async def _whose(self, row: StationReturn) -> tuple[Sender, str | None]:
        """On whose behalf it is reported, and the consumer if one is named."""
        consumer, code = row.consumer, row.platform
        if code is not None and code not in self._platforms:
            raise InvalidRequest.at("/platform", "is not a platform of this station")
        if row.consumer_token is not None:
            at = row.occurred_at.timestamp()
            shown = await callers_of(self._request).presented(row.consumer_token, program=self._caller.program, at=at)
            if shown is None or self._caller.platform not in (None, shown.platform) or code not in (None, shown.code):
                raise InvalidRequest.at("/consumer_token", "was no token of a consumer of this station's platform at that time")
            return Sender(program=self._caller.program, platform=shown.platform, platform_code=shown.code), shown.reference
        if code is None:
            code = self._caller.platform_code
        if code is None:
            raise InvalidRequest.at("/platform", "is required: the station serves several")
        return Sender(program=self._caller.program, platform=self._platforms[code], platform_code=code), consumer


def _result(station: str, row: str, outcome: Outcome) -> StationReturnResult:
    if outcome.error is not None:
        return _rejected(row, outcome.error)
    answer = msgspec.json.decode(outcome.answer, type=_Answered)
    return StationReturnResult(
        id=row, outcome="duplicate" if outcome.replayed else "accepted", event=event_id(station, row), status=answer.status,
        points=answer.points, refused=answer.refused,
    )  # fmt: skip


def _rejected(row: str | None, error: GreenpointsError) -> StationReturnResult:
    _REFUSED.add()
    return StationReturnResult(id=row, outcome="rejected", problem=problem_of(error))


routes = [issue_tokens, report_returns]

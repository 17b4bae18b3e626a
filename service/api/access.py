"""Who may call which route: the one table, enforced before any handler runs and shown in /openapi.json.

A route without an entry is not there for anybody (Litestar's own pages of the schema among them), so that forgetting one cannot open
it. What a caller may touch *within* a route
follows from the proof alone: handlers pass `caller.program` and `caller.platform` to flows, whose statements name them beside every
id that the request brought, so that what is somebody else's is not found (ARCHITECTURE.md, "Whose is it").

The routes in `Application.front` are called without the router and its guards: their handlers prove the caller themselves.
`tests/probes` walks all routes with every kind of caller and compares the answers with this table.
"""

from typing import Any, Final, Literal

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from msgspec import Struct

from service.api.callers import Callers, OperatorCaller, PlatformCaller
from service.domain import secrets
from service.domain.errors import NotFound
from service.domain.roles import MAY, ConsumerScope, Permission, Scope, StationScope

CONSUMER_TOKEN_DOTS: Final = 2
"""A JWT has three parts."""


class Access(Struct, frozen=True, kw_only=True):
    """Who may call: any of these."""

    platform: Scope | None = None
    """Platforms whose key has this scope."""
    consumer: ConsumerScope | None = None
    """Consumers whose token has this scope."""
    station: StationScope | None = None
    """Collection stations: each of their keys may do all of it."""
    operator: Permission | Literal["signed-in"] | None = None
    """Operators whose role has this permission; `signed-in`: all of them, whatever program they act in."""
    signature: bool = False
    """Whoever signed the body: proved by the handler, which has to read it first."""
    anybody: bool = False
    """Nobody is asked; the answer is the same for all and names nothing of any program, or the handler is what proves somebody."""


ANYBODY: Final = Access(anybody=True)
SIGNED: Final = Access(signature=True)
_SIGNED_IN: Final = Access(operator="signed-in")


def _operator(permission: Permission) -> Access:
    return Access(operator=permission)


def _platform(scope: Scope) -> Access:
    return Access(platform=scope)


ACCESS: Final[dict[tuple[str, str], Access]] = {
    # Events and consumers
    ("POST", "/v1/events"): _platform("events:write"),
    ("POST", "/v1/events/batch"): _platform("events:write"),
    ("GET", "/v1/events"): _platform("events:read"),
    ("GET", "/v1/events/{event_id}"): _platform("events:read"),
    ("GET", "/v1/consumers/{ref}/balance"): _platform("consumers:read"),
    ("GET", "/v1/consumers/{ref}/activity"): _platform("consumers:read"),
    ("POST", "/v1/consumers/import"): Access(platform="balances:import", operator="balances:import"),
    ("GET", "/v1/consumers/{ref}/entries"): _platform("consumers:read"),
    ("GET", "/v1/me/entries"): Access(consumer="balance:read"),
    ("DELETE", "/v1/consumers/{ref}"): Access(platform="consumers:erase", operator="personal:erase"),
    ("GET", "/v1/consumers/{ref}/export"): Access(platform="consumers:export", operator="personal:read"),
    ("GET", "/v1/consumers/{ref}/legal-hold"): _operator("personal:hold"),
    ("PUT", "/v1/consumers/{ref}/legal-hold"): _operator("personal:hold"),
    ("DELETE", "/v1/consumers/{ref}/legal-hold"): _operator("personal:hold"),
    ("GET", "/v1/privacy-requests"): Access(platform="consumers:export", operator="personal:read"),
    ("GET", "/v1/privacy-requests/{request_id}"): Access(platform="consumers:export", operator="personal:read"),
    ("GET", "/v1/privacy-requests/{request_id}/export"): Access(platform="consumers:export", operator="personal:read"),
    ("POST", "/v1/privacy-requests/{request_id}/cancel"): _operator("personal:erase"),
    ("GET", "/v1/privacy-policy"): _operator("platforms:read"),
    ("PATCH", "/v1/privacy-policy"): _operator("platforms:write"),
    ("GET", "/v1/me/balance"): Access(consumer="balance:read"),
    ("GET", "/v1/me/activity"): Access(consumer="balance:read"),
    ("POST", "/v1/consumers/{ref}/link-codes"): _platform("consumers:link"),
    ("POST", "/v1/consumers/{ref}/link"): _platform("consumers:link"),
    ("DELETE", "/v1/consumers/{ref}/link"): Access(platform="consumers:link", operator="personal:link"),
    ("POST", "/v1/redemptions"): _platform("redemptions:write"),
    ("GET", "/v1/redemptions"): _platform("redemptions:read"),
    ("GET", "/v1/redemptions/{redemption}"): _platform("redemptions:read"),
    ("POST", "/v1/redemptions/{redemption}/capture"): _platform("redemptions:write"),
    ("POST", "/v1/redemptions/{redemption}/cancel"): _platform("redemptions:write"),
    ("POST", "/v1/redemptions/{redemption}/refund"): _platform("redemptions:write"),
    ("POST", "/v1/me/redemptions"): Access(consumer="redeem"),
    ("GET", "/v1/me/redemptions"): Access(consumer="balance:read"),
    ("GET", "/v1/me/redemptions/{redemption}"): Access(consumer="balance:read"),
    ("POST", "/v1/me/redemptions/{redemption}/capture"): Access(consumer="redeem"),
    ("POST", "/v1/me/redemptions/{redemption}/cancel"): Access(consumer="redeem"),
    ("POST", "/v1/hooks/{hook_id}"): SIGNED,
    ("GET", "/v1/deliveries"): Access(platform="deliveries:read", operator="deliveries:read"),
    ("GET", "/v1/deliveries/{delivery}"): Access(platform="deliveries:read", operator="deliveries:read"),
    ("POST", "/v1/deliveries/replay"): _operator("deliveries:replay"),
    ("POST", "/v1/deliveries/{delivery}/replay"): _operator("deliveries:replay"),
    # Campaigns
    ("POST", "/v1/campaigns"): _operator("campaigns:write"),
    ("GET", "/v1/campaigns"): _operator("campaigns:read"),
    ("GET", "/v1/campaigns/{code}"): _operator("campaigns:read"),
    ("PATCH", "/v1/campaigns/{code}"): _operator("campaigns:write"),
    ("GET", "/v1/campaigns/{code}/versions"): _operator("campaigns:read"),
    ("POST", "/v1/campaigns/{code}/activate"): _operator("campaigns:write"),
    ("POST", "/v1/campaigns/{code}/pause"): _operator("campaigns:write"),
    ("POST", "/v1/campaigns/{code}/end"): _operator("campaigns:write"),
    ("POST", "/v1/campaigns/{code}/simulate"): _operator("campaigns:read"),
    ("GET", "/v1/campaigns/{code}/statistics"): _operator("statistics:read"),
    # Registries
    ("POST", "/v1/certificates"): _operator("registries:write"),
    ("POST", "/v1/certificates/import"): _operator("registries:write"),
    ("GET", "/v1/certificates"): _operator("registries:read"),
    ("GET", "/v1/certificates/{certificate}"): _operator("registries:read"),
    ("POST", "/v1/certificates/{certificate}/revoke"): _operator("registries:write"),
    ("POST", "/v1/certificates/{certificate}/suspend"): _operator("registries:write"),
    ("POST", "/v1/certificates/{certificate}/resume"): _operator("registries:write"),
    ("POST", "/v1/products"): _operator("registries:write"),
    ("POST", "/v1/products/import"): _operator("registries:write"),
    ("GET", "/v1/products"): _operator("registries:read"),
    ("GET", "/v1/products/{gtin}"): _operator("registries:read"),
    ("GET", "/v1/products/{gtin}/certificates"): _operator("registries:read"),
    # Impact
    ("POST", "/v1/impact-factors"): _operator("registries:write"),
    ("GET", "/v1/impact-factors"): _operator("registries:read"),
    ("GET", "/v1/impact-factors/{factor}"): _operator("registries:read"),
    ("GET", "/v1/reports/impact"): _operator("statistics:read"),
    # Proof
    ("GET", "/v1/reports/seals"): _operator("statistics:read"),
    ("GET", "/v1/alerts"): _operator("statistics:read"),
    # Packaging
    ("POST", "/v1/packaging/assets"): _operator("registries:write"),
    ("POST", "/v1/packaging/assets/import"): _operator("registries:write"),
    ("GET", "/v1/packaging/assets"): _operator("registries:read"),
    ("GET", "/v1/packaging/assets/{asset}"): _operator("registries:read"),
    ("POST", "/v1/packaging/assets/{asset}/inspect"): _operator("registries:write"),
    ("POST", "/v1/packaging/assets/{asset}/retire"): _operator("registries:write"),
    ("POST", "/v1/packaging/assets/{asset}/lose"): _operator("registries:write"),
    ("GET", "/v1/packaging-policy"): _operator("registries:read"),
    ("PATCH", "/v1/packaging-policy"): _operator("registries:write"),
    # Points policy
    ("GET", "/v1/points-policy"): _operator("points-policy:read"),
    ("PATCH", "/v1/points-policy"): _operator("points-policy:write"),
    ("GET", "/v1/points-policy/versions"): _operator("points-policy:read"),
    # Fraud checks: models and policy
    ("GET", "/v1/fraud/models"): _operator("fraud-models:read"),
    ("POST", "/v1/fraud/models"): _operator("fraud-models:write"),
    ("GET", "/v1/fraud/models/{version}"): _operator("fraud-models:read"),
    ("POST", "/v1/fraud/models/{version}/activate"): _operator("fraud-models:write"),
    ("GET", "/v1/fraud/signals"): _operator("fraud-models:read"),
    ("POST", "/v1/fraud/signals/{signal}"): _operator("fraud-models:write"),
    ("GET", "/v1/fraud/monitor"): _operator("fraud-models:read"),
    ("GET", "/v1/fraud/policy"): _operator("fraud-models:read"),
    ("PUT", "/v1/fraud/policy"): _operator("fraud-policy:write"),
    # Plastics
    ("POST", "/v1/plastics/reports"): Access(platform="plastics:write", operator="plastics:write"),
    ("GET", "/v1/plastics/reports"): Access(platform="plastics:read", operator="plastics:read"),
    ("POST", "/v1/plastics/periods/{period}/close"): _operator("plastics:close"),
    ("GET", "/v1/reports/plastics"): Access(platform="plastics:read", operator="plastics:read"),
    # Points by hand, and between consumers
    ("POST", "/v1/adjustments"): _operator("adjustments:write"),
    ("GET", "/v1/adjustments"): _operator("adjustments:read"),
    ("GET", "/v1/adjustments/{adjustment}"): _operator("adjustments:read"),
    ("POST", "/v1/adjustments/{adjustment}/approve"): _operator("adjustments:write"),
    ("POST", "/v1/adjustments/{adjustment}/reject"): _operator("adjustments:write"),
    ("POST", "/v1/adjustments/{adjustment}/withdraw"): _operator("adjustments:write"),
    # Fraud cases
    ("GET", "/v1/fraud/cases"): _operator("fraud:read"),
    ("GET", "/v1/fraud/cases/{case}"): _operator("fraud:read"),
    ("POST", "/v1/fraud/cases/{case}/decision"): _operator("fraud:decide"),
    ("POST", "/v1/fraud/cases/{case}/withdraw"): _operator("fraud:decide"),
    ("POST", "/v1/me/transfers"): Access(consumer="redeem"),
    ("POST", "/v1/consumers/{ref}/transfers"): _platform("transfers:write"),
    # Fraud
    ("POST", "/v1/fraud/lists"): _operator("fraud:write"),
    ("GET", "/v1/fraud/lists"): _operator("fraud:read"),
    ("DELETE", "/v1/fraud/lists/{entry}"): _operator("fraud:write"),
    # What fraud checks held or rejected, and what persons say to it
    ("POST", "/v1/me/events/{event_id}/objection"): Access(consumer="balance:read"),
    ("POST", "/v1/consumers/{ref}/events/{event_id}/objection"): _platform("objections:write"),
    ("GET", "/v1/fraud/objections"): _operator("objections:read"),
    ("POST", "/v1/fraud/objections/{objection}/answer"): _operator("objections:answer"),
    # What events may name
    ("POST", "/v1/packaging/classes"): _operator("registries:write"),
    ("GET", "/v1/packaging/classes"): Access(platform="events:write", operator="registries:read"),
    ("GET", "/v1/packaging/classes/{code}"): Access(platform="events:write", operator="registries:read"),
    ("PATCH", "/v1/packaging/classes/{code}"): _operator("registries:write"),
    ("POST", "/v1/activity-kinds"): _operator("registries:write"),
    ("GET", "/v1/activity-kinds"): Access(platform="events:write", operator="registries:read"),
    ("GET", "/v1/activity-kinds/{code}"): Access(platform="events:write", operator="registries:read"),
    ("PATCH", "/v1/activity-kinds/{code}"): _operator("registries:write"),
    # What points can be spent on
    ("POST", "/v1/rewards"): _operator("rewards:write"),
    ("GET", "/v1/rewards"): Access(platform="consumers:read", operator="rewards:read"),
    ("GET", "/v1/rewards/{code}"): _operator("rewards:read"),
    ("PATCH", "/v1/rewards/{code}"): _operator("rewards:write"),
    ("POST", "/v1/rewards/{code}/vouchers"): _operator("rewards:write"),
    ("GET", "/v1/rewards/{code}/vouchers/void"): _operator("rewards:write"),
    ("GET", "/v1/me/rewards"): Access(consumer="balance:read"),
    ("POST", "/v1/causes"): _operator("rewards:write"),
    ("GET", "/v1/causes"): Access(platform="consumers:read", operator="rewards:read"),
    ("GET", "/v1/causes/{code}"): _operator("rewards:read"),
    ("PATCH", "/v1/causes/{code}"): _operator("rewards:write"),
    ("GET", "/v1/me/causes"): Access(consumer="balance:read"),
    # Collection stations
    ("GET", "/v1/stations"): _operator("stations:read"),
    ("POST", "/v1/stations"): _operator("stations:write"),
    ("GET", "/v1/stations/{code}"): _operator("stations:read"),
    ("PATCH", "/v1/stations/{code}"): _operator("stations:write"),
    ("GET", "/v1/stations/{code}/keys"): _operator("stations:read"),
    ("POST", "/v1/stations/{code}/keys"): _operator("stations:write"),
    ("POST", "/v1/stations/{code}/keys/{key}/revoke"): _operator("stations:write"),
    ("POST", "/v1/stations/{code}/keys/{key}/replace"): _operator("stations:write"),
    ("POST", "/v1/stations/me/tokens"): Access(station="tokens:issue"),
    ("POST", "/v1/stations/me/returns"): Access(station="returns:report"),
    # Platforms, operators, the audit
    ("GET", "/v1/platforms"): _operator("platforms:read"),
    ("POST", "/v1/platforms"): _operator("platforms:write"),
    ("GET", "/v1/platforms/{code}"): _operator("platforms:read"),
    ("PATCH", "/v1/platforms/{code}"): _operator("platforms:write"),
    ("GET", "/v1/platforms/{code}/keys"): _operator("platforms:read"),
    ("POST", "/v1/platforms/{code}/keys"): _operator("platforms:write"),
    ("POST", "/v1/platforms/{code}/keys/{key}/revoke"): _operator("platforms:write"),
    ("GET", "/v1/platforms/{code}/signing-keys"): _operator("platforms:read"),
    ("POST", "/v1/platforms/{code}/signing-keys"): _operator("platforms:write"),
    ("POST", "/v1/platforms/{code}/signing-keys/{key}/revoke"): _operator("platforms:write"),
    ("GET", "/v1/platforms/{code}/hooks"): _operator("platforms:read"),
    ("POST", "/v1/platforms/{code}/hooks"): _operator("platforms:write"),
    ("PATCH", "/v1/platforms/{code}/hooks/{hook}"): _operator("platforms:write"),
    ("POST", "/v1/platforms/{code}/keys/{key}/replace"): _operator("platforms:write"),
    ("POST", "/v1/oauth/token"): ANYBODY,
    ("POST", "/v1/operators/sign-in"): ANYBODY,
    ("POST", "/v1/operators/sign-out"): _SIGNED_IN,
    ("GET", "/v1/operators/me"): _SIGNED_IN,
    ("POST", "/v1/operators/me/password"): _SIGNED_IN,
    ("GET", "/v1/operators"): _operator("operators:read"),
    ("POST", "/v1/operators"): _operator("operators:write"),
    ("PATCH", "/v1/operators/{operator}"): _operator("operators:write"),
    ("POST", "/v1/operators/{operator}/password"): _operator("operators:write"),
    ("GET", "/v1/operators/{operator}/tokens"): _operator("operators:read"),
    ("POST", "/v1/operators/{operator}/tokens"): _operator("operators:write"),
    ("POST", "/v1/operators/{operator}/tokens/{token}/revoke"): _operator("operators:write"),
    ("GET", "/v1/audit"): _operator("audit:read"),
    # The system
    ("GET", "/healthz"): ANYBODY,
    ("GET", "/readyz"): ANYBODY,
    ("GET", "/metrics"): ANYBODY,
    ("GET", "/openapi.json"): ANYBODY,
    ("GET", "/docs"): ANYBODY,
}
"""By method and path as in /openapi.json."""


async def enforce(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Refuse whoever the table does not name, before path, query and body are looked at; a guard of the whole application.

    Raises Unauthenticated, Forbidden and what else proving a caller raises; NotFound for a route without an entry.
    """
    assert isinstance(connection, Request)
    method, path = connection.method, connection.scope["path_template"]
    if method == "OPTIONS":
        return
    access = ACCESS.get((method, path))
    if access is None:
        raise NotFound("There is nothing at this address.")
    if access.signature or access.anybody:
        return
    await _prove(connection, access)


async def _prove(request: Request[Any, Any, Any], access: Access) -> None:
    callers: Callers = request.app.state.callers
    authorization = request.headers.get("authorization")
    match _kind(access, authorization):
        case "platform":
            assert access.platform is not None
            platform = await callers.platform(authorization)
            platform.require(access.platform)
            request.state.caller = platform
        case "consumer":
            assert access.consumer is not None
            await callers.consumer(authorization, access.consumer)
        case "station":
            await callers.station(authorization)
        case "operator":
            if access.operator is None or access.operator == "signed-in":
                await callers.operator_login(request)
                return
            proved: OperatorCaller = await callers.operator(request, *MAY[access.operator])
            request.state.operator = request.state.caller = proved  # `Callers.operator` need not ask again


def proven(request: Request[Any, Any, Any]) -> PlatformCaller | OperatorCaller:
    """Who calls a route that platforms and operators may call, as `enforce` has proved them."""
    caller: PlatformCaller | OperatorCaller = request.state.caller
    return caller


def _kind(access: Access, authorization: str | None) -> Literal["platform", "consumer", "station", "operator"]:
    """Whom to look for where several may call: by what the token looks like; without one an operator, who may have a cookie."""
    token = "" if authorization is None else authorization.partition(" ")[2]
    if access.operator and (authorization is None or secrets.is_operator_token(token)):
        return "operator"
    if access.consumer and token.count(".") == CONSUMER_TOKEN_DOTS:
        return "consumer"
    if access.station and (secrets.is_station_key(token) or not (access.platform or access.consumer or access.operator)):
        return "station"
    return "platform" if access.platform else "consumer" if access.consumer else "operator"

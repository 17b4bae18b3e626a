"""What a request to each route looks like: which objects its path, query and body name.

A new route under a path that is known here is covered by itself. Otherwise `test_matrix.py` fails and says which entry is missing.
Kinds of objects are those of `tenants.MAKERS`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.probes.tenants import PASSWORD, Tenant, factor, gtin, new_pem, order

PATHS: dict[str, str] = {
    "/v1/events/{event_id}": "event",
    "/v1/consumers/{ref}": "consumer",
    "/v1/hooks/{hook_id}": "hook",
    "/v1/campaigns/{code}": "campaign",
    "/v1/certificates/{certificate}": "certificate",
    "/v1/products/{gtin}": "product",
    "/v1/packaging/assets/{asset}": "asset",
    "/v1/packaging/classes/{code}": "packaging_class",
    "/v1/activity-kinds/{code}": "activity_kind",
    "/v1/rewards/{code}": "reward",
    "/v1/causes/{code}": "cause",
    "/v1/platforms/{code}": "platform",
    "/v1/platforms/{code}/keys/{key}": "api_key",
    "/v1/platforms/{code}/signing-keys/{key}": "signing_key",
    "/v1/platforms/{code}/hooks/{hook}": "hook",
    "/v1/stations/{code}": "station",
    "/v1/stations/{code}/keys/{key}": "station_key",
    "/v1/operators/{operator}": "operator",
    "/v1/operators/{operator}/tokens/{token}": "operator_token",
    "/v1/deliveries/{delivery}": "delivery",
    "/v1/privacy-requests/{request_id}": "privacy_request",
    "/v1/impact-factors/{factor}": "impact_factor",
    "/v1/plastics/periods/{period}": "plastic_period",
    "/v1/adjustments/{adjustment}": "adjustment",
    "/v1/fraud/lists/{entry}": "fraud_list_entry",
    "/v1/fraud/models/{version}": "fraud_model",
    "/v1/fraud/signals/{signal}": "signal",
    "/v1/fraud/cases/{case}": "fraud_case",
    "/v1/me/events/{event_id}": "own_reviewed_event",
    "/v1/consumers/{ref}/events/{event_id}": "reviewed_event",
    "/v1/fraud/objections/{objection}": "objection",
    "/v1/redemptions/{redemption}": "redemption",
    "/v1/me/redemptions/{redemption}": "redemption",
}
"""The kind of object that a path parameter names, by the path up to and with it."""

INSTEAD: dict[tuple[str, str], dict[str, str]] = {
    ("GET", "/v1/consumers/{ref}/legal-hold"): {"consumer": "held_consumer"},
    ("DELETE", "/v1/consumers/{ref}/legal-hold"): {"consumer": "held_consumer"},
    ("POST", "/v1/privacy-requests/{request_id}/cancel"): {"privacy_request": "shop_erasure"},
    ("POST", "/v1/adjustments/{adjustment}/withdraw"): {"adjustment": "admins_adjustment"},
    ("POST", "/v1/fraud/cases/{case}/withdraw"): {"fraud_case": "admins_fraud_case"},
    ("POST", "/v1/redemptions/{redemption}/refund"): {"redemption": "captured_redemption"},
    ("POST", "/v1/consumers/{ref}/link"): {"consumer": "single_consumer"},
    ("DELETE", "/v1/consumers/{ref}/link"): {"consumer": "linked_consumer"},
    ("POST", "/v1/consumers/{ref}/events/{event_id}/objection"): {"consumer": "reviewed_consumer"},
}
"""Routes that need an object of the kind in a certain state: another kind in place of that of PATHS, by method and path."""

OWN_NAMES = {("POST", "/v1/consumers/{ref}/link"), ("POST", "/v1/fraud/signals/{signal}")}
"""Routes whose path names something in the caller's own namespace, which they make if it is not there, or that all have: nobody else's is meant."""

QUERIES: dict[tuple[str, str], str] = {
    ("/v1/events", "consumer"): "consumer",
    ("/v1/campaigns/{code}/simulate", "platform"): "platform",
    ("/v1/audit", "actor"): "audit_actor",
    ("/v1/audit", "subject"): "audit_subject",
    ("/v1/audit", "request_id"): "audit_request",
    ("/v1/deliveries", "hook"): "hook",
    ("/v1/deliveries", "platform"): "platform",
    ("/v1/deliveries", "event"): "reported_event",
    ("/v1/reports/impact", "campaign"): "campaign",
    ("/v1/reports/impact", "platform"): "platform",
    ("/v1/consumers/import", "platform"): "platform",
    ("/v1/consumers/{ref}", "platform"): "platform",
    ("/v1/consumers/{ref}/export", "platform"): "platform",
    ("/v1/consumers/{ref}/legal-hold", "platform"): "platform",
    ("/v1/plastics/reports", "platform"): "platform",
    ("/v1/plastics/reports", "id"): "plastic_row",
    ("/v1/adjustments", "platform"): "platform",
    ("/v1/adjustments", "consumer"): "consumer",
    ("/v1/redemptions", "consumer"): "consumer",
    ("/v1/consumers/{ref}/link", "platform"): "platform",
}
"""The kind of object that a query parameter names, by path and name."""

SAID_BY_OPERATORS = {
    ("/v1/consumers/import", "platform"),
    ("/v1/consumers/{ref}", "platform"),
    ("/v1/consumers/{ref}/export", "platform"),
    ("/v1/consumers/{ref}/legal-hold", "platform"),
    ("/v1/consumers/{ref}/link", "platform"),
    ("/v1/plastics/reports", "platform"),
}
"""Those of QUERIES that operators must send, and that others may."""

PLAIN_QUERIES = {
    "class",
    "state",
    "action",
    "cursor",
    "limit",
    "status",
    "from",
    "to",
    "as_of",
    "granularity",
    "min_version",
    "dry_run",
    "scheme",
    "outcome",
    "verdict",
    "topic",
    "period",
    "list",
    "kind",
    "order",
    "min_points",
}
"""Query parameters that name no object."""


@dataclass
class Body:
    """A body of a route, made for a tenant and sound as it is.

    `refers`: places (keys and indices) that name an object, which must be the caller's own: another's is refused like one that is
    not there. `filters`: places that only select: with another's name the answer is the empty one of a name that nobody has. `names`: places that name something in the caller's own namespace: whether another has the same makes no difference.
    `unique`: names that are unique in the whole deployment: one that another has is refused like one that the caller has itself.
    """

    make: Callable[[Tenant], Any]
    refers: dict[tuple[str | int, ...], str] = field(default_factory=dict)
    filters: dict[tuple[str | int, ...], str] = field(default_factory=dict)
    names: dict[tuple[str | int, ...], str] = field(default_factory=dict)
    unique: dict[tuple[str | int, ...], str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


def _campaign(t: Tenant) -> dict[str, Any]:
    return {
        "code": t.name(), "name": "A multiplier", "action": "purchase", "starts_at": "2025-01-01T00:00:00Z",
        "ends_at": "2030-01-01T00:00:00Z", "platforms": [t.platform], "hold": "PT0S", "expires_after": "P12M",
        "award": {"kind": "multiplier", "factor": "2", "of": [t.objects["campaign"]]},
    }  # fmt: skip


def _certificate(t: Tenant) -> dict[str, Any]:
    return {
        "scheme": "own-scheme", "number": t.name(), "holder": "Mill", "valid_from": "2025-01-01", "valid_until": "2029-12-31",
        "gtins": [gtin(t)],
    }  # fmt: skip


def _product(t: Tenant) -> dict[str, Any]:
    return {"gtin": gtin(t), "name": "Soap", "category": "soap", "skus": [{"platform": t.platform, "sku": t.name()}]}


def _asset(t: Tenant) -> dict[str, Any]:
    return {"asset": t.name(), "class": "circular_box", "max_trips": 20}


def _class(t: Tenant) -> dict[str, Any]:
    return {"code": t.name(), "group": "reuse", "name_en": "Crate", "needs_asset": True, "baseline": t.objects["packaging_class"]}


def _kind(t: Tenant) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"cup": {"type": "string"}}}
    return {"code": t.name(), "name": "A day with a cup", "schema": schema, "claim": {"keys": ["cup"]}}


def _reward(t: Tenant) -> dict[str, Any]:
    return {"code": t.name(), "name": "A cup", "points": 100, "stock": 10, "vouchers": True, "platforms": [t.platform]}


def _cause(t: Tenant) -> dict[str, Any]:
    """The program's, whose platforms all see it."""
    return {"code": t.name().replace(t.mark, t.program_code[:3]), "name": "Trees"}


def _openings(t: Tenant) -> list[dict[str, Any]]:
    return [{"id": t.name(), "consumer": t.name(), "points": 10, "expires_on": None}]


def _plastics(t: Tenant) -> list[dict[str, Any]]:
    return [{"id": t.name(), "period": "2026H1", "class": "plastic_mailer", "kind": "used", "mass_g": "12.5"}]


def _event(t: Tenant) -> dict[str, Any]:
    return order(t, t.name())


def _packed(t: Tenant) -> dict[str, Any]:
    return _event(t) | {"packaging": {"class": t.objects["packaging_class"]}}


def _station(t: Tenant) -> dict[str, Any]:
    return {"code": t.name(), "name": "New", "platform": t.platform}


def _adjustment(t: Tenant) -> dict[str, Any]:
    return {"platform": t.platform, "consumer": t.objects["consumer"], "points": 5, "reason": "said sorry"}


def _listing(t: Tenant) -> dict[str, Any]:
    return {"list": "allow", "kind": "consumer", "platform": t.platform, "consumer": t.objects["receiver"], "reason": "known to us"}


def _transfer(t: Tenant) -> dict[str, Any]:
    return {"to": t.objects["receiver"], "points": 1, "message": "for you"}


def _redemption(t: Tenant) -> dict[str, Any]:
    return {"consumer": t.objects["consumer"], "points": 1, "reference": t.name()}


def _own_redemption(t: Tenant) -> dict[str, Any]:
    return {"points": 1, "reference": t.name()}


def _step(key: str) -> "Body":
    return Body(lambda _: {}, headers={"Idempotency-Key": f"probe-{key}"})


def _returns(t: Tenant) -> list[dict[str, Any]]:
    now = datetime.now(UTC).isoformat()
    return [{"id": t.name(), "occurred_at": now, "class": "circular_box", "platform": t.platform, "consumer": t.name()}]


_AT = {"at": "2026-01-01T00:00:00Z", "reason": "recalled"}

BODIES: dict[tuple[str, str], Body] = {
    ("POST", "/v1/events"): Body(
        _packed,
        refers={("packaging", "class"): "packaging_class"},
        names={("id",): "event", ("consumer",): "consumer", ("order", "id"): "order"},
    ),
    ("POST", "/v1/events/batch"): Body(
        lambda t: [_event(t)], names={(0, "id"): "event", (0, "consumer"): "consumer", (0, "order", "id"): "order"}
    ),
    ("POST", "/v1/consumers/import"): Body(_openings, names={(0, "id"): "opening", (0, "consumer"): "consumer"}),
    ("POST", "/v1/plastics/reports"): Body(_plastics, names={(0, "id"): "plastic_row"}),
    ("POST", "/v1/adjustments"): Body(
        _adjustment, refers={("platform",): "platform", ("consumer",): "consumer"}, headers={"Idempotency-Key": "probe"}
    ),
    ("POST", "/v1/fraud/lists"): Body(_listing, refers={("platform",): "platform", ("consumer",): "consumer"}),
    ("POST", "/v1/adjustments/{adjustment}/approve"): Body(lambda _: {"note": "checked"}),
    ("POST", "/v1/adjustments/{adjustment}/reject"): Body(lambda _: {}),
    ("POST", "/v1/adjustments/{adjustment}/withdraw"): Body(lambda _: {}),
    # An event of another case of the same tenant is refused like one that is not there: test_fraud_cases.py
    ("POST", "/v1/fraud/cases/{case}/decision"): Body(lambda _: {"decision": "approve", "note": "checked"}),
    ("POST", "/v1/fraud/cases/{case}/withdraw"): Body(lambda _: {"note": "not sure"}),
    ("POST", "/v1/me/transfers"): Body(_transfer, refers={("to",): "consumer"}, headers={"Idempotency-Key": "probe"}),
    ("POST", "/v1/consumers/{ref}/transfers"): Body(_transfer, refers={("to",): "consumer"}, headers={"Idempotency-Key": "probe"}),
    ("POST", "/v1/me/events/{event_id}/objection"): Body(lambda _: {"text": "It was my birthday."}),
    ("POST", "/v1/consumers/{ref}/events/{event_id}/objection"): Body(lambda _: {"text": "It was their birthday."}),
    ("POST", "/v1/fraud/objections/{objection}/answer"): Body(lambda _: {"state": "upheld", "answer": "So it was."}),
    ("POST", "/v1/redemptions"): Body(_redemption, refers={("consumer",): "consumer"}, headers={"Idempotency-Key": "probe-create"}),
    ("POST", "/v1/redemptions/{redemption}/capture"): _step("capture"),
    ("POST", "/v1/redemptions/{redemption}/cancel"): _step("cancel"),
    ("POST", "/v1/redemptions/{redemption}/refund"): _step("refund"),
    ("POST", "/v1/me/redemptions"): Body(_own_redemption, headers={"Idempotency-Key": "probe-create"}),
    ("POST", "/v1/me/redemptions/{redemption}/capture"): _step("capture"),
    ("POST", "/v1/me/redemptions/{redemption}/cancel"): _step("cancel"),
    # Another platform's code is what it is made for; another program's is unknown.
    ("POST", "/v1/consumers/{ref}/link"): Body(lambda t: {"code": t.objects["link_code"]}, refers={("code",): "link_code"}),
    ("PUT", "/v1/consumers/{ref}/legal-hold"): Body(lambda t: {"reason": f"case {t.name()}"}),
    # Neither hook nor platform of its own: each has to find nothing by itself where it is another's.
    ("POST", "/v1/deliveries/replay"): Body(
        lambda _: {"from": "2020-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z", "limit": 5},
        filters={("hook",): "hook", ("platform",): "platform"},
    ),
    ("PATCH", "/v1/privacy-policy"): Body(lambda _: {"erased_reference": "new_account"}),
    ("POST", "/v1/campaigns"): Body(
        _campaign, refers={("platforms", 0): "platform", ("award", "of", 0): "campaign"}, names={("code",): "campaign"}
    ),
    ("PATCH", "/v1/campaigns/{code}"): Body(lambda t: {"platforms": [t.platform]}, refers={("platforms", 0): "platform"}),
    ("POST", "/v1/campaigns/{code}/simulate"): Body(
        _packed,
        refers={("packaging", "class"): "packaging_class"},
        names={("id",): "event", ("consumer",): "consumer", ("lines", 0, "gtin"): "product"},
    ),
    ("POST", "/v1/certificates"): Body(_certificate, names={("gtins", 0): "product"}),
    ("POST", "/v1/certificates/import"): Body(lambda t: [_certificate(t)], names={(0, "gtins", 0): "product"}),
    ("POST", "/v1/certificates/{certificate}/revoke"): Body(lambda _: _AT),
    ("POST", "/v1/certificates/{certificate}/suspend"): Body(lambda _: _AT),
    ("POST", "/v1/products"): Body(_product, refers={("skus", 0, "platform"): "platform"}, names={("gtin",): "product"}),
    ("POST", "/v1/products/import"): Body(
        lambda t: [_product(t)], refers={(0, "skus", 0, "platform"): "platform"}, names={(0, "gtin"): "product"}
    ),
    ("POST", "/v1/impact-factors"): Body(lambda t: factor(t.name()), names={("id",): "impact_factor"}),
    ("POST", "/v1/packaging/assets"): Body(_asset, names={("asset",): "asset"}),
    ("POST", "/v1/packaging/assets/import"): Body(lambda t: [_asset(t)], names={(0, "asset"): "asset"}),
    ("POST", "/v1/packaging/assets/{asset}/inspect"): Body(lambda _: {"reason": "clean"}),
    ("POST", "/v1/packaging/assets/{asset}/retire"): Body(lambda _: {"reason": "torn"}),
    ("POST", "/v1/packaging/assets/{asset}/lose"): Body(lambda _: {}),
    ("PATCH", "/v1/packaging-policy"): Body(lambda _: {"return_earner": "recipient", "return_window_days": None}),
    ("PATCH", "/v1/points-policy"): Body(lambda _: {"expiry": {"kind": "fixed", "on": "12-31"}, "warn_before_days": None}),
    ("POST", "/v1/fraud/models"): Body(
        lambda t: {"base": t.objects["fraud_model"], "weights": {"burst": 3}}, refers={("base",): "fraud_model"}
    ),
    ("POST", "/v1/fraud/models/{version}/activate"): Body(lambda _: {"as": "shadow"}),
    ("POST", "/v1/fraud/signals/{signal}"): Body(lambda _: {"on": False, "reason": "a campaign day"}),
    ("PUT", "/v1/fraud/policy"): Body(lambda _: {"hold_for": "P3D", "at_deadline": "reject", "alone_points": 0, "reviews_a_day": 9}),
    ("POST", "/v1/packaging/classes"): Body(_class, refers={("baseline",): "packaging_class"}, names={("code",): "packaging_class"}),
    ("PATCH", "/v1/packaging/classes/{code}"): Body(
        lambda t: {"baseline": t.objects["packaging_class"]}, refers={("baseline",): "packaging_class"}
    ),
    ("POST", "/v1/activity-kinds"): Body(_kind, names={("code",): "activity_kind"}),
    ("PATCH", "/v1/activity-kinds/{code}"): Body(lambda _: {"name": "Another day"}),
    ("POST", "/v1/rewards"): Body(_reward, refers={("platforms", 0): "platform"}, names={("code",): "reward"}),
    ("PATCH", "/v1/rewards/{code}"): Body(lambda t: {"platforms": [t.platform]}, refers={("platforms", 0): "platform"}),
    ("POST", "/v1/rewards/{code}/vouchers"): Body(lambda t: [t.name()]),
    ("POST", "/v1/causes"): Body(_cause, names={("code",): "cause"}),
    ("PATCH", "/v1/causes/{code}"): Body(lambda _: {"description": "Many trees"}),
    ("POST", "/v1/platforms"): Body(lambda t: {"code": t.name(), "name": "New"}, unique={("code",): "platform"}),
    ("PATCH", "/v1/platforms/{code}"): Body(lambda _: {"limits": {"credit": {"requests": 1_000_000, "per_s": 1}}}),
    ("POST", "/v1/platforms/{code}/keys/{key}/replace"): Body(lambda _: {"keep_old": "PT1H"}),
    ("POST", "/v1/platforms/{code}/keys"): Body(lambda _: {"scopes": ["events:read"]}),
    ("POST", "/v1/platforms/{code}/signing-keys"): Body(lambda t: {"algorithm": "EdDSA", "kid": t.name(), "public_pem": new_pem()}),
    ("POST", "/v1/platforms/{code}/hooks"): Body(lambda _: {"connector": "standard"}),
    ("PATCH", "/v1/platforms/{code}/hooks/{hook}"): Body(lambda _: {"active": True}),
    ("POST", "/v1/stations"): Body(_station, refers={("platform",): "platform"}, names={("code",): "station"}),
    ("PATCH", "/v1/stations/{code}"): Body(lambda _: {"max_units": 500, "opening_hours": {"mon": [["08:00", "20:00"]]}}),
    ("POST", "/v1/stations/{code}/keys"): Body(lambda _: {}),
    ("POST", "/v1/stations/{code}/keys/{key}/replace"): Body(lambda _: {"keep_old": "PT1H"}),
    ("POST", "/v1/stations/me/tokens"): Body(lambda _: {"count": 2}),
    ("POST", "/v1/stations/me/returns"): Body(_returns, refers={(0, "platform"): "platform"}, names={(0, "consumer"): "consumer"}),
    ("POST", "/v1/operators"): Body(
        lambda t: {"email": f"{t.name()}@example.com", "role": "viewer", "password": "correct horse battery"},
        unique={("email",): "operator_email"},
    ),
    ("PATCH", "/v1/operators/{operator}"): Body(lambda _: {"role": "analyst"}),
    ("POST", "/v1/operators/{operator}/password"): Body(lambda _: {}),
    ("POST", "/v1/operators/{operator}/tokens"): Body(lambda t: {"name": t.name()}),
    ("POST", "/v1/operators/me/password"): Body(lambda _: {"current": PASSWORD, "new": PASSWORD}),
}
"""The body of every route that takes one, by method and path."""

BODYLESS: set[tuple[str, str]] = {
    ("POST", "/v1/campaigns/{code}/activate"),
    ("POST", "/v1/campaigns/{code}/pause"),
    ("POST", "/v1/campaigns/{code}/end"),
    ("POST", "/v1/certificates/{certificate}/resume"),
    ("POST", "/v1/platforms/{code}/keys/{key}/revoke"),
    ("POST", "/v1/stations/{code}/keys/{key}/revoke"),
    ("POST", "/v1/platforms/{code}/signing-keys/{key}/revoke"),
    ("DELETE", "/v1/consumers/{ref}"),
    ("POST", "/v1/consumers/{ref}/link-codes"),
    ("DELETE", "/v1/consumers/{ref}/link"),
    ("DELETE", "/v1/consumers/{ref}/legal-hold"),
    ("POST", "/v1/deliveries/{delivery}/replay"),
    ("POST", "/v1/privacy-requests/{request_id}/cancel"),
    ("POST", "/v1/operators/sign-out"),
    ("POST", "/v1/operators/{operator}/tokens/{token}/revoke"),
    ("POST", "/v1/plastics/periods/{period}/close"),
    ("DELETE", "/v1/fraud/lists/{entry}"),
}
"""Routes that change something and take no body."""

PER_ROW = {
    ("POST", "/v1/certificates/import"),
    ("POST", "/v1/products/import"),
    ("POST", "/v1/consumers/import"),
    ("POST", "/v1/stations/me/returns"),
}
"""Routes that answer 200 and refuse row by row."""

ELSEWHERE: dict[tuple[str, str], str] = {
    ("POST", "/v1/hooks/{hook_id}"): "its caller is the signature over the body: test_a_hook_takes_only_what_its_own_secret_signed",
    ("POST", "/v1/operators/sign-in"): "its caller is the password: test_signing_in_tells_nothing_and_leads_into_no_other_program",
    ("POST", "/v1/oauth/token"): "its caller is the API key in the form: test_a_client_gets_tokens_for_its_own_key_only",
}
"""Routes whose calls are made by tests of their own, and by which."""

FOR_SESSIONS = {("POST", "/v1/operators/sign-out")}
"""Routes that answer 409 to operators' tokens for machines: test_signing_out_ends_this_session_only calls them with a session."""

"""Each bound of schemas/bounds.py: what is at it is taken, what is one above it is refused."""

import base64
import io
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from schemas import bounds
from schemas.activities import ActivityKindBody, ClaimRule
from schemas.adjustments import AdjustmentBody, DecisionBody, TransferBody
from schemas.assets import AssetBody, AssetStep, PackagingPolicyPatch
from schemas.base import Code, DurationText, Key, MoneyText, Points, Text
from schemas.callers import (
    Email,
    HookPatch,
    HookSecret,
    KeyBody,
    Name,
    Password,
    PasswordChangeBody,
    RateLimit,
    SignInBody,
    SigningKeyBody,
)
from schemas.campaigns import CampaignBody, FactorText, Multiplier, PositivePoints, Tier, Tiered
from schemas.causes import CauseBody
from schemas.connectors import HookSettings
from schemas.deliveries import ReplayRange
from schemas.events import DecimalInput, Event, Line, Order, OrderFulfilled, OrderPaid, Packaging, PackagingReturned, Refund, Return
from schemas.fraud import FraudDecisionBody, Number
from schemas.fraud_lists import ListEntryBody
from schemas.fraud_models import FraudModelBody, SignalSwitch
from schemas.fraud_policy import FraudPolicyBody
from schemas.impact import FactorBody
from schemas.links import LinkBody
from schemas.openings import OpeningBody
from schemas.packaging_classes import PackagingClassBody
from schemas.plastics import PlasticBody
from schemas.privacy import HoldBody
from schemas.problems import FieldError
from schemas.redemptions import CaptureBody, RedemptionBody, RefundBody
from schemas.registries import CertificateBody, ProductBody, Revocation
from schemas.reviews import DecisionOnObjection, ObjectionBody
from schemas.rewards import RewardBody, RewardPatch, VoucherCode
from schemas.shopify import CustomerDemand
from schemas.stations import OpeningHours, StationBody, StationPatch, StationReturn, TokensBody
from service.api.bodies import read_query
from service.api.campaigns import _events
from service.api.consumers import Freshness
from service.api.events import _split
from service.api.exchange import Exchange
from service.api.oauth import FORM
from service.api.platforms import keep_old_of
from service.domain import imports, openings, preconditions, tokens
from service.domain.conditions import compile_condition
from service.domain.connectors import Hook, Untranslatable, translate
from service.domain.errors import GreenpointsError, InvalidRequest
from service.domain.evidence import check_schema, compiled, errors_in
from service.domain.impact import report_days
from service.domain.plastics import Book, content_of
from service.domain.rewards import check_voucher
from service.domain.station_returns import split_rows
from service.domain.tokens import TokenError, UnusableKey
from service.domain.validate import check_event
from service.flows import fraud_lists
from service.flows.fraud_monitor import days_of
from service.flows.jwks import UnusableUrl, check_url
from tests.api.operators import Operators, _token

REFUSED = (msgspec.ValidationError, GreenpointsError, TokenError, UnusableKey, UnusableUrl)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def read(type_: Any, value: Any) -> Any:
    """As it would be read from a body."""
    return msgspec.json.decode(msgspec.json.encode(value), type=type_)


def texts(*types: Any, letter: str = "a") -> Callable[[int], Any]:
    return lambda n: [read(type_, letter * n) for type_ in types]


def field(type_: Any, name: str, value: Callable[[int], Any], /, **others: Any) -> Callable[[int], Any]:
    return lambda n: read(type_, others | {name: value(n)})


def listed(type_: Any, name: str, item: Any, /, **others: Any) -> Callable[[int], Any]:
    return field(type_, name, lambda n: [item] * n, **others)


def both(*probes: Callable[[int], Any]) -> Callable[[int], None]:
    """At the bound all must take it; above, the first that does fails the test."""

    def probe(n: int) -> None:
        errors = []
        for one in probes:
            try:
                one(n)
            except REFUSED as error:
                errors.append(error)
        if errors:
            assert len(errors) == len(probes), "some of the places that share a bound have another"
            raise errors[0]

    return probe


CAMPAIGN: dict[str, Any] = {
    "code": "c", "name": "C", "action": "purchase", "starts_at": NOW, "ends_at": NOW, "award": {"kind": "fixed", "points": 1},
}  # fmt: skip
CERTIFICATE: dict[str, Any] = {"scheme": "s", "number": "1", "holder": "H", "valid_from": "2025-01-01", "valid_until": "2026-01-01"}
ORDER = {"id": "o", "currency": "CNY", "total": "1.00"}
PLASTIC = {"id": "r", "period": "2026H1", "class": "plastic_mailer", "kind": "used"}
FACT: dict[str, Any] = {"id": "e", "occurred_at": NOW, "consumer": "c"}
PAID = FACT | {"type": "order.paid", "order": ORDER}
SKU = {"platform": "p", "sku": "s"}
ADJUSTMENT = {"platform": "p", "consumer": "c", "points": 1}
LISTING = {"list": "block", "kind": "device"}
OPENING = {"id": "r", "consumer": "c", "expires_on": None}
REPLAYED: dict[str, Any] = {"from": NOW, "to": NOW}
FACTOR: dict[str, Any] = {
    "id": "f", "what": "w", "unit": "item", "plastic_g": "1", "method": "m", "region": "CN", "vintage": 2025, "usable_for": ["mass_only"],
    "source": "s", "verification": "primary",
}  # fmt: skip
STATION = {"code": "c", "name": "C"}
REWARD = {"code": "c", "name": "C", "points": 1}
RULE = {"from": "property", "name": "n", "class": "c"}


def free(attributes: Any) -> None:
    check_event(read(Event, FACT | {"type": "activity.completed", "activity": "refill", "attributes": attributes}), NOW)


def listing(value: Any) -> None:
    """What an event could carry as an attribute named `a`."""
    fraud_lists.check(read(ListEntryBody, LISTING | {"value": value, "reason": "r"}))


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def token(n: int) -> None:
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (b'{"alg":"EdDSA"}', b'{"iss":"shop"}')]
    made = ".".join(parts) + "."
    tokens.read(made + "A" * (n - len(made)))


def pem(n: int) -> None:
    _, public = tokens.development_key(bytes(32))
    tokens.key_from_pem(public + "\n" * (n - len(public)), "EdDSA")


def query(n: int) -> None:
    text = "&".join(f"f{i}=1" for i in range(n))
    read_query(Exchange(None, {"query_string": text.encode()}, None), Freshness)  # type: ignore[arg-type, typeddict-item]


def rows(n: int) -> None:
    for format_, body in (("json", b"[" + b"{}," * (n - 1) + b"{}]"), ("ndjson", b"{}\n" * n), ("csv", b"gtin\n" + b"1\n" * n)):
        imports.product_rows(body, format_)  # type: ignore[arg-type]
        imports.asset_rows(body, format_)  # type: ignore[arg-type]
        imports.voucher_rows(body, format_)  # type: ignore[arg-type]


def voucher(n: int) -> None:
    if isinstance(wrong := check_voucher("a" * n), FieldError):
        raise InvalidRequest.of([wrong])


def line(n: int) -> None:
    """A row of imported balances, as long as this."""
    text = "{" + json.dumps(OPENING | {"points": 1})[1:].rjust(n - 1)
    if any(not isinstance(row.body, OpeningBody) for row in openings.rows_of_ndjson(openings.bounded_lines(io.StringIO(text)))):
        raise InvalidRequest("a row is refused")


def plastic_lines(n: int) -> None:
    """Rows of as many merchants, in one half-year."""
    book = Book([], lines=[("2026H1", "plastic_mailer", f"m-{i}") for i in range(n - 1)], closed=[], today=NOW.date())
    book.take("r", content_of(read(PlasticBody, PLASTIC | {"mass_g": "1"})))


def schema(made: dict[str, Any]) -> None:
    if errors := check_schema(made):
        raise InvalidRequest.of(errors)


def nested_schema(levels: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(levels - 2):
        made = {"items": made}
    return {"type": "object", "additionalProperties": made}


def evidence(n: int) -> None:
    if errors := errors_in({"n": [0] * (n - 1)}, compiled({"type": "object"})):
        raise InvalidRequest.of(errors)


def epcis_events(n: int) -> None:
    epcis(b"[" + b",".join([b'{"type": "TransformationEvent"}'] * n) + b"]")


def epcis_returns(n: int) -> None:
    """One event that makes so many of ours."""
    event = {"type": "ObjectEvent", "eventID": "e", "eventTime": NOW, "action": "OBSERVE", "bizStep": "collecting"}
    epcis(msgspec.json.encode(event | {"epcList": [f"urn:epc:id:grai:4012345.55555.{i}" for i in range(n)]}))


def epcis_goods(n: int) -> None:
    event = {"type": "ObjectEvent", "eventID": "e", "eventTime": NOW, "action": "OBSERVE", "bizStep": "collecting"}
    epcis(msgspec.json.encode(event | {"epcList": ["urn:epc:id:sgtin:4012345.011111.1"] * n}))


def epcis(body: bytes) -> None:
    try:
        translate(Hook(id="h", connector="epcis", secrets=()), {}, body)
    except Untranslatable as error:
        raise InvalidRequest(error.detail) from None


def if_match(n: int) -> None:
    preconditions.check('"1-1"'.ljust(n), '"1-1"')


PURE: dict[str, Callable[[int], Any]] = {
    "MAX_TOKEN_CHARS": token,
    "MAX_IF_MATCH_CHARS": if_match,
    "MAX_QUERY_FIELDS": query,
    "MAX_KEY_CHARS": both(
        texts(Key), field(Order, "id", lambda n: "a" * n), field(OrderFulfilled, "consumer", lambda n: "a" * n, **FACT | {"order": ORDER, "type": "order.fulfilled"}),
        field(CertificateBody, "number", lambda n: "a" * n, **CERTIFICATE), field(ProductBody, "skus", lambda n: [{"platform": "p", "sku": "a" * n}], gtin="1" * 13, name="N"),
    ),
    "MAX_CODE_CHARS": texts(Code),
    "MAX_LINK_CODE_CHARS": field(LinkBody, "code", lambda n: "a" * n),
    "MAX_TEXT_CHARS": both(
        texts(Text), field(TransferBody, "message", lambda n: "a" * n, to="c", points=1), field(Line, "sku", lambda n: "a" * n, id="1"), field(ProductBody, "name", lambda n: "a" * n, gtin="1" * 13),
        field(HookSettings, "packaging", lambda n: [RULE | {"name": "a" * n}]),
    ),
    "MAX_NAME_CHARS": both(texts(Name), field(ActivityKindBody, "name", lambda n: "a" * n, code="c", schema={}), field(CampaignBody, "name", lambda n: "a" * n, **CAMPAIGN)),
    "MAX_DECIMAL_CHARS": lambda n: [read(t, "1" * n) for t in (MoneyText, DecimalInput)],
    "MAX_DURATION_CHARS": texts(DurationText),
    "MAX_POINTS": both(
        lambda n: read(Points, n), lambda n: read(Tier, {"from": "1", "points": n}), field(OpeningBody, "points", int, **OPENING),
        field(TransferBody, "points", int, to="c"),
        field(RewardBody, "points", int, code="c", name="C"), field(RedemptionBody, "points", int, consumer="c"),
        field(CaptureBody, "points", int), field(RefundBody, "points", int),
    ),
    "MAX_OBJECTION_CHARS": both(
        field(ObjectionBody, "text", lambda n: "a" * n), field(DecisionOnObjection, "answer", lambda n: "a" * n, state="refused"),
    ),
    "MAX_BATCH": lambda n: _split(b"[" + b"{}," * (n - 1) + b"{}]", None) and _split(b"{}\n" * n, "application/x-ndjson"),
    "MAX_LINES": both(
        listed(OrderPaid, "lines", {"id": "1"}, **PAID), listed(Refund, "lines", {"id": "1"}, id="r"),
        listed(PackagingReturned, "returns", {"class": "c"}, **FACT | {"type": "packaging.returned"}),
    ),
    "MAX_QUANTITY": both(field(Line, "quantity", int, id="1"), field(Return, "mass_g", int, **{"class": "c"}), field(PlasticBody, "mass_g", int, **PLASTIC)),
    "MAX_PARCELS": field(Packaging, "parcels", int, **{"class": "c"}),
    "MAX_PARCEL_ASSETS": listed(Packaging, "assets", "a", **{"class": "c"}),
    "MAX_PROOF_CHARS": field(Return, "proof", lambda n: "a" * n, **{"class": "c"}),
    "MAX_FREE_BYTES": both(lambda n: free({"a": "x" * (n - len('{"a":""}'))}), lambda n: listing("x" * (n - len('{"a":""}')))),
    "MAX_FREE_DEPTH": both(lambda n: free(nested(n)), lambda n: listing(nested(n - 1))),
    "MAX_AWARD_POINTS": lambda n: read(PositivePoints, n),
    "MAX_CONDITION_CHARS": both(
        field(CampaignBody, "when", lambda n: "a" * n, **CAMPAIGN), field(CampaignBody, "segment", lambda n: "a" * n, **CAMPAIGN),
        lambda n: compile_condition("purchase", "true" + " " * (n - 4)),
    ),
    "MAX_TIERS": listed(Tiered, "tiers", {"from": "1", "points": 1}, kind="tiered", by="amount"),
    "MAX_MULTIPLIED": listed(Multiplier, "of", "c", kind="multiplier", factor="2"),
    "MAX_CAMPAIGN_PLATFORMS": both(listed(CampaignBody, "platforms", "p", **CAMPAIGN), listed(RewardBody, "platforms", "p", **REWARD)),
    "MAX_PRIORITY": field(CampaignBody, "priority", int, **CAMPAIGN),
    "MAX_SIMULATED": lambda n: _events(b"[" + b"{}," * (n - 1) + b"{}]"),
    "MAX_IMPORT_ROWS": rows,
    "MAX_IMPORT_COLUMNS": lambda n: imports.product_rows(",".join(f"c{i}" for i in range(n)).encode() + b"\n", "csv"),
    "MAX_IMPORT_LINE_CHARS": line,
    "MAX_GTIN_CHARS": field(ProductBody, "gtin", lambda n: "1" * n, name="N"),
    "MAX_CERTIFICATE_GTINS": listed(CertificateBody, "gtins", "1" * 13, **CERTIFICATE),
    "MAX_PRODUCT_SKUS": listed(ProductBody, "skus", SKU, gtin="1" * 13, name="N"),
    "MAX_SOURCE_CHARS": field(FactorBody, "source", lambda n: "a" * n, **FACTOR),
    "MAX_FACTOR_USES": listed(FactorBody, "applies_to", {"action": "return", "class": "c"}, **FACTOR),
    "MAX_REPORT_DAYS": lambda n: report_days(NOW.date() - timedelta(days=n), NOW.date(), today=NOW.date()),
    "MAX_REASON_CHARS": both(
        field(Revocation, "reason", lambda n: "a" * n, at=NOW), field(HoldBody, "reason", lambda n: "a" * n),
        field(AssetStep, "reason", lambda n: "a" * n), field(AdjustmentBody, "reason", lambda n: "a" * n, **ADJUSTMENT),
        field(AdjustmentBody, "note", lambda n: "a" * n, reason="r", **ADJUSTMENT), field(DecisionBody, "note", lambda n: "a" * n),
        field(ListEntryBody, "reason", lambda n: "a" * n, **LISTING),
        field(FraudModelBody, "note", lambda n: "a" * n), field(SignalSwitch, "reason", lambda n: "a" * n, on=True),
    ),
    "MAX_FRAUD_LOG_ODDS": both(
        field(FraudModelBody, "intercept", int), field(FraudModelBody, "weights", lambda n: {"burst": n}), field(FraudModelBody, "caps", lambda n: {"effort": n}),
    ),
    "MAX_FRAUD_SIGNALS": both(
        listed(FraudModelBody, "off", "burst"), field(FraudModelBody, "weights", lambda n: {f"s{i}": 1 for i in range(n)}),
        field(FraudModelBody, "caps", lambda n: {f"s{i}": 1 for i in range(n)}),
    ),
    "MAX_REVIEWS_A_DAY": field(FraudPolicyBody, "reviews_a_day", int, hold_for="P7D", at_deadline="release", alone_points=1),
    "MAX_MONITOR_DAYS": lambda n: days_of(NOW.date() - timedelta(days=n), NOW.date(), today=NOW.date()),
    "MAX_ASSET_TRIPS": field(AssetBody, "max_trips", int, asset="a", **{"class": "circular_box"}),
    "MAX_RETURN_WINDOW_DAYS": field(PackagingPolicyPatch, "return_window_days", int),
    "MAX_PLASTIC_LINES": plastic_lines,
    "MAX_CLASS_EVIDENCE": listed(PackagingClassBody, "evidence", "scan", code="c", group="reuse", name_en="C"),
    "MAX_SCHEMA_BYTES": lambda n: schema({"type": "object", "title": "x" * (n - len('{"type":"object","title":""}'))}),
    "MAX_SCHEMA_DEPTH": lambda n: schema(nested_schema(n)),
    "MAX_SCHEMA_VALUES": lambda n: schema({"type": "object", "properties": {"a": {"enum": list(range(n))}}}),
    "MAX_EVIDENCE_VALUES": evidence,
    "MAX_DECIDED_EVENTS": listed(FraudDecisionBody, "events", "1", decision="reject"),
    "MAX_NUMBER_DIGITS": texts(Number, letter="1"),
    "MAX_CLAIM_KEYS": listed(ClaimRule, "keys", "k"),
    "MAX_STATION_RETURNS": lambda n: split_rows(b"[" + b"{}," * (n - 1) + b"{}]"),
    "MAX_STATION_TOKENS": field(TokensBody, "count", int),
    "MAX_PROOF_LIFE_S": both(field(TokensBody, "life_s", int), field(StationBody, "proof_life_s", int, **STATION), field(StationPatch, "proof_life_s", int)),
    "MAX_STATION_LATE_H": both(field(StationBody, "late_h", int, **STATION), field(StationPatch, "late_h", int)),
    "MAX_STATION_ROW_ID_CHARS": field(StationReturn, "id", lambda n: "a" * n, occurred_at=NOW),
    "MAX_STATION_CLASSES": both(listed(StationBody, "classes", "c", **STATION), listed(StationPatch, "classes", "c")),
    "MAX_OPENINGS": both(
        listed(OpeningHours, "mon", ["08:00", "20:00"]), field(OpeningHours, "exceptions", lambda n: {"2026-01-01": [["08:00", "20:00"]] * n}),
    ),
    "MAX_SPECIAL_DAYS": field(OpeningHours, "exceptions", lambda n: {f"{year}-01-01": [] for year in range(2_000, 2_000 + n)}),
    "MAX_REWARD_STOCK": both(
        field(RewardBody, "stock", int, **REWARD), field(RewardBody, "per_consumer", int, **REWARD), field(RewardPatch, "stock", int),
    ),
    "MAX_VOUCHER_CHARS": both(texts(VoucherCode), voucher),
    "MAX_SCOPES": listed(KeyBody, "scopes", "events:read"),
    "MAX_PEM_CHARS": both(pem, field(SigningKeyBody, "public_pem", lambda n: "a" * n, algorithm="EdDSA")),
    "MAX_URL_CHARS": both(
        lambda n: check_url("https://e.com/".ljust(n, "a"), allow_loopback=False),
        field(SigningKeyBody, "jwks_url", lambda n: "a" * n, algorithm="EdDSA"),
        field(CauseBody, "url", lambda n: "https://e.com/".ljust(n, "a"), code="c", name="C"),
    ),
    "MAX_HOOK_SECRETS": listed(HookPatch, "secrets", "s" * 16),
    "MAX_SECRET_CHARS": both(
        texts(HookSecret, Password), field(SignInBody, "password", lambda n: "a" * n, email="a@b"),
        field(PasswordChangeBody, "current", lambda n: "a" * n, new="a" * 12),
    ),
    "MAX_KEEP_OLD_DAYS": lambda n: keep_old_of(f"P{n}D"),
    "MAX_REDACTED_ORDERS": listed(CustomerDemand, "orders_to_redact", 1),
    "MAX_PACKAGING_RULES": listed(HookSettings, "packaging", RULE),
    "MAX_STATION_RULES": listed(HookSettings, "stations", {"location": "l", "station": "s"}),
    "MAX_EPCIS_EVENTS": both(epcis_events, epcis_returns),
    "MAX_EPCIS_EPCS": epcis_goods,
    "MAX_EMAIL_CHARS": lambda n: read(Email, "a" * (n - 2) + "@b"),
    "MAX_LIMIT_REQUESTS": field(RateLimit, "requests", int, per_s=1),
    "MAX_LIMIT_S": field(RateLimit, "per_s", int, requests=1),
}  # fmt: skip
PATTERN_IS_NARROWER = {"MAX_DECIMAL_CHARS": 15, "MAX_FACTOR_CHARS": 4}
"""Their pattern stops sooner: for these the bound only stops the pattern from being tried on long texts."""
PURE["MAX_FACTOR_CHARS"] = lambda n: read(FactorText, "1" * n)
PURE["MAX_DECIMAL_CHARS"] = lambda n: read(MoneyText, "1" * n)


@pytest.mark.parametrize("name", sorted(PURE))
def test_at_the_bound_it_is_taken_and_above_refused(name: str) -> None:
    bound = PATTERN_IS_NARROWER.get(name, getattr(bounds, name))
    PURE[name](bound)
    with pytest.raises(REFUSED):
        PURE[name](bound + 1)
    with pytest.raises(REFUSED):
        PURE[name](getattr(bounds, name) + 1)


# Over HTTP


@pytest.fixture
async def operators(operators: Operators) -> Operators:
    async with operators.pool.acquire() as conn:
        operators.tokens["admin"] = await _token(conn, "admin", "admin", operators.program)
    return operators


def bodies(path: str, role: str, content_type: str = "application/json") -> Callable[[Operators, int], Awaitable[httpx.Response]]:
    def call(operators: Operators, n: int) -> Awaitable[httpx.Response]:
        return operators.call("POST", path, role=role, content=b" " * n, headers={"Content-Type": content_type})

    return call


async def to_hook(operators: Operators, n: int) -> httpx.Response:
    made = await operators.call("POST", "/v1/platforms/shop/hooks", {"connector": "standard"}, role="admin")
    return await operators.client.post(f"/v1/hooks/{made.json()['id']}", content=b" " * n)


def got(path: str) -> Callable[[Operators, int], Awaitable[httpx.Response]]:
    return lambda operators, n: operators.call("GET", path.format(n=n, text="a" * n), role="admin")


OVER_HTTP: dict[str, list[Callable[[Operators, int], Awaitable[httpx.Response]]]] = {
    "MAX_BODY_BYTES": [bodies("/v1/events", "shop"), bodies("/v1/campaigns", "campaigns"), bodies("/v1/products", "campaigns")],
    "MAX_REDEMPTION_BYTES": [bodies("/v1/redemptions", "shop"), bodies("/v1/redemptions/any/capture", "shop")],
    "MAX_FORM_BYTES": [bodies("/v1/oauth/token", "shop", FORM.decode())],
    "MAX_BULK_BODY_BYTES": [bodies("/v1/events/batch", "shop")],
    "MAX_HOOK_BODY_BYTES": [to_hook],
    "MAX_IMPORT_BYTES": [bodies("/v1/certificates/import", "campaigns"), bodies("/v1/products/import", "campaigns"), bodies("/v1/packaging/assets/import", "campaigns"), bodies("/v1/certificates", "campaigns"), bodies("/v1/rewards/any/vouchers", "campaigns")],
    "MAX_SIMULATION_BYTES": [bodies("/v1/campaigns/any/simulate", "campaigns")],
    "MAX_PAGE_ITEMS": [got("/v1/platforms?limit={n}")],
    "MAX_CURSOR_CHARS": [got("/v1/platforms?cursor={text}")],
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(OVER_HTTP))
async def test_over_http_at_the_bound_it_is_taken_and_above_refused(operators: Operators, name: str) -> None:
    bound = getattr(bounds, name)
    for call in OVER_HTTP[name]:
        at, above = await call(operators, bound), await call(operators, bound + 1)
        if name.endswith("_BYTES"):
            assert at.status_code in (400, 401, 404), "read, and found to be nothing"
            assert (above.status_code, above.json()["code"]) == (413, "payload_too_large")
        else:
            assert above.status_code == 422
            assert at.status_code == 200 or "length" not in at.text
            assert at.text != above.text
    assert json.loads(above.text)["code"] in ("payload_too_large", "invalid_request")


async def test_a_form_has_at_most_so_many_parameters(operators: Operators) -> None:
    """Its refusals are those of OAuth."""
    for n, said in ((bounds.MAX_FORM_FIELDS, "grant_type is missing."), (bounds.MAX_FORM_FIELDS + 1, "The body cannot be read as a form.")):
        form = "&".join(f"f{i}=1" for i in range(n)).encode()
        answer = await operators.call("POST", "/v1/oauth/token", role="shop", content=form, headers={"Content-Type": FORM.decode()})
        assert (answer.status_code, answer.json()["error_description"]) == (400, said)


@pytest.mark.parametrize(("name", "bound"), [("limit", int(bounds.MAX_PAGE_ITEMS)), ("cursor", int(bounds.MAX_CURSOR_CHARS))])
def test_a_page_of_a_replay_is_bounded_like_others(name: str, bound: int) -> None:
    at, above = (bound, bound + 1) if name == "limit" else ("a" * bound, "a" * (bound + 1))
    read(ReplayRange, REPLAYED | {name: at})
    with pytest.raises(REFUSED):
        read(ReplayRange, REPLAYED | {name: above})


def test_every_bound_is_tried() -> None:
    """That of request ids is in test_visits, of versions in test_impact and test_fraud_models, of what a program declares in test_vocabulary, of forms' parameters
    above, of balances in flows/test_openings.
    """
    elsewhere = {
        "MAX_REQUEST_ID_CHARS",
        "MAX_FORM_FIELDS",
        "MAX_BALANCE",
        "MAX_FACTOR_VERSIONS",
        "MAX_FRAUD_MODELS",
        "MAX_POLICY_VERSIONS",
        "MAX_OWN_CLASSES",
        "MAX_OWN_KINDS",
    }
    names = {name for name in vars(bounds) if name.isupper()}
    assert set(PURE) | set(OVER_HTTP) | elsewhere == names
